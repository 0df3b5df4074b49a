//! Drills tell the truth about a backup, and leave nothing behind.

use super::*;
use crate::backup::drill::{self, DrillOptions, DrillReport, LiveComparison, LiveHashes};

fn options(rig: &Rig) -> DrillOptions {
    DrillOptions {
        repository: rig.repository(),
        keys: Vec::new(),
        signer: None,
        backup: None,
        scratch: rig.dir.path().join("drills"),
    }
}

fn run(rig: &Rig, live: Option<&dyn LiveHashes>) -> DrillReport {
    let _entered = rig.runtime.enter();
    let report = drill::run(&options(rig), live, &|_| {}, &CancellationToken::new()).unwrap();
    assert_eq!(std::fs::read_dir(rig.dir.path().join("drills")).map_or(0, Iterator::count), 0, "the scratch is gone");
    report
}

#[test]
fn a_good_backup_is_drilled_and_the_signed_report_is_believed() {
    let mut rig = Rig::new();
    rig.say("one");
    rig.file(b"a file");
    let made = rig.back_up(BackupKind::Full, &[]).unwrap();
    let mut report = run(&rig, Some(&rig.node));
    assert!(report.good, "{report:?}");
    assert_eq!((report.backup.as_str(), report.index), (made.name().as_str(), made.until.index));
    assert_eq!((report.counts.messages, report.counts.blobs, report.counts.blob_bytes), (1, 1, 6));
    assert_eq!(report.live, LiveComparison::SameLog);
    let _entered = rig.runtime.enter();
    let path = report.store(rig.repository().place(), &rig.signer).unwrap();
    assert_eq!(path, report.path());
    let bytes = rig.repository().place().read(&path, 1 << 20).unwrap();
    let (read, signer) = DrillReport::read(&bytes).unwrap();
    assert_eq!((&read, signer), (&report, rig.signer.fingerprint()));
    assert!(rig.repository().list(None).unwrap()[0].drilled, "the repository knows it");
    assert_eq!(drill::newest_good(rig.repository().place()).unwrap(), Some(read));
    let forged = String::from_utf8(bytes).unwrap().replace("\"messages\": 1", "\"messages\": 2");
    assert_eq!(DrillReport::read(forged.as_bytes()).unwrap_err().code(), "manifest_bad_signature");
}

#[test]
fn many_records_are_compared_with_the_state_of_the_running_node() {
    let mut rig = Rig::new();
    drop(rig.back_up(BackupKind::Full, &[]));
    for number in 0..1_100 {
        rig.sent += 1;
        let client_id = Bytes::copy_from_slice(&u128::from(rig.sent).to_be_bytes());
        let send = SendMessage { channel: rig.channel, client_id, body: format!("message {number}") };
        let actor = Some(Actor::user_only(UserId(rig.owner)));
        let envelope = Envelope { actor, command: Some(Command::SendMessage(send)) };
        rig.runtime.block_on(rig.node.propose(&envelope)).unwrap().outcome.unwrap();
    }
    drop(rig.back_up(BackupKind::Incremental, &[]));
    let report = run(&rig, Some(&rig.node));
    assert_eq!((report.live, report.good), (LiveComparison::Same, true), "{report:?}");
    assert!(report.hashes_compared >= 1);
    assert_eq!(report.counts.messages, 1_100);
}

#[test]
fn another_history_and_damage_are_reported() {
    struct Other;
    impl LiveHashes for Other {
        fn chain_at(&self, _: u64) -> Option<Digest> {
            Some([1; 32])
        }
        fn state_hash_at(&self, _: u64) -> Option<Digest> {
            None
        }
    }
    let mut rig = Rig::new();
    rig.say("one");
    rig.file(b"a file");
    drop(rig.back_up(BackupKind::Full, &[]));
    let report = run(&rig, Some(&Other));
    assert_eq!((report.live, report.good), (LiveComparison::Different, false));
    assert_eq!(report.failure.unwrap().code, "live_differs");
    let hash = rig.files[0].to_string();
    let path = rig.place().join("blobs").join(&hash[..2]).join(&hash[2..4]).join(&hash);
    std::fs::write(path, b"a fil3").unwrap();
    let report = run(&rig, None);
    let failure = report.failure.unwrap();
    assert!(!report.good && failure.code == "part_damaged" && failure.text.contains(&hash), "{failure:?}");
}

#[test]
fn what_a_killed_drill_left_is_swept() {
    let rig = Rig::new();
    let left = rig.dir.path().join("drills/drill.restoring");
    std::fs::create_dir_all(left.join("log")).unwrap();
    std::fs::write(left.join("restoring.json"), "").unwrap();
    drill::sweep(&rig.dir.path().join("drills")).unwrap();
    assert!(!left.exists());
    drill::sweep(&rig.dir.path().join("drills")).unwrap();
}
