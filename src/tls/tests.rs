//! Real handshakes against the server configuration, and uploads of every wrong kind.

use std::io::{Read, Write};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConnection, SupportedProtocolVersion,
};

use super::*;
use crate::ops::durable_file::{FILE_MODE, mode_of};

const DAY_SECONDS: i64 = 24 * 60 * 60;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn open(dir: &Path) -> ServerTls {
    ServerTls::open(options(dir, &[]), now()).unwrap()
}

fn options(dir: &Path, names: &[&str]) -> TlsOptions {
    TlsOptions { dir: dir.join("tls"), names: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn client(ca_pem: &str, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A whole handshake in memory and one message; gives the client's connection with what it negotiated.
fn connect(tls: &ServerTls, client: ClientConfig, name: &str) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(tls.config())?;
    ServerTls::bound_buffers(&mut server);
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    client.writer().write_all(b"hello").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut &wire[..]).unwrap();
    server.process_new_packets()?;
    let mut got = [0_u8; 5];
    server.reader().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    Ok(client)
}

fn served_fingerprint(connection: &ClientConnection) -> String {
    let leaf = &connection.peer_certificates().unwrap()[0];
    CertificateInfo::read(leaf, false).unwrap().sha256_fingerprint
}

#[test]
fn clients_that_trust_the_ca_connect_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path());
    for (version, negotiated) in
        [(&rustls::version::TLS13, ProtocolVersion::TLSv1_3), (&rustls::version::TLS12, ProtocolVersion::TLSv1_2)]
    {
        for name in ["localhost", "127.0.0.1", "::1"] {
            let mut config = client(&tls.ca_pem(), &[version]);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let connection = connect(&tls, config, name).unwrap();
            assert_eq!(connection.protocol_version(), Some(negotiated));
            assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(served_fingerprint(&connection), tls.info().sha256_fingerprint);
        }
    }
    connect(&tls, client(&tls.ca_pem(), &[&rustls::version::TLS13]), "elsewhere.example").unwrap_err();
    let stranger = open(&dir.path().join("stranger"));
    connect(&tls, client(&stranger.ca_pem(), &[&rustls::version::TLS13]), "localhost").unwrap_err();
}

#[test]
fn files_are_private_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    for file in ["ca.pem", "ca-key.pem", "node.pem"] {
        assert_eq!(mode_of(&dir.path().join("tls").join(file)).unwrap(), FILE_MODE, "{file}");
    }
    assert_eq!(mode_of(&dir.path().join("tls")).unwrap(), 0o700);
    let again = open(dir.path());
    assert_eq!(again.info(), first.info());
    assert_eq!(again.ca_pem(), first.ca_pem());
    assert!(first.info().own_ca);
    assert!(first.info().issuer.starts_with("CN=Holdfast CA "), "{}", first.info().issuer);
    assert!(first.info().days_left(now()) >= 726);
    assert_eq!(first.info().sha256_fingerprint.len(), 32 * 3 - 1);
    assert_eq!(read_served(&dir.path().join("tls")).unwrap().as_ref(), Some(&*first.info()));
}

#[test]
fn the_fingerprint_is_sha256() {
    // SHA-256 of the empty input; computed over what is given, whether it is a certificate or not.
    let digest = super::super::info::fingerprint(&CertificateDer::from(Vec::new()));
    assert!(digest.starts_with("E3:B0:C4:42:98:FC:1C:14") && digest.ends_with("52:B8:55"), "{digest}");
}

#[test]
fn a_certificate_is_issued_anew_when_due_or_when_names_change() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path());
    let first = tls.info();
    assert_eq!(tls.reload(now()).unwrap(), first, "nothing is due");
    assert_eq!(tls.reload(now() + 690 * DAY_SECONDS).unwrap(), first, "37 days are left");
    let renewed = tls.reload(now() + 700 * DAY_SECONDS).unwrap();
    assert_ne!(renewed.sha256_fingerprint, first.sha256_fingerprint);
    assert!(renewed.days_left(now() + 700 * DAY_SECONDS) >= 726);

    let tls = ServerTls::open(options(dir.path(), &["Chat.Example.lan", "10.0.0.7", "FD00:0::1"]), now()).unwrap();
    let sans = &tls.info().sans;
    for name in ["chat.example.lan", "10.0.0.7", "fd00::1", "localhost", "127.0.0.1", "::1"] {
        assert!(sans.iter().any(|san| san == name), "{name} is missing in {sans:?}");
    }
    connect(&tls, client(&tls.ca_pem(), &[&rustls::version::TLS13]), "10.0.0.7").unwrap();
    assert_eq!(tls.reload(now()).unwrap().sha256_fingerprint, tls.info().sha256_fingerprint);
}

#[test]
fn a_damaged_node_certificate_is_replaced_and_a_damaged_ca_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let ca = open(dir.path()).ca_pem();
    fs::write(dir.path().join("tls/node.pem"), "half of it").unwrap();
    let tls = open(dir.path());
    assert_eq!(tls.ca_pem(), ca);
    connect(&tls, client(&ca, &[&rustls::version::TLS13]), "localhost").unwrap();

    let key = dir.path().join("tls/ca-key.pem");
    fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_eq!(ServerTls::open(options(dir.path(), &[]), now()).unwrap_err().code(), "tls_authority_damaged");
    let served = tls.info();
    assert_eq!(tls.reload(now()).unwrap_err().code(), "tls_authority_damaged");
    assert_eq!(tls.info(), served, "a failed reload keeps what is served");
    fs::remove_file(&key).unwrap();
    let error = ServerTls::open(options(dir.path(), &[]), now()).unwrap_err();
    assert!(error.to_string().contains("ca-key.pem"), "{error}");
    // A first start that was killed between the two files.
    fs::write(&key, "left behind").unwrap();
    fs::remove_file(dir.path().join("tls/ca.pem")).unwrap();
    assert_ne!(open(dir.path()).ca_pem(), ca);
}

/// An enterprise CA with one intermediate, and certificates from it.
struct Enterprise {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Enterprise {
    fn new() -> Enterprise {
        let root =
            CertifiedIssuer::self_signed(authority_params("Example Root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(authority_params("Example Issuing"), KeyPair::generate().unwrap(), &root)
                .unwrap();
        Enterprise { root, intermediate }
    }

    /// Chain (server, intermediate) and key.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        (format!("{}{}", leaf.pem(), self.intermediate.pem()), key.serialize_pem())
    }
}

#[test]
fn an_uploaded_certificate_is_served_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path());
    let before = connect(&tls, client(&tls.ca_pem(), &[&rustls::version::TLS13]), "localhost").unwrap();
    let enterprise = Enterprise::new();
    let (chain, key) = enterprise.issue(&["chat.example.lan", "*.example.lan"], |_| {});
    let info = tls.install(chain.as_bytes(), key.as_bytes(), now()).unwrap();
    assert!(!info.own_ca);
    assert_eq!(info.sans, ["chat.example.lan", "*.example.lan"]);
    assert_eq!(mode_of(&dir.path().join("tls/installed.pem")).unwrap(), FILE_MODE);
    assert!(before.peer_certificates().is_some(), "the open connection goes on");
    let reopened = open(dir.path());
    for server in [&tls, &reopened] {
        let connection =
            connect(server, client(&enterprise.root.pem(), &[&rustls::version::TLS12]), "chat.example.lan").unwrap();
        assert_eq!(served_fingerprint(&connection), info.sha256_fingerprint);
    }
    assert_eq!(read_served(&dir.path().join("tls")).unwrap().unwrap().sha256_fingerprint, info.sha256_fingerprint);
    assert!(tls.uninstall(now()).unwrap().own_ca);
    connect(&tls, client(&tls.ca_pem(), &[&rustls::version::TLS13]), "localhost").unwrap();
    // With the root in the chain, and wildcard only: both are common.
    let (chain, key) = enterprise.issue(&["*.example.lan"], |_| {});
    tls.install(format!("{chain}{}", enterprise.root.pem()).as_bytes(), key.as_bytes(), now()).unwrap();
}

#[test]
fn every_wrong_upload_has_its_code_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path());
    let served = tls.info();
    let enterprise = Enterprise::new();
    let (chain, key) = enterprise.issue(&["chat.example.lan"], |_| {});
    let (_, other_key) = enterprise.issue(&["chat.example.lan"], |_| {});
    let (nameless, nameless_key) = enterprise.issue(&[], |_| {});
    let (expired, expired_key) = enterprise.issue(&["a.lan"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let (early, early_key) = enterprise.issue(&["a.lan"], |params| params.not_before = date_time_ymd(2100, 1, 1));
    let (leaf, intermediate) = chain.split_at(chain[1..].find("-----BEGIN").unwrap() + 1);
    let stranger = Enterprise::new();
    // The same names, another key: only the signature tells.
    let wrong_issuer = format!("{leaf}{}", stranger.intermediate.pem());
    let wrong_root = format!("{leaf}{intermediate}{}", stranger.root.pem());
    let two_servers = format!("{leaf}{leaf}");
    let big = "x".repeat(crate::limits::TLS_PEM_BYTES_MAX + 1);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (mail, mail_key) = enterprise.issue(&["a.lan"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::EmailProtection];
    });
    let cases: [(&str, &str, &str); 17] = [
        ("", &key, "tls_chain_unreadable"),
        ("not pem at all", &key, "tls_chain_unreadable"),
        (damaged, &key, "tls_chain_unreadable"),
        (&leaf.repeat(9), &key, "tls_chain_unreadable"),
        (&big, &key, "tls_upload_too_large"),
        (&chain, "", "tls_key_unreadable"),
        (&chain, broken_key, "tls_key_unreadable"),
        (&chain, encrypted, "tls_key_encrypted"),
        (&chain, &other_key, "tls_key_mismatch"),
        (&nameless, &nameless_key, "tls_no_names"),
        (&mail, &mail_key, "tls_not_for_servers"),
        (&expired, &expired_key, "tls_certificate_expired"),
        (&early, &early_key, "tls_certificate_not_yet_valid"),
        (&format!("{intermediate}{leaf}"), &key, "tls_chain_order"),
        (&wrong_issuer, &key, "tls_chain_order"),
        (&wrong_root, &key, "tls_chain_order"),
        (&two_servers, &key, "tls_chain_order"),
    ];
    for (chain, key, code) in cases {
        let error = tls.install(chain.as_bytes(), key.as_bytes(), now()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.to_string().contains("PRIVATE KEY-----"));
    }
    assert_eq!(tls.info(), served);
    assert!(!dir.path().join("tls/installed.pem").exists());
    tls.install(chain.as_bytes(), key.as_bytes(), now()).unwrap();
}
