//! The tests of the projection as a whole: both stores, real files, real kills.

mod conformance;
mod crash;
mod damage;
mod golden;
mod measure;
mod model;
mod race;
mod snapshots;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::open::Sizes;
use super::*;
use crate::core::ids::{ChannelId, UserId};
use crate::core::keys::Key;
use crate::core::rows::{Audit, ChannelHead, Message, Sent, Value};
use crate::core::view::{View, Write};

const CLUSTER: [u8; 16] = *b"the test cluster";

/// Options under which only explicit checkpoints happen, and a failure of the store fails the test.
fn options(dir: &Path) -> Options {
    let fatal: FatalHook = Arc::new(|error| panic!("the store failed: {error}"));
    let mut options = Options::new(dir, CLUSTER, fatal).with_boot_id("this boot");
    options.sizes = Sizes { checkpoint_every: Duration::from_secs(3_600), ..options.sizes };
    options
}

fn open(dir: &Path) -> Projection {
    Projection::open(&options(dir)).unwrap().projection
}

fn message(seq: u64, body: &str) -> Value {
    Message {
        id: seq,
        sender: 7,
        body: body.to_owned(),
        created_ms: seq.wrapping_add(1_800_000_000_000),
        ..Message::default()
    }
    .into()
}

fn head(last_seq: u64) -> Value {
    ChannelHead { last_seq, members: 2, ..ChannelHead::default() }.into()
}

fn sent(number: u64) -> Value {
    Sent { number, channel: 1, seq: number, ..Sent::default() }.into()
}

fn audit(before: &str) -> Value {
    Audit { at_ms: 5, action: "user.create".to_owned(), before: before.to_owned(), ..Audit::default() }.into()
}

fn put(view: &dyn View, key: Key, after: Value) -> Write {
    Write { key, before: view.get(&key).unwrap(), after: Some(after) }
}

fn at(index: u64) -> Applied {
    Applied { index, epoch: 65_537 }
}

/// What sending message `seq` changes: a message, the head, the sender's ring.
fn send(view: &dyn View, channel: u64, seq: u64) -> Vec<Write> {
    let body = format!("message {seq} of channel {channel}: the build is green again, see you at the standup");
    vec![
        put(view, Key::Message(ChannelId(channel), seq), message(seq, &body)),
        put(view, Key::ChannelHead(ChannelId(channel)), head(seq)),
        put(view, Key::Sent(UserId(channel), (seq % 100) as u16), sent(seq)),
    ]
}
