//! Channels and their members.
//!
//! - A direct channel has two people (or one, for notes to self) and exists once per pair.
//! - Names of public and announcement channels are unique without regard to case.
//! - Guests write to, and add, only people they share a channel with: of others they do not learn that they exist.
//! - Nobody learns of a private channel they are not in: its refusals are those of a channel that does not exist.

use std::sync::Arc;

use super::{Act, Context, Reply, Ruled, active_user, channel, head, json, knows};
use crate::core::command::{CreateChannel, OpenDirect, PutMember, RemoveMember, UpdateChannel, UpdateMembership};
use crate::core::event::{self, ChannelEntry, Event, OwnMember};
use crate::core::ids::{ChannelId, UserId};
use crate::core::keys::{Key, name_hash};
use crate::core::refusal::{Current, Refusal, RefusalCode};
use crate::core::rows::{self, ChannelKind, MemberRole, NotifyLevel, Role};
use crate::core::view::{Direction, View, ViewExt};

/// Somebody about to become a member.
pub(crate) struct Joining<'a> {
    pub(crate) channel: &'a rows::Channel,
    pub(crate) user: UserId,
    pub(crate) role: MemberRole,
}

/// Whether a user is a member.
pub(crate) fn is_member(ctx: &Context<'_>, channel: ChannelId, user: UserId) -> Ruled<bool> {
    Ok(ctx.changes.get(&Key::Member(channel, user))?.is_some())
}

/// Adds a member who is not one yet: both sides, the head's count, the events. What was said before counts as read.
pub(crate) fn join(ctx: &mut Context<'_>, joining: Joining<'_>) -> Ruled<ChannelEntry> {
    let Joining { channel: row, user, role } = joining;
    let id = ChannelId(row.id);
    let mut head = (*head(&ctx.changes, id)?).clone();
    head.members += 1;
    let member = rows::Member { role: role.into(), joined_ms: ctx.now_ms };
    let notify = if row.kind() == ChannelKind::Announcement { NotifyLevel::All } else { NotifyLevel::Mentions };
    let notify = if row.kind() == ChannelKind::Direct { NotifyLevel::All } else { notify };
    let membership = rows::Membership { read_seq: head.last_seq, notify: notify.into() };
    let entry =
        ChannelEntry { channel: event::Channel::of(row, &head), member: Some(OwnMember::of(&member, &membership)) };
    let view = event::Member::of(user, &member);
    ctx.changes.put(Key::Member(id, user), member)?;
    ctx.changes.put(Key::Membership(user, id), membership)?;
    ctx.changes.put(Key::ChannelHead(id), head)?;
    ctx.events.push(Event::MemberAdded { channel_id: id, member: view });
    ctx.events.push(Event::ChannelCreated { user, entry: entry.clone() });
    Ok(entry)
}

/// Makes a private, public or announcement channel with the actor as its manager.
pub(crate) fn create(ctx: &mut Context<'_>, command: &CreateChannel) -> Ruled<Reply> {
    let actor = ctx.acting_user()?;
    let kind = ChannelKind::try_from(command.kind).map_err(|_| RefusalCode::InvalidCommand)?;
    let least = if kind == ChannelKind::Announcement { Role::Admin } else { Role::Bot };
    if actor.role() < least {
        return Err(RefusalCode::Forbidden.into());
    }
    if kind == ChannelKind::Direct {
        return Err(RefusalCode::WrongChannelKind.into());
    }
    let row = rows::Channel {
        id: ctx.id,
        kind: kind.into(),
        name: command.name.clone(),
        topic: command.topic.clone(),
        creator: actor.id,
        created_ms: ctx.now_ms,
        archived: false,
        version: 1,
        direct: Vec::new(),
    };
    claim_name(ctx, &row)?;
    ctx.changes.put(Key::Channel(ChannelId(ctx.id)), row.clone())?;
    let manager = Joining { channel: &row, user: UserId(actor.id), role: MemberRole::Manager };
    let mut entry = join(ctx, manager)?;
    for id in &command.members {
        let user = UserId(*id);
        active_user(&ctx.changes, user)?;
        if !is_member(ctx, ChannelId(row.id), user)? {
            let joined = join(ctx, Joining { channel: &row, user, role: MemberRole::Member })?;
            entry.channel.member_count = joined.channel.member_count;
        }
    }
    ctx.audit(Act {
        action: "channel.create",
        kind: "channel",
        target: row.id,
        before: None,
        after: json(&entry.channel),
    });
    Ok(Reply::Entry { entry, created: true })
}

/// Takes the name of a public or announcement channel, or refuses.
pub(crate) fn claim_name(ctx: &mut Context<'_>, row: &rows::Channel) -> Ruled<()> {
    if !matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement) {
        return Ok(());
    }
    let key = Key::ChannelName(name_hash(&row.name));
    match ctx.changes.row::<rows::Reference>(key)? {
        Some(taken) if taken.id != row.id => Err(RefusalCode::ChannelNameTaken.into()),
        _ => Ok(ctx.changes.put(key, rows::Reference { id: row.id })?),
    }
}

/// Opens the direct channel with somebody, or finds it.
pub(crate) fn open_direct(ctx: &mut Context<'_>, command: &OpenDirect) -> Ruled<Reply> {
    let actor = ctx.acting_user()?;
    let (own, other) = (UserId(actor.id), UserId(command.user));
    let (low, high) = if own <= other { (own, other) } else { (other, own) };
    let pair = Key::DirectPair(low, high);
    if let Some(found) = ctx.changes.row::<rows::Reference>(pair)? {
        let row = channel(&ctx.changes, ChannelId(found.id))?;
        let entry = entry_for(&ctx.changes, &row, own)?;
        return Ok(Reply::Entry { entry, created: false });
    }
    if !knows(&ctx.changes, &actor, other)? {
        return Err(RefusalCode::UserNotFound.into());
    }
    active_user(&ctx.changes, other)?;
    let mut direct = vec![low.0, high.0];
    direct.dedup();
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
        join(ctx, Joining { channel: &row, user: UserId(user), role: MemberRole::Member })?;
    }
    let entry = entry_for(&ctx.changes, &row, own)?;
    Ok(Reply::Entry { entry, created: true })
}

/// A channel as one user sees it.
pub(crate) fn entry_for(view: &(impl View + ?Sized), row: &rows::Channel, user: UserId) -> Ruled<ChannelEntry> {
    let id = ChannelId(row.id);
    let member = view.row::<rows::Member>(Key::Member(id, user))?;
    let membership = view.row::<rows::Membership>(Key::Membership(user, id))?;
    let own = member.zip(membership).map(|(member, membership)| OwnMember::of(&member, &membership));
    Ok(ChannelEntry { channel: event::Channel::of(row, &*head(view, id)?), member: own })
}

/// The channel and the actor's role in it, when the actor may manage it: its managers, and admins where it is no
/// secret. Others are refused without learning of a private channel, guests without learning of any.
fn managed(ctx: &Context<'_>, id: ChannelId) -> Ruled<Arc<rows::Channel>> {
    let row = channel(&ctx.changes, id)?;
    let member = ctx.changes.row::<rows::Member>(Key::Member(id, UserId(ctx.actor.user)))?;
    let public = matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement);
    let role = ctx.acting_role()?;
    match member {
        None if !public || role == Role::Guest => Err(RefusalCode::ChannelNotFound.into()),
        Some(member) if member.role() == MemberRole::Manager => Ok(row),
        _ if public && role >= Role::Admin => Ok(row),
        _ => Err(RefusalCode::Forbidden.into()),
    }
}

/// Changes a channel's name, topic or whether it is archived.
pub(crate) fn update(ctx: &mut Context<'_>, command: &UpdateChannel) -> Ruled<Reply> {
    if !ctx.actor.is_operator() {
        ctx.acting_user()?;
    }
    let id = ChannelId(command.channel);
    let row = managed(ctx, id)?;
    change(ctx, &row, command)
}

/// Changes a channel, whoever asked.
pub(crate) fn change(ctx: &mut Context<'_>, row: &rows::Channel, command: &UpdateChannel) -> Ruled<Reply> {
    let id = ChannelId(row.id);
    let head = head(&ctx.changes, id)?;
    let before = event::Channel::of(row, &head);
    if row.version != command.version {
        return Err(Refusal::stale(Current::Channel(before)).into());
    }
    if row.kind() == ChannelKind::Direct {
        return Err(RefusalCode::WrongChannelKind.into());
    }
    let mut new = row.clone();
    new.version += 1;
    new.topic = command.topic.clone().unwrap_or(new.topic);
    new.archived = command.archived.unwrap_or(new.archived);
    if let Some(name) = &command.name {
        new.name.clone_from(name);
        claim_name(ctx, &new)?;
        if name_hash(&row.name) != name_hash(name) && row.kind() != ChannelKind::Private {
            ctx.changes.delete(Key::ChannelName(name_hash(&row.name)))?;
        }
    }
    let after = event::Channel::of(&new, &head);
    ctx.changes.put(Key::Channel(id), new)?;
    ctx.audit(Act {
        action: "channel.update",
        kind: "channel",
        target: id.0,
        before: json(&before),
        after: json(&after),
    });
    ctx.events.push(Event::ChannelUpdated { channel: after.clone() });
    Ok(Reply::Channel(after))
}

/// Adds a member (by members of the channel, and by admins where it is no secret), joins, or changes a member's role.
pub(crate) fn put_member(ctx: &mut Context<'_>, command: &PutMember) -> Ruled<Reply> {
    let acting = ctx.acting_user()?;
    let (id, user) = (ChannelId(command.channel), UserId(command.user));
    let row = channel(&ctx.changes, id)?;
    let own = ctx.changes.row::<rows::Member>(Key::Member(id, UserId(acting.id)))?;
    let public = matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement);
    if own.is_none() && (!public || acting.role() == Role::Guest) {
        return Err(RefusalCode::ChannelNotFound.into());
    }
    if own.is_none() && acting.id != user.0 && acting.role() < Role::Admin {
        return Err(RefusalCode::NotAMember.into());
    }
    if row.kind() == ChannelKind::Direct {
        return Err(RefusalCode::WrongChannelKind.into());
    }
    if row.archived {
        return Err(RefusalCode::ChannelArchived.into());
    }
    let role = command.role.map(MemberRole::try_from).transpose().map_err(|_| RefusalCode::InvalidCommand)?;
    if role == Some(MemberRole::Manager) {
        managed(ctx, id)?;
    }
    let Some(member) = ctx.changes.row::<rows::Member>(Key::Member(id, user))? else {
        if !knows(&ctx.changes, &acting, user)? {
            return Err(RefusalCode::UserNotFound.into());
        }
        return add(ctx, Joining { channel: &row, user, role: role.unwrap_or(MemberRole::Member) });
    };
    let Some(role) = role.filter(|role| *role != member.role()) else {
        return Ok(Reply::Member(event::Member::of(user, &member)));
    };
    managed(ctx, id)?;
    let before = event::Member::of(user, &member);
    let new = rows::Member { role: role.into(), ..(*member).clone() };
    let after = event::Member::of(user, &new);
    ctx.changes.put(Key::Member(id, user), new)?;
    ctx.audit(Act {
        action: "member.update",
        kind: "channel",
        target: id.0,
        before: json(&before),
        after: json(&after),
    });
    ctx.events.push(Event::MemberUpdated { channel_id: id, member: after.clone() });
    Ok(Reply::Member(after))
}

/// Adds somebody who exists and may act; adding somebody else leaves a trace.
fn add(ctx: &mut Context<'_>, joining: Joining<'_>) -> Ruled<Reply> {
    let (id, user) = (ChannelId(joining.channel.id), joining.user);
    active_user(&ctx.changes, user)?;
    join(ctx, joining)?;
    let member = ctx.changes.row::<rows::Member>(Key::Member(id, user))?.ok_or(RefusalCode::InvalidCommand)?;
    let view = event::Member::of(user, &member);
    if ctx.actor.user != user.0 {
        ctx.audit(Act { action: "member.add", kind: "channel", target: id.0, before: None, after: json(&view) });
    }
    Ok(Reply::Member(view))
}

/// Leaves, or removes somebody.
pub(crate) fn remove_member(ctx: &mut Context<'_>, command: &RemoveMember) -> Ruled<Reply> {
    let acting = ctx.acting_user()?;
    let (id, user) = (ChannelId(command.channel), UserId(command.user));
    let row = channel(&ctx.changes, id)?;
    let own = acting.id == user.0;
    if !own {
        managed(ctx, id)?;
    }
    let member = ctx.changes.row::<rows::Member>(Key::Member(id, user))?;
    let Some(member) = member else {
        let public = matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement);
        let secret = own && (!public || acting.role() == Role::Guest);
        return Err(if secret { RefusalCode::ChannelNotFound } else { RefusalCode::UserNotFound }.into());
    };
    if row.kind() == ChannelKind::Direct {
        return Err(RefusalCode::WrongChannelKind.into());
    }
    let mut head = (*head(&ctx.changes, id)?).clone();
    head.members = head.members.saturating_sub(1);
    ctx.changes.delete(Key::Member(id, user))?;
    ctx.changes.delete(Key::Membership(user, id))?;
    ctx.changes.put(Key::ChannelHead(id), head)?;
    if !own {
        let before = json(&event::Member::of(user, &member));
        ctx.audit(Act { action: "member.remove", kind: "channel", target: id.0, before, after: None });
    }
    ctx.events.push(Event::MemberRemoved { channel_id: id, user_id: user });
    if row.kind() == ChannelKind::Private && member.role() == MemberRole::Manager {
        hand_over(ctx, id, user)?;
    }
    Ok(Reply::Done)
}

/// A private channel has always a manager, as nobody outside could name one: when the last one goes, the member who has
/// been there longest takes over.
fn hand_over(ctx: &mut Context<'_>, id: ChannelId, gone: UserId) -> Ruled<()> {
    let range = Key::Member(id, UserId(0))..=Key::Member(id, UserId(u64::MAX));
    let members = ctx.changes.rows::<rows::Member>(range, Direction::Up, usize::MAX)?;
    let others = members.iter().filter_map(|(key, row)| match key {
        Key::Member(_, user) if *user != gone => Some((*user, row)),
        _ => None,
    });
    if others.clone().any(|(_, row)| row.role() == MemberRole::Manager) {
        return Ok(());
    }
    let Some((heir, row)) = others.min_by_key(|(user, row)| (row.joined_ms, *user)) else { return Ok(()) };
    let new = rows::Member { role: MemberRole::Manager.into(), ..(**row).clone() };
    let view = event::Member::of(heir, &new);
    ctx.changes.put(Key::Member(id, heir), new)?;
    ctx.events.push(Event::MemberUpdated { channel_id: id, member: view });
    Ok(())
}

/// Changes one's own side of a membership.
pub(crate) fn update_membership(ctx: &mut Context<'_>, command: &UpdateMembership) -> Ruled<Reply> {
    let acting = ctx.acting_user()?;
    let (id, user) = (ChannelId(command.channel), UserId(acting.id));
    let notify = NotifyLevel::try_from(command.notify).map_err(|_| RefusalCode::InvalidCommand)?;
    let row = ctx.changes.row::<rows::Membership>(Key::Membership(user, id))?;
    let member = ctx.changes.row::<rows::Member>(Key::Member(id, user))?;
    let (row, member) = row.zip(member).ok_or(RefusalCode::ChannelNotFound)?;
    let new = rows::Membership { notify: notify.into(), ..(*row).clone() };
    let view = OwnMember::of(&member, &new);
    ctx.changes.put(Key::Membership(user, id), new)?;
    ctx.events.push(Event::MembershipUpdated { user, channel_id: id, member: view.clone() });
    Ok(Reply::OwnMember(view))
}
