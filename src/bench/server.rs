//! The server under test: one that runs already, or a child process on a scratch directory; and the people on it. All
//! through the public API.
//!
//! Must never leave a process or a scratch directory behind, and never touch a data directory that it did not create.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Call, Endpoint, Http, Trust, text};
use super::error::BenchError;
use super::nodes::Nodes;
use super::pair::Pair;
use super::process::{Launch, Process};
use super::progress::Progress;
use super::{BenchOptions, machine};
use crate::auth::tokens::TokenKind;
use crate::limits::{BENCH_INVITE_USES, BENCH_POLL_MS, BENCH_SETUP_CONNECTIONS, BENCH_START_SECONDS_MAX};

/// A directory that is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    /// A new one below the system's directory for temporary files.
    ///
    /// # Errors
    /// It could not be created.
    pub fn new() -> Result<Self, BenchError> {
        let path = std::env::temp_dir().join(format!("holdfast-bench-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).map_err(BenchError::on_path("create", &path))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A server that the benchmark started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    data: PathBuf,
    /// Dropped after the process. A member of a pair lives in the pair's.
    _scratch: Option<Scratch>,
}

impl Server {
    fn start(options: &BenchOptions) -> Result<Self, BenchError> {
        let scratch = Scratch::new()?;
        let data = scratch.path().join("data");
        let args = serve_args(&data, "127.0.0.1:0", options.no_tls);
        let launch =
            Launch { program: options.program()?, args, env: Vec::new(), log: scratch.path().join("server.log") };
        Ok(Self { process: Process::start(launch)?, data, _scratch: Some(scratch) })
    }

    /// One that is started as told on the data directory `data`, which somebody else removes.
    ///
    /// # Errors
    /// It could not be started.
    pub fn launch(launch: Launch, data: PathBuf) -> Result<Self, BenchError> {
        Ok(Self { process: Process::start(launch)?, data, _scratch: None })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts it again, after it ended. Gives the moment of the start.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_again(&mut self) -> Result<Instant, BenchError> {
        // So that the address that is read next is the new one.
        let _ = std::fs::remove_file(self.data.join("run/address"));
        self.process.start_again()
    }

    /// Kills it without warning (SIGKILL) and starts it again on the same data. Gives the moment of the start.
    ///
    /// # Errors
    /// It could not be started.
    pub fn kill_and_start(&mut self) -> Result<Instant, BenchError> {
        self.process.kill()?;
        self.start_again()
    }

    /// Waits until it says where it listens and is ready for traffic. Gives its URL.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub async fn ready(&mut self) -> Result<String, BenchError> {
        let url = self.address().await?;
        let endpoint = Endpoint::new(&url, &Trust::AnyCertificate)?;
        let deadline = Instant::now() + Duration::from_secs(BENCH_START_SECONDS_MAX);
        while !is_ready(&endpoint).await {
            self.wait_for_start(deadline).await?;
        }
        Ok(url)
    }

    /// Waits until it says where it listens. Gives its URL.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub async fn address(&mut self) -> Result<String, BenchError> {
        let deadline = Instant::now() + Duration::from_secs(BENCH_START_SECONDS_MAX);
        let address = self.data.join("run/address");
        loop {
            if let Some(url) = std::fs::read_to_string(&address).ok().filter(|url| url.ends_with('\n')) {
                return Ok(url.trim().to_owned());
            }
            self.wait_for_start(deadline).await?;
        }
    }

    async fn wait_for_start(&mut self, deadline: Instant) -> Result<(), BenchError> {
        if let Some(status) = self.process.ended() {
            return Err(self.process.failed(format!("the server ended while starting ({status})")));
        }
        if Instant::now() > deadline {
            return Err(self.process.failed(format!("the server was not ready after {BENCH_START_SECONDS_MAX} s")));
        }
        tokio::time::sleep(Duration::from_millis(BENCH_POLL_MS)).await;
        Ok(())
    }

    /// Ends it as an operator would and starts it again on the same data: a fresh process, without the memory that the
    /// preparations left behind.
    ///
    /// # Errors
    /// It did not end well, or could not be started.
    pub async fn end_and_start(&mut self) -> Result<String, BenchError> {
        self.end().await?;
        self.start_again()?;
        self.ready().await
    }

    /// Ends it as an operator would (SIGTERM) and waits.
    ///
    /// # Errors
    /// It did not end in time (it is killed when this is dropped), or ended with an error.
    pub async fn end(&mut self) -> Result<(), BenchError> {
        self.process.end().await
    }
}

/// The arguments that start a server on a data directory.
pub(super) fn serve_args(data: &Path, listen: &str, no_tls: bool) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["serve".into(), "--data".into(), data.into(), "--listen".into(), listen.into()].into();
    if no_tls {
        args.push("--no-tls".into());
    }
    args
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

/// What the benchmark started.
#[derive(Debug)]
pub enum Started {
    /// Nothing: it was given a server.
    Nothing,
    /// A server.
    Server(Box<Server>),
    /// A pair.
    Pair(Box<Pair>),
}

/// The server under test, with an administrator's session.
pub struct Target {
    /// Where it is.
    pub nodes: Rc<Nodes>,
    /// An administrator's token.
    pub admin: Rc<str>,
    /// What the benchmark started.
    pub started: Started,
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
            let nodes = Nodes::new(url, trust)?;
            return Ok(Self { nodes, admin: token.into(), started: Started::Nothing, run });
        }
        if options.needs_pair() {
            let (pair, admin) = Pair::start(options, progress).await?;
            let nodes = Nodes::new(pair.url(0), Trust::AnyCertificate)?;
            nodes.learn([pair.url(1)]);
            return Ok(Self { nodes, admin, started: Started::Pair(Box::new(pair)), run });
        }
        progress.say(|| "starting a server".to_owned());
        let mut server = Server::start(options)?;
        let nodes = Nodes::new(&server.ready().await?, Trust::AnyCertificate)?;
        let admin = set_up(&nodes.endpoint(), server.data()).await?;
        Ok(Self { nodes, admin, started: Started::Server(Box::new(server)), run })
    }

    /// An HTTP connection to the node that took the latest connection.
    ///
    /// # Errors
    /// It failed.
    pub async fn http(&self) -> Result<Http, BenchError> {
        Http::connect(&self.nodes.endpoint()).await
    }

    /// The server, if the benchmark started one that is no pair.
    pub fn server(&mut self) -> Option<&mut Server> {
        match &mut self.started {
            Started::Server(server) => Some(server),
            _ => None,
        }
    }

    /// The pair, if the benchmark started one.
    pub fn pair(&mut self) -> Option<&mut Pair> {
        match &mut self.started {
            Started::Pair(pair) => Some(pair),
            _ => None,
        }
    }

    /// The data directory of what the benchmark started; of a pair, of the node that was set up first.
    #[must_use]
    pub fn data(&self) -> Option<&Path> {
        match &self.started {
            Started::Nothing => None,
            Started::Server(server) => Some(server.data()),
            Started::Pair(pair) => Some(pair.data(0)),
        }
    }

    /// Ends what was started as an operator would.
    ///
    /// # Errors
    /// Something did not end well.
    pub async fn end(&mut self) -> Result<(), BenchError> {
        match &mut self.started {
            Started::Nothing => Ok(()),
            Started::Server(server) => server.end().await,
            Started::Pair(pair) => pair.end().await,
        }
    }

    /// The process id of the server, if the benchmark started it; of a pair, of the node that takes the connections.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.started {
            Started::Nothing => None,
            Started::Server(server) => Some(server.pid()),
            Started::Pair(pair) => Some(pair.pid(self.nodes.current().min(1))),
        }
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
        let mut admin = self.http().await?;
        let mut invites = Vec::new();
        for from in (0..count).step_by(BENCH_INVITE_USES) {
            let body = json!({"role": "member", "uses_max": BENCH_INVITE_USES.min(count - from)});
            let answer = admin.call(Call::post("/api/v1/invites", Some(&self.admin), body)).await?;
            invites.push(text(&answer, "/token")?.to_owned());
        }
        let mut workers = Vec::new();
        for _ in 0..BENCH_SETUP_CONNECTIONS.min(count) {
            workers.push(self.http().await?);
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

/// Sets a fresh server up and gives the owner's token.
pub(super) async fn set_up(endpoint: &Endpoint, data: &Path) -> Result<Rc<str>, BenchError> {
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
