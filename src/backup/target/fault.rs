//! What goes wrong on the way to a remote target, before it becomes a [`TargetError`]. Must never hold a secret.

use std::fmt;
use std::io;
use std::time::Duration;

use opendal::ErrorKind;

use super::TargetError;
use crate::limits::{BACKUP_RETRIES_MAX, BACKUP_TARGET_TIMEOUT_SECONDS, BACKUP_TEST_TIMEOUT_SECONDS};

/// How long a target is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one call or one piece.
    pub timeout: Duration,
    /// How often a call is made again when it failed on the way.
    pub retries: usize,
}

impl Patience {
    /// For when somebody waits for the answer.
    #[must_use]
    pub fn short() -> Self {
        Self { timeout: Duration::from_secs(BACKUP_TEST_TIMEOUT_SECONDS), retries: 1 }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(BACKUP_TARGET_TIMEOUT_SECONDS), retries: BACKUP_RETRIES_MAX }
    }
}

/// What went wrong. `place` is `host:port`.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The name has no address.
    NoAddress { place: String, cause: String },
    /// Nobody listens there, or no way leads there.
    NotReached { place: String, cause: String },
    /// The server's certificate is not trusted.
    Certificate { place: String, cause: String },
    /// No answer in time.
    Silent { place: String, seconds: u64 },
    /// The connection broke or said nonsense.
    Broken { place: String, cause: String },
    /// The server answered no. `code` is the store's own word for it.
    Refused { place: String, status: u16, code: String, said: String },
}

impl Fault {
    /// Whether it may help to try again.
    pub(super) const fn is_passing(&self) -> bool {
        !matches!(self, Self::Certificate { .. } | Self::Refused { .. })
    }

    /// As an error of opendal, in which [`Fault::within`] finds it again.
    pub(super) fn into_opendal(self) -> opendal::Error {
        let error = opendal::Error::new(ErrorKind::Unexpected, self.to_string());
        let passing = self.is_passing();
        let error = error.set_source(self);
        if passing { error.set_temporary() } else { error.set_persistent() }
    }

    /// The fault below an error of opendal.
    pub(super) fn within(error: &opendal::Error) -> Option<&Self> {
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(fault) = inner.downcast_ref::<Self>() {
                return Some(fault);
            }
            cause = inner.source();
        }
        None
    }

    /// From making a connection.
    pub(super) fn of_dialling(place: &str, error: &io::Error) -> Self {
        let place = place.to_owned();
        let cause = error.to_string();
        // The resolver has no kind of its own; what it says begins with this.
        if cause.contains("failed to lookup address") || cause.contains("invalid socket address") {
            return Self::NoAddress { place, cause };
        }
        Self::NotReached { place, cause }
    }

    /// What it is for people, when `op` was tried on `path`.
    pub(super) fn into_target(self, op: &'static str, path: &str) -> TargetError {
        let path = path.to_owned();
        let cause = self.to_string();
        match self {
            Self::Certificate { place, cause } => TargetError::Certificate { place, cause },
            Self::Refused { place, status, code, .. } => match (status, code.as_str()) {
                // WebDAV's word for a folder above that is missing.
                (409, "") => TargetError::NotThere(format!("the folder on {place}, or the one above it,")),
                (_, "RequestTimeTooSkewed") => TargetError::ClockSkew { cause },
                (401, _) | (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "AuthFailure") => {
                    TargetError::KeyRefused { cause }
                }
                (_, "NoSuchBucket") => TargetError::NotThere(cause),
                (507 | 413, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "StorageFull") => {
                    TargetError::Full { path }
                }
                (403, _) => TargetError::Denied { op, path, cause },
                _ => TargetError::Unreachable { op, path, cause },
            },
            _ => TargetError::Unreachable { op, path, cause },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress { place, cause } => write!(f, "no address is known for {place}: {cause}"),
            Self::NotReached { place, cause } => write!(f, "{place} cannot be reached: {cause}"),
            Self::Certificate { place, cause } => write!(f, "the certificate of {place} is not trusted: {cause}"),
            Self::Silent { place, seconds } => write!(f, "{place} did not answer within {seconds} s"),
            Self::Broken { place, cause } => write!(f, "the connection to {place} broke: {cause}"),
            Self::Refused { place, status, code, said } => {
                write!(f, "{place} answered {status}")?;
                if !code.is_empty() {
                    write!(f, " {code}")?;
                }
                if said.is_empty() { Ok(()) } else { write!(f, ": {said}") }
            }
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, code: &str) -> &'static str {
        let (place, code) = ("store:9000".to_owned(), code.to_owned());
        let fault = Fault::Refused { place, status, code, said: "why".to_owned() };
        // As it comes out of opendal.
        TargetError::from_opendal("write", "log/a", &fault.into_opendal()).code()
    }

    #[test]
    fn each_cause_has_a_code_of_its_own() {
        assert_eq!(told(403, "RequestTimeTooSkewed"), "target_clock_skew");
        assert_eq!(told(403, "SignatureDoesNotMatch"), "target_key_refused");
        assert_eq!(told(401, ""), "target_key_refused");
        assert_eq!(told(403, "AccessDenied"), "target_denied");
        assert_eq!(told(403, ""), "target_denied");
        assert_eq!(told(507, ""), "target_full");
        assert_eq!(told(413, ""), "target_full");
        assert_eq!(told(403, "QuotaExceeded"), "target_full");
        assert_eq!(told(404, "NoSuchBucket"), "target_not_there");
        assert_eq!(told(409, ""), "target_not_there");
        assert_eq!(told(301, ""), "target_unreachable");
        let place = "store:443".to_owned();
        let untrusted = Fault::Certificate { place, cause: "expired".to_owned() }.into_opendal();
        assert!(!untrusted.is_temporary());
        assert_eq!(TargetError::from_opendal("list", "x", &untrusted).code(), "target_certificate");
    }

    #[test]
    fn what_is_on_the_way_is_tried_again_and_what_is_refused_is_not() {
        let place = || "store:9000".to_owned();
        assert!(Fault::Silent { place: place(), seconds: 1 }.into_opendal().is_temporary());
        assert!(Fault::NotReached { place: place(), cause: String::new() }.into_opendal().is_temporary());
        let refused = Fault::Refused { place: place(), status: 403, code: String::new(), said: String::new() };
        assert!(!refused.into_opendal().is_temporary());
    }
}
