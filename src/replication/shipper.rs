//! The active's side of log shipping: answers what the follower asks about the log, then sends it everything from where it
//! stands on. Must never send what is not durable here: a record that the standby has, this node has too, for ever.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::link::{Link, LinkError, LinkReceiver, LinkSender};
use super::wire::{LogMessage, Ship};
use crate::core::failover::{Epoch, Member, Message};
use crate::limits;
use crate::node::Node;
use crate::oplog::LogError;

/// Serves one log link of `peer` to its end.
pub(super) async fn serve(
    context: Arc<Context>,
    node: Node,
    (peer, mut link): (Member, Link),
) -> Result<(), LinkError> {
    let idle = Duration::from_millis(limits::LOG_LINK_IDLE_MS);
    link.receiver().set_silence_max(Some(idle));
    let (epoch, from) = questions(&node, &mut link).await?;
    let mut active = context.active_epoch.watch();
    if active.look() != Some(epoch) {
        return Ok(()); // not (any more) the active that it means to follow
    }
    let (mut sender, mut receiver) = link.split();
    receiver.set_silence_max(None);
    tokio::select! {
        biased;
        // Records of another epoch must not travel as those of this one.
        _ = active.wait_for(|now| *now != Some(epoch)) => Ok(()),
        error = acks(&context, peer, &mut receiver) => Err(error),
        error = ship(&context, &node, (&mut sender, epoch, from)) => Err(error),
    }
}

/// Answers questions about the log until the follower knows where it stands.
async fn questions(node: &Node, link: &mut Link) -> Result<(Epoch, u64), LinkError> {
    loop {
        match link.receiver().receive().await? {
            LogMessage::AskPosition { index } => {
                let (first, last) = (node.log().first_index(), node.log().last_durable_index());
                let answer = match node.log().position_at(index) {
                    Ok(at) => LogMessage::PositionIs { index, epoch: Epoch(at.epoch), chain: at.chain, first, last },
                    Err(LogError::NotInLog { .. }) => LogMessage::PositionUnknown { index, first, last },
                    Err(error) => {
                        tracing::error!(index, %error, "the log cannot be read for the standby");
                        return Err(LinkError::Closed);
                    }
                };
                link.sender().send(&answer).await?;
            }
            LogMessage::ShipFrom { epoch, index } => return Ok((epoch, index)),
            _ => {}
        }
    }
}

/// Takes acks. Ends only with an error.
async fn acks(context: &Context, peer: Member, receiver: &mut LinkReceiver) -> LinkError {
    loop {
        match receiver.receive().await {
            Ok(LogMessage::Control(message @ Message::Ack { .. })) => {
                context.driver.received(peer, message);
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// Sends records as they become durable, and between them how far the log is and what is committed. Ends only with an
/// error.
async fn ship(context: &Context, node: &Node, (sender, epoch, from): (&mut LinkSender, Epoch, u64)) -> LinkError {
    let (mut log, mut committed) = (context.watcher.log(), context.committed.watch());
    let mut shipments = match node.log().shipments_from(from) {
        Ok(shipments) => shipments,
        Err(error) => {
            tracing::warn!(from, %error, "the standby asks for records that are not here");
            return LinkError::Closed;
        }
    };
    let mut beat = tokio::time::interval(Duration::from_millis(limits::SHIP_BEAT_MS));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What the follower was told last; nothing when it must hear something.
    let mut told = None;
    loop {
        log.look();
        committed.look();
        let frames = match shipments.next_batch(limits::SHIP_BYTES) {
            Ok(shipment) => shipment.map(|shipment| shipment.frames).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "the log cannot be read for the standby");
                return LinkError::Closed;
            }
        };
        let more = !frames.is_empty();
        let ship = Ship {
            epoch,
            frames,
            commit: node.committed_index(),
            last: node.log().last_durable_index(),
            sent_ms: context.now_ms(),
        };
        let news = Some((ship.commit, ship.last));
        // Between records that follow one another it would cost both sides much and say nothing new.
        if more || told != news {
            if let Err(error) = sender.send(&LogMessage::Ship(ship)).await {
                return error;
            }
            told = news;
        }
        if more {
            continue;
        }
        tokio::select! {
            biased;
            () = log.changed() => {}
            () = committed.changed() => {}
            _ = beat.tick() => told = None,
        }
    }
}
