//! What the server was asked and what it promised. It knows nothing of connections or processes.
//!
//! Invariants:
//!
//! - A message that was acknowledged has a place; its place never changes.
//! - At most one change of a message is without an answer at a time.
//! - `unknown` holds exactly the messages without an acknowledgement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdfast::bench::text::{Picker, write_text};
use serde_json::Value;

/// What a message says at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) version: u64,
    pub(crate) body: String,
    pub(crate) deleted: bool,
}

/// Where a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) id: String,
}

/// One message that was sent.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) sender: usize,
    pub(crate) channel: usize,
    pub(crate) client_id: String,
    /// Where it is: the server said so in an answer, or it was found there.
    pub(crate) place: Option<Place>,
    /// The server answered the send.
    pub(crate) acknowledged: bool,
    /// What was acknowledged last.
    pub(crate) content: Content,
    /// A change that was asked for and not answered yet.
    pub(crate) pending: Option<Content>,
}

/// One channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) id: String,
    pub(crate) members: Vec<usize>,
    /// The messages found so far, by seq - 1.
    pub(crate) found: Vec<usize>,
    /// Acknowledged since it was looked at.
    pub(crate) fresh: Vec<usize>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    pub(crate) channels: Vec<Channel>,
    /// Messages without an acknowledgement.
    pub(crate) unknown: BTreeSet<usize>,
    /// Messages that were changed, or were asked to be, since they were looked at.
    pub(crate) touched: BTreeSet<usize>,
    /// The newest own message of each sender in each channel: the server moves the sender's read mark there.
    pub(crate) newest_own: BTreeMap<(usize, usize), u64>,
    /// Read marks as last read from the server: they never go back.
    pub(crate) read: BTreeMap<(usize, usize), u64>,
    by_client_id: HashMap<String, usize>,
    by_sender: BTreeMap<usize, Vec<usize>>,
    serial: u128,
}

impl Oracle {
    /// Notes a message that is about to be sent.
    pub(crate) fn compose(&mut self, picker: &mut Picker, sender: usize, channel: usize) -> usize {
        self.serial += 1;
        let client_id = uuid::Uuid::from_u128(self.serial << 80 | 0x4000 << 64 | 0x8000_0000_0000_0000).to_string();
        let index = self.messages.len();
        self.messages.push(Message {
            sender,
            channel,
            client_id: client_id.clone(),
            place: None,
            acknowledged: false,
            content: Content { version: 1, body: text(picker), deleted: false },
            pending: None,
        });
        self.unknown.insert(index);
        self.by_client_id.insert(client_id, index);
        index
    }

    /// Notes the answer to a send. A resend must find the message that is there.
    pub(crate) fn acknowledge(&mut self, index: usize, answer: &Value) {
        let message = &mut self.messages[index];
        let place = Place { seq: number(answer, "seq"), id: word(answer, "id").to_owned() };
        let duplicate = answer["duplicate"] == true;
        assert_eq!(duplicate, message.place.is_some(), "is it a duplicate? {answer} for {message:?}");
        if let Some(known) = &message.place {
            assert_eq!(known, &place, "a resend was given another place: {message:?}");
        }
        let key = (message.sender, message.channel);
        let newest = self.newest_own.entry(key).or_default();
        *newest = (*newest).max(place.seq);
        message.place = Some(place);
        if !message.acknowledged {
            message.acknowledged = true;
            self.unknown.remove(&index);
            self.channels[message.channel].fresh.push(index);
            self.by_sender.entry(message.sender).or_default().push(index);
        }
    }

    /// Plans a change of one of the sender's messages; `None` when there is none that can be changed now.
    pub(crate) fn plan_change(&mut self, picker: &mut Picker, sender: usize, delete: bool) -> Option<usize> {
        let own = self.by_sender.get(&sender)?;
        let index = *own.get(picker.below(own.len().max(1)))?;
        let message = &mut self.messages[index];
        if message.content.deleted || message.pending.is_some() {
            return None;
        }
        let body = if delete { String::new() } else { text(picker) };
        message.pending = Some(Content { version: message.content.version + 1, body, deleted: delete });
        self.touched.insert(index);
        Some(index)
    }

    /// Notes the answer to a change.
    pub(crate) fn changed(&mut self, index: usize, answer: &Value) {
        let message = &mut self.messages[index];
        let pending = message.pending.take().expect("only planned changes are answered");
        assert_eq!(content(answer), pending, "the answer to a change");
        message.content = pending;
    }

    /// One of the sender's latest acknowledged messages: the server remembers the client ids of some 256.
    pub(crate) fn a_late_one(&self, picker: &mut Picker, sender: usize) -> Option<usize> {
        let own = self.by_sender.get(&sender)?;
        let latest = own.len().min(40);
        own.get(own.len() - 1 - picker.below(latest.max(1))).copied()
    }

    /// Notes that the server shows this message.
    pub(crate) fn see(&mut self, channel: usize, users: &[String], shown: &Value) {
        let seq = number(shown, "seq");
        let index = self.by_client_id.get(word(shown, "client_id")).copied();
        let index = index.unwrap_or_else(|| panic!("nobody sent this: {shown}"));
        let message = &mut self.messages[index];
        assert_eq!(message.channel, channel, "{shown} is in another channel than it was sent to");
        assert_eq!(word(shown, "sender_id"), users[message.sender], "the sender of {shown}");
        let place = Place { seq, id: word(shown, "id").to_owned() };
        match &message.place {
            Some(known) => assert_eq!(known, &place, "the place of {message:?}"),
            None => message.place = Some(place),
        }
        let found = content(shown);
        match message.pending.take() {
            Some(pending) if pending == found => message.content = pending,
            _ => assert_eq!(found, message.content, "what message {seq} of {} says", self.channels[channel].id),
        }
        let known = &mut self.channels[channel].found;
        let at = usize::try_from(seq).expect("a test is small") - 1;
        match known.get(at) {
            Some(before) => assert_eq!(*before, index, "message {seq} is another one than before"),
            None => {
                assert_eq!(at, known.len(), "there is a gap before {shown}");
                known.push(index);
            }
        }
    }

    /// Compares a channel's end with what was acknowledged.
    pub(crate) fn conclude(&mut self, channel: usize, last_seq: u64) {
        let book = &mut self.channels[channel];
        assert_eq!(last_seq, book.found.len() as u64, "last_seq of channel {}", book.id);
        for index in book.fresh.drain(..) {
            let message = &self.messages[index];
            let seq = message.place.as_ref().expect("an acknowledged message has a place").seq;
            let there = book.found.get(usize::try_from(seq).expect("a test is small") - 1);
            assert_eq!(there, Some(&index), "an acknowledged message is lost: {message:?}");
        }
    }

    /// Checks at the end that each message is there exactly once.
    pub(crate) fn finish(&self) {
        assert!(self.unknown.is_empty(), "all messages were sent again until they were acknowledged");
        let found: usize = self.channels.iter().map(|channel| channel.found.len()).sum();
        assert_eq!(found, self.messages.len(), "each message is there once");
    }
}

fn text(picker: &mut Picker) -> String {
    let bytes = match picker.below(100) {
        0 => 12_000,
        1..=9 => 900,
        _ => 20 + picker.below(200),
    };
    let mut text = String::new();
    write_text(&mut text, picker.next(), bytes);
    // The server keeps a text as it is; a text of blanks alone it would refuse.
    text.push('.');
    text
}

/// What a message says in the server's JSON.
pub(crate) fn content(shown: &Value) -> Content {
    let deleted = !shown["deleted_ms"].is_null();
    Content { version: number(shown, "version"), body: word(shown, "body").to_owned(), deleted }
}

/// A number in an answer.
pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// A text in an answer.
pub(crate) fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}"))
}
