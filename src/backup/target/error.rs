//! What can go wrong with a target, for operators: what was tried, on which file, what the other side said.

use std::fmt;
use std::io;

use opendal::ErrorKind;

use super::fault::Fault;

/// Why a target did not do what was asked.
#[derive(Debug)]
pub enum TargetError {
    /// The folder or the bucket is not there.
    NotThere(String),
    /// What the settings of the target say cannot be.
    BadSettings(String),
    /// The certificates of the target's authority, as the settings have them, are none.
    BadCertificate(String),
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
    /// The target does not let us in with this key or password.
    KeyRefused {
        /// What the target said.
        cause: String,
    },
    /// The SSH host shows another key than the pinned one.
    HostKey {
        /// The host and its port.
        place: String,
        /// The fingerprint that was pinned; empty: none.
        expected: String,
        /// The fingerprints that it has.
        found: String,
    },
    /// The server's certificate is not trusted.
    Certificate {
        /// The host and its port.
        place: String,
        /// Why not.
        cause: String,
    },
    /// The clocks of this machine and of the store differ too much.
    ClockSkew {
        /// What the store said.
        cause: String,
    },
    /// The target can only be read.
    ReadOnly {
        /// Where it is.
        place: String,
    },
    /// Nothing is removed from an append-only target.
    AppendOnly(String),
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
        if let Some(fault) = Fault::within(error) {
            return fault.clone().into_target(op, path);
        }
        let path = path.to_owned();
        let cause = cause_of(error);
        match (error.kind(), system_error(error)) {
            (_, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) => Self::Full { path },
            (_, Some(io::ErrorKind::ReadOnlyFilesystem)) => Self::ReadOnly { place: path },
            (ErrorKind::ConfigInvalid, _) => Self::NotThere(cause),
            (ErrorKind::NotFound, _) => Self::NotFound(path),
            (ErrorKind::PermissionDenied, _) => Self::Denied { op, path, cause },
            _ => Self::Unreachable { op, path, cause },
        }
    }

    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotThere(_) => "target_not_there",
            Self::BadSettings(_) => "target_bad_settings",
            Self::BadCertificate(_) => "target_bad_ca",
            Self::NotFound(_) => "target_file_missing",
            Self::BadPath(_) => "target_bad_path",
            Self::TooLarge { .. } => "target_file_too_large",
            Self::Denied { .. } => "target_denied",
            Self::KeyRefused { .. } => "target_key_refused",
            Self::HostKey { .. } => "target_host_key",
            Self::Certificate { .. } => "target_certificate",
            Self::ClockSkew { .. } => "target_clock_skew",
            Self::ReadOnly { .. } => "target_read_only",
            Self::AppendOnly(_) => "target_append_only",
            Self::Full { .. } => "target_full",
            Self::Unreachable { .. } => "target_unreachable",
            Self::Source(_) => "backup_source",
            Self::Io { .. } => "target_io",
        }
    }
}

/// What an error of opendal says, without the request and the headers around it.
fn cause_of(error: &opendal::Error) -> String {
    let mut text: String = error.message().chars().take(300).collect();
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    text
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
            Self::NotThere(place) => write!(f, "{place} is not there; is its name right, is its disk mounted?"),
            Self::BadSettings(why) => write!(f, "the target cannot be used: {why}"),
            Self::BadCertificate(why) => write!(f, "the authority's certificate cannot be used: {why}"),
            Self::NotFound(path) => write!(f, "{path} is not in the repository"),
            Self::BadPath(path) => write!(f, "{:?} is no path in a repository", path),
            Self::TooLarge { path, bytes_max } => write!(f, "{path} has more than {bytes_max} bytes"),
            Self::Denied { op, path, cause } => write!(f, "the target does not allow to {op} {path}: {cause}"),
            Self::KeyRefused { cause } => write!(f, "the target refuses this key or password: {cause}"),
            Self::HostKey { place, expected, found } if expected.is_empty() => write!(
                f,
                "no host key is pinned for {place}; it shows {found}: compare with what its administrator says, then pin it"
            ),
            Self::HostKey { place, expected, found } => {
                write!(f, "{place} is not the host that was pinned: it shows {found}, not {expected}")
            }
            Self::Certificate { place, cause } => {
                write!(f, "the certificate of {place} is not trusted: {cause}; give its authority's certificate")
            }
            Self::ClockSkew { cause } => {
                write!(f, "the clocks of this machine and of the store differ too much; set them right: {cause}")
            }
            Self::ReadOnly { place } => write!(f, "{place} can only be read"),
            Self::AppendOnly(path) => write!(f, "{path} is not removed: the target is append-only"),
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
