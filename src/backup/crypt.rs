//! Encryption of parts in the format of `age`, to public keys: what is stolen with the server cannot read its backups. Must
//! never print a private key, and never hold more of a part than a few pieces in memory.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, x25519};
use parking_lot::Mutex;

use crate::limits::BACKUP_KEY_FILE_BYTES_MAX;
use crate::ops::durable_file::{create_private_file, sync_dir};

/// Bytes encrypted at once: the piece that `age` encrypts as a whole.
const PIECE_BYTES: usize = 64 << 10;

/// Why something could not be encrypted or decrypted.
#[derive(Debug)]
pub enum CryptError {
    /// A text is no key of the kind that is needed.
    Invalid {
        /// Which, without the key itself if it is private.
        which: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// None of the keys fits.
    Wrong,
    /// There is a file where the new key was to be written.
    Exists(PathBuf),
    /// The encrypted file is damaged, or is none.
    Damaged(String),
    /// The system refused.
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CryptError {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "key_invalid",
            Self::Wrong => "key_wrong",
            Self::Exists(_) => "key_file_exists",
            Self::Damaged(_) => "encrypted_damaged",
            Self::Io { .. } => "key_file_io",
        }
    }
}

impl fmt::Display for CryptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { which, what } => write!(f, "{which}: {what}"),
            Self::Wrong => f.write_str("none of the given keys can decrypt this backup"),
            Self::Exists(path) => write!(f, "{} exists already; a key is never overwritten", path.display()),
            Self::Damaged(what) => write!(f, "the encrypted file is damaged: {what}"),
            Self::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for CryptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A public key that parts are encrypted for: `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl FromStr for Recipient {
    type Err = CryptError;

    fn from_str(text: &str) -> Result<Self, CryptError> {
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            let what = "a private key stands where the public one (age1…) belongs; it should not be on this machine";
            return Err(CryptError::Invalid { which: "recipient".to_owned(), what });
        }
        let shown: String = text.chars().take(80).collect::<String>().escape_default().to_string();
        let invalid =
            |_| CryptError::Invalid { which: shown, what: "this is no public key (age1…) of holdfast or age" };
        text.parse().map(Self).map_err(invalid)
    }
}

/// A private key: `AGE-SECRET-KEY-1…`. Never printed.
#[derive(Clone)]
pub struct Identity(x25519::Identity);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.recipient())
    }
}

impl Identity {
    /// Makes a new key.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Its public key.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// The content of a key file, as `age-keygen` writes it. Secret. `created` is an RFC 3339 time.
    #[must_use]
    pub fn to_file_text(&self, created: &str) -> String {
        let secret = self.0.to_string();
        format!("# created: {created}\n# public key: {}\n{}\n", self.recipient(), secret.expose_secret())
    }

    /// Writes the key to a new file that only its owner may read, durably. `created` is an RFC 3339 time.
    ///
    /// # Errors
    /// [`CryptError::Exists`]; [`CryptError::Io`].
    pub fn write_new(&self, path: &Path, created: &str) -> Result<(), CryptError> {
        let failed = |op| move |source| CryptError::Io { op, path: path.to_owned(), source };
        let mut file = create_private_file(path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => CryptError::Exists(path.to_owned()),
            _ => failed("create")(e),
        })?;
        file.write_all(self.to_file_text(created).as_bytes()).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(parent).map_err(failed("sync"))
    }
}

/// Reads private keys from the text of a key file: one per line, `#` begins a comment. `which` names the file in errors.
///
/// # Errors
/// [`CryptError::Invalid`] naming the line, or when there is no key at all.
pub fn parse_identities(text: &str, which: &str) -> Result<Vec<Identity>, CryptError> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.parse().map_err(|_| CryptError::Invalid {
            which: format!("{which}, line {}", number + 1),
            what: "this is no private key (AGE-SECRET-KEY-1…)",
        })?;
        found.push(Identity(key));
    }
    if found.is_empty() {
        return Err(CryptError::Invalid { which: which.to_owned(), what: "there is no private key in it" });
    }
    Ok(found)
}

/// Reads private keys from a key file.
///
/// # Errors
/// As [`parse_identities`]; [`CryptError::Io`].
pub fn read_identities(path: &Path) -> Result<Vec<Identity>, CryptError> {
    let failed = |source| CryptError::Io { op: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(BACKUP_KEY_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let which = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) if text.len() <= BACKUP_KEY_FILE_BYTES_MAX => parse_identities(&text, &which),
        _ => Err(CryptError::Invalid { which, what: "this is no key file" }),
    }
}

/// Where the encrypted bytes wait to be read.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<u8>>>);

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the encrypted form of what it reads.
pub struct Encrypting<R> {
    source: R,
    /// `None` after the end.
    writer: Option<StreamWriter<Outbox>>,
    outbox: Outbox,
    ready: Vec<u8>,
    given: usize,
    piece: Vec<u8>,
}

impl<R: Read> Encrypting<R> {
    /// Encrypts `source` for all `recipients`; each of them alone can decrypt it.
    ///
    /// # Errors
    /// [`CryptError::Invalid`] without recipients.
    pub fn new(source: R, recipients: &[Recipient]) -> Result<Self, CryptError> {
        let keys = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let refused = |_| CryptError::Invalid { which: "recipients".to_owned(), what: "they cannot be encrypted for" };
        let outbox = Outbox::default();
        let encryptor = Encryptor::with_recipients(keys).map_err(refused)?;
        let writer = encryptor.wrap_output(outbox.clone()).map_err(|e| CryptError::Damaged(e.to_string()))?;
        Ok(Self { source, writer: Some(writer), outbox, ready: Vec::new(), given: 0, piece: vec![0; PIECE_BYTES] })
    }

    /// Encrypts one more piece, or the end.
    fn advance(&mut self) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let count = self.source.read(&mut self.piece)?;
        if count > 0 {
            writer.write_all(&self.piece[..count])?;
        } else if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Encrypting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
            std::mem::swap(&mut *self.outbox.0.lock(), &mut self.ready);
            if self.ready.is_empty() {
                if self.writer.is_none() {
                    return Ok(0);
                }
                self.advance()?;
            }
        }
        let count = out.len().min(self.ready.len() - self.given);
        out[..count].copy_from_slice(&self.ready[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

/// Opens an encrypted file with whichever of the keys fits; what it gives is checked piece by piece, and a file that ends
/// early is an [`io::Error`].
///
/// # Errors
/// [`CryptError::Wrong`] when none fits; [`CryptError::Damaged`].
pub fn decrypt<R: Read>(source: R, identities: &[Identity]) -> Result<impl Read + use<R>, CryptError> {
    let failed = |error| match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => CryptError::Wrong,
        other => CryptError::Damaged(other.to_string()),
    };
    let decryptor = Decryptor::new_buffered(BufReader::with_capacity(PIECE_BYTES, source)).map_err(failed)?;
    decryptor.decrypt(identities.iter().map(|identity| &identity.0 as &dyn age::Identity)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypt(content: &[u8], recipients: &[Recipient]) -> Vec<u8> {
        let mut out = Vec::new();
        Encrypting::new(content, recipients).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 / 8) as u8).collect()
    }

    #[test]
    fn each_recipient_alone_decrypts_and_sizes_around_the_piece_come_back() {
        let (first, second) = (Identity::generate(), Identity::generate());
        let recipients = [first.recipient(), second.recipient()];
        for bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 300_007] {
            let plain = content(bytes);
            let encrypted = encrypt(&plain, &recipients);
            for identity in [&first, &second] {
                let mut back = Vec::new();
                decrypt(&encrypted[..], std::slice::from_ref(identity)).unwrap().read_to_end(&mut back).unwrap();
                assert!(back == plain, "{bytes}");
            }
        }
    }

    #[test]
    fn a_wrong_key_and_damage_are_told_apart() {
        let (right, wrong) = (Identity::generate(), Identity::generate());
        let encrypted = encrypt(&content(100_000), &[right.recipient()]);
        assert_eq!(decrypt(&encrypted[..], &[wrong]).err().unwrap().code(), "key_wrong");
        let open = |bytes: &[u8]| {
            let mut back = Vec::new();
            decrypt(bytes, std::slice::from_ref(&right)).map(|mut read| read.read_to_end(&mut back).is_ok())
        };
        assert!(open(&encrypted).unwrap());
        assert!(!open(&encrypted[..encrypted.len() - 1]).unwrap(), "cut short");
        assert!(!open(&encrypted[..encrypted.len() - 40_000]).unwrap(), "cut short by a piece");
        let mut changed = encrypted.clone();
        changed[encrypted.len() / 2] ^= 1;
        assert!(!open(&changed).unwrap());
        assert_eq!(open(b"not an age file").unwrap_err().code(), "encrypted_damaged");
    }

    #[test]
    fn a_key_file_is_private_is_read_again_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.txt");
        let identity = Identity::generate();
        identity.write_new(&path, "2026-11-21T12:00:00Z").unwrap();
        assert_eq!(crate::ops::durable_file::mode_of(&path).unwrap(), 0o600);
        let read = read_identities(&path).unwrap();
        assert_eq!(read[0].recipient().to_string(), identity.recipient().to_string());
        assert_eq!(identity.write_new(&path, "").unwrap_err().code(), "key_file_exists");
        assert!(!format!("{identity:?}").contains("SECRET"));
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line_and_a_private_key_is_not_repeated() {
        let private = Identity::generate().to_file_text("x").lines().last().unwrap().to_owned();
        let error = private.parse::<Recipient>().unwrap_err();
        assert!(error.code() == "key_invalid" && !error.to_string().contains(&private[20..]), "{error}");
        for text in ["", "age1", "age1xyz", "ssh-ed25519 AAAA", "示例"] {
            assert_eq!(text.parse::<Recipient>().unwrap_err().code(), "key_invalid", "{text}");
        }
        let error = parse_identities(&format!("# mine\n{private}\nnonsense\n"), "key.txt").unwrap_err();
        assert!(error.to_string().contains("key.txt, line 3"), "{error}");
        assert_eq!(parse_identities("# empty\n", "key.txt").unwrap_err().code(), "key_invalid");
    }
}
