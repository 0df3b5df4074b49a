//! A pair on a [`Lan`]: the data nodes, the witness, their status, and the comparison of what they hold at the end.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast::bench::client::{Endpoint, Trust};
use holdfast::core::entry::Origin;
use holdfast::node::{EventSink, Execution, Node, NodeOptions, Published};
use holdfast::ops::datadir::DataDir;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lan::{Lan, Place};
use crate::support::{Api, Command, Person, until};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast");

/// A member of the pair: its machine, its data, its process. The process is killed when this is dropped.
pub(crate) struct Machine {
    place: Place,
    data: PathBuf,
    lan: Rc<Lan>,
    tls: bool,
    arguments: Vec<String>,
    child: RefCell<Option<Child>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() || std::env::var_os("HOLDFAST_TEST_LOGS").is_some() {
            let log = self.stderr();
            let from = log.len().saturating_sub(6_000);
            let from = (from..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("--- the last lines of {:?} ---\n{}", self.place, &log[from..]);
        }
    }
}

impl Machine {
    fn output(&self) -> PathBuf {
        self.data.with_extension("out")
    }

    /// What it wrote, over all starts.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output()).unwrap_or_default()).into_owned()
    }

    /// Starts its process and waits for nothing.
    pub(crate) fn spawn(&self) {
        let mut command = self.lan.command(self.place, PROGRAM);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        let output = File::options().create(true).append(true).open(self.output()).unwrap();
        command.args(&self.arguments).arg("--data").arg(&self.data);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let before = self.child.replace(Some(command.spawn().unwrap()));
        assert!(before.is_none(), "{:?} runs already", self.place);
    }

    /// Kills it without warning and waits until it is gone. Nothing happens when it does not run.
    pub(crate) fn kill9(&self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.borrow();
        kill_process(Pid::from_child(child.as_ref().expect("it runs")), signal).unwrap();
    }

    /// A client of its API. Panics when it has never been ready.
    pub(crate) fn api(&self, token: &str) -> Api {
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}:8443", self.place.address());
        let trust = if self.tls { Trust::CaFile(self.data.join("tls/ca.pem")) } else { Trust::AnyCertificate };
        Api::new(Endpoint::new(&url, &trust).unwrap()).with_token(token)
    }

    /// What `holdfast status --json` says there. `None` while nobody answers.
    pub(crate) async fn try_status(&self) -> Option<Value> {
        let answer = tokio::time::timeout(Duration::from_secs(5), ask(&self.data.join("run/admin.sock"))).await;
        answer.ok()?
    }

    /// Waits until the status is so; gives it.
    pub(crate) async fn until_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + crate::support::PATIENCE;
        loop {
            let status = self.try_status().await;
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(Instant::now() < deadline, "{:?}, in vain: {what}: {status:#?}", self.place);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The status now.
    pub(crate) async fn status(&self) -> Value {
        self.until_status("it answers", |_| true).await
    }

    /// Runs a command that is refused; gives what it says.
    pub(crate) async fn try_run(&self, arguments: &[&str]) -> String {
        let data = self.data.display().to_string();
        let done = Command::new(arguments).argument("--data").argument(&data).run().await;
        done.expect(1);
        done.stderr
    }

    /// Runs a command of the program on this machine and this data directory; gives the JSON that it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Value {
        let data = self.data.display().to_string();
        Command::new(arguments).argument("--json").argument("--data").argument(&data).run().await.json()
    }
}

/// Asks the admin socket for the status, as the command line does.
async fn ask(socket: &Path) -> Option<Value> {
    use http_body_util::{BodyExt as _, Empty};
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get("/admin/v1/status").header("host", "localhost");
    let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.ok()?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    driver.abort();
    serde_json::from_slice(&body).ok()
}

/// How a pair is made.
pub(crate) struct Plan {
    /// With a witness.
    pub(crate) witness: bool,
    /// With TLS for clients.
    pub(crate) tls: bool,
    /// Below `[pair]` in the configuration of a data node.
    pub(crate) pair: fn(Place) -> String,
    /// More of that, the same on both.
    pub(crate) hooks: String,
    /// The rest of it.
    pub(crate) config: String,
    /// Where data nodes' data is, instead of in a scratch directory.
    pub(crate) disks: Vec<(Place, PathBuf)>,
    /// What `holdfast pair set` is given.
    pub(crate) set: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let pair = |_| String::new();
        Self {
            witness: true,
            tls: true,
            pair,
            hooks: String::new(),
            config: String::new(),
            disks: Vec::new(),
            set: Vec::new(),
        }
    }
}

/// A pair that runs.
pub(crate) struct Pair {
    /// The node that was set up first.
    pub(crate) a: Machine,
    /// The node that joined it.
    pub(crate) b: Machine,
    /// The witness, if there is one. It runs as long as the pair.
    _w: Option<Machine>,
    /// The owner, signed in on A.
    pub(crate) owner: Person,
    /// A channel of the owner's.
    pub(crate) channel: String,
    _home: tempfile::TempDir,
}

impl Pair {
    /// Makes one, with A active and everything protected.
    pub(crate) async fn start(lan: &Rc<Lan>, plan: Plan) -> Self {
        let home = tempfile::Builder::new().prefix("holdfast-netns-").tempdir().unwrap();
        let [a, b] = [Place::A, Place::B].map(|place| data_node(lan, place, &plan, home.path()));
        a.spawn();
        let token = until("A is ready", async || {
            let answers = a.try_status().await.is_some();
            let file = std::fs::read_to_string(a.data.join("setup-link.txt")).ok().filter(|_| answers)?;
            Some(file.lines().find_map(|line| line.strip_prefix("token = "))?.trim_matches('"').to_owned())
        })
        .await;
        a.until_status("it is active", |status| status["role"] == "active").await;
        let setup = crate::support::people::setup_body(&token);
        let api = a.api("");
        let owner = Person::from_answer(&api, &api.anonymous().post("/setup", setup).await.expect(201));
        let channel = owner.channel("private", &[]).await;
        let blob = invitation(&a, false).await;
        join(lan, &b, &["pair", "join", "--yes", &blob]).await;
        b.spawn();
        let w = if plan.witness {
            let blob = invitation(&a, true).await;
            let arguments = ["witness", "--yes", "--join", &blob].map(str::to_owned).to_vec();
            let w = machine(lan, Place::W, home.path().join("w"), arguments);
            w.spawn();
            until("the witness runs", async || w.try_status().await).await;
            Some(w)
        } else {
            None
        };
        if !plan.set.is_empty() {
            let words: Vec<&str> = ["pair", "set"].into_iter().chain(plan.set.iter().map(String::as_str)).collect();
            a.run(&words).await;
        }
        let pair = Self { a, b, _w: w, owner, channel, _home: home };
        pair.protected(&pair.a).await;
        pair
    }

    /// One of the data nodes.
    pub(crate) fn node(&self, place: Place) -> &Machine {
        if place == Place::A { &self.a } else { &self.b }
    }

    /// The other one of the data nodes.
    pub(crate) fn other(&self, place: Place) -> &Machine {
        if place == Place::A { &self.b } else { &self.a }
    }

    /// The owner on one of the nodes.
    pub(crate) fn owner_on(&self, place: Place) -> Person {
        Person { api: self.node(place).api(self.owner.token()), ..self.owner.clone() }
    }

    /// Waits until this node is active, everything is protected and the other would take over; gives both statuses.
    pub(crate) async fn protected(&self, active: &Machine) -> (Value, Value) {
        let standby = self.other(active.place);
        let first = active
            .until_status("active, protected, the other takes over", |status| {
                let pair = &status["pair"];
                status["role"] == "active" && pair["protected"] == true && pair["automatic_failover"] == true
            })
            .await;
        let follows = |status: &Value| {
            let pair = &status["pair"];
            status["role"] == "standby" && pair["active"].is_u64() && pair["pairing"]["state"] == "paired"
        };
        (first, standby.until_status("it follows", follows).await)
    }

    /// Waits until either is active and everything is protected; gives who it is.
    pub(crate) async fn healed(&self) -> Place {
        let found = until("one is active, everything is protected", async || {
            for place in [Place::A, Place::B] {
                let (one, other) = (self.node(place).try_status().await?, self.other(place).try_status().await?);
                let pair = &one["pair"];
                let good = one["role"] == "active" && pair["protected"] == true && pair["automatic_failover"] == true;
                if good && other["role"] == "standby" && other["pair"]["active"] == pair["member"] {
                    return Some(place);
                }
            }
            None
        });
        found.await
    }

    /// Ends both nodes at the same moment, and compares their logs record for record and their states row for row.
    pub(crate) async fn equal_at_the_end(&self) {
        let figures =
            |status: &Value| [&status["applied_index"], &status["durable_index"]].map(|v| v.as_u64().unwrap());
        let mut before = None;
        until("nothing moves any more", async || {
            let [a, b] = [figures(&self.a.try_status().await?), figures(&self.b.try_status().await?)];
            let now = (a == b && a[0] == a[1]).then_some(a);
            tokio::time::sleep(Duration::from_millis(300)).await;
            (now.is_some() && std::mem::replace(&mut before, now) == now).then_some(())
        })
        .await;
        for machine in [&self.a, &self.b] {
            assert!(!machine.stderr().contains("panicked at"), "{:?} panicked", machine.place);
            machine.signal(Signal::STOP);
        }
        self.a.kill9();
        self.b.kill9();
        let mut found = Vec::new();
        for machine in [&self.a, &self.b] {
            let log = machine.run(&["log", "verify"]).await;
            let data = machine.data.clone();
            let state = tokio::task::spawn_blocking(move || state_of(&data)).await.unwrap();
            found.push((log["last_index"].clone(), log["chain_hash"].clone(), state));
        }
        assert_eq!(found[0], found[1], "log and state are equal");
    }
}

fn machine(lan: &Rc<Lan>, place: Place, data: PathBuf, arguments: Vec<String>) -> Machine {
    Machine { place, data, lan: lan.clone(), tls: true, arguments, child: RefCell::default() }
}

fn data_node(lan: &Rc<Lan>, place: Place, plan: &Plan, home: &Path) -> Machine {
    let name = if place == Place::A { "a" } else { "b" };
    let disk = plan.disks.iter().find(|(there, _)| *there == place);
    let data = disk.map_or_else(|| home.to_owned(), |(_, path)| path.clone()).join(name);
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let server = if plan.tls { "" } else { "behind_proxy = true\n[tls]\nenabled = false\n" };
    let (config, pair) = (&plan.config, (plan.pair)(place) + &plan.hooks);
    let url = format!("{}://{}:8443", if plan.tls { "https" } else { "http" }, place.address());
    let text = format!("[server]\nlisten = \"0.0.0.0:8443\"\npublic_url = \"{url}\"\n{server}{config}[pair]\n{pair}");
    let path = data.join("holdfast.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut node = machine(lan, place, data, vec!["serve".to_owned()]);
    node.tls = plan.tls;
    node
}

async fn invitation(active: &Machine, witness: bool) -> String {
    let words: &[&str] = if witness { &["pair", "invite", "--witness"] } else { &["pair", "invite"] };
    active.run(words).await["invitation"].as_str().unwrap().to_owned()
}

/// Runs a command on the machine: what it finds out of itself, its address, depends on where it is.
async fn join(lan: &Rc<Lan>, machine: &Machine, words: &[&str]) {
    let mut command = lan.command(machine.place, PROGRAM);
    command.args(words).arg("--data").arg(&machine.data);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The state of a node that does not run: its last record and the hash over all its rows.
fn state_of(data: &Path) -> (u64, String) {
    struct Nobody;
    impl EventSink for Nobody {
        fn start_from(&self, _pos: u64) {}
        fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
    }
    let (dir, lock) = DataDir::open_locked(data).unwrap();
    let identity = dir.identity();
    let options = NodeOptions {
        data: data.to_owned(),
        cluster: identity.cluster_id_bytes().unwrap(),
        origin: Origin { site: identity.site, node: identity.node },
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(Nobody),
        execution: Execution::Threads,
        on_fatal: Arc::new(|reason| panic!("{reason}")),
    };
    let (node, _) = Node::start(options).unwrap();
    let (applied, hash) = node.projection().full_state_hash().unwrap();
    node.stop(Duration::ZERO);
    drop(lock);
    (applied.index, format!("{hash:?}"))
}
