//! Whatever is wrong with a repository is named before the destination is touched.

use super::*;

fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for item in std::fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// A repository in which the newest backup needs every file.
fn filled(recipients: &[Recipient]) -> Rig {
    let mut rig = Rig::new();
    rig.say("one");
    rig.file(b"the first file");
    drop(rig.back_up(BackupKind::Full, recipients));
    for round in 0..2 {
        rig.say(&format!("more {round}"));
        rig.file(format!("file {round}").as_bytes());
        drop(rig.back_up(BackupKind::Incremental, recipients));
    }
    rig
}

fn changed(bytes: &[u8], other: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let flip = |at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    vec![
        ("removed", None),
        ("emptied", Some(Vec::new())),
        ("shortened", Some(bytes[..bytes.len() - 1].to_vec())),
        ("prolonged", Some([bytes, b"x"].concat())),
        ("its first byte changed", Some(flip(0))),
        ("its middle changed", Some(flip(bytes.len() / 2))),
        ("its last byte changed", Some(flip(bytes.len() - 1))),
        ("exchanged", Some(other.to_vec())),
    ]
}

fn every_damage_is_named(recipients: &[Recipient], keys: Vec<Identity>) {
    let rig = filled(recipients);
    let files = files_below(&rig.place());
    assert!(files.len() >= 12, "{files:?}");
    for (at, file) in files.iter().enumerate() {
        let sound = std::fs::read(file).unwrap();
        // The next file of the same folder if there is one: what would be mistaken most easily.
        let neighbour = files.iter().find(|other| *other != file && other.parent() == file.parent());
        let other = std::fs::read(neighbour.unwrap_or(&files[(at + 1) % files.len()])).unwrap();
        for (what, damage) in changed(&sound, &other) {
            let path = file.strip_prefix(rig.place()).unwrap().to_str().unwrap();
            match damage {
                None => std::fs::remove_file(file).unwrap(),
                Some(damage) => std::fs::write(file, damage).unwrap(),
            }
            let newest_gone = what == "removed" && path == newest_manifest(&files, &rig.place());
            let outcome = rig.restore(&RestoreOptions { keys: keys.clone(), ..rig.options(Moment::Latest) });
            std::fs::write(file, &sound).unwrap();
            if newest_gone {
                // Nobody can miss what nothing names: the backup before it comes back.
                outcome.unwrap();
                std::fs::remove_dir_all(rig.destination()).unwrap();
                continue;
            }
            let Err(error) = outcome else { panic!("{path}, {what}: not noticed") };
            let name = path.trim_start_matches("manifests/").trim_end_matches(".json");
            assert!(error.to_string().contains(name), "{path}, {what}: {error}");
            rig.assert_untouched(&format!("{path}, {what}"));
        }
    }
    rig.restore(&RestoreOptions { keys, ..rig.options(Moment::Latest) }).unwrap();
}

fn newest_manifest(files: &[PathBuf], place: &Path) -> String {
    let manifests = files.iter().filter(|file| file.parent().unwrap().ends_with("manifests"));
    manifests.max().unwrap().strip_prefix(place).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_damaged_part_is_named() {
    every_damage_is_named(&[], Vec::new());
}

#[test]
fn every_damaged_encrypted_part_is_named() {
    let (key, recipients) = identity();
    every_damage_is_named(&recipients, vec![key]);
}

#[test]
fn a_wrong_key_or_signer_or_moment_is_told_before_anything_is_written() {
    let (_, recipients) = identity();
    let rig = filled(&recipients);
    let refused = |options: RestoreOptions, code: &str| {
        let error = rig.restore(&options).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        rig.assert_untouched(code);
    };
    refused(rig.options(Moment::Latest), "key_missing");
    let (other, _) = identity();
    refused(RestoreOptions { keys: vec![other], ..rig.options(Moment::Latest) }, "key_wrong");
    let stranger = Signer::generate().unwrap().fingerprint();
    refused(RestoreOptions { signer: Some(stranger), ..rig.options(Moment::Latest) }, "manifest_wrong_signer");
    refused(rig.options(Moment::Index(1)), "before_first_backup");
    refused(rig.options(Moment::Index(1_000_000)), "beyond_last_backup");
    refused(rig.options(Moment::Backup("nothing".to_owned())), "backup_not_found");
}

#[test]
fn an_empty_place_has_no_backups() {
    let rig = Rig::new();
    assert_eq!(rig.restore(&rig.options(Moment::Latest)).unwrap_err().code(), "no_backups");
    rig.assert_untouched("no backups");
}
