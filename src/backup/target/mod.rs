//! Where a repository lies: a place that stores whole files under names. Its calls block; they are made from threads that may.
//!
//! Must never leave a file that is there in part under its own name, and never follow a name out of its place.

mod error;
mod settings;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{EntryMode, ErrorKind, Operator, blocking, options, services};

pub use error::TargetError;
pub use settings::{TargetSettings, open};

use super::manifest::is_safe_path;
use crate::limits::{BACKUP_COPY_BYTES, BACKUP_RETRIES_MAX, BACKUP_TARGET_TIMEOUT_SECONDS};

/// Where files grow until they have their name.
const UNFINISHED: &str = ".unfinished";

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its path in the repository.
    pub path: String,
    /// Its length, in bytes.
    pub size: u64,
    /// When it was stored, in Unix milliseconds; 0 when the target does not say.
    pub stored_ms: u64,
}

/// A place that holds a repository. Cheap to clone; its clones may be used by several threads at once.
#[derive(Clone, Debug)]
pub struct Target {
    operator: blocking::Operator,
    /// The folder, when it is one of this machine.
    directory: Option<std::path::PathBuf>,
}

impl Target {
    /// A folder of this machine: a disk, a mounted share, a USB stick. It has to be there. Called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError`] when it is not there or not a folder.
    pub fn directory(path: &Path) -> Result<Self, TargetError> {
        if !path.is_dir() {
            return Err(TargetError::NotThere(path.display().to_string()));
        }
        let root = path.to_str().ok_or_else(|| TargetError::NotThere(path.display().to_string()))?;
        let unfinished = path.join(UNFINISHED);
        let builder = services::Fs::default().root(root).atomic_write_dir(&unfinished.to_string_lossy());
        let operator = Operator::new(builder).map_err(|e| TargetError::from_opendal("open", "", &e))?;
        Self::from_operator(operator, Some(path.to_owned()))
    }

    fn from_operator(operator: Operator, directory: Option<std::path::PathBuf>) -> Result<Self, TargetError> {
        let patient = TimeoutLayer::new()
            .with_timeout(Duration::from_secs(BACKUP_TARGET_TIMEOUT_SECONDS))
            .with_io_timeout(Duration::from_secs(BACKUP_TARGET_TIMEOUT_SECONDS));
        let retrying = RetryLayer::new().with_max_times(BACKUP_RETRIES_MAX).with_jitter();
        let operator = blocking::Operator::new(operator.layer(patient).layer(retrying))
            .map_err(|e| TargetError::from_opendal("open", "", &e))?;
        Ok(Self { operator, directory })
    }

    /// Stores all of `source` under `path`, whole or not at all; gives the number of bytes. A file of that name is replaced.
    ///
    /// # Errors
    /// [`TargetError`]; nothing is left under `path` that was not there before.
    pub fn put(&self, path: &str, source: &mut dyn Read) -> Result<u64, TargetError> {
        let failed = |e: &opendal::Error| TargetError::from_opendal("write", path, e);
        let mut writer = self.operator.writer(checked(path)?).map_err(|e| failed(&e))?;
        let mut total = 0;
        loop {
            let mut piece = vec![0; BACKUP_COPY_BYTES];
            let mut filled = 0;
            while filled < piece.len() {
                match source.read(&mut piece[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(TargetError::Source(error)),
                }
            }
            if filled == 0 {
                break;
            }
            piece.truncate(filled);
            total += filled as u64;
            writer.write(Bytes::from(piece)).map_err(|e| failed(&e))?;
        }
        writer.close().map_err(|e| failed(&e))?;
        Ok(total)
    }

    /// Opens a file for reading from its beginning.
    ///
    /// # Errors
    /// [`TargetError::NotFound`]; [`TargetError`] when the target does not answer. Reading may fail later with an
    /// [`std::io::Error`].
    pub fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, TargetError> {
        let failed = |e: &opendal::Error| TargetError::from_opendal("read", path, e);
        self.operator.stat(checked(path)?).map_err(|e| failed(&e))?;
        let options = options::ReaderOptions { chunk: Some(BACKUP_COPY_BYTES), ..Default::default() };
        let reader = self.operator.reader_options(path, options).map_err(|e| failed(&e))?;
        Ok(Box::new(reader.into_std_read(..).map_err(|e| failed(&e))?))
    }

    /// The length of a file in bytes; `None` when there is none.
    ///
    /// # Errors
    /// [`TargetError`] when the target does not answer.
    pub fn size(&self, path: &str) -> Result<Option<u64>, TargetError> {
        match self.operator.stat(checked(path)?) {
            Ok(found) => Ok(Some(found.content_length())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TargetError::from_opendal("look up", path, &error)),
        }
    }

    /// All files under the folder `prefix` (without a slash at the end), at any depth, in the order of their paths.
    ///
    /// # Errors
    /// [`TargetError`] when the target does not answer. A folder that is not there is empty.
    pub fn list(&self, prefix: &str) -> Result<Vec<Stored>, TargetError> {
        let folder = format!("{}/", checked(prefix)?);
        let options = options::ListOptions { recursive: true, ..Default::default() };
        let entries = match self.operator.list_options(&folder, options) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(TargetError::from_opendal("list", prefix, &error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let metadata = entry.metadata();
            if metadata.mode() != EntryMode::FILE {
                continue;
            }
            let stored_ms = metadata.last_modified().map_or(0, |at| at.into_inner().as_millisecond());
            found.push(Stored {
                path: entry.path().to_owned(),
                size: metadata.content_length(),
                stored_ms: u64::try_from(stored_ms).unwrap_or(0),
            });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Removes a file. Fine when it is gone already.
    ///
    /// # Errors
    /// [`TargetError`] when the target refuses.
    pub fn remove(&self, path: &str) -> Result<(), TargetError> {
        self.operator.delete(checked(path)?).map_err(|e| TargetError::from_opendal("remove", path, &e))
    }

    /// Returns when everything stored or removed so far survives a power cut of this machine. What a remote target confirmed
    /// is the remote's promise.
    ///
    /// # Errors
    /// [`TargetError::Io`] when the disk refuses.
    pub fn settle(&self) -> Result<(), TargetError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let io = |source| TargetError::Io { op: "sync", path: directory.display().to_string(), source };
        let folder = std::fs::File::open(directory).map_err(io)?;
        // The files are synced one by one as they are written; their folders' entries only by this.
        rustix::fs::syncfs(&folder).map_err(|e| io(e.into()))
    }
}

fn checked(path: &str) -> Result<&str, TargetError> {
    if is_safe_path(path) { Ok(path) } else { Err(TargetError::BadPath(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::repository::Place as _;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_directory_stores_lists_and_gives_back() {
        let (runtime, place) = (runtime(), tempfile::tempdir().unwrap());
        let _entered = runtime.enter();
        let target = Target::directory(place.path()).unwrap();
        let content = vec![7_u8; 3 * BACKUP_COPY_BYTES + 5];
        assert_eq!(target.put("log/b.zst", &mut &content[..]).unwrap(), content.len() as u64);
        target.put("log/a.zst", &mut &b"small"[..]).unwrap();
        target.settle().unwrap();
        let listed: Vec<_> = target.list("log").unwrap().into_iter().map(|file| (file.path, file.size)).collect();
        assert_eq!(listed, [("log/a.zst".to_owned(), 5), ("log/b.zst".to_owned(), content.len() as u64)]);
        assert_eq!(target.read("log/b.zst", content.len()).unwrap(), content);
        assert_eq!(target.read("log/b.zst", 10).unwrap_err().code(), "target_file_too_large");
        target.remove("log/a.zst").unwrap();
        target.remove("log/a.zst").unwrap();
        assert_eq!(target.size("log/a.zst").unwrap(), None);
        assert_eq!(target.open("log/a.zst").err().unwrap().code(), "target_file_missing");
        assert_eq!(target.list("nothing").unwrap(), []);
    }

    #[test]
    fn a_source_that_breaks_leaves_nothing_under_the_name() {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("gone"))
            }
        }
        let (runtime, place) = (runtime(), tempfile::tempdir().unwrap());
        let _entered = runtime.enter();
        let target = Target::directory(place.path()).unwrap();
        let mut source = (&b"first"[..]).chain(Breaks);
        assert_eq!(target.put("log/a.zst", &mut source).unwrap_err().code(), "backup_source");
        assert_eq!(target.size("log/a.zst").unwrap(), None);
    }

    #[test]
    fn a_path_that_leads_out_is_refused_and_a_missing_folder_is_named() {
        let (runtime, place) = (runtime(), tempfile::tempdir().unwrap());
        let _entered = runtime.enter();
        let target = Target::directory(place.path()).unwrap();
        assert_eq!(target.put("../x", &mut &b""[..]).unwrap_err().code(), "target_bad_path");
        let missing = Target::directory(&place.path().join("usb")).unwrap_err();
        assert!(missing.to_string().contains("usb"), "{missing}");
    }
}
