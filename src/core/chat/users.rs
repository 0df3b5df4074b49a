//! Users: made, changed, given a password.
//!
//! - Sign-in names are unique without regard to case.
//! - There is always at least one owner who may sign in.
//! - Only owners (and the operator) touch admins and owners.

use super::{Act, Context, Reply, Ruled, json, sessions};
use crate::core::command::{NewUser, SetPassword, UpdateUser};
use crate::core::event::{self, Event};
use crate::core::ids::{SessionId, UserId};
use crate::core::keys::{Key, name_hash};
use crate::core::refusal::{Current, Refusal, RefusalCode};
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};

/// A user to be made, with the role that the rules decided on.
pub(crate) struct Creation<'a> {
    pub(crate) new: &'a NewUser,
    pub(crate) role: Role,
}

/// Makes a user under the entry's id.
pub(crate) fn create(ctx: &mut Context<'_>, creation: Creation<'_>) -> Ruled<event::User> {
    let new = creation.new;
    let name_key = Key::Username(name_hash(&new.username));
    if ctx.changes.row::<rows::Reference>(name_key)?.is_some() {
        return Err(RefusalCode::UsernameTaken.into());
    }
    let row = rows::User {
        id: ctx.id,
        username: new.username.clone(),
        display_name: new.display_name.clone(),
        role: creation.role.into(),
        password_hash: new.password_hash.clone(),
        locale: new.locale.clone(),
        disabled: false,
        version: 1,
        created_ms: ctx.now_ms,
        must_change_password: new.must_change_password,
    };
    let view = event::User::from(&row);
    ctx.changes.put(name_key, rows::Reference { id: ctx.id })?;
    ctx.changes.put(Key::User(UserId(ctx.id)), row)?;
    ctx.events.push(Event::UserCreated { user: view.clone() });
    Ok(view)
}

/// An admin makes a user.
pub(crate) fn create_by_admin(ctx: &mut Context<'_>, new: &NewUser) -> Ruled<Reply> {
    let acting = ctx.require_admin()?;
    if ctx.changes.row::<rows::Settings>(Key::Settings)?.is_none() {
        return Err(RefusalCode::SetupRequired.into()); // else the operator could take the owner's name
    }
    let role = Role::try_from(new.role).map_err(|_| RefusalCode::InvalidCommand)?;
    require_owner_for(acting, &[role])?;
    let user = create(ctx, Creation { new, role })?;
    ctx.audit(Act { action: "user.create", kind: "user", target: ctx.id, before: None, after: json(&user) });
    Ok(Reply::User(user))
}

/// Only owners make, change and unmake admins and owners.
pub(crate) fn require_owner_for(acting: Role, touched: &[Role]) -> Ruled<()> {
    if acting < Role::Owner && touched.iter().any(|role| *role >= Role::Admin) {
        return Err(RefusalCode::Forbidden.into());
    }
    Ok(())
}

/// Changes a user: oneself (name and language), or by an admin.
pub(crate) fn update(ctx: &mut Context<'_>, command: &UpdateUser) -> Ruled<Reply> {
    let acting = ctx.acting_role()?;
    let own = ctx.actor.user == command.user;
    let administrative = command.role.is_some() || command.disabled.is_some() || !own;
    if administrative && acting < Role::Admin {
        return Err(RefusalCode::Forbidden.into());
    }
    let role = command.role.map(Role::try_from).transpose().map_err(|_| RefusalCode::InvalidCommand)?;
    let key = Key::User(UserId(command.user));
    let row = ctx.changes.row::<rows::User>(key)?.ok_or(RefusalCode::UserNotFound)?;
    let before = event::User::from(&*row);
    if row.version != command.version {
        return Err(Refusal::stale(Current::User(before)).into());
    }
    let mut new = (*row).clone();
    new.version += 1;
    new.display_name = command.display_name.clone().unwrap_or(new.display_name);
    new.locale = command.locale.clone().unwrap_or(new.locale);
    new.role = role.map_or(new.role, i32::from);
    new.disabled = command.disabled.unwrap_or(new.disabled);
    let after = event::User::from(&new);
    if !own {
        require_owner_for(acting, &[before.role, after.role])?;
    }
    if own && after.role > before.role {
        return Err(RefusalCode::Forbidden.into());
    }
    let loses_owner = !before.disabled && before.role == Role::Owner && (after.disabled || after.role != Role::Owner);
    if loses_owner && !another_owner(ctx, command.user)? {
        return Err(RefusalCode::LastOwner.into());
    }
    ctx.changes.put(key, new)?;
    if after.disabled && !before.disabled {
        sessions::end_all(ctx, UserId(command.user), SessionId(0))?;
    }
    if administrative {
        ctx.audit(Act {
            action: "user.update",
            kind: "user",
            target: command.user,
            before: json(&before),
            after: json(&after),
        });
    }
    ctx.events.push(Event::UserUpdated { user: after.clone() });
    Ok(Reply::User(after))
}

/// Whether somebody else is an owner who may sign in.
fn another_owner(ctx: &Context<'_>, except: u64) -> Ruled<bool> {
    let mut first = Key::User(UserId(0));
    loop {
        let page =
            ctx.changes.rows::<rows::User>(first..=Key::User(UserId(u64::MAX)), Direction::Up, OWNER_SCAN_ROWS)?;
        if page.iter().any(|(_, user)| user.role() == Role::Owner && !user.disabled && user.id != except) {
            return Ok(true);
        }
        match page.last() {
            Some((Key::User(last), _)) if page.len() == OWNER_SCAN_ROWS => first = Key::User(UserId(last.0 + 1)),
            _ => return Ok(false),
        }
    }
}

/// Users read at a time while looking for another owner: bounds the memory, not the search.
const OWNER_SCAN_ROWS: usize = 1_000;

/// Sets a password: one's own, or by an admin.
pub(crate) fn set_password(ctx: &mut Context<'_>, command: &SetPassword) -> Ruled<Reply> {
    let acting = ctx.acting_role()?;
    let own = ctx.actor.user == command.user;
    if !own && acting < Role::Admin {
        return Err(RefusalCode::Forbidden.into());
    }
    let key = Key::User(UserId(command.user));
    let row = ctx.changes.row::<rows::User>(key)?.ok_or(RefusalCode::UserNotFound)?;
    if !own {
        require_owner_for(acting, &[row.role()])?;
    }
    let mut new = (*row).clone();
    new.version += 1;
    new.password_hash.clone_from(&command.password_hash);
    new.must_change_password = command.must_change;
    let after = event::User::from(&new);
    ctx.changes.put(key, new)?;
    sessions::end_all(ctx, UserId(command.user), SessionId(command.keep_session))?;
    if !own {
        ctx.audit(Act {
            action: "user.set_password",
            kind: "user",
            target: command.user,
            before: None,
            after: json(&after),
        });
    }
    ctx.events.push(Event::UserUpdated { user: after });
    Ok(Reply::Done)
}
