//! What a backup says about itself: its manifest, signed, and the names of its parts. Must never accept a manifest whose
//! signature or name does not fit, and never build a path from one that could leave the repository.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::HEXLOWER;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::limits::BACKUP_MANIFEST_BYTES_MAX;

/// The format of manifests that this build writes, and the newest that it reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// Why a manifest is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// It is none, or not whole.
    Malformed(String),
    /// A newer build wrote it.
    TooNew {
        /// Its format.
        format: u32,
        /// The version of the program that wrote it.
        program: String,
    },
    /// The signature does not fit its content.
    BadSignature,
    /// Another key signed it than the one asked for.
    WrongSigner {
        /// The fingerprint of who signed.
        found: String,
        /// The fingerprint of who should have.
        wanted: String,
    },
    /// It lies under another name than its own.
    Misnamed {
        /// The name it was read under.
        found: String,
        /// Its own name.
        own: String,
    },
    /// The signing key could not be read.
    BadKey,
}

impl ManifestError {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "manifest_malformed",
            Self::TooNew { .. } => "manifest_too_new",
            Self::BadSignature => "manifest_bad_signature",
            Self::WrongSigner { .. } => "manifest_wrong_signer",
            Self::Misnamed { .. } => "manifest_misnamed",
            Self::BadKey => "signing_key_unreadable",
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "this is no manifest of a backup: {what}"),
            Self::TooNew { format, program } => write!(
                f,
                "the manifest has format {format}, written by holdfast {program}; this build reads up to {MANIFEST_FORMAT}"
            ),
            Self::BadSignature => f.write_str("the manifest was changed after it was signed"),
            Self::WrongSigner { found, wanted } => {
                write!(f, "the manifest was signed by {found}, not by {wanted}")
            }
            Self::Misnamed { found, own } => write!(f, "the manifest under the name {found} is the one of {own}"),
            Self::BadKey => f.write_str("the signing key is damaged"),
        }
    }
}

impl std::error::Error for ManifestError {}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// A snapshot of its own.
    Full,
    /// What came since the backup before.
    Incremental,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// A snapshot's own manifest.
    SnapshotManifest,
    /// A chunk of a snapshot.
    SnapshotChunk,
    /// A range of the log.
    Log,
    /// The list of blobs.
    BlobList,
    /// Certificate authority or configuration of the node.
    Extra,
}

/// One stored file of a backup. Blobs are in the blob list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its path in the repository.
    pub path: String,
    /// What it is.
    pub kind: PartKind,
    /// Its stored length, in bytes.
    pub size: u64,
    /// The BLAKE3 of the stored bytes, in hex.
    pub blake3: String,
}

/// A blob in a blob list: one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobLine {
    /// The BLAKE3 of its content, in hex: the blob's name.
    pub blob: String,
    /// The length of its content, in bytes.
    pub bytes: u64,
    /// The stored length, in bytes; the same as `bytes` without encryption.
    pub size: u64,
    /// The BLAKE3 of the stored bytes, in hex.
    pub blake3: String,
}

/// A position in the log with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPoint {
    /// The last record's index.
    pub index: u64,
    /// Its epoch: number in the high 48 bits, node in the low 16.
    pub epoch: u64,
    /// When it was proposed, in Unix milliseconds; 0 before the first record.
    pub at_ms: u64,
    /// The chain hash after it, in hex.
    pub chain: String,
}

/// The manifest that this one goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its name, without folder and `.json`.
    pub name: String,
    /// The BLAKE3 of its bytes, in hex.
    pub blake3: String,
}

/// The snapshot of a full backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRef {
    /// The last record in it.
    pub index: u64,
    /// The state hash there, in hex.
    pub state_hash: String,
    /// Rows of each kind.
    pub counts: BTreeMap<String, u64>,
}

/// One backup. Digests are in hex, times in Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// See [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// What it holds.
    pub kind: BackupKind,
    /// The cluster's id.
    pub cluster: String,
    /// What people call the organisation.
    pub organisation: String,
    /// The node that made it.
    pub node: u16,
    /// When it was begun.
    pub started_ms: u64,
    /// When its last part was stored.
    pub finished_ms: u64,
    /// The first record of the log parts that it adds; `until.index + 1` when it adds none.
    pub log_first: u64,
    /// Up to where it restores.
    pub until: LogPoint,
    /// The state hash at `until`, when the node knew it there.
    pub state_hash: Option<String>,
    /// Of a full: its snapshot.
    pub snapshot: Option<SnapshotRef>,
    /// The manifest before it in this repository.
    pub previous: Option<Previous>,
    /// The public keys that its parts are encrypted for (`age1…`), sorted; empty: not encrypted.
    pub recipients: Vec<String>,
    /// What it adds, except for blobs.
    pub parts: Vec<Part>,
    /// How many blobs its blob list has.
    pub blobs: u64,
    /// Their stored bytes.
    pub blob_bytes: u64,
    /// Bytes that this backup stored, blobs included.
    pub stored_bytes: u64,
    /// The signer's Ed25519 public key, in hex.
    pub signer: String,
    /// The signature over this document with an empty string here, as compact JSON, in hex.
    pub signature: String,
}

/// The key that signs manifests and drill reports. One per cluster.
pub struct Signer {
    key: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Signer {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`ManifestError::BadKey`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, ManifestError> {
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| ManifestError::BadKey)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a key that [`pkcs8`](Self::pkcs8) gave.
    ///
    /// # Errors
    /// [`ManifestError::BadKey`] when it is none.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, ManifestError> {
        let key = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| ManifestError::BadKey)?;
        Ok(Self { key, pkcs8: bytes.to_vec() })
    }

    /// The key itself. Secret.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key, in hex.
    #[must_use]
    pub fn public_key(&self) -> String {
        HEXLOWER.encode(self.key.public_key().as_ref())
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.key.public_key().as_ref())
    }

    /// Signs bytes; the signature is in hex.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> String {
        HEXLOWER.encode(self.key.sign(bytes).as_ref())
    }
}

/// Checks a signature of [`Signer::sign`] by the public key `signer`; both in hex. Gives the signer's fingerprint.
///
/// # Errors
/// [`ManifestError::BadSignature`].
pub fn check_signature(signer: &str, bytes: &[u8], signature: &str) -> Result<String, ManifestError> {
    let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).map_err(|_| ManifestError::BadSignature);
    let (key, signature) = (hex(signer)?, hex(signature)?);
    UnparsedPublicKey::new(&ED25519, &key).verify(bytes, &signature).map_err(|_| ManifestError::BadSignature)?;
    Ok(fingerprint(&key))
}

/// 16 bytes of the key's BLAKE3 in groups of four: long enough that nobody finds a second key, short enough to read out.
fn fingerprint(public_key: &[u8]) -> String {
    let digest = blake3::hash(public_key);
    let hex = HEXLOWER.encode(digest.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    hex.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-")
}

impl Manifest {
    /// Its name, without folder and `.json`: the time it was begun and the index up to which it restores.
    #[must_use]
    pub fn name(&self) -> String {
        backup_name(self.started_ms, self.until.index)
    }

    /// Its path in the repository.
    #[must_use]
    pub fn path(&self) -> String {
        manifest_path(&self.name())
    }

    /// Whether its parts are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// The path of a blob of this backup's blob list.
    #[must_use]
    pub fn blob_path(&self, hash: &crate::blobs::BlobHash) -> String {
        encrypted_blob_path(hash, recipients_tag(&self.recipients).as_deref())
    }

    /// Signs it and gives its bytes.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] when it is larger than any build would read.
    pub fn to_signed_bytes(&mut self, signer: &Signer) -> Result<Vec<u8>, ManifestError> {
        self.signer = signer.public_key();
        self.signature = signer.sign(&self.unsigned_bytes()?);
        let bytes = serde_json::to_vec_pretty(self).map_err(malformed)?;
        if bytes.len() > BACKUP_MANIFEST_BYTES_MAX {
            return Err(ManifestError::Malformed(format!("{} bytes are too many", bytes.len())));
        }
        Ok(bytes)
    }

    fn unsigned_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(&Self { signature: String::new(), ..self.clone() }).map_err(malformed)
    }

    /// Reads the manifest that lies under `name` (without folder and `.json`) and checks signature, name and paths. Gives it
    /// with the signer's fingerprint.
    ///
    /// # Errors
    /// [`ManifestError`]: it is not to be believed.
    pub fn read(name: &str, bytes: &[u8]) -> Result<(Self, String), ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            program: String,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.format == 0 || head.format > MANIFEST_FORMAT {
            return Err(ManifestError::TooNew { format: head.format, program: head.program });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        let fingerprint = check_signature(&manifest.signer, &manifest.unsigned_bytes()?, &manifest.signature)?;
        if manifest.name() != name {
            return Err(ManifestError::Misnamed { found: name.to_owned(), own: manifest.name() });
        }
        if let Some(part) = manifest.parts.iter().find(|part| !is_safe_path(&part.path)) {
            return Err(ManifestError::Malformed(format!("{} is no path in a repository", part.path.escape_default())));
        }
        Ok((manifest, fingerprint))
    }
}

fn malformed(error: serde_json::Error) -> ManifestError {
    ManifestError::Malformed(error.to_string())
}

/// `YYYYMMDDTHHMMSSZ-<index, 20 digits>`: sorts by time.
#[must_use]
pub fn backup_name(at_ms: u64, index: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{}-{index:020}", at.strftime("%Y%m%dT%H%M%SZ"))
}

/// The path of the manifest of this name.
#[must_use]
pub fn manifest_path(name: &str) -> String {
    format!("manifests/{name}.json")
}

/// The path of a log part, without `.age`.
#[must_use]
pub fn log_path(first: u64, last: u64) -> String {
    format!("log/{first:020}-{last:020}.zst")
}

/// The first and the last record of a log part, by its path; `None` when it is none. Where another content had the name
/// already, the backup's time stands behind the records.
#[must_use]
pub fn log_range(path: &str) -> Option<(u64, u64)> {
    let mut name = path.strip_prefix("log/")?.split('.').next()?.split('-');
    let mut number = || name.next().filter(|digits| digits.len() == 20)?.parse().ok();
    let (first, last) = (number()?, number()?);
    (first <= last).then_some((first, last))
}

/// The path of a blob, without `.age`.
#[must_use]
pub fn blob_path(hash: &crate::blobs::BlobHash) -> String {
    let hex = hash.to_string();
    format!("blobs/{}/{}/{hex}", &hex[..2], &hex[2..4])
}

/// What stands for a set of recipients (sorted) in the names of their blobs; `None` for nobody: not encrypted. With other
/// keys the same blob is another part, so that losing an old key never loses what was stored after it was replaced.
#[must_use]
pub fn recipients_tag(recipients: &[String]) -> Option<String> {
    let hex = blake3::hash(recipients.join("\n").as_bytes()).to_hex();
    (!recipients.is_empty()).then(|| hex.as_str().chars().take(8).collect())
}

/// The path of a blob: as [`blob_path`], and `-<tag>.age` behind it when it is encrypted.
#[must_use]
pub fn encrypted_blob_path(hash: &crate::blobs::BlobHash, tag: Option<&str>) -> String {
    let path = blob_path(hash);
    tag.map_or_else(|| path.clone(), |tag| format!("{path}-{tag}.age"))
}

/// Whether this is a path as we build them: relative, of plain names, nothing that leads out.
#[must_use]
pub fn is_safe_path(path: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    path.len() <= 256 && path.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: MANIFEST_FORMAT,
            program: "0.1.0".to_owned(),
            kind: BackupKind::Full,
            cluster: "00".repeat(16),
            organisation: "Example 示例".to_owned(),
            node: 1,
            started_ms: 1_790_000_000_123,
            finished_ms: 1_790_000_001_000,
            log_first: 1,
            until: LogPoint { index: 42, epoch: 1 << 16 | 1, at_ms: 1_790_000_000_000, chain: "ab".repeat(32) },
            state_hash: None,
            snapshot: None,
            previous: None,
            recipients: Vec::new(),
            parts: vec![Part { path: log_path(1, 42), kind: PartKind::Log, size: 7, blake3: "cd".repeat(32) }],
            blobs: 0,
            blob_bytes: 0,
            stored_bytes: 7,
            signer: String::new(),
            signature: String::new(),
        }
    }

    #[test]
    fn a_signed_manifest_comes_back_and_names_its_signer() {
        let signer = Signer::generate().unwrap();
        let again = Signer::from_pkcs8(signer.pkcs8()).unwrap();
        let mut written = manifest();
        let bytes = written.to_signed_bytes(&again).unwrap();
        let (read, fingerprint) = Manifest::read("20260921T141320Z-00000000000000000042", &bytes).unwrap();
        assert_eq!((read, fingerprint), (written, signer.fingerprint()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = manifest().to_signed_bytes(&Signer::generate().unwrap()).unwrap();
        let name = manifest().name();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            // White space between the fields is not part of what is signed.
            let harmless = bytes[place].is_ascii_whitespace() || changed[place].is_ascii_whitespace();
            assert!(harmless || Manifest::read(&name, &changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_manifest_under_another_name_or_by_a_newer_build_is_refused() {
        let signer = Signer::generate().unwrap();
        let bytes = manifest().to_signed_bytes(&signer).unwrap();
        let error = Manifest::read("20260921T141320Z-00000000000000000041", &bytes).unwrap_err();
        assert_eq!(error.code(), "manifest_misnamed");
        let mut newer = Manifest { format: MANIFEST_FORMAT + 1, ..manifest() };
        let bytes = newer.to_signed_bytes(&signer).unwrap();
        assert_eq!(Manifest::read(&newer.name(), &bytes).unwrap_err().code(), "manifest_too_new");
    }

    #[test]
    fn a_signed_path_that_leads_out_is_refused() {
        for path in ["../x", "/etc/passwd", "log/../../x", "log//x", "log/.hidden", "log/a b", "", "log/\u{e9}"] {
            let mut bad = manifest();
            bad.parts[0].path = path.to_owned();
            let bytes = bad.to_signed_bytes(&Signer::generate().unwrap()).unwrap();
            assert_eq!(Manifest::read(&bad.name(), &bytes).unwrap_err().code(), "manifest_malformed", "{path:?}");
        }
    }

    #[test]
    fn a_log_part_says_its_records_whatever_stands_behind_them() {
        let path = log_path(7, 1_000);
        let renamed = path.replace(".zst", "-20260921T141320Z.zst.age");
        assert_eq!((log_range(&path), log_range(&renamed)), (Some((7, 1_000)), Some((7, 1_000))));
        for path in ["log/7-9.zst", "snapshots/x", "log/", &log_path(9, 7)] {
            assert_eq!(log_range(path), None, "{path}");
        }
    }

    #[test]
    fn blobs_of_other_keys_are_other_parts() {
        let hash = crate::blobs::BlobHash::of(b"x");
        let path = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            encrypted_blob_path(&hash, recipients_tag(&keys).as_deref())
        };
        assert_eq!(path(&[]), blob_path(&hash));
        assert!(path(&["age1a"]) != path(&["age1b"]) && path(&["age1a"]).ends_with(".age"));
        assert!(is_safe_path(&path(&["age1a", "age1b"])));
    }

    #[test]
    fn names_sort_by_time() {
        let names =
            [backup_name(1_790_000_000_000, 9), backup_name(1_790_000_001_000, 1), backup_name(1_890_000_000_000, 0)];
        assert!(names.is_sorted());
    }
}
