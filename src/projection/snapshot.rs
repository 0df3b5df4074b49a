//! Snapshots: the full state at one index as plain files that do not depend on sled or on the layout of blocks. A snapshot
//! is complete or it is not there; whoever reads one trusts nothing that does not verify.
//!
//! `snapshots/<index, 20 digits>/` holds `manifest.json` and chunks `000001.zst`, ... A chunk is a zstd frame of rows in
//! the order of their keys: key length (u8), key, value length (u32, little-endian), value, both as
//! [`Key::encode`](crate::core::keys::Key::encode) and [`Value::encode`](crate::core::rows::Value::encode) write them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::checkpoint::CheckpointHold;
use super::error::ProjectionError;
use super::handle::Applied;
use super::meta::{META_KEY, Meta};
use super::open::{Identity, write_meta};
use super::scan;
use super::store::{Batch, Store};
use super::unit::{Packer, RawRow, UnitKey};
use crate::core::entry::Digest;
use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::StateHash;
use crate::limits;

/// The format of snapshots that this build writes, and the newest that it reads. 2 may hold kinds of rows that 1 has not.
pub const SNAPSHOT_FORMAT: u32 = 2;

const MANIFEST: &str = "manifest.json";
/// No manifest of ours comes near; it stops a damaged directory from taking memory.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// A chunk ends after the row that fills it, and a row is far smaller than this.
const CHUNK_BYTES_MAX: usize = limits::SNAPSHOT_CHUNK_BYTES + limits::STATE_UNIT_BYTES_MAX;

/// What only the caller knows about a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotInfo {
    /// The site that makes it.
    pub site: u16,
    /// The log's chain hash at [`CheckpointHold::stored`].
    pub chain: Digest,
}

/// One file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// The file's name within the snapshot.
    pub name: String,
    /// Its length, in bytes.
    pub size: u64,
    /// Its BLAKE3, in hex.
    pub blake3: String,
}

/// What a snapshot is. Digests are in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`SNAPSHOT_FORMAT`].
    pub format: u32,
    /// The cluster's id.
    pub cluster: String,
    /// The site that made it.
    pub site: u16,
    /// The last entry in it.
    pub index: u64,
    /// That entry's epoch.
    pub epoch: u64,
    /// The log's chain hash at that entry.
    pub chain: String,
    /// The hash of all rows.
    pub state_hash: String,
    /// Rows of each kind.
    pub counts: BTreeMap<String, u64>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// The files of rows, in order.
    pub chunks: Vec<Chunk>,
    /// The BLAKE3 of this document with an empty string here, as compact JSON.
    pub blake3: String,
}

impl Manifest {
    fn digest(&self) -> String {
        let bare = Self { blake3: String::new(), ..self.clone() };
        // A struct of strings and numbers always serialises; were it not so, the empty digest would not verify.
        let bytes = serde_json::to_vec(&bare).unwrap_or_default();
        blake3::hash(&bytes).to_hex().to_string()
    }
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows so far.
    pub rows: u64,
    /// Bytes of chunks so far.
    pub bytes: u64,
}

fn damaged(path: &Path, what: impl Into<String>) -> ProjectionError {
    ProjectionError::SnapshotDamaged { path: path.to_owned(), what: what.into() }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), ProjectionError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| ProjectionError::io("sync", dir, &e))
}

fn kind(key: &Key) -> &'static str {
    match key {
        Key::Settings => "settings",
        Key::User(_) => "users",
        Key::Username(_) => "usernames",
        Key::Session(_) => "sessions",
        Key::SessionToken(_) => "session_tokens",
        Key::UserSession(..) => "user_sessions",
        Key::Invite(_) => "invites",
        Key::InviteToken(_) => "invite_tokens",
        Key::Channel(_) => "channels",
        Key::ChannelName(_) => "channel_names",
        Key::DirectPair(..) => "direct_pairs",
        Key::ChannelHead(_) => "channel_heads",
        Key::Member(..) => "members",
        Key::Membership(..) => "memberships",
        Key::Message(..) => "messages",
        Key::Sent(..) => "sent",
        Key::Audit(_) => "audit",
        Key::Pair => "pair",
        Key::TailMark(_) => "tail_marks",
        Key::Conflict(_) => "conflicts",
        Key::OpenConflict(_) => "open_conflicts",
        Key::ChannelAlias(_) => "channel_aliases",
        Key::Backups => "backups",
    }
}

/// One at a time: a standby that joins and a backup may want one at once, and each clears what is unfinished.
static WRITING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// Writes the stored state as a snapshot into `snapshots`, syncs it, and deletes all but the newest
/// [`limits::SNAPSHOTS_KEPT`]. Entries go on being applied meanwhile. `progress` is called after each chunk.
///
/// # Errors
/// [`ProjectionError::Io`] when the disk refuses; [`ProjectionError::Store`] when the state cannot be read: the process
/// must stop.
pub fn write_snapshot(
    hold: &CheckpointHold,
    snapshots: &Path,
    info: SnapshotInfo,
    progress: impl FnMut(Progress),
) -> Result<PathBuf, ProjectionError> {
    let _writing = WRITING.lock();
    let index = hold.stored().index;
    let target = snapshots.join(format!("{index:020}"));
    let temporary = snapshots.join(format!("writing-{index:020}"));
    let io = |op, path: &Path| {
        let path = path.to_owned();
        move |e: std::io::Error| ProjectionError::io(op, &path, &e)
    };
    std::fs::create_dir_all(snapshots).map_err(io("create", snapshots))?;
    remove_unfinished(snapshots)?;
    if target.exists() {
        // With another chain it is of a history that was cut or restored over.
        if verify_snapshot(&target).is_ok_and(|manifest| manifest.chain == HEXLOWER.encode(&info.chain)) {
            return Ok(target); // the state has not changed since
        }
        std::fs::remove_dir_all(&target).map_err(io("remove", &target))?;
    }
    std::fs::create_dir(&temporary).map_err(io("create", &temporary))?;
    let store = &*hold.shared.store;
    let mut writer = ChunkWriter::new(&temporary, progress)?;
    scan::walk(store, |key, bytes| writer.row(key, bytes)).map_err(|e| match e {
        error @ ProjectionError::Store { .. } => hold.shared.fail(error),
        other => other,
    })?;
    let meta = stored_meta(store, &hold.shared.identity, &temporary)?;
    let manifest = writer.finish(&meta, info)?;
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|e| damaged(&temporary, e.to_string()))?;
    write_synced(&temporary.join(MANIFEST), &bytes)?;
    sync_dir(&temporary)?;
    std::fs::rename(&temporary, &target).map_err(io("rename", &temporary))?;
    sync_dir(snapshots)?;
    remove_old(snapshots)?;
    Ok(target)
}

/// The file that says which snapshot must stay although there are newer ones.
const BASE: &str = "base";

/// From now on the newest snapshot up to the record `settled` stays, however many newer ones are written: what comes after may
/// have to be taken back. Only one counts that the log goes on from, which begins with `log_first`.
///
/// # Errors
/// [`ProjectionError::Io`] when the disk refuses.
pub fn keep_base(snapshots: &Path, settled: u64, log_first: u64) -> Result<(), ProjectionError> {
    let path = snapshots.join(BASE);
    if base(snapshots) == Some((settled, log_first)) {
        return Ok(());
    }
    let write = || {
        crate::ops::durable_file::create_private_dir(snapshots)?;
        crate::ops::durable_file::write_private(&path, format!("{settled} {log_first}\n").as_bytes())
    };
    write().map_err(|e| ProjectionError::io("write", &path, &e))
}

fn base(snapshots: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(snapshots.join(BASE)).ok()?;
    let (settled, log_first) = text.trim().split_once(' ')?;
    Some((settled.parse().ok()?, log_first.parse().ok()?))
}

/// Deletes all but the newest [`limits::SNAPSHOTS_KEPT`] and the one that [`keep_base`] asks for; if none is old enough for it,
/// the oldest that the log goes on from.
fn remove_old(snapshots: &Path) -> Result<(), ProjectionError> {
    let all = list_snapshots(snapshots)?;
    let index = |dir: &Path| dir.file_name()?.to_str()?.parse::<u64>().ok();
    let kept = base(snapshots).and_then(|(settled, log_first)| {
        let usable = || all.iter().filter(|dir| index(dir).is_some_and(|index| index + 1 >= log_first));
        let old_enough = usable().rfind(|dir| index(dir).is_some_and(|index| index <= settled));
        old_enough.or_else(|| usable().next())
    });
    for old in all.iter().rev().skip(limits::SNAPSHOTS_KEPT).filter(|dir| Some(*dir) != kept) {
        std::fs::remove_dir_all(old).map_err(|e| ProjectionError::io("remove", old, &e))?;
    }
    Ok(())
}

fn stored_meta(store: &dyn Store, identity: &Identity, path: &Path) -> Result<Meta, ProjectionError> {
    let bytes = store.get(META_KEY)?.unwrap_or_default();
    Meta::from_bytes(&bytes, path, identity.cluster)
}

fn remove_unfinished(snapshots: &Path) -> Result<(), ProjectionError> {
    let list = std::fs::read_dir(snapshots).map_err(|e| ProjectionError::io("list", snapshots, &e))?;
    for item in list.flatten() {
        if item.file_name().to_string_lossy().starts_with("writing-") {
            std::fs::remove_dir_all(item.path()).map_err(|e| ProjectionError::io("remove", &item.path(), &e))?;
        }
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), ProjectionError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| ProjectionError::io("write", path, &e))
}

/// Collects rows into chunks.
struct ChunkWriter<'a, P> {
    dir: &'a Path,
    compressor: zstd::bulk::Compressor<'static>,
    rows: Vec<u8>,
    chunks: Vec<Chunk>,
    counts: BTreeMap<String, u64>,
    hash: StateHash,
    so_far: Progress,
    progress: P,
}

impl<'a, P: FnMut(Progress)> ChunkWriter<'a, P> {
    fn new(dir: &'a Path, progress: P) -> Result<Self, ProjectionError> {
        let compressor = zstd::bulk::Compressor::new(limits::SNAPSHOT_ZSTD_LEVEL)
            .map_err(|e| ProjectionError::io("compress for", dir, &e))?;
        Ok(Self {
            dir,
            compressor,
            rows: Vec::with_capacity(limits::SNAPSHOT_CHUNK_BYTES * 2),
            chunks: Vec::new(),
            counts: BTreeMap::new(),
            hash: StateHash::default(),
            so_far: Progress::default(),
            progress,
        })
    }

    fn row(&mut self, key: Key, bytes: &[u8]) -> Result<(), ProjectionError> {
        let encoded = key.encode();
        self.rows.push(encoded.len() as u8);
        self.rows.extend_from_slice(&encoded);
        self.rows.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.rows.extend_from_slice(bytes);
        self.hash.add(&key, bytes);
        self.so_far.rows += 1;
        match self.counts.get_mut(kind(&key)) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(kind(&key).to_owned(), 1)),
        }
        if self.rows.len() >= limits::SNAPSHOT_CHUNK_BYTES { self.chunk() } else { Ok(()) }
    }

    fn chunk(&mut self) -> Result<(), ProjectionError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let name = format!("{:06}.zst", self.chunks.len() + 1);
        let path = self.dir.join(&name);
        let frame = self.compressor.compress(&self.rows).map_err(|e| ProjectionError::io("compress", &path, &e))?;
        write_synced(&path, &frame)?;
        self.so_far.bytes += frame.len() as u64;
        let blake3 = blake3::hash(&frame).to_hex().to_string();
        self.chunks.push(Chunk { name, size: frame.len() as u64, blake3 });
        self.rows.clear();
        (self.progress)(self.so_far);
        Ok(())
    }

    fn finish(mut self, meta: &Meta, info: SnapshotInfo) -> Result<Manifest, ProjectionError> {
        self.chunk()?;
        let created_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let state_hash = HEXLOWER.encode(&self.hash.to_bytes());
        if meta.state_hash != self.hash.to_bytes() {
            // The rows are not what the running hash says: a damaged state must not become a snapshot.
            let cause = "the hash of the stored rows is not the recorded one".to_owned();
            return Err(ProjectionError::Store { op: "take a snapshot", cause });
        }
        let mut manifest = Manifest {
            format: SNAPSHOT_FORMAT,
            cluster: HEXLOWER.encode(&meta.cluster),
            site: info.site,
            index: meta.applied_index,
            epoch: meta.epoch,
            chain: HEXLOWER.encode(&info.chain),
            state_hash,
            counts: self.counts,
            created_ms,
            chunks: self.chunks,
            blake3: String::new(),
        };
        manifest.blake3 = manifest.digest();
        Ok(manifest)
    }
}

/// The finished snapshots' directories, the oldest first. None when the directory does not exist.
///
/// # Errors
/// [`ProjectionError::Io`] when the directory cannot be read.
pub fn list_snapshots(snapshots: &Path) -> Result<Vec<PathBuf>, ProjectionError> {
    let io = |e: std::io::Error| ProjectionError::io("list", snapshots, &e);
    let list = match std::fs::read_dir(snapshots) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.map_err(io)?,
    };
    let mut found = Vec::new();
    for item in list {
        let item = item.map_err(io)?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            found.push(item.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a snapshot's manifest and checks it.
///
/// # Errors
/// [`ProjectionError::SnapshotDamaged`] naming the manifest, [`ProjectionError::FormatTooNew`].
pub fn read_manifest(dir: &Path) -> Result<Manifest, ProjectionError> {
    let path = dir.join(MANIFEST);
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(|e| damaged(&path, e.to_string()))?;
    file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| damaged(&path, e.to_string()))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
    if format > SNAPSHOT_FORMAT {
        return Err(ProjectionError::FormatTooNew { path, found: format, known: SNAPSHOT_FORMAT });
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|e| damaged(&path, e.to_string()))?;
    if manifest.blake3 != manifest.digest() {
        return Err(damaged(&path, "its own hash does not match"));
    }
    Ok(manifest)
}

/// Reads everything: every chunk against its hash, every row, the order, the counts, the state hash.
///
/// # Errors
/// [`ProjectionError::SnapshotDamaged`] naming the part, [`ProjectionError::FormatTooNew`].
pub fn verify_snapshot(dir: &Path) -> Result<Manifest, ProjectionError> {
    let manifest = read_manifest(dir)?;
    visit(dir, &manifest, |_, _| Ok(()))?;
    Ok(manifest)
}

/// Visits every row of a snapshot, verifying on the way; what only shows at the end is an error at the end.
fn visit(
    dir: &Path,
    manifest: &Manifest,
    mut row: impl FnMut(Key, &[u8]) -> Result<(), ProjectionError>,
) -> Result<(), ProjectionError> {
    let mut hash = StateHash::default();
    let mut counts = BTreeMap::<String, u64>::new();
    let mut last = None;
    for chunk in &manifest.chunks {
        let path = dir.join(&chunk.name);
        let content = read_chunk(&path, chunk)?;
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            let (key, bytes, after) = split_row(rest).ok_or_else(|| damaged(&path, "a row does not parse"))?;
            if last.is_some_and(|last| last >= key) {
                return Err(damaged(&path, "rows out of order"));
            }
            Value::decode(&key, bytes).map_err(|e| damaged(&path, format!("{key:?}: {e}")))?;
            hash.add(&key, bytes);
            match counts.get_mut(kind(&key)) {
                Some(count) => *count += 1,
                None => drop(counts.insert(kind(&key).to_owned(), 1)),
            }
            row(key, bytes)?;
            last = Some(key);
            rest = after;
        }
    }
    let path = dir.join(MANIFEST);
    if HEXLOWER.encode(&hash.to_bytes()) != manifest.state_hash {
        return Err(damaged(&path, "the rows have another hash than it says"));
    }
    if counts != manifest.counts {
        return Err(damaged(&path, "there are other numbers of rows than it says"));
    }
    Ok(())
}

fn read_chunk(path: &Path, chunk: &Chunk) -> Result<Vec<u8>, ProjectionError> {
    if !chunk.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return Err(damaged(path, "a name that no chunk has"));
    }
    let mut frame = Vec::new();
    let file = File::open(path).map_err(|e| damaged(path, e.to_string()))?;
    file.take(chunk.size + 1).read_to_end(&mut frame).map_err(|e| damaged(path, e.to_string()))?;
    if frame.len() as u64 != chunk.size {
        return Err(damaged(path, format!("it should be {} bytes long", chunk.size)));
    }
    if blake3::hash(&frame).to_hex().as_str() != chunk.blake3 {
        return Err(damaged(path, "its hash is not the one in the manifest"));
    }
    let mut content = Vec::new();
    let decoder =
        zstd::stream::read::Decoder::with_buffer(frame.as_slice()).map_err(|e| damaged(path, e.to_string()))?;
    let mut bounded = decoder.take(CHUNK_BYTES_MAX as u64);
    bounded.read_to_end(&mut content).map_err(|e| damaged(path, e.to_string()))?;
    Ok(content)
}

fn split_row(bytes: &[u8]) -> Option<(Key, &[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (key, rest) = rest.split_at_checked(usize::from(*len))?;
    let (len, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((Key::decode(key)?, value, rest))
}

/// Loads a snapshot into an empty store. The meta row comes last: what an error or a kill leaves behind has none, and is
/// refused by every later open.
pub(crate) fn load(store: &dyn Store, dir: &Path, identity: &Identity) -> Result<(), ProjectionError> {
    let manifest = read_manifest(dir)?;
    if manifest.cluster != HEXLOWER.encode(&identity.cluster) {
        return Err(ProjectionError::WrongCluster { path: dir.join(MANIFEST), found: manifest.cluster });
    }
    let mut loader = Loader { store, packer: Packer::new()?, batch: Batch::new(), bytes: 0, unit: None };
    visit(dir, &manifest, |key, bytes| loader.row(key, bytes))?;
    loader.finish()?;
    store.sync()?;
    let hash: Option<Digest> =
        HEXLOWER.decode(manifest.state_hash.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let hash = hash.ok_or_else(|| damaged(&dir.join(MANIFEST), "its state hash is not 32 bytes"))?;
    let applied = Applied { index: manifest.index, epoch: manifest.epoch };
    write_meta(store, &identity.meta(applied, StateHash::from_bytes(hash)))
}

/// Collects rows into units, and units into batches.
struct Loader<'a> {
    store: &'a dyn Store,
    packer: Packer,
    batch: Batch,
    bytes: usize,
    unit: Option<(UnitKey, Vec<RawRow>)>,
}

impl Loader<'_> {
    fn row(&mut self, key: Key, bytes: &[u8]) -> Result<(), ProjectionError> {
        let (unit, row) = (UnitKey::of(&key), (UnitKey::slot(&key), bytes.to_vec()));
        self.bytes += bytes.len();
        match &mut self.unit {
            Some((same, rows)) if *same == unit => {
                rows.push(row);
                return Ok(());
            }
            current => {
                if let Some((unit, rows)) = current.replace((unit, vec![row])) {
                    self.packer.put(&mut self.batch, (unit, 0), &rows)?;
                }
            }
        }
        if self.bytes < limits::SNAPSHOT_LOAD_BATCH_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        self.store.apply(std::mem::take(&mut self.batch))
    }

    fn finish(mut self) -> Result<(), ProjectionError> {
        if let Some((unit, rows)) = self.unit.take() {
            self.packer.put(&mut self.batch, (unit, 0), &rows)?;
        }
        self.store.apply(self.batch)
    }
}
