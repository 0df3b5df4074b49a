//! What can go wrong with certificates: uploads that are refused, each with its own code, and files that cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::limits::{TLS_CHAIN_CERTIFICATES_MAX, TLS_PEM_BYTES_MAX};

/// Why a certificate is refused or TLS cannot be set up.
#[derive(Debug)]
pub enum TlsError {
    /// The upload is larger than any chain or key.
    TooLarge,
    /// The chain holds no readable certificate, or too many.
    ChainUnreadable(String),
    /// The key cannot be read.
    KeyUnreadable(String),
    /// The key is protected by a pass phrase.
    KeyEncrypted,
    /// The key belongs to another certificate.
    KeyMismatch,
    /// The certificate has expired.
    Expired {
        /// When, RFC 3339.
        not_after: String,
    },
    /// The certificate is not valid yet.
    NotYetValid {
        /// From when, RFC 3339.
        not_before: String,
    },
    /// The certificate names no host: clients ignore the old common name.
    NoNames,
    /// The certificate is for other purposes than a server: signing mail, or being a client.
    NotForServers,
    /// A certificate of the chain did not issue the one before it.
    ChainOrder {
        /// The position in the chain, from 1, of the certificate that does not fit to the one before.
        position: usize,
        /// What does not fit.
        reason: String,
    },
    /// A file of the own CA is missing or damaged.
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Making or signing a certificate failed.
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

impl TlsError {
    /// The stable code that the console and the API show.
    pub fn code(&self) -> &'static str {
        match self {
            TlsError::TooLarge => "tls_upload_too_large",
            TlsError::ChainUnreadable(_) => "tls_chain_unreadable",
            TlsError::KeyUnreadable(_) => "tls_key_unreadable",
            TlsError::KeyEncrypted => "tls_key_encrypted",
            TlsError::KeyMismatch => "tls_key_mismatch",
            TlsError::Expired { .. } => "tls_certificate_expired",
            TlsError::NotYetValid { .. } => "tls_certificate_not_yet_valid",
            TlsError::NoNames => "tls_no_names",
            TlsError::NotForServers => "tls_not_for_servers",
            TlsError::ChainOrder { .. } => "tls_chain_order",
            TlsError::Authority { .. } => "tls_authority_damaged",
            TlsError::Issue(_) => "tls_issue_failed",
            TlsError::Io { .. } => "tls_storage_failed",
        }
    }

    pub(super) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TlsError {
        let path = path.to_owned();
        move |source| TlsError::Io { op, path, source }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::TooLarge => write!(f, "chain and key may have at most {TLS_PEM_BYTES_MAX} bytes each"),
            TlsError::ChainUnreadable(reason) => write!(
                f,
                "the chain cannot be read: {reason}; upload 1 to {TLS_CHAIN_CERTIFICATES_MAX} certificates in PEM form, \
                 the server's own first"
            ),
            TlsError::KeyUnreadable(reason) => {
                write!(f, "the private key cannot be read: {reason}; upload one RSA, ECDSA or Ed25519 key in PEM form")
            }
            TlsError::KeyEncrypted => {
                write!(f, "the private key has a pass phrase; remove it first: openssl pkey -in KEY -out PLAIN")
            }
            TlsError::KeyMismatch => write!(f, "the private key does not belong to the first certificate of the chain"),
            TlsError::Expired { not_after } => write!(f, "the certificate expired on {not_after}"),
            TlsError::NotYetValid { not_before } => {
                write!(f, "the certificate is valid only from {not_before}; check the clock of this server")
            }
            TlsError::NoNames => write!(
                f,
                "the certificate has no subject alternative name, so no client would accept it; issue one with the \
                 server's DNS name or IP address"
            ),
            TlsError::NotForServers => write!(
                f,
                "the certificate's extended key usage does not allow server authentication; issue one for a web server"
            ),
            TlsError::ChainOrder { position, reason } => write!(
                f,
                "certificate {position} of the chain does not fit: {reason}; the order is server, intermediate(s), root"
            ),
            TlsError::Authority { path, reason } => write!(
                f,
                "{}: {reason}; restore the directory from a backup, or remove ca.pem and ca-key.pem to make a new CA that \
                 every client must trust anew",
                path.display()
            ),
            TlsError::Issue(reason) => write!(f, "a certificate could not be made: {reason}"),
            TlsError::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
