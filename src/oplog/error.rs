//! What can go wrong with the log, for operators: the operation, the place, and what to do. Must never hide a place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where in the log something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPlace {
    /// The segment file.
    pub path: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// The log index that was expected there.
    pub index: u64,
}

impl fmt::Display for RepairPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}, index {}", self.path.display(), self.offset, self.index)
    }
}

/// A failure of the log. Fatal to the process, but for [`LogError::DiskFull`], [`LogError::NotInLog`],
/// [`LogError::BadShipment`] and [`LogError::BadArchive`].
#[derive(Debug)]
pub enum LogError {
    /// A system call failed. Never retried: after a failed fsync nobody knows what the disk holds.
    Io {
        /// What was being done.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no room for the next segment. Nothing was written; the same append may be tried again later.
    DiskFull {
        /// The segment that could not be reserved.
        path: PathBuf,
        /// How many bytes it needs.
        needed_bytes: u64,
    },
    /// Something on disk does not verify and is not merely a torn tail.
    Corrupt {
        /// Where.
        place: RepairPlace,
        /// What is wrong there.
        what: String,
    },
    /// A segment was written by a newer format. Nothing was changed.
    UnknownFormat {
        /// The segment.
        path: PathBuf,
        /// Its format version.
        format: u32,
        /// The program version that wrote it.
        writer: String,
    },
    /// The directory holds another cluster's log.
    WrongCluster {
        /// The segment.
        path: PathBuf,
        /// The cluster id found in it.
        found: [u8; 16],
    },
    /// Another process writes this log.
    Locked {
        /// The log directory.
        path: PathBuf,
    },
    /// A log was to be created where there is one.
    NotEmpty {
        /// The log directory.
        path: PathBuf,
    },
    /// The caller's entries do not continue the log: a defect of the program.
    Rejected {
        /// Index of the entry.
        index: u64,
        /// Which rule it breaks.
        what: &'static str,
    },
    /// What another node sent is not what this log goes on with. Nothing was written; the log can be used as before.
    BadShipment {
        /// The index that was expected where the first thing is wrong.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// A readable archive of records is damaged or not whole.
    BadArchive {
        /// The file.
        path: PathBuf,
        /// Its first bad line, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
    /// An earlier error left the writer in an unknown state.
    Poisoned,
    /// The index asked for is not (or no longer) in the log.
    NotInLog {
        /// The index asked for.
        wanted: u64,
        /// The lowest index in the log.
        first: u64,
        /// The highest durable index in the log, `first - 1` when it is empty.
        last: u64,
    },
}

impl LogError {
    /// A stable name of the kind, for logs, health answers and tests.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "log_io",
            Self::DiskFull { .. } => "log_disk_full",
            Self::Corrupt { .. } => "log_corrupt",
            Self::UnknownFormat { .. } => "log_format_unknown",
            Self::WrongCluster { .. } => "log_wrong_cluster",
            Self::Locked { .. } => "log_locked",
            Self::NotEmpty { .. } => "log_not_empty",
            Self::Rejected { .. } => "log_entry_rejected",
            Self::BadShipment { .. } => "log_shipment_refused",
            Self::BadArchive { .. } => "log_archive_damaged",
            Self::Poisoned => "log_poisoned",
            Self::NotInLog { .. } => "log_index_not_present",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check the disk and the file permissions, then start again; the log recovers on start",
            Self::DiskFull { .. } => "free disk space; writing resumes by itself",
            Self::Corrupt { .. } => {
                "run `holdfast log verify` to see all damage; then restore from a backup (`holdfast restore`); in a pair \
                 instead fill this node from the other one: there run `holdfast pair leave` and `holdfast pair invite`, \
                 here move the data directory away and run `holdfast pair join` with the invitation"
            }
            Self::UnknownFormat { .. } => {
                "start the program version that wrote it, or a newer one; nothing was changed"
            }
            Self::WrongCluster { .. } => "point the data directory at this cluster's own data",
            Self::Locked { .. } => "another holdfast process uses this data directory; stop it first",
            Self::NotEmpty { .. } => "use an empty data directory",
            Self::Rejected { .. } => "this is a defect of the program: report it with the log lines before it",
            Self::BadShipment { .. } => {
                "nothing was written; the nodes compare their logs again; if it comes back, look at the other node's log"
            }
            Self::BadArchive { .. } => {
                "all lines before that one are whole; restore the file from a copy, or go on without"
            }
            Self::Poisoned => "see the first error above; restart the process",
            Self::NotInLog { .. } => "the entries were trimmed or not written yet: start from a snapshot instead",
        }
    }

    /// Whether there was no room: nothing was written, and the same append may be tried again.
    #[must_use]
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether the writer goes on after this error as if nothing had happened.
    pub(super) const fn spares_writer(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::BadShipment { .. })
    }

    pub(super) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { op, path: path.to_path_buf(), source }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, index: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { place: RepairPlace { path: path.to_path_buf(), offset, index }, what: what.into() }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { op, path, source } => write!(f, "{op} {}: {source}", path.display())?,
            Self::DiskFull { path, needed_bytes } => {
                write!(f, "no room to reserve {needed_bytes} bytes for {}", path.display())?;
            }
            Self::Corrupt { place, what } => write!(f, "the operation log is damaged: {place}: {what}")?,
            Self::UnknownFormat { path, format, writer } => {
                write!(f, "{} has log format {format}, written by holdfast {writer}", path.display())?;
            }
            Self::WrongCluster { path, found } => {
                let found = data_encoding::HEXLOWER.encode(found);
                write!(f, "{} belongs to another cluster, {found}", path.display())?;
            }
            Self::Locked { path } => write!(f, "the log in {} is in use", path.display())?,
            Self::NotEmpty { path } => write!(f, "there is a log in {} already", path.display())?,
            Self::Rejected { index, what } => write!(f, "entry {index} cannot be appended: {what}")?,
            Self::BadShipment { index, what } => {
                write!(f, "the records that were received do not continue this log at index {index}: {what}")?;
            }
            Self::BadArchive { path, line, what } => {
                write!(f, "the archive {} is damaged at line {line}: {what}", path.display())?;
            }
            Self::Poisoned => f.write_str("the log writer failed earlier")?,
            Self::NotInLog { wanted, first, last } => {
                write!(f, "index {wanted} is not in the log, which holds {first} to {last}")?;
            }
        }
        write!(f, " ({})", self.hint())
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
