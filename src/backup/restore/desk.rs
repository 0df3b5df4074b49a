//! The one job that puts texts back into the running system: started, looked at, cancelled. Must never run two at once.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::RestoreError;
use super::fetch::{Progress, Stage, Tell};
use super::live::LiveReport;
use crate::node::now_ms;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RestoreJobState)]
pub enum JobState {
    /// It works.
    Running,
    /// It is done.
    Done,
    /// It ended early.
    Failed,
}

/// Why a job ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RestoreJobFailure)]
pub struct JobFailure {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub text: String,
    /// What to do about it; empty when there is nothing to say.
    pub hint: String,
}

/// A job that puts texts back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RestoreJob)]
pub struct RestoreJob {
    /// How it stands.
    pub state: JobState,
    /// It only says what would happen.
    pub dry_run: bool,
    /// When it began, in Unix milliseconds.
    pub started_ms: u64,
    /// When it ended; null: it runs.
    pub ended_ms: Option<u64>,
    /// What it does.
    pub stage: Stage,
    /// Stored bytes read so far.
    pub bytes_done: u64,
    /// Stored bytes to read in all.
    pub bytes_total: u64,
    /// What came of it.
    pub report: Option<LiveReport>,
    /// Why it ended early.
    pub failure: Option<JobFailure>,
}

#[derive(Default)]
struct Desk {
    job: Option<RestoreJob>,
    cancel: CancellationToken,
}

/// The desk. Clones share it.
#[derive(Clone, Default)]
pub struct RestoreDesk(Arc<Mutex<Desk>>);

impl RestoreDesk {
    /// The newest job; `None` when there was none since the start.
    #[must_use]
    pub fn look(&self) -> Option<RestoreJob> {
        self.0.lock().job.clone()
    }

    /// Ends the job that runs, if one does.
    pub fn cancel(&self) {
        self.0.lock().cancel.cancel();
    }

    /// Begins a job on a thread that may block. `cancel` ends it as well. `None` when one runs already. Called within a tokio
    /// runtime.
    pub fn begin(
        &self,
        (dry_run, cancel): (bool, CancellationToken),
        work: impl FnOnce(Tell<'_>, &CancellationToken) -> Result<LiveReport, RestoreError> + Send + 'static,
    ) -> Option<RestoreJob> {
        let mut desk = self.0.lock();
        if desk.job.as_ref().is_some_and(|job| job.state == JobState::Running) {
            return None;
        }
        let job = RestoreJob {
            state: JobState::Running,
            dry_run,
            started_ms: now_ms(),
            ended_ms: None,
            stage: Stage::Checking,
            bytes_done: 0,
            bytes_total: 0,
            report: None,
            failure: None,
        };
        (desk.job, desk.cancel) = (Some(job.clone()), cancel.clone());
        drop(desk);
        let desk = self.clone();
        tokio::task::spawn_blocking(move || {
            let tell = |at: Progress| {
                desk.change(|job| {
                    (job.stage, job.bytes_done, job.bytes_total) = (at.stage, at.bytes_done, at.bytes_total)
                })
            };
            // A panic must not leave a job that seems to run for ever.
            let guarded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&tell, &cancel)));
            let outcome = guarded.unwrap_or_else(|_| Err(RestoreError::Start("the job panicked".to_owned())));
            desk.change(|job| end(job, outcome));
        });
        Some(job)
    }

    fn change(&self, change: impl FnOnce(&mut RestoreJob)) {
        if let Some(job) = &mut self.0.lock().job {
            change(job);
        }
    }
}

fn end(job: &mut RestoreJob, outcome: Result<LiveReport, RestoreError>) {
    job.ended_ms = Some(now_ms());
    match outcome {
        Ok(report) => (job.state, job.report) = (JobState::Done, Some(report)),
        Err(error) => {
            tracing::warn!(%error, "texts could not be put back from a backup");
            let (code, text, hint) = (error.code().to_owned(), error.to_string(), error.hint().to_owned());
            (job.state, job.failure) = (JobState::Failed, Some(JobFailure { code, text, hint }));
        }
    }
}
