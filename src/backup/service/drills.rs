//! A drill as a job of the service: restores aside, compares with the running node, leaves a signed report on the target.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::jobs::{JobOutcome, JobProgress, JobState};
use super::work::{Ended, Work};
use crate::backup::crypt::{self, Identity};
use crate::backup::drill::{self, DrillOptions, DrillReport, LiveComparison};
use crate::backup::manifest::Signer;
use crate::backup::repository::Repository;
use crate::backup::restore::fetch;
use crate::core::rows::Secret;

/// What a target's folder for drills begins with, in the folder of the backups.
const FOLDER: &str = "drill-of-";

/// Where a target's backups are restored for the time of a drill.
fn folder(data: &Path, target: &str) -> PathBuf {
    data.join("backup").join(format!("{FOLDER}{target}"))
}

/// Removes what drills that were killed have left. Called once, when the service starts.
pub(super) fn sweep(data: &Path) {
    for entry in std::fs::read_dir(data.join("backup")).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if !name.to_string_lossy().starts_with(FOLDER) {
            continue;
        }
        // The folder goes only when it is empty: what is in it and not a drill's is not ours.
        let swept = drill::sweep(&path).map_err(|e| e.to_string());
        if let Err(error) = swept.and_then(|()| std::fs::remove_dir(&path).map_err(|e| e.to_string())) {
            tracing::warn!(path = %path.display(), %error, "what an interrupted drill left could not be removed");
        }
    }
}

impl Work<'_> {
    /// Runs a drill of the newest backup, or of the one named.
    pub(super) fn drill(
        &self,
        (repository, backup): (&Repository, Option<&str>),
        (tell, cancel): (&(dyn Fn(JobProgress) + Sync), &CancellationToken),
    ) -> Ended {
        let keys = match self.drill_keys() {
            Ok(keys) => keys,
            Err(error) => return Ended::failed(error.code(), error.to_string()),
        };
        let scratch = folder(&self.options.data, &self.target.name);
        if let Err(error) = crate::ops::durable_file::create_private_dir(&scratch) {
            return Ended::failed("drill_scratch", format!("cannot create {}: {error}", scratch.display()));
        }
        let options = DrillOptions {
            repository: repository.clone(),
            keys,
            signer: None,
            backup: backup.map(str::to_owned),
            scratch: scratch.clone(),
        };
        let begun = Instant::now();
        let report = |progress: fetch::Progress| tell(progress_of(progress, begun));
        let outcome = drill::run(&options, Some(&self.options.node), &report, cancel);
        // It is empty after a drill; when it is not, the next one says why.
        let _ = std::fs::remove_dir(&scratch);
        match outcome {
            Ok(report) => self.keep(repository, report),
            Err(_) if cancel.is_cancelled() => {
                Ended { state: JobState::Cancelled, ..Ended::failed("cancelled", "it was cancelled".to_owned()) }
            }
            Err(error) => Ended::failed(error.code(), error.to_string()),
        }
    }

    fn drill_keys(&self) -> Result<Vec<Identity>, crypt::CryptError> {
        self.options.drill_key.as_deref().map_or_else(|| Ok(Vec::new()), crypt::read_identities)
    }

    /// Signs a report and stores it beside the backups.
    fn keep(&self, repository: &Repository, mut report: DrillReport) -> Ended {
        let key = self.settings.signing_key.as_ref().filter(|key| Secret::is_set(Some(key)));
        let Some(signer) = key.and_then(|key| Signer::from_pkcs8(&key.bytes).ok()) else {
            let text = "the settings have no signing key; save them once more".to_owned();
            return Ended::failed("signing_key_missing", text);
        };
        let stored = report.store(repository.place(), &signer);
        let outcome = outcome(&report);
        match stored {
            Ok(_) if report.good => Ended::done(outcome),
            Ok(_) => Ended { state: JobState::Failed, ..Ended::done(outcome) },
            Err(error) => {
                Ended::failed(error.code(), format!("{}; its report could not be stored: {error}", outcome.text))
            }
        }
    }
}

fn progress_of(progress: fetch::Progress, begun: Instant) -> JobProgress {
    let phase = serde_json::to_value(progress.stage).ok();
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    JobProgress {
        phase: phase.and_then(|phase| phase.as_str().map(str::to_owned)).unwrap_or_default(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        parts_done: 0,
        parts_total: 0,
        bytes_per_second: progress.bytes_done as f64 / seconds,
    }
}

/// A report as the outcome of a job.
fn outcome(report: &DrillReport) -> JobOutcome {
    let counts = &report.counts;
    let mut lines = vec![
        format!(
            "{} users, {} channels, {} messages, {} files",
            counts.users, counts.channels, counts.messages, counts.blobs
        ),
        format!("{} recorded state hashes compared", report.hashes_compared),
        match report.live {
            LiveComparison::NotAsked => "not compared with a running node".to_owned(),
            LiveComparison::Unknown => "the running node has trimmed that part of its log".to_owned(),
            LiveComparison::SameLog => "the running node's log goes through the same record".to_owned(),
            LiveComparison::Same => "log and state are the running node's".to_owned(),
            LiveComparison::Different => "the running node's history is another one".to_owned(),
        },
    ];
    let text = match &report.failure {
        None => format!("{} restores in {:.1} s", report.backup, report.took_ms as f64 / 1_000.0),
        Some(failure) => format!("{} does not restore: {}", report.backup, failure.text),
    };
    lines.retain(|_| report.failure.is_none());
    let code = report.failure.as_ref().map(|failure| failure.code.clone());
    JobOutcome { text, code, backup: Some(report.backup.clone()), bytes: report.bytes, lines }
}
