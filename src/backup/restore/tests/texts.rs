//! Texts out of a backup into the running node.

use std::collections::BTreeSet;

use super::*;
use crate::backup::restore::live::{self, LiveOptions, LiveReport};
use crate::core::chat::restores::PutBack;
use crate::core::command::RestoreMessages;
use crate::core::ids::ChannelId;
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::ViewExt as _;

fn options(rig: &Rig) -> LiveOptions {
    LiveOptions {
        repository: rig.repository(),
        keys: Vec::new(),
        signer: None,
        cluster: CLUSTER,
        channel: ChannelId(rig.channel),
        as_of_ms: crate::node::now_ms(),
        messages: None,
        overwrite: false,
        scratch: rig.dir.path().join("texts"),
    }
}

fn put_back(rig: &Rig, options: &LiveOptions) -> Result<LiveReport, RestoreError> {
    let _entered = rig.runtime.enter();
    let mut put = |command: RestoreMessages| {
        let envelope = Envelope { actor: Some(Actor::operator()), command: Some(Command::RestoreMessages(command)) };
        match rig.runtime.block_on(rig.node.propose(&envelope)).unwrap().outcome.unwrap() {
            Reply::PutBack(done) => Ok(done),
            other => panic!("{other:?}"),
        }
    };
    let done = live::put_back(options, (&rig.node, &mut put), &|_| {}, &CancellationToken::new());
    assert_eq!(std::fs::read_dir(&options.scratch).map_or(0, Iterator::count), 0, "the scratch is gone");
    done
}

fn body(rig: &Rig, seq: u64) -> String {
    let key = Key::Message(ChannelId(rig.channel), seq);
    rig.node.projection().row::<rows::Message>(key).unwrap().unwrap().body.clone()
}

#[test]
fn deleted_texts_come_back_and_newer_ones_stay_unless_asked() {
    let mut rig = Rig::new();
    for text in ["one", "two", "three", "never backed up as this"] {
        rig.say(text);
    }
    drop(rig.back_up(BackupKind::Full, &[]));
    let then = options(&rig).as_of_ms;
    while crate::node::now_ms() == then {
        std::hint::spin_loop(); // what comes is later
    }
    rig.delete((1, 1));
    rig.edit((2, 1), "two, better");
    rig.say("later");
    drop(rig.back_up(BackupKind::Incremental, &[]));
    let asked = LiveOptions { as_of_ms: then, ..options(&rig) };
    let report = put_back(&rig, &asked).unwrap();
    assert_eq!(report.found, 4, "the fifth was not there then");
    assert_eq!(report.outcome, PutBack { restored: 1, kept: 1, unchanged: 2, missing: 0 });
    assert_eq!((body(&rig, 1), body(&rig, 2)), ("one".to_owned(), "two, better".to_owned()));
    let again = put_back(&rig, &asked).unwrap();
    assert_eq!(again.outcome, PutBack { restored: 0, kept: 1, unchanged: 3, missing: 0 }, "doing it twice is the same");
    let second = rig.node.projection().row::<rows::Message>(Key::Message(ChannelId(rig.channel), 2)).unwrap().unwrap();
    let only = LiveOptions { messages: Some(BTreeSet::from([second.id])), overwrite: true, ..asked };
    let report = put_back(&rig, &only).unwrap();
    assert_eq!((report.found, report.outcome.restored), (1, 1));
    assert_eq!(body(&rig, 2), "two");
}

#[test]
fn what_is_gone_or_of_another_history_is_told() {
    let mut rig = Rig::new();
    rig.say("one");
    drop(rig.back_up(BackupKind::Full, &[]));
    let gone = LiveOptions { channel: ChannelId(7), ..options(&rig) };
    assert_eq!(put_back(&rig, &gone).unwrap_err().code(), "channel_not_found");
    let other = LiveOptions { cluster: [9; 16], ..options(&rig) };
    assert_eq!(put_back(&rig, &other).unwrap_err().code(), "other_history");
    let early = LiveOptions { as_of_ms: 5, ..options(&rig) };
    assert_eq!(put_back(&rig, &early).unwrap_err().code(), "before_first_backup");
    // The same cluster's id, the same key, but another log.
    let mut twin = Rig::new();
    for _ in 0..9 {
        twin.say("forged");
    }
    drop(twin.back_up(BackupKind::Full, &[]));
    for _ in 0..9 {
        rig.say("true");
    }
    let forged = LiveOptions { repository: twin.repository(), channel: ChannelId(rig.channel), ..options(&rig) };
    assert_eq!(put_back(&rig, &forged).unwrap_err().code(), "other_history");
}
