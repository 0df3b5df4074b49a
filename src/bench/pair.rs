//! A pair of nodes, and a witness, that the benchmark starts as an operator would: by the commands of the program.
//!
//! Must never leave a process, a directory or a mount behind, and never reach into a member except by what an operator
//! has: commands, signals, the network and the disk.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::client::{Endpoint, Trust, text};
use super::error::BenchError;
use super::forward::{Cut, Forwarder, free_port};
use super::process::{Launch, Process};
use super::progress::Progress;
use super::server::{Scratch, Server, serve_args, set_up};
use super::small_disk::SmallDisk;
use super::{BenchOptions, Fault, Scenario};
use crate::limits::{BENCH_PROTECTED_SECONDS_MAX, BENCH_STATUS_MS};

/// The witness's number; the data nodes are 0 and 1.
const WITNESS: usize = 2;

/// Where a member listens.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// For clients.
    client: SocketAddr,
    /// For the other members.
    peer: SocketAddr,
    /// What it tells the other members: `peer`, or its forwarder.
    told: SocketAddr,
}

impl Place {
    /// The address that clients are told.
    fn url(self, no_tls: bool) -> String {
        format!("{}://{}", if no_tls { "http" } else { "https" }, self.client)
    }
}

/// One data node.
#[derive(Debug)]
struct Node {
    server: Server,
    url: String,
}

/// How a pair stands, as its active node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// This node is active.
    pub active: bool,
    /// Everything acknowledged is on both nodes.
    pub protected: bool,
    /// The other node would take over by itself.
    pub automatic: bool,
    /// The witness was heard.
    pub witness: bool,
    /// Nothing of this node's own history waits to be merged.
    pub merged: bool,
    /// What the node says of the pair.
    pub summary: String,
}

impl State {
    /// From the answer of `holdfast status --json`.
    #[must_use]
    pub fn of(status: &Value) -> Self {
        let pair = &status["pair"];
        let is = |name: &str| pair[name].as_bool().unwrap_or(false);
        let members = pair["members"].as_array().into_iter().flatten();
        let witness =
            members.filter(|member| member["kind"] == "witness").any(|member| member["heard_ms_ago"].is_u64());
        Self {
            active: is("paired") && pair["role"] == "active" && !is("switchover"),
            protected: is("protected"),
            automatic: is("automatic_failover"),
            witness,
            merged: pair["quarantine"].as_array().into_iter().flatten().all(|tail| tail["salvaged"] == true),
            summary: pair["summary"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn is_whole(&self) -> bool {
        self.active && self.protected && self.automatic
    }
}

/// The active node, if everything is well and exactly one thinks that it is active: one that was paused or cut off
/// believes for a moment that nothing happened. A witness that is about to join counts as missing.
fn agreed(states: &[State], with_witness: bool) -> Option<usize> {
    let whole = states.iter().position(|state| state.is_whole() && (state.witness || !with_witness))?;
    let active = states.iter().filter(|state| state.active).count();
    let merged = states.iter().all(|state| state.merged);
    (states.len() == 2 && active == 1 && merged).then_some(whole)
}

/// A running pair. All processes are killed when this is dropped, then the disks are unmounted, then all is removed.
#[derive(Debug)]
pub struct Pair {
    nodes: Vec<Node>,
    witness: Option<Process>,
    forwarders: Vec<Forwarder>,
    cut: Rc<Cut>,
    disks: Vec<SmallDisk>,
    program: PathBuf,
    scratch: Scratch,
}

impl Pair {
    /// Starts two nodes and, unless told otherwise, a witness, sets them up, and waits until the pair is protected.
    /// Gives the owner's token, too. Must be called on a `LocalSet`.
    ///
    /// # Errors
    /// A member could not be started, or the pair was not protected in time.
    pub async fn start(options: &BenchOptions, progress: &mut Progress) -> Result<(Self, Rc<str>), BenchError> {
        let program = options.program()?;
        let scratch = Scratch::new()?;
        let failover = options.scenario == Scenario::Failover;
        let members = if options.witness { WITNESS + 1 } else { WITNESS };
        let cut = Cut::new(members);
        let (places, forwarders) = places(members, failover && options.fault == Fault::Partition, &cut).await?;
        let disks = match options.fault {
            Fault::DiskFull if failover => {
                (0..2).map(|node| SmallDisk::mount(scratch.path().join(format!("disk-{node}")))).collect()
            }
            _ => Ok(Vec::new()),
        }?;
        let mut pair = Self { nodes: Vec::new(), witness: None, forwarders, cut, disks, program, scratch };
        progress.say(|| "starting a pair".to_owned());
        let no_tls = options.no_tls;
        pair.start_node(places[0], no_tls).await?;
        let url = pair.nodes[0].server.ready().await?;
        let admin = set_up(&Endpoint::new(&url, &Trust::AnyCertificate)?, pair.data(0)).await?;
        let blob = pair.invite(false).await?;
        let launch = pair.launch(1, places[1], no_tls);
        let data: std::ffi::OsString = pair.node_dir(1).into();
        launch
            .with_args(["pair".into(), "join".into(), "--data".into(), data, blob.into(), "--yes".into()])
            .output()
            .await?;
        pair.start_node(places[1], no_tls).await?;
        pair.nodes[1].server.address().await?;
        if options.witness {
            pair.start_witness(places[WITNESS]).await?;
        }
        pair.whole(progress).await?;
        Ok((pair, admin))
    }

    async fn start_node(&mut self, place: Place, no_tls: bool) -> Result<(), BenchError> {
        let node = self.nodes.len();
        let server = Server::launch(self.launch(node, place, no_tls), self.node_dir(node))?;
        self.cut.is_process(node, server.pid());
        self.nodes.push(Node { server, url: place.url(no_tls) });
        Ok(())
    }

    async fn start_witness(&mut self, place: Place) -> Result<(), BenchError> {
        let blob = self.invite(true).await?;
        let data = self.scratch.path().join("witness");
        let launch = Launch {
            program: self.program.clone(),
            args: Vec::new(),
            env: Vec::new(),
            log: self.scratch.path().join("witness.log"),
        };
        let listen = place.peer.to_string();
        let again: [std::ffi::OsString; 5] =
            ["witness".into(), "--data".into(), data.into(), "--listen".into(), listen.into()];
        let join = ["--join".into(), blob.into(), "--yes".into(), "--address".into(), place.told.to_string().into()];
        let first = again.clone().into_iter().chain(join);
        let mut witness = Process::start(launch.with_args(first))?;
        witness.relaunch_as(launch.with_args(again));
        self.cut.is_process(WITNESS, witness.pid());
        self.witness = Some(witness);
        Ok(())
    }

    fn node_dir(&self, node: usize) -> PathBuf {
        match self.disks.get(node) {
            Some(disk) => disk.path().join("data"),
            None => self.scratch.path().join(format!("node-{node}")),
        }
    }

    fn launch(&self, node: usize, place: Place, no_tls: bool) -> Launch {
        let args = serve_args(&self.node_dir(node), &place.client.to_string(), no_tls);
        let mut env = environment(place, no_tls);
        if !self.disks.is_empty() {
            env.push(("HOLDFAST_STORAGE_DISK_RESERVE_MIB".to_owned(), "64".to_owned()));
            env.push(("HOLDFAST_STORAGE_DISK_RESERVE_PERCENT".to_owned(), "1".to_owned()));
        }
        Launch { program: self.program.clone(), args, env, log: self.scratch.path().join(format!("node-{node}.log")) }
    }

    /// Runs a command on a node.
    async fn command(&self, node: usize, args: &[&str]) -> Result<String, BenchError> {
        let mut all: Vec<std::ffi::OsString> = args.iter().map(Into::into).collect();
        all.extend(["--data".into(), self.node_dir(node).into(), "--json".into()]);
        let log = self.scratch.path().join("commands.log");
        Launch { program: self.program.clone(), args: all, env: Vec::new(), log }.output().await
    }

    async fn invite(&self, witness: bool) -> Result<String, BenchError> {
        let args: &[&str] = if witness { &["pair", "invite", "--witness"] } else { &["pair", "invite"] };
        let answer = self.command(0, args).await?;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        Ok(text(&answer, "/invitation")?.to_owned())
    }

    /// The URL of a data node.
    #[must_use]
    pub fn url(&self, node: usize) -> &str {
        &self.nodes[node].url
    }

    /// The data directory of a data node.
    #[must_use]
    pub fn data(&self, node: usize) -> &Path {
        self.nodes[node].server.data()
    }

    /// The process of a data node.
    #[must_use]
    pub fn pid(&self, node: usize) -> u32 {
        self.nodes[node].server.pid()
    }

    /// How a data node sees the pair.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn state(&self, node: usize) -> Result<State, BenchError> {
        let status = self.command(node, &["status"]).await?;
        Ok(State::of(&serde_json::from_str(&status).unwrap_or_default()))
    }

    /// Waits until everything acknowledged is on both nodes and either would take over. Gives the active one.
    ///
    /// # Errors
    /// It did not come to that in time, or a process ended.
    pub async fn whole(&mut self, progress: &mut Progress) -> Result<usize, BenchError> {
        let deadline = Instant::now() + Duration::from_secs(BENCH_PROTECTED_SECONDS_MAX);
        loop {
            let (mut said, mut states) = (Vec::new(), Vec::new());
            for node in 0..self.nodes.len() {
                if let Some(status) = self.nodes[node].server.process().ended() {
                    let detail = format!("node {node} of the pair ended ({status})");
                    return Err(self.nodes[node].server.process().failed(detail));
                }
                match self.state(node).await {
                    Ok(state) => {
                        said.push(format!("node {node}: {}", state.summary));
                        states.push(state);
                    }
                    Err(error) => said.push(format!("node {node}: {error}")),
                }
            }
            if let Some(active) = agreed(&states, self.witness.is_some()) {
                return Ok(active);
            }
            if let Some(witness) = &mut self.witness
                && let Some(status) = witness.ended()
            {
                return Err(witness.failed(format!("the witness ended ({status})")));
            }
            if Instant::now() > deadline {
                let op = format!("wait {BENCH_PROTECTED_SECONDS_MAX} s until the pair is protected");
                return Err(BenchError::Protocol { op, detail: said.join("; ") });
            }
            progress.say(|| format!("waiting until the pair is protected; {}", said.join("; ")));
            tokio::time::sleep(Duration::from_millis(BENCH_STATUS_MS)).await;
        }
    }

    /// Does `fault` to a data node. A planned switchover is over when this returns.
    ///
    /// # Errors
    /// It could not be done.
    pub async fn break_node(&mut self, node: usize, fault: Fault) -> Result<(), BenchError> {
        match fault {
            Fault::Kill => self.nodes[node].server.process().kill(),
            Fault::Pause => self.nodes[node].server.process().signal(Signal::STOP),
            Fault::Partition => {
                self.cut.off(node);
                Ok(())
            }
            Fault::DiskFull => self.disks[node].fill(),
            Fault::Switchover => self.command(node, &["switchover"]).await.map(drop),
        }
    }

    /// Undoes `fault`.
    ///
    /// # Errors
    /// It could not be done.
    pub fn repair_node(&mut self, node: usize, fault: Fault) -> Result<(), BenchError> {
        let server = &mut self.nodes[node].server;
        match fault {
            Fault::Kill => {
                server.start_again()?;
                self.cut.is_process(node, server.pid());
                Ok(())
            }
            Fault::Pause => server.process().signal(Signal::CONT),
            Fault::Partition => {
                self.cut.heal();
                Ok(())
            }
            Fault::DiskFull => self.disks[node].free(),
            Fault::Switchover => Ok(()),
        }
    }

    /// Ends all members as an operator would, the witness first: what it would see of the end concerns nobody.
    ///
    /// # Errors
    /// One did not end well.
    pub async fn end(&mut self) -> Result<(), BenchError> {
        if let Some(witness) = &mut self.witness {
            witness.end().await?;
        }
        for node in self.nodes.iter_mut().rev() {
            node.server.end().await?;
        }
        self.forwarders.clear();
        Ok(())
    }
}

/// What a data node is told of its place, beside its arguments.
fn environment(place: Place, no_tls: bool) -> Vec<(String, String)> {
    vec![
        ("HOLDFAST_PAIR_LISTEN".to_owned(), place.peer.to_string()),
        ("HOLDFAST_PAIR_ADDRESSES".to_owned(), place.told.to_string()),
        ("HOLDFAST_SERVER_PUBLIC_URL".to_owned(), place.url(no_tls)),
    ]
}

/// Ports for all members, and forwarders before their peer ports if `forwarded`.
async fn places(members: usize, forwarded: bool, cut: &Rc<Cut>) -> Result<(Vec<Place>, Vec<Forwarder>), BenchError> {
    let taken = Cell::new(0);
    let next = || Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(&taken)?)));
    let (mut places, mut forwarders) = (Vec::new(), Vec::new());
    for member in 0..members {
        let (client, peer) = (next()?, next()?);
        let mut told = peer;
        if forwarded {
            told = next()?;
            forwarders.push(Forwarder::start(told, peer, member, cut.clone()).await?);
        }
        places.push(Place { client, peer, told });
    }
    Ok((places, forwarders))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pair_is_whole_when_its_active_node_says_all_of_it() {
        let status = |pair: Value| State::of(&json!({ "role": "active", "pair": pair }));
        let whole = json!({"paired": true, "role": "active", "protected": true, "automatic_failover": true,
            "switchover": false, "summary": "protected",
            "members": [{"kind": "data", "heard_ms_ago": null}, {"kind": "witness", "heard_ms_ago": 82}]});
        assert!(status(whole.clone()).is_whole());
        for (name, value) in [
            ("paired", json!(false)),
            ("role", json!("standby")),
            ("protected", json!(false)),
            ("automatic_failover", json!(false)),
            ("switchover", json!(true)),
        ] {
            let mut pair = whole.clone();
            pair[name] = value;
            assert!(!status(pair).is_whole(), "{name}");
        }
        let (active, standby) = (status(whole.clone()), status(json!({})));
        assert_eq!(agreed(&[standby.clone(), active.clone()], true), Some(1));
        let unseen = State { witness: false, ..active.clone() };
        assert_eq!(agreed(&[standby.clone(), unseen.clone()], true), None, "the witness is not there yet");
        assert_eq!(agreed(&[standby.clone(), unseen], false), Some(1));
        assert_eq!(
            agreed(&[active.clone(), State { automatic: false, ..active.clone() }], true),
            None,
            "two active ones"
        );
        assert_eq!(agreed(std::slice::from_ref(&active), true), None, "the other one says nothing");
        assert_eq!(agreed(&[standby.clone(), standby], true), None);
        assert!(!State::of(&json!({"role": "active"})).is_whole(), "a version without pairs");
    }

    #[tokio::test]
    async fn members_get_places_of_their_own() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let cut = Cut::new(3);
                for forwarded in [false, true] {
                    let (places, forwarders) = places(3, forwarded, &cut).await.unwrap();
                    let mut ports: Vec<u16> = places
                        .iter()
                        .flat_map(|place| [place.client, place.peer, place.told])
                        .map(|a| a.port())
                        .collect();
                    ports.sort_unstable();
                    ports.dedup();
                    assert_eq!((ports.len(), forwarders.len()), if forwarded { (9, 3) } else { (6, 0) });
                }
            })
            .await;
    }
}
