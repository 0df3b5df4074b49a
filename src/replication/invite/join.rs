//! The joining side.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::{Invitation, JoinError};
use crate::core::failover::{Epoch, Member};
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::node::now_ms;
use crate::replication::link::{LinkError, connect, exchange, tls_client};
use crate::replication::net::Net;
use crate::replication::pki::{
    JoinKey, JoinedFiles, Membership, PairCa, PairPki, PeerIdentity, PkiError, fingerprint, pinned_client,
    probe_writable, verify_issued,
};
use crate::replication::wire::{Class, Hello, JoinAnswer, JoinMessage, JoinRequest};

/// What a joining machine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// What it is called, for people.
    pub name: String,
    /// Where its peer port is reached, `host:port`.
    pub addresses: Vec<String>,
    /// Where clients reach it; empty for a witness.
    pub client_url: String,
    /// The newest level of log records that its build can apply.
    pub level: u32,
    /// Its program version.
    pub version: String,
    /// The member that it was, when it comes back without its durable state. Its old certificates are then replaced.
    pub retired_member: Option<Member>,
}

/// Joins the pair of the invitation and stores what makes this machine a member in `pair_dir` (`<data>/pair`); the file
/// that says so is written last. Writes a few small files on the calling thread.
///
/// # Errors
/// [`JoinError`]. Before the inviting side has answered nothing has changed here; afterwards, when storing fails, the
/// number is lost and another invitation is needed.
pub async fn join(
    net: &dyn Net,
    invitation: &Invitation,
    applicant: &Applicant,
    pair_dir: &Path,
) -> Result<PairPki, JoinError> {
    if let Some(found) = PairPki::load(pair_dir)? {
        let member = found.membership().member;
        if applicant.retired_member != Some(member) {
            return Err(JoinError::AlreadyMember(member));
        }
    }
    // Before the token is spent: a full disk, a wrong owner.
    probe_writable(pair_dir)?;
    let key = JoinKey::make()?;
    let request = JoinMessage::Request(Box::new(JoinRequest {
        token: invitation.token,
        csr: key.request()?.into(),
        kind: invitation.kind,
        name: applicant.name.clone(),
        addresses: applicant.addresses.clone(),
        client_url: applicant.client_url.clone(),
        level: applicant.level,
        version: applicant.version.clone(),
        retired_member: applicant.retired_member,
    }));
    let hello = hello(invitation, applicant);
    let asked = Box::pin(ask_all(net, invitation, &hello, &request));
    let answer =
        timeout(Duration::from_secs(limits::PAIR_JOIN_SECONDS_MAX), asked).await.map_err(|_| JoinError::TooSlow)??;
    verify(invitation, &key, &answer)?;
    let membership = Membership { cluster: answer.cluster, member: answer.member, kind: invitation.kind };
    Ok(PairPki::store_joined(pair_dir, &JoinedFiles { key: &key, answer: &answer, membership })?)
}

fn hello(invitation: &Invitation, applicant: &Applicant) -> Hello {
    Hello {
        protocol: limits::PEER_PROTOCOL,
        protocol_min: limits::PEER_PROTOCOL_MIN,
        level: applicant.level,
        level_in_use: 0,
        cluster: invitation.cluster,
        member: 0,
        class: Class::Join,
        epoch: Epoch::default(),
        version: applicant.version.clone(),
        client_url: applicant.client_url.clone(),
        now_ms: now_ms(),
        next_certificate: None,
    }
}

/// Asks at one address after the other. A refusal of the one asked counts, unless it is not the active: the other may be.
async fn ask_all(
    net: &dyn Net,
    invitation: &Invitation,
    hello: &Hello,
    request: &JoinMessage,
) -> Result<JoinAnswer, JoinError> {
    let mut last = LinkError::Closed;
    for address in &invitation.addresses {
        match ask(net, (invitation, address), hello, request).await {
            Ok(answer) => return Ok(answer),
            Err(JoinError::Link(error)) if elsewhere(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last.into())
}

/// Whether another address may do better, and the token was certainly not spent at this one.
fn elsewhere(error: &LinkError) -> bool {
    match error {
        LinkError::Unreachable { .. } | LinkError::ConnectTimeout { .. } | LinkError::NotTls | LinkError::CaUnknown => {
            true
        }
        LinkError::Refused(refused) => refused.code == "not_active",
        _ => false,
    }
}

async fn ask(
    net: &dyn Net,
    (invitation, address): (&Invitation, &str),
    hello: &Hello,
    request: &JoinMessage,
) -> Result<JoinAnswer, JoinError> {
    let stream = connect(net, address).await?;
    let (stream, chain) = tls_client(pinned_client(invitation.ca_fingerprint)?, stream).await?;
    let leaf = chain.first().ok_or(LinkError::CertificateRequired)?;
    PeerIdentity::read(leaf)?.check_cluster(&invitation.cluster)?;
    let (_, mut link) = exchange(stream, hello).await?;
    link.sender().send(request).await?;
    match link.receiver().receive().await? {
        JoinMessage::Answer(answer) => Ok(*answer),
        JoinMessage::Refused(refused) => Err(LinkError::Refused(refused).into()),
        JoinMessage::Request(_) => Err(LinkError::WrongClass.into()),
    }
}

/// Whether everything in the answer belongs together, and to the invitation.
fn verify(invitation: &Invitation, key: &JoinKey, answer: &JoinAnswer) -> Result<(), PkiError> {
    let wrong = |reason: &str| PkiError::Answer(reason.to_owned());
    if fingerprint(&answer.ca) != invitation.ca_fingerprint {
        return Err(wrong("the CA is not the one of the invitation"));
    }
    if answer.cluster != invitation.cluster || answer.member == 0 {
        return Err(wrong("the cluster or the member number is wrong"));
    }
    let [leaf] = answer.chain.as_slice() else { return Err(wrong("it has not exactly one certificate")) };
    let (leaf, ca) = (CertificateDer::from(leaf.as_ref()), CertificateDer::from(answer.ca.as_ref()));
    verify_issued(&leaf, &ca).map_err(|error| PkiError::Answer(format!("the certificate is not usable: {error}")))?;
    if !key.certified_by(&leaf) {
        return Err(wrong("the certificate is for another key"));
    }
    let identity = PeerIdentity::read(&leaf).map_err(|error| PkiError::Answer(error.to_string()))?;
    if identity.cluster != answer.cluster || identity.member != answer.member {
        return Err(wrong("the certificate names another member"));
    }
    if invitation.kind == PairMemberKind::Data {
        let authorities = [(Some(&answer.ca), &answer.ca_key), (answer.web_ca.as_ref(), &answer.web_ca_key)];
        for (ca, ca_key) in authorities {
            let (Some(ca), Some(ca_key)) = (ca, ca_key) else {
                return Err(wrong("a key or certificate for a data node is missing"));
            };
            PairCa::from_der(CertificateDer::from(ca.to_vec()), ca_key)?;
        }
    }
    Ok(())
}
