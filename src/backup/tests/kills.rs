//! Backup and prune ended at every single operation on the target: what a manifest names is always there, whole.

use std::sync::atomic::AtomicUsize;

use jiff::tz::TimeZone;

use super::place::Failing;
use super::*;
use crate::backup::repository::{Policy, PruneOptions, PruneReport};

/// The repository through a place that fails after so many operations.
fn failing(rig: &Rig, operations: usize) -> Repository {
    let _entered = rig.runtime.enter();
    let inner = Arc::new(Target::directory(&rig.place()).unwrap());
    Repository::on(Arc::new(Failing { inner, left: AtomicUsize::new(operations) }), false)
}

fn all_good(rig: &Rig, backups: usize, when: &str) {
    let report = verify(&rig.repository);
    assert_eq!((&report.findings[..], report.good.len()), (&[][..], backups), "{when}");
}

#[test]
fn a_backup_killed_at_any_operation_leaves_nothing_half_valid_and_the_next_one_ends() {
    for encrypted in [false, true] {
        let recipients = if encrypted { vec![Identity::generate().recipient()] } else { Vec::new() };
        for kind in [BackupKind::Full, BackupKind::Incremental] {
            let mut rig = Rig::new();
            rig.traffic(40);
            rig.blob(b"one");
            rig.back_up(BackupKind::Full, &recipients).unwrap();
            rig.traffic(40);
            rig.blob(b"two");
            let mut backups = 1;
            for operations in 0.. {
                let job = Job { kind, recipients: recipients.clone() };
                let ended = back_up(&rig.source, &failing(&rig, operations), &job);
                // A kill after the manifest was stored, before the end, leaves a whole backup.
                let stored = rig.repository.names().unwrap().len();
                all_good(&rig, stored, &format!("killed after {operations} operations"));
                assert!(stored == backups || stored == backups + 1);
                match ended {
                    Err(error) => assert_eq!(error.code(), "target_unreachable"),
                    Ok(_) => {
                        assert!(operations > 5);
                        break;
                    }
                }
                if stored > backups {
                    backups = stored;
                    rig.traffic(1);
                }
            }
            rig.traffic(3);
            rig.back_up(BackupKind::Incremental, &recipients).unwrap().made.unwrap();
            let stored = rig.repository.names().unwrap().len();
            all_good(&rig, stored, "in the end");
        }
    }
}

fn prune(repository: &Repository, policy: Policy, (days_on, dry_run): (u64, bool)) -> Result<PruneReport, BackupError> {
    let cancel = CancellationToken::new();
    let now_ms = crate::node::now_ms() + days_on * 86_400_000;
    let options = PruneOptions { policy, zone: TimeZone::UTC, now_ms, dry_run };
    repository.prune(&options, Watch { progress: &|_| {}, cancel: &cancel })
}

const LAST_ONE: Policy = Policy { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0 };

#[test]
fn a_prune_killed_at_any_operation_leaves_every_backup_that_is_there_whole() {
    for operations in 0.. {
        let mut rig = Rig::new();
        for kind in [BackupKind::Full, BackupKind::Incremental, BackupKind::Full, BackupKind::Incremental] {
            rig.traffic(30);
            rig.blob(&rig.writer.last_index().to_le_bytes());
            rig.back_up(kind, &[]).unwrap();
        }
        let gone = rig.blob(b"only in the first");
        rig.source.blobs.remove(&gone).unwrap();
        let ended = prune(&failing(&rig, operations), LAST_ONE, (0, false));
        let left = rig.repository.names().unwrap().len();
        all_good(&rig, left, &format!("killed after {operations} operations"));
        // What a killed one leaves goes when it is old enough.
        prune(&rig.repository, LAST_ONE, (2, false)).unwrap();
        all_good(&rig, 2, "pruned");
        assert_eq!(verify(&rig.repository).unknown, [""; 0]);
        if ended.is_ok() {
            assert!(operations > 10);
            break;
        }
    }
}

#[test]
fn pruning_says_what_goes_first_and_leaves_pinned_and_append_only_alone() {
    let mut rig = Rig::new();
    for kind in [BackupKind::Full, BackupKind::Incremental, BackupKind::Full] {
        rig.traffic(30);
        rig.back_up(kind, &[]).unwrap();
    }
    let names = rig.repository.names().unwrap();
    let before = files_below(&rig.place());
    let dry = prune(&rig.repository, LAST_ONE, (0, true)).unwrap();
    assert!(!dry.done && !dry.parts.is_empty() && dry.bytes > 0);
    assert_eq!(dry.decisions.iter().map(|it| it.keep).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(files_below(&rig.place()), before);

    let target = {
        let _entered = rig.runtime.enter();
        Target::directory(&rig.place()).unwrap()
    };
    let report = prune(&Repository::new(target, true), LAST_ONE, (0, false)).unwrap();
    assert!(!report.done && report.decisions.iter().all(|it| it.keep) && report.notes.len() == 1);
    assert_eq!(files_below(&rig.place()), before);

    rig.repository.pin(&names[1]).unwrap();
    assert!(!prune(&rig.repository, LAST_ONE, (0, true)).unwrap().decisions.iter().any(|it| !it.keep));
    rig.repository.unpin(&names[1]).unwrap();
    assert_eq!(rig.repository.pin("x").unwrap_err().code(), "backup_not_found");
    std::fs::create_dir(rig.place().join("drills")).unwrap();
    let report = format!("{{\"backup\":\"{}\",\"good\":true,\"more\":1}}", names[0]);
    std::fs::write(rig.place().join("drills/20260101T000000Z-00000000000000000030.json"), report).unwrap();
    let kept = prune(&rig.repository, LAST_ONE, (0, false)).unwrap();
    assert_eq!(kept.decisions.iter().map(|it| it.keep).collect::<Vec<_>>(), [true, false, true]);
    assert!(kept.done);
    all_good(&rig, 2, "the drilled one and the newest");
}

#[test]
fn parts_nobody_names_go_only_when_they_are_old_and_never_beside_a_damaged_manifest() {
    let mut rig = Rig::new();
    rig.traffic(10);
    rig.back_up(BackupKind::Full, &[]).unwrap();
    let orphan = "log/00000000000000000500-00000000000000000600.zst";
    rig.repository.place().put(orphan, &mut &b"of a killed run"[..]).unwrap();
    assert_eq!(verify(&rig.repository).unknown, [orphan]);
    assert_eq!(prune(&rig.repository, LAST_ONE, (0, true)).unwrap().parts, [""; 0]);
    assert_eq!(prune(&rig.repository, LAST_ONE, (2, true)).unwrap().parts, [orphan]);
    let manifest = rig.place().join("manifests").join(format!("{}.json", rig.repository.names().unwrap()[0]));
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"node\": 1", "\"node\": 2", 1)).unwrap();
    let report = prune(&rig.repository, LAST_ONE, (2, false)).unwrap();
    assert!(report.parts.is_empty() && report.notes[0].contains("manifest is damaged"), "{report:?}");
}

#[test]
fn nothing_is_removed_where_manifests_are_lost() {
    let mut rig = Rig::new();
    for kind in [BackupKind::Full, BackupKind::Incremental, BackupKind::Incremental] {
        rig.traffic(30);
        rig.back_up(kind, &[]).unwrap();
    }
    let manifest = |place: usize| {
        let names = files_below(&rig.place().join("manifests"));
        rig.place().join("manifests").join(&names[place])
    };
    let middle = manifest(1);
    let aside = rig.dir.path().join("aside");
    std::fs::rename(&middle, &aside).unwrap();
    let parts = || files_below(&rig.place()).into_iter().filter(|path| !path.starts_with("manifests/")).count();
    let before = parts();
    let report = prune(&rig.repository, Policy { last: 9, ..LAST_ONE }, (2, false)).unwrap();
    assert!(report.notes[0].contains("rests on") && parts() == before, "{report:?}");
    std::fs::rename(&aside, &middle).unwrap();
    all_good(&rig, 3, "the manifest was found again");
    let manifests = rig.place().join("manifests");
    std::fs::rename(&manifests, &aside).unwrap();
    let report = prune(&rig.repository, LAST_ONE, (2, false)).unwrap();
    assert!(report.notes[0].contains("no backup here at all") && parts() == before, "{report:?}");
    std::fs::rename(&aside, &manifests).unwrap();
    all_good(&rig, 3, "the folder was found again");
}
