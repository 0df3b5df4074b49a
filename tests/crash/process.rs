//! The server as a child process on a directory of its own. Must never leave a process behind, and never wait without a
//! deadline.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use holdfast::bench::client::{Endpoint, Trust};
use rustix::process::{Pid, Signal};

/// How long a start may take: a state of some ten thousand messages may have to be rebuilt on a busy machine.
const START_SECONDS_MAX: u64 = 90;
/// How often the state of the process is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A running `holdfast serve`. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    output: PathBuf,
    started: Instant,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Why a server that was started is not ready.
pub(crate) struct NotReady {
    /// How it ended; `None` when it still ran at the deadline.
    pub(crate) status: Option<ExitStatus>,
    /// All that it printed.
    pub(crate) output: String,
}

impl Server {
    /// Starts a server on `scratch/data`. What it prints goes to `scratch/server.log`, from the beginning.
    pub(crate) fn spawn(scratch: &Path) -> Self {
        let data = scratch.join("data");
        let output = scratch.join("server.log");
        let file = File::create(&output).expect("the output file is made");
        // So that the address that is read next is the new one.
        drop(std::fs::remove_file(data.join("run/address")));
        let child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .arg("serve")
            .arg("--data")
            .arg(&data)
            .args(["--listen", "127.0.0.1:0", "--no-tls"])
            .env_remove("HOLDFAST_CRASH_SEED")
            .env_remove("HOLDFAST_CRASH_ROUNDS")
            .env_remove("HOLDFAST_CRASH_KEEP")
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("the output file is shared"))
            .stdout(file)
            .spawn()
            .expect("the binary starts");
        Self { child, data, output, started: Instant::now() }
    }

    /// Starts a server and waits until it takes requests.
    pub(crate) async fn start(scratch: &Path) -> (Self, Rc<Endpoint>) {
        let mut server = Self::spawn(scratch);
        match server.ready().await {
            Ok(endpoint) => (server, endpoint),
            Err(not_ready) => panic!("the server did not start ({:?}):\n{}", not_ready.status, not_ready.output),
        }
    }

    /// Waits until it says where it listens.
    pub(crate) async fn ready(&mut self) -> Result<Rc<Endpoint>, NotReady> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        let address = self.data.join("run/address");
        loop {
            if let Some(url) = std::fs::read_to_string(&address).ok().filter(|url| url.ends_with('\n')) {
                let endpoint = Endpoint::new(url.trim(), &Trust::AnyCertificate).expect("the address is a URL");
                return Ok(Rc::new(endpoint));
            }
            let status = self.ended();
            if status.is_some() || Instant::now() > deadline {
                return Err(NotReady { status, output: self.printed() });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Since when it runs.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// All that it printed so far.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
        self.printed()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("the child can be signalled");
    }

    /// Waits for the end that something else caused. `None` when it did not come in time.
    pub(crate) async fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.ended();
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends it as an operator would: SIGTERM. It must exit with 0.
    pub(crate) async fn terminate(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait(Duration::from_secs(30)).await;
        assert!(status.is_some_and(|status| status.success()), "SIGTERM gave {status:?}:\n{}", self.printed());
        self.printed()
    }
}

/// Runs a `holdfast` command to its end.
pub(crate) fn holdfast(data: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    assert!(output.status.code().is_some(), "{arguments:?} was ended by a signal: {output:?}");
    output
}

/// Both streams of a command, as text.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
