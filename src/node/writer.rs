//! The log thread: takes all that waits, appends it as one write with one fdatasync, hands it on. It adds no delay of
//! its own: while one batch is on its way to the disk, the next one gathers.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::queue::Proposal;
use super::{AckRule, ProposeError, ReplyTo, Shared};
use crate::core::entry::{Entry, Origin};
use crate::limits;
use crate::oplog::{LogError, LogWriter};
use crate::ops::metrics;

/// Entries that are durable, with who waits for each.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) replies: Vec<ReplyTo>,
}

/// The log thread's own state.
pub(super) struct LogThread {
    pub(super) shared: Arc<Shared>,
    pub(super) log: LogWriter,
    pub(super) origin: Origin,
    pub(super) epoch: u64,
    pub(super) ack: Arc<dyn AckRule>,
    pub(super) batches: SyncSender<Batch>,
}

impl LogThread {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut taken = Vec::new();
        while self.shared.queue.take(&mut taken) {
            while !taken.is_empty() {
                let rest = taken.split_off(batch_len(&taken));
                let proposals = std::mem::replace(&mut taken, rest);
                if !self.append(proposals) {
                    return;
                }
            }
        }
    }

    /// Appends one batch. Returns false when the thread must end.
    fn append(&mut self, proposals: Vec<Proposal>) -> bool {
        let first = self.log.last_index() + 1;
        let mut batch =
            Batch { entries: Vec::with_capacity(proposals.len()), replies: Vec::with_capacity(proposals.len()) };
        for (index, proposal) in (first..).zip(proposals) {
            batch.entries.push(Entry {
                index,
                epoch: self.epoch,
                hlc: proposal.hlc,
                origin: self.origin,
                kind: proposal.kind,
                payload: proposal.payload,
                erased: false,
            });
            batch.replies.push(proposal.reply);
        }
        match self.log.append(&batch.entries) {
            Ok(appended) => {
                metrics::record_commit(batch.entries.len(), appended.fsync);
                self.ack.durable(&appended);
                // The apply thread is gone only when it has already stopped the process.
                self.batches.send(batch).is_ok()
            }
            Err(LogError::DiskFull { .. }) => {
                self.refuse_full(batch);
                true
            }
            Err(error) => {
                self.shared.fatal(&error.to_string());
                false
            }
        }
    }

    /// The disk filled up faster than the watch saw it. Nothing was written: everybody is told so.
    fn refuse_full(&self, batch: Batch) {
        tracing::error!(proposals = batch.replies.len(), "no room for the next log segment; writes are refused");
        self.shared.accepting.store(false, std::sync::atomic::Ordering::Relaxed);
        let mut wakes = Vec::new();
        for reply in batch.replies {
            reply.deliver(Err(ProposeError::DiskFull), &mut wakes);
        }
        wakes.into_iter().for_each(std::task::Waker::wake);
    }
}

/// How many of the proposals go into one append: bounded, so that the first of many need not wait for the last.
fn batch_len(proposals: &[Proposal]) -> usize {
    let mut bytes = 0;
    let within = proposals.iter().take(limits::COMMIT_ENTRIES_MAX).take_while(|proposal| {
        bytes += proposal.payload.len();
        bytes <= limits::COMMIT_BYTES_MAX
    });
    within.count().max(1)
}
