//! The latest durable events, so that a client that was away for a moment gets what it missed. In memory, bounded by
//! bytes; whoever was away for longer refetches.
//!
//! What nobody heard is kept as it is and becomes a frame when somebody asks for it: on a standby, which has no sessions,
//! that is almost never.

use std::collections::VecDeque;

use bytes::Bytes;

use super::hub::encode_event;
use crate::core::event::{Audience, Event};
use crate::limits;

/// What is kept of an event.
#[derive(Clone)]
pub(super) enum Content {
    /// The frame, as it went out.
    Frame(Bytes),
    /// A message that nobody heard, with the position that its frame tells.
    Message(Box<(Event, u64)>),
}

impl Content {
    /// The memory it takes, about, in bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Message(kept) => {
                let text = match &kept.0 {
                    Event::MessageCreated { message } | Event::MessageUpdated { message } => message.body.len(),
                    _ => 0,
                };
                size_of::<(Event, u64)>() + text
            }
        }
    }
}

/// One event.
pub(super) struct Kept {
    pub(super) pos: u64,
    pub(super) audience: Audience,
    pub(super) content: Content,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.content.bytes() + limits::SESSION_FRAME_OVERHEAD_BYTES
    }
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
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
        while self.bytes > limits::EVENT_RING_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.complete_from = oldest.pos;
        }
    }

    /// The frames of the events after `pos` that are for `mine`, or `None` when some events are gone. What becomes a frame
    /// stays one: after a failover many ask for the same.
    pub(super) fn after(&mut self, pos: u64, mine: impl Fn(&Audience) -> bool) -> Option<Vec<Bytes>> {
        if pos < self.complete_from {
            return None;
        }
        let start = self.kept.partition_point(|kept| kept.pos <= pos);
        let mut frames = Vec::new();
        for kept in self.kept.range_mut(start..).filter(|kept| mine(&kept.audience)) {
            let frame = match &kept.content {
                Content::Frame(frame) => frame.clone(),
                Content::Message(message) => {
                    let frame = encode_event(&message.0, message.1);
                    let before = kept.bytes();
                    kept.content = Content::Frame(frame.clone());
                    self.bytes = self.bytes - before + kept.bytes();
                    frame
                }
            };
            frames.push(frame);
        }
        Some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Message;
    use crate::core::ids::ChannelId;
    use crate::core::rows;

    fn kept(pos: u64, bytes: usize) -> Kept {
        Kept { pos, audience: Audience::Everyone, content: Content::Frame(vec![pos as u8; bytes].into()) }
    }

    fn unheard(pos: u64, body: &str) -> Kept {
        let channel = ChannelId(7);
        let row = rows::Message { body: body.to_owned(), client_id: vec![1; 16].into(), ..rows::Message::default() };
        let event = Event::MessageCreated { message: Message::of(channel, pos, &row) };
        Kept { pos, audience: Audience::Channel(channel), content: Content::Message(Box::new((event, pos))) }
    }

    #[test]
    fn tells_all_that_was_missed_or_that_it_cannot() {
        let mut ring = Ring::new(10);
        for pos in [11, 12, 12, 15] {
            ring.push(kept(pos, 10));
        }
        let after =
            |ring: &mut Ring, pos| ring.after(pos, |_| true).map(|kept| kept.iter().map(|k| k[0]).collect::<Vec<_>>());
        assert_eq!(after(&mut ring, 9), None);
        assert_eq!(after(&mut ring, 10), Some(vec![11, 12, 12, 15]));
        assert_eq!(after(&mut ring, 12), Some(vec![15]));
        assert_eq!(after(&mut ring, 99), Some(vec![]));
        assert_eq!(ring.after(10, |_| false), Some(vec![]), "nothing that is for others");
    }

    #[test]
    fn is_bounded_and_then_says_so() {
        let mut ring = Ring::new(0);
        let size = limits::EVENT_RING_BYTES_MAX / 4;
        for pos in 1..=8 {
            ring.push(kept(pos, size));
        }
        assert!(ring.bytes <= limits::EVENT_RING_BYTES_MAX);
        assert!(ring.after(1, |_| true).is_none());
        assert_eq!(ring.after(5, |_| true).unwrap()[0][0], 6);
    }

    #[test]
    fn what_nobody_heard_is_the_same_frame_when_somebody_asks_and_counts_as_what_it_is() {
        let mut ring = Ring::new(0);
        ring.push(unheard(1, "first"));
        ring.push(kept(2, 10));
        ring.push(unheard(3, "third"));
        let before = ring.bytes;
        let frames = ring.after(0, |audience| *audience == Audience::Channel(ChannelId(7))).unwrap();
        let [Event::MessageCreated { message }, _] = [1, 3].map(|pos| match unheard(pos, "first").content {
            Content::Message(kept) => kept.0,
            Content::Frame(_) => unreachable!(),
        }) else {
            unreachable!()
        };
        assert_eq!(frames[0], encode_event(&Event::MessageCreated { message }, 1));
        assert_eq!(frames, ring.after(0, |audience| *audience == Audience::Channel(ChannelId(7))).unwrap());
        assert_ne!(ring.bytes, before);
        assert_eq!(ring.bytes, ring.kept.iter().map(Kept::bytes).sum::<usize>());
    }

    #[test]
    fn long_texts_that_nobody_heard_are_bounded_too() {
        let mut ring = Ring::new(0);
        let text = "x".repeat(limits::EVENT_RING_BYTES_MAX / 4);
        (1..=8).for_each(|pos| ring.push(unheard(pos, &text)));
        assert!(ring.bytes <= limits::EVENT_RING_BYTES_MAX);
        assert!(ring.after(1, |_| true).is_none());
    }
}
