//! What can happen to a member.

use super::{Epoch, LogEnd, Member, Message, Settings, Timer};

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The process has started; once, before everything else.
    Start,
    /// A timer fired. May come late, and once more after it was disarmed.
    Fired(Timer),
    /// A message of another member arrived.
    Received {
        /// From whom: the member that the link's certificate names.
        from: Member,
        /// The message.
        message: Message,
    },
    /// Own records are written and on their way to the disk up to this index: acks are waited for from now on (active).
    /// Has no meaning for a standby.
    Written {
        /// The last record's index.
        index: u64,
    },
    /// The own log is fsynced up to here.
    Synced {
        /// Its end.
        log: LogEnd,
    },
    /// The record that began this node's epoch is in the own log: the answer to `Effect::Activate`.
    Started {
        /// The epoch.
        epoch: Epoch,
        /// The index of its `EpochStarted` record.
        index: u64,
    },
    /// The follower compared the own log with the active's, or received records of it.
    Compared {
        /// The active's epoch.
        epoch: Epoch,
        /// How the two logs relate.
        relation: Relation,
        /// Up to where the active said, along with that, that records are committed; 0 when it said nothing.
        commit: u64,
    },
    /// What the probe of the reference address and of the peer's addresses found: the answer to `Effect::Probe`.
    Probed {
        /// The reference address answers, or none is configured.
        reference_answers: bool,
        /// Any configured address of the peer answers.
        peer_answers: bool,
    },
    /// Whether the own disk takes records: while it does not, this node asks not to be waited for, and takes nothing over
    /// that is handed to it.
    Room {
        /// It does not.
        full: bool,
    },
    /// The process is about to stop in good order: said to the others, and then this node takes part in nothing any more. An
    /// active is told when it takes no writes any more.
    Leave,
    /// Other timings, or another choice of the operator.
    Settings(Settings),
    /// The operator's word.
    Ordered(Order),
    /// The members, for a data node: before `Start` what the own log says, later at every change, and at joining.
    ///
    /// An active is told when the record that says so is *committed*; a standby as soon as it is in its log, before the
    /// `Synced` that covers it; either again when the record is cut off. So no two witnesses can be in force at once.
    Members {
        /// The other data node.
        peer: Option<Member>,
        /// The witness.
        witness: Option<Member>,
    },
    /// The own log says that this node is not in the pair any more, told like `Members`. It is no lone node: it takes
    /// part in nothing until `Members` names others again.
    Removed,
    /// The data nodes, for a witness: whom it listens to. An active or a witness that it trusts told it.
    DataNodes {
        /// One of them.
        first: Member,
        /// The other.
        second: Option<Member>,
    },
}

/// How the own log relates to the active's, as far as the follower knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// Equal up to this index, and the own log has nothing behind it that differs.
    Equal {
        /// Up to where.
        index: u64,
    },
    /// Both have a record at this index, and they differ.
    Fork {
        /// The first such index.
        index: u64,
    },
    /// The active's log begins after the end of the own one, or after the fork: only a bootstrap helps.
    TooOld,
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Planned switchover, told to the active.
    Switchover,
    /// `promote --force`: become active although nobody votes; on an active: acknowledge alone although nobody agrees.
    ForcePromote,
}
