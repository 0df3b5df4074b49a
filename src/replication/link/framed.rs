//! Messages on a stream: length, bytes. Both halves may be used from different tasks, and every future here may be dropped
//! at any time without losing or doubling a byte.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::LinkError;
use crate::limits;
use crate::replication::net::BoxStream;
use crate::replication::wire::{Class, Wire};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Something that is held as long as either half lives: the place of a link among those that are allowed at once.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

/// A link after its hello.
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("class", &self.class()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(stream: Framed, class: Class, held: Option<Held>) -> Self {
        let Framed { mut sender, mut receiver } = stream;
        sender.class = Some(class);
        sender.held.clone_from(&held);
        receiver.class = Some(class);
        receiver.held = held;
        Self { sender, receiver }
    }

    /// What it is for.
    #[must_use]
    pub fn class(&self) -> Class {
        // Set by `new`.
        self.sender.class.unwrap_or(Class::Control)
    }

    /// The two directions, for two tasks.
    #[must_use]
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }

    /// The sending half.
    pub fn sender(&mut self) -> &mut LinkSender {
        &mut self.sender
    }

    /// The receiving half.
    pub fn receiver(&mut self) -> &mut LinkReceiver {
        &mut self.receiver
    }
}

/// A stream before its hello: frames of bytes.
pub(crate) struct Framed {
    pub(super) sender: LinkSender,
    pub(super) receiver: LinkReceiver,
}

impl Framed {
    pub(super) fn new(stream: BoxStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            sender: LinkSender {
                writer,
                class: None,
                ready: VecDeque::new(),
                open: BytesMut::new(),
                queued_bytes: 0,
                held: None,
            },
            receiver: LinkReceiver {
                reader,
                class: None,
                length: BytesMut::with_capacity(LENGTH_BYTES),
                body: None,
                silence_max: None,
                unknown: 0,
                held: None,
            },
        }
    }
}

/// The sending half. Messages are queued, then flushed together.
pub struct LinkSender {
    writer: WriteHalf<BoxStream>,
    class: Option<Class>,
    /// What goes out next, in order: heads and payloads.
    ready: VecDeque<Bytes>,
    /// Small messages and heads behind it, still growing.
    open: BytesMut,
    queued_bytes: usize,
    held: Option<Held>,
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSender").field("queued_bytes", &self.queued_bytes).finish_non_exhaustive()
    }
}

impl LinkSender {
    /// Appends a message to what the next [`flush`](Self::flush) writes. A large payload is kept, not copied.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] and [`LinkError::WrongClass`] when it may not travel here, [`LinkError::QueueFull`] when too
    /// much waits. Nothing is queued then, and the link goes on.
    pub fn queue<M: Wire>(&mut self, message: &M) -> Result<(), LinkError> {
        if self.class != Some(M::CLASS) {
            return Err(LinkError::WrongClass);
        }
        self.queue_with(M::CLASS.message_bytes_max(), |out| message.encode(out))
    }

    pub(super) fn queue_with(
        &mut self,
        bytes_max: usize,
        encode: impl FnOnce(&mut BytesMut) -> Option<Bytes>,
    ) -> Result<(), LinkError> {
        if self.queued_bytes >= limits::PEER_QUEUE_BYTES_MAX {
            return Err(LinkError::QueueFull);
        }
        let before = self.open.len();
        self.open.put_u32_le(0);
        let payload = encode(&mut self.open).unwrap_or_default();
        let bytes = self.open.len() - before - LENGTH_BYTES + payload.len();
        let length = match u32::try_from(bytes) {
            Ok(length) if bytes <= bytes_max => length,
            _ => {
                self.open.truncate(before);
                return Err(LinkError::TooLarge { bytes, max: bytes_max });
            }
        };
        if let Some(place) = self.open.get_mut(before..before + LENGTH_BYTES) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.queued_bytes += LENGTH_BYTES + bytes;
        if payload.len() < limits::PEER_COPY_BYTES_MAX {
            self.open.extend_from_slice(&payload);
        } else {
            self.ready.push_back(self.open.split().freeze());
            self.ready.push_back(payload);
        }
        Ok(())
    }

    /// The stream itself, to say what no sender would.
    #[cfg(test)]
    pub(super) fn writer(&mut self) -> &mut WriteHalf<BoxStream> {
        &mut self.writer
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Writes everything that was queued. May be dropped half-way and called again; it goes on where it was. It waits as
    /// long as the other side does not read: the caller limits that.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        loop {
            while let Some(front) = self.ready.front_mut() {
                while front.has_remaining() {
                    let written = self.writer.write_buf(front).await?;
                    if written == 0 {
                        return Err(LinkError::Closed);
                    }
                    self.queued_bytes = self.queued_bytes.saturating_sub(written);
                }
                self.ready.pop_front();
            }
            if self.open.is_empty() {
                break;
            }
            self.ready.push_back(self.open.split().freeze());
        }
        self.writer.flush().await?;
        Ok(())
    }

    /// Queues a message and flushes.
    ///
    /// # Errors
    /// Those of both.
    pub async fn send<M: Wire>(&mut self, message: &M) -> Result<(), LinkError> {
        self.queue(message)?;
        self.flush().await
    }

    /// Flushes and says that nothing more will come. The other direction stays open.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn close(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.writer.shutdown().await?;
        Ok(())
    }
}

/// The receiving half.
pub struct LinkReceiver {
    reader: ReadHalf<BoxStream>,
    class: Option<Class>,
    /// What has arrived of the next length.
    length: BytesMut,
    /// What has arrived of the message whose length is known, and that length.
    body: Option<(BytesMut, usize)>,
    silence_max: Option<Duration>,
    unknown: u64,
    held: Option<Held>,
}

impl fmt::Debug for LinkReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkReceiver").field("unknown", &self.unknown).finish_non_exhaustive()
    }
}

impl LinkReceiver {
    /// From now on, [`receive`](Self::receive) fails when nothing at all arrives for so long; `None`: it waits forever.
    pub fn set_silence_max(&mut self, silence_max: Option<Duration>) {
        self.silence_max = silence_max;
    }

    /// Messages that were skipped because this build does not know them.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Waits for the next message that this build knows. May be dropped and called again.
    ///
    /// # Errors
    /// [`LinkError::Closed`], [`LinkError::Silent`]; [`LinkError::TooLarge`] and [`LinkError::Malformed`] when the other side
    /// does not keep to the protocol. After any of them the link is of no more use.
    pub async fn receive<M: Wire>(&mut self) -> Result<M, LinkError> {
        if self.class != Some(M::CLASS) {
            return Err(LinkError::WrongClass);
        }
        loop {
            let bytes = self.receive_bytes(M::CLASS.message_bytes_max()).await?;
            if let Some(message) = M::decode(bytes)? {
                return Ok(message);
            }
            self.unknown += 1;
            tracing::debug!(class = %M::CLASS, unknown = self.unknown, "skipped a message that this build does not know");
        }
    }

    /// The next frame's bytes, at most so many.
    pub(super) async fn receive_bytes(&mut self, bytes_max: usize) -> Result<Bytes, LinkError> {
        loop {
            if let Some((body, wanted)) = &mut self.body {
                if body.len() == *wanted {
                    let bytes = std::mem::take(body).freeze();
                    self.body = None;
                    return Ok(bytes);
                }
                let missing = *wanted - body.len();
                read_some(&mut self.reader, &mut body.limit(missing), self.silence_max).await?;
            } else if self.length.len() == LENGTH_BYTES {
                let wanted = self.length.get_u32_le() as usize;
                self.length.clear();
                if wanted > bytes_max {
                    return Err(LinkError::TooLarge { bytes: wanted, max: bytes_max });
                }
                self.body = Some((BytesMut::with_capacity(wanted), wanted));
            } else {
                let missing = LENGTH_BYTES - self.length.len();
                read_some(&mut self.reader, &mut (&mut self.length).limit(missing), self.silence_max).await?;
            }
        }
    }

    /// Reads and drops what still comes, at most so many bytes: a connection that is closed with unread bytes is reset,
    /// and the last words sent on it are lost.
    pub(super) async fn drain(&mut self, bytes_max: usize) {
        let mut sink = BytesMut::with_capacity(limits::PEER_HELLO_BYTES_MAX);
        let mut drained = 0;
        while drained < bytes_max {
            sink.clear();
            match self.reader.read_buf(&mut (&mut sink).limit(limits::PEER_HELLO_BYTES_MAX)).await {
                Ok(read) if read > 0 => drained += read,
                _ => return,
            }
        }
    }
}

async fn read_some(
    reader: &mut ReadHalf<BoxStream>,
    into: &mut bytes::buf::Limit<&mut BytesMut>,
    silence_max: Option<Duration>,
) -> Result<(), LinkError> {
    let reading = reader.read_buf(into);
    let read = match silence_max {
        None => reading.await?,
        Some(silence_max) => timeout(silence_max, reading)
            .await
            .map_err(|_| LinkError::Silent { ms: u64::try_from(silence_max.as_millis()).unwrap_or(u64::MAX) })??,
    };
    if read == 0 { Err(LinkError::Closed) } else { Ok(()) }
}
