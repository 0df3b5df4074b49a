//! A pair of real server processes, with or without a witness: made as an operator makes it, broken as machines break,
//! and compared in the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast::bench::client::Endpoint;
use holdfast::core::entry::Origin;
use holdfast::node::{EventSink, Execution, Node, NodeOptions, Published};
use holdfast::ops::datadir;
use http_body_util::{BodyExt, Empty};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::http::Api;
use super::people::{Owner, Person};
use super::server::{Options, Server, Site, free_port, program};
use super::wait::{PATIENCE, until};

/// How to make a pair.
#[derive(Clone, Debug)]
pub(crate) struct PairOptions {
    /// Clients use TLS.
    pub(crate) tls: bool,
    /// There is a witness.
    pub(crate) witness: bool,
    /// Where the two data nodes and the witness run. A port of 0 becomes a free one that stays.
    pub(crate) sites: [Site; 3],
    /// More variables of both data nodes.
    pub(crate) env: Vec<(String, String)>,
}

impl Default for PairOptions {
    fn default() -> Self {
        Self { tls: false, witness: true, sites: [Site::default(), Site::default(), Site::default()], env: Vec::new() }
    }
}

impl PairOptions {
    /// Two data nodes and nobody else.
    pub(crate) fn alone() -> Self {
        Self { witness: false, ..Self::default() }
    }

    /// How data node `index` is started.
    pub(crate) fn server(&self, index: usize) -> Options {
        let mut site = self.sites[index].clone();
        if site.port == 0 {
            site.port = free_port(); // the members remember it
        }
        Options { tls: self.tls, env: self.env.clone(), site, ..Options::default() }
    }
}

/// A pair under test. Everything of it is killed when this is dropped.
pub(crate) struct Pair {
    /// The data nodes: 0 is the one that was there first.
    pub(crate) nodes: [Server; 2],
    /// The witness.
    pub(crate) witness: Option<Witness>,
    /// The owner, signed in on node 0; see [`Pair::api`] for the same on another node.
    pub(crate) owner: Owner,
    /// A public channel of the owner's.
    pub(crate) channel: String,
}

/// The other one.
pub(crate) const fn other(index: usize) -> usize {
    1 - index
}

impl Pair {
    /// Makes one and waits until it is protected.
    pub(crate) async fn start(options: PairOptions) -> Self {
        let (first, owner) = Server::start_set_up(options.server(0)).await;
        let channel = owner.channel("public", &[]).await;
        let second = join(&first, options.server(1)).await;
        let mut pair = Self { nodes: [first, second], witness: None, owner, channel };
        if options.witness {
            pair.add_witness(options.sites[2].clone()).await;
        }
        pair.protected().await;
        pair
    }

    /// Invites a witness on the active node and starts it.
    pub(crate) async fn add_witness(&mut self, site: Site) {
        let active = self.active().await;
        let invitation = invite(&self.nodes[active], true).await;
        self.witness = Some(Witness::join(&invitation, site).await);
    }

    /// How the pair stands, as this node sees it; `None` when it does not answer.
    pub(crate) async fn status(&self, index: usize) -> Option<Value> {
        pair_status(self.nodes[index].data()).await
    }

    /// Waits until this node's status fulfils a condition, and gives it.
    pub(crate) async fn until_status(&self, index: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status(index).await {
                if wanted(&status) {
                    return status;
                }
                last = status;
            }
            assert!(Instant::now() < deadline, "node {index} does not become {what}; it says {last:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until one of the nodes takes writes, and gives its index.
    pub(crate) async fn active(&self) -> usize {
        until("a node is active", async || {
            for index in 0..2 {
                if self.takes_writes(index).await {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// Waits until this node is active and takes writes.
    pub(crate) async fn is_active(&self, index: usize) -> Value {
        let status = self.until_status(index, "active", |status| status["role"] == "active").await;
        until("its first record is committed", async || self.takes_writes(index).await.then_some(())).await;
        status
    }

    /// Whether the node is active for its clients: elected, and its first record is committed.
    async fn takes_writes(&self, index: usize) -> bool {
        admin_status(self.nodes[index].data()).await.is_some_and(|status| status["role"] == "active")
    }

    /// Waits until every acknowledged record is on both nodes and the standby would take over by itself; gives the
    /// active's index. Both must say so: the active has not noticed yet what has just begun anew.
    pub(crate) async fn protected(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let statuses = [self.status(0).await, self.status(1).await];
            for (index, status) in statuses.iter().enumerate() {
                let Some(status) = status else { continue };
                let ready = |status: &Value| status["automatic_failover"] == true;
                let agreed = statuses[other(index)].as_ref().is_some_and(ready);
                let safe = status["protected"] == true && ready(status) && agreed;
                let informed = self.witness.is_none() || self.knows_witness(status);
                if status["role"] == "active" && safe && informed {
                    return index;
                }
            }
            assert!(Instant::now() < deadline, "the pair does not become protected: {statuses:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the settings that this status shows have the witness in them.
    fn knows_witness(&self, status: &Value) -> bool {
        status["members"].as_array().is_some_and(|members| members.iter().any(|member| member["kind"] == "witness"))
    }

    /// A client of this node with the session of `person`.
    pub(crate) fn api(&self, index: usize, person: &Person) -> Api {
        self.nodes[index].api().with_token(person.token())
    }

    /// The same person on this node.
    pub(crate) fn person(&self, index: usize, person: &Person) -> Person {
        Person { api: self.api(index, person), ..person.clone() }
    }

    /// Both nodes, for a client that follows.
    pub(crate) fn endpoints(&self) -> [Endpoint; 2] {
        [self.nodes[0].endpoint(), self.nodes[1].endpoint()]
    }

    /// Waits until both logs end with the same record; equal chain hashes there make them equal from their beginning.
    /// Nothing may be sent meanwhile, but a node may still write down what it noticed.
    pub(crate) async fn equal_logs(&self) -> Value {
        let [one, two] = until("both logs are equally long", async || {
            let ends = self.both_ends().await;
            (ends[0]["last_index"] == ends[1]["last_index"]).then_some(ends)
        })
        .await;
        assert_eq!(one["chain_hash"], two["chain_hash"], "the logs differ: {one} and {two}");
        one
    }

    /// As [`Pair::equal_logs`], and nobody has anything left to write down.
    async fn quiet_logs(&self) {
        let mut seen = (Value::Null, Instant::now());
        until("the logs stay as they are", async || {
            let end = self.equal_logs().await["last_index"].clone();
            if end != seen.0 {
                seen = (end, Instant::now());
            }
            (seen.1.elapsed() >= Duration::from_millis(500)).then_some(())
        })
        .await;
    }

    async fn both_ends(&self) -> [Value; 2] {
        [self.log_end(0).await, self.log_end(1).await]
    }

    /// What `holdfast log verify` says of a node's log: it is whole.
    pub(crate) async fn log_end(&self, index: usize) -> Value {
        let report = self.nodes[index].command(&["log", "verify", "--json"]).run().await.json();
        assert_eq!(report["clean"], true, "{report}");
        report
    }

    /// Ends everything at once and compares: the logs are equal, and so are the states. Nobody has panicked.
    pub(crate) async fn finish(mut self) {
        self.protected().await;
        self.quiet_logs().await;
        // Both in one moment, so that neither notices that the other is gone and writes it down.
        for node in &self.nodes {
            node.signal(Signal::KILL);
        }
        for node in &mut self.nodes {
            node.kill9();
            node.assert_no_panic();
            node.assert_no_mismatch();
        }
        let (one, two) = (self.log_end(0).await, self.log_end(1).await);
        assert_eq!(
            (&one["last_index"], &one["chain_hash"]),
            (&two["last_index"], &two["chain_hash"]),
            "the logs differ at the end"
        );
        let states = [0, 1].map(|index| state_of(self.nodes[index].data()));
        assert_eq!(states[0], states[1], "the states differ");
    }
}

impl Server {
    /// It has never found its state to differ from what the active recorded.
    pub(crate) fn assert_no_mismatch(&self) {
        let stderr = self.stderr();
        assert!(!stderr.contains("differs from the recorded state hash"), "{stderr}");
    }
}

/// Nobody listens.
struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

/// The state of a node that does not run, with the whole log applied: its index and the hash over all rows.
pub(crate) fn state_of(data: &Path) -> (u64, [u8; 32]) {
    let identity = datadir::read_identity(data).unwrap();
    let options = NodeOptions {
        data: data.to_owned(),
        cluster: identity.cluster_id_bytes().unwrap(),
        origin: Origin { site: identity.site, node: identity.node },
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(NoSink),
        execution: Execution::Threads,
        on_fatal: Arc::new(|reason| panic!("{reason}")),
    };
    let (node, _) = Node::start(options).unwrap();
    let (applied, hash) = node.projection().full_state_hash().unwrap();
    assert_eq!(node.projection().state_hash().1, hash, "the running hash is that of all rows");
    node.stop(Duration::ZERO);
    (applied.index, hash.to_bytes())
}

/// The invitation for a standby or a witness, made on `server`.
pub(crate) async fn invite(server: &Server, witness: bool) -> String {
    let kind: &[&str] = if witness { &["--witness"] } else { &[] };
    let made = server.command(&[&["pair", "invite", "--json"], kind].concat()).run().await.json();
    made["invitation"].as_str().unwrap().to_owned()
}

/// Invites a standby on `active`, has it join and starts it. It may not have everything yet.
pub(crate) async fn join(active: &Server, options: Options) -> Server {
    let mut standby = Server::prepare(options);
    join_with(&standby, &invite(active, false).await).await;
    standby.start_again().await;
    standby
}

/// `holdfast pair join` on a server that does not run.
pub(crate) async fn join_with(standby: &Server, invitation: &str) {
    standby.command(&["pair", "join", "--yes", "--json", invitation]).run().await.expect(0);
}

/// The pair's part of the status of the data node on `data`; `None` when it does not answer.
pub(crate) async fn pair_status(data: &Path) -> Option<Value> {
    Some(admin_status(data).await?["pair"].clone()).filter(Value::is_object)
}

/// What the process on `data` answers on its admin socket; `None` when none answers within a second.
pub(crate) async fn admin_status(data: &Path) -> Option<Value> {
    tokio::time::timeout(Duration::from_secs(1), ask_socket(data)).await.ok()?
}

async fn ask_socket(data: &Path) -> Option<Value> {
    let stream = tokio::net::UnixStream::connect(datadir::admin_socket(data)).await.ok()?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::builder().uri("/admin/v1/status").header("host", "localhost");
    let request = request.body(Empty::<bytes::Bytes>::new()).ok()?;
    let answer = sender.send_request(request).await.ok()?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    driver.abort();
    serde_json::from_slice(&body).ok()
}

/// A running witness. It is killed when this is dropped.
pub(crate) struct Witness {
    child: Option<Child>,
    data: PathBuf,
    outputs: tempfile::TempDir,
    listen: String,
    launcher: Vec<String>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the witness's lines ---\n{}", self.stderr());
        }
    }
}

impl Witness {
    /// Starts one with an invitation and waits until it answers.
    pub(crate) async fn join(invitation: &str, site: Site) -> Self {
        let outputs = tempfile::Builder::new().prefix("holdfast-witness-").tempdir().unwrap();
        let data = outputs.path().join("data");
        let listen = format!("{}:{}", site.host, if site.port == 0 { free_port() } else { site.port });
        let mut witness = Self { child: None, data, outputs, listen, launcher: site.launcher };
        witness.spawn(&["--yes", "--join", invitation]);
        witness.answers().await;
        witness
    }

    fn spawn(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let append = |name| File::options().create(true).append(true).open(self.outputs.path().join(name)).unwrap();
        let mut command = program(&self.launcher, &[]);
        command.arg("witness").arg("--data").arg(&self.data).args(["--listen", &self.listen]).args(arguments);
        command.stdin(Stdio::null()).stdout(append("stdout")).stderr(append("stderr"));
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it answers, and gives its status.
    pub(crate) async fn answers(&mut self) -> Value {
        let data = self.data.clone();
        until("the witness answers", async || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the witness ended ({ended:?}): {}", self.stderr());
            admin_status(&data).await
        })
        .await
    }

    /// Starts it again on the same directory.
    pub(crate) async fn start_again(&mut self) {
        self.spawn(&[]);
        self.answers().await;
    }

    /// Whether it was started and not killed.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it without warning. Nothing happens when it does not run.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("the witness runs"));
        kill_process(pid, signal).unwrap();
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// What it wrote to stderr, over all starts.
    pub(crate) fn stderr(&self) -> String {
        let bytes = std::fs::read(self.outputs.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The body of a message.
pub(crate) fn message(client_id: &str, body: &str) -> Value {
    json!({"client_id": client_id, "body": body})
}
