//! What a pair promises, one file each. A check looks at the real logs and states; it says what is broken, or nothing.

use holdfast::node::Node;

pub(crate) mod epochs_rise;
pub(crate) mod equal_nodes;
pub(crate) mod everything_once;
pub(crate) mod later_actives;
pub(crate) mod one_history;
pub(crate) mod recovery;
pub(crate) mod sequence;

/// The chain hash at an index: it names the record there and all before it. `None` when the log has not got it (any more).
fn chain_at(node: &Node, index: u64) -> Option<[u8; 32]> {
    node.log().position_at(index).ok().map(|at| at.chain)
}

/// Whether the log of a node begins only behind this index.
fn is_trimmed(node: &Node, index: u64) -> bool {
    index + 1 < node.log().first_index()
}

/// A hash, for people.
fn short(chain: Option<[u8; 32]>) -> String {
    chain.map_or_else(|| "nothing".to_owned(), |chain| data_encoding::HEXLOWER.encode(&chain[..6]))
}
