//! The software of the members: the program's own parts, put together as the server puts them together, on simulated
//! network and clocks. Wanting to start again is left to the driver, which throws everything away that is not on disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast::core::command::LEVEL;
use holdfast::core::failover::Status;
use holdfast::node::{Node, NodeOptions};
use holdfast::replication::pki::{PeerTls, SharedAllowed};
use holdfast::replication::{
    Face, Hooks, Identity, PairHandle, PairOptions, PairService, WitnessOptions, WitnessService, settle,
};
use tokio_util::sync::CancellationToken;

use crate::desk;
use crate::founding::{self, CLUSTER, NoSink};
use crate::wires::{HOSTS, WiredNet};
use crate::world::World;

/// How often a node's status is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn identity(number: u16) -> Identity {
    let client_url = if number == 3 { String::new() } else { format!("https://{}", HOSTS[usize::from(number) - 1]) };
    Identity { member: number, cluster: CLUSTER, client_url, level: LEVEL }
}

/// One life of a data node (0 or 1).
pub(crate) async fn data_node(world: Arc<World>, me: usize) -> turmoil::Result {
    while !world.dirs[me].join("pair/settings.bin").exists() {
        tokio::time::sleep(Duration::from_millis(100)).await; // it has not joined yet
    }
    let place = founding::place(&world.dirs[me], me);
    for told in settle(&place)? {
        // The directory is another one in every run.
        world.note(format_args!("node{} {}", me + 1, told.split(" were moved").next().unwrap_or_default()));
    }
    let net = Arc::new(WiredNet { me, wires: world.wires.clone() });
    let fatal = {
        let world = world.clone();
        move |reason: &str| world.violated(format!("node{} stopped itself: {reason}", me + 1))
    };
    let options = PairOptions {
        identity: identity(me as u16 + 1),
        place: place.clone(),
        listen: "0.0.0.0:7401".to_owned(),
        addresses: vec![format!("{}:7401", HOSTS[me])],
        net: net.clone(),
        tls: Some(PeerTls::Plain(SharedAllowed::default())),
        face: Face::alone(format!("https://{}", HOSTS[me])),
        hooks: Hooks::default(),
        close_sessions: Box::new(|| {}),
        on_fatal: Arc::new(fatal.clone()),
    };
    let service = PairService::open(options)?;
    let (node, report) = Node::start(NodeOptions {
        data: place.data,
        cluster: place.cluster,
        origin: place.origin,
        alone: service.is_alone(),
        events: service.node_events(),
        sink: Arc::new(NoSink),
        execution: place.execution,
        on_fatal: Arc::new(fatal),
    })?;
    let end = node.log().last_position();
    world.note(format_args!("node{} starts at {} of epoch {:x}, lost {:?}", me + 1, end.index, end.epoch, report.lost));
    let (runtime, pair) = service.with_node(node.clone())?;
    let _registered = world.register(me, (node.clone(), pair.clone()));
    let _running = tokio::task::spawn_local(runtime.run());
    let _serving = tokio::task::spawn_local(desk::serve(world.clone(), (me, node.clone()), net));
    let _looking = tokio::task::spawn_local(look(world.clone(), me, pair.clone()));
    let restart = pair.restart_wanted().await;
    world.note(format_args!("node{} wants to start again: {restart:?}", me + 1));
    node.stop(Duration::ZERO);
    world.again[me].store(true, Ordering::Relaxed);
    std::future::pending().await
}

/// Keeps the status for the driver, and notes what changes in it.
async fn look(world: Arc<World>, me: usize, pair: PairHandle) {
    let shown = |status: &Status| (status.role, status.epoch, status.protected, status.isolated, status.active);
    let mut before = None;
    while let Some(status) = pair.driver().status().await {
        if let Some(running) = world.nodes[me].lock().as_mut() {
            running.status = Some(status);
        }
        let now = shown(&status);
        if before.replace(now) != Some(now) {
            let (role, epoch, protected, isolated, active) = now;
            let place = (status.log.index, status.commit);
            world.note(format_args!(
                "node{} {role:?} in {:x}, protected {protected}, isolated {isolated}, active {active:?}, log {place:?}",
                me + 1,
                epoch.0
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One life of the witness.
pub(crate) async fn witness(world: Arc<World>) -> turmoil::Result {
    while !world.dirs[2].join("pair/settings.bin").exists() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let options = WitnessOptions {
        data: world.dirs[2].clone(),
        listen: "0.0.0.0:7401".to_owned(),
        net: Arc::new(WiredNet { me: 2, wires: world.wires.clone() }),
        tls: PeerTls::Plain(SharedAllowed::default()),
        identity: identity(3),
        validity: None,
    };
    let (service, _handle) = WitnessService::open(options).await?;
    service.run(CancellationToken::new()).await?;
    Ok(())
}
