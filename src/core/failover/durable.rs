//! What members keep on disk, and its bytes. A state that cannot be read is an error, never an empty one: a member that
//! lost its durable state must come back under a new number.

use super::{Epoch, Member, NOBODY, Pairing, PairingState};

/// The form of the bytes below.
const VERSION: u8 = 1;
/// Version, epoch, granted, pairing (version, epoch, active, kind, epoch of Solo or standby, from), two members, flag.
const BODY_BYTES: usize = 1 + 8 + 2 + (8 + 8 + 2 + 1 + 8 + 8) + 2 + 2 + 1;
/// The body and its CRC32C.
const BYTES: usize = BODY_BYTES + 4;

/// The durable state of a data node, beside its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durable {
    /// The highest epoch that it has seen.
    pub epoch: Epoch,
    /// Who got its vote in this epoch; `NOBODY` when nobody did.
    pub granted: Member,
    /// Its copy of the pairing; without a witness the one that counts.
    pub pairing: Pairing,
    /// It was the active when it stopped, as far as it knows.
    pub was_active: bool,
    /// The other data node.
    pub peer: Option<Member>,
    /// The witness.
    pub witness: Option<Member>,
    /// This node was taken out of the pair: it takes part in nothing.
    pub removed: bool,
}

/// The durable state of a witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitnessDurable {
    /// The highest epoch that it has seen.
    pub epoch: Epoch,
    /// Who got its vote in this epoch; `NOBODY` when nobody did.
    pub granted: Member,
    /// The pairing: what its vote rests on. Of version 0 until an active has written it.
    pub pairing: Pairing,
    /// The data nodes that it listens to; `NOBODY` where there is none.
    pub data: [Member; 2],
}

/// Why the bytes of a durable state are no durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// So many bytes are too few or too many.
    Length(usize),
    /// The bytes are not the ones that were written.
    Checksum,
    /// Written by a version of the program that this one does not know.
    Version(u8),
    /// A field has a value that means nothing.
    Value,
}

impl Unreadable {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Length(_) => "pair_state_length",
            Self::Checksum => "pair_state_checksum",
            Self::Version(_) => "pair_state_version",
            Self::Value => "pair_state_value",
        }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(bytes) => write!(f, "the pair's state has {bytes} bytes, not {BYTES}"),
            Self::Checksum => f.write_str("the pair's state is damaged"),
            Self::Version(version) => write!(f, "the pair's state has version {version}, this program knows {VERSION}"),
            Self::Value => f.write_str("the pair's state holds a value without a meaning"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// What both kinds of members have in common: their bytes are the same, the flag tells them apart.
struct Parts {
    epoch: Epoch,
    granted: Member,
    pairing: Pairing,
    members: [Member; 2],
    flag: u8,
}

/// The flags of a data node that was active when it stopped, of one that was removed, and of a witness.
const WAS_ACTIVE: u8 = 1;
const WITNESS: u8 = 2;
const REMOVED: u8 = 4;

impl Durable {
    /// The bytes to write: a fixed number of them, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let flag = if self.was_active { WAS_ACTIVE } else { 0 } | if self.removed { REMOVED } else { 0 };
        let members = [self.peer.unwrap_or(NOBODY), self.witness.unwrap_or(NOBODY)];
        Parts { epoch: self.epoch, granted: self.granted, pairing: self.pairing, members, flag }.to_bytes()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// When the bytes are damaged, of another version, or of a witness.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let parts = Parts::from_bytes(bytes)?;
        let [peer, witness] = parts.members.map(|member| (member != NOBODY).then_some(member));
        if parts.flag & !(WAS_ACTIVE | REMOVED) != 0 {
            return Err(Unreadable::Value);
        }
        let (was_active, removed) = (parts.flag & WAS_ACTIVE != 0, parts.flag & REMOVED != 0);
        let Parts { epoch, granted, pairing, .. } = parts;
        Ok(Self { epoch, granted, pairing, was_active, peer, witness, removed })
    }
}

impl WitnessDurable {
    /// The bytes to write, in the same form as a data node's.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = Parts {
            epoch: self.epoch,
            granted: self.granted,
            pairing: self.pairing,
            members: self.data,
            flag: WITNESS,
        };
        parts.to_bytes()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// When the bytes are damaged, of another version, or of a data node.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let parts = Parts::from_bytes(bytes)?;
        if parts.flag != WITNESS {
            return Err(Unreadable::Value);
        }
        Ok(Self { epoch: parts.epoch, granted: parts.granted, pairing: parts.pairing, data: parts.members })
    }
}

impl Parts {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.push(VERSION);
        out.extend(self.epoch.0.to_le_bytes());
        out.extend(self.granted.to_le_bytes());
        out.extend(self.pairing.version.to_le_bytes());
        out.extend(self.pairing.epoch.0.to_le_bytes());
        out.extend(self.pairing.active.to_le_bytes());
        let (kind, value, from) = match self.pairing.state {
            PairingState::Paired { standby } => (0, u64::from(standby), 0),
            PairingState::Solo { epoch, from } => (1, epoch.0, from),
        };
        out.push(kind);
        out.extend(value.to_le_bytes());
        out.extend(from.to_le_bytes());
        for member in self.members {
            out.extend(member.to_le_bytes());
        }
        out.push(self.flag);
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = bytes;
        let version = u8::from_le_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        if bytes.len() != BYTES {
            return Err(Unreadable::Length(bytes.len()));
        }
        let (body, sum) = bytes.split_at(BODY_BYTES);
        if crc32c::crc32c(body).to_le_bytes() != sum {
            return Err(Unreadable::Checksum);
        }
        let epoch = Epoch(u64::from_le_bytes(take(&mut rest)?));
        let granted = Member::from_le_bytes(take(&mut rest)?);
        let version = u64::from_le_bytes(take(&mut rest)?);
        let changed = Epoch(u64::from_le_bytes(take(&mut rest)?));
        let active = Member::from_le_bytes(take(&mut rest)?);
        let kind = u8::from_le_bytes(take(&mut rest)?);
        let value = u64::from_le_bytes(take(&mut rest)?);
        let from = u64::from_le_bytes(take(&mut rest)?);
        let state = match kind {
            0 => PairingState::Paired { standby: Member::try_from(value).map_err(|_| Unreadable::Value)? },
            1 => PairingState::Solo { epoch: Epoch(value), from },
            _ => return Err(Unreadable::Value),
        };
        let pairing = Pairing { version, epoch: changed, active, state };
        let members = [Member::from_le_bytes(take(&mut rest)?), Member::from_le_bytes(take(&mut rest)?)];
        let flag = u8::from_le_bytes(take(&mut rest)?);
        Ok(Self { epoch, granted, pairing, members, flag })
    }
}

/// The next `N` bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Unreadable::Length(bytes.len()))?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Durable {
        let state = PairingState::Solo { epoch: Epoch::new(3, 1), from: 0x1122 };
        Durable {
            epoch: Epoch::new(4, 2),
            granted: 2,
            pairing: Pairing { version: 5, epoch: Epoch::new(3, 1), active: 1, state },
            was_active: true,
            peer: Some(2),
            witness: Some(9),
            removed: false,
        }
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    #[test]
    fn the_bytes_of_a_data_node_stay_as_they_are() {
        let bytes = sample().to_bytes();
        assert_eq!(hex(&bytes), GOLDEN_DATA);
        assert_eq!(Durable::from_bytes(&bytes), Ok(sample()));
    }

    #[test]
    fn the_bytes_of_a_witness_stay_as_they_are() {
        let pairing =
            Pairing { version: 6, epoch: Epoch::new(4, 2), active: 2, state: PairingState::Paired { standby: 1 } };
        let witness = WitnessDurable { epoch: Epoch::new(4, 2), granted: 2, pairing, data: [1, 2] };
        let bytes = witness.to_bytes();
        assert_eq!(hex(&bytes), GOLDEN_WITNESS);
        assert_eq!(WitnessDurable::from_bytes(&bytes), Ok(witness));
    }

    #[test]
    fn a_damaged_state_is_refused_at_every_bit() {
        let good = sample().to_bytes();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Durable::from_bytes(&bad).is_err(), "bit {bit}");
        }
        let removed = Durable { removed: true, was_active: false, ..sample() };
        assert_eq!(Durable::from_bytes(&removed.to_bytes()), Ok(removed));
        for length in 0..good.len() {
            assert!(Durable::from_bytes(&good[..length]).is_err(), "{length} bytes");
        }
        let long = [good.clone(), vec![0]].concat();
        assert_eq!(Durable::from_bytes(&long), Err(Unreadable::Length(long.len())));
        assert_eq!(WitnessDurable::from_bytes(&good), Err(Unreadable::Value), "of the other kind");
        assert_eq!(Durable::from_bytes(&[2; BYTES]), Err(Unreadable::Version(2)));
    }

    const GOLDEN_DATA: &str = "010200040000000000020005000000000000000100030000000000010001\
                               010003000000000022110000000000000200090001a9c9206d";
    const GOLDEN_WITNESS: &str = "010200040000000000020006000000000000000200040000000000020000\
                                  01000000000000000000000000000000010002000291b101bf";
}
