//! The rows of the pair: its members, how far diverged tails were salvaged, what both sides of a fork changed. Shapes only.

/// What a member of the pair is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    prost::Enumeration,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum PairMemberKind {
    /// Holds the log and the state; active or standby.
    Data = 0,
    /// Votes, holds no data.
    Witness = 1,
}

/// One member of the pair.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PairMember {
    /// Its number: the node in the origin of what it writes. Never used a second time.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// What it is.
    #[prost(enumeration = "PairMemberKind", tag = "2")]
    pub kind: i32,
    /// `host:port` under which the other members reach it: the first is the main link, the others are second ones.
    #[prost(string, repeated, tag = "3")]
    pub addresses: Vec<String>,
    /// The URL that clients use, `https://host[:port]`; empty for a witness.
    #[prost(string, tag = "4")]
    pub client_url: String,
    /// SHA-256 of its certificate, 32 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub fingerprint: bytes::Bytes,
    /// What people call it.
    #[prost(string, tag = "6")]
    pub name: String,
    /// The level of commands that its build understands.
    #[prost(uint32, tag = "7")]
    pub level: u32,
}

/// When a pair notices what, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PairTimings {
    /// Between two heartbeats.
    #[prost(uint32, tag = "1")]
    pub heartbeat_ms: u32,
    /// After so much silence of the active the standby stands.
    #[prost(uint32, tag = "2")]
    pub fail_after_ms: u32,
    /// After so long without an ack of the standby the active asks to go on alone.
    #[prost(uint32, tag = "3")]
    pub solo_after_ms: u32,
    /// After so long without anybody the active closes its clients' sessions.
    #[prost(uint32, tag = "4")]
    pub lease_ms: u32,
    /// Without a witness: after so much silence the standby promotes itself.
    #[prost(uint32, tag = "5")]
    pub promote_after_ms: u32,
}

/// The pair: who belongs to it, and what its members must agree on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pair {
    /// Counts the changes.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The members, in the order of their numbers.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<PairMember>,
    /// The numbers of former members, in order. None comes back.
    #[prost(uint32, repeated, tag = "3")]
    pub retired: Vec<u32>,
    /// Without a witness: the standby may promote itself.
    #[prost(bool, tag = "4")]
    pub auto_promote: bool,
    /// `host:port` of an always-on host that tells a dead peer from a dead link; empty: none.
    #[prost(string, tag = "5")]
    pub reference: String,
    /// The timings.
    #[prost(message, optional, tag = "6")]
    pub timings: Option<PairTimings>,
    /// Commands above this level are not used although all members understand them; absent: all are.
    #[prost(uint32, optional, tag = "7")]
    pub level_held: Option<u32>,
}

/// How far a diverged tail has been salvaged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TailMark {
    /// Which tail.
    #[prost(message, optional, tag = "1")]
    pub tail: Option<crate::core::command::TailId>,
    /// The ordinal of the last item that was applied.
    #[prost(uint64, tag = "2")]
    pub ordinal: u64,
    /// When the first one was, in Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub first_ms: u64,
    /// When the last one was, in Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub last_ms: u64,
}

/// What a conflict is about.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    prost::Enumeration,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum ConflictKind {
    /// Something else: `reason` says what was refused.
    Other = 0,
    /// A user.
    User = 1,
    /// A channel, or who is in it.
    Channel = 2,
    /// The settings of the organisation.
    Settings = 3,
    /// The text of a message.
    Message = 4,
    /// A user's password.
    Password = 5,
    /// An invitation.
    Invite = 6,
}

/// What became of a conflict.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    prost::Enumeration,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum ConflictState {
    /// Nobody has decided.
    Open = 0,
    /// The value that stood stands.
    Kept = 1,
    /// The other side's value was taken.
    Taken = 2,
    /// It was merged by field.
    Merged = 3,
}

/// What both sides of a fork changed: the active's value stands, the other one is kept here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Conflict {
    /// The id: that of the record of the diverged tail.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// For `If-Match`: 1 while it is open, 2 afterwards.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// What it is about.
    #[prost(enumeration = "ConflictKind", tag = "3")]
    pub kind: i32,
    /// The id of what it is about; 0 for the settings.
    #[prost(fixed64, tag = "4")]
    pub subject: u64,
    /// The channel that it concerns; 0: none.
    #[prost(fixed64, tag = "5")]
    pub channel: u64,
    /// A message's sequence number there; 0: none.
    #[prost(uint64, tag = "6")]
    pub seq: u64,
    /// Why: `stale_version` when both sides changed it, else the code of what stood in the way.
    #[prost(string, tag = "7")]
    pub reason: String,
    /// The whole value on the other side, as JSON without secrets; empty when there is none.
    #[prost(string, tag = "8")]
    pub other: String,
    /// The command that would take it: an `Envelope`; empty when nothing would.
    #[prost(bytes = "bytes", tag = "9")]
    pub command: bytes::Bytes,
    /// Who changed it on the other side; 0: the operator there, or the node.
    #[prost(fixed64, tag = "10")]
    pub actor: u64,
    /// When, in Unix milliseconds.
    #[prost(uint64, tag = "11")]
    pub changed_ms: u64,
    /// The member that wrote it.
    #[prost(uint32, tag = "12")]
    pub node: u32,
    /// When it arrived here, in Unix milliseconds.
    #[prost(uint64, tag = "13")]
    pub late_ms: u64,
    /// What became of it.
    #[prost(enumeration = "ConflictState", tag = "14")]
    pub state: i32,
    /// Who decided; 0 while it is open, and for the operator.
    #[prost(fixed64, tag = "15")]
    pub resolver: u64,
    /// When, in Unix milliseconds; 0 while it is open.
    #[prost(uint64, tag = "16")]
    pub resolved_ms: u64,
}
