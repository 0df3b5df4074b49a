//! What can go wrong with a target, for operators: what was tried, on which file, what the other side said.

use std::fmt;
use std::io;

use opendal::ErrorKind;

/// Why a target did not do what was asked.
#[derive(Debug)]
pub enum TargetError {
    /// The folder or the bucket is not there.
    NotThere(String),
    /// This build knows no targets of this kind.
    NotBuilt(&'static str),
    /// There is no such file.
    NotFound(String),
    /// The name is none that we would build.
    BadPath(String),
    /// The file is larger than anything we store under that name.
    TooLarge {
        /// Which.
        path: String,
        /// The most bytes allowed.
        bytes_max: usize,
    },
    /// The target may not be read or written with these rights or keys.
    Denied {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
        /// What the target said.
        cause: String,
    },
    /// The target has no room.
    Full {
        /// The file that did not fit.
        path: String,
    },
    /// The target does not answer, or not as it should. Tried again already.
    Unreachable {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
        /// What came back.
        cause: String,
    },
    /// Reading what was to be stored failed.
    Source(io::Error),
    /// This machine's disk refused.
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl TargetError {
    pub(super) fn from_opendal(op: &'static str, path: &str, error: &opendal::Error) -> Self {
        let path = path.to_owned();
        let cause = error.to_string();
        let system = system_error(error);
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound(path),
            ErrorKind::PermissionDenied => Self::Denied { op, path, cause },
            _ if system == Some(io::ErrorKind::StorageFull) || system == Some(io::ErrorKind::QuotaExceeded) => {
                Self::Full { path }
            }
            _ if system == Some(io::ErrorKind::ReadOnlyFilesystem) => Self::Denied { op, path, cause },
            _ => Self::Unreachable { op, path, cause },
        }
    }

    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotThere(_) => "target_not_there",
            Self::NotBuilt(_) => "target_kind_not_built",
            Self::NotFound(_) => "target_file_missing",
            Self::BadPath(_) => "target_bad_path",
            Self::TooLarge { .. } => "target_file_too_large",
            Self::Denied { .. } => "target_denied",
            Self::Full { .. } => "target_full",
            Self::Unreachable { .. } => "target_unreachable",
            Self::Source(_) => "backup_source",
            Self::Io { .. } => "target_io",
        }
    }
}

/// What the operating system said, somewhere below.
fn system_error(error: &opendal::Error) -> Option<io::ErrorKind> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(system) = inner.downcast_ref::<io::Error>() {
            return Some(system.kind());
        }
        cause = inner.source();
    }
    None
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere(place) => write!(f, "{place} is not there; is the disk mounted?"),
            Self::NotBuilt(kind) => {
                write!(f, "this version of holdfast cannot store backups on targets of the kind {kind} yet")
            }
            Self::NotFound(path) => write!(f, "{path} is not in the repository"),
            Self::BadPath(path) => write!(f, "{:?} is no path in a repository", path),
            Self::TooLarge { path, bytes_max } => write!(f, "{path} has more than {bytes_max} bytes"),
            Self::Denied { op, path, cause } => write!(f, "the target does not allow to {op} {path}: {cause}"),
            Self::Full { path } => write!(f, "the target has no room for {path}"),
            Self::Unreachable { op, path, cause } => write!(f, "cannot {op} {path}: {cause}"),
            Self::Source(cause) => write!(f, "cannot read what was to be stored: {cause}"),
            Self::Io { op, path, source } => write!(f, "cannot {op} {path}: {source}"),
        }
    }
}

impl std::error::Error for TargetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(source) | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
