//! The running server: opens the data directory, starts the node, listens, looks after itself, and shuts down in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::listener::{Admission, Listener};
use super::{App, AppParts, admin_router, router};
use crate::auth::passwords::{PasswordLoad, PasswordPolicy, Passwords};
use crate::auth::rate_limit::{LoginLimiter, LoginLimits};
use crate::auth::setup_link::SetupLink;
use crate::backup::restore::desk::RestoreDesk;
use crate::backup::restore::first_run::FirstRun;
use crate::backup::service::{BackupOptions, BackupService};
use crate::blobs::BlobStore;
use crate::core::entry::Origin;
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::ViewExt;
use crate::limits;
use crate::node::{Execution, Node, NodeOptions, Role, StartReport, now_ms, now_seconds};
use crate::ops::datadir::DataDir;
use crate::ops::disk::{DiskReserve, DiskWatch};
use crate::ops::durable_file::write_private;
use crate::ops::lockfile::DataLock;
use crate::ops::metrics::Metrics;
use crate::ops::request_id::RequestIds;
use crate::projection::OpenOutcome;
use crate::realtime::{CloseReason, Hub, ReadMarks};
use crate::replication::net::TcpNet;
use crate::replication::pki::install_web_ca;
use crate::replication::{
    Face, Hooks, Identity, PairHandle, PairOptions, PairService, Place, SwitchoverReason, level_held, settle,
};
use crate::tls::{ServerTls, TlsOptions};
use crate::upkeep::Upkeep;

/// What a server is started with.
pub struct ServiceOptions {
    /// The data directory.
    pub dir: DataDir,
    /// Its lock, held as long as the server runs: a second one on this directory is refused.
    pub lock: DataLock,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Do TLS ourselves.
    pub tls: bool,
    /// Names and addresses that the own certificate is for, beside the usual ones.
    pub names: Vec<String>,
    /// The address that links begin with; made from `listen` if absent.
    pub public_url: Option<String>,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// Connections at once.
    pub connections_max: usize,
    /// What a new password must be like.
    pub password_policy: PasswordPolicy,
    /// How much is hashed at once.
    pub password_load: PasswordLoad,
    /// The login rate limits.
    pub login_limits: LoginLimits,
    /// How much of the disk stays free.
    pub disk_reserve: DiskReserve,
    /// This machine's side of the pair.
    pub pair: PairSide,
    /// The file with the private key for drills.
    pub drill_key: Option<PathBuf>,
}

/// This machine's side of the pair.
pub struct PairSide {
    /// Address and port for the other members.
    pub listen: String,
    /// Where the others reach that port.
    pub addresses: Vec<String>,
    /// Programs that run when the role changes.
    pub hooks: Hooks,
    /// The level of commands not to go beyond; 0: none.
    pub level_max: u32,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// The pair or a restore needs this process to start again: what it has to do then is written down.
    StartAgain,
}

/// Why a server does not start: a sentence that says what to do.
#[derive(Debug)]
pub struct ServiceError(pub String);

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServiceError {}

fn failed(error: impl std::fmt::Display) -> ServiceError {
    ServiceError(error.to_string())
}

/// A server that is open but does not listen yet.
pub struct Service {
    app: App,
    listen: TcpListener,
    local: UnixListener,
    data: PathBuf,
    site: u16,
    admission: Admission,
    pair_thread: std::thread::JoinHandle<()>,
    /// Held as long as the server runs.
    _lock: DataLock,
}

impl Service {
    /// Opens everything. When this returns the state is up to date and the sockets are bound.
    ///
    /// # Errors
    /// [`ServiceError`], with what to do about it.
    pub async fn open(options: ServiceOptions) -> Result<Self, ServiceError> {
        let data = options.dir.root().to_owned();
        let metrics = Metrics::install().map_err(failed)?;
        let listen = TcpListener::bind(options.listen).await.map_err(|e| {
            ServiceError(format!("cannot listen on {}: {e}; is another program there?", options.listen))
        })?;
        let bound = listen.local_addr().map_err(failed)?;
        let public_url = options.public_url.clone().unwrap_or_else(|| url_of(bound, options.tls));
        let place = place_of(&options.dir)?;
        let cluster = place.cluster;
        let rejoined = settle_log(place.clone()).await?;
        install_web_ca(&data.join("pair"), &data.join("tls")).map_err(failed)?;
        let tls = options.tls.then(|| open_tls(&options, bound)).transpose()?;
        let hub = Hub::default();
        let face = Face::alone(public_url.clone());
        let pair =
            PairService::open(pair_options(&options, (place, public_url.clone()), (&hub, &face))).map_err(failed)?;
        let alone = pair.is_alone();
        let (node, report) = start_node(&options.dir, &pair, hub.clone()).await?;
        let (runtime, pair) = pair.with_node(node.clone()).map_err(failed)?;
        let backups = open_backups(&options, (&node, &pair))?;
        let pair_thread = runtime.spawn().map_err(failed)?;
        if alone {
            let mut role = node.watch_role();
            role.wait_for(|role| *role == Role::Active).await.map_err(failed)?;
        }
        let setup = setup_link(&data, &node, alone)?;
        let scratch = swept_scratch(&data);
        let notices = rejoined.into_iter().chain(notices(&report)).collect();
        let app = App::new(AppParts {
            node,
            hub,
            read_marks: ReadMarks::default(),
            passwords: Passwords::new(options.password_load).map_err(failed)?,
            password_policy: options.password_policy,
            limiter: LoginLimiter::new(options.login_limits),
            setup,
            tls,
            face,
            pair,
            backups,
            public_url,
            disk: Arc::new(DiskWatch::new(&data, options.disk_reserve)),
            metrics,
            started: Instant::now(),
            request_ids: RequestIds::new(),
            notices: Arc::new(parking_lot::Mutex::new(notices)),
            restores: RestoreDesk::default(),
            first_run: FirstRun::default(),
            data: data.clone(),
            cluster,
            scratch,
            stopping: CancellationToken::new(),
        });
        watch_disk(&app);
        let local = bind_socket(&options.dir.admin_socket())?;
        let admission =
            Admission { connections_max: options.connections_max, trusted_proxies: options.trusted_proxies.into() };
        Ok(Self {
            app,
            listen,
            local,
            data,
            site: options.dir.identity().site,
            admission,
            pair_thread,
            _lock: options.lock,
        })
    }

    /// The address that links begin with.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.app.public_url
    }

    /// The one-time link of the set-up, while it waits to be done.
    #[must_use]
    pub fn setup_url(&self) -> Option<String> {
        let token = self.app.setup.print_token().ok().filter(|_| self.app.setup.is_open())?;
        Some(SetupLink::url(&self.app.public_url, &token))
    }

    /// The fingerprint (SHA-256) of the certificate in use.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        self.app.tls.as_ref().map(|tls| tls.info().sha256_fingerprint.clone())
    }

    /// The fingerprint (SHA-256) of the own CA, when the certificate in use is from it.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Option<String> {
        self.app.tls.as_ref().filter(|tls| tls.info().own_ca).map(ServerTls::ca_fingerprint)
    }

    /// What reads the certificate files again; the next connection gets the result.
    pub fn certificate_reload(&self) -> impl Fn() + Send + Sync + 'static {
        let app = self.app.clone();
        move || reload_certificate(&app)
    }

    /// Serves until `shutdown`, then ends in order: no new connections, sessions told to reconnect, everything logged
    /// and checkpointed.
    ///
    /// # Errors
    /// [`ServiceError`] when the address cannot be written to the data directory.
    pub async fn run(self, shutdown: CancellationToken) -> Result<Ended, ServiceError> {
        let address = self.data.join("run").join("address");
        let bound = self.listen.local_addr().map_err(failed)?;
        let line = format!("{}\n", url_of(bound, self.app.tls.is_some()));
        write_private(&address, line.as_bytes()).map_err(failed)?;
        let stop_listening = CancellationToken::new();
        let service = router(self.app.clone());
        let listener = Listener::new(service, stop_listening.clone(), &self.admission).with_tls(self.app.tls.clone());
        let operator = Listener::new(admin_router(self.app.clone()), stop_listening.clone(), &self.admission);
        let (tasks, operator_tasks) = (listener.tasks().clone(), operator.tasks().clone());
        let accepting = [tokio::spawn(listener.run(self.listen)), tokio::spawn(operator.run_local(self.local))];
        let chores = tokio::spawn(chores(self.app.clone()));
        let backups = tokio::spawn(self.app.backups.clone().run(self.app.stopping.clone()));
        let upkeep = tokio::spawn(upkeep(&self.app, &self.data, self.site).run(self.app.stopping.clone()));
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ended::Stopped,
            restart = self.app.pair.restart_wanted() => {
                tracing::info!(?restart, "the server starts again to bring its log into line with the active node's");
                Ended::StartAgain
            }
            () = self.app.first_run.placed() => {
                tracing::info!("the server starts again with what was restored");
                Ended::StartAgain
            }
        };
        if ended == Ended::Stopped {
            hand_over(&self.app).await;
        }
        if self.app.node.role() != Role::Active {
            // Whoever is active need not wait for this node's acks.
            self.app.pair.leave().await;
        }

        self.app.stopping.cancel();
        stop_listening.cancel();
        self.app.hub.close_all(CloseReason::ShuttingDown);
        tasks.close();
        operator_tasks.close();
        let patience = Duration::from_secs(limits::SHUTDOWN_CONNECTIONS_SECONDS_MAX);
        if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "some connections did not end in time");
        }
        chores.abort();
        backups.await.map_err(failed)?;
        upkeep.await.map_err(failed)?;
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        let app = self.app.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            app.read_marks.flush(&app.node);
            app.node.stop(Duration::from_millis(limits::SHUTDOWN_COMMIT_MS));
        });
        stopped.await.map_err(failed)?;
        // An active that nobody took over from: whoever can, does it now.
        self.app.pair.leave().await;
        self.app.pair.end();
        let pair_thread = self.pair_thread;
        tokio::task::spawn_blocking(move || pair_thread.join().is_ok()).await.map_err(failed)?;
        // Gone already when somebody cleaned up: then there is nothing to remove.
        drop(std::fs::remove_file(&address));
        Ok(ended)
    }
}

/// The address that clients use when nobody said otherwise.
fn url_of(bound: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = match bound {
        any if any.ip().is_unspecified() => format!("127.0.0.1:{}", any.port()),
        one => one.to_string(),
    };
    format!("{scheme}://{host}")
}

fn open_tls(options: &ServiceOptions, bound: SocketAddr) -> Result<ServerTls, ServiceError> {
    let mut names = options.names.clone();
    if !bound.ip().is_unspecified() {
        names.push(bound.ip().to_string());
    }
    if let Some(host) = options.public_url.as_deref().and_then(host_of) {
        names.push(host.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    ServerTls::open(TlsOptions { dir: options.dir.path("tls"), names }, now_seconds()).map_err(failed)
}

/// The host of an `https://host:port` address.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

fn place_of(dir: &DataDir) -> Result<Place, ServiceError> {
    let identity = dir.identity();
    Ok(Place {
        data: dir.root().to_owned(),
        cluster: identity.cluster_id_bytes().map_err(failed)?,
        origin: Origin { site: identity.site, node: identity.node },
        execution: Execution::Threads,
    })
}

fn upkeep(app: &App, data: &Path, site: u16) -> Upkeep {
    Upkeep {
        node: app.node.clone(),
        pair: app.pair.clone(),
        backups: app.backups.clone(),
        disk: app.disk.clone(),
        snapshots: data.join("snapshots"),
        site,
        verified: Arc::default(),
    }
}

fn open_backups(options: &ServiceOptions, (node, pair): (&Node, &PairHandle)) -> Result<BackupService, ServiceError> {
    let (dir, identity) = (&options.dir, options.dir.identity());
    BackupService::open(BackupOptions {
        node: node.clone(),
        pair: pair.clone(),
        blobs: BlobStore::open(&dir.path("blobs")).map_err(failed)?,
        data: dir.root().to_owned(),
        cluster: identity.cluster_id_bytes().map_err(failed)?,
        site: identity.site,
        member: identity.node,
        drill_key: options.drill_key.clone(),
    })
    .map_err(failed)
}

/// What the last run left to do to the log.
async fn settle_log(place: Place) -> Result<Vec<String>, ServiceError> {
    tokio::task::spawn_blocking(move || settle(&place)).await.map_err(failed)?.map_err(failed)
}

fn pair_options(
    options: &ServiceOptions,
    (place, client_url): (Place, String),
    (hub, face): (&Hub, &Face),
) -> PairOptions {
    let hub = hub.clone();
    PairOptions {
        identity: Identity {
            member: options.dir.identity().node,
            cluster: place.cluster,
            client_url,
            level: level_held(options.pair.level_max),
        },
        place,
        listen: options.pair.listen.clone(),
        addresses: options.pair.addresses.clone(),
        net: Arc::new(TcpNet),
        tls: None,
        face: face.clone(),
        hooks: options.pair.hooks.clone(),
        close_sessions: Box::new(move || hub.close_all(CloseReason::NotActive)),
        on_fatal: Arc::new(stop_loudly),
    }
}

/// A server that is told to stop hands over first when somebody is ready to take over: nobody notices then.
async fn hand_over(app: &App) {
    let ready = match app.pair.status().await {
        Some(status) => status.role == "active" && status.protected && status.automatic_failover,
        None => false,
    };
    if !ready {
        return;
    }
    let patience = Duration::from_millis(limits::SHUTDOWN_HAND_OVER_MS);
    match tokio::time::timeout(patience, app.pair.switchover(SwitchoverReason::Stopping)).await {
        Ok(Ok(member)) => tracing::info!(member, "handed over before stopping"),
        Ok(Err(error)) => tracing::warn!(%error, "could not hand over before stopping"),
        Err(_) => tracing::warn!("could not hand over in time before stopping"),
    }
}

async fn start_node(dir: &DataDir, pair: &PairService, hub: Hub) -> Result<(Node, StartReport), ServiceError> {
    let identity = dir.identity();
    let node_options = NodeOptions {
        data: dir.root().to_owned(),
        cluster: identity.cluster_id_bytes().map_err(failed)?,
        origin: Origin { site: identity.site, node: identity.node },
        alone: pair.is_alone(),
        events: pair.node_events(),
        sink: Arc::new(hub),
        execution: Execution::Threads,
        on_fatal: Arc::new(stop_loudly),
    };
    let started = tokio::task::spawn_blocking(move || Node::start(node_options)).await.map_err(failed)?;
    let (node, report) = started.map_err(failed)?;
    tracing::info!(
        replayed = report.replayed,
        milliseconds = report.took.as_millis() as u64,
        segments = report.log.segments,
        "the state is up to date"
    );
    Ok((node, report))
}

/// What nobody can recover from while running: after a failed write or fsync nobody knows what the disk holds, and a
/// state that failed must not answer. A restart begins from what is durable.
#[expect(clippy::print_stderr, reason = "the last words must reach the console even when the log files are full")]
fn stop_loudly(reason: &str) {
    tracing::error!(reason, "the server stops now");
    eprintln!("holdfast: fatal: {reason}\nholdfast: the server stops now; what was acknowledged is safe in the log");
    // Give the log writer's thread a moment: the line above is what an operator will look for.
    std::thread::sleep(Duration::from_millis(200));
    std::process::exit(70);
}

/// What starting found that an operator should know.
fn notices(report: &StartReport) -> Vec<String> {
    let mut notices = Vec::new();
    if let Some(cut) = &report.log.cut_tail {
        notices.push(format!(
            "{} bytes of an unfinished, never acknowledged write were cut off {} at the last start",
            cut.bytes,
            cut.path.display()
        ));
    }
    if let Some((log_end, state_end)) = report.lost {
        notices.push(format!(
            "the disk damaged the end of the log: records {} to {state_end} were acknowledged and are lost; check the disk, \
             and restore from a backup if these messages matter (the old state is kept beside state/)",
            log_end + 1
        ));
    }
    if let OpenOutcome::Rebuilt { moved_to, snapshot, .. } = &report.state {
        let from = snapshot.map_or_else(|| "the log".to_owned(), |index| format!("snapshot {index} and the log"));
        let old = moved_to.as_ref().map(|path| format!("; the old one is in {}", path.display())).unwrap_or_default();
        notices.push(format!("the state could not be used at the last start and was rebuilt from {from}{old}"));
    }
    notices
}

/// Where backups are opened to put texts back; what an interrupted job has left there is removed.
fn swept_scratch(data: &Path) -> std::path::PathBuf {
    let scratch = data.join("scratch");
    if let Err(error) = crate::backup::restore::live::sweep(&scratch) {
        tracing::warn!(%error, "what an interrupted job has left could not be removed");
    }
    scratch
}

/// The set-up link, as long as there is no owner. A crash after the set-up may have left it: then it is removed.
fn setup_link(data: &Path, node: &Node, alone: bool) -> Result<SetupLink, ServiceError> {
    let set_up = node.projection().row::<rows::Settings>(Key::Settings).map_err(failed)?.is_some();
    // A standby gets its owner from the active node.
    if set_up || !alone {
        let link = SetupLink::at(data);
        link.consume().map_err(failed)?;
        return Ok(link);
    }
    SetupLink::create_or_load(data).map_err(failed)
}

/// The admin socket at `path`, for its owner only.
pub(super) fn bind_socket(path: &Path) -> Result<UnixListener, ServiceError> {
    use std::os::unix::fs::PermissionsExt as _;
    // We hold the lock of the directory, so a socket that is there is left over from a process that died.
    drop(std::fs::remove_file(path));
    let listener = UnixListener::bind(path)
        .map_err(|e| ServiceError(format!("cannot make the admin socket {}: {e}", path.display())))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Looks at the disk and tells the node.
fn watch_disk(app: &App) {
    match app.disk.check() {
        Ok(disk) => {
            if disk.accepting != app.node.accepting() {
                if disk.accepting {
                    tracing::info!(free_bytes = disk.free_bytes, "there is room on the disk again: writes are taken");
                } else {
                    tracing::error!(
                        free_bytes = disk.free_bytes,
                        reserve_bytes = disk.reserve_bytes,
                        "the data disk is nearly full: writes are refused until there is room; reads go on"
                    );
                }
            }
            app.node.set_accepting(disk.accepting);
            metrics::gauge!(crate::ops::metrics::DISK_FREE_BYTES).set(disk.free_bytes as f64);
        }
        Err(error) => tracing::warn!(%error, "cannot ask how full the data disk is"),
    }
}

/// What is done again and again while the server runs.
async fn chores(app: App) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks: u64 = 0;
    loop {
        second.tick().await;
        ticks += 1;
        app.read_marks.flush(&app.node);
        app.hub.tick_presence();
        watch_disk(&app);
        if ticks.is_multiple_of(limits::WS_PING_SECONDS) {
            app.hub.tick_pings(Instant::now(), now_ms());
        }
        if ticks.is_multiple_of(METRICS_UPKEEP_SECONDS) {
            app.metrics.run_upkeep();
        }
        if ticks.is_multiple_of(CERTIFICATE_CHECK_SECONDS) {
            reload_certificate(&app);
        }
    }
}

/// Renews the own certificate when it is due, and takes over files that were replaced.
fn reload_certificate(app: &App) {
    let Some(tls) = &app.tls else { return };
    match tls.reload(now_seconds()) {
        Ok(info) => tracing::info!(fingerprint = info.sha256_fingerprint, "the certificate files were read"),
        Err(error) => tracing::error!(%error, "the certificate could not be read or renewed; the one in use stays"),
    }
}

/// How often histogram samples are folded into their buckets.
const METRICS_UPKEEP_SECONDS: u64 = 5;
/// How often the certificate is looked at.
const CERTIFICATE_CHECK_SECONDS: u64 = 6 * 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_an_address_that_works() {
        assert_eq!(url_of("0.0.0.0:8443".parse().unwrap(), true), "https://127.0.0.1:8443");
        assert_eq!(url_of("[::1]:80".parse().unwrap(), false), "http://[::1]:80");
        assert_eq!(host_of("https://chat.example:8443/x"), Some("chat.example"));
        assert_eq!(host_of("https://[::1]:8443"), Some("::1"));
        assert_eq!(host_of("chat"), None);
    }
}
