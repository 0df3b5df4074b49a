//! The client ids of what was sent since the fork, so that a message which its sender's client has sent again is not
//! doubled. A cache of the messages themselves: deriving it again gives the same, so it may be dropped at any time.

use std::collections::HashMap;

use crate::core::chat::Ruled;
use crate::core::chat::messages::client_number;
use crate::core::ids::{ChannelId, UserId};
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::{Direction, View, ViewExt};
use crate::limits;

/// What is known of the channels that items of a tail went to.
#[derive(Default)]
pub struct Arrived {
    channels: HashMap<ChannelId, Channel>,
    messages: usize,
}

/// The messages of one channel behind `from`, up to `to`.
#[derive(Default)]
struct Channel {
    from: u64,
    to: u64,
    seqs: HashMap<(UserId, u128), u64>,
}

/// A message that may be there already.
pub(super) struct Sought<'a> {
    pub(super) channel: ChannelId,
    pub(super) sender: UserId,
    pub(super) client_id: &'a [u8],
    /// The channel's newest message at the fork, and its newest one now.
    pub(super) between: (u64, u64),
}

impl Arrived {
    /// The sequence number of the message that `sender` sent to the channel since the fork under this client id.
    pub(super) fn find(&mut self, view: &impl View, sought: &Sought<'_>) -> Ruled<Option<u64>> {
        let (from, to) = sought.between;
        if self.messages > limits::SALVAGE_MESSAGES_CACHED {
            self.forget();
        }
        let known = self.channels.entry(sought.channel).or_insert(Channel { from, to: from, ..Channel::default() });
        if known.from > from {
            *known = Channel { from, to: from, ..Channel::default() };
        }
        while known.to < to {
            let last = to.min(known.to + limits::PAGE_CHUNK_ROWS as u64);
            let range = Key::Message(sought.channel, known.to + 1)..=Key::Message(sought.channel, last);
            for (key, row) in view.rows::<rows::Message>(range, Direction::Up, limits::PAGE_CHUNK_ROWS)? {
                // What arrived late was not sent again.
                if let Key::Message(_, seq) = key
                    && row.late_ms == 0
                {
                    known.seqs.insert((UserId(row.sender), client_number(&row.client_id)), seq);
                    self.messages += 1;
                }
            }
            known.to = last;
        }
        let found = known.seqs.get(&(sought.sender, client_number(sought.client_id))).copied();
        Ok(found.filter(|seq| *seq > from))
    }

    /// Frees the memory.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
