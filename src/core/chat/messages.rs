//! Messages and read marks.
//!
//! - `seq` is contiguous per channel, from 1.
//! - A sender's `client_id` names a message once: a resend within the sender's latest [`limits::SENT_RING`] sends
//!   returns the first message.
//! - Edits and deletions name the version they are based on.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Act, Context, Reply, Ruled, Sent, active_user, channel, head, json};
use crate::core::command::{DeleteMessage, EditMessage, MarkRead, SendMessage};
use crate::core::event::{self, Event};
use crate::core::ids::{ChannelId, MessageId, UserId};
use crate::core::keys::Key;
use crate::core::refusal::{Current, Refusal, RefusalCode};
use crate::core::rows::{self, ChannelKind, MemberRole, Role, Value};
use crate::core::view::{Direction, View, ViewExt};
use crate::limits;

/// The latest sends of the senders that were active lately: a cache of the `Sent` rows, so that a send need not scan
/// them. Deriving it again gives the same, so it may be dropped at any time.
#[derive(Default)]
pub struct SentRings {
    rings: HashMap<UserId, SentRing>,
}

/// One sender's ring.
#[derive(Default)]
pub(crate) struct SentRing {
    /// How many messages the sender has sent.
    count: u64,
    /// Client ids by slot.
    client_ids: Vec<u128>,
    /// Their tags by slot: what a search looks at first.
    tags: Vec<u32>,
    /// The rows by slot.
    rows: Vec<Option<Arc<rows::Sent>>>,
}

impl SentRing {
    fn load(view: &dyn View, user: UserId) -> Ruled<Self> {
        let slots = usize::from(limits::SENT_RING);
        let mut ring = Self { count: 0, client_ids: vec![0; slots], tags: vec![0; slots], rows: vec![None; slots] };
        let range = Key::Sent(user, 0)..=Key::Sent(user, limits::SENT_RING - 1);
        for (key, row) in view.rows::<rows::Sent>(range, Direction::Up, slots)? {
            if let Key::Sent(_, slot) = key {
                ring.count = ring.count.max(row.number);
                ring.set(slot, row);
            }
        }
        Ok(ring)
    }

    fn set(&mut self, slot: u16, row: Arc<rows::Sent>) {
        let at = usize::from(slot);
        let places = (self.client_ids.get_mut(at), self.tags.get_mut(at), self.rows.get_mut(at));
        if let (Some(id), Some(tag), Some(place)) = places {
            *id = client_number(&row.client_id);
            *tag = client_tag(*id);
            *place = Some(row);
        }
    }

    pub(crate) fn find(&self, client_id: &[u8]) -> Option<&Arc<rows::Sent>> {
        /// Tags compared at once, without a branch for each: a send is nearly always a new one, so all are looked at.
        const AT_ONCE: usize = 32;
        let wanted = client_number(client_id);
        let tag = client_tag(wanted);
        let maybe = self.tags.chunks(AT_ONCE).zip(self.client_ids.chunks(AT_ONCE)).zip(self.rows.chunks(AT_ONCE));
        let maybe = maybe.filter(|((tags, _), _)| tags.iter().fold(false, |found, other| found | (*other == tag)));
        let mut found = maybe.flat_map(|((_, ids), rows)| ids.iter().zip(rows)).filter(|(id, _)| **id == wanted);
        found.next()?.1.as_ref()
    }
}

/// A few bits of a client id in which most differ.
const fn client_tag(id: u128) -> u32 {
    let half = id as u64 ^ (id >> 64) as u64;
    half as u32 ^ (half >> 32) as u32
}

/// A client id as a number; one of the wrong length is 0, which no valid one is.
pub(crate) fn client_number(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_be_bytes)
}

impl SentRings {
    pub(crate) fn ring(&mut self, view: &dyn View, user: UserId) -> Ruled<&mut SentRing> {
        if !self.rings.contains_key(&user) {
            if self.rings.len() >= limits::SENT_RINGS_CACHED {
                self.rings.clear();
            }
            self.rings.insert(user, SentRing::load(view, user)?);
        }
        self.rings.get_mut(&user).ok_or_else(|| RefusalCode::InvalidCommand.into())
    }
}

/// Whether this is a resend of one of the sender's latest messages.
///
/// # Errors
/// A failing state.
pub fn was_sent(view: &(impl View + ?Sized), sender: UserId, client_id: &[u8]) -> Ruled<bool> {
    let range = Key::Sent(sender, 0)..=Key::Sent(sender, limits::SENT_RING - 1);
    let rows = view.rows::<rows::Sent>(range, Direction::Up, usize::from(limits::SENT_RING))?;
    Ok(rows.iter().any(|(_, row)| row.client_id == client_id))
}

/// Whether `sender` may send `body` to `channel` now: the same check before the log and when it is applied.
///
/// # Errors
/// The refusal, or a failing state.
pub fn check_send(view: &(impl View + ?Sized), sender: UserId, command: &SendMessage) -> Ruled<()> {
    if command.body.trim().is_empty() {
        return Err(RefusalCode::MessageEmpty.into());
    }
    if command.body.len() > limits::MESSAGE_BYTES_MAX {
        return Err(RefusalCode::MessageTooLong.into());
    }
    if client_number(&command.client_id) == 0 {
        return Err(RefusalCode::InvalidCommand.into());
    }
    let user = active_user(view, sender)?;
    let id = ChannelId(command.channel);
    let row = channel(view, id)?;
    let Some(member) = view.row::<rows::Member>(Key::Member(id, sender))? else {
        return Err(hidden(&row, &user).into());
    };
    if row.archived {
        return Err(RefusalCode::ChannelArchived.into());
    }
    if row.kind() == ChannelKind::Announcement && member.role() != MemberRole::Manager && user.role() < Role::Admin {
        return Err(RefusalCode::ChannelReadOnly.into());
    }
    Ok(())
}

/// What a non-member is told: that a public channel is not theirs, that a private one does not exist.
#[must_use]
pub fn hidden(row: &rows::Channel, user: &rows::User) -> RefusalCode {
    let public = matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement);
    if public && user.role() > Role::Guest { RefusalCode::NotAMember } else { RefusalCode::ChannelNotFound }
}

/// Sends a message, or finds it when it was sent before.
pub(crate) fn send(ctx: &mut Context<'_>, rings: &mut SentRings, command: &SendMessage) -> Ruled<Reply> {
    let sender = UserId(ctx.actor.user);
    let ring = rings.ring(&ctx.changes, sender)?;
    if let Some(sent) = ring.find(&command.client_id) {
        let found = Key::Message(ChannelId(sent.channel), sent.seq);
        let message = ctx.changes.row::<rows::Message>(found)?.ok_or(RefusalCode::MessageNotFound)?;
        return Ok(Reply::Sent(Sent {
            id: MessageId(message.id),
            channel: ChannelId(sent.channel),
            seq: sent.seq,
            created_ms: message.created_ms,
            duplicate: true,
        }));
    }
    check_send(&ctx.changes, sender, command)?;
    let id = ChannelId(command.channel);
    let old_head = ctx.changes.row::<rows::ChannelHead>(Key::ChannelHead(id))?;
    let mut new_head = old_head.as_deref().cloned().unwrap_or_default();
    new_head.last_seq += 1;
    new_head.last_ms = ctx.now_ms;
    let seq = new_head.last_seq;
    // A copy of its own: a slice would keep the whole record's payload in memory as long as the row.
    let client_id = bytes::Bytes::copy_from_slice(&command.client_id);
    let message = rows::Message {
        id: ctx.id,
        sender: sender.0,
        client_id: client_id.clone(),
        body: command.body.clone(),
        edits: 0,
        created_ms: ctx.now_ms,
        edited_ms: 0,
        deleted_ms: 0,
        late_ms: 0,
    };
    let view = event::Message::of(id, seq, &message);
    ctx.changes.replace(Key::ChannelHead(id), old_head.map(Value::ChannelHead), new_head);
    ctx.changes.replace(Key::Message(id, seq), None, message);
    if let Some(own) = ctx.changes.row::<rows::Membership>(Key::Membership(sender, id))? {
        let moved = rows::Membership { read_seq: seq, ..(*own).clone() };
        ctx.changes.replace(Key::Membership(sender, id), Some(Value::Membership(own)), moved);
    }
    remember(ctx, ring, Origin { sender, client_id, channel: id, seq });
    ctx.events.push(Event::MessageCreated { message: view });
    Ok(Reply::Sent(Sent { id: MessageId(ctx.id), channel: id, seq, created_ms: ctx.now_ms, duplicate: false }))
}

/// A message that was just given its place.
pub(crate) struct Origin {
    pub(crate) sender: UserId,
    pub(crate) client_id: bytes::Bytes,
    pub(crate) channel: ChannelId,
    pub(crate) seq: u64,
}

/// Notes a send in its sender's ring. Nothing may be refused after it: the cache would know of a send that the state has not.
pub(crate) fn remember(ctx: &mut Context<'_>, ring: &mut SentRing, origin: Origin) {
    ring.count += 1;
    let slot = (ring.count % u64::from(limits::SENT_RING)) as u16;
    let row = Arc::new(rows::Sent {
        number: ring.count,
        client_id: origin.client_id,
        channel: origin.channel.0,
        seq: origin.seq,
    });
    let before = ring.rows.get(usize::from(slot)).cloned().flatten().map(Value::Sent);
    ring.set(slot, row.clone());
    ctx.changes.replace(Key::Sent(origin.sender, slot), before, Value::Sent(row));
}

/// A message to be changed, where it is, and the actor's membership there.
struct Editable {
    message: Arc<rows::Message>,
    channel: Arc<rows::Channel>,
    member: Arc<rows::Member>,
}

/// The message to change, when the actor sees it and named its present version.
fn editable(ctx: &Context<'_>, id: ChannelId, target: (u64, u32)) -> Ruled<Editable> {
    let (seq, version) = target;
    let acting = ctx.acting_user()?;
    let row = channel(&ctx.changes, id)?;
    let Some(member) = ctx.changes.row::<rows::Member>(Key::Member(id, UserId(acting.id)))? else {
        return Err(hidden(&row, &acting).into());
    };
    if row.archived {
        return Err(RefusalCode::ChannelArchived.into());
    }
    let message = ctx.changes.row::<rows::Message>(Key::Message(id, seq))?.ok_or(RefusalCode::MessageNotFound)?;
    if message.edits + 1 != version {
        return Err(Refusal::stale(Current::Message(event::Message::of(id, seq, &message))).into());
    }
    if message.deleted_ms > 0 {
        return Err(RefusalCode::MessageNotFound.into());
    }
    Ok(Editable { message, channel: row, member })
}

/// Changes one's own message.
pub(crate) fn edit(ctx: &mut Context<'_>, command: &EditMessage) -> Ruled<Reply> {
    if command.body.trim().is_empty() {
        return Err(RefusalCode::MessageEmpty.into());
    }
    if command.body.len() > limits::MESSAGE_BYTES_MAX {
        return Err(RefusalCode::MessageTooLong.into());
    }
    let id = ChannelId(command.channel);
    let Editable { message, .. } = editable(ctx, id, (command.seq, command.version))?;
    if message.sender != ctx.actor.user {
        return Err(RefusalCode::Forbidden.into());
    }
    let settings = ctx.changes.row::<rows::Settings>(Key::Settings)?.unwrap_or_default();
    let window_ms = settings.edit_window_seconds.saturating_mul(1_000);
    if window_ms > 0 && ctx.now_ms > message.created_ms.saturating_add(window_ms) {
        return Err(RefusalCode::EditWindowClosed.into());
    }
    let mut new = (*message).clone();
    new.edits += 1;
    new.body.clone_from(&command.body);
    new.edited_ms = ctx.now_ms;
    let view = event::Message::of(id, command.seq, &new);
    ctx.changes.replace(Key::Message(id, command.seq), Some(Value::Message(message)), new);
    ctx.events.push(Event::MessageUpdated { message: view.clone() });
    Ok(Reply::Message(view))
}

/// Takes a message's text away: one's own, or as a manager of the channel, or as an admin where it is no secret.
pub(crate) fn delete(ctx: &mut Context<'_>, command: &DeleteMessage) -> Ruled<Reply> {
    let id = ChannelId(command.channel);
    let Editable { message, channel, member } = editable(ctx, id, (command.seq, command.version))?;
    let own = message.sender == ctx.actor.user;
    let public = matches!(channel.kind(), ChannelKind::Public | ChannelKind::Announcement);
    let moderates = member.role() == MemberRole::Manager || (public && ctx.acting_role()? >= Role::Admin);
    if !own && !moderates {
        return Err(RefusalCode::Forbidden.into());
    }
    let mut new = (*message).clone();
    new.edits += 1;
    new.body = String::new();
    new.deleted_ms = ctx.now_ms;
    let view = event::Message::of(id, command.seq, &new);
    if !own {
        // Who wrote what was deleted is recorded; what it said is not: auditors are not readers of every channel.
        let wrote = event::Message { body: String::new(), ..event::Message::of(id, command.seq, &message) };
        let (before, after) = (json(&wrote), json(&view));
        ctx.audit(Act { action: "message.delete", kind: "message", target: message.id, before, after });
    }
    ctx.changes.replace(Key::Message(id, command.seq), Some(Value::Message(message)), new);
    ctx.events.push(Event::MessageUpdated { message: view.clone() });
    Ok(Reply::Message(view))
}

/// Moves the actor's read marks. A mark never goes back, never beyond the newest message; one for a channel that the
/// actor has left is passed over, because it may have been on its way.
pub(crate) fn mark_read(ctx: &mut Context<'_>, command: &MarkRead) -> Ruled<Reply> {
    let user = UserId(ctx.actor.user);
    for mark in &command.marks {
        let id = ChannelId(mark.channel);
        let Some(row) = ctx.changes.row::<rows::Membership>(Key::Membership(user, id))? else {
            continue;
        };
        let seq = mark.seq.min(head(&ctx.changes, id)?.last_seq);
        if seq > row.read_seq {
            let moved = rows::Membership { read_seq: seq, ..(*row).clone() };
            ctx.changes.put(Key::Membership(user, id), moved)?;
            ctx.events.push(Event::Read { channel_id: id, user_id: user, read_seq: seq });
        }
    }
    Ok(Reply::Done)
}
