//! The same log gives the same state, whatever it is applied to: a real log is written by a node on a real store, with
//! checkpoints and restarts at random moments, and replayed into every kind of state there is. Beside it: what holds for
//! every sequence of commands (`properties.rs`), and the bytes of every command (`payloads.rs`).

// Clippy knows tests by their attribute; what they share is test code too.
#![allow(missing_docs, clippy::unwrap_used)]

mod crowd;
mod merge;
mod node;
mod payloads;
mod properties;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crowd::Step;
use holdfast::core::command::StateHashRecord;
use holdfast::core::entry::{Digest, Entry, EntryKind};
use holdfast::core::keys::Key;
use holdfast::core::machine::Machine;
use holdfast::core::rows::Value;
use holdfast::core::view::{Direction, StateHash, View};
use holdfast::limits;
use holdfast::oplog::{LogOptions, LogReader, LogWriter};
use holdfast::projection::memory_view::MemoryView;
use holdfast::projection::snapshot::{SnapshotInfo, write_snapshot};
use holdfast::projection::{Applied, OpenOutcome, Opened, Options, Projection};
use node::{EPOCH, Node};
use prost::Message as _;

const CLUSTER: [u8; 16] = *b"the replay tests";

/// Steps of the long log. Bursts among them make it several thousand entries, and rings of latest sends go round.
const STEPS: usize = 2_500;

/// splitmix64: small, and the same everywhere, so that a failure is found again by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn step(&mut self) -> Step {
        let [what, actor, a, b, c, gap, ..] = self.next().to_le_bytes();
        Step::from([what, actor, a, b, c, gap])
    }
}

fn options(dir: &Path) -> Options {
    Options::new(dir, CLUSTER, Arc::new(|error| panic!("the store failed: {error}")))
}

/// Opens a state that was open a moment ago. sled's own threads may still hold its lock file for a moment after the last
/// handle is gone; between two processes the kernel waits for them.
fn reopen(dir: &Path) -> Opened {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Projection::open(&options(dir)) {
            Ok(opened) => return opened,
            Err(error) => {
                let locked = error.to_string().contains("could not acquire lock");
                assert!(locked && Instant::now() < deadline, "{error}");
                std::thread::yield_now();
            }
        }
    }
}

fn open_log(dir: &Path) -> LogWriter {
    // Small segments: reading crosses from one to the next many times.
    let log = LogOptions { segment_bytes: 16 << 10, ..LogOptions::new(dir.join("log"), CLUSTER) };
    LogWriter::open(log).unwrap().0
}

/// What one entry did, as one digest: outcome, writes, events.
fn digest(applied: &holdfast::core::machine::Applied) -> Digest {
    let told = format!("{:?} {:?} {:?}", applied.outcome, applied.writes, applied.events);
    *blake3::hash(told.as_bytes()).as_bytes()
}

/// A state that entries are applied to, with the machine that does it.
struct Replica {
    projection: Projection,
    machine: Machine,
}

impl Replica {
    fn new(opened: Opened) -> Self {
        Self { projection: opened.projection, machine: Machine::default() }
    }

    fn apply(&mut self, entry: &Entry) -> Digest {
        let applied = self.machine.apply(entry, &self.projection).unwrap();
        self.projection.commit(Applied { index: entry.index, epoch: entry.epoch }, &applied.writes).unwrap();
        if let Some((index, recorded)) = applied.recorded_hash
            && let Some(own) = self.projection.state_hash_at(index)
        {
            assert_eq!(own.to_bytes(), recorded, "the state at {index} is not the recorded one");
        }
        digest(&applied)
    }

    /// Stops and starts again, with a last checkpoint or without; what the state lacks is replayed.
    fn restart(self, dir: &Path, (orderly, log): (bool, &LogReader)) -> Self {
        if orderly {
            self.projection.close().unwrap();
        } else {
            drop(self.projection);
        }
        let opened = reopen(dir);
        assert_eq!(opened.outcome, OpenOutcome::Opened);
        let applied = opened.applied.index;
        let mut again = Self::new(opened);
        for entry in log.read_from(applied + 1).unwrap() {
            again.apply(&entry.unwrap());
        }
        again
    }

    /// The hash that was kept, the hash of what is there, and all of it.
    fn whole(&self) -> (StateHash, Vec<(Key, Value)>) {
        let (applied, kept) = self.projection.state_hash();
        assert_eq!(self.projection.full_state_hash().unwrap(), (applied, kept));
        (kept, all_rows(&self.projection))
    }
}

fn all_rows(view: &dyn View) -> Vec<(Key, Value)> {
    view.scan(Key::FIRST..=Key::LAST, Direction::Up, usize::MAX).unwrap()
}

/// A log, what each of its entries did, and the state that it led to.
struct Written {
    dir: tempfile::TempDir,
    log: LogWriter,
    digests: Vec<Digest>,
    memory: MemoryView,
    whole: (StateHash, Vec<(Key, Value)>),
    snapshots: Vec<PathBuf>,
}

/// The node that writes: entries go to the log first, then into the memory state and the stored one.
struct Writing {
    node: Node,
    log: LogWriter,
    replica: Replica,
    digests: Vec<Digest>,
    random: Random,
}

impl Writing {
    fn commit(&mut self, entries: &[Entry]) {
        self.log.append(entries).unwrap();
        for entry in entries {
            let stored = self.replica.apply(entry);
            self.digests.push(stored);
        }
    }

    /// One entry; the crowd must know its outcome before it goes on.
    fn entry(&mut self, entry: Entry, batch: &mut Vec<Entry>) {
        let index = entry.index;
        self.node.apply(&entry);
        batch.push(entry);
        if index.is_multiple_of(limits::STATE_HASH_EVERY) {
            let hash = self.node.view.state_hash().to_bytes().to_vec().into();
            let record = StateHashRecord { index, hash }.encode_to_vec().into();
            let entry = self.node.entry(EntryKind::StateHash, record);
            self.node.apply(&entry);
            batch.push(entry);
        }
    }
}

fn write(seed: u64) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let replica = Replica::new(Projection::open(&options(dir.path())).unwrap());
    let random = Random(seed);
    let mut writing = Writing { node: Node::default(), log, replica, digests: Vec::new(), random };
    let mut batch = vec![writing.node.entry(EntryKind::EpochStarted, bytes::Bytes::new())];
    writing.node.apply(&batch[0].clone());
    for envelope in writing.node.founding() {
        let envelope = writing.node.by_founder(envelope);
        let entry = writing.node.command(&envelope);
        writing.entry(entry, &mut batch);
    }
    let mut snapshots = Vec::new();
    for at in 0..STEPS {
        let step = writing.random.step();
        for envelope in writing.node.step(step) {
            let entry = writing.node.command(&envelope);
            writing.entry(entry, &mut batch);
        }
        match writing.random.below(40) {
            0..=9 => writing.commit(&std::mem::take(&mut batch)),
            10 => drop(writing.replica.projection.checkpoint().unwrap()),
            11 if at % 4 == 0 => {
                let orderly = writing.random.below(2) == 0;
                let reader = writing.log.reader();
                writing.replica = writing.replica.restart(dir.path(), (orderly, &reader));
            }
            _ => {}
        }
        if at == STEPS / 3 || at == STEPS / 2 {
            snapshots.push(snapshot(&writing, dir.path()));
        }
    }
    writing.commit(&batch);
    let whole = writing.replica.whole();
    Written { dir, log: writing.log, digests: writing.digests, memory: writing.node.view, whole, snapshots }
}

fn snapshot(writing: &Writing, dir: &Path) -> PathBuf {
    let projection = &writing.replica.projection;
    projection.checkpoint().unwrap();
    let hold = projection.hold_checkpoints();
    let chain = writing.log.reader().chain_hash_at(hold.stored().index).unwrap();
    write_snapshot(&hold, &dir.join("snapshots"), SnapshotInfo { site: 0, chain }, |_| {}).unwrap()
}

/// Replays the log from `opened` on, with a checkpoint now and then, and compares every entry's doings and the end.
fn replay(written: &Written, opened: Opened) -> Replica {
    let mut random = Random(written.digests.len() as u64);
    let from = opened.applied.index + 1;
    let mut replica = Replica::new(opened);
    for entry in written.log.reader().read_from(from).unwrap() {
        let entry = entry.unwrap();
        let done = replica.apply(&entry);
        assert_eq!(done, written.digests[entry.index as usize - 1], "entry {} did something else", entry.index);
        if random.below(300) == 0 {
            replica.projection.checkpoint().unwrap();
        }
    }
    assert_eq!(replica.projection.applied(), Applied { index: written.digests.len() as u64, epoch: EPOCH });
    assert_same(&replica.whole(), &written.whole);
    replica
}

fn assert_same(found: &(StateHash, Vec<(Key, Value)>), wanted: &(StateHash, Vec<(Key, Value)>)) {
    let differs = found.1.iter().zip(&wanted.1).find(|(found, wanted)| found != wanted);
    assert!(differs.is_none(), "rows differ: {differs:?}");
    assert_eq!(found.1.len(), wanted.1.len());
    assert_eq!(found.0.to_bytes(), wanted.0.to_bytes());
}

#[test]
fn one_log_gives_one_state() {
    let written = write(20_261_121);
    let entries = written.digests.len();
    assert!(entries > 3_000 && written.log.segments().len() > 3, "{entries} entries are too few to prove much");
    let refused = {
        let mut node = Node::default();
        let reader = written.log.reader();
        let done = reader.read_from(1).unwrap().map(|entry| node.apply(&entry.unwrap()).outcome.is_err());
        done.filter(|refused| *refused).count()
    };
    assert!(refused > entries / 50 && refused < entries * 2 / 3, "{refused} of {entries} refused: too one-sided");

    // The memory state that ran beside it.
    let memory = (written.memory.state_hash(), all_rows(&written.memory));
    assert_same(&memory, &written.whole);

    // An empty store, an empty memory twin of it.
    let empty = tempfile::tempdir().unwrap();
    let stored = replay(&written, Projection::open(&options(empty.path())).unwrap());
    replay(&written, Projection::open_in_memory(&options(empty.path())).unwrap());

    // The stored one once more, after it was closed and opened.
    stored.projection.close().unwrap();
    let opened = reopen(empty.path());
    assert_eq!(opened.applied.index, entries as u64);
    assert_same(&Replica::new(opened).whole(), &written.whole);

    // Snapshots from the middle and the rest of the log.
    for snapshot in &written.snapshots {
        let target = tempfile::tempdir().unwrap();
        let opened = Projection::open_from_snapshot(&options(target.path()), snapshot).unwrap();
        assert!(opened.applied.index > 0 && opened.applied.index < entries as u64);
        replay(&written, opened);
    }
}

/// After a stop, the log is opened anew and the state beside it goes on where it was, or from a snapshot when it is lost.
#[test]
fn a_lost_state_comes_back_from_snapshot_and_log() {
    let written = write(7);
    let Written { dir, log, digests, memory, whole, snapshots } = written;
    drop(log);
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let log = open_log(dir.path());
    assert_eq!(log.last_index(), digests.len() as u64);
    let opened = Projection::rebuild(&options(dir.path()), "the test deleted it").unwrap();
    assert!(matches!(opened.outcome, OpenOutcome::Rebuilt { snapshot: Some(_), .. }));
    replay(&Written { dir, log, digests, memory, whole, snapshots }, opened);
}

/// Two nodes that are given the same commands at the same times write the same log and the same state.
#[test]
fn the_same_commands_write_the_same_log() {
    let (one, other) = (write(99), write(99));
    assert_eq!(one.log.chain_hash(), other.log.chain_hash());
    assert_eq!(one.digests, other.digests);
    assert_same(&one.whole, &other.whole);
}
