//! What people want to know of a certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::TlsError;

/// A certificate as the console and `doctor` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CertificateInfo {
    /// Its subject: `CN=Holdfast node`.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// DNS names and IP addresses it is valid for.
    pub sans: Vec<String>,
    /// Valid from, RFC 3339, UTC.
    pub not_before: String,
    /// Valid until, RFC 3339, UTC.
    pub not_after: String,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after_unix_seconds: i64,
    /// SHA-256 of the certificate in hex with colons, as browsers show it.
    pub sha256_fingerprint: String,
    /// Whether the own CA issued it.
    pub own_ca: bool,
}

impl CertificateInfo {
    /// Reads a certificate. `own_ca` is what the caller knows.
    pub fn read(der: &CertificateDer<'_>, own_ca: bool) -> Result<CertificateInfo, TlsError> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(CertificateInfo {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            sans: sans(&certificate)?,
            not_before: rfc3339(validity.not_before.timestamp()),
            not_after: rfc3339(validity.not_after.timestamp()),
            not_after_unix_seconds: validity.not_after.timestamp(),
            sha256_fingerprint: fingerprint(der),
            own_ca,
        })
    }

    /// Whole days of validity left at `now_unix_seconds`; negative once it has expired.
    pub fn days_left(&self, now_unix_seconds: i64) -> i64 {
        (self.not_after_unix_seconds - now_unix_seconds).div_euclid(24 * 60 * 60)
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| TlsError::ChainUnreadable(format!("not an X.509 certificate ({error})")))?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(TlsError::ChainUnreadable("bytes follow a certificate".to_owned()))
    }
}

/// DNS names and IP addresses of the subject alternative name, in the order of the certificate.
pub(super) fn sans(certificate: &X509Certificate<'_>) -> Result<Vec<String>, TlsError> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|error| TlsError::ChainUnreadable(format!("its alternative names are damaged ({error})")))?;
    let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    Ok(names.iter().filter_map(san_text).collect())
}

fn san_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|octets| Ipv4Addr::from(octets).to_string())
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|octets| Ipv6Addr::from(octets).to_string()))
            .ok(),
        _ => None,
    }
}

pub(super) fn rfc3339(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map_or_else(|_| format!("{unix_seconds} s since 1970"), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

pub(super) fn fingerprint(der: &CertificateDer<'_>) -> String {
    // SHA-256 from the cipher suite that carries it: no further dependency for one hash.
    let Some(suite) = TLS13_CHACHA20_POLY1305_SHA256.tls13() else { return String::new() };
    let digest = suite.common.hash_provider.hash(der);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
