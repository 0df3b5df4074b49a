//! Identifiers and the hybrid logical clock they come from. Pure: the wall clock arrives as an input.
//!
//! An id is 64 bits, time-ordered and unique across nodes: 41 bits of milliseconds since 2024-01-01, 10 bits of node,
//! 12 bits of counter. The id of whatever an entry creates *is* that entry's id, so it is never stored a second time.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds from the Unix epoch to 2024-01-01T00:00:00Z, the zero of every id.
pub const ID_EPOCH_MS: u64 = 1_704_067_200_000;

/// Bits of an id that hold the per-millisecond counter.
const COUNTER_BITS: u32 = 12;
/// Bits of an id that hold the node.
const NODE_BITS: u32 = 10;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut space = [0; DECIMAL_DIGITS_MAX];
                serializer.serialize_str(decimal(self.0, &mut space))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor).map($name)
            }
        }
    };
}

/// The digits of the longest number of 64 bits.
const DECIMAL_DIGITS_MAX: usize = 20;

/// A number in decimal digits, without the formatting machinery: a page of messages has hundreds of ids.
fn decimal(mut number: u64, space: &mut [u8; DECIMAL_DIGITS_MAX]) -> &str {
    let mut start = DECIMAL_DIGITS_MAX;
    for (at, digit) in space.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start = at;
        if number == 0 {
            break;
        }
    }
    // Digits are UTF-8; the fallback is never taken.
    space.get(start..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
}

/// Reads an id from its JSON form, a string of decimal digits (JavaScript's numbers cannot hold 64 bits).
struct IdVisitor;

impl serde::de::Visitor<'_> for IdVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an id: a string of decimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

id_type!(
    /// A person or a bot.
    UserId
);
id_type!(
    /// A conversation.
    ChannelId
);
id_type!(
    /// One message, across all channels.
    MessageId
);
id_type!(
    /// One signed-in device.
    SessionId
);
id_type!(
    /// One invitation link.
    InviteId
);

/// A hybrid logical clock reading: 48 bits of Unix milliseconds, 16 bits of counter. Readings of one node only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The highest counter a reading may hold: ids have 12 bits for it, so the clock runs ahead by 1 ms beyond that.
    const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

    /// The reading's wall-clock part, in Unix milliseconds.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The next reading of a clock that last read `self`, when the wall clock says `now_ms`. Always greater than `self`,
    /// also when the wall clock was set back.
    #[must_use]
    pub const fn next(self, now_ms: u64) -> Self {
        if now_ms > self.unix_ms() {
            return Self(now_ms << 16);
        }
        let counter = self.0 & 0xffff;
        if counter < Self::COUNTER_MAX { Self(self.0 + 1) } else { Self((self.unix_ms() + 1) << 16) }
    }

    /// The id of what the entry with this reading, written by `node`, creates.
    #[must_use]
    pub const fn id(self, node: u16) -> u64 {
        let ms = self.unix_ms().saturating_sub(ID_EPOCH_MS);
        (ms << (COUNTER_BITS + NODE_BITS))
            | (((node as u64) & ((1 << NODE_BITS) - 1)) << COUNTER_BITS)
            | (self.0 & Self::COUNTER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_only_grows_even_when_the_wall_clock_is_set_back() {
        let mut clock = Hlc::default();
        let mut last_id = 0;
        for now_ms in [ID_EPOCH_MS + 5, ID_EPOCH_MS + 5, ID_EPOCH_MS + 1, ID_EPOCH_MS, ID_EPOCH_MS + 6] {
            for _ in 0..5_000 {
                let next = clock.next(now_ms);
                assert!(next > clock);
                assert!(next.id(3) > last_id, "ids are unique and ordered");
                last_id = next.id(3);
                clock = next;
            }
        }
    }

    #[test]
    fn ids_travel_as_strings() {
        let id = UserId(u64::MAX);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<UserId>("\"7\"").unwrap(), UserId(7));
        for number in [0, 9, 10, 1_234_567_890, u64::MAX - 1] {
            assert_eq!(serde_json::to_string(&UserId(number)).unwrap(), format!("\"{number}\""));
        }
        assert!(serde_json::from_str::<UserId>("7").is_err());
        assert!(serde_json::from_str::<UserId>("\"-1\"").is_err());
    }
}
