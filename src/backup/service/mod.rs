//! The part of a node that makes backups: looks at the targets, begins what is due, carries out jobs one at a time on each
//! target, tells what is wrong. Must never work beside the other node of a pair by itself, and never hold up the chat.
//!
//! - What is due is decided by what the repositories hold, so it survives restarts and failovers.
//! - What somebody asks for runs on the node that was asked; two that meet in one repository end with
//!   `repository_changed`, and nothing is lost.

mod alarms;
mod drills;
mod due;
mod duty;
mod jobs;
mod look;
mod status;
mod work;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub use alarms::Alarm;
pub use jobs::{Job, JobKind, JobOutcome, JobProgress, JobState};
pub use look::{Failure, Seen};
pub use status::{BackupStatus, NextRun, TargetStatus};
pub use work::{pruned, verified};

use super::target::{Finding, Report};
use super::{BackupError, repository::Repository};
use crate::blobs::BlobStore;
use crate::core::backups::defaults;
use crate::core::keys::Key;
use crate::core::rows::{self, BackupTarget, Backups};
use crate::core::view::{ViewError, ViewExt as _};
use crate::limits::{
    BACKUP_LOOK_SECONDS, BACKUP_PRUNE_SECONDS, BACKUP_STOP_MS_MAX, BACKUP_TICK_MS, BACKUP_WATCHED_SECONDS,
};
use crate::node::{Node, now_ms};
use crate::ops::durable_file::create_private_dir;
use crate::ops::metrics;
use crate::replication::PairHandle;
use due::{Done, Plan};
use duty::{Duty, PairFacts};
use jobs::Board;
use look::Look;
use work::{Ended, Work};

/// What the service is started with.
pub struct BackupOptions {
    /// The node whose state is backed up.
    pub node: Node,
    /// The pair, which says who does the work.
    pub pair: PairHandle,
    /// The node's files.
    pub blobs: BlobStore,
    /// The data directory.
    pub data: PathBuf,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The site.
    pub site: u16,
    /// This node's number.
    pub member: u16,
    /// The file with the private key for drills.
    pub drill_key: Option<PathBuf>,
}

/// What is remembered of a target while the node runs.
#[derive(Clone, Default)]
struct Held {
    look: Option<Look>,
    /// A look is under way.
    looking: bool,
    looked_ms: u64,
    failures: u32,
    failed_ms: u64,
    pruned_ms: u64,
    /// Held by whoever works in the repository's folder of copies.
    lane: Arc<Mutex<()>>,
}

impl Held {
    fn done(&self) -> Done {
        let (full_ms, any_ms) = self.look.as_ref().map_or((0, 0), Look::newest_ms);
        Done {
            full_ms,
            any_ms,
            looked_ms: self.looked_ms,
            drill_ms: self.look.as_ref().map_or(0, |look| look.drill_ms),
            failures: self.failures,
            failed_ms: self.failed_ms,
        }
    }
}

struct Inner {
    options: BackupOptions,
    board: Board,
    held: Mutex<HashMap<String, Held>>,
    duty: Mutex<Duty>,
    /// What the log was told last: alarms are told once.
    told: Mutex<Vec<(&'static str, Option<String>)>>,
    started_ms: u64,
    /// When somebody asked for the status last.
    asked_ms: AtomicU64,
    /// The log had to be trimmed before the backups had it.
    trimmed_ahead: AtomicBool,
}

/// A handle on the service; clones share it.
#[derive(Clone)]
pub struct BackupService(Arc<Inner>);

/// Why something that was asked for is not done.
#[derive(Debug)]
pub enum ServiceError {
    /// There is no target of this name.
    NoTarget(String),
    /// Too many jobs wait.
    Busy,
    /// There is no such job, or it has ended.
    NoJob,
    /// The repository or the target refused.
    Backup(BackupError),
    /// A target was tried out and does not do what backups need.
    Unfit(Finding),
    /// The state cannot be read.
    State(ViewError),
    /// The work ended unexpectedly.
    Broken(String),
}

impl ServiceError {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTarget(_) => "backup_target_not_found",
            Self::Busy => "backup_busy",
            Self::NoJob => "backup_job_not_found",
            Self::Backup(error) => error.code(),
            // What was tried has a short word; what the target said has a code of its own.
            Self::Unfit(found) if found.code.starts_with("target_") => found.code,
            Self::Unfit(_) => "target_unfit",
            Self::State(_) | Self::Broken(_) => "internal",
        }
    }
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTarget(name) => write!(f, "there is no backup target {name:?}"),
            Self::Busy => f.write_str("too many backup jobs wait already"),
            Self::NoJob => f.write_str("there is no such job, or it has ended"),
            Self::Backup(error) => error.fmt(f),
            Self::Unfit(found) => f.write_str(&found.text),
            Self::State(error) => error.fmt(f),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ServiceError {}

impl BackupService {
    /// Reads what is remembered of earlier jobs. Nothing is begun before [`run`](Self::run).
    ///
    /// # Errors
    /// When the folder `backup` cannot be made.
    pub fn open(options: BackupOptions) -> Result<Self, std::io::Error> {
        let dir = options.data.join("backup");
        create_private_dir(&dir)?;
        drills::sweep(&options.data);
        let board = Board::open(&dir.join("jobs.json"));
        Ok(Self(Arc::new(Inner {
            options,
            board,
            held: Mutex::default(),
            duty: Mutex::new(Duty::Elsewhere("it is not known yet how the pair stands")),
            told: Mutex::default(),
            started_ms: now_ms(),
            asked_ms: AtomicU64::new(0),
            trimmed_ahead: AtomicBool::new(false),
        })))
    }

    /// The settings as they are now; those of a fresh installation when nobody has changed them.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn settings(&self) -> Result<Backups, ViewError> {
        let row = self.0.options.node.projection().row::<Backups>(Key::Backups)?;
        Ok(row.map_or_else(defaults, |row| (*row).clone()))
    }

    fn organisation(&self) -> Result<Arc<rows::Settings>, ViewError> {
        let row = self.0.options.node.projection().row::<rows::Settings>(Key::Settings)?;
        Ok(row.unwrap_or_else(|| Arc::new(rows::Settings { time_zone: "UTC".to_owned(), ..rows::Settings::default() })))
    }

    /// Up to which record every enabled target has a backup, as far as this node has seen; `None` when there is no target.
    #[must_use]
    pub fn shipped_index(&self) -> Option<u64> {
        // A state that cannot be read stops the node; until then nothing is given away.
        let Ok(settings) = self.settings() else { return Some(0) };
        let held = self.0.held.lock();
        let of = |target: &BackupTarget| {
            let look = held.get(&target.name).and_then(|held| held.look.as_ref());
            look.and_then(|look| look.backups.last()).map_or(0, |newest| newest.index)
        };
        settings.targets.iter().filter(|target| target.enabled).map(of).min()
    }

    /// Notes that the log had to be trimmed before the backups had it, or that this is over.
    pub fn set_log_trimmed_ahead(&self, ahead: bool) {
        self.0.trimmed_ahead.store(ahead, Ordering::Relaxed);
    }

    /// The time zone of schedules.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn time_zone(&self) -> Result<String, ViewError> {
        Ok(self.organisation()?.time_zone.clone())
    }

    /// A target by name.
    ///
    /// # Errors
    /// [`ServiceError::NoTarget`].
    pub fn target(&self, name: &str) -> Result<BackupTarget, ServiceError> {
        let settings = self.settings().map_err(ServiceError::State)?;
        let found = settings.targets.into_iter().find(|target| target.name == name);
        found.ok_or_else(|| ServiceError::NoTarget(name.to_owned()))
    }

    /// Begins a job that somebody asked for, on this node.
    ///
    /// # Errors
    /// [`ServiceError::NoTarget`], [`ServiceError::Busy`].
    pub fn start(&self, work: JobKind, target: &str, cause: &str) -> Result<Job, ServiceError> {
        let target = self.target(target)?;
        self.0.board.add(work, (&target.name, cause), now_ms()).map_err(|_| ServiceError::Busy)
    }

    /// All jobs of this node, the newest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        self.0.board.list()
    }

    /// One job.
    ///
    /// # Errors
    /// [`ServiceError::NoJob`].
    pub fn job(&self, id: u64) -> Result<Job, ServiceError> {
        self.0.board.one(id).ok_or(ServiceError::NoJob)
    }

    /// Stops a job.
    ///
    /// # Errors
    /// [`ServiceError::NoJob`].
    pub fn cancel(&self, id: u64) -> Result<Job, ServiceError> {
        self.0.board.cancel(id, now_ms()).map_err(|_| ServiceError::NoJob)?;
        self.job(id)
    }

    /// Does something with the repository on a target, on a thread that may block.
    async fn with_repository<T: Send + 'static>(
        &self,
        target: &str,
        work: impl FnOnce(&Repository) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let target = self.target(target)?;
        let done = tokio::task::spawn_blocking(move || {
            let repository = look::open(&target)?;
            work(&repository)
        });
        done.await.map_err(|error| ServiceError::Broken(error.to_string()))?.map_err(ServiceError::Backup)
    }

    /// The backups on a target, the oldest first, also those that are not to be believed.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn list(&self, target: &str) -> Result<Vec<Seen>, ServiceError> {
        self.with_repository(target, |repository| Ok(repository.list(None)?.iter().map(Seen::from).collect())).await
    }

    /// Pins a backup, or takes the pin away.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn pin(&self, target: &str, (backup, pinned): (String, bool)) -> Result<(), ServiceError> {
        self.with_repository(target, move |repository| match pinned {
            true => repository.pin(&backup),
            false => repository.unpin(&backup),
        })
        .await
    }

    /// Stores, reads, lists and removes a small file on a target, and looks at what holds it: whether backups can be made
    /// there, and what somebody should know of it.
    ///
    /// # Errors
    /// [`ServiceError::Unfit`] when backups cannot be made there; other [`ServiceError`]s.
    pub async fn test(&self, target: &BackupTarget) -> Result<Report, ServiceError> {
        let (target, data) = (target.clone(), self.0.options.data.clone());
        let tried = tokio::task::spawn_blocking(move || status::try_target(&target, &data));
        tried.await.map_err(|error| ServiceError::Broken(error.to_string()))?
    }

    /// Works until `shutdown`, then stops the jobs that run.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_millis(BACKUP_TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.tick().await {
                tracing::error!(%error, "the backups' settings cannot be read");
            }
        }
        self.0.board.cancel_all();
        let patience = tokio::time::Instant::now() + Duration::from_millis(BACKUP_STOP_MS_MAX);
        while self.0.board.running() > 0 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn tick(&self) -> Result<(), ViewError> {
        let now = now_ms();
        let Some(pair) = self.0.options.pair.status().await else { return Ok(()) };
        let duty = PairFacts::of(&pair, now).duty();
        self.take_duty(duty);
        let (settings, organisation) = (self.settings()?, self.organisation()?);
        let (plan, _) = Plan::new(&settings, &organisation.time_zone);
        self.0.held.lock().retain(|name, _| settings.targets.iter().any(|target| target.name == *name));
        for target in settings.targets.iter().filter(|target| target.enabled) {
            self.look_if_old(target, now);
            if duty.is_here() {
                self.begin_due(&plan, target, now);
            }
        }
        while let Some((job, cancel)) = self.0.board.begin(now) {
            let service = self.clone();
            tokio::task::spawn_blocking(move || service.carry_out(&job, &cancel));
        }
        self.tell_alarms(&settings, now);
        Ok(())
    }

    /// Notes who does the work; what was begun by itself stops where the work goes elsewhere.
    fn take_duty(&self, duty: Duty) {
        let before = std::mem::replace(&mut *self.0.duty.lock(), duty);
        if before.is_here() == duty.is_here() {
            return;
        }
        tracing::info!(here = duty.is_here(), reason = duty.reason(), "who makes the backups has changed");
        if !duty.is_here() {
            self.0.board.cancel_automatic();
        }
    }

    fn look_if_old(&self, target: &BackupTarget, now: u64) {
        // Who looks at the status, on either node, should see soon what the other one has stored.
        let watched = now.saturating_sub(self.0.asked_ms.load(Ordering::Relaxed)) < BACKUP_LOOK_SECONDS * 1_000;
        let seconds = if watched { BACKUP_WATCHED_SECONDS } else { BACKUP_LOOK_SECONDS };
        let mut held = self.0.held.lock();
        let entry = held.entry(target.name.clone()).or_default();
        let fresh = entry.look.as_ref().is_some_and(|look| now.saturating_sub(look.at_ms) < seconds * 1_000);
        if fresh || entry.looking || self.0.board.is_busy(&target.name) {
            return;
        }
        entry.looking = true;
        let (service, target) = (self.clone(), target.clone());
        drop(held);
        tokio::task::spawn_blocking(move || service.look(&target));
    }

    /// Looks at a target, unless a job is at work there.
    fn look(&self, target: &BackupTarget) {
        let lane = self.0.held.lock().get(&target.name).map(|held| held.lane.clone()).unwrap_or_default();
        if let Some(_lane) = lane.try_lock() {
            self.look_in_lane(target);
        }
        if let Some(held) = self.0.held.lock().get_mut(&target.name) {
            held.looking = false;
        }
    }

    fn look_in_lane(&self, target: &BackupTarget) {
        let before = self.0.held.lock().get(&target.name).and_then(|held| held.look.clone());
        let look = Look::take(target, &self.scratch(&target.name), (before, now_ms()));
        if let Some(held) = self.0.held.lock().get_mut(&target.name) {
            held.look = Some(look);
        }
    }

    fn scratch(&self, target: &str) -> PathBuf {
        self.0.options.data.join("backup").join("targets").join(target)
    }

    fn begin_due(&self, plan: &Plan, target: &BackupTarget, now: u64) {
        if self.0.board.is_busy(&target.name) {
            return;
        }
        let Some(held) = self.0.held.lock().get(&target.name).cloned() else { return };
        // What is not known yet, or does not answer, waits for the next look.
        if held.look.as_ref().is_none_or(|look| look.error.is_some()) {
            return;
        }
        let Some(due) = plan.due(&target.name, &held.done(), now) else { return };
        let cause = match due.schedule.as_str() {
            "" => jobs::CONTINUOUS.to_owned(),
            name => format!("{}{name}", jobs::SCHEDULE),
        };
        // Refused only when many wait: then it is due at the next tick as well.
        drop(self.0.board.add(JobKind::Backup { full: due.full }, (&target.name, &cause), now));
    }

    fn carry_out(&self, job: &Job, cancel: &CancellationToken) {
        tracing::info!(job = job.id, target = job.target, cause = job.cause, work = ?job.work, "a backup job begins");
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.try_carry_out(job, cancel)));
        let ended = ended.unwrap_or_else(|_| Ended::failed("internal", "the job broke off; see the log".to_owned()));
        self.note(job, &ended);
        let (state, quiet) = (ended.state, ended.idle && job.cause == jobs::CONTINUOUS);
        match &ended.outcome.code {
            Some(code) => tracing::warn!(
                job = job.id,
                target = job.target,
                code,
                text = ended.outcome.text,
                "a backup job failed"
            ),
            None => tracing::info!(job = job.id, target = job.target, text = ended.outcome.text, "a backup job ended"),
        }
        self.0.board.end(job.id, (state, ended.outcome), (now_ms(), quiet));
    }

    fn try_carry_out(&self, job: &Job, cancel: &CancellationToken) -> Ended {
        let read = || Ok::<_, ViewError>((self.settings()?, self.organisation()?));
        let (settings, organisation) = match read() {
            Ok(read) => read,
            Err(error) => return Ended::failed("internal", error.to_string()),
        };
        let Some(target) = settings.targets.iter().find(|target| target.name == job.target) else {
            return Ended::failed("backup_target_not_found", "the target was removed".to_owned());
        };
        let lane = self.0.held.lock().entry(target.name.clone()).or_default().lane.clone();
        let _lane = lane.lock();
        let work = Work {
            options: &self.0.options,
            settings: &settings,
            target,
            organisation: organisation.organisation.clone(),
            zone: &organisation.time_zone,
            scratch: self.scratch(&target.name),
            now_ms: now_ms(),
        };
        let tell = |progress| self.0.board.progress(job.id, progress);
        let ended = work.carry_out(job, (&tell, cancel));
        self.look_in_lane(target);
        ended
    }

    /// What the end of a job means for what is due.
    fn note(&self, job: &Job, ended: &Ended) {
        let now = now_ms();
        let mut prune = false;
        if let Some(held) = self.0.held.lock().get_mut(&job.target) {
            match ended.state {
                // Somebody else stored a backup: not this target's fault, and the next tick looks again.
                JobState::Failed if ended.outcome.code.as_deref() == Some("repository_changed") => {}
                JobState::Failed => {
                    held.failures = held.failures.saturating_add(1);
                    held.failed_ms = now;
                }
                JobState::Done => {
                    held.failures = 0;
                    if ended.idle {
                        held.looked_ms = now;
                    }
                    prune = ended.made
                        && jobs::is_automatic(&job.cause)
                        && now >= held.pruned_ms + BACKUP_PRUNE_SECONDS * 1_000;
                    if prune {
                        held.pruned_ms = now;
                    }
                }
                _ => {}
            }
        }
        if ended.state == JobState::Failed {
            ::metrics::counter!(metrics::BACKUP_FAILURES_TOTAL).increment(1);
        }
        if prune && self.target(&job.target).is_ok_and(|target| !target.append_only) {
            drop(self.0.board.add(JobKind::Prune { dry_run: false }, (&job.target, jobs::RETENTION), now));
        }
    }
}
