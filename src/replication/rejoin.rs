//! What a node does to its own log before it starts, when the last run found that it must: put a diverged tail into
//! quarantine and cut it off, or let a finished bootstrap take the place of the old log. Runs before the node opens, so
//! that nothing reads or writes meanwhile; every step can be repeated after a crash.
//!
//! Must never remove a record that is not durable in quarantine before, and never cut below the fork: the witness elects
//! without seeing logs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quarantine::{self, Tail};
use crate::core::entry::{Entry, Origin};
use crate::core::merge;
use crate::node::{EventSink, Execution, Node, NodeOptions, Published};
use crate::oplog::{self, LogOptions, LogReader, LogWriter};
use crate::ops::durable_file::{create_private_dir, create_private_file, remove_durably, sync_dir, write_private};
use crate::projection::{Options, Projection, snapshot};

/// Why the log could not be brought into order. Nothing is lost: the next start tries again.
#[derive(Debug)]
pub struct RejoinError(String);

impl std::fmt::Display for RejoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the log could not be brought into line with the active node's: {}", self.0)
    }
}

impl std::error::Error for RejoinError {}

fn failed(error: impl std::fmt::Display) -> RejoinError {
    RejoinError(error.to_string())
}

/// The order that a running node leaves for its next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RewindOrder {
    /// The first index that differs from the active's log.
    pub(super) fork: u64,
}

/// What a finished bootstrap leaves for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BootstrapReady {
    /// The snapshot's index.
    pub(super) index: u64,
    /// From which index on the old log differs from the active's, as far as known.
    pub(super) archive_from: Option<u64>,
}

/// Who the node is, and with what the log was written.
#[derive(Clone, Debug)]
pub struct Place {
    /// The data directory.
    pub data: PathBuf,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// Who this node is in the log.
    pub origin: Origin,
    /// Who does the work.
    pub execution: Execution,
}

impl Place {
    fn log_options(&self) -> LogOptions {
        let mut options = LogOptions::new(self.data.join("log"), self.cluster);
        if let Some(bytes) = self.segment_bytes() {
            options.segment_bytes = bytes;
        }
        options
    }

    /// The size of log segments in a simulation; `None` outside of one.
    pub(super) const fn segment_bytes(&self) -> Option<u64> {
        match self.execution {
            Execution::Inline { segment_bytes, .. } => Some(segment_bytes),
            Execution::Threads => None,
        }
    }

    pub(super) fn rewind_order(&self) -> PathBuf {
        self.data.join("pair").join("rewind.json")
    }

    pub(super) fn bootstrap(&self) -> PathBuf {
        self.data.join("bootstrap")
    }

    pub(super) fn bootstrap_ready(&self) -> PathBuf {
        self.bootstrap().join("ready.json")
    }

    fn state_options(&self) -> Options {
        // A failing store shows in the calls themselves; nothing else runs that would have to be stopped.
        Options::new(&self.data, self.cluster, Arc::new(|_| {}))
    }
}

/// Leaves the order to cut the log before `fork`. The process has to start again for it.
pub(super) fn order_rewind(place: &Place, fork: u64) -> std::io::Result<()> {
    write_json(&place.rewind_order(), &RewindOrder { fork })
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(std::io::Error::other)?;
    write_private(path, &bytes)
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, RejoinError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| RejoinError(format!("{}: {e}", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RejoinError(format!("{}: {error}", path.display()))),
    }
}

/// Carries out what the last run left to do. Returns what an operator should know of it.
///
/// # Errors
/// [`RejoinError`]: the node must not start on this log.
pub fn settle(place: &Place) -> Result<Vec<String>, RejoinError> {
    let mut told = Vec::new();
    if let Some(ready) = read_json::<BootstrapReady>(&place.bootstrap_ready())? {
        told.extend(swap_in(place, ready)?);
    }
    if let Some(order) = read_json::<RewindOrder>(&place.rewind_order())? {
        told.extend(rewind(place, order)?);
    }
    Ok(told)
}

/// Puts the tail into quarantine, cuts it off, brings the state to the record before the fork, and works out there what
/// has to be proposed again.
fn rewind(place: &Place, order: RewindOrder) -> Result<Option<String>, RejoinError> {
    let tail = archive(place, order.fork)?;
    if let Some(tail) = &tail {
        oplog::cut_after(&place.log_options(), order.fork - 1).map_err(failed)?;
        tracing::warn!(fork = order.fork, records = tail.records, "the log was cut before the fork");
    }
    state_not_beyond(place, order.fork - 1)?;
    // An earlier try may have cut the log already and not come further.
    for tail in quarantine::without_items(&place.data).map_err(failed)? {
        work_out(place, &tail)?;
    }
    remove_durably(&place.rewind_order()).map_err(failed)?;
    Ok(tail.map(|tail| {
        format!(
            "{} records from index {} on that the active node does not have were moved to {} and are proposed to it again",
            tail.records,
            order.fork,
            tail.dir.display()
        )
    }))
}

/// Writes the records from `fork` on into quarantine. `None` when the log has none (any more).
fn archive(place: &Place, fork: u64) -> Result<Option<Tail>, RejoinError> {
    if !place.data.join("log").is_dir() {
        return Ok(None);
    }
    let (log, _) = LogWriter::open(place.log_options()).map_err(failed)?;
    if log.last_index() < fork {
        return Ok(None);
    }
    let reader = log.reader();
    let fork = fork.max(reader.first_index());
    let tail = quarantine::new_tail(&place.data, (fork, log.position()));
    if tail.archive().exists() {
        return Ok(Some(tail)); // an earlier try came this far
    }
    create_private_dir(&tail.dir).map_err(failed)?;
    write_archive(&reader, fork, &tail.archive())?;
    sync_dir(&place.data.join("quarantine")).map_err(failed)?;
    Ok(Some(tail))
}

fn write_archive(reader: &LogReader, fork: u64, path: &Path) -> Result<(), RejoinError> {
    let temporary = path.with_extension("tmp");
    drop(std::fs::remove_file(&temporary));
    let mut file = std::io::BufWriter::new(create_private_file(&temporary).map_err(failed)?);
    oplog::archive_tail(reader, fork, &mut file).map_err(failed)?;
    file.flush().map_err(failed)?;
    file.into_inner().map_err(failed)?.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    sync_dir(path.parent().unwrap_or(Path::new("."))).map_err(failed)
}

/// Goes back with the state when it has applied more than `last`: to a snapshot before it, or to nothing. What is missing
/// is replayed from the log.
fn state_not_beyond(place: &Place, last: u64) -> Result<(), RejoinError> {
    if matches!(place.execution, Execution::Inline { .. }) {
        return remove_snapshots_beyond(place, last); // the state is kept in memory
    }
    let options = place.state_options();
    let beyond = match Projection::open(&options) {
        Ok(opened) => opened.applied.index > last,
        Err(error) if error.is_rebuildable() => true,
        Err(error) => return Err(failed(error)),
    };
    remove_snapshots_beyond(place, last)?;
    if beyond {
        drop(Projection::rebuild(&options, "records that it has applied were cut off the log").map_err(failed)?);
    }
    Ok(())
}

/// Snapshots of the diverged history would bring it back.
fn remove_snapshots_beyond(place: &Place, last: u64) -> Result<(), RejoinError> {
    for dir in snapshot::list_snapshots(&place.data.join("snapshots")).map_err(failed)? {
        if snapshot::read_manifest(&dir).is_ok_and(|manifest| manifest.index > last) {
            std::fs::remove_dir_all(&dir).map_err(failed)?;
        }
    }
    Ok(())
}

/// Nobody listens while a log is replayed before the start.
struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

/// With the state as it was at the record before the fork: what of the tail has to be proposed again, and how.
fn work_out(place: &Place, tail: &Tail) -> Result<(), RejoinError> {
    let options = NodeOptions {
        data: place.data.clone(),
        cluster: place.cluster,
        origin: place.origin,
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(NoSink),
        execution: place.execution,
        on_fatal: Arc::new(|reason| tracing::error!(reason, "the state failed while the tail was worked out")),
    };
    // Everything in the log is now what the active has as well.
    let (node, _) = Node::start(options).map_err(failed)?;
    let entries = tail.entries().collect::<Result<Vec<Entry>, _>>().map_err(failed)?;
    let plan = merge::salvage(node.projection(), &entries).map_err(failed)?;
    if !plan.dropped.is_empty() {
        tracing::info!(records = plan.dropped.len(), "some records of the tail need not be proposed again");
    }
    node.stop(Duration::ZERO);
    tail.write_items(&plan.items).map_err(failed)
}

/// Lets the finished bootstrap take the place of the log. From the moment that `ready.json` is durable it is decided; a
/// crash on the way is completed by the next start.
fn swap_in(place: &Place, ready: BootstrapReady) -> Result<Option<String>, RejoinError> {
    let (bootstrap, log) = (place.bootstrap(), place.data.join("log"));
    let (new_log, old_log) = (bootstrap.join("log"), bootstrap.join("old-log"));
    let mut tail = None;
    if new_log.is_dir() {
        if let Some(from) = ready.archive_from.filter(|_| log.is_dir()) {
            tail = archive(place, from)?;
        }
        if log.is_dir() {
            drop(std::fs::remove_dir_all(&old_log));
            std::fs::rename(&log, &old_log).map_err(failed)?;
        }
        std::fs::rename(&new_log, &log).map_err(failed)?;
        sync_dir(&bootstrap).map_err(failed)?;
        sync_dir(&place.data).map_err(failed)?;
    }
    install_state(place, ready.index)?;
    remove_durably(&place.rewind_order()).map_err(failed)?;
    for tail in quarantine::without_items(&place.data).map_err(failed)? {
        work_out(place, &tail)?;
    }
    remove_durably(&place.bootstrap_ready()).map_err(failed)?;
    std::fs::remove_dir_all(&bootstrap).map_err(failed)?;
    tracing::info!(index = ready.index, "the bootstrap is complete");
    Ok(tail.map(|tail| format!("{} records of the old log were moved to {}", tail.records, tail.dir.display())))
}

/// Moves the received snapshot to the others and makes the state from it.
fn install_state(place: &Place, index: u64) -> Result<(), RejoinError> {
    let name = format!("{index:020}");
    let (from, snapshots) = (place.bootstrap().join("snapshots").join(&name), place.data.join("snapshots"));
    let to = snapshots.join(&name);
    create_private_dir(&snapshots).map_err(failed)?;
    if from.is_dir() {
        for old in snapshot::list_snapshots(&snapshots).map_err(failed)? {
            std::fs::remove_dir_all(&old).map_err(failed)?;
        }
        std::fs::rename(&from, &to).map_err(failed)?;
        sync_dir(&snapshots).map_err(failed)?;
    }
    if matches!(place.execution, Execution::Inline { .. }) {
        return Ok(()); // made from the snapshot at every start
    }
    let state = place.data.join("state");
    if state.exists() {
        std::fs::remove_dir_all(&state).map_err(failed)?;
    }
    let opened = Projection::open_from_snapshot(&place.state_options(), &to).map_err(failed)?;
    opened.projection.close().map_err(failed)
}
