//! Reading a file of an SFTP target in order, many requests at a time. Must never give fewer bytes than the file had when it
//! was opened without an error.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::runtime::Handle;

use super::session::Session;
use super::{Sftp, Trouble};
use crate::backup::target::TargetError;
use crate::backup::target::fault::Fault;
use crate::limits::{BACKUP_COPY_BYTES, BACKUP_SFTP_IN_FLIGHT, BACKUP_SFTP_PIECE_BYTES};

/// A file that is read.
pub(in super::super) struct SftpRead {
    place: Arc<Sftp>,
    runtime: Handle,
    path: String,
    size: u64,
    /// Where the next piece begins.
    offset: u64,
    piece: Bytes,
    open: Option<(Arc<Session>, String)>,
}

impl SftpRead {
    /// Opens a file from its beginning.
    pub(in super::super) fn open(place: &Arc<Sftp>, runtime: &Handle, path: &str) -> Result<Self, TargetError> {
        let Some(size) = place.size(runtime, path)? else { return Err(TargetError::NotFound(path.to_owned())) };
        let (place, runtime, path) = (Arc::clone(place), runtime.clone(), path.to_owned());
        Ok(Self { place, runtime, path, size, offset: 0, piece: Bytes::new(), open: None })
    }

    fn fetch(&mut self) -> Result<Bytes, TargetError> {
        let (place, path, runtime) = (Arc::clone(&self.place), self.path.clone(), self.runtime.clone());
        let length = (self.size - self.offset).min(BACKUP_COPY_BYTES as u64);
        runtime.block_on(place.on_session(("read", &path), async |session| self.piece_on(session, length).await))
    }

    async fn piece_on(&mut self, session: &Arc<Session>, length: u64) -> Result<Bytes, Trouble> {
        let handle = self.handle(session).await?;
        let (from, to) = (self.offset, self.offset + length);
        let requests = (from..to).step_by(BACKUP_SFTP_PIECE_BYTES).map(|at| {
            let end = to.min(at + BACKUP_SFTP_PIECE_BYTES as u64);
            part(session, &handle, at..end)
        });
        let parts = stream::iter(requests).buffered(BACKUP_SFTP_IN_FLIGHT).try_collect::<Vec<_>>().await;
        let parts = parts.map_err(|error| match error {
            // The file became shorter: as if it broke off.
            Error::Status(status) if status.status_code == StatusCode::Eof => {
                let cause = format!("{} ended before its {} bytes", self.path, self.size);
                Trouble::Way(Fault::Broken { place: self.place.settings.place(), cause })
            }
            other => self.place.trouble(other),
        })?;
        Ok(parts.concat().into())
    }

    async fn handle(&mut self, session: &Arc<Session>) -> Result<String, Trouble> {
        if let Some((on, handle)) = &self.open
            && on.id == session.id
        {
            return Ok(handle.clone());
        }
        let opened = session.raw.open(self.place.at(&self.path), OpenFlags::READ, FileAttributes::empty()).await;
        let handle = opened.map_err(|e| self.place.trouble(e))?.handle;
        self.open = Some((Arc::clone(session), handle.clone()));
        Ok(handle)
    }
}

/// One part of a file, asked for until it is whole.
async fn part(session: &Session, handle: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while range.start + (bytes.len() as u64) < range.end {
        let at = range.start + bytes.len() as u64;
        let length = u32::try_from(range.end - at).unwrap_or(u32::MAX);
        let more = session.raw.read(handle, at, length).await?.data;
        if more.is_empty() || more.len() as u64 > range.end - at {
            return Err(Error::UnexpectedBehavior("an answer to a read has another length".to_owned()));
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

impl Read for SftpRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.offset < self.size {
            self.piece = self.fetch().map_err(io::Error::other)?;
            self.offset += self.piece.len() as u64;
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

impl Drop for SftpRead {
    fn drop(&mut self) {
        // A server has few handles for us. Nobody waits for this.
        if let Some((session, handle)) = self.open.take() {
            self.runtime.spawn(async move { drop(session.raw.close(handle).await) });
        }
    }
}
