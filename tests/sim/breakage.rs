//! Defects of the harness's own making, so that the checks show that they would notice a real one.

use holdfast::oplog::{self, LogOptions};

use crate::founding::{CLUSTER, SEGMENT_BYTES};
use crate::oracle::Oracle;
use crate::world::World;

/// How many records the disk of [`Breakage::DiskForgets`](crate::scenario::Breakage::DiskForgets) forgets.
const FORGOTTEN: u64 = 3;

/// The disk of a data node that has just crashed had not written what it said it had.
pub(crate) fn forget_last_records(world: &World, node: usize) {
    let mut options = LogOptions::new(world.dirs[node].join("log"), CLUSTER);
    options.segment_bytes = SEGMENT_BYTES;
    let Ok(entries) = oplog::dump(&options.dir, 1) else { return };
    let Some(Ok(last)) = entries.last() else { return };
    if last.index > FORGOTTEN + 20 {
        oplog::cut_after(&options, last.index - FORGOTTEN).unwrap();
        world.note(format_args!("the disk of node{} forgets everything behind {}", node + 1, last.index - FORGOTTEN));
    }
}

/// The oracle comes to believe in a message that nobody took.
pub(crate) fn dream(oracle: &mut Oracle) {
    let id = [0xee; 16];
    oracle.begin(id, "a dream".to_owned());
    oracle.acknowledged(&id);
}
