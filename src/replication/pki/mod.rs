//! The pair's own certificates: a CA that knows nobody but members, and what a member shows. Must never log a key, trust a
//! name in a signing request, or let in a certificate that the pair's settings do not name.
//!
//! Files, all mode 0600 in `<data>/pair/`: `ca.pem` (the CA), `ca-key.pem` (its key; data nodes only, so that either can
//! invite), `member.pem` (this member's certificate and key, in one file so that they always match), `member-next.pem` (the
//! same of a certificate that the pair does not know yet), `settings.bin` (the pair's settings as they were at joining),
//! `web-ca.pem` and `web-ca-key.pem` (the CA of the HTTPS certificates, shared by both data nodes), and `pair.toml`, written
//! last: without it nothing else counts.

mod allowed;
mod error;
mod files;
mod identity;
mod issue;
mod renew;
mod tls;

pub use allowed::{Allowed, AllowedMember, SharedAllowed};
pub use error::PkiError;
pub use files::{JoinedFiles, Membership, PairPki, WebCa, install_web_ca, read_web_ca};
pub(super) use files::{kind_name, probe_writable};
pub use identity::{Fingerprint, PeerIdentity, fingerprint};
pub use issue::{JoinKey, PairCa};
pub use renew::Validity;
pub use tls::{PeerCertificates, PeerTls};
pub(super) use tls::{pinned_client, verify_issued};

#[cfg(test)]
pub(super) mod tests;
