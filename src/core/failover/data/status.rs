//! What an operator is shown.

use super::{DataMember, Hold, PairingState, State};
use crate::core::failover::{Contact, NotAutomatic, Role, Status};

impl DataMember {
    /// What this node knows of the pair, with `now_ms` on the clock of `step`.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Status {
        let contact =
            |member, seen: Option<u64>| Contact { member, heard_ms_ago: seen.map(|at| now_ms.saturating_sub(at)) };
        let pairing = self.shown_pairing();
        let protected = self.protected();
        let epoch = self.durable.epoch;
        let (role, active, matched) = match &self.state {
            State::Active(active) => (Role::Active, Some(self.me), active.acked),
            State::Candidate => (Role::Candidate, None, 0),
            State::Standby(standby) => {
                (Role::Standby, standby.following.then_some(epoch.member()), standby.matched.min(self.log.index))
            }
        };
        let own = if let State::Active(active) = &self.state { Some(active) } else { None };
        let exposed_from = match pairing.state {
            PairingState::Solo { from, .. } => Some(from),
            PairingState::Paired { .. } => own.map(super::Active::exposed_from),
        };
        Status {
            me: self.me,
            role,
            epoch,
            active,
            pairing,
            protected,
            exposed_ms: self.seen.exposed_ms.filter(|_| !protected).map(|at| now_ms.saturating_sub(at)),
            exposed_from: exposed_from.filter(|_| !protected && self.durable.peer.is_some()),
            isolated: own.is_some_and(|active| active.isolated),
            forced: own.is_some_and(|active| active.forced),
            peer: self.durable.peer.map(|member| contact(member, self.seen.peer_ms)),
            peer_away: self.seen.peer_away,
            witness: self.durable.witness.map(|member| contact(member, self.seen.witness_ms)),
            not_automatic: self.not_automatic(now_ms, active.is_some()),
            switchover: own.is_some_and(|active| active.hold != Hold::None),
            log: self.log,
            commit: self.commit,
            peer_log: self.seen.peer_log,
            matched,
            peer_commit: self.seen.peer_commit,
        }
    }

    /// The record that counts, as far as it is known here.
    fn shown_pairing(&self) -> crate::core::failover::Pairing {
        match &self.state {
            State::Active(active) if self.durable.witness.is_some() => active.known.unwrap_or(self.durable.pairing),
            _ => self.durable.pairing,
        }
    }

    /// Whether both hold every acknowledged record. A standby can only repeat what was recorded.
    fn protected(&self) -> bool {
        let Some(peer) = self.durable.peer else { return false };
        match &self.state {
            State::Active(active) => {
                !active.solo && !active.forced && active.started > 0 && active.acked >= active.started
            }
            State::Standby(_) | State::Candidate => self.shown_pairing().is_paired(self.me, peer),
        }
    }

    fn not_automatic(&self, now_ms: u64, has_active: bool) -> Option<NotAutomatic> {
        let heard = |seen: Option<u64>| seen.is_some_and(|at| now_ms.saturating_sub(at) <= self.settings.fail_after_ms);
        if self.durable.peer.is_none() {
            return Some(NotAutomatic::NoStandby);
        }
        if !has_active {
            return Some(NotAutomatic::NoActive);
        }
        if !heard(self.seen.peer_ms) {
            return Some(NotAutomatic::PeerSilent);
        }
        let with_witness = self.durable.witness.is_some();
        if with_witness && self.seen.witness_empty {
            return Some(NotAutomatic::WitnessUninformed);
        }
        if with_witness && !heard(self.seen.witness_ms) {
            return Some(NotAutomatic::WitnessSilent);
        }
        let recorded = self.durable.peer.is_some_and(|peer| self.shown_pairing().is_paired(self.me, peer));
        if !self.protected() || !recorded {
            return Some(NotAutomatic::Exposed);
        }
        (!with_witness && !self.settings.auto_promote).then_some(NotAutomatic::SwitchedOff)
    }
}
