//! Conflicts: what both sides of a fork changed, or what a change of one side stood in the way of. The active's value
//! stands, the other one is kept, an admin decides.
//!
//! - A conflict has the id of the tail's record: the same record never makes two.
//! - What belongs to a private channel is shown only to its members, also here.
//! - Texts of messages and passwords never go into the audit trail.

use std::sync::Arc;

use prost::Message as _;
use serde_json::{Value as Json, json as object};

use super::encoded;
use super::late::{self, Change};
use crate::core::chat::{Act, Context, Reply, Ruled, channels, json, settings, users};
use crate::core::command::{
    Command, Decision, EditMessage, Envelope, ResolveConflict, Salvage, UpdateChannel, UpdateSettings, UpdateUser,
};
use crate::core::event::{self, ConflictField};
use crate::core::ids::{ChannelId, InviteId, UserId};
use crate::core::keys::Key;
use crate::core::machine::Machine;
use crate::core::refusal::{Current, Refusal, RefusalCode, RuleError};
use crate::core::rows::{self, ChannelKind, ConflictKind, ConflictState};
use crate::core::view::{View, ViewError, ViewExt};

/// A conflict about to be recorded.
pub(super) struct Clash {
    kind: ConflictKind,
    subject: u64,
    channel: ChannelId,
    seq: u64,
    reason: RefusalCode,
    command: Option<Command>,
    other: Option<Json>,
}

impl Clash {
    pub(super) const fn new(kind: ConflictKind, subject: u64, reason: RefusalCode) -> Self {
        Self { kind, subject, channel: ChannelId(0), seq: 0, reason, command: None, other: None }
    }

    /// It concerns a channel.
    pub(super) fn in_channel(self, channel: ChannelId) -> Self {
        Self { channel, ..self }
    }

    /// It concerns a message.
    pub(super) fn at(self, channel: ChannelId, seq: u64) -> Self {
        Self { channel, seq, ..self }
    }

    /// What would take the other side's value, and that value.
    pub(super) fn with(self, command: Option<Command>, other: Option<Json>) -> Self {
        Self { command, other, ..self }
    }
}

/// Records a conflict about what an item wanted.
pub(super) fn record(ctx: &mut Context<'_>, work: (&Salvage, &Envelope), clash: Clash) -> Ruled<Reply> {
    let (item, envelope) = work;
    let command = clash.command.clone().or_else(|| envelope.command.clone());
    put(ctx, clash.with(command, serde_json::from_str(&item.other).ok()))?;
    Ok(Reply::Done)
}

/// Records a conflict, with what else this entry has put into the audit trail.
pub(super) fn put(ctx: &mut Context<'_>, clash: Clash) -> Ruled<()> {
    let key = Key::Conflict(ctx.id);
    if ctx.changes.get(&key)?.is_some() {
        return Ok(());
    }
    let command = clash.command.map(|command| Envelope { actor: Some(ctx.actor.clone()), command: Some(command) });
    let row = rows::Conflict {
        id: ctx.id,
        version: 1,
        kind: clash.kind.into(),
        subject: clash.subject,
        channel: clash.channel.0,
        seq: clash.seq,
        reason: clash.reason.as_str().to_owned(),
        other: clash.other.map(|json| json.to_string()).unwrap_or_default(),
        command: command.map(|envelope| encoded(&envelope)).unwrap_or_default(),
        actor: ctx.actor.user,
        changed_ms: ctx.now_ms,
        node: ctx.id as u32 >> 12 & 0x3ff,
        late_ms: ctx.late_ms,
        state: ConflictState::Open.into(),
        resolver: 0,
        resolved_ms: 0,
    };
    let view = view_of(&ctx.changes, &row, None)?;
    ctx.changes.put(key, row)?;
    ctx.changes.put(Key::OpenConflict(ctx.id), rows::Reference { id: ctx.id })?;
    audit(ctx, ("conflict.record", ctx.id), audited(&view))
}

/// Writes an audit record that holds the one which this entry wrote before, if any.
fn audit(ctx: &mut Context<'_>, (action, id): (&str, u64), mut after: Json) -> Ruled<()> {
    let mut before = None;
    if let Some(done) = ctx.changes.row::<rows::Audit>(Key::Audit(ctx.index))? {
        before = serde_json::from_str(&done.before).ok();
        let record = serde_json::from_str::<Json>(&done.after).ok();
        if let Some(map) = after.as_object_mut() {
            map.insert("done".to_owned(), object!({"action": done.action, "after": record}));
        }
    }
    ctx.audit(Act { action, kind: "conflict", target: id, before, after: Some(after) });
    Ok(())
}

/// A conflict for the audit trail: without texts of messages.
fn audited(view: &event::Conflict) -> Json {
    let bare = view.kind != ConflictKind::Message;
    object!({
        "kind": view.kind, "subject_id": view.subject_id, "channel_id": view.channel_id, "reason": view.reason,
        "changed_by": view.changed_by, "changed_ms": view.changed_ms, "node": view.node, "state": view.state,
        "active": view.active.as_ref().filter(|_| bare), "other": view.other.as_ref().filter(|_| bare),
    })
}

/// What is left of an item that the rules refused.
pub(super) fn after_refusal(ctx: &mut Context<'_>, work: (&Salvage, &Envelope), refusal: &Refusal) -> Ruled<Reply> {
    let command = work.1.command.as_ref().ok_or(RefusalCode::InvalidCommand)?;
    let code = refusal.code;
    let clash = |kind, subject| Clash::new(kind, subject, code);
    let clash = match command {
        // Nothing that a person typed, and nothing that could be done any more.
        Command::MarkRead(_) | Command::CreateSession(_) | Command::UpdateMembership(_) => return Ok(Reply::Done),
        Command::ResolveConflict(_) | Command::NotePair(_) | Command::NoteCertificate(_) => return Ok(Reply::Done),
        Command::UpdatePair(_) | Command::Salvage(_) => return Ok(Reply::Done),
        // Whoever asked for it sees that the texts are not there, and the backup still has them.
        Command::NoteRestore(_) | Command::RestoreMessages(_) => return Ok(Reply::Done),
        Command::RevokeSession(_) if code == RefusalCode::SessionNotFound => return Ok(Reply::Done),
        Command::RevokeInvite(_) if code == RefusalCode::InviteNotFound => return Ok(Reply::Done),
        Command::RemoveMember(_) if code == RefusalCode::UserNotFound => return Ok(Reply::Done),
        Command::UpdateUser(_) | Command::UpdateChannel(_) | Command::UpdateSettings(_)
            if is_so_already(ctx, command)? =>
        {
            return Ok(Reply::Done);
        }
        Command::UpdateUser(c) => clash(ConflictKind::User, c.user),
        Command::SetPassword(c) => clash(ConflictKind::Password, c.user),
        Command::UpdateSettings(_) | Command::SetUp(_) => clash(ConflictKind::Settings, 0),
        Command::UpdateChannel(c) => clash(ConflictKind::Channel, c.channel).in_channel(ChannelId(c.channel)),
        Command::PutMember(c) => clash(ConflictKind::Channel, c.channel).in_channel(ChannelId(c.channel)),
        Command::RemoveMember(c) => clash(ConflictKind::Channel, c.channel).in_channel(ChannelId(c.channel)),
        Command::CreateChannel(_) | Command::OpenDirect(_) => clash(ConflictKind::Channel, ctx.id),
        Command::CreateInvite(_) => clash(ConflictKind::Invite, ctx.id),
        Command::RevokeInvite(c) => clash(ConflictKind::Invite, c.invite),
        Command::CreateUser(_) | Command::AcceptInvite(_) => clash(ConflictKind::User, ctx.id),
        Command::RevokeSession(c) => clash(ConflictKind::Other, c.session),
        Command::UpdateBackups(_) | Command::NoteBackup(_) => return Ok(Reply::Done),
        Command::SendMessage(c) => clash(ConflictKind::Message, ctx.id).in_channel(ChannelId(c.channel)),
        Command::EditMessage(c) => clash(ConflictKind::Message, 0).at(ChannelId(c.channel), c.seq),
        Command::DeleteMessage(c) => clash(ConflictKind::Message, 0).at(ChannelId(c.channel), c.seq),
    };
    record(ctx, work, clash)
}

/// Whether the record has the wanted values anyway: both sides made the same change.
fn is_so_already(ctx: &Context<'_>, command: &Command) -> Ruled<bool> {
    let same = |wanted: bool| Ok(wanted);
    match command {
        Command::UpdateUser(c) => {
            let Some(row) = ctx.changes.row::<rows::User>(Key::User(UserId(c.user)))? else { return Ok(false) };
            same(
                c.display_name.as_ref().is_none_or(|name| *name == row.display_name)
                    && c.role.is_none_or(|role| role == row.role)
                    && c.locale.as_ref().is_none_or(|locale| *locale == row.locale)
                    && c.disabled.is_none_or(|disabled| disabled == row.disabled),
            )
        }
        Command::UpdateChannel(c) => {
            let key = Key::Channel(ChannelId(c.channel));
            let Some(row) = ctx.changes.row::<rows::Channel>(key)? else { return Ok(false) };
            same(
                c.name.as_ref().is_none_or(|name| *name == row.name)
                    && c.topic.as_ref().is_none_or(|topic| *topic == row.topic)
                    && c.archived.is_none_or(|archived| archived == row.archived),
            )
        }
        Command::UpdateSettings(c) => {
            let Some(row) = ctx.changes.row::<rows::Settings>(Key::Settings)? else { return Ok(false) };
            same(
                c.organisation.as_ref().is_none_or(|name| *name == row.organisation)
                    && c.default_locale.as_ref().is_none_or(|locale| *locale == row.default_locale)
                    && c.time_zone.as_ref().is_none_or(|zone| *zone == row.time_zone)
                    && c.session_days.is_none_or(|days| days == row.session_days)
                    && c.edit_window_seconds.is_none_or(|seconds| seconds == row.edit_window_seconds),
            )
        }
        _ => Ok(false),
    }
}

/// A conflict that exists.
///
/// # Errors
/// `conflict_not_found`, or a failing state.
pub fn conflict_of(view: &(impl View + ?Sized), id: u64) -> Result<Arc<rows::Conflict>, RuleError> {
    Ok(view.row::<rows::Conflict>(Key::Conflict(id))?.ok_or(RefusalCode::ConflictNotFound)?)
}

/// A conflict as `reader` may see it, with the record as it is now. Nobody reads as the operator, who is in no channel.
///
/// # Errors
/// A failing state.
pub fn view_of(
    view: &(impl View + ?Sized),
    row: &rows::Conflict,
    reader: Option<UserId>,
) -> Result<event::Conflict, ViewError> {
    let command = command_of(row);
    let (mut active, record_version) = active(view, row)?;
    let mut other = serde_json::from_str::<Json>(&row.other).ok();
    let hidden = is_hidden(view, row, reader)?;
    if hidden {
        for json in active.iter_mut().chain(&mut other) {
            ["name", "topic", "body"].iter().for_each(|field| hide(json, field));
        }
    }
    let mut fields = Vec::new();
    for name in touched(row.kind(), command.as_ref()) {
        let value = |json: &Option<Json>| json.as_ref().and_then(|json| json.get(name)).cloned().unwrap_or_default();
        let (active, other) = (value(&active), value(&other));
        if active != other || name == "password" || hidden {
            fields.push(ConflictField { name: name.to_owned(), active, other });
        }
    }
    let takes = !matches!(command, None | Some(Command::SendMessage(_) | Command::SetUp(_)));
    let person = |id: u64| (id > 0).then_some(UserId(id));
    Ok(event::Conflict {
        id: row.id.to_string(),
        version: row.version,
        kind: row.kind(),
        subject_id: (row.subject > 0).then(|| row.subject.to_string()),
        channel_id: (row.channel > 0).then_some(ChannelId(row.channel)),
        reason: row.reason.clone(),
        active,
        record_version,
        other,
        fields,
        hidden,
        can_take: takes && row.state() == ConflictState::Open,
        changed_by: person(row.actor),
        changed_ms: row.changed_ms,
        node: row.node,
        arrived_ms: row.late_ms,
        state: row.state(),
        resolved_by: person(row.resolver),
        resolved_ms: (row.resolved_ms > 0).then_some(row.resolved_ms),
    })
}

fn hide(json: &mut Json, field: &str) {
    if let Some(value) = json.get_mut(field) {
        *value = Json::Null;
    }
}

fn command_of(row: &rows::Conflict) -> Option<Command> {
    Envelope::decode(row.command.clone()).ok()?.command
}

/// Whether a conflict belongs to a channel that the reader does not see into.
fn is_hidden(view: &(impl View + ?Sized), row: &rows::Conflict, reader: Option<UserId>) -> Result<bool, ViewError> {
    let id = ChannelId(row.channel);
    if row.channel == 0 {
        return Ok(false);
    }
    let channel = view.row::<rows::Channel>(Key::Channel(id))?;
    let secret = channel.is_none_or(|row| matches!(row.kind(), ChannelKind::Private | ChannelKind::Direct));
    let member = match reader {
        Some(user) => view.get(&Key::Member(id, user))?.is_some(),
        None => false,
    };
    Ok(secret && !member)
}

/// The record in conflict as it is now, with its version.
fn active(view: &(impl View + ?Sized), row: &rows::Conflict) -> Result<(Option<Json>, u64), ViewError> {
    let (id, channel) = (row.subject, ChannelId(row.channel));
    Ok(match row.kind() {
        ConflictKind::User | ConflictKind::Password => {
            let user = view.row::<rows::User>(Key::User(UserId(id)))?;
            user.map_or((None, 0), |row| (json(&event::User::from(&*row)), row.version))
        }
        ConflictKind::Channel => {
            let head = view.row::<rows::ChannelHead>(Key::ChannelHead(ChannelId(id)))?.unwrap_or_default();
            let found = view.row::<rows::Channel>(Key::Channel(ChannelId(id)))?;
            found.map_or((None, 0), |row| (json(&event::Channel::of(&row, &head)), row.version))
        }
        ConflictKind::Settings => {
            let found = view.row::<rows::Settings>(Key::Settings)?;
            found.map_or((None, 0), |row| (json(&event::Settings::from(&*row)), row.version))
        }
        ConflictKind::Message => {
            let found = view.row::<rows::Message>(Key::Message(channel, row.seq))?;
            found.map_or((None, 0), |found| {
                (json(&event::Message::of(channel, row.seq, &found)), u64::from(found.edits) + 1)
            })
        }
        ConflictKind::Invite => {
            let found = view.row::<rows::Invite>(Key::Invite(InviteId(id)))?;
            (found.and_then(|row| json(&event::Invite::from(&*row))), 0)
        }
        ConflictKind::Other => (None, 0),
    })
}

/// The fields that taking the other side's value would set.
fn touched(kind: ConflictKind, command: Option<&Command>) -> Vec<&'static str> {
    let given = |fields: &[(&'static str, bool)]| -> Vec<&'static str> {
        fields.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect()
    };
    match command {
        Some(Command::UpdateUser(c)) => given(&[
            ("display_name", c.display_name.is_some()),
            ("role", c.role.is_some()),
            ("locale", c.locale.is_some()),
            ("disabled", c.disabled.is_some()),
        ]),
        Some(Command::UpdateChannel(c)) => {
            given(&[("name", c.name.is_some()), ("topic", c.topic.is_some()), ("archived", c.archived.is_some())])
        }
        Some(Command::UpdateSettings(c)) => given(&[
            ("organisation", c.organisation.is_some()),
            ("default_locale", c.default_locale.is_some()),
            ("time_zone", c.time_zone.is_some()),
            ("session_days", c.session_days.is_some()),
            ("edit_window_seconds", c.edit_window_seconds.is_some()),
        ]),
        Some(Command::SetPassword(_)) => vec!["password"],
        None if kind == ConflictKind::User => vec!["username"],
        _ if kind == ConflictKind::Message => vec!["body", "deleted_ms"],
        _ => Vec::new(),
    }
}

/// Decides a conflict.
pub(crate) fn resolve(machine: &mut Machine, ctx: &mut Context<'_>, command: &ResolveConflict) -> Ruled<Reply> {
    ctx.require_admin()?;
    let reader = (ctx.actor.user > 0).then_some(UserId(ctx.actor.user));
    let row = conflict_of(&ctx.changes, command.conflict)?;
    let before = view_of(&ctx.changes, &row, reader)?;
    if row.version != command.version {
        return Err(Refusal::stale(Current::Conflict(before)).into());
    }
    if row.state() != ConflictState::Open {
        return Err(RefusalCode::ConflictResolved.into());
    }
    let decision = Decision::try_from(command.decision).map_err(|_| RefusalCode::InvalidCommand)?;
    if decision != Decision::Keep && before.record_version != command.record_version {
        return Err(Refusal::stale(Current::Conflict(before)).into());
    }
    let state = match decision {
        Decision::Keep => ConflictState::Kept,
        Decision::TakeOther => {
            if !before.can_take {
                return Err(RefusalCode::ConflictDecisionInvalid.into());
            }
            let wanted = command_of(&row).ok_or(RefusalCode::ConflictDecisionInvalid)?;
            take(machine, ctx, (&row, wanted))?;
            ConflictState::Taken
        }
        Decision::Merge => {
            let merged = merged(&row, command).filter(|_| !before.hidden);
            take(machine, ctx, (&row, merged.ok_or(RefusalCode::ConflictDecisionInvalid)?))?;
            ConflictState::Merged
        }
    };
    let new = rows::Conflict {
        version: row.version + 1,
        state: state.into(),
        resolver: ctx.actor.user,
        resolved_ms: ctx.now_ms,
        ..(*row).clone()
    };
    ctx.changes.delete(Key::OpenConflict(row.id))?;
    ctx.changes.put(Key::Conflict(row.id), new.clone())?;
    let view = view_of(&ctx.changes, &new, reader)?;
    audit(ctx, ("conflict.resolve", row.id), audited(&view))?;
    Ok(Reply::Conflict(view))
}

/// The change that a merge by field is.
fn merged(row: &rows::Conflict, command: &ResolveConflict) -> Option<Command> {
    match row.kind() {
        ConflictKind::User => command.user.clone().map(Command::UpdateUser),
        ConflictKind::Channel => command.channel.clone().map(Command::UpdateChannel),
        ConflictKind::Settings => command.settings.clone().map(Command::UpdateSettings),
        _ => None,
    }
}

/// Makes a change on behalf of whoever decides, on the record as it is now.
fn take(machine: &mut Machine, ctx: &mut Context<'_>, work: (&rows::Conflict, Command)) -> Ruled<()> {
    let (row, command) = work;
    match command {
        Command::UpdateUser(c) => {
            let user = ctx.changes.row::<rows::User>(Key::User(UserId(row.subject)))?;
            let user = user.ok_or(RefusalCode::UserNotFound)?;
            users::update(ctx, &UpdateUser { user: user.id, version: user.version, ..c })?;
        }
        Command::UpdateChannel(c) => {
            let channel = crate::core::chat::channel(&ctx.changes, ChannelId(row.subject))?;
            let change = UpdateChannel { channel: channel.id, version: channel.version, ..c };
            channels::change(ctx, &channel, &change)?;
        }
        Command::UpdateSettings(c) => {
            let version = ctx.changes.row::<rows::Settings>(Key::Settings)?.map_or(0, |row| row.version);
            settings::update(ctx, &UpdateSettings { version, ..c })?;
        }
        Command::EditMessage(EditMessage { body, .. }) => change_message(ctx, row, Some(&body))?,
        Command::DeleteMessage(_) => change_message(ctx, row, None)?,
        other => drop(machine.rule(ctx, &other)?),
    }
    Ok(())
}

fn change_message(ctx: &mut Context<'_>, row: &rows::Conflict, body: Option<&str>) -> Ruled<()> {
    let (id, seq) = (ChannelId(row.channel), row.seq);
    let message = ctx.changes.row::<rows::Message>(Key::Message(id, seq))?.ok_or(RefusalCode::MessageNotFound)?;
    late::change_text(ctx, id, Change { seq, version: 0, body }, message);
    Ok(())
}
