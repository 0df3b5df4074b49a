//! Who belongs to the pair: joining, leaving, another witness.
//!
//! What makes a change safe lies in when it is told (see `Input::Members`): a record that takes a node or a witness out
//! is committed either with the standby's ack, and then the standby goes by it already, or while the old witness's
//! record names only this node, which it does for ever, as nobody asks it any more.

use super::{Active, DataMember, Effect, Hold, Member, PairingState, Standby, State, Timer};

impl DataMember {
    pub(super) fn change_members(&mut self, peer: Option<Member>, witness: Option<Member>) {
        let old = (self.durable.peer, self.durable.witness);
        if old == (peer, witness) && !self.durable.removed {
            return;
        }
        let was_lone = self.is_lone();
        self.durable.removed = false;
        self.durable.peer = peer;
        self.durable.witness = witness;
        self.dirty = true;
        if old.0 != peer {
            self.seen.peer_ms = None;
            self.seen.peer_away = false;
        }
        if old.1 != witness {
            self.seen.witness_ms = None;
            self.seen.witness_empty = false;
            self.unheard_beats = 0;
        }
        match self.state {
            State::Active(active) => self.active_members_changed(active, old, was_lone),
            // Its follower goes on when the active is still the peer.
            State::Standby(_) | State::Candidate => {
                if old.0 != peer && !matches!(self.state, State::Standby(Standby { following: false, .. })) {
                    self.become_standby();
                }
                self.arm_promotion(self.promotion_delay_ms());
            }
        }
    }

    fn active_members_changed(&mut self, mut active: Active, old: (Option<Member>, Option<Member>), was_lone: bool) {
        let (peer, witness) = (self.durable.peer, self.durable.witness);
        let was_alone = was_lone || active.solo || active.forced;
        if old.0 != peer {
            // What is known of the witness stays: a request to it may still be under way.
            active.acked = 0;
            active.closing = false;
            active.away = false;
        }
        if old.1 != witness {
            // What was agreed with the old one means nothing to the new one, and nothing can be under way to it.
            active.known = None;
            active.pending = None;
            active.solo = false;
        }
        let held = std::mem::take(&mut active.hold) != Hold::None;
        if peer.is_some() && witness.is_some() {
            // Nothing has to wait first: nobody is paired, or the new witness knows nothing yet.
            active.overdue = (old.0 != peer || was_alone) && !active.solo;
        }
        self.state = State::Active(active);
        if held {
            self.disarm(Timer::Switchover);
            self.emit(Effect::HoldWrites(false));
        }
        if self.is_lone() {
            self.end_isolation();
        } else if was_lone {
            self.arm(Timer::Heartbeat, self.settings.heartbeat_ms);
            self.arm(Timer::Lease, self.settings.lease_ms);
        }
        match (peer, witness) {
            (_, Some(_)) => self.after_members(),
            (Some(peer), None) if old.0 == Some(peer) && !was_alone => {
                self.record(PairingState::Paired { standby: peer });
            }
            (Some(_), None) => self.record_solo(),
            (None, None) => self.try_commit(),
        }
        self.send_heartbeats();
    }

    fn after_members(&mut self) {
        let State::Active(active) = self.state else { return };
        if active.overdue {
            self.ask_alone();
        }
        self.try_commit();
    }

    /// The own log says that this node is out.
    pub(super) fn remove(&mut self) {
        if self.durable.removed {
            return;
        }
        self.durable.removed = true;
        self.dirty = true;
        self.become_standby();
        for timer in [Timer::Heartbeat, Timer::ActiveSilence, Timer::PromoteAfter, Timer::Candidacy] {
            self.disarm(timer);
        }
    }
}
