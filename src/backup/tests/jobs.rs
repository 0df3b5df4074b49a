//! Full and incremental backups: what they hold, what they rest on, what they do after an interruption.

use std::io::Read;

use super::*;
use crate::backup::crypt;
use crate::backup::manifest::{Manifest, PartKind, log_range};
use crate::backup::repository::chain;

/// Puts the log parts of a manifest into a folder, as a restore does.
fn unpack_log(rig: &Rig, manifest: &Manifest, identities: &[Identity], log: &Path) {
    for part in manifest.parts.iter().filter(|part| part.kind == PartKind::Log) {
        let stored = rig.repository.place().open(&part.path).unwrap();
        let plain: Box<dyn Read> =
            if manifest.is_encrypted() { Box::new(crypt::decrypt(stored, identities).unwrap()) } else { stored };
        let (first, _) = log_range(&part.path).unwrap();
        std::fs::create_dir_all(log).unwrap();
        let out = std::fs::File::create(log.join(format!("{first:020}.seg"))).unwrap();
        zstd::stream::copy_decode(plain, out).unwrap();
    }
}

#[test]
fn a_full_and_incrementals_join_to_one_log_with_all_blobs() {
    for encrypted in [false, true] {
        let identity = Identity::generate();
        let recipients = if encrypted { vec![identity.recipient()] } else { Vec::new() };
        let mut rig = Rig::new();
        rig.traffic(50);
        let first = rig.blob(b"the first file");
        let full = rig.back_up(BackupKind::Incremental, &recipients).unwrap();
        assert_eq!(full.reason, "the repository is empty");
        rig.traffic(70);
        let second = rig.blob(b"the second file");
        let more = rig.back_up(BackupKind::Incremental, &recipients).unwrap().made.unwrap().manifest;
        assert_eq!((more.kind, more.log_first, more.until.index, more.blobs), (BackupKind::Incremental, 51, 120, 1));
        assert!(rig.back_up(BackupKind::Incremental, &recipients).unwrap().made.is_none());
        rig.traffic(5);
        let again = rig.back_up(BackupKind::Full, &recipients).unwrap().made.unwrap().manifest;
        assert_eq!((again.log_first, again.until.index, again.blobs), (121, 125, 2));
        rig.traffic(3);
        let last = rig.back_up(BackupKind::Incremental, &recipients).unwrap().made.unwrap().manifest;
        let log = rig.dir.path().join("restored-log");
        for manifest in [&more, &again, &last] {
            unpack_log(&rig, manifest, std::slice::from_ref(&identity), &log);
        }
        let report = crate::oplog::verify(&log, &mut |_| {}).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!((report.first_index, report.last.unwrap()), (Some(51), rig.writer.position()));
        for hash in [first, second] {
            assert!(rig.repository.place().size(&again.blob_path(&hash)).unwrap().is_some());
        }
        let listed = rig.repository.list(None).unwrap();
        let names = |name: &str| chain(&listed, name).unwrap().len();
        assert_eq!((names(&full.made.unwrap().name), names(&more.name()), names(&last.name())), (1, 2, 2));
    }
}

#[test]
fn another_history_or_other_keys_begin_with_a_full_backup_and_say_why() {
    let mut rig = Rig::new();
    rig.traffic(20);
    rig.back_up(BackupKind::Incremental, &[]).unwrap();
    rig.traffic(1);
    let key = Identity::generate().recipient();
    let rekeyed = rig.back_up(BackupKind::Incremental, std::slice::from_ref(&key)).unwrap();
    assert_eq!(rekeyed.reason, "the keys to encrypt for have changed");
    assert_eq!(rekeyed.made.unwrap().manifest.kind, BackupKind::Full);

    // The same cluster, restored to record 10: a new epoch, other records behind.
    let (writer, source) = node(&rig.dir.path().join("restored"), rig.dir.path().join("scratch-2"));
    let signer = rig.source.signer.clone();
    (rig.writer, rig.source) = (writer, Source { signer, ..source });
    rig.traffic(10);
    let behind = rig.back_up(BackupKind::Incremental, std::slice::from_ref(&key)).unwrap();
    assert!(behind.made.is_none() && behind.reason.contains("ahead of this node"), "{}", behind.reason);
    rig.epoch += 1 << 16;
    rig.traffic(1);
    let restored = rig.back_up(BackupKind::Incremental, std::slice::from_ref(&key)).unwrap();
    assert_eq!(restored.reason, "this history was restored to an earlier point");
    rig.traffic(20);
    let on = rig.back_up(BackupKind::Incremental, std::slice::from_ref(&key)).unwrap().made.unwrap().manifest;
    assert_eq!((on.kind, on.log_first, on.until.index), (BackupKind::Incremental, 12, 31));
    assert!(verify(&rig.repository).findings.is_empty(), "the old history is untouched");
}

#[test]
fn records_of_two_histories_never_share_a_part() {
    let mut rig = Rig::new();
    rig.traffic(10);
    rig.back_up(BackupKind::Incremental, &[]).unwrap();
    rig.traffic(10);
    rig.back_up(BackupKind::Incremental, &[]).unwrap();
    let (writer, source) = node(&rig.dir.path().join("restored"), rig.dir.path().join("scratch-2"));
    let signer = rig.source.signer.clone();
    (rig.writer, rig.source) = (writer, Source { signer, ..source });
    // Restored to record 9: record 10 and all behind it are others.
    rig.traffic(9);
    rig.epoch += 1 << 16;
    rig.traffic(1);
    rig.back_up(BackupKind::Incremental, &[]).unwrap();
    rig.traffic(10);
    rig.back_up(BackupKind::Incremental, &[]).unwrap();
    let report = verify(&rig.repository);
    assert_eq!((report.findings, report.good.len()), (Vec::new(), 4));
}

#[test]
fn two_writers_are_noticed_before_the_manifest() {
    let mut rig = Rig::new();
    rig.traffic(5);
    rig.back_up(BackupKind::Incremental, &[]).unwrap();
    rig.traffic(5);
    let other = rig.repository.clone();
    let (source, done) = (rig.source.clone(), std::sync::Once::new());
    let second = Source { scratch: rig.dir.path().join("scratch-2"), ..rig.source.clone() };
    let cancel = CancellationToken::new();
    let interfere = |progress: &crate::backup::Progress| {
        if progress.phase == crate::backup::Phase::Finishing {
            done.call_once(|| {
                let job = Job { kind: BackupKind::Incremental, recipients: Vec::new() };
                back_up(&second, &other, &job).unwrap().made.unwrap();
            });
        }
    };
    let watch = Watch { progress: &interfere, cancel: &cancel };
    let job = Job { kind: BackupKind::Incremental, recipients: Vec::new() };
    let error = job::run(&source, &rig.repository, &job, watch).unwrap_err();
    assert_eq!(error.code(), "repository_changed");
    assert!(rig.back_up(BackupKind::Incremental, &[]).unwrap().made.is_none());
    assert_eq!(verify(&rig.repository).findings, []);
}

#[test]
fn extras_are_stored_only_when_they_are_encrypted() {
    let mut rig = Rig::new();
    rig.traffic(2);
    let file = rig.dir.path().join("ca.pem");
    std::fs::write(&file, "a private thing").unwrap();
    rig.source.extras = vec![
        Extra { name: "tls/ca.pem".to_owned(), path: file },
        Extra { name: "gone".to_owned(), path: PathBuf::from("/nonexistent") },
    ];
    let extras = |outcome: Outcome| {
        let parts = outcome.made.unwrap().manifest.parts;
        parts.into_iter().filter(|part| part.kind == PartKind::Extra).collect::<Vec<_>>()
    };
    assert_eq!(extras(rig.back_up(BackupKind::Full, &[]).unwrap()), []);
    let identity = Identity::generate();
    let stored = extras(rig.back_up(BackupKind::Full, &[identity.recipient()]).unwrap());
    let mut text = String::new();
    let source = rig.repository.place().open(&stored[0].path).unwrap();
    crypt::decrypt(source, &[identity]).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((stored.len(), text.as_str()), (1, "a private thing"));
}

#[test]
fn a_damaged_file_of_the_node_does_not_hinder_the_backup_and_is_named() {
    let mut rig = Rig::new();
    rig.traffic(2);
    let (bad, good) = (rig.blob(b"bad"), rig.blob(b"good"));
    let hex = bad.to_string();
    std::fs::write(rig.dir.path().join("data/blobs").join(&hex[..2]).join(&hex[2..4]).join(&hex), "BAD").unwrap();
    let outcome = rig.back_up(BackupKind::Full, &[]).unwrap();
    let manifest = outcome.made.unwrap().manifest;
    assert_eq!((outcome.damaged_blobs, manifest.blobs), (vec![bad], 1));
    assert!(rig.repository.place().size(&manifest.blob_path(&good)).unwrap().is_some());
}

#[test]
fn a_cancelled_run_stops_and_the_next_one_sends_only_the_rest() {
    for recipients in [vec![], vec![Identity::generate().recipient()]] {
        let mut rig = Rig::new();
        rig.traffic(200);
        for number in 0..40_u32 {
            rig.blob(&number.to_le_bytes());
        }
        let cancel = CancellationToken::new();
        let stop = |progress: &crate::backup::Progress| {
            if progress.parts_done == 30 {
                cancel.cancel();
            }
        };
        let job = Job { kind: BackupKind::Full, recipients: recipients.clone() };
        let watch = Watch { progress: &stop, cancel: &cancel };
        assert_eq!(job::run(&rig.source, &rig.repository, &job, watch).unwrap_err().code(), "backup_cancelled");
        let rest = rig.back_up(BackupKind::Full, &recipients).unwrap();
        assert!(rest.made.is_some() && rest.sent < 40, "{} sent again", rest.sent);
        assert_eq!(verify(&rig.repository).findings, []);
        // A second full sends hardly anything.
        rig.traffic(1);
        let second = rig.back_up(BackupKind::Full, &recipients).unwrap();
        assert!(second.sent < 6, "{}", second.sent);
    }
}

#[test]
fn names_grow_although_the_clock_stands_still() {
    let mut rig = Rig::new();
    let mut names = Vec::new();
    for _ in 0..4 {
        rig.traffic(1);
        names.push(rig.back_up(BackupKind::Full, &[]).unwrap().made.unwrap().name);
    }
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn backups_beside_a_busy_node_join_and_prove_its_state() {
    let mut rig = Rig::new();
    rig.traffic(20);
    let (source, repository) = (rig.source.clone(), rig.repository.clone());
    let kinds = [BackupKind::Full, BackupKind::Incremental, BackupKind::Incremental, BackupKind::Full];
    let made: Vec<Manifest> = std::thread::scope(|scope| {
        let backups = scope.spawn(move || {
            let one = |kind| back_up(&source, &repository, &Job { kind, recipients: Vec::new() }).unwrap().made;
            kinds.into_iter().filter_map(one).map(|made| made.manifest).collect::<Vec<_>>()
        });
        while !backups.is_finished() {
            rig.traffic(10);
        }
        backups.join().unwrap()
    });
    rig.traffic(10);
    let made = [made, vec![rig.back_up(BackupKind::Incremental, &[]).unwrap().made.unwrap().manifest]].concat();
    let log = rig.dir.path().join("joined");
    for manifest in &made {
        unpack_log(&rig, manifest, &[], &log);
        assert_eq!(
            manifest.until.chain,
            data_encoding::HEXLOWER.encode(&rig.source.log.chain_hash_at(manifest.until.index).unwrap())
        );
    }
    let report = crate::oplog::verify(&log, &mut |_| {}).unwrap();
    assert_eq!((&report.findings[..], report.last.unwrap()), (&[][..], rig.writer.position()));
    let hash = rig.source.projection.state_hash().1;
    assert_eq!(made.last().unwrap().state_hash, Some(data_encoding::HEXLOWER.encode(&hash.to_bytes())));
    let listed = rig.repository.list(None).unwrap();
    assert_eq!(chain(&listed, &made.last().unwrap().name()).unwrap().len(), 2);
    assert_eq!(verify(&rig.repository).findings, []);
}

#[test]
fn what_is_known_of_the_repository_is_read_again_when_the_scratch_folder_is_lost() {
    for recipients in [vec![], vec![Identity::generate().recipient()]] {
        let mut rig = Rig::new();
        rig.traffic(5);
        for number in 0..10_u32 {
            rig.blob(&number.to_le_bytes());
        }
        rig.back_up(BackupKind::Full, &recipients).unwrap();
        rig.traffic(5);
        rig.blob(b"new");
        std::fs::remove_dir_all(&rig.source.scratch).unwrap();
        let more = rig.back_up(BackupKind::Incremental, &recipients).unwrap();
        assert_eq!(more.made.unwrap().manifest.blobs, 1);
        // Spoilt copies are no copies.
        for file in files_below(&rig.source.scratch) {
            let path = rig.source.scratch.join(file);
            std::fs::write(&path, vec![0; std::fs::metadata(&path).unwrap().len() as usize]).unwrap();
        }
        rig.traffic(5);
        let again = rig.back_up(BackupKind::Full, &recipients).unwrap();
        assert_eq!((again.made.unwrap().manifest.blobs, again.sent < 8), (11, true), "{}", again.sent);
        assert_eq!(verify(&rig.repository).findings, []);
    }
}

#[test]
fn a_full_heals_a_blob_that_was_lost_in_the_repository() {
    let mut rig = Rig::new();
    rig.traffic(5);
    let (lost, cut) = (rig.blob(b"lost"), rig.blob(b"cut"));
    let manifest = rig.back_up(BackupKind::Full, &[]).unwrap().made.unwrap().manifest;
    std::fs::remove_file(rig.place().join(manifest.blob_path(&lost))).unwrap();
    std::fs::write(rig.place().join(manifest.blob_path(&cut)), "c").unwrap();
    assert_eq!(verify(&rig.repository).findings.len(), 2);
    rig.traffic(1);
    rig.back_up(BackupKind::Full, &[]).unwrap();
    assert_eq!(verify(&rig.repository).findings, []);
}

#[test]
fn on_an_append_only_target_an_interrupted_run_is_gone_on_with_and_nothing_is_replaced() {
    for recipients in [vec![], vec![Identity::generate().recipient()]] {
        let mut rig = Rig::new();
        let target = {
            let _entered = rig.runtime.enter();
            Arc::new(Target::directory(&rig.place()).unwrap())
        };
        rig.repository = Repository::on(Arc::new(super::place::AppendOnly { inner: target }), true);
        rig.traffic(100);
        for number in 0..20_u32 {
            rig.blob(&number.to_le_bytes());
        }
        let cancel = CancellationToken::new();
        let stop = |progress: &crate::backup::Progress| {
            if progress.parts_done == 15 {
                cancel.cancel();
            }
        };
        let job = Job { kind: BackupKind::Full, recipients: recipients.clone() };
        let watch = Watch { progress: &stop, cancel: &cancel };
        assert_eq!(job::run(&rig.source, &rig.repository, &job, watch).unwrap_err().code(), "backup_cancelled");
        std::fs::remove_dir_all(&rig.source.scratch).unwrap();
        let rest = rig.back_up(BackupKind::Full, &recipients).unwrap();
        assert!(rest.made.is_some());
        rig.traffic(5);
        rig.back_up(BackupKind::Incremental, &recipients).unwrap();
        assert_eq!(verify(&rig.repository).findings, []);
    }
}
