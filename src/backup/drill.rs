//! Drills: the proof that a backup restores. One is restored into a scratch directory exactly as a real restore would do it,
//! opened, compared, counted and timed; the report is signed. Must never touch the data directory of a running node except to
//! ask it for hashes, and never leave anything behind in the scratch directory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::crypt::Identity;
use super::manifest::{ManifestError, Signer, backup_name, check_signature};
use super::repository::{Place, Repository};
use super::restore::fetch::Source;
use super::restore::open::{self, Opened};
use super::restore::stage::Staging;
use super::restore::{self, Counts, Moment, RestoreError, Tell};
use super::target::TargetError;
use crate::core::entry::Digest;
use crate::limits;
use crate::node::{Node, now_ms};

/// The format of reports that this build writes.
pub const DRILL_FORMAT: u32 = 1;

/// What to drill.
#[derive(Clone)]
pub struct DrillOptions {
    /// The repository.
    pub repository: Repository,
    /// Private keys that its parts may be encrypted for.
    pub keys: Vec<Identity>,
    /// The fingerprint that all manifests must be signed by.
    pub signer: Option<String>,
    /// Which backup; `None`: the newest.
    pub backup: Option<String>,
    /// Where it is restored for the time of the drill; on a disk with room for all of it.
    pub scratch: PathBuf,
}

/// What a running node knows of its own history.
pub trait LiveHashes: Sync {
    /// The chain hash after this record; `None` when the node does not have it (any more).
    fn chain_at(&self, index: u64) -> Option<Digest>;
    /// The hash of the state after this record; `None` when the node does not know it (any more).
    fn state_hash_at(&self, index: u64) -> Option<Digest>;
}

impl LiveHashes for Node {
    fn chain_at(&self, index: u64) -> Option<Digest> {
        self.log().chain_hash_at(index).ok()
    }

    fn state_hash_at(&self, index: u64) -> Option<Digest> {
        self.projection().state_hash_at(index).map(|hash| hash.to_bytes())
    }
}

/// What comparing with the running node gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiveComparison {
    /// There was no running node to compare with.
    NotAsked,
    /// It has trimmed that part of its log.
    Unknown,
    /// Its log goes through the same record with the same history; no state hash of it was at hand.
    SameLog,
    /// Log and state are the same.
    Same,
    /// Its history is another one from before that record.
    Different,
}

/// Why a drill failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrillFailure {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub text: String,
}

/// What a drill found. Times in Unix milliseconds, digests in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillReport {
    /// See [`DRILL_FORMAT`].
    pub format: u32,
    /// The version of the program that ran it.
    pub program: String,
    /// The backup that was restored; empty when none could be chosen.
    pub backup: String,
    /// Its last record.
    pub index: u64,
    /// When that was proposed.
    pub at_ms: u64,
    /// The fingerprint of who signed the backup.
    pub backup_signer: String,
    /// When the drill began.
    pub started_ms: u64,
    /// How long restoring took, in milliseconds: the time that a real restore of it may be said to take.
    pub took_ms: u64,
    /// Stored bytes that were read.
    pub bytes: u64,
    /// What came back.
    pub counts: Counts,
    /// The hash of the restored state.
    pub state_hash: String,
    /// Recorded state hashes that were compared with the restored state on the way.
    pub hashes_compared: u64,
    /// What comparing with the running node gave.
    pub live: LiveComparison,
    /// Whether the backup restores to what it should.
    pub good: bool,
    /// Why not.
    pub failure: Option<DrillFailure>,
    /// The signer's Ed25519 public key; empty when nobody signed.
    pub signer: String,
    /// The signature over this document with an empty string here, as compact JSON.
    pub signature: String,
}

impl DrillReport {
    fn begin(options: &DrillOptions) -> Self {
        Self {
            format: DRILL_FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            backup: options.backup.clone().unwrap_or_default(),
            index: 0,
            at_ms: 0,
            backup_signer: String::new(),
            started_ms: now_ms(),
            took_ms: 0,
            bytes: 0,
            counts: Counts::default(),
            state_hash: String::new(),
            hashes_compared: 0,
            live: LiveComparison::NotAsked,
            good: false,
            failure: None,
            signer: String::new(),
            signature: String::new(),
        }
    }

    /// Its path in the repository.
    #[must_use]
    pub fn path(&self) -> String {
        format!("drills/{}.json", backup_name(self.started_ms, self.index))
    }

    fn unsigned_bytes(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises; were it not so, the signature would not fit.
        serde_json::to_vec(&Self { signature: String::new(), ..self.clone() }).unwrap_or_default()
    }

    /// Signs it and gives its bytes.
    #[must_use]
    pub fn to_signed_bytes(&mut self, signer: &Signer) -> Vec<u8> {
        self.signer = signer.public_key();
        self.signature = signer.sign(&self.unsigned_bytes());
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads a signed report; gives it with the signer's fingerprint.
    ///
    /// # Errors
    /// [`ManifestError`]: it is none, or was changed.
    pub fn read(bytes: &[u8]) -> Result<(Self, String), ManifestError> {
        let report: Self = serde_json::from_slice(bytes).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        if report.format == 0 || report.format > DRILL_FORMAT {
            return Err(ManifestError::TooNew { format: report.format, program: report.program });
        }
        let fingerprint = check_signature(&report.signer, &report.unsigned_bytes(), &report.signature)?;
        Ok((report, fingerprint))
    }

    /// Stores the signed report in the repository. Returns its path there.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn store(&mut self, place: &dyn Place, signer: &Signer) -> Result<String, TargetError> {
        let (bytes, path) = (self.to_signed_bytes(signer), self.path());
        place.put(&path, &mut &bytes[..])?;
        place.settle()?;
        Ok(path)
    }
}

/// The newest good drill of a repository, if there is one that can be read: what a restore may be expected to take.
///
/// # Errors
/// [`TargetError`] when the target does not answer.
pub fn newest_good(place: &dyn Place) -> Result<Option<DrillReport>, TargetError> {
    for file in place.list("drills")?.into_iter().rev().take(limits::DRILLS_LOOKED_AT_MAX) {
        let bytes = place.read(&file.path, limits::BACKUP_DRILL_BYTES_MAX)?;
        if let Ok((report, _)) = DrillReport::read(&bytes)
            && report.good
        {
            return Ok(Some(report));
        }
    }
    Ok(None)
}

/// Removes what a drill that was killed has left in `scratch`. Called at the start of the server.
///
/// # Errors
/// [`RestoreError::Io`].
pub fn sweep(scratch: &Path) -> Result<(), RestoreError> {
    Staging::sweep(&place(scratch))
}

fn place(scratch: &Path) -> PathBuf {
    scratch.join("drill")
}

/// Runs a drill. Blocks; called from a thread that may, within a tokio runtime's context. What is wrong with the backup is
/// in the report.
///
/// # Errors
/// [`RestoreError`] when nothing can be said of the backup: the target does not answer, this disk has no room, somebody
/// cancelled it.
pub fn run(
    options: &DrillOptions,
    live: Option<&dyn LiveHashes>,
    tell: Tell<'_>,
    cancel: &CancellationToken,
) -> Result<DrillReport, RestoreError> {
    let mut report = DrillReport::begin(options);
    let started = Instant::now();
    let source = Source::new(options.repository.place(), &options.keys, (tell, cancel));
    let outcome = restore_and_look(&source, (options, live), &mut report);
    report.took_ms = started.elapsed().as_millis() as u64;
    report.bytes = source.bytes_done();
    match outcome {
        Ok(()) => report.good = report.failure.is_none(),
        Err(error) if says_nothing(&error) => return Err(error),
        Err(error) => report.failure = Some(DrillFailure { code: error.code().to_owned(), text: error.to_string() }),
    }
    Ok(report)
}

/// Whether an error is of this machine or of the way to the target, so that the backup may be good.
fn says_nothing(error: &RestoreError) -> bool {
    matches!(
        error,
        RestoreError::Target(_)
            | RestoreError::KeyMissing
            | RestoreError::KeyWrong
            | RestoreError::NoRoom { .. }
            | RestoreError::Busy(_)
            | RestoreError::StagingForeign(_)
            | RestoreError::Io { .. }
            | RestoreError::Cancelled
    )
}

fn restore_and_look(
    source: &Source<'_>,
    (options, live): (&DrillOptions, Option<&dyn LiveHashes>),
    report: &mut DrillReport,
) -> Result<(), RestoreError> {
    let moment = options.backup.clone().map_or(Moment::Latest, Moment::Backup);
    let checked = restore::check(source, (&moment, options.signer.as_deref()))?;
    report.backup = checked.plan.newest().name();
    report.backup_signer.clone_from(&checked.plan.signer);
    report.index = checked.plan.newest().until.index;
    restore::check_room(&options.scratch, checked.bytes)?;
    let staging = Staging::begin(&place(&options.scratch))?;
    let opened = restore::build_and_open(source, &checked, staging.dir())?;
    look(&opened, live, report)?;
    drop(opened); // before the scratch directory goes
    report.counts.blobs = checked.blobs.len() as u64;
    report.counts.blob_bytes = checked.blobs.iter().map(|blob| blob.bytes).sum();
    Ok(())
}

fn look(opened: &Opened, live: Option<&dyn LiveHashes>, report: &mut DrillReport) -> Result<(), RestoreError> {
    let failed = |e: &dyn std::fmt::Display| RestoreError::Start(e.to_string());
    (report.index, report.at_ms) = (opened.index, opened.at_ms);
    report.state_hash = HEXLOWER.encode(&opened.state_hash);
    report.hashes_compared = opened.compared;
    report.counts = open::count(opened.node.projection()).map_err(|e| failed(&e))?;
    // The running hash was compared on the way; now every row that was stored is read again.
    let (_, all_rows) = opened.node.projection().full_state_hash()?;
    if all_rows.to_bytes() != opened.state_hash {
        return Err(RestoreError::StateDiffers { index: opened.index });
    }
    if let Some(live) = live {
        report.live = compare(opened, live);
        if report.live == LiveComparison::Different {
            let text = "the running server's history is another one from before the end of this backup".to_owned();
            report.failure = Some(DrillFailure { code: "live_differs".to_owned(), text });
        }
    }
    Ok(())
}

/// Compares the log's end and every state hash that both know.
fn compare(opened: &Opened, live: &dyn LiveHashes) -> LiveComparison {
    let same_log = match live.chain_at(opened.index) {
        Some(chain) if chain != opened.chain => return LiveComparison::Different,
        known => known.is_some(),
    };
    let mut same_state = false;
    let newest = opened.index / limits::STATE_HASH_EVERY;
    for point in (1..=newest).rev().take(limits::STATE_HASH_POINTS) {
        let index = point * limits::STATE_HASH_EVERY;
        let own = opened.node.projection().state_hash_at(index).map(|hash| hash.to_bytes());
        match (own, live.state_hash_at(index)) {
            (Some(own), Some(theirs)) if own != theirs => return LiveComparison::Different,
            (Some(_), Some(_)) => same_state = true,
            _ => {}
        }
    }
    match (same_log, same_state) {
        (_, true) => LiveComparison::Same,
        (true, false) => LiveComparison::SameLog,
        (false, false) => LiveComparison::Unknown,
    }
}
