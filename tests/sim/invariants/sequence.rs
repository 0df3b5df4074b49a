//! Sequence numbers of a channel are contiguous, from 1.

use std::sync::Arc;

use holdfast::core::rows::Message;

/// The messages of the channel as a node shows them, by sequence number.
pub(crate) fn check(shown: &[(u64, Arc<Message>)]) -> Result<(), String> {
    match (1..).zip(shown).find(|(expected, (seq, _))| expected != seq) {
        Some((expected, (seq, _))) => Err(format!("the messages go from {} to {seq}", expected - 1)),
        None => Ok(()),
    }
}
