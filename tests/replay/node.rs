//! One node without a log: clock, machine, memory state. What a command would become is an [`Entry`] here as there.

use bytes::Bytes;
use holdfast::core::command::Envelope;
use holdfast::core::entry::{Entry, EntryKind, Origin};
use holdfast::core::ids::Hlc;
use holdfast::core::machine::{Applied, Machine};
use holdfast::projection::memory_view::MemoryView;
use prost::Message as _;

use crate::crowd::{Crowd, Step};

/// The epoch that all entries are written in.
pub(crate) const EPOCH: u64 = 65_537;

/// The node and the crowd that talks to it.
pub(crate) struct Node {
    pub(crate) crowd: Crowd,
    pub(crate) view: MemoryView,
    pub(crate) machine: Machine,
    pub(crate) now_ms: u64,
    number: u16,
    epoch: u64,
    pub(crate) index: u64,
    hlc: Hlc,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            crowd: Crowd::default(),
            view: MemoryView::new(),
            machine: Machine::default(),
            now_ms: 1_800_000_000_000,
            number: 1,
            epoch: EPOCH,
            index: 0,
            hlc: Hlc::default(),
        }
    }
}

impl Node {
    /// The data node `number`, which becomes active here in a new epoch while this one goes on.
    pub(crate) fn fork(&self, number: u16) -> Self {
        Self {
            crowd: self.crowd.clone(),
            view: self.view.clone(),
            machine: Machine::default(),
            now_ms: self.now_ms,
            number,
            epoch: (((self.epoch >> 16) + 1) << 16) + u64::from(number),
            index: self.index,
            hlc: self.hlc,
        }
    }

    /// The next entry of the log.
    pub(crate) fn entry(&mut self, kind: EntryKind, payload: Bytes) -> Entry {
        self.index += 1;
        self.hlc = self.hlc.next(self.now_ms);
        let origin = Origin { site: 0, node: self.number };
        Entry { index: self.index, epoch: self.epoch, hlc: self.hlc, origin, kind, payload, erased: false }
    }

    /// The next entry, of a command.
    pub(crate) fn command(&mut self, envelope: &Envelope) -> Entry {
        self.entry(EntryKind::Command, envelope.encode_to_vec().into())
    }

    /// Applies an entry to the memory state.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Applied {
        let applied = self.machine.apply(entry, &self.view).unwrap();
        self.view.commit(&applied.writes);
        self.crowd.learn(&applied);
        applied
    }

    /// The commands that an organisation begins with.
    pub(crate) fn founding(&self) -> impl Iterator<Item = Envelope> + use<> {
        Crowd::founding().into_iter().map(|command| Envelope { actor: None, command: Some(command) })
    }

    /// The commands of a step, after the time that passes before it.
    pub(crate) fn step(&mut self, step: Step) -> Vec<Envelope> {
        self.now_ms += step.gap_ms();
        self.crowd.commands(step, &self.view)
    }

    /// Fills in the founder, who makes everything an organisation begins with.
    pub(crate) fn by_founder(&self, envelope: Envelope) -> Envelope {
        Envelope { actor: Some(self.crowd.founder()), ..envelope }
    }
}
