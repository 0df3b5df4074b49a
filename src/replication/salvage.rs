//! Proposing a diverged tail to the active again, in the order of the tail. Every record has its place in the list, and the
//! active remembers in its log how far it is: sending again what was sent does nothing.
//!
//! A batch is proposed as a whole before the first answer is waited for, so that its records share syncs and journeys to
//! the standby. They stay in order all the same: the queue before the log keeps it, and nothing is proposed behind a record
//! that the queue did not take. Must never hold more of a tail in memory than one batch.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::context::Context;
use super::link::{Link, LinkError};
use super::quarantine::{self, Items, Tail};
use super::wire::{Class, Salvage, SalvageRefusal};
use crate::core::command::{self, Actor, Command, Envelope, NotePair, PairEvent};
use crate::core::failover::Member;
use crate::core::merge;
use crate::core::refusal::{Refusal, RefusalCode};
use crate::limits;
use crate::node::{Answer, Node, ProposeError, ReplyTo};

/// How far the tail is that is being proposed now, for the status.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<(PathBuf, Salvaged)>>);

/// How much of a tail the active has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Salvaged {
    /// Records that are dealt with.
    pub(super) done: u64,
    /// All that have to be proposed.
    pub(super) records: u64,
}

impl Progress {
    fn set(&self, tail: &Tail, salvaged: Salvaged) {
        *self.0.lock() = Some((tail.dir.clone(), salvaged));
    }

    /// How far the tail in this directory is; `None` when it is not its turn.
    pub(super) fn of(&self, dir: &Path) -> Option<Salvaged> {
        self.0.lock().as_ref().filter(|(at, _)| at == dir).map(|(_, salvaged)| *salvaged)
    }
}

/// Sends what is in quarantine and not yet proposed to whoever is active, as long as the node runs: to the other node, or
/// to itself, when it was promoted before the other one had taken everything.
pub(super) async fn keep_sending(context: Arc<Context>, node: Node) {
    let mut look = tokio::time::interval(Duration::from_millis(limits::SALVAGE_LOOK_MS));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let tails = quarantine::unsalvaged(&context.place.data).unwrap_or_default();
        if tails.is_empty() {
            continue;
        }
        let Some(status) = context.driver.status().await else { return };
        let Some(active) = status.active else { continue };
        for tail in tails {
            let sent = if active == context.member {
                propose_all(&context, &node, &tail).await
            } else {
                send(&context, active, &tail).await
            };
            if let Err(error) = sent {
                tracing::warn!(tail = %tail.dir.display(), %error, "the tail could not be proposed yet; trying again");
                break;
            }
        }
    }
}

/// One tail on its way: what of it is dealt with, and the records that come next.
struct Sending<'a> {
    context: &'a Context,
    tail: &'a Tail,
    items: Items,
    salvaged: Salvaged,
    /// The records from `salvaged.done` on that were read already.
    ahead: VecDeque<Bytes>,
    refusals: BTreeMap<u64, SalvageRefusal>,
    /// When the log was told last how far it is.
    said: Instant,
}

impl<'a> Sending<'a> {
    fn begin(context: &'a Context, tail: &'a Tail) -> std::io::Result<Self> {
        let salvaged = Salvaged { done: 0, records: tail.items()?.count_all()? };
        context.salvage.set(tail, salvaged);
        let (items, ahead) = (tail.items()?, VecDeque::new());
        Ok(Self { context, tail, items, salvaged, ahead, refusals: BTreeMap::new(), said: Instant::now() })
    }

    const fn is_done(&self) -> bool {
        self.salvaged.done >= self.salvaged.records
    }

    /// The next records, as many as fit into one message.
    fn batch(&mut self) -> std::io::Result<Vec<Bytes>> {
        let mut bytes: usize = self.ahead.iter().map(Bytes::len).sum();
        while self.ahead.len() < limits::SALVAGE_BATCH_ITEMS && bytes < limits::PEER_SALVAGE_BYTES_MAX / 2 {
            let Some(item) = self.items.next_item()? else { break };
            bytes += item.len();
            self.ahead.push_back(item);
        }
        let mut within = 0;
        let fits = |item: &&Bytes| {
            let first = within == 0;
            within += item.len();
            first || within <= limits::PEER_SALVAGE_BYTES_MAX / 2
        };
        Ok(self.ahead.iter().take_while(fits).cloned().collect())
    }

    /// Everything before `upto` is dealt with. Fails when that is nothing new: whoever is active cannot take any now.
    fn answered(&mut self, upto: u64, refused: Vec<SalvageRefusal>) -> std::io::Result<()> {
        let upto = upto.min(self.salvaged.records);
        if upto <= self.salvaged.done {
            return Err(std::io::Error::other("the active took none of the records"));
        }
        for _ in self.salvaged.done..upto {
            if self.ahead.pop_front().is_none() {
                self.items.skip_item()?; // it had that one before this node was started
            }
        }
        self.salvaged.done = upto;
        self.context.salvage.set(self.tail, self.salvaged);
        self.refusals.extend(refused.into_iter().map(|refusal| (refusal.ordinal, refusal)));
        if self.said.elapsed() >= Duration::from_millis(limits::SALVAGE_TELL_MS) {
            self.said = Instant::now();
            let Salvaged { done, records } = self.salvaged;
            tracing::info!(tail = %self.tail.dir.display(), done, records, "the tail is being proposed again");
        }
        Ok(())
    }

    /// Notes that everything was proposed.
    fn finish(self) -> std::io::Result<()> {
        let (proposed, refusals) = (self.salvaged.records, self.refusals);
        let tail = self.tail.dir.display();
        tracing::info!(%tail, proposed, refused = refusals.len(), "the tail was proposed again");
        let refused: Vec<String> =
            refusals.values().map(|one| format!("{}: {} ({})", one.ordinal, one.text, one.code)).collect();
        self.tail.salvaged(proposed, &refused)
    }
}

/// Sends one tail from its beginning; what the active has had already it passes over.
async fn send(context: &Context, active: Member, tail: &Tail) -> std::io::Result<()> {
    let mut sending = Sending::begin(context, tail)?;
    if !sending.is_done() {
        let (_, mut link) = context.dial(active, Class::Salvage).await.map_err(std::io::Error::other)?;
        link.receiver().set_silence_max(Some(Duration::from_millis(limits::LOG_LINK_IDLE_MS)));
        while !sending.is_done() {
            let (first_ordinal, items) = (sending.salvaged.done, sending.batch()?);
            let message = Salvage::Batch { tail: tail.id(), first_ordinal, items };
            link.sender().send(&message).await.map_err(std::io::Error::other)?;
            let answer = link.receiver().receive().await.map_err(std::io::Error::other)?;
            let Salvage::Answer { upto, refused } = answer else { continue };
            sending.answered(upto, refused)?;
        }
    }
    sending.finish()
}

/// Proposes one tail here, where this node is the active.
async fn propose_all(context: &Context, node: &Node, tail: &Tail) -> std::io::Result<()> {
    let mut sending = Sending::begin(context, tail)?;
    let mut taking = Taking::new(context, node);
    while !sending.is_done() {
        let (first_ordinal, items) = (sending.salvaged.done, sending.batch()?);
        let (upto, refused) = taking.take(&tail.id(), (first_ordinal, &items)).await;
        sending.answered(upto, refused)?;
    }
    sending.finish()
}

/// The active's side: proposes each batch and tells what became of it.
pub(super) async fn serve(context: &Arc<Context>, node: &Node, mut link: Link) -> Result<(), LinkError> {
    let mut taking = Taking::new(context, node);
    loop {
        let Salvage::Batch { tail, first_ordinal, items } = link.receiver().receive().await? else { continue };
        let (upto, refused) = taking.take(&tail, (first_ordinal, &items)).await;
        link.sender().send(&Salvage::Answer { upto, refused }).await?;
    }
}

/// Takes the records of one tail on the active. When it is dropped, people are told how many were new.
struct Taking<'a> {
    context: &'a Context,
    node: &'a Node,
    tail: Bytes,
    new_records: u64,
    /// A record was refused for good, so that those behind it are out of their order for ever.
    broken: bool,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if self.new_records == 0 {
            return;
        }
        let text = format!("tail {}", data_encoding::HEXLOWER.encode(&self.tail));
        let note =
            NotePair { what: PairEvent::Salvaged.into(), records: self.new_records, text, ..NotePair::default() };
        self.context.notices.write_later(note);
        let text = format!("{} records that only one node had were proposed again", self.new_records);
        self.context.notices.say(text, self.context.now_ms());
    }
}

/// What became of one record.
enum Proposed {
    /// It is in the log.
    New(oneshot::Receiver<Result<Answer, ProposeError>>),
    /// It was there before.
    Known,
    Refused(SalvageRefusal),
}

impl<'a> Taking<'a> {
    const fn new(context: &'a Context, node: &'a Node) -> Self {
        Self { context, node, tail: Bytes::new(), new_records: 0, broken: false }
    }

    /// Proposes records, the first of them with this number. Gives up to where all are dealt with, and what was refused.
    async fn take(&mut self, tail: &Bytes, (first, items): (u64, &[Bytes])) -> (u64, Vec<SalvageRefusal>) {
        self.tail.clone_from(tail);
        let (proposed, mut upto) = self.propose(first, items);
        let mut refused = Vec::new();
        for (number, one) in (first..).zip(proposed) {
            let refusal = match one {
                Proposed::Known => None,
                Proposed::Refused(refusal) => Some(refusal),
                Proposed::New(answer) => match answer.await.unwrap_or(Err(ProposeError::Stopping)) {
                    Ok(Answer { outcome: Err(refusal), .. }) | Err(ProposeError::Refused(refusal)) => {
                        let Some(told) = self.refused(number, &refusal) else { break };
                        Some(told)
                    }
                    Ok(_) => {
                        self.new_records += 1;
                        None
                    }
                    // Not now: the sender tries again from here. What was proposed behind it is known then, if it got in.
                    Err(_) => break,
                },
            };
            refused.extend(refusal);
            upto = upto.max(number + 1);
        }
        (upto, refused)
    }

    /// Puts records into the queue as far as it takes them. Gives what became of each, and up to where all are known to be
    /// in the log from an earlier time.
    fn propose(&mut self, first: u64, items: &[Bytes]) -> (Vec<Proposed>, u64) {
        let (mut proposed, mut known) = (Vec::with_capacity(items.len()), first);
        for (number, item) in (first..).zip(items) {
            let Ok(salvage) = command::Salvage::decode(item.clone()) else {
                self.broken = true;
                let (code, text) = ("invalid_command".to_owned(), "it cannot be read".to_owned());
                proposed.push(Proposed::Refused(SalvageRefusal { ordinal: number, code, text }));
                continue;
            };
            // In the log a tail begins with 1, on the link with 0.
            let had = salvage.tail.and_then(|tail| merge::next_ordinal(self.node.projection(), &tail).ok());
            let had = had.map_or(0, |next| next - 1);
            if salvage.ordinal == number + 1 && salvage.ordinal <= had {
                known = known.max(had);
                proposed.push(Proposed::Known);
                continue;
            }
            let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::Salvage(salvage)) };
            let (sender, answer) = oneshot::channel();
            match self.node.propose_into(&envelope, ReplyTo::Task(sender)) {
                Ok(()) => proposed.push(Proposed::New(answer)),
                Err(ProposeError::Refused(refusal)) => match self.refused(number, &refusal) {
                    Some(told) => proposed.push(Proposed::Refused(told)),
                    None => break,
                },
                Err(_) => break,
            }
        }
        (proposed, known)
    }

    /// How a refusal is told. `None` when it is not for ever: a record before it has to come first, or the other node has
    /// to be upgraded.
    fn refused(&mut self, ordinal: u64, refusal: &Refusal) -> Option<SalvageRefusal> {
        let waits = match refusal.code {
            RefusalCode::UpgradePending => true,
            RefusalCode::SalvageGap => !self.broken,
            _ => false,
        };
        if waits {
            return None;
        }
        self.broken = true;
        let (code, text) = (refusal.code.as_str().to_owned(), super::desk::refusal_text(refusal));
        Some(SalvageRefusal { ordinal, code, text })
    }
}
