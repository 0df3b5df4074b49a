//! From parts to a data directory that starts: the log is cut at the moment asked for, the state is made from the snapshot and
//! the log, and both are compared with what was recorded. Then, for a restore, a new epoch begins and the log says why.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;

use super::build::snapshot_dir;
use super::error::RestoreError;
use super::fetch::Source;
use super::plan::Plan;
use crate::core::command::{Actor, Command, Envelope, NoteRestore};
use crate::core::entry::{Digest, Origin};
use crate::core::failover::Epoch;
use crate::core::ids::{ChannelId, Hlc, UserId};
use crate::core::keys::Key;
use crate::core::pair;
use crate::core::rows;
use crate::core::view::{Direction, View as _, ViewError, ViewExt as _};
use crate::limits;
use crate::node::{EventSink, Execution, Node, NodeOptions, Published, Role};
use crate::oplog::{self, LogOptions, LogPosition, LogWriter};
use crate::projection::{Options, Projection, snapshot};

/// Nobody listens while a log is replayed.
struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

/// A node on restored data, verified. It follows nobody and takes no writes.
pub(crate) struct Opened {
    /// The node.
    pub(crate) node: Node,
    /// The last record.
    pub(crate) index: u64,
    /// When it was proposed, in Unix milliseconds.
    pub(crate) at_ms: u64,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// The chain hash after it.
    pub(crate) chain: Digest,
    /// The hash of the state.
    pub(crate) state_hash: Digest,
    /// State hashes in the log and in manifests that were compared with the state's.
    pub(crate) compared: u64,
}

impl Drop for Opened {
    /// Before the directory goes or gets its place, nothing may write there any more.
    fn drop(&mut self) {
        self.node.stop(Duration::ZERO);
    }
}

/// Cuts the log at the moment asked for, opens state and log in `dir`, applies what is to be applied, and compares.
///
/// # Errors
/// [`RestoreError`], with what does not fit.
pub(crate) fn open(source: &Source<'_>, plan: &Plan, dir: &Path) -> Result<Opened, RestoreError> {
    let cluster = cluster_of(plan)?;
    let log = LogOptions::new(dir.join("log"), cluster);
    let snapshot = snapshot::read_manifest(&snapshot_dir(dir, plan))?;
    let of_snapshot = plan.base().snapshot.as_ref();
    if of_snapshot.is_none_or(|known| known.index != snapshot.index || known.state_hash != snapshot.state_hash) {
        let path = plan.snapshot_parts().next().map(|part| part.path.clone()).unwrap_or_default();
        return Err(RestoreError::damaged(&path, "it is the snapshot of another backup"));
    }
    let index = cut(source, (plan, &snapshot), &log)?;
    compare_log((plan, &snapshot), &log, index)?;
    let fatal = Arc::new(|_: &crate::projection::ProjectionError| {});
    let options = Options::new(dir, cluster, fatal);
    Projection::open_from_snapshot(&options, &snapshot_dir(dir, plan))?.projection.close()?;
    source.go_on()?;
    let (node, replayed) = start(dir, cluster, plan.base().node)?;
    let opened = compare_state((plan, index, replayed), node.clone());
    if opened.is_err() {
        node.stop(Duration::ZERO);
    }
    opened
}

fn cluster_of(plan: &Plan) -> Result<[u8; 16], RestoreError> {
    let cluster = HEXLOWER.decode(plan.base().cluster.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let same = plan.chain.iter().all(|manifest| manifest.cluster == plan.base().cluster);
    let damaged = || RestoreError::damaged(&plan.base().path(), "it does not name one cluster");
    cluster.filter(|_| same).ok_or_else(damaged)
}

/// Decides the last record and cuts what is behind it off the log. Returns its index.
fn cut(
    source: &Source<'_>,
    (plan, snapshot): (&Plan, &snapshot::Manifest),
    log: &LogOptions,
) -> Result<u64, RestoreError> {
    // A full that ended later than the time asked for is a base only if a record shows that its snapshot is older.
    let sure = plan.time_ms.is_none_or(|time_ms| plan.base().until.at_ms <= time_ms);
    let too_new = || RestoreError::BeforeFirst("the time asked for".to_owned());
    if plan.log.is_empty() {
        if !sure {
            return Err(too_new());
        }
        // Nothing was logged since the snapshot: the log goes on behind it.
        create_empty((plan, snapshot), log)?;
        return Ok(snapshot.index);
    }
    let index = match (plan.index, plan.time_ms) {
        (Some(index), _) => index,
        (None, time_ms) => {
            let last = last_before(source, (snapshot.index, time_ms.unwrap_or(u64::MAX)), log)?;
            last.or(sure.then_some(snapshot.index)).ok_or_else(too_new)?
        }
    };
    if index < plan.log.last().map_or(0, |part| part.last) {
        oplog::cut_after(log, index)?;
    }
    Ok(index)
}

fn create_empty((plan, snapshot): (&Plan, &snapshot::Manifest), log: &LogOptions) -> Result<(), RestoreError> {
    let chain = digest(&snapshot.chain).ok_or(RestoreError::ChainDiffers { index: snapshot.index })?;
    // The highest clock so far is not in a snapshot; no record was proposed after the backup was finished.
    let latest_ms = plan.base().finished_ms.max(snapshot.created_ms).max(plan.base().until.at_ms);
    let hlc = Hlc((latest_ms + 1) << 16);
    std::fs::remove_dir_all(&log.dir).map_err(RestoreError::io("make", &log.dir))?;
    LogWriter::create_after(log.clone(), LogPosition { index: snapshot.index, epoch: snapshot.epoch, hlc, chain })?;
    Ok(())
}

fn digest(hex: &str) -> Option<Digest> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}

/// The last record before the first one that is later than `time_ms`, from the snapshot's on; `None` when there is none.
fn last_before(
    source: &Source<'_>,
    (snapshot, time_ms): (u64, u64),
    log: &LogOptions,
) -> Result<Option<u64>, RestoreError> {
    let mut last = None;
    for entry in oplog::dump(&log.dir, snapshot)? {
        let entry = entry?;
        if entry.unix_ms() > time_ms {
            break;
        }
        last = Some(entry.index);
        if entry.index.is_multiple_of(4_096) {
            source.go_on()?;
        }
    }
    Ok(last)
}

/// The log must pass through every point that the manifests and the snapshot name.
fn compare_log(
    (plan, snapshot): (&Plan, &snapshot::Manifest),
    log: &LogOptions,
    index: u64,
) -> Result<(), RestoreError> {
    let (writer, _) = LogWriter::open(log.clone())?;
    if writer.last_index() != index {
        return Err(RestoreError::ChainDiffers { index: writer.last_index() });
    }
    let reader = writer.reader();
    let ends = plan.chain.iter().map(|manifest| (manifest.until.index, manifest.until.chain.as_str()));
    for (at, chain) in ends.chain([(snapshot.index, snapshot.chain.as_str())]) {
        let here = at <= index && at + 1 >= reader.first_index();
        if here && HEXLOWER.encode(&reader.position_at(at)?.chain) != chain {
            return Err(RestoreError::ChainDiffers { index: at });
        }
    }
    Ok(())
}

/// Starts a node alone on `dir`; returns it with the number of records that it applied.
fn start(dir: &Path, cluster: [u8; 16], number: u16) -> Result<(Node, u64), RestoreError> {
    let options = NodeOptions {
        data: dir.to_owned(),
        cluster,
        origin: Origin { site: 0, node: number },
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(NoSink),
        execution: Execution::Threads,
        // Whoever waits for the node is told by its calls.
        on_fatal: Arc::new(|reason| tracing::error!(reason, "the restored data could not be used")),
    };
    let (node, report) = Node::start(options).map_err(|e| RestoreError::Start(e.to_string()))?;
    Ok((node, report.replayed))
}

/// The state must be what manifests and log recorded.
fn compare_state((plan, index, replayed): (&Plan, u64, u64), node: Node) -> Result<Opened, RestoreError> {
    if node.applied_index() != index || node.state_mismatches() > 0 {
        return Err(RestoreError::StateDiffers { index: node.applied_index() });
    }
    let (_, hash) = node.projection().state_hash();
    let state_hash = hash.to_bytes();
    let mut compared = replayed / limits::STATE_HASH_EVERY;
    for manifest in plan.chain.iter().filter(|manifest| manifest.until.index == index) {
        let Some(recorded) = &manifest.state_hash else { continue };
        if *recorded != HEXLOWER.encode(&state_hash) {
            return Err(RestoreError::StateDiffers { index });
        }
        compared += 1;
    }
    let end = node.log().last_position();
    let known = plan.chain.iter().find(|manifest| manifest.until.index == index);
    let at_ms = known.map_or_else(|| last_record_ms(&node, index), |manifest| Ok(manifest.until.at_ms))?;
    Ok(Opened { index, at_ms, epoch: Epoch(end.epoch), chain: end.chain, state_hash, compared, node })
}

fn last_record_ms(node: &Node, index: u64) -> Result<u64, RestoreError> {
    if index < node.log().first_index() {
        return Ok(0);
    }
    let entry = node.log().read_from(index)?.next().transpose()?;
    Ok(entry.map_or(0, |entry| entry.unix_ms()))
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = RestoreCounts)]
pub struct Counts {
    /// People and bots.
    pub users: u64,
    /// Conversations.
    pub channels: u64,
    /// Messages, deleted ones included.
    pub messages: u64,
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
}

/// Counts users, channels and messages of a state.
///
/// # Errors
/// A failing state.
pub(crate) fn count(state: &Projection) -> Result<Counts, ViewError> {
    let users = Key::User(UserId(0))..=Key::User(UserId(u64::MAX));
    let channels = Key::Channel(ChannelId(0))..=Key::Channel(ChannelId(u64::MAX));
    let heads = Key::ChannelHead(ChannelId(0))..=Key::ChannelHead(ChannelId(u64::MAX));
    let heads = state.rows::<rows::ChannelHead>(heads, Direction::Up, usize::MAX)?;
    Ok(Counts {
        users: state.scan(users, Direction::Up, usize::MAX)?.len() as u64,
        channels: state.scan(channels, Direction::Up, usize::MAX)?.len() as u64,
        messages: heads.iter().map(|(_, head)| head.last_seq).sum(),
        ..Counts::default()
    })
}

/// Begins a new epoch on the restored data, under a number that no member of a pair had, and notes the restore in the log.
/// Returns the node's number and the epoch.
///
/// # Errors
/// [`RestoreError`].
pub(super) fn begin_again(opened: Opened, plan: &Plan, dir: &Path) -> Result<(u16, Epoch), RestoreError> {
    let state = |e: ViewError| RestoreError::Start(e.to_string());
    let before = opened.node.projection().row::<rows::Pair>(Key::Pair).map_err(state)?;
    let next = before.and_then(|pair| u16::try_from(pair::next_number(&pair)).ok());
    let number = next.unwrap_or(plan.newest().node);
    let epoch = Epoch::new(opened.epoch.number() + limits::RESTORE_EPOCH_STEP, number);
    let (index, at_ms) = (opened.index, opened.at_ms);
    opened.node.stop(Duration::ZERO);
    drop(opened);
    let (node, _) = start(dir, cluster_of(plan)?, number)?;
    let note = NoteRestore { backup: plan.newest().name(), index, at_ms };
    let noted = note_restore(&node, epoch, note);
    node.stop(Duration::from_secs(1));
    noted.map(|()| (number, epoch))
}

fn note_restore(node: &Node, epoch: Epoch, note: NoteRestore) -> Result<(), RestoreError> {
    let failed = |what: &str| RestoreError::Start(format!("the restore could not be noted in the log: {what}"));
    node.activate(epoch.0).map_err(|e| failed(&format!("{e:?}")))?;
    let deadline = Instant::now() + Duration::from_secs(limits::RESTORE_NOTE_SECONDS_MAX);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| failed(&e.to_string()))?;
    let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::NoteRestore(note)) };
    let propose = async {
        let mut role = node.watch_role();
        role.wait_for(|role| *role == Role::Active).await.map_err(|e| e.to_string())?;
        let answer = node.propose(&envelope).await.map_err(|e| format!("{e:?}"))?;
        answer.outcome.map(|_| ()).map_err(|refusal| refusal.code.as_str().to_owned())
    };
    let timed = runtime.block_on(tokio::time::timeout_at(deadline.into(), propose));
    timed.map_err(|_| failed("it takes too long"))?.map_err(|what| failed(&what))
}
