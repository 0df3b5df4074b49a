//! The pair directory: what is there after the first invitation or after joining.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::allowed::{AllowedMember, SharedAllowed};
use super::error::PkiError;
use super::identity::{Fingerprint, PeerIdentity, fingerprint};
use super::issue::{JoinKey, PairCa};
use super::tls::{PeerCertificates, PeerTls, Shown};
use crate::core::failover::Member;
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::ops::durable_file::{create_private_dir, remove_durably, sync_dir, write_private};
use crate::replication::wire::JoinAnswer;

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";
pub(super) const MEMBER_FILE: &str = "member.pem";
/// The certificate and key that take the place of those in `member.pem`.
pub(super) const NEXT_FILE: &str = "member-next.pem";
const SETTINGS_FILE: &str = "settings.bin";
const WEB_CA_FILE: &str = "web-ca.pem";
const WEB_CA_KEY_FILE: &str = "web-ca-key.pem";
const PAIR_FILE: &str = "pair.toml";
/// The format of the pair directory that this build reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Who this machine is in the pair: `pair.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster: [u8; 16],
    /// This member.
    pub member: Member,
    /// What it is.
    pub kind: PairMemberKind,
}

#[derive(Debug, Serialize, Deserialize)]
struct PairToml {
    format_version: u32,
    cluster_id: String,
    member: Member,
    kind: String,
}

/// What a machine got at joining, verified, and its key.
#[derive(Debug)]
pub struct JoinedFiles<'a> {
    /// The key that was certified.
    pub key: &'a JoinKey,
    /// The answer.
    pub answer: &'a JoinAnswer,
    /// What the machine is now.
    pub membership: Membership,
}

/// The pair's certificates on this member.
#[derive(Debug)]
pub struct PairPki {
    membership: Membership,
    pub(super) ca: CertificateDer<'static>,
    ca_with_key: Option<PairCa>,
    pub(super) certificate: CertificateDer<'static>,
    key: JoinKey,
    settings: Option<Vec<u8>>,
}

impl PairPki {
    /// Loads `dir` (`<data>/pair`). `None` when this machine is in no pair: never invited anybody, or did not finish joining.
    ///
    /// # Errors
    /// [`PkiError::Damaged`] when it is in one and a file is missing or wrong.
    pub fn load(dir: &Path) -> Result<Option<PairPki>, PkiError> {
        let Some(membership) = load_membership(dir)? else { return Ok(None) };
        let ca = load_certificate(dir, CA_FILE)?;
        let certificate = load_certificate(dir, MEMBER_FILE)?;
        let damaged = |file: &str, reason: &str| PkiError::Damaged { path: dir.join(file), reason: reason.to_owned() };
        let key = JoinKey::from_pem(&load_text(dir, MEMBER_FILE)?)
            .map_err(|_| damaged(MEMBER_FILE, "the private key cannot be read"))?;
        if !key.certified_by(&certificate) {
            return Err(damaged(MEMBER_FILE, "the key does not belong to the certificate"));
        }
        let identity = PeerIdentity::read(&certificate).map_err(|error| damaged(MEMBER_FILE, &error.to_string()))?;
        if identity.cluster != membership.cluster || identity.member != membership.member {
            return Err(damaged(MEMBER_FILE, "the certificate is of another member than pair.toml says"));
        }
        let ca_with_key = match read_optional(&dir.join(CA_KEY_FILE))? {
            Some(pem) if membership.kind == PairMemberKind::Data => {
                let key = KeyPair::from_pem(&String::from_utf8_lossy(&pem))
                    .map_err(|_| damaged(CA_KEY_FILE, "the private key cannot be read"))?;
                let ca_with_key = PairCa::from_der(ca.clone(), key.serialized_der())
                    .map_err(|error| damaged(CA_KEY_FILE, &error.to_string()))?;
                Some(ca_with_key)
            }
            None if membership.kind == PairMemberKind::Data => return Err(damaged(CA_KEY_FILE, "it is missing")),
            _ => None,
        };
        let settings = read_optional(&dir.join(SETTINGS_FILE))?;
        Ok(Some(PairPki { membership, ca, ca_with_key, certificate, key, settings }))
    }

    /// Loads `dir`, or makes a CA and this data node's certificate: the first step of the first invitation.
    ///
    /// # Errors
    /// [`PkiError::OtherMembership`] when the directory is another member's; else those of loading and writing.
    pub fn load_or_create(
        dir: &Path,
        cluster: [u8; 16],
        member: Member,
        now_unix_seconds: i64,
    ) -> Result<PairPki, PkiError> {
        let membership = Membership { cluster, member, kind: PairMemberKind::Data };
        if let Some(found) = PairPki::load(dir)? {
            if found.membership == membership {
                return Ok(found);
            }
            let who = &found.membership;
            let kind = kind_name(who.kind);
            let found = format!("{kind} member {} of cluster {}", who.member, HEXLOWER.encode(&who.cluster));
            return Err(PkiError::OtherMembership { path: dir.to_owned(), found });
        }
        // Whatever else is there is what a killed attempt left: nobody has got anything of it.
        make_dir(dir)?;
        let ca = PairCa::make(now_unix_seconds)?;
        let key = JoinKey::make()?;
        let certificate = ca.sign(&key.request()?, (&cluster, member), now_unix_seconds)?;
        let write = Writer { dir };
        write.pem(CA_KEY_FILE, &pem_text("PRIVATE KEY", &ca.key_der()))?;
        write.pem(CA_FILE, &pem_text("CERTIFICATE", ca.certificate()))?;
        write.pem(MEMBER_FILE, &format!("{}{}", pem_text("CERTIFICATE", &certificate), key.pem()))?;
        write.membership(&membership)?;
        PairPki::load(dir)?.ok_or_else(|| PkiError::Damaged {
            path: dir.join(PAIR_FILE),
            reason: "it vanished while it was written".to_owned(),
        })
    }

    /// Writes what was got at joining, `pair.toml` last: a machine that is killed before has not joined.
    ///
    /// # Errors
    /// [`PkiError::Answer`] when something is missing for a data node; [`PkiError::Io`].
    pub fn store_joined(dir: &Path, joined: &JoinedFiles<'_>) -> Result<PairPki, PkiError> {
        let answer = joined.answer;
        let missing = || PkiError::Answer("a key or certificate for a data node is missing".to_owned());
        make_dir(dir)?;
        // An old membership ends before anything of it is replaced.
        let write = Writer { dir };
        write.remove(PAIR_FILE)?;
        write.remove(NEXT_FILE)?;
        if joined.membership.kind == PairMemberKind::Data {
            let secret = [&answer.ca_key, &answer.web_ca_key].map(Option::as_ref);
            let [Some(ca_key), Some(web_ca_key)] = secret else { return Err(missing()) };
            let web_ca = answer.web_ca.as_ref().ok_or_else(missing)?;
            write.pem(CA_KEY_FILE, &pem_text("PRIVATE KEY", ca_key))?;
            write.pem(WEB_CA_KEY_FILE, &pem_text("PRIVATE KEY", web_ca_key))?;
            write.pem(WEB_CA_FILE, &pem_text("CERTIFICATE", web_ca))?;
        } else {
            for file in [CA_KEY_FILE, WEB_CA_KEY_FILE, WEB_CA_FILE] {
                write.remove(file)?;
            }
        }
        write.pem(CA_FILE, &pem_text("CERTIFICATE", &answer.ca))?;
        let chain: String = answer.chain.iter().map(|der| pem_text("CERTIFICATE", der)).collect();
        write.pem(MEMBER_FILE, &format!("{chain}{}", joined.key.pem()))?;
        write.bytes(SETTINGS_FILE, &answer.settings)?;
        write.membership(&joined.membership)?;
        PairPki::load(dir)?.ok_or_else(missing)
    }

    /// Who this machine is.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.membership
    }

    /// SHA-256 of the CA's certificate: what an invitation names.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Fingerprint {
        fingerprint(&self.ca)
    }

    /// How the pair's settings name this member.
    #[must_use]
    pub fn as_allowed(&self) -> AllowedMember {
        AllowedMember { fingerprint: fingerprint(&self.certificate), kind: self.membership.kind }
    }

    /// The CA with its key; a witness has none.
    ///
    /// # Errors
    /// [`PkiError::NoCaKey`].
    pub fn ca(&self) -> Result<&PairCa, PkiError> {
        self.ca_with_key.as_ref().ok_or(PkiError::NoCaKey)
    }

    /// The pair's settings as they were when this machine joined; `None` on the one that invited first.
    #[must_use]
    pub fn settings_at_joining(&self) -> Option<&[u8]> {
        self.settings.as_deref()
    }

    /// TLS for links, which lets in whom `allowed` names at that moment.
    ///
    /// # Errors
    /// [`PkiError::Issue`] when the certificate or key cannot be used.
    pub fn tls(&self, allowed: SharedAllowed) -> Result<PeerTls, PkiError> {
        Ok(PeerTls::Certificates(Arc::new(PeerCertificates::new(&self.ca, self.shown(), allowed)?)))
    }

    pub(super) fn shown(&self) -> Shown {
        Shown { chain: vec![self.certificate.clone(), self.ca.clone()], key: self.key.der() }
    }
}

/// Puts the CA of the HTTPS certificates that came with joining in force in `tls_dir` (`<data>/tls`), so that clients trust
/// one CA for both nodes. To be called before [`ServerTls::open`](crate::tls::ServerTls::open) at every start; does nothing
/// when there is none or it is there already.
///
/// # Errors
/// [`PkiError::Io`].
pub fn install_web_ca(pair_dir: &Path, tls_dir: &Path) -> Result<(), PkiError> {
    if load_membership(pair_dir)?.is_none() {
        return Ok(());
    }
    let (ca, key) = (read_optional(&pair_dir.join(WEB_CA_FILE))?, read_optional(&pair_dir.join(WEB_CA_KEY_FILE))?);
    let (Some(ca), Some(key)) = (ca, key) else { return Ok(()) };
    create_private_dir(tls_dir).map_err(PkiError::io("create", tls_dir))?;
    let write = Writer { dir: tls_dir };
    // Two files: killed between them, they do not belong together until the next start does it again.
    for (file, wanted) in [("ca-key.pem", key), ("ca.pem", ca)] {
        if read_optional(&tls_dir.join(file))?.as_deref() != Some(&wanted) {
            write.bytes(file, &wanted)?;
        }
    }
    Ok(())
}

/// The CA of this node's HTTPS certificates and its key, in DER: what the second data node is given at joining.
///
/// # Errors
/// [`PkiError::Damaged`] when it is missing or does not fit together; [`PkiError::Io`].
pub fn read_web_ca(tls_dir: &Path) -> Result<WebCa, PkiError> {
    let (ca, key) = ("ca.pem", "ca-key.pem");
    let certificate = load_certificate(tls_dir, ca)?;
    let damaged = |reason: String| PkiError::Damaged { path: tls_dir.join(key), reason };
    let key = KeyPair::from_pem(&load_text(tls_dir, key)?).map_err(|error| damaged(error.to_string()))?;
    let authority =
        PairCa::from_der(certificate.clone(), key.serialized_der()).map_err(|error| damaged(error.to_string()))?;
    Ok(WebCa { certificate: certificate.to_vec().into(), key: authority.key_der().into() })
}

/// The CA of the HTTPS certificates, in DER.
#[derive(Clone, PartialEq, Eq)]
pub struct WebCa {
    /// Its certificate.
    pub certificate: Bytes,
    /// Its key in PKCS#8.
    pub key: Bytes,
}

impl fmt::Debug for WebCa {
    // The key must not be printable by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebCa")
    }
}

/// Finds out that `dir` can be made and written to, before a one-time token is spent.
pub(in crate::replication) fn probe_writable(dir: &Path) -> Result<(), PkiError> {
    make_dir(dir)?;
    let write = Writer { dir };
    write.bytes("probe", b"")?;
    write.remove("probe")
}

fn load_membership(dir: &Path) -> Result<Option<Membership>, PkiError> {
    let path = dir.join(PAIR_FILE);
    let Some(bytes) = read_optional(&path)? else { return Ok(None) };
    let damaged = |reason: String| PkiError::Damaged { path: path.clone(), reason };
    let found: PairToml =
        toml::from_str(&String::from_utf8_lossy(&bytes)).map_err(|error| damaged(error.message().to_owned()))?;
    if found.format_version != FORMAT_VERSION {
        return Err(damaged(format!("format version {} is of another holdfast version", found.format_version)));
    }
    let cluster = HEXLOWER.decode(found.cluster_id.as_bytes()).ok().and_then(|id| <[u8; 16]>::try_from(id).ok());
    let cluster = cluster.ok_or_else(|| damaged("cluster_id must be 32 lower-case hex digits".to_owned()))?;
    let kind = [PairMemberKind::Data, PairMemberKind::Witness].into_iter().find(|kind| kind_name(*kind) == found.kind);
    let kind = kind.ok_or_else(|| damaged(format!("{:?} is no kind of member", found.kind)))?;
    Ok(Some(Membership { cluster, member: found.member, kind }))
}

/// A kind of member in files and texts.
pub(in crate::replication) const fn kind_name(kind: PairMemberKind) -> &'static str {
    match kind {
        PairMemberKind::Data => "data",
        PairMemberKind::Witness => "witness",
    }
}

pub(super) struct Writer<'a> {
    pub(super) dir: &'a Path,
}

impl Writer<'_> {
    fn bytes(&self, file: &str, bytes: &[u8]) -> Result<(), PkiError> {
        let path = self.dir.join(file);
        write_private(&path, bytes).map_err(PkiError::io("write", &path))
    }

    pub(super) fn pem(&self, file: &str, pem: &str) -> Result<(), PkiError> {
        self.bytes(file, pem.as_bytes())
    }

    pub(super) fn remove(&self, file: &str) -> Result<(), PkiError> {
        let path = self.dir.join(file);
        remove_durably(&path).map_err(PkiError::io("remove", &path))
    }

    fn membership(&self, membership: &Membership) -> Result<(), PkiError> {
        let text = toml::to_string(&PairToml {
            format_version: FORMAT_VERSION,
            cluster_id: HEXLOWER.encode(&membership.cluster),
            member: membership.member,
            kind: kind_name(membership.kind).to_owned(),
        })
        .map_err(PkiError::issue)?;
        self.pem(PAIR_FILE, &format!("# This machine's place in the pair. Do not edit or copy it.\n{text}"))
    }
}

fn make_dir(dir: &Path) -> Result<(), PkiError> {
    create_private_dir(dir).map_err(PkiError::io("create", dir))?;
    // Its entry in the data directory must survive a power cut, too.
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent).map_err(PkiError::io("sync", parent)),
        _ => Ok(()),
    }
}

pub(super) fn pem_text(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn load_text(dir: &Path, file: &str) -> Result<String, PkiError> {
    let path: PathBuf = dir.join(file);
    let bytes = read_optional(&path)?
        .ok_or_else(|| PkiError::Damaged { path: path.clone(), reason: "it is missing".to_owned() })?;
    String::from_utf8(bytes).map_err(|_| PkiError::Damaged { path, reason: "it is not text".to_owned() })
}

pub(super) fn load_certificate(dir: &Path, file: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(load_text(dir, file)?.as_bytes())
        .map_err(|error| PkiError::Damaged { path: dir.join(file), reason: error.to_string() })
}

pub(super) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    use io::Read as _;
    let limit = limits::TLS_PEM_BYTES_MAX as u64;
    match fs::File::open(path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(limit).read_to_end(&mut bytes).map_err(PkiError::io("read", path))?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::io("read", path)(source)),
    }
}
