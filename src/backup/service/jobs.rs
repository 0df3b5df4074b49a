//! The jobs: what waits, what runs, what became of it. Bounded; the ended ones are kept in a file. Must never run two jobs on
//! one target at once.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::limits::{BACKUP_JOBS_FILE_BYTES_MAX, BACKUP_JOBS_KEPT, BACKUP_JOBS_WAITING_MAX};
use crate::ops::durable_file::write_private;

/// The cause of a job that a schedule asks for, before its name.
pub(super) const SCHEDULE: &str = "schedule ";
/// The cause of a run of the continuous mode.
pub(super) const CONTINUOUS: &str = "continuous";
/// The cause of a clean-up after a backup.
pub(super) const RETENTION: &str = "retention";
/// The cause of a drill at its time.
pub(super) const DRILL: &str = "drill";

/// Whether nobody asked for it.
pub(super) fn is_automatic(cause: &str) -> bool {
    cause.starts_with(SCHEDULE) || [CONTINUOUS, RETENTION, DRILL].contains(&cause)
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobKind {
    /// Make a backup.
    Backup {
        /// A full one; else what came since the last.
        full: bool,
    },
    /// Read every part back.
    Verify {
        /// Of this backup and what it rests on; null: of all.
        backup: Option<String>,
    },
    /// Take away what the retention does not keep.
    Prune {
        /// Only say what would go.
        dry_run: bool,
    },
    /// Restore a backup for a test.
    Drill {
        /// Which; null: the newest.
        backup: Option<String>,
    },
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BackupJobState)]
pub enum JobState {
    /// It waits for the job before it on the same target.
    Waiting,
    /// It is at work.
    Running,
    /// It ended well.
    Done,
    /// It ended with an error.
    Failed,
    /// Somebody, or the end of the server, stopped it.
    Cancelled,
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BackupJobProgress)]
pub struct JobProgress {
    /// What it does at the moment.
    pub phase: String,
    /// Bytes done in this phase.
    pub bytes_done: u64,
    /// Of how many, about; 0 when not known.
    pub bytes_total: u64,
    /// Parts done.
    pub parts_done: u64,
    /// Of how many.
    pub parts_total: u64,
    /// Bytes a second in this phase.
    pub bytes_per_second: f64,
}

/// What a job found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BackupJobOutcome)]
pub struct JobOutcome {
    /// What became of it, in a sentence.
    pub text: String,
    /// The stable code of the error; null: it went well.
    pub code: Option<String>,
    /// The backup that was made.
    pub backup: Option<String>,
    /// Bytes stored, read or freed.
    pub bytes: u64,
    /// What was found or would go, one line each, at most 100.
    pub lines: Vec<String>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BackupJob)]
pub struct Job {
    /// Its number on this node.
    pub id: u64,
    /// What it does.
    pub work: JobKind,
    /// On which target.
    pub target: String,
    /// Who asked: `schedule nightly`, `continuous`, `retention`, `drill`, `api` or `local`.
    pub cause: String,
    /// How it stands.
    pub state: JobState,
    /// When it was asked for, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was begun.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// How far it is.
    pub progress: JobProgress,
    /// What became of it; null while it has not ended.
    pub outcome: Option<JobOutcome>,
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoardError {
    /// Too many wait.
    Busy,
    /// There is none of this number, or it has ended.
    NotFound,
}

#[derive(Default)]
struct Inner {
    next: u64,
    live: Vec<(Job, CancellationToken)>,
    ended: VecDeque<Job>,
}

/// All jobs of this node. Clones share them.
#[derive(Clone)]
pub(super) struct Board {
    inner: Arc<Mutex<Inner>>,
    file: PathBuf,
}

impl Board {
    /// Reads the ended jobs from `file`. A file that cannot be read is begun anew: it holds nothing that matters.
    #[must_use]
    pub(super) fn open(file: &Path) -> Self {
        let mut ended: VecDeque<Job> = read(file).unwrap_or_default();
        ended.truncate(BACKUP_JOBS_KEPT);
        let next = ended.iter().map(|job| job.id).max().unwrap_or(0) + 1;
        Self { inner: Arc::new(Mutex::new(Inner { next, live: Vec::new(), ended })), file: file.to_owned() }
    }

    /// Takes a job; it waits until [`Board::begin`] hands it out.
    ///
    /// # Errors
    /// [`BoardError::Busy`].
    pub(super) fn add(&self, work: JobKind, (target, cause): (&str, &str), now_ms: u64) -> Result<Job, BoardError> {
        let mut inner = self.inner.lock();
        if inner.live.len() >= BACKUP_JOBS_WAITING_MAX {
            return Err(BoardError::Busy);
        }
        let job = Job {
            id: inner.next,
            work,
            target: target.to_owned(),
            cause: cause.to_owned(),
            state: JobState::Waiting,
            created_ms: now_ms,
            started_ms: None,
            finished_ms: None,
            progress: JobProgress::default(),
            outcome: None,
        };
        inner.next += 1;
        inner.live.push((job.clone(), CancellationToken::new()));
        Ok(job)
    }

    /// Hands out a waiting job whose target is free, in the order in which they came.
    #[must_use]
    pub(super) fn begin(&self, now_ms: u64) -> Option<(Job, CancellationToken)> {
        let mut inner = self.inner.lock();
        let busy: Vec<String> = running(&inner.live).map(|job| job.target.clone()).collect();
        let free = |job: &Job| job.state == JobState::Waiting && !busy.contains(&job.target);
        let (job, cancel) = inner.live.iter_mut().find(|(job, _)| free(job))?;
        job.state = JobState::Running;
        job.started_ms = Some(now_ms);
        Some((job.clone(), cancel.clone()))
    }

    /// Whether a target has a job, running or waiting.
    #[must_use]
    pub(super) fn is_busy(&self, target: &str) -> bool {
        self.inner.lock().live.iter().any(|(job, _)| job.target == target)
    }

    /// Notes how far a job is.
    pub(super) fn progress(&self, id: u64, progress: JobProgress) {
        if let Some((job, _)) = self.inner.lock().live.iter_mut().find(|(job, _)| job.id == id) {
            job.progress = progress;
        }
    }

    /// Notes that a job has ended. With `forget` it leaves no trace: a run of the continuous mode that had nothing to do.
    pub(super) fn end(&self, id: u64, (state, outcome): (JobState, JobOutcome), (now_ms, forget): (u64, bool)) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.live.iter().position(|(job, _)| job.id == id) else { return };
        let (mut job, _) = inner.live.remove(at);
        if forget {
            return;
        }
        job.state = state;
        job.finished_ms = Some(now_ms);
        job.outcome = Some(outcome);
        inner.ended.push_front(job);
        inner.ended.truncate(BACKUP_JOBS_KEPT);
        let bytes = serde_json::to_vec(&inner.ended).unwrap_or_default();
        drop(inner);
        if let Err(error) = write_private(&self.file, &bytes) {
            tracing::warn!(%error, "the list of backup jobs cannot be written");
        }
    }

    /// Stops a job: a waiting one at once, a running one soon.
    ///
    /// # Errors
    /// [`BoardError::NotFound`] when it has ended, or there is none.
    pub(super) fn cancel(&self, id: u64, now_ms: u64) -> Result<(), BoardError> {
        let inner = self.inner.lock();
        let (job, cancel) = inner.live.iter().find(|(job, _)| job.id == id).ok_or(BoardError::NotFound)?;
        cancel.cancel();
        let waiting = job.state == JobState::Waiting;
        drop(inner);
        if waiting {
            let text = "it was cancelled before it began".to_owned();
            self.end(id, (JobState::Cancelled, JobOutcome { text, ..JobOutcome::default() }), (now_ms, false));
        }
        Ok(())
    }

    /// Stops the jobs that nobody asked for.
    pub(super) fn cancel_automatic(&self) {
        let inner = self.inner.lock();
        inner.live.iter().filter(|(job, _)| is_automatic(&job.cause)).for_each(|(_, cancel)| cancel.cancel());
    }

    /// Stops all jobs.
    pub(super) fn cancel_all(&self) {
        self.inner.lock().live.iter().for_each(|(_, cancel)| cancel.cancel());
    }

    /// All jobs, the newest first.
    #[must_use]
    pub(super) fn list(&self) -> Vec<Job> {
        let inner = self.inner.lock();
        inner.live.iter().rev().map(|(job, _)| job.clone()).chain(inner.ended.iter().cloned()).collect()
    }

    /// One job.
    #[must_use]
    pub(super) fn one(&self, id: u64) -> Option<Job> {
        self.list().into_iter().find(|job| job.id == id)
    }

    /// How many are at work.
    #[must_use]
    pub(super) fn running(&self) -> usize {
        running(&self.inner.lock().live).count()
    }
}

fn running(live: &[(Job, CancellationToken)]) -> impl Iterator<Item = &Job> {
    live.iter().map(|(job, _)| job).filter(|job| job.state == JobState::Running)
}

fn read(file: &Path) -> Option<VecDeque<Job>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file).ok()?.take(BACKUP_JOBS_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: JobKind = JobKind::Backup { full: true };

    fn done() -> (JobState, JobOutcome) {
        (JobState::Done, JobOutcome { text: "stored".to_owned(), ..JobOutcome::default() })
    }

    #[test]
    fn one_job_at_a_time_on_each_target_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::open(&dir.path().join("jobs.json"));
        let add = |target| board.add(FULL, (target, "api"), 1).unwrap().id;
        let (first, second, other) = (add("disk"), add("disk"), add("usb"));
        let begin = || board.begin(2).map(|(job, _)| job.id);
        assert_eq!((begin(), begin(), begin()), (Some(first), Some(other), None));
        board.end(first, done(), (3, false));
        assert_eq!((begin(), board.running()), (Some(second), 2));
        assert!(board.is_busy("disk") && !board.is_busy("tape"));
    }

    #[test]
    fn ended_jobs_are_remembered_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jobs.json");
        let board = Board::open(&file);
        for _ in 0..BACKUP_JOBS_KEPT + 5 {
            let id = board.add(FULL, ("disk", "api"), 1).unwrap().id;
            drop(board.begin(1));
            board.end(id, done(), (2, false));
        }
        let quiet = board.add(FULL, ("disk", "continuous"), 3).unwrap().id;
        board.end(quiet, done(), (3, true));
        let again = Board::open(&file);
        let list = again.list();
        assert_eq!((list.len(), list[0].id), (BACKUP_JOBS_KEPT, BACKUP_JOBS_KEPT as u64 + 5));
        assert_eq!(again.add(FULL, ("disk", "api"), 4).unwrap().id, BACKUP_JOBS_KEPT as u64 + 6);
        std::fs::write(&file, "nonsense").unwrap();
        assert!(Board::open(&file).list().is_empty());
    }

    #[test]
    fn jobs_can_be_stopped_and_too_many_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::open(&dir.path().join("jobs.json"));
        let ids: Vec<u64> =
            (0..BACKUP_JOBS_WAITING_MAX).map(|_| board.add(FULL, ("disk", "api"), 1).unwrap().id).collect();
        assert_eq!(board.add(FULL, ("disk", "api"), 1).unwrap_err(), BoardError::Busy);
        let (running, cancel) = board.begin(2).unwrap();
        board.cancel(running.id, 3).unwrap();
        assert!(cancel.is_cancelled() && board.one(running.id).unwrap().state == JobState::Running);
        board.cancel(ids[1], 3).unwrap();
        assert_eq!(board.one(ids[1]).unwrap().state, JobState::Cancelled);
        assert_eq!(board.cancel(ids[1], 3), Err(BoardError::NotFound));
    }
}
