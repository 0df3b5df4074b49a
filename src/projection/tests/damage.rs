//! Damaged state directories: they open with the right rows, or they are refused. They never crash the process and never
//! give wrong rows under a matching hash.

use std::fs;

use super::*;
use crate::core::view::{Direction, StateHash};

/// A state of some hundred rows at index 400, closed.
fn sound(dir: &Path) -> StateHash {
    let projection = open(dir);
    for index in 1..=400 {
        projection.commit(at(index), &send(&projection, index % 3 + 1, index / 3 + 1)).unwrap();
        if index % 130 == 0 {
            projection.checkpoint().unwrap();
        }
    }
    let hash = projection.state_hash().1;
    projection.close().unwrap();
    hash
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &to.join(item.file_name()));
        } else {
            fs::copy(item.path(), to.join(item.file_name())).unwrap();
        }
    }
}

/// Opens after a restart of the machine, when everything is checked.
fn open_checked(dir: &Path) -> Result<Opened, ProjectionError> {
    Projection::open(&options(dir).with_boot_id("another boot"))
}

/// Either refused as rebuildable, or exactly the sound rows, or, where sled takes the damage for a torn tail, those of an
/// earlier checkpoint, from which the log replays. Returns whether the damage made a difference.
fn refused_or_sound(dir: &Path, what: &str) -> bool {
    match open_checked(dir) {
        Err(error) => {
            assert!(error.is_rebuildable(), "{what}: {error}");
            assert_eq!(error.code(), "state_damaged");
            true
        }
        Ok(opened) => {
            assert_eq!(opened.projection.full_state_hash().unwrap(), (opened.applied, opened.state_hash), "{what}");
            assert!([0, 130, 260, 390, 400].contains(&opened.applied.index), "{what}: {:?}", opened.applied);
            let all = Key::FIRST..=Key::LAST;
            assert!(opened.projection.scan(all, Direction::Up, usize::MAX).is_ok());
            opened.applied != at(400)
        }
    }
}

/// sled meets damage in its older pages only when it reads them; without a restart of the machine that may be at any time.
#[test]
fn a_state_that_fails_in_use_is_refused_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    let quiet = Options::new(dir.path(), CLUSTER, Arc::new(|_| ())).with_boot_id("this boot");
    let fail = |cause: String| {
        let projection = Projection::open(&quiet).unwrap().projection;
        drop(projection.shared.fail(ProjectionError::Store { op: "get", cause }));
        assert!(projection.get(&Key::Settings).is_err(), "nothing is read from a failed state");
    };
    fail(format!("IO error: {}", std::io::Error::from(rustix::io::Errno::NOSPC)));
    assert_eq!(Projection::open(&quiet).unwrap().applied, at(400), "a full disk is no damage");

    fail("Read corrupted data at file offset 7".to_owned());
    for _ in 0..2 {
        let error = Projection::open(&quiet).err().expect("what failed in use must not be opened again");
        assert!(error.is_rebuildable(), "{error}");
        assert!(error.to_string().contains("last in use") && error.to_string().contains("corrupted"), "{error}");
    }
    fs::write(dir.path().join("state/failed"), [0xff; 9]).unwrap();
    let error = Projection::open(&quiet).err().expect("whatever the mark says, it is one");
    assert!(error.is_rebuildable(), "{error}");
    let rebuilt = Projection::rebuild(&quiet, "the test").unwrap();
    assert_eq!(rebuilt.applied, Applied::default());
    drop(rebuilt);
    assert_eq!(Projection::open(&quiet).unwrap().outcome, OpenOutcome::Opened, "the mark went with the old state");
}

#[test]
fn flipped_and_cut_bytes_are_refused_or_harmless() {
    let origin = tempfile::tempdir().unwrap();
    sound(origin.path());
    let db_len = fs::metadata(origin.path().join("state/db")).unwrap().len();
    let used = fs::read(origin.path().join("state/db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut noticed = 0;
    for case in 0..24u64 {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        let db = dir.path().join("state/db");
        let place = used * case / 24;
        let what = if case.is_multiple_of(4) {
            fs::OpenOptions::new().write(true).open(&db).unwrap().set_len(place).unwrap();
            format!("cut at {place} of {db_len}")
        } else {
            let mut bytes = fs::read(&db).unwrap();
            bytes[place as usize] ^= 1 << (case % 8);
            fs::write(&db, bytes).unwrap();
            format!("bit flipped at {place} of {db_len}")
        };
        noticed += u32::from(refused_or_sound(dir.path(), &what));
    }
    assert!(noticed > 0, "some of it hit what is in use");
}

#[test]
fn damaged_side_files_are_refused_or_harmless() {
    let origin = tempfile::tempdir().unwrap();
    sound(origin.path());
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("an empty conf", |state| fs::write(state.join("conf"), b"").unwrap()),
        ("a cut conf", |state| fs::write(state.join("conf"), b"abc").unwrap()),
        ("no conf", |state| fs::remove_file(state.join("conf")).unwrap()),
        ("garbage in conf", |state| fs::write(state.join("conf"), [7; 900]).unwrap()),
        ("a garbage snapshot of sled", |state| fs::write(state.join("snap.00000000000FFFFF"), [9; 3_000]).unwrap()),
        ("a garbage db", |state| fs::write(state.join("db"), vec![0xa5; 700_000]).unwrap()),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        damage(&dir.path().join("state"));
        refused_or_sound(dir.path(), what);
    }
}

#[test]
fn a_directory_of_garbage_is_refused_or_empty() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir_all(state.join("blobs")).unwrap();
    for name in ["db", "conf", "snap.0000000000000001", "blobs/7"] {
        fs::write(state.join(name), b"this is no database at all, but it is long enough to look like one".repeat(99))
            .unwrap();
    }
    assert!(refused_or_sound(dir.path(), "garbage"));
    let rebuilt = Projection::rebuild(&options(dir.path()), "a test").unwrap();
    assert_eq!((rebuilt.applied, rebuilt.state_hash), (Applied::default(), StateHash::default()));
    let OpenOutcome::Rebuilt { moved_to: Some(moved_to), snapshot: None, refused } = rebuilt.outcome else {
        panic!("{:?}", rebuilt.outcome)
    };
    assert!(refused.is_empty());
    assert!(moved_to.join("conf").exists(), "the damaged state is kept for study");
    drop(rebuilt.projection);
    Projection::rebuild(&options(dir.path()), "again").unwrap();
    assert!(!moved_to.exists(), "but only the latest");
}

#[test]
fn an_unfinished_snapshot_of_sled_does_not_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let hash = sound(dir.path());
    let left = dir.path().join("state/snap.00000000000ABCDE.generating");
    fs::write(&left, b"half").unwrap();
    let opened = Projection::open(&options(dir.path())).unwrap();
    assert_eq!((opened.applied, opened.state_hash, opened.outcome), (at(400), hash, OpenOutcome::Opened));
    assert!(!left.exists());
}

#[test]
fn a_changed_row_is_found_after_a_restart_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let hash = sound(dir.path());
    let opened = open_checked(dir.path()).unwrap();
    assert_eq!((opened.state_hash, opened.outcome), (hash, OpenOutcome::Checked));
    drop(opened.projection);
    {
        let store = sled_store::SledStore::open(&dir.path().join("state")).unwrap();
        let key = Key::ChannelHead(ChannelId(1)).encode().to_vec();
        let row = [&[0], head(999).encode().as_slice()].concat();
        store::Store::apply(&store, store::Batch::from([(key, Some(row))])).unwrap();
    }
    let error = Projection::open(&options(dir.path())).err().expect("another boot id again, so it is checked");
    assert_eq!(error.code(), "state_damaged");
    assert!(error.to_string().contains("hash of its rows"), "{error}");
}

/// Replaces the meta row of a sound state.
fn with_meta(change: impl FnOnce(meta::Meta) -> Option<Vec<u8>>) -> ProjectionError {
    let dir = tempfile::tempdir().unwrap();
    sound(dir.path());
    {
        let store = sled_store::SledStore::open(&dir.path().join("state")).unwrap();
        let bytes = store::Store::get(&store, meta::META_KEY).unwrap().unwrap();
        let meta = meta::Meta::from_bytes(&bytes, dir.path(), CLUSTER).unwrap();
        store::Store::apply(&store, store::Batch::from([(meta::META_KEY.to_vec(), change(meta))])).unwrap();
    }
    Projection::open(&options(dir.path())).err().expect("it must be refused")
}

#[test]
fn a_meta_row_that_is_missing_foreign_newer_or_damaged_is_refused_as_such() {
    let missing = with_meta(|_| None);
    assert!(missing.is_rebuildable() && missing.to_string().contains("not the row that says"), "{missing}");

    let newer = with_meta(|meta| Some(meta::Meta { format: 9, ..meta }.to_bytes()));
    assert!(matches!(newer, ProjectionError::FormatTooNew { found: 9, known: 2, .. }), "{newer}");
    assert!(!newer.is_rebuildable(), "what a newer build wrote is never moved aside");

    let foreign = with_meta(|meta| Some(meta::Meta { cluster: vec![1; 16], ..meta }.to_bytes()));
    assert!(matches!(foreign, ProjectionError::WrongCluster { .. }) && !foreign.is_rebuildable(), "{foreign}");

    let flipped = with_meta(|meta| {
        let mut bytes = meta.to_bytes();
        bytes[3] ^= 1;
        Some(bytes)
    });
    assert!(flipped.is_rebuildable() && flipped.to_string().contains("checksum"), "{flipped}");

    let short_hash = with_meta(|meta| Some(meta::Meta { state_hash: vec![1; 31], ..meta }.to_bytes()));
    assert!(short_hash.is_rebuildable() && short_hash.to_string().contains("32 bytes"), "{short_hash}");
}

/// A store that fails when told to.
struct Failing {
    twin: store::MemoryStore,
    broken: Arc<std::sync::atomic::AtomicBool>,
}

impl store::Store for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError> {
        self.twin.get(key)
    }
    fn scan(&self, r: store::ByteRange, d: Direction, limit: usize) -> Result<store::Pairs, ProjectionError> {
        self.twin.scan(r, d, limit)
    }
    fn apply(&self, batch: store::Batch) -> Result<(), ProjectionError> {
        assert!(!self.broken.load(std::sync::atomic::Ordering::Acquire), "the store panics");
        self.twin.apply(batch)
    }
    fn sync(&self) -> Result<(), ProjectionError> {
        Ok(())
    }
    fn bytes_on_disk(&self) -> Result<u64, ProjectionError> {
        self.twin.bytes_on_disk()
    }
    fn distrust(&self, why: &str) {
        self.twin.distrust(why);
    }
}

#[test]
fn a_panic_in_the_store_is_reported_once_and_stops_everything() {
    let dir = tempfile::tempdir().unwrap();
    let reported = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sink = reported.clone();
    let fatal: FatalHook = Arc::new(move |error| sink.lock().push(error.clone()));
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let store = Failing { twin: store::MemoryStore::default(), broken: broken.clone() };
    let options = Options::new(dir.path(), CLUSTER, fatal);
    let projection = Projection::open_on(Box::new(store), &options).unwrap().projection;
    projection.commit(at(1), &send(&projection, 1, 1)).unwrap();
    broken.store(true, std::sync::atomic::Ordering::Release);
    let error = projection.checkpoint().unwrap_err();
    assert!(error.to_string().contains("the store panics"), "{error}");
    assert_eq!(projection.checkpoint().unwrap_err().code(), "state_stopped");
    assert_eq!(projection.commit(at(2), &[]).unwrap_err().code(), "state_stopped");
    assert!(projection.get(&Key::Settings).is_err(), "nothing is read from a failed state");
    assert_eq!(*reported.lock(), [error]);
    assert_eq!(projection.durable_index(), 0);
}
