//! The operator's side of the pair: inviting, letting in, removing, switching over, promoting. Every change of the members
//! is a record of the log; nothing here changes a member's mind about votes or acknowledgements.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::context::{Context, Identity, Said};
use super::invite::{Admitted, Invitation, Inviter, Invites, JoinDesk, NewMember};
use super::net::BoxFuture;
use super::pki::{self, PairPki};
use super::service::PairHandle;
use super::settings::PairSettings;
use super::wire::{JoinRequest, Refused};
use crate::core::chat::Reply;
use crate::core::command::{Actor, Command, Envelope, LEVEL, NotePair, PairEvent, UpdatePair};
use crate::core::failover::{Epoch, Member, Order, Role};
use crate::core::pair;
use crate::core::refusal::Refusal;
use crate::core::rows::{PairMember, PairMemberKind};
use crate::limits;
use crate::node::{Node, ProposeError, now_ms, now_seconds};

/// Why an operator's wish was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskError {
    /// The stable code.
    pub code: &'static str,
    /// What happened and what to do, in one sentence.
    pub text: String,
}

impl DeskError {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// There is no pair yet.
    #[must_use]
    pub fn no_pair() -> Self {
        Self::new("pair_none", "there is no pair yet: `holdfast pair invite` makes one")
    }

    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        Self::new("pair_failed", error.to_string())
    }
}

impl std::fmt::Display for DeskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DeskError {}

/// A refusal of the rules, for people.
pub(super) fn refusal_text(refusal: &Refusal) -> String {
    refusal.code.title().to_owned()
}

impl From<ProposeError> for DeskError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(refusal) => Self::new("pair_refused", refusal_text(&refusal)),
            ProposeError::NotActive => Self::new("not_active", "this node is not the active one: ask the other"),
            ProposeError::Busy => Self::new("busy", "the node has too much to do right now; try again"),
            ProposeError::DiskFull => Self::new("disk_full", "the disk is nearly full"),
            ProposeError::Stopping => Self::new("shutting_down", "the node is stopping"),
            ProposeError::State(error) => Self::failed(error),
        }
    }
}

/// What the desk works with. Clones share it.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) context: Arc<Context>,
    pub(super) node: Node,
    pub(super) invites: Arc<Invites>,
    /// How the others reach this node's peer port, as configured.
    pub(super) addresses: Arc<[String]>,
    /// The port to listen on, for when nothing is configured.
    pub(super) listen: SocketAddr,
}

impl Desk {
    fn pair_dir(&self) -> std::path::PathBuf {
        self.context.place.data.join("pair")
    }

    /// The addresses at which the others reach this node: as configured, else the one that packets leave from.
    fn own_addresses(&self) -> Result<Vec<String>, DeskError> {
        if !self.addresses.is_empty() {
            return Ok(self.addresses.to_vec());
        }
        let given = Some(self.listen.ip()).filter(|ip| !ip.is_unspecified());
        let unknown =
            "this machine has no network: say in pair.addresses of the configuration file where the others reach it";
        let ip = given.or_else(outward_address).ok_or_else(|| DeskError::new("pair_address", unknown))?;
        Ok(vec![SocketAddr::new(ip, self.listen.port()).to_string()])
    }

    /// Proposes a change of the pair and waits until it is committed and known here.
    async fn update(&self, actor: Actor, update: UpdatePair) -> Result<PairSettings, DeskError> {
        let envelope = Envelope { actor: Some(actor), command: Some(Command::UpdatePair(update)) };
        match self.node.propose(&envelope).await?.outcome {
            Ok(Reply::Pair(_)) => {}
            Ok(_) => return Err(DeskError::failed("unexpected answer")),
            Err(refusal) => return Err(DeskError::new("pair_refused", refusal_text(&refusal))),
        }
        let settings = self.context.settings.refresh(&self.node).map_err(DeskError::failed)?;
        self.context.driver.settings_changed();
        Ok((*settings).clone())
    }

    /// Makes this node the first member of its pair, if it is in none.
    async fn become_member(&self, pki: &PairPki, actor: Actor) -> Result<(), DeskError> {
        let settings = self.context.settings.refresh(&self.node).map_err(DeskError::failed)?;
        let own = self.context.member;
        let me = PairMember {
            number: own.into(),
            kind: PairMemberKind::Data.into(),
            addresses: self.own_addresses()?,
            client_url: self.context.identity.client_url.clone(),
            fingerprint: pki.as_allowed().fingerprint.to_vec().into(),
            name: host_name(),
            level: self.context.identity.level,
        };
        if settings.member(own).is_some_and(|known| PairMember { name: known.name.clone(), ..me.clone() } == *known) {
            return Ok(());
        }
        let mut update = settings.to_update();
        update.members.retain(|member| member.number != u32::from(own));
        update.members.push(me);
        self.update(actor, update).await.map(|_| ())
    }

    /// As long as this node is the active: keeps what the settings say of the members true, as they change with an upgrade
    /// or another configuration.
    pub(super) async fn keep_settings_true(self) {
        let mut look = tokio::time::interval(Duration::from_millis(limits::PAIR_TRUTH_MS));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            look.tick().await;
            let settings = self.context.settings.latest();
            if self.node.role() != crate::node::Role::Active || settings.version() == 0 {
                continue;
            }
            let Some(update) = self.true_settings(&settings) else { continue };
            if refused.as_ref() == Some(&update) {
                continue; // the rules said no; they will say it again
            }
            if let Err(error) = self.update(Actor::system(), update.clone()).await {
                tracing::warn!(%error, "what the members say of themselves could not be taken into the pair's settings");
                refused = Some(update);
            }
        }
    }

    /// The change that makes the settings say what the members say; `None` when they do.
    fn true_settings(&self, settings: &PairSettings) -> Option<UpdatePair> {
        let mut update = settings.to_update();
        for member in &mut update.members {
            let number = Member::try_from(member.number).ok()?;
            let own = number == self.context.member;
            let said = if own {
                let Identity { level, client_url, .. } = self.context.identity.clone();
                Some(Said { level, client_url, next: self.context.renewal.next() })
            } else {
                self.context.hello_of(number)
            };
            let Some(Said { level, client_url, next }) = said else { continue };
            member.level = level;
            if let Some(next) = next {
                member.fingerprint = next.to_vec().into();
            }
            if member.kind() == PairMemberKind::Data && pair::is_client_url(&client_url) {
                member.client_url = client_url;
            }
            if own && !self.addresses.is_empty() {
                member.addresses = self.addresses.to_vec();
            }
        }
        (update.members != settings.0.members).then_some(update)
    }

    fn note(&self, what: PairEvent, (member, text): (Member, String)) {
        let note = NotePair { what: what.into(), member: member.into(), text, ..NotePair::default() };
        self.context.notices.write_later(note);
    }

    /// Puts a switchover into the audit trail before it begins: the old active can write nothing afterwards.
    async fn note_switchover(&self, reason: SwitchoverReason) {
        let (what, member) = (PairEvent::Switchover.into(), self.context.member.into());
        let note = NotePair { what, member, text: reason.text().to_owned(), ..NotePair::default() };
        let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::NotePair(note)) };
        let patience = Duration::from_millis(limits::SWITCHOVER_NOTE_MS_MAX);
        match tokio::time::timeout(patience, self.node.propose(&envelope)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(?error, "a switchover could not be put into the audit trail"),
            Err(_) => tracing::warn!("a switchover was not put into the audit trail in time"),
        }
    }

    /// Lets a machine in that held a valid token.
    async fn let_in(&self, new: NewMember) -> Result<Admitted, DeskError> {
        let settings = self.context.settings.refresh(&self.node).map_err(DeskError::failed)?;
        let mut update = settings.to_update();
        update.members.retain(|member| Some(member.number) != new.retired_member.map(u32::from));
        if new.kind == PairMemberKind::Witness {
            // A new witness takes the place of the old one.
            update.members.retain(|member| member.kind() != PairMemberKind::Witness);
        }
        update.members.push(PairMember {
            number: new.member.into(),
            kind: new.kind.into(),
            addresses: new.addresses,
            client_url: new.client_url,
            fingerprint: new.fingerprint.to_vec().into(),
            name: new.name.clone(),
            level: new.level,
        });
        let settings = self.update(Actor::system(), update).await?;
        let kind = if new.kind == PairMemberKind::Witness { "witness" } else { "standby" };
        self.note(PairEvent::Joined, (new.member, format!("{} as {kind}, version {}", new.name, new.version)));
        let tls_dir = self.context.place.data.join("tls");
        let web_ca = match new.kind {
            PairMemberKind::Data => Some(web_ca(&tls_dir)?),
            PairMemberKind::Witness => None,
        };
        Ok(Admitted { settings: settings.0.encode_to_vec().into(), web_ca })
    }
}

/// The CA of the HTTPS certificates; made now when a reverse proxy has done without one so far.
fn web_ca(tls_dir: &std::path::Path) -> Result<pki::WebCa, DeskError> {
    if !tls_dir.join("ca.pem").exists() {
        crate::tls::ensure_ca(tls_dir, now_seconds()).map_err(DeskError::failed)?;
    }
    pki::read_web_ca(tls_dir).map_err(DeskError::failed)
}

impl JoinDesk for Desk {
    fn next_number<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<Member, Refused>> {
        Box::pin(async move {
            let settings = self.context.settings.refresh(&self.node).map_err(|e| told(&DeskError::failed(e)))?;
            let full = request.kind == PairMemberKind::Data
                && settings.0.members.iter().any(|member| {
                    member.kind() == PairMemberKind::Data
                        && member.number != u32::from(self.context.member)
                        && Some(member.number) != request.retired_member.map(u32::from)
                });
            if full {
                let text = "there is a standby already: remove it with `holdfast pair leave` on the active node first";
                return Err(told(&DeskError::new("pair_full", text)));
            }
            Ok(Member::try_from(pair::next_number(&settings.0)).unwrap_or(Member::MAX))
        })
    }

    fn admit(&self, new: NewMember) -> BoxFuture<'_, Result<Admitted, Refused>> {
        Box::pin(async move { self.let_in(new).await.map_err(|error| told(&error)) })
    }
}

fn told(error: &DeskError) -> Refused {
    Refused::new(error.code, &error.text, Epoch::default())
}

/// The address that packets to the outside leave from; without a way out the one on the first network that this machine
/// is attached to. No packet is sent.
fn outward_address() -> Option<IpAddr> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let somewhere = std::iter::once(Ipv4Addr::new(192, 0, 2, 1)).chain(attached_networks(&routes));
    let leaving = |to: Ipv4Addr| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    somewhere.filter_map(leaving).find(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// The first host of every network without a gateway in a table of routes as in `/proc/net/route` (proc(5)): the second
/// column is the network, the third the gateway, as hexadecimal words of this machine.
fn attached_networks(routes: &str) -> impl Iterator<Item = Ipv4Addr> {
    routes.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (network, gateway) = (u32::from_str_radix(words.next()?, 16).ok()?, words.next()?);
        let first = u32::from_be_bytes(network.to_ne_bytes()).wrapping_add(1);
        (network != 0 && gateway == "00000000").then(|| Ipv4Addr::from(first))
    })
}

/// What people call this machine.
#[must_use]
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    if name.is_empty() { "node".to_owned() } else { name }
}

/// Why an active hands over as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchoverReason {
    /// An operator said so.
    Ordered,
    /// The server was told to stop.
    Stopping,
    /// The active's disk is full, and the standby's is not.
    DiskFull,
}

impl SwitchoverReason {
    /// For the audit trail.
    const fn text(self) -> &'static str {
        match self {
            Self::Ordered => "by an operator's order",
            Self::Stopping => "the active server stops",
            Self::DiskFull => "the disk of the active is full",
        }
    }
}

/// What `promote --force` would mean, told before it is done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct ForceReport {
    /// Records that the other node is known to have acknowledged and this one lacks.
    pub records_lost: u64,
    /// When the other node was last heard, in milliseconds before now; null: never since this node started.
    pub peer_heard_ms_ago: Option<u64>,
    /// Whether this node is active already, so that nothing would be lost and little changed.
    pub active: bool,
    /// The same in one sentence.
    pub text: String,
}

impl PairHandle {
    /// Makes an invitation for a standby or a witness, and opens the peer port if it is not open yet.
    ///
    /// # Errors
    /// [`DeskError`] with what to do.
    pub async fn invite(&self, kind: PairMemberKind, actor: Actor) -> Result<Invitation, DeskError> {
        let desk = &self.desk;
        if self.node.role() != crate::node::Role::Active {
            return Err(ProposeError::NotActive.into());
        }
        let (dir, cluster, member) = (desk.pair_dir(), self.context.identity.cluster, self.context.member);
        let pki = PairPki::load_or_create(&dir, cluster, member, now_seconds()).map_err(DeskError::failed)?;
        desk.become_member(&pki, actor).await?;
        if self.context.tls.get().is_none() {
            let allowed = super::context::allowed(&self.context.settings.latest());
            let tls = pki.tls(Arc::new(arc_swap::ArcSwap::from_pointee(allowed))).map_err(DeskError::failed)?;
            let port = |e| DeskError::new("pair_port", format!("the peer port {} cannot be opened: {e}", desk.listen));
            self.enable(tls).await.map_err(port)?;
            self.context.renewal.look_again();
        }
        let invitation =
            desk.invites.invite(&pki, desk.own_addresses()?, (kind, now_ms())).map_err(DeskError::failed)?;
        desk.note(
            PairEvent::Invited,
            (0, if kind == PairMemberKind::Witness { "witness" } else { "standby" }.to_owned()),
        );
        Ok(invitation)
    }

    /// Removes a member for ever: its number never comes back. `None` removes the other data node.
    ///
    /// # Errors
    /// [`DeskError`] with what to do.
    pub async fn remove(&self, member: Option<Member>, actor: Actor) -> Result<Member, DeskError> {
        let settings = self.context.settings.refresh(&self.node).map_err(DeskError::failed)?;
        let own = self.context.member;
        let Some(member) = member.or(settings.others(own).0) else {
            return Err(DeskError::new("pair_no_peer", "there is no other data node"));
        };
        if member == own {
            let text = "the active node cannot leave: switch over first, then remove this node from the new active";
            return Err(DeskError::new("pair_active_stays", text));
        }
        if settings.member(member).is_none() {
            return Err(DeskError::new("pair_member_not_found", format!("there is no member {member}")));
        }
        let mut update = settings.to_update();
        update.members.retain(|one| one.number != u32::from(member));
        self.desk.update(actor, update).await?;
        self.desk.note(PairEvent::Left, (member, String::new()));
        Ok(member)
    }

    /// Hands over to the standby as planned, and waits until it is active or it is clear that it will not be. The reason
    /// is in the audit trail.
    ///
    /// # Errors
    /// [`DeskError`] with why not.
    pub async fn switchover(&self, reason: SwitchoverReason) -> Result<Member, DeskError> {
        let before = self.driver().status().await.ok_or_else(stopping)?;
        let refuse = |code, text: &str| Err(DeskError::new(code, text));
        let Some(peer) = before.peer else { return refuse("pair_no_peer", "there is no other data node") };
        if before.role != Role::Active {
            return refuse("not_active", "this node is not the active one: ask the other");
        }
        if !before.protected {
            let text = "the standby does not have everything yet: wait until `holdfast status` says protected";
            return refuse("pair_exposed", text);
        }
        if before.peer_away {
            let text = "the standby takes nothing over now: its disk is full, or it is stopping";
            return refuse("pair_standby_away", text);
        }
        self.desk.note_switchover(reason).await;
        self.driver().order(Order::Switchover).await;
        let until = tokio::time::Instant::now() + Duration::from_millis(limits::SWITCHOVER_WAIT_MS_MAX);
        while tokio::time::Instant::now() < until {
            let status = self.driver().status().await.ok_or_else(stopping)?;
            if status.active == Some(peer.member) {
                return Ok(peer.member);
            }
            if status.role == Role::Active && !status.switchover {
                return refuse(
                    "pair_switchover_failed",
                    "the standby did not take over in time; this node goes on as active",
                );
            }
            tokio::time::sleep(Duration::from_millis(limits::SWITCHOVER_LOOK_MS)).await;
        }
        refuse("pair_switchover_unknown", "the outcome is not known yet: look at `holdfast status` of both nodes")
    }

    /// What `promote --force` would lose.
    ///
    /// # Errors
    /// [`DeskError`] when the node stops.
    pub async fn force_report(&self) -> Result<ForceReport, DeskError> {
        let status = self.driver().status().await.ok_or_else(stopping)?;
        let known = status.peer_commit.max(self.context.lag.latest().last);
        let records_lost = known.saturating_sub(status.log.index);
        let peer_heard_ms_ago = status.peer.and_then(|peer| peer.heard_ms_ago);
        let active = status.role == Role::Active;
        let contact = match peer_heard_ms_ago {
            Some(ms) => format!("it was last heard {} minutes ago", ms / 60_000),
            None => "it was not heard since this node started, so how much it has acknowledged since is not known"
                .to_owned(),
        };
        let text = if active {
            "this node is active already; forced, it acknowledges alone until the other node is back".to_owned()
        } else {
            format!(
                "the other node is known to have {records_lost} records that this one lacks, and {contact}; what it \
                 acknowledged and this node lacks is proposed again when it comes back, and lost if it never does"
            )
        };
        Ok(ForceReport { records_lost, peer_heard_ms_ago, active, text })
    }

    /// Makes this node active by the operator's word, and waits until it is.
    ///
    /// # Errors
    /// [`DeskError`] when it does not become active in time.
    pub async fn promote_by_force(&self) -> Result<(), DeskError> {
        self.driver().order(Order::ForcePromote).await;
        let mut role = self.node.watch_role();
        let active = role.wait_for(|role| *role == crate::node::Role::Active);
        let patience = Duration::from_millis(limits::SWITCHOVER_WAIT_MS_MAX);
        match tokio::time::timeout(patience, active).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(DeskError::new("pair_not_promoted", "this node did not become active: look at `holdfast status`")),
        }
    }

    /// The command that changes what the members agree on, from how it is now.
    #[must_use]
    pub fn change(&self, change: impl FnOnce(&mut UpdatePair)) -> UpdatePair {
        let mut update = self.settings().to_update();
        change(&mut update);
        update
    }

    /// What the members agree on, as this node knows it.
    #[must_use]
    pub fn settings(&self) -> Arc<PairSettings> {
        // The cache is as good as the state; only a failing disk makes a difference, and that is told elsewhere.
        self.context.settings.refresh(&self.node).unwrap_or_else(|_| self.context.settings.latest())
    }

    /// What takes the links of joining machines.
    pub(super) fn inviter(&self) -> Option<Inviter> {
        let pki = PairPki::load(&self.desk.pair_dir()).ok()??;
        Some(Inviter::new(Arc::new(pki), self.desk.invites.clone(), Arc::new(self.desk.clone())))
    }
}

fn stopping() -> DeskError {
    DeskError::new("shutting_down", "the node is stopping")
}

/// The level of this build, or the one it is held at.
#[must_use]
pub fn level_held(level_max: u32) -> u32 {
    if level_max == 0 { LEVEL } else { LEVEL.min(level_max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_way_out_is_on_its_attached_networks() {
        let table = "Iface\tDestination\tGateway \tFlags\n\
                     eth0\t00000000\t0100A8C0\t0003\neth0\t0000A8C0\t00000000\t0001\n\
                     eth1\t004E0A0A\t00000000\t0001\nbroken line\nx\n";
        let found: Vec<Ipv4Addr> = attached_networks(table).collect();
        assert_eq!(found, [Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::new(10, 10, 78, 1)]);
        assert_eq!(attached_networks("").count(), 0);
    }
}
