//! Simulated time as the driver last set it, and the wall clocks of the two data nodes, which may be wrong and may jump.
//! One simulation has one thread, so the clocks are the thread's.

use std::cell::Cell;
use std::time::Duration;

/// What the wall clocks show when a simulation begins, in Unix milliseconds.
const BEGIN_MS: u64 = 1_800_000_000_000;

thread_local! {
    static ELAPSED_MS: Cell<u64> = const { Cell::new(0) };
    static WRONG_MS: Cell<[i64; 2]> = const { Cell::new([0; 2]) };
}

/// The beginning of a simulation.
pub(crate) fn reset() {
    ELAPSED_MS.set(0);
    WRONG_MS.set([0; 2]);
}

/// Simulated time went on.
pub(crate) fn set(elapsed: Duration) {
    ELAPSED_MS.set(elapsed.as_millis() as u64);
}

/// Milliseconds since the simulation began.
pub(crate) fn elapsed_ms() -> u64 {
    ELAPSED_MS.get()
}

/// The wall clock of a data node (0 or 1) is wrong by so much from now on.
pub(crate) fn wrong_by(node: usize, ms: i64) {
    let mut all = WRONG_MS.get();
    all[node] = ms;
    WRONG_MS.set(all);
}

/// The wall clock of each data node.
pub(crate) const WALL_CLOCKS: [fn() -> u64; 2] = [|| wall_ms(0), || wall_ms(1)];

fn wall_ms(node: usize) -> u64 {
    (BEGIN_MS + elapsed_ms()).saturating_add_signed(WRONG_MS.get()[node])
}
