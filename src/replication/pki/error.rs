//! What can go wrong with the pair's certificates.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the pair's certificates cannot be made or used.
#[derive(Debug)]
pub enum PkiError {
    /// A file is missing or damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to another member or cluster than the data directory.
    OtherMembership {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
    },
    /// This member has no key of the CA: it is a witness.
    NoCaKey,
    /// A signing request that cannot be signed.
    Request(String),
    /// What was received at joining does not fit together.
    Answer(String),
    /// Making a key or a certificate failed.
    Issue(String),
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

impl PkiError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "pair_certificates_damaged",
            Self::OtherMembership { .. } => "pair_other_membership",
            Self::NoCaKey => "pair_no_ca_key",
            Self::Request(_) => "pair_request_unusable",
            Self::Answer(_) => "pair_answer_unusable",
            Self::Issue(_) => "pair_issue_failed",
            Self::Io { .. } => "pair_storage_failed",
        }
    }

    pub(super) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
        let path = path.to_owned();
        move |source| PkiError::Io { op, path, source }
    }

    pub(super) fn issue(reason: impl fmt::Display) -> PkiError {
        PkiError::Issue(reason.to_string())
    }
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, reason } => write!(
                f,
                "{}: {reason}; restore the directory from a backup of this machine, or let it join the pair again",
                path.display()
            ),
            Self::OtherMembership { path, found } => {
                write!(f, "{} belongs to {found}; it must not be copied between machines", path.display())
            }
            Self::NoCaKey => write!(f, "this member is a witness and cannot invite; do it on a data node"),
            Self::Request(reason) => write!(f, "the signing request cannot be used: {reason}"),
            Self::Answer(reason) => write!(f, "what the inviting side sent does not fit together: {reason}"),
            Self::Issue(reason) => write!(f, "a certificate could not be made: {reason}"),
            Self::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for PkiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
