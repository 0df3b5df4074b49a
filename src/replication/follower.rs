//! The standby's side of log shipping: compares the logs, takes the active's records, sends acks back. Must never let a
//! record in that it has not asked for in this epoch, and never compare while earlier records are still on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use super::bootstrap;
use super::compare;
use super::context::{Context, Lag};
use super::link::{LinkError, LinkReceiver, LinkSender};
use super::wire::{Class, LogMessage, Ship};
use crate::core::failover::{Epoch, Input, Member, Message, Relation};
use crate::limits;
use crate::node::{Node, Received};

/// This node follows an active; dropping it ends that.
pub(super) struct Following {
    active: Member,
    epoch: Epoch,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the driver and the follower's task share.
struct Shared {
    /// The own log was found equal to the active's and is continued by it.
    equal: AtomicBool,
    /// Up to where the active said that records are committed.
    commit: AtomicU64,
    acks: watch::Sender<Option<Message>>,
    bootstrap: Notify,
}

impl Following {
    pub(super) const fn active(&self) -> Member {
        self.active
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn is(&self, active: Member, epoch: Epoch) -> bool {
        self.active == active && self.epoch == epoch && !self.task.is_finished()
    }

    /// Whether what is appended now continues a log that equals the active's.
    pub(super) fn is_equal(&self) -> bool {
        self.shared.equal.load(Ordering::Acquire)
    }

    /// Up to where the active said that records are committed.
    pub(super) fn commit(&self) -> u64 {
        self.shared.commit.load(Ordering::Acquire)
    }

    /// Sends an ack on the link that brings the records; only the latest one matters.
    pub(super) fn ack(&self, message: Message) {
        self.shared.acks.send_replace(Some(message));
    }

    /// The log cannot be continued: fetch a snapshot instead.
    pub(super) fn bootstrap(&self) {
        self.shared.bootstrap.notify_one();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to follow `active` in `epoch`.
pub(super) fn start(context: Arc<Context>, node: Node, (active, epoch): (Member, Epoch)) -> Following {
    let shared = Arc::new(Shared {
        equal: AtomicBool::new(false),
        commit: AtomicU64::new(0),
        acks: watch::Sender::new(None),
        bootstrap: Notify::new(),
    });
    let budget = Arc::new(Semaphore::new(limits::FOLLOW_BYTES_MAX / PERMIT_BYTES));
    let follower = Follower { context, node, active, epoch, shared: shared.clone(), budget };
    let task = tokio::spawn(follower.run());
    Following { active, epoch, shared, task }
}

/// Bytes that one permit of the budget stands for.
const PERMIT_BYTES: usize = 1_024;

struct Follower {
    context: Arc<Context>,
    node: Node,
    active: Member,
    epoch: Epoch,
    shared: Arc<Shared>,
    /// Bytes that were received and are not durable yet.
    budget: Arc<Semaphore>,
}

/// Why a session with the active ended without an error of the link.
enum Ended {
    /// The relation was told; the driver decides what comes next.
    Told,
    /// The active's log has not got its own first record yet: look again.
    NotReady,
    /// This node's disk has no room.
    NoRoom,
    /// What came did not fit behind the own log: compare again.
    Refused,
}

impl Follower {
    async fn run(self) {
        let mut complained = false;
        loop {
            let retry_ms = match self.session().await {
                Ok(Ended::Told) => {
                    self.shared.bootstrap.notified().await;
                    bootstrap::fetch(&self.context, &self.node, (self.active, self.epoch)).await;
                    limits::FOLLOW_RETRY_MS
                }
                Ok(Ended::NotReady) => limits::FOLLOW_RETRY_MS,
                Ok(Ended::NoRoom | Ended::Refused) => limits::FOLLOW_RETRY_SLOW_MS,
                Err(error) => {
                    if complained {
                        tracing::debug!(active = self.active, %error, "the log link failed");
                    } else {
                        tracing::warn!(active = self.active, code = error.code(), %error, "the log link failed; trying again");
                    }
                    complained = true;
                    limits::FOLLOW_RETRY_MS
                }
            };
            tokio::time::sleep(Duration::from_millis(retry_ms)).await;
        }
    }

    /// One connection: compare, then take records until something ends it.
    async fn session(&self) -> Result<Ended, LinkError> {
        if !self.node.accepting() {
            self.context.lag.no_room(true);
            return Ok(Ended::NoRoom);
        }
        let (welcome, mut link) = self.context.dial(self.active, Class::Log).await?;
        link.receiver().set_silence_max(Some(self.context.silence_max()));
        // From here on only this active's records get in; what an earlier session brought must be settled first.
        self.node.follow(self.epoch.0);
        let all = (limits::FOLLOW_BYTES_MAX / PERMIT_BYTES) as u32;
        drop(self.budget.acquire_many(all).await);
        let mut refused = self.context.watcher.refusals();
        refused.mark_unchanged();
        let compared = compare::logs(&mut link, &self.node, welcome.last).await?;
        let relation = match compared {
            compare::Compared::Equal { index } => Relation::Equal { index },
            compare::Compared::Fork { index } => Relation::Fork { index },
            compare::Compared::TooOld { archive_from } => {
                self.context.note_archive_from(archive_from);
                Relation::TooOld
            }
            compare::Compared::NotReady => return Ok(Ended::NotReady),
        };
        self.context.driver.input(Input::Compared { epoch: self.epoch, relation, commit: 0 });
        let Relation::Equal { index } = relation else { return Ok(Ended::Told) };
        self.shared.equal.store(true, Ordering::Release);
        let (mut sender, mut receiver) = link.split();
        sender.send(&LogMessage::ShipFrom { epoch: self.epoch, index: index + 1 }).await?;
        tokio::select! {
            biased;
            _ = refused.changed() => Ok(Ended::Refused),
            error = self.acknowledge(&mut sender) => Err(error),
            ended = self.receive(&mut receiver) => ended,
        }
    }

    /// Hands records to the node as they come, bounded by what is not durable yet.
    async fn receive(&self, receiver: &mut LinkReceiver) -> Result<Ended, LinkError> {
        loop {
            let message: LogMessage = receiver.receive().await?;
            let LogMessage::Ship(ship) = message else { continue };
            // From the first shipment on the active beats: silence means that this way to it is lost.
            receiver.set_silence_max(Some(self.context.settings.latest().unheard_max()));
            if ship.epoch != self.epoch {
                return Ok(Ended::NotReady);
            }
            self.note(&ship);
            if ship.frames.is_empty() {
                continue;
            }
            if !self.node.accepting() {
                self.context.lag.no_room(true);
                return Ok(Ended::NoRoom);
            }
            let permits = (ship.frames.len() / PERMIT_BYTES + 1).min(limits::FOLLOW_BYTES_MAX / PERMIT_BYTES) as u32;
            // The semaphore is never closed.
            let permit = self.budget.clone().acquire_many_owned(permits).await.ok();
            if !self.node.receive(Received { epoch: self.epoch.0, frames: ship.frames, permit }) {
                return Err(LinkError::Closed);
            }
        }
    }

    /// What the active tells along with the records: how far it is, and what is committed.
    fn note(&self, ship: &Ship) {
        self.context.lag.told(Lag::at(ship.last, ship.sent_ms));
        let before = self.shared.commit.fetch_max(ship.commit, Ordering::AcqRel);
        if ship.commit > before {
            self.context.driver.commit_told();
        }
    }

    /// Sends the latest ack whenever there is a newer one. Ends only with an error.
    async fn acknowledge(&self, sender: &mut LinkSender) -> LinkError {
        let mut acks = self.shared.acks.subscribe();
        loop {
            let ack = *acks.borrow_and_update();
            if let Some(message) = ack
                && let Err(error) = sender.send(&LogMessage::Control(message)).await
            {
                return error;
            }
            if acks.changed().await.is_err() {
                return LinkError::Closed;
            }
        }
    }
}
