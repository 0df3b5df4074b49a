//! One writer, several readers and a checkpoint thread that never rests: no read may see a stale, missing or torn state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::core::rows::Message;
use crate::core::view::{Direction, ViewExt};

const CHANNELS: u64 = 4;
const ENTRIES: u64 = 6_000;

/// Readers check, for every channel: once the head says `n`, messages `1..=n` are there and each is its own; the newest
/// message has been edited as often as the head says or more; a page is contiguous.
fn check(projection: &Projection, committed: &AtomicU64, channel: u64) {
    let floor = committed.load(Ordering::Acquire) / CHANNELS;
    let head = projection.row::<crate::core::rows::ChannelHead>(Key::ChannelHead(ChannelId(channel))).unwrap();
    let last = head.map_or(0, |head| head.last_seq);
    assert!(last >= floor.saturating_sub(1), "a committed head is seen: {last} after {floor}");
    if last == 0 {
        return;
    }
    let key = |seq| Key::Message(ChannelId(channel), seq);
    let page = projection
        .rows::<Message>(key(last.saturating_sub(49).max(1))..=key(u64::MAX), Direction::Down, 1_000)
        .unwrap();
    assert!(page.first().is_some_and(|row| row.0 >= key(last)), "the newest message is seen");
    for pair in page.windows(2) {
        assert_eq!(pair[0].1.id, pair[1].1.id + 1, "no message is missing");
    }
    let exact = projection.rows::<Message>(key(1)..=key(last), Direction::Up, 40).unwrap();
    assert_eq!(exact.len() as u64, last.min(40));
    // Both rows are written by the same entries, so one scan must see them equal.
    let pair = [Key::ChannelHead(ChannelId(1_000)), Key::ChannelHead(ChannelId(1_001))];
    let pair = projection.rows::<crate::core::rows::ChannelHead>(pair[0]..=pair[1], Direction::Up, 9).unwrap();
    assert!(pair.windows(2).all(|two| two[0].1 == two[1].1), "a scan never mixes two states: {pair:?}");
    let middle = last / 2 + 1;
    let row = projection.row::<Message>(key(middle)).unwrap().expect("a committed message is seen");
    assert_eq!(row.id, middle);
}

fn race(projection: &Projection) {
    let committed = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (projection, committed, done) = (projection.clone(), &committed, &done);
            scope.spawn(move || {
                let mut channel = reader;
                while !done.load(Ordering::Acquire) {
                    channel = (channel + 1) % CHANNELS;
                    check(&projection, committed, channel + 1);
                }
            });
        }
        let (mine, stop) = (projection.clone(), &done);
        scope.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                mine.checkpoint().unwrap();
            }
        });
        // The readers end even when an assertion below fails.
        struct Finish<'a>(&'a AtomicBool);
        impl Drop for Finish<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _finish = Finish(&done);
        for index in 1..=ENTRIES {
            let (channel, seq) = ((index - 1) % CHANNELS + 1, (index - 1) / CHANNELS + 1);
            let mut writes = send(projection, channel, seq);
            writes.push(put(projection, Key::ChannelHead(ChannelId(1_000)), head(index)));
            writes.push(put(projection, Key::ChannelHead(ChannelId(1_001)), head(index)));
            projection.commit(at(index), &writes).unwrap();
            committed.store(index, Ordering::Release);
        }
    });
    projection.checkpoint().unwrap();
    assert_eq!(projection.full_state_hash().unwrap(), projection.state_hash());
}

#[test]
fn readers_never_see_a_stale_missing_or_torn_state_on_the_memory_twin() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.sizes.cache_bytes = 200_000; // small enough to evict all the time
    race(&Projection::open_in_memory(&options).unwrap().projection);
}

#[test]
fn readers_never_see_a_stale_missing_or_torn_state_on_sled() {
    let dir = tempfile::tempdir().unwrap();
    race(&open(dir.path()));
}

#[test]
fn the_thread_checkpoints_by_itself_when_the_overlay_is_large_and_commits_wait_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.sizes.overlay_bytes = 20_000;
    options.sizes.overlay_bytes_max = 60_000;
    let projection = Projection::open(&options).unwrap().projection;
    for index in 1..=2_000 {
        projection.commit(at(index), &send(&projection, 1, index)).unwrap();
        assert!(projection.shared.layers.read().overlay.bytes < 70_000, "the overlay is bounded");
    }
    assert!(projection.durable_index() > 1_000);
    assert!(projection.stats().unwrap().last_checkpoint.rows > 0);
    projection.close().unwrap();
    assert_eq!(Projection::open(&options).unwrap().applied, at(2_000));
}

#[test]
fn a_hold_keeps_the_store_at_one_entry_and_closing_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let projection = open(dir.path());
    projection.commit(at(1), &send(&projection, 1, 1)).unwrap();
    projection.checkpoint().unwrap();
    let hold = projection.hold_checkpoints();
    assert_eq!(hold.stored(), at(1));
    let waiting = std::thread::spawn({
        let projection = projection.clone();
        move || projection.checkpoint().unwrap().applied
    });
    projection.commit(at(2), &send(&projection, 1, 2)).unwrap();
    assert_eq!((hold.stored(), projection.durable_index()), (at(1), 1), "nothing is written while it is held");
    drop(hold);
    assert_eq!(waiting.join().unwrap(), at(2));
}
