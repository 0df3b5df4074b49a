//! Snapshots: round trip, every damaged part named, rebuilds.

use std::fs;

use super::*;
use crate::core::view::Direction;
use crate::projection::snapshot::{
    SnapshotInfo, keep_base, list_snapshots, read_manifest, verify_snapshot, write_snapshot,
};

const INFO: SnapshotInfo = SnapshotInfo { site: 3, chain: [7; 32] };

/// Commits entries so that some chunks fill: bodies that do not compress much.
fn fill(projection: &Projection, entries: std::ops::RangeInclusive<u64>) {
    for index in entries {
        let mut writes = send(projection, index % 3 + 1, index / 3 + 1);
        let noise: String = blake3::hash(&index.to_le_bytes()).to_hex().repeat(20);
        writes.push(put(projection, Key::Audit(index), audit(&noise)));
        projection.commit(at(index), &writes).unwrap();
    }
}

fn take(projection: &Projection, dir: &Path) -> std::path::PathBuf {
    projection.checkpoint().unwrap();
    write_snapshot(&projection.hold_checkpoints(), &dir.join("snapshots"), INFO, |_| {}).unwrap()
}

fn everything(projection: &Projection) -> Vec<(Key, Value)> {
    projection.scan(Key::FIRST..=Key::LAST, Direction::Up, usize::MAX).unwrap()
}

#[test]
fn a_snapshot_holds_one_entry_while_others_are_committed_and_loads_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    fill(&projection, 1..=1_500);
    projection.checkpoint().unwrap();
    let (rows, hash) = (everything(&projection), projection.state_hash().1);
    let hold = projection.hold_checkpoints();
    let mut last = Default::default();
    let mut next = 1_500;
    let path = write_snapshot(&hold, &dir.path().join("snapshots"), INFO, |progress| {
        last = progress;
        next += 1;
        fill(&projection, next..=next);
    });
    let path = path.unwrap();
    drop(hold);
    assert!(next > 1_501, "several chunks, and entries between them");
    assert!(path.ends_with("snapshots/00000000000000001500"));
    let manifest = verify_snapshot(&path).unwrap();
    assert_eq!((manifest.index, manifest.epoch, manifest.site), (1_500, at(1).epoch, 3));
    assert_eq!(manifest.chain, "07".repeat(32));
    assert_eq!(manifest.counts["messages"], 1_500);
    assert_eq!(manifest.counts["audit"], 1_500);
    assert_eq!(manifest.counts.values().sum::<u64>(), last.rows);
    assert_eq!(manifest.chunks.iter().map(|chunk| chunk.size).sum::<u64>(), last.bytes);

    let other = tempfile::tempdir().unwrap();
    let opened = Projection::open_from_snapshot(&options(other.path()), &path).unwrap();
    assert_eq!((opened.applied, opened.state_hash), (at(1_500), hash));
    assert_eq!(everything(&opened.projection), rows);
    assert_eq!(opened.projection.full_state_hash().unwrap(), (at(1_500), hash));
    let again = Projection::open_from_snapshot(&options(other.path()), &path).err().unwrap();
    assert_eq!(again.code(), "state_not_empty");
}

#[test]
fn the_newest_two_are_kept_and_unfinished_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    let snapshots = dir.path().join("snapshots");
    assert!(list_snapshots(&snapshots).unwrap().is_empty());
    for index in 1..=4 {
        fs::create_dir_all(snapshots.join("writing-00000000000000000001")).unwrap();
        fill(&projection, index..=index);
        take(&projection, dir.path());
    }
    assert_eq!(take(&projection, dir.path()), snapshots.join("00000000000000000004"), "no change: the same one");
    let names: Vec<_> = fs::read_dir(&snapshots).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(list_snapshots(&snapshots).unwrap(), [3, 4].map(|index| snapshots.join(format!("{index:020}"))));
}

/// What may have to be taken back needs a snapshot from before it, however many newer ones there are.
#[test]
fn the_base_stays_behind_newer_ones() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    let snapshots = dir.path().join("snapshots");
    let indexes = || -> Vec<u64> {
        let all = list_snapshots(&snapshots).unwrap();
        all.iter().map(|dir| dir.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect()
    };
    let take_at = |index| {
        fill(&projection, index..=index);
        take(&projection, dir.path());
    };
    take_at(1);
    take_at(2);
    keep_base(&snapshots, 2, 1).unwrap();
    (3..=5).for_each(take_at);
    assert_eq!(indexes(), [2, 4, 5]);
    keep_base(&snapshots, 4, 1).unwrap();
    take_at(6);
    assert_eq!(indexes(), [4, 5, 6]);
    keep_base(&snapshots, 0, 1).unwrap();
    take_at(7);
    assert_eq!(indexes(), [4, 6, 7], "none is old enough: the oldest");
    keep_base(&snapshots, 5, 7).unwrap();
    take_at(8);
    assert_eq!(indexes(), [6, 7, 8], "the oldest that the log goes on from");
}

#[test]
fn each_damaged_part_is_named_and_nothing_is_left_of_the_load() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    fill(&projection, 1..=1_500);
    let path = take(&projection, dir.path());
    let chunks = read_manifest(&path).unwrap().chunks;
    assert!(chunks.len() >= 2);
    let names: Vec<_> = chunks.into_iter().map(|chunk| chunk.name).chain(["manifest.json".to_owned()]).collect();
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 4] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0x20),
        Vec::clear,
    ];
    for name in &names {
        let file = path.join(name);
        let sound = fs::read(&file).unwrap();
        for (number, damage) in damages.iter().enumerate() {
            if name == "manifest.json" && number == 2 {
                continue; // white space after JSON is no damage
            }
            let mut bytes = sound.clone();
            damage(&mut bytes);
            fs::write(&file, bytes).unwrap();
            expect_named(&path, &file);
        }
        fs::remove_file(&file).unwrap();
        expect_named(&path, &file);
        fs::write(&file, sound).unwrap();
    }
    verify_snapshot(&path).unwrap();
}

fn expect_named(snapshot: &Path, file: &Path) {
    let other = tempfile::tempdir().unwrap();
    for error in [
        verify_snapshot(snapshot).unwrap_err(),
        Projection::open_from_snapshot(&options(other.path()), snapshot).err().expect("it must be refused"),
    ] {
        assert!(matches!(&error, ProjectionError::SnapshotDamaged { path, .. } if path == file), "{error}");
    }
    assert!(!other.path().join("state").exists(), "nothing half-loaded stays");
}

#[test]
fn a_changed_number_in_the_manifest_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    fill(&projection, 1..=20);
    let file = take(&projection, dir.path()).join("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"index\": 20", "\"index\": 21")).unwrap();
    assert!(verify_snapshot(file.parent().unwrap()).unwrap_err().to_string().contains("its own hash"));
    fs::write(&file, text.replace("\"format\": 2", "\"format\": 3")).unwrap();
    assert_eq!(verify_snapshot(file.parent().unwrap()).unwrap_err().code(), "state_format_too_new");
}

#[test]
fn a_rebuild_takes_the_newest_good_snapshot_and_says_which_were_not() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    fill(&projection, 1..=30);
    let hash = projection.state_hash().1;
    take(&projection, dir.path());
    fill(&projection, 31..=60);
    let newest = take(&projection, dir.path());
    drop(projection);
    let chunk = newest.join("000001.zst");
    fs::write(&chunk, b"damaged").unwrap();
    fs::write(dir.path().join("state/db"), vec![0x5a; 100_000]).unwrap();

    let rebuilt = Projection::rebuild(&options(dir.path()), "a test").unwrap();
    assert_eq!((rebuilt.applied, rebuilt.state_hash), (at(30), hash));
    let OpenOutcome::Rebuilt { moved_to: Some(_), snapshot: Some(30), refused } = rebuilt.outcome else {
        panic!("{:?}", rebuilt.outcome)
    };
    assert!(matches!(&refused[..], [ProjectionError::SnapshotDamaged { path, .. }] if *path == chunk), "{refused:?}");
    assert_eq!(rebuilt.projection.full_state_hash().unwrap(), (at(30), hash));
    fill(&rebuilt.projection, 31..=60);
    rebuilt.projection.close().unwrap();
    assert_eq!(open(dir.path()).applied(), at(60));
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    fill(&projection, 1..=5);
    let path = take(&projection, dir.path());
    let other = tempfile::tempdir().unwrap();
    let foreign = Options::new(other.path(), [9; 16], Arc::new(|_| {}));
    let error = Projection::open_from_snapshot(&foreign, &path).err().unwrap();
    assert_eq!(error.code(), "state_wrong_cluster");
    assert!(!other.path().join("state").exists());
}
