//! What goes wrong, when, and for how long: drawn from the seed while the run goes on. Every fault ends by itself; `heal`
//! ends all of them at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast::core::failover::{Order, Role};
use holdfast::limits;
use turmoil::Sim;

use crate::clock;
use crate::random::Random;
use crate::scenario::{Breakage, Scenario};
use crate::wires::HOSTS;
use crate::world::World;

/// Two hosts.
type Pair = (usize, usize);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process ends; the system closes its connections.
    Crash(usize),
    /// The machine is off: nobody is told.
    PowerCut(usize),
    /// Nothing goes from one to the other (to both, if `true`), and what is under way is lost.
    Cut(Pair, bool),
    /// A host reaches nobody.
    Isolated(usize),
    /// What is sent arrives only when this ends.
    Held(Pair),
    /// Everything between the two takes so many milliseconds.
    Slow(Pair, u64),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    End(Fault),
    /// The system gives up the connections between the two.
    GiveUp(Pair),
}

/// The faults of a run.
pub(crate) struct Faults {
    world: Arc<World>,
    random: Random,
    next_ms: u64,
    actions: BTreeMap<(u64, u64), Action>,
    count: u64,
    /// How many faults block each direction, and hold each pair.
    blocked: [[u32; HOSTS.len()]; HOSTS.len()],
    held: [[u32; HOSTS.len()]; HOSTS.len()],
    down: [bool; HOSTS.len()],
    slow: Vec<Pair>,
}

/// What delivers within a machine room, in milliseconds.
pub(crate) const LATENCY_MS_MAX: u64 = 4;

impl Faults {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            random: Random::new(world.seed, 2),
            world,
            next_ms: 3_000,
            actions: BTreeMap::new(),
            count: 0,
            blocked: [[0; HOSTS.len()]; HOSTS.len()],
            held: [[0; HOSTS.len()]; HOSTS.len()],
            down: [false; HOSTS.len()],
            slow: Vec::new(),
        }
    }

    /// Does what is due now.
    pub(crate) fn turn(&mut self, sim: &mut Sim<'_>, may_begin: bool) {
        let now_ms = clock::elapsed_ms();
        while let Some(entry) = self.actions.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let action = entry.remove();
            self.act(sim, action);
        }
        if may_begin && now_ms >= self.next_ms {
            self.next_ms = now_ms + self.random.skewed(100, 9_000);
            self.disturb(sim);
        }
    }

    /// Ends everything.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        self.world.note("everything is healed");
        for action in std::mem::take(&mut self.actions).into_values() {
            self.act(sim, action);
        }
        self.actions.clear();
        clock::wrong_by(0, 0);
        clock::wrong_by(1, 0);
    }

    fn later(&mut self, after_ms: u64, action: Action) {
        self.count += 1;
        self.actions.insert((clock::elapsed_ms() + after_ms, self.count), action);
    }

    /// Members that run the scenario's software.
    fn members(scenario: &Scenario) -> &'static [usize] {
        if scenario.witness { &[0, 1, 2] } else { &[0, 1] }
    }

    fn two(&mut self) -> Pair {
        let scenario = self.world.scenario;
        // The people's own network fails seldom: what they do not reach, nobody acknowledges.
        let hosts: &[usize] = match (self.random.chance(20), scenario.witness) {
            (true, true) => &[0, 1, 2, 3],
            (true, false) => &[0, 1, 3],
            (false, _) => Self::members(&scenario),
        };
        let a = self.random.pick(hosts);
        loop {
            let b = self.random.pick(hosts);
            if a != b {
                return (a, b);
            }
        }
    }

    /// Something goes wrong now.
    fn disturb(&mut self, sim: &mut Sim<'_>) {
        let scenario = self.world.scenario;
        let member = self.random.pick(Self::members(&scenario));
        let kind = if scenario.network_holds { self.random.between(0, 36) } else { self.random.next() % 100 };
        let (fault, ms) = match kind {
            0..=17 => (Fault::Crash(member), self.random.skewed(0, 9_000)),
            18..=27 => (Fault::PowerCut(member), self.random.skewed(500, 12_000)),
            28..=31 => return self.clock_jumps(),
            32..=35 if scenario.switchovers || scenario.force => return self.order(),
            32..=35 => return self.clock_jumps(),
            36..=52 => (Fault::Cut(self.two(), true), self.random.skewed(100, 20_000)),
            53..=66 => (Fault::Cut(self.two(), false), self.random.skewed(100, 12_000)),
            67..=78 => (Fault::Isolated(member), self.random.skewed(100, 15_000)),
            79..=90 => (Fault::Held(self.two()), self.random.skewed(50, 6_000)),
            _ => (Fault::Slow(self.two(), self.random.skewed(10, 900)), self.random.skewed(500, 15_000)),
        };
        if let Fault::Crash(host) | Fault::PowerCut(host) = fault
            && self.down[host]
        {
            return;
        }
        self.world.note(format_args!("{fault:?} for {ms} ms"));
        self.begin(sim, fault);
        self.later(ms, Action::End(fault));
    }

    fn clock_jumps(&mut self) {
        let node = self.random.pick(&[0, 1]);
        let ms = self.random.between(0, 7_200_000) as i64 - 3_600_000;
        self.world.note(format_args!("the clock of node{} is wrong by {ms} ms", node + 1));
        clock::wrong_by(node, ms);
    }

    /// The operator's word to a node.
    fn order(&mut self) {
        let forced = self.world.scenario.force && self.random.chance(60);
        let node = self.random.pick(&[0, 1]);
        let running = [self.world.running(0), self.world.running(1)];
        let (order, node) = if forced {
            (Order::ForcePromote, node)
        } else {
            let active = |node: &usize| {
                running[*node].as_ref().is_some_and(|one| one.status.is_some_and(|it| it.role == Role::Active))
            };
            (Order::Switchover, [0, 1].into_iter().find(active).unwrap_or(node))
        };
        let Some(running) = &running[node] else { return };
        self.world.note(format_args!("{order:?} at node{}", node + 1));
        let driver = running.pair.driver().clone();
        // The handle only waits for the driver to have taken it; dropping the wait changes nothing.
        let mut given = std::pin::pin!(driver.order(order));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = given.as_mut().poll(&mut context);
    }

    fn begin(&mut self, sim: &mut Sim<'_>, fault: Fault) {
        match fault {
            Fault::Crash(host) => self.crash(sim, host),
            Fault::PowerCut(host) => {
                self.block_all(sim, host, true);
                self.crash(sim, host);
            }
            Fault::Cut((a, b), both) => {
                self.block(sim, (a, b), true);
                if both {
                    self.block(sim, (b, a), true);
                }
            }
            Fault::Isolated(host) => self.block_all(sim, host, true),
            Fault::Held((a, b)) => {
                self.held[a.min(b)][a.max(b)] += 1;
                self.apply(sim, (a, b));
            }
            Fault::Slow((a, b), ms) => {
                self.slow.push((a, b));
                sim.set_link_latency(HOSTS[a], HOSTS[b], Duration::from_millis(ms));
            }
        }
    }

    fn act(&mut self, sim: &mut Sim<'_>, action: Action) {
        match action {
            Action::GiveUp((a, b)) => {
                if self.blocked[a][b] + self.blocked[b][a] > 0 {
                    self.world.wires.break_all(a, b);
                }
            }
            Action::End(fault) => {
                self.world.note(format_args!("{fault:?} ends"));
                self.end(sim, fault);
            }
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, fault: Fault) {
        match fault {
            Fault::Crash(host) => self.restart(sim, host),
            Fault::PowerCut(host) => {
                self.block_all(sim, host, false);
                self.restart(sim, host);
            }
            Fault::Cut((a, b), both) => {
                self.block(sim, (a, b), false);
                if both {
                    self.block(sim, (b, a), false);
                }
            }
            Fault::Isolated(host) => self.block_all(sim, host, false),
            Fault::Held((a, b)) => {
                self.held[a.min(b)][a.max(b)] -= 1;
                self.apply(sim, (a, b));
            }
            Fault::Slow(pair, _) => {
                let at = self.slow.iter().position(|slow| *slow == pair).unwrap();
                self.slow.swap_remove(at);
                sim.set_link_latency(HOSTS[pair.0], HOSTS[pair.1], Duration::ZERO);
                sim.set_link_max_message_latency(HOSTS[pair.0], HOSTS[pair.1], Duration::from_millis(LATENCY_MS_MAX));
            }
        }
    }

    fn crash(&mut self, sim: &mut Sim<'_>, host: usize) {
        self.down[host] = true;
        sim.crash(HOSTS[host]);
        if host < 2 && self.world.broken(Breakage::DiskForgets) {
            crate::breakage::forget_last_records(&self.world, host);
        }
    }

    fn restart(&mut self, sim: &mut Sim<'_>, host: usize) {
        self.down[host] = false;
        sim.bounce(HOSTS[host]);
    }

    /// Whether the machine is off.
    pub(crate) fn is_down(&self, host: usize) -> bool {
        self.down[host]
    }

    fn block_all(&mut self, sim: &mut Sim<'_>, member: usize, on: bool) {
        for other in (0..HOSTS.len()).filter(|other| *other != member) {
            self.block(sim, (member, other), on);
            self.block(sim, (other, member), on);
        }
    }

    fn block(&mut self, sim: &mut Sim<'_>, (from, to): Pair, on: bool) {
        let before = self.blocked[from][to] + self.blocked[to][from];
        if on {
            self.blocked[from][to] += 1;
        } else {
            self.blocked[from][to] -= 1;
        }
        let after = self.blocked[from][to] + self.blocked[to][from];
        self.apply(sim, (from, to));
        if before == 0 {
            self.later(limits::PEER_TCP_USER_TIMEOUT_MS.into(), Action::GiveUp((from, to)));
        } else if after == 0 {
            self.world.wires.break_all(from, to);
        }
    }

    /// Makes the network between the two what the faults make of it.
    fn apply(&self, sim: &mut Sim<'_>, (a, b): Pair) {
        let (one, other) = (HOSTS[a], HOSTS[b]);
        let blocked = self.blocked[a][b] + self.blocked[b][a] > 0;
        if self.held[a.min(b)][a.max(b)] > 0 && !blocked {
            return sim.hold(one, other);
        }
        sim.release(one, other);
        if self.blocked[a][b] > 0 {
            sim.partition_oneway(one, other);
        }
        if self.blocked[b][a] > 0 {
            sim.partition_oneway(other, one);
        }
    }
}
