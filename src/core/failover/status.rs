//! What an operator is shown of a data node: facts, and times counted in milliseconds. Decides nothing.

use super::{Epoch, LogEnd, Member, Pairing};

/// What a data node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Follows, or waits for somebody to follow.
    Standby,
    /// Asks for votes.
    Candidate,
    /// Takes writes.
    Active,
}

/// Another member, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contact {
    /// Who.
    pub member: Member,
    /// How long ago the last message of it came, in milliseconds; none since this process started.
    pub heard_ms_ago: Option<u64>,
}

/// Why nobody would take over by itself if the active failed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotAutomatic {
    /// There is no other data node.
    NoStandby,
    /// The other data node is not heard.
    PeerSilent,
    /// The standby does not hold everything that was acknowledged.
    Exposed,
    /// The witness is not heard: there would be no second vote.
    WitnessSilent,
    /// The witness is new and was not told yet who holds everything.
    WitnessUninformed,
    /// Without a witness, and `auto_promote` is off.
    SwitchedOff,
    /// Nobody is active at present.
    NoActive,
}

/// What a data node knows of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status {
    /// This node.
    pub me: Member,
    /// What it is.
    pub role: Role,
    /// The highest epoch that it has seen.
    pub epoch: Epoch,
    /// Who is active, as far as it knows.
    pub active: Option<Member>,
    /// Who holds everything: the witness's record as last heard, or the own copy.
    pub pairing: Pairing,
    /// Whether every acknowledged record is on both data nodes.
    pub protected: bool,
    /// If it is not, as far as this node knows: since how many milliseconds.
    pub exposed_ms: Option<u64>,
    /// If it is not: the first record that the other may lack.
    pub exposed_from: Option<u64>,
    /// Acknowledges nothing because nobody is heard.
    pub isolated: bool,
    /// Acknowledges alone on the operator's word.
    pub forced: bool,
    /// The other data node.
    pub peer: Option<Contact>,
    /// The other data node said that it acknowledges nothing for now: its disk is full, or it is about to stop.
    pub peer_away: bool,
    /// The witness.
    pub witness: Option<Contact>,
    /// None when somebody would take over by itself if the active failed now; else why nobody would.
    pub not_automatic: Option<NotAutomatic>,
    /// A planned switchover is under way.
    pub switchover: bool,
    /// The end of the own fsynced log.
    pub log: LogEnd,
    /// Up to where records are known to be committed.
    pub commit: u64,
    /// The end of the peer's fsynced log, as last heard.
    pub peer_log: LogEnd,
    /// Up to where the peer's log is known to equal the own one and to be fsynced: the standby's acks (active), the own
    /// acks (standby).
    pub matched: u64,
    /// Up to where the peer said that records are committed. What `promote --force` would lose for certain is what
    /// the own log lacks up to there.
    pub peer_commit: u64,
}

/// What a witness knows of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitnessStatus {
    /// The highest epoch that it has seen.
    pub epoch: Epoch,
    /// Its record of who holds everything; of version 0 until an active has written it.
    pub pairing: Pairing,
    /// The data nodes that it listens to.
    pub data: [Option<Contact>; 2],
}
