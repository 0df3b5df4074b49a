//! What an operator must be told of the backups. Pure. Must never stay silent about a target that has no fresh backup,
//! whatever the reason.

use serde::Serialize;
use utoipa::ToSchema;

use super::look::Look;
use crate::core::rows::Backups;
use crate::limits::{BACKUP_SMALL_PERCENT, BACKUP_UNREACHABLE_SECONDS};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alarm {
    /// Stable, for programs.
    pub code: &'static str,
    /// The target; null: all of it.
    pub target: Option<String>,
    /// What is wrong, in a sentence.
    pub text: String,
    /// What to do, in a sentence.
    pub action: &'static str,
}

/// What decides.
pub(super) struct Facts<'a> {
    /// The settings.
    pub settings: &'a Backups,
    /// What was last seen of each target; absent: it was not looked at yet.
    pub looks: &'a [(String, Look)],
    /// The last record of the state: a backup up to it is not too old, however old it is.
    pub applied_index: u64,
    /// Since when this node runs, or since when the settings are known, in Unix milliseconds.
    pub since_ms: u64,
    /// The log had to be trimmed before the backups had it.
    pub trimmed_ahead: bool,
    /// Whether this node has a key for drills, and whether it can be read.
    pub drill_key: Option<Result<(), String>>,
}

const HOUR_MS: u64 = 3_600_000;

/// All alarms, those of the whole first.
#[must_use]
pub(super) fn alarms(facts: &Facts<'_>, now_ms: u64) -> Vec<Alarm> {
    let settings = facts.settings;
    let mut found = Vec::new();
    if settings.encrypted && settings.recipients.is_empty() {
        found.push(Alarm {
            code: "backup_key_missing",
            target: None,
            text: "backups must be encrypted, but there is no public key: none is made".to_owned(),
            action: "make a key with `holdfast backup keygen` and enter its public part in the settings",
        });
    }
    found.extend(drill_key(facts));
    if facts.trimmed_ahead {
        found.push(Alarm {
            code: "log_trimmed",
            target: None,
            text: "the disk is nearly full: the log is trimmed although a backup target does not have all of it"
                .to_owned(),
            action: "free space on the data disk and mend the target; its next backup is a full one",
        });
    }
    for target in settings.targets.iter().filter(|target| target.enabled) {
        let Some((_, look)) = facts.looks.iter().find(|(name, _)| *name == target.name) else { continue };
        found.extend(unreachable(&target.name, look, now_ms));
        found.extend(too_old(facts, (&target.name, look), now_ms));
        found.extend(small(&target.name, look));
        found.extend(drill(facts, (&target.name, look), now_ms));
    }
    found
}

fn drill_key(facts: &Facts<'_>) -> Option<Alarm> {
    let wanted = !facts.settings.drill.is_empty() && !facts.settings.recipients.is_empty();
    let text = match &facts.drill_key {
        _ if !wanted => return None,
        Some(Ok(())) => return None,
        Some(Err(why)) => format!("the drill key cannot be used: {why}"),
        None => "drills are scheduled, but this node has no drill key: encrypted backups cannot be tried".to_owned(),
    };
    let action = "put the private key into a file of mode 0600 and name it in [backup] drill_key of the configuration";
    Some(Alarm { code: "drill_key_missing", target: None, text, action })
}

fn unreachable(target: &str, look: &Look, now_ms: u64) -> Option<Alarm> {
    let (since, error) = (look.failing_since_ms?, look.error.as_ref()?);
    (now_ms.saturating_sub(since) >= BACKUP_UNREACHABLE_SECONDS * 1_000).then(|| Alarm {
        code: "target_unreachable",
        target: Some(target.to_owned()),
        text: format!("target {target} has not answered for {}: {}", age(since, now_ms), error.text),
        action: "mount the disk or mend the network, then `holdfast backup target test`",
    })
}

fn too_old(facts: &Facts<'_>, (target, look): (&str, &Look), now_ms: u64) -> Option<Alarm> {
    let hours = u64::from(facts.settings.alarm_backup_hours);
    if hours == 0 {
        return None;
    }
    let newest = look.backups.last();
    if newest.is_some_and(|newest| newest.index >= facts.applied_index) && look.error.is_none() {
        return None; // nothing has changed since
    }
    let at = newest.map_or(facts.since_ms, |newest| newest.finished_ms);
    let text = match newest {
        Some(_) => format!("the newest backup on {target} is {} old", age(at, now_ms)),
        None => format!("there is no backup on {target}"),
    };
    // The first backup is made at once: a target that has none after an hour will not have one tomorrow either.
    let hours = if newest.is_some() { hours } else { 1 };
    (now_ms.saturating_sub(at) >= hours * HOUR_MS).then(|| Alarm {
        code: "backup_too_old",
        target: Some(target.to_owned()),
        text,
        action: "see the failed jobs with `holdfast backup status`, then `holdfast backup now`",
    })
}

/// A snapshot that shrank to less than half is rather a mistake than a tidy house.
fn small(target: &str, look: &Look) -> Option<Alarm> {
    let mut fulls = look.backups.iter().rev().filter(|backup| backup.snapshot_bytes > 0);
    let (newest, before) = (fulls.next()?, fulls.next()?);
    (newest.snapshot_bytes < before.snapshot_bytes / 100 * BACKUP_SMALL_PERCENT).then(|| Alarm {
        code: "backup_small",
        target: Some(target.to_owned()),
        text: format!(
            "the full backup {} on {target} has a state of {} bytes, the one before had {}",
            newest.name, newest.snapshot_bytes, before.snapshot_bytes
        ),
        action: "look whether messages are missing; if so, pin the backup before with `holdfast backup pin`",
    })
}

fn drill(facts: &Facts<'_>, (target, look): (&str, &Look), now_ms: u64) -> Option<Alarm> {
    let days = u64::from(facts.settings.alarm_drill_days);
    if days == 0 || facts.settings.drill.is_empty() {
        return None;
    }
    let first = look.backups.first().map_or(now_ms, |first| first.finished_ms);
    let at = if look.good_drill_ms > 0 { look.good_drill_ms } else { first };
    let text = match look.good_drill_ms {
        0 => format!("no drill of a backup on {target} has ever succeeded"),
        at => format!("the last good drill of a backup on {target} was {} ago", age(at, now_ms)),
    };
    (now_ms.saturating_sub(at) >= days * 24 * HOUR_MS).then(|| Alarm {
        code: "drill_too_old",
        target: Some(target.to_owned()),
        text,
        action: "run `holdfast backup drill` and read its report",
    })
}

fn age(at_ms: u64, now_ms: u64) -> String {
    let minutes = now_ms.saturating_sub(at_ms) / 60_000;
    match minutes {
        0..=119 => format!("{minutes} minutes"),
        120..=2_879 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::service::look::{Failure, Seen};
    use crate::core::rows::BackupTarget;

    const NOW: u64 = 1_795_219_200_000;

    fn settings() -> Backups {
        let target = BackupTarget { name: "disk".to_owned(), enabled: true, ..BackupTarget::default() };
        Backups {
            targets: vec![target],
            drill: "monthly".to_owned(),
            alarm_backup_hours: 26,
            alarm_drill_days: 35,
            ..Backups::default()
        }
    }

    fn seen(hours_ago: u64, snapshot_bytes: u64) -> Seen {
        let at = NOW - hours_ago * HOUR_MS;
        Seen { name: format!("b{hours_ago}"), index: 10, finished_ms: at, snapshot_bytes, ..Seen::default() }
    }

    fn codes(settings: &Backups, look: Look, drill_key: Option<Result<(), String>>) -> Vec<&'static str> {
        let looks = [("disk".to_owned(), look)];
        let facts = Facts {
            settings,
            looks: &looks,
            applied_index: 11,
            since_ms: NOW - HOUR_MS / 2,
            trimmed_ahead: false,
            drill_key,
        };
        alarms(&facts, NOW).into_iter().map(|alarm| alarm.code).collect()
    }

    #[test]
    fn nothing_is_wrong_with_fresh_backups() {
        let look = Look { backups: vec![seen(30, 100), seen(1, 90)], good_drill_ms: NOW - HOUR_MS, ..Look::default() };
        assert_eq!(codes(&settings(), look, None), [""; 0]);
        assert_eq!(codes(&settings(), Look::default(), None), [""; 0], "half an hour after the start");
    }

    #[test]
    fn each_thing_that_is_wrong_is_told() {
        let fresh = Look { backups: vec![seen(1, 100)], good_drill_ms: NOW, ..Look::default() };
        let old = Look { backups: vec![seen(27, 100)], ..fresh.clone() };
        assert_eq!(codes(&settings(), old.clone(), None), ["backup_too_old"]);
        let unchanged = Look { backups: vec![Seen { index: 11, ..seen(900, 100) }], ..fresh.clone() };
        assert_eq!(codes(&settings(), unchanged, None), [""; 0], "nothing has changed since");
        let small = Look { backups: vec![seen(3, 1_000), seen(2, 0), seen(1, 499)], ..fresh.clone() };
        assert_eq!(codes(&settings(), small, None), ["backup_small"]);
        let error = Failure { code: "target_not_there", text: "is it mounted?".to_owned() };
        let away = Look { failing_since_ms: Some(NOW - HOUR_MS), error: Some(error), ..fresh.clone() };
        assert_eq!(codes(&settings(), away, None), ["target_unreachable"]);
        let undrilled = Look { backups: vec![seen(36 * 24, 100), seen(1, 100)], good_drill_ms: 0, ..fresh.clone() };
        assert_eq!(codes(&settings(), undrilled, None), ["drill_too_old"]);
        let keyless = Backups { encrypted: true, ..settings() };
        assert_eq!(codes(&keyless, fresh.clone(), None), ["backup_key_missing"]);
        let sealed = Backups { recipients: vec!["age1".to_owned()], ..settings() };
        assert_eq!(codes(&sealed, fresh.clone(), None), ["drill_key_missing"]);
        assert_eq!(codes(&sealed, fresh.clone(), Some(Err("no such file".to_owned()))), ["drill_key_missing"]);
        assert_eq!(codes(&sealed, fresh, Some(Ok(()))), [""; 0]);
    }
}
