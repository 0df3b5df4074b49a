//! Standing for election, voting, promotion.

use super::{Active, DataMember, Effect, Epoch, LogEnd, Member, Message, Mutation, Notice, Pairing};
use super::{PairingState, Standby, State, Timer, WaitingFor};

/// How a node came to be active.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promotion {
    /// Nobody voted.
    pub(super) unvoted: bool,
    /// The operator said so.
    pub(super) forced: bool,
    /// Up to where the former active acknowledged is not known.
    pub(super) blind: bool,
    /// The peer did not vote: it is not waited for as long as usual.
    pub(super) peer_gone: bool,
}

impl DataMember {
    /// Of two nodes that stand at once, the one with the lower number goes first.
    pub(super) fn stagger_ms(&self) -> u64 {
        if self.durable.peer.is_some_and(|peer| self.me > peer) { self.settings.heartbeat_ms } else { 0 }
    }

    pub(super) fn arm_silence(&mut self, stagger_ms: u64) {
        self.arm(Timer::ActiveSilence, self.settings.fail_after_ms + stagger_ms);
    }

    pub(super) fn active_is_silent(&mut self) {
        if matches!(self.state, State::Standby(Standby { asking: false, .. })) {
            self.ask();
        }
    }

    /// Asks whether it would be elected: nobody's epoch changes by that, so a node that only lost a link disturbs nobody.
    pub(super) fn ask(&mut self) {
        let State::Standby(standby) = &mut self.state else { return };
        standby.asking = true;
        if self.is_lone() {
            return self.promote_lone();
        }
        self.ask_for_pre_votes();
        self.arm(Timer::Candidacy, self.settings.heartbeat_ms * 2 + self.stagger_ms());
    }

    pub(super) fn ask_for_pre_votes(&mut self) {
        let message = Message::PreVote { epoch: self.durable.epoch.next(self.me), log: self.log };
        for to in [self.durable.peer, self.durable.witness].into_iter().flatten() {
            self.send(to, message);
        }
    }

    pub(super) fn candidacy_failed(&mut self) {
        match self.state {
            State::Active(_) | State::Standby(Standby { asking: false, .. }) => return,
            State::Candidate => self.state = State::Standby(Standby::default()),
            State::Standby(_) => {}
        }
        if self.durable.witness.is_some() {
            let solo_of_other = match self.durable.pairing.state {
                PairingState::Solo { epoch, .. } => epoch.member() != self.me,
                PairingState::Paired { .. } => false,
            };
            self.wait_for(match (self.seen.witness_empty, solo_of_other) {
                (true, _) => WaitingFor::TheWitness,
                (false, true) => WaitingFor::TheOther,
                (false, false) => WaitingFor::AVote,
            });
        }
        self.ask();
    }

    pub(super) fn pre_vote_answered(&mut self, epoch: Epoch, granted: bool) {
        let asking = matches!(self.state, State::Standby(Standby { asking: true, .. }));
        if asking && granted && epoch == self.durable.epoch.next(self.me) {
            self.stand(false);
        }
    }

    /// Makes a new epoch and asks for votes in it.
    pub(super) fn stand(&mut self, handed_over: bool) {
        self.begin_epoch();
        self.state = State::Candidate;
        self.ask_for_votes(handed_over);
        self.arm(Timer::Candidacy, self.settings.heartbeat_ms * 2 + self.stagger_ms());
    }

    /// The next epoch, with the own vote for oneself.
    fn begin_epoch(&mut self) {
        if matches!(self.state, State::Standby(Standby { following: true, .. })) {
            self.out.push(Effect::Unfollow);
        }
        self.durable.epoch = self.durable.epoch.next(self.me);
        self.durable.granted = self.me;
        self.dirty = true;
    }

    pub(super) fn ask_for_votes(&mut self, handed_over: bool) {
        let message = Message::Vote { epoch: self.durable.epoch, log: self.log, handed_over };
        for to in [self.durable.peer, self.durable.witness].into_iter().flatten() {
            self.send(to, message);
        }
    }

    /// Whether a candidate's log holds at least what the own one does: the epoch of the last record counts first.
    fn holds_enough(&self, log: LogEnd) -> bool {
        if self.mutation == Some(Mutation::VotesByIndex) { log.index >= self.log.index } else { log >= self.log }
    }

    pub(super) fn answer_pre_vote(&mut self, from: Member, epoch: Epoch, log: LogEnd) {
        let own = self.durable.epoch;
        let active = matches!(self.state, State::Active(_));
        let peer = Some(from) == self.durable.peer;
        let granted = peer && !active && epoch.member() == from && epoch >= own && self.holds_enough(log);
        self.send(from, Message::PreVoteAnswer { epoch, granted, own });
    }

    /// A vote is asked for in the present epoch, which the question may have begun. That the epoch was seen already is
    /// no obstacle: it names its only candidate.
    pub(super) fn vote(&mut self, from: Member, epoch: Epoch, log: LogEnd) {
        if epoch.member() != from || !matches!(self.state, State::Standby(_)) {
            return;
        }
        let granted = self.holds_enough(log);
        if granted {
            self.dirty |= self.durable.granted != from;
            self.durable.granted = from;
            self.arm_silence(self.stagger_ms());
        }
        self.send(from, Message::VoteAnswer { epoch, granted, own: self.durable.epoch });
    }

    /// Two of three votes promote, of two both: with the own one, one other is enough.
    pub(super) fn vote_answered(&mut self, from: Member, epoch: Epoch, granted: bool) {
        if granted && epoch == self.durable.epoch && matches!(self.state, State::Candidate) {
            let peer_gone = Some(from) != self.durable.peer;
            self.promote(Promotion { peer_gone, ..Promotion::default() });
        }
    }

    /// Nobody else is there.
    pub(super) fn promote_lone(&mut self) {
        self.begin_epoch();
        self.promote(Promotion::default());
    }

    /// Becomes active in a new epoch although nobody votes.
    pub(super) fn take_over(&mut self, how: Promotion) {
        self.begin_epoch();
        self.promote(how);
    }

    pub(super) fn force_promotion(&mut self) {
        let following = matches!(self.state, State::Standby(Standby { following: true, .. }));
        self.take_over(Promotion { unvoted: true, forced: true, blind: !following, peer_gone: true });
    }

    fn promote(&mut self, how: Promotion) {
        self.durable.was_active = true;
        self.durable.granted = self.me;
        self.dirty = true;
        let epoch = self.durable.epoch;
        let witness = self.durable.witness.is_some();
        let alone = how.unvoted && !witness;
        if let (Some(peer), false) = (self.durable.peer, witness) {
            // The own record is the one that counts: of this epoch, so that no copy of an earlier one outlives it. That
            // both hold everything is said again only if the last record said so: a standby that lacks what was
            // acknowledged alone must not take it for granted before it has caught up.
            let from = self.log.index + 1;
            let paired = !alone && self.durable.pairing.is_paired(self.me, peer);
            let state =
                if paired { PairingState::Paired { standby: peer } } else { PairingState::Solo { epoch, from } };
            let version = self.durable.pairing.version + 1;
            self.durable.pairing = Pairing { version, epoch, active: self.me, state };
        }
        self.state = State::Active(self.fresh_active(how, alone));
        self.waiting = None;
        for timer in [Timer::ActiveSilence, Timer::Candidacy, Timer::PromoteAfter] {
            self.disarm(timer);
        }
        self.emit(Effect::Activate { epoch });
        self.notice(Notice::Promoted { epoch, unvoted: how.unvoted, forced: how.forced, blind: how.blind });
        if alone || how.forced {
            self.notice(Notice::Solo { from: self.log.index + 1 });
            self.seen.exposed_ms = Some(self.seen.now_ms);
        }
        if !self.is_lone() {
            self.arm(Timer::Lease, self.settings.lease_ms);
            self.send_heartbeats();
        }
    }

    /// A promoted node needs the standby's acks, whatever any record of an earlier epoch says.
    fn fresh_active(&self, how: Promotion, alone: bool) -> Active {
        let mut active =
            Active { solo: alone, forced: how.forced && !alone, hurry: how.peer_gone, ..Active::default() };
        active.away = self.seen.peer_away;
        if self.mutation == Some(Mutation::AnySoloEntitles) && self.durable.pairing.version > 0 {
            active.known = Some(self.durable.pairing);
            active.solo |= matches!(self.durable.pairing.state,
                PairingState::Solo { epoch, .. } if epoch.member() == self.me);
        }
        active
    }

    /// Something of another member arrived.
    pub(super) fn reached(&mut self, from: Member, resigned: bool) {
        let now_ms = Some(self.seen.now_ms);
        if Some(from) == self.durable.peer {
            self.seen.peer_ms = now_ms;
        } else {
            self.seen.witness_ms = now_ms;
            self.unheard_beats = 0;
        }
        match &mut self.state {
            State::Active(active) => {
                active.heard = true;
                if active.isolated {
                    self.end_isolation();
                }
            }
            // As long as the peer is heard, votes decide.
            State::Standby(_) | State::Candidate if !resigned => self.arm_promotion(self.promotion_delay_ms()),
            State::Standby(_) | State::Candidate => {}
        }
    }
}
