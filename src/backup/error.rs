//! Why a backup, a check or a clean-up of a repository ended early, for operators: the place and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::crypt::CryptError;
use super::manifest::ManifestError;
use super::repository::ChainError;
use super::target::TargetError;
use crate::blobs::BlobError;
use crate::oplog::LogError;
use crate::projection::ProjectionError;

/// What went wrong.
#[derive(Debug)]
pub enum BackupError {
    /// The target.
    Target(TargetError),
    /// A manifest is not to be believed.
    Manifest {
        /// Its name.
        name: String,
        /// Why.
        error: ManifestError,
    },
    /// A backup does not lead down to a full one.
    Chain(ChainError),
    /// This node's log.
    Log(LogError),
    /// This node's state or its snapshot.
    State(ProjectionError),
    /// This node's files.
    Blob(BlobError),
    /// Encryption.
    Crypt(CryptError),
    /// A stored part is not what its manifest says.
    Part {
        /// Its path in the repository.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Somebody else wrote a backup meanwhile.
    RepositoryChanged {
        /// The newest backup that is there now.
        newest: String,
    },
    /// It was told to stop.
    Cancelled,
    /// This machine's disk refused.
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BackupError {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Target(error) => error.code(),
            Self::Manifest { error, .. } => error.code(),
            Self::Chain(error) => error.code(),
            Self::Log(error) => error.code(),
            Self::State(_) => "backup_state",
            Self::Blob(error) => error.code(),
            Self::Crypt(error) => error.code(),
            Self::Part { .. } => "part_damaged",
            Self::RepositoryChanged { .. } => "repository_changed",
            Self::Cancelled => "backup_cancelled",
            Self::Io { .. } => "backup_io",
        }
    }

    pub(super) fn io(op: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::Manifest { name, error } => write!(f, "backup {name}: {error}"),
            Self::Chain(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::State(error) => error.fmt(f),
            Self::Blob(error) => error.fmt(f),
            Self::Crypt(error) => error.fmt(f),
            Self::Part { path, what } => write!(f, "{path}: {what}"),
            Self::RepositoryChanged { newest } => {
                write!(f, "somebody else stored backup {newest} meanwhile; the next run goes on from there")
            }
            Self::Cancelled => f.write_str("it was told to stop; the next run goes on with what is stored already"),
            Self::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Target(error) => Some(error),
            Self::Manifest { error, .. } => Some(error),
            Self::Chain(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::State(error) => Some(error),
            Self::Blob(error) => Some(error),
            Self::Crypt(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            Self::Part { .. } | Self::RepositoryChanged { .. } | Self::Cancelled => None,
        }
    }
}

macro_rules! from {
    ($($error:ident => $variant:ident),*) => {
        $(impl From<$error> for BackupError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from!(TargetError => Target, ChainError => Chain, LogError => Log, ProjectionError => State, BlobError => Blob, CryptError => Crypt);
