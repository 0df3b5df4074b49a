//! The one-time set-up token: whoever opens the printed link becomes the first owner.
//!
//! It lives in `<data>/setup-link.txt` (mode 0600) until it is used, because `holdfast init --link` prints it again. Reading
//! that file needs the rights of the server's user, who owns everything anyway. Must never be logged, and must never outlive
//! the set-up.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::tokens::{TokenError, TokenKind, check_token_form, hashes_equal, new_token, token_hash};
use crate::limits::SETUP_WRONG_TRIES_MAX;
use crate::ops::durable_file::{FILE_MODE, create_private_dir, remove_durably, write_private};

/// The file, seen from the data directory.
const LINK_FILE: &str = "setup-link.txt";
/// Held while the file is read and replaced: the server and `holdfast init --link` are two processes.
const GUARD_FILE: &str = "run/setup-link.lock";

/// Why the set-up link cannot be used or printed.
#[derive(Debug)]
pub enum SetupError {
    /// The set-up was completed: the token is gone for good.
    AlreadyDone,
    /// The token is not the right one.
    Wrong {
        /// Wrong tries left before the link locks.
        tries_left: u32,
    },
    /// Too many wrong tries.
    Locked,
    /// The file was damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No token could be made.
    Token(TokenError),
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SetupError {
    /// The stable code that clients see.
    pub fn code(&self) -> &'static str {
        match self {
            SetupError::AlreadyDone => "setup_already_done",
            SetupError::Wrong { .. } => "setup_token_wrong",
            SetupError::Locked => "setup_locked",
            SetupError::Damaged { .. } | SetupError::Token(_) | SetupError::Io { .. } => "setup_unavailable",
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::AlreadyDone => {
                write!(f, "the set-up was already completed; sign in, or reset a password with `holdfast user passwd`")
            }
            SetupError::Wrong { tries_left } => write!(
                f,
                "this set-up link is not valid ({tries_left} tries left); print the right one on the server with \
                 `holdfast init --link`"
            ),
            SetupError::Locked => write!(
                f,
                "the set-up link is locked after {SETUP_WRONG_TRIES_MAX} wrong tries; run `holdfast init --link` on the \
                 server: it prints a fresh one"
            ),
            SetupError::Damaged { path, reason } => {
                write!(f, "{} cannot be read: {reason}; remove it and run `holdfast init --link`", path.display())
            }
            SetupError::Token(error) => write!(f, "{error}"),
            SetupError::Io { path, source } => {
                write!(f, "cannot use {}: {source}; check that this user owns the data directory", path.display())
            }
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SetupError::Io { source, .. } => Some(source),
            SetupError::Token(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TokenError> for SetupError {
    fn from(error: TokenError) -> Self {
        SetupError::Token(error)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    token: String,
    wrong_tries: u32,
}

/// The set-up link of one data directory. Every call reads the file, so a fresh link printed by another process counts at
/// once; it is asked only until the first owner exists. It locks and syncs files: call it from blocking threads.
#[derive(Clone, Debug)]
pub struct SetupLink {
    data: PathBuf,
}

impl SetupLink {
    /// The set-up link of `data`, whether there is one or not. Touches nothing.
    pub fn at(data: &Path) -> SetupLink {
        SetupLink { data: data.to_owned() }
    }

    /// Makes a token if there is none. Call it at a start without an owner, and only then: it would reopen the set-up.
    pub fn create_or_load(data: &Path) -> Result<SetupLink, SetupError> {
        let link = SetupLink::at(data);
        let _guard = link.guard()?;
        match link.read() {
            Ok(_) => {}
            Err(SetupError::AlreadyDone) => link.write(&fresh()?)?,
            Err(error) => return Err(error),
        }
        Ok(link)
    }

    /// Whether the set-up waits to be done.
    pub fn is_open(&self) -> bool {
        self.path().exists()
    }

    /// Whether too many wrong tries have locked the link.
    pub fn is_locked(&self) -> bool {
        self.read().is_ok_and(|stored| stored.wrong_tries >= SETUP_WRONG_TRIES_MAX)
    }

    /// The token to print. After too many wrong tries this makes a fresh one, which unlocks the link.
    pub fn print_token(&self) -> Result<String, SetupError> {
        let _guard = self.guard()?;
        let stored = self.read()?;
        if stored.wrong_tries < SETUP_WRONG_TRIES_MAX {
            return Ok(stored.token);
        }
        let fresh = fresh()?;
        self.write(&fresh)?;
        Ok(fresh.token)
    }

    /// Judges a token. A wrong one is counted, durably; a right one changes nothing (see [`consume`](Self::consume)).
    pub fn check(&self, token: &str) -> Result<(), SetupError> {
        let _guard = self.guard()?;
        let mut stored = self.read()?;
        if stored.wrong_tries >= SETUP_WRONG_TRIES_MAX {
            return Err(SetupError::Locked);
        }
        let well_formed = check_token_form(TokenKind::Setup, token).is_ok();
        if well_formed && hashes_equal(&token_hash(token), &token_hash(&stored.token)) {
            return Ok(());
        }
        stored.wrong_tries += 1;
        self.write(&stored)?;
        match SETUP_WRONG_TRIES_MAX - stored.wrong_tries {
            0 => Err(SetupError::Locked),
            tries_left => Err(SetupError::Wrong { tries_left }),
        }
    }

    /// Ends the set-up: removes the file, durably. Call it once the first owner is committed, and at every start that finds
    /// an owner (a crash between the two must not leave the link open). Fine when it is gone already.
    pub fn consume(&self) -> Result<(), SetupError> {
        let _guard = self.guard()?;
        remove_durably(&self.path()).map_err(|source| self.io_error(source))
    }

    /// The link for `public_url`: the token sits behind `#`, which browsers never send and proxies never log.
    pub fn url(public_url: &str, token: &str) -> String {
        format!("{}/setup#{token}", public_url.trim_end_matches('/'))
    }

    fn path(&self) -> PathBuf {
        self.data.join(LINK_FILE)
    }

    fn guard(&self) -> Result<File, SetupError> {
        let path = self.data.join(GUARD_FILE);
        let lock = || -> io::Result<File> {
            create_private_dir(&self.data.join("run"))?;
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        lock().map_err(|source| SetupError::Io { path: path.clone(), source })
    }

    fn read(&self) -> Result<Stored, SetupError> {
        let text = match fs::read_to_string(self.path()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SetupError::AlreadyDone),
            Err(source) => return Err(self.io_error(source)),
        };
        let damaged = |reason: String| SetupError::Damaged { path: self.path(), reason };
        let stored: Stored = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
        check_token_form(TokenKind::Setup, &stored.token).map_err(|error| damaged(error.to_string()))?;
        Ok(stored)
    }

    fn write(&self, stored: &Stored) -> Result<(), SetupError> {
        let body = toml::to_string(stored)
            .map_err(|error| SetupError::Damaged { path: self.path(), reason: error.to_string() })?;
        let text = format!("# The one-time set-up token. Print the link with: holdfast init --link\n{body}");
        write_private(&self.path(), text.as_bytes()).map_err(|source| self.io_error(source))
    }

    fn io_error(&self, source: io::Error) -> SetupError {
        SetupError::Io { path: self.path(), source }
    }
}

fn fresh() -> Result<Stored, SetupError> {
    Ok(Stored { token: new_token(TokenKind::Setup)?, wrong_tries: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::durable_file::mode_of;

    fn open() -> (tempfile::TempDir, SetupLink) {
        let dir = tempfile::tempdir().unwrap();
        let link = SetupLink::create_or_load(dir.path()).unwrap();
        (dir, link)
    }

    #[test]
    fn the_link_is_private_and_stays_the_same_until_it_is_used() {
        let (dir, link) = open();
        let token = link.print_token().unwrap();
        assert_eq!(mode_of(&link.path()).unwrap(), FILE_MODE);
        let again = SetupLink::create_or_load(dir.path()).unwrap();
        assert_eq!(again.print_token().unwrap(), token);
        again.check(&token).unwrap();
        again.check(&token).unwrap();
        assert!(link.is_open());
        again.consume().unwrap();
        assert!(!link.is_open());
        assert_eq!(link.check(&token).unwrap_err().code(), "setup_already_done");
        assert!(matches!(link.print_token(), Err(SetupError::AlreadyDone)));
        link.consume().unwrap();
    }

    #[test]
    fn wrong_tries_lock_until_it_is_printed_again() {
        let (dir, link) = open();
        let token = link.print_token().unwrap();
        for left in (1..SETUP_WRONG_TRIES_MAX).rev() {
            let wrong = if left % 2 == 0 { "nonsense".to_owned() } else { new_token(TokenKind::Setup).unwrap() };
            assert!(matches!(link.check(&wrong), Err(SetupError::Wrong { tries_left }) if tries_left == left));
        }
        assert_eq!(link.print_token().unwrap(), token, "printing before the lock gives the same link");
        assert!(matches!(link.check("x"), Err(SetupError::Locked)));
        let restarted = SetupLink::create_or_load(dir.path()).unwrap();
        let error = restarted.check(&token).unwrap_err();
        assert_eq!(error.code(), "setup_locked", "a restart does not unlock it");
        assert!(error.to_string().contains("holdfast init --link"));
        let fresh = SetupLink::at(dir.path()).print_token().unwrap();
        assert_ne!(fresh, token);
        assert!(matches!(restarted.check(&token), Err(SetupError::Wrong { .. })), "the old link is dead");
        restarted.check(&fresh).unwrap();
    }

    #[test]
    fn parallel_guesses_are_all_counted() {
        let (_dir, link) = open();
        std::thread::scope(|scope| {
            for _ in 0..SETUP_WRONG_TRIES_MAX {
                scope.spawn(|| link.check("wrong").unwrap_err());
            }
        });
        assert!(matches!(link.check("wrong"), Err(SetupError::Locked)));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (dir, link) = open();
        for text in ["", "token = \"hfs_short\"\nwrong_tries = 0\n", "\u{0}\u{1}"] {
            fs::write(link.path(), text).unwrap();
            let error = link.check("x").unwrap_err();
            assert!(matches!(error, SetupError::Damaged { .. }), "{error}");
            assert!(SetupLink::create_or_load(dir.path()).is_err(), "never silently replaced");
        }
    }

    #[test]
    fn the_url_keeps_the_token_off_the_wire() {
        assert_eq!(SetupLink::url("https://chat.example.lan/", "hfs_x"), "https://chat.example.lan/setup#hfs_x");
    }
}
