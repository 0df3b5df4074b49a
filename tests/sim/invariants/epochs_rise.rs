//! P3: along the log the epochs of acknowledged records never go back.

use crate::oracle::Ack;
use crate::world::World;

/// A node acknowledges a record.
pub(crate) fn acknowledged(world: &World, ack: &Ack) -> Result<(), String> {
    let oracle = world.oracle.lock();
    let before = oracle.acks.range(..ack.index).next_back().map(|(_, before)| (*before, *ack));
    let after = oracle.acks.range(ack.index + 1..).next().map(|(_, after)| (*ack, *after));
    for (early, late) in [before, after].into_iter().flatten() {
        if early.epoch > late.epoch {
            return Err(format!(
                "P3: record {} was acknowledged in epoch {:x}, and record {} behind it in {:x}",
                early.index, early.epoch, late.index, late.epoch
            ));
        }
    }
    Ok(())
}
