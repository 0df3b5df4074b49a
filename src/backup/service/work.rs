//! Carrying out one job, on a thread that may block. Must never run beside another job on the same target.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::jobs::{Job, JobKind, JobOutcome, JobProgress, JobState};
use super::{BackupOptions, look};
use crate::backup::crypt::{CryptError, Recipient};
use crate::backup::job::{self, Extra, Facts, Source};
use crate::backup::manifest::{BackupKind, Signer};
use crate::backup::repository::{Policy, PruneOptions, PruneReport, Repository, VerifyReport, Wrong};
use crate::backup::{BackupError, Progress, Watch};
use crate::core::rows::{BackupTarget, Backups, Secret};

/// What a job works with.
pub(super) struct Work<'a> {
    pub(super) options: &'a BackupOptions,
    pub(super) settings: &'a Backups,
    pub(super) target: &'a BackupTarget,
    pub(super) organisation: String,
    pub(super) zone: &'a str,
    pub(super) scratch: PathBuf,
    pub(super) now_ms: u64,
}

/// How a job ended.
pub(super) struct Ended {
    pub(super) state: JobState,
    pub(super) outcome: JobOutcome,
    /// A backup was stored.
    pub(super) made: bool,
    /// It went well and there was nothing to do.
    pub(super) idle: bool,
}

impl Ended {
    pub(super) fn done(outcome: JobOutcome) -> Self {
        Self { state: JobState::Done, outcome, made: false, idle: false }
    }

    pub(super) fn failed(code: &str, text: String) -> Self {
        let outcome = JobOutcome { text, code: Some(code.to_owned()), ..JobOutcome::default() };
        Self { state: JobState::Failed, outcome, made: false, idle: false }
    }
}

impl From<BackupError> for Ended {
    fn from(error: BackupError) -> Self {
        let ended = Self::failed(error.code(), error.to_string());
        match error {
            BackupError::Cancelled => Self { state: JobState::Cancelled, ..ended },
            _ => ended,
        }
    }
}

impl Work<'_> {
    /// Carries out a job; `tell` is told how far it is.
    pub(super) fn carry_out(
        &self,
        job: &Job,
        (tell, cancel): (&(dyn Fn(JobProgress) + Sync), &CancellationToken),
    ) -> Ended {
        let progress = |progress: &Progress| tell(JobProgress::from(progress));
        let watch = Watch { progress: &progress, cancel };
        let repository = match look::open(self.target) {
            Ok(repository) => repository,
            Err(error) => return BackupError::from(error).into(),
        };
        let ended = match &job.work {
            JobKind::Backup { full } => self.back_up(&repository, *full, watch),
            JobKind::Verify { backup } => verify(&repository, backup.as_deref(), watch),
            JobKind::Prune { dry_run } => self.prune(&repository, *dry_run, watch),
            JobKind::Drill { backup } => Ok(self.drill((&repository, backup.as_deref()), (tell, cancel))),
        };
        ended.unwrap_or_else(Ended::from)
    }

    fn back_up(&self, repository: &Repository, full: bool, watch: Watch<'_>) -> Result<Ended, BackupError> {
        let keys = self.settings.recipients.iter().map(|text| text.parse());
        let recipients: Vec<Recipient> = keys.collect::<Result<_, CryptError>>()?;
        if self.settings.encrypted && recipients.is_empty() {
            let text = "backups must be encrypted, but the settings have no public key".to_owned();
            return Ok(Ended::failed("backup_key_missing", text));
        }
        let key = self.settings.signing_key.as_ref().filter(|key| Secret::is_set(Some(key)));
        let Some(signer) = key.and_then(|key| Signer::from_pkcs8(&key.bytes).ok()) else {
            let text = "the settings have no signing key; save them once more".to_owned();
            return Ok(Ended::failed("signing_key_missing", text));
        };
        let source = self.source(Arc::new(signer));
        let kind = if full { BackupKind::Full } else { BackupKind::Incremental };
        let outcome = job::run(&source, repository, &job::Job { kind, recipients }, watch)?;
        let mut text = outcome.reason.clone();
        if let Some(made) = &outcome.made {
            text = format!("{} stored up to record {}: {text}", made.name, made.manifest.until.index);
        }
        let lines: Vec<String> =
            outcome.damaged_blobs.iter().take(LINES_MAX).map(|blob| format!("file {blob} is damaged here")).collect();
        if !lines.is_empty() {
            text.push_str("; some files of this node are damaged and are not in it");
        }
        let backup = outcome.made.as_ref().map(|made| made.name.clone());
        let (made, idle) = (backup.is_some(), backup.is_none());
        let outcome = JobOutcome { text, code: None, backup, bytes: outcome.sent_bytes, lines };
        Ok(Ended { state: JobState::Done, outcome, made, idle })
    }

    fn source(&self, signer: Arc<Signer>) -> Source {
        let options = self.options;
        Source {
            projection: options.node.projection().clone(),
            log: options.node.log().clone(),
            blobs: options.blobs.clone(),
            snapshots: options.data.join("snapshots"),
            scratch: self.scratch.clone(),
            facts: Facts {
                cluster: options.cluster,
                organisation: self.organisation.clone(),
                site: options.site,
                node: options.member,
            },
            signer,
            extras: self.extras(),
        }
    }

    /// The certificates and the configuration. Stored only in encrypted repositories.
    fn extras(&self) -> Vec<Extra> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.options.data.join("tls")).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_file()
                && let Some(name) = name.to_str().filter(|name| !name.starts_with('.'))
            {
                found.push(Extra { name: format!("tls/{name}"), path });
            }
        }
        let config = self.options.data.join("holdfast.toml");
        if config.is_file() {
            found.push(Extra { name: "holdfast.toml".to_owned(), path: config });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn prune(&self, repository: &Repository, dry_run: bool, watch: Watch<'_>) -> Result<Ended, BackupError> {
        let kept = self.settings.retention.unwrap_or_default();
        if kept == crate::core::rows::BackupRetention::default() {
            let text = "the retention keeps everything".to_owned();
            return Ok(Ended::done(JobOutcome { text, ..JobOutcome::default() }));
        }
        let crate::core::rows::BackupRetention { last, hourly, daily, weekly, monthly } = kept;
        let options = PruneOptions {
            policy: Policy { last, hourly, daily, weekly, monthly },
            zone: TimeZone::get(self.zone).unwrap_or(TimeZone::UTC),
            now_ms: self.now_ms,
            dry_run,
        };
        Ok(Ended::done(pruned(&repository.prune(&options, watch)?)))
    }
}

/// What a check found, as the outcome of a job.
#[must_use]
pub fn verified(report: &VerifyReport) -> JobOutcome {
    let bad = report.backups.len() - report.good.len();
    let lines = report
        .findings
        .iter()
        .map(|found| format!("{}: {}; needed by {}", found.path, wrong(&found.wrong), found.backups.join(", ")));
    let unknown = report.unknown.iter().map(|path| format!("{path}: no backup names it"));
    let code = (bad > 0 || !report.findings.is_empty()).then(|| "part_damaged".to_owned());
    JobOutcome {
        text: format!(
            "{} of {} backups are as they were stored; {} parts read",
            report.good.len(),
            report.backups.len(),
            report.parts
        ),
        code,
        backup: None,
        bytes: report.bytes,
        lines: lines.chain(unknown).take(LINES_MAX).collect(),
    }
}

/// What went, or would go, as the outcome of a job.
#[must_use]
pub fn pruned(report: &PruneReport) -> JobOutcome {
    let goes = report.decisions.iter().filter(|decision| !decision.keep).count();
    let verb = if report.done { "removed" } else { "would go" };
    let lines = report.decisions.iter().map(|decision| {
        format!("{} {}: {}", if decision.keep { "keep" } else { "remove" }, decision.name, decision.reason)
    });
    JobOutcome {
        text: format!("{goes} of {} backups and {} parts {verb}", report.decisions.len(), report.parts.len()),
        code: None,
        backup: None,
        bytes: report.bytes,
        lines: report.notes.iter().cloned().chain(lines).take(LINES_MAX).collect(),
    }
}

fn verify(repository: &Repository, backup: Option<&str>, watch: Watch<'_>) -> Result<Ended, BackupError> {
    let names = backup.map(|name| vec![name.to_owned()]);
    let outcome = verified(&repository.verify(names.as_deref(), watch)?);
    let state = if outcome.code.is_some() { JobState::Failed } else { JobState::Done };
    Ok(Ended { state, ..Ended::done(outcome) })
}

/// Lines of an outcome that are kept.
const LINES_MAX: usize = 100;

impl From<&Progress> for JobProgress {
    fn from(progress: &Progress) -> Self {
        let phase = serde_json::to_value(progress.phase).ok();
        Self {
            phase: phase.and_then(|phase| phase.as_str().map(str::to_owned)).unwrap_or_default(),
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            parts_done: progress.parts_done,
            parts_total: progress.parts_total,
            bytes_per_second: progress.bytes_per_second,
        }
    }
}

/// What is wrong with a part, for people.
fn wrong(wrong: &Wrong) -> String {
    match wrong {
        Wrong::Missing => "it is missing".to_owned(),
        Wrong::Truncated { wanted, found } => format!("it has {found} bytes instead of {wanted}"),
        Wrong::Damaged => "it is damaged".to_owned(),
        Wrong::Swapped { with } => format!("it has the content of {with}"),
        Wrong::Unreadable { cause } => format!("it cannot be read: {cause}"),
        Wrong::Manifest { why, .. } => why.clone(),
    }
}
