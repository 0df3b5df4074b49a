//! What every [`Store`] must do: one suite, run on sled and on the memory twin.

use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::core::view::Direction;
use crate::projection::sled_store::SledStore;
use crate::projection::store::{Batch, MemoryStore, Store};

fn put(store: &dyn Store, pairs: &[(&str, &str)]) {
    let batch: Batch =
        pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))).collect();
    store.apply(batch).unwrap();
}

fn keys(
    store: &dyn Store,
    range: crate::projection::store::ByteRange,
    direction: Direction,
    limit: usize,
) -> Vec<String> {
    let pairs = store.scan(range, direction, limit).unwrap();
    pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

fn conforms(store: &dyn Store) {
    let bytes = |text: &str| text.as_bytes().to_vec();
    assert_eq!(store.get(b"a").unwrap(), None);
    assert!(keys(store, (Unbounded, Unbounded), Direction::Up, 9).is_empty());

    put(store, &[("a", "1"), ("b", "2"), ("ba", "3"), ("c", "4")]);
    assert_eq!(store.get(b"ba").unwrap(), Some(bytes("3")));
    assert_eq!(keys(store, (Unbounded, Unbounded), Direction::Up, 9), ["a", "b", "ba", "c"]);
    assert_eq!(keys(store, (Unbounded, Unbounded), Direction::Down, 2), ["c", "ba"]);
    assert_eq!(keys(store, (Included(bytes("b")), Included(bytes("c"))), Direction::Up, 2), ["b", "ba"]);
    assert_eq!(keys(store, (Excluded(bytes("b")), Excluded(bytes("c"))), Direction::Down, 9), ["ba"]);
    assert!(keys(store, (Included(bytes("c")), Included(bytes("a"))), Direction::Up, 9).is_empty(), "reversed");
    assert!(keys(store, (Excluded(bytes("a")), Excluded(bytes("a"))), Direction::Up, 9).is_empty(), "empty");

    let batch = Batch::from([(bytes("a"), None), (bytes("b"), Some(bytes("5"))), (bytes("z"), None)]);
    store.apply(batch).unwrap();
    assert_eq!(store.get(b"a").unwrap(), None, "removed");
    assert_eq!(store.get(b"b").unwrap(), Some(bytes("5")), "replaced");
    assert_eq!(keys(store, (Unbounded, Unbounded), Direction::Up, 9), ["b", "ba", "c"]);
    store.sync().unwrap();
    assert!(store.bytes_on_disk().unwrap() > 0);
}

/// Readers on other threads see a batch as a whole.
fn batches_are_atomic_for_single_reads(store: &dyn Store) {
    const ROUNDS: u64 = 200;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while last < ROUNDS {
                let value = store.get(b"counter").unwrap().map_or(0, |value| value.len() as u64);
                assert!(value >= last, "a later read never sees an earlier batch");
                last = value;
            }
        });
        for round in 1..=ROUNDS as usize {
            let batch =
                Batch::from([(b"counter".to_vec(), Some(vec![0; round])), (b"other".to_vec(), Some(vec![1; round]))]);
            store.apply(batch).unwrap();
        }
        reader.join().unwrap();
    });
    assert_eq!(store.get(b"other").unwrap().unwrap().len() as u64, ROUNDS);
}

#[test]
fn the_memory_twin_conforms() {
    let store = MemoryStore::default();
    conforms(&store);
    batches_are_atomic_for_single_reads(&store);
}

#[test]
fn sled_conforms_and_keeps_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = SledStore::open(dir.path()).unwrap();
        conforms(&store);
        batches_are_atomic_for_single_reads(&store);
    }
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(keys(&store, (Unbounded, Unbounded), Direction::Up, 9), ["b", "ba", "c", "counter", "other"]);
}
