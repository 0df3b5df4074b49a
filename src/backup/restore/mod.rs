//! A data directory out of a repository: everything is checked, built beside the destination, compared with what was
//! recorded, and takes its place in one step. Must never change the destination before that step, and never leave anything
//! half-valid, whenever it is ended.

mod build;
pub mod desk;
mod error;
pub(crate) mod fetch;
pub mod live;
pub(crate) mod open;
mod plan;
pub(crate) mod stage;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use error::RestoreError;
pub use fetch::{Progress, Stage, Tell};
pub use open::Counts;
pub use plan::{Catalogue, LogPart, Moment, Plan};

use super::crypt::Identity;
use super::repository::{Place, Repository};
use crate::node::now_ms;
use crate::ops::datadir::DataDir;
use fetch::{Source, WantedBlob};
use open::Opened;
use stage::Staging;

/// What to restore, and where.
#[derive(Clone)]
pub struct RestoreOptions {
    /// The repository.
    pub repository: Repository,
    /// Private keys that its parts may be encrypted for; none for a repository that is not encrypted.
    pub keys: Vec<Identity>,
    /// The fingerprint that all manifests must be signed by.
    pub signer: Option<String>,
    /// Up to when.
    pub moment: Moment,
    /// The data directory to make.
    pub destination: PathBuf,
    /// Move what is at the destination aside instead of refusing.
    pub force: bool,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The backup that holds the last record.
    pub backup: String,
    /// The fingerprint of who signed.
    pub signer: String,
    /// The organisation.
    pub organisation: String,
    /// The cluster's id.
    pub cluster: String,
    /// The last record restored.
    pub index: u64,
    /// When it was proposed, in Unix milliseconds.
    pub at_ms: u64,
    /// What there is.
    #[serde(flatten)]
    pub counts: Counts,
    /// The state hash at that record, in hex.
    pub state_hash: String,
    /// State hashes in the log and in manifests that the state was compared with.
    pub hashes_compared: u64,
    /// Stored bytes that were read.
    pub bytes_read: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The node's number from now on.
    pub node: u16,
    /// The number of the epoch that begins with the restore.
    pub epoch: u64,
    /// Where what was at the destination is now.
    pub moved_aside: Option<PathBuf>,
}

/// What a restore would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePreview {
    /// The backup that holds the last record.
    pub backup: String,
    /// The full that it rests on.
    pub full: String,
    /// The fingerprint of who signed.
    pub signer: String,
    /// The organisation.
    pub organisation: String,
    /// Up to which record; null: a time was asked for, and only the records tell.
    pub index: Option<u64>,
    /// When the last record of that backup was proposed, in Unix milliseconds.
    pub until_ms: u64,
    /// The program that made the backup.
    pub program: String,
    /// What the snapshot holds; the records after it come on top.
    #[serde(flatten)]
    pub counts: Counts,
    /// Records that are applied to the snapshot.
    pub records: u64,
    /// Stored bytes to read.
    pub bytes: u64,
    /// Whether a private key is needed.
    pub encrypted: bool,
    /// How long it will take, in milliseconds, from the newest drill; null when there was none.
    pub estimate_ms: Option<u64>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// A plan with everything it needs, of which nothing is missing or shortened.
pub(crate) struct Checked {
    pub(crate) plan: Plan,
    pub(crate) blobs: Vec<WantedBlob>,
    pub(crate) bytes: u64,
}

/// Works out what to read, and checks that all of it is there with the right length and that the keys fit.
pub(crate) fn check(source: &Source<'_>, (moment, signer): (&Moment, Option<&str>)) -> Result<Checked, RestoreError> {
    source.enter(Stage::Checking)?;
    let plan = Catalogue::list(source.place, signer)?.plan(moment)?;
    // The lists first, without the blobs in them: what is shortened must not be read.
    fetch::compare_lengths(source, &plan, &[])?;
    let blobs = fetch::blobs(source, &plan)?;
    let bytes = fetch::compare_lengths(source, &plan, &blobs)?;
    try_keys(source, &plan)?;
    // The lists are read already.
    let lists: u64 = plan.blob_lists().map(|part| part.size).sum();
    source.set_total((bytes + source.bytes_done()).saturating_sub(lists));
    Ok(Checked { plan, blobs, bytes })
}

/// A wrong key is told before anything is written: one small part is decrypted.
fn try_keys(source: &Source<'_>, plan: &Plan) -> Result<(), RestoreError> {
    let encrypted = plan.parts().filter(|part| part.path.ends_with(".age"));
    match encrypted.min_by_key(|part| part.size) {
        Some(part) => source.fetch(&part.into(), false, &mut std::io::sink()).map(|_| ()),
        None => Ok(()),
    }
}

/// Reads everything into `dir`, opens it, applies the log and compares.
pub(crate) fn build_and_open(source: &Source<'_>, checked: &Checked, dir: &Path) -> Result<Opened, RestoreError> {
    build::build(source, (&checked.plan, &checked.blobs), dir)?;
    source.enter(Stage::Opening)?;
    open::open(source, &checked.plan, dir)
}

/// Bytes that the destination's disk must have: what is stored unpacks to about twice as much, and a log segment is
/// reserved.
pub(crate) fn check_room(place: &Path, bytes: u64) -> Result<(), RestoreError> {
    let there = place.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(there).map_err(|e| RestoreError::io("look at the disk of", there)(e.into()))?;
    let (free, needed) = (found.f_bavail * found.f_frsize, bytes + bytes / 2 + crate::limits::LOG_SEGMENT_BYTES);
    if free < needed {
        return Err(RestoreError::NoRoom { path: there.to_owned(), needed, free });
    }
    Ok(())
}

/// Restores. Blocks; called from a thread that may, within a tokio runtime's context.
///
/// # Errors
/// [`RestoreError`]; the destination is as it was, and nothing is left beside it.
pub fn restore(
    options: &RestoreOptions,
    tell: Tell<'_>,
    cancel: &CancellationToken,
) -> Result<RestoreReport, RestoreError> {
    let started = Instant::now();
    let source = Source::new(options.repository.place(), &options.keys, (tell, cancel));
    stage::check_destination(&options.destination, options.force)?;
    let checked = check(&source, (&options.moment, options.signer.as_deref()))?;
    check_room(&options.destination, checked.bytes)?;
    let staging = Staging::begin(&options.destination)?;
    let opened = build_and_open(&source, &checked, staging.dir())?;
    let counted = open::count(opened.node.projection()).map_err(|e| RestoreError::Start(e.to_string()))?;
    let counts = Counts { blobs: checked.blobs.len() as u64, blob_bytes: sum(&checked.blobs), ..counted };
    let plan = &checked.plan;
    let mut report = report_of(&opened, plan, counts);
    let (node, epoch) = open::begin_again(opened, plan, staging.dir())?;
    let cluster: [u8; 16] = data_encoding::HEXLOWER
        .decode(plan.base().cluster.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or_default();
    DataDir::restored(staging.dir(), &cluster, node).map_err(|e| RestoreError::Start(e.to_string()))?;
    source.enter(Stage::Placing)?;
    report.moved_aside = staging.place(options.force, now_ms())?;
    (report.node, report.epoch) = (node, epoch.number());
    (report.bytes_read, report.took_ms) = (source.bytes_done(), started.elapsed().as_millis() as u64);
    Ok(report)
}

fn sum(blobs: &[WantedBlob]) -> u64 {
    blobs.iter().map(|blob| blob.bytes).sum()
}

fn report_of(opened: &Opened, plan: &Plan, counts: Counts) -> RestoreReport {
    RestoreReport {
        backup: plan.newest().name(),
        signer: plan.signer.clone(),
        organisation: plan.newest().organisation.clone(),
        cluster: plan.base().cluster.clone(),
        index: opened.index,
        at_ms: opened.at_ms,
        counts,
        state_hash: data_encoding::HEXLOWER.encode(&opened.state_hash),
        hashes_compared: opened.compared,
        bytes_read: 0,
        took_ms: 0,
        node: 0,
        epoch: 0,
        moved_aside: None,
    }
}

/// Says what a restore would bring back. Writes nothing.
///
/// # Errors
/// As [`restore`], for everything that can be found without reading the parts.
pub fn preview(
    options: &RestoreOptions,
    tell: Tell<'_>,
    cancel: &CancellationToken,
) -> Result<RestorePreview, RestoreError> {
    let source = Source::new(options.repository.place(), &options.keys, (tell, cancel));
    let checked = check_for_preview(&source, options)?;
    let plan = &checked.plan;
    let mut warnings = Vec::new();
    for check in
        [stage::check_destination(&options.destination, options.force), check_room(&options.destination, checked.bytes)]
    {
        if let Err(error) = check {
            warnings.push(error.to_string());
        }
    }
    if plan.is_encrypted() && options.keys.is_empty() {
        warnings.push("the restore needs the private key: --key FILE".to_owned());
    }
    if plan.time_ms.is_some_and(|wanted| wanted > plan.newest().until.at_ms) {
        warnings.push("the newest backup ends before the time asked for: what came between is not in it".to_owned());
    }
    let known = plan.base().snapshot.as_ref().map(|snapshot| snapshot.counts.clone()).unwrap_or_default();
    let rows = |kind: &str| known.get(kind).copied().unwrap_or(0);
    let until = plan.index.unwrap_or(plan.newest().until.index);
    Ok(RestorePreview {
        backup: plan.newest().name(),
        full: plan.base().name(),
        signer: plan.signer.clone(),
        organisation: plan.newest().organisation.clone(),
        index: plan.index,
        until_ms: plan.newest().until.at_ms,
        program: plan.newest().program.clone(),
        counts: Counts {
            users: rows("users"),
            channels: rows("channels"),
            messages: rows("messages"),
            blobs: checked.blobs.len() as u64,
            blob_bytes: sum(&checked.blobs),
        },
        records: until.saturating_sub(plan.snapshot_index()),
        bytes: checked.bytes,
        encrypted: plan.is_encrypted(),
        estimate_ms: estimate(options.repository.place(), checked.bytes),
        warnings,
    })
}

/// How long reading so much takes, if it goes as in the newest drill. Only an estimate: a target that does not tell is fine.
fn estimate(place: &dyn Place, bytes: u64) -> Option<u64> {
    let drill = super::drill::newest_good(place).ok()??;
    (drill.bytes > 0).then(|| (u128::from(drill.took_ms) * u128::from(bytes) / u128::from(drill.bytes)) as u64)
}

/// As [`check`], but a missing key is no reason to end.
fn check_for_preview(source: &Source<'_>, options: &RestoreOptions) -> Result<Checked, RestoreError> {
    source.enter(Stage::Checking)?;
    let plan = Catalogue::list(source.place, options.signer.as_deref())?.plan(&options.moment)?;
    fetch::compare_lengths(source, &plan, &[])?;
    let blobs = fetch::blobs(source, &plan)?;
    let bytes = fetch::compare_lengths(source, &plan, &blobs)?;
    if !options.keys.is_empty() {
        try_keys(source, &plan)?;
    }
    Ok(Checked { plan, blobs, bytes })
}
