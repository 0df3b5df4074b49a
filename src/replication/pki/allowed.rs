//! Who may open links: the members that the log's pair settings name, with their certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::identity::{Fingerprint, PeerIdentity};
use crate::core::failover::Member;
use crate::replication::link::LinkError;
use crate::replication::wire::MemberKind;

/// The current [`Allowed`]; whoever applies the settings stores the new one. It is read at every hello: a link that is open
/// when its member is retired is ended by whoever serves it.
pub type SharedAllowed = Arc<ArcSwap<Allowed>>;

/// A member that may open links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedMember {
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// What it is.
    pub kind: MemberKind,
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
    pub fn check(&self, member: Member, certificate: Option<&PeerIdentity>) -> Result<MemberKind, LinkError> {
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
