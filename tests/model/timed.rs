//! P4: from a reached state all messages are lost, one member is gone for good or hears nobody any more, and nothing else fails. Time goes on with
//! the real timers, every message takes a millisecond, a follower is fed every few. Somebody must come to acknowledge a
//! new record.

use crate::log::Log;
use crate::world::{A, B, FIRST_WITNESS, World};
use holdfast::core::failover::{
    DataMember, Effect, Epoch, Input, Member, Message, Notice, PairingState, Relation, Role, Settings, Timer,
    WaitingFor, Witness,
};
use std::collections::{BTreeMap, BTreeSet};

/// How long the two that are left may take, in milliseconds of their clock.
const HEALS_MS_MAX: u64 = 30_000;
const LINK_MS: u64 = 1;
const SHIP_EVERY_MS: u64 = 5;
const WRITE_EVERY_MS: u64 = 50;

/// Who is missing from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    Nobody,
    Dead(Member),
    /// It is heard, and hears nobody: what it does not know of must not be the end of the pair. There is a witness, and
    /// the others must come to acknowledge.
    Deaf(Member),
}

impl Missing {
    pub(crate) fn is_deaf(self) -> bool {
        matches!(self, Self::Deaf(_))
    }

    fn member(self) -> Option<Member> {
        match self {
            Self::Nobody => None,
            Self::Dead(member) | Self::Deaf(member) => Some(member),
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Acknowledges,
    /// The record says Solo and does not name the one that is left as the newest active, and that one says so.
    WaitsForTheMissing,
    Stuck,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Arrives(Member, Member, Message),
    Fires(Member, Timer),
    Fsync(Member),
    Ship,
    Write,
}

struct Node {
    member: DataMember,
    log: Log,
    synced: u64,
    active: Option<Epoch>,
    held: bool,
    follows: Option<(Member, Epoch)>,
}

struct Run {
    now_ms: u64,
    nodes: BTreeMap<Member, Node>,
    witnesses: BTreeMap<Member, Witness>,
    events: BTreeSet<(u64, Event)>,
    /// The epoch and index of new records.
    new: BTreeSet<(Epoch, u64)>,
    acknowledged: bool,
    waits: bool,
    deaf: Option<Member>,
}

/// What becomes of this state without that member.
pub(crate) fn heals(world: &World, missing: Missing) -> Verdict {
    let dead = missing.member();
    let mut run = Run::new(world, missing);
    while let Some((at_ms, event)) = run.events.pop_first() {
        if at_ms > HEALS_MS_MAX || run.acknowledged {
            break;
        }
        run.now_ms = at_ms;
        run.happen(event);
    }
    let is_solo_of = |state, wanted: fn(Member, Option<Member>) -> bool| matches!(state, PairingState::Solo { epoch, .. } if wanted(epoch.member(), dead));
    let by_witness = |witness: &Witness| is_solo_of(witness.durable().pairing.state, |named, dead| Some(named) == dead);
    // Without a witness a record of an earlier epoch may even name the survivor: it met a newer epoch since, and cannot
    // know what was acknowledged in that.
    let by_itself = |node: &Node| is_solo_of(node.member.durable().pairing.state, |_, _| true);
    let alone = world.witnesses.is_empty();
    let names_the_dead = world.witnesses.iter().any(by_witness) || (alone && run.nodes.values().any(by_itself));
    match (run.acknowledged, names_the_dead && run.waits) {
        (true, _) => Verdict::Acknowledges,
        (false, true) => Verdict::WaitsForTheMissing,
        (false, false) => Verdict::Stuck,
    }
}

impl Run {
    fn new(world: &World, missing: Missing) -> Self {
        let (dead, deaf) = match missing {
            Missing::Nobody => (None, None),
            Missing::Dead(member) => (Some(member), None),
            Missing::Deaf(member) => (None, Some(member)),
        };
        let nodes = [A, B].into_iter().filter(|me| Some(*me) != dead).filter_map(|me| {
            let node = world.node(me)?;
            let epoch = node.member.durable().epoch;
            let follows = node.member.following().map(|active| (active, epoch));
            Some((
                me,
                Node {
                    member: node.member.clone(),
                    log: node.log,
                    synced: node.synced,
                    active: node.active,
                    held: node.held,
                    follows,
                },
            ))
        });
        let witnesses = (FIRST_WITNESS..).zip(&world.witnesses).filter(|(me, _)| Some(*me) != dead);
        let mut run = Self {
            now_ms: 0,
            nodes: nodes.collect(),
            witnesses: witnesses.map(|(me, witness)| (me, witness.clone())).collect(),
            events: BTreeSet::new(),
            new: BTreeSet::new(),
            acknowledged: false,
            waits: false,
            deaf,
        };
        run.arm_everything();
        run
    }

    /// The model does not keep which timers are armed: each fires once, and from then on only what was armed again.
    fn arm_everything(&mut self) {
        let settings = Settings::default();
        let members: Vec<Member> = self.nodes.keys().chain(self.witnesses.keys()).copied().collect();
        for me in members {
            for (timer, after_ms) in [
                (Timer::Heartbeat, 10 * u64::from(me)),
                (Timer::ActiveSilence, settings.fail_after_ms),
                (Timer::AckOverdue, settings.solo_after_ms),
                (Timer::Candidacy, settings.heartbeat_ms * 2),
                (Timer::Lease, settings.lease_ms),
                (Timer::PromoteAfter, settings.promote_after_ms),
                (Timer::Switchover, settings.switchover_ms),
            ] {
                self.events.insert((after_ms, Event::Fires(me, timer)));
            }
            self.events.insert((2, Event::Fsync(me)));
        }
        self.events.insert((1, Event::Ship));
        self.events.insert((3, Event::Write));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(_, to, _) if Some(to) == self.deaf => {}
            Event::Arrives(from, to, message) => {
                if !matches!(message, Message::PreVote { .. } | Message::PreVoteAnswer { .. }) {
                    // The worst order: the sender's epoch is learned from another message first.
                    let message = Message::Stale { epoch: self.epoch_of(from) };
                    self.step(to, Input::Received { from, message });
                }
                self.step(to, Input::Received { from, message });
            }
            Event::Fires(me, timer) => self.step(me, Input::Fired(timer)),
            Event::Fsync(me) => {
                let Some(node) = self.nodes.get_mut(&me) else { return };
                node.synced = node.log.len();
                let log = node.log.end(node.synced);
                self.step(me, Input::Synced { log });
            }
            Event::Ship => {
                self.events.insert((self.now_ms + SHIP_EVERY_MS, Event::Ship));
                for me in [A, B] {
                    self.ship(me);
                }
            }
            Event::Write => {
                self.events.insert((self.now_ms + WRITE_EVERY_MS, Event::Write));
                for me in [A, B] {
                    self.write(me);
                }
            }
        }
    }

    fn epoch_of(&self, me: Member) -> Epoch {
        let node = self.nodes.get(&me).map(|node| node.member.durable().epoch);
        node.or_else(|| self.witnesses.get(&me).map(|witness| witness.durable().epoch)).unwrap_or_default()
    }

    /// One new record per epoch: logs are short here.
    fn write(&mut self, me: Member) {
        let Some(node) = self.nodes.get_mut(&me) else { return };
        let Some(epoch) = node.active.filter(|_| !node.held && node.log.has_room()) else { return };
        if self.new.iter().any(|(other, _)| *other == epoch) {
            return;
        }
        node.log.push(epoch, 0);
        let index = node.log.len();
        self.new.insert((epoch, index));
        self.events.insert((self.now_ms + 1, Event::Fsync(me)));
        self.step(me, Input::Written { index });
    }

    fn ship(&mut self, me: Member) {
        let Some((active, epoch)) = self.nodes.get(&me).and_then(|node| node.follows) else { return };
        if [Some(me), Some(active)].contains(&self.deaf) {
            return;
        }
        let Some(source) = self.nodes.get(&active).filter(|source| source.active == Some(epoch)) else { return };
        let (log, commit) = (source.log, source.member.status(self.now_ms).commit);
        let Some(node) = self.nodes.get_mut(&me) else { return };
        let common = node.log.common(&log);
        let relation = if common < node.log.len() && common < log.len() {
            Relation::Fork { index: common + 1 }
        } else {
            for index in node.log.len() + 1..=log.len() {
                node.log.push(log.epoch(index), log.kind(index));
            }
            Relation::Equal { index: log.len() }
        };
        self.events.insert((self.now_ms + 1, Event::Fsync(me)));
        self.step(me, Input::Compared { epoch, relation, commit });
    }

    fn step(&mut self, me: Member, input: Input) {
        let effects = if let Some(node) = self.nodes.get_mut(&me) {
            node.member.step(input, self.now_ms)
        } else if let Some(witness) = self.witnesses.get_mut(&me) {
            witness.step(input, self.now_ms)
        } else {
            return;
        };
        for effect in effects {
            self.execute(me, effect);
        }
    }

    fn execute(&mut self, me: Member, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                self.events.insert((self.now_ms + LINK_MS, Event::Arrives(me, to, message)));
            }
            Effect::Arm { timer, after_ms } => {
                self.disarm(me, timer);
                self.events.insert((self.now_ms + after_ms, Event::Fires(me, timer)));
            }
            Effect::Disarm(timer) => self.disarm(me, timer),
            Effect::Notice(Notice::Waiting(WaitingFor::TheOther)) => self.waits = true,
            Effect::Probe => {
                let peer_answers = self.nodes.len() > 1;
                self.step(me, Input::Probed { reference_answers: true, peer_answers });
            }
            other => self.execute_on_node(me, other),
        }
    }

    fn disarm(&mut self, me: Member, timer: Timer) {
        self.events.retain(|(_, event)| *event != Event::Fires(me, timer));
    }

    fn execute_on_node(&mut self, me: Member, effect: Effect) {
        let Some(node) = self.nodes.get_mut(&me) else { return };
        match effect {
            Effect::Activate { epoch } => {
                node.log.push(epoch, 0);
                node.active = Some(epoch);
                let index = node.log.len();
                self.events.insert((self.now_ms + 1, Event::Fsync(me)));
                self.step(me, Input::Started { epoch, index });
            }
            Effect::StepDown => {
                node.active = None;
                node.held = false;
            }
            Effect::HoldWrites(hold) => node.held = hold,
            Effect::Follow { active, epoch } => node.follows = Some((active, epoch)),
            Effect::Unfollow => node.follows = None,
            Effect::Commit { index } => {
                let newest = self.new.iter().any(|(epoch, new)| node.active == Some(*epoch) && index >= *new);
                let counts = newest && Some(me) != self.deaf;
                self.acknowledged |= counts && node.member.status(self.now_ms).role == Role::Active;
            }
            Effect::Rewind { fork } => {
                let (durable, log) = (*node.member.durable(), node.log.cut(fork - 1));
                node.member = DataMember::new(me, durable, log.end(log.len()), Settings::default());
                (node.log, node.synced, node.follows) = (log, log.len(), None);
                self.step(me, Input::Start);
            }
            _ => {}
        }
    }
}
