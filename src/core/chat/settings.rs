//! The organisation: its set-up, once, and its settings.

use super::users::{self, Creation};
use super::{Act, Context, Reply, Ruled, json};
use crate::core::command::{NoteCertificate, SetUp, UpdateSettings};
use crate::core::event::{self, Event};
use crate::core::keys::Key;
use crate::core::refusal::{Current, Refusal, RefusalCode};
use crate::core::rows::{self, Role};
use crate::core::view::ViewExt;

/// How long a session lives unless an admin decides otherwise, in days.
const SESSION_DAYS_DEFAULT: u32 = 30;

/// Names the organisation and makes its owner.
pub(crate) fn set_up(ctx: &mut Context<'_>, command: &SetUp) -> Ruled<Reply> {
    if ctx.changes.row::<rows::Settings>(Key::Settings)?.is_some() {
        return Err(RefusalCode::AlreadySetUp.into());
    }
    let owner = command.owner.as_ref().ok_or(RefusalCode::InvalidCommand)?;
    let settings = rows::Settings {
        version: 1,
        organisation: command.organisation.clone(),
        default_locale: command.default_locale.clone(),
        time_zone: command.time_zone.clone(),
        session_days: SESSION_DAYS_DEFAULT,
        edit_window_seconds: 0,
        created_ms: ctx.now_ms,
    };
    let view = event::Settings::from(&settings);
    ctx.changes.put(Key::Settings, settings)?;
    let user = users::create(ctx, Creation { new: owner, role: Role::Owner })?;
    ctx.audit(Act { action: "server.set_up", kind: "settings", target: 0, before: None, after: json(&view) });
    ctx.events.push(Event::SettingsUpdated { settings: view });
    Ok(Reply::User(user))
}

/// Changes the settings.
pub(crate) fn update(ctx: &mut Context<'_>, command: &UpdateSettings) -> Ruled<Reply> {
    ctx.require_admin()?;
    let row = ctx.changes.row::<rows::Settings>(Key::Settings)?.ok_or(RefusalCode::SetupRequired)?;
    let before = event::Settings::from(&*row);
    if row.version != command.version {
        return Err(Refusal::stale(Current::Settings(before)).into());
    }
    let mut new = (*row).clone();
    new.version += 1;
    new.organisation = command.organisation.clone().unwrap_or(new.organisation);
    new.default_locale = command.default_locale.clone().unwrap_or(new.default_locale);
    new.time_zone = command.time_zone.clone().unwrap_or(new.time_zone);
    new.session_days = command.session_days.unwrap_or(new.session_days);
    new.edit_window_seconds = command.edit_window_seconds.unwrap_or(new.edit_window_seconds);
    let after = event::Settings::from(&new);
    ctx.changes.put(Key::Settings, new)?;
    ctx.audit(Act {
        action: "settings.update",
        kind: "settings",
        target: 0,
        before: json(&before),
        after: json(&after),
    });
    ctx.events.push(Event::SettingsUpdated { settings: after.clone() });
    Ok(Reply::Settings(after))
}

/// Notes in the audit trail that an admin installed a certificate.
pub(crate) fn note_certificate(ctx: &mut Context<'_>, command: &NoteCertificate) -> Ruled<Reply> {
    ctx.require_admin()?;
    let (before, after) = (serde_json::from_str(&command.before).ok(), serde_json::from_str(&command.after).ok());
    ctx.audit(Act { action: "certificate.install", kind: "certificate", target: 0, before, after });
    Ok(Reply::Done)
}
