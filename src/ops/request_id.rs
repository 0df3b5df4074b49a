//! Short unique request ids: what a user reads to an administrator over the phone. Must never be taken for a secret.

use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::BASE32_DNSSEC;

/// Letters and digits of a request id.
pub const REQUEST_ID_CHARS: usize = 13;

/// Makes request ids, unique within a process and very likely across restarts. Cheap: one atomic addition each.
#[derive(Debug)]
pub struct RequestIds {
    next: AtomicU64,
    key: u64,
}

impl RequestIds {
    /// A source that starts at a random place, so that ids of two runs do not meet in one log file.
    pub fn new() -> RequestIds {
        // Without system randomness the ids are still unique within the run, which is all that is promised.
        let seed = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        RequestIds { next: AtomicU64::new(seed), key: seed.rotate_left(32) }
    }

    /// The next id: 13 characters of `0-9a-v`.
    pub fn next_id(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // An odd multiplier and an xor permute the 64-bit space: still unique, and neighbours look different.
        let spread = (number ^ self.key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        BASE32_DNSSEC.encode(&spread.to_be_bytes())
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        RequestIds::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_short_plain_and_unique() {
        let ids = RequestIds::new();
        let made: HashSet<String> = (0..100_000).map(|_| ids.next_id()).collect();
        assert_eq!(made.len(), 100_000);
        for id in made.iter().take(100) {
            assert_eq!(id.len(), REQUEST_ID_CHARS);
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
        }
    }

    #[test]
    fn two_runs_do_not_share_ids() {
        let (first, second) = (RequestIds::new(), RequestIds::new());
        let made: HashSet<String> = (0..1000).map(|_| first.next_id()).collect();
        assert!((0..1000).all(|_| !made.contains(&second.next_id())));
    }
}
