//! Uploads to an SFTP target. Must never rename a file whose length is not the source's.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::runtime::Handle;

use super::session::Session;
use super::{Sftp, Trouble, is_no_such_file};
use crate::backup::target::source::Pieces;
use crate::backup::target::{TargetError, UNFINISHED, unfinished_name};
use crate::limits::{BACKUP_SFTP_IN_FLIGHT, BACKUP_SFTP_PIECE_BYTES};

/// A file that grows.
struct Upload<'a> {
    place: &'a Sftp,
    unfinished: String,
    /// The connection that it is open on, and its handle there.
    open: Option<(u64, String)>,
    begun: bool,
}

impl Sftp {
    /// Stores all that `source` gives under `path`.
    pub(in super::super) fn put(
        &self,
        runtime: &Handle,
        path: &str,
        source: &mut Pieces<'_>,
    ) -> Result<u64, TargetError> {
        let unfinished = self.at(&format!("{UNFINISHED}/{}", unfinished_name()));
        let mut upload = Upload { place: self, unfinished, open: None, begun: false };
        let stored = upload.run(runtime, path, source);
        if stored.is_err() && upload.begun {
            // What cannot be removed now stays under a name that nobody reads.
            runtime.block_on(upload.give_up());
        }
        stored
    }

    /// Makes the folders above `path`, a path under the root.
    async fn have_folders(&self, session: &Session, path: &str) -> Result<(), Trouble> {
        let mut ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        if let Some(last) = ends.last().copied()
            && self.known.lock().contains(&path[..last])
        {
            return Ok(());
        }
        for end in ends.drain(..) {
            let folder = &path[..end];
            if self.known.lock().contains(folder) {
                continue;
            }
            if let Err(error) = session.raw.mkdir(self.at(folder), FileAttributes::empty()).await {
                // SFTP has no word for "is there already".
                match session.raw.stat(self.at(folder)).await {
                    Ok(found) if found.attrs.is_dir() => {}
                    _ => return Err(self.trouble(error)),
                }
            }
            self.known.lock().insert(folder.to_owned());
        }
        Ok(())
    }

    /// Replaces `path` by `unfinished`, at once where the server can.
    async fn rename(&self, session: &Session, unfinished: &str, path: &str) -> Result<(), Error> {
        const AT_ONCE: &str = "posix-rename@openssh.com";
        let to = self.at(path);
        if !session.knows(AT_ONCE) {
            // Plain SFTP refuses to replace a file. Parts are written once, so this hardly ever happens.
            match session.raw.remove(&to).await {
                Err(error) if !is_no_such_file(&error) => return Err(error),
                _ => {}
            }
            return session.raw.rename(unfinished, to).await.map(|_| ());
        }
        let mut names = Vec::new();
        for name in [unfinished, &to] {
            names.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
            names.extend(name.as_bytes());
        }
        use russh_sftp::protocol::Packet;
        match session.raw.extended(AT_ONCE, names).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(Error::Status(status)),
            _ => Err(Error::UnexpectedPacket),
        }
    }
}

impl Upload<'_> {
    fn run(&mut self, runtime: &Handle, path: &str, source: &mut Pieces<'_>) -> Result<u64, TargetError> {
        let place = self.place;
        let mut total = 0;
        loop {
            let piece = source.next()?;
            let writing = place.on_session(("write", path), async |session| self.write(session, total, &piece).await);
            runtime.block_on(writing)?;
            total += piece.len() as u64;
            if source.is_at_end() {
                break;
            }
        }
        runtime.block_on(place.on_session(("write", path), async |session| self.finish(session, path, total).await))?;
        Ok(total)
    }

    async fn handle(&mut self, session: &Arc<Session>) -> Result<String, Trouble> {
        if let Some((id, handle)) = &self.open
            && *id == session.id
        {
            return Ok(handle.clone());
        }
        let flags =
            if self.begun { OpenFlags::WRITE } else { OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE };
        let place = self.place;
        place.have_folders(session, &format!("{UNFINISHED}/")).await?;
        let opened = session.raw.open(&self.unfinished, flags, FileAttributes::empty()).await;
        let handle = opened.map_err(|e| place.trouble(e))?.handle;
        self.begun = true;
        self.open = Some((session.id, handle.clone()));
        Ok(handle)
    }

    /// Writes a piece; it may be written again when the connection broke.
    async fn write(&mut self, session: &Arc<Session>, at: u64, piece: &Bytes) -> Result<(), Trouble> {
        let handle = self.handle(session).await?;
        let requests = piece.chunks(BACKUP_SFTP_PIECE_BYTES).enumerate().map(|(index, part)| {
            session.raw.write(&handle, at + (index * BACKUP_SFTP_PIECE_BYTES) as u64, part.to_vec())
        });
        let mut answers = stream::iter(requests).buffer_unordered(BACKUP_SFTP_IN_FLIGHT);
        while answers.try_next().await.map_err(|e| self.place.trouble(e))?.is_some() {}
        Ok(())
    }

    async fn finish(&mut self, session: &Arc<Session>, path: &str, total: u64) -> Result<(), Trouble> {
        let place = self.place;
        // When the answer to the rename was lost, it has its name already.
        if self.open.as_ref().is_none_or(|(id, _)| *id != session.id)
            && let Some(found) = place.attributes(session, path).await?
            && found.size == Some(total)
            && matches!(session.raw.lstat(&self.unfinished).await, Err(error) if is_no_such_file(&error))
        {
            return Ok(());
        }
        let handle = self.handle(session).await?;
        let found = session.raw.fstat(&handle).await.map_err(|e| place.trouble(e))?.attrs.size;
        if found != Some(total) {
            let cause = format!("{} of {total} bytes arrived", found.unwrap_or(0));
            let error = TargetError::Unreachable { op: "write", path: path.to_owned(), cause };
            return Err(Trouble::Final(error));
        }
        if session.knows("fsync@openssh.com") {
            session.raw.fsync(&handle).await.map_err(|e| place.trouble(e))?;
        }
        session.raw.close(&handle).await.map_err(|e| place.trouble(e))?;
        self.open = None;
        place.have_folders(session, path).await?;
        let renamed = place.rename(session, &self.unfinished, path).await;
        if renamed.as_ref().is_err_and(is_no_such_file) {
            // Somebody removed our folders: the next file makes them again.
            place.known.lock().clear();
        }
        renamed.map_err(|e| place.trouble(e))
    }

    async fn give_up(&mut self) {
        // A server that is gone is not waited for.
        let session = self.place.session.lock().await.clone();
        let Some(session) = session.filter(|session| !session.is_closed()) else { return };
        if let Some((id, handle)) = self.open.take()
            && id == session.id
        {
            let _ = session.raw.close(handle).await;
        }
        let _ = session.raw.remove(&self.unfinished).await;
    }
}
