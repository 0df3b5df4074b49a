//! What is at the destination is never lost, and what an interrupted restore left is found.

use super::*;

fn simple() -> Rig {
    let mut rig = Rig::new();
    rig.say("kept");
    rig.file(&vec![5; 3 << 20]);
    drop(rig.back_up(BackupKind::Full, &[]));
    rig
}

#[test]
fn a_destination_that_holds_something_is_refused_or_moved_aside() {
    let rig = simple();
    let destination = rig.destination();
    std::fs::create_dir(&destination).unwrap();
    std::fs::write(destination.join("thesis.txt"), "years of work").unwrap();
    let refused = rig.restore(&rig.options(Moment::Latest)).unwrap_err();
    assert_eq!(refused.code(), "destination_not_empty", "{refused}");
    assert_eq!(std::fs::read_dir(&destination).unwrap().count(), 1);
    let forced = RestoreOptions { force: true, ..rig.options(Moment::Latest) };
    let aside = rig.restore(&forced).unwrap().moved_aside.unwrap();
    assert_eq!(std::fs::read_to_string(aside.join("thesis.txt")).unwrap(), "years of work");
    rig.open_restored(|_, _| {});
}

#[test]
fn an_empty_destination_is_taken_and_a_running_server_is_not_disturbed() {
    let rig = simple();
    std::fs::create_dir(rig.destination()).unwrap();
    rig.restore(&rig.options(Moment::Latest)).unwrap();
    let running = crate::ops::lockfile::DataLock::acquire(&rig.destination()).unwrap();
    let forced = RestoreOptions { force: true, ..rig.options(Moment::Latest) };
    let refused = rig.restore(&forced).unwrap_err();
    assert_eq!(refused.code(), "destination_busy", "{refused}");
    drop(running);
    rig.restore(&forced).unwrap();
}

#[test]
fn a_leftover_of_a_killed_restore_is_removed_and_nothing_else_is() {
    let rig = simple();
    let staging = rig.dir.path().join("restored.restoring");
    std::fs::create_dir_all(staging.join("log")).unwrap();
    std::fs::write(staging.join("log/1.seg"), "half").unwrap();
    let refused = rig.restore(&rig.options(Moment::Latest)).unwrap_err();
    assert_eq!(refused.code(), "staging_not_ours", "{refused}");
    assert!(staging.join("log/1.seg").exists());
    std::fs::write(staging.join("restoring.json"), "").unwrap();
    rig.restore(&rig.options(Moment::Latest)).unwrap();
    assert!(!staging.exists());
}

#[test]
fn a_cancelled_restore_leaves_nothing() {
    let rig = simple();
    for after in [0, 1, 2, 5, 9] {
        let cancel = CancellationToken::new();
        let told = std::sync::atomic::AtomicU64::new(0);
        let _entered = rig.runtime.enter();
        let tell = |_: super::super::Progress| {
            if told.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == after {
                cancel.cancel();
            }
        };
        let error = super::super::restore(&rig.options(Moment::Latest), &tell, &cancel).unwrap_err();
        assert_eq!(error.code(), "cancelled", "{error}");
        rig.assert_untouched("cancelled");
    }
}

#[test]
fn a_preview_says_what_would_come_back_and_writes_nothing() {
    let mut rig = simple();
    rig.say("later");
    drop(rig.back_up(BackupKind::Incremental, &[]));
    let _entered = rig.runtime.enter();
    let preview = super::super::preview(&rig.options(Moment::Latest), &|_| {}, &CancellationToken::new()).unwrap();
    assert_eq!((preview.counts.users, preview.counts.messages, preview.counts.blobs), (1, 1, 1));
    assert_eq!((preview.records, preview.encrypted, preview.estimate_ms), (1, false, None));
    assert_eq!(preview.warnings, [""; 0]);
    rig.assert_untouched("a preview");
}
