//! What the parts of a running data node share. Holds no protocol state: that is the driver's alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::Dials;
use super::driver::DriverHandle;
use super::face::Face;
use super::link::{self, Link, LinkError, Target};
use super::net::{BoxFuture, Net};
use super::notices::Notices;
use super::pki::{Allowed, AllowedMember, PeerTls};
use super::rejoin::{self, Place};
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
        }
    }
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
    /// What other members said of themselves when a link was made: their level, where clients reach them.
    pub(super) hellos: Mutex<BTreeMap<Member, (u32, String)>>,
    pub(super) lag: LagCell,
    pub(super) notices: Notices,
    pub(super) face: Face,
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
    /// Connects to a member at the first of its addresses that answers.
    pub(super) async fn dial(&self, member: Member, class: Class) -> Result<(Welcome, Link), LinkError> {
        let mut last = LinkError::MemberUnknown(member);
        for address in self.settings.latest().addresses(member) {
            match self.dial_at(member, &address, class).await {
                Ok(linked) => return Ok(linked),
                Err(error) => last = error,
            }
        }
        Err(last)
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
        let (welcome, link) = link::dial(&*self.net, tls, Target { address, member }, &hello).await?;
        self.note_hello(&welcome.hello);
        Ok((welcome, link))
    }

    /// Remembers what a member says of itself.
    pub(super) fn note_hello(&self, hello: &Hello) {
        self.hellos.lock().insert(hello.member, (hello.level, hello.client_url.clone()));
    }

    /// What a member said of itself: its level, where clients reach it. `None`: it was not heard since the start.
    pub(super) fn hello_of(&self, member: Member) -> Option<(u32, String)> {
        self.hellos.lock().get(&member).cloned()
    }

    /// What this member says first on a link.
    pub(super) fn hello(&self, class: Class) -> Hello {
        let epoch = self.active_epoch.get().unwrap_or_default();
        self.identity.hello(class, (epoch, self.settings.latest().level()), self.now_ms())
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
    }

    /// How long a link that beats may be silent.
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

    fn dial_control<'a>(&'a self, member: Member, address: &'a str) -> BoxFuture<'a, Result<Link, LinkError>> {
        Box::pin(async move { Ok(self.dial_at(member, address, Class::Control).await?.1) })
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
}

/// One link: whether it is up, since when, and why not.
type Contact = (bool, Instant, Option<String>);

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
        self.links.lock().insert((member, address.to_owned()), (true, Instant::now(), None));
    }

    pub(super) fn down(&self, member: Member, address: &str, error: &LinkError) {
        if let LinkError::Refused(refused) = error
            && refused.code == LinkError::MemberRetired(member).own_code()
        {
            self.retired.store(true, Ordering::Relaxed);
        }
        let mut links = self.links.lock();
        let state = links.entry((member, address.to_owned())).or_insert((false, Instant::now(), None));
        if state.0 {
            *state = (false, Instant::now(), None);
        }
        state.2 = Some(error.to_string());
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
            .map(|((member, address), (up, since, error))| LinkState {
                member: *member,
                address: address.clone(),
                up: *up,
                since_ms: since.elapsed().as_millis() as u64,
                error: error.clone(),
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
