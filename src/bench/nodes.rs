//! The addresses of the server, or of the nodes of a pair, and which of them to try next: shared by all connections.
//!
//! Real clients wait longer and longer between their tries. Here the first try that succeeds after a failure is what is
//! measured, so somebody always tries; but never more than a few at once per node, else a thousand connections would
//! spend the processors on handshakes that a node needs to take over.
//!
//! Must never give up a node for good: a dead one may come back.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::client::{Endpoint, Trust};
use super::error::BenchError;
use crate::limits::{BENCH_NODES_MAX, BENCH_OPENING_MAX, BENCH_TRIES_MAX, BENCH_TRY_MS};

/// A node's place in the list; stays the same for the whole run.
pub type NodeIndex = usize;

/// Which nodes a connection may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every one.
    Any,
    /// Every one but this.
    Not(NodeIndex),
    /// This one alone.
    Only(NodeIndex),
}

impl Reach {
    fn has(self, node: NodeIndex) -> bool {
        match self {
            Self::Any => true,
            Self::Not(other) => node != other,
            Self::Only(only) => node == only,
        }
    }
}

struct Known {
    url: String,
    endpoint: Rc<Endpoint>,
    tries: Cell<usize>,
}

/// The list of nodes.
///
/// - An index, once given, always means the same node.
/// - `tries` of a node never exceed [`BENCH_TRIES_MAX`], or [`BENCH_OPENING_MAX`] while it is the likely one.
pub struct Nodes {
    trust: Trust,
    known: RefCell<Vec<Known>>,
    /// Told, but no address to connect to.
    useless: RefCell<HashSet<String>>,
    /// Where the last connection succeeded.
    current: Cell<NodeIndex>,
    /// Where the next one probably will.
    likely: Cell<Option<NodeIndex>>,
    turn: Cell<usize>,
    freed: Notify,
    /// Counts the quarter seconds of the run: how connections notice that they heard nothing for long.
    pub tick: Cell<u64>,
}

impl Nodes {
    /// One node.
    ///
    /// # Errors
    /// The URL is no address of a server.
    pub fn new(url: &str, trust: Trust) -> Result<Rc<Self>, BenchError> {
        let nodes = Self {
            known: RefCell::default(),
            useless: RefCell::default(),
            current: Cell::new(0),
            likely: Cell::new(None),
            turn: Cell::new(0),
            freed: Notify::new(),
            tick: Cell::new(0),
            trust,
        };
        let endpoint = Rc::new(Endpoint::new(url, &nodes.trust)?);
        nodes.known.borrow_mut().push(Known { url: bare(url).to_owned(), endpoint, tries: Cell::new(0) });
        Ok(Rc::new(nodes))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.borrow().len()
    }

    /// Where the last connection succeeded.
    #[must_use]
    pub fn current(&self) -> NodeIndex {
        self.current.get()
    }

    /// How to reach the node where the last connection succeeded.
    #[must_use]
    pub fn endpoint(&self) -> Rc<Endpoint> {
        self.endpoint_of(self.current.get())
    }

    /// How to reach a node. The index must be one that this list gave.
    #[must_use]
    pub fn endpoint_of(&self, node: NodeIndex) -> Rc<Endpoint> {
        self.known.borrow()[node].endpoint.clone()
    }

    /// The node with this URL.
    #[must_use]
    pub fn index_of(&self, url: &str) -> Option<NodeIndex> {
        self.known.borrow().iter().position(|known| known.url == bare(url))
    }

    /// The only node has another URL from now on: a server that was started again elsewhere.
    ///
    /// # Errors
    /// The URL is no address of a server.
    pub fn moved(&self, url: &str) -> Result<(), BenchError> {
        let endpoint = Rc::new(Endpoint::new(url, &self.trust)?);
        let at = self.current.get();
        self.known.borrow_mut()[at] = Known { url: bare(url).to_owned(), endpoint, tries: Cell::new(0) };
        Ok(())
    }

    /// Notes nodes that a node told of. What cannot be resolved here is left out, and so are more than a few.
    pub fn learn<'a>(&self, urls: impl IntoIterator<Item = &'a str>) {
        for url in urls {
            let full = self.count() >= BENCH_NODES_MAX || self.useless.borrow().len() >= BENCH_NODES_MAX;
            if full || self.index_of(url).is_some() || self.useless.borrow().contains(bare(url)) {
                continue;
            }
            match Endpoint::new(bare(url), &self.trust) {
                Ok(endpoint) => {
                    let known = Known { url: bare(url).to_owned(), endpoint: Rc::new(endpoint), tries: Cell::new(0) };
                    self.known.borrow_mut().push(known);
                }
                Err(_) => drop(self.useless.borrow_mut().insert(bare(url).to_owned())),
            }
        }
    }

    /// A node said that this one is active.
    pub fn told_active(&self, url: &str) {
        if let Some(index) = self.index_of(url) {
            self.likely.set(Some(index));
        }
    }

    /// Waits for a node that may be tried now: the likely one, else each in turn.
    pub async fn next(&self, reach: Reach) -> Try<'_> {
        loop {
            if let Some(index) = self.free(reach) {
                let known = self.known.borrow();
                known[index].tries.set(known[index].tries.get() + 1);
                return Try { nodes: self, index, endpoint: known[index].endpoint.clone() };
            }
            // A notice wakes one, who may not be allowed where a place became free: so nobody relies on it alone.
            let _ = tokio::time::timeout(Duration::from_millis(BENCH_TRY_MS), self.freed.notified()).await;
        }
    }

    fn free(&self, reach: Reach) -> Option<NodeIndex> {
        let known = self.known.borrow();
        let is_free = |index: NodeIndex, max: usize| reach.has(index) && known[index].tries.get() < max;
        if let Some(likely) = self.likely.get().filter(|index| is_free(*index, BENCH_OPENING_MAX)) {
            return Some(likely);
        }
        let from = self.turn.get();
        self.turn.set(from.wrapping_add(1));
        (from..from + known.len()).map(|at| at % known.len()).find(|index| is_free(*index, BENCH_TRIES_MAX))
    }
}

/// The same address is told with and without a slash at its end.
fn bare(url: &str) -> &str {
    url.trim().trim_end_matches('/')
}

/// A try to connect to a node; it counts until this is dropped.
pub struct Try<'n> {
    nodes: &'n Nodes,
    /// The node.
    pub index: NodeIndex,
    /// How to reach it.
    pub endpoint: Rc<Endpoint>,
}

impl Try<'_> {
    /// It took the connection.
    pub fn succeeded(&self) {
        self.nodes.current.set(self.index);
        self.nodes.likely.set(Some(self.index));
    }

    /// It did not.
    pub fn failed(&self) {
        if self.nodes.likely.get() == Some(self.index) {
            self.nodes.likely.set(None);
        }
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let known = self.nodes.known.borrow();
        let tries = &known[self.index].tries;
        tries.set(tries.get().saturating_sub(1));
        self.nodes.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const URLS: [&str; 3] = ["http://127.0.0.1:1001", "http://127.0.0.1:1002", "http://127.0.0.1:1003"];

    fn nodes() -> Rc<Nodes> {
        let nodes = Nodes::new(URLS[0], Trust::AnyCertificate).unwrap();
        nodes.learn(URLS);
        nodes
    }

    fn now(nodes: &Nodes, reach: Reach) -> Option<Try<'_>> {
        nodes.next(reach).now_or_never()
    }

    #[test]
    fn what_is_told_is_learned_once_and_nonsense_is_not() {
        let nodes = nodes();
        nodes.learn(["http://127.0.0.1:1002/", " http://127.0.0.1:1003 ", "ftp://x", "", "http://127.0.0.1:1004"]);
        assert_eq!((nodes.count(), nodes.index_of("http://127.0.0.1:1004/")), (4, Some(3)));
        nodes.learn((0..1_000).map(|i| format!("http://127.0.1.1:{i}")).collect::<Vec<_>>().iter().map(String::as_str));
        assert_eq!(nodes.count(), BENCH_NODES_MAX);
    }

    #[tokio::test]
    async fn the_likely_node_is_tried_first_and_a_hanging_one_holds_nobody_up() {
        let nodes = nodes();
        nodes.told_active(URLS[1]);
        let first = now(&nodes, Reach::Any).unwrap();
        assert_eq!(first.index, 1);
        first.failed();
        drop(first);
        // Somebody waits for an answer of each: as many as may, and no more.
        let mut open: Vec<_> = std::iter::from_fn(|| now(&nodes, Reach::Any)).collect();
        assert_eq!(open.len(), 3 * BENCH_TRIES_MAX);
        let at = open.iter().position(|attempt| attempt.index == 2).unwrap();
        drop(open.swap_remove(at));
        assert!(now(&nodes, Reach::Not(2)).is_none());
        let found = now(&nodes, Reach::Any).unwrap();
        assert_eq!(found.index, 2);
        found.succeeded();
        assert_eq!(nodes.current(), 2);
        // All may go where one got through.
        let rest: Vec<_> = std::iter::from_fn(|| now(&nodes, Reach::Any)).collect();
        assert!(rest.len() > BENCH_TRIES_MAX && rest.iter().all(|attempt| attempt.index == 2), "{}", rest.len());
    }

    #[tokio::test]
    async fn reach_is_respected() {
        let nodes = nodes();
        nodes.told_active(URLS[0]);
        for _ in 0..20 {
            assert_ne!(now(&nodes, Reach::Not(0)).unwrap().index, 0);
            assert_eq!(now(&nodes, Reach::Only(2)).unwrap().index, 2);
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_becomes_free() {
        let nodes = nodes();
        let mut open: Vec<_> = std::iter::from_fn(|| now(&nodes, Reach::Any)).collect();
        let (waiting, ()) = tokio::join!(nodes.next(Reach::Any), async {
            tokio::task::yield_now().await;
            open.pop();
        });
        assert!(waiting.index < 3);
    }
}
