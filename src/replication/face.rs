//! What clients are told of the pair: the addresses of its data nodes, and which of them is active.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

/// The addresses that clients use. Clones share it; reading takes no lock.
#[derive(Clone, Default)]
pub struct Face(Arc<Told>);

#[derive(Default)]
struct Told {
    nodes: ArcSwap<Vec<String>>,
    active: ArcSwapOption<String>,
}

impl Face {
    /// A node that is alone.
    #[must_use]
    pub fn alone(address: String) -> Self {
        let face = Self::default();
        face.set(vec![address.clone()], Some(address));
        face
    }

    /// The addresses of all data nodes.
    #[must_use]
    pub fn nodes(&self) -> Arc<Vec<String>> {
        self.0.nodes.load_full()
    }

    /// The address of the active one, as far as this node knows.
    #[must_use]
    pub fn active(&self) -> Option<Arc<String>> {
        self.0.active.load_full()
    }

    /// Tells other addresses from now on.
    pub fn set(&self, nodes: Vec<String>, active: Option<String>) {
        self.0.nodes.store(Arc::new(nodes));
        self.0.active.store(active.map(Arc::new));
    }
}
