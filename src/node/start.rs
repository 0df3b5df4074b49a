//! Starting a node: open the log, open the state or rebuild it, replay what the state lacks, then take writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::apply::{Applier, ApplyThread};
use super::fence::Fence;
use super::gate::Gate;
use super::queue::{Queue, Work};
use super::writer::LogThread;
use super::{EventSink, Node, NodeEvents, Role, Shared};
use crate::core::entry::{Entry, Origin};
use crate::core::machine::Machine;
use crate::limits;
use crate::oplog::{EntryIter, LogError, LogOptions, LogWriter, RecoveryReport};
use crate::projection::{OpenOutcome, Opened, Options, Projection, ProjectionError};

/// What a node is started with.
pub struct NodeOptions {
    /// The data directory; it exists.
    pub data: PathBuf,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// Who this node is in the log.
    pub origin: Origin,
    /// There is no other data node: everything in the log is committed.
    pub alone: bool,
    /// Who is told what becomes of the log.
    pub events: Arc<dyn NodeEvents>,
    /// Where events go.
    pub sink: Arc<dyn EventSink>,
    /// Who does the work.
    pub execution: Execution,
    /// Stops the process; called once, with the reason.
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Who does the work of the log thread and the apply thread, and what time it is.
#[derive(Clone, Copy, Debug)]
pub enum Execution {
    /// Threads of their own.
    Threads,
    /// Whoever calls the node, before the call returns; the state is kept in memory and log segments are of this size.
    /// For simulations, in which everything has to happen in one order.
    Inline {
        /// Bytes of a log segment.
        segment_bytes: u64,
        /// The node's wall clock, Unix milliseconds.
        now_ms: fn() -> u64,
    },
}

impl Execution {
    /// The wall clock, Unix milliseconds.
    pub(crate) fn now_ms(self) -> u64 {
        match self {
            Self::Threads => super::now_ms(),
            Self::Inline { now_ms, .. } => now_ms(),
        }
    }
}

/// What starting found and did.
#[derive(Debug)]
pub struct StartReport {
    /// What opening the log found.
    pub log: RecoveryReport,
    /// How the state came to be open.
    pub state: OpenOutcome,
    /// The log's last index and the state's, when the state was ahead: the records between are lost from the log.
    pub lost: Option<(u64, u64)>,
    /// Entries replayed from the log.
    pub replayed: u64,
    /// How long all of it took.
    pub took: Duration,
}

/// Why a node does not start. Nothing was changed beyond what recovery does.
#[derive(Debug)]
pub enum StartError {
    /// The log cannot be opened or read.
    Log(LogError),
    /// The state can be neither opened nor rebuilt.
    State(ProjectionError),
    /// The state needs entries that the log no longer has, and no snapshot helps.
    Trimmed {
        /// The first entry needed.
        needed: u64,
        /// The first entry there is.
        first: u64,
    },
    /// An entry cannot be applied.
    Replay(String),
    /// The system refused a thread.
    Thread(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::State(error) => error.fmt(f),
            Self::Trimmed { needed, first } => write!(
                f,
                "the state must be rebuilt from log index {needed}, but the log begins at {first} and no snapshot is \
                 good; restore from a backup"
            ),
            Self::Replay(reason) => f.write_str(reason),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<LogError> for StartError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// How often a long replay says how far it is.
const REPLAY_REPORT_EVERY: Duration = Duration::from_secs(5);

impl Node {
    /// Starts a node as a standby that follows nobody: see [`Node::activate`], [`Node::follow`]. Blocks until the state is
    /// up to date with what is known to be committed: the whole log of a node alone; of others the state they had.
    ///
    /// # Errors
    /// [`StartError`], with what to do about it.
    pub fn start(options: NodeOptions) -> Result<(Self, StartReport), StartError> {
        let started = Instant::now();
        let mut log_options = LogOptions::new(options.data.join("log"), options.cluster);
        if let Execution::Inline { segment_bytes, .. } = options.execution {
            log_options.segment_bytes = segment_bytes;
        }
        let (log, recovery) = LogWriter::open(log_options)?;
        if let Some(cut) = &recovery.cut_tail {
            tracing::warn!(
                segment = %cut.path.display(), offset = cut.offset, bytes = cut.bytes, what = cut.what,
                "a torn tail was cut off the log: a write that was never acknowledged"
            );
        }
        let (opened, lost) = open_state(&options, &log)?;
        options.sink.start_from(opened.applied.index);
        let (applied, last) = (opened.applied.index, log.last_index());
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            fence: Fence::default(),
            gate: Gate::default(),
            projection: opened.projection,
            reader: log.reader(),
            role: RwLock::new(Role::Standby),
            role_changed: tokio::sync::watch::Sender::new(Role::Standby),
            epoch: AtomicU64::new(0),
            applied: AtomicU64::new(applied),
            accepting: AtomicBool::new(true),
            isolated: AtomicBool::new(false),
            level: AtomicU32::new(crate::core::command::LEVEL),
            mismatches: AtomicU64::new(0),
            alone: AtomicBool::new(options.alone),
            taking: AtomicBool::new(false),
            on_fatal: options.on_fatal.clone(),
            execution: options.execution,
        });
        shared.fence.lock().alone = options.alone;
        let mut applier = Applier { shared: shared.clone(), machine: Machine::default(), sink: options.sink.clone() };
        let replayed = if options.alone { replay(&mut applier, (applied, last))? } else { 0 };
        let known = if options.alone { last } else { applied };
        shared.gate.commit(known);
        let backlog = (known < last).then_some((known + 1, last));
        let node = Self::with_work(shared, log, (applier, backlog), &options)?;
        let report = StartReport { log: recovery, state: opened.outcome, lost, replayed, took: started.elapsed() };
        Ok((node, report))
    }

    /// Gives the work of the two threads to threads, or to the node itself.
    fn with_work(
        shared: Arc<Shared>,
        log: LogWriter,
        (applier, backlog): (Applier, Option<(u64, u64)>),
        options: &NodeOptions,
    ) -> Result<Self, StartError> {
        let (batches, received) = sync_channel(limits::BATCHES_WAITING_FOLLOWING_MAX);
        let log_thread = LogThread {
            shared: shared.clone(),
            log,
            origin: options.origin,
            events: options.events.clone(),
            batches,
            kept: Work::default(),
        };
        let apply_thread = ApplyThread { applier, batches: received, backlog, kept: None };
        if matches!(options.execution, Execution::Inline { .. }) {
            let inline = Inline { work: Mutex::new((log_thread, apply_thread)), again: AtomicBool::new(false) };
            return Ok(Self { shared, threads: Arc::default(), inline: Some(Arc::new(inline)) });
        }
        let threads: [JoinHandle<()>; 2] =
            [spawn("log", &shared, move || log_thread.run())?, spawn("apply", &shared, move || apply_thread.run())?];
        Ok(Self { shared, threads: Arc::new(Mutex::new(threads.into())), inline: None })
    }
}

/// The work of the two threads, done by whoever calls the node.
pub(super) struct Inline {
    work: Mutex<(LogThread, ApplyThread)>,
    /// Something was added while the work was on its way.
    again: AtomicBool,
}

impl Inline {
    /// Does everything that can be done now. A call from within returns at once: the outer one goes on.
    pub(super) fn pump(&self, shared: &Shared) {
        self.again.store(true, Ordering::Relaxed);
        let Some(mut work) = self.work.try_lock() else { return };
        while self.again.swap(false, Ordering::Relaxed) {
            let logged = work.0.turn();
            match work.1.turn() {
                Ok(applied) => self.again.fetch_or(logged || applied, Ordering::Relaxed),
                Err(reason) => {
                    shared.fatal(&reason);
                    return;
                }
            };
        }
    }
}

/// A thread whose panic stops the process: half a write path must not go on.
fn spawn(name: &str, shared: &Arc<Shared>, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let (shared, label) = (shared.clone(), name.to_owned());
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            shared.fatal(&format!("the {label} thread panicked"));
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(guarded).map_err(StartError::Thread)
}

/// Opens the state; rebuilds it when it is damaged or is ahead of the log. Only what is durable in the log is ever
/// applied, so a state that is ahead proves that the disk lost records: that is told, never passed over.
fn open_state(options: &NodeOptions, log: &LogWriter) -> Result<(Opened, Option<(u64, u64)>), StartError> {
    let on_fatal = options.on_fatal.clone();
    let fatal = Arc::new(move |error: &ProjectionError| on_fatal(&error.to_string()));
    let state = Options::new(&options.data, options.cluster, fatal);
    let (last, first) = (log.last_index(), log.reader().first_index());
    let mut lost = None;
    let open = if matches!(options.execution, Execution::Inline { .. }) {
        Projection::open_in_memory_from_snapshots
    } else {
        Projection::open
    };
    let opened = match open(&state) {
        Ok(opened) if opened.applied.index > last => {
            lost = Some((last, opened.applied.index));
            tracing::error!(
                log_ends_at = last,
                state_was_at = opened.applied.index,
                "the log has lost records that were acknowledged: the disk damaged its end; check the disk, and restore \
                 from a backup if these messages matter"
            );
            let reason = format!("the state is at index {}, beyond the log's end {last}", opened.applied.index);
            drop(opened);
            Projection::rebuild(&state, &reason).map_err(StartError::State)?
        }
        // Somebody deleted the state, which is always safe: the log may have been trimmed below a snapshot.
        Ok(opened) if last > 0 && opened.applied.index + 1 < first => {
            let reason = format!("the state is at index {}, the log begins at {first}", opened.applied.index);
            drop(opened);
            Projection::rebuild(&state, &reason).map_err(StartError::State)?
        }
        Ok(opened) => opened,
        Err(damage) if damage.is_rebuildable() => {
            Projection::rebuild(&state, &damage.to_string()).map_err(StartError::State)?
        }
        Err(error) => return Err(StartError::State(error)),
    };
    let needed = opened.applied.index + 1;
    if last > 0 && needed < first {
        return Err(StartError::Trimmed { needed, first });
    }
    if opened.applied.index > last {
        return Err(StartError::Replay(format!(
            "every snapshot is beyond the log's end {last}: the log has lost records; restore from a backup"
        )));
    }
    Ok((opened, lost))
}

/// Applies the entries after `range.0` up to `range.1`; returns how many. Reading, which verifies every record, has a
/// thread of its own: the two halves cost about the same, and a start should not take longer than it must.
fn replay(applier: &mut Applier, range: (u64, u64)) -> Result<u64, StartError> {
    let (applied, last) = range;
    if applied >= last {
        return Ok(0);
    }
    let entries = applier.shared.reader.clone().read_from(applied + 1)?;
    let (chunks, received) = sync_channel(limits::REPLAY_CHUNKS_WAITING_MAX);
    let reader = std::thread::Builder::new()
        .name("replay-read".to_owned())
        .spawn(move || read_ahead(entries, &chunks))
        .map_err(StartError::Thread)?;
    let mut said = Instant::now();
    let mut wakes = Vec::new();
    let mut events = Vec::new();
    let mut count = 0;
    for chunk in received {
        for entry in chunk? {
            applier.apply(&entry, &mut events).map_err(StartError::Replay)?;
            count += 1;
        }
        let index = applied + count;
        applier.sink.publish(&events, index, &mut wakes);
        events.clear();
        if said.elapsed() >= REPLAY_REPORT_EVERY {
            tracing::info!(index, of = last, "replaying the log");
            said = Instant::now();
        }
    }
    if reader.join().is_err() {
        return Err(StartError::Replay("the thread that reads the log panicked".to_owned()));
    }
    applier.sink.publish(&events, last, &mut wakes);
    Ok(count)
}

/// Hands the entries on in chunks, until the end, the first error, or until nobody wants more.
fn read_ahead(entries: EntryIter, chunks: &SyncSender<Result<Vec<Entry>, LogError>>) {
    let mut chunk = Vec::with_capacity(limits::REPLAY_CHUNK_ENTRIES);
    for entry in entries {
        match entry {
            Ok(entry) => chunk.push(entry),
            Err(error) => {
                // What is good before the damage is applied first, then the damage is told.
                if chunks.send(Ok(chunk)).is_ok() {
                    drop(chunks.send(Err(error)));
                }
                return;
            }
        }
        if chunk.len() == limits::REPLAY_CHUNK_ENTRIES {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(limits::REPLAY_CHUNK_ENTRIES));
            if chunks.send(Ok(full)).is_err() {
                return;
            }
        }
    }
    drop(chunks.send(Ok(chunk)));
}
