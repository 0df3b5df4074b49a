//! The keys of the applied state: a small closed enum whose order is the order of its bytes.

use super::ids::{ChannelId, InviteId, SessionId, UserId};

/// A 16-byte lookup hash of a name or a token.
pub type LookupHash = [u8; 16];

/// Where a row lives. The derived order and the order of [`Key::encode`]'s bytes are the same, so that a memory map
/// and a store sorted by bytes scan alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The settings of the organisation.
    Settings,
    /// A user by id.
    User(UserId),
    /// A user's id by sign-in name.
    Username(LookupHash),
    /// A session by id.
    Session(SessionId),
    /// A session's id by token.
    SessionToken(LookupHash),
    /// A user's sessions.
    UserSession(UserId, SessionId),
    /// An invitation by id.
    Invite(InviteId),
    /// An invitation's id by token.
    InviteToken(LookupHash),
    /// A channel by id.
    Channel(ChannelId),
    /// A public channel's id by name.
    ChannelName(LookupHash),
    /// A direct channel's id by its two people, the lower id first.
    DirectPair(UserId, UserId),
    /// The part of a channel that every message changes.
    ChannelHead(ChannelId),
    /// The members of a channel.
    Member(ChannelId, UserId),
    /// The channels of a user.
    Membership(UserId, ChannelId),
    /// The messages of a channel by sequence number.
    Message(ChannelId, u64),
    /// A ring of a sender's latest sends, by slot.
    Sent(UserId, u16),
    /// The audit trail by log index.
    Audit(u64),
    /// The members of the pair and what they agree on.
    Pair,
    /// How far a diverged tail was salvaged, by the hash of its identity.
    TailMark(LookupHash),
    /// A conflict by id.
    Conflict(u64),
    /// The conflicts that nobody has decided.
    OpenConflict(u64),
    /// The channel that stands for a direct channel which both sides of a fork had opened.
    ChannelAlias(ChannelId),
    /// The settings of the backups.
    Backups,
}

/// The longest encoded key, in bytes.
pub const KEY_BYTES_MAX: usize = 17;

/// The lookup hash of a name: what is compared is the name in lower case.
#[must_use]
pub fn name_hash(name: &str) -> LookupHash {
    let digest = blake3::hash(name.to_lowercase().as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(digest.as_bytes().split_at(16).0);
    hash
}

/// An encoded key: at most [`KEY_BYTES_MAX`] bytes, on the stack.
#[derive(Clone, Copy)]
pub struct KeyBytes {
    bytes: [u8; KEY_BYTES_MAX],
    len: u8,
}

impl std::ops::Deref for KeyBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.split_at(usize::from(self.len)).0
    }
}

impl KeyBytes {
    fn new(tag: u8, parts: &[&[u8]]) -> Self {
        let mut bytes = [0; KEY_BYTES_MAX];
        let mut len = 0;
        for byte in std::iter::once(&tag).chain(parts.iter().flat_map(|part| part.iter())) {
            if let Some(slot) = bytes.get_mut(len) {
                *slot = *byte;
                len += 1;
            }
        }
        Self { bytes, len: len as u8 }
    }
}

impl Key {
    /// The first of all keys.
    pub const FIRST: Self = Self::Settings;
    /// The last of all keys.
    pub const LAST: Self = Self::Backups;

    /// The key's bytes: a tag in the order of the enum, then big-endian fields.
    #[must_use]
    pub fn encode(&self) -> KeyBytes {
        let one = |tag, a: u64| KeyBytes::new(tag, &[&a.to_be_bytes()]);
        let two = |tag, a: u64, b: u64| KeyBytes::new(tag, &[&a.to_be_bytes(), &b.to_be_bytes()]);
        match *self {
            Self::Settings => KeyBytes::new(1, &[]),
            Self::User(id) => one(2, id.0),
            Self::Username(hash) => KeyBytes::new(3, &[&hash]),
            Self::Session(id) => one(4, id.0),
            Self::SessionToken(hash) => KeyBytes::new(5, &[&hash]),
            Self::UserSession(user, session) => two(6, user.0, session.0),
            Self::Invite(id) => one(7, id.0),
            Self::InviteToken(hash) => KeyBytes::new(8, &[&hash]),
            Self::Channel(id) => one(9, id.0),
            Self::ChannelName(hash) => KeyBytes::new(10, &[&hash]),
            Self::DirectPair(low, high) => two(11, low.0, high.0),
            Self::ChannelHead(id) => one(12, id.0),
            Self::Member(channel, user) => two(13, channel.0, user.0),
            Self::Membership(user, channel) => two(14, user.0, channel.0),
            Self::Message(channel, seq) => two(15, channel.0, seq),
            Self::Sent(user, slot) => KeyBytes::new(16, &[&user.0.to_be_bytes(), &slot.to_be_bytes()]),
            Self::Audit(index) => one(17, index),
            Self::Pair => KeyBytes::new(18, &[]),
            Self::TailMark(hash) => KeyBytes::new(19, &[&hash]),
            Self::Conflict(id) => one(20, id),
            Self::OpenConflict(id) => one(21, id),
            Self::ChannelAlias(id) => one(22, id.0),
            Self::Backups => KeyBytes::new(23, &[]),
        }
    }

    /// Reads what [`Key::encode`] wrote; `None` when the bytes are no key of this build.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        let one = || Some(u64::from_be_bytes(rest.try_into().ok()?));
        let hash = || rest.try_into().ok();
        let two = || {
            let (a, b) = rest.split_at_checked(8)?;
            Some((u64::from_be_bytes(a.try_into().ok()?), u64::from_be_bytes(b.try_into().ok()?)))
        };
        Some(match tag {
            1 if rest.is_empty() => Self::Settings,
            2 => Self::User(UserId(one()?)),
            3 => Self::Username(hash()?),
            4 => Self::Session(SessionId(one()?)),
            5 => Self::SessionToken(hash()?),
            6 => two().map(|(a, b)| Self::UserSession(UserId(a), SessionId(b)))?,
            7 => Self::Invite(InviteId(one()?)),
            8 => Self::InviteToken(hash()?),
            9 => Self::Channel(ChannelId(one()?)),
            10 => Self::ChannelName(hash()?),
            11 => two().map(|(a, b)| Self::DirectPair(UserId(a), UserId(b)))?,
            12 => Self::ChannelHead(ChannelId(one()?)),
            13 => two().map(|(a, b)| Self::Member(ChannelId(a), UserId(b)))?,
            14 => two().map(|(a, b)| Self::Membership(UserId(a), ChannelId(b)))?,
            15 => two().map(|(a, b)| Self::Message(ChannelId(a), b))?,
            16 => {
                let (user, slot) = rest.split_at_checked(8)?;
                let user = UserId(u64::from_be_bytes(user.try_into().ok()?));
                Self::Sent(user, u16::from_be_bytes(slot.try_into().ok()?))
            }
            17 => Self::Audit(one()?),
            18 if rest.is_empty() => Self::Pair,
            19 => Self::TailMark(hash()?),
            20 => Self::Conflict(one()?),
            21 => Self::OpenConflict(one()?),
            22 => Self::ChannelAlias(ChannelId(one()?)),
            23 if rest.is_empty() => Self::Backups,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = Key> {
        let id = prop_oneof![0..4u64, any::<u64>()];
        (0..23u8, id.clone(), id, any::<[u8; 16]>(), any::<u16>()).prop_map(|(which, a, b, hash, slot)| match which {
            0 => Key::Settings,
            1 => Key::User(UserId(a)),
            2 => Key::Username(hash),
            3 => Key::Session(SessionId(a)),
            4 => Key::SessionToken(hash),
            5 => Key::UserSession(UserId(a), SessionId(b)),
            6 => Key::Invite(InviteId(a)),
            7 => Key::InviteToken(hash),
            8 => Key::Channel(ChannelId(a)),
            9 => Key::ChannelName(hash),
            10 => Key::DirectPair(UserId(a), UserId(b)),
            11 => Key::ChannelHead(ChannelId(a)),
            12 => Key::Member(ChannelId(a), UserId(b)),
            13 => Key::Membership(UserId(a), ChannelId(b)),
            14 => Key::Message(ChannelId(a), b),
            15 => Key::Sent(UserId(a), slot),
            16 => Key::Audit(a),
            17 => Key::Pair,
            18 => Key::TailMark(hash),
            19 => Key::Conflict(a),
            20 => Key::OpenConflict(a),
            21 => Key::ChannelAlias(ChannelId(a)),
            _ => Key::Backups,
        })
    }

    proptest! {
        #[test]
        fn bytes_round_trip_and_sort_as_the_enum_does(a in any_key(), b in any_key()) {
            prop_assert_eq!(Key::decode(&a.encode()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Some(key) = Key::decode(&bytes) {
                prop_assert_eq!(&*key.encode(), &bytes[..]);
            }
        }
    }

    #[test]
    fn names_differ_only_beyond_case() {
        assert_eq!(name_hash("Anna"), name_hash("anna"));
        assert_ne!(name_hash("anna"), name_hash("anne"));
    }
}
