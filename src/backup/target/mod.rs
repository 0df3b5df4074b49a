//! Where a repository lies: a place that stores whole files under names. Its calls block; they are made from threads that may.
//!
//! Must never leave a file that is there in part under its own name, and never follow a name out of its place.

mod error;
mod fault;
mod filesystem;
mod http;
mod probe;
mod s3;
mod settings;
mod sftp;
mod source;
mod webdav;
mod xml;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{EntryMode, ErrorKind, Operator, blocking, options, services};
use tokio::runtime::{Handle, Runtime};

pub use error::TargetError;
pub use fault::Patience;
pub use http::check_ca_pem;
pub use probe::{Finding, Level, Report};
pub use s3::S3Settings;
pub use settings::{TargetSettings, open, open_with};
pub use sftp::SftpSettings;
pub use webdav::WebdavSettings;

use super::manifest::is_safe_path;
use crate::limits::{BACKUP_COPY_BYTES, BACKUP_PART_BYTES, BACKUP_PARTS_IN_FLIGHT, BACKUP_TARGET_THREADS};
use sftp::{Sftp, SftpRead};
use source::Pieces;
use webdav::Webdav;

/// Where files grow until they have their name.
const UNFINISHED: &str = ".unfinished";

/// A name under [`UNFINISHED`] that nobody else has.
fn unfinished_name() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The runtime on which targets are waited for. Not the one of the server: that ends while a thread may still wait for a target
/// that is silent, and tokio panics in such a thread.
fn own_runtime() -> Handle {
    static OWN: OnceLock<Option<Runtime>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(BACKUP_TARGET_THREADS).thread_name("targets").enable_all().build().ok()
    });
    own.as_ref().map_or_else(Handle::current, |own| own.handle().clone())
}

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
#[derive(Clone)]
pub struct Target {
    place: Place,
    runtime: Handle,
    /// Nothing is removed.
    append_only: bool,
}

#[derive(Clone)]
enum Place {
    Directory { operator: Operator, path: PathBuf },
    S3 { operator: Operator, shown: String },
    Webdav(Arc<Webdav>),
    Sftp(Arc<Sftp>),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Directory { path, .. } => write!(f, "Target({})", path.display()),
            Place::S3 { shown, .. } => write!(f, "Target({shown})"),
            Place::Webdav(webdav) => write!(f, "Target({webdav:?})"),
            Place::Sftp(sftp) => write!(f, "Target({sftp:?})"),
        }
    }
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
        let patience = Patience::default();
        let waiting = TimeoutLayer::new().with_timeout(patience.timeout).with_io_timeout(patience.timeout);
        let retrying = RetryLayer::new().with_max_times(patience.retries).with_jitter();
        let operator = operator.layer(waiting).layer(retrying);
        Ok(Self::at(Place::Directory { operator, path: path.to_owned() }))
    }

    /// A bucket of an S3-compatible store. Nothing is sent yet. Called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError::BadSettings`].
    pub fn s3(settings: &S3Settings) -> Result<Self, TargetError> {
        Ok(Self::at(Place::S3 { operator: s3::operator(settings)?, shown: format!("{settings:?}") }))
    }

    /// A folder on a WebDAV server. Nothing is sent yet. Called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError::BadSettings`].
    pub fn webdav(settings: &WebdavSettings) -> Result<Self, TargetError> {
        Ok(Self::at(Place::Webdav(Arc::new(Webdav::new(settings)?))))
    }

    /// A folder on an SSH server. Nothing is sent yet. Called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError::BadSettings`].
    pub fn sftp(settings: &SftpSettings) -> Result<Self, TargetError> {
        Ok(Self::at(Place::Sftp(Arc::new(Sftp::new(settings)?))))
    }

    fn at(place: Place) -> Self {
        Self { place, runtime: own_runtime(), append_only: false }
    }

    /// The same place, from which nothing is removed when `append_only`.
    #[must_use]
    pub fn append_only(mut self, append_only: bool) -> Self {
        self.append_only = append_only;
        self
    }

    /// opendal's view of the place, where it has one.
    fn operator(&self) -> Result<&Operator, &Arc<Sftp>> {
        match &self.place {
            Place::Directory { operator, .. } | Place::S3 { operator, .. } => Ok(operator),
            Place::Webdav(webdav) => Ok(&webdav.operator),
            Place::Sftp(sftp) => Err(sftp),
        }
    }

    /// Stores all of `source` under `path`, whole or not at all; gives the number of bytes. A file of that name is replaced.
    ///
    /// # Errors
    /// [`TargetError`]; nothing is left under `path` that was not there before.
    pub fn put(&self, path: &str, source: &mut dyn Read) -> Result<u64, TargetError> {
        let path = checked(path)?;
        match &self.place {
            Place::Directory { operator, .. } => {
                self.put_by_operator(operator, path, &mut Pieces::new(source, BACKUP_COPY_BYTES))
            }
            Place::S3 { operator, .. } => {
                self.put_by_operator(operator, path, &mut Pieces::new(source, BACKUP_PART_BYTES))
            }
            // What is sent as one piece is also sent again as one piece.
            Place::Webdav(webdav) => webdav.put(path, &mut Pieces::new(source, BACKUP_PART_BYTES)),
            Place::Sftp(sftp) => sftp.put(&self.runtime, path, &mut Pieces::new(source, BACKUP_COPY_BYTES)),
        }
    }

    fn put_by_operator(&self, operator: &Operator, path: &str, source: &mut Pieces<'_>) -> Result<u64, TargetError> {
        let failed = |e: &opendal::Error| TargetError::from_opendal("write", path, e);
        let options = match self.place {
            Place::S3 { .. } => options::WriteOptions {
                chunk: Some(BACKUP_PART_BYTES),
                concurrent: BACKUP_PARTS_IN_FLIGHT,
                ..Default::default()
            },
            _ => options::WriteOptions::default(),
        };
        // The first piece before anything else: a source that cannot be read leaves no trace.
        let mut piece = source.next()?;
        let mut writer = self.runtime.block_on(operator.writer_options(path, options)).map_err(|e| failed(&e))?;
        let mut total = 0;
        let outcome = loop {
            if piece.is_empty() {
                break Ok(());
            }
            total += piece.len() as u64;
            if let Err(error) = self.runtime.block_on(writer.write(piece)) {
                break Err(failed(&error));
            }
            match source.next() {
                Ok(next) => piece = next,
                Err(error) => break Err(error),
            }
        };
        let outcome = outcome.and_then(|()| self.runtime.block_on(writer.close()).map_err(|e| failed(&e)));
        if let Err(error) = outcome {
            // Parts of an upload that is not ended cost room until somebody looks for them.
            if let Err(error) = self.runtime.block_on(writer.abort()) {
                tracing::debug!(%error, path, "an upload that failed could not be taken back");
            }
            return Err(error);
        }
        Ok(total)
    }

    /// Opens a file for reading from its beginning.
    ///
    /// # Errors
    /// [`TargetError::NotFound`]; [`TargetError`] when the target does not answer. Reading may fail later with an
    /// [`std::io::Error`].
    pub fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, TargetError> {
        let path = checked(path)?;
        let operator = match self.operator() {
            Ok(operator) => operator,
            Err(sftp) => return Ok(Box::new(SftpRead::open(sftp, &self.runtime, path)?)),
        };
        let failed = |e: &opendal::Error| TargetError::from_opendal("read", path, e);
        let length = self.runtime.block_on(operator.stat(path)).map_err(|e| failed(&e))?.content_length();
        let _within = self.runtime.enter();
        let operator = blocking::Operator::new(operator.clone()).map_err(|e| failed(&e))?;
        let options = options::ReaderOptions { chunk: Some(BACKUP_COPY_BYTES), ..Default::default() };
        let reader = operator.reader_options(path, options).map_err(|e| failed(&e))?;
        Ok(Box::new(reader.into_std_read(..length).map_err(|e| failed(&e))?))
    }

    /// The length of a file in bytes; `None` when there is none.
    ///
    /// # Errors
    /// [`TargetError`] when the target does not answer.
    pub fn size(&self, path: &str) -> Result<Option<u64>, TargetError> {
        let path = checked(path)?;
        let operator = match self.operator() {
            Ok(operator) => operator,
            Err(sftp) => return sftp.size(&self.runtime, path),
        };
        match self.runtime.block_on(operator.stat(path)) {
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
        let prefix = checked(prefix)?;
        let mut found = match self.operator() {
            Ok(operator) => self.list_by_operator(operator, prefix)?,
            Err(sftp) => sftp.list(&self.runtime, prefix)?,
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn list_by_operator(&self, operator: &Operator, prefix: &str) -> Result<Vec<Stored>, TargetError> {
        // Stores list any depth by themselves. For the others opendal would go down folder by folder, and forget a folder in which
        // a call failed and was tried again: an incomplete list without an error. So that is done here.
        let recursive = matches!(self.place, Place::S3 { .. });
        let mut folders = vec![format!("{prefix}/")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            let options = options::ListOptions { recursive, ..Default::default() };
            let entries = match self.runtime.block_on(operator.list_options(&folder, options)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(TargetError::from_opendal("list", prefix, &error)),
            };
            for entry in entries {
                let metadata = entry.metadata();
                let is_below = entry.path().len() > folder.len() && entry.path().starts_with(&folder);
                match metadata.mode() {
                    EntryMode::FILE => found.push(stored(entry.path(), metadata)),
                    EntryMode::DIR if !recursive && is_below => folders.push(entry.path().to_owned()),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Removes a file. Fine when it is gone already.
    ///
    /// # Errors
    /// [`TargetError::AppendOnly`]; [`TargetError`] when the target refuses.
    pub fn remove(&self, path: &str) -> Result<(), TargetError> {
        let path = checked(path)?;
        if self.append_only {
            return Err(TargetError::AppendOnly(path.to_owned()));
        }
        self.remove_anyway(path)
    }

    fn remove_anyway(&self, path: &str) -> Result<(), TargetError> {
        match self.operator() {
            Ok(operator) => {
                let removed = self.runtime.block_on(operator.delete(path));
                removed.map_err(|e| TargetError::from_opendal("remove", path, &e))
            }
            Err(sftp) => sftp.remove(&self.runtime, path),
        }
    }

    /// Returns when everything stored or removed so far survives a power cut of this machine. What a remote target confirmed
    /// is the remote's promise.
    ///
    /// # Errors
    /// [`TargetError::Io`] when the disk refuses.
    pub fn settle(&self) -> Result<(), TargetError> {
        let Place::Directory { path, .. } = &self.place else { return Ok(()) };
        let io = |source| TargetError::Io { op: "sync", path: path.display().to_string(), source };
        let folder = std::fs::File::open(path).map_err(io)?;
        // The files are synced one by one as they are written; their folders' entries only by this.
        rustix::fs::syncfs(&folder).map_err(|e| io(e.into()))
    }
}

fn stored(path: &str, metadata: &opendal::Metadata) -> Stored {
    let stored_ms = metadata.last_modified().map_or(0, |at| at.into_inner().as_millisecond());
    let stored_ms = u64::try_from(stored_ms).unwrap_or(0);
    Stored { path: path.to_owned(), size: metadata.content_length(), stored_ms }
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
