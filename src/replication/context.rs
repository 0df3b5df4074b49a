//! What the parts of a running data node share. Holds no protocol state: that is the driver's alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::{Dialling, Dials};
use super::driver::DriverHandle;
use super::face::Face;
use super::link::{self, Link, LinkError, Target};
use super::net::Net;
use super::notices::Notices;
use super::pki::{Allowed, AllowedMember, Fingerprint, PeerTls};
use super::rejoin::{self, Place};
use super::renewal::Renewal;
use super::salvage::Progress;
use super::settings::{PairSettings, SettingsCache};
use super::watched::Watched;
use super::watcher::Watcher;
use super::wire::{Class, Hello, Welcome};
use crate::blobs::BlobStore;
use crate::core::failover::{Epoch, Member};
use crate::limits;

/// Why the process has to start again. What it has to do then is durable already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Records that the active does not have must go into quarantine.
    Rewind {
        /// The first of them.
        fork: u64,
    },
    /// A bootstrap is complete and takes the place of the log.
    Bootstrapped,
}

/// Who this member is and what it can do.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number.
    pub member: Member,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// Where clients reach it.
    pub client_url: String,
    /// The level of commands that it understands, or is held at.
    pub level: u32,
}

impl Identity {
    /// What it says first on a link.
    pub(super) fn hello(&self, class: Class, (epoch, level_in_use): (Epoch, u32), now_ms: u64) -> Hello {
        Hello {
            protocol: limits::PEER_PROTOCOL,
            protocol_min: limits::PEER_PROTOCOL_MIN,
            level: self.level,
            level_in_use,
            cluster: self.cluster,
            member: self.member,
            class,
            epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            client_url: self.client_url.clone(),
            now_ms,
            next_certificate: None,
        }
    }
}

/// What a member says of itself in its hello.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// The level of commands that it understands.
    pub(super) level: u32,
    /// Where clients reach it.
    pub(super) client_url: String,
    /// The certificate that it wants to show from now on.
    pub(super) next: Option<Fingerprint>,
}

/// See the module.
pub(super) struct Context {
    pub(super) identity: Identity,
    pub(super) member: Member,
    pub(super) place: Place,
    pub(super) net: Arc<dyn Net>,
    /// Set once there is a pair, or an invitation to one.
    pub(super) tls: Arc<OnceLock<PeerTls>>,
    pub(super) driver: DriverHandle,
    pub(super) settings: Arc<SettingsCache>,
    pub(super) watcher: Arc<Watcher>,
    /// The epoch in which this node is the active.
    pub(super) active_epoch: Watched<Option<Epoch>>,
    /// Up to where records are committed.
    pub(super) committed: Watched<u64>,
    pub(super) contacts: Contacts,
    /// What other members said of themselves when a link was made.
    pub(super) hellos: Mutex<BTreeMap<Member, Said>>,
    /// Renewing the own certificate.
    pub(super) renewal: Renewal,
    pub(super) lag: LagCell,
    pub(super) notices: Notices,
    pub(super) face: Face,
    /// How far the diverged tail is that is being proposed again.
    pub(super) salvage: Progress,
    pub(super) archive_from: Mutex<Option<u64>>,
    pub(super) blobs: BlobStore,
    /// One snapshot is made at a time.
    pub(super) snapshots: tokio::sync::Mutex<()>,
    pub(super) restarts: watch::Sender<Option<Restart>>,
    pub(super) ending: CancellationToken,
    /// Ends all clients' sessions with `not_active`.
    pub(super) close: Box<dyn Fn() + Send + Sync>,
}

impl Context {
    /// Connects to a member. All its addresses are tried, those over which heartbeats pass first, each a little after the
    /// one before it or as soon as that one has failed; the first that answers is taken.
    pub(super) async fn dial(&self, member: Member, class: Class) -> Result<(Welcome, Link), LinkError> {
        let mut addresses = self.settings.latest().addresses(member);
        addresses.sort_by_key(|address| !self.contacts.is_up(member, address));
        let mut untried = addresses.iter();
        let mut dials = FuturesUnordered::new();
        let mut last = LinkError::MemberUnknown(member);
        loop {
            if let Some(address) = untried.next() {
                dials.push(self.dial_at(member, address, class));
            } else if dials.is_empty() {
                return Err(last);
            }
            let head_start = tokio::time::sleep(Duration::from_millis(limits::DIAL_HEAD_START_MS));
            tokio::select! {
                biased;
                Some(dialled) = dials.next() => match dialled {
                    Ok(linked) => return Ok(linked),
                    Err(error) => last = error,
                },
                () = head_start, if untried.len() > 0 => {}
            }
        }
    }

    /// Connects to a member at one address.
    pub(super) async fn dial_at(
        &self,
        member: Member,
        address: &str,
        class: Class,
    ) -> Result<(Welcome, Link), LinkError> {
        let hello = self.hello(class);
        let Some(tls) = self.tls.get() else { return Err(LinkError::CertificateRequired) };
        let dialled = link::dial(&*self.net, tls, Target { address, member }, &hello).await;
        if let Err(LinkError::Refused(refused)) = &dialled
            && refused.code == LinkError::CertificateReplaced(self.member).own_code()
        {
            // The settings there are ahead of ours.
            self.renewal.refused();
        }
        let (welcome, link) = dialled?;
        self.note_hello(&welcome.hello);
        Ok((welcome, link))
    }

    /// Remembers what a member says of itself.
    pub(super) fn note_hello(&self, hello: &Hello) {
        let (level, client_url) = (hello.level, hello.client_url.clone());
        self.hellos.lock().insert(hello.member, Said { level, client_url, next: hello.next_certificate });
    }

    /// What a member said of itself. `None`: it was not heard since the start.
    pub(super) fn hello_of(&self, member: Member) -> Option<Said> {
        self.hellos.lock().get(&member).cloned()
    }

    /// What this member says first on a link.
    pub(super) fn hello(&self, class: Class) -> Hello {
        let epoch = self.active_epoch.get().unwrap_or_default();
        let hello = self.identity.hello(class, (epoch, self.settings.latest().level()), self.now_ms());
        Hello { next_certificate: self.renewal.next(), ..hello }
    }

    /// The wall clock, Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.place.execution.now_ms()
    }

    /// Lets these members in, with their certificates, and nobody else.
    pub(super) fn allow(&self, settings: &PairSettings) {
        if let Some(tls) = self.tls.get() {
            tls.allowed().store(Arc::new(allowed(settings)));
        }
        // What was asked for and is done must not be asked for again when this node is active much later.
        for (member, said) in self.hellos.lock().iter_mut() {
            let named = settings.member(*member).map(|member| member.fingerprint.clone());
            said.next = said.next.filter(|next| named.as_deref() != Some(next.as_slice()));
        }
    }

    /// How long an answer on a log link may take while the logs are compared.
    pub(super) fn silence_max(&self) -> Duration {
        let timings = self.settings.latest().timings();
        Duration::from_millis(u64::from(timings.fail_after_ms) * 2)
    }

    pub(super) fn close_sessions(&self) {
        (self.close)();
    }

    /// From where on the own log differs, when only a bootstrap helps.
    pub(super) fn note_archive_from(&self, index: Option<u64>) {
        *self.archive_from.lock() = index;
    }

    /// Has the process start again; what it has to do then is made durable first.
    pub(super) fn restart(&self, restart: Restart) -> std::io::Result<()> {
        if let Restart::Rewind { fork } = restart {
            rejoin::order_rewind(&self.place, fork)?;
        }
        self.restarts.send_replace(Some(restart));
        self.ending.cancel();
        Ok(())
    }
}

impl Dials for Context {
    fn member(&self) -> Member {
        self.member
    }

    fn dial_control<'a>(&'a self, member: Member, address: &'a str) -> Dialling<'a> {
        Box::pin(self.dial_at(member, address, Class::Control))
    }

    fn unheard_max(&self) -> Duration {
        self.settings.latest().unheard_max()
    }

    fn contacts(&self) -> &Contacts {
        &self.contacts
    }
}

/// Who may open links by these settings.
pub(super) fn allowed(settings: &PairSettings) -> Allowed {
    let members = settings.0.members.iter().filter_map(|member| {
        let kind = member.kind();
        let fingerprint = member.fingerprint.as_ref().try_into().ok()?;
        Some((Member::try_from(member.number).ok()?, AllowedMember { fingerprint, kind }))
    });
    let retired = settings.0.retired.iter().filter_map(|number| Member::try_from(*number).ok());
    Allowed { members: members.collect(), retired: retired.collect() }
}

/// How one link to another member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whose.
    pub member: Member,
    /// At which address.
    pub address: String,
    /// Whether it is up.
    pub up: bool,
    /// Since when, in milliseconds before now.
    pub since_ms: u64,
    /// Why it is down.
    pub error: Option<String>,
    /// How long a message took there and back, as measured last; `None` while it is down.
    pub rtt_ms: Option<u64>,
}

/// One link.
#[derive(Debug)]
struct Contact {
    up: bool,
    /// Since when.
    since: Instant,
    /// Why it is down.
    error: Option<String>,
    /// There and back, as measured last; kept when the link goes down.
    rtt: Option<Duration>,
}

impl Contact {
    fn new(up: bool) -> Self {
        Self { up, since: Instant::now(), error: None, rtt: None }
    }
}

/// The links to the other members, for the status.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    links: Mutex<BTreeMap<(Member, String), Contact>>,
    /// Another member said last that this one was removed. Only shown: a node that was off when it was removed cannot
    /// know it from its log.
    retired: AtomicBool,
}

impl Contacts {
    pub(super) fn up(&self, member: Member, address: &str) {
        self.retired.store(false, Ordering::Relaxed);
        self.links.lock().insert((member, address.to_owned()), Contact::new(true));
    }

    /// A message was heard at the other end of the link after this time, and the answer was here.
    pub(super) fn measured(&self, member: Member, address: &str, rtt: Duration) {
        if let Some(link) = self.links.lock().get_mut(&(member, address.to_owned())) {
            link.rtt = Some(rtt);
        }
    }

    /// How long a message to this address and back took when that was measured last; zero if it never was.
    pub(super) fn rtt(&self, member: Member, address: &str) -> Duration {
        self.links.lock().get(&(member, address.to_owned())).and_then(|link| link.rtt).unwrap_or_default()
    }

    /// Whether the control link to this address works.
    pub(super) fn is_up(&self, member: Member, address: &str) -> bool {
        self.links.lock().get(&(member, address.to_owned())).is_some_and(|link| link.up)
    }

    pub(super) fn down(&self, member: Member, address: &str, error: &LinkError) {
        if let LinkError::Refused(refused) = error
            && refused.code == LinkError::MemberRetired(member).own_code()
        {
            self.retired.store(true, Ordering::Relaxed);
        }
        let mut links = self.links.lock();
        let link = links.entry((member, address.to_owned())).or_insert_with(|| Contact::new(false));
        if link.up {
            *link = Contact { rtt: link.rtt, ..Contact::new(false) };
        }
        link.error = Some(error.to_string());
    }

    /// Whether another member says that this one was removed.
    pub(super) fn says_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// All links to members of these settings.
    pub(super) fn list(&self, settings: &PairSettings) -> Vec<LinkState> {
        let links = self.links.lock();
        let known = links.iter().filter(|((member, address), _)| settings.addresses(*member).contains(address));
        known
            .map(|((member, address), link)| LinkState {
                member: *member,
                address: address.clone(),
                up: link.up,
                since_ms: link.since.elapsed().as_millis() as u64,
                error: link.error.clone(),
                rtt_ms: link.rtt.filter(|_| link.up).map(|rtt| rtt.as_millis() as u64),
            })
            .collect()
    }
}

/// How far the active was when it last said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lag {
    /// The end of its log.
    pub(super) last: u64,
    /// Its clock then, Unix milliseconds.
    pub(super) sent_ms: u64,
}

impl Lag {
    pub(super) const fn at(last: u64, sent_ms: u64) -> Self {
        Self { last, sent_ms }
    }
}

/// What a standby knows of how far it is behind.
#[derive(Debug, Default)]
pub(super) struct LagCell {
    last: AtomicU64,
    sent_ms: AtomicU64,
    no_room: AtomicBool,
    /// When the log was how long: Unix milliseconds and last index, the oldest first.
    samples: Mutex<VecDeque<(u64, u64)>>,
}

impl LagCell {
    pub(super) fn told(&self, lag: Lag) {
        self.last.store(lag.last, Ordering::Relaxed);
        self.sent_ms.store(lag.sent_ms, Ordering::Relaxed);
        self.no_room(false);
    }

    /// The own disk takes no more.
    pub(super) fn no_room(&self, no_room: bool) {
        if self.no_room.swap(no_room, Ordering::Relaxed) != no_room && no_room {
            tracing::error!("the disk of this standby is nearly full: it takes no records until there is room");
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.no_room.load(Ordering::Relaxed)
    }

    /// Remembers how long the active's log is now.
    pub(super) fn sample(&self, now_ms: u64, last: u64) {
        let mut samples = self.samples.lock();
        if samples.back().is_some_and(|(_, before)| *before == last) {
            return;
        }
        if samples.len() == limits::LAG_SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back((now_ms, last));
    }

    /// How long ago the log grew beyond `have`, in seconds; at least, when that is longer ago than is remembered.
    pub(super) fn seconds_behind(&self, have: u64, now_ms: u64) -> u64 {
        let samples = self.samples.lock();
        let first = samples.iter().find(|(_, last)| *last > have);
        first.map_or(0, |(at_ms, _)| now_ms.saturating_sub(*at_ms) / 1_000)
    }

    pub(super) fn latest(&self) -> Lag {
        Lag { last: self.last.load(Ordering::Relaxed), sent_ms: self.sent_ms.load(Ordering::Relaxed) }
    }
}
