//! A data directory with an organisation on it: people, channels, and the oracle that knows what they were promised.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use holdfast::bench::client::{Call, Endpoint, Http, text};
use holdfast::bench::socket::{SharedBuffer, shared_buffer};
use holdfast::bench::text::Picker;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Common, Ended, Feed, Work, work};
use crate::oracle::{Channel, Oracle};
use crate::process::{Server, holdfast};

const PASSWORD: &str = "crash: nine llamas over the harbour";
const USERS: usize = 8;

/// A signed-in person.
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) token: Rc<str>,
    pub(crate) feed: Rc<RefCell<Feed>>,
}

/// An organisation of eight people in four group channels and two conversations.
pub(crate) struct World {
    scratch: Option<tempfile::TempDir>,
    pub(crate) users: Vec<User>,
    pub(crate) oracle: Rc<RefCell<Oracle>>,
    buffer: SharedBuffer,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take()
            && std::thread::panicking()
            && std::env::var_os("HOLDFAST_CRASH_KEEP").is_some()
        {
            println!("the data directory is kept: {}", scratch.keep().display());
        }
    }
}

/// How hard everybody works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) gap: Duration,
    pub(crate) quota: usize,
    pub(crate) seed: u64,
}

/// Everybody at work.
pub(crate) struct Crew(Vec<JoinHandle<(Ended, HashMap<usize, u64>)>>);

/// How everybody's connections ended.
pub(crate) struct Outcome {
    pub(crate) ended: Vec<Ended>,
    /// The read marks that were acknowledged, by user and channel.
    pub(crate) marks: HashMap<(usize, usize), u64>,
}

impl Crew {
    /// Waits until all connections have ended.
    pub(crate) async fn join(self) -> Outcome {
        let mut outcome = Outcome { ended: Vec::new(), marks: HashMap::new() };
        for (user, task) in self.0.into_iter().enumerate() {
            let (ended, marks) = task.await.expect("a connection's own checks hold");
            outcome.ended.push(ended);
            outcome.marks.extend(marks.into_iter().map(|(channel, seq)| ((user, channel), seq)));
        }
        outcome
    }
}

impl World {
    /// Makes it: a new directory, a server that is set up. Gives the running server.
    pub(crate) async fn new() -> (Self, Server, Rc<Endpoint>) {
        let scratch = tempfile::Builder::new().prefix("holdfast-crash-").tempdir().expect("a scratch directory");
        let (server, endpoint) = Server::start(scratch.path()).await;
        let mut world =
            Self { scratch: Some(scratch), users: Vec::new(), oracle: Rc::default(), buffer: shared_buffer() };
        world.populate(&endpoint).await;
        (world, server, endpoint)
    }

    /// Where the data directory and the server's output are.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.as_ref().expect("it goes only with the world").path()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.scratch().join("data")
    }

    async fn populate(&mut self, endpoint: &Endpoint) {
        let mut http = Http::connect(endpoint).await.expect("the server listens");
        let owner = set_up(&mut http, &self.data()).await;
        let admin = text(&owner, "/token").expect("a token");
        let body = json!({"role": "member", "uses_max": USERS});
        let invite = post(&mut http, "/api/v1/invites", Some(admin), body).await;
        for index in 0..USERS {
            let name = format!("crash-{index}");
            let body = json!({
                "token": text(&invite, "/token").expect("a token"), "username": name, "display_name": name,
                "password": PASSWORD,
            });
            let joined = post(&mut http, "/api/v1/invites/accept", None, body).await;
            let word = |pointer| text(&joined, pointer).expect("a text").to_owned();
            self.users.push(User { id: word("/user/id"), token: word("/token").into(), feed: Rc::default() });
        }
        for (index, kind) in ["public", "private", "public", "private"].into_iter().enumerate() {
            let others: Vec<&str> = self.users[1..].iter().map(|user| user.id.as_str()).collect();
            let body = json!({"kind": kind, "name": format!("crash {index}"), "member_ids": others});
            let entry = post(&mut http, "/api/v1/channels", Some(&self.users[0].token), body).await;
            self.note_channel(&entry, (0..USERS).collect());
        }
        for (one, other) in [(0, 1), (2, 3)] {
            let body = json!({"user_id": self.users[other].id});
            let entry = post(&mut http, "/api/v1/channels/direct", Some(&self.users[one].token), body).await;
            self.note_channel(&entry, vec![one, other]);
        }
    }

    fn note_channel(&self, entry: &Value, members: Vec<usize>) {
        let id = text(entry, "/channel/id").expect("an id").to_owned();
        self.oracle.borrow_mut().channels.push(Channel { id, members, ..Channel::default() });
    }

    /// Puts everybody to work. They stop when their connections end.
    pub(crate) fn put_to_work(&self, endpoint: &Rc<Endpoint>, load: Load) -> Crew {
        let common = Common { endpoint: endpoint.clone(), oracle: self.oracle.clone(), buffer: self.buffer.clone() };
        let mut seeds = Picker::new(load.seed);
        let spawn = |(index, user): (usize, &User)| {
            let plan =
                Work { user: index, token: user.token.clone(), gap: load.gap, quota: load.quota, seed: seeds.next() };
            tokio::task::spawn_local(work(common.clone(), plan, user.feed.clone()))
        };
        Crew(self.users.iter().enumerate().map(spawn).collect())
    }
}

/// Makes the first owner with the printed link.
pub(crate) async fn set_up(http: &mut Http, data: &Path) -> Value {
    let printed = holdfast(data, &["init", "--link", "--json"]);
    let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    let (_, token) = text(&printed, "/setup_link").expect("a link").rsplit_once('#').expect("a token in the link");
    let body = json!({
        "token": token, "organisation": "Crash", "time_zone": "UTC", "locale": "en",
        "username": "owner", "display_name": "Owner", "password": PASSWORD,
    });
    post(http, "/api/v1/setup", None, body).await
}

async fn post(http: &mut Http, path: &str, token: Option<&str>, body: Value) -> Value {
    http.call(Call::post(path, token, body)).await.expect("the server takes it")
}

/// Runs a test on one thread, with tasks that share the oracle.
pub(crate) fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
