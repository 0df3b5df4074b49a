//! The rules of chat: who may do what, and what it changes. One file per kind of record.

pub mod channels;
pub mod forms;
pub mod invites;
pub mod messages;
pub mod restores;
pub mod sessions;
pub mod settings;
pub mod users;

use std::sync::Arc;

use super::command::Actor;
use super::event::Event;
use super::ids::{ChannelId, UserId};
use super::keys::Key;
use super::refusal::{RefusalCode, RuleError};
use super::rows::{self, Role};
use super::view::{Changes, Direction, View, ViewExt};

/// What a rule gives when it succeeds.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// A message is durable.
    Sent(Sent),
    /// A message as it is now.
    Message(super::event::Message),
    /// A user as it is now.
    User(super::event::User),
    /// A session was made.
    Session(super::event::Session),
    /// An invitation as it is now.
    Invite(super::event::Invite),
    /// A channel with the actor's membership; `created` is false when it was there already.
    Entry {
        /// The channel and the membership.
        entry: super::event::ChannelEntry,
        /// It was made by this command.
        created: bool,
    },
    /// A channel as it is now.
    Channel(super::event::Channel),
    /// A member as it is now.
    Member(super::event::Member),
    /// One's own membership as it is now.
    OwnMember(super::event::OwnMember),
    /// The settings as they are now.
    Settings(super::event::Settings),
    /// The pair as it is now.
    Pair(super::event::Pair),
    /// A conflict as it is now.
    Conflict(super::event::Conflict),
    /// The settings of the backups as they are now.
    Backups(super::event::Backups),
    /// What became of messages that a backup still has.
    PutBack(restores::PutBack),
}

/// Where a sent message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message's id.
    pub id: super::ids::MessageId,
    /// Where.
    pub channel: ChannelId,
    /// Its sequence number there.
    pub seq: u64,
    /// When it was sent, in Unix milliseconds.
    pub created_ms: u64,
    /// It was there already: this is the answer to a resend.
    pub duplicate: bool,
}

/// What a rule works with: the entry's id, time and actor, the state with the changes so far, and the events.
pub struct Context<'a> {
    /// The id of whatever the entry creates.
    pub id: u64,
    /// The entry's log index.
    pub index: u64,
    /// The entry's time, in Unix milliseconds.
    pub now_ms: u64,
    /// When an entry from the other side of a fork arrived, in Unix milliseconds; 0 for all others.
    pub late_ms: u64,
    /// Who asked.
    pub actor: &'a Actor,
    /// The state and the changes.
    pub changes: Changes<'a>,
    /// What happened.
    pub events: Vec<Event>,
}

/// What a rule returns.
pub type Ruled<T> = Result<T, RuleError>;

impl Context<'_> {
    /// The user who acts.
    pub(crate) fn acting_user(&self) -> Ruled<Arc<rows::User>> {
        active_user(&self.changes, UserId(self.actor.user))
    }

    /// Whether the actor may administer. The operator at the machine may do what an owner may.
    pub(crate) fn acting_role(&self) -> Ruled<Role> {
        if self.actor.is_operator() {
            return Ok(Role::Owner);
        }
        Ok(self.acting_user()?.role())
    }

    /// Refuses all but admins, owners and the operator.
    pub(crate) fn require_admin(&self) -> Ruled<Role> {
        let role = self.acting_role()?;
        if role < Role::Admin {
            return Err(RefusalCode::Forbidden.into());
        }
        Ok(role)
    }

    /// Writes the audit record of an administrative act.
    pub(crate) fn audit(&mut self, act: Act<'_>) {
        let text = |value: Option<serde_json::Value>| value.map_or_else(String::new, |json| json.to_string());
        let row = rows::Audit {
            at_ms: self.now_ms,
            actor: self.actor.user,
            session: self.actor.session,
            address: self.actor.address.clone(),
            action: act.action.to_owned(),
            target_kind: act.kind.to_owned(),
            target: act.target,
            before: text(act.before),
            after: text(act.after),
            late_ms: self.late_ms,
        };
        self.changes.replace(Key::Audit(self.index), None, row);
    }
}

/// An administrative act for the audit trail.
pub(crate) struct Act<'a> {
    pub(crate) action: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) target: u64,
    pub(crate) before: Option<serde_json::Value>,
    pub(crate) after: Option<serde_json::Value>,
}

/// A record as JSON for the audit trail. The views have no secret fields.
pub(crate) fn json<T: serde::Serialize>(view: &T) -> Option<serde_json::Value> {
    serde_json::to_value(view).ok()
}

/// A user who exists and may act.
pub(crate) fn active_user(view: &(impl View + ?Sized), user: UserId) -> Ruled<Arc<rows::User>> {
    let row = view.row::<rows::User>(Key::User(user))?.ok_or(RefusalCode::UserNotFound)?;
    if row.disabled {
        return Err(RefusalCode::UserDisabled.into());
    }
    Ok(row)
}

/// Whether `user` may know of `other`: guests know only the people they share a channel with.
pub(crate) fn knows(view: &(impl View + ?Sized), user: &rows::User, other: UserId) -> Ruled<bool> {
    let own = UserId(user.id);
    if user.role() > Role::Guest || own == other {
        return Ok(true);
    }
    let all = Key::Membership(own, ChannelId(0))..=Key::Membership(own, ChannelId(u64::MAX));
    for (key, _) in view.scan(all, Direction::Up, usize::MAX)? {
        if let Key::Membership(_, channel) = key
            && view.get(&Key::Member(channel, other))?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A channel that exists.
pub(crate) fn channel(view: &(impl View + ?Sized), id: ChannelId) -> Ruled<Arc<rows::Channel>> {
    Ok(view.row::<rows::Channel>(Key::Channel(id))?.ok_or(RefusalCode::ChannelNotFound)?)
}

/// A channel's head; one that has none yet is empty.
pub(crate) fn head(view: &(impl View + ?Sized), id: ChannelId) -> Ruled<Arc<rows::ChannelHead>> {
    Ok(view.row::<rows::ChannelHead>(Key::ChannelHead(id))?.unwrap_or_default())
}
