//! P2: with a witness no two acknowledged records conflict: all of them are on one history.

use super::{chain_at, is_trimmed, short};
use crate::oracle::Ack;
use crate::world::World;

/// A node acknowledges a record: is it on the history of those that were acknowledged before?
pub(crate) fn acknowledged(world: &World, ack: &Ack) -> Result<(), String> {
    let (before, after) = {
        let oracle = world.oracle.lock();
        let before = oracle.acks.range(..=ack.index).next_back().map(|(_, ack)| *ack);
        (before, oracle.acks.range(ack.index + 1..).next().map(|(_, ack)| *ack))
    };
    for (early, late) in [before.map(|before| (before, *ack)), after.map(|after| (*ack, after))].into_iter().flatten() {
        if (early.node, early.life) == (late.node, late.life) && early.index < late.index {
            continue; // a log only grows as long as its node runs
        }
        // Whoever acknowledged the later one knows what comes before it.
        let Some(running) = world.running(late.node) else { continue };
        let found = chain_at(&running.node, early.index);
        let knows = chain_at(&running.node, late.index) == Some(late.chain);
        if knows && found != Some(early.chain) && !is_trimmed(&running.node, early.index) {
            return Err(format!("P2: {} and {} were both acknowledged, on two histories", shown(&early), shown(&late)));
        }
    }
    Ok(())
}

fn shown(ack: &Ack) -> String {
    format!("record {} of epoch {:x} ({}, node{})", ack.index, ack.epoch, short(Some(ack.chain)), ack.node + 1)
}
