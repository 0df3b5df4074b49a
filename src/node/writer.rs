//! The log thread: takes all that waits, appends it as one write with one fdatasync, hands it on. It adds no delay of
//! its own: while one batch is on its way to the disk, the next one gathers. On a standby it appends what the active
//! sent, byte for byte.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::fence::{Fenced, Mode};
use super::queue::{Proposal, Received, Work};
use super::{NodeEvents, ProposeError, ReplyTo, Shared};
use crate::core::entry::{Entry, EntryKind, Origin};
use crate::limits;
use crate::oplog::{self, Appended, LogError, LogWriter};
use crate::ops::metrics;

/// Entries that are durable, with who waits for each.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// One for each entry; none for what came from the active.
    pub(super) replies: Vec<ReplyTo>,
    /// How often the node had stepped down when it was appended.
    pub(super) term: u64,
}

/// The log thread's own state.
pub(super) struct LogThread {
    pub(super) shared: Arc<Shared>,
    pub(super) log: LogWriter,
    pub(super) origin: Origin,
    pub(super) events: Arc<dyn NodeEvents>,
    pub(super) batches: SyncSender<Batch>,
    /// What a thread would hold while it waits: only without threads.
    pub(super) kept: Work,
}

impl LogThread {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(work) = self.shared.queue.take() {
            if !self.work(work) {
                return;
            }
        }
    }

    /// Does what can be done without waiting. Returns whether that was anything.
    pub(super) fn turn(&mut self) -> bool {
        if self.kept.is_empty() {
            self.kept = self.shared.queue.take_now();
        }
        let received = std::mem::take(&mut self.kept.received);
        let moved = !received.is_empty() && self.work(Work { received, ..Work::default() });
        if self.kept.is_empty() || self.shared.fence.lock().held || !self.has_room() {
            return moved;
        }
        let work = std::mem::take(&mut self.kept);
        self.work(work)
    }

    /// Whether the proposals that are kept need not wait.
    fn has_room(&self) -> bool {
        self.shared.gate.has_room(self.in_flight_max(&self.kept.proposals), self.kept.term)
    }

    /// Returns false when the thread must end.
    fn work(&mut self, work: Work) -> bool {
        let mut received = work.received;
        while !received.is_empty() {
            let rest = received.split_off(received_len(&received));
            let together = std::mem::replace(&mut received, rest);
            if !self.append_received(together) {
                return false;
            }
        }
        if let Some(below) = work.trim_below
            && !self.trim(below)
        {
            return false;
        }
        let mut proposals = work.proposals;
        while !proposals.is_empty() {
            let rest = proposals.split_off(batch_len(&proposals));
            let together = std::mem::replace(&mut proposals, rest);
            if !self.append(together, work.term) {
                return false;
            }
        }
        true
    }

    /// Removes segments. Returns false when the thread must end.
    fn trim(&mut self, below: u64) -> bool {
        match self.log.trim_below(below) {
            Ok(removed) => {
                if let Some(last) = removed.last() {
                    tracing::info!(segments = removed.len(), first = last.last + 1, "the log was trimmed");
                }
                true
            }
            Err(error) => {
                self.shared.fatal(&error.to_string());
                false
            }
        }
    }

    /// How many batches may wait to be applied: few when nothing but applying takes time, so that proposals gather
    /// meanwhile; more when the other node's disk and the network are in between. The record that begins an epoch waits
    /// for none of them: without it, none of an earlier epoch is ever committed.
    fn in_flight_max(&self, proposals: &[Proposal]) -> usize {
        if proposals.first().is_some_and(|first| first.kind == EntryKind::EpochStarted) {
            usize::MAX
        } else if self.shared.is_alone() {
            limits::BATCHES_WAITING_ALONE_MAX
        } else {
            limits::BATCHES_WAITING_PAIRED_MAX
        }
    }

    /// Appends one batch of proposals, unless the node stepped down since they were made.
    fn append(&mut self, proposals: Vec<Proposal>, term: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        shared.gate.enter(self.in_flight_max(&proposals), term);
        let fenced = shared.fence.lock_unheld();
        let epoch = match fenced.mode {
            Mode::Active(epoch) if shared.queue.term() == term => epoch,
            _ => {
                drop(fenced);
                shared.gate.leave();
                refuse_all(proposals.into_iter().map(|proposal| proposal.reply), || ProposeError::NotActive);
                return true;
            }
        };
        let mut batch =
            Batch { entries: Vec::with_capacity(proposals.len()), replies: Vec::with_capacity(proposals.len()), term };
        for (index, proposal) in (self.log.last_index() + 1..).zip(proposals) {
            batch.entries.push(Entry {
                index,
                epoch,
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
                let begun = batch.entries.iter().find(|entry| entry.kind == EntryKind::EpochStarted);
                if let Some(entry) = begun {
                    self.events.started(entry.epoch, entry.index);
                }
                self.appended(&fenced, &appended, batch.entries.len());
                drop(fenced);
                // The apply thread is gone only when it has already stopped the process.
                self.batches.send(batch).is_ok()
            }
            Err(LogError::DiskFull { .. }) => {
                drop(fenced);
                shared.gate.leave();
                tracing::error!(
                    proposals = batch.replies.len(),
                    "no room for the next log segment; writes are refused"
                );
                shared.accepting.store(false, std::sync::atomic::Ordering::Relaxed);
                refuse_all(batch.replies, || ProposeError::DiskFull);
                true
            }
            Err(error) => {
                shared.fatal(&error.to_string());
                false
            }
        }
    }

    /// Appends what the active sent.
    fn append_received(&mut self, received: Vec<Received>) -> bool {
        let shared = Arc::clone(&self.shared);
        shared.gate.enter(limits::BATCHES_WAITING_FOLLOWING_MAX, u64::MAX);
        let fenced = shared.fence.lock();
        let Mode::Following(epoch) = fenced.mode else {
            shared.gate.leave();
            return true;
        };
        let frames: Vec<bytes::Bytes> =
            received.iter().filter(|one| one.epoch == epoch).map(|one| one.frames.clone()).collect();
        match self.log.append_received(&frames) {
            Ok(done) => {
                let batch = Batch { entries: done.entries, replies: Vec::new(), term: 0 };
                self.events.received(&batch.entries);
                self.appended(&fenced, &done.appended, batch.entries.len());
                drop(fenced);
                if batch.entries.is_empty() {
                    shared.gate.leave();
                    return true;
                }
                self.batches.send(batch).is_ok()
            }
            // Neither the other node's bytes nor a full disk end this node: it falls behind, and says so.
            Err(error @ (LogError::BadShipment { .. } | LogError::DiskFull { .. })) => {
                shared.gate.leave();
                self.events.refused(epoch, &error);
                true
            }
            Err(error) => {
                shared.fatal(&error.to_string());
                false
            }
        }
    }

    /// Tells everybody who waits for the disk. Under the fence, so that the order of what is told is the log's.
    fn appended(&self, fenced: &Fenced, appended: &Appended, entries: usize) {
        metrics::record_commit(entries, appended.fsync);
        if fenced.alone {
            self.shared.gate.commit(appended.after.index);
        }
        self.events.appended(&appended.after);
    }
}

/// Tells everybody that nothing was written.
pub(super) fn refuse_all(replies: impl IntoIterator<Item = ReplyTo>, why: impl Fn() -> ProposeError) {
    let mut wakes = Vec::new();
    for reply in replies {
        reply.deliver(Err(why()), &mut wakes);
    }
    wakes.into_iter().for_each(std::task::Waker::wake);
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

/// How much of what came from the active goes into one append: what the log takes at once, counted before compression.
fn received_len(received: &[Received]) -> usize {
    let mut bytes = 0_usize;
    let within = received.iter().take_while(|one| {
        // What cannot be read is refused by itself, and takes nothing else with it.
        let summary = oplog::summarize(&one.frames).map_or(usize::MAX, |summary| summary.append_bytes);
        bytes = bytes.saturating_add(summary);
        bytes <= limits::LOG_APPEND_BYTES_MAX / 2
    });
    within.count().max(1)
}
