//! The rule of the backups' settings: who may change them, what they must be. Must never let a secret out: neither into the
//! audit trail, nor to another place than the one it was entered for.
//!
//! - A secret that an update leaves out stays, if the target's place is the same; else it has to be entered again.
//!   Whom we trust there is part of the place: who may name another authority could pose as the server.
//! - The signing key is set once and stays for ever: repositories know the cluster by it.
//!
//! Whether a calendar makes sense is the API's affair, as with time zones: the rules know no calendars.

use super::chat::{Act, Context, Reply, Ruled, json};
use super::command::{BackupAct, NoteBackup, UpdateBackups};
use super::event;
use super::keys::Key;
use super::refusal::{Current, Refusal, RefusalCode};
use super::rows::{self, BackupPlace, BackupSchedule, BackupTarget, Role, Secret};
use super::view::ViewExt;
use crate::limits;

/// The settings before anybody has changed them.
#[must_use]
pub fn defaults() -> rows::Backups {
    rows::Backups {
        version: 1,
        retention: Some(rows::BackupRetention { last: 3, hourly: 24, daily: 7, weekly: 5, monthly: 12 }),
        alarm_backup_hours: 26,
        alarm_drill_days: 35,
        ..rows::Backups::default()
    }
}

/// Changes the settings of the backups: the whole of them, as they are to be.
pub(crate) fn update(ctx: &mut Context<'_>, command: &UpdateBackups) -> Ruled<Reply> {
    if !ctx.actor.is_system() {
        ctx.require_admin().map(|_: Role| ())?;
    }
    let row = ctx.changes.row::<rows::Backups>(Key::Backups)?;
    let old = row.as_deref().cloned().unwrap_or_else(defaults);
    if old.version != command.version {
        return Err(Refusal::stale(Current::Backups((&old).into())).into());
    }
    let wanted = command.settings.clone().ok_or(RefusalCode::InvalidCommand)?;
    let targets = wanted.targets.into_iter().map(|target| with_secrets(target, &old)).collect::<Ruled<Vec<_>>>()?;
    let signing_key = old.signing_key.clone().or(wanted.signing_key);
    let new = rows::Backups { version: old.version + 1, targets, signing_key, ..wanted };
    check(&new)?;
    let before = row.as_deref().and_then(|row| json(&event::Backups::from(row)));
    let after = event::Backups::from(&new);
    ctx.changes.put(Key::Backups, new)?;
    ctx.audit(Act { action: "backups.update", kind: "backups", target: 0, before, after: json(&after) });
    Ok(Reply::Backups(after))
}

/// Notes in the audit trail what somebody did with the backups.
pub(crate) fn note(ctx: &mut Context<'_>, command: &NoteBackup) -> Ruled<Reply> {
    ctx.require_admin()?;
    let what = BackupAct::try_from(command.what).map_err(|_| RefusalCode::InvalidCommand)?;
    if !is_name(&command.target) || !is_line(&command.text) {
        return Err(RefusalCode::InvalidCommand.into());
    }
    let after = serde_json::json!({ "target": command.target, "text": command.text });
    ctx.audit(Act { action: what.action(), kind: "backups", target: 0, before: None, after: Some(after) });
    Ok(Reply::Done)
}

/// A target with the secrets that the update left out.
fn with_secrets(mut target: BackupTarget, old: &rows::Backups) -> Ruled<BackupTarget> {
    let before = old.targets.iter().find(|before| before.name == target.name).and_then(|before| before.place.as_ref());
    let keep = |secret: &mut Option<Secret>, kept: Option<&Secret>, same: bool| -> Ruled<()> {
        match (&secret, kept) {
            (None, Some(_)) if !same => Err(RefusalCode::BackupSecretNeeded.into()),
            (None, kept) => {
                *secret = kept.cloned();
                Ok(())
            }
            _ => Ok(()),
        }
    };
    match (target.place.as_mut(), before) {
        (Some(BackupPlace::S3(new)), Some(BackupPlace::S3(old))) => {
            let same = new.endpoint == old.endpoint && new.access_key == old.access_key && new.ca_pem == old.ca_pem;
            keep(&mut new.secret, old.secret.as_ref(), same)?;
        }
        (Some(BackupPlace::Webdav(new)), Some(BackupPlace::Webdav(old))) => {
            let same = new.url == old.url && new.user == old.user && new.ca_pem == old.ca_pem;
            keep(&mut new.password, old.password.as_ref(), same)?;
        }
        (Some(BackupPlace::Sftp(new)), Some(BackupPlace::Sftp(old))) => {
            // Who has the host's key is the host: nothing else can read what is sent to it.
            let same = new.host == old.host && new.port == old.port && new.host_key == old.host_key;
            keep(&mut new.password, old.password.as_ref(), same)?;
            keep(&mut new.private_key, old.private_key.as_ref(), same)?;
        }
        _ => {}
    }
    Ok(target)
}

/// What the settings must be.
fn check(new: &rows::Backups) -> Ruled<()> {
    let unique = |names: &[&str]| {
        let all = names.iter().enumerate();
        all.into_iter().all(|(at, name)| names.iter().skip(at + 1).all(|other| other != name))
    };
    let targets: Vec<&str> = new.targets.iter().map(|target| target.name.as_str()).collect();
    let few = targets.len() <= limits::BACKUP_TARGETS_MAX;
    if !few || !unique(&targets) || !new.targets.iter().all(is_target) {
        return Err(RefusalCode::BackupTargetInvalid.into());
    }
    if !new.targets.iter().all(|target| is_ca_pem(ca_pem(target))) {
        return Err(RefusalCode::BackupCaInvalid.into());
    }
    let few = new.recipients.len() <= limits::BACKUP_RECIPIENTS_MAX;
    if !few || !new.recipients.iter().all(|recipient| is_recipient(recipient)) {
        return Err(RefusalCode::BackupRecipientInvalid.into());
    }
    let names: Vec<&str> = new.schedules.iter().map(|schedule| schedule.name.as_str()).collect();
    let few = names.len() <= limits::BACKUP_SCHEDULES_MAX;
    if !few || !unique(&names) || !new.schedules.iter().all(|one| is_schedule(one, &targets)) || !is_line(&new.drill) {
        return Err(RefusalCode::BackupScheduleInvalid.into());
    }
    let kept = new.retention.unwrap_or_default();
    let counts = [kept.last, kept.hourly, kept.daily, kept.weekly, kept.monthly];
    if counts.iter().any(|count| *count > limits::BACKUP_KEPT_MAX) {
        return Err(RefusalCode::BackupRetentionInvalid.into());
    }
    let signing_key = new.signing_key.as_ref().map_or(0, |key| key.bytes.len());
    if signing_key > limits::BACKUP_SECRET_BYTES_MAX {
        return Err(RefusalCode::InvalidCommand.into());
    }
    Ok(())
}

/// A name of a target or a schedule: it stands in commands, metrics and file names.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=limits::BACKUP_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(['-', '_'])
}

/// One line of a bounded length; may be empty.
fn is_line(text: &str) -> bool {
    text.len() <= limits::BACKUP_TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

fn is_given(text: &str) -> bool {
    !text.trim().is_empty() && is_line(text)
}

/// Whether a text looks like the public key of an age key pair.
#[must_use]
pub fn is_recipient(text: &str) -> bool {
    let rest = text.strip_prefix("age1").unwrap_or_default();
    // 32 bytes and a checksum of six characters in Bech32.
    rest.len() == 58 && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The authority's certificates of a target; empty where there are none.
fn ca_pem(target: &BackupTarget) -> &str {
    match &target.place {
        Some(BackupPlace::S3(place)) => &place.ca_pem,
        Some(BackupPlace::Webdav(place)) => &place.ca_pem,
        _ => "",
    }
}

/// Whether a text may be certificates in PEM, or is empty. A private key beside them is refused: everybody who sees the settings
/// sees this text. Whether the certificates can be read is the API's affair.
fn is_ca_pem(text: &str) -> bool {
    let plain =
        |character: char| character == '\t' || character == '\n' || character == '\r' || !character.is_control();
    text.is_empty()
        || (text.len() <= limits::BACKUP_CA_BYTES_MAX
            && text.contains("-----BEGIN CERTIFICATE-----")
            && !text.contains("PRIVATE KEY-----")
            && text.chars().all(plain))
}

fn is_target(target: &BackupTarget) -> bool {
    let web = |url: &str| (url.starts_with("https://") || url.starts_with("http://")) && is_given(url);
    let small = |secret: &Option<Secret>| {
        secret.as_ref().is_none_or(|secret| secret.bytes.len() <= limits::BACKUP_SECRET_BYTES_MAX)
    };
    let place = match &target.place {
        None => false,
        Some(BackupPlace::Directory(place)) => place.path.starts_with('/') && is_given(&place.path),
        Some(BackupPlace::S3(place)) => {
            let lines = [&place.region, &place.prefix, &place.access_key];
            web(&place.endpoint)
                && is_given(&place.bucket)
                && lines.into_iter().all(|line| is_line(line))
                && small(&place.secret)
        }
        Some(BackupPlace::Webdav(place)) => web(&place.url) && is_line(&place.user) && small(&place.password),
        Some(BackupPlace::Sftp(place)) => {
            is_given(&place.host)
                && place.port <= u32::from(u16::MAX)
                && is_given(&place.user)
                && is_given(&place.path)
                && place.host_key.starts_with("SHA256:")
                && is_line(&place.host_key)
                && small(&place.password)
                && small(&place.private_key)
        }
    };
    is_name(&target.name) && place
}

fn is_schedule(schedule: &BackupSchedule, targets: &[&str]) -> bool {
    is_name(&schedule.name)
        && is_given(&schedule.calendar)
        && rows::ScheduledKind::try_from(schedule.kind).is_ok()
        && schedule.targets.iter().all(|name| targets.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_look_like_age_keys() {
        assert!(is_recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"));
        for bad in ["", "age1", "age1QL3Z7HJY54PW3HYWW5AYYFG7ZQGVC7W3J2ELW8ZMRJ2KG5SFN9AQMCAC8P", "AGE-SECRET-KEY-1"] {
            assert!(!is_recipient(bad), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let place = rows::S3Place { secret: Some(Secret::text("hunter2")), ..rows::S3Place::default() };
        let target = BackupTarget { place: Some(BackupPlace::S3(place)), ..BackupTarget::default() };
        let row = rows::Backups { targets: vec![target], signing_key: Some(Secret::text("sign")), ..defaults() };
        let shown = format!("{row:?} {:?} {}", event::Backups::from(&row), json(&event::Backups::from(&row)).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("Secret(set)"), "{shown}");
    }
}
