//! What a run stores: what it goes on from, the snapshot, the ranges of the log, the blobs that are not there yet. Must never
//! choose a name that a manifest names already, unless it is the same content.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::super::blob_list::read_blob_list;
use super::super::error::BackupError;
use super::super::manifest::{
    BackupKind, BlobLine, Manifest, Part, PartKind, Previous, SnapshotRef, backup_name, encrypted_blob_path,
    is_safe_path, log_path, recipients_tag,
};
use super::super::meter::{Meter, Phase};
use super::super::repository::{Cache, Listed, Repository, chain};
use super::{Job, Source, previous_of};
use crate::blobs::BlobHash;
use crate::limits::BACKUP_EXTRA_BYTES_MAX;
use crate::oplog::LogReader;
use crate::projection::ProjectionError;
use crate::projection::snapshot::{self, SnapshotInfo};

/// What a run goes on from.
pub(super) struct Base {
    pub(super) kind: BackupKind,
    pub(super) reason: String,
    /// The newest manifest, whatever it is.
    pub(super) previous: Option<Previous>,
    /// Of the newest manifest, when this node's history goes on from it.
    until: Option<u64>,
    /// The manifests that an incremental rests on.
    chain: Vec<String>,
}

impl Base {
    pub(super) fn until_index(&self) -> u64 {
        self.until.unwrap_or(0)
    }

    /// The name of the newest manifest.
    pub(super) fn newest(&self) -> Option<&str> {
        self.previous.as_ref().map(|previous| previous.name.as_str())
    }

    /// The time in the name: names grow, even if a clock went back.
    pub(super) fn started_ms(&self, now_ms: u64) -> u64 {
        match self.newest().and_then(|newest| Some((newest, time_of(newest)?))) {
            Some((newest, before)) if backup_name(now_ms, 0).get(..16) <= newest.get(..16) => {
                before.max(now_ms).saturating_add(1_000)
            }
            _ => now_ms,
        }
    }
}

/// Decides what to do. `Err` within: nothing, and why.
pub(super) fn decide(source: &Source, job: &Job, listed: &[Listed]) -> Result<Result<Base, String>, BackupError> {
    let Some(newest) = listed.last() else {
        return Ok(Ok(full("the repository is empty".to_owned(), None)));
    };
    let manifest = match &newest.manifest {
        Ok(manifest) => manifest,
        Err(error @ super::super::manifest::ManifestError::TooNew { .. }) => {
            return Err(BackupError::Manifest { name: newest.name.clone(), error: error.clone() });
        }
        Err(error) => return Ok(Ok(full(format!("the newest manifest is not usable: {error}"), Some(newest)))),
    };
    let mut base = full("a full backup was asked for".to_owned(), Some(newest));
    match goes_on(source, manifest)? {
        GoesOn::Yes => base.until = Some(manifest.until.index),
        GoesOn::Behind => {
            return Ok(Err(format!("the repository is ahead of this node: its newest backup is {}", newest.name)));
        }
        GoesOn::No(why) => {
            base.reason = why;
            return Ok(Ok(base));
        }
    }
    if job.kind == BackupKind::Full {
        return Ok(Ok(base));
    }
    match may_rest_on(source, job, (listed, manifest)) {
        Err(why) => base.reason = why,
        Ok(chain) => {
            base.kind = BackupKind::Incremental;
            base.reason = format!("it goes on from {}", newest.name);
            base.chain = chain;
        }
    }
    Ok(Ok(base))
}

fn full(reason: String, newest: Option<&Listed>) -> Base {
    Base { kind: BackupKind::Full, reason, previous: newest.map(previous_of), until: None, chain: Vec::new() }
}

/// The time in a backup's name, in Unix milliseconds.
fn time_of(name: &str) -> Option<u64> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", name.get(..16)?).ok()?;
    u64::try_from(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond()).ok()
}

enum GoesOn {
    Yes,
    /// This node has not yet what the repository has.
    Behind,
    No(String),
}

/// Whether this node's history goes on from where a backup ends.
fn goes_on(source: &Source, manifest: &Manifest) -> Result<GoesOn, BackupError> {
    let no = |why: &str| Ok(GoesOn::No(why.to_owned()));
    if manifest.cluster != HEXLOWER.encode(&source.facts.cluster) {
        return no("the newest backup is one of another cluster");
    }
    let (until, applied) = (&manifest.until, source.projection.applied());
    if until.index > applied.index {
        // A restore begins an epoch of its own; a standby that is only late is in the same one or an earlier one.
        let restored = applied.epoch > until.epoch;
        return if restored { no("this history was restored to an earlier point") } else { Ok(GoesOn::Behind) };
    }
    if until.index + 1 < source.log.first_index() {
        return no("the log that would join the newest backup was trimmed");
    }
    if HEXLOWER.encode(&source.log.position_at(until.index)?.chain) != until.chain {
        return no("the newest backup is one of another history: the log went on differently from there");
    }
    Ok(GoesOn::Yes)
}

/// The chain that an incremental would rest on, or why it cannot.
fn may_rest_on(source: &Source, job: &Job, (listed, newest): (&[Listed], &Manifest)) -> Result<Vec<String>, String> {
    if newest.recipients != job.keys() {
        return Err("the keys to encrypt for have changed".to_owned());
    }
    if newest.signer != source.signer.public_key() {
        return Err("the newest backup was signed by another key".to_owned());
    }
    let found = chain(listed, &newest.name()).map_err(|error| error.to_string())?;
    Ok(found.into_iter().map(|(item, _)| item.name.clone()).collect())
}

/// Everything that manifests of the repository name.
pub(super) struct Known {
    parts: HashMap<String, Part>,
    /// Blobs as they are stored for these recipients.
    blobs: HashMap<BlobHash, BlobLine>,
    /// Which backups name them.
    listed_in: HashMap<String, Vec<BlobHash>>,
    tag: Option<String>,
}

impl Known {
    pub(super) fn load(
        repository: &Repository,
        cache: &Cache,
        listed: &[Listed],
        keys: Vec<String>,
    ) -> Result<Self, BackupError> {
        let mut known = Self {
            parts: HashMap::new(),
            blobs: HashMap::new(),
            listed_in: HashMap::new(),
            tag: recipients_tag(&keys),
        };
        for (item, manifest) in listed.iter().filter_map(|item| Some((item, item.manifest.as_ref().ok()?))) {
            let same = manifest.recipients == keys;
            for part in &manifest.parts {
                known.parts.insert(part.path.clone(), part.clone());
                if part.kind == PartKind::BlobList && same {
                    known.blob_list(repository, cache, (&item.name, part))?;
                }
            }
        }
        Ok(known)
    }

    fn blob_list(
        &mut self,
        repository: &Repository,
        cache: &Cache,
        (name, part): (&str, &Part),
    ) -> Result<(), BackupError> {
        let file = match cache.blob_list(repository.place(), part) {
            Ok(file) => file,
            // Whatever is wrong with that backup, the next one need not be hindered: its blobs count as not there.
            Err(BackupError::Part { path, what }) => {
                tracing::error!(path, what, "a blob list in the repository is damaged");
                return Ok(());
            }
            Err(BackupError::Target(super::super::target::TargetError::NotFound(path))) => {
                tracing::error!(path, "a blob list is missing in the repository");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut hashes = Vec::new();
        let read = read_blob_list(file, |blob| {
            hashes.push(blob.hash);
            self.blobs.insert(blob.hash, blob.line);
        });
        read.map_err(|what| BackupError::Part { path: part.path.clone(), what })?;
        self.listed_in.insert(name.to_owned(), hashes);
        Ok(())
    }

    fn blob_path(&self, hash: &BlobHash) -> String {
        encrypted_blob_path(hash, self.tag.as_deref())
    }

    /// A part that is stored already with this very content.
    fn same(&self, path: &str, size: u64, blake3: &str) -> Option<&Part> {
        self.parts.get(path).filter(|part| part.size == size && part.blake3 == blake3)
    }

    fn suffix(&self) -> &'static str {
        if self.tag.is_some() { ".age" } else { "" }
    }
}

/// What a piece is made of.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A file as it is.
    File(PathBuf),
    /// A range of the log.
    Log(u64, u64),
    /// A file of the store.
    Blob(BlobHash),
}

/// Something to be stored.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Where.
    pub(super) path: String,
    /// As what; `None`: a blob.
    pub(super) kind: Option<PartKind>,
    pub(super) content: Content,
    /// The content's length, about.
    pub(super) bytes: u64,
    /// What says that the content is the same as in an earlier run; `None`: nothing.
    pub(super) key: Option<String>,
}

/// All that a run stores.
pub(super) struct Plan {
    pub(super) pieces: Vec<Piece>,
    /// Parts of the snapshot that are stored already.
    pub(super) kept_parts: Vec<Part>,
    /// Blobs of this backup that are stored already.
    pub(super) known_blobs: Vec<BlobLine>,
    pub(super) log_first: u64,
    pub(super) snapshot: Option<SnapshotRef>,
}

impl Plan {
    /// `last`: up to where the log goes; `name`: of the backup.
    pub(super) fn new(
        source: &Source,
        repository: &Repository,
        (base, known): (&Base, &Known),
        (snapshot, last, name): (Option<PathBuf>, u64, &str),
    ) -> Result<Self, BackupError> {
        let mut plan =
            Self { pieces: Vec::new(), kept_parts: Vec::new(), known_blobs: Vec::new(), log_first: 0, snapshot: None };
        let names = Names { repository, known, name };
        plan.log_first = base.until_index() + 1;
        if let Some(dir) = &snapshot {
            let manifest = snapshot::read_manifest(dir)?;
            if base.until.is_none() {
                plan.log_first = manifest.index + 1;
            }
            plan.add_snapshot(&names, dir, &manifest)?;
            plan.add_extras(source, &names)?;
        }
        plan.add_log(source, &names, last)?;
        plan.add_blobs(source, &names, base)?;
        Ok(plan)
    }

    fn add_snapshot(
        &mut self,
        names: &Names<'_>,
        dir: &Path,
        manifest: &snapshot::Manifest,
    ) -> Result<(), BackupError> {
        let file = dir.join("manifest.json");
        let bytes = std::fs::read(&file).map_err(BackupError::io("read", &file))?;
        let own = (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string());
        let mut files: SnapshotFiles = vec![("manifest.json".to_owned(), PartKind::SnapshotManifest, own)];
        for chunk in &manifest.chunks {
            let known = (chunk.size, chunk.blake3.clone());
            files.push((chunk.name.clone(), PartKind::SnapshotChunk, known));
        }
        let folder = names.snapshot_folder(manifest.index, &files)?;
        for (file, kind, (size, blake3)) in files {
            let path = format!("{folder}/{file}{}", names.known.suffix());
            if let Some(part) = names.known.same(&path, size, &blake3)
                && names.repository.place().size(&path)? == Some(size)
            {
                self.kept_parts.push(part.clone());
                continue;
            }
            let content = Content::File(dir.join(&file));
            self.pieces.push(Piece { path, kind: Some(kind), content, bytes: size, key: Some(blake3) });
        }
        let (state_hash, counts) = (manifest.state_hash.clone(), manifest.counts.clone());
        self.snapshot = Some(SnapshotRef { index: manifest.index, state_hash, counts });
        Ok(())
    }

    fn add_extras(&mut self, source: &Source, names: &Names<'_>) -> Result<(), BackupError> {
        if names.known.tag.is_none() {
            return Ok(());
        }
        for extra in &source.extras {
            let path = format!("extras/{}/{}.age", names.name, extra.name);
            if !is_safe_path(&path) {
                let what = "this is no name for a file in a backup".to_owned();
                return Err(BackupError::Part { path: extra.name.clone(), what });
            }
            let bytes = match std::fs::metadata(&extra.path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BackupError::io("look up", &extra.path)(error)),
            };
            if bytes > BACKUP_EXTRA_BYTES_MAX {
                let what = format!("{} bytes are too many for a file of the node", bytes);
                return Err(BackupError::Part { path: extra.name.clone(), what });
            }
            let content = Content::File(extra.path.clone());
            self.pieces.push(Piece { path, kind: Some(PartKind::Extra), content, bytes, key: None });
        }
        Ok(())
    }

    fn add_log(&mut self, source: &Source, names: &Names<'_>, last: u64) -> Result<(), BackupError> {
        for (first, last, bytes) in ranges(&source.log, self.log_first, last) {
            // The chain hash at its end covers the whole range and all before it.
            let key = HEXLOWER.encode(&source.log.position_at(last)?.chain);
            let path = names.free(&log_path(first, last), ".zst")?;
            let piece =
                Piece { path, kind: Some(PartKind::Log), content: Content::Log(first, last), bytes, key: Some(key) };
            self.pieces.push(piece);
        }
        Ok(())
    }

    fn add_blobs(&mut self, source: &Source, names: &Names<'_>, base: &Base) -> Result<(), BackupError> {
        let full = base.kind == BackupKind::Full;
        let known = names.known;
        // A full looks whether all that is named is there; that costs one listing.
        let there: Option<HashMap<String, u64>> = if full {
            Some(names.repository.place().list("blobs")?.into_iter().map(|file| (file.path, file.size)).collect())
        } else {
            None
        };
        let in_chain: HashSet<BlobHash> =
            base.chain.iter().filter_map(|name| known.listed_in.get(name)).flatten().copied().collect();
        let mut new = Vec::new();
        source.blobs.list(&mut |entry| {
            if !in_chain.contains(&entry.hash) {
                new.push(entry);
            }
        })?;
        for entry in new {
            let path = known.blob_path(&entry.hash);
            let hex = entry.hash.to_string();
            let stored = known.blobs.get(&entry.hash);
            if let Some(line) = stored
                && there.as_ref().is_none_or(|there| there.get(&path) == Some(&line.size))
            {
                self.known_blobs.push(line.clone());
                continue;
            }
            let unnamed =
                known.tag.is_none() && there.as_ref().and_then(|there| there.get(&path)) == Some(&entry.bytes);
            if unnamed {
                // Of an earlier run: whole, as it has its name, and its name is its content's hash.
                self.known_blobs.push(BlobLine {
                    blob: hex.clone(),
                    bytes: entry.bytes,
                    size: entry.bytes,
                    blake3: hex,
                });
                continue;
            }
            let content = Content::Blob(entry.hash);
            self.pieces.push(Piece { path, kind: None, content, bytes: entry.bytes, key: Some(hex) });
        }
        Ok(())
    }
}

/// The files of a snapshot, with length and BLAKE3.
type SnapshotFiles = Vec<(String, PartKind, (u64, String))>;

/// Finds names that are free.
struct Names<'a> {
    repository: &'a Repository,
    known: &'a Known,
    name: &'a str,
}

impl Names<'_> {
    /// `base`, or, where that is taken by another content, with the backup's time in it.
    fn free(&self, base: &str, extension: &str) -> Result<String, BackupError> {
        let path = format!("{base}{}", self.known.suffix());
        let mut taken = self.known.parts.contains_key(&path);
        if self.repository.is_append_only() && !taken {
            // What an unfinished run left cannot be replaced there.
            taken = self.repository.place().size(&path)?.is_some();
        }
        if !taken {
            return Ok(path);
        }
        let (stem, time) = (base.trim_end_matches(extension), self.name.get(..16).unwrap_or_default());
        Ok(format!("{stem}-{time}{extension}{}", self.known.suffix()))
    }

    /// The folder of a snapshot: the plain one if nothing else is named there, and nothing is that cannot be replaced.
    fn snapshot_folder(&self, index: u64, files: &SnapshotFiles) -> Result<String, BackupError> {
        let folder = format!("snapshots/{index:020}");
        let mut taken = files.iter().any(|(file, _, (size, blake3))| {
            let path = format!("{folder}/{file}{}", self.known.suffix());
            self.known.parts.get(&path).is_some_and(|part| part.size != *size || part.blake3 != *blake3)
        });
        if self.repository.is_append_only() && self.known.tag.is_some() {
            taken |= !self.repository.place().list(&folder)?.is_empty();
        }
        Ok(if taken { format!("{folder}-{}", self.name.get(..16).unwrap_or_default()) } else { folder })
    }
}

/// The range cut where segments end, with the bytes of each, about: so that no part is much larger than a segment.
fn ranges(log: &LogReader, first: u64, last: u64) -> Vec<(u64, u64, u64)> {
    let mut found: Vec<(u64, u64, u64)> = Vec::new();
    for segment in log.segments() {
        let (from, to) = (segment.first.max(first), segment.last.min(last));
        if from <= to {
            let share = (to - from + 1) as f64 / (segment.last - segment.first + 1) as f64;
            found.push((from, to, (segment.bytes as f64 * share) as u64));
        }
    }
    found
}

/// A snapshot of the state as it is, on this machine. Checkpoints wait only while it is written.
pub(super) fn take_snapshot(source: &Source, meter: &Meter<'_>) -> Result<PathBuf, BackupError> {
    meter.begin(Phase::Snapshot, 0, 0);
    let applied = source.projection.applied();
    if let Some(newest) = snapshot::list_snapshots(&source.snapshots)?.pop() {
        let chain = HEXLOWER.encode(&source.log.position_at(applied.index)?.chain);
        let same = |manifest: snapshot::Manifest| manifest.index == applied.index && manifest.chain == chain;
        let current = snapshot::read_manifest(&newest).is_ok_and(same);
        if current && snapshot::verify_snapshot(&newest).is_ok() {
            return Ok(newest);
        }
    }
    source.projection.checkpoint()?;
    let hold = source.projection.hold_checkpoints();
    let chain = source.log.position_at(hold.stored().index)?.chain;
    let info = SnapshotInfo { site: source.facts.site, chain };
    let dir = snapshot::write_snapshot(&hold, &source.snapshots, info, |progress| meter.set_bytes(progress.bytes))
        .map_err(|error: ProjectionError| BackupError::from(error))?;
    meter.check()?;
    Ok(dir)
}
