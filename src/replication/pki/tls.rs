//! TLS between members: 1.3 only, certificates on both sides, our own idea of names.
//!
//! TLS itself checks that a certificate is of the pair's CA and valid now. Whose it is, and whether that member may come in,
//! is judged after the handshake (`PeerIdentity`, `Allowed`), so that a member that is refused is told why.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};

use super::allowed::SharedAllowed;
use super::error::PkiError;
use super::identity::{Fingerprint, fingerprint};

/// How links are protected.
#[derive(Clone, Debug)]
pub enum PeerTls {
    /// By certificates of the pair's CA: the only way outside of simulations.
    Certificates(Arc<PeerCertificates>),
    /// Not at all; the peer is whom it says it is. For simulated networks in tests, nowhere else (`tests/tidy.rs` looks).
    Plain(SharedAllowed),
}

impl PeerTls {
    /// Who may come in.
    #[must_use]
    pub fn allowed(&self) -> &SharedAllowed {
        match self {
            Self::Certificates(own) => &own.allowed,
            Self::Plain(allowed) => allowed,
        }
    }
}

/// A member's TLS configurations. Sessions are never resumed: every link is judged anew.
pub struct PeerCertificates {
    shown: ArcSwap<Configurations>,
    allowed: SharedAllowed,
}

/// Both sides of TLS, with the same certificate.
struct Configurations {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl fmt::Debug for PeerCertificates {
    // The key must not be printable by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerCertificates")
    }
}

/// What a member shows.
pub(super) struct Shown {
    /// Its certificate, then the CA's: a joining machine compares that with the invitation.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub(super) key: PrivateKeyDer<'static>,
}

impl PeerCertificates {
    pub(super) fn new(
        ca: &CertificateDer<'static>,
        shown: Shown,
        allowed: SharedAllowed,
    ) -> Result<PeerCertificates, PkiError> {
        Ok(PeerCertificates { shown: ArcSwap::from_pointee(Configurations::new(ca, shown)?), allowed })
    }

    /// Shows another certificate on every link that is made from now on.
    pub(super) fn show(&self, ca: &CertificateDer<'static>, shown: Shown) -> Result<(), PkiError> {
        self.shown.store(Arc::new(Configurations::new(ca, shown)?));
        Ok(())
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shown.load().server)
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.shown.load().client)
    }
}

impl Configurations {
    fn new(ca: &CertificateDer<'static>, shown: Shown) -> Result<Self, PkiError> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(PkiError::issue)?;
        let roots = Arc::new(roots);
        // Without a certificate one may only join; the hello decides.
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(PkiError::issue)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(PkiError::issue)?
            .with_client_cert_verifier(clients)
            .with_single_cert(shown.chain.clone(), shown.key.clone_key())
            .map_err(PkiError::issue)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let verifier = MemberVerifier { roots, algorithms: provider.signature_verification_algorithms };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(PkiError::issue)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(shown.chain, shown.key)
            .map_err(PkiError::issue)?;
        tighten(&mut client);
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The name of the protocol inside TLS, so that a browser at the wrong port is refused early.
const ALPN: &[u8] = b"holdfast-peer";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tighten(client: &mut ClientConfig) {
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    client.alpn_protocols = vec![ALPN.to_vec()];
}

/// The joining machine's side: no certificate of its own yet, and any member whose CA has this fingerprint.
pub(in crate::replication) fn pinned_client(ca: Fingerprint) -> Result<Arc<ClientConfig>, PkiError> {
    let provider = provider();
    let verifier = PinnedVerifier { ca, algorithms: provider.signature_verification_algorithms };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(PkiError::issue)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tighten(&mut client);
    Ok(Arc::new(client))
}

/// Whether `ca` issued `leaf` and it is valid now.
pub(in crate::replication) fn verify_issued(leaf: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    verify_chain(leaf, &roots, &provider().signature_verification_algorithms, UnixTime::now()).map(drop)
}

/// Any certificate of the pair's CA that is valid now.
#[derive(Debug)]
struct MemberVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Any certificate of a CA with this fingerprint, which the other side shows along with its own.
#[derive(Debug)]
struct PinnedVerifier {
    ca: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    roots: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let leaf = ParsedCertificate::try_from(leaf)?;
    // No intermediates: the CA signs members itself.
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, &[], now, algorithms.all)?;
    Ok(ServerCertVerified::assertion())
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_chain(end_entity, &self.roots, &self.algorithms, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|certificate| fingerprint(certificate) == self.ca);
        let ca = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        verify_chain(end_entity, &roots, &self.algorithms, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
