//! P1: every acknowledged record is in the log of every later active. Also of P2: what an old active acknowledges after a
//! newer one was promoted is in the newer one's log.

use holdfast::node::Node;

use super::{chain_at, is_trimmed, short};
use crate::oracle::Ack;
use crate::world::World;

/// A node was promoted.
pub(crate) fn promoted(world: &World, (me, node): (usize, &Node), epoch: u64) -> Result<(), String> {
    // The chain names everything before it, so the last one stands for all that are on its history (see `one_history`).
    let last = world.oracle.lock().acks.values().rev().find(|ack| ack.epoch < epoch).copied();
    last.map_or(Ok(()), |ack| holds(node, me, &ack))
}

/// A node acknowledges a record: a newer active that there is already must have it.
pub(crate) fn acknowledged(world: &World, ack: &Ack) -> Result<(), String> {
    for other in 0..2 {
        if let Some(running) = world.running(other)
            && running.node.log().last_position().epoch > ack.epoch
        {
            holds(&running.node, other, ack)?;
        }
    }
    Ok(())
}

fn holds(node: &Node, me: usize, ack: &Ack) -> Result<(), String> {
    let found = chain_at(node, ack.index);
    if found == Some(ack.chain) || is_trimmed(node, ack.index) {
        return Ok(());
    }
    Err(format!(
        "P1: node{} acknowledged record {} of epoch {:x} ({}), and node{}, active later, has {} there",
        ack.node + 1,
        ack.index,
        ack.epoch,
        short(Some(ack.chain)),
        me + 1,
        short(found)
    ))
}
