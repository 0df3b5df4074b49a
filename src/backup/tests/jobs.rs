//! Full and incremental backups: what they hold, what they rest on, what they do after an interruption.

use std::io::Read;

use super::*;
use crate::backup::crypt;
use crate::backup::manifest::{Manifest, PartKind};
use crate::backup::repository::chain;

/// Puts the log parts of a manifest into a folder, as a restore does.
fn unpack_log(rig: &Rig, manifest: &Manifest, identities: &[Identity], log: &Path) {
    for part in manifest.parts.iter().filter(|part| part.kind == PartKind::Log) {
        let stored = rig.repository.place().open(&part.path).unwrap();
        let plain: Box<dyn Read> =
            if manifest.is_encrypted() { Box::new(crypt::decrypt(stored, identities).unwrap()) } else { stored };
        let first = part.path.strip_prefix("log/").unwrap().split('-').next().unwrap();
        std::fs::create_dir_all(log).unwrap();
        let out = std::fs::File::create(log.join(format!("{first}.seg"))).unwrap();
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
