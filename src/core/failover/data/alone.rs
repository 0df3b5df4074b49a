//! A pair without a witness: when one of the two may go on although nobody votes.
//!
//! Nobody can tell a dead peer from a dead link. So both may be active in a partition; nothing is lost by that, the
//! tails are merged. What is checked here only makes it rare.

use super::{DataMember, Effect, Notice, PairingState, Standby, State, Timer, WaitingFor};
use crate::core::failover::Mutation;
use crate::core::failover::data::votes::Promotion;

impl DataMember {
    /// Waits for so long for the peer, before promoting itself is thought of. Only without a witness.
    pub(super) fn arm_promotion(&mut self, after_ms: u64) {
        if self.durable.witness.is_none() && self.durable.peer.is_some() {
            self.arm(Timer::PromoteAfter, after_ms);
        }
    }

    /// How long: twice as long when it does not know up to where an active acknowledged.
    pub(super) fn promotion_delay_ms(&self) -> u64 {
        self.settings.promote_after_ms * if self.durable.was_active || self.knows_enough() { 1 } else { 2 }
    }

    /// Whether it follows, and its log was compared up to where the active said that it had committed.
    fn knows_enough(&self) -> bool {
        let State::Standby(standby) = &self.state else { return false };
        standby.following && standby.matched.min(self.log.index) >= standby.told
    }

    pub(super) fn peer_is_silent(&mut self) {
        if self.durable.witness.is_some() || self.durable.peer.is_none() {
            return;
        }
        match &mut self.state {
            State::Active(_) => return,
            State::Candidate => self.state = State::Standby(Standby { probing: true, ..Standby::default() }),
            State::Standby(standby) => standby.probing = true,
        }
        self.arm_promotion(self.settings.fail_after_ms);
        if let Some(why) = self.reason_to_wait() {
            self.stop_probing();
            self.wait_for(why);
        } else {
            self.emit(Effect::Probe);
        }
    }

    fn stop_probing(&mut self) {
        if let State::Standby(standby) = &mut self.state {
            standby.probing = false;
        }
    }

    /// Why it may not promote itself, whatever answers.
    fn reason_to_wait(&self) -> Option<WaitingFor> {
        let State::Standby(standby) = &self.state else { return Some(WaitingFor::AVote) };
        let (pairing, peer) = (self.durable.pairing, self.durable.peer?);
        let solo = matches!(pairing.state, PairingState::Solo { epoch, .. } if epoch.member() == self.me);
        if self.durable.was_active {
            // It resumes. That the peer went on alone meanwhile is possible only by somebody's word, if it is switched
            // off.
            return (!self.settings.auto_promote && !solo).then_some(WaitingFor::TheOperator);
        }
        if !pairing.is_paired(self.me, peer) && self.mutation != Some(Mutation::PromotesBehindSolo) {
            return Some(WaitingFor::TheOther);
        }
        // Long enough but not compared yet is no reason to wait for ever: then it is as blind as after a restart.
        if standby.following && self.log.index < standby.told {
            return Some(WaitingFor::Records);
        }
        (!self.settings.auto_promote).then_some(WaitingFor::TheOperator)
    }

    /// Tells once what is waited for.
    pub(super) fn wait_for(&mut self, why: WaitingFor) {
        if self.waiting != Some(why) {
            self.waiting = Some(why);
            self.notice(Notice::Waiting(why));
        }
    }

    pub(super) fn probed(&mut self, reference_answers: bool, peer_answers: bool) {
        let blind = !self.knows_enough();
        match &mut self.state {
            State::Standby(standby) => {
                if std::mem::replace(&mut standby.probing, false) {
                    self.standby_probed((reference_answers, peer_answers), blind);
                }
            }
            State::Active(active) => {
                if std::mem::replace(&mut active.probing, false) {
                    let overdue = active.overdue;
                    self.active_probed(reference_answers, overdue);
                }
            }
            State::Candidate => {}
        }
    }

    fn standby_probed(&mut self, answers: (bool, bool), blind: bool) {
        let why = match answers {
            (false, _) => Some(WaitingFor::Reference),
            (true, true) => Some(WaitingFor::PeerAlive),
            (true, false) => self.reason_to_wait(),
        };
        match why {
            Some(why) => self.wait_for(why),
            None => self.take_over(Promotion { unvoted: true, blind, ..Promotion::default() }),
        }
    }

    fn active_probed(&mut self, reference_answers: bool, overdue: bool) {
        if !reference_answers {
            self.isolate();
            return self.arm(Timer::Lease, self.settings.lease_ms);
        }
        self.end_isolation();
        if overdue {
            self.record_solo();
        }
    }

    /// The standby is overdue, and there is nobody to ask: goes on alone, unless the fault seems to be on this side.
    pub(super) fn go_alone(&mut self) {
        if self.settings.reference {
            self.look_for_reference();
        } else {
            self.record_solo();
        }
    }

    pub(super) fn look_for_reference(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        if self.settings.reference && !std::mem::replace(&mut active.probing, true) {
            self.emit(Effect::Probe);
        }
    }
}
