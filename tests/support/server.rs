//! The server as a process of its own: started, paused, killed, stopped, started again on the same directory; and the
//! other commands of the program.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use holdfast::bench::client::{Endpoint, Trust};
use rustix::process::{Pid, Signal, kill_process};

use super::http::Api;
use super::wait::{PATIENCE, until};

/// How long an orderly end may take: what the program promises.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Do TLS.
    pub(crate) tls: bool,
    /// The text of `holdfast.toml`; none is written when it is empty.
    pub(crate) config: String,
    /// An existing place for the data directory; a scratch directory if absent.
    pub(crate) data: Option<PathBuf>,
    /// More arguments of `serve`.
    pub(crate) args: Vec<String>,
    /// More variables.
    pub(crate) env: Vec<(String, String)>,
    /// Where it runs.
    pub(crate) site: Site,
}

/// Where a process runs and listens: by default beside the test, on loopback.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The address to listen on.
    pub(crate) host: String,
    /// The port for clients; 0 takes a free one at every start.
    pub(crate) port: u16,
    /// What is put before the program's command line, such as `ip netns exec NAME`: it must become the program itself, so
    /// that the process id is the program's.
    pub(crate) launcher: Vec<String>,
}

impl Default for Site {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: 0, launcher: Vec::new() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { tls: true, config: String::new(), data: None, args: Vec::new(), env: Vec::new(), site: Site::default() }
    }
}

impl Options {
    /// Without TLS.
    pub(crate) fn plain() -> Self {
        Self { tls: false, ..Self::default() }
    }

    /// The same with a configuration file.
    pub(crate) fn config(self, text: &str) -> Self {
        Self { config: text.to_owned(), ..self }
    }

    /// The same with a data directory of the caller's.
    pub(crate) fn data(self, path: &Path) -> Self {
        Self { data: Some(path.to_owned()), ..self }
    }
}

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    child: Option<Child>,
    options: Options,
    data: PathBuf,
    outputs: tempfile::TempDir,
    endpoint: Option<Endpoint>,
    /// Where other members would reach it.
    peer_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.stderr();
            eprintln!("--- the server's last lines ---\n{}", &log[tail_start(&log, 4_000)..]);
        }
    }
}

/// A port that nobody listens on at this moment. Not one of those that the system gives to outgoing connections (from
/// 32768 on): it must still be free when a node that was killed starts again.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = 12_000 + (uuid::Uuid::new_v4().as_u128() % 20_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where the last `bytes` of a text begin, at a character.
fn tail_start(text: &str, bytes: usize) -> usize {
    (text.len().saturating_sub(bytes)..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(options: Options) -> Self {
        let mut server = Self::prepare(options);
        server.spawn();
        server.ready().await;
        server
    }

    /// One whose directory is there but which does not run yet.
    pub(crate) fn prepare(options: Options) -> Self {
        let outputs = tempfile::Builder::new().prefix("holdfast-test-").tempdir().unwrap();
        let data = options.data.clone().unwrap_or_else(|| outputs.path().join("data"));
        Self { child: None, options, data, outputs, endpoint: None, peer_port: free_port() }
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        // So that the address that is read next is the new one.
        let _ = std::fs::remove_file(self.data.join("run/address"));
        self.endpoint = None;
        let mut command = program(&self.options.site.launcher, &self.env());
        command.arg("serve").arg("--data").arg(&self.data);
        if !self.options.tls {
            command.arg("--no-tls");
        }
        if !self.options.config.is_empty() {
            let path = self.outputs.path().join("holdfast.toml");
            std::fs::write(&path, &self.options.config).unwrap();
            command.arg("--config").arg(path);
        }
        command.args(&self.options.args);
        let append = |name| File::options().create(true).append(true).open(self.outputs.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(append("stdout")).stderr(append("stderr"));
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until the process says where it listens and is ready for traffic.
    pub(crate) async fn ready(&mut self) {
        self.listening().await;
        let api = self.api();
        until("the server is ready", async || (api.try_get("/readyz").await.ok()?.status == 200).then_some(())).await;
    }

    /// Waits until the process says where it listens; it may not be ready for traffic.
    pub(crate) async fn listening(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let address = self.data.join("run/address");
        let url = loop {
            if let Some(url) = std::fs::read_to_string(&address).ok().filter(|url| url.ends_with('\n')) {
                break url.trim().to_owned();
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the server ended while starting ({ended:?}): {}", self.stderr());
            assert!(Instant::now() < deadline, "the server did not start in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let trust = Trust::CaFile(self.data.join("tls/ca.pem"));
        self.endpoint = Some(Endpoint::new(&url, &trust).unwrap());
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone().expect("the server was waited for")
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.endpoint().authority().to_owned()
    }

    /// `https://host:port` or `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.options.tls { "https" } else { "http" }, self.address())
    }

    /// A client that is not signed in.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.endpoint())
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The process id. Panics when it does not run.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// What it wrote to stderr, over all starts.
    pub(crate) fn stderr(&self) -> String {
        let bytes = std::fs::read(self.outputs.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it wrote to stdout, over all starts.
    pub(crate) fn stdout(&self) -> String {
        let bytes = std::fs::read(self.outputs.path().join("stdout")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills it without warning and waits until it is gone. Nothing happens when it does not run.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it as an operator would. Panics unless it ends in time, with success, and without ever having panicked.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let code = self.wait_exit(STOP_PATIENCE).await;
        assert_eq!(code, Some(0), "an orderly end: {}", self.stderr());
        self.assert_no_panic();
    }

    /// Waits until it ends by itself and gives the exit code (none after a signal).
    pub(crate) async fn wait_exit(&mut self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            let child = self.child.as_mut().expect("the server runs");
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server did not end within {patience:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts it again on the same directory and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Other options from the next start on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Options)) {
        change(&mut self.options);
    }

    /// Starts it again on the same directory and waits until it listens: a standby is not ready for traffic.
    pub(crate) async fn start_again(&mut self) {
        self.spawn();
        self.listening().await;
    }

    /// Stops the process in its tracks (SIGSTOP).
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("the server runs"));
        kill_process(pid, signal).unwrap();
    }

    /// Whether the process runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// No handler, thread or task of it has panicked so far.
    pub(crate) fn assert_no_panic(&self) {
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked at"), "the server panicked: {stderr}");
    }

    /// Resident memory now, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The highest resident memory so far, in KiB.
    pub(crate) fn peak_rss_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Open file descriptors.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The variables of every command on this data directory.
    fn env(&self) -> Vec<(String, String)> {
        let site = &self.options.site;
        let mut env = vec![
            ("HOLDFAST_SERVER_LISTEN".to_owned(), format!("{}:{}", site.host, site.port)),
            // Of its own for each server: two on one machine must not want the same peer port.
            ("HOLDFAST_PAIR_LISTEN".to_owned(), self.peer_address()),
        ];
        env.extend(self.options.env.iter().cloned());
        env
    }

    /// Where other members reach it.
    pub(crate) fn peer_address(&self) -> String {
        format!("{}:{}", self.options.site.host, self.peer_port)
    }

    /// Another command of the program on this data directory: `server.command(&["status", "--json"])`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(arguments).argument("--data").argument(&self.data.display().to_string());
        command.env = self.env();
        if !self.options.tls {
            command.env.push(("HOLDFAST_TLS_ENABLED".to_owned(), "false".to_owned()));
        }
        command.launcher.clone_from(&self.options.site.launcher);
        command
    }
}

/// The program under test, with an environment in which no setting of the machine counts.
pub(crate) fn program(launcher: &[String], env: &[(String, String)]) -> std::process::Command {
    let binary = env!("CARGO_BIN_EXE_holdfast");
    let mut command = match launcher.split_first() {
        None => std::process::Command::new(binary),
        Some((first, rest)) => {
            let mut command = std::process::Command::new(first);
            command.args(rest).arg(binary);
            command
        }
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command
}

/// A command of the program that is about to run.
pub(crate) struct Command {
    arguments: Vec<String>,
    input: String,
    env: Vec<(String, String)>,
    launcher: Vec<String>,
}

/// What a command of the program did.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl Command {
    /// A command without a data directory.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { arguments, input: String::new(), env: Vec::new(), launcher: Vec::new() }
    }

    /// One more argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// What it reads from stdin.
    pub(crate) fn input(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    /// Runs it to its end, on a thread of its own. It is killed at the deadline.
    pub(crate) async fn run(self) -> Finished {
        let what = format!("holdfast {}", self.arguments.join(" "));
        let running = tokio::task::spawn_blocking(move || self.run_blocking());
        running.await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn run_blocking(self) -> Finished {
        let outputs = tempfile::tempdir().unwrap();
        let files = ["in", "out", "err"].map(|name| outputs.path().join(name));
        std::fs::write(&files[0], &self.input).unwrap();
        let mut child = program(&self.launcher, &self.env)
            .args(&self.arguments)
            .stdin(File::open(&files[0]).unwrap())
            .stdout(File::create(&files[1]).unwrap())
            .stderr(File::create(&files[2]).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("holdfast {} did not end in {PATIENCE:?}", self.arguments.join(" "));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |path: &PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Finished { code: status.code(), stdout: read(&files[1]), stderr: read(&files[2]) }
    }
}

impl Finished {
    /// The JSON that it printed, after it ended well.
    pub(crate) fn json(&self) -> serde_json::Value {
        self.expect(0);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// It ended with this code.
    pub(crate) fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}
