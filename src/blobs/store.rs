//! The files of the blob store. See [`super`] for the rules it keeps.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::BlobHash;
use crate::limits::BLOB_CHUNK_BYTES;
use crate::ops::durable_file::{create_private_dir, create_private_file, remove_durably, sync_dir};

/// Where uploads grow until they have a name. Emptied at open.
const TEMPORARY_DIR: &str = "tmp";
/// Added to the name of a blob that does not match it.
const QUARANTINE_SUFFIX: &str = ".damaged";

/// Why a blob could not be stored or read.
#[derive(Debug)]
pub enum BlobError {
    /// There is no blob of that hash.
    NotFound(BlobHash),
    /// More bytes than allowed. Nothing is kept.
    TooLarge {
        /// The most bytes allowed.
        bytes_max: u64,
    },
    /// The file does not match its name. It was set aside and is not served.
    Damaged {
        /// The blob.
        hash: BlobHash,
        /// Where the damaged file is now.
        set_aside: PathBuf,
    },
    /// The source of the upload failed. Nothing is kept.
    Source(io::Error),
    /// The disk refused. For a write or fsync this is fatal to the request, never retried.
    Io {
        /// What was tried.
        op: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BlobError {
    /// The stable code that clients see.
    pub fn code(&self) -> &'static str {
        match self {
            BlobError::NotFound(_) => "blob_not_found",
            BlobError::TooLarge { .. } => "blob_too_large",
            BlobError::Damaged { .. } => "blob_damaged",
            BlobError::Source(_) => "upload_interrupted",
            BlobError::Io { .. } => "blob_storage_failed",
        }
    }
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::NotFound(hash) => write!(f, "there is no attachment {hash}"),
            BlobError::TooLarge { bytes_max } => write!(f, "an attachment may have at most {bytes_max} bytes"),
            BlobError::Damaged { hash, set_aside } => write!(
                f,
                "attachment {hash} is damaged on disk and is not served; the file is now {}: restore it from a backup",
                set_aside.display()
            ),
            BlobError::Source(source) => write!(f, "the upload was interrupted: {source}"),
            BlobError::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BlobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BlobError::Source(source) | BlobError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A blob that is durable now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether the same content was stored before.
    pub existed: bool,
}

/// One blob of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobEntry {
    /// Its name.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was stored last: unreferenced blobs go a day after that.
    pub stored_at: SystemTime,
}

/// The store. Cheap to clone. One process at a time: it empties its temporary directory at open.
#[derive(Clone, Debug)]
pub struct BlobStore {
    root: Arc<PathBuf>,
    next_temporary: Arc<AtomicU64>,
}

impl BlobStore {
    /// Opens the store in `root` (`<data>/blobs`), making it if needed, and removes what unfinished uploads left.
    pub fn open(root: &Path) -> Result<BlobStore, BlobError> {
        let temporary = root.join(TEMPORARY_DIR);
        create_private_dir(&temporary).map_err(io_error("create", &temporary))?;
        for entry in fs::read_dir(&temporary).map_err(io_error("read", &temporary))? {
            let path = entry.map_err(io_error("read", &temporary))?.path();
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        sync_dir(root).map_err(io_error("sync", root))?;
        Ok(BlobStore { root: Arc::new(root.to_owned()), next_temporary: Arc::new(AtomicU64::new(0)) })
    }

    /// Stores all of `source`, at most `bytes_max` bytes.
    pub fn put(&self, mut source: impl Read, bytes_max: u64) -> Result<StoredBlob, BlobError> {
        let mut writer = self.writer(bytes_max)?;
        let mut chunk = vec![0_u8; BLOB_CHUNK_BYTES];
        loop {
            match source.read(&mut chunk) {
                Ok(0) => return writer.finish(),
                Ok(count) => writer.write(&chunk[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BlobError::Source(error)),
            }
        }
    }

    /// Begins an upload that arrives in pieces. Dropping the writer removes what was written.
    pub fn writer(&self, bytes_max: u64) -> Result<BlobWriter, BlobError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(TEMPORARY_DIR).join(format!("{number}.part"));
        let file = create_private_file(&path).map_err(io_error("create", &path))?;
        Ok(BlobWriter { store: self.clone(), file, path, hasher: blake3::Hasher::new(), bytes: 0, bytes_max })
    }

    /// Opens a blob for reading, after its whole content was checked against its name.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] when it does not match: it is set aside first, so that it can be fetched again elsewhere.
    pub fn get(&self, hash: &BlobHash) -> Result<BlobReader, BlobError> {
        let path = self.path(hash);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::NotFound(*hash)),
            Err(source) => return Err(io_error("open", &path)(source)),
        };
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut io::BufReader::with_capacity(BLOB_CHUNK_BYTES, &file), &mut hasher)
            .map_err(io_error("read", &path))?;
        if *hasher.finalize().as_bytes() != hash.0 {
            return Err(self.set_aside(hash, &path));
        }
        file.rewind().map_err(io_error("read", &path))?;
        Ok(BlobReader { file, bytes })
    }

    /// Whether a blob of that hash is there; its content is checked by [`get`](Self::get) only.
    pub fn exists(&self, hash: &BlobHash) -> Result<bool, BlobError> {
        let path = self.path(hash);
        path.try_exists().map_err(io_error("look up", &path))
    }

    /// Size in bytes of the blob, `None` when it is not there.
    pub fn bytes(&self, hash: &BlobHash) -> Result<Option<u64>, BlobError> {
        let path = self.path(hash);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("look up", &path)(source)),
        }
    }

    /// Removes a blob, durably. Fine when it is gone already.
    pub fn remove(&self, hash: &BlobHash) -> Result<(), BlobError> {
        let path = self.path(hash);
        if !self.exists(hash)? {
            return Ok(());
        }
        remove_durably(&path).map_err(io_error("remove", &path))
    }

    /// Calls `visit` for every blob in the order of the hashes; damaged files that were set aside are not among them.
    pub fn list(&self, visit: &mut dyn FnMut(BlobEntry)) -> Result<(), BlobError> {
        for first in names(&self.root, 2)? {
            for second in names(&self.root.join(&first), 2)? {
                let dir = self.root.join(&first).join(&second);
                for name in names(&dir, 64)? {
                    let Ok(hash) = name.parse::<BlobHash>() else { continue };
                    let path = dir.join(&name);
                    let metadata = fs::metadata(&path).map_err(io_error("look up", &path))?;
                    let stored_at = metadata.modified().map_err(io_error("look up", &path))?;
                    visit(BlobEntry { hash, bytes: metadata.len(), stored_at });
                }
            }
        }
        Ok(())
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(&name[2..4]).join(name)
    }

    fn set_aside(&self, hash: &BlobHash, path: &Path) -> BlobError {
        let mut name = path.as_os_str().to_os_string();
        name.push(QUARANTINE_SUFFIX);
        let set_aside = PathBuf::from(name);
        let moved = fs::rename(path, &set_aside).and_then(|()| path.parent().map_or(Ok(()), sync_dir));
        tracing::error!(blob = %hash, file = %set_aside.display(), "attachment is damaged on disk and was set aside");
        match moved {
            Ok(()) => BlobError::Damaged { hash: *hash, set_aside },
            Err(source) => BlobError::Io { op: "set aside the damaged", path: path.to_owned(), source },
        }
    }

    /// Gives a finished, synced temporary file its name.
    fn adopt(&self, temporary: &Path, hash: &BlobHash) -> Result<bool, BlobError> {
        let path = self.path(hash);
        let (Some(dir), Some(first)) = (path.parent(), path.parent().and_then(Path::parent)) else {
            return Err(io_error("name", &path)(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        if !dir.is_dir() {
            create_private_dir(dir).map_err(io_error("create", dir))?;
        }
        let existed = self.exists(hash)?;
        // Renamed over an older copy too: the bytes are the same, and if the old file has rotted this heals it.
        fs::rename(temporary, &path).map_err(io_error("rename to", &path))?;
        // All three, always: another writer may have made the directories and not have synced them yet.
        for changed in [dir, first, self.root.as_path()] {
            sync_dir(changed).map_err(io_error("sync", changed))?;
        }
        Ok(existed)
    }
}

/// Sorted names in `dir` that have `length` characters; none when the directory is not there.
fn names(dir: &Path, length: usize) -> Result<Vec<String>, BlobError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error("read", dir)(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("read", dir))?.file_name().to_string_lossy().into_owned();
        if name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { op, path, source }
}

/// An upload under way.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
    bytes_max: u64,
}

impl BlobWriter {
    /// Adds a piece.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let bytes = self.bytes.saturating_add(piece.len() as u64);
        if bytes > self.bytes_max {
            return Err(BlobError::TooLarge { bytes_max: self.bytes_max });
        }
        self.file.write_all(piece).map_err(io_error("write", &self.path))?;
        self.hasher.update(piece);
        self.bytes = bytes;
        Ok(())
    }

    /// Makes the blob durable under its name.
    pub fn finish(self) -> Result<StoredBlob, BlobError> {
        self.file.sync_all().map_err(io_error("sync", &self.path))?;
        let hash = BlobHash(*self.hasher.finalize().as_bytes());
        let existed = self.store.adopt(&self.path, &hash)?;
        Ok(StoredBlob { hash, bytes: self.bytes, existed })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After `finish` the name is gone and this does nothing; else the next open would remove it anyway.
        let _ = fs::remove_file(&self.path);
    }
}

/// A verified blob, open at its beginning.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    bytes: u64,
}

impl BlobReader {
    /// Size in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.bytes
    }

    /// The open file, for a caller that streams it itself.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::durable_file::{FILE_MODE, mode_of};

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&dir.path().join("blobs")).unwrap();
        (dir, store)
    }

    fn content(store: &BlobStore, hash: &BlobHash) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.get(hash).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn temporary_files(store: &BlobStore) -> usize {
        fs::read_dir(store.root.join(TEMPORARY_DIR)).unwrap().count()
    }

    fn listed(store: &BlobStore) -> Vec<BlobHash> {
        let mut all = Vec::new();
        store.list(&mut |entry| all.push(entry.hash)).unwrap();
        all
    }

    #[test]
    fn what_is_put_is_got_under_its_hash() {
        let (_dir, store) = store();
        let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let stored = store.put(&body[..], 10_000_000).unwrap();
        assert_eq!(stored, StoredBlob { hash: BlobHash::of(&body), bytes: 1_200_000, existed: false });
        assert_eq!(content(&store, &stored.hash), body);
        assert_eq!(store.get(&stored.hash).unwrap().len_bytes(), 1_200_000);
        let name = stored.hash.to_string();
        let path = store.root.join(&name[..2]).join(&name[2..4]).join(&name);
        assert_eq!(mode_of(&path).unwrap(), FILE_MODE);
        assert!(store.put(&body[..], 10_000_000).unwrap().existed);
        assert_eq!(listed(&store), [stored.hash]);
        assert_eq!(temporary_files(&store), 0);
        let empty = store.put(&b""[..], 0).unwrap();
        assert_eq!(content(&store, &empty.hash), b"");
    }

    #[test]
    fn an_oversize_or_broken_upload_leaves_nothing() {
        let (_dir, store) = store();
        assert!(matches!(store.put(&[7_u8; 101][..], 100), Err(BlobError::TooLarge { bytes_max: 100 })));
        store.put(&[7_u8; 100][..], 100).unwrap();

        struct Cut(u8);
        impl Read for Cut {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(io::ErrorKind::Interrupted.into()),
                    2 => Ok(buffer.len().min(10)),
                    _ => Err(io::ErrorKind::ConnectionReset.into()),
                }
            }
        }
        assert_eq!(store.put(Cut(0), 1000).unwrap_err().code(), "upload_interrupted");
        assert_eq!(temporary_files(&store), 0);
        assert_eq!(listed(&store).len(), 1);
    }

    #[test]
    fn a_damaged_blob_is_set_aside_and_can_be_put_again() {
        let (_dir, store) = store();
        let hash = store.put(&b"the contract"[..], 100).unwrap().hash;
        let path = store.path(&hash);
        fs::write(&path, b"the c0ntract").unwrap();
        let error = store.get(&hash).unwrap_err();
        let BlobError::Damaged { set_aside, .. } = &error else { panic!("{error}") };
        assert_eq!(fs::read(set_aside).unwrap(), b"the c0ntract", "kept for whoever wants to look");
        assert!(matches!(store.get(&hash), Err(BlobError::NotFound(_))));
        assert!(!store.exists(&hash).unwrap());
        assert_eq!(listed(&store), []);
        assert!(!store.put(&b"the contract"[..], 100).unwrap().existed);
        assert_eq!(content(&store, &hash), b"the contract");
    }

    #[test]
    fn putting_over_a_rotten_copy_heals_it() {
        let (_dir, store) = store();
        let hash = store.put(&b"the contract"[..], 100).unwrap().hash;
        fs::write(store.path(&hash), b"short").unwrap();
        assert!(store.put(&b"the contract"[..], 100).unwrap().existed);
        assert_eq!(content(&store, &hash), b"the contract");
    }

    #[test]
    fn leftovers_of_a_kill_go_at_open() {
        let (dir, store) = store();
        let hash = store.put(&b"kept"[..], 100).unwrap().hash;
        let mut writer = store.writer(100).unwrap();
        writer.write(b"half").unwrap();
        // As a kill does it: the file stays and nobody's destructor runs.
        std::mem::forget(writer);
        assert_eq!(temporary_files(&store), 1);
        let store = BlobStore::open(&dir.path().join("blobs")).unwrap();
        assert_eq!(temporary_files(&store), 0);
        assert_eq!(content(&store, &hash), b"kept");
        store.put(&b"more"[..], 100).unwrap();
    }

    #[test]
    fn removal_and_listing_in_order() {
        let (_dir, store) = store();
        let mut hashes: Vec<BlobHash> =
            (0..20_u8).map(|number| store.put(&[number; 9][..], 100).unwrap().hash).collect();
        hashes.sort_unstable();
        assert_eq!(listed(&store), hashes);
        store.remove(&hashes[3]).unwrap();
        store.remove(&hashes[3]).unwrap();
        let gone = hashes.remove(3);
        assert_eq!(store.bytes(&gone).unwrap(), None);
        assert_eq!(store.bytes(&hashes[0]).unwrap(), Some(9));
        assert_eq!(listed(&store), hashes);
    }

    #[test]
    fn parallel_uploads_of_one_content_agree() {
        let (_dir, store) = store();
        let hashes: Vec<BlobHash> = std::thread::scope(|scope| {
            let uploads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| store.put(&[9_u8; 5000][..], 9000).unwrap().hash)).collect();
            uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]));
        assert_eq!(listed(&store), [hashes[0]]);
        assert_eq!(temporary_files(&store), 0);
    }
}
