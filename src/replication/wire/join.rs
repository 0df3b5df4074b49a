//! How a machine asks to become a member, and what it is given.

use std::fmt;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::hello::RefusedProto;
use super::{Class, Refused, Wire, WireError, bounded, cluster_id, digest, one_line, owned, put};
use crate::core::failover::Member;
use crate::core::rows::PairMemberKind;
use crate::limits;

/// Bytes of a member's name: its characters may take four each.
const NAME_BYTES_MAX: usize = 4 * limits::PAIR_NAME_CHARS_MAX;

/// "Let me in."
#[derive(Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The invitation's one-time token.
    pub token: [u8; 32],
    /// A certificate signing request in DER; only its key is used.
    pub csr: Bytes,
    /// What it wants to be; the invitation decides.
    pub kind: PairMemberKind,
    /// What the machine is called, for people.
    pub name: String,
    /// Where its peer port is reached, `host:port`.
    pub addresses: Vec<String>,
    /// Where clients reach it; empty for a witness.
    pub client_url: String,
    /// The newest level of log records that its build can apply.
    pub level: u32,
    /// Its program version.
    pub version: String,
    /// The member that it was before it lost its durable state; that number is never used again.
    pub retired_member: Option<Member>,
}

impl fmt::Debug for JoinRequest {
    // The token must not be printable by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// "You are in."
#[derive(Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// The new member's number.
    pub member: Member,
    /// Its certificate in DER, then those above it, without the CA's.
    pub chain: Vec<Bytes>,
    /// The pair's CA certificate in DER.
    pub ca: Bytes,
    /// The CA's key in PKCS#8 DER, for a data node: it can invite after a failover.
    pub ca_key: Option<Bytes>,
    /// The cluster.
    pub cluster: [u8; 16],
    /// The pair's settings as the log has them now.
    pub settings: Bytes,
    /// The CA that issues the HTTPS certificates in DER, for a data node: clients trust one CA for both.
    pub web_ca: Option<Bytes>,
    /// Its key in PKCS#8 DER.
    pub web_ca_key: Option<Bytes>,
}

impl fmt::Debug for JoinAnswer {
    // Nor must keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAnswer").field("member", &self.member).finish_non_exhaustive()
    }
}

/// A message on a join link: one request, one answer or refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinMessage {
    /// The joining side asks.
    Request(Box<JoinRequest>),
    /// It is let in.
    Answer(Box<JoinAnswer>),
    /// It is not.
    Refused(Refused),
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestProto {
    #[prost(bytes = "bytes", tag = "1")]
    token: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    csr: Bytes,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, repeated, tag = "5")]
    addresses: Vec<String>,
    #[prost(string, tag = "6")]
    client_url: String,
    #[prost(uint32, tag = "7")]
    level: u32,
    #[prost(string, tag = "8")]
    version: String,
    #[prost(uint32, optional, tag = "9")]
    retired_member: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnswerProto {
    #[prost(uint32, tag = "1")]
    member: u32,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    chain: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    ca: Bytes,
    #[prost(bytes = "bytes", optional, tag = "4")]
    ca_key: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "5")]
    cluster: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    settings: Bytes,
    #[prost(bytes = "bytes", optional, tag = "7")]
    web_ca: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    web_ca_key: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Request(RequestProto),
    #[prost(message, tag = "2")]
    Answer(AnswerProto),
    #[prost(message, tag = "3")]
    Refused(RefusedProto),
}

#[derive(Clone, PartialEq, prost::Message)]
struct JoinProto {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    kind: Option<Kind>,
}

impl Wire for JoinMessage {
    const CLASS: Class = Class::Join;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        let kind = match self {
            Self::Request(it) => Kind::Request(RequestProto {
                token: owned(&it.token),
                csr: it.csr.clone(),
                kind: it.kind as i32,
                name: it.name.clone(),
                addresses: it.addresses.clone(),
                client_url: it.client_url.clone(),
                level: it.level,
                version: it.version.clone(),
                retired_member: it.retired_member.map(u32::from),
            }),
            Self::Answer(it) => Kind::Answer(AnswerProto {
                member: u32::from(it.member),
                chain: it.chain.clone(),
                ca: it.ca.clone(),
                ca_key: it.ca_key.clone(),
                cluster: owned(&it.cluster),
                settings: it.settings.clone(),
                web_ca: it.web_ca.clone(),
                web_ca_key: it.web_ca_key.clone(),
            }),
            Self::Refused(refused) => Kind::Refused(refused.to_proto()),
        };
        put(out, &JoinProto { kind: Some(kind) });
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        match JoinProto::decode(bytes)?.kind {
            Some(Kind::Request(it)) => Ok(request(it)?.map(|it| Self::Request(Box::new(it)))),
            Some(Kind::Answer(it)) => Ok(Some(Self::Answer(Box::new(answer(it)?)))),
            Some(Kind::Refused(it)) => Ok(Some(Self::Refused(Refused::from_proto(&it)))),
            None => Ok(None),
        }
    }
}

fn request(it: RequestProto) -> Result<Option<JoinRequest>, WireError> {
    let Ok(kind) = PairMemberKind::try_from(it.kind) else { return Ok(None) };
    bounded("bytes of a signing request", it.csr.len(), limits::PEER_DER_BYTES_MAX)?;
    bounded("bytes of a name", it.name.len(), NAME_BYTES_MAX)?;
    bounded("addresses", it.addresses.len(), limits::PAIR_ADDRESSES_MAX)?;
    for address in &it.addresses {
        bounded("bytes of an address", address.len(), limits::PAIR_ADDRESS_BYTES_MAX)?;
    }
    bounded("bytes of the client address", it.client_url.len(), limits::PAIR_CLIENT_URL_BYTES_MAX)?;
    bounded("bytes of the version", it.version.len(), limits::PEER_VERSION_BYTES_MAX)?;
    Ok(Some(JoinRequest {
        token: digest(&it.token, "the token")?,
        csr: it.csr,
        kind,
        name: one_line(&it.name, NAME_BYTES_MAX),
        addresses: it.addresses.iter().map(|text| one_line(text, limits::PAIR_ADDRESS_BYTES_MAX)).collect(),
        client_url: one_line(&it.client_url, limits::PAIR_CLIENT_URL_BYTES_MAX),
        level: it.level,
        version: one_line(&it.version, limits::PEER_VERSION_BYTES_MAX),
        retired_member: it.retired_member.map(member).transpose()?,
    }))
}

fn answer(it: AnswerProto) -> Result<JoinAnswer, WireError> {
    bounded("certificates", it.chain.len(), limits::PEER_CHAIN_CERTIFICATES_MAX)?;
    let ders = it.chain.iter().chain([&it.ca]).chain(&it.ca_key).chain(&it.web_ca).chain(&it.web_ca_key);
    for der in ders {
        bounded("bytes of a certificate or key", der.len(), limits::PEER_DER_BYTES_MAX)?;
    }
    bounded("bytes of the settings", it.settings.len(), limits::PEER_SETTINGS_BYTES_MAX)?;
    Ok(JoinAnswer {
        member: member(it.member)?,
        chain: it.chain,
        ca: it.ca,
        ca_key: it.ca_key,
        cluster: cluster_id(&it.cluster)?,
        settings: it.settings,
        web_ca: it.web_ca,
        web_ca_key: it.web_ca_key,
    })
}

fn member(number: u32) -> Result<Member, WireError> {
    Member::try_from(number).map_err(|_| WireError(format!("{number} is no member number")))
}
