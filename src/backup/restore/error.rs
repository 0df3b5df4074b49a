//! Why a restore ended, for operators: what is wrong with which part, and that nothing was changed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::backup::manifest::ManifestError;
use crate::backup::target::TargetError;
use crate::core::ids::ChannelId;
use crate::oplog::LogError;
use crate::projection::ProjectionError;

/// Why a restore was refused or ended early. The destination is as it was.
#[derive(Debug)]
pub enum RestoreError {
    /// The place of the backups does not answer, or not as it should.
    Target(TargetError),
    /// A manifest is not to be believed.
    Manifest {
        /// Its name.
        name: String,
        /// Why.
        cause: ManifestError,
    },
    /// There is no backup in the repository.
    NoBackups,
    /// There is none of that name.
    UnknownBackup(String),
    /// What is asked for is older than the oldest backup that is kept.
    BeforeFirst(String),
    /// What is asked for is newer than the newest backup.
    BeyondLast {
        /// The index asked for.
        wanted: u64,
        /// The last index in the repository.
        last: u64,
    },
    /// A manifest that the chain needs is not there.
    ManifestMissing(String),
    /// A manifest is another one than the next in the chain rests on.
    ManifestExchanged {
        /// The manifest before.
        name: String,
        /// The one that rests on it.
        by: String,
    },
    /// Records are in no log part.
    Gap {
        /// The first record that is missing.
        from: u64,
        /// The record before which the log goes on; the last one wanted plus one when it does not.
        to: u64,
    },
    /// A part is not in the repository.
    PartMissing(String),
    /// A part has another length than its manifest says.
    PartLength {
        /// Which.
        path: String,
        /// What the manifest says, in bytes.
        wanted: u64,
        /// What is there, in bytes.
        found: u64,
    },
    /// A part has other content than its manifest says, or does not hold what it should.
    PartDamaged {
        /// Which.
        path: String,
        /// What was found.
        what: String,
    },
    /// The backup is encrypted, and no key was given.
    KeyMissing,
    /// The backup is encrypted for other keys.
    KeyWrong,
    /// The destination holds something.
    NotEmpty {
        /// The destination.
        path: PathBuf,
        /// One thing in it.
        example: String,
    },
    /// The destination cannot be replaced in one step.
    MountPoint(PathBuf),
    /// Something that is not ours is where the restore would be built.
    StagingForeign(PathBuf),
    /// Another restore, or a server, works there.
    Busy(String),
    /// The disk has no room.
    NoRoom {
        /// Where.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// The state that came out is not the one that was recorded.
    StateDiffers {
        /// At which record.
        index: u64,
    },
    /// The log that came out does not end as the manifest says.
    ChainDiffers {
        /// At which record.
        index: u64,
    },
    /// The restored log cannot be read.
    Log(LogError),
    /// The restored state cannot be opened.
    State(ProjectionError),
    /// The restored directory does not start.
    Start(String),
    /// The running system has no such channel (any more).
    ChannelGone(ChannelId),
    /// The backup is of another history than the running system's.
    OtherHistory,
    /// The running system cannot tell whether the backup is of its history.
    HistoryUnknown,
    /// The running system refused a command.
    Refused {
        /// Its code.
        code: &'static str,
        /// Its words.
        text: String,
    },
    /// This machine's disk refused.
    Io {
        /// What was tried.
        op: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody ended it.
    Cancelled,
}

impl RestoreError {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Target(error) => error.code(),
            Self::Manifest { cause, .. } => cause.code(),
            Self::NoBackups => "no_backups",
            Self::UnknownBackup(_) => "backup_not_found",
            Self::BeforeFirst(_) => "before_first_backup",
            Self::BeyondLast { .. } => "beyond_last_backup",
            Self::ManifestMissing(_) => "manifest_missing",
            Self::ManifestExchanged { .. } => "manifest_exchanged",
            Self::Gap { .. } => "log_gap",
            Self::PartMissing(_) => "part_missing",
            Self::PartLength { .. } => "part_wrong_length",
            Self::PartDamaged { .. } => "part_damaged",
            Self::KeyMissing => "key_missing",
            Self::KeyWrong => "key_wrong",
            Self::NotEmpty { .. } => "destination_not_empty",
            Self::MountPoint(_) => "destination_mount_point",
            Self::StagingForeign(_) => "staging_not_ours",
            Self::Busy(_) => "destination_busy",
            Self::NoRoom { .. } => "no_room",
            Self::StateDiffers { .. } => "restored_state_differs",
            Self::ChainDiffers { .. } => "restored_log_differs",
            Self::Log(error) => error.code(),
            Self::State(error) => error.code(),
            Self::Start(_) => "restored_does_not_start",
            Self::ChannelGone(_) => "channel_not_found",
            Self::OtherHistory => "other_history",
            Self::HistoryUnknown => "history_unknown",
            Self::Refused { code, .. } => code,
            Self::Io { .. } => "restore_io",
            Self::Cancelled => "cancelled",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::KeyMissing => "give the private key with --key FILE",
            Self::KeyWrong => "use the private key that `holdfast backup keygen` made for this target",
            Self::NotEmpty { .. } => "choose another --data, or move what is there aside with --force",
            Self::MountPoint(_) => "give a directory below it, and start the server on that",
            Self::PartMissing(_) | Self::PartLength { .. } | Self::PartDamaged { .. } | Self::Gap { .. } => {
                "use another copy of the repository, or an earlier backup with --backup NAME"
            }
            Self::UnknownBackup(_) | Self::BeforeFirst(_) | Self::BeyondLast { .. } => {
                "`holdfast restore --from … --list` tells what there is"
            }
            Self::NoRoom { .. } => "make room, or restore to another disk",
            Self::HistoryUnknown => "say who must have signed the backup",
            _ => "",
        }
    }

    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }

    pub(crate) fn damaged(path: &str, what: impl fmt::Display) -> Self {
        Self::PartDamaged { path: path.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::Manifest { name, cause } => write!(f, "manifests/{name}.json: {cause}"),
            Self::NoBackups => f.write_str("there is no backup here"),
            Self::UnknownBackup(name) => write!(f, "there is no backup {name:?} here"),
            Self::BeforeFirst(what) => write!(f, "{what} is older than the oldest backup that is kept"),
            Self::BeyondLast { wanted, last } => {
                write!(f, "record {wanted} is not in a backup yet: the newest one ends with record {last}")
            }
            Self::ManifestMissing(name) => write!(f, "manifests/{name}.json is missing, and later backups rest on it"),
            Self::ManifestExchanged { name, by } => {
                write!(f, "manifests/{name}.json is not the manifest that {by} rests on: it was exchanged")
            }
            Self::Gap { from, to } => write!(f, "no backup has the log records from {from} to {}", to - 1),
            Self::PartMissing(path) => write!(f, "{path} is missing from the repository"),
            Self::PartLength { path, wanted, found } => {
                write!(f, "{path} has {found} bytes instead of {wanted}: it is damaged")
            }
            Self::PartDamaged { path, what } => write!(f, "{path} is damaged: {what}"),
            Self::KeyMissing => f.write_str("this backup is encrypted: its private key is needed"),
            Self::KeyWrong => f.write_str("this backup is encrypted for another key than the one given"),
            Self::NotEmpty { path, example } => {
                write!(f, "{} is not empty (it holds {example:?})", path.display())
            }
            Self::MountPoint(path) => write!(
                f,
                "{} is the root of a file system: the restored directory could not take its place in one step",
                path.display()
            ),
            Self::StagingForeign(path) => {
                write!(f, "{} is in the way, and no restore of ours made it", path.display())
            }
            Self::Busy(what) => f.write_str(what),
            Self::NoRoom { path, needed, free } => {
                write!(f, "{} has {free} bytes free, {needed} are needed", path.display())
            }
            Self::StateDiffers { index } => {
                write!(f, "the restored state at record {index} is not the one that was recorded there")
            }
            Self::ChainDiffers { index } => {
                write!(f, "the restored log at record {index} is not the one that the manifest names")
            }
            Self::Log(error) => error.fmt(f),
            Self::State(error) => error.fmt(f),
            Self::Start(reason) => f.write_str(reason),
            Self::ChannelGone(channel) => write!(f, "there is no channel {channel} any more"),
            Self::OtherHistory => f.write_str("the backup is of another system, or of another history of this one"),
            Self::HistoryUnknown => f.write_str(
                "the server has not kept its log back to that moment, so that the backup cannot be compared with it",
            ),
            Self::Refused { text, .. } => f.write_str(text),
            Self::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
            Self::Cancelled => f.write_str("the restore was cancelled"),
        }
    }
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Target(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<TargetError> for RestoreError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::NotFound(path) => Self::PartMissing(path),
            other => Self::Target(other),
        }
    }
}

impl From<LogError> for RestoreError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<ProjectionError> for RestoreError {
    fn from(error: ProjectionError) -> Self {
        Self::State(error)
    }
}
