//! Invitations by link: made by admins, accepted by whoever holds the link. One is worth no more than its maker is when it
//! is accepted.

use super::channels::{self, Joining};
use super::users::{self, Creation};
use super::{Act, Context, Reply, Ruled, channel, json};
use crate::core::command::{AcceptInvite, CreateInvite, RevokeInvite};
use crate::core::event;
use crate::core::ids::{ChannelId, InviteId, UserId};
use crate::core::keys::{Key, LookupHash};
use crate::core::refusal::{RefusalCode, RuleError};
use crate::core::rows::{self, ChannelKind, MemberRole, Role};
use crate::core::view::{View, ViewExt};

/// Makes an invitation. Channels are joined on acceptance; direct channels cannot be.
pub(crate) fn create(ctx: &mut Context<'_>, command: &CreateInvite) -> Ruled<Reply> {
    let acting = ctx.require_admin()?;
    let role = Role::try_from(command.role).map_err(|_| RefusalCode::InvalidCommand)?;
    users::require_owner_for(acting, &[role])?;
    for id in &command.channels {
        let row = channel(&ctx.changes, ChannelId(*id))?;
        let secret = matches!(row.kind(), ChannelKind::Direct | ChannelKind::Private);
        if secret && !channels::is_member(ctx, ChannelId(*id), UserId(ctx.actor.user))? {
            return Err(RefusalCode::ChannelNotFound.into());
        }
        if row.kind() == ChannelKind::Direct {
            return Err(RefusalCode::WrongChannelKind.into());
        }
    }
    let hash: LookupHash = command.token_hash.as_ref().try_into().map_err(|_| RefusalCode::InvalidCommand)?;
    if ctx.changes.get(&Key::InviteToken(hash))?.is_some() {
        return Err(RefusalCode::InvalidCommand.into()); // it would take over the link of another invitation
    }
    let row = rows::Invite {
        id: ctx.id,
        token_hash: command.token_hash.clone(),
        creator: ctx.actor.user,
        role: command.role,
        channels: command.channels.clone(),
        created_ms: ctx.now_ms,
        expires_ms: ctx.now_ms.saturating_add(command.expires_in_seconds.saturating_mul(1_000)),
        uses_max: command.uses_max,
        uses: 0,
        revoked: false,
    };
    let view = event::Invite::from(&row);
    ctx.changes.put(Key::InviteToken(hash), rows::Reference { id: ctx.id })?;
    ctx.changes.put(Key::Invite(InviteId(ctx.id)), row)?;
    ctx.audit(Act { action: "invite.create", kind: "invite", target: ctx.id, before: None, after: json(&view) });
    Ok(Reply::Invite(view))
}

/// Ends an invitation.
pub(crate) fn revoke(ctx: &mut Context<'_>, command: &RevokeInvite) -> Ruled<Reply> {
    ctx.require_admin()?;
    let key = Key::Invite(InviteId(command.invite));
    let row = ctx.changes.row::<rows::Invite>(key)?.ok_or(RefusalCode::InviteNotFound)?;
    let before = event::Invite::from(&*row);
    let mut new = (*row).clone();
    new.revoked = true;
    let after = event::Invite::from(&new);
    ctx.changes.put(key, new)?;
    ctx.audit(Act {
        action: "invite.revoke",
        kind: "invite",
        target: command.invite,
        before: json(&before),
        after: json(&after),
    });
    Ok(Reply::Invite(after))
}

/// An invitation that can be accepted now.
///
/// # Errors
/// `invite_invalid`, `invite_revoked` (also when its maker is disabled or may no longer make such an invitation), `invite_expired`, `invite_used_up`; [`RuleError::View`] when the state fails.
pub fn valid(
    view: &(impl View + ?Sized),
    hash: LookupHash,
    now_ms: u64,
) -> Result<std::sync::Arc<rows::Invite>, RuleError> {
    let reference = view.row::<rows::Reference>(Key::InviteToken(hash))?.ok_or(RefusalCode::InviteInvalid)?;
    let row = view.row::<rows::Invite>(Key::Invite(InviteId(reference.id)))?.ok_or(RefusalCode::InviteInvalid)?;
    if row.revoked || !creator_still_may(view, &row)? {
        return Err(RefusalCode::InviteRevoked.into());
    }
    if row.uses >= row.uses_max {
        return Err(RefusalCode::InviteUsedUp.into());
    }
    if now_ms >= row.expires_ms {
        return Err(RefusalCode::InviteExpired.into());
    }
    Ok(row)
}

/// Whether whoever made an invitation could still make it. Otherwise a former admin could come back by an own link.
fn creator_still_may(view: &(impl View + ?Sized), row: &rows::Invite) -> Ruled<bool> {
    if row.creator == 0 {
        return Ok(true); // the operator at the machine
    }
    let Some(creator) = view.row::<rows::User>(Key::User(UserId(row.creator)))? else { return Ok(false) };
    let allowed = users::require_owner_for(creator.role(), &[row.role()]).is_ok();
    Ok(allowed && !creator.disabled && creator.role() >= Role::Admin)
}

/// Becomes a user by an invitation and joins its channels.
pub(crate) fn accept(ctx: &mut Context<'_>, command: &AcceptInvite) -> Ruled<Reply> {
    let hash = command.token_hash.as_ref().try_into().map_err(|_| RefusalCode::InvalidCommand)?;
    let invite = valid(&ctx.changes, hash, ctx.now_ms)?;
    let new = command.user.as_ref().ok_or(RefusalCode::InvalidCommand)?;
    let user = users::create(ctx, Creation { new, role: invite.role() })?;
    let mut used = (*invite).clone();
    used.uses += 1;
    ctx.changes.put(Key::Invite(InviteId(invite.id)), used)?;
    join_all(ctx, &invite, user.id)?;
    ctx.audit(Act { action: "invite.accept", kind: "user", target: user.id.0, before: None, after: json(&user) });
    Ok(Reply::User(user))
}

/// Joins the channels of an invitation.
pub(crate) fn join_all(ctx: &mut Context<'_>, invite: &rows::Invite, user: UserId) -> Ruled<()> {
    for id in &invite.channels {
        let id = ChannelId(*id);
        let Some(row) = ctx.changes.row::<rows::Channel>(Key::Channel(id))?.filter(|row| !row.archived) else {
            continue; // archived since: not a reason to turn the person away
        };
        if row.kind() == ChannelKind::Private && !channels::is_member(ctx, id, UserId(invite.creator))? {
            continue; // its maker has left: what happens there is no longer its to share
        }
        if channels::is_member(ctx, id, user)? {
            continue; // named twice
        }
        channels::join(ctx, Joining { channel: &row, user, role: MemberRole::Member })?;
    }
    Ok(())
}
