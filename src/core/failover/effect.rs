//! What has to be done, in order: nothing behind a `Persist` is done before it is durable.

use super::{Epoch, Member, Message};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Write the durable state (`Durable` of the member) and sync it.
    Persist,
    /// Send a message. It may be lost.
    Send {
        /// To whom.
        to: Member,
        /// What.
        message: Message,
    },
    /// Fire this timer once after so many milliseconds; an armed one starts anew.
    Arm {
        /// Which.
        timer: Timer,
        /// After how long, in milliseconds.
        after_ms: u64,
    },
    /// Do not fire this timer any more.
    Disarm(Timer),
    /// Follow this active: compare the logs, then take its records. Replaces whom it followed before.
    Follow {
        /// Whom.
        active: Member,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Take no records any more until the next `Follow`.
    Unfollow,
    /// The member is the active of this epoch: log its `EpochStarted` record, answer with `Input::Started`, take writes.
    Activate {
        /// The epoch.
        epoch: Epoch,
    },
    /// The member is not active any more: take no writes, close the clients' sessions, send nobody records. Ends a hold
    /// and an isolation, too.
    StepDown,
    /// Everything up to this index is committed: acknowledge it (active), apply it (both).
    Commit {
        /// Up to where.
        index: u64,
    },
    /// Take no writes for a moment (`true`), or take them again (`false`): around a planned switchover. To be answered with
    /// `Input::Written` and `Input::Synced` of the log's end when no write is on its way any more.
    HoldWrites(bool),
    /// Neither standby nor witness is heard: close the clients' sessions and refuse writes (`true`), or go on (`false`).
    Isolate(bool),
    /// The own log differs from the active's from this index on: put the tail into quarantine, cut it directly before the
    /// fork, and build the member anew from its durable state. Until then it takes part in votes as before.
    Rewind {
        /// The fork: the first index to go.
        fork: u64,
    },
    /// The own log cannot be continued by the active's: put what differs into quarantine, bootstrap beside it. The new
    /// log replaces the old one in one durable step, not before it reaches the active's `EpochStarted` record; then the
    /// member is built anew from its durable state.
    Bootstrap,
    /// Find out whether the reference address and the peer's addresses answer; reply with `Input::Probed`.
    Probe,
    /// Something that an operator should know.
    Notice(Notice),
}

/// The timers. The protocol arms them; it must be right whenever they fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Send the next heartbeat.
    Heartbeat,
    /// Nothing was heard from the active for `fail_after`.
    ActiveSilence,
    /// A record has waited `solo_after` for the standby's ack.
    AckOverdue,
    /// Neither standby nor witness was heard for `lease`.
    Lease,
    /// The (pre-)candidacy has not succeeded: begin anew.
    Candidacy,
    /// Without a witness: nothing was heard for `promote_after` (or twice that).
    PromoteAfter,
    /// The planned switchover takes too long: go on as active.
    Switchover,
}

/// What the protocol decided, for the log, the status and the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// This node was promoted.
    Promoted {
        /// The epoch.
        epoch: Epoch,
        /// Without anybody's vote, by the checks of a pair without a witness.
        unvoted: bool,
        /// By the operator's `promote --force`.
        forced: bool,
        /// It could not know up to where the former active had acknowledged: it was started since, or its log was not
        /// compared yet with that of the newest one.
        blind: bool,
    },
    /// This node follows the active of this epoch.
    Following {
        /// Whom.
        active: Member,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The own log holds records that the active's does not: they go into quarantine.
    Diverged {
        /// The first of them.
        fork: u64,
    },
    /// The own log cannot be continued by the active's.
    Bootstrapping,
    /// This node stepped down.
    SteppedDown {
        /// The epoch that it met.
        epoch: Epoch,
    },
    /// Acknowledging alone from this record on: "exposed".
    Solo {
        /// The first record that the other node may lack.
        from: u64,
    },
    /// Both hold everything: "protected".
    Paired,
    /// Neither standby nor witness is heard.
    Isolated,
    /// One of them is heard again.
    Reached,
    /// A planned switchover has begun: writes are held.
    SwitchoverBegun,
    /// A planned switchover did not begin.
    SwitchoverRefused(Refused),
    /// A planned switchover did not succeed in time; this node goes on as active.
    SwitchoverFailed,
    /// `promote --force` changed nothing: this node is active and acknowledges.
    ForceNotNeeded,
    /// This node does not promote itself; people should know why.
    Waiting(WaitingFor),
}

/// Why a standby that hears nothing does not take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitingFor {
    /// The pairing says Solo and names the other node: it may hold what this one lacks.
    TheOther,
    /// Nobody can vote: neither the peer nor the witness answers.
    AVote,
    /// The own log is behind the last position known of the active.
    Records,
    /// The reference address does not answer: the fault may be on this side.
    Reference,
    /// The peer answers on one of its addresses.
    PeerAlive,
    /// Automatic promotion is switched off.
    TheOperator,
    /// The witness is new and was not told yet who holds everything: it votes for nobody.
    TheWitness,
}

/// Why a planned switchover does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// This node is not the active.
    NotActive,
    /// There is no other data node.
    NoPeer,
    /// The standby does not hold everything.
    Exposed,
    /// One is under way.
    UnderWay,
    /// The standby acknowledges nothing for now: its disk is full, or it is about to stop.
    PeerAway,
}
