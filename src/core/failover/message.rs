//! What members tell each other. Every message carries its sender's epoch; a lower one is refused with the higher one.

use super::{Epoch, LogEnd, Member, NOBODY};

/// Whether acknowledgements need both data nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairingState {
    /// A record is acknowledged when it is durable on both data nodes.
    Paired {
        /// The other one. It is named, so that a node that joined later is not taken for one that holds everything.
        standby: Member,
    },
    /// The active acknowledges alone, in exactly this epoch.
    Solo {
        /// The epoch that may.
        epoch: Epoch,
        /// From which record on the other node may lack what was acknowledged. For people.
        from: u64,
    },
}

/// "Both, and the other one is nobody yet": only in a record of version 0, which means nothing.
impl Default for PairingState {
    fn default() -> Self {
        Self::Paired { standby: NOBODY }
    }
}

/// What is agreed on who holds everything. With a witness its record counts; changed by compare-and-set on the version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pairing {
    /// Counts the changes; 0 when nothing was ever agreed: a new witness, which votes for nobody.
    pub version: u64,
    /// The epoch in which it was last changed.
    pub epoch: Epoch,
    /// The active that asked for it.
    pub active: Member,
    /// What is agreed.
    pub state: PairingState,
}

/// One message on a control link. Any may be lost, repeated, late or out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// "I am here." Both ways between data nodes, and from both to the witness, which answers each with its own.
    Heartbeat {
        /// The sender's epoch.
        epoch: Epoch,
        /// Whether the sender is the active of that epoch, and not isolated: the others may rely on it.
        active: bool,
        /// The end of its fsynced log; empty for a witness.
        log: LogEnd,
        /// Up to where it knows records to be committed.
        commit: u64,
        /// Its copy of the pairing; the witness's is the one that counts.
        pairing: Pairing,
        /// It acknowledges no records for now, so nobody need wait for it: its disk is full, or it is about to stop (then
        /// this is its last word). A hint: what counts without it is decided as if it had only been silent.
        away: bool,
    },
    /// "Would you vote for me?" Changes nobody's epoch.
    PreVote {
        /// The epoch that the sender would stand for.
        epoch: Epoch,
        /// The end of its fsynced log.
        log: LogEnd,
    },
    /// The answer.
    PreVoteAnswer {
        /// The epoch asked about.
        epoch: Epoch,
        /// Whether.
        granted: bool,
        /// The answerer's own epoch.
        own: Epoch,
    },
    /// "Vote for me."
    Vote {
        /// The epoch that the sender stands for.
        epoch: Epoch,
        /// The end of its fsynced log.
        log: LogEnd,
        /// The active asked the sender to stand: a planned switchover.
        handed_over: bool,
    },
    /// The answer; durable before it is sent.
    VoteAnswer {
        /// The epoch asked about.
        epoch: Epoch,
        /// Whether.
        granted: bool,
        /// The answerer's own epoch.
        own: Epoch,
    },
    /// The active asks the witness to change the pairing.
    ChangePairing {
        /// The active's epoch.
        epoch: Epoch,
        /// The version the change is based on.
        base: u64,
        /// What it is to be.
        state: PairingState,
    },
    /// The witness tells its record: the answer to every `ChangePairing`, changed or not.
    PairingIs {
        /// The witness's epoch.
        epoch: Epoch,
        /// Its record.
        pairing: Pairing,
    },
    /// The standby has fsynced, in this epoch, everything up to here that equals the active's log.
    Ack {
        /// The epoch.
        epoch: Epoch,
        /// Up to where.
        index: u64,
    },
    /// The active has stopped taking writes and asks the standby, which holds everything up to `index`, to stand at once.
    /// Without a meaning when the standby does not: it waits for the next one.
    HandOver {
        /// The active's epoch.
        epoch: Epoch,
        /// The end of its log.
        index: u64,
    },
    /// "Your epoch is lower than mine": the receiver steps down.
    Stale {
        /// The sender's epoch.
        epoch: Epoch,
    },
}
