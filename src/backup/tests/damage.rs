//! Every single file of a repository flipped, cut, removed, swapped: verify names exactly that file.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::backup::repository::Wrong;

/// A repository with a full, two incrementals and another full, each with blobs.
fn filled(recipients: &[Recipient]) -> Rig {
    let mut rig = Rig::new();
    for (number, kind) in
        [BackupKind::Full, BackupKind::Incremental, BackupKind::Incremental, BackupKind::Full].into_iter().enumerate()
    {
        rig.traffic(30);
        rig.blob(format!("file {number}").as_bytes());
        rig.back_up(kind, recipients).unwrap().made.unwrap();
    }
    rig
}

fn found(report: &VerifyReport) -> BTreeSet<String> {
    report.findings.iter().map(|finding| finding.path.clone()).collect()
}

fn only(path: &str) -> BTreeSet<String> {
    BTreeSet::from([path.to_owned()])
}

/// The kind of a file: swapping two of one kind is what nobody sees by the name.
fn kind_of(path: &str) -> (&str, bool) {
    (path.split('/').next().unwrap(), path.contains("manifest.json"))
}

#[test]
fn damage_to_any_file_is_found_and_named() {
    for encrypted in [false, true] {
        let recipients = if encrypted { vec![Identity::generate().recipient()] } else { Vec::new() };
        let rig = filled(&recipients);
        let sound = verify(&rig.repository);
        assert_eq!((found(&sound), sound.unknown, sound.good.len()), (BTreeSet::new(), Vec::new(), 4));
        let files = files_below(&rig.place());
        let newest = files.iter().rfind(|path| path.starts_with("manifests/")).unwrap().clone();
        for path in &files {
            let file = rig.place().join(path);
            let content = fs::read(&file).unwrap();

            // In the middle of a signed document every byte counts but for blanks.
            let at = (content.len() / 2..).find(|at| !content[*at].is_ascii_whitespace()).unwrap();
            let mut flipped = content.clone();
            flipped[at] ^= 1;
            fs::write(&file, &flipped).unwrap();
            assert_eq!(found(&verify(&rig.repository)), only(path), "flipped {path}");

            fs::write(&file, &content[..content.len() - 1]).unwrap();
            let report = verify(&rig.repository);
            assert_eq!(found(&report), only(path), "cut {path}");
            assert!(report.good.len() < 4, "cut {path}");

            fs::remove_file(&file).unwrap();
            let report = verify(&rig.repository);
            if *path == newest {
                // Nothing rests on it. What it named is left over.
                assert!(report.findings.is_empty() && !report.unknown.is_empty());
            } else if path.starts_with("manifests/") {
                let named: Vec<_> = report.findings.iter().map(|finding| &finding.path).collect();
                // Nothing but the manifest behind needs that of a backup before a full.
                assert!(
                    named == [path] || (named.is_empty() && !report.unknown.is_empty()),
                    "removed {path}: {named:?}"
                );
            } else {
                assert_eq!(found(&report), only(path), "removed {path}");
                assert_eq!(report.findings[0].wrong, Wrong::Missing, "removed {path}");
            }
            fs::write(&file, &content).unwrap();
        }
        swap_all(&rig, &files);
        assert_eq!(found(&verify(&rig.repository)), BTreeSet::new());
    }
}

fn swap_all(rig: &Rig, files: &[String]) {
    for (place, one) in files.iter().enumerate() {
        let Some(other) = files[place + 1..].iter().find(|other| kind_of(other) == kind_of(one)) else { continue };
        let (first, second) = (rig.place().join(one), rig.place().join(other));
        let (a, b) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
        if a == b {
            continue;
        }
        fs::write(&first, &b).unwrap();
        fs::write(&second, &a).unwrap();
        let report = verify(&rig.repository);
        assert_eq!(found(&report), BTreeSet::from([one.clone(), other.clone()]), "swapped");
        if !one.starts_with("manifests/") {
            assert!(report.findings.iter().all(|finding| matches!(finding.wrong, Wrong::Swapped { .. })), "{report:?}");
        }
        fs::write(&first, &a).unwrap();
        fs::write(&second, &b).unwrap();
    }
}

#[test]
fn a_chosen_backup_is_verified_with_what_it_rests_on_only() {
    let rig = filled(&[]);
    let names = rig.repository.names().unwrap();
    let cut = files_below(&rig.place()).into_iter().find(|path| path.starts_with("log/")).unwrap();
    fs::write(rig.place().join(&cut), "").unwrap();
    let check = |place: usize| {
        let cancel = CancellationToken::new();
        let watch = Watch { progress: &|_| {}, cancel: &cancel };
        rig.repository.verify(Some(&names[place..=place]), watch).unwrap()
    };
    assert!(check(0).good.len() + check(3).good.len() == 2, "neither needs the first records behind the first full");
    let report = check(2);
    assert_eq!((found(&report), &report.findings[0].backups[..], report.good.len()), (only(&cut), &names[2..=2], 0));
    let cancel = CancellationToken::new();
    let missing = rig.repository.verify(Some(&["x".to_owned()]), Watch { progress: &|_| {}, cancel: &cancel });
    assert_eq!(missing.unwrap_err().code(), "backup_not_found");
    cancel.cancel();
    let stopped = rig.repository.verify(None, Watch { progress: &|_| {}, cancel: &cancel });
    assert_eq!(stopped.unwrap_err().code(), "backup_cancelled");
}
