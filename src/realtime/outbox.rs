//! What waits to be written to one connection: complete frames, shared with other sessions. Bounded by bytes; when it
//! is full the reader is too slow, the queue is dropped and the connection closed with `resync`.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::limits;

/// Why the server ends a connection: a WebSocket close code and a stable reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client reads too slowly: it should reconnect with its last position.
    Resync,
    /// The token is not valid, or the session ended.
    Unauthenticated,
    /// No `hello` in time.
    HelloTimeout,
    /// A frame or a message that makes no sense.
    Protocol,
    /// The server is shutting down: reconnect.
    ShuttingDown,
    /// The client was silent for too long.
    Silent,
    /// This node is not the active one (any more): connect to the other.
    NotActive,
    /// A violation of the WebSocket protocol itself.
    Frame(u16),
    /// The client said goodbye.
    Gone,
}

impl CloseReason {
    /// The close code and the reason text.
    #[must_use]
    pub const fn code(self) -> (u16, &'static str) {
        match self {
            Self::Resync => (4000, "resync"),
            Self::Unauthenticated => (4001, "unauthenticated"),
            Self::HelloTimeout => (4002, "hello_timeout"),
            Self::Protocol => (4003, "protocol_error"),
            Self::ShuttingDown => (4008, "shutting_down"),
            Self::Silent => (4009, "silent"),
            Self::NotActive => (4010, "not_active"),
            Self::Frame(code) => (code, "frame_error"),
            Self::Gone => (1000, ""),
        }
    }
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    close: Option<CloseReason>,
    waker: Option<Waker>,
}

/// The queue of one connection.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
}

impl Outbox {
    /// Adds a frame. Returns the connection's waker if it sleeps, to be woken when the whole batch is delivered.
    pub(super) fn push(&self, frame: Bytes) -> Option<Waker> {
        let mut waiting = self.waiting.lock();
        if waiting.close.is_some() {
            return None;
        }
        waiting.bytes += frame.len() + limits::SESSION_FRAME_OVERHEAD_BYTES;
        if waiting.bytes > limits::SESSION_QUEUE_BYTES_MAX {
            waiting.frames = VecDeque::new();
            waiting.close = Some(CloseReason::Resync);
            metrics::counter!(crate::ops::metrics::SLOW_SESSIONS_TOTAL).increment(1);
        } else {
            waiting.frames.push_back(frame);
        }
        waiting.waker.take()
    }

    /// Ends the connection once what waits has been written.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut waiting = self.waiting.lock();
        waiting.close.get_or_insert(reason);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves what waits to `frames`, which must be empty. With nothing to take: the reason to close, if there is one,
    /// else `waker` is kept for the next push.
    pub(super) fn take(&self, frames: &mut VecDeque<Bytes>, waker: &Waker) -> Option<CloseReason> {
        let mut waiting = self.waiting.lock();
        if waiting.frames.is_empty() {
            if waiting.close.is_none() {
                // An idle connection keeps no buffer: the capacity of a burst is given back.
                waiting.frames = VecDeque::new();
                match &mut waiting.waker {
                    Some(kept) => kept.clone_from(waker),
                    empty => *empty = Some(waker.clone()),
                }
            }
            return waiting.close;
        }
        waiting.bytes = 0;
        std::mem::swap(&mut waiting.frames, frames);
        None
    }

    /// Whether something waits.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().frames.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_closed_with_resync_and_holds_no_memory() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; 1000]);
        for _ in 0..=limits::SESSION_QUEUE_BYTES_MAX / 1000 {
            drop(outbox.push(frame.clone()));
        }
        assert_eq!(outbox.len(), 0);
        assert!(outbox.push(frame).is_none());
        assert_eq!(outbox.take(&mut VecDeque::new(), Waker::noop()), Some(CloseReason::Resync));
    }

    #[test]
    fn what_waits_is_written_before_the_close() {
        let outbox = Outbox::default();
        drop(outbox.push(Bytes::from_static(b"last words")));
        outbox.close(CloseReason::ShuttingDown);
        outbox.close(CloseReason::Silent);
        let mut frames = VecDeque::new();
        assert_eq!(outbox.take(&mut frames, Waker::noop()), None);
        assert_eq!(frames.len(), 1);
        assert_eq!(outbox.take(&mut VecDeque::new(), Waker::noop()), Some(CloseReason::ShuttingDown));
    }

    #[test]
    fn the_waker_of_a_sleeping_connection_is_handed_out_once() {
        let outbox = Outbox::default();
        assert!(outbox.push(Bytes::from_static(b"x")).is_none(), "nobody sleeps yet");
        let mut frames = VecDeque::new();
        outbox.take(&mut frames, Waker::noop());
        frames.clear();
        assert_eq!(outbox.take(&mut frames, Waker::noop()), None);
        assert!(outbox.push(Bytes::from_static(b"x")).is_some());
        assert!(outbox.push(Bytes::from_static(b"x")).is_none());
    }
}
