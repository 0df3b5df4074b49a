//! The protocol of the pair: who is active, what may be acknowledged, who may take over. Pure: `step` takes what
//! happened and returns what has to be done; `crate::replication` does it. `DESIGN.md` beside this file has the rules.
//!
//! Clocks only decide how quickly things happen, never whether they are safe: the protocol asks for timers and is told
//! when one fires, and it must be right whenever that is. `now_ms` is only ever shown to people.

mod data;
mod durable;
mod effect;
mod input;
mod message;
mod mutation;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod witness;

pub use data::DataMember;
pub use durable::{Durable, Unreadable, WitnessDurable};
pub use effect::{Effect, Notice, Refused, Timer, WaitingFor};
pub use input::{Input, Order, Relation};
pub use message::{Message, Pairing, PairingState};
pub use mutation::Mutation;
pub use settings::Settings;
pub use status::{Contact, NotAutomatic, Role, Status, WitnessStatus};
pub use witness::Witness;

/// A member of the pair: a data node (its number in the log's origins) or the witness. A member that lost its durable
/// state comes back under a number that was never used.
pub type Member = u16;

/// The number of no member.
pub const NOBODY: Member = 0;

/// An epoch: its number in the high 48 bits, the member that stood for it in the low 16. Ordered, and no two members can
/// ever hold the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch with this number of this member.
    #[must_use]
    pub const fn new(number: u64, member: Member) -> Self {
        Self((number << 16) | member as u64)
    }

    /// Its number, as shown to people.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 >> 16
    }

    /// The member that stood for it.
    #[must_use]
    pub const fn member(self) -> Member {
        (self.0 & 0xffff) as Member
    }

    /// The epoch that `member` stands for after this one.
    #[must_use]
    pub const fn next(self, member: Member) -> Self {
        Self::new(self.number() + 1, member)
    }
}

/// The end of a log: what votes compare, by the epoch first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogEnd {
    /// The epoch of the last record (of the snapshot's last record, when nothing follows it).
    pub epoch: Epoch,
    /// Its index; 0 before the first.
    pub index: u64,
}
