//! Two browsers chat through the release binary: starts it, hands `chat.mjs` its address and set-up link, and restarts
//! it when the script asks for that. And pages follow the active node of a pair: `failover.mjs`, for which the active
//! node is killed, started again and switched over.

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

/// Runs a script of this folder to its end; `meanwhile` is called again and again until then.
fn run_script(name: &str, variables: &[(&str, &str)], mut meanwhile: impl FnMut()) {
    let output = tempfile::NamedTempFile::new().unwrap();
    let told = || std::fs::read_to_string(output.path()).unwrap();
    let mut script = Command::new("node")
        .arg("--test")
        .arg(format!("tests/web/{name}"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .envs(variables.iter().copied())
        // node's runner refuses to run inside another one's environment.
        .env_remove("NODE_TEST_CONTEXT")
        .stdin(Stdio::null())
        .stdout(output.reopen().unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        meanwhile();
        if let Some(status) = script.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            script.kill().unwrap();
            script.wait().unwrap();
            panic!("the browsers took more than {PATIENCE:?}:\n{}", told());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let told = told();
    assert!(status.success(), "{told}");
    assert!(told.contains("# fail 0") || told.contains("ℹ fail 0"), "{told}");
    assert!(!told.contains("# skipped 1") && !told.contains("ℹ skipped 1"), "a step was skipped:\n{told}");
}

#[test]
fn two_browsers_chat_in_both_languages() {
    let scratch = tempfile::Builder::new().prefix("holdfast-web-").tempdir().unwrap();
    let mut server = Server::start(scratch.path().join("data"));
    let restart = scratch.path().join("restart");
    let variables = [
        ("HOLDFAST_URL", format!("https://{}", server.listen)),
        ("HOLDFAST_SETUP_LINK", server.setup_link()),
        ("HOLDFAST_RESTART_FILE", restart.display().to_string()),
    ];
    run_script("chat.mjs", &variables.each_ref().map(|(name, value)| (*name, value.as_str())), || {
        if restart.exists() {
            std::fs::remove_file(&restart).unwrap();
            server.restart();
        }
    });
}

/// A port that nobody listens on at this moment: the addresses of a pair are fixed before its nodes start.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Two paired nodes.
struct Pair {
    nodes: [Server; 2],
    active: usize,
}

/// The answer of one of the program's other commands.
fn command(data: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(program()).args(arguments).arg("--json").arg("--data").arg(data).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

impl Pair {
    fn start(scratch: &Path) -> Self {
        let [first, second] = ["first", "second"].map(|name| Self::prepare(&scratch.join(name)));
        let first = Self::serve(first);
        let made = command(&first.data, &["pair", "invite"]);
        command(&second.0, &["pair", "join", "--yes", made["invitation"].as_str().unwrap()]);
        let pair = Self { nodes: [first, Self::serve(second)], active: 0 };
        pair.wait_until_protected();
        pair
    }

    /// A data directory, and the address that the node in it will have.
    fn prepare(data: &Path) -> (PathBuf, String) {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().mode(0o700).create(data).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let config = format!(
            "[server]\nlisten = \"{listen}\"\npublic_url = \"https://{listen}\"\n[pair]\nlisten = \"127.0.0.1:{}\"\n",
            free_port()
        );
        std::fs::write(data.join("holdfast.toml"), config).unwrap();
        (data.to_owned(), listen)
    }

    fn serve((data, listen): (PathBuf, String)) -> Server {
        let server = Server { child: spawn(&data, &listen), data, listen };
        server.url();
        server
    }

    fn wait_until_protected(&self) {
        let status = || command(&self.nodes[self.active].data, &["status"])["pair"]["protected"].as_bool();
        wait("both nodes have everything", || status().filter(|protected| *protected));
    }

    /// Does what the script asks for.
    fn grant(&mut self, wish: &str) {
        match wish.trim() {
            "kill" => {
                self.nodes[self.active].child.kill().unwrap();
                self.nodes[self.active].child.wait().unwrap();
                self.active = 1 - self.active;
            }
            "start" => {
                self.nodes[1 - self.active].restart();
                self.wait_until_protected();
            }
            "switch" => {
                command(&self.nodes[self.active].data, &["switchover"]);
                self.active = 1 - self.active;
            }
            other => panic!("not a wish: {other}"),
        }
    }
}

#[test]
fn pages_follow_the_active_node() {
    let scratch = tempfile::Builder::new().prefix("holdfast-web-").tempdir().unwrap();
    let mut pair = Pair::start(scratch.path());
    let wishes = scratch.path().join("wish");
    let [first, second] = pair.nodes.each_ref().map(|node| format!("https://{}", node.listen));
    let link = pair.nodes[0].setup_link();
    let variables = [
        ("HOLDFAST_URL", first.as_str()),
        ("HOLDFAST_OTHER_URL", &second),
        ("HOLDFAST_SETUP_LINK", &link),
        ("HOLDFAST_PAIR_FILE", wishes.to_str().unwrap()),
    ];
    run_script("failover.mjs", &variables, || {
        if let Ok(wish) = std::fs::read_to_string(&wishes) {
            pair.grant(&wish);
            std::fs::remove_file(&wishes).unwrap();
        }
    });
}
