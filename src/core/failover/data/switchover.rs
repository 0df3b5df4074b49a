//! The planned switchover: the active holds writes, the standby reaches the end and stands at once, the old active's
//! vote promotes it. Nothing of it is needed for safety: the rules of votes and of acks hold all the while.

use super::{DataMember, Effect, Hold, Member, Message, Notice, State, Timer};
use crate::core::failover::Refused;

impl DataMember {
    pub(super) fn begin_switchover(&mut self) {
        let refused = match &self.state {
            _ if self.durable.peer.is_none() => Some(Refused::NoPeer),
            State::Active(active) if active.hold != Hold::None => Some(Refused::UnderWay),
            State::Active(active) if active.away => Some(Refused::PeerAway),
            State::Active(active) => {
                let holds_all = active.started > 0 && active.acked >= active.started && !active.isolated;
                (self.alone(active) || !holds_all).then_some(Refused::Exposed)
            }
            State::Standby(_) | State::Candidate => Some(Refused::NotActive),
        };
        if let Some(why) = refused {
            return self.notice(Notice::SwitchoverRefused(why));
        }
        if let State::Active(active) = &mut self.state {
            active.hold = Hold::Waiting;
        }
        self.emit(Effect::HoldWrites(true));
        self.arm(Timer::Switchover, self.settings.switchover_ms);
        // The end of the log is known only when the hold is answered: with what was on its way when it began.
        self.notice(Notice::SwitchoverBegun);
    }

    /// Asks the standby to stand as soon as it holds the last record. Repeated at every heartbeat.
    pub(super) fn hand_over(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        let Some(peer) = self.durable.peer else { return };
        if active.hold != Hold::None && active.acked.min(self.log.index) >= active.written {
            active.hold = Hold::Handed;
            let message = Message::HandOver { epoch: self.durable.epoch, index: active.written };
            self.send(peer, message);
        }
    }

    pub(super) fn switchover_failed(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        if std::mem::take(&mut active.hold) != Hold::None {
            self.emit(Effect::HoldWrites(false));
            self.notice(Notice::SwitchoverFailed);
        }
    }

    /// The active of the present epoch asks this node to stand.
    pub(super) fn handed_over(&mut self, from: Member, index: u64) {
        if self.durable.epoch.member() == from && self.acknowledgeable() >= index && index > 0 && !self.full {
            self.stand(true);
        }
    }
}
