//! The state machine as a script sees it: one node, its clock, its state, and the names of what was made.

use holdfast::core::chat::Reply;
use holdfast::core::command::{Actor, Command, Envelope};
use holdfast::core::entry::{Entry, EntryKind, Origin};
use holdfast::core::event::Event;
use holdfast::core::ids::Hlc;
use holdfast::core::machine::{self, Applied, Machine};
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
        let origin = Origin { site: 0, node: 1 };
        let entry = Entry { index: self.index, epoch: 65_537, hlc: self.hlc, origin, kind, payload, erased };
        let applied = self.machine.apply(&entry, &self.view).map_err(|e| e.to_string())?;
        assert!(applied.outcome.is_ok() || (applied.writes.is_empty() && applied.events.is_empty()));
        self.view.commit(&applied.writes);
        Ok(applied)
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
