//! One connection's bytes: reads into a buffer on the stack, writes shared frames by the dozen, and holds no memory
//! while nothing happens.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::frame::{Decoder, FrameError, Incoming, Side};
use super::outbox::{CloseReason, Outbox};
use crate::limits;

/// The bytes read at once, on the stack of the poll.
const READ_BYTES: usize = 16 * 1024;
/// The frames written at once: what one `writev` takes without its own allocation.
const WRITE_SLICES: usize = 64;

/// What happened on the connection.
pub(super) enum Step {
    /// Bytes arrived; they are in the buffer.
    Input,
    /// The queue says that the connection ends.
    Close(CloseReason),
    /// The connection is gone.
    Gone,
}

/// A connection.
pub(super) struct Socket<S> {
    stream: S,
    input: BytesMut,
    decoder: Decoder,
    writing: VecDeque<Bytes>,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            decoder: Decoder::new(Side::Server, limits::WS_MESSAGE_BYTES_MAX),
            writing: VecDeque::new(),
            unflushed: false,
        }
    }

    /// The next whole message in the buffer.
    pub(super) fn decode(&mut self) -> Result<Option<Incoming>, FrameError> {
        let decoded = self.decoder.decode(&mut self.input);
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new(); // an idle connection holds no buffer
        }
        decoded
    }

    /// Writes what `outbox` holds and reads what came, until there is something to do.
    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>, outbox: &Outbox) -> Poll<Step> {
        loop {
            if self.writing.is_empty() {
                if let Some(reason) = outbox.take(&mut self.writing, cx.waker()) {
                    return Poll::Ready(Step::Close(reason));
                }
                if self.writing.is_empty() {
                    self.writing = VecDeque::new();
                    break;
                }
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Step::Gone),
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Step::Gone),
                Poll::Pending => {}
            }
        }
        self.poll_read(cx)
    }

    /// Reads once.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let mut space = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
            Ok(()) if read.filled().is_empty() => Poll::Ready(Step::Gone),
            Ok(()) => {
                self.input.extend_from_slice(read.filled());
                Poll::Ready(Step::Input)
            }
            Err(_) => Poll::Ready(Step::Gone),
        }
    }

    /// Writes some of `writing`.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let mut count = 0;
        for (slot, frame) in slices.iter_mut().zip(&self.writing) {
            *slot = IoSlice::new(frame);
            count += 1;
        }
        let filled = slices.get(..count).unwrap_or_default();
        let mut written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, filled))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        while written > 0 {
            let Some(front) = self.writing.front_mut() else { break };
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.writing.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye: finishes the frame that is half written, then the close frame, then ends the stream and reads until the
    /// peer has ended its own. A peer that does not take it within [`limits::WS_CLOSE_SECONDS_MAX`] is dropped.
    pub(super) async fn close(mut self, reason: CloseReason) {
        let (code, text) = reason.code();
        let mut farewell = BytesMut::new();
        super::frame::encode_close(&mut farewell, code, text);
        // Only a half-written frame must be finished: the rest is what the peer did not read anyway.
        self.writing.truncate(1);
        self.writing.push_back(farewell.freeze());
        let finish = std::future::poll_fn(|cx| {
            while !self.writing.is_empty() {
                ready!(self.poll_write(cx))?;
            }
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            Pin::new(&mut self.stream).poll_shutdown(cx)
        });
        let patience = std::time::Duration::from_secs(limits::WS_CLOSE_SECONDS_MAX);
        if matches!(tokio::time::timeout(patience, finish).await, Ok(Ok(()))) {
            // Closed with bytes unread, the system resets the connection, and the peer may never see the farewell.
            let patience = std::time::Duration::from_millis(limits::WS_LINGER_MS_MAX);
            drop(tokio::time::timeout(patience, drain(&mut self.stream)).await);
        }
    }

    /// Queues a frame for a connection that has no outbox yet.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.writing.push_back(frame);
    }
}

/// Reads and drops what comes, to the end.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    // On the heap: the idle connections would hold it otherwise.
    let mut dropped = vec![0; 1_024];
    while stream.read(&mut dropped).await? > 0 {}
    Ok(())
}
