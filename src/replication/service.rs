//! The pair's part of a data node, from opening to the end. Runs on a thread and a runtime of its own: a heartbeat must not
//! wait behind ten thousand clients.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::context::{Contacts, Context, Identity, LagCell, Restart};
use super::desk::Desk;
use super::driver::{Driver, DriverEvents, DriverHandle, DriverParts};
use super::durable::DurableFile;
use super::face::Face;
use super::handler::Handler;
use super::hooks::Hooks;
use super::invite::Invites;
use super::link::{LinkServer, LinkServerOptions, LinkTimes};
use super::net::Net;
use super::notices::Notices;
use super::pki::{PairPki, PeerTls};
use super::rejoin::Place;
use super::renewal::{self, Renewal};
use super::room;
use super::salvage;
use super::settings::SettingsCache;
use super::watched::Watched;
use super::watcher::Watcher;
use crate::blobs::BlobStore;
use crate::core::failover::{DataMember, Durable, Epoch, LogEnd, Member};
use crate::limits;
use crate::node::{Node, NodeEvents};

/// What the pair's part is started with.
pub struct PairOptions {
    /// Who this node is.
    pub identity: Identity,
    /// Where its data is.
    pub place: Place,
    /// The address and port for the other members.
    pub listen: String,
    /// Where the others reach that port.
    pub addresses: Vec<String>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// How links are protected, instead of by the certificates in the pair directory: simulations say so.
    pub tls: Option<PeerTls>,
    /// What clients are told.
    pub face: Face,
    /// Programs that run when the role changes.
    pub hooks: Hooks,
    /// Ends all clients' sessions with `not_active`.
    pub close_sessions: Box<dyn Fn() + Send + Sync>,
    /// Stops the process; called with the reason.
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Why the pair's part cannot be opened.
#[derive(Debug)]
pub struct PairError(pub String);

impl std::fmt::Display for PairError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PairError {}

fn failed(error: impl std::fmt::Display) -> PairError {
    PairError(error.to_string())
}

/// The pair's part of a node that is not started yet.
pub struct PairService {
    options: PairOptions,
    events: DriverEvents,
    driver: DriverHandle,
    settings: Arc<SettingsCache>,
    watcher: Arc<Watcher>,
    durable: DurableFile,
    state: Option<Durable>,
    tls: Arc<OnceLock<PeerTls>>,
    blobs: BlobStore,
}

impl PairService {
    /// Reads what is known of the pair. Changes nothing.
    ///
    /// # Errors
    /// [`PairError`]: a file of the pair is damaged; the node must not start as if it were alone.
    pub fn open(options: PairOptions) -> Result<Self, PairError> {
        let dir = options.pair_dir();
        let durable = DurableFile::at(&dir).map_err(failed)?;
        let state = durable.load().map_err(failed)?;
        let settings = Arc::new(SettingsCache::open(&dir).map_err(failed)?);
        let (driver, events) = DriverHandle::new();
        let watcher = Arc::new(Watcher::new(driver.clone(), settings.clone(), options.on_fatal.clone()));
        let tls = Arc::new(OnceLock::new());
        let allowed = super::context::allowed(&settings.latest());
        if let Some(simulated) = &options.tls {
            simulated.allowed().store(Arc::new(allowed));
            drop(tls.set(simulated.clone()));
        } else if let Some(pki) = PairPki::load(&dir).map_err(failed)? {
            drop(tls.set(pki.tls(Arc::new(ArcSwap::from_pointee(allowed))).map_err(failed)?));
        }
        let blobs = BlobStore::open(&options.place.data.join("blobs")).map_err(failed)?;
        Ok(Self { options, events, driver, settings, watcher, durable, state, tls, blobs })
    }

    /// Whether there is no other data node.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.settings.latest().others(self.options.identity.member).0.is_none()
    }

    /// Who must be told what becomes of the node's log.
    #[must_use]
    pub fn node_events(&self) -> Arc<dyn NodeEvents> {
        self.watcher.clone()
    }

    /// Joins the started node with the protocol. The returned part has to be run.
    ///
    /// # Errors
    /// [`PairError`]: the log knows this node as the member of a pair, but its memory of votes is gone.
    pub fn with_node(self, node: Node) -> Result<(PairRuntime, PairHandle), PairError> {
        let known = self.settings.refresh(&node).map_err(failed)?;
        let (peer, witness) = known.others(self.options.identity.member);
        if self.state.is_none() && (peer.is_some() || witness.is_some()) {
            return Err(PairError(MEMORY_LOST.to_owned()));
        }
        let end = node.log().last_position();
        self.watcher.opened(end);
        let identity = self.options.identity.clone();
        let context = Arc::new(Context {
            member: identity.member,
            identity,
            place: self.options.place.clone(),
            net: self.options.net.clone(),
            tls: self.tls,
            driver: self.driver.clone(),
            settings: self.settings,
            watcher: self.watcher,
            active_epoch: Watched::new(None),
            committed: Watched::new(node.committed_index()),
            contacts: Contacts::default(),
            hellos: parking_lot::Mutex::default(),
            renewal: Renewal::default(),
            lag: LagCell::default(),
            notices: Notices::new(self.options.identity.member),
            face: self.options.face.clone(),
            salvage: salvage::Progress::default(),
            archive_from: parking_lot::Mutex::new(None),
            blobs: self.blobs,
            snapshots: tokio::sync::Mutex::new(()),
            restarts: watch::Sender::new(None),
            ending: CancellationToken::new(),
            close: self.options.close_sessions,
        });
        // A node from before there were pairs: its log says in which epochs it was active.
        let durable = self.state.unwrap_or(Durable { epoch: Epoch(end.epoch), was_active: true, ..Durable::default() });
        let log = LogEnd { epoch: Epoch(end.epoch), index: end.index };
        let core = DataMember::new(context.member, durable, log, context.settings.latest().protocol());
        let (enable, enabled) = mpsc::channel(1);
        let listen = self.options.listen.parse().unwrap_or_else(|_| std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
        let desk = Desk {
            context: context.clone(),
            node: node.clone(),
            invites: Arc::new(Invites::default()),
            addresses: self.options.addresses.into(),
            listen,
        };
        let handle = PairHandle { context: context.clone(), node: node.clone(), desk, enable };
        let parts = DriverParts {
            core,
            context: context.clone(),
            node: node.clone(),
            durable: self.durable,
            events: self.events,
            log: context.watcher.log(),
        };
        let runtime = PairRuntime {
            driver: Driver::new(parts),
            handler: Arc::new(Handler { context: context.clone(), node, pair: handle.clone() }),
            context,
            hooks: self.options.hooks,
            listen: self.options.listen,
            enabled,
            on_fatal: self.options.on_fatal,
        };
        Ok((runtime, handle))
    }
}

/// What to do with a member that does not know any more for whom it has voted.
const MEMORY_LOST: &str = "this node belongs to a pair, but the files in pair/ of its data directory are gone, and with them \
                           its memory of votes: empty the data directory and let it join again with a new invitation";

impl PairOptions {
    fn pair_dir(&self) -> PathBuf {
        self.place.data.join("pair")
    }
}

/// Who waits to hear whether the peer port is open.
type Enabled = oneshot::Sender<std::io::Result<()>>;

/// The pair's part of a started node.
pub struct PairRuntime {
    driver: Driver,
    handler: Arc<Handler>,
    context: Arc<Context>,
    hooks: Hooks,
    listen: String,
    enabled: mpsc::Receiver<Enabled>,
    on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl PairRuntime {
    /// Runs on a thread of its own until the handle's `end`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(self.run());
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("pair".to_owned()).spawn(run)
    }

    /// Runs until the handle's `end`, or until the process has to start again.
    pub async fn run(self) {
        let (context, node) = (self.context.clone(), self.handler.node.clone());
        let epoch = {
            let node = node.clone();
            move || node.epoch()
        };
        let hooks = tokio::spawn(self.hooks.run(node.watch_role(), epoch));
        let salvage = tokio::spawn(salvage::keep_sending(context.clone(), node.clone()));
        let renewal = tokio::spawn(renewal::keep_valid(context.clone(), node.clone()));
        let truth = tokio::spawn(self.handler.pair.desk.clone().keep_settings_true());
        let room = tokio::spawn(room::watch(self.handler.pair.clone()));
        let listening = tokio::spawn(listen(context.clone(), self.handler, (self.listen, self.enabled)));
        if let Err(error) = self.driver.run().await {
            (self.on_fatal)(&format!("the state of the pair cannot be written: {error}"));
        }
        context.ending.cancel();
        hooks.abort();
        salvage.abort();
        renewal.abort();
        truth.abort();
        room.abort();
        drop(listening.await);
    }
}

/// Keeps the peer port open, from the start in a pair, else from the first invitation on.
async fn listen(
    context: Arc<Context>,
    handler: Arc<Handler>,
    (address, mut enabled): (String, mpsc::Receiver<Enabled>),
) {
    let mut waiting: Option<Enabled> = None;
    loop {
        if context.tls.get().is_some() {
            match open(&context, &handler, &address).await {
                Ok(server) => {
                    if let Some(waiting) = waiting.take() {
                        drop(waiting.send(Ok(())));
                    }
                    let serving = server.run(context.ending.clone());
                    tokio::pin!(serving);
                    loop {
                        tokio::select! {
                            biased;
                            () = &mut serving => return,
                            asked = enabled.recv() => match asked {
                                Some(asked) => drop(asked.send(Ok(()))),
                                None => break,
                            },
                        }
                    }
                    return serving.await;
                }
                Err(error) => {
                    tracing::error!(address, %error, "the peer port cannot be opened; check pair.listen; trying again");
                    if let Some(waiting) = waiting.take() {
                        drop(waiting.send(Err(error)));
                    }
                }
            }
        }
        tokio::select! {
            biased;
            asked = enabled.recv() => waiting = asked,
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
            () = context.ending.cancelled() => return,
        }
    }
}

/// How soon a port that is taken is tried again.
const LISTEN_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

async fn open(context: &Context, handler: &Arc<Handler>, address: &str) -> std::io::Result<LinkServer> {
    let Some(tls) = context.tls.get().cloned() else { return Err(std::io::ErrorKind::NotConnected.into()) };
    let options = LinkServerOptions { tls, handler: handler.clone(), times: LinkTimes::default() };
    LinkServer::bind(&*context.net, address, options).await
}

/// How the rest of the program works with the pair. Clones share it.
#[derive(Clone)]
pub struct PairHandle {
    pub(super) context: Arc<Context>,
    pub(super) node: Node,
    pub(super) desk: Desk,
    enable: mpsc::Sender<Enabled>,
}

impl PairHandle {
    /// This node's number.
    #[must_use]
    pub fn member(&self) -> Member {
        self.context.member
    }

    /// What the driver can be told and asked.
    #[must_use]
    pub fn driver(&self) -> &DriverHandle {
        &self.context.driver
    }

    /// Opens the peer port with these certificates, if it is not open yet.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn enable(&self, tls: PeerTls) -> std::io::Result<()> {
        drop(self.context.tls.set(tls));
        let (sender, answer) = oneshot::channel();
        let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        self.enable.send(sender).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Resolves when the process has to start again, with the reason; never otherwise.
    pub async fn restart_wanted(&self) -> Restart {
        let mut restarts = self.context.restarts.subscribe();
        let wanted = restarts.wait_for(Option::is_some).await.map(|restart| *restart);
        match wanted {
            Ok(Some(restart)) => restart,
            _ => std::future::pending().await,
        }
    }

    /// Tells the others that this node is about to stop, so that nobody waits for its acks or for its heartbeats: this node
    /// takes part in nothing from then on. Not for an active that still takes writes.
    pub async fn leave(&self) {
        // A driver that hangs must not keep the process from stopping: then the others wait as for any silent node.
        let patience = Duration::from_millis(limits::LEAVE_MS_MAX * 2);
        drop(tokio::time::timeout(patience, self.driver().leave()).await);
    }

    /// Ends the pair's part: no heartbeats, no links.
    pub fn end(&self) {
        self.context.ending.cancel();
    }
}
