//! What can be said of a folder's file system before it is trusted with backups. Must never write.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::probe::Finding;
use crate::limits::BACKUP_PROBE_FREE_BYTES;

/// What the kernel calls a file system: `f_type` of `statfs`, from linux/magic.h.
const KINDS: [(u64, Kind); 9] = [
    (0x6969, Kind::Nfs),
    (0xFF53_4D42, Kind::Smb),
    (0xFE53_4D42, Kind::Smb),
    (0x517B, Kind::Smb),
    (0x4D44, Kind::Fat),
    (0x2011_BAB0, Kind::Exfat),
    (0x0102_1994, Kind::Memory),
    (0x8584_58F6, Kind::Memory),
    (0x6573_5546, Kind::Fuse),
];

/// Kinds of file systems that have something to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nfs,
    Smb,
    Fat,
    Exfat,
    Memory,
    Fuse,
    Other,
}

/// What is known of a folder.
#[derive(Clone, Debug)]
struct Facts {
    kind: Kind,
    is_read_only: bool,
    free_bytes: u64,
    on_root: bool,
    is_empty: bool,
    with_data: bool,
}

/// What an administrator has to know of the folder `path`, when the node's data is in `data`.
pub(super) fn look(path: &Path, data: Option<&Path>) -> Vec<Finding> {
    match facts(path, data) {
        Ok(facts) => findings(&facts),
        Err(error) => vec![Finding::bad("file_system", format!("the folder cannot be looked at: {error}"))],
    }
}

fn facts(path: &Path, data: Option<&Path>) -> std::io::Result<Facts> {
    let magic = rustix::fs::statfs(path)?.f_type;
    // The magic numbers have 32 bits; the type that they come in has a sign.
    let magic = (magic as u64) & 0xFFFF_FFFF;
    let room = rustix::fs::statvfs(path)?;
    let device = std::fs::metadata(path)?.dev();
    let of = |other: &Path| std::fs::metadata(other).map(|found| found.dev()).ok();
    Ok(Facts {
        kind: KINDS.iter().find(|(known, _)| *known == magic).map_or(Kind::Other, |(_, kind)| *kind),
        is_read_only: room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        on_root: of(Path::new("/")) == Some(device),
        is_empty: std::fs::read_dir(path)?.next().is_none(),
        with_data: data.and_then(of) == Some(device),
    })
}

fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if facts.is_read_only {
        found.push(Finding::bad("read_only", "the folder's file system is mounted so that it can only be read"));
    }
    if facts.with_data {
        let text = "the folder is on the same file system as the data directory: a broken disk takes both";
        found.push(Finding::warning("same_file_system", text));
    }
    if facts.on_root && facts.is_empty {
        let text =
            "the folder is empty and on the system's own disk: if a disk or share belongs here, it is not mounted";
        found.push(Finding::warning("not_mounted", text));
    }
    if facts.free_bytes < BACKUP_PROBE_FREE_BYTES {
        let text = format!("only {} MiB are free", facts.free_bytes >> 20);
        found.push(Finding::warning("little_room", text));
    }
    let (code, text) = match facts.kind {
        Kind::Nfs => {
            ("nfs", "NFS: mount it with `hard` and `sync`, and note that the server decides when files are on disk")
        }
        Kind::Smb => ("smb", "SMB: the server decides when files are on disk; mount it with a user of its own"),
        Kind::Fat => {
            let text = "FAT: a file may have 4 GiB at most (larger uploads cannot be backed up), and it has no permissions: \
                        whoever holds the stick reads it";
            ("fat", text)
        }
        Kind::Exfat => ("exfat", "exFAT has no permissions: whoever holds the stick reads it"),
        Kind::Memory => ("memory", "the folder is in memory: it is empty after a restart"),
        Kind::Fuse => ("fuse", "FUSE: what a sync means is up to the program behind it"),
        Kind::Other => return found,
    };
    found.push(if facts.kind == Kind::Memory { Finding::bad(code, text) } else { Finding::warning(code, text) });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(facts: &Facts) -> Vec<&'static str> {
        findings(facts).into_iter().map(|finding| finding.code).collect()
    }

    fn usual() -> Facts {
        let free_bytes = 1 << 40;
        Facts { kind: Kind::Other, is_read_only: false, free_bytes, on_root: false, is_empty: true, with_data: false }
    }

    #[test]
    fn a_disk_of_its_own_needs_no_word_and_each_peculiarity_has_one() {
        assert_eq!(codes(&usual()), Vec::<&str>::new());
        assert_eq!(codes(&Facts { with_data: true, ..usual() }), ["same_file_system"]);
        assert_eq!(codes(&Facts { on_root: true, ..usual() }), ["not_mounted"]);
        assert_eq!(codes(&Facts { on_root: true, is_empty: false, ..usual() }), Vec::<&str>::new());
        assert_eq!(codes(&Facts { free_bytes: 5, is_read_only: true, ..usual() }), ["read_only", "little_room"]);
        for (kind, code) in [(Kind::Nfs, "nfs"), (Kind::Fat, "fat"), (Kind::Exfat, "exfat"), (Kind::Memory, "memory")] {
            assert_eq!(codes(&Facts { kind, ..usual() }), [code]);
        }
    }

    #[test]
    fn a_folder_beside_the_data_is_seen_as_such() {
        let place = tempfile::tempdir().unwrap();
        let (data, target) = (place.path().join("data"), place.path().join("target"));
        std::fs::create_dir(&data).unwrap();
        std::fs::create_dir(&target).unwrap();
        assert!(look(&target, Some(&data)).iter().any(|finding| finding.code == "same_file_system"));
        assert!(look(&place.path().join("none"), None).iter().any(|finding| finding.code == "file_system"));
    }
}
