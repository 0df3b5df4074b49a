//! Where people reach a node: a few bytes over a connection instead of HTTP. What is answered here is what counts as
//! acknowledged, whether or not the answer arrives.

use std::sync::Arc;

use bytes::Bytes;
use holdfast::core::command::{Command, Envelope};
use holdfast::core::ids::ChannelId;
use holdfast::core::keys::Key;
use holdfast::core::rows::Channel;
use holdfast::core::view::ViewExt as _;
use holdfast::node::{Node, ProposeError, ReplyTo};
use holdfast::replication::net::{BoxStream, Net as _};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::clock;
use crate::invariants;
use crate::oracle::{Ack, ClientId};
use crate::scenario::Breakage;
use crate::wires::WiredNet;
use crate::world::World;

/// The port.
pub(crate) const PORT: u16 = 7400;

/// The node's answer, as one byte.
pub(crate) const TAKEN: u8 = 0;
/// Nothing of it is or will be in the log.
pub(crate) const REFUSED: u8 = 1;
/// Another node may take it; this one may have logged it.
pub(crate) const NOT_ACTIVE: u8 = 2;

/// Serves people until the node ends.
pub(crate) async fn serve(world: Arc<World>, (me, node): (usize, Node), net: Arc<WiredNet>) {
    let acceptor = net.bind(&format!("0.0.0.0:{PORT}")).await.unwrap();
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = acceptor.accept().await {
        connections.spawn_local(connection(world.clone(), (me, node.clone()), stream));
    }
}

async fn connection(world: Arc<World>, (me, node): (usize, Node), mut stream: BoxStream) {
    while let Ok(length) = stream.read_u32().await {
        let mut client_id: ClientId = [0; 16];
        let mut bytes = vec![0; length as usize];
        if stream.read_exact(&mut client_id).await.is_err() || stream.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let envelope = Envelope::decode(Bytes::from(bytes)).unwrap();
        let answer = propose(&world, (me, &node), (client_id, envelope)).await;
        if stream.write_u8(answer).await.is_err() {
            return;
        }
    }
}

async fn propose(world: &World, (me, node): (usize, &Node), (id, mut envelope): (ClientId, Envelope)) -> u8 {
    current_version(node, &mut envelope);
    if world.broken(Breakage::AcksBeforeTheStandby) {
        return propose_hastily(world, (me, node), (id, &envelope));
    }
    match node.propose(&envelope).await {
        Ok(answer) if answer.outcome.is_ok() => {
            acknowledge(world, (me, node), (id, answer.pos));
            TAKEN
        }
        // It is in the log, and does nothing there.
        Ok(_) | Err(ProposeError::Refused(_)) => {
            world.oracle.lock().refused(&id);
            REFUSED
        }
        Err(_) => NOT_ACTIVE,
    }
}

/// What a page would know: which version of the channel it is about to change.
fn current_version(node: &Node, envelope: &mut Envelope) {
    if let Some(Command::UpdateChannel(update)) = &mut envelope.command {
        let row = node.projection().row::<Channel>(Key::Channel(ChannelId(update.channel))).unwrap();
        update.version = row.map_or(0, |row| row.version);
    }
}

/// A defect made on purpose: what is on the own disk counts.
fn propose_hastily(world: &World, (me, node): (usize, &Node), (id, envelope): (ClientId, &Envelope)) -> u8 {
    let before = node.log().last_durable_index();
    if node.propose_into(envelope, ReplyTo::Nobody).is_err() {
        return NOT_ACTIVE;
    }
    let pos = node.log().last_durable_index();
    if pos > before {
        acknowledge(world, (me, node), (id, pos));
        return TAKEN;
    }
    NOT_ACTIVE
}

fn acknowledge(world: &World, (me, node): (usize, &Node), (id, pos): (ClientId, u64)) {
    *world.acknowledged_ms.lock() = clock::elapsed_ms();
    let last = node.log().last_position();
    let found = if last.index == pos {
        Ok((last.epoch, last.chain))
    } else {
        node.log().position_at(pos).map(|at| (at.epoch, at.chain))
    };
    let (epoch, chain) = match found {
        Ok(found) => found,
        Err(error) => return world.violated(format!("node{} acknowledged {pos}, which it lacks: {error}", me + 1)),
    };
    let life = world.running(me).map_or(0, |running| running.life);
    let ack = Ack { index: pos, epoch, chain, node: me, life };
    let chain = data_encoding::HEXLOWER.encode(&chain[..4]);
    world.note(format_args!("node{} acknowledges {pos} {chain} of {epoch:x}", me + 1));
    if world.is_strict() {
        world.judge(invariants::one_history::acknowledged(world, &ack));
        world.judge(invariants::epochs_rise::acknowledged(world, &ack));
        world.judge(invariants::later_actives::acknowledged(world, &ack));
    }
    let mut oracle = world.oracle.lock();
    oracle.acks.entry(pos).or_insert(ack);
    oracle.acknowledged(&id);
}
