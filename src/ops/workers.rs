//! Background workers with a face: each has a name, a state, its progress and its last error, for the console.
//! Must never hold a reference that keeps a finished worker's resources alive; it holds only what is shown.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::limits::WORKERS_MAX;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Waiting for its time or for work.
    Idle,
    /// At work.
    Running,
    /// Its last run failed; it will try again.
    Failing,
    /// It ended and will not run again.
    Stopped,
}

/// What the console shows of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// Its name, unique: `checkpoint`, `disk_watch`, `backup`.
    pub name: String,
    /// One sentence: what it is for.
    pub purpose: String,
    /// What it is doing.
    pub state: WorkerState,
    /// How far it is, in its own words; empty when it does not say.
    pub progress: String,
    /// The last error, kept until a run succeeds.
    pub last_error: Option<String>,
    /// When it last began, in milliseconds since the Unix epoch.
    pub last_run_ms: Option<u64>,
    /// Runs that ended well.
    pub runs_ok: u64,
    /// Runs that failed.
    pub runs_failed: u64,
}

/// Why a worker was not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// A living worker has this name.
    NameTaken(String),
    /// There are [`WORKERS_MAX`] workers.
    TooMany,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterError::NameTaken(name) => write!(f, "a background worker named {name:?} is already running"),
            RegisterError::TooMany => write!(f, "there are already {WORKERS_MAX} background workers"),
        }
    }
}

impl std::error::Error for RegisterError {}

/// All workers of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    all: Arc<Mutex<Vec<WorkerStatus>>>,
}

impl Workers {
    /// An empty registry.
    pub fn new() -> Workers {
        Workers::default()
    }

    /// Registers a worker. A stopped one of the same name is replaced.
    pub fn register(&self, name: &str, purpose: &str) -> Result<Worker, RegisterError> {
        let mut all = self.all.lock();
        let status = WorkerStatus {
            name: name.to_owned(),
            purpose: purpose.to_owned(),
            state: WorkerState::Idle,
            progress: String::new(),
            last_error: None,
            last_run_ms: None,
            runs_ok: 0,
            runs_failed: 0,
        };
        let full = all.len() >= WORKERS_MAX;
        match all.iter_mut().find(|worker| worker.name == name) {
            Some(old) if old.state == WorkerState::Stopped => *old = status,
            Some(_) => return Err(RegisterError::NameTaken(name.to_owned())),
            None if full => return Err(RegisterError::TooMany),
            None => all.push(status),
        }
        Ok(Worker { registry: self.clone(), name: name.to_owned() })
    }

    /// All workers, in the order of their names.
    pub fn list(&self) -> Vec<WorkerStatus> {
        let mut list = self.all.lock().clone();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}

/// The worker's own side: it reports here. Dropping it marks the worker stopped.
#[derive(Debug)]
pub struct Worker {
    registry: Workers,
    name: String,
}

impl Worker {
    /// A run begins at `now_ms` (milliseconds since the Unix epoch).
    pub fn begin(&self, now_ms: u64) {
        self.update(|status| {
            status.state = WorkerState::Running;
            status.last_run_ms = Some(now_ms);
            status.progress.clear();
        });
    }

    /// How far the run is.
    pub fn progress(&self, text: impl fmt::Display) {
        self.update(|status| status.progress = text.to_string());
    }

    /// The run ended well: the last error is forgotten.
    pub fn succeeded(&self) {
        self.update(|status| {
            status.state = WorkerState::Idle;
            status.last_error = None;
            status.runs_ok += 1;
        });
    }

    /// The run failed; the worker will try again.
    pub fn failed(&self, error: impl fmt::Display) {
        self.update(|status| {
            status.state = WorkerState::Failing;
            status.last_error = Some(error.to_string());
            status.runs_failed += 1;
        });
    }

    fn update(&self, change: impl FnOnce(&mut WorkerStatus)) {
        let mut all = self.registry.all.lock();
        if let Some(status) = all.iter_mut().find(|status| status.name == self.name) {
            change(status);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.update(|status| status.state = WorkerState::Stopped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_shows_its_life() {
        let workers = Workers::new();
        let worker = workers.register("checkpoint", "Writes the overlay to the store.").unwrap();
        assert_eq!(workers.list()[0].state, WorkerState::Idle);
        worker.begin(1_000);
        worker.progress("3 of 9 blocks");
        let shown = workers.list().remove(0);
        assert_eq!((shown.state, shown.last_run_ms), (WorkerState::Running, Some(1_000)));
        assert_eq!(shown.progress, "3 of 9 blocks");
        worker.failed("no room");
        assert_eq!(workers.list()[0].last_error.as_deref(), Some("no room"));
        worker.begin(2_000);
        assert_eq!(workers.list()[0].last_error.as_deref(), Some("no room"), "an error stays until a run succeeds");
        worker.succeeded();
        let shown = workers.list().remove(0);
        assert_eq!((shown.last_error, shown.runs_ok, shown.runs_failed), (None, 1, 1));
        drop(worker);
        assert_eq!(workers.list()[0].state, WorkerState::Stopped);
    }

    #[test]
    fn names_are_unique_among_the_living() {
        let workers = Workers::new();
        let first = workers.register("backup", "Backs up.").unwrap();
        assert_eq!(workers.register("backup", "x").unwrap_err(), RegisterError::NameTaken("backup".to_owned()));
        drop(first);
        let _second = workers.register("backup", "Backs up again.").unwrap();
        assert_eq!(workers.list().len(), 1);
        assert_eq!(workers.list()[0].purpose, "Backs up again.");
    }

    #[test]
    fn the_registry_is_bounded() {
        let workers = Workers::new();
        let _all: Vec<Worker> =
            (0..WORKERS_MAX).map(|number| workers.register(&number.to_string(), "x").unwrap()).collect();
        assert_eq!(workers.register("one more", "x").unwrap_err(), RegisterError::TooMany);
    }
}
