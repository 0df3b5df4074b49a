//! Two browsers chat through the release binary: starts it, hands `chat.mjs` its address and set-up link, and restarts
//! it when the script asks for that.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the whole conversation may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a start or an end may take.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The server; killed when dropped.
struct Server {
    child: Child,
    data: PathBuf,
    listen: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The release binary when `make test` built one, else the one of this profile.
fn program() -> PathBuf {
    std::env::var_os("HOLDFAST_RELEASE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_holdfast").into(), PathBuf::from)
}

fn spawn(data: &Path, listen: &str) -> Child {
    let mut command = Command::new(program());
    command.arg("serve").arg("--data").arg(data).args(["--listen", listen]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Server {
    fn start(data: PathBuf) -> Self {
        let child = spawn(&data, "127.0.0.1:0");
        let mut server = Self { child, data, listen: String::new() };
        let url = server.url();
        server.listen = url.trim_start_matches("https://").to_owned();
        server
    }

    /// Where it listens, once it does.
    fn url(&self) -> String {
        let address = self.data.join("run/address");
        wait("the server listens", || std::fs::read_to_string(&address).ok().filter(|url| url.ends_with('\n')))
            .trim()
            .to_owned()
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(self.data.join("run/address")).unwrap();
        self.child = spawn(&self.data, &self.listen);
        self.url();
    }

    fn setup_link(&self) -> String {
        let output = Command::new(program())
            .args(["init", "--link", "--json", "--data"])
            .arg(&self.data)
            .env("HOLDFAST_SERVER_LISTEN", &self.listen)
            .output()
            .unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        told["setup_link"].as_str().unwrap().to_owned()
    }
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {START_PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_browsers_chat_in_both_languages() {
    let scratch = tempfile::Builder::new().prefix("holdfast-web-").tempdir().unwrap();
    let mut server = Server::start(scratch.path().join("data"));
    let restart = scratch.path().join("restart");
    let log = scratch.path().join("script.log");
    let output = std::fs::File::create(&log).unwrap();
    let mut script = Command::new("node")
        .args(["--test", "tests/web/chat.mjs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("HOLDFAST_URL", format!("https://{}", server.listen))
        .env("HOLDFAST_SETUP_LINK", server.setup_link())
        .env("HOLDFAST_RESTART_FILE", &restart)
        // node's runner refuses to run inside another one's environment.
        .env_remove("NODE_TEST_CONTEXT")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if restart.exists() {
            std::fs::remove_file(&restart).unwrap();
            server.restart();
        }
        if let Some(status) = script.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            script.kill().unwrap();
            script.wait().unwrap();
            panic!("the browsers took more than {PATIENCE:?}:\n{}", std::fs::read_to_string(&log).unwrap());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(status.success(), "{told}");
    assert!(told.contains("# fail 0") || told.contains("ℹ fail 0"), "{told}");
    assert!(!told.contains("# skipped 1") && !told.contains("ℹ skipped 1"), "a step was skipped:\n{told}");
}
