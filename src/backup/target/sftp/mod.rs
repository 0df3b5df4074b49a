//! A folder on an SSH server, by SFTP. A file grows under `.unfinished/`, is synced where the server can, and is renamed to its
//! name when its length is right. A connection that breaks is made again, and an upload goes on where it was.
//!
//! Must never follow a link on the server, nor write to a file's own name.

mod read;
mod session;
mod write;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, Status, StatusCode};
use tokio::runtime::Handle;

pub(super) use read::SftpRead;
use session::Session;

use super::fault::{Fault, Patience};
use super::{Stored, TargetError};
use crate::limits::{BACKUP_COPY_BYTES, BACKUP_RETRY_FIRST_MS, BACKUP_SFTP_FOLDERS_IN_FLIGHT};

/// Where a folder on an SSH server is, and who we are there.
#[derive(Clone, Default)]
pub struct SftpSettings {
    /// The host's name or address.
    pub host: String,
    /// The port; 0: 22.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The password; with a private key, the key's passphrase.
    pub password: String,
    /// The private key in OpenSSH form; empty: the password is used.
    pub private_key: String,
    /// The folder. It has to be there.
    pub path: String,
    /// The fingerprint of the host's key, `SHA256:…`: another host is not talked to.
    pub host_key: String,
    /// How long it is waited for.
    pub patience: Patience,
}

impl SftpSettings {
    /// `host:port`, for people.
    fn place(&self) -> String {
        format!("{}:{}", self.host, if self.port == 0 { 22 } else { self.port })
    }
}

impl fmt::Debug for SftpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SftpSettings({}@{}:{})", self.user, self.place(), self.path)
    }
}

/// What ended one try.
enum Trouble {
    /// The server answered no.
    No(Status),
    /// Something on the way: it may help to try again.
    Way(Fault),
    /// It will not get better by itself.
    Final(TargetError),
    /// The host has no key of the kind that was asked for, or another one.
    NoSuchKey,
}

/// The folder.
pub(super) struct Sftp {
    settings: SftpSettings,
    root: String,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Folders that were there since we began.
    known: Mutex<HashSet<String>>,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Sftp {
    /// The folder, ready to be asked. Nothing is sent yet.
    pub(super) fn new(settings: &SftpSettings) -> Result<Self, TargetError> {
        let bad = |why: &str| Err(TargetError::BadSettings(why.to_owned()));
        if settings.host.is_empty() || settings.user.is_empty() {
            return bad("an SFTP target needs a host and a user");
        }
        let root = match settings.path.trim_end_matches('/') {
            "" if settings.path.starts_with('/') => "/".to_owned(),
            "" => ".".to_owned(),
            path => path.to_owned(),
        };
        Ok(Self { settings: settings.clone(), root, session: tokio::sync::Mutex::default(), known: Mutex::default() })
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.root.trim_end_matches('/'))
    }

    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        *held = None;
        let session = Session::open(&self.settings).await?;
        match session.raw.stat(&self.root).await {
            Ok(found) if found.attrs.is_dir() => {}
            Err(error) if !is_no_such_file(&error) => return Err(self.trouble(error)),
            _ => {
                let place = format!("{} on {}", self.settings.path, self.settings.place());
                return Err(Trouble::Final(TargetError::NotThere(place)));
            }
        }
        self.known.lock().clear();
        let session = Arc::new(session);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn forget(&self, broken: u64) {
        let mut held = self.session.lock().await;
        if held.as_ref().is_some_and(|session| session.id == broken) {
            *held = None;
        }
    }

    fn trouble(&self, error: Error) -> Trouble {
        let place = self.settings.place();
        match error {
            Error::Status(status) => Trouble::No(status),
            Error::Timeout => Trouble::Way(Fault::Silent { place, seconds: self.settings.patience.timeout.as_secs() }),
            other => Trouble::Way(Fault::Broken { place, cause: other.to_string() }),
        }
    }

    /// Does `work` on a connection, and again on a new one when it broke.
    async fn on_session<T>(
        &self,
        tried: (&'static str, &str),
        mut work: impl AsyncFnMut(&Arc<Session>) -> Result<T, Trouble>,
    ) -> Result<T, TargetError> {
        let (op, path) = tried;
        let mut pause = BACKUP_RETRY_FIRST_MS;
        let mut left = self.settings.patience.retries;
        loop {
            let outcome = match self.session().await {
                Ok(session) => {
                    let outcome = work(&session).await;
                    if matches!(outcome, Err(Trouble::Way(_))) {
                        self.forget(session.id).await;
                    }
                    outcome
                }
                Err(trouble) => Err(trouble),
            };
            match outcome {
                Ok(done) => return Ok(done),
                Err(Trouble::Way(fault)) if left == 0 => return Err(fault.into_target(op, path)),
                Err(Trouble::Way(fault)) => tracing::debug!(%fault, "a backup target is tried again"),
                Err(Trouble::No(status)) => return Err(self.refused(op, path, &status).await),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::NoSuchKey) => {
                    return Err(TargetError::KeyRefused { cause: "the host has no such key".to_owned() });
                }
            }
            left -= 1;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause *= 2;
        }
    }

    /// What a no means. SFTP has one word for most reasons, so the file system is looked at.
    async fn refused(&self, op: &'static str, path: &str, status: &Status) -> TargetError {
        const READ_ONLY: u64 = 1;
        let place = self.settings.place();
        let cause = format!("{place} answered: {}", status.error_message);
        let path = path.to_owned();
        let writes = matches!(op, "write" | "remove");
        if writes && matches!(status.status_code, StatusCode::Failure | StatusCode::PermissionDenied) {
            let session = self.session.lock().await.clone();
            if let Some(session) = session.filter(|session| session.knows("statvfs@openssh.com"))
                && let Ok(room) = session.raw.statvfs(&self.root).await
            {
                if room.flags & READ_ONLY != 0 {
                    return TargetError::ReadOnly { place: format!("{} on {place}", self.settings.path) };
                }
                // It may have refused the last piece that would have filled the disk.
                let free = room.blocks_avail.saturating_mul(room.fragment_size);
                if op == "write" && free < BACKUP_COPY_BYTES as u64 {
                    return TargetError::Full { path };
                }
            }
        }
        match status.status_code {
            StatusCode::NoSuchFile => TargetError::NotFound(path),
            StatusCode::PermissionDenied => TargetError::Denied { op, path, cause },
            _ => TargetError::Unreachable { op, path, cause },
        }
    }

    /// The attributes of a file of ours; `None` when there is none.
    async fn attributes(&self, session: &Session, path: &str) -> Result<Option<FileAttributes>, Trouble> {
        match session.raw.lstat(self.at(path)).await {
            Ok(found) if found.attrs.is_regular() => Ok(Some(found.attrs)),
            Ok(_) => Ok(None),
            Err(error) if is_no_such_file(&error) => Ok(None),
            Err(error) => Err(self.trouble(error)),
        }
    }

    /// The length of a file in bytes.
    pub(super) fn size(&self, runtime: &Handle, path: &str) -> Result<Option<u64>, TargetError> {
        runtime.block_on(self.on_session(("look up", path), async |session| {
            Ok(self.attributes(session, path).await?.map(|found| found.size.unwrap_or(0)))
        }))
    }

    /// Removes a file, or finds it gone.
    pub(super) fn remove(&self, runtime: &Handle, path: &str) -> Result<(), TargetError> {
        runtime.block_on(self.on_session(
            ("remove", path),
            async |session| match session.raw.remove(self.at(path)).await {
                Ok(_) => Ok(()),
                Err(error) if is_no_such_file(&error) => Ok(()),
                Err(error) => Err(self.trouble(error)),
            },
        ))
    }

    /// All files under a folder, in no order.
    pub(super) fn list(&self, runtime: &Handle, prefix: &str) -> Result<Vec<Stored>, TargetError> {
        runtime.block_on(self.on_session(("list", prefix), async |session| {
            let mut found = Vec::new();
            let mut folders = vec![prefix.to_owned()];
            while !folders.is_empty() {
                let mut reading = stream::iter(folders.drain(..).map(|folder| self.folder(session, folder)))
                    .buffer_unordered(BACKUP_SFTP_FOLDERS_IN_FLIGHT);
                let mut deeper = Vec::new();
                while let Some(one) = reading.next().await {
                    let (files, below) = one?;
                    found.extend(files);
                    deeper.extend(below);
                }
                drop(reading);
                folders = deeper;
            }
            Ok(found)
        }))
    }

    /// The files and the folders in one folder. A folder that is not there is empty.
    async fn folder(&self, session: &Session, folder: String) -> Result<(Vec<Stored>, Vec<String>), Trouble> {
        let (mut files, mut below) = (Vec::new(), Vec::new());
        let handle = match session.raw.opendir(self.at(&folder)).await {
            Ok(opened) => opened.handle,
            Err(error) if is_no_such_file(&error) => return Ok((files, below)),
            Err(error) => return Err(self.trouble(error)),
        };
        let outcome = loop {
            let entries = match session.raw.readdir(&handle).await {
                Ok(names) => names.files,
                Err(Error::Status(status)) if status.status_code == StatusCode::Eof => break Ok(()),
                Err(error) => break Err(self.trouble(error)),
            };
            for entry in entries {
                // A server's answer is not a path: what has a slash in it is none of ours.
                if entry.filename.starts_with('.') || entry.filename.contains('/') {
                    continue;
                }
                let path = format!("{folder}/{}", entry.filename);
                if entry.attrs.is_dir() {
                    below.push(path);
                } else if entry.attrs.is_regular() {
                    let stored_ms = u64::from(entry.attrs.mtime.unwrap_or(0)) * 1_000;
                    files.push(Stored { path, size: entry.attrs.size.unwrap_or(0), stored_ms });
                }
            }
        };
        let _ = session.raw.close(handle).await;
        outcome.map(|()| (files, below))
    }
}

fn is_no_such_file(error: &Error) -> bool {
    matches!(error, Error::Status(status) if status.status_code == StatusCode::NoSuchFile)
}
