//! The latest durable events, so that a client that was away for a moment gets what it missed. In memory, bounded by
//! bytes; whoever was away for longer refetches.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::core::event::Audience;
use crate::limits;

/// One event as it went out.
pub(super) struct Kept {
    pub(super) pos: u64,
    pub(super) audience: Audience,
    pub(super) frame: Bytes,
}

/// The ring.
///
/// - It holds *every* event with a position above `complete_from`, in order.
#[derive(Default)]
pub(super) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
    complete_from: u64,
}

impl Ring {
    /// An empty ring of a node whose state is at `pos`: whoever has seen everything up to there has missed nothing.
    pub(super) fn new(pos: u64) -> Self {
        Self { complete_from: pos, ..Self::default() }
    }

    pub(super) fn push(&mut self, kept: Kept) {
        self.bytes += kept.frame.len() + limits::SESSION_FRAME_OVERHEAD_BYTES;
        self.kept.push_back(kept);
        while self.bytes > limits::EVENT_RING_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.frame.len() + limits::SESSION_FRAME_OVERHEAD_BYTES;
            self.complete_from = oldest.pos;
        }
    }

    /// The events after `pos`, or `None` when some of them are gone.
    pub(super) fn after(&self, pos: u64) -> Option<impl Iterator<Item = &Kept>> {
        if pos < self.complete_from {
            return None;
        }
        let start = self.kept.partition_point(|kept| kept.pos <= pos);
        Some(self.kept.range(start..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pos: u64, bytes: usize) -> Kept {
        Kept { pos, audience: Audience::Everyone, frame: vec![0; bytes].into() }
    }

    #[test]
    fn tells_all_that_was_missed_or_that_it_cannot() {
        let mut ring = Ring::new(10);
        for pos in [11, 12, 12, 15] {
            ring.push(kept(pos, 10));
        }
        let after = |ring: &Ring, pos| ring.after(pos).map(|kept| kept.map(|k| k.pos).collect::<Vec<_>>());
        assert_eq!(after(&ring, 9), None);
        assert_eq!(after(&ring, 10), Some(vec![11, 12, 12, 15]));
        assert_eq!(after(&ring, 12), Some(vec![15]));
        assert_eq!(after(&ring, 99), Some(vec![]));
    }

    #[test]
    fn is_bounded_and_then_says_so() {
        let mut ring = Ring::new(0);
        let size = limits::EVENT_RING_BYTES_MAX / 4;
        for pos in 1..=8 {
            ring.push(kept(pos, size));
        }
        assert!(ring.bytes <= limits::EVENT_RING_BYTES_MAX);
        assert!(ring.after(1).is_none());
        assert_eq!(ring.after(5).unwrap().next().unwrap().pos, 6);
    }
}
