//! Every change that can happen, as one closed enum. The protobuf of an [`Envelope`] is the payload of a log entry.
//!
//! What a command creates gets the id and the time of its entry, so neither is in the command.

#![allow(clippy::too_many_arguments, reason = "the derived decoder of an enum takes five")]

mod backups;

use bytes::Bytes;

pub use backups::{BackupAct, NoteBackup, NoteRestore, RestoreMessages, RestoredMessage, UpdateBackups};

use super::ids::{ChannelId, InviteId, SessionId, UserId};

/// The level of commands that this build understands: it grows with every release that adds a command.
///
/// - 1: the commands of a node that is alone (tags 2 to 41).
/// - 2: the first release with a pair. Every build that can be a member understands these, so the pair's own commands
///   (`UpdatePair`, `NotePair`, `Salvage`) are of this level, and there is no pair below it.
/// - 3: the first release with backups and restores (tags 60 to 69).
pub const LEVEL: u32 = 3;

/// Who asked for a change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Actor {
    /// The user; 0 for the operator at the machine itself, or for somebody who is not a user yet.
    #[prost(fixed64, tag = "1")]
    pub user: u64,
    /// The session; 0 when there is none. Left out of messages and read marks: it would cost 9 bytes each.
    #[prost(fixed64, tag = "2")]
    pub session: u64,
    /// The address the request came from; `local` for the admin socket. Left out likewise.
    #[prost(string, tag = "3")]
    pub address: String,
}

impl Actor {
    /// The operator at the machine: whoever can open the admin socket in the data directory.
    #[must_use]
    pub fn operator() -> Self {
        Self { user: 0, session: 0, address: "local".to_owned() }
    }

    /// Only the user, for the changes that happen all day long.
    #[must_use]
    pub const fn user_only(user: UserId) -> Self {
        Self { user: user.0, session: 0, address: String::new() }
    }

    /// The node itself, for what it notes without being asked.
    #[must_use]
    pub fn system() -> Self {
        Self { user: 0, session: 0, address: "system".to_owned() }
    }

    /// Whether this is the node itself.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.user == 0 && self.address == "system"
    }

    /// Whether this is the operator at the machine.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.user == 0 && self.address == "local"
    }
}

/// The payload of a log entry of kind `Command`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// Who asked.
    #[prost(message, optional, tag = "1")]
    pub actor: Option<Actor>,
    /// For what.
    #[prost(
        oneof = "Command",
        tags = "2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30, 31, 32, 33, 34, 35, 40, 41, 50, 51, 52, 53, 60, 61, 62, 63"
    )]
    pub command: Option<Command>,
}

/// One change.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Command {
    /// Send a message.
    #[prost(message, tag = "2")]
    SendMessage(SendMessage),
    /// Change a message's text.
    #[prost(message, tag = "3")]
    EditMessage(EditMessage),
    /// Take a message's text away.
    #[prost(message, tag = "4")]
    DeleteMessage(DeleteMessage),
    /// Note how far a user has read.
    #[prost(message, tag = "5")]
    MarkRead(MarkRead),
    /// Name the organisation and make its owner. Happens once.
    #[prost(message, tag = "10")]
    SetUp(SetUp),
    /// Make a user.
    #[prost(message, tag = "11")]
    CreateUser(NewUser),
    /// Change a user.
    #[prost(message, tag = "12")]
    UpdateUser(UpdateUser),
    /// Set a password.
    #[prost(message, tag = "13")]
    SetPassword(SetPassword),
    /// Sign a device in.
    #[prost(message, tag = "14")]
    CreateSession(CreateSession),
    /// Sign a device out.
    #[prost(message, tag = "15")]
    RevokeSession(RevokeSession),
    /// Make an invitation.
    #[prost(message, tag = "20")]
    CreateInvite(CreateInvite),
    /// End an invitation.
    #[prost(message, tag = "21")]
    RevokeInvite(RevokeInvite),
    /// Become a user by an invitation.
    #[prost(message, tag = "22")]
    AcceptInvite(AcceptInvite),
    /// Make a private, public or announcement channel.
    #[prost(message, tag = "30")]
    CreateChannel(CreateChannel),
    /// Open the direct channel with somebody.
    #[prost(message, tag = "31")]
    OpenDirect(OpenDirect),
    /// Change a channel.
    #[prost(message, tag = "32")]
    UpdateChannel(UpdateChannel),
    /// Add a member or change its role.
    #[prost(message, tag = "33")]
    PutMember(PutMember),
    /// Remove a member.
    #[prost(message, tag = "34")]
    RemoveMember(RemoveMember),
    /// Change one's own side of a membership.
    #[prost(message, tag = "35")]
    UpdateMembership(UpdateMembership),
    /// Change the settings.
    #[prost(message, tag = "40")]
    UpdateSettings(UpdateSettings),
    /// Note that the node uses another certificate. The certificate itself is a matter of the node, not of the log.
    #[prost(message, tag = "41")]
    NoteCertificate(NoteCertificate),
    /// Change who belongs to the pair and what its members agree on. Level 2.
    #[prost(message, tag = "50")]
    UpdatePair(UpdatePair),
    /// Note what happened to the pair. Level 2.
    #[prost(message, tag = "51")]
    NotePair(NotePair),
    /// Apply a record of a diverged tail. Level 2.
    #[prost(message, tag = "52")]
    Salvage(Salvage),
    /// Decide a conflict. Level 2.
    #[prost(message, tag = "53")]
    ResolveConflict(ResolveConflict),
    /// Change the settings of the backups. Level 3.
    #[prost(message, tag = "60")]
    UpdateBackups(UpdateBackups),
    /// Note what somebody did with the backups. Level 3.
    #[prost(message, tag = "63")]
    NoteBackup(NoteBackup),
    /// Note that everything before came out of a backup. Level 3.
    #[prost(message, tag = "61")]
    NoteRestore(NoteRestore),
    /// Put texts of messages back that a backup still has. Level 3.
    #[prost(message, tag = "62")]
    RestoreMessages(RestoreMessages),
}

/// Send a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SendMessage {
    /// Where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// The sender's own id for it (a UUID, 16 bytes): a resend returns the first message.
    #[prost(bytes = "bytes", tag = "2")]
    pub client_id: Bytes,
    /// Markdown.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// Change a message's text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EditMessage {
    /// Where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The version the author saw.
    #[prost(uint32, tag = "3")]
    pub version: u32,
    /// The new Markdown.
    #[prost(string, tag = "4")]
    pub body: String,
}

/// Take a message's text away.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteMessage {
    /// Where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The version the deleter saw.
    #[prost(uint32, tag = "3")]
    pub version: u32,
}

/// Note how far the actor has read, in several channels at once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MarkRead {
    /// The marks.
    #[prost(message, repeated, tag = "1")]
    pub marks: Vec<ReadMark>,
}

/// How far one channel was read.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReadMark {
    /// Which channel.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// The newest sequence number read.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// A user to be made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NewUser {
    /// The sign-in name, in lower case.
    #[prost(string, tag = "1")]
    pub username: String,
    /// The name others see.
    #[prost(string, tag = "2")]
    pub display_name: String,
    /// What the user may do.
    #[prost(enumeration = "super::rows::Role", tag = "3")]
    pub role: i32,
    /// The argon2id hash in PHC form.
    #[prost(string, tag = "4")]
    pub password_hash: String,
    /// A BCP 47 tag, or empty.
    #[prost(string, tag = "5")]
    pub locale: String,
    /// The password was chosen by somebody else.
    #[prost(bool, tag = "6")]
    pub must_change_password: bool,
}

/// Name the organisation and make its owner.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetUp {
    /// The organisation's name.
    #[prost(string, tag = "1")]
    pub organisation: String,
    /// The language of people who chose none.
    #[prost(string, tag = "2")]
    pub default_locale: String,
    /// An IANA time zone.
    #[prost(string, tag = "3")]
    pub time_zone: String,
    /// The owner; its role is always owner.
    #[prost(message, optional, tag = "4")]
    pub owner: Option<NewUser>,
}

/// Change a user; what is absent stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateUser {
    /// Who.
    #[prost(fixed64, tag = "1")]
    pub user: u64,
    /// The version the editor saw.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// The name others see.
    #[prost(string, optional, tag = "3")]
    pub display_name: Option<String>,
    /// What the user may do.
    #[prost(enumeration = "super::rows::Role", optional, tag = "4")]
    pub role: Option<i32>,
    /// A BCP 47 tag, or empty.
    #[prost(string, optional, tag = "5")]
    pub locale: Option<String>,
    /// May not sign in.
    #[prost(bool, optional, tag = "6")]
    pub disabled: Option<bool>,
}

/// Set a password.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetPassword {
    /// Whose.
    #[prost(fixed64, tag = "1")]
    pub user: u64,
    /// The argon2id hash in PHC form.
    #[prost(string, tag = "2")]
    pub password_hash: String,
    /// The session that stays signed in; all others of the user end. 0: all end.
    #[prost(fixed64, tag = "3")]
    pub keep_session: u64,
    /// It was chosen by somebody else.
    #[prost(bool, tag = "4")]
    pub must_change: bool,
}

/// Sign a device in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateSession {
    /// Whose device.
    #[prost(fixed64, tag = "1")]
    pub user: u64,
    /// The lookup hash of the bearer token, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub token_hash: Bytes,
    /// What the device calls itself.
    #[prost(string, tag = "3")]
    pub device: String,
}

/// Sign a device out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RevokeSession {
    /// Whose device.
    #[prost(fixed64, tag = "1")]
    pub user: u64,
    /// Which.
    #[prost(fixed64, tag = "2")]
    pub session: u64,
}

/// Make an invitation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateInvite {
    /// The lookup hash of its token, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub token_hash: Bytes,
    /// The role of whoever accepts it.
    #[prost(enumeration = "super::rows::Role", tag = "2")]
    pub role: i32,
    /// Channels that whoever accepts it joins.
    #[prost(fixed64, repeated, tag = "3")]
    pub channels: Vec<u64>,
    /// How long it is good for, in seconds.
    #[prost(uint64, tag = "4")]
    pub expires_in_seconds: u64,
    /// How many people may accept it.
    #[prost(uint32, tag = "5")]
    pub uses_max: u32,
}

/// End an invitation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RevokeInvite {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub invite: u64,
}

/// Become a user by an invitation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AcceptInvite {
    /// The lookup hash of the invitation's token, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub token_hash: Bytes,
    /// The user; its role is the invitation's.
    #[prost(message, optional, tag = "2")]
    pub user: Option<NewUser>,
}

/// Make a private, public or announcement channel. The actor becomes its manager.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateChannel {
    /// What kind.
    #[prost(enumeration = "super::rows::ChannelKind", tag = "1")]
    pub kind: i32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What it is about.
    #[prost(string, tag = "3")]
    pub topic: String,
    /// Its first members beside the actor.
    #[prost(fixed64, repeated, tag = "4")]
    pub members: Vec<u64>,
}

/// Open the direct channel with somebody; the existing one, when there is one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenDirect {
    /// With whom; the actor itself for notes to self.
    #[prost(fixed64, tag = "1")]
    pub user: u64,
}

/// Change a channel; what is absent stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateChannel {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// The version the editor saw.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Its name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// What it is about.
    #[prost(string, optional, tag = "4")]
    pub topic: Option<String>,
    /// Read-only and out of the way.
    #[prost(bool, optional, tag = "5")]
    pub archived: Option<bool>,
}

/// Add a member or change its role.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutMember {
    /// Where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// Whom.
    #[prost(fixed64, tag = "2")]
    pub user: u64,
    /// The role; absent: member for a new one, unchanged for one who is there.
    #[prost(enumeration = "super::rows::MemberRole", optional, tag = "3")]
    pub role: Option<i32>,
}

/// Remove a member.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveMember {
    /// From where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// Whom.
    #[prost(fixed64, tag = "2")]
    pub user: u64,
}

/// Change one's own side of a membership.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateMembership {
    /// Where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// When the channel may notify.
    #[prost(enumeration = "super::rows::NotifyLevel", tag = "2")]
    pub notify: i32,
}

/// Change the settings; what is absent stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateSettings {
    /// The version the editor saw.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The organisation's name.
    #[prost(string, optional, tag = "2")]
    pub organisation: Option<String>,
    /// The language of people who chose none.
    #[prost(string, optional, tag = "3")]
    pub default_locale: Option<String>,
    /// An IANA time zone.
    #[prost(string, optional, tag = "4")]
    pub time_zone: Option<String>,
    /// How long a session lives, in days.
    #[prost(uint32, optional, tag = "5")]
    pub session_days: Option<u32>,
    /// How long an author may edit a message, in seconds; 0: for ever.
    #[prost(uint64, optional, tag = "6")]
    pub edit_window_seconds: Option<u64>,
}

/// Note that the node uses another certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NoteCertificate {
    /// The certificate before, as JSON without secrets.
    #[prost(string, tag = "1")]
    pub before: String,
    /// The certificate now, likewise.
    #[prost(string, tag = "2")]
    pub after: String,
}

/// Change who belongs to the pair and what its members agree on: the whole of it, as it is to be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdatePair {
    /// The version that it is based on; 0 when there is no pair yet.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The members. Who is missing leaves for ever; who is new has the next number.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<super::rows::PairMember>,
    /// Without a witness: the standby may promote itself.
    #[prost(bool, tag = "3")]
    pub auto_promote: bool,
    /// `host:port` of an always-on host, or empty.
    #[prost(string, tag = "4")]
    pub reference: String,
    /// The timings.
    #[prost(message, optional, tag = "5")]
    pub timings: Option<super::rows::PairTimings>,
    /// Commands above this level are not used although all members understand them; absent: all are.
    #[prost(uint32, optional, tag = "6")]
    pub level_held: Option<u32>,
}

/// Note what happened to the pair, for the audit trail.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NotePair {
    /// What.
    #[prost(enumeration = "PairEvent", tag = "1")]
    pub what: i32,
    /// Which member it is about; 0: the pair.
    #[prost(uint32, tag = "2")]
    pub member: u32,
    /// In which epoch.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// From or at which index; 0 when that says nothing.
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// How many records it is about; 0 when that says nothing.
    #[prost(uint64, tag = "5")]
    pub records: u64,
    /// What else there is to say, for people.
    #[prost(string, tag = "6")]
    pub text: String,
}

/// Which diverged tail: a node cannot write twice at the same index in the same epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct TailId {
    /// The node that wrote its last record.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// That record's epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The index of its first record.
    #[prost(uint64, tag = "3")]
    pub fork: u64,
}

/// Apply a record of a diverged tail, as `merge::salvage` made it: under its own id and time, for its own actor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Salvage {
    /// Which tail.
    #[prost(message, optional, tag = "1")]
    pub tail: Option<TailId>,
    /// Its place in the list of what is salvaged, from 1 without gaps.
    #[prost(uint64, tag = "2")]
    pub ordinal: u64,
    /// The record's index in the tail.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The record's epoch.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// The record's clock reading: with `node` the id of what it created.
    #[prost(fixed64, tag = "5")]
    pub hlc: u64,
    /// The record's site.
    #[prost(uint32, tag = "6")]
    pub site: u32,
    /// The record's node.
    #[prost(uint32, tag = "7")]
    pub node: u32,
    /// What to do and for whom: an [`Envelope`], with what the tail did later folded in.
    #[prost(bytes = "bytes", tag = "8")]
    pub envelope: Bytes,
    /// With `SendMessage`: how often it was edited in the tail.
    #[prost(uint32, tag = "9")]
    pub edits: u32,
    /// With `SendMessage`: when last, in Unix milliseconds; 0: never.
    #[prost(uint64, tag = "10")]
    pub edited_ms: u64,
    /// With `SendMessage`: the channel's newest message at the fork; what came after it may be a resend.
    #[prost(uint64, tag = "11")]
    pub seq_at_fork: u64,
    /// With `SetPassword` and `CreateSession`: the lookup hash of the password hash that it is based on, 16 bytes.
    #[prost(bytes = "bytes", tag = "12")]
    pub seen: Bytes,
    /// The whole value at the end of the tail, as JSON without secrets, for a conflict.
    #[prost(string, tag = "13")]
    pub other: String,
}

/// What to do about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Decision {
    /// What stands, stands.
    Keep = 1,
    /// Take the other side's value.
    TakeOther = 2,
    /// Take the fields of `merge`.
    Merge = 3,
}

/// Decide a conflict.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResolveConflict {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub conflict: u64,
    /// The version of the conflict that the decider saw.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// The version of the record in conflict that the decider saw; 0 where the record has none.
    #[prost(uint64, tag = "3")]
    pub record_version: u64,
    /// What to do.
    #[prost(enumeration = "Decision", tag = "4")]
    pub decision: i32,
    /// With `Merge` of a user: its fields. The user and version in it are not looked at.
    #[prost(message, optional, tag = "5")]
    pub user: Option<UpdateUser>,
    /// With `Merge` of a channel: its fields, likewise.
    #[prost(message, optional, tag = "6")]
    pub channel: Option<UpdateChannel>,
    /// With `Merge` of the settings: their fields, likewise.
    #[prost(message, optional, tag = "7")]
    pub settings: Option<UpdateSettings>,
}

/// What can happen to a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum PairEvent {
    /// Somebody made an invitation to join.
    Invited = 1,
    /// A member joined.
    Joined = 2,
    /// A member left, or was removed.
    Left = 3,
    /// A member became active by votes, or by the checks without a witness.
    Promoted = 4,
    /// A member became active by the operator's word.
    PromotedByForce = 5,
    /// A member stopped being active.
    SteppedDown = 6,
    /// The active acknowledges alone from here on.
    Exposed = 7,
    /// Both data nodes have what is acknowledged from here on.
    Protected = 8,
    /// The active handed over as planned.
    Switchover = 9,
    /// A member cut its diverged tail off; that many records are in quarantine.
    Rewound = 10,
    /// What a diverged tail held was proposed again, as far as the active lacked it.
    Salvaged = 11,
    /// A member was filled from a snapshot.
    Bootstrapped = 12,
    /// A member's state differs from the active's at that index.
    StateMismatch = 13,
    /// An upgrade was held back, or released.
    LevelHeld = 14,
}

impl PairEvent {
    /// The name in the audit trail, behind `pair.`.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::Invited => "pair.invited",
            Self::Joined => "pair.joined",
            Self::Left => "pair.left",
            Self::Promoted => "pair.promoted",
            Self::PromotedByForce => "pair.promoted_by_force",
            Self::SteppedDown => "pair.stepped_down",
            Self::Exposed => "pair.exposed",
            Self::Protected => "pair.protected",
            Self::Switchover => "pair.switchover",
            Self::Rewound => "pair.rewound",
            Self::Salvaged => "pair.salvaged",
            Self::Bootstrapped => "pair.bootstrapped",
            Self::StateMismatch => "pair.state_mismatch",
            Self::LevelHeld => "pair.level_held",
        }
    }
}

/// The payload of a log entry of kind `StateHash`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateHashRecord {
    /// The index the hash belongs to.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// The hash, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
}

impl Command {
    /// The lowest [`LEVEL`] of a build that understands it. A command of a new release gets the new level here, and is
    /// then refused before it is logged (`pair::allowed`) until every member of the pair has been upgraded.
    #[must_use]
    pub const fn level(&self) -> u32 {
        match self {
            Self::UpdatePair(_) | Self::NotePair(_) | Self::Salvage(_) | Self::ResolveConflict(_) => 2,
            Self::UpdateBackups(_) | Self::NoteBackup(_) | Self::NoteRestore(_) | Self::RestoreMessages(_) => 3,
            _ => 1,
        }
    }

    /// The channel whose messages or members it is about, if there is one.
    #[must_use]
    pub const fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::SendMessage(c) => Some(ChannelId(c.channel)),
            Self::EditMessage(c) => Some(ChannelId(c.channel)),
            Self::DeleteMessage(c) => Some(ChannelId(c.channel)),
            Self::UpdateChannel(c) => Some(ChannelId(c.channel)),
            Self::PutMember(c) => Some(ChannelId(c.channel)),
            Self::RemoveMember(c) => Some(ChannelId(c.channel)),
            Self::UpdateMembership(c) => Some(ChannelId(c.channel)),
            Self::RestoreMessages(c) => Some(ChannelId(c.channel)),
            _ => None,
        }
    }
}

/// Short forms for building commands.
impl RevokeSession {
    /// Ends `session` of `user`.
    #[must_use]
    pub const fn new(user: UserId, session: SessionId) -> Self {
        Self { user: user.0, session: session.0 }
    }
}

impl RevokeInvite {
    /// Ends `invite`.
    #[must_use]
    pub const fn new(invite: InviteId) -> Self {
        Self { invite: invite.0 }
    }
}
