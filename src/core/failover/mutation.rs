//! Rules of the protocol broken on purpose, so that the checker shows that it would notice; and what it may forget of a
//! member to keep its states few. Nothing but tests sets a mutation.

use super::data::State;
use super::{DataMember, Member, NOBODY, Pairing, Witness};

/// A rule that is not kept. Each must be found by the model checker; `DESIGN.md` says which sentence it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// A1: an answer of the witness counts although the request it was asked for may still arrive.
    AnyAnswerCounts,
    /// A1: goes on acknowledging alone until the witness has answered that both hold everything.
    AloneUntilAnswered,
    /// A2: the standby has caught up when it has what was acknowledged since the last start.
    CaughtUpWithAcknowledged,
    /// A3: a Solo record of an earlier epoch of the same node entitles, and so does the own copy.
    AnySoloEntitles,
    /// B: an epoch that was merely seen is not granted any more.
    SeenIsGranted,
    /// The witness changes the pairing whatever version the request is based on.
    NoCompareAndSet,
    /// Acknowledges before the own `EpochStarted` record is committed.
    NoEpochStarted,
    /// The witness votes whatever the pairing says.
    WitnessIgnoresPairing,
    /// The witness applies requests of lower epochs and answers in the epoch that asked.
    WitnessServesOldEpochs,
    /// A witness that was told nothing yet takes both for complete.
    NewWitnessVotes,
    /// The witness votes for every node while the pairing says Paired, also for one that joined later.
    PairedMeansAnybody,
    /// A data node compares only the last index in votes.
    VotesByIndex,
    /// The standby acknowledges all that it has fsynced, compared or not.
    AckUncompared,
    /// The standby acknowledges what it has not fsynced.
    AckUnsynced,
    /// Takes the new peer's log for complete when it joins.
    NewPeerIsPaired,
    /// Without a witness: promotes itself although its record says that the other one may hold more.
    PromotesBehindSolo,
    /// Acknowledges alone, without a witness, before its own record says so.
    SoloUnrecorded,
    /// Remembers acks over a change of the epoch.
    KeepsMatched,
    /// Takes a goodbye of the standby for the right to go on alone.
    GoodbyeEntitles,
    /// An isolated active goes on saying that it is active.
    IsolatedIsActive,
    /// Asks for the right to go on alone although it does not hear the witness, and cannot hear its answer.
    AsksUnheard,
}

impl DataMember {
    /// Breaks a rule.
    #[must_use]
    pub fn broken_by(mut self, mutation: Option<Mutation>) -> Self {
        self.mutation = mutation;
        self
    }

    /// Forgets what decides only *when* something is tried again, or is only shown to people: contacts, notices already
    /// given, whom a vote went to (an epoch has one candidate only), how long a record has waited. Isolation is lifted.
    /// The result can do at least what this one can, as every timer may fire at any time.
    pub fn forget_times(&mut self) {
        self.seen = super::data::Seen::default();
        self.unheard_beats = 0;
        self.waiting = None;
        self.durable.granted = NOBODY;
        if let State::Active(active) = &mut self.state {
            active.forget_times();
        }
        if self.durable.witness.is_some() && self.mutation != Some(Mutation::AnySoloEntitles) {
            // With a witness the own copy entitles to nothing: it is for people.
            self.durable.pairing = Pairing::default();
        }
        self.durable.pairing.forget_from();
    }

    /// The pairing that this active goes by: the witness's record as last heard.
    #[must_use]
    pub fn known_pairing(&self) -> Option<Pairing> {
        if let State::Active(active) = &self.state { active.known } else { None }
    }

    /// Whom it is a candidate or a standby of, for the checker: the active that it follows.
    #[must_use]
    pub fn following(&self) -> Option<Member> {
        match &self.state {
            State::Standby(standby) if standby.following => Some(self.durable.epoch.member()),
            _ => None,
        }
    }

    /// Whether it has asked for pre-votes and would count them.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(&self.state, State::Standby(standby) if standby.asking)
    }

    /// Whether it acknowledges without the other data node.
    #[must_use]
    pub fn acknowledges_alone(&self) -> bool {
        matches!(&self.state, State::Active(active) if self.alone(active))
    }
}

impl Witness {
    /// Breaks a rule.
    #[must_use]
    pub fn broken_by(mut self, mutation: Option<Mutation>) -> Self {
        self.mutation = mutation;
        self
    }

    /// Forgets whom it heard, and whom it gave its vote (an epoch has one candidate only).
    pub fn forget_times(&mut self) {
        self.heard = None;
        self.seen_ms = [None; 2];
        self.durable.granted = NOBODY;
        self.durable.pairing.forget_from();
    }
}
