//! The apply thread: takes durable batches in order, waits until they are committed, applies each entry to the state, publishes
//! the events and answers whoever waits. The only caller of the rules, so they need no lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::task::Waker;

use prost::Message as _;

use super::gate::Waited;
use super::queue::Proposal;
use super::writer::{Batch, refuse_all};
use super::{Answer, EventSink, ProposeError, Published, ReplyTo, Shared};
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
                self.shared.mismatches.fetch_add(1, Ordering::Relaxed);
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
    pub(super) batches: Receiver<Batch>,
    /// Entries that were in the log at the start but not known to be committed: the next one and the last.
    pub(super) backlog: Option<(u64, u64)>,
    /// A batch that is not committed yet: only without threads.
    pub(super) kept: Option<Batch>,
}

impl ApplyThread {
    /// Runs until the log thread is gone; then writes the last checkpoint.
    pub(super) fn run(mut self) {
        let result = self.run_backlog().and_then(|()| {
            while let Ok(mut batch) = self.batches.recv() {
                let shared = Arc::clone(&self.applier.shared);
                while let Some(last) = batch.entries.last().map(|entry| entry.index) {
                    let waited = shared.gate.wait(last, batch.term);
                    if self.settle(&mut batch, waited)? {
                        break;
                    }
                }
                shared.gate.leave();
            }
            Ok(())
        });
        let closed = result.and_then(|()| self.applier.shared.projection.clone().close().map_err(|e| e.to_string()));
        if let Err(reason) = closed {
            self.applier.shared.fatal(&reason);
        }
    }

    /// Applies what can be applied now. Returns whether that was anything.
    pub(super) fn turn(&mut self) -> Result<bool, String> {
        let shared = Arc::clone(&self.applier.shared);
        let mut moved = false;
        while let Some((next, end)) = self.backlog {
            let Some(Waited::Committed(committed)) = shared.gate.poll(next, u64::MAX) else { return Ok(moved) };
            self.apply_from_log(next, committed.min(end))?;
            moved = true;
        }
        while let Some(mut batch) = self.kept.take().or_else(|| self.batches.try_recv().ok()) {
            let Some(last) = batch.entries.last().map(|entry| entry.index) else { continue };
            let Some(waited) = shared.gate.poll(last, batch.term) else {
                self.kept = Some(batch);
                break;
            };
            moved = true;
            if self.settle(&mut batch, waited)? {
                shared.gate.leave();
            } else {
                self.kept = Some(batch);
            }
        }
        Ok(moved)
    }

    /// Applies the entries that were in the log at the start as they turn out to be committed.
    fn run_backlog(&mut self) -> Result<(), String> {
        while let Some((next, end)) = self.backlog {
            match self.applier.shared.gate.wait(next, u64::MAX) {
                Waited::Committed(committed) => self.apply_from_log(next, committed.min(end))?,
                Waited::Stopping | Waited::SteppedDown => self.backlog = None,
            }
        }
        Ok(())
    }

    fn apply_from_log(&mut self, next: u64, last: u64) -> Result<(), String> {
        let entries = self.applier.shared.reader.read_from(next).map_err(|e| e.to_string())?;
        let mut chunk = Vec::with_capacity(limits::APPLY_CHUNK_ENTRIES);
        for entry in entries.take((last + 1 - next) as usize) {
            chunk.push(entry.map_err(|e| e.to_string())?);
            if chunk.len() == limits::APPLY_CHUNK_ENTRIES {
                self.apply_chunk(&std::mem::take(&mut chunk), &mut std::iter::empty())?;
            }
        }
        self.apply_chunk(&chunk, &mut std::iter::empty())?;
        self.backlog = self.backlog.map(|(_, end)| (last + 1, end)).filter(|(next, end)| next <= end);
        Ok(())
    }

    /// Does what the end of a wait asks for. Returns true when the batch is done with.
    fn settle(&mut self, batch: &mut Batch, waited: Waited) -> Result<bool, String> {
        let replies = std::mem::take(&mut batch.replies);
        match waited {
            Waited::Committed(_) => {
                let mut replies = replies.into_iter();
                for chunk in batch.entries.chunks(limits::APPLY_CHUNK_ENTRIES) {
                    self.apply_chunk(chunk, &mut replies)?;
                }
                Ok(true)
            }
            Waited::SteppedDown => {
                // The next active may have these entries: then they are applied when it says so.
                refuse_all(replies, || ProposeError::NotActive);
                batch.term = u64::MAX;
                Ok(false)
            }
            Waited::Stopping => {
                refuse_all(replies, || ProposeError::Stopping);
                Ok(true)
            }
        }
    }

    /// Applies some entries, then delivers their events and answers together, then wakes each session once.
    fn apply_chunk(&mut self, entries: &[Entry], replies: &mut impl Iterator<Item = ReplyTo>) -> Result<(), String> {
        let mut events = Vec::with_capacity(entries.len());
        let mut answers = Vec::with_capacity(entries.len());
        let mut pos = 0;
        for entry in entries {
            let applied = self.applier.apply(entry, &mut events)?;
            pos = entry.index;
            if let Some(reply) = replies.next() {
                answers.push((reply, Answer { outcome: applied.outcome, pos }));
            }
            if entry.index.is_multiple_of(limits::STATE_HASH_EVERY) {
                self.record_state_hash(entry.index);
            }
            if entry.kind == EntryKind::EpochStarted {
                self.applier.shared.epoch_applied(entry.epoch);
            }
        }
        if entries.is_empty() {
            return Ok(());
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
        // Refused while the node stops, and on a standby: the active records its own.
        let shared = &self.applier.shared;
        drop(shared.queue.push(proposal, shared.execution.now_ms()));
    }
}
