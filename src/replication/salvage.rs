//! Proposing a diverged tail to the active again, record by record, in the order of the tail. Every record has its place in
//! the list, and the active remembers in its log how far it is: sending again what was sent does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::context::Context;
use super::link::{Link, LinkError};
use super::quarantine::{self, Tail};
use super::wire::{Class, Salvage, SalvageRefusal};
use crate::core::command::{self, Actor, Command, Envelope, NotePair, PairEvent};
use crate::core::failover::Member;
use crate::limits;
use crate::node::{Node, ProposeError};

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

/// Sends one tail from its beginning; what the active has had already it passes over.
async fn send(context: &Context, active: Member, tail: &Tail) -> std::io::Result<()> {
    let items = tail.items()?;
    let id: Bytes = tail.id();
    let mut refusals = BTreeMap::new();
    if !items.is_empty() {
        let (_, mut link) = context.dial(active, Class::Salvage).await.map_err(std::io::Error::other)?;
        link.receiver().set_silence_max(Some(Duration::from_millis(limits::LOG_LINK_IDLE_MS)));
        let mut done = 0;
        while done < items.len() {
            let batch = batch_from(items.get(done..).unwrap_or_default());
            let message = Salvage::Batch { tail: id.clone(), first_ordinal: done as u64, items: batch };
            link.sender().send(&message).await.map_err(std::io::Error::other)?;
            let answer = link.receiver().receive().await.map_err(std::io::Error::other)?;
            let Salvage::Answer { upto, refused } = answer else { continue };
            let upto = usize::try_from(upto).unwrap_or(usize::MAX).min(items.len());
            if upto <= done {
                return Err(std::io::Error::other("the active took none of the records"));
            }
            done = upto;
            refusals.extend(refused.into_iter().map(|refusal| (refusal.ordinal, refusal)));
        }
    }
    finish(tail, items.len(), refusals)
}

/// Notes that everything was proposed.
fn finish(tail: &Tail, proposed: usize, refusals: BTreeMap<u64, SalvageRefusal>) -> std::io::Result<()> {
    tracing::info!(tail = %tail.dir.display(), proposed, refused = refusals.len(), "the tail was proposed again");
    let refused: Vec<String> =
        refusals.values().map(|one| format!("{}: {} ({})", one.ordinal, one.text, one.code)).collect();
    tail.salvaged(proposed as u64, &refused)
}

/// Proposes one tail here, where this node is the active.
async fn propose_all(context: &Context, node: &Node, tail: &Tail) -> std::io::Result<()> {
    let items = tail.items()?;
    let mut refusals = BTreeMap::new();
    for (ordinal, item) in (0..).zip(&items) {
        match propose(node, &item.encode_to_vec().into()).await {
            Proposed::Taken => {}
            Proposed::Refused { code, text } => drop(refusals.insert(ordinal, SalvageRefusal { ordinal, code, text })),
            Proposed::Later => return Err(std::io::Error::other("this node takes no records at present")),
        }
    }
    if !items.is_empty() {
        tell(context, &tail.id(), items.len() as u64);
    }
    finish(tail, items.len(), refusals)
}

/// Tells people that records of a tail are proposed.
fn tell(context: &Context, tail: &Bytes, records: u64) {
    let text = format!("tail {}", data_encoding::HEXLOWER.encode(tail));
    let note = NotePair { what: PairEvent::Salvaged.into(), records, text, ..NotePair::default() };
    context.notices.write_later(note);
    context.notices.say("records that only one node had are proposed again".to_owned(), context.now_ms());
}

/// As many items as fit into one message.
fn batch_from(items: &[command::Salvage]) -> Vec<Bytes> {
    let mut bytes = 0;
    let encoded = items.iter().take(limits::SALVAGE_BATCH_ITEMS).map(|item| Bytes::from(item.encode_to_vec()));
    encoded
        .take_while(|item| {
            let first = bytes == 0;
            bytes += item.len();
            first || bytes <= limits::PEER_SALVAGE_BYTES_MAX / 2
        })
        .collect()
}

/// The active's side: proposes each item and tells what became of it.
pub(super) async fn serve(context: &Arc<Context>, node: &Node, mut link: Link) -> Result<(), LinkError> {
    let mut told = false;
    loop {
        let Salvage::Batch { tail, first_ordinal, items } = link.receiver().receive().await? else { continue };
        let mut upto = first_ordinal;
        let mut refused = Vec::new();
        for item in &items {
            match propose(node, item).await {
                Proposed::Taken => {}
                Proposed::Refused { code, text } => refused.push(SalvageRefusal { ordinal: upto, code, text }),
                Proposed::Later => break,
            }
            upto += 1;
        }
        if !told && upto > first_ordinal {
            told = true;
            tell(context, &tail, upto - first_ordinal);
        }
        link.sender().send(&Salvage::Answer { upto, refused }).await?;
    }
}

/// What became of one item.
enum Proposed {
    Taken,
    Refused {
        code: String,
        text: String,
    },
    /// Not now: the sender tries again from here.
    Later,
}

async fn propose(node: &Node, item: &Bytes) -> Proposed {
    let Ok(salvage) = command::Salvage::decode(item.clone()) else {
        return Proposed::Refused { code: "invalid_command".to_owned(), text: "it cannot be read".to_owned() };
    };
    let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::Salvage(salvage)) };
    let refused = |refusal: &crate::core::refusal::Refusal| Proposed::Refused {
        code: refusal.code.as_str().to_owned(),
        text: super::desk::refusal_text(refusal),
    };
    match node.propose(&envelope).await {
        Ok(answer) => answer.outcome.as_ref().map_or_else(refused, |_| Proposed::Taken),
        Err(ProposeError::Refused(refusal)) => refused(&refusal),
        Err(_) => Proposed::Later,
    }
}
