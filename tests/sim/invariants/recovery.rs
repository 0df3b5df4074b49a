//! P4: when faults end, the pair acknowledges again within a bounded time, and is protected again.

use crate::clock;
use crate::world::World;

/// How long it may take until something is acknowledged: dials that were given up, an election, a Solo record.
pub(crate) const ACKNOWLEDGES_MS_MAX: u64 = 30_000;
/// How long until both nodes hold the same, tails are salvaged and the pair is protected.
pub(crate) const EQUAL_MS_MAX: u64 = 90_000;

/// Some time after the end of all faults; `lacks` says what is not as it should be in the end.
pub(crate) fn check(world: &World, healed_ms: u64, lacks: Option<&String>) -> Result<(), String> {
    let after_ms = clock::elapsed_ms() - healed_ms;
    let acknowledged_ms = *world.acknowledged_ms.lock();
    if after_ms > ACKNOWLEDGES_MS_MAX && acknowledged_ms <= healed_ms {
        return Err(format!("P4: nothing was acknowledged in {after_ms} ms after all faults had ended"));
    }
    match lacks {
        Some(lacks) if after_ms > EQUAL_MS_MAX => {
            Err(format!("P4: not equal and protected {after_ms} ms after all faults had ended: {lacks}"))
        }
        _ => Ok(()),
    }
}
