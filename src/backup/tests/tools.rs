//! What the stock tools make of a repository: `age`, `zstd` and `b3sum`, as an operator has them. These tests need them and
//! fail without; `make test` installs them.

use std::fs::File;
use std::process::{Command, Stdio};

use super::*;
use crate::backup::manifest::{PartKind, log_range};

/// Runs a tool of the system; its standard output.
fn tool(name: &str, arguments: &[&str]) -> Vec<u8> {
    let ran = Command::new(name).args(arguments).stderr(Stdio::inherit()).output();
    let out = ran.unwrap_or_else(|error| panic!("{name} cannot be run ({error}): apt-get install age zstd b3sum"));
    assert!(out.status.success(), "{name} {arguments:?} failed");
    out.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn encrypted_parts_open_with_age_and_zstd_and_have_the_sums_of_b3sum() {
    let mut rig = Rig::new();
    rig.traffic(100);
    let content = vec![7; 200_000];
    let hash = rig.blob(&content);
    let identity = Identity::generate();
    let key = rig.dir.path().join("key.txt");
    identity.write_new(&key, "2026-11-21T12:00:00Z").unwrap();
    let manifest = rig.back_up(BackupKind::Full, &[identity.recipient()]).unwrap().made.unwrap().manifest;
    rig.traffic(50);
    let more = rig.back_up(BackupKind::Incremental, &[identity.recipient()]).unwrap().made.unwrap().manifest;

    let stored = |path: &str| rig.place().join(path);
    for part in manifest.parts.iter().chain(&more.parts) {
        let sum = tool("b3sum", &["--no-names", text(&stored(&part.path))]);
        assert_eq!(String::from_utf8(sum).unwrap().trim(), part.blake3, "{}", part.path);
    }
    // Log parts become segments of one log.
    let log = rig.dir.path().join("by-hand");
    std::fs::create_dir(&log).unwrap();
    for part in more.parts.iter().filter(|part| part.kind == PartKind::Log) {
        let packed = rig.dir.path().join("part.zst");
        tool("age", &["-d", "-i", text(&key), "-o", text(&packed), text(&stored(&part.path))]);
        let (first, _) = log_range(&part.path).unwrap();
        std::fs::write(log.join(format!("{first:020}.seg")), tool("zstd", &["-dc", text(&packed)])).unwrap();
        std::fs::remove_file(packed).unwrap();
    }
    let report = crate::oplog::verify(&log, &mut |_| {}).unwrap();
    assert_eq!((&report.findings[..], report.last.unwrap()), (&[][..], rig.writer.position()));
    // A file is itself again, under its own sum.
    let path = stored(&manifest.blob_path(&hash));
    let plain = tool("age", &["-d", "-i", text(&key), text(&path)]);
    assert!(plain == content);
    // The blob list is readable without any key.
    let list = manifest.parts.iter().find(|part| part.kind == PartKind::BlobList).unwrap();
    let lines = String::from_utf8(tool("zstd", &["-dc", text(&stored(&list.path))])).unwrap();
    assert!(lines.contains(&hash.to_string()) && lines.lines().count() == 1, "{lines}");
}

#[test]
fn a_key_of_age_keygen_decrypts_what_we_encrypt_and_ours_what_age_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.txt");
    tool("age-keygen", &["-o", text(&path)]);
    let theirs = crate::backup::crypt::read_identities(&path).unwrap().remove(0);
    let ours = Identity::generate();
    let sealed = dir.path().join("sealed.age");
    let mut source = crate::backup::crypt::Encrypting::new(&b"from us"[..], &[theirs.recipient()]).unwrap();
    std::io::copy(&mut source, &mut File::create(&sealed).unwrap()).unwrap();
    let opened = tool("age", &["-d", "-i", text(&path), text(&sealed)]);
    assert_eq!(opened, b"from us");

    std::fs::write(dir.path().join("plain"), "from them").unwrap();
    let plain = dir.path().join("plain");
    let recipient = ours.recipient().to_string();
    let sealed = tool("age", &["-r", &recipient, text(&plain)]);
    let mut text = String::new();
    let mut opened = crate::backup::crypt::decrypt(&sealed[..], &[ours]).unwrap();
    std::io::Read::read_to_string(&mut opened, &mut text).unwrap();
    assert_eq!(text, "from them");
}
