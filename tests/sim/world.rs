//! What the parts of one run share: who runs, what was asked, what happened. All of it is the harness's own knowledge: no
//! member of the pair may learn anything from it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use holdfast::core::failover::Status;
use holdfast::node::Node;
use holdfast::replication::PairHandle;
use parking_lot::Mutex;

use crate::clock;
use crate::founding::Organisation;
use crate::oracle::Oracle;
use crate::scenario::{Breakage, Scenario};
use crate::wires::Wires;

/// A data node between its start and its end.
#[derive(Clone)]
pub(crate) struct Running {
    /// The node.
    pub(crate) node: Node,
    /// Its part of the pair.
    pub(crate) pair: PairHandle,
    /// Counts the starts of this node.
    pub(crate) life: u64,
    /// How its protocol stood a moment ago.
    pub(crate) status: Option<Status>,
}

/// See the module.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    /// The directories of node 1, node 2 and the witness.
    pub(crate) dirs: [PathBuf; 3],
    pub(crate) organisation: Organisation,
    pub(crate) wires: Wires,
    pub(crate) oracle: Mutex<Oracle>,
    pub(crate) nodes: [Mutex<Option<Running>>; 2],
    lives: [AtomicUsize; 2],
    /// A member wants to be started again.
    pub(crate) again: [AtomicBool; 2],
    /// P1 to P3 are promised.
    pub(crate) strict: AtomicBool,
    /// Nobody begins to send anything new.
    pub(crate) quiet: AtomicBool,
    /// How many people still wait to hear what became of what they sent.
    pub(crate) busy: AtomicUsize,
    /// When something was acknowledged last, in simulated milliseconds.
    pub(crate) acknowledged_ms: Mutex<u64>,
    trace: Mutex<String>,
    violations: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario, (dirs, organisation): ([PathBuf; 3], Organisation)) -> Arc<Self> {
        Arc::new(Self {
            scenario,
            seed,
            dirs,
            organisation,
            wires: Wires::default(),
            oracle: Mutex::default(),
            nodes: [Mutex::new(None), Mutex::new(None)],
            lives: [AtomicUsize::new(0), AtomicUsize::new(0)],
            again: [AtomicBool::new(false), AtomicBool::new(false)],
            strict: AtomicBool::new(scenario.witness && !scenario.force && !scenario.join),
            quiet: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            acknowledged_ms: Mutex::new(0),
            trace: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    /// Something happened that a later run of the same seed must repeat.
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        let mut trace = self.trace.lock();
        writeln!(trace, "{:>7} {what}", clock::elapsed_ms()).unwrap();
    }

    /// A promise was broken.
    pub(crate) fn violated(&self, what: String) {
        self.note(format_args!("VIOLATED: {what}"));
        self.violations.lock().push(what);
    }

    /// Judges the outcome of a check.
    pub(crate) fn judge(&self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.violated(what);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    pub(crate) fn trace(&self) -> String {
        self.trace.lock().clone()
    }

    pub(crate) fn running(&self, node: usize) -> Option<Running> {
        self.nodes[node].lock().clone()
    }

    /// Whether P1 to P3 are promised: with a witness that both nodes know of, and nobody forces anything.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed)
    }

    pub(crate) fn broken(&self, breakage: Breakage) -> bool {
        self.scenario.breakage == Some(breakage)
    }

    /// The node runs, until what is returned is dropped, which a crash does too.
    pub(crate) fn register(self: &Arc<Self>, me: usize, (node, pair): (Node, PairHandle)) -> Registered {
        let life = self.lives[me].fetch_add(1, Ordering::Relaxed) as u64;
        *self.nodes[me].lock() = Some(Running { node, pair, life, status: None });
        Registered(self.clone(), me)
    }
}

/// See [`World::register`].
pub(crate) struct Registered(Arc<World>, usize);

impl Drop for Registered {
    fn drop(&mut self) {
        let was = self.0.nodes[self.1].lock().take();
        drop(was);
    }
}
