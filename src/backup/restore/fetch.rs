//! Reading parts: every stored byte is hashed on its way, decrypted and unpacked as it comes. Must never hand a part on as
//! whole before its length and its BLAKE3 were compared.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::error::RestoreError;
use super::plan::Plan;
use crate::backup::blob_list::{ListedBlob, read_blob_list};
use crate::backup::crypt::{CryptError, Identity, decrypt};
use crate::backup::manifest::{Part, PartKind, encrypted_blob_path, recipients_tag};
use crate::backup::repository::Place;
use crate::blobs::BlobHash;
use crate::core::entry::Digest;
use crate::limits;

/// How far a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Stored bytes read so far.
    pub bytes_done: u64,
    /// Stored bytes to read in all.
    pub bytes_total: u64,
}

/// What a restore does, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RestoreStage)]
pub enum Stage {
    /// Reads manifests and compares the lengths of all parts.
    #[default]
    Checking,
    /// Reads the parts.
    Reading,
    /// Opens the state, applies the log, compares hashes.
    Opening,
    /// Gives the directory its place.
    Placing,
}

/// Whoever wants to know how far it is. Called from several threads.
pub type Tell<'a> = &'a (dyn Fn(Progress) + Sync);

/// Where a restore reads from, with what it needs for that. Shared by the threads that read.
pub(crate) struct Source<'a> {
    /// The repository.
    pub(crate) place: &'a dyn Place,
    /// What its parts may be encrypted for.
    pub keys: &'a [Identity],
    /// Ends the work.
    pub cancel: &'a CancellationToken,
    /// Is told how far it is.
    pub tell: Tell<'a>,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Source<'a> {
    /// Nothing read yet.
    #[must_use]
    pub(crate) fn new(
        place: &'a dyn Place,
        keys: &'a [Identity],
        (tell, cancel): (Tell<'a>, &'a CancellationToken),
    ) -> Self {
        Self { place, keys, cancel, tell, done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    /// Says how many bytes there are to read.
    pub(super) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// Stored bytes read so far.
    pub(crate) fn bytes_done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Tells what is being done now.
    ///
    /// # Errors
    /// [`RestoreError::Cancelled`].
    pub(super) fn enter(&self, stage: Stage) -> Result<(), RestoreError> {
        (self.tell)(Progress { stage, bytes_done: self.bytes_done(), bytes_total: self.total.load(Ordering::Relaxed) });
        self.go_on()
    }

    pub(super) fn go_on(&self) -> Result<(), RestoreError> {
        if self.cancel.is_cancelled() { Err(RestoreError::Cancelled) } else { Ok(()) }
    }

    fn read(&self, bytes: u64) {
        let bytes_done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let bytes_total = self.total.load(Ordering::Relaxed);
        (self.tell)(Progress { stage: Stage::Reading, bytes_done, bytes_total });
    }

    /// Reads a stored file into `out`: decrypted when its name ends with `.age`, unpacked when `unpack` is set. Returns the
    /// number of bytes written. After an error what is in `out` is worth nothing.
    ///
    /// # Errors
    /// [`RestoreError`], naming the part.
    pub(crate) fn fetch(
        &self,
        stored: &StoredFile<'_>,
        unpack: bool,
        out: &mut dyn Write,
    ) -> Result<u64, RestoreError> {
        self.read_with(stored, |plain| unpacked(plain, (stored.path, unpack), out))
    }

    /// Lets `read` have a stored file's content, decrypted. What it makes of it counts only when this returns without error.
    ///
    /// # Errors
    /// [`RestoreError`], naming the part; damage of the stored bytes before whatever `read` says.
    pub(crate) fn read_with<T>(
        &self,
        stored: &StoredFile<'_>,
        read: impl FnOnce(&mut dyn Read) -> Result<T, RestoreError>,
    ) -> Result<T, RestoreError> {
        self.go_on()?;
        let inner = self.place.open(stored.path)?;
        let mut counted = Counted { inner, source: self, hasher: blake3::Hasher::new(), bytes: 0 };
        let made = self.decrypted(&mut counted, stored.path, read);
        if matches!(made, Err(RestoreError::KeyMissing | RestoreError::Io { .. })) {
            return made; // says nothing of the part
        }
        // All of it is read in any case: damage is told as damage, not as what it does to a decoder.
        let drained = io::copy(&mut counted, &mut io::sink());
        self.go_on()?;
        let unreadable = |source| {
            let (op, path) = ("read", stored.path.to_owned());
            RestoreError::Target(crate::backup::target::TargetError::Io { op, path, source })
        };
        drained.map_err(unreadable)?;
        if counted.bytes != stored.size {
            let (path, wanted, found) = (stored.path.to_owned(), stored.size, counted.bytes);
            return Err(RestoreError::PartLength { path, wanted, found });
        }
        if counted.hasher.finalize().to_hex().as_str() != stored.blake3 {
            return Err(RestoreError::damaged(stored.path, "its content is not what was stored"));
        }
        made
    }

    fn decrypted<T>(
        &self,
        stored_bytes: &mut dyn Read,
        path: &str,
        read: impl FnOnce(&mut dyn Read) -> Result<T, RestoreError>,
    ) -> Result<T, RestoreError> {
        if !path.ends_with(".age") {
            return read(stored_bytes);
        }
        if self.keys.is_empty() {
            return Err(RestoreError::KeyMissing);
        }
        let refused = |error: CryptError| match error {
            CryptError::Wrong => RestoreError::KeyWrong,
            other => RestoreError::damaged(path, other),
        };
        let mut plain = decrypt(stored_bytes, self.keys).map_err(refused)?;
        read(&mut plain)
    }
}

fn unpacked(source: &mut dyn Read, (path, unpack): (&str, bool), out: &mut dyn Write) -> Result<u64, RestoreError> {
    let damaged = |error: io::Error| RestoreError::damaged(path, error);
    if !unpack {
        return copy(source, path, out);
    }
    let mut decoder = zstd::stream::read::Decoder::new(source).map_err(damaged)?;
    // One that a stranger signed must not make the reader take as much memory as it likes.
    decoder.window_log_max(limits::BACKUP_ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
    copy(&mut decoder, path, out)
}

/// Copies, and tells a source that does not decode from a disk that does not take it.
fn copy(source: &mut dyn Read, path: &str, out: &mut dyn Write) -> Result<u64, RestoreError> {
    let (mut piece, mut total) = (vec![0; limits::BACKUP_COPY_BYTES], 0);
    loop {
        let count = match source.read(&mut piece) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(RestoreError::damaged(path, error)),
        };
        out.write_all(&piece[..count]).map_err(RestoreError::io("write what came from", path.as_ref()))?;
        total += count as u64;
    }
}

/// A file as a manifest or a blob list describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredFile<'a> {
    /// Its path in the repository.
    pub path: &'a str,
    /// Its length, in bytes.
    pub size: u64,
    /// Its BLAKE3, in hex.
    pub blake3: &'a str,
}

impl<'a> From<&'a Part> for StoredFile<'a> {
    fn from(part: &'a Part) -> Self {
        Self { path: &part.path, size: part.size, blake3: &part.blake3 }
    }
}

/// Hashes and counts what passes.
struct Counted<'a, 'b> {
    inner: Box<dyn Read + Send>,
    source: &'b Source<'a>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.source.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        self.source.read(count as u64);
        Ok(count)
    }
}

/// A blob to restore, and how it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedBlob {
    /// Its name: the BLAKE3 of its content.
    pub(crate) hash: BlobHash,
    /// The length of its content, in bytes.
    pub(crate) bytes: u64,
    /// The stored length, in bytes.
    pub(crate) size: u64,
    /// The BLAKE3 of the stored bytes.
    pub(crate) stored: Digest,
    /// What stands for the keys it is encrypted for.
    tag: Option<Arc<str>>,
}

impl WantedBlob {
    /// Its path in the repository.
    #[must_use]
    pub(crate) fn path(&self) -> String {
        encrypted_blob_path(&self.hash, self.tag.as_deref())
    }
}

/// Every blob of the plan, each once, in the order of the names.
///
/// # Errors
/// [`RestoreError`], naming the list.
pub(super) fn blobs(source: &Source<'_>, plan: &Plan) -> Result<Vec<WantedBlob>, RestoreError> {
    let mut found = BTreeMap::new();
    for manifest in &plan.chain {
        let tag: Option<Arc<str>> = recipients_tag(&manifest.recipients).map(Into::into);
        for list in manifest.parts.iter().filter(|part| part.kind == PartKind::BlobList) {
            let mut wrong = None;
            source.read_with(&list.into(), |packed| {
                read_blob_list(packed, |ListedBlob { hash, line }| match line.blake3.parse::<BlobHash>() {
                    Ok(stored) => {
                        let (bytes, size, tag) = (line.bytes, line.size, tag.clone());
                        found.insert(hash, WantedBlob { hash, bytes, size, stored: stored.0, tag });
                    }
                    Err(error) => wrong = Some(error.to_string()),
                })
                .map_err(|what| RestoreError::damaged(&list.path, what))
            })?;
            if let Some(what) = wrong {
                return Err(RestoreError::damaged(&list.path, what));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Compares what the repository lists with what is needed: missing and shortened files are found before one byte is read.
/// Returns the stored bytes in all.
///
/// # Errors
/// [`RestoreError::PartMissing`], [`RestoreError::PartLength`], [`RestoreError::Target`].
pub(super) fn compare_lengths(source: &Source<'_>, plan: &Plan, blobs: &[WantedBlob]) -> Result<u64, RestoreError> {
    let wanted: Vec<(String, u64)> = plan
        .parts()
        .map(|part| (part.path.clone(), part.size))
        .chain(blobs.iter().map(|blob| (blob.path(), blob.size)))
        .collect();
    let folders: BTreeSet<&str> = wanted.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    let mut there = BTreeMap::new();
    for folder in folders {
        source.go_on()?;
        there.extend(source.place.list(folder)?.into_iter().map(|file| (file.path, file.size)));
    }
    for (path, size) in &wanted {
        match there.get(path) {
            None => return Err(RestoreError::PartMissing(path.clone())),
            Some(found) if found != size => {
                return Err(RestoreError::PartLength { path: path.clone(), wanted: *size, found: *found });
            }
            Some(_) => {}
        }
    }
    Ok(wanted.iter().map(|(_, size)| size).sum())
}
