//! How each command of a tail is done on the active. What the tail's side had allowed is not asked again where it would
//! only lose something: messages, and the users and channels that they need. All else goes by the rules of now.

use super::arrived::Sought;
use super::conflict::{self, Clash};
use super::password_mark;
use crate::core::chat::channels::{self, Joining};
use crate::core::chat::messages::{self, Origin};
use crate::core::chat::users::{self, Creation};
use crate::core::chat::{Act, Context, Reply, Ruled, Sent, channel, head, json};
use crate::core::command::{
    AcceptInvite, Command, CreateChannel, CreateSession, EditMessage, Envelope, NewUser, NotePair, OpenDirect,
    PairEvent, Salvage, SendMessage, SetPassword, UpdateChannel, UpdateUser,
};
use crate::core::event::{self, Event};
use crate::core::ids::{ChannelId, InviteId, MessageId, UserId};
use crate::core::keys::{Key, LookupHash, name_hash};
use crate::core::machine::Machine;
use crate::core::refusal::RefusalCode;
use crate::core::rows::{self, ChannelKind, ConflictKind, MemberRole, Role, Value};
use crate::core::view::{View, ViewExt};
use crate::limits;

/// Does an item.
pub(super) fn run(machine: &mut Machine, ctx: &mut Context<'_>, work: (&Salvage, &Envelope)) -> Ruled<Reply> {
    let (item, envelope) = work;
    let command = envelope.command.as_ref().ok_or(RefusalCode::InvalidCommand)?;
    match command {
        Command::SendMessage(c) => send(machine, ctx, (item, c)),
        Command::EditMessage(c) => {
            let change = Change { seq: c.seq, version: c.version, body: Some(&c.body) };
            edit(ctx, ChannelId(c.channel), work, change)
        }
        Command::DeleteMessage(c) => {
            let change = Change { seq: c.seq, version: c.version, body: None };
            edit(ctx, ChannelId(c.channel), work, change)
        }
        Command::CreateUser(new) => create_user(ctx, new, Role::try_from(new.role).unwrap_or(Role::Guest)),
        Command::AcceptInvite(c) => accept(ctx, c),
        Command::CreateChannel(c) => create_channel(ctx, c),
        Command::OpenDirect(c) => open_direct(ctx, c),
        Command::SetPassword(c) => set_password(machine, ctx, (item, c)),
        Command::CreateSession(c) => create_session(machine, ctx, (item, c)),
        Command::UpdateMembership(c) => {
            let mut c = c.clone();
            c.channel = alias(ctx, ChannelId(c.channel))?.0;
            machine.rule(ctx, &Command::UpdateMembership(c))
        }
        Command::NoteCertificate(c) => {
            let (before, after) = (serde_json::from_str(&c.before).ok(), serde_json::from_str(&c.after).ok());
            ctx.audit(Act { action: "certificate.install", kind: "certificate", target: 0, before, after });
            Ok(Reply::Done)
        }
        Command::NotePair(c) => note_pair(ctx, c),
        Command::UpdatePair(_) | Command::Salvage(_) | Command::NoteRestore(_) => Ok(Reply::Done),
        other => machine.rule(ctx, other),
    }
}

/// The channel that stands for this one: itself, but for a direct channel that both sides had opened.
fn alias(ctx: &Context<'_>, id: ChannelId) -> Ruled<ChannelId> {
    let found = ctx.changes.row::<rows::Reference>(Key::ChannelAlias(id))?;
    Ok(found.map_or(id, |reference| ChannelId(reference.id)))
}

/// Puts a message at the end of its channel, unless its sender's client has sent it again.
fn send(machine: &mut Machine, ctx: &mut Context<'_>, work: (&Salvage, &SendMessage)) -> Ruled<Reply> {
    let (item, command) = work;
    let sender = UserId(ctx.actor.user);
    let id = alias(ctx, ChannelId(command.channel))?;
    channel(&ctx.changes, id)?;
    let mut new_head = (*head(&ctx.changes, id)?).clone();
    let ring = machine.sent.ring(&ctx.changes, sender)?;
    let remembered = ring.find(&command.client_id).map(|sent| (ChannelId(sent.channel), sent.seq));
    let between = (item.seq_at_fork, new_head.last_seq);
    let sought = Sought { channel: id, sender, client_id: &command.client_id, between };
    let arrived = machine.arrived.find(&ctx.changes, &sought)?.map(|seq| (id, seq));
    for place in remembered.into_iter().chain(arrived) {
        if since_fork(ctx, place, (id, item.seq_at_fork))? {
            return sent_again(ctx, place, work);
        }
    }
    new_head.last_seq += 1;
    new_head.last_ms = new_head.last_ms.max(ctx.now_ms);
    let seq = new_head.last_seq;
    let client_id = bytes::Bytes::copy_from_slice(&command.client_id);
    let row = rows::Message {
        id: ctx.id,
        sender: sender.0,
        client_id: client_id.clone(),
        body: command.body.clone(),
        edits: item.edits,
        created_ms: ctx.now_ms,
        edited_ms: item.edited_ms,
        deleted_ms: 0,
        late_ms: ctx.late_ms,
    };
    ctx.events.push(Event::MessageCreated { message: event::Message::of(id, seq, &row) });
    ctx.changes.replace(Key::Message(id, seq), None, row);
    ctx.changes.put(Key::ChannelHead(id), new_head)?;
    // Who had read everything has not to read an own message; who had not, has not now.
    if let Some(own) = ctx.changes.row::<rows::Membership>(Key::Membership(sender, id))?
        && own.read_seq + 1 == seq
    {
        let moved = rows::Membership { read_seq: seq, ..(*own).clone() };
        ctx.changes.replace(Key::Membership(sender, id), Some(Value::Membership(own)), moved);
    }
    if remembered.is_none() {
        messages::remember(ctx, ring, Origin { sender, client_id, channel: id, seq });
    }
    Ok(Reply::Sent(Sent { id: MessageId(ctx.id), channel: id, seq, created_ms: ctx.now_ms, duplicate: false }))
}

/// Whether a message with the client id of an item is that item's, sent again to the active. One that was there before the
/// fork, or is of the tail itself, is another one: its sender's side had forgotten the client id before it came again.
fn since_fork(ctx: &Context<'_>, place: (ChannelId, u64), fork: (ChannelId, u64)) -> Ruled<bool> {
    let row = ctx.changes.row::<rows::Message>(Key::Message(place.0, place.1))?;
    let behind = place.0 != fork.0 || place.1 > fork.1;
    Ok(row.is_some_and(|row| row.id == ctx.id || (row.late_ms == 0 && behind)))
}

/// The message is there, as its first text: an edit that the tail made of it is made here too.
fn sent_again(ctx: &mut Context<'_>, place: (ChannelId, u64), work: (&Salvage, &SendMessage)) -> Ruled<Reply> {
    let ((id, seq), (item, command)) = (place, work);
    let row = ctx.changes.row::<rows::Message>(Key::Message(id, seq))?.ok_or(RefusalCode::MessageNotFound)?;
    let sent = Sent { id: MessageId(row.id), channel: id, seq, created_ms: row.created_ms, duplicate: true };
    if item.edits > 0 && row.body != command.body {
        if row.edits > 0 {
            let clash = Clash::new(ConflictKind::Message, row.id, RefusalCode::StaleVersion).at(id, seq);
            let wanted = EditMessage { channel: id.0, seq, version: row.edits + 1, body: command.body.clone() };
            conflict::put(ctx, clash.with(Some(Command::EditMessage(wanted)), serde_json::from_str(&item.other).ok()))?;
            return Ok(Reply::Sent(sent));
        }
        let new = rows::Message {
            edits: item.edits,
            body: command.body.clone(),
            edited_ms: item.edited_ms,
            ..(*row).clone()
        };
        put_message(ctx, (id, seq), (row, new));
    }
    Ok(Reply::Sent(sent))
}

fn put_message(
    ctx: &mut Context<'_>,
    place: (ChannelId, u64),
    change: (std::sync::Arc<rows::Message>, rows::Message),
) -> event::Message {
    let ((id, seq), (before, after)) = (place, change);
    let view = event::Message::of(id, seq, &after);
    ctx.changes.replace(Key::Message(id, seq), Some(Value::Message(before)), after);
    ctx.events.push(Event::MessageUpdated { message: view.clone() });
    view
}

/// A change of a message that was there before the fork; no body: its deletion.
pub(super) struct Change<'a> {
    pub(super) seq: u64,
    pub(super) version: u32,
    pub(super) body: Option<&'a str>,
}

fn edit(ctx: &mut Context<'_>, id: ChannelId, work: (&Salvage, &Envelope), change: Change<'_>) -> Ruled<Reply> {
    let key = Key::Message(id, change.seq);
    let row = ctx.changes.row::<rows::Message>(key)?.ok_or(RefusalCode::MessageNotFound)?;
    let same = match change.body {
        Some(body) => row.deleted_ms == 0 && row.body == body,
        None => row.deleted_ms > 0,
    };
    if same {
        return Ok(Reply::Done);
    }
    if row.edits + 1 != change.version {
        let clash = Clash::new(ConflictKind::Message, row.id, RefusalCode::StaleVersion).at(id, change.seq);
        return conflict::record(ctx, work, clash);
    }
    let (body, wrote) = (change.body, row.clone());
    let view = change_text(ctx, id, change, row);
    if body.is_none() && wrote.sender != ctx.actor.user {
        let before = event::Message { body: String::new(), ..event::Message::of(id, view.seq, &wrote) };
        let (before, after) = (json(&before), json(&view));
        ctx.audit(Act { action: "message.delete", kind: "message", target: wrote.id, before, after });
    }
    Ok(Reply::Message(view))
}

/// Changes a message's text, whoever asked.
pub(super) fn change_text(
    ctx: &mut Context<'_>,
    id: ChannelId,
    change: Change<'_>,
    row: std::sync::Arc<rows::Message>,
) -> event::Message {
    let mut new = (*row).clone();
    new.edits += 1;
    match change.body {
        Some(body) => {
            body.clone_into(&mut new.body);
            (new.edited_ms, new.deleted_ms) = (ctx.now_ms, 0);
        }
        None => {
            new.body = String::new();
            new.deleted_ms = ctx.now_ms;
        }
    }
    put_message(ctx, (id, change.seq), (row, new))
}

/// A name with a number behind it, so that it is free: `anna2`, `general 2`.
fn free_name(view: &impl View, (name, chars_max): (&str, usize), key: impl Fn(&str) -> Key) -> Ruled<String> {
    let mut number = 2_u64;
    loop {
        let suffix = number.to_string();
        let stem: String = name.chars().take(chars_max.saturating_sub(suffix.chars().count())).collect();
        let candidate = format!("{stem}{suffix}");
        if view.get(&key(&candidate))?.is_none() {
            return Ok(candidate);
        }
        number += 1;
    }
}

/// Makes a user under the original id. One whose name was taken meanwhile gets a number behind it; one whose maker may not
/// make it any more is made without rights, and an admin decides.
fn create_user(ctx: &mut Context<'_>, new: &NewUser, role: Role) -> Ruled<Reply> {
    let acting = ctx.acting_role();
    let rights = acting.is_ok_and(|acting| acting >= Role::Admin && users::require_owner_for(acting, &[role]).is_ok());
    let (user, clash) = make_user(ctx, new, rights.then_some(role).ok_or(role))?;
    ctx.audit(Act { action: "user.create", kind: "user", target: ctx.id, before: None, after: json(&user) });
    clash.map_or(Ok(()), |clash| conflict::put(ctx, clash))?;
    Ok(Reply::User(user))
}

/// Makes a user with a role (`Ok`) or without rights although it should have one (`Err`), and tells what an admin must decide.
fn make_user(ctx: &mut Context<'_>, new: &NewUser, rights: Result<Role, Role>) -> Ruled<(event::User, Option<Clash>)> {
    let id = UserId(ctx.id);
    if ctx.changes.get(&Key::User(id))?.is_some() {
        return Err(RefusalCode::InvalidCommand.into());
    }
    let mut named = new.clone();
    let taken = ctx.changes.get(&Key::Username(name_hash(&new.username)))?.is_some();
    if taken {
        let name = (new.username.as_str(), limits::USERNAME_CHARS_MAX);
        named.username = free_name(&ctx.changes, name, |name| Key::Username(name_hash(name)))?;
    }
    let user = users::create(ctx, Creation { new: &named, role: rights.unwrap_or(Role::Guest) })?;
    let wanted = |role| json(&event::User { username: new.username.clone(), role, disabled: false, ..user.clone() });
    let Err(role) = rights else {
        let clash = Clash::new(ConflictKind::User, id.0, RefusalCode::UsernameTaken);
        let other = wanted(user.role);
        return Ok((user, taken.then(|| clash.with(None, other))));
    };
    let other = wanted(role);
    let row = ctx.changes.row::<rows::User>(Key::User(id))?.ok_or(RefusalCode::UserNotFound)?;
    let disabled = rows::User { disabled: true, ..(*row).clone() };
    let view = event::User::from(&disabled);
    ctx.changes.put(Key::User(id), disabled)?;
    ctx.events.retain(|event| !matches!(event, Event::UserCreated { .. }));
    ctx.events.push(Event::UserCreated { user: view.clone() });
    let rise = UpdateUser { user: id.0, role: Some(role.into()), disabled: Some(false), ..UpdateUser::default() };
    let clash = Clash::new(ConflictKind::User, id.0, RefusalCode::Forbidden);
    Ok((view, Some(clash.with(Some(Command::UpdateUser(rise)), other))))
}

/// Becomes a user by an invitation. It counts although the active's side used the invitation up meanwhile; one that was
/// taken back makes a user without rights.
fn accept(ctx: &mut Context<'_>, command: &AcceptInvite) -> Ruled<Reply> {
    let hash: LookupHash = command.token_hash.as_ref().try_into().map_err(|_| RefusalCode::InvalidCommand)?;
    let new = command.user.as_ref().ok_or(RefusalCode::InvalidCommand)?;
    let reference = ctx.changes.row::<rows::Reference>(Key::InviteToken(hash))?;
    let invite = match reference {
        Some(reference) => ctx.changes.row::<rows::Invite>(Key::Invite(InviteId(reference.id)))?,
        None => None,
    };
    let role = invite.as_ref().map_or(Role::Guest, |invite| invite.role());
    let refused = crate::core::chat::invites::valid(&ctx.changes, hash, ctx.now_ms).err();
    let rights = match refused {
        None => true,
        Some(crate::core::refusal::RuleError::Refused(refusal)) => refusal.code == RefusalCode::InviteUsedUp,
        Some(error) => return Err(error),
    };
    let (user, clash) = make_user(ctx, new, rights.then_some(role).ok_or(role))?;
    if let Some(invite) = invite.filter(|_| rights) {
        let uses = (invite.uses + 1).min(invite.uses_max);
        ctx.changes.put(Key::Invite(InviteId(invite.id)), rows::Invite { uses, ..(*invite).clone() })?;
        crate::core::chat::invites::join_all(ctx, &invite, user.id)?;
    }
    ctx.audit(Act { action: "invite.accept", kind: "user", target: user.id.0, before: None, after: json(&user) });
    clash.map_or(Ok(()), |clash| conflict::put(ctx, clash))?;
    Ok(Reply::User(user))
}

/// Makes a channel under the original id, with those of its members who are still there. A taken name gets a number.
fn create_channel(ctx: &mut Context<'_>, command: &CreateChannel) -> Ruled<Reply> {
    let id = ChannelId(ctx.id);
    let mut row = rows::Channel {
        id: ctx.id,
        kind: command.kind,
        name: command.name.clone(),
        topic: command.topic.clone(),
        creator: ctx.actor.user,
        created_ms: ctx.now_ms,
        archived: false,
        version: 1,
        direct: Vec::new(),
    };
    let taken = named(row.kind()) && ctx.changes.get(&Key::ChannelName(name_hash(&row.name)))?.is_some();
    if taken {
        let name = (format!("{} ", row.name), limits::CHANNEL_NAME_CHARS_MAX);
        row.name = free_name(&ctx.changes, (&name.0, name.1), |name| Key::ChannelName(name_hash(name)))?;
    }
    channels::claim_name(ctx, &row)?;
    ctx.changes.put(Key::Channel(id), row.clone())?;
    ctx.changes.put(Key::ChannelHead(id), rows::ChannelHead::default())?;
    let people = std::iter::once((ctx.actor.user, MemberRole::Manager))
        .chain(command.members.iter().map(|user| (*user, MemberRole::Member)));
    for (user, role) in people {
        let user = UserId(user);
        let there = ctx.changes.row::<rows::User>(Key::User(user))?;
        if there.is_some_and(|user| !user.disabled) && !channels::is_member(ctx, id, user)? {
            channels::join(ctx, Joining { channel: &row, user, role })?;
        }
    }
    let view = event::Channel::of(&row, &*head(&ctx.changes, id)?);
    ctx.audit(Act { action: "channel.create", kind: "channel", target: id.0, before: None, after: json(&view) });
    if taken {
        let wanted = UpdateChannel { channel: id.0, name: Some(command.name.clone()), ..UpdateChannel::default() };
        let other = json(&event::Channel { name: command.name.clone(), ..view.clone() });
        let clash = Clash::new(ConflictKind::Channel, id.0, RefusalCode::ChannelNameTaken).in_channel(id);
        conflict::put(ctx, clash.with(Some(Command::UpdateChannel(wanted)), other))?;
    }
    Ok(Reply::Channel(view))
}

const fn named(kind: ChannelKind) -> bool {
    matches!(kind, ChannelKind::Public | ChannelKind::Announcement)
}

/// Opens a direct channel under the original id; where the active's side has opened one too, that one stands for it.
fn open_direct(ctx: &mut Context<'_>, command: &OpenDirect) -> Ruled<Reply> {
    let (own, other) = (UserId(ctx.actor.user), UserId(command.user));
    let (low, high) = if own <= other { (own, other) } else { (other, own) };
    let pair = Key::DirectPair(low, high);
    if let Some(found) = ctx.changes.row::<rows::Reference>(pair)? {
        ctx.changes.put(Key::ChannelAlias(ChannelId(ctx.id)), rows::Reference { id: found.id })?;
        return Ok(Reply::Done);
    }
    let mut direct = vec![low.0, high.0];
    direct.dedup();
    for user in &direct {
        if ctx.changes.get(&Key::User(UserId(*user)))?.is_none() {
            return Err(RefusalCode::UserNotFound.into());
        }
    }
    let row = rows::Channel {
        id: ctx.id,
        kind: ChannelKind::Direct.into(),
        creator: own.0,
        created_ms: ctx.now_ms,
        version: 1,
        direct: direct.clone(),
        ..rows::Channel::default()
    };
    ctx.changes.put(pair, rows::Reference { id: ctx.id })?;
    ctx.changes.put(Key::Channel(ChannelId(ctx.id)), row.clone())?;
    for user in direct {
        channels::join(ctx, Joining { channel: &row, user: UserId(user), role: MemberRole::Member })?;
    }
    Ok(Reply::Done)
}

/// Whether a user's password is the one that an item is based on.
fn same_password(ctx: &Context<'_>, user: u64, item: &Salvage) -> Ruled<bool> {
    let row = ctx.changes.row::<rows::User>(Key::User(UserId(user)))?.ok_or(RefusalCode::UserNotFound)?;
    Ok(password_mark(&row.password_hash) == item.seen)
}

/// Sets a password, unless the active's side set another one.
fn set_password(machine: &mut Machine, ctx: &mut Context<'_>, work: (&Salvage, &SetPassword)) -> Ruled<Reply> {
    let (item, command) = work;
    if !same_password(ctx, command.user, item)? {
        return Err(RefusalCode::StaleVersion.into());
    }
    machine.rule(ctx, &Command::SetPassword(command.clone()))
}

/// Signs a device in that was signed in on the other side, unless the password that it used is no longer valid.
fn create_session(machine: &mut Machine, ctx: &mut Context<'_>, work: (&Salvage, &CreateSession)) -> Ruled<Reply> {
    let (item, command) = work;
    if !same_password(ctx, command.user, item)? {
        return Ok(Reply::Done);
    }
    machine.rule(ctx, &Command::CreateSession(command.clone()))
}

/// What happened to the pair on the other side belongs into the audit trail too.
fn note_pair(ctx: &mut Context<'_>, command: &NotePair) -> Ruled<Reply> {
    let what = PairEvent::try_from(command.what).map_err(|_| RefusalCode::InvalidCommand)?;
    ctx.audit(crate::core::pair::noted(command, what));
    Ok(Reply::Done)
}
