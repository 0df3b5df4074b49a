//! How far work on a repository is, and whether it is to stop. Must never be the reason that work waits.

use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::error::BackupError;
use crate::limits::BACKUP_PROGRESS_BYTES;

/// Who looks on.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told about progress, from several threads: after every part, and every few megabytes of a large one. Must not block.
    pub progress: &'a (dyn Fn(&Progress) + Sync),
    /// Ends the work soon after it is cancelled.
    pub cancel: &'a CancellationToken,
}

/// What a run does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading the repository.
    #[default]
    Preparing,
    /// Writing a snapshot of the state on this machine.
    Snapshot,
    /// Storing parts and files.
    Storing,
    /// Reading back what was stored.
    Verifying,
    /// Removing what is not needed any more.
    Removing,
    /// Writing what names them.
    Finishing,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Bytes read of what is to be stored in this phase.
    pub bytes_done: u64,
    /// Of how many, about; 0 when not known.
    pub bytes_total: u64,
    /// Parts and files stored in this phase.
    pub parts_done: u64,
    /// Of how many.
    pub parts_total: u64,
    /// Bytes a second in this phase.
    pub bytes_per_second: f64,
}

/// Counts, tells, and looks whether to stop.
pub(super) struct Meter<'a> {
    watch: Watch<'a>,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    begun: Instant,
    told_bytes: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(watch: Watch<'a>) -> Self {
        Self { watch, state: Mutex::new(State { progress: Progress::default(), begun: Instant::now(), told_bytes: 0 }) }
    }

    pub(super) fn begin(&self, phase: Phase, bytes_total: u64, parts_total: u64) {
        let progress = Progress { phase, bytes_total, parts_total, ..Progress::default() };
        *self.state.lock() = State { progress, begun: Instant::now(), told_bytes: 0 };
        (self.watch.progress)(&progress);
    }

    /// Bytes were read.
    pub(super) fn bytes(&self, count: u64) {
        self.change(|progress| progress.bytes_done += count, BACKUP_PROGRESS_BYTES);
    }

    /// The bytes of this phase so far.
    pub(super) fn set_bytes(&self, bytes: u64) {
        self.change(|progress| progress.bytes_done = bytes, BACKUP_PROGRESS_BYTES);
    }

    /// A part is done; `skipped` bytes of it need not be sent.
    pub(super) fn part(&self, skipped: u64) {
        let change = |progress: &mut Progress| {
            progress.parts_done += 1;
            progress.bytes_done += skipped;
        };
        self.change(change, 0);
    }

    fn change(&self, change: impl FnOnce(&mut Progress), tell_after: u64) {
        let told = {
            let mut state = self.state.lock();
            change(&mut state.progress);
            let seconds = state.begun.elapsed().as_secs_f64().max(0.001);
            state.progress.bytes_per_second = state.progress.bytes_done as f64 / seconds;
            if state.progress.bytes_done.saturating_sub(state.told_bytes) < tell_after {
                return;
            }
            state.told_bytes = state.progress.bytes_done;
            state.progress
        };
        (self.watch.progress)(&told);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.watch.cancel.is_cancelled()
    }

    /// # Errors
    /// [`BackupError::Cancelled`].
    pub(super) fn check(&self) -> Result<(), BackupError> {
        if self.is_cancelled() { Err(BackupError::Cancelled) } else { Ok(()) }
    }
}
