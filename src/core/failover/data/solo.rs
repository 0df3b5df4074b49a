//! Going on alone, and coming together again. With a witness its record decides, without one the own.
//!
//! The one danger: the witness elects the standby blindly while its record says Paired. So the active needs the
//! standby's acks from the moment a request for Paired may be on its way, until the witness has answered with a record
//! that this request can no longer change.

use super::{Active, DataMember, Message, Mutation, Notice, Pairing, PairingState, State, Timer};

/// How many heartbeats the witness may leave unanswered before it counts as not heard: fewer than pass in `solo_after`.
const UNHEARD_BEATS_MAX: u8 = 2;

impl DataMember {
    /// The standby is overdue (or the operator said so): asks for the right to go on alone.
    pub(super) fn ask_alone(&mut self) {
        let State::Active(active) = self.state else { return };
        let Some(witness) = self.durable.witness else { return self.go_alone() };
        // One that is not heard cannot entitle. But it may hear the request and grant it, and from then on nobody else
        // could be elected: an active that is heard and hears nobody would be the end of the pair.
        if self.unheard_beats > UNHEARD_BEATS_MAX && self.mutation != Some(Mutation::AsksUnheard) {
            return;
        }
        // Before the witness was heard in this epoch nobody knows which version to ask on.
        if let Some(known) = active.known {
            let epoch = self.durable.epoch;
            let state = PairingState::Solo { epoch, from: active.exposed_from() };
            self.send(witness, Message::ChangePairing { epoch, base: known.version, state });
        }
    }

    /// Repeats what may have been lost, at every heartbeat.
    pub(super) fn repeat_requests(&mut self) {
        let State::Active(active) = self.state else { return };
        if (active.overdue || active.forced) && !active.solo && !active.probing {
            self.ask_alone();
        }
        if active.pending.is_some() {
            self.request_paired();
        } else {
            self.ask_paired();
        }
    }

    /// Comes together again as soon as the standby holds everything: up to the own `EpochStarted` record (what earlier
    /// epochs acknowledged), and all that this epoch acknowledged.
    pub(super) fn ask_paired(&mut self) {
        let State::Active(active) = self.state else { return };
        let Some(peer) = self.durable.peer else { return };
        let everything = match self.mutation {
            Some(Mutation::CaughtUpWithAcknowledged) => active.started.min(self.commit).max(1),
            _ => active.started.max(self.commit),
        };
        let caught_up = active.started > 0 && active.acked >= everything;
        let by_mistake = self.mutation == Some(Mutation::NewPeerIsPaired) && active.started > 0;
        if active.pending.is_some() || active.away || !(caught_up || by_mistake) {
            return;
        }
        let record = if self.durable.witness.is_some() { active.known } else { Some(self.durable.pairing) };
        let Some(record) = record.filter(|record| !record.is_paired(self.me, peer)) else { return };
        self.need_acks(record.version);
        if self.durable.witness.is_some() {
            self.request_paired();
        } else {
            self.record(PairingState::Paired { standby: peer });
            self.notice(Notice::Paired);
        }
        self.watch_acks();
    }

    /// From now on every ack needs the standby.
    fn need_acks(&mut self, base: u64) {
        let early = self.mutation == Some(Mutation::AloneUntilAnswered);
        let witness = self.durable.witness.is_some();
        let State::Active(active) = &mut self.state else { return };
        active.closing = false;
        active.forced = false;
        active.solo &= early;
        active.pending = witness.then_some(base);
        self.seen.exposed_ms = None;
    }

    fn request_paired(&mut self) {
        let State::Active(Active { pending: Some(base), .. }) = self.state else { return };
        let (Some(witness), Some(standby)) = (self.durable.witness, self.durable.peer) else { return };
        let epoch = self.durable.epoch;
        self.send(witness, Message::ChangePairing { epoch, base, state: PairingState::Paired { standby } });
    }

    /// Under load the standby would always be one batch behind: when it is less than a heartbeat behind, it is waited for.
    pub(super) fn close_up(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        let near = active.started > 0 && active.acked >= active.started.max(active.commit_at_beat);
        let waits = active.closing || active.away || active.pending.is_some();
        if (active.solo || active.forced) && near && !waits {
            active.closing = true;
            self.watch_acks();
        }
    }

    /// The witness tells its record, in the present epoch.
    pub(super) fn witness_says(&mut self, pairing: Pairing) {
        self.seen.witness_empty = pairing.version == 0;
        let any = self.mutation == Some(Mutation::AnyAnswerCounts);
        let epoch = self.durable.epoch;
        let State::Active(active) = &mut self.state else { return self.keep_copy(pairing) };
        if active.known.is_some_and(|known| pairing.version < known.version) {
            return;
        }
        if active.pending.is_some_and(|base| pairing.version <= base && !any) {
            // However fresh: the request may still arrive.
            return;
        }
        let (was_solo, news) = (active.solo, active.known.is_none_or(|known| known.version != pairing.version));
        active.known = Some(pairing);
        active.pending = None;
        active.solo = match pairing.state {
            PairingState::Solo { epoch: solo, .. } if self.mutation == Some(Mutation::AnySoloEntitles) => {
                solo.member() == self.me
            }
            PairingState::Solo { epoch: solo, .. } => solo == epoch,
            PairingState::Paired { .. } => false,
        };
        let solo = active.solo;
        if solo {
            // The record counts from now on, not the operator's word; and what was asked for is granted. Asked again after
            // every answer, the two would never stop to replace one record by the other.
            active.forced = false;
            active.overdue = false;
        }
        self.keep_copy(pairing);
        if solo && !was_solo {
            self.exposed(pairing);
        } else if news && self.durable.peer.is_some_and(|peer| pairing.is_paired(self.me, peer)) {
            self.notice(Notice::Paired);
        }
        self.after_answer();
    }

    fn after_answer(&mut self) {
        self.try_commit();
        let State::Active(active) = self.state else { return };
        self.ask_paired();
        if (active.overdue || active.forced) && !active.solo {
            self.ask_alone();
        }
    }

    /// From now on records are acknowledged that the other node may lack.
    pub(super) fn exposed(&mut self, pairing: Pairing) {
        if let PairingState::Solo { from, .. } = pairing.state {
            self.notice(Notice::Solo { from });
        }
        self.seen.exposed_ms = Some(self.seen.now_ms);
    }

    /// The copy of the witness's record: for people, and for the day the witness is taken out.
    fn keep_copy(&mut self, pairing: Pairing) {
        self.dirty |= self.durable.pairing != pairing;
        self.durable.pairing = pairing;
    }

    /// Without a witness: the record is the node's own. The peer gets a copy.
    pub(super) fn record(&mut self, state: PairingState) {
        let version = self.durable.pairing.version + 1;
        self.durable.pairing = Pairing { version, epoch: self.durable.epoch, active: self.me, state };
        self.dirty = true;
        if let Some(peer) = self.durable.peer {
            self.send_heartbeat(peer);
        }
    }

    /// Without a witness: records that it acknowledges alone, and does.
    pub(super) fn record_solo(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        let state = PairingState::Solo { epoch: self.durable.epoch, from: active.exposed_from() };
        active.solo = true;
        active.closing = false;
        active.overdue = false;
        if self.mutation == Some(Mutation::SoloUnrecorded) {
            self.try_commit();
        }
        self.record(state);
        self.exposed(self.durable.pairing);
        self.try_commit();
    }

    /// Without a witness the pairing is ordered by (epoch, version); the copy of an active is its own.
    pub(super) fn learn_pairing(&mut self, pairing: Pairing) {
        let own = &mut self.durable.pairing;
        if !matches!(self.state, State::Active(_)) && (pairing.epoch, pairing.version) > (own.epoch, own.version) {
            *own = pairing;
            self.dirty = true;
        }
    }

    pub(super) fn isolate(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        if !std::mem::replace(&mut active.isolated, true) {
            self.emit(super::Effect::Isolate(true));
            self.notice(Notice::Isolated);
            // Heard perhaps although it hears nobody: then somebody takes over at once.
            self.announce = true;
        }
    }

    pub(super) fn end_isolation(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        if std::mem::replace(&mut active.isolated, false) {
            self.emit(super::Effect::Isolate(false));
            self.notice(Notice::Reached);
            self.announce = true;
            self.try_commit();
        }
    }

    /// Nobody was heard for `lease`.
    pub(super) fn lease_is_over(&mut self) {
        let State::Active(active) = &self.state else { return };
        if self.is_lone() || active.forced {
            return;
        }
        if active.heard {
            return self.arm(Timer::Lease, self.settings.lease_ms);
        }
        if self.durable.witness.is_some() {
            self.isolate();
        } else {
            self.look_for_reference();
        }
    }

    /// The operator's word.
    pub(super) fn force(&mut self) {
        let lone = self.is_lone();
        let State::Active(active) = &mut self.state else { return self.force_promotion() };
        let (isolated, has_witness) = (active.isolated, self.durable.witness.is_some());
        if lone || ((active.solo || active.forced) && !isolated) {
            return self.notice(Notice::ForceNotNeeded);
        }
        active.forced = true;
        active.closing = false;
        self.end_isolation();
        if has_witness {
            self.ask_alone();
            let from = if let State::Active(active) = &self.state { active.exposed_from() } else { 0 };
            self.notice(Notice::Solo { from });
            self.seen.exposed_ms = Some(self.seen.now_ms);
            self.try_commit();
        } else {
            self.record_solo();
        }
    }
}

impl Active {
    /// The first record that the standby may lack. For people.
    pub(super) const fn exposed_from(&self) -> u64 {
        if self.acked >= self.started { self.acked + 1 } else { self.started }
    }
}
