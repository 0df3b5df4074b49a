//! The own certification authority: made at first start, it issues this node's certificate.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{ParsedExtension, X509Certificate};

use super::TlsError;
use super::info::parse;
use crate::limits::{TLS_BACKDATE_HOURS, TLS_CA_DAYS, TLS_NODE_DAYS};
use crate::ops::durable_file::{create_private_dir, write_private};

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";

/// The own CA, loaded.
pub(super) struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads the CA of `dir`, or makes it when neither of its files is there.
    pub(super) fn load_or_create(dir: &Path, now_unix_seconds: i64) -> Result<Authority, TlsError> {
        let (ca_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        let pem = read_optional(&ca_path)?;
        let key_pem = read_optional(&key_path)?;
        match (pem, key_pem) {
            (Some(pem), Some(key_pem)) => Authority::from_pem(dir, pem, &key_pem),
            (Some(_), None) => {
                Err(TlsError::Authority { path: key_path, reason: "the key of the own CA is missing".to_owned() })
            }
            // The key is written first: alone it is what a killed first start left, and signed nothing.
            (None, _) => {
                create_private_dir(dir).map_err(TlsError::io("create", dir))?;
                let (pem, key_pem) = make_ca(now_unix_seconds)?;
                write_private(&key_path, key_pem.as_bytes()).map_err(TlsError::io("write", &key_path))?;
                write_private(&ca_path, pem.as_bytes()).map_err(TlsError::io("write", &ca_path))?;
                Authority::from_pem(dir, pem, &key_pem)
            }
        }
    }

    fn from_pem(dir: &Path, pem: String, key_pem: &str) -> Result<Authority, TlsError> {
        let damaged = |file: &str, reason: String| TlsError::Authority { path: dir.join(file), reason };
        let key = KeyPair::from_pem(key_pem).map_err(|error| damaged(CA_KEY_FILE, error.to_string()))?;
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| damaged(CA_FILE, error.to_string()))?;
        let certificate = parse(&der).map_err(|error| damaged(CA_FILE, error.to_string()))?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged(CA_KEY_FILE, "the key does not belong to ca.pem".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| damaged(CA_FILE, error.to_string()))?;
        Ok(Authority { pem, der, issuer })
    }

    /// The CA certificate in PEM form: what clients import.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the CA certificate in hex with colons.
    pub(super) fn fingerprint(&self) -> String {
        super::info::fingerprint(&self.der)
    }

    /// Whether this CA issued `certificate`: the issuer's name and key identifier are the CA's.
    pub(super) fn issued(&self, certificate: &CertificateDer<'_>) -> bool {
        let (Ok(ca), Ok(certificate)) = (parse(&self.der), parse(certificate)) else { return false };
        certificate.issuer().as_raw() == ca.subject().as_raw()
            && key_identifier(&ca).is_some_and(|ours| issuer_key_identifier(&certificate) == Some(ours))
    }

    /// A new key and certificate for `names`, as one PEM text: certificate, then key.
    pub(super) fn issue(&self, names: &[String], now_unix_seconds: i64) -> Result<String, TlsError> {
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(issue_error)?),
            });
        }
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, "Holdfast node");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both: on a pair the nodes are each other's clients.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now_unix_seconds, TLS_NODE_DAYS)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue_error)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue_error)?;
        Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
    }
}

fn key_identifier<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
        _ => None,
    })
}

fn issuer_key_identifier<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref().map(|key| key.0),
        _ => None,
    })
}

fn make_ca(now_unix_seconds: i64) -> Result<(String, String), TlsError> {
    let mut short_id = [0_u8; 4];
    getrandom::fill(&mut short_id).map_err(issue_error)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    // The id tells two installations apart in a client's list of authorities.
    let name = format!("Holdfast CA {}", data_encoding::HEXLOWER.encode(&short_id));
    params.distinguished_name.push(DnType::CommonName, name);
    // No intermediate below it: it signs nodes, nothing else.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now_unix_seconds, TLS_CA_DAYS)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue_error)?;
    let certificate = params.self_signed(&key).map_err(issue_error)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn set_validity(params: &mut CertificateParams, now_unix_seconds: i64, days: u64) -> Result<(), TlsError> {
    let backdated = u64::try_from(now_unix_seconds).map_err(issue_error)?.saturating_sub(TLS_BACKDATE_HOURS * 3600);
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(backdated);
    params.not_after = params.not_before + Duration::from_secs(days * 24 * 3600);
    let mut serial = [0_u8; 16];
    getrandom::fill(&mut serial).map_err(issue_error)?;
    // Positive and never zero (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn issue_error(reason: impl std::fmt::Display) -> TlsError {
    TlsError::Issue(reason.to_string())
}

pub(super) fn read_optional(path: &Path) -> Result<Option<String>, TlsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::io("read", path)(source)),
    }
}
