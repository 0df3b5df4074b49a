//! The state that is checked: the real members, their logs, the network, and what was acknowledged.

use crate::log::{Log, name};
use holdfast::core::failover::{DataMember, Epoch, Member, Message, PairingState, Witness};

/// Data nodes have these numbers, and witnesses the ones from `FIRST_WITNESS` on.
pub(crate) const A: Member = 1;
pub(crate) const B: Member = 2;
pub(crate) const FIRST_WITNESS: Member = 5;

/// A data node: the real member, and what its executor keeps.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) member: DataMember,
    pub(crate) log: Log,
    /// So many records survive a crash.
    pub(crate) synced: u64,
    /// In which epoch it takes writes.
    pub(crate) active: Option<Epoch>,
    /// Writes are held.
    pub(crate) held: bool,
    pub(crate) up: bool,
    /// Without a witness: the highest commit that the active of the present epoch told it.
    pub(crate) told: u64,
}

/// What an active shipped and acknowledged in its epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reign {
    pub(crate) epoch: Epoch,
    /// Everything that it ever shipped.
    pub(crate) log: Log,
    /// Up to where it acknowledged.
    pub(crate) commit: u64,
    /// Up to where it did so while the standby's acks were needed.
    pub(crate) paired: u64,
    /// Up to where it knew records to be committed when it was promoted.
    pub(crate) base: u64,
    /// It was promoted by force: what older actives acknowledge from then on is at risk.
    pub(crate) forced: bool,
}

/// How much more may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) records: u8,
    pub(crate) crashes: u8,
    pub(crate) switchovers: u8,
    pub(crate) forces: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) witnesses: Vec<Witness>,
    /// Every message that may still arrive: any number of times, in any order, or never.
    pub(crate) net: Vec<(Member, Member, Message)>,
    pub(crate) reigns: Vec<Reign>,
    pub(crate) left: Budget,
    /// Logs of which a part was put into quarantine.
    pub(crate) quarantine: Vec<Log>,
    /// A step did what no step may do.
    pub(crate) bad: Option<&'static str>,
}

impl World {
    pub(crate) fn node(&self, member: Member) -> Option<&Node> {
        self.nodes.get(usize::from(member).wrapping_sub(1))
    }

    pub(crate) fn reign(&self, epoch: Epoch) -> Option<&Reign> {
        self.reigns.iter().find(|reign| reign.epoch == epoch)
    }

    pub(crate) fn reign_mut(&mut self, epoch: Epoch) -> Option<&mut Reign> {
        self.reigns.iter_mut().find(|reign| reign.epoch == epoch)
    }

    /// The epoch of any member.
    pub(crate) fn epoch_of(&self, member: Member) -> Epoch {
        if member >= FIRST_WITNESS {
            self.witnesses[usize::from(member - FIRST_WITNESS)].durable().epoch
        } else {
            self.nodes[usize::from(member) - 1].member.durable().epoch
        }
    }

    /// Every member's number.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> + use<> {
        let (nodes, witnesses) = (self.nodes.len() as Member, self.witnesses.len() as Member);
        (1..=nodes).chain(FIRST_WITNESS..FIRST_WITNESS + witnesses)
    }

    /// Puts a message into the network.
    pub(crate) fn post(&mut self, packet: (Member, Member, Message)) {
        if let Err(place) = self.net.binary_search(&packet) {
            self.net.insert(place, packet);
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for node in &self.nodes {
            let status = node.member.status(0);
            write!(f, "{}[{:?} {}", ["A", "B", "C", "D"][usize::from(status.me) - 1], status.role, name(status.epoch))?;
            write!(f, " log={:?}|{}", node.log, node.synced)?;
            write!(f, " matched {} commit {}", status.matched, status.commit)?;
            for (said, word) in [
                (node.member.acknowledges_alone(), " ALONE"),
                (status.forced, " FORCED"),
                (node.held, " held"),
                (!node.up, " DOWN"),
                (status.active.is_some() && node.active.is_none(), " follows"),
            ] {
                f.write_str(if said { word } else { "" })?;
            }
            let known = node.member.known_pairing().map(|pairing| pairing.version);
            write!(f, "{}] ", known.map(|version| format!(" knows v{version}")).unwrap_or_default())?;
        }
        for witness in &self.witnesses {
            let durable = witness.durable();
            let state = match durable.pairing.state {
                PairingState::Paired { standby } => format!("Paired({},{standby})", durable.pairing.active),
                PairingState::Solo { epoch, .. } => format!("Solo({})", name(epoch)),
            };
            write!(f, "W[{} v{} {state}] ", name(durable.epoch), durable.pairing.version)?;
        }
        f.write_str("acked:")?;
        for reign in &self.reigns {
            write!(f, " {}<={}", name(reign.epoch), reign.commit)?;
        }
        if let Some(bad) = self.bad {
            write!(f, " BAD: {bad}")?;
        }
        Ok(())
    }
}
