//! The model for stateright: where it starts, what must hold in every state, what must have been reached.

use crate::acts::Act;
use crate::config::Config;
use crate::log::Log;
use crate::timed::{Missing, Verdict};
use crate::world::{A, B, FIRST_WITNESS, Node, Reign, World};
use holdfast::core::failover::{
    Durable, Epoch, Input, Member, Message, Pairing, PairingState, Settings, Witness, WitnessDurable,
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A model with what it has seen.
pub(crate) struct Check {
    pub(crate) config: Config,
    reached: Arc<Mutex<BTreeSet<&'static str>>>,
    sampled: Arc<AtomicU64>,
    excepted: Arc<AtomicU64>,
}

impl Check {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, reached: Arc::default(), sampled: Arc::default(), excepted: Arc::default() }
    }

    /// Something worth seeing happened.
    pub(crate) fn cover(&self, what: &'static str) {
        self.reached.lock().unwrap().insert(what);
    }

    pub(crate) fn cover_commit(&self, world: &World, node: &Node, index: u64) {
        let Some(epoch) = node.active else { return };
        let alone = node.member.acknowledges_alone();
        let start = node.log.start(epoch).unwrap_or(1);
        let before = world.reign(epoch).map_or(0, |reign| reign.commit);
        if before < start {
            self.cover(if alone { "EpochStarted committed alone" } else { "EpochStarted committed by both" });
        }
        if index > start {
            self.cover(if alone { "a record acknowledged alone" } else { "a record acknowledged by both" });
            if epoch.number() > 1 {
                self.cover(if alone { "... in a later epoch" } else { "... by both, in a later epoch" });
            }
        }
        let again = world.witnesses.iter().any(|witness| {
            let pairing = witness.durable().pairing;
            pairing.version > 2 && pairing.epoch == epoch && matches!(pairing.state, PairingState::Paired { .. })
        });
        if again && !alone && index > start {
            self.cover("a record acknowledged by both after coming together again");
        }
        if world.reigns.iter().any(|reign| reign.epoch > epoch && reign.commit > 0) {
            self.cover("a late ack of an older epoch after one of a newer");
        }
    }

    pub(crate) fn cover_promotion(&self, world: &World, me: Member, epoch: Epoch) {
        if world.nodes.iter().any(|node| node.active.is_some_and(|active| active < epoch)) {
            self.cover("promoted while an older active believes in itself");
        }
        let old_solo = world.witnesses.iter().any(|witness| {
            matches!(witness.durable().pairing.state, PairingState::Solo { epoch, .. } if epoch.member() == me)
        });
        if old_solo {
            self.cover("the old Solo active elected again");
        }
    }

    pub(crate) fn cover_delivery(&self, world: &World, to: Member, message: &Message) {
        let Some(node) = world.node(to) else { return };
        match *message {
            Message::VoteAnswer { epoch, granted: true, .. } if Self::stands(world, epoch) => {
                let by_peer =
                    node.member.durable().witness.is_none_or(|_| {
                        world.net.iter().any(|(from, _, other)| *from < FIRST_WITNESS && other == message)
                    });
                self.cover(if by_peer { "the peer's vote" } else { "the witness's vote" });
            }
            Message::PairingIs { pairing, epoch } if node.active == Some(epoch) => match pairing.state {
                PairingState::Solo { epoch: solo, .. } if solo == epoch => self.cover("Solo recorded"),
                PairingState::Paired { .. } if pairing.epoch == epoch => self.cover("Paired recorded"),
                _ => {}
            },
            Message::HandOver { .. } => self.cover("a switchover handed over"),
            Message::Heartbeat { away: true, .. } if node.active.is_some() => self.cover("a standby said goodbye"),
            _ => {}
        }
    }

    /// The first membership that has this data node.
    pub(crate) fn joined_with(&self, me: Member) -> usize {
        self.config.memberships.iter().position(|membership| membership.peer_of(me).is_some()).unwrap_or(0)
    }

    fn start(&self) -> World {
        let memberships = &self.config.memberships;
        let most = |all: BTreeSet<Member>| all.last().copied().unwrap_or(0);
        let data = most(memberships.iter().flat_map(|one| one.data.into_iter().flatten()).collect());
        let witnesses: BTreeSet<Member> = memberships.iter().filter_map(|one| one.witness).collect();
        let nodes = (1..=data).map(|me| {
            let joined = memberships[self.joined_with(me)];
            let durable = Durable { peer: joined.peer_of(me).flatten(), witness: joined.witness, ..Durable::default() };
            self.fresh(me, durable, (Log::default(), 0))
        });
        let witness = |me: &Member| {
            let knows = memberships[0].witness == Some(*me);
            let state = PairingState::Paired { standby: B };
            let pairing = if knows {
                Pairing { version: 1, epoch: Epoch::default(), active: A, state }
            } else {
                Pairing::default()
            };
            let durable = WitnessDurable { pairing, data: [A, B], ..WitnessDurable::default() };
            Witness::new(durable, Settings::default()).broken_by(self.config.mutation)
        };
        let mut world = World {
            nodes: nodes.collect(),
            witnesses: witnesses.iter().map(witness).collect(),
            net: Vec::new(),
            reigns: Vec::new(),
            left: crate::world::Budget::default(),
            quarantine: Vec::new(),
            bad: None,
        };
        for me in 1..=data {
            self.step(&mut world, me, Input::Start);
        }
        let lone = memberships[0].data[1].is_none();
        self.elect_first(&mut world, lone);
        world.left = self.config.budget;
        world.net.clear();
        self.drop_dead(&mut world);
        world
    }

    /// A is active in epoch 1A, and its `EpochStarted` is acknowledged.
    fn elect_first(&self, world: &mut World, lone: bool) {
        let epoch = Epoch::new(1, A);
        if !lone {
            let voter = self.config.memberships[0].witness.unwrap_or(B);
            self.stand(world, A);
            let log = holdfast::core::failover::LogEnd::default();
            self.deliver(world, (A, voter), Message::Vote { epoch, log, handed_over: false });
            self.deliver(world, (voter, A), Message::VoteAnswer { epoch, granted: true, own: epoch });
        }
        self.fsync(world, A);
        if !lone {
            self.beat_once(world, A);
            self.ship(world, B, (epoch, 1));
            self.fsync(world, B);
            self.deliver(world, (B, A), Message::Ack { epoch, index: 1 });
        }
        assert_eq!(world.reign(epoch).map(|reign| reign.commit), Some(1), "{world:?}");
    }

    fn beat_once(&self, world: &mut World, me: Member) {
        self.step(world, me, Input::Fired(holdfast::core::failover::Timer::Heartbeat));
    }

    /// Every promise by its name, and whether it holds.
    pub(crate) fn violated(&self, world: &World) -> Option<&'static str> {
        let witness = self.config.memberships.iter().any(super::config::Membership::has_witness);
        [
            (BAD, world.bad.is_none()),
            (P1, !witness || first(world)),
            (P2, !witness || second(world)),
            (P3, third(world)),
            (INV, !witness || self.config.memberships.len() > 1 || self.config.excuses() || blind_vote(world)),
            (N1, witness || nothing_is_gone(world)),
            (N2, witness || !self.config.truthful || one_active(world)),
            (N3, witness || paired_stays(world)),
        ]
        .into_iter()
        .find_map(|(name, holds)| (!holds).then_some(name))
    }

    /// P4 from one state in so many: two of three reach an active that acknowledges, or the stated exception.
    fn fourth(&self, world: &World) -> bool {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        if self.config.p4_every == 0 || !hasher.finish().is_multiple_of(self.config.p4_every) {
            return true;
        }
        self.sampled.fetch_add(1, Ordering::Relaxed);
        let witness = [Missing::Dead(FIRST_WITNESS), Missing::Deaf(A), Missing::Deaf(B)].into_iter();
        let has_witness = self.config.memberships[0].has_witness();
        // After a goodbye it asks for Solo at once, also at the very moment at which it goes deaf: an accepted limit.
        let witness = witness.filter(|missing| has_witness && !(self.config.goodbyes && missing.is_deaf()));
        let data = [Missing::Dead(A), Missing::Dead(B), Missing::Nobody].into_iter();
        data.chain(witness).all(|missing| match crate::timed::heals(world, missing) {
            Verdict::Acknowledges => true,
            Verdict::WaitsForTheMissing => {
                self.excepted.fetch_add(1, Ordering::Relaxed);
                true
            }
            Verdict::Stuck => false,
        })
    }
}

const BAD: &str = "no step does what it must not";
const P1: &str = "P1 acknowledged records are in the log of every later active";
const P2: &str = "P2 no two acknowledged records conflict";
const P3: &str = "P3 the epochs of acknowledged records never go back along the log";
const P4: &str = "P4 any two of three reach an active that acknowledges";
const INV: &str = "INV whom the witness's record names holds everything acknowledged";
const N1: &str = "N1 every acknowledged record is in a log or in quarantine";
const N2: &str = "N2 two are active only when a probe of a living peer failed";
const N3: &str = "N3 what both acknowledged is in the log of every later active";

fn later(world: &World, reign: &Reign) -> impl Iterator<Item = Reign> {
    let epoch = reign.epoch;
    world.reigns.clone().into_iter().filter(move |other| other.epoch > epoch)
}

fn first(world: &World) -> bool {
    world.reigns.iter().all(|reign| later(world, reign).all(|next| reign.log.is_in(reign.commit, &next.log)))
}

fn second(world: &World) -> bool {
    world
        .reigns
        .iter()
        .all(|reign| later(world, reign).all(|next| reign.log.is_in(reign.commit.min(next.commit), &next.log)))
}

fn third(world: &World) -> bool {
    world.reigns.iter().all(|reign| {
        (2..=reign.commit.min(reign.log.len())).all(|index| reign.log.epoch(index - 1) <= reign.log.epoch(index))
    })
}

/// What the witness's blind vote rests on.
fn blind_vote(world: &World) -> bool {
    world.witnesses.iter().all(|witness| {
        let pairing = witness.durable().pairing;
        let named = match pairing.state {
            PairingState::Paired { standby } => [Some(pairing.active), Some(standby)],
            PairingState::Solo { epoch, .. } => [Some(epoch.member()), None],
        };
        let mut holders = named.into_iter().flatten().filter_map(|member| world.node(member));
        holders.all(|node| {
            let log = node.log.cut(node.synced);
            world.reigns.iter().all(|reign| reign.log.is_in(reign.commit, &log))
        })
    })
}

fn nothing_is_gone(world: &World) -> bool {
    let logs = || world.nodes.iter().map(|node| node.log.cut(node.synced)).chain(world.quarantine.iter().copied());
    world.reigns.iter().all(|reign| {
        (1..=reign.commit.min(reign.log.len())).all(|index| logs().any(|log| reign.log.is_in(index, &log)))
    })
}

fn one_active(world: &World) -> bool {
    world.nodes.iter().filter(|node| node.up && node.active.is_some()).count() <= 1
}

fn paired_stays(world: &World) -> bool {
    world.reigns.iter().all(|reign| later(world, reign).all(|next| reign.log.is_in(reign.paired, &next.log)))
}

impl Model for Check {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn actions(&self, world: &World, out: &mut Vec<Act>) {
        self.acts(world, out);
        if self.config.backwards {
            out.reverse();
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        self.next(world, act)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("safe", |check, world| check.violated(world).is_none()),
            Property::<Self>::always(P4, |check, world| check.fourth(world)),
        ]
    }
}

/// Checks everything within the bounds, and that what must be reached was.
pub(crate) fn holds(config: Config, must_reach: &[&'static str]) {
    let name = config.name;
    let bounds = format!("{:?} epochs {} versions {}", config.budget, config.epochs, config.versions);
    let check = Check::new(config);
    let (reached, sampled, excepted) = (check.reached.clone(), check.sampled.clone(), check.excepted.clone());
    let (began, most) = (Instant::now(), Duration::from_secs(seconds_max()));
    let checker = check.checker().threads(2).timeout(most).spawn_dfs().join();
    let took = began.elapsed();
    println!(
        "{name}: {} states ({} generated), depth {}, {:.1} s; {bounds}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        took.as_secs_f64()
    );
    let sampled = sampled.load(Ordering::Relaxed);
    if sampled > 0 {
        println!(
            "  P4 checked from {sampled} states; waits for the missing node: {}",
            excepted.load(Ordering::Relaxed)
        );
    }
    tell(&checker);
    assert!(checker.discoveries().is_empty(), "{name}: a promise is broken");
    assert!(took < most, "{name}: not finished in {most:?}");
    let reached = reached.lock().unwrap();
    let missing: Vec<_> = must_reach.iter().filter(|what| !reached.contains(**what)).collect();
    assert!(missing.is_empty(), "{name}: never reached {missing:?}, only {reached:?}");
}

/// Checks that a broken rule is noticed: by the promise that is named.
pub(crate) fn notices(config: Config, promise: &str) {
    let builder = finder(config);
    let began = Instant::now();
    noticed(&builder.spawn_dfs().join(), promise, began);
}

/// The same in the opposite order.
pub(crate) fn notices_backwards(config: Config, promise: &str) {
    notices(Config { backwards: true, ..config }, promise);
}

fn finder(config: Config) -> stateright::CheckerBuilder<Check> {
    let (most, depth) = (Duration::from_secs(seconds_max()), config.depth);
    let builder = Check::new(config).checker().threads(1).timeout(most).finish_when(HasDiscoveries::AnyFailures);
    if depth > 0 { builder.target_max_depth(depth) } else { builder }
}

fn noticed(checker: &impl Checker<Check>, promise: &str, began: Instant) {
    let config = &checker.model().config;
    let name = format!("{:?} {:?}", config.mutation, config.executor);
    let found: Vec<(&str, usize)> = checker
        .discoveries()
        .into_iter()
        .map(|(property, path)| {
            let world = path.last_state().clone();
            (checker.model().violated(&world).unwrap_or(property), path.into_actions().len())
        })
        .collect();
    println!("{name}: {found:?} after {} states, {:.1} s", checker.state_count(), began.elapsed().as_secs_f64());
    assert!(found.iter().any(|(what, _)| what.starts_with(promise)), "{name}: {promise} was to be broken: {found:?}");
}

/// Shows the way to every broken promise.
fn tell(checker: &impl Checker<Check>) {
    for (name, path) in checker.discoveries() {
        let last = path.last_state();
        println!("\n== {name}: {:?} {}", checker.model().violated(last), last.bad.unwrap_or_default());
        for (world, act) in path.into_vec() {
            println!("  {world:?}");
            if let Some(act) = act {
                println!("    -> {act:?}");
            }
        }
    }
}

/// A run takes no longer than this.
fn seconds_max() -> u64 {
    if large() { 3_000 } else { 240 }
}

/// The large bounds, for runs by hand.
pub(crate) fn large() -> bool {
    std::env::var_os("HOLDFAST_MODEL").is_some_and(|size| size == "large")
}
