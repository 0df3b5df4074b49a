//! One running node: the write pipeline, its role, the event bus. Only this folder appends to the log.
//!
//! proposal queue → log thread (one write, one fdatasync for all that waits) → ack rule → apply thread (rules, state,
//! events, answers). Nothing flows back: the threads are joined by bounded channels in one direction.

mod ack;
mod apply;
mod queue;
mod start;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

pub use ack::{AckLost, AckRule, SoloAck};
pub use queue::QueueState;
pub use start::{NodeOptions, StartError, StartReport};

use crate::core::chat::Reply;
use crate::core::command::Envelope;
use crate::core::event::Event;
use crate::core::machine;
use crate::core::refusal::{Refusal, RuleError};
use crate::oplog::LogReader;
use crate::projection::Projection;

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
    /// This node does not take writes; nothing was logged.
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

/// What the threads share with the handles.
struct Shared {
    queue: queue::Queue,
    projection: Projection,
    reader: LogReader,
    role: RwLock<Role>,
    /// The epoch this node is active in.
    epoch: AtomicU64,
    applied: AtomicU64,
    accepting: AtomicBool,
    on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Shared {
    /// Stops the process, loudly. Returns only in tests.
    fn fatal(&self, reason: &str) {
        self.queue.close();
        (self.on_fatal)(reason);
    }
}

/// A handle on the running node; clones share it.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
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
        if !self.shared.accepting.load(Ordering::Relaxed) {
            return Err(ProposeError::DiskFull);
        }
        let now_ms = now_ms();
        match machine::check(&self.shared.projection, envelope, now_ms) {
            Ok(()) => {}
            Err(RuleError::Refused(refusal)) => return Err(ProposeError::Refused(refusal)),
            Err(RuleError::View(error)) => {
                self.shared.fatal(&error.to_string());
                return Err(ProposeError::State(error));
            }
        }
        self.shared.queue.push(queue::Proposal::command(envelope, reply), now_ms)
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

    /// Stops the node: what was proposed is logged and answered, the state is checkpointed. Blocks.
    pub fn stop(&self) {
        self.shared.queue.close();
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
