//! Does what the members' `step` asks for, strictly in order, and flags what no step may do.

use crate::check::Check;
use crate::config::Executor;
use crate::log::Log;
use crate::world::{FIRST_WITNESS, Node, Reign, World};
use holdfast::core::failover::{
    DataMember, Durable, Effect, Epoch, Input, LogEnd, Member, Message, Notice, Relation, Role, Settings,
};

impl Check {
    /// One step of a data node, with everything that it asks for.
    pub(crate) fn step(&self, world: &mut World, me: Member, input: Input) {
        let node = &mut world.nodes[usize::from(me) - 1];
        let before = *node.member.durable();
        let effects = node.member.step(input, 0);
        if before != *node.member.durable() {
            judge_order(world, &effects);
        }
        for effect in effects {
            if let Effect::Notice(notice) = effect {
                self.noticed(world, (me, &before), notice);
            } else {
                self.execute(world, me, effect);
            }
        }
        world.nodes[usize::from(me) - 1].member.forget_times();
    }

    /// One step of a witness. Whether it just heard an active is left to chance.
    pub(crate) fn step_witness(&self, world: &mut World, me: Member, input: Input) {
        let witness = &mut world.witnesses[usize::from(me - FIRST_WITNESS)];
        let before = *witness.durable();
        let effects = witness.step(input, 0);
        if before != *witness.durable() {
            judge_order(world, &effects);
        }
        for effect in effects {
            if let Effect::Send { to, message } = effect {
                self.send(world, (me, to), message);
            }
        }
        world.witnesses[usize::from(me - FIRST_WITNESS)].forget_times();
    }

    fn execute(&self, world: &mut World, me: Member, effect: Effect) {
        let node = &mut world.nodes[usize::from(me) - 1];
        match effect {
            Effect::Send { to, message } => self.send(world, (me, to), message),
            Effect::Activate { epoch } => self.activate(world, me, epoch),
            Effect::StepDown => {
                node.active = None;
                node.held = false;
            }
            Effect::Commit { index } => self.commit(world, me, index),
            Effect::Rewind { fork } => self.rewind(world, me, fork),
            Effect::HoldWrites(hold) => node.held = hold,
            Effect::Follow { .. } => node.told = 0,
            Effect::Probe => {
                let peer = node.member.durable().peer.and_then(|peer| world.node(peer));
                let peer_answers = self.config.truthful && peer.is_some_and(|peer| peer.up);
                self.step(world, me, Input::Probed { reference_answers: true, peer_answers });
            }
            Effect::Persist
            | Effect::Arm { .. }
            | Effect::Disarm(_)
            | Effect::Unfollow
            | Effect::Isolate(_)
            | Effect::Notice(_)
            | Effect::Bootstrap => {}
        }
    }

    fn activate(&self, world: &mut World, me: Member, epoch: Epoch) {
        self.cover_promotion(world, me, epoch);
        let node = &mut world.nodes[usize::from(me) - 1];
        node.log.push(epoch, 0);
        node.active = Some(epoch);
        node.told = 0;
        let (log, base) = (node.log, node.member.status(0).commit);
        if world.reign(epoch).is_some() {
            world.bad = Some("an epoch has begun twice");
        }
        world.reigns.push(Reign { epoch, log, commit: 0, paired: 0, base, forced: false });
        world.reigns.sort_by_key(|reign| reign.epoch);
        self.step(world, me, Input::Started { epoch, index: log.len() });
    }

    /// An active acknowledges, or a standby applies.
    fn commit(&self, world: &mut World, me: Member, index: u64) {
        let node = world.nodes[usize::from(me) - 1].clone();
        if index > node.synced {
            world.bad = Some("committed what is not fsynced");
        }
        let Some(epoch) = node.active else {
            let epoch = node.member.durable().epoch;
            let known = world
                .reign(epoch)
                .is_some_and(|reign| reign.commit.max(reign.base) >= index && node.log.is_in(index, &reign.log));
            if !known && !self.config.excuses() {
                world.bad = Some("a standby applied what its active has not committed");
            }
            return;
        };
        self.cover_commit(world, &node, index);
        let alone = node.member.acknowledges_alone();
        // What is acknowledged on the operator's word alone is at risk, as he was told, until it is recorded.
        let excused = self.config.excuses()
            && (node.member.status(0).forced || world.reigns.iter().any(|later| later.epoch > epoch && later.forced));
        if let Some(reign) = world.reign_mut(epoch) {
            if !excused {
                reign.commit = reign.commit.max(index);
            }
            if !alone {
                reign.paired = reign.paired.max(index);
            }
        }
        self.apply_memberships(world, me, index);
    }

    /// A record that changes who belongs to the pair is committed: the active goes by it now.
    fn apply_memberships(&self, world: &mut World, me: Member, index: u64) {
        let number = world.nodes[usize::from(me) - 1].log.membership(index);
        if number > 0 && self.config.executor != Some(Executor::TellsMembersEarly) {
            self.tell_members(world, me, number);
        }
    }

    pub(crate) fn tell_members(&self, world: &mut World, me: Member, number: usize) {
        let membership = self.config.memberships[number];
        let witness = membership.witness;
        let input = match membership.peer_of(me) {
            Some(peer) => Input::Members { peer, witness },
            None => Input::Removed,
        };
        self.step(world, me, input);
    }

    /// The log is cut directly before the fork, and the member built anew.
    fn rewind(&self, world: &mut World, me: Member, fork: u64) {
        let node = &mut world.nodes[usize::from(me) - 1];
        if node.synced >= fork {
            self.cover("an fsynced tail was cut at the fork");
        }
        if !self.config.memberships[0].has_witness() {
            world.quarantine.push(node.log);
            world.quarantine.sort_by_key(|log| format!("{log:?}"));
            world.quarantine.dedup();
        }
        let cut = if self.config.executor == Some(Executor::CutsBelowFork) { fork.saturating_sub(2) } else { fork - 1 };
        self.restart(world, me, cut);
    }

    /// Starts the member anew from its durable state, with the first `keep` records of its log.
    pub(crate) fn restart(&self, world: &mut World, me: Member, keep: u64) {
        let node = &mut world.nodes[usize::from(me) - 1];
        let log = node.log.cut(keep);
        let synced = node.synced.min(keep);
        let durable = *node.member.durable();
        *node = self.fresh(me, durable, (log, synced));
        let number = log.membership(log.len()).max(self.joined_with(me));
        if self.config.memberships.len() > 1 {
            self.tell_members(world, me, number);
        }
        self.step(world, me, Input::Start);
    }

    pub(crate) fn fresh(&self, me: Member, durable: Durable, (log, synced): (Log, u64)) -> Node {
        let settings = Settings::default();
        let member = DataMember::new(me, durable, log.end(synced), settings).broken_by(self.config.mutation);
        Node { member, log, synced, active: None, held: false, up: true, told: 0 }
    }

    /// A record of the active's log (or a comparison with it) arrives at a follower: with the hash of the record before.
    pub(crate) fn ship(&self, world: &mut World, me: Member, (epoch, index): (Epoch, u64)) {
        self.heed(world, me, epoch);
        let Some(reign) = world.reign(epoch).copied() else { return };
        let node = &mut world.nodes[usize::from(me) - 1];
        if node.member.following() != Some(epoch.member()) || node.member.durable().epoch != epoch {
            return;
        }
        let common = node.log.common(&reign.log);
        if common < index - 1 {
            return;
        }
        let has = node.log.len() >= index;
        let late = self.config.executor == Some(Executor::TellsMembersLate);
        let mut relation = Relation::Equal { index };
        if has && common < index {
            relation = Relation::Fork { index };
        } else if !has {
            let kind = reign.log.kind(index);
            node.log.push(reign.log.epoch(index), kind);
            if kind > 0 && !late {
                self.tell_members(world, me, kind);
            }
        } else if self.config.executor == Some(Executor::CutsAtMessageEnd) && node.log.len() > index {
            node.log = node.log.cut(index);
            node.synced = node.synced.min(index);
            let log = node.log.end(node.synced);
            self.step(world, me, Input::Synced { log });
        }
        self.step(world, me, Input::Compared { epoch, relation, commit: 0 });
    }

    /// The active of this epoch is heard, if that is news.
    fn heed(&self, world: &mut World, me: Member, epoch: Epoch) {
        let node = &world.nodes[usize::from(me) - 1];
        if node.member.following() == Some(epoch.member()) && node.member.durable().epoch == epoch {
            return;
        }
        let pairing = if self.config.memberships[0].has_witness() {
            holdfast::core::failover::Pairing::default()
        } else {
            // The first that it said in this epoch.
            let said = world.net.iter().find_map(|(from, to, message)| match message {
                Message::Heartbeat { epoch: own, pairing, active: true, .. }
                    if *own == epoch && (*from, *to) == (epoch.member(), me) =>
                {
                    Some(*pairing)
                }
                _ => None,
            });
            match said {
                Some(pairing) => pairing,
                None => return,
            }
        };
        let message =
            Message::Heartbeat { epoch, active: true, log: LogEnd::default(), commit: 0, pairing, away: false };
        self.step(world, me, Input::Received { from: epoch.member(), message });
    }

    /// What a full bootstrap has built beside the own log replaces it.
    pub(crate) fn swap(&self, world: &mut World, me: Member, (epoch, len): (Epoch, u64)) {
        let Some(reign) = world.reign(epoch).copied() else { return };
        let node = &mut world.nodes[usize::from(me) - 1];
        let common = node.log.common(&reign.log);
        let reaches = reign.log.start(epoch).is_some_and(|start| len >= start.max(common));
        let early = self.config.executor == Some(Executor::SwapsTooEarly);
        if common == node.log.len() || common == reign.log.len() || !(reaches || early) {
            return;
        }
        self.cover("a bootstrapped log was put into force");
        node.log = reign.log.cut(len);
        node.synced = len;
        self.restart(world, me, len);
    }

    fn send(&self, world: &mut World, (from, to): (Member, Member), message: Message) {
        let has_witness = self.config.memberships.iter().any(crate::config::Membership::has_witness);
        let message = match message {
            // Who has which epoch may be learned at any time: `Act::Learn`.
            Message::Stale { .. } => return,
            Message::VoteAnswer { granted: false, .. } | Message::PreVoteAnswer { granted: false, .. } => return,
            Message::PreVote { .. } | Message::PreVoteAnswer { .. } if !self.config.pre_votes => return,
            Message::Heartbeat { .. } if to >= FIRST_WITNESS => return,
            Message::Heartbeat { active: false, pairing, epoch, .. } if from >= FIRST_WITNESS => {
                Message::PairingIs { epoch, pairing }
            }
            Message::Heartbeat { active: false, .. } if has_witness => return,
            Message::Heartbeat { epoch, active, commit, mut pairing, away, .. } => {
                if has_witness {
                    pairing = holdfast::core::failover::Pairing::default();
                }
                Message::Heartbeat { epoch, active, log: LogEnd::default(), commit, pairing, away }
            }
            Message::Vote { epoch, handed_over, .. } if self.config.executor == Some(Executor::ClaimsUnsynced) => {
                let node = &world.nodes[usize::from(from) - 1];
                Message::Vote { epoch, log: node.log.end(node.log.len()), handed_over }
            }
            other => other,
        };
        world.post((from, to, forget_from(message)));
    }

    fn noticed(&self, world: &mut World, (me, before): (Member, &Durable), notice: Notice) {
        let Notice::Promoted { unvoted, blind, forced, epoch } = notice else { return };
        let node = &world.nodes[usize::from(me) - 1];
        let behind = matches!(before.pairing.state,
            holdfast::core::failover::PairingState::Solo { epoch, .. } if epoch.member() != me);
        if unvoted && !forced && behind && !before.was_active {
            world.bad = Some("promoted itself although its record names the other one");
        }
        if forced {
            self.excuse(world, me, epoch);
        } else if unvoted && !blind {
            self.cover("a standby promoted itself");
            // The record before this one, in its own log, is what it had: it reached what it was told.
            if node.told > node.log.len() - 1 {
                world.bad = Some("promoted itself although it lacks what it knew to be committed");
            }
        } else if unvoted {
            self.cover("a restarted node promoted itself");
        }
    }

    /// `promote --force`: what the node lacks may be lost, and so may what older actives acknowledge from now on.
    fn excuse(&self, world: &mut World, me: Member, epoch: Epoch) {
        self.cover("promoted by force");
        let log = world.nodes[usize::from(me) - 1].log;
        for reign in &mut world.reigns {
            if reign.epoch < epoch {
                reign.commit = reign.commit.min(reign.log.common(&log));
            } else if reign.epoch == epoch {
                reign.forced = true;
            }
        }
    }

    /// Whether somebody is a candidate of this epoch.
    pub(crate) fn stands(world: &World, epoch: Epoch) -> bool {
        world
            .node(epoch.member())
            .is_some_and(|node| node.member.durable().epoch == epoch && node.member.status(0).role == Role::Candidate)
    }
}

/// From which record on a node goes on alone is for people.
fn forget_from(message: Message) -> Message {
    use holdfast::core::failover::PairingState::Solo;
    match message {
        Message::ChangePairing { epoch, base, state: Solo { epoch: solo, .. } } => {
            Message::ChangePairing { epoch, base, state: Solo { epoch: solo, from: 0 } }
        }
        Message::Heartbeat { epoch, active, log, commit, mut pairing, away } => {
            if let Solo { from, .. } = &mut pairing.state {
                *from = 0;
            }
            Message::Heartbeat { epoch, active, log, commit, pairing, away }
        }
        other => other,
    }
}

/// What depends on a durable state must come behind its `Persist`.
fn judge_order(world: &mut World, effects: &[Effect]) {
    let wrote = effects.iter().position(|effect| *effect == Effect::Persist);
    let acted = effects.iter().position(|effect| {
        matches!(
            effect,
            Effect::Send { .. }
                | Effect::Activate { .. }
                | Effect::Commit { .. }
                | Effect::Follow { .. }
                | Effect::Rewind { .. }
        )
    });
    let count = effects.iter().filter(|effect| **effect == Effect::Persist).count();
    if wrote.is_none() || count != 1 || acted.is_some_and(|acted| wrote > Some(acted)) {
        world.bad = Some("acted before it was durable");
    }
}
