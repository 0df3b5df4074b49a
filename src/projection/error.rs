//! What can go wrong with the applied state, for the operator: operation, path, hint. It never decides what to do.

use std::path::{Path, PathBuf};

use crate::core::rows::RowError;
use crate::core::view::ViewError;

/// The applied state failed. [`ProjectionError::is_rebuildable`] says whether `Projection::rebuild` is the answer; after
/// any other error of a running projection the process must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectionError {
    /// The stored state cannot be trusted.
    Damaged {
        /// The state directory.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A newer build wrote it.
    FormatTooNew {
        /// The file or directory.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// It belongs to another cluster.
    WrongCluster {
        /// The file or directory.
        path: PathBuf,
        /// The cluster id found, in hex.
        found: String,
    },
    /// The file system refused.
    Io {
        /// What was attempted.
        op: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// The store failed while running.
    Store {
        /// What was attempted.
        op: &'static str,
        /// The store's words.
        cause: String,
    },
    /// A snapshot's part is missing or is not what its manifest says.
    SnapshotDamaged {
        /// The damaged file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A snapshot may only be loaded into an empty state.
    NotEmpty {
        /// The state directory.
        path: PathBuf,
    },
    /// The projection failed earlier and does nothing any more.
    Stopped {
        /// The first failure.
        cause: String,
    },
}

impl ProjectionError {
    /// A stable name of the kind of error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "state_damaged",
            Self::FormatTooNew { .. } => "state_format_too_new",
            Self::WrongCluster { .. } => "state_wrong_cluster",
            Self::Io { .. } => "state_io",
            Self::Store { .. } => "state_store",
            Self::SnapshotDamaged { .. } => "snapshot_damaged",
            Self::NotEmpty { .. } => "state_not_empty",
            Self::Stopped { .. } => "state_stopped",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } | Self::NotEmpty { .. } => {
                "nothing is lost: the state is rebuilt from the newest good snapshot and the log"
            }
            Self::FormatTooNew { .. } => "start the build that wrote it, or a newer one",
            Self::WrongCluster { .. } => "point the data directory at this cluster's own data",
            Self::Io { .. } => "check that the disk has room, is mounted writable and healthy, and who owns the files",
            Self::Store { .. } | Self::Stopped { .. } => {
                "check the disk, then start again: the log replays what is missing"
            }
            Self::SnapshotDamaged { .. } => "use another snapshot or a backup; a damaged snapshot may be deleted",
        }
    }

    /// Whether moving the state aside and rebuilding it from a snapshot and the log is the answer.
    #[must_use]
    pub const fn is_rebuildable(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NotEmpty { .. })
    }

    /// Whether this failure of a running store says that what it holds may be damaged. A full disk says nothing.
    pub(super) fn is_distrust(&self) -> bool {
        let full = std::io::Error::from(rustix::io::Errno::NOSPC).to_string();
        matches!(self, Self::Store { cause, .. } if !cause.contains(&full))
    }

    pub(super) fn io(op: &'static str, path: &Path, cause: &std::io::Error) -> Self {
        Self::Io { op, path: path.to_owned(), cause: cause.to_string() }
    }

    pub(super) fn row(what: impl std::fmt::Debug, cause: &RowError) -> Self {
        Self::Store { op: "decode", cause: format!("{what:?}: {cause}") }
    }

    /// The same failure, found while opening `path`: there it means damage.
    pub(super) fn into_damage(self, path: &Path) -> Self {
        match self {
            Self::Store { op, cause } => Self::Damaged { path: path.to_owned(), what: format!("{op}: {cause}") },
            other => other,
        }
    }
}

impl std::fmt::Display for ProjectionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged { path, what } => write!(f, "the state in {} is damaged: {what}", path.display()),
            Self::FormatTooNew { path, found, known } => {
                write!(f, "{} has format {found}; this build reads up to format {known}", path.display())
            }
            Self::WrongCluster { path, found } => write!(f, "{} belongs to another cluster, {found}", path.display()),
            Self::Io { op, path, cause } => write!(f, "cannot {op} {}: {cause}", path.display()),
            Self::Store { op, cause } => write!(f, "the state store failed to {op}: {cause}"),
            Self::SnapshotDamaged { path, what } => {
                write!(f, "the snapshot part {} is damaged: {what}", path.display())
            }
            Self::NotEmpty { path } => write!(f, "the state in {} is not empty", path.display()),
            Self::Stopped { cause } => write!(f, "the state stopped earlier: {cause}"),
        }
    }
}

impl std::error::Error for ProjectionError {}

impl From<ProjectionError> for ViewError {
    fn from(error: ProjectionError) -> Self {
        Self(error.to_string())
    }
}
