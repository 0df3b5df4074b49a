//! Who may append to the log right now: nobody, this node as the active of one epoch, or the active that it follows.
//!
//! - An append happens entirely in one mode: whoever changes the mode waits for the append that is on its way.
//! - While writes are held, proposals wait; a change of the mode ends the hold.

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Who appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nobody.
    #[default]
    Idle,
    /// This node, in this epoch.
    Active(u64),
    /// The active of this epoch, through this node's follower.
    Following(u64),
}

/// What the fence holds.
#[derive(Debug, Default)]
pub(super) struct Fenced {
    /// Who appends.
    pub(super) mode: Mode,
    /// Proposals wait, for a planned switchover.
    pub(super) held: bool,
    /// What is durable here is committed: there is no other data node.
    pub(super) alone: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fence {
    fenced: Mutex<Fenced>,
    changed: Condvar,
}

impl Fence {
    /// Holds everybody else off. Blocks while an append is on its way.
    pub(super) fn lock(&self) -> MutexGuard<'_, Fenced> {
        self.fenced.lock()
    }

    /// As `lock`, but waits until writes are not held.
    pub(super) fn lock_unheld(&self) -> MutexGuard<'_, Fenced> {
        let mut fenced = self.fenced.lock();
        while fenced.held {
            self.changed.wait(&mut fenced);
        }
        fenced
    }

    /// Changes the mode, and ends a hold.
    pub(super) fn set(&self, mode: Mode) {
        let mut fenced = self.fenced.lock();
        fenced.mode = mode;
        fenced.held = false;
        drop(fenced);
        self.changed.notify_all();
    }

    /// Ends following; an active stays what it is.
    pub(super) fn unfollow(&self) {
        let mut fenced = self.fenced.lock();
        if matches!(fenced.mode, Mode::Following(_)) {
            fenced.mode = Mode::Idle;
        }
    }

    /// Lets proposals wait, or go on.
    pub(super) fn hold(&self, held: bool) {
        self.fenced.lock().held = held;
        self.changed.notify_all();
    }
}
