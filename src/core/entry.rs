//! One record of the operation log, as every part of the program sees it. Pure data.

use bytes::Bytes;

use super::ids::Hlc;

/// A 32-byte BLAKE3 digest: a chain hash, a payload hash, a state hash.
pub type Digest = [u8; 32];

/// What an entry's payload is. A kind that a build does not know stops it: it must never skip what it cannot apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A protobuf [`Envelope`](super::command::Envelope): who asked for which change.
    Command = 1,
    /// A node became active in a new epoch. The payload is empty.
    EpochStarted = 2,
    /// The state hash at an earlier index, for every later reader to compare with its own.
    StateHash = 3,
}

impl EntryKind {
    /// The kind with this number, or `None` when this build does not know it.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Command),
            2 => Some(Self::EpochStarted),
            3 => Some(Self::StateHash),
            _ => None,
        }
    }
}

/// The node that wrote an entry: site and node within the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Origin {
    /// The site, 0 for the first.
    pub site: u16,
    /// The node within the cluster, from 1; at most 1,023, as ids have 10 bits for it.
    pub node: u16,
}

/// One log record.
///
/// - `index` counts from 1 without gaps.
/// - `epoch` never falls along the log.
/// - `hlc` only grows along the entries of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, from 1.
    pub index: u64,
    /// The epoch it was written in: number in the high 48 bits, node in the low 16.
    pub epoch: u64,
    /// When it was proposed.
    pub hlc: Hlc,
    /// Who wrote it.
    pub origin: Origin,
    /// What the payload is.
    pub kind: EntryKind,
    /// The payload's bytes; empty and `erased` set when it was legally erased later.
    pub payload: Bytes,
    /// The payload was erased; only its hash is left in the log.
    pub erased: bool,
}

impl Entry {
    /// The id of what this entry creates.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.hlc.id(self.origin.node)
    }

    /// When it was proposed, in Unix milliseconds.
    #[must_use]
    pub const fn unix_ms(&self) -> u64 {
        self.hlc.unix_ms()
    }
}
