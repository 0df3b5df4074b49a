//! P5, first half: in the end both nodes hold the same log, the same state and the same blobs.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast::blobs::BlobStore;
use holdfast::node::Node;

use super::short;
use crate::world::World;

/// Both run, and nothing happens any more.
pub(crate) fn check(world: &World, nodes: [&Node; 2]) -> Result<(), String> {
    let [one, two] = nodes;
    let (first, second) = (one.log().last_position(), two.log().last_position());
    if (first.index, first.chain) != (second.index, second.chain) {
        return Err(format!(
            "P5: the logs end at {} ({}) and {} ({})",
            first.index,
            short(Some(first.chain)),
            second.index,
            short(Some(second.chain))
        ));
    }
    let states = nodes.map(|node| node.projection().full_state_hash().unwrap());
    if states[0] != states[1] {
        return Err(format!("P5: the states differ: {:?} and {:?}", states[0], states[1]));
    }
    for node in nodes {
        // What is computed row by row is what is kept up to date.
        if node.projection().full_state_hash().unwrap() != node.projection().state_hash() {
            return Err("P5: a state's rows are not those of its hash".to_owned());
        }
    }
    let blobs = [blobs(&world.dirs[0]), blobs(&world.dirs[1])];
    if blobs[0] != blobs[1] {
        return Err(format!("P5: one node has {} blobs, the other {}", blobs[0].len(), blobs[1].len()));
    }
    Ok(())
}

fn blobs(data: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let store = BlobStore::open(&data.join("blobs")).unwrap();
    let mut take = |blob: holdfast::blobs::BlobEntry| _ = found.insert(blob.hash.to_string(), blob.bytes);
    store.list(&mut take).unwrap();
    found
}
