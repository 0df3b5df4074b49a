//! What an operator sees of the pair: `holdfast status`, the API and the console show this.

use serde::Serialize;
use utoipa::ToSchema;

use super::context::LinkState;
use super::notices::Told;
use super::quarantine;
use super::service::PairHandle;
use super::settings::PairSettings;
use crate::core::failover::{Contact, Member, NotAutomatic, PairingState, Role, Status};
use crate::core::rows::PairMemberKind;
use crate::node::now_ms;

/// The pair, as this node sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PairStatus {
    /// Whether there is a pair at all; a node that is alone says no more than its role and epoch.
    pub paired: bool,
    /// This node's number.
    pub member: u16,
    /// `active`, `standby`, or `candidate` while it asks for votes.
    pub role: &'static str,
    /// The highest epoch that it has seen.
    pub epoch: u64,
    /// The active member, as far as this node knows.
    pub active: Option<u16>,
    /// The pair in one sentence.
    pub summary: String,
    /// Whether every acknowledged record is on both data nodes.
    pub protected: bool,
    /// If not: since when, Unix milliseconds.
    pub exposed_since_ms: Option<u64>,
    /// If not: from which record on the other node may lack some.
    pub exposed_from: Option<u64>,
    /// Nothing is acknowledged, because neither the other node nor the witness is heard.
    pub isolated: bool,
    /// Whether the other node would take over by itself if the active failed now.
    pub automatic_failover: bool,
    /// If not, why.
    pub automatic_failover_obstacle: Option<&'static str>,
    /// A planned switchover is under way.
    pub switchover: bool,
    /// How many records the standby is behind.
    pub lag_records: u64,
    /// How old the oldest of them is, in seconds.
    pub lag_seconds: u64,
    /// On the active: up to which record the other data node is known to have the log; 0: not known.
    pub standby_index: u64,
    /// Whether this node's disk has room for what the active sends.
    pub has_room: bool,
    /// Whether the other data node acknowledges records, as far as it said: not while its disk is full, nor when it stops.
    pub peer_takes_records: bool,
    /// Whether this node's state differs from what the active recorded of its own: an alarm.
    pub state_differs: bool,
    /// Up to where records are known to be committed.
    pub committed_index: u64,
    /// The pairing that was agreed on.
    pub pairing: PairingReport,
    /// The members.
    pub members: Vec<MemberReport>,
    /// The latest happenings, the oldest first.
    pub notices: Vec<Told>,
    /// Records that were on this node only and are kept apart.
    pub quarantine: Vec<QuarantineReport>,
    /// Days for which this node's certificate for the pair, and the pair's CA, are valid. Null without a pair.
    pub certificate_days_left: Option<i64>,
    /// What has to be done about them by a person, when that is soon; null otherwise: a node renews its certificate itself.
    pub certificate_warning: Option<String>,
}

/// What was agreed on who holds everything.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PairingReport {
    /// Counts the changes.
    pub version: u64,
    /// `paired` or `solo`.
    pub state: &'static str,
    /// The active that asked for it.
    pub active: u16,
}

/// One member.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MemberReport {
    /// Its number.
    pub number: u32,
    /// `data` or `witness`.
    pub kind: &'static str,
    /// What people call it.
    pub name: String,
    /// Where clients reach it; empty for a witness.
    pub client_url: String,
    /// Whether it is this node.
    pub this: bool,
    /// When it was last heard, in milliseconds before now; null: never since this node started.
    pub heard_ms_ago: Option<u64>,
    /// The links to it.
    pub links: Vec<LinkReport>,
}

/// One link to a member.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LinkReport {
    /// The address.
    pub address: String,
    /// Whether it is up.
    pub up: bool,
    /// For how long it has been so, in milliseconds.
    pub since_ms: u64,
    /// Why it is down.
    pub error: Option<String>,
    /// How long a message took there and back, in milliseconds; null while the link is down or nothing was measured yet.
    pub rtt_ms: Option<u64>,
}

/// One diverged tail.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QuarantineReport {
    /// Its directory.
    pub directory: String,
    /// Its first record's index.
    pub from_index: u64,
    /// How many records it has.
    pub records: u64,
    /// Whether everything in it was proposed to the active again.
    pub salvaged: bool,
    /// While it is being proposed: how many of its records the active has dealt with.
    pub proposed: Option<u64>,
    /// And how many it has to deal with; some records need not be proposed again.
    pub to_propose: Option<u64>,
}

impl PairHandle {
    /// How the pair stands; `None` while the node ends.
    pub async fn status(&self) -> Option<PairStatus> {
        let status = self.driver().status().await?;
        let context = &self.context;
        let settings = context.settings.latest();
        let now = now_ms();
        let (lag_records, lag_seconds) = self.lag(&status, now);
        let quarantine = self.quarantine();
        let seconds = (now / 1_000) as i64;
        let validity = context.renewal.validity();
        let ends = validity.and_then(|validity| validity.warning(seconds));
        Some(PairStatus {
            paired: settings.version() > 0,
            member: status.me,
            role: role(status.role),
            epoch: status.epoch.number(),
            active: status.active,
            summary: if self.node.state_mismatches() > 0 {
                STATE_DIFFERS.to_owned()
            } else if settings.version() > 0
                && (settings.member(status.me).is_none() || context.contacts.says_retired())
            {
                REMOVED.to_owned()
            } else {
                summary(&status, &settings)
                    + &salvaging(&quarantine)
                    + &ends.as_ref().map_or_else(String::new, |ends| format!("; {ends}"))
            },
            protected: status.protected,
            exposed_since_ms: status.exposed_ms.map(|ms| now.saturating_sub(ms)),
            exposed_from: status.exposed_from,
            isolated: status.isolated,
            automatic_failover: status.not_automatic.is_none(),
            automatic_failover_obstacle: status.not_automatic.map(obstacle),
            switchover: status.switchover,
            lag_records,
            lag_seconds,
            standby_index: if status.role == Role::Active { status.matched } else { 0 },
            has_room: context.lag.has_room(),
            peer_takes_records: !status.peer_away,
            state_differs: self.node.state_mismatches() > 0,
            committed_index: self.node.committed_index(),
            pairing: PairingReport {
                version: status.pairing.version,
                state: match status.pairing.state {
                    PairingState::Paired { .. } => "paired",
                    PairingState::Solo { .. } => "solo",
                },
                active: status.pairing.active,
            },
            members: members(&settings, &status, &context.contacts.list(&settings)),
            notices: context.notices.latest(),
            quarantine,
            certificate_days_left: validity.map(|validity| validity.days_left(seconds)),
            certificate_warning: ends,
        })
    }

    /// How far the standby is behind: seen from the active by its acks, on the standby by what is applied.
    fn lag(&self, status: &Status, now: u64) -> (u64, u64) {
        let (end, have) = if status.role == Role::Active {
            (status.log.index, if status.peer.is_some() { status.matched } else { status.log.index })
        } else {
            (self.context.lag.latest().last, self.node.applied_index())
        };
        let records = end.saturating_sub(have);
        let seconds = if records == 0 { 0 } else { self.context.lag.seconds_behind(have, now) };
        (records, seconds)
    }

    fn quarantine(&self) -> Vec<QuarantineReport> {
        let tails = quarantine::tails(&self.context.place.data).unwrap_or_default();
        let report = |tail: quarantine::Tail| {
            let salvaged = tail.is_salvaged();
            let progress = self.context.salvage.of(&tail.dir).filter(|_| !salvaged);
            QuarantineReport {
                directory: tail.dir.display().to_string(),
                from_index: tail.fork,
                records: tail.records,
                salvaged,
                proposed: progress.map(|it| it.done),
                to_propose: progress.map(|it| it.records),
            }
        };
        tails.into_iter().map(report).collect()
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Standby => "standby",
        Role::Candidate => "candidate",
    }
}

/// Why nobody would take over by itself, for people.
const fn obstacle(why: NotAutomatic) -> &'static str {
    match why {
        NotAutomatic::NoStandby => "there is no other data node",
        NotAutomatic::PeerSilent => "the other data node is not heard",
        NotAutomatic::Exposed => "the other data node does not have everything yet",
        NotAutomatic::WitnessSilent => "the witness is not heard, so there would be no second vote",
        NotAutomatic::WitnessUninformed => "the witness is new and does not know yet who holds everything",
        NotAutomatic::SwitchedOff => "automatic promotion is switched off",
        NotAutomatic::NoActive => "no node is active",
    }
}

/// What to do when the states of the two nodes differ.
const STATE_DIFFERS: &str = "the state of this node differs from the active's: stop it, delete state/ in its data directory, start \
                             it again; the state is rebuilt from the log";

/// What a node shows that is in the pair no more.
const REMOVED: &str = "this node was removed from the pair and takes no part any more: to bring it back run `holdfast pair \
                       invite` on the active node, stop this one, and run `holdfast pair join` here";

fn summary(status: &Status, settings: &PairSettings) -> String {
    if settings.version() == 0 {
        return "this node is alone: `holdfast pair invite` adds a standby".to_owned();
    }
    let name = |member: Member| {
        settings.member(member).map_or_else(|| format!("member {member}"), |found| format!("{} ({member})", found.name))
    };
    let Some(active) = status.active else {
        return "no node is active: nothing can be sent until one is".to_owned();
    };
    if status.role != Role::Active && status.not_automatic == Some(NotAutomatic::PeerSilent) {
        return format!("{} is silent, and this node has not taken over: the notices say why", name(active));
    }
    if status.isolated {
        return format!("{} is isolated: it acknowledges nothing until another member is heard", name(active));
    }
    if status.protected {
        return match status.not_automatic {
            None => format!("protected: {} is active, the other node takes over by itself", name(active)),
            Some(why) => format!(
                "protected, but nobody would take over by itself: {}; {} is active",
                obstacle(why),
                name(active)
            ),
        };
    }
    let since = status.exposed_ms.map(|ms| format!(" for {} s", ms / 1_000)).unwrap_or_default();
    format!("exposed{since}: {} is active and alone holds the latest records", name(active))
}

/// What is said of a tail that is being proposed again.
fn salvaging(quarantine: &[QuarantineReport]) -> String {
    let under_way = quarantine.iter().find_map(|tail| Some((tail.proposed?, tail.to_propose?)));
    under_way.map_or_else(String::new, |(done, all)| {
        format!("; {done} of {all} records that only this node had are proposed to the active again")
    })
}

fn members(settings: &PairSettings, status: &Status, links: &[LinkState]) -> Vec<MemberReport> {
    let heard = |number: u32| {
        let contacts = [status.peer, status.witness];
        let found = contacts.iter().flatten().find(|contact: &&Contact| u32::from(contact.member) == number);
        found.and_then(|contact| contact.heard_ms_ago)
    };
    let report = |member: &crate::core::rows::PairMember| MemberReport {
        number: member.number,
        kind: match member.kind() {
            PairMemberKind::Data => "data",
            PairMemberKind::Witness => "witness",
        },
        name: member.name.clone(),
        client_url: member.client_url.clone(),
        this: member.number == u32::from(status.me),
        heard_ms_ago: heard(member.number),
        links: links.iter().filter(|link| u32::from(link.member) == member.number).map(LinkReport::from).collect(),
    };
    settings.0.members.iter().map(report).collect()
}

impl From<&LinkState> for LinkReport {
    fn from(link: &LinkState) -> Self {
        let (address, error) = (link.address.clone(), link.error.clone());
        Self { address, up: link.up, since_ms: link.since_ms, error, rtt_ms: link.rtt_ms }
    }
}
