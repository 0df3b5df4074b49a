//! One process of the program that a benchmark starts: a server, a standby, a witness, or a command that ends by itself.
//!
//! Must never leave a process behind: each is killed by its id when it is dropped, also one that is paused.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::BenchError;
use crate::limits::{BENCH_COMMAND_SECONDS_MAX, BENCH_END_SECONDS_MAX, BENCH_POLL_MS};

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables beside this process's own.
    pub env: Vec<(String, String)>,
    /// What it writes goes to the end of this file.
    pub log: PathBuf,
}

impl Launch {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// The same program and surroundings with other arguments.
    #[must_use]
    pub fn with_args<S: Into<OsString>>(&self, args: impl IntoIterator<Item = S>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), ..self.clone() }
    }

    /// Runs it to its end and gives its standard output.
    ///
    /// # Errors
    /// It could not be started, took longer than a bounded time (it is killed then), or ended with an error.
    pub async fn output(&self) -> Result<String, BenchError> {
        let name = self.to_string();
        let mut command = tokio::process::Command::from(self.command());
        let running = command.kill_on_drop(true).output();
        let Ok(output) = tokio::time::timeout(Duration::from_secs(BENCH_COMMAND_SECONDS_MAX), running).await else {
            let detail = format!("`{name}` took longer than {BENCH_COMMAND_SECONDS_MAX} s");
            return Err(BenchError::Server { detail, output: String::new() });
        };
        let output = output.map_err(|error| BenchError::io(format!("run `{name}`"), &error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let detail = format!("`{name}` ended with {}", output.status);
        Err(BenchError::Server { detail, output: text(&output.stdout) + &text(&output.stderr) })
    }
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("holdfast")?;
        // An invitation is a secret for as long as it is valid, and a line of 300 characters.
        let shown = |arg: &OsString| if arg.len() > 200 { "...".into() } else { arg.to_string_lossy().into_owned() };
        self.args.iter().try_for_each(|arg| write!(f, " {}", shown(arg)))
    }
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    launch: Launch,
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL ends a paused process, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(launch: Launch) -> Result<Self, BenchError> {
        Ok(Self { child: spawn(&launch)?, launch })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without warning (SIGKILL).
    ///
    /// # Errors
    /// The system refused.
    pub fn kill(&mut self) -> Result<(), BenchError> {
        let failed = |error| BenchError::io("kill the server", &error);
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed)?;
        Ok(())
    }

    /// Starts it again, after it ended. Gives the moment of the start.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_again(&mut self) -> Result<Instant, BenchError> {
        let started = Instant::now();
        self.child = spawn(&self.launch)?;
        Ok(started)
    }

    /// From the next start on it is started like this.
    pub fn relaunch_as(&mut self, launch: Launch) {
        self.launch = launch;
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The system refused.
    pub fn signal(&self, signal: Signal) -> Result<(), BenchError> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| BenchError::io("send a signal to the server", &error.into()))
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it as an operator would (SIGTERM) and waits.
    ///
    /// # Errors
    /// It did not end in time (it is killed when this is dropped), or ended with an error.
    pub async fn end(&mut self) -> Result<(), BenchError> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(BENCH_END_SECONDS_MAX);
        loop {
            match self.child.try_wait().map_err(|error| BenchError::io("end the server", &error))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failed(format!("the server ended with {status}"))),
                None if Instant::now() > deadline => {
                    return Err(self.failed(format!("the server did not end within {BENCH_END_SECONDS_MAX} s")));
                }
                None => tokio::time::sleep(Duration::from_millis(BENCH_POLL_MS)).await,
            }
        }
    }

    /// The error that says `detail` with the end of what it wrote.
    #[must_use]
    pub fn failed(&self, detail: String) -> BenchError {
        let output = std::fs::read(&self.launch.log).unwrap_or_default();
        let end = &output[output.len().saturating_sub(2_000)..];
        BenchError::Server { detail, output: String::from_utf8_lossy(end).into_owned() }
    }
}

fn spawn(launch: &Launch) -> Result<Child, BenchError> {
    let log: &Path = &launch.log;
    let output =
        std::fs::File::options().create(true).append(true).open(log).map_err(BenchError::on_path("open", log))?;
    let errors = output.try_clone().map_err(BenchError::on_path("open", log))?;
    let mut command = launch.command();
    command.stdout(output).stderr(errors);
    command.spawn().map_err(BenchError::on_path("start", &launch.program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(script: &str, dir: &Path) -> Launch {
        let args = ["-c", script].map(OsString::from).to_vec();
        Launch { program: "/bin/sh".into(), args, env: vec![("WORD".into(), "told".into())], log: dir.join("log") }
    }

    #[tokio::test]
    async fn a_command_gives_its_output_and_a_failed_one_says_why() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(launch("echo $WORD", dir.path()).output().await.unwrap(), "told\n");
        let error = launch("echo no room >&2; exit 3", dir.path()).output().await.unwrap_err();
        assert_eq!(error.code(), "bench_server");
        assert!(error.to_string().contains("no room"), "{error}");
        let secret = launch("x", dir.path()).with_args(["pair", "join", &"s".repeat(300)]);
        assert_eq!(secret.to_string(), "holdfast pair join ...");
    }

    #[tokio::test]
    async fn a_paused_process_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(launch("exec sleep 600", dir.path())).unwrap();
        process.signal(Signal::STOP).unwrap();
        assert!(process.ended().is_none());
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }
}
