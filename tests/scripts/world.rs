//! The state machine as a script sees it: one node, its clock, its state, and the names of what was made.

use holdfast::core::chat::Reply;
use holdfast::core::command::{Actor, Command, Envelope};
use holdfast::core::entry::{Entry, EntryKind, Origin};
use holdfast::core::event::Event;
use holdfast::core::ids::Hlc;
use holdfast::core::keys::Key;
use holdfast::core::machine::{self, Applied, Machine};
use holdfast::core::merge;
use holdfast::core::refusal::RuleError;
use holdfast::core::view::StateHash;
use holdfast::projection::memory_view::MemoryView;
use prost::Message as _;

use crate::names::Names;
use crate::trace;

/// When every script begins: a round number far from the zero of the ids.
const START_MS: u64 = 1_800_000_000_000;

/// The state and everything around it.
pub(crate) struct World {
    pub(crate) view: MemoryView,
    pub(crate) names: Names,
    pub(crate) now_ms: u64,
    pub(crate) index: u64,
    machine: Machine,
    hlc: Hlc,
    node: u16,
    epoch: u64,
    /// The other data node, since the fork.
    other: Option<Box<World>>,
    /// The state at the fork, and what was written since.
    fork: Option<MemoryView>,
    tail: Vec<Entry>,
    conflicts: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            view: MemoryView::new(),
            names: Names::default(),
            now_ms: START_MS,
            index: 0,
            machine: Machine::default(),
            hlc: Hlc::default(),
            node: 1,
            epoch: 65_537,
            other: None,
            fork: None,
            tail: Vec::new(),
            conflicts: 0,
        }
    }
}

/// A command with the name of what it makes.
pub(crate) struct Order {
    pub(crate) actor: Actor,
    pub(crate) command: Command,
    pub(crate) makes: Option<String>,
}

impl World {
    /// Applies a command and returns its trace. The check before the log must agree with the outcome.
    pub(crate) fn order(&mut self, order: Order) -> String {
        let envelope = Envelope { actor: Some(order.actor), command: Some(order.command) };
        let checked = machine::check(&self.view, &envelope, self.now_ms);
        let applied = self.apply(EntryKind::Command, envelope.encode_to_vec().into(), false).unwrap();
        match (checked, &applied.outcome) {
            (Ok(()), Ok(_)) => {}
            (Err(RuleError::Refused(before)), Err(refusal)) => assert_eq!(before, *refusal, "check and apply disagree"),
            (checked, outcome) => panic!("check says {checked:?}, apply says {outcome:?}"),
        }
        self.learn(&applied, order.makes);
        self.show(&trace::of(&applied))
    }

    /// Applies any entry.
    pub(crate) fn apply(&mut self, kind: EntryKind, payload: bytes::Bytes, erased: bool) -> Result<Applied, String> {
        self.hlc = self.hlc.next(self.now_ms);
        self.index += 1;
        let origin = Origin { site: 0, node: self.node };
        let entry = Entry { index: self.index, epoch: self.epoch, hlc: self.hlc, origin, kind, payload, erased };
        let applied = self.machine.apply(&entry, &self.view).map_err(|e| e.to_string())?;
        assert!(applied.outcome.is_ok() || (applied.writes.is_empty() && applied.events.is_empty()));
        self.view.commit(&applied.writes);
        self.tail.push(entry);
        for write in &applied.writes {
            if let (Key::OpenConflict(id), Some(_)) = (write.key, &write.after) {
                self.conflicts += 1;
                self.names.set(&format!("!{}", self.conflicts), id);
            }
        }
        Ok(applied)
    }

    /// From here on there are two: this node goes on, the other one becomes active too.
    pub(crate) fn part(&mut self) {
        let other = Self {
            view: self.view.clone(),
            names: self.names.clone(),
            now_ms: self.now_ms,
            index: self.index,
            hlc: self.hlc,
            node: 2,
            epoch: (2 << 16) + 2,
            fork: Some(self.view.clone()),
            ..Self::default()
        };
        self.fork = Some(self.view.clone());
        self.tail.clear();
        self.other = Some(Box::new(other));
    }

    /// What follows happens on the other node.
    pub(crate) fn swap(&mut self) {
        let Some(mut other) = self.other.take() else { return };
        other.names = self.names.clone();
        other.now_ms = self.now_ms;
        std::mem::swap(self, &mut *other);
        self.other = Some(other);
    }

    /// Salvages what the other node wrote since the fork, and tells what became of each record.
    pub(crate) fn salvage(&mut self) -> String {
        let Some(other) = self.other.take() else { return "there is no other node".to_owned() };
        let Some(fork) = &other.fork else { return "there was no fork".to_owned() };
        let plan = merge::salvage(fork, &other.tail).unwrap();
        let mut out = format!("{} items, {} records dropped\n", plan.items.len(), plan.dropped.len());
        for dropped in &plan.dropped {
            out.push_str(&format!("record {}: {}\n", dropped.index, dropped.why));
        }
        for item in plan.items {
            let (ordinal, index) = (item.ordinal, item.index);
            let order = Order { actor: Actor::system(), command: Command::Salvage(item), makes: None };
            let trace = self.order(order).replace('\n', "\n  ");
            out.push_str(&format!("item {ordinal}, record {index}: {}\n", trace.trim_end()));
        }
        self.other = Some(other);
        out
    }

    /// Drops what the machine keeps beside the state: nothing may depend on it.
    pub(crate) fn forget_cache(&mut self) {
        self.machine = Machine::default();
    }

    /// Names what an entry made.
    fn learn(&mut self, applied: &Applied, makes: Option<String>) {
        for event in &applied.events {
            if let Event::MessageCreated { message } = event {
                let channel = self.show(&message.channel_id.to_string());
                self.names.set(&format!("{channel}/{}", message.seq), message.id.0);
            }
        }
        let Some(name) = makes else { return };
        match &applied.outcome {
            Ok(Reply::User(user)) => self.names.set(&name, user.id.0),
            Ok(Reply::Session(session)) => self.names.set(&name, session.id.0),
            Ok(Reply::Invite(invite)) => self.names.set(&name, invite.id.0),
            Ok(Reply::Entry { entry, .. }) => self.names.set(&name, entry.channel.id.0),
            _ => {}
        }
    }

    /// Text with names for ids.
    pub(crate) fn show(&self, text: &str) -> String {
        self.names.apply(text, START_MS)
    }

    /// The hash of all rows, from nothing.
    pub(crate) fn full_hash(&self) -> StateHash {
        let mut hash = StateHash::default();
        self.view.iter().for_each(|(key, value)| hash.add(key, &value.encode()));
        hash
    }
}
