//! Read marks, coalesced: at most one command a second for each user, however fast they scroll. Between two flushes a
//! mark lives in memory only; losing it costs a badge, never a message.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::core::command::{Actor, Command, Envelope, MarkRead, ReadMark};
use crate::core::ids::{ChannelId, UserId};
use crate::limits;
use crate::node::{Node, ProposeError, ReplyTo};

/// The marks that wait.
#[derive(Clone, Default)]
pub struct ReadMarks {
    waiting: Arc<Mutex<HashMap<UserId, HashMap<ChannelId, u64>>>>,
}

impl ReadMarks {
    /// Notes how far a user has read. A mark never goes back. Beyond [`limits::READ_MARKS_PER_USER_MAX`] channels in
    /// one second the mark is passed over: the next one for that channel will do.
    pub fn note(&self, user: UserId, channel: ChannelId, seq: u64) {
        let mut waiting = self.waiting.lock();
        let marks = waiting.entry(user).or_default();
        if marks.len() < limits::READ_MARKS_PER_USER_MAX || marks.contains_key(&channel) {
            let mark = marks.entry(channel).or_insert(seq);
            *mark = (*mark).max(seq);
        }
    }

    /// Proposes all that waits, one command per user. Called once a second and before the node stops. What a busy node
    /// does not take stays for the next time.
    pub fn flush(&self, node: &Node) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (user, marks) in waiting {
            let marks_: Vec<ReadMark> =
                marks.iter().map(|(channel, seq)| ReadMark { channel: channel.0, seq: *seq }).collect();
            let command = Command::MarkRead(MarkRead { marks: marks_ });
            let envelope = Envelope { actor: Some(Actor::user_only(user)), command: Some(command) };
            if let Err(ProposeError::Busy) = node.propose_into(&envelope, ReplyTo::Nobody) {
                for (channel, seq) in marks {
                    self.note(user, channel, seq);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_coalesce_and_never_go_back() {
        let marks = ReadMarks::default();
        for seq in [3, 9, 5] {
            marks.note(UserId(1), ChannelId(2), seq);
        }
        assert_eq!(marks.waiting.lock()[&UserId(1)][&ChannelId(2)], 9);
        for channel in 0..2 * limits::READ_MARKS_PER_USER_MAX as u64 {
            marks.note(UserId(1), ChannelId(channel), 1);
        }
        assert!(marks.waiting.lock()[&UserId(1)].len() <= limits::READ_MARKS_PER_USER_MAX);
    }
}
