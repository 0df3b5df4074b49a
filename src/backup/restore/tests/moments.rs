//! Any moment comes back as it was.

use proptest::prelude::*;

use super::*;
use crate::core::ids::{ChannelId, SessionId};
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::{Direction, View as _, ViewExt as _};

/// One step of random traffic.
#[derive(Clone, Debug)]
enum Step {
    Say(u8),
    Edit(u8),
    Delete(u8),
    File(u16),
    BackUp(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u8>().prop_map(Step::Say),
        2 => any::<u8>().prop_map(Step::Edit),
        1 => any::<u8>().prop_map(Step::Delete),
        1 => any::<u16>().prop_map(Step::File),
        1 => any::<bool>().prop_map(Step::BackUp),
    ];
    prop::collection::vec(step, 10..60)
}

/// Does the steps; the version of every message is kept, so that all of them are sensible.
fn run(rig: &mut Rig, steps: &[Step], recipients: &[Recipient]) {
    let mut versions: Vec<Option<u32>> = Vec::new();
    // One that is not deleted yet.
    let pick = |versions: &Vec<Option<u32>>, which: u8| {
        let at = (!versions.is_empty()).then(|| usize::from(which) % versions.len())?;
        versions[at].map(|version| (at, version))
    };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Say(size) => {
                rig.say(&format!("message {at} {}", "x".repeat(usize::from(*size))));
                versions.push(Some(1));
            }
            Step::Edit(which) => {
                if let Some((at, version)) = pick(&versions, *which) {
                    rig.edit((at as u64 + 1, version), "edited");
                    versions[at] = Some(version + 1);
                }
            }
            Step::Delete(which) => {
                if let Some((at, version)) = pick(&versions, *which) {
                    rig.delete((at as u64 + 1, version));
                    versions[at] = None;
                }
            }
            Step::File(size) => rig.file(&vec![at as u8; usize::from(*size)]),
            Step::BackUp(full) => {
                let kind = if *full { BackupKind::Full } else { BackupKind::Incremental };
                drop(rig.back_up(kind, recipients));
            }
        }
    }
    drop(rig.back_up(BackupKind::Incremental, recipients));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_can_be_gone_back_to(steps in steps(), wanted in prop::collection::vec(any::<prop::sample::Index>(), 3), encrypted: bool) {
        let (key, recipients) = identity();
        let recipients = if encrypted { recipients } else { Vec::new() };
        let mut rig = Rig::new();
        run(&mut rig, &steps, &recipients);
        let oldest = rig.repository().list(None).unwrap()[0].manifest.clone().unwrap();
        let first = oldest.snapshot.unwrap().index;
        let known: Vec<(u64, Digest)> = rig.hashes.range(first..).map(|(index, (hash, _))| (*index, *hash)).collect();
        let mut moments: Vec<(Moment, (u64, Digest))> = wanted.iter().map(|wanted| {
            let (index, hash) = *wanted.get(&known);
            (Moment::Index(index), (index, hash))
        }).collect();
        moments.push((Moment::Latest, *known.last().unwrap()));
        for (moment, (index, hash)) in moments {
            let options = RestoreOptions { keys: vec![key.clone()], ..rig.options(moment.clone()) };
            let report = rig.restore(&options).unwrap();
            prop_assert_eq!((report.index, report.state_hash), (index, hex(hash)));
            rig.open_restored(|node, blobs| {
                assert_eq!(node.log().last_durable_index(), index + 2, "the epoch and the note");
                if moment == Moment::Latest {
                    rig.files.iter().for_each(|file| drop(blobs.get(file).unwrap()));
                }
            });
        }
    }
}

#[test]
fn a_time_is_the_last_record_until_then() {
    let mut rig = Rig::new();
    drop(rig.back_up(BackupKind::Full, &[]));
    for number in 0..5 {
        rig.say(&format!("message {number}"));
        // Another millisecond, so that each has a time of its own.
        let now = crate::node::now_ms();
        while crate::node::now_ms() == now {
            std::hint::spin_loop();
        }
        if number % 2 == 0 {
            drop(rig.back_up(BackupKind::Incremental, &[]));
        }
    }
    let times: Vec<(u64, Digest, u64)> =
        rig.hashes.iter().rev().take(5).map(|(i, (hash, at))| (*i, *hash, *at)).collect();
    for (index, hash, at_ms) in times {
        let report = rig.restore(&rig.options(Moment::Time(at_ms))).unwrap();
        assert_eq!((report.index, report.state_hash, report.at_ms), (index, hex(hash), at_ms));
        rig.open_restored(|_, _| {});
    }
    let (last, _) = rig.hashes.last_key_value().unwrap();
    assert_eq!(rig.restore(&rig.options(Moment::Time(u64::MAX / 2))).unwrap().index, *last);
    rig.open_restored(|_, _| {});
    let early = rig.restore(&rig.options(Moment::Time(1))).unwrap_err();
    assert_eq!(early.code(), "before_first_backup", "{early}");
    rig.assert_untouched("before the first backup");
}

#[test]
fn a_restored_node_is_alone_in_a_new_epoch_and_nobody_is_signed_in() {
    let (key, recipients) = identity();
    let mut rig = Rig::new();
    rig.say("before");
    let full = rig.back_up(BackupKind::Full, &recipients).unwrap();
    let report = rig.restore(&RestoreOptions { keys: vec![key], ..rig.options(Moment::Latest) }).unwrap();
    assert_eq!((report.backup.as_str(), report.epoch, report.node), (full.name().as_str(), 5 + (1 << 20), 1));
    assert_eq!((report.counts.users, report.counts.channels, report.counts.messages), (1, 1, 1));
    assert_eq!(std::fs::read_to_string(rig.destination().join("tls/ca.pem")).unwrap(), "a certificate");
    let identity = crate::ops::datadir::read_identity(&rig.destination()).unwrap();
    assert_eq!((identity.cluster_id_bytes().unwrap(), identity.node), (CLUSTER, 1));
    rig.open_restored(|node, _| {
        let sessions = Key::Session(SessionId(0))..=Key::Session(SessionId(u64::MAX));
        assert_eq!(node.projection().scan(sessions, Direction::Up, 9).unwrap(), []);
        let audit = Key::Audit(0)..=Key::Audit(u64::MAX);
        let (_, row) = &node.projection().rows::<rows::Audit>(audit, Direction::Down, 1).unwrap()[0];
        assert_eq!(row.action, "server.restore");
        assert!(row.after.contains(&full.name()), "{}", row.after);
        let message = node.projection().row::<rows::Message>(Key::Message(ChannelId(rig.channel), 1)).unwrap();
        assert_eq!(message.unwrap().body, "before");
    });
}
