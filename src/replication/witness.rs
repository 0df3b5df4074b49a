//! The witness at work: a third machine with a vote and a few hundred bytes of state. Must never hold data, nor listen to
//! anybody that the pair's settings do not name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::{Contacts, Identity, allowed};
use super::control::{self, ControlLinks, Dialling, Dials};
use super::durable::DurableFile;
use super::link::{self, Link, LinkHandler, LinkServer, LinkServerOptions, LinkTimes, PeerHello, Target};
use super::net::{BoxFuture, Net};
use super::pki::{PeerTls, Validity};
use super::settings::{PairSettings, SettingsCache};
use super::wire::{Class, Welcome};
use crate::core::failover::{
    Contact, Effect, Epoch, Input, Member, Message, NOBODY, PairingState, Timer, Witness, WitnessStatus,
};
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::node::{now_ms, now_seconds};

/// What a witness is started with.
pub struct WitnessOptions {
    /// Its directory.
    pub data: PathBuf,
    /// Address and port for the data nodes.
    pub listen: String,
    /// The network.
    pub net: Arc<dyn Net>,
    /// How links are protected: by its certificates, but in simulations.
    pub tls: PeerTls,
    /// Who it is.
    pub identity: Identity,
    /// Until when its certificates are valid; `None` in simulations.
    pub validity: Option<Validity>,
}

/// Why a witness does not start, or ended.
#[derive(Debug)]
pub struct WitnessError(pub String);

impl std::fmt::Display for WitnessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WitnessError {}

fn failed(error: impl std::fmt::Display) -> WitnessError {
    WitnessError(error.to_string())
}

/// What reaches the witness's own task.
enum Event {
    Input(Input),
    Settings,
    Status(oneshot::Sender<WitnessStatus>),
}

/// What the witness's tasks share.
struct Shared {
    identity: Identity,
    net: Arc<dyn Net>,
    tls: PeerTls,
    settings: SettingsCache,
    contacts: Contacts,
    events: mpsc::Sender<Event>,
    epoch: parking_lot::Mutex<Epoch>,
    validity: Option<Validity>,
}

impl Shared {
    /// Takes over newer settings, from a member that says it is the active: what it has is committed.
    fn learn(&self, welcome: &Welcome) {
        let Some(bytes) = &welcome.settings else { return };
        let told_by_active = welcome.hello.epoch != Epoch::default();
        match PairSettings::decode(bytes) {
            Ok(settings) if told_by_active && settings.version() > self.settings.latest().version() => {
                self.tls.allowed().store(Arc::new(allowed(&settings)));
                match self.settings.put(settings) {
                    // Full: whoever dials next tells it again.
                    Ok(()) => drop(self.events.try_send(Event::Settings)),
                    Err(error) => tracing::error!(%error, "the pair's settings cannot be written"),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the pair's settings cannot be read"),
        }
    }
}

impl Dials for Shared {
    fn member(&self) -> Member {
        self.identity.member
    }

    fn dial_control<'a>(&'a self, member: Member, address: &'a str) -> Dialling<'a> {
        Box::pin(async move {
            let hello = self.identity.hello(Class::Control, (*self.epoch.lock(), 0), now_ms());
            let (welcome, link) = link::dial(&*self.net, &self.tls, Target { address, member }, &hello).await?;
            self.learn(&welcome);
            Ok((welcome, link))
        })
    }

    fn unheard_max(&self) -> Duration {
        self.settings.latest().unheard_max()
    }

    fn contacts(&self) -> &Contacts {
        &self.contacts
    }
}

struct Handler(Arc<Shared>);

impl LinkHandler for Handler {
    fn welcome(&self) -> Welcome {
        let hello = self.0.identity.hello(Class::Control, (*self.0.epoch.lock(), 0), now_ms());
        Welcome { hello, first: 0, last: 0, settings: None }
    }

    fn serve(&self, peer: PeerHello, link: Link) -> BoxFuture<'static, ()> {
        let shared = self.0.clone();
        Box::pin(async move {
            let from = peer.hello.member;
            let take = |message: Message| {
                // Full: the message is lost, which the protocol survives.
                drop(shared.events.try_send(Event::Input(Input::Received { from, message })));
                shared.settings.latest().member(from).is_some()
            };
            if shared.settings.latest().member(from).is_some()
                && let Err(error) = control::hear(link, peer.protocol, take).await
            {
                tracing::debug!(from, %error, "a control link ended");
            }
        })
    }
}

/// A witness that is open.
pub struct WitnessService {
    core: Witness,
    durable: DurableFile,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    server: Option<LinkServer>,
    links: ControlLinks,
    timers: BTreeMap<Timer, Instant>,
    started: Instant,
}

/// Asks a running witness. Clones share it.
#[derive(Clone)]
pub struct WitnessHandle {
    shared: Arc<Shared>,
}

impl WitnessService {
    /// Reads the state and opens the port.
    ///
    /// # Errors
    /// [`WitnessError`] with what to do.
    pub async fn open(options: WitnessOptions) -> Result<(Self, WitnessHandle), WitnessError> {
        let dir = options.data.join("pair");
        let durable = DurableFile::at(&dir).map_err(failed)?;
        let state = durable.load_witness().map_err(failed)?.unwrap_or_default();
        let settings = SettingsCache::open(&dir).map_err(failed)?;
        let tls = options.tls;
        tls.allowed().store(Arc::new(allowed(&settings.latest())));
        let (sender, events) = mpsc::channel(limits::DRIVER_EVENTS_MAX);
        let protocol = settings.latest().protocol();
        let shared = Arc::new(Shared {
            identity: options.identity,
            net: options.net,
            tls: tls.clone(),
            settings,
            contacts: Contacts::default(),
            events: sender,
            epoch: parking_lot::Mutex::new(state.epoch),
            validity: options.validity,
        });
        let server = LinkServerOptions { tls, handler: Arc::new(Handler(shared.clone())), times: LinkTimes::default() };
        let server = LinkServer::bind(&*shared.net, &options.listen, server)
            .await
            .map_err(|e| WitnessError(format!("cannot listen on {}: {e}", options.listen)))?;
        let service = Self {
            core: Witness::new(state, protocol),
            durable,
            links: ControlLinks::new(shared.clone()),
            shared: shared.clone(),
            events,
            server: Some(server),
            timers: BTreeMap::new(),
            started: Instant::now(),
        };
        Ok((service, WitnessHandle { shared }))
    }

    /// Votes until `shutdown`.
    ///
    /// # Errors
    /// [`WitnessError`] when its state cannot be written: it must not vote any more.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), WitnessError> {
        let serving = self.server.take().map(|server| tokio::spawn(server.run(shutdown.clone())));
        let warning = tokio::spawn(warn_of_the_end(self.shared.clone()));
        let ended = self.work(&shutdown).await;
        warning.abort();
        shutdown.cancel();
        if let Some(serving) = serving {
            drop(serving.await);
        }
        ended.map_err(|e| WitnessError(format!("the witness's state cannot be written: {e}")))
    }

    async fn work(&mut self, shutdown: &CancellationToken) -> std::io::Result<()> {
        self.take_settings()?;
        self.step(Input::Start)?;
        loop {
            let next = self.timers.values().min().copied();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = due => self.fire()?,
                event = self.events.recv() => match event {
                    Some(Event::Input(input)) => self.step(input)?,
                    Some(Event::Settings) => self.take_settings()?,
                    Some(Event::Status(asked)) => {
                        let now_ms = self.started.elapsed().as_millis() as u64;
                        let _ = asked.send(self.core.status(now_ms));
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    fn take_settings(&mut self) -> std::io::Result<()> {
        let settings = self.shared.settings.latest();
        let data = settings.0.members.iter().filter(|member| member.kind() == PairMemberKind::Data);
        let mut data = data.filter_map(|member| Member::try_from(member.number).ok());
        let (first, second) = (data.next().unwrap_or(NOBODY), data.next());
        self.links.connect(&settings);
        if settings.member(self.shared.identity.member).is_none() {
            tracing::error!("this witness was removed from the pair: it has no vote any more; stop it");
            return self.step(Input::DataNodes { first: NOBODY, second: None });
        }
        self.step(Input::DataNodes { first, second })
    }

    fn fire(&mut self) -> std::io::Result<()> {
        let now = Instant::now();
        let due: Vec<Timer> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in due {
            self.timers.remove(&timer);
            self.step(Input::Fired(timer))?;
        }
        Ok(())
    }

    fn step(&mut self, input: Input) -> std::io::Result<()> {
        let now_ms = self.started.elapsed().as_millis() as u64;
        for effect in self.core.step(input, now_ms) {
            match effect {
                Effect::Persist => {
                    self.durable.save_witness(self.core.durable())?;
                    *self.shared.epoch.lock() = self.core.durable().epoch;
                }
                Effect::Send { to, message } => self.links.send(to, message),
                Effect::Arm { timer, after_ms } => {
                    self.timers.insert(timer, Instant::now() + Duration::from_millis(after_ms));
                }
                Effect::Disarm(timer) => drop(self.timers.remove(&timer)),
                Effect::Notice(notice) => tracing::info!(?notice, "the witness"),
                // A witness has no log and no clients.
                other => tracing::error!(?other, "the protocol asks a witness for what only a data node can do"),
            }
        }
        Ok(())
    }
}

impl Shared {
    /// What is wrong with its certificates, and what to do: it cannot renew its own.
    fn certificate_warning(&self) -> Option<String> {
        self.validity?.warning(now_seconds())
    }
}

/// Tells the log every day of a certificate that ends soon.
async fn warn_of_the_end(shared: Arc<Shared>) {
    let mut daily = tokio::time::interval(Duration::from_secs(limits::PAIR_RENEW_WARN_SECONDS));
    loop {
        daily.tick().await;
        if let Some(warning) = shared.certificate_warning() {
            tracing::warn!("{warning}");
        }
    }
}

/// What an operator sees of a witness.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessReport {
    /// The program's version.
    pub version: &'static str,
    /// Always `witness`.
    pub role: &'static str,
    /// Its number.
    pub member: u16,
    /// The highest epoch that it has seen.
    pub epoch: u64,
    /// `paired`, `solo`, or `unknown` as long as no active has told it.
    pub pairing: &'static str,
    /// The active that the pairing names.
    pub active: u16,
    /// The data nodes, and when each was last heard, in milliseconds before now.
    pub data_nodes: Vec<(u16, Option<u64>)>,
    /// Days for which its certificates are valid.
    pub certificate_days_left: Option<i64>,
    /// What has to be done about them, when that is soon.
    pub certificate_warning: Option<String>,
    /// All of it in one sentence.
    pub summary: String,
}

impl WitnessHandle {
    /// How the witness stands; `None` while it ends.
    pub async fn status(&self) -> Option<WitnessReport> {
        let (sender, answer) = oneshot::channel();
        self.shared.events.send(Event::Status(sender)).await.ok()?;
        let status = answer.await.ok()?;
        let pairing = match status.pairing {
            told if told.version == 0 => "unknown",
            told if matches!(told.state, PairingState::Solo { .. }) => "solo",
            _ => "paired",
        };
        let silent = status.data.iter().flatten().filter(|contact: &&Contact| {
            let limit = self.shared.settings.latest().timings().fail_after_ms;
            contact.heard_ms_ago.is_none_or(|ms| ms > u64::from(limit))
        });
        let silent: Vec<String> = silent.map(|contact| contact.member.to_string()).collect();
        let certificate_warning = self.shared.certificate_warning();
        let mut summary = if silent.is_empty() {
            "both data nodes are heard".to_owned()
        } else {
            format!("member {} is not heard", silent.join(" and "))
        };
        if let Some(warning) = &certificate_warning {
            summary = format!("{summary}; {warning}");
        }
        Some(WitnessReport {
            version: env!("CARGO_PKG_VERSION"),
            role: "witness",
            member: self.shared.identity.member,
            epoch: status.epoch.number(),
            pairing,
            active: status.pairing.active,
            data_nodes: status.data.iter().flatten().map(|contact| (contact.member, contact.heard_ms_ago)).collect(),
            certificate_days_left: self.shared.validity.map(|validity| validity.days_left(now_seconds())),
            certificate_warning,
            summary,
        })
    }
}
