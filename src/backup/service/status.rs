//! What an operator sees of the backups: who makes them, what each target holds, what comes next, what is wrong.

use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;

use super::alarms::{self, Alarm, Facts};
use super::due::Plan;
use super::look::{Failure, Look, Seen};
use super::{BackupService, Held, ServiceError};
use crate::backup::crypt::read_identities;
use crate::backup::manifest::Signer;
use crate::backup::target::{self, Level, Patience, Report, TargetError};
use crate::core::rows::{BackupTarget, Backups, Secret};
use crate::core::view::ViewError;
use crate::limits::BACKUP_NEXT_RUNS;
use crate::node::now_ms;
use crate::ops::metrics;

/// A target, as this node last saw it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = BackupTargetStatus)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Backups go there.
    pub enabled: bool,
    /// When it was last looked at, in Unix milliseconds; null: not yet.
    pub looked_ms: Option<u64>,
    /// Why it does not answer; null: it does.
    pub error: Option<Failure>,
    /// Since when it does not, in Unix milliseconds.
    pub failing_since_ms: Option<u64>,
    /// How many backups it holds.
    pub backups: usize,
    /// The newest one.
    pub newest: Option<Seen>,
    /// When the newest full one was begun, in Unix milliseconds.
    pub newest_full_ms: Option<u64>,
    /// Its schedule asks for a drill now.
    pub drill_due: bool,
    /// When the last good drill of one of them was, in Unix milliseconds.
    pub good_drill_ms: Option<u64>,
    /// After failures: until when it is left alone.
    pub rests_until_ms: Option<u64>,
}

/// When something will be begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BackupNextRun)]
pub struct NextRun {
    /// The schedule.
    pub schedule: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// The backups, as this node sees them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BackupStatus {
    /// The backups in one sentence.
    pub summary: String,
    /// Whether this node makes them.
    pub works_here: bool,
    /// Why it does, or does not.
    pub reason: &'static str,
    /// Nothing is made by itself at the moment.
    pub paused: bool,
    /// Jobs at work on this node.
    pub running: usize,
    /// The targets.
    pub targets: Vec<TargetStatus>,
    /// The next runs.
    pub next: Vec<NextRun>,
    /// What is wrong.
    pub alarms: Vec<Alarm>,
    /// The fingerprint of the key that signs; null before the first settings.
    pub signer: Option<String>,
}

impl BackupService {
    /// How the backups stand, as this node sees them.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn status(&self) -> Result<BackupStatus, ViewError> {
        let now = now_ms();
        let (settings, organisation) = (self.settings()?, self.organisation()?);
        self.0.asked_ms.store(now, std::sync::atomic::Ordering::Relaxed);
        let (plan, _) = Plan::new(&settings, &organisation.time_zone);
        let held = self.0.held.lock().clone();
        let targets: Vec<_> =
            settings.targets.iter().map(|target| of(target, held.get(&target.name), (&plan, now))).collect();
        let duty = *self.0.duty.lock();
        let alarms = self.alarms(&settings, now);
        let next = plan.upcoming(now, BACKUP_NEXT_RUNS).into_iter();
        let signer = settings.signing_key.as_ref().filter(|key| Secret::is_set(Some(key)));
        Ok(BackupStatus {
            summary: summary(&settings, &targets, alarms.len()),
            works_here: duty.is_here(),
            reason: duty.reason(),
            paused: plan.is_paused(now),
            running: self.0.board.running(),
            targets,
            next: next.map(|(schedule, at_ms)| NextRun { schedule, at_ms }).collect(),
            alarms,
            signer: signer.and_then(|key| Signer::from_pkcs8(&key.bytes).ok()).map(|signer| signer.fingerprint()),
        })
    }

    /// What is wrong now; nothing when the settings cannot be read, which stops the node anyway.
    #[must_use]
    pub fn alarms_now(&self) -> Vec<Alarm> {
        self.settings().map(|settings| self.alarms(&settings, now_ms())).unwrap_or_default()
    }

    pub(super) fn alarms(&self, settings: &Backups, now: u64) -> Vec<Alarm> {
        let held = self.0.held.lock();
        let looks: Vec<_> = held.iter().filter_map(|(name, held)| Some((name.clone(), held.look.clone()?))).collect();
        drop(held);
        let key = self.0.options.drill_key.as_ref();
        let facts = Facts {
            settings,
            looks: &looks,
            applied_index: self.0.options.node.applied_index(),
            since_ms: self.0.started_ms,
            trimmed_ahead: self.0.trimmed_ahead.load(std::sync::atomic::Ordering::Relaxed),
            drill_key: key.map(|path| read_identities(path).map(|_| ()).map_err(|error| error.to_string())),
        };
        alarms::alarms(&facts, now)
    }

    /// Tells the log of new alarms, and the metrics of all.
    pub(super) fn tell_alarms(&self, settings: &Backups, now: u64) {
        let found = self.alarms(settings, now);
        let names: Vec<_> = found.iter().map(|alarm| (alarm.code, alarm.target.clone())).collect();
        let before = std::mem::replace(&mut *self.0.told.lock(), names.clone());
        for alarm in &found {
            if !before.contains(&(alarm.code, alarm.target.clone())) {
                tracing::error!(alarm = alarm.code, target = alarm.target, action = alarm.action, "{}", alarm.text);
            }
        }
        for (code, target) in before {
            if !names.contains(&(code, target.clone())) {
                tracing::info!(alarm = code, target, "the alarm is over");
            }
        }
        ::metrics::gauge!(metrics::BACKUP_ALARMS).set(found.len() as f64);
        ::metrics::gauge!(metrics::BACKUP_JOBS_RUNNING).set(self.0.board.running() as f64);
        let held = self.0.held.lock();
        let newest = settings.targets.iter().filter(|target| target.enabled).map(|target| {
            let look = held.get(&target.name).and_then(|held| held.look.as_ref());
            look.and_then(|look| look.backups.last()).map_or(0, |newest| newest.finished_ms)
        });
        // The worst target counts: 0 when one has no backup at all.
        ::metrics::gauge!(metrics::BACKUP_NEWEST_SECONDS).set(newest.min().unwrap_or(0) as f64 / 1_000.0);
    }
}

fn of(target: &BackupTarget, held: Option<&Held>, (plan, now): (&Plan, u64)) -> TargetStatus {
    let look = held.and_then(|held| held.look.as_ref());
    let time = |ms: u64| (ms > 0).then_some(ms);
    let backups = look.map_or(&[][..], |look| &look.backups);
    TargetStatus {
        name: target.name.clone(),
        enabled: target.enabled,
        looked_ms: look.map(|look| look.at_ms),
        error: look.and_then(|look| look.error.clone()),
        failing_since_ms: look.and_then(|look| look.failing_since_ms),
        backups: backups.len(),
        newest: backups.last().cloned(),
        newest_full_ms: look.and_then(|look| time(Look::newest_ms(look).0)),
        drill_due: held.is_some_and(|held| plan.drill_due(&held.done(), now)),
        good_drill_ms: look.and_then(|look| time(look.good_drill_ms)),
        rests_until_ms: held.and_then(|held| time(held.done().rests_until_ms())),
    }
}

fn summary(settings: &Backups, targets: &[TargetStatus], alarms: usize) -> String {
    let enabled: Vec<_> = targets.iter().filter(|target| target.enabled).collect();
    if enabled.is_empty() {
        return "no backups are made: `holdfast backup target add` says where they go".to_owned();
    }
    let without = enabled.iter().filter(|target| target.newest.is_none()).count();
    let state = match (alarms, without) {
        (0, 0) => "backups are in order".to_owned(),
        (0, count) => format!("{count} of {} backup targets have no backup yet", enabled.len()),
        (1, _) => "1 backup alarm".to_owned(),
        (count, _) => format!("{count} backup alarms"),
    };
    let plural = if enabled.len() == 1 { "" } else { "s" };
    let sealed = if settings.recipients.is_empty() { "not encrypted" } else { "encrypted" };
    format!("{state}: {} target{plural}, {sealed}", enabled.len())
}

/// Tries out what backups need, by a file that is removed again; `data` is this node's data directory.
pub(super) fn try_target(target: &BackupTarget, data: &Path) -> Result<Report, ServiceError> {
    let of_target = |error: TargetError| ServiceError::Backup(error.into());
    let place = target.place.as_ref().ok_or_else(|| of_target(TargetError::NotThere(target.name.clone())))?;
    // Somebody waits for the answer.
    let place = target::open_with(place, Patience::short()).map_err(of_target)?;
    let report = place.append_only(target.append_only).probe(Some(data));
    match report.findings.iter().find(|finding| finding.level == Level::Bad) {
        Some(bad) => Err(ServiceError::Unfit(bad.clone())),
        None => Ok(report),
    }
}
