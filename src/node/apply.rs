//! The apply thread: takes durable batches in order, waits for the ack rule, applies each entry to the state, publishes
//! the events and answers whoever waits. The only caller of the rules, so they need no lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::task::Waker;

use prost::Message as _;

use super::queue::Proposal;
use super::writer::Batch;
use super::{AckRule, Answer, EventSink, ProposeError, Published, ReplyTo, Shared, now_ms};
use crate::core::command::StateHashRecord;
use crate::core::entry::{Digest, Entry, EntryKind};
use crate::core::machine::{Applied, Machine};
use crate::limits;

/// Applies entries one by one; shared by the apply thread and the replay at start.
pub(super) struct Applier {
    pub(super) shared: Arc<Shared>,
    pub(super) machine: Machine,
    pub(super) sink: Arc<dyn EventSink>,
}

impl Applier {
    /// Applies one entry: rules, state, events. `Err` is the reason to stop the process.
    pub(super) fn apply(&mut self, entry: &Entry, events: &mut Vec<Published>) -> Result<Applied, String> {
        let projection = &self.shared.projection;
        let mut applied = self.machine.apply(entry, projection).map_err(|e| e.to_string())?;
        projection
            .commit(crate::projection::Applied { index: entry.index, epoch: entry.epoch }, &applied.writes)
            .map_err(|e| e.to_string())?;
        self.shared.applied.store(entry.index, Ordering::Release);
        if let Some((index, recorded)) = applied.recorded_hash {
            self.compare(index, recorded);
        }
        let at_ms = entry.unix_ms();
        let happened = std::mem::take(&mut applied.events);
        events.extend(happened.into_iter().map(|event| Published { pos: entry.index, at_ms, event }));
        Ok(applied)
    }

    /// Compares a recorded state hash with our own at that index. A difference is an alarm, not a reason to stop: the
    /// log is still right, and the state can be rebuilt from it.
    fn compare(&self, index: u64, recorded: Digest) {
        match self.shared.projection.state_hash_at(index) {
            Some(own) if own.to_bytes() != recorded => {
                metrics::counter!(crate::ops::metrics::STATE_MISMATCHES_TOTAL).increment(1);
                tracing::error!(
                    index,
                    "the state differs from the recorded state hash; stop the server, delete state/ in the data \
                     directory and start it again: the state is rebuilt from the log"
                );
            }
            _ => {}
        }
    }
}

/// The apply thread's own state.
pub(super) struct ApplyThread {
    pub(super) applier: Applier,
    pub(super) ack: Arc<dyn AckRule>,
    pub(super) batches: Receiver<Batch>,
}

impl ApplyThread {
    /// Runs until the log thread is gone; then writes the last checkpoint.
    pub(super) fn run(mut self) {
        while let Ok(batch) = self.batches.recv() {
            if let Err(reason) = self.apply_batch(batch) {
                self.applier.shared.fatal(&reason);
                return;
            }
        }
        if let Err(error) = self.applier.shared.projection.clone().close() {
            self.applier.shared.fatal(&error.to_string());
        }
    }

    fn apply_batch(&mut self, batch: Batch) -> Result<(), String> {
        let Some(last) = batch.entries.last().map(|entry| entry.index) else { return Ok(()) };
        if self.ack.committed(last).is_err() {
            let mut wakes = Vec::new();
            for reply in batch.replies {
                reply.deliver(Err(ProposeError::NotActive), &mut wakes);
            }
            wakes.into_iter().for_each(Waker::wake);
            return Ok(());
        }
        let mut replies = batch.replies.into_iter();
        for chunk in batch.entries.chunks(limits::APPLY_CHUNK_ENTRIES) {
            self.apply_chunk(chunk, &mut replies)?;
        }
        Ok(())
    }

    /// Applies some entries, then delivers their events and answers together, then wakes each session once.
    fn apply_chunk(&mut self, entries: &[Entry], replies: &mut impl Iterator<Item = ReplyTo>) -> Result<(), String> {
        let mut events = Vec::with_capacity(entries.len());
        let mut answers = Vec::with_capacity(entries.len());
        let mut pos = 0;
        for (entry, reply) in entries.iter().zip(replies) {
            let applied = self.applier.apply(entry, &mut events)?;
            pos = entry.index;
            answers.push((reply, Answer { outcome: applied.outcome, pos }));
            if entry.index.is_multiple_of(limits::STATE_HASH_EVERY) {
                self.record_state_hash(entry.index);
            }
        }
        let mut wakes = Vec::new();
        self.applier.sink.publish(&events, pos, &mut wakes);
        for (reply, answer) in answers {
            reply.deliver(Ok(answer), &mut wakes);
        }
        wakes.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Writes our state hash into the log, for every later reader to compare with.
    fn record_state_hash(&self, index: u64) {
        let Some(hash) = self.applier.shared.projection.state_hash_at(index) else { return };
        let record = StateHashRecord { index, hash: hash.to_bytes().to_vec().into() };
        let proposal = Proposal::internal(EntryKind::StateHash, record.encode_to_vec().into(), ReplyTo::Nobody);
        // Refused only while the node stops; the next multiple is recorded then.
        drop(self.applier.shared.queue.push(proposal, now_ms()));
    }
}
