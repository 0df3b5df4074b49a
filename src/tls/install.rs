//! Judges an uploaded chain and key, before anything is written.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use super::TlsError;
use super::info::{parse, rfc3339, sans};
use crate::limits::{TLS_CHAIN_CERTIFICATES_MAX, TLS_PEM_BYTES_MAX};

/// Reads a chain and its key and checks that a client could accept them at `now_unix_seconds`.
pub(super) fn judge(
    chain_pem: &[u8],
    key_pem: &[u8],
    now_unix_seconds: i64,
    provider: &Arc<CryptoProvider>,
) -> Result<CertifiedKey, TlsError> {
    if chain_pem.len() > TLS_PEM_BYTES_MAX || key_pem.len() > TLS_PEM_BYTES_MAX {
        return Err(TlsError::TooLarge);
    }
    let chain = read_chain(chain_pem)?;
    check_leaf(&chain, now_unix_seconds)?;
    let certified = pair_up(chain, read_key(key_pem)?, provider)?;
    check_order(&certified.cert, now_unix_seconds, provider)?;
    Ok(certified)
}

/// Reads a chain without judging it.
pub(super) fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |reason: String| TlsError::ChainUnreadable(reason);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| unreadable(error.to_string()))?;
    match chain.len() {
        0 => Err(unreadable("it holds no certificate".to_owned())),
        count if count > TLS_CHAIN_CERTIFICATES_MAX => Err(unreadable(format!("it holds {count} certificates"))),
        _ => Ok(chain),
    }
}

/// Reads the first private key.
pub(super) fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::KeyEncrypted);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::KeyUnreadable(error.to_string()))
}

/// Joins chain and key when they belong together.
pub(super) fn pair_up(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<CertifiedKey, TlsError> {
    let key =
        provider.key_provider.load_private_key(key).map_err(|error| TlsError::KeyUnreadable(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(TlsError::KeyMismatch),
        Err(error) => Err(TlsError::ChainUnreadable(error.to_string())),
    }
}

fn check_leaf(chain: &[CertificateDer<'static>], now_unix_seconds: i64) -> Result<(), TlsError> {
    let Some(leaf) = chain.first() else { return Err(TlsError::ChainUnreadable("it holds no certificate".to_owned())) };
    let leaf = parse(leaf)?;
    let validity = leaf.validity();
    if validity.not_after.timestamp() <= now_unix_seconds {
        return Err(TlsError::Expired { not_after: rfc3339(validity.not_after.timestamp()) });
    }
    if validity.not_before.timestamp() > now_unix_seconds {
        return Err(TlsError::NotYetValid { not_before: rfc3339(validity.not_before.timestamp()) });
    }
    if chain.len() > 1 && leaf.is_ca() {
        return Err(TlsError::ChainOrder { position: 1, reason: "it is the certificate of an authority".to_owned() });
    }
    let usage = leaf.extended_key_usage().map_err(|error| TlsError::ChainUnreadable(error.to_string()))?;
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return Err(TlsError::NotForServers);
    }
    if sans(&leaf)?.is_empty() { Err(TlsError::NoNames) } else { Ok(()) }
}

/// Each certificate must have issued the one before it: by name for all of them, and by signature, as a client would verify it
/// that trusts the last one.
fn check_order(
    chain: &[CertificateDer<'static>],
    now_unix_seconds: i64,
    provider: &Arc<CryptoProvider>,
) -> Result<(), TlsError> {
    for (index, pair) in chain.windows(2).enumerate() {
        let (issued, issuer) = (parse(&pair[0])?, parse(&pair[1])?);
        let order = |reason: String| Err(TlsError::ChainOrder { position: index + 2, reason });
        if issued.issuer().as_raw() != issuer.subject().as_raw() {
            return order(format!(
                "{} was issued by {}, not by {}",
                issued.subject(),
                issued.issuer(),
                issuer.subject()
            ));
        }
        if !issuer.is_ca() {
            return order(format!("{} is not an authority", issuer.subject()));
        }
    }
    let Some((trusted, rest)) = chain.split_last().filter(|(_, rest)| !rest.is_empty()) else { return Ok(()) };
    verify_as_client(trusted, rest, now_unix_seconds, provider)
}

fn verify_as_client(
    trusted: &CertificateDer<'static>,
    rest: &[CertificateDer<'static>],
    now_unix_seconds: i64,
    provider: &Arc<CryptoProvider>,
) -> Result<(), TlsError> {
    let refused = |reason: String| TlsError::ChainOrder { position: rest.len() + 1, reason };
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).map_err(|error| refused(error.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| refused(error.to_string()))?;
    let Some((leaf, intermediates)) = rest.split_first() else { return Ok(()) };
    // A name that is surely in the certificate: the chain is judged here, not the name. A wildcard stands for any label.
    let name = sans(&parse(leaf)?)?.first().map(|name| name.replace('*', "any")).unwrap_or_default();
    let name = ServerName::try_from(name).map_err(|error| TlsError::ChainUnreadable(error.to_string()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_unix_seconds).unwrap_or(0)));
    match verifier.verify_server_cert(leaf, intermediates, &name, &[], now) {
        Ok(_) | Err(Error::InvalidCertificate(CertificateError::NotValidForName)) => Ok(()),
        Err(error) => Err(refused(error.to_string())),
    }
}
