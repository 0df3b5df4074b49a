//! The rows of the applied state: one struct per kind of record, versioned, encoded as protobuf behind a version byte.
//!
//! A row whose shape changes in a way protobuf cannot express gets a new struct with `type Previous` naming the old
//! one; the old bytes stay in the golden tests for ever.

mod backups;
mod pair;

use std::sync::Arc;

pub use backups::{
    BackupPlace, BackupRetention, BackupSchedule, BackupTarget, Backups, DirectoryPlace, S3Place, ScheduledKind,
    Secret, SftpPlace, WebdavPlace,
};
pub use pair::{Conflict, ConflictKind, ConflictState, Pair, PairMember, PairMemberKind, PairTimings, TailMark};

use super::keys::Key;

/// A row could not be read. The state is damaged or was written by a newer build; either way it must not be guessed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowError {
    /// No bytes at all.
    Empty,
    /// Written by a newer build.
    TooNew {
        /// The version found.
        found: u8,
        /// The newest version this build reads.
        known: u8,
    },
    /// The protobuf does not parse.
    Malformed(String),
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the row is empty"),
            Self::TooNew { found, known } => {
                write!(f, "the row has version {found}; this build reads up to version {known}")
            }
            Self::Malformed(cause) => write!(f, "the row does not parse: {cause}"),
        }
    }
}

impl std::error::Error for RowError {}

/// A stored record with a version chain.
pub trait Row: prost::Message + Default + Sized {
    /// The version of this shape, from 1.
    const VERSION: u8;
    /// The shape before this one; for version 1, itself.
    type Previous: Row;
    /// Makes this shape from the one before. Version 1 returns its argument.
    fn upgrade(previous: Self::Previous) -> Self;

    /// The version byte and the protobuf.
    fn encode_row(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.encoded_len());
        bytes.push(Self::VERSION);
        self.encode_raw(&mut bytes);
        bytes
    }

    /// Reads this version or any earlier one.
    ///
    /// # Errors
    /// [`RowError`] when the bytes are empty, newer than this build, or do not parse.
    fn decode_row(bytes: &[u8]) -> Result<Self, RowError> {
        let (&version, body) = bytes.split_first().ok_or(RowError::Empty)?;
        if version == Self::VERSION {
            return Self::decode(body).map_err(|e| RowError::Malformed(e.to_string()));
        }
        if version > Self::VERSION || Self::VERSION == 1 {
            return Err(RowError::TooNew { found: version, known: Self::VERSION });
        }
        Self::Previous::decode_row(bytes).map(Self::upgrade)
    }
}

macro_rules! first_version {
    ($($name:ident),* $(,)?) => {$(
        impl Row for $name {
            const VERSION: u8 = 1;
            type Previous = Self;
            fn upgrade(previous: Self) -> Self {
                previous
            }
        }
    )*};
}

/// What a person may do in the whole organisation.
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
pub enum Role {
    /// Sees only the channels it was added to.
    Guest = 0,
    /// A program with a token.
    Bot = 1,
    /// Chats, creates channels.
    Member = 2,
    /// A member who may also read the audit trail.
    Auditor = 3,
    /// Manages people, channels, settings.
    Admin = 4,
    /// An admin who may also make and unmake admins and owners. There is always at least one.
    Owner = 5,
}

/// What kind of conversation a channel is.
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
pub enum ChannelKind {
    /// Two people (or one person's notes to self).
    Direct = 0,
    /// By invitation, invisible to others.
    Private = 1,
    /// Everyone but guests may find and join it.
    Public = 2,
    /// Public, but only its managers post.
    Announcement = 3,
}

/// What a person may do in one channel.
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
pub enum MemberRole {
    /// Reads and writes.
    Member = 0,
    /// Also renames, archives, adds and removes members, deletes messages.
    Manager = 1,
}

/// When a channel may notify its member.
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
pub enum NotifyLevel {
    /// At every message.
    All = 0,
    /// When mentioned.
    Mentions = 1,
    /// Never.
    Muted = 2,
}

/// The settings that every node must agree on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Settings {
    /// Counts the changes; for `If-Match`.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The organisation's name, as shown on the login page.
    #[prost(string, tag = "2")]
    pub organisation: String,
    /// The language of people who chose none: a BCP 47 tag, `en` or `zh-CN`.
    #[prost(string, tag = "3")]
    pub default_locale: String,
    /// The IANA time zone of schedules and of reports.
    #[prost(string, tag = "4")]
    pub time_zone: String,
    /// How long a session lives without being renewed, in days.
    #[prost(uint32, tag = "5")]
    pub session_days: u32,
    /// How long an author may edit a message, in seconds; 0: for ever.
    #[prost(uint64, tag = "6")]
    pub edit_window_seconds: u64,
    /// When the organisation was set up, in Unix milliseconds.
    #[prost(uint64, tag = "7")]
    pub created_ms: u64,
}

/// A person or a bot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct User {
    /// The user's id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// The sign-in name: lower case, unique.
    #[prost(string, tag = "2")]
    pub username: String,
    /// The name others see.
    #[prost(string, tag = "3")]
    pub display_name: String,
    /// What the user may do.
    #[prost(enumeration = "Role", tag = "4")]
    pub role: i32,
    /// The argon2id hash in PHC form; empty when no password can sign in.
    #[prost(string, tag = "5")]
    pub password_hash: String,
    /// A BCP 47 tag, or empty for the organisation's.
    #[prost(string, tag = "6")]
    pub locale: String,
    /// May not sign in; what it wrote stays.
    #[prost(bool, tag = "7")]
    pub disabled: bool,
    /// Counts the changes; for `If-Match`.
    #[prost(uint64, tag = "8")]
    pub version: u64,
    /// When it was made, in Unix milliseconds.
    #[prost(uint64, tag = "9")]
    pub created_ms: u64,
    /// The password was set by somebody else: it must be changed at the next sign-in.
    #[prost(bool, tag = "10")]
    pub must_change_password: bool,
}

/// One signed-in device. The token itself is never stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Session {
    /// The session's id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// Whose it is.
    #[prost(fixed64, tag = "2")]
    pub user: u64,
    /// The lookup hash of its bearer token, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub token_hash: bytes::Bytes,
    /// What the device calls itself.
    #[prost(string, tag = "4")]
    pub device: String,
    /// The address it signed in from.
    #[prost(string, tag = "5")]
    pub address: String,
    /// When it signed in, in Unix milliseconds.
    #[prost(uint64, tag = "6")]
    pub created_ms: u64,
    /// When it ends, in Unix milliseconds.
    #[prost(uint64, tag = "7")]
    pub expires_ms: u64,
}

/// An invitation by link. The token itself is never stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Invite {
    /// The invitation's id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// The lookup hash of its token, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub token_hash: bytes::Bytes,
    /// Who made it.
    #[prost(fixed64, tag = "3")]
    pub creator: u64,
    /// The role of whoever accepts it.
    #[prost(enumeration = "Role", tag = "4")]
    pub role: i32,
    /// Channels that whoever accepts it joins.
    #[prost(fixed64, repeated, tag = "5")]
    pub channels: Vec<u64>,
    /// When it was made, in Unix milliseconds.
    #[prost(uint64, tag = "6")]
    pub created_ms: u64,
    /// When it ends, in Unix milliseconds.
    #[prost(uint64, tag = "7")]
    pub expires_ms: u64,
    /// How many people may accept it.
    #[prost(uint32, tag = "8")]
    pub uses_max: u32,
    /// How many people have.
    #[prost(uint32, tag = "9")]
    pub uses: u32,
    /// Nobody may accept it any more.
    #[prost(bool, tag = "10")]
    pub revoked: bool,
}

/// A conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Channel {
    /// The channel's id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// What kind it is.
    #[prost(enumeration = "ChannelKind", tag = "2")]
    pub kind: i32,
    /// Its name; empty for a direct channel.
    #[prost(string, tag = "3")]
    pub name: String,
    /// What it is about.
    #[prost(string, tag = "4")]
    pub topic: String,
    /// Who made it.
    #[prost(fixed64, tag = "5")]
    pub creator: u64,
    /// When, in Unix milliseconds.
    #[prost(uint64, tag = "6")]
    pub created_ms: u64,
    /// Read-only and out of the way.
    #[prost(bool, tag = "7")]
    pub archived: bool,
    /// Counts the changes; for `If-Match`.
    #[prost(uint64, tag = "8")]
    pub version: u64,
    /// The two people of a direct channel, in order; empty otherwise.
    #[prost(fixed64, repeated, tag = "9")]
    pub direct: Vec<u64>,
}

/// The part of a channel that every message changes, apart so that it stays small.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChannelHead {
    /// The newest message's sequence number, 0 when there is none.
    #[prost(uint64, tag = "1")]
    pub last_seq: u64,
    /// When it was sent, in Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub last_ms: u64,
    /// How many members there are.
    #[prost(uint32, tag = "3")]
    pub members: u32,
}

/// The channel's side of a membership.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Member {
    /// What the member may do here.
    #[prost(enumeration = "MemberRole", tag = "1")]
    pub role: i32,
    /// When it joined, in Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub joined_ms: u64,
}

/// The member's side of a membership.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Membership {
    /// The newest sequence number the member has read.
    #[prost(uint64, tag = "1")]
    pub read_seq: u64,
    /// When the channel may notify.
    #[prost(enumeration = "NotifyLevel", tag = "2")]
    pub notify: i32,
}

/// One message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// The message's id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// Who wrote it.
    #[prost(fixed64, tag = "2")]
    pub sender: u64,
    /// The sender's own id for it, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub client_id: bytes::Bytes,
    /// Markdown; empty once deleted.
    #[prost(string, tag = "4")]
    pub body: String,
    /// Counts the changes beyond the first version, for `If-Match`: the version shown is this plus one.
    #[prost(uint32, tag = "5")]
    pub edits: u32,
    /// When it was sent, in Unix milliseconds.
    #[prost(fixed64, tag = "6")]
    pub created_ms: u64,
    /// When it was last edited, in Unix milliseconds; 0: never.
    #[prost(uint64, tag = "7")]
    pub edited_ms: u64,
    /// When it was deleted, in Unix milliseconds; 0: it was not.
    #[prost(uint64, tag = "8")]
    pub deleted_ms: u64,
    /// When it arrived from the other side of a fork, in Unix milliseconds; 0: it came directly.
    #[prost(uint64, tag = "9")]
    pub late_ms: u64,
}

/// One of a sender's latest sends, so that a resend after a lost answer returns the first message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sent {
    /// Which send of this sender it was, from 1.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The sender's own id for the message, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub client_id: bytes::Bytes,
    /// Where the message is.
    #[prost(fixed64, tag = "3")]
    pub channel: u64,
    /// Its sequence number there.
    #[prost(uint64, tag = "4")]
    pub seq: u64,
}

/// One administrative act.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Audit {
    /// When, in Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub at_ms: u64,
    /// Who; 0 for the operator at the machine itself.
    #[prost(fixed64, tag = "2")]
    pub actor: u64,
    /// From which session; 0 when there was none.
    #[prost(fixed64, tag = "3")]
    pub session: u64,
    /// From which address; `local` for the operator at the machine.
    #[prost(string, tag = "4")]
    pub address: String,
    /// What was done: `user.create`, `channel.update`, ...
    #[prost(string, tag = "5")]
    pub action: String,
    /// To what: `user`, `channel`, `invite`, `session`, `settings`, `message`.
    #[prost(string, tag = "6")]
    pub target_kind: String,
    /// The id of what it was done to.
    #[prost(fixed64, tag = "7")]
    pub target: u64,
    /// The record before, as JSON without secrets; empty when there was none.
    #[prost(string, tag = "8")]
    pub before: String,
    /// The record after, likewise.
    #[prost(string, tag = "9")]
    pub after: String,
    /// When it arrived from the other side of a fork, in Unix milliseconds; 0: it came directly.
    #[prost(uint64, tag = "10")]
    pub late_ms: u64,
}

/// An index row: the id that a name, a hash or a pair stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reference {
    /// The id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
}

first_version!(
    Settings,
    User,
    Session,
    Invite,
    Channel,
    ChannelHead,
    Member,
    Membership,
    Message,
    Sent,
    Audit,
    Reference,
    Pair,
    TailMark,
    Conflict,
    Backups
);

macro_rules! values {
    ($($name:ident),* $(,)?) => {
        /// A row of any kind. Clones share it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $(
                #[doc = concat!("A [`", stringify!($name), "`].")]
                $name(Arc<$name>),
            )*
        }

        impl Value {
            /// The row's bytes, as stored and hashed.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(row) => row.encode_row(),)*
                }
            }
        }

        $(
            impl From<$name> for Value {
                fn from(row: $name) -> Self {
                    Self::$name(Arc::new(row))
                }
            }

            impl TypedRow for $name {
                fn from_value(value: Value) -> Option<Arc<Self>> {
                    match value {
                        Value::$name(row) => Some(row),
                        _ => None,
                    }
                }
            }
        )*
    };
}

/// A row type that can be taken out of a [`Value`].
pub trait TypedRow: Row {
    /// The row, when the value is of this kind.
    fn from_value(value: Value) -> Option<Arc<Self>>;
}

values!(
    Settings,
    User,
    Session,
    Invite,
    Channel,
    ChannelHead,
    Member,
    Membership,
    Message,
    Sent,
    Audit,
    Reference,
    Pair,
    TailMark,
    Conflict,
    Backups
);

impl Value {
    /// Reads the bytes stored under `key`: the key says which kind of row they are.
    ///
    /// # Errors
    /// [`RowError`] when the bytes are no such row.
    pub fn decode(key: &Key, bytes: &[u8]) -> Result<Self, RowError> {
        Ok(match key {
            Key::Settings => Settings::decode_row(bytes)?.into(),
            Key::User(_) => User::decode_row(bytes)?.into(),
            Key::Session(_) => Session::decode_row(bytes)?.into(),
            Key::Invite(_) => Invite::decode_row(bytes)?.into(),
            Key::Channel(_) => Channel::decode_row(bytes)?.into(),
            Key::ChannelHead(_) => ChannelHead::decode_row(bytes)?.into(),
            Key::Member(..) => Member::decode_row(bytes)?.into(),
            Key::Membership(..) => Membership::decode_row(bytes)?.into(),
            Key::Message(..) => Message::decode_row(bytes)?.into(),
            Key::Sent(..) => Sent::decode_row(bytes)?.into(),
            Key::Audit(_) => Audit::decode_row(bytes)?.into(),
            Key::Pair => Pair::decode_row(bytes)?.into(),
            Key::TailMark(_) => TailMark::decode_row(bytes)?.into(),
            Key::Conflict(_) => Conflict::decode_row(bytes)?.into(),
            Key::Backups => Backups::decode_row(bytes)?.into(),
            Key::Username(_)
            | Key::SessionToken(_)
            | Key::UserSession(..)
            | Key::InviteToken(_)
            | Key::ChannelName(_)
            | Key::DirectPair(..)
            | Key::OpenConflict(_)
            | Key::ChannelAlias(_) => Reference::decode_row(bytes)?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::ids::{ChannelId, UserId};

    #[test]
    fn rows_that_cannot_be_read_say_why() {
        assert_eq!(User::decode_row(&[]), Err(RowError::Empty));
        assert_eq!(User::decode_row(&[2, 8, 1]), Err(RowError::TooNew { found: 2, known: 1 }));
        assert_eq!(User::decode_row(&[0]), Err(RowError::TooNew { found: 0, known: 1 }));
        assert!(matches!(User::decode_row(&[1, 0xff]), Err(RowError::Malformed(_))));
        assert_eq!(User::decode_row(&[1]), Ok(User::default()));
    }

    #[test]
    fn a_role_of_a_later_version_counts_as_the_least() {
        let user = User { role: 99, ..User::default() };
        assert_eq!(User::decode_row(&user.encode_row()).unwrap().role(), Role::Guest);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            for key in [Key::Settings, Key::User(UserId(1)), Key::Message(ChannelId(1), 1), Key::Sent(UserId(1), 1)] {
                if let Ok(value) = Value::decode(&key, &bytes) {
                    prop_assert_eq!(Value::decode(&key, &value.encode()).unwrap(), value);
                }
            }
        }
    }
}
