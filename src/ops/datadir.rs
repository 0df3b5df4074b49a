//! The data directory and its identity, `node.toml`. Must never change a directory that another format version wrote.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::durable_file::{DIR_MODE, create_private_dir, mode_of, sync_dir, write_private};
use super::lockfile::{DataLock, LockError};

/// The format of the data directory that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// The version of the program, as `node.toml` records it.
pub const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The directories inside the data directory that exist from the first start. Others are made by their owners.
const DIRECTORIES: [&str; 6] = ["log", "blobs", "snapshots", "tls", "logs", "run"];

/// Who this node is: `node.toml`. Written once at first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The format of the data directory.
    pub format_version: u32,
    /// The cluster this node belongs to: 16 random bytes in hex, equal on both nodes of a pair.
    pub cluster_id: String,
    /// The site, 0 unless several sites are merged.
    pub site: u16,
    /// The number of this node in its cluster, part of every id it makes: 0 to 1023.
    pub node: u16,
    /// When the directory was made, RFC 3339, UTC.
    pub created: String,
    /// The program version that made or last upgraded the directory.
    pub written_by: String,
}

impl NodeIdentity {
    /// The cluster id as bytes.
    ///
    /// # Errors
    /// When `node.toml` was edited by hand and no longer holds 32 hex digits.
    pub fn cluster_id_bytes(&self) -> Result<[u8; 16], DataDirError> {
        HEXLOWER.decode(self.cluster_id.as_bytes()).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).ok_or_else(
            || DataDirError::Identity {
                path: PathBuf::from("node.toml"),
                reason: "cluster_id must be 32 lower-case hex digits".to_owned(),
            },
        )
    }
}

/// Why a data directory could not be used.
#[derive(Debug)]
pub enum DataDirError {
    /// Another version wrote it. Nothing was changed.
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The program version that wrote it.
        written_by: String,
    },
    /// `node.toml` is damaged.
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory holds files but no `node.toml`: it is not ours, or its identity was lost.
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// One file that is there.
        example: String,
    },
    /// The directory does not exist, and the command does not make one.
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Another process uses the directory.
    Lock(LockError),
    /// The system refused.
    Io {
        /// What was tried.
        op: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::Format { path, found, written_by } => write!(
                f,
                "{} has format version {found}, written by holdfast {written_by}; this is holdfast {PROGRAM_VERSION}, \
                 which reads version {FORMAT_VERSION}. Nothing was changed: run the version that wrote it, or a newer one",
                path.display()
            ),
            DataDirError::Identity { path, reason } => write!(
                f,
                "{} cannot be read: {reason}. It holds the identity of this node: restore it from a backup",
                path.display()
            ),
            DataDirError::NotOurs { path, example } => write!(
                f,
                "{} is not empty (it holds {example:?}) and has no node.toml: choose an empty directory with --data, \
                 or restore node.toml from a backup",
                path.display()
            ),
            DataDirError::Missing { path } => write!(
                f,
                "there is no data directory at {}: make one with `holdfast init --data {}`",
                path.display(),
                path.display()
            ),
            DataDirError::Lock(error) => write!(f, "{error}"),
            DataDirError::Io { op, path, source } => {
                write!(f, "cannot {op} {}: {source}; check that this user owns the data directory", path.display())
            }
        }
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DataDirError::Io { source, .. } => Some(source),
            DataDirError::Lock(error) => Some(error),
            _ => None,
        }
    }
}

/// An opened data directory: its root and who the node is.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: NodeIdentity,
    created_now: bool,
}

impl DataDir {
    /// Opens the directory at `root`, or makes it with a new identity when it is missing or empty.
    ///
    /// Call it under the lock, or let [`open_locked`](Self::open_locked) do both.
    pub fn open_or_create(root: &Path) -> Result<DataDir, DataDirError> {
        if root.join("node.toml").exists() {
            return DataDir::open(root);
        }
        refuse_foreign(root)?;
        create_private_dir(root).map_err(io_error("create the data directory", root))?;
        make_directories(root)?;
        let identity = new_identity().map_err(io_error("make the identity of", root))?;
        write_identity(root, &identity)?;
        Ok(DataDir { root: root.to_owned(), identity, created_now: true })
    }

    /// Opens an existing directory; makes nothing but missing sub-directories.
    pub fn open(root: &Path) -> Result<DataDir, DataDirError> {
        if !root.join("node.toml").exists() {
            refuse_foreign(root)?;
            return Err(DataDirError::Missing { path: root.to_owned() });
        }
        let identity = read_identity(root)?;
        make_directories(root)?;
        Ok(DataDir { root: root.to_owned(), identity, created_now: false })
    }

    /// Takes the lock of the directory at `root` and opens it, making it when it is missing: what `serve` and `init` do.
    ///
    /// A directory of somebody else or of another format is refused before anything is touched, also the lock.
    pub fn open_locked(root: &Path) -> Result<(DataDir, DataLock), DataDirError> {
        if root.join("node.toml").exists() {
            read_identity(root)?;
        } else {
            refuse_foreign(root)?;
        }
        let lock = DataLock::acquire(root).map_err(DataDirError::Lock)?;
        // Judged again under the lock: another process may have made it meanwhile.
        Ok((DataDir::open_or_create(root)?, lock))
    }

    /// Makes the identity and the directories of a data directory whose log and state are there already: what a restore
    /// builds, under the lock of `root`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn restored(root: &Path, cluster: &[u8; 16], node: u16) -> Result<DataDir, DataDirError> {
        let made = new_identity().map_err(io_error("make the identity of", root))?;
        let identity = NodeIdentity { cluster_id: HEXLOWER.encode(cluster), node, ..made };
        make_directories(root)?;
        write_identity(root, &identity)?;
        Ok(DataDir { root: root.to_owned(), identity, created_now: true })
    }

    /// Takes the place of this member in a cluster: what joining a pair does to a directory that was not used otherwise.
    pub fn adopt(&self, cluster: &[u8; 16], node: u16) -> Result<(), DataDirError> {
        let identity = NodeIdentity { cluster_id: HEXLOWER.encode(cluster), node, ..self.identity.clone() };
        write_identity(&self.root, &identity)
    }

    /// Whether nothing was ever logged here: no server has run on the directory to the end of its start.
    pub fn is_unused(&self) -> Result<bool, DataDirError> {
        let log = self.path("log");
        let mut entries = fs::read_dir(&log).map_err(io_error("read", &log))?;
        Ok(entries.next().is_none())
    }

    /// The root of the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who the node is.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Whether this very call made the directory.
    pub fn created_now(&self) -> bool {
        self.created_now
    }

    /// A path inside the directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The socket on which commands reach the running node.
    pub fn admin_socket(&self) -> PathBuf {
        admin_socket(&self.root)
    }
}

/// The admin socket of the data directory at `root`.
pub fn admin_socket(root: &Path) -> PathBuf {
    root.join("run").join("admin.sock")
}

/// Reads and checks `node.toml` without touching anything.
pub fn read_identity(root: &Path) -> Result<NodeIdentity, DataDirError> {
    let path = root.join("node.toml");
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    // The version is judged before the rest: another format may have other fields.
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| DataDirError::Identity { path: path.clone(), reason: error.message().to_owned() })?;
    let found = table.get("format_version").and_then(toml::Value::as_integer).unwrap_or(0);
    if found != i64::from(FORMAT_VERSION) {
        let written_by = table.get("written_by").and_then(toml::Value::as_str).unwrap_or("unknown").to_owned();
        return Err(DataDirError::Format {
            path: root.to_owned(),
            found: u32::try_from(found).unwrap_or(0),
            written_by,
        });
    }
    let identity: NodeIdentity = table
        .try_into()
        .map_err(|error: toml::de::Error| DataDirError::Identity { path, reason: error.message().to_owned() })?;
    identity.cluster_id_bytes()?;
    Ok(identity)
}

fn write_identity(root: &Path, identity: &NodeIdentity) -> Result<(), DataDirError> {
    let path = root.join("node.toml");
    let body = toml::to_string(identity)
        .map_err(|error| DataDirError::Identity { path: path.clone(), reason: error.to_string() })?;
    let text = format!("# The identity of this node. Do not edit or copy it: ids and the pair depend on it.\n{body}");
    write_private(&path, text.as_bytes()).map_err(io_error("write", &path))
}

fn new_identity() -> io::Result<NodeIdentity> {
    let mut cluster = [0_u8; 16];
    getrandom::fill(&mut cluster).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(NodeIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: HEXLOWER.encode(&cluster),
        site: 0,
        node: 1,
        created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        written_by: PROGRAM_VERSION.to_owned(),
    })
}

/// A directory with files but without an identity is somebody else's, or ours after an accident: neither is ours to fill.
/// What an administrator puts there beforehand (the configuration) and what the lock makes are allowed.
fn refuse_foreign(root: &Path) -> Result<(), DataDirError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", root)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error("read", root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours_if_empty = DIRECTORIES.contains(&name.as_str()) && is_empty_dir(&entry.path(), &name);
        if !ours_if_empty && !matches!(name.as_str(), "holdfast.toml" | "node.toml.tmp" | "lost+found") {
            return Err(DataDirError::NotOurs { path: root.to_owned(), example: name });
        }
    }
    Ok(())
}

/// A first start that was killed leaves empty directories and the lock: not a reason to refuse the second.
fn is_empty_dir(path: &Path, name: &str) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| name == "run" && entry.file_name() == "lock"))
    })
}

fn make_directories(root: &Path) -> Result<(), DataDirError> {
    let mut made = false;
    for name in DIRECTORIES {
        let path = root.join(name);
        if !path.is_dir() {
            create_private_dir(&path).map_err(io_error("create", &path))?;
            made = true;
        }
    }
    if made { sync_dir(root).map_err(io_error("sync", root)) } else { Ok(()) }
}

/// Paths of the directory that others may read or write, with their modes: what `doctor` warns of.
pub fn loose_modes(root: &Path) -> io::Result<Vec<(PathBuf, u32)>> {
    let mut loose = Vec::new();
    let names = std::iter::once("").chain(DIRECTORIES).chain(["node.toml", "setup-link.txt", "pair", "quarantine"]);
    for name in names {
        let path = if name.is_empty() { root.to_owned() } else { root.join(name) };
        match mode_of(&path) {
            Ok(mode) if mode & !DIR_MODE & 0o777 != 0 => loose.push((path, mode)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(loose)
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { op, path, source }
}

#[cfg(test)]
mod tests {
    use super::super::durable_file::FILE_MODE;
    use super::*;

    #[test]
    fn a_new_directory_has_an_identity_and_private_modes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let made = DataDir::open_or_create(&root).unwrap();
        assert!(made.created_now());
        assert_eq!(mode_of(&root).unwrap(), DIR_MODE);
        assert_eq!(mode_of(&root.join("node.toml")).unwrap(), FILE_MODE);
        assert!(loose_modes(&root).unwrap().is_empty());
        assert_ne!(made.identity().cluster_id_bytes().unwrap(), [0; 16]);

        let again = DataDir::open_or_create(&root).unwrap();
        assert!(!again.created_now());
        assert_eq!(again.identity(), made.identity(), "the identity is made once");
    }

    #[test]
    fn another_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let text = "format_version = 9\nwritten_by = \"4.2.0\"\nsomething_new = true\n";
        fs::write(dir.path().join("node.toml"), text).unwrap();
        let error = DataDir::open_or_create(dir.path()).unwrap_err();
        assert!(matches!(&error, DataDirError::Format { found: 9, written_by, .. } if written_by == "4.2.0"));
        assert!(error.to_string().contains("4.2.0"));
        assert_eq!(fs::read_to_string(dir.path().join("node.toml")).unwrap(), text);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
    }

    #[test]
    fn locking_touches_nothing_that_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node.toml"), "format_version = 9\n").unwrap();
        assert!(matches!(DataDir::open_locked(dir.path()), Err(DataDirError::Format { .. })));
        fs::rename(dir.path().join("node.toml"), dir.path().join("thesis.txt")).unwrap();
        assert!(matches!(DataDir::open_locked(dir.path()), Err(DataDirError::NotOurs { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let root = dir.path().join("data");
        let (data, lock) = DataDir::open_locked(&root).unwrap();
        assert!(data.created_now());
        assert!(matches!(DataDir::open_locked(&root), Err(DataDirError::Lock(_))));
        drop(lock);
        assert!(!DataDir::open_locked(&root).unwrap().0.created_now());
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "x").unwrap();
        let error = DataDir::open_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_first_start_that_was_killed_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = super::super::lockfile::DataLock::acquire(dir.path()).unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("node.toml.tmp"), "format_ver").unwrap();
        assert!(DataDir::open_or_create(dir.path()).unwrap().created_now());
    }

    #[test]
    fn a_log_without_an_identity_is_not_given_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("log/1.seg"), "truth").unwrap();
        assert!(matches!(DataDir::open_or_create(dir.path()), Err(DataDirError::NotOurs { .. })));
    }

    #[test]
    fn a_missing_directory_is_not_made_by_open() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("none");
        assert!(matches!(DataDir::open(&root), Err(DataDirError::Missing { .. })));
        assert!(!root.exists());
    }

    #[test]
    fn a_damaged_identity_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["format_version = ", "format_version = 1\ncluster_id = \"zz\"\n"] {
            fs::write(dir.path().join("node.toml"), text).unwrap();
            let error = DataDir::open(dir.path()).unwrap_err();
            assert!(matches!(error, DataDirError::Identity { .. }), "{error}");
        }
    }

    #[test]
    fn loose_modes_are_found() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        DataDir::open_or_create(&root).unwrap();
        fs::set_permissions(root.join("tls"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(loose_modes(&root).unwrap(), vec![(root.join("tls"), 0o755)]);
    }
}
