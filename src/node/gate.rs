//! Up to where records are committed: the one thing that the apply thread waits for.

use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The record is committed, and all before it.
    Committed(u64),
    /// The node stepped down since the batch was appended: whoever waits for an answer must be told now. The record may
    /// still become committed by the next active.
    SteppedDown,
    /// The node stops; what is not committed is not applied.
    Stopping,
}

#[derive(Debug, Default)]
struct State {
    committed: u64,
    term: u64,
    in_flight: usize,
    /// From when on nothing more is waited for.
    stop_at: Option<Instant>,
}

impl State {
    fn is_stopping(&self) -> bool {
        self.stop_at.is_some_and(|at| Instant::now() >= at)
    }

    fn is_full(&self, max: usize, term: u64) -> bool {
        self.in_flight >= max && self.term <= term && !self.is_stopping()
    }

    fn outcome(&self, last: u64, term: u64) -> Option<Waited> {
        if self.committed >= last {
            Some(Waited::Committed(self.committed))
        } else if self.is_stopping() {
            Some(Waited::Stopping)
        } else if self.term > term {
            Some(Waited::SteppedDown)
        } else {
            None
        }
    }
}

/// See the module. `term` counts how often the node stepped down.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// Waits until the record `last` is committed, the node has stepped down since `term`, or it stops.
    pub(super) fn wait(&self, last: u64, term: u64) -> Waited {
        let mut state = self.state.lock();
        loop {
            if let Some(waited) = state.outcome(last, term) {
                return waited;
            }
            self.sleep(&mut state);
        }
    }

    /// As `wait`, without waiting: `None` when nothing of it is so yet.
    pub(super) fn poll(&self, last: u64, term: u64) -> Option<Waited> {
        self.state.lock().outcome(last, term)
    }

    /// Everything up to `index` is committed.
    pub(super) fn commit(&self, index: u64) {
        let mut state = self.state.lock();
        if index > state.committed {
            state.committed = index;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Up to where records are committed.
    pub(super) fn committed(&self) -> u64 {
        self.state.lock().committed
    }

    /// Whoever waits for an answer to what is not committed is to be told that this node is not active.
    pub(super) fn step_down(&self) {
        self.state.lock().term += 1;
        self.changed.notify_all();
    }

    /// From `at` on nothing more is waited for.
    pub(super) fn stop_at(&self, at: Instant) {
        self.state.lock().stop_at = Some(at);
        self.changed.notify_all();
    }

    fn sleep(&self, state: &mut MutexGuard<'_, State>) {
        match state.stop_at {
            Some(at) => drop(self.changed.wait_until(state, at)),
            None => self.changed.wait(state),
        }
    }

    /// A batch is on its way to the apply thread. Waits while there are `max` already, but not beyond the `term` that its
    /// proposals are of: those that wait for an answer then, and those that wait here, are to hear that the node stepped
    /// down, and the log thread is needed for what comes next.
    pub(super) fn enter(&self, max: usize, term: u64) {
        let mut state = self.state.lock();
        while state.is_full(max, term) {
            self.sleep(&mut state);
        }
        state.in_flight += 1;
    }

    /// Whether `enter` would not wait.
    pub(super) fn has_room(&self, max: usize, term: u64) -> bool {
        !self.state.lock().is_full(max, term)
    }

    /// The batch was applied or given up.
    pub(super) fn leave(&self) {
        self.state.lock().in_flight -= 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_by_commit_step_down_or_stop() {
        let gate = Gate::default();
        assert_eq!(gate.poll(5, 0), None);
        gate.commit(4);
        gate.commit(3);
        assert_eq!(gate.poll(5, 0), None);
        gate.step_down();
        assert_eq!(gate.wait(5, 0), Waited::SteppedDown);
        assert_eq!(gate.poll(5, 1), None, "what was appended since waits on");
        gate.commit(6);
        assert_eq!(gate.wait(5, 0), Waited::Committed(6), "what is committed counts, whoever was active");
        gate.stop_at(Instant::now());
        assert_eq!(gate.wait(7, 1), Waited::Stopping);
        assert_eq!(gate.wait(6, 1), Waited::Committed(6));
    }
}
