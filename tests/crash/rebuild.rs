//! The same log on an empty state gives the same state: rebuilt here through the library, and compared row by row with
//! what the server itself had on its disk.

use std::path::Path;
use std::sync::Arc;

use holdfast::core::machine::Machine;
use holdfast::oplog::{LogOptions, LogWriter};
use holdfast::ops::datadir;
use holdfast::projection::snapshot::{Manifest, SnapshotInfo, read_manifest, write_snapshot};
use holdfast::projection::{Applied, OpenOutcome, Options, Projection};

fn options(data: &Path, cluster: [u8; 16]) -> Options {
    Options::new(data, cluster, Arc::new(|error| panic!("the state failed: {error}")))
}

/// The rows of a state, as digests of their encoded bytes; no state in them that is not in the log.
fn rows(projection: &Projection, dir: &Path) -> Manifest {
    projection.checkpoint().expect("the state is written");
    let hold = projection.hold_checkpoints();
    let path = write_snapshot(&hold, dir, SnapshotInfo { site: 0, chain: [0; 32] }, |_| ()).expect("a snapshot");
    read_manifest(&path).expect("its manifest")
}

/// Replays the log from its first entry on an empty state.
fn replay(log: &LogWriter, projection: &Projection) {
    let mut machine = Machine::default();
    for entry in log.reader().read_from(1).expect("the log has its first entry") {
        let entry = entry.expect("the log is whole");
        let applied = machine.apply(&entry, projection).expect("each entry applies");
        let at = Applied { index: entry.index, epoch: entry.epoch };
        projection.commit(at, &applied.writes).expect("each entry is committed");
        if let Some((index, recorded)) = applied.recorded_hash {
            let own = projection.state_hash_at(index).expect("the hash of a late index is remembered");
            assert_eq!(own.to_bytes(), recorded, "the recorded state hash at {index}");
        }
    }
}

/// Compares the state that a stopped server left in `data` with two rebuilt ones: in memory, and in a new store.
pub(crate) fn compare(data: &Path) {
    let cluster = datadir::read_identity(data).expect("node.toml").cluster_id_bytes().expect("a cluster id");
    let (log, recovery) = LogWriter::open(LogOptions::new(data.join("log"), cluster)).expect("the log opens");
    assert_eq!(recovery.cut_tail, None, "a server that was stopped leaves no torn tail");
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let opened = Projection::open(&options(data, cluster)).expect("the server's state opens");
    assert_eq!(opened.outcome, OpenOutcome::Opened);
    assert_eq!(opened.applied.index, log.last_index(), "a server that was stopped leaves nothing to replay");
    let kept = opened.projection.state_hash();
    assert_eq!(opened.projection.full_state_hash().expect("each row is read"), kept);
    let kept_rows = rows(&opened.projection, &scratch.path().join("kept"));

    let memory = Projection::open_in_memory(&options(&scratch.path().join("memory"), cluster)).expect("memory");
    let fresh = Projection::open(&options(&scratch.path().join("fresh"), cluster)).expect("a new state");
    assert_eq!(fresh.outcome, OpenOutcome::Created);
    for (name, rebuilt) in [("memory", memory.projection), ("fresh", fresh.projection)] {
        replay(&log, &rebuilt);
        assert_eq!(rebuilt.state_hash(), kept, "the state hash of the rebuilt state ({name})");
        assert_eq!(rebuilt.full_state_hash().expect("each row is read"), kept, "the same, all rows read ({name})");
        let rebuilt_rows = rows(&rebuilt, &scratch.path().join(format!("rows-{name}")));
        assert_eq!(rebuilt_rows.counts, kept_rows.counts, "how many rows of each kind ({name})");
        assert_eq!(rebuilt_rows.chunks, kept_rows.chunks, "the bytes of all rows ({name})");
    }
}
