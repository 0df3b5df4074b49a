//! The fence: when a record counts, on the active and on the standby.

use super::{
    Active, DataMember, Effect, Epoch, LogEnd, Member, Message, Mutation, Notice, Pairing, Standby, State, Timer,
};
use crate::core::failover::Relation;

impl DataMember {
    /// The active goes on alone: nobody else is there, the record says so, or the operator.
    pub(in crate::core::failover) const fn alone(&self, active: &Active) -> bool {
        self.is_lone() || ((active.solo || active.forced) && !active.closing)
    }

    pub(super) fn written(&mut self, index: u64) {
        if let State::Active(active) = &mut self.state
            && index > active.written
        {
            active.written = index;
            self.watch_acks();
        }
    }

    pub(super) fn synced(&mut self, log: LogEnd) {
        let before = self.acknowledgeable();
        self.log = log;
        match self.state {
            State::Active(_) => {
                self.try_commit();
                self.hand_over();
            }
            State::Standby(_) => self.grown(before),
            State::Candidate => {}
        }
    }

    pub(super) fn epoch_started(&mut self, epoch: Epoch, index: u64) {
        let State::Active(active) = &mut self.state else { return };
        if epoch == self.durable.epoch && active.started == 0 {
            active.started = index;
            active.written = active.written.max(index);
            self.watch_acks();
            self.try_commit();
        }
    }

    pub(super) fn compared(&mut self, epoch: Epoch, relation: Relation, commit: u64) {
        let before = self.acknowledgeable();
        let own = self.durable.epoch;
        let State::Standby(standby) = &mut self.state else { return };
        if epoch != own || !standby.following || standby.rebuilding {
            return;
        }
        match relation {
            Relation::Equal { index } => {
                standby.matched = standby.matched.max(index);
                standby.told = standby.told.max(commit);
                self.grown(before);
            }
            // What was compared equal in this epoch is no fork, whatever a late message says.
            Relation::Fork { index } if index > standby.matched => {
                standby.rebuilding = true;
                self.emit(Effect::Rewind { fork: index });
                self.notice(Notice::Diverged { fork: index });
            }
            Relation::Fork { .. } => {}
            Relation::TooOld => {
                standby.rebuilding = true;
                self.emit(Effect::Bootstrap);
                self.notice(Notice::Bootstrapping);
            }
        }
    }

    /// Up to where the standby may acknowledge: compared equal in this epoch, and fsynced.
    pub(super) fn acknowledgeable(&self) -> u64 {
        let State::Standby(Standby { following: true, rebuilding: false, matched, .. }) = self.state else { return 0 };
        match self.mutation {
            Some(Mutation::AckUncompared) => self.log.index,
            Some(Mutation::AckUnsynced) => matched,
            _ => matched.min(self.log.index),
        }
    }

    /// The standby's log was fsynced or compared further.
    fn grown(&mut self, before: u64) {
        if self.acknowledgeable() > before {
            self.send_ack();
        }
        self.standby_commits();
    }

    pub(super) fn send_ack(&mut self) {
        let index = self.acknowledgeable();
        if index > 0 {
            let epoch = self.durable.epoch;
            self.send(epoch.member(), Message::Ack { epoch, index });
        }
    }

    /// What the active has committed may be applied, as far as the own log holds it for certain.
    fn standby_commits(&mut self) {
        let State::Standby(standby) = self.state else { return };
        let index = standby.told.min(standby.matched).min(self.log.index);
        if standby.following && index > self.commit {
            self.commit = index;
            self.emit(Effect::Commit { index });
        }
    }

    /// The peer is heard: `said` is who it is and whether it says that it is active.
    pub(super) fn peer_beats(&mut self, said: (Member, bool), log: LogEnd, told: (u64, Pairing)) {
        let ((from, active), (commit, pairing)) = (said, told);
        self.seen.peer_log = log;
        self.seen.peer_commit = commit;
        if self.durable.witness.is_none() {
            self.learn_pairing(pairing);
        }
        if self.durable.epoch.member() == from {
            if active { self.follow(from, commit) } else { self.active_resigned() }
        }
    }

    /// The active that it follows says that it is not active any more: it hears nobody, is about to stop, or was started
    /// again. There is nothing to wait for. Votes decide, so that a late message costs nothing.
    fn active_resigned(&mut self) {
        if matches!(self.state, State::Standby(Standby { following: true, asking: false, .. })) {
            self.ask();
        }
    }

    /// The peer says whether its acks are worth waiting for. This decides only for how long: whether the active may go on
    /// alone is asked for and recorded as ever. It may come late, when the peer is back already: then the next heartbeat
    /// takes it back.
    pub(super) fn peer_is_away(&mut self, away: bool) {
        self.seen.peer_away = away;
        let State::Active(active) = &mut self.state else { return };
        if std::mem::replace(&mut active.away, away) == away {
            return;
        }
        if self.mutation == Some(Mutation::GoodbyeEntitles) && away {
            active.solo = true;
            return self.try_commit();
        }
        if away {
            self.watch_acks();
        } else {
            // What it acknowledged before it went may be all there is.
            self.ask_paired();
        }
    }

    fn follow(&mut self, from: Member, commit: u64) {
        let State::Standby(standby) = &mut self.state else { return };
        let first = !standby.following;
        *standby =
            Standby { following: true, asking: false, probing: false, told: standby.told.max(commit), ..*standby };
        if first {
            // Another one is active: this one does not resume by itself any more.
            self.dirty |= self.durable.was_active;
            self.durable.was_active = false;
            self.waiting = None;
            let epoch = self.durable.epoch;
            self.emit(Effect::Follow { active: from, epoch });
            self.disarm(Timer::Candidacy);
            self.notice(Notice::Following { active: from, epoch });
            self.arm_promotion(self.settings.promote_after_ms);
        }
        self.arm_silence(0);
        self.standby_commits();
    }

    /// The standby has everything up to here.
    pub(super) fn acked(&mut self, index: u64) {
        let State::Active(active) = &mut self.state else { return };
        if index <= active.acked {
            return;
        }
        active.acked = index;
        active.hurry = false;
        self.ask_paired();
        self.try_commit();
        self.close_up();
        self.hand_over();
    }

    /// Commits what may be committed.
    pub(super) fn try_commit(&mut self) {
        let State::Active(active) = &self.state else { return };
        let started = active.started > 0 || self.mutation == Some(Mutation::NoEpochStarted);
        if !started || active.isolated {
            return;
        }
        let index = if self.alone(active) { self.log.index } else { self.log.index.min(active.acked) };
        let begun = index >= active.started || self.mutation == Some(Mutation::NoEpochStarted);
        if begun && index > self.commit {
            self.commit = index;
            self.emit(Effect::Commit { index });
        }
        self.watch_acks();
    }

    /// Keeps the timer of the oldest record that waits for the standby.
    pub(super) fn watch_acks(&mut self) {
        let State::Active(active) = &self.state else { return };
        let waits = active.started > 0 && self.commit < active.written && !self.alone(active);
        let (watched, written, hurry) = (active.watched, active.written, active.hurry);
        if !waits {
            if watched > 0 {
                self.unwatch();
            }
        } else if watched == 0 || self.commit >= watched {
            let after_ms = if hurry { self.settings.heartbeat_ms } else { self.settings.solo_after_ms };
            self.arm(Timer::AckOverdue, after_ms);
            if let State::Active(active) = &mut self.state {
                active.watched = written;
                active.overdue &= watched == 0;
            }
        }
        if waits {
            self.expect_no_ack();
        }
    }

    /// A record waits for a peer that said that it acknowledges nothing: what is otherwise done after `solo_after` is done
    /// at once.
    fn expect_no_ack(&mut self) {
        let State::Active(active) = &self.state else { return };
        if active.away && !active.overdue && !active.probing && active.acked < self.log.index {
            self.arm(Timer::AckOverdue, 0);
        }
    }

    fn unwatch(&mut self) {
        self.disarm(Timer::AckOverdue);
        if let State::Active(active) = &mut self.state {
            active.watched = 0;
            active.overdue = false;
        }
    }

    pub(super) fn ack_is_overdue(&mut self) {
        let lone = self.is_lone();
        let State::Active(active) = &mut self.state else { return };
        active.watched = 0;
        let waits = active.started > 0 && self.commit < active.written && !lone;
        if waits && active.closing {
            active.closing = false;
            return self.try_commit();
        }
        if !waits || active.solo || active.forced {
            return;
        }
        if active.acked >= self.log.index {
            // The own disk is the slow one: going on alone would not help.
            return self.watch_acks();
        }
        active.overdue = true;
        active.watched = active.written;
        self.ask_alone();
    }
}
