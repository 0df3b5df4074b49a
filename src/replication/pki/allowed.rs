//! Who may open links: the members that the log's pair settings name, with their certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::identity::{Fingerprint, PeerIdentity};
use crate::core::failover::Member;
use crate::core::rows::{self, PairMemberKind};
use crate::replication::link::LinkError;

/// The current [`Allowed`]; whoever applies the settings stores the new one. It is read at every hello: a link that is open
/// when its member is retired is ended by whoever serves it.
pub type SharedAllowed = Arc<ArcSwap<Allowed>>;

/// A member that may open links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedMember {
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// What it is.
    pub kind: PairMemberKind,
}

/// The members, and the numbers that are used no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The present members.
    pub members: BTreeMap<Member, AllowedMember>,
    /// Members that were, so that they can be told so.
    pub retired: BTreeSet<Member>,
}

impl Allowed {
    /// What `member` is, if it may come in with this certificate. Without one (simulations) the number counts.
    ///
    /// # Errors
    /// [`LinkError::MemberRetired`], [`LinkError::MemberUnknown`], [`LinkError::CertificateReplaced`].
    pub fn check(&self, member: Member, certificate: Option<&PeerIdentity>) -> Result<PairMemberKind, LinkError> {
        if self.retired.contains(&member) {
            return Err(LinkError::MemberRetired(member));
        }
        let known = self.members.get(&member).ok_or(LinkError::MemberUnknown(member))?;
        match certificate {
            Some(certificate) if certificate.fingerprint != known.fingerprint => {
                Err(LinkError::CertificateReplaced(member))
            }
            _ => Ok(known.kind),
        }
    }
}

impl From<&rows::Pair> for Allowed {
    /// Whom the pair's settings name. A row that names somebody in a way that cannot be (the log's rules forbid it) leaves
    /// that one out: nobody comes in by a mistake.
    fn from(pair: &rows::Pair) -> Self {
        let number = |number: u32| Member::try_from(number).ok();
        let members = pair.members.iter().filter_map(|member| {
            let fingerprint = Fingerprint::try_from(member.fingerprint.as_ref()).ok()?;
            let kind = PairMemberKind::try_from(member.kind).ok()?;
            Some((number(member.number)?, AllowedMember { fingerprint, kind }))
        });
        Self { members: members.collect(), retired: pair.retired.iter().filter_map(|it| number(*it)).collect() }
    }
}
