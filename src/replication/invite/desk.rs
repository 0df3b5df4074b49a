//! The inviting side of a joining link.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::tokens::{Invites, TokenRefusal};
use crate::core::failover::{Epoch, Member};
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::node::now_ms;
use crate::replication::link::{Link, LinkError, PeerHello};
use crate::replication::net::BoxFuture;
use crate::replication::pki::{Fingerprint, PairPki, PkiError, WebCa, fingerprint};
use crate::replication::wire::{JoinAnswer, JoinMessage, JoinRequest, Refused};

/// A machine that held a valid token, with the certificate that it is about to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Its number: what [`JoinDesk::next_number`] said.
    pub member: Member,
    /// What it is to be.
    pub kind: PairMemberKind,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// What it calls itself.
    pub name: String,
    /// Where its peer port is reached, `host:port`. As it says; not checked.
    pub addresses: Vec<String>,
    /// Where clients reach it; empty for a witness. As it says; not checked.
    pub client_url: String,
    /// The newest level of log records that its build can apply.
    pub level: u32,
    /// Its program version.
    pub version: String,
    /// The member that it was before.
    pub retired_member: Option<Member>,
}

/// What a new member is given beside its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The pair's settings, now with the new member.
    pub settings: Bytes,
    /// For a data node: the CA of the HTTPS certificates ([`read_web_ca`](crate::replication::pki::read_web_ca)).
    pub web_ca: Option<WebCa>,
}

/// Who puts new members into the log.
pub trait JoinDesk: Send + Sync + 'static {
    /// The number that a new member would get now: the certificate must name it before the log names the certificate.
    ///
    /// # Errors
    /// A refusal that the joining person reads: not the active, an upgrade is under way.
    fn next_number<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<Member, Refused>>;

    /// Logs the new member and waits until that is committed.
    ///
    /// # Errors
    /// A refusal: nothing was logged, and the token stays valid. When it is not known whether it was logged, say so in the
    /// text; another attempt then gets another number.
    fn admit(&self, new: NewMember) -> BoxFuture<'_, Result<Admitted, Refused>>;
}

/// Serves joining links: the token, the certificate, the log.
#[derive(Clone)]
pub struct Inviter {
    pki: Arc<PairPki>,
    invites: Arc<Invites>,
    desk: Arc<dyn JoinDesk>,
}

impl fmt::Debug for Inviter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inviter").field("invites", &self.invites).finish_non_exhaustive()
    }
}

impl Inviter {
    /// An inviter of the pair of `pki`.
    #[must_use]
    pub fn new(pki: Arc<PairPki>, invites: Arc<Invites>, desk: Arc<dyn JoinDesk>) -> Self {
        Self { pki, invites, desk }
    }

    /// Serves one link of class `Join`: one request, one answer.
    ///
    /// # Errors
    /// When the link failed. A refusal is no error here; it was told.
    pub async fn serve(&self, peer: PeerHello, mut link: Link) -> Result<(), LinkError> {
        let limit = Duration::from_secs(limits::PAIR_JOIN_SECONDS_MAX);
        timeout(limit, self.talk(&peer, &mut link)).await.map_err(|_| LinkError::HandshakeTimeout)?
    }

    async fn talk(&self, peer: &PeerHello, link: &mut Link) -> Result<(), LinkError> {
        let JoinMessage::Request(request) = link.receiver().receive().await? else {
            return Err(LinkError::WrongClass);
        };
        let (answer, outcome) = match Box::pin(self.decide(peer, &request)).await {
            Ok(answer) => {
                let member = answer.member;
                (JoinMessage::Answer(Box::new(answer)), Ok(member))
            }
            Err(refused) => (JoinMessage::Refused(refused.clone()), Err(refused)),
        };
        match outcome {
            Ok(member) => tracing::info!(member, from = %peer.address, "a machine joined the pair"),
            Err(refused) => tracing::warn!(code = refused.code, from = %peer.address, "a machine was refused to join"),
        }
        link.sender().send(&answer).await?;
        link.sender().close().await
    }

    async fn decide(&self, peer: &PeerHello, request: &JoinRequest) -> Result<JoinAnswer, Refused> {
        let from = (peer.address.ip(), now_ms());
        let claim = self.invites.claim(&request.token, request.kind, from).map_err(|refusal| told(&refusal))?;
        let member = self.desk.next_number(request).await?;
        let cluster = self.pki.membership().cluster;
        let now_seconds = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        let failed = |error: PkiError| refused(error.code(), &error.to_string());
        let ca = self.pki.ca().map_err(failed)?;
        let certificate = ca.sign(&request.csr, (&cluster, member), now_seconds).map_err(failed)?;
        let new = NewMember {
            member,
            kind: request.kind,
            fingerprint: fingerprint(&certificate),
            name: request.name.clone(),
            addresses: request.addresses.clone(),
            client_url: request.client_url.clone(),
            level: request.level,
            version: request.version.clone(),
            retired_member: request.retired_member,
        };
        let admitted = self.desk.admit(new).await?;
        claim.spend();
        // Keys go to data nodes only, whatever the desk hands out.
        let data = request.kind == PairMemberKind::Data;
        let web_ca = admitted.web_ca.filter(|_| data);
        Ok(JoinAnswer {
            member,
            chain: vec![certificate.to_vec().into()],
            ca: ca.certificate().to_vec().into(),
            ca_key: data.then(|| ca.key_der().into()),
            cluster,
            settings: admitted.settings,
            web_ca: web_ca.as_ref().map(|web_ca| web_ca.certificate.clone()),
            web_ca_key: web_ca.map(|web_ca| web_ca.key),
        })
    }
}

fn told(refusal: &TokenRefusal) -> Refused {
    match refusal {
        TokenRefusal::Unknown => refused(
            "invite_unknown",
            "the invitation is not open here: it was used, has expired, or the node was restarted since; make a new one",
        ),
        TokenRefusal::Limited { retry_after_seconds } => refused(
            "invite_rate_limited",
            &format!("too many wrong invitations; try again in {retry_after_seconds} seconds"),
        ),
    }
}

fn refused(code: &str, text: &str) -> Refused {
    Refused::new(code, text, Epoch::default())
}
