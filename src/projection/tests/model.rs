//! Random histories on sled, on the memory twin and on a plain map: every read must agree, whatever was checkpointed,
//! held or reopened in between.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::*;
use crate::core::view::{Direction, StateHash};
use crate::projection::memory_view::MemoryView;

#[derive(Clone, Debug)]
enum Step {
    /// One entry: keys and how long their new rows are; `None` removes.
    Commit(Vec<(Key, Option<usize>)>),
    Checkpoint,
    Reopen,
    Scan(Key, Key, bool, usize),
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => (1..3u64, prop_oneof![1..140u64, Just(u64::MAX)]).prop_map(|(c, seq)| Key::Message(ChannelId(c), seq)),
        3 => (1..3u64, 0..70u16).prop_map(|(user, slot)| Key::Sent(UserId(user), slot)),
        2 => (1..6u64).prop_map(|c| Key::ChannelHead(ChannelId(c))),
        2 => (1..6u64).prop_map(Key::Audit),
    ]
}

fn any_value(key: &Key, size: usize, salt: u64) -> Value {
    // Text that does not compress, so that blocks and audit rows really split into parts.
    let text: String =
        (0..size as u64).map(|i| char::from(b'!' + ((i * i * 31 + salt * 17 + i / 3) % 90) as u8)).collect();
    match key {
        Key::Message(_, seq) => message(seq ^ salt, &text),
        Key::Sent(..) => sent(salt),
        Key::ChannelHead(_) => head(salt),
        _ => audit(&text),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0..60usize, 1 => 600..900usize, 1 => Just(9_000usize)];
    let change = (key(), prop::option::weighted(0.8, size));
    prop_oneof![
        8 => prop::collection::vec(change, 1..25).prop_map(Step::Commit),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        6 => (key(), key(), any::<bool>(), prop_oneof![1..8usize, Just(50), Just(1_000)])
            .prop_map(|(a, b, up, limit)| Step::Scan(a.min(b), a.max(b), up, limit)),
        1 => (any::<bool>(), 1..400usize).prop_map(|(up, limit)| Step::Scan(Key::FIRST, Key::LAST, up, limit)),
    ]
}

fn writes(model: &MemoryView, changes: &[(Key, Option<usize>)], salt: u64) -> Vec<Write> {
    let changes: std::collections::BTreeMap<_, _> = changes.iter().copied().collect();
    let write = |(key, size): (&Key, &Option<usize>)| Write {
        key: *key,
        before: model.get(key).unwrap(),
        after: size.map(|size| any_value(key, size, salt)),
    };
    changes.iter().map(write).filter(|write| write.before.is_some() || write.after.is_some()).collect()
}

fn same_scan(views: &[&Projection], model: &MemoryView, query: (RangeInclusive<Key>, Direction, usize)) {
    let (range, direction, limit) = query;
    let expected = model.scan(range.clone(), direction, limit).unwrap();
    for view in views {
        assert_eq!(view.scan(range.clone(), direction, limit).unwrap(), expected, "{range:?} {direction:?} {limit}");
    }
}

fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut sled = open(dir.path());
    let memory = Projection::open_in_memory(&options(dir.path())).unwrap().projection;
    let mut model = MemoryView::new();
    let mut durable = (0, model.clone());
    let mut index = 0;
    for step in steps {
        match step {
            Step::Commit(changes) => {
                index += 1;
                let writes = writes(&model, &changes, index);
                model.commit(&writes);
                for projection in [&sled, &memory] {
                    projection.commit(at(index), &writes).unwrap();
                }
                for (key, _) in &changes {
                    assert_eq!(sled.get(key).unwrap(), model.get(key).unwrap());
                    assert_eq!(memory.get(key).unwrap(), model.get(key).unwrap());
                }
            }
            Step::Checkpoint => {
                for projection in [&sled, &memory] {
                    projection.checkpoint().unwrap();
                    assert_eq!(projection.durable_index(), index);
                }
                durable = (index, model.clone());
            }
            Step::Reopen => {
                drop(sled);
                let opened = Projection::open(&options(dir.path())).unwrap();
                assert_eq!((opened.applied.index, opened.state_hash), (durable.0, durable.1.state_hash()));
                sled = opened.projection;
                // Replay what the crash lost, as one entry: the caller's log would.
                if index > durable.0 {
                    sled.commit(at(index), &difference(&durable.1, &model)).unwrap();
                }
            }
            Step::Scan(first, last, up, limit) => {
                let direction = if up { Direction::Up } else { Direction::Down };
                same_scan(&[&sled, &memory], &model, (first..=last, direction, limit));
            }
        }
        for projection in [&sled, &memory] {
            assert_eq!(
                projection.state_hash(),
                (if index == 0 { Applied::default() } else { at(index) }, model.state_hash())
            );
        }
    }
    for projection in [&sled, &memory] {
        assert_eq!(projection.full_state_hash().unwrap().1, model.state_hash());
    }
    same_scan(&[&sled, &memory], &model, (Key::FIRST..=Key::LAST, Direction::Up, usize::MAX));
    same_scan(&[&sled, &memory], &model, (Key::FIRST..=Key::LAST, Direction::Down, usize::MAX));
}

/// The writes that lead from one state to another.
fn difference(from: &MemoryView, to: &MemoryView) -> Vec<Write> {
    let keys: std::collections::BTreeSet<_> = from.iter().chain(to.iter()).map(|row| *row.0).collect();
    let write = |key: Key| Write { key, before: from.get(&key).unwrap(), after: to.get(&key).unwrap() };
    keys.into_iter().map(write).filter(|write| write.before != write.after).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn both_stores_agree_with_a_plain_map(steps in prop::collection::vec(step(), 1..40)) {
        run(steps);
    }
}

#[test]
fn reads_agree_while_an_overlay_is_frozen_above_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let projection = Projection::open_in_memory(&options(dir.path())).unwrap().projection;
    let mut model = MemoryView::new();
    let all = |projection: &Projection, model: &MemoryView| {
        for limit in [1, 7, 1_000] {
            same_scan(&[projection], model, (Key::FIRST..=Key::LAST, Direction::Up, limit));
            same_scan(&[projection], model, (Key::FIRST..=Key::LAST, Direction::Down, limit));
        }
    };
    let step = |index: u64, changes: &[(Key, Option<usize>)], model: &mut MemoryView| {
        let writes = writes(model, changes, index);
        model.commit(&writes);
        projection.commit(at(index), &writes).unwrap();
    };
    let keys: Vec<_> = (1..100).map(|seq| Key::Message(ChannelId(1), seq)).collect();
    step(1, &keys.iter().map(|key| (*key, Some(40))).collect::<Vec<_>>(), &mut model);
    projection.checkpoint().unwrap();
    step(2, &keys.iter().step_by(3).map(|key| (*key, None)).collect::<Vec<_>>(), &mut model);
    // Freeze by hand, and leave it there: what a reader sees in the middle of a checkpoint.
    let frozen = {
        let mut layers = projection.shared.layers.write();
        let (applied, hash) = (layers.overlay.applied, layers.overlay.hash);
        Arc::new(std::mem::replace(&mut layers.overlay, overlay::Overlay::on(applied, hash)))
    };
    projection.shared.layers.write().frozen = Some(frozen);
    all(&projection, &model);
    step(3, &keys.iter().step_by(6).map(|key| (*key, Some(41))).collect::<Vec<_>>(), &mut model);
    step(4, &keys.iter().skip(1).step_by(3).map(|key| (*key, None)).collect::<Vec<_>>(), &mut model);
    all(&projection, &model);
    for key in &keys {
        assert_eq!(projection.get(key).unwrap(), model.get(key).unwrap());
    }
    assert_eq!(projection.state_hash().1, model.state_hash());
}

#[test]
fn the_state_hash_does_not_depend_on_when_checkpoints_happened() {
    let dir = tempfile::tempdir().unwrap();
    let often = open(&dir.path().join("often"));
    let never = open(&dir.path().join("never"));
    for index in 1..=2_100u64 {
        let writes = send(&never, index % 5 + 1, index / 5 + 1);
        often.commit(at(index), &writes).unwrap();
        never.commit(at(index), &writes).unwrap();
        if index % 300 == 0 {
            often.checkpoint().unwrap();
        }
    }
    assert_eq!(often.state_hash(), never.state_hash());
    for index in [1_024, 2_048] {
        assert!(often.state_hash_at(index).is_some());
        assert_eq!(often.state_hash_at(index), never.state_hash_at(index));
    }
    assert_eq!(often.state_hash_at(1_023), None);
    assert_ne!(often.state_hash().1, StateHash::default());
    assert_eq!(often.full_state_hash().unwrap(), often.state_hash());
}
