//! The server under test: one that runs already, or a child process on a scratch directory; and the people on it. All
//! through the public API.
//!
//! Must never leave a process or a scratch directory behind, and never touch a data directory that it did not create.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Call, Endpoint, Http, Trust, text};
use super::error::BenchError;
use super::progress::Progress;
use super::{BenchOptions, machine};
use crate::auth::tokens::TokenKind;
use crate::limits::{
    BENCH_END_SECONDS_MAX, BENCH_INVITE_USES, BENCH_POLL_MS, BENCH_SETUP_CONNECTIONS, BENCH_START_SECONDS_MAX,
};

/// A directory that is removed with all that is in it when this is dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that the benchmark started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    program: PathBuf,
    no_tls: bool,
    scratch: Scratch,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(options: &BenchOptions) -> Result<Self, BenchError> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|error| BenchError::io("find this program's file", &error))?,
        };
        let scratch = std::env::temp_dir().join(format!("holdfast-bench-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&scratch).map_err(BenchError::on_path("create", &scratch))?;
        let scratch = Scratch(scratch);
        let child = spawn(&program, &scratch.0, options.no_tls)?;
        Ok(Self { child, program, no_tls: options.no_tls, scratch })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.scratch.0.join("data")
    }

    /// Kills it without warning (SIGKILL) and starts it again on the same data. Gives the moment of the start.
    ///
    /// # Errors
    /// It could not be started.
    pub fn kill_and_start(&mut self) -> Result<Instant, BenchError> {
        let failed = |error| BenchError::io("kill the server", &error);
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed)?;
        // So that the address that is read next is the new one.
        let _ = std::fs::remove_file(self.data().join("run/address"));
        let started = Instant::now();
        self.child = spawn(&self.program, &self.scratch.0, self.no_tls)?;
        Ok(started)
    }

    /// Waits until it says where it listens and is ready for traffic.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub async fn ready(&mut self) -> Result<Rc<Endpoint>, BenchError> {
        let deadline = Instant::now() + Duration::from_secs(BENCH_START_SECONDS_MAX);
        let address = self.data().join("run/address");
        let mut endpoint: Option<Rc<Endpoint>> = None;
        loop {
            if let Some(endpoint) = &endpoint {
                if is_ready(endpoint).await {
                    return Ok(endpoint.clone());
                }
            } else if let Some(url) = std::fs::read_to_string(&address).ok().filter(|url| url.ends_with('\n')) {
                endpoint = Some(Rc::new(Endpoint::new(url.trim(), &Trust::AnyCertificate)?));
                continue;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("the server ended while starting ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("the server was not ready after {BENCH_START_SECONDS_MAX} s")));
            }
            tokio::time::sleep(Duration::from_millis(BENCH_POLL_MS)).await;
        }
    }

    /// Ends it as an operator would and starts it again on the same data: a fresh process, without the memory that the
    /// preparations left behind.
    ///
    /// # Errors
    /// It did not end well, or could not be started.
    pub async fn end_and_start(&mut self) -> Result<Rc<Endpoint>, BenchError> {
        self.end().await?;
        let _ = std::fs::remove_file(self.data().join("run/address"));
        self.child = spawn(&self.program, &self.scratch.0, self.no_tls)?;
        self.ready().await
    }

    /// Ends it as an operator would (SIGTERM) and waits.
    ///
    /// # Errors
    /// It did not end in time (it is killed when this is dropped), or ended with an error.
    pub async fn end(&mut self) -> Result<(), BenchError> {
        let failed = |error: std::io::Error| BenchError::io("end the server", &error);
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| failed(error.into()))?;
        let deadline = Instant::now() + Duration::from_secs(BENCH_END_SECONDS_MAX);
        loop {
            match self.child.try_wait().map_err(failed)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failed(format!("the server ended with {status}"))),
                None if Instant::now() > deadline => {
                    return Err(self.failed(format!("the server did not end within {BENCH_END_SECONDS_MAX} s")));
                }
                None => tokio::time::sleep(Duration::from_millis(BENCH_POLL_MS)).await,
            }
        }
    }

    fn failed(&self, detail: String) -> BenchError {
        let output = std::fs::read(self.scratch.0.join("server.log")).unwrap_or_default();
        let end = &output[output.len().saturating_sub(2_000)..];
        BenchError::Server { detail, output: String::from_utf8_lossy(end).into_owned() }
    }
}

fn spawn(program: &Path, scratch: &Path, no_tls: bool) -> Result<Child, BenchError> {
    let log = scratch.join("server.log");
    let output =
        std::fs::File::options().create(true).append(true).open(&log).map_err(BenchError::on_path("open", &log))?;
    let errors = output.try_clone().map_err(BenchError::on_path("open", &log))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--data").arg(scratch.join("data")).args(["--listen", "127.0.0.1:0"]);
    if no_tls {
        command.arg("--no-tls");
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    command.spawn().map_err(BenchError::on_path("start", program))
}

async fn is_ready(endpoint: &Endpoint) -> bool {
    let Ok(mut http) = Http::connect(endpoint).await else { return false };
    let call = Call { method: hyper::Method::GET, path: "/readyz", token: None, body: None };
    http.exchange(&call).await.is_ok_and(|(status, _, _)| status.is_success())
}

/// A signed-in person.
#[derive(Clone, Debug)]
pub struct Person {
    /// The user's id, as text.
    pub id: String,
    /// The session's token.
    pub token: Rc<str>,
}

/// The server under test, with an administrator's session.
pub struct Target {
    /// Where it is.
    pub endpoint: Rc<Endpoint>,
    /// An administrator's token.
    pub admin: Rc<str>,
    /// The process, if the benchmark started it.
    pub server: Option<Server>,
    /// A number that no other run has, for names and keys.
    pub run: u32,
}

impl Target {
    /// Finds or starts the server.
    ///
    /// # Errors
    /// It cannot be reached, started or set up.
    pub async fn new(options: &BenchOptions, progress: &mut Progress) -> Result<Self, BenchError> {
        let run = uuid::Uuid::new_v4().as_u128() as u32;
        if let Some(url) = &options.url {
            let token = options.token.as_deref();
            let token = token.ok_or_else(|| BenchError::options("--url needs --token, an administrator's token"))?;
            let trust = options.ca_file.clone().map_or(Trust::AnyCertificate, Trust::CaFile);
            let endpoint = Rc::new(Endpoint::new(url, &trust)?);
            return Ok(Self { endpoint, admin: token.into(), server: None, run });
        }
        progress.say(|| "starting a server".to_owned());
        let mut server = Server::start(options)?;
        let endpoint = server.ready().await?;
        let admin = set_up(&endpoint, &server.data()).await?;
        Ok(Self { endpoint, admin, server: Some(server), run })
    }

    /// The process id of the server, if the benchmark started it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// The server's resident memory, if it can be known.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        self.pid().and_then(machine::rss_bytes)
    }

    /// The server's processor time so far, if it can be known.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.pid().and_then(machine::cpu_seconds)
    }

    /// Invites `count` people and lets them join, a few at a time: each costs the server a password hash.
    ///
    /// # Errors
    /// The server refused one of them.
    pub async fn people(&self, count: usize, progress: &mut Progress) -> Result<Vec<Person>, BenchError> {
        let mut admin = Http::connect(&self.endpoint).await?;
        let mut invites = Vec::new();
        for from in (0..count).step_by(BENCH_INVITE_USES) {
            let body = json!({"role": "member", "uses_max": BENCH_INVITE_USES.min(count - from)});
            let answer = admin.call(Call::post("/api/v1/invites", Some(&self.admin), body)).await?;
            invites.push(text(&answer, "/token")?.to_owned());
        }
        let mut workers = Vec::new();
        for _ in 0..BENCH_SETUP_CONNECTIONS.min(count) {
            workers.push(Http::connect(&self.endpoint).await?);
        }
        let mut people = Vec::with_capacity(count);
        while people.len() < count {
            let batch = workers.iter_mut().zip(people.len()..count).map(|(http, index)| {
                let invite = &invites[index / BENCH_INVITE_USES];
                self.join(http, invite, index)
            });
            people.extend(futures_util::future::try_join_all(batch).await?);
            progress.say(|| format!("{} of {count} people joined", people.len()));
        }
        Ok(people)
    }

    async fn join(&self, http: &mut Http, invite: &str, index: usize) -> Result<Person, BenchError> {
        let name = format!("b{:08x}-{index}", self.run);
        let body = json!({"token": invite, "username": name, "display_name": name, "password": PASSWORD});
        let answer = http.call(Call::post("/api/v1/invites/accept", None, body)).await?;
        Ok(Person { id: text(&answer, "/user/id")?.to_owned(), token: text(&answer, "/token")?.into() })
    }

    /// Creates a private channel of the one with `token` and gives its id.
    ///
    /// # Errors
    /// The server refused.
    pub async fn channel(&self, http: &mut Http, new: &NewChannel<'_>) -> Result<u64, BenchError> {
        let name = format!("bench {:08x} {}", self.run, new.index);
        let members: Vec<&str> = new.members.iter().map(|person| person.id.as_str()).collect();
        let body = json!({"kind": "private", "name": name, "member_ids": members});
        channel_id(&http.call(Call::post("/api/v1/channels", Some(new.token), body)).await?)
    }

    /// The conversation of two people.
    ///
    /// # Errors
    /// The server refused.
    pub async fn direct(&self, http: &mut Http, one: &Person, other: &Person) -> Result<u64, BenchError> {
        let body = json!({"user_id": other.id});
        channel_id(&http.call(Call::post("/api/v1/channels/direct", Some(&one.token), body)).await?)
    }
}

/// A channel to create.
pub struct NewChannel<'a> {
    /// The creator's token.
    pub token: &'a str,
    /// The number in its name.
    pub index: usize,
    /// Who else is in it.
    pub members: &'a [Person],
}

/// The password of everyone: these accounts live as long as the scratch directory, or on a server given for testing.
const PASSWORD: &str = "bench: nine llamas over the harbour";

async fn set_up(endpoint: &Endpoint, data: &Path) -> Result<Rc<str>, BenchError> {
    let path = data.join("setup-link.txt");
    let link = std::fs::read_to_string(&path).map_err(BenchError::on_path("read", &path))?;
    let token =
        setup_token(&link).ok_or_else(|| BenchError::options(format!("no set-up token in {}", path.display())))?;
    let body = json!({
        "token": token, "organisation": "Benchmark", "time_zone": "UTC", "locale": "en",
        "username": "bench-owner", "display_name": "Bench", "password": PASSWORD,
    });
    let answer = Http::connect(endpoint).await?.call(Call::post("/api/v1/setup", None, body)).await?;
    Ok(text(&answer, "/token")?.into())
}

/// The set-up token in the text that the server keeps it in, whatever is around it.
fn setup_token(text: &str) -> Option<&str> {
    let token = &text[text.find(TokenKind::Setup.prefix())?..];
    let end = token.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(token.len());
    Some(&token[..end])
}

fn channel_id(entry: &Value) -> Result<u64, BenchError> {
    let id = text(entry, "/channel/id")?;
    id.parse().map_err(|_| BenchError::Protocol { op: "create a channel".to_owned(), detail: format!("id {id}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_up_token_is_found_in_a_link_and_in_a_record() {
        assert_eq!(setup_token("https://127.0.0.1:1/setup#hfs_0ab\n"), Some("hfs_0ab"));
        assert_eq!(setup_token("token = \"hfs_0ab\"\nwrong_tries = 0\n"), Some("hfs_0ab"));
        assert_eq!(setup_token("hf_1"), None);
    }
}
