//! TLS of the listening port: the own CA, the node certificate, uploaded certificates, reload without restart.
//!
//! Files, all mode 0600 in `<data>/tls/`: `ca.pem` and `ca-key.pem` (made once), `node.pem` (certificate and key that the own CA
//! issued, made anew when due), `installed.pem` (an uploaded chain and key; it wins while it is there). A certificate and its
//! key share one file, so that a crash can never leave a pair that does not match. Must never write an upload before it is
//! known to work, nor log a key.

mod authority;
mod error;
mod info;
mod install;
mod server;

pub use error::TlsError;
pub use info::CertificateInfo;
pub use server::{ServerTls, TlsOptions, read_served};

/// Makes the own CA in `dir` if there is none: the second node of a pair needs it even where neither does TLS itself.
///
/// # Errors
/// [`TlsError`] when it cannot be made or is damaged.
pub fn ensure_ca(dir: &std::path::Path, now_unix_seconds: i64) -> Result<(), TlsError> {
    authority::Authority::load_or_create(dir, now_unix_seconds).map(|_| ())
}
