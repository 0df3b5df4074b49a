//! The queue before the log thread. On the active: proposals, bounded, in arrival order, stamped with the clock under the
//! queue's lock so that queue order and clock order are the same. On a standby: what came from the active. A full queue
//! refuses; nothing is dropped silently.

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prost::Message as _;

use super::{ProposeError, ReplyTo};
use crate::core::command::Envelope;
use crate::core::entry::EntryKind;
use crate::core::ids::Hlc;
use crate::limits;

/// One change on its way to the log.
pub(super) struct Proposal {
    pub(super) kind: EntryKind,
    pub(super) payload: Bytes,
    pub(super) hlc: Hlc,
    pub(super) reply: ReplyTo,
}

impl Proposal {
    /// Encodes on the caller's thread: the log thread has better things to do.
    pub(super) fn command(envelope: &Envelope, reply: ReplyTo) -> Self {
        Self::internal(EntryKind::Command, envelope.encode_to_vec().into(), reply)
    }

    pub(super) const fn internal(kind: EntryKind, payload: Bytes, reply: ReplyTo) -> Self {
        Self { kind, payload, hlc: Hlc(0), reply }
    }
}

/// Records that came from the active.
pub struct Received {
    /// The epoch in which it sent them.
    pub epoch: u64,
    /// Frames of the log, as they were sent.
    pub frames: Bytes,
    /// Dropped when they are durable or refused: bounds what is on its way.
    pub permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Proposals that wait.
    pub proposals: usize,
    /// Their payload bytes.
    pub bytes: usize,
}

/// What the log thread has to do.
#[derive(Default)]
pub(super) struct Work {
    pub(super) proposals: Vec<Proposal>,
    pub(super) received: Vec<Received>,
    /// How often the node had stepped down when the proposals were made.
    pub(super) term: u64,
    /// Segments whose records are all below this index go.
    pub(super) trim_below: Option<u64>,
}

impl Work {
    pub(super) const fn is_empty(&self) -> bool {
        self.proposals.is_empty() && self.received.is_empty() && self.trim_below.is_none()
    }
}

#[derive(Default)]
struct Waiting {
    work: Work,
    bytes: usize,
    clock: Hlc,
    /// The node is active: proposals are taken.
    open: bool,
    /// The node stops: nothing is taken any more.
    closed: bool,
}

impl Waiting {
    fn all(&mut self) -> Work {
        self.bytes = 0;
        let term = self.work.term;
        std::mem::replace(&mut self.work, Work { term, ..Work::default() })
    }
}

/// The queue between all who propose and the log thread.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    /// Takes proposals from now on, on a clock beyond `last`; `first` is in front of all others.
    pub(super) fn open(&self, last: Hlc, first: Proposal, now_ms: u64) -> Result<(), ProposeError> {
        let mut waiting = self.waiting.lock();
        waiting.clock = waiting.clock.max(last);
        waiting.open = true;
        Self::insert(&mut waiting, first, now_ms)?;
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes no proposals until the next `open`. Returns those that waited.
    pub(super) fn shut(&self) -> Vec<Proposal> {
        let mut waiting = self.waiting.lock();
        waiting.open = false;
        waiting.bytes = 0;
        waiting.work.term += 1;
        std::mem::take(&mut waiting.work.proposals)
    }

    /// Adds a proposal, stamped with the clock.
    pub(super) fn push(&self, proposal: Proposal, now_ms: u64) -> Result<(), ProposeError> {
        let mut waiting = self.waiting.lock();
        let full = waiting.work.proposals.len() >= limits::PROPOSALS_MAX
            || waiting.bytes + proposal.payload.len() > limits::PROPOSAL_BYTES_MAX;
        if full && proposal.kind == EntryKind::Command {
            metrics::counter!(crate::ops::metrics::PROPOSALS_BUSY_TOTAL).increment(1);
            return Err(ProposeError::Busy);
        }
        Self::insert(&mut waiting, proposal, now_ms)?;
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    fn insert(waiting: &mut Waiting, mut proposal: Proposal, now_ms: u64) -> Result<(), ProposeError> {
        if waiting.closed {
            return Err(ProposeError::Stopping);
        }
        if !waiting.open {
            return Err(ProposeError::NotActive);
        }
        waiting.clock = waiting.clock.next(now_ms);
        proposal.hlc = waiting.clock;
        waiting.bytes += proposal.payload.len();
        waiting.work.proposals.push(proposal);
        Ok(())
    }

    /// Adds what came from the active; false when the node stops.
    pub(super) fn push_received(&self, received: Received) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return false;
        }
        waiting.work.received.push(received);
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    /// Has the log trimmed when its thread comes to it.
    pub(super) fn push_trim(&self, below: u64) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return; // the next start looks again
        }
        waiting.work.trim_below = waiting.work.trim_below.max(Some(below));
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits for work and takes all of it. `None` once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        while waiting.work.is_empty() && !waiting.closed {
            self.arrived.wait(&mut waiting);
        }
        let work = waiting.all();
        (!work.is_empty()).then_some(work)
    }

    /// Takes all that waits, without waiting.
    pub(super) fn take_now(&self) -> Work {
        self.waiting.lock().all()
    }

    /// How often the node has stepped down.
    pub(super) fn term(&self) -> u64 {
        self.waiting.lock().work.term
    }

    /// Takes no more; what waits is still handed out.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    pub(super) fn state(&self) -> QueueState {
        let waiting = self.waiting.lock();
        QueueState { proposals: waiting.work.proposals.len(), bytes: waiting.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(bytes: usize) -> Proposal {
        Proposal::internal(EntryKind::Command, vec![0; bytes].into(), ReplyTo::Nobody)
    }

    fn open() -> Queue {
        let queue = Queue::default();
        queue.open(Hlc(0), proposal(0), 5).unwrap();
        queue.take().unwrap();
        queue
    }

    #[test]
    fn a_full_queue_refuses_and_loses_nothing() {
        let queue = open();
        for _ in 0..limits::PROPOSALS_MAX {
            queue.push(proposal(1), 5).unwrap();
        }
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::Busy)));
        let taken = queue.take().unwrap().proposals;
        assert_eq!(taken.len(), limits::PROPOSALS_MAX);
        assert!(taken.windows(2).all(|pair| pair[0].hlc < pair[1].hlc), "queue order is clock order");
        queue.push(proposal(limits::PROPOSAL_BYTES_MAX), 5).unwrap();
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::Busy)), "bytes are bounded too");
    }

    #[test]
    fn a_closed_queue_hands_out_what_waits_and_takes_no_more() {
        let queue = open();
        queue.push(proposal(1), 5).unwrap();
        queue.close();
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::Stopping)));
        assert_eq!(queue.take().unwrap().proposals.len(), 1);
        assert!(queue.take().is_none());
    }

    #[test]
    fn only_an_active_node_takes_proposals_and_its_clock_goes_on_from_the_log() {
        let queue = Queue::default();
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::NotActive)));
        queue.open(Hlc(9 << 16), proposal(0), 5).unwrap();
        queue.push(proposal(1), 5).unwrap();
        let waiting = queue.shut();
        assert!(waiting.iter().all(|proposal| proposal.hlc > Hlc(9 << 16)));
        assert_eq!(waiting.len(), 2);
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::NotActive)));
    }
}
