//! Making the pair's CA and signing members' certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::PkiError;
use super::identity::{Fingerprint, fingerprint, member_uri, valid_until};
use crate::core::failover::Member;
use crate::limits::{PAIR_BACKDATE_DAYS, PAIR_CA_DAYS, PAIR_CERTIFICATE_DAYS, PEER_DER_BYTES_MAX};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The pair's CA with its key.
pub struct PairCa {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for PairCa {
    // The key must not be printable by accident.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairCa")
    }
}

impl PairCa {
    /// A new one.
    ///
    /// # Errors
    /// [`PkiError::Issue`].
    pub fn make(now_unix_seconds: i64) -> Result<PairCa, PkiError> {
        let mut short_id = [0_u8; 4];
        getrandom::fill(&mut short_id).map_err(PkiError::issue)?;
        let mut params = named(&format!("Holdfast pair CA {}", data_encoding::HEXLOWER.encode(&short_id)));
        // No intermediate below it: it signs members, nothing else.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_validity(&mut params, now_unix_seconds, (PAIR_CA_DAYS, u64::MAX))?;
        let key = new_key()?;
        let der = params.self_signed(&key).map_err(PkiError::issue)?.der().clone();
        PairCa::of(der, key)
    }

    fn of(der: CertificateDer<'static>, key: KeyPair) -> Result<PairCa, PkiError> {
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(PkiError::issue)?;
        Ok(PairCa { der, issuer })
    }

    /// Puts a certificate and its key (PKCS#8 DER) together.
    ///
    /// # Errors
    /// [`PkiError::Answer`] when they do not belong together, or the certificate is not a CA's.
    pub fn from_der(der: CertificateDer<'static>, key_der: &[u8]) -> Result<PairCa, PkiError> {
        let wrong = |reason: &str| PkiError::Answer(reason.to_owned());
        let key = KeyPair::try_from(key_der).map_err(|_| wrong("the CA's key cannot be read"))?;
        let ca = PairCa::of(der, key).map_err(|_| wrong("the CA's certificate cannot be read"))?;
        if certified_key(&ca.der)? != ca.key().public_key_raw() {
            return Err(wrong("the key is not the CA's"));
        }
        Ok(ca)
    }

    fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.der)
    }

    /// Its key in PKCS#8 DER: for the second data node, over the joining link only.
    #[must_use]
    pub fn key_der(&self) -> Vec<u8> {
        self.key().serialize_der()
    }

    /// Signs the key of a request (DER) as `member` of `cluster`. Nothing else in the request is used.
    ///
    /// # Errors
    /// [`PkiError::Request`] when it is damaged, not signed by its own key, or of another algorithm than ours.
    pub fn sign(
        &self,
        request_der: &[u8],
        (cluster, member): (&[u8; 16], Member),
        now_unix_seconds: i64,
    ) -> Result<CertificateDer<'static>, PkiError> {
        if request_der.len() > PEER_DER_BYTES_MAX {
            return Err(PkiError::Request(format!("it has more than {PEER_DER_BYTES_MAX} bytes")));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request_der))
            .map_err(|error| PkiError::Request(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::Request("its key is not ECDSA P-256".to_owned()));
        }
        let mut params = named(&format!("Holdfast member {member}"));
        let uri = member_uri(cluster, member).try_into().map_err(PkiError::issue)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both: members dial each other.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // Nothing is valid that its CA is not.
        let ca_until = valid_until(&self.der).and_then(|until| u64::try_from(until).ok()).unwrap_or(0);
        set_validity(&mut params, now_unix_seconds, (PAIR_CERTIFICATE_DAYS, ca_until))?;
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(PkiError::issue)?;
        Ok(certificate.der().clone())
    }
}

/// A member's key, before and after it is certified.
pub struct JoinKey(KeyPair);

impl std::fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinKey")
    }
}

impl JoinKey {
    /// A new key.
    ///
    /// # Errors
    /// [`PkiError::Issue`] without randomness.
    pub fn make() -> Result<JoinKey, PkiError> {
        new_key().map(JoinKey)
    }

    /// The first private key in a PEM text; what else is there is passed over.
    pub(super) fn from_pem(pem: &str) -> Result<JoinKey, PkiError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(PkiError::issue)?;
        KeyPair::try_from(&der).map(JoinKey).map_err(PkiError::issue)
    }

    /// A signing request for it in DER.
    ///
    /// # Errors
    /// [`PkiError::Issue`].
    pub fn request(&self) -> Result<Vec<u8>, PkiError> {
        let request = named("Holdfast joining").serialize_request(&self.0).map_err(PkiError::issue)?;
        Ok(request.der().to_vec())
    }

    /// Whether the certificate is for this key.
    pub(in crate::replication) fn certified_by(&self, certificate: &CertificateDer<'_>) -> bool {
        certified_key(certificate).is_ok_and(|key| key == self.0.public_key_raw())
    }

    pub(super) fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    pub(super) fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

fn certified_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, PkiError> {
    use x509_parser::prelude::FromDer as _;
    let (_, parsed) = x509_parser::prelude::X509Certificate::from_der(certificate)
        .map_err(|_| PkiError::Answer("it is not an X.509 certificate".to_owned()))?;
    Ok(parsed.public_key().subject_public_key.data.to_vec())
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::issue)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Valid for so many days, from some time ago on, but never beyond `until_max`.
fn set_validity(
    params: &mut CertificateParams,
    now_unix_seconds: i64,
    (days, until_max): (u64, u64),
) -> Result<(), PkiError> {
    let now = u64::try_from(now_unix_seconds).map_err(PkiError::issue)?;
    let from = now.saturating_sub(PAIR_BACKDATE_DAYS * DAY_SECONDS);
    let until = from.saturating_add(days * DAY_SECONDS).min(until_max);
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(from);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
    let mut serial = [0_u8; 16];
    getrandom::fill(&mut serial).map_err(PkiError::issue)?;
    // Positive and never zero (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}
