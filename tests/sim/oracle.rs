//! What was asked and what became of it. For every message: acknowledged, refused, or unknown; nothing in between.

use std::collections::BTreeMap;

/// The sender's own id of a message.
pub(crate) type ClientId = [u8; 16];

/// A message that somebody sends.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Its text, different for every message.
    pub(crate) body: String,
    /// A node answered that it is there.
    pub(crate) acknowledged: bool,
    /// The rules refused it, and it was never sent before.
    pub(crate) refused: bool,
    /// How often it was handed to the network.
    pub(crate) tries: u32,
}

/// A record that a node acknowledged to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Its log index.
    pub(crate) index: u64,
    /// The epoch it was written in.
    pub(crate) epoch: u64,
    /// The chain hash after it: it names the record and all before it.
    pub(crate) chain: [u8; 32],
    /// Which data node (0 or 1) said so.
    pub(crate) node: usize,
    /// In which of its lives.
    pub(crate) life: u64,
}

/// Everything that the checks go by.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// All messages, by their client ids.
    pub(crate) messages: BTreeMap<ClientId, Message>,
    /// One acknowledgement for each index; of several the first.
    pub(crate) acks: BTreeMap<u64, Ack>,
}

impl Oracle {
    /// Somebody is about to send this for the first time.
    pub(crate) fn begin(&mut self, id: ClientId, body: String) {
        self.messages.insert(id, Message { body, acknowledged: false, refused: false, tries: 0 });
    }

    /// It goes onto the network.
    pub(crate) fn tried(&mut self, id: &ClientId) {
        if let Some(message) = self.messages.get_mut(id) {
            message.tries += 1;
        }
    }

    /// A node says that it is there for good.
    pub(crate) fn acknowledged(&mut self, id: &ClientId) {
        if let Some(message) = self.messages.get_mut(id) {
            message.acknowledged = true;
        }
    }

    /// A node says that the rules do not allow it. Only the first try is certain to have left nothing.
    pub(crate) fn refused(&mut self, id: &ClientId) {
        if let Some(message) = self.messages.get_mut(id).filter(|message| message.tries == 1) {
            message.refused = true;
        }
    }

    /// How many were acknowledged, are unknown, were refused.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let of = |wanted: fn(&Message) -> bool| self.messages.values().filter(|message| wanted(message)).count();
        (of(|m| m.acknowledged), of(|m| !m.acknowledged && !m.refused), of(|m| m.refused))
    }
}
