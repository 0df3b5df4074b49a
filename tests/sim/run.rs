//! One run of one seed: faults while people write, then everything is healed, then the checks. The driver is outside of
//! the simulated hosts and moves simulated time on, one tick after the other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast::core::command::{Actor, Command, Envelope};
use holdfast::core::failover::Role;
use holdfast::core::ids::ChannelId;
use holdfast::core::keys::Key;
use holdfast::core::pair::row_after;
use holdfast::core::rows::{Message, Pair};
use holdfast::core::view::{Direction, ViewExt as _};
use holdfast::node::{Node, ReplyTo};
use holdfast::replication::PairSettings;
use tempfile::TempDir;
use turmoil::Sim;

use crate::breakage;
use crate::clock;
use crate::faults::{Faults, LATENCY_MS_MAX};
use crate::founding;
use crate::invariants;
use crate::members;
use crate::people;
use crate::scenario::{Breakage, Scenario};
use crate::wires::HOSTS;
use crate::world::World;

/// Simulated time goes on in such steps.
const TICK: Duration = Duration::from_millis(5);
/// How long people go on writing after the end of all faults.
const AFTERMATH_MS: u64 = 4_000;
/// How long nothing must have happened at the end.
const STILL_MS: u64 = 3_000;

/// What a run was.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was broken.
    pub(crate) violations: Vec<String>,
    /// Everything that happened, one line each.
    pub(crate) trace: String,
    /// Of the trace, and of what the nodes held in the end.
    pub(crate) digest: String,
    /// Messages that were acknowledged, that are unknown, that were refused.
    pub(crate) counts: (usize, usize, usize),
    /// How much time it simulated.
    pub(crate) simulated_ms: u64,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, scenario: Scenario) -> Report {
    clock::reset();
    let place = scratch();
    let dirs = ["node1", "node2", "witness"].map(|name| {
        let dir = place.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    });
    let organisation = founding::found(&dirs, &scenario);
    let world = World::new(seed, scenario, (dirs, organisation));
    {
        let mut oracle = world.oracle.lock();
        for (id, body) in &world.organisation.sent {
            oracle.begin(*id, body.clone());
            oracle.acknowledged(id);
        }
    }
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(3_600))
        .tick_duration(TICK)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::from_millis(LATENCY_MS_MAX))
        .tcp_capacity(1_024)
        .enable_random_order()
        .build();
    furnish(&mut sim, &world);
    let mut driver = Driver {
        faults: Faults::new(world.clone()),
        world: world.clone(),
        healed_ms: None,
        promoted: [(0, 0); 2],
        still: (0, 0),
        joined: 0,
    };
    driver.drive(&mut sim);
    drop(sim);
    finish(&world)
}

/// A directory in memory where there is one: what is written there counts as durable.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn furnish(sim: &mut Sim<'_>, world: &Arc<World>) {
    for (me, name) in HOSTS.into_iter().enumerate().take(2) {
        let world = world.clone();
        sim.host(name, move || members::data_node(world.clone(), me));
    }
    let witness = world.clone();
    sim.host(HOSTS[2], move || members::witness(witness.clone()));
    sim.client(HOSTS[3], people::people(world.clone()));
}

fn finish(world: &World) -> Report {
    let (trace, violations) = (world.trace(), world.violations());
    let counts = world.oracle.lock().counts();
    let digest = blake3::hash(trace.as_bytes()).to_hex()[..16].to_owned();
    Report { violations, digest, counts, simulated_ms: clock::elapsed_ms(), trace }
}

struct Driver {
    world: Arc<World>,
    faults: Faults,
    /// When all faults were ended.
    healed_ms: Option<u64>,
    /// Which life of each node was last seen active in which epoch.
    promoted: [(u64, u64); 2],
    /// The end of the log when it was last looked at, and since when it is so.
    still: (u64, u64),
    /// How far the joining of further members is.
    joined: u8,
}

impl Driver {
    fn drive(&mut self, sim: &mut Sim<'_>) {
        loop {
            if let Err(error) = sim.step() {
                self.world.violated(format!("a member ended: {error}"));
                return;
            }
            clock::set(sim.elapsed());
            self.look();
            for (node, again) in self.world.again.iter().enumerate() {
                if again.swap(false, Ordering::Relaxed) && !self.faults.is_down(node) {
                    sim.bounce(HOSTS[node]);
                }
            }
            self.join();
            self.faults.turn(sim, self.healed_ms.is_none() && clock::elapsed_ms() < self.world.scenario.faults_ms);
            if self.is_over(sim) || !self.world.violations().is_empty() {
                return;
            }
        }
    }

    /// Looks at what must hold at every moment.
    fn look(&mut self) {
        for me in 0..2 {
            let Some(running) = self.world.running(me) else { continue };
            let epoch = running.node.log().last_position().epoch;
            let own = epoch & 0xffff == me as u64 + 1;
            let active = own && running.node.epoch() == epoch >> 16;
            if active && self.promoted[me] != (running.life, epoch) {
                self.promoted[me] = (running.life, epoch);
                self.world.note(format_args!("node{} is active in {epoch:x}", me + 1));
                if self.world.is_strict() {
                    let check = invariants::later_actives::promoted(&self.world, (me, &running.node), epoch);
                    self.world.judge(check);
                }
            }
        }
    }

    /// Heals when it is time, and ends the run when nothing happens any more.
    fn is_over(&mut self, sim: &mut Sim<'_>) -> bool {
        let now_ms = clock::elapsed_ms();
        let Some(healed_ms) = self.healed_ms else {
            if now_ms >= self.world.scenario.faults_ms {
                self.faults.heal(sim);
                self.healed_ms = Some(now_ms);
            }
            return false;
        };
        if now_ms < healed_ms + AFTERMATH_MS || !now_ms.is_multiple_of(100) {
            return false;
        }
        // Nothing new once it is shown that the pair works again.
        let works = *self.world.acknowledged_ms.lock() > healed_ms;
        self.world.quiet.store(works, Ordering::Relaxed);
        let nodes = self.equal_nodes();
        self.world.judge(invariants::recovery::check(&self.world, healed_ms, nodes.as_ref().err()));
        let Ok(nodes) = nodes else { return false };
        self.judge([&nodes[0], &nodes[1]]);
        true
    }

    /// Both nodes, when they hold the same, the pair is protected, nobody waits and nothing has happened for a while; else
    /// what of it is not so.
    fn equal_nodes(&mut self) -> Result<[Node; 2], String> {
        let (Some(one), Some(two)) = (self.world.running(0), self.world.running(1)) else {
            return Err("a node does not run".to_owned());
        };
        let ends = [&one, &two].map(|running| running.node.log().last_position().index);
        let applied = [&one, &two].map(|running| running.node.applied_index());
        if self.still.0 != ends[0].max(ends[1]) {
            self.still = (ends[0].max(ends[1]), clock::elapsed_ms());
        }
        let still_ms = clock::elapsed_ms() - self.still.1;
        let actives =
            [&one, &two].map(|one| one.status.is_some_and(|status| status.role == Role::Active && status.protected));
        let salvaged = self.world.dirs[..2].iter().all(|dir| is_salvaged(dir));
        let busy = self.world.busy.load(Ordering::Relaxed);
        let quiet = self.world.quiet.load(Ordering::Relaxed) && busy == 0;
        let equal = ends[0] == ends[1] && applied == ends && actives[0] != actives[1];
        if equal && salvaged && quiet && still_ms >= STILL_MS {
            return Ok([one.node, two.node]);
        }
        Err(format!(
            "ends {ends:?}, applied {applied:?}, protected actives {actives:?}, salvaged {salvaged}, {busy} wait, still for \
             {still_ms} ms"
        ))
    }

    /// The checks at the end.
    fn judge(&self, nodes: [&Node; 2]) {
        let world = &self.world;
        let mut oracle = world.oracle.lock();
        if world.broken(Breakage::OracleDreams) {
            breakage::dream(&mut oracle);
        }
        world.judge(invariants::equal_nodes::check(world, nodes));
        for node in nodes {
            let shown = messages(node, world.organisation.channel);
            world.judge(invariants::sequence::check(&shown));
            world.judge(invariants::everything_once::check(&oracle, &shown));
        }
        let mut line = String::from("the end:");
        for node in nodes {
            let (end, state) = (node.log().last_position(), node.projection().state_hash());
            write!(line, " {} {:02x?} {:?}", end.index, &end.chain[..8], state.1).unwrap();
        }
        world.note(line);
    }

    /// Lets the second node join, and then the witness, in a scenario that begins with one node.
    fn join(&mut self) {
        let scenario = self.world.scenario;
        if !scenario.join {
            return;
        }
        let (at_ms, members): (u64, &[u16]) = match self.joined {
            0 => (1_500, &[1, 2]),
            1 if scenario.witness => (6_000, &[1, 2, 3]),
            2 => return self.both_know(),
            _ => return,
        };
        if clock::elapsed_ms() < at_ms || !clock::elapsed_ms().is_multiple_of(100) {
            return;
        }
        let active = (0..2).find_map(|node| {
            let running = self.world.running(node)?;
            (running.status?.role == Role::Active).then_some(running)
        });
        let Some(running) = active else { return };
        let before = running.node.projection().row::<Pair>(Key::Pair).unwrap().unwrap();
        if before.members.len() == members.len() {
            // It is in the log of this active and committed: the new member is told, as it is when it joins.
            let number = members.len() - 1;
            founding::begin_member(&self.world.dirs[number], (number, &PairSettings((*before).clone())));
            self.world.note(format_args!("members {members:?} are in the pair"));
            self.joined += 1;
            return;
        }
        let update = founding::update(&before, members);
        assert_eq!(row_after(&before, &update).members.len(), members.len());
        let envelope = Envelope { actor: Some(Actor::operator()), command: Some(Command::UpdatePair(update)) };
        drop(running.node.propose_into(&envelope, ReplyTo::Nobody));
    }
}

impl Driver {
    /// The stronger promises begin when both nodes go by the witness; what was acknowledged before may be on a history
    /// that is given up.
    fn both_know(&mut self) {
        let knows = |node: usize| {
            let row = self.world.running(node).and_then(|one| one.node.projection().row::<Pair>(Key::Pair).unwrap());
            row.is_some_and(|pair| pair.members.len() == 3)
        };
        if clock::elapsed_ms().is_multiple_of(100) && knows(0) && knows(1) {
            self.world.note("both nodes go by the witness");
            self.world.oracle.lock().acks.clear();
            self.world.strict.store(true, Ordering::Relaxed);
            self.joined += 1;
        }
    }
}

/// The messages of the channel, in the order of their numbers.
fn messages(node: &Node, channel: u64) -> Vec<(u64, Arc<Message>)> {
    let channel = ChannelId(channel);
    let range = Key::Message(channel, 0)..=Key::Message(channel, u64::MAX);
    let rows = node.projection().rows::<Message>(range, Direction::Up, usize::MAX).unwrap();
    let number = |key: Key| if let Key::Message(_, seq) = key { seq } else { 0 };
    rows.into_iter().map(|(key, row)| (number(key), row)).collect()
}

/// Whether every diverged tail of the node was proposed to the active.
fn is_salvaged(data: &Path) -> bool {
    let Ok(tails) = std::fs::read_dir(data.join("quarantine")) else { return true };
    let dirs: Vec<PathBuf> = tails.map(|tail| tail.unwrap().path()).collect();
    dirs.iter().all(|dir| dir.join("done.json").exists()) && !data.join("pair/rewind.json").exists()
}
