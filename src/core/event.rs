//! What happened, as clients see it: the shapes of the API and the events of the WebSocket. Secrets have no field here.

mod backups;

use serde::Serialize;
use utoipa::ToSchema;

use super::ids::{ChannelId, InviteId, MessageId, SessionId, UserId};
use super::rows::{self, ChannelKind, ConflictKind, ConflictState, MemberRole, NotifyLevel, PairMemberKind, Role};

pub use backups::{BackupPlaceView, BackupRetention, BackupSchedule, BackupTarget, Backups};

/// A person or a bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// The user's id.
    #[schema(value_type = String)]
    pub id: UserId,
    /// The sign-in name: lower case, unique.
    pub username: String,
    /// The name others see.
    pub display_name: String,
    /// What the user may do.
    pub role: Role,
    /// A BCP 47 tag, or empty for the organisation's.
    pub locale: String,
    /// May not sign in.
    pub disabled: bool,
    /// For `If-Match`.
    pub version: u64,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// The password was set by somebody else and must be changed.
    pub must_change_password: bool,
}

impl From<&rows::User> for User {
    fn from(row: &rows::User) -> Self {
        Self {
            id: UserId(row.id),
            username: row.username.clone(),
            display_name: row.display_name.clone(),
            role: row.role(),
            locale: row.locale.clone(),
            disabled: row.disabled,
            version: row.version,
            created_ms: row.created_ms,
            must_change_password: row.must_change_password,
        }
    }
}

/// The settings that every node agrees on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Settings {
    /// For `If-Match`.
    pub version: u64,
    /// The organisation's name.
    pub organisation: String,
    /// The language of people who chose none.
    pub default_locale: String,
    /// The IANA time zone of schedules and reports.
    pub time_zone: String,
    /// How long a session lives, in days.
    pub session_days: u32,
    /// How long an author may edit a message, in seconds; 0: for ever.
    pub edit_window_seconds: u64,
}

impl From<&rows::Settings> for Settings {
    fn from(row: &rows::Settings) -> Self {
        Self {
            version: row.version,
            organisation: row.organisation.clone(),
            default_locale: row.default_locale.clone(),
            time_zone: row.time_zone.clone(),
            session_days: row.session_days,
            edit_window_seconds: row.edit_window_seconds,
        }
    }
}

/// One signed-in device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Session {
    /// The session's id.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// What the device calls itself.
    pub device: String,
    /// The address it signed in from.
    pub address: String,
    /// When it signed in, in Unix milliseconds.
    pub created_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_ms: u64,
    /// It is the session that asked.
    pub current: bool,
}

impl Session {
    /// The view of a row for the session `current`.
    #[must_use]
    pub fn of(row: &rows::Session, current: SessionId) -> Self {
        Self {
            id: SessionId(row.id),
            user_id: UserId(row.user),
            device: row.device.clone(),
            address: row.address.clone(),
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            current: row.id == current.0,
        }
    }
}

/// An invitation by link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Invite {
    /// The invitation's id.
    #[schema(value_type = String)]
    pub id: InviteId,
    /// Who made it.
    #[schema(value_type = String)]
    pub creator_id: UserId,
    /// The role of whoever accepts it.
    pub role: Role,
    /// Channels that whoever accepts it joins.
    #[schema(value_type = Vec<String>)]
    pub channel_ids: Vec<ChannelId>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_ms: u64,
    /// How many people may accept it.
    pub uses_max: u32,
    /// How many people have.
    pub uses: u32,
    /// Nobody may accept it any more.
    pub revoked: bool,
}

impl From<&rows::Invite> for Invite {
    fn from(row: &rows::Invite) -> Self {
        Self {
            id: InviteId(row.id),
            creator_id: UserId(row.creator),
            role: row.role(),
            channel_ids: row.channels.iter().map(|&id| ChannelId(id)).collect(),
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            uses_max: row.uses_max,
            uses: row.uses,
            revoked: row.revoked,
        }
    }
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Channel {
    /// The channel's id.
    #[schema(value_type = String)]
    pub id: ChannelId,
    /// What kind it is.
    pub kind: ChannelKind,
    /// Its name; empty for a direct channel.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Who made it.
    #[schema(value_type = String)]
    pub creator_id: UserId,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// Read-only and out of the way.
    pub archived: bool,
    /// For `If-Match`.
    pub version: u64,
    /// The two people of a direct channel; empty otherwise.
    #[schema(value_type = Vec<String>)]
    pub direct_user_ids: Vec<UserId>,
    /// The newest message's sequence number, 0 when there is none.
    pub last_seq: u64,
    /// When it was sent, in Unix milliseconds; 0 when there is none.
    pub last_ms: u64,
    /// How many members there are.
    pub member_count: u32,
}

impl Channel {
    /// The view of a channel and its head.
    #[must_use]
    pub fn of(row: &rows::Channel, head: &rows::ChannelHead) -> Self {
        Self {
            id: ChannelId(row.id),
            kind: row.kind(),
            name: row.name.clone(),
            topic: row.topic.clone(),
            creator_id: UserId(row.creator),
            created_ms: row.created_ms,
            archived: row.archived,
            version: row.version,
            direct_user_ids: row.direct.iter().map(|&id| UserId(id)).collect(),
            last_seq: head.last_seq,
            last_ms: head.last_ms,
            member_count: head.members,
        }
    }
}

/// One's own membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OwnMember {
    /// What one may do here.
    pub role: MemberRole,
    /// When one joined, in Unix milliseconds.
    pub joined_ms: u64,
    /// The newest sequence number read; unread is `last_seq - read_seq`.
    pub read_seq: u64,
    /// When the channel may notify.
    pub notify: NotifyLevel,
}

impl OwnMember {
    /// The view of both sides of a membership.
    #[must_use]
    pub fn of(member: &rows::Member, membership: &rows::Membership) -> Self {
        Self {
            role: member.role(),
            joined_ms: member.joined_ms,
            read_seq: membership.read_seq,
            notify: membership.notify(),
        }
    }
}

/// A channel with one's own membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChannelEntry {
    /// The channel.
    pub channel: Channel,
    /// One's own membership; null when one is not a member.
    pub member: Option<OwnMember>,
}

/// A member of a channel, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Member {
    /// Who.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// What it may do here.
    pub role: MemberRole,
    /// When it joined, in Unix milliseconds.
    pub joined_ms: u64,
}

impl Member {
    /// The view of a row.
    #[must_use]
    pub fn of(user: UserId, row: &rows::Member) -> Self {
        Self { user_id: user, role: row.role(), joined_ms: row.joined_ms }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Message {
    /// The message's id.
    #[schema(value_type = String)]
    pub id: MessageId,
    /// Where it is.
    #[schema(value_type = String)]
    pub channel_id: ChannelId,
    /// Its place there, from 1, without gaps.
    pub seq: u64,
    /// Who wrote it.
    #[schema(value_type = String)]
    pub sender_id: UserId,
    /// The sender's own id for it, a UUID.
    #[schema(value_type = String)]
    #[serde(serialize_with = "uuid_text")]
    pub client_id: bytes::Bytes,
    /// Markdown; empty once deleted.
    pub body: String,
    /// For `If-Match`; 1 when it was never changed.
    pub version: u32,
    /// When it was sent, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was last edited, in Unix milliseconds.
    pub edited_ms: Option<u64>,
    /// When it was deleted, in Unix milliseconds.
    pub deleted_ms: Option<u64>,
    /// It was sent on the other side of a fork and arrived late: others have seen newer messages before it. Absent: no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub late: bool,
}

impl Message {
    /// The view of a row.
    #[must_use]
    pub fn of(channel: ChannelId, seq: u64, row: &rows::Message) -> Self {
        Self {
            id: MessageId(row.id),
            channel_id: channel,
            seq,
            sender_id: UserId(row.sender),
            client_id: row.client_id.clone(),
            body: row.body.clone(),
            version: row.edits + 1,
            created_ms: row.created_ms,
            edited_ms: (row.edited_ms > 0).then_some(row.edited_ms),
            deleted_ms: (row.deleted_ms > 0).then_some(row.deleted_ms),
            late: row.late_ms > 0,
        }
    }
}

/// Writes the 16 bytes of a UUID in its usual text form.
fn uuid_text<S: serde::Serializer>(bytes: &bytes::Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let id = uuid::Uuid::from_slice(bytes).unwrap_or_default();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    serializer.serialize_str(id.hyphenated().encode_lower(&mut text))
}

/// One administrative act.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Audit {
    /// The log index of the act: `holdfast log dump --from` shows the record, `log verify` proves it.
    pub index: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Who; null for the operator at the machine itself.
    #[schema(value_type = Option<String>)]
    pub actor_id: Option<UserId>,
    /// From which session; null when there was none.
    #[schema(value_type = Option<String>)]
    pub session_id: Option<SessionId>,
    /// From which address; `local` for the operator at the machine.
    pub address: String,
    /// What was done, for example `user.create`.
    pub action: String,
    /// To what: `user`, `channel`, `invite`, `session`, `settings`, `message`.
    pub target_kind: String,
    /// The id of what it was done to.
    pub target_id: String,
    /// The record before; null when there was none.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// The record after; null when there is none.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// When it arrived from the other side of a fork, in Unix milliseconds. Absent: it was done on this side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<u64>,
}

impl Audit {
    /// The view of a row.
    #[must_use]
    pub fn of(index: u64, row: &rows::Audit) -> Self {
        let json = |text: &str| serde_json::from_str(text).ok();
        Self {
            index,
            at_ms: row.at_ms,
            actor_id: (row.actor > 0).then_some(UserId(row.actor)),
            session_id: (row.session > 0).then_some(SessionId(row.session)),
            address: row.address.clone(),
            action: row.action.clone(),
            target_kind: row.target_kind.clone(),
            target_id: row.target.to_string(),
            before: json(&row.before),
            after: json(&row.after),
            late_ms: (row.late_ms > 0).then_some(row.late_ms),
        }
    }
}

/// A member of the pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PairMember {
    /// Its number; never used a second time.
    pub number: u32,
    /// What it is.
    pub kind: PairMemberKind,
    /// `host:port` for the other members: the main link first, then second ones.
    pub addresses: Vec<String>,
    /// The URL that clients use; empty for a witness.
    pub client_url: String,
    /// SHA-256 of its certificate, in hex.
    pub fingerprint: String,
    /// What people call it.
    pub name: String,
    /// The level of commands that its build understands.
    pub level: u32,
}

/// When a pair notices what, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PairTimings {
    /// Between two heartbeats.
    pub heartbeat_ms: u32,
    /// After so much silence of the active the standby stands.
    pub fail_after_ms: u32,
    /// After so long without an ack of the standby the active asks to go on alone.
    pub solo_after_ms: u32,
    /// After so long without anybody the active closes its clients' sessions.
    pub lease_ms: u32,
    /// Without a witness: after so much silence the standby promotes itself.
    pub promote_after_ms: u32,
}

/// The pair and what its members agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pair {
    /// Counts the changes.
    pub version: u64,
    /// The members, in the order of their numbers.
    pub members: Vec<PairMember>,
    /// The numbers of former members.
    pub retired: Vec<u32>,
    /// Without a witness: the standby may promote itself.
    pub auto_promote: bool,
    /// `host:port` of an always-on host; null: none.
    pub reference: Option<String>,
    /// The timings.
    pub timings: PairTimings,
    /// The level that all members use.
    pub level: u32,
    /// Commands above this level are held back; null: none are.
    pub level_held: Option<u32>,
}

impl From<&rows::Pair> for Pair {
    fn from(row: &rows::Pair) -> Self {
        let member = |row: &rows::PairMember| PairMember {
            number: row.number,
            kind: row.kind(),
            addresses: row.addresses.clone(),
            client_url: row.client_url.clone(),
            fingerprint: data_encoding::HEXLOWER.encode(&row.fingerprint),
            name: row.name.clone(),
            level: row.level,
        };
        let timings = row.timings.unwrap_or(super::pair::TIMINGS_DEFAULT);
        Self {
            version: row.version,
            members: row.members.iter().map(member).collect(),
            retired: row.retired.clone(),
            auto_promote: row.auto_promote,
            reference: (!row.reference.is_empty()).then(|| row.reference.clone()),
            timings: PairTimings {
                heartbeat_ms: timings.heartbeat_ms,
                fail_after_ms: timings.fail_after_ms,
                solo_after_ms: timings.solo_after_ms,
                lease_ms: timings.lease_ms,
                promote_after_ms: timings.promote_after_ms,
            },
            level: super::pair::level_of(row),
            level_held: row.level_held,
        }
    }
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ConflictField {
    /// The field's name.
    pub name: String,
    /// Its value here.
    #[schema(value_type = Value)]
    pub active: serde_json::Value,
    /// Its value on the other side.
    #[schema(value_type = Value)]
    pub other: serde_json::Value,
}

/// What both sides of a fork changed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Conflict {
    /// The conflict's id.
    pub id: String,
    /// For `If-Match`.
    pub version: u64,
    /// What it is about.
    pub kind: ConflictKind,
    /// The id of what it is about; null for the settings.
    pub subject_id: Option<String>,
    /// The channel that it concerns; null: none.
    #[schema(value_type = Option<String>)]
    pub channel_id: Option<ChannelId>,
    /// Why: `stale_version` when both sides changed it, else the code of what stood in the way.
    pub reason: String,
    /// The record as it is here now; null when there is none, or when it is not for these eyes.
    #[schema(value_type = Option<Object>)]
    pub active: Option<serde_json::Value>,
    /// The version of that record, for the decision; 0 where it has none.
    pub record_version: u64,
    /// The whole record as it was on the other side, likewise.
    #[schema(value_type = Option<Object>)]
    pub other: Option<serde_json::Value>,
    /// The fields that differ.
    pub fields: Vec<ConflictField>,
    /// Texts and names are left out, because they belong to a channel that the reader is not in.
    pub hidden: bool,
    /// The other side's value can be taken.
    pub can_take: bool,
    /// Who changed it on the other side; null: the operator there.
    #[schema(value_type = Option<String>)]
    pub changed_by: Option<UserId>,
    /// When, in Unix milliseconds.
    pub changed_ms: u64,
    /// The member of the pair that wrote it.
    pub node: u32,
    /// When it arrived here, in Unix milliseconds.
    pub arrived_ms: u64,
    /// What became of it.
    pub state: ConflictState,
    /// Who decided; null while it is open, and for the operator.
    #[schema(value_type = Option<String>)]
    pub resolved_by: Option<UserId>,
    /// When, in Unix milliseconds; null while it is open.
    pub resolved_ms: Option<u64>,
}

/// Who gets an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every member of a channel.
    Channel(ChannelId),
    /// One user, on all devices.
    User(UserId),
    /// Everyone signed in, guests aside.
    Everyone,
    /// Nobody outside: the node itself acts on it.
    Node,
}

/// What happened. The JSON form is what a WebSocket carries, with the log position added.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event")]
pub enum Event {
    /// A message was sent.
    #[serde(rename = "message.created")]
    MessageCreated {
        /// The message.
        message: Message,
    },
    /// A message was edited or deleted.
    #[serde(rename = "message.updated")]
    MessageUpdated {
        /// The message as it is now.
        message: Message,
    },
    /// A channel is new to this user: it was made, or the user was added.
    #[serde(rename = "channel.created")]
    ChannelCreated {
        /// To whom it is new.
        #[serde(skip)]
        user: UserId,
        /// The channel and the user's membership.
        entry: ChannelEntry,
    },
    /// A channel changed.
    #[serde(rename = "channel.updated")]
    ChannelUpdated {
        /// The channel as it is now.
        channel: Channel,
    },
    /// Somebody joined or was added.
    #[serde(rename = "member.added")]
    MemberAdded {
        /// Where.
        channel_id: ChannelId,
        /// Who.
        member: Member,
    },
    /// A member's role changed.
    #[serde(rename = "member.updated")]
    MemberUpdated {
        /// Where.
        channel_id: ChannelId,
        /// Who, as it is now.
        member: Member,
    },
    /// Somebody left or was removed.
    #[serde(rename = "member.removed")]
    MemberRemoved {
        /// From where.
        channel_id: ChannelId,
        /// Who.
        user_id: UserId,
    },
    /// One's own read mark moved, perhaps on another device.
    #[serde(rename = "read")]
    Read {
        /// Where.
        channel_id: ChannelId,
        /// Whose mark.
        user_id: UserId,
        /// How far.
        read_seq: u64,
    },
    /// One's own side of a membership changed.
    #[serde(rename = "membership.updated")]
    MembershipUpdated {
        /// Whose.
        #[serde(skip)]
        user: UserId,
        /// Where.
        channel_id: ChannelId,
        /// The membership as it is now.
        member: OwnMember,
    },
    /// A user was made.
    #[serde(rename = "user.created")]
    UserCreated {
        /// The user.
        user: User,
    },
    /// A user changed.
    #[serde(rename = "user.updated")]
    UserUpdated {
        /// The user as it is now.
        user: User,
    },
    /// The settings changed.
    #[serde(rename = "settings.updated")]
    SettingsUpdated {
        /// The settings as they are now.
        settings: Settings,
    },
    /// A session ended; the node closes its sockets.
    #[serde(skip)]
    SessionEnded {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
}

impl Event {
    /// Who gets it.
    #[must_use]
    pub const fn audience(&self) -> Audience {
        match self {
            Self::MessageCreated { message } | Self::MessageUpdated { message } => {
                Audience::Channel(message.channel_id)
            }
            Self::ChannelCreated { user, .. } | Self::MembershipUpdated { user, .. } => Audience::User(*user),
            Self::ChannelUpdated { channel } => Audience::Channel(channel.id),
            Self::MemberAdded { channel_id, .. }
            | Self::MemberUpdated { channel_id, .. }
            | Self::MemberRemoved { channel_id, .. } => Audience::Channel(*channel_id),
            Self::Read { user_id, .. } => Audience::User(*user_id),
            Self::UserCreated { .. } | Self::UserUpdated { .. } | Self::SettingsUpdated { .. } => Audience::Everyone,
            Self::SessionEnded { .. } => Audience::Node,
        }
    }
}
