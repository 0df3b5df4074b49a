//! Sessions: one per signed-in device. The password was checked before the command was built; the log holds only the
//! hash of the token.

use super::{Act, Context, Reply, Ruled, active_user, json};
use crate::core::command::{CreateSession, RevokeSession};
use crate::core::event::{self, Event};
use crate::core::ids::{SessionId, UserId};
use crate::core::keys::{Key, LookupHash};
use crate::core::refusal::RefusalCode;
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;

const DAY_MS: u64 = 86_400_000;

/// Signs a device in. Beyond the limit of sessions per user the oldest one ends.
pub(crate) fn create(ctx: &mut Context<'_>, command: &CreateSession) -> Ruled<Reply> {
    let user = active_user(&ctx.changes, UserId(command.user))?;
    let hash: LookupHash = command.token_hash.as_ref().try_into().map_err(|_| RefusalCode::InvalidCommand)?;
    if ctx.changes.row::<rows::Reference>(Key::SessionToken(hash))?.is_some() {
        return Err(RefusalCode::InvalidCommand.into()); // it would sign another session's device in as this user
    }
    let settings = ctx.changes.row::<rows::Settings>(Key::Settings)?.ok_or(RefusalCode::SetupRequired)?;
    let row = rows::Session {
        id: ctx.id,
        user: user.id,
        token_hash: command.token_hash.clone(),
        device: command.device.clone(),
        address: ctx.actor.address.clone(),
        created_ms: ctx.now_ms,
        expires_ms: ctx.now_ms + u64::from(settings.session_days) * DAY_MS,
    };
    let view = event::Session::of(&row, SessionId(ctx.id));
    let owner = UserId(user.id);
    let sessions = all_of(ctx, owner)?;
    let surplus = (sessions.len() + 1).saturating_sub(limits::SESSIONS_PER_USER_MAX);
    for session in sessions.into_iter().take(surplus) {
        end(ctx, owner, session)?;
    }
    ctx.changes.put(Key::SessionToken(hash), rows::Reference { id: ctx.id })?;
    ctx.changes.put(Key::UserSession(owner, SessionId(ctx.id)), rows::Reference { id: ctx.id })?;
    ctx.changes.put(Key::Session(SessionId(ctx.id)), row)?;
    ctx.audit(Act { action: "session.create", kind: "session", target: ctx.id, before: None, after: json(&view) });
    Ok(Reply::Session(view))
}

/// Signs a device out: one's own, or by an admin.
pub(crate) fn revoke(ctx: &mut Context<'_>, command: &RevokeSession) -> Ruled<Reply> {
    let own = ctx.actor.user == command.user;
    let user = UserId(command.user);
    if !own {
        let acting = ctx.require_admin()?;
        let role = ctx.changes.row::<rows::User>(Key::User(user))?.map_or(Role::Guest, |row| row.role());
        super::users::require_owner_for(acting, &[role])?;
    }
    let id = SessionId(command.session);
    let row = ctx.changes.row::<rows::Session>(Key::Session(id))?.filter(|row| row.user == command.user);
    let row = row.ok_or(RefusalCode::SessionNotFound)?;
    end(ctx, user, id)?;
    let before = json(&event::Session::of(&row, SessionId(0)));
    ctx.audit(Act { action: "session.revoke", kind: "session", target: id.0, before, after: None });
    Ok(Reply::Done)
}

/// Ends all sessions of a user but one.
pub(crate) fn end_all(ctx: &mut Context<'_>, user: UserId, keep: SessionId) -> Ruled<()> {
    for session in all_of(ctx, user)? {
        if session != keep {
            end(ctx, user, session)?;
        }
    }
    Ok(())
}

/// Ends all sessions of everybody. Returns how many there were.
pub(crate) fn end_everybodys(ctx: &mut Context<'_>) -> Ruled<u64> {
    let range = Key::Session(SessionId(0))..=Key::Session(SessionId(u64::MAX));
    let all = ctx.changes.rows::<rows::Session>(range, Direction::Up, usize::MAX)?;
    for (_, row) in &all {
        end(ctx, UserId(row.user), SessionId(row.id))?;
    }
    Ok(all.len() as u64)
}

/// A user's sessions, the oldest first.
fn all_of(ctx: &Context<'_>, user: UserId) -> Ruled<Vec<SessionId>> {
    let range = Key::UserSession(user, SessionId(0))..=Key::UserSession(user, SessionId(u64::MAX));
    let rows = ctx.changes.rows::<rows::Reference>(range, Direction::Up, usize::MAX)?;
    Ok(rows.into_iter().map(|(_, row)| SessionId(row.id)).collect())
}

fn end(ctx: &mut Context<'_>, user: UserId, session: SessionId) -> Ruled<()> {
    if let Some(row) = ctx.changes.row::<rows::Session>(Key::Session(session))? {
        if let Ok(hash) = LookupHash::try_from(row.token_hash.as_ref()) {
            ctx.changes.delete(Key::SessionToken(hash))?;
        }
        ctx.changes.delete(Key::Session(session))?;
    }
    ctx.changes.delete(Key::UserSession(user, session))?;
    ctx.events.push(Event::SessionEnded { user, session });
    Ok(())
}
