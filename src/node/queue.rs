//! The proposal queue: bounded, in arrival order, stamped with the clock under its lock so that queue order and clock
//! order are the same. A full queue refuses; nothing is dropped silently.

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

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Proposals that wait.
    pub proposals: usize,
    /// Their payload bytes.
    pub bytes: usize,
}

#[derive(Default)]
struct Waiting {
    proposals: Vec<Proposal>,
    bytes: usize,
    clock: Hlc,
    closed: bool,
}

/// The queue between all who propose and the log thread.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    /// A queue whose clock goes on from `last`.
    pub(super) fn new(last: Hlc) -> Self {
        let queue = Self::default();
        queue.waiting.lock().clock = last;
        queue
    }

    /// Adds a proposal, stamped with the clock.
    pub(super) fn push(&self, proposal: Proposal, now_ms: u64) -> Result<(), ProposeError> {
        let mut waiting = self.waiting.lock();
        let full = waiting.proposals.len() >= limits::PROPOSALS_MAX
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
        waiting.clock = waiting.clock.next(now_ms);
        proposal.hlc = waiting.clock;
        waiting.bytes += proposal.payload.len();
        waiting.proposals.push(proposal);
        Ok(())
    }

    /// Waits for proposals and takes all of them into `taken`. Returns false once the queue is closed and empty.
    pub(super) fn take(&self, taken: &mut Vec<Proposal>) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.proposals.is_empty() && !waiting.closed {
            self.arrived.wait(&mut waiting);
        }
        std::mem::swap(&mut waiting.proposals, taken);
        waiting.bytes = 0;
        !taken.is_empty()
    }

    /// Takes no more proposals; those that wait are still handed out.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    pub(super) fn state(&self) -> QueueState {
        let waiting = self.waiting.lock();
        QueueState { proposals: waiting.proposals.len(), bytes: waiting.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(bytes: usize) -> Proposal {
        Proposal::internal(EntryKind::Command, vec![0; bytes].into(), ReplyTo::Nobody)
    }

    #[test]
    fn a_full_queue_refuses_and_loses_nothing() {
        let queue = Queue::default();
        for _ in 0..limits::PROPOSALS_MAX {
            queue.push(proposal(1), 5).unwrap();
        }
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::Busy)));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken.len(), limits::PROPOSALS_MAX);
        assert!(taken.windows(2).all(|pair| pair[0].hlc < pair[1].hlc), "queue order is clock order");
        queue.push(proposal(limits::PROPOSAL_BYTES_MAX), 5).unwrap();
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::Busy)), "bytes are bounded too");
    }

    #[test]
    fn a_closed_queue_hands_out_what_waits_and_takes_no_more() {
        let queue = Queue::default();
        queue.push(proposal(1), 5).unwrap();
        queue.close();
        assert!(matches!(queue.push(proposal(1), 5), Err(ProposeError::Stopping)));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        taken.clear();
        assert!(!queue.take(&mut taken));
    }
}
