//! Making one backup: what is to be stored is decided first, then stored, then named by a manifest. Must never name a part
//! that was not stored and settled, never replace a part that a manifest names, and never hold the state longer than the
//! snapshot takes.

mod journal;
mod plan;
mod send;

use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use super::blob_list::write_blob_list;
use super::crypt::Recipient;
use super::error::BackupError;
use super::manifest::{
    BackupKind, BlobLine, LogPoint, MANIFEST_FORMAT, Manifest, Part, PartKind, Previous, Signer, backup_name,
    manifest_path,
};
use super::meter::{Meter, Phase, Watch};
use super::repository::{Cache, Listed, Repository};
use crate::blobs::{BlobHash, BlobStore};
use crate::node::now_ms;
use crate::oplog::{LogError, LogReader};
use crate::ops::durable_file::create_private_dir;
use crate::projection::Projection;

use journal::Journal;
use plan::{Base, Known, Plan};
use send::Sender;

/// What is backed up, and by whom.
#[derive(Clone)]
pub struct Source {
    /// The state.
    pub projection: Projection,
    /// The log.
    pub log: LogReader,
    /// The files.
    pub blobs: BlobStore,
    /// The folder of snapshots.
    pub snapshots: PathBuf,
    /// A folder for unfinished work and for copies of what the repository has. Of this repository alone, and of nobody else
    /// meanwhile. May be deleted between two runs.
    pub scratch: PathBuf,
    /// Who this is.
    pub facts: Facts,
    /// The key that signs manifests.
    pub signer: Arc<Signer>,
    /// Further files of the node. Stored with full backups, and only when these are encrypted.
    pub extras: Vec<Extra>,
}

/// What a manifest says of its maker.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// What people call the organisation.
    pub organisation: String,
    /// The site.
    pub site: u16,
    /// The node.
    pub node: u16,
}

/// A further file.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Its name in the backup: a relative path of plain names.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// A full one, or what came since the last if possible.
    pub kind: BackupKind,
    /// Whom the parts are encrypted for; nobody: not encrypted.
    pub recipients: Vec<Recipient>,
}

impl Job {
    /// The public keys as a manifest lists them: in order, so that the same keys are the same list.
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.recipients.iter().map(ToString::to_string).collect();
        keys.sort();
        keys
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The backup that was stored; `None` when there was nothing to store.
    pub made: Option<Made>,
    /// Why it is of this kind, or why nothing was stored; for people.
    pub reason: String,
    /// Parts and blobs that were sent.
    pub sent: u64,
    /// Their stored bytes.
    pub sent_bytes: u64,
    /// Files of this node that are damaged and are not in this backup.
    pub damaged_blobs: Vec<BlobHash>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A backup that was stored.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Makes one backup. It becomes a full one by itself when there is nothing that it could go on from; [`Outcome::reason`] says
/// so. Blocks; nothing else may write to the repository or prune it meanwhile.
///
/// # Errors
/// [`BackupError`]; what was stored so far is used by the next run.
pub fn run(source: &Source, repository: &Repository, job: &Job, watch: Watch<'_>) -> Result<Outcome, BackupError> {
    let begun = std::time::Instant::now();
    create_private_dir(&source.scratch).map_err(BackupError::io("create", &source.scratch))?;
    let cache = Cache::open(&source.scratch)?;
    let listed = repository.manifests(Some(&cache))?;
    let mut outcome = Outcome {
        made: None,
        reason: String::new(),
        sent: 0,
        sent_bytes: 0,
        damaged_blobs: Vec::new(),
        duration_ms: 0,
    };
    let base = match plan::decide(source, job, &listed)? {
        Ok(base) => base,
        Err(nothing) => return Ok(Outcome { reason: nothing, ..outcome }),
    };
    outcome.reason.clone_from(&base.reason);
    let meter = Meter::new(watch);
    let run = Run { source, repository, job, base, cache, meter };
    run.store(&listed, &mut outcome)?;
    outcome.duration_ms = begun.elapsed().as_millis() as u64;
    Ok(outcome)
}

/// One run, after it was decided what it goes on from.
struct Run<'a> {
    source: &'a Source,
    repository: &'a Repository,
    job: &'a Job,
    base: Base,
    cache: Cache,
    meter: Meter<'a>,
}

impl Run<'_> {
    fn store(&self, listed: &[Listed], outcome: &mut Outcome) -> Result<(), BackupError> {
        let started_ms = self.base.started_ms(now_ms());
        let snapshot = match self.base.kind {
            BackupKind::Full => Some(plan::take_snapshot(self.source, &self.meter)?),
            BackupKind::Incremental => None,
        };
        // After the snapshot: the log goes on from it. Applied means committed and durable.
        let (applied, state_hash) = self.source.projection.state_hash();
        let until = point_at(&self.source.log, applied.index)?;
        if self.base.kind == BackupKind::Incremental && self.base.until_index() == until.index {
            "nothing changed since the last backup".clone_into(&mut outcome.reason);
            return Ok(());
        }
        let name = backup_name(started_ms, until.index);
        // Not before: a run that has nothing to store, every minute, reads no lists.
        let known = Known::load(self.repository, &self.cache, listed, self.job.keys())?;
        let plan = Plan::new(self.source, self.repository, (&self.base, &known), (snapshot, until.index, &name))?;
        let journal = Journal::open(&self.source.scratch)?;
        let sender =
            Sender { source: self.source, repository: self.repository, job: self.job, journal, meter: &self.meter };
        let sent = sender.send_all(&plan)?;
        outcome.sent = sent.count;
        outcome.sent_bytes = sent.bytes;
        outcome.damaged_blobs = sent.damaged;
        let mut lines = plan.known_blobs;
        lines.extend(sent.blobs);
        let (log_first, mut parts) = (plan.log_first, plan.kept_parts);
        parts.extend(sent.parts);
        let list = if lines.is_empty() && self.base.kind == BackupKind::Incremental {
            None
        } else {
            Some(self.store_blob_list(&name, &mut lines)?)
        };
        if let Some((part, _)) = &list {
            outcome.sent_bytes += part.size;
            parts.push(part.clone());
        }
        let mut manifest = Manifest {
            format: MANIFEST_FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            kind: self.base.kind,
            cluster: HEXLOWER.encode(&self.source.facts.cluster),
            organisation: self.source.facts.organisation.clone(),
            node: self.source.facts.node,
            started_ms,
            finished_ms: now_ms().max(started_ms),
            log_first,
            until,
            state_hash: Some(HEXLOWER.encode(&state_hash.to_bytes())),
            snapshot: plan.snapshot,
            previous: self.base.previous.clone(),
            recipients: self.job.keys(),
            blobs: lines.len() as u64,
            blob_bytes: lines.iter().map(|line| line.size).sum(),
            stored_bytes: outcome.sent_bytes,
            parts,
            signer: String::new(),
            signature: String::new(),
        };
        self.commit(&mut manifest)?;
        if let Some((part, file)) = list {
            self.cache.keep_list(&part, &file);
        }
        sender.journal.forget()?;
        outcome.made = Some(Made { name, manifest });
        Ok(())
    }

    /// Stores the list of the blobs; gives its part and the file beside it.
    fn store_blob_list(&self, name: &str, lines: &mut [BlobLine]) -> Result<(Part, PathBuf), BackupError> {
        lines.sort_by(|a, b| a.blob.cmp(&b.blob));
        let file = self.source.scratch.join("blob-list.tmp");
        let io = || BackupError::io("write", &file);
        let out = std::fs::File::create(&file).map_err(io())?;
        write_blob_list(std::io::BufWriter::new(out), lines).map_err(io())?;
        let mut hashed = send::Hashing::new(std::fs::File::open(&file).map_err(io())?);
        let path = format!("blob-lists/{name}.zst");
        self.repository.place().put(&path, &mut hashed)?;
        let (size, blake3) = hashed.finish();
        Ok((Part { path, kind: PartKind::BlobList, size, blake3 }, file))
    }

    /// Parts settled, nobody else there, manifest, settled.
    fn commit(&self, manifest: &mut Manifest) -> Result<(), BackupError> {
        self.meter.begin(Phase::Finishing, 0, 0);
        let place = self.repository.place();
        place.settle()?;
        self.meter.check()?;
        let newest = self.repository.names()?.pop();
        if newest.as_deref() != self.base.newest() {
            return Err(BackupError::RepositoryChanged { newest: newest.unwrap_or_else(|| "none".to_owned()) });
        }
        let name = manifest.name();
        let bytes = manifest
            .to_signed_bytes(&self.source.signer)
            .map_err(|error| BackupError::Manifest { name: name.clone(), error })?;
        place.put(&manifest_path(&name), &mut &bytes[..])?;
        place.settle()?;
        self.cache.keep_manifest(&name, &bytes);
        Ok(())
    }
}

/// Where the log is after the record `index`.
fn point_at(log: &LogReader, index: u64) -> Result<LogPoint, LogError> {
    let position = log.position_at(index)?;
    let at_ms = match log.first_index() <= index {
        true => log.read_from(index)?.next().transpose()?.map_or(0, |entry| entry.unix_ms()),
        false => 0,
    };
    Ok(LogPoint { index, epoch: position.epoch, at_ms, chain: HEXLOWER.encode(&position.chain) })
}

/// The manifest that the next one goes on from.
fn previous_of(listed: &Listed) -> Previous {
    Previous { name: listed.name.clone(), blake3: listed.blake3.clone() }
}
