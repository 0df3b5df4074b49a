//! One running node: the write pipeline, its role, the event bus. Only this folder appends to the log.
//!
//! queue → log thread (one write, one fdatasync for all that waits) → gate (committed) → apply thread (rules, state,
//! events, answers). Nothing flows back: the threads are joined by bounded channels in one direction. On the active the
//! queue holds proposals, on a standby what the active sent. Who is active and what is committed is decided elsewhere
//! (`core::failover`); a node that is alone commits what is durable.

mod apply;
mod fence;
mod gate;
mod queue;
mod start;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

pub use queue::{QueueState, Received};
pub use start::{Execution, NodeOptions, StartError, StartReport};

use crate::core::chat::Reply;
use crate::core::command::{Command, Envelope};
use crate::core::entry::{Entry, EntryKind};
use crate::core::event::Event;
use crate::core::machine;
use crate::core::pair;
use crate::core::refusal::{Refusal, RuleError};
use crate::oplog::{LogError, LogPosition, LogReader};
use crate::projection::Projection;
use fence::{Fence, Mode};
use gate::Gate;

/// What a node is to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NodeRole)]
pub enum Role {
    /// Takes writes.
    Active,
    /// Follows the active node, ready to take over.
    Standby,
}

/// The answer to a command that was logged and applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the rules said.
    pub outcome: Result<Reply, Refusal>,
    /// The log index of the command.
    pub pos: u64,
}

/// Why a command was not logged, or what became of it is not known.
#[derive(Debug)]
pub enum ProposeError {
    /// The rules refuse it already now; nothing was logged.
    Refused(Refusal),
    /// The proposal queue is full; nothing was logged.
    Busy,
    /// This node does not take writes. When it stepped down meanwhile, the command may have been logged: a resend with
    /// the same client id, to the active, is safe.
    NotActive,
    /// The disk is nearly full; nothing was logged.
    DiskFull,
    /// The node stops. The command may or may not have been logged: a resend with the same client id is safe.
    Stopping,
    /// The state cannot be read; the node is about to stop.
    State(crate::core::view::ViewError),
}

/// Somebody who waits for many answers and is told by tag: a WebSocket session.
pub trait AnswerSink: Send + Sync {
    /// Takes the answer to the request `tag`. Returns a waker to be woken once the whole batch has been delivered, so
    /// that a session wakes once per batch and not once per answer.
    fn answer(&self, tag: &str, result: Result<&Answer, &ProposeError>) -> Option<Waker>;
}

/// Where an answer goes.
pub enum ReplyTo {
    /// To nobody.
    Nobody,
    /// To one waiting task.
    Task(oneshot::Sender<Result<Answer, ProposeError>>),
    /// To a session, under the request's tag.
    Sink {
        /// The session.
        sink: Arc<dyn AnswerSink>,
        /// The request's tag.
        tag: Box<str>,
    },
}

impl ReplyTo {
    /// Delivers an answer; wakers to be woken later go to `wakes`.
    fn deliver(self, result: Result<Answer, ProposeError>, wakes: &mut Vec<Waker>) {
        match self {
            Self::Nobody => {}
            // The task may have given up waiting (its client is gone): then nobody misses the answer.
            Self::Task(sender) => drop(sender.send(result)),
            Self::Sink { sink, tag } => wakes.extend(sink.answer(&tag, result.as_ref())),
        }
    }
}

/// One event with its log position.
#[derive(Debug)]
pub struct Published {
    /// The log index of the command that caused it.
    pub pos: u64,
    /// When that was, in Unix milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub event: Event,
}

/// Where events go: the hub. Called by the apply thread, in log order; must not block.
pub trait EventSink: Send + Sync {
    /// The state is at log index `pos`; the events of later entries follow. Called once, before the replay at start.
    fn start_from(&self, pos: u64);

    /// Takes the events of a batch, which ends at log index `pos` (also when it has no events). Wakers to be woken once
    /// everything of the batch was delivered go to `wakes`.
    fn publish(&self, events: &[Published], pos: u64, wakes: &mut Vec<Waker>);
}

/// Who is told what becomes of the log. Called by the log thread, in the log's order; must neither block nor call back.
pub trait NodeEvents: Send + Sync {
    /// Records of the active are durable here. Called before `appended` tells how far the log is.
    fn received(&self, entries: &[Entry]);
    /// The log is durable up to here.
    fn appended(&self, after: &LogPosition);
    /// The record that begins the epoch of this node is durable.
    fn started(&self, epoch: u64, index: u64);
    /// What came from the active of this epoch does not continue the log; nothing was written.
    fn refused(&self, epoch: u64, error: &LogError);
}

/// Nobody wants to know: a node that is alone.
impl NodeEvents for () {
    fn received(&self, _entries: &[Entry]) {}
    fn appended(&self, _after: &LogPosition) {}
    fn started(&self, _epoch: u64, _index: u64) {}
    fn refused(&self, _epoch: u64, _error: &LogError) {}
}

/// What the threads share with the handles.
struct Shared {
    queue: queue::Queue,
    fence: Fence,
    gate: Gate,
    projection: Projection,
    reader: LogReader,
    role: RwLock<Role>,
    role_changed: tokio::sync::watch::Sender<Role>,
    /// The epoch this node was last active in; 0 when it never was.
    epoch: AtomicU64,
    applied: AtomicU64,
    accepting: AtomicBool,
    isolated: AtomicBool,
    /// The level of commands that every member of the pair understands.
    level: AtomicU32,
    /// How often the state differed from a recorded state hash.
    mismatches: AtomicU64,
    /// There is no other data node: what is durable here is committed.
    alone: AtomicBool,
    /// The node was told to be active, and not since to step down.
    taking: AtomicBool,
    on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
    /// Tells the time.
    execution: Execution,
}

impl Shared {
    /// Stops the process, loudly. Returns only in tests.
    fn fatal(&self, reason: &str) {
        self.queue.close();
        self.gate.stop_at(std::time::Instant::now());
        (self.on_fatal)(reason);
    }

    fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// The apply thread has reached the record that begins an epoch. If it is ours, the state has everything that was
    /// acknowledged before: from now on clients are answered.
    fn epoch_applied(&self, epoch: u64) {
        let mut role = self.role.write();
        if epoch == self.epoch.load(Ordering::Acquire) && self.taking.load(Ordering::Acquire) {
            *role = Role::Active;
            self.role_changed.send_replace(Role::Active);
        }
    }
}

/// What is written even when the disk is nearly full: a note on the pair has some bytes, and says why the node stopped
/// taking anything else.
fn fits_the_reserve(envelope: &Envelope) -> bool {
    matches!(envelope.command, Some(Command::NotePair(_)))
}

/// A handle on the running node; clones share it.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// The two threads' work, when it is done by whoever calls: for simulations.
    inline: Option<Arc<start::Inline>>,
}

impl Node {
    /// Proposes a change and waits until it is durable and applied.
    ///
    /// # Errors
    /// [`ProposeError`]: the change was refused, could not be taken, or the node stops.
    pub async fn propose(&self, envelope: &Envelope) -> Result<Answer, ProposeError> {
        let (sender, receiver) = oneshot::channel();
        self.propose_into(envelope, ReplyTo::Task(sender))?;
        receiver.await.unwrap_or(Err(ProposeError::Stopping))
    }

    /// Proposes a change; the answer goes to `reply`.
    ///
    /// # Errors
    /// As [`Node::propose`], for everything that is known at once; `reply` is then dropped unused.
    pub fn propose_into(&self, envelope: &Envelope, reply: ReplyTo) -> Result<(), ProposeError> {
        if *self.shared.role.read() != Role::Active {
            return Err(ProposeError::NotActive);
        }
        if self.shared.isolated.load(Ordering::Relaxed) {
            return Err(ProposeError::NotActive);
        }
        if !self.shared.accepting.load(Ordering::Relaxed) && !fits_the_reserve(envelope) {
            return Err(ProposeError::DiskFull);
        }
        if let Some(command) = &envelope.command {
            let level = self.shared.level.load(Ordering::Relaxed);
            pair::allowed(command, level).map_err(ProposeError::Refused)?;
        }
        let now_ms = self.shared.execution.now_ms();
        match machine::check(&self.shared.projection, envelope, now_ms) {
            Ok(()) => {}
            Err(RuleError::Refused(refusal)) => return Err(ProposeError::Refused(refusal)),
            Err(RuleError::View(error)) => {
                self.shared.fatal(&error.to_string());
                return Err(ProposeError::State(error));
            }
        }
        let pushed = self.shared.queue.push(queue::Proposal::command(envelope, reply), now_ms);
        self.kick();
        pushed
    }

    /// Makes this node the active one of `epoch`: logs the record that begins it, then takes writes. Clients are answered
    /// as soon as that record is committed and applied.
    ///
    /// # Errors
    /// [`ProposeError::Stopping`].
    pub fn activate(&self, epoch: u64) -> Result<(), ProposeError> {
        let shared = &self.shared;
        shared.epoch.store(epoch, Ordering::Release);
        shared.taking.store(true, Ordering::Release);
        shared.isolated.store(false, Ordering::Relaxed);
        shared.fence.set(Mode::Active(epoch));
        let first = queue::Proposal::internal(EntryKind::EpochStarted, bytes::Bytes::new(), ReplyTo::Nobody);
        let opened = shared.queue.open(shared.reader.last_position().hlc, first, shared.execution.now_ms());
        self.kick();
        opened
    }

    /// Takes no writes any more. When this returns nothing of this node's own is appended any more; whoever waits for an
    /// answer is told `not_active`. Blocks while an append is on its way.
    pub fn step_down(&self) {
        let shared = &self.shared;
        shared.fence.set(Mode::Idle);
        {
            let mut role = shared.role.write();
            shared.taking.store(false, Ordering::Release);
            *role = Role::Standby;
            shared.role_changed.send_replace(Role::Standby);
        }
        let waiting = shared.queue.shut();
        shared.gate.step_down();
        writer::refuse_all(waiting.into_iter().map(|proposal| proposal.reply), || ProposeError::NotActive);
        self.kick();
    }

    /// Takes records of the active of `epoch` from now on, and of no other.
    pub fn follow(&self, epoch: u64) {
        self.shared.fence.set(Mode::Following(epoch));
    }

    /// Takes records of nobody any more, unless this node is the active.
    pub fn unfollow(&self) {
        self.shared.fence.unfollow();
    }

    /// Hands over what the active sent. It is appended when it continues the log; [`NodeEvents`] tells. False when the
    /// node stops.
    #[must_use]
    pub fn receive(&self, received: Received) -> bool {
        let taken = self.shared.queue.push_received(received);
        self.kick();
        taken
    }

    /// Removes the segments of the log whose records are all below `index`, soon. What may go is up to the caller: see
    /// [`crate::upkeep`].
    pub fn trim_log(&self, index: u64) {
        self.shared.queue.push_trim(index);
        self.kick();
    }

    /// Everything up to `index` is committed: it is applied and acknowledged.
    pub fn commit(&self, index: u64) {
        self.shared.gate.commit(index);
        self.kick();
    }

    /// Up to where records are known to be committed.
    #[must_use]
    pub fn committed_index(&self) -> u64 {
        self.shared.gate.committed()
    }

    /// Lets writes wait (`true`) or go on. When this returns none is on its way to the log. Blocks for an append.
    pub fn hold_writes(&self, held: bool) {
        self.shared.fence.hold(held);
        self.kick();
    }

    /// Refuses writes with `not_active` while the active can reach nobody (`true`), or takes them again.
    pub fn set_isolated(&self, isolated: bool) {
        self.shared.isolated.store(isolated, Ordering::Relaxed);
    }

    /// Whether there is no other data node, so that what is durable here is committed.
    pub fn set_alone(&self, alone: bool) {
        let mut fenced = self.shared.fence.lock();
        fenced.alone = alone;
        self.shared.alone.store(alone, Ordering::Relaxed);
        if alone {
            self.shared.gate.commit(self.shared.reader.last_durable_index());
        }
        drop(fenced);
        self.kick();
    }

    /// Refuses commands above this level from now on: some member would not understand them.
    pub fn set_level(&self, level: u32) {
        self.shared.level.store(level, Ordering::Relaxed);
    }

    /// The level of commands that every member of the pair understands.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.shared.level.load(Ordering::Relaxed)
    }

    /// How often the state differed from a recorded state hash since the start. Anything but 0 is an alarm.
    #[must_use]
    pub fn state_mismatches(&self) -> u64 {
        self.shared.mismatches.load(Ordering::Relaxed)
    }

    /// Tells when the role changes.
    #[must_use]
    pub fn watch_role(&self) -> tokio::sync::watch::Receiver<Role> {
        self.shared.role_changed.subscribe()
    }

    /// Does the threads' work on the caller's, where there are none.
    fn kick(&self) {
        if let Some(inline) = &self.inline {
            inline.pump(&self.shared);
        }
    }

    /// The applied state.
    #[must_use]
    pub fn projection(&self) -> &Projection {
        &self.shared.projection
    }

    /// The log, for readers.
    #[must_use]
    pub fn log(&self) -> &LogReader {
        &self.shared.reader
    }

    /// What the node is to its clients.
    #[must_use]
    pub fn role(&self) -> Role {
        *self.shared.role.read()
    }

    /// The epoch's number.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Relaxed) >> 16
    }

    /// The index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// How full the proposal queue is.
    #[must_use]
    pub fn queue_state(&self) -> QueueState {
        self.shared.queue.state()
    }

    /// Whether writes are taken; false when the disk is nearly full.
    #[must_use]
    pub fn accepting(&self) -> bool {
        self.shared.accepting.load(Ordering::Relaxed)
    }

    /// Takes writes, or refuses them with `disk_full` until told otherwise.
    pub fn set_accepting(&self, accepting: bool) {
        self.shared.accepting.store(accepting, Ordering::Relaxed);
    }

    /// Stops the node: what was proposed is logged, and answered if it is committed within `patience`; the state is
    /// checkpointed. Blocks.
    pub fn stop(&self, patience: std::time::Duration) {
        let shared = &self.shared;
        shared.queue.close();
        shared.fence.hold(false);
        let active = *shared.role.read() == Role::Active;
        let now = std::time::Instant::now();
        shared.gate.stop_at(if active { now + patience } else { now });
        self.kick();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a node thread panicked");
            }
        }
    }
}

/// The wall clock, in Unix seconds, as certificates count.
#[must_use]
pub fn now_seconds() -> i64 {
    (now_ms() / 1_000) as i64
}

/// The wall clock, in Unix milliseconds; 0 before 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_millis() as u64)
}

#[cfg(test)]
mod tests;
