//! The first message each way: who is there, what for, and whether it fits.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Class, WireError, bounded, cluster_id, digest, one_line, owned, put};
use crate::core::failover::{Epoch, Member};
use crate::limits;

/// What the dialling side says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest link protocol it speaks.
    pub protocol: u32,
    /// The oldest one it speaks.
    pub protocol_min: u32,
    /// The newest level of log records that its build can apply.
    pub level: u32,
    /// The level of records that its log may hold by now; 0 when it has none.
    pub level_in_use: u32,
    /// The cluster it belongs to, or wants to join.
    pub cluster: [u8; 16],
    /// Its member number; 0 when it has none yet (joining).
    pub member: Member,
    /// What the link is for.
    pub class: Class,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its program version, for people.
    pub version: String,
    /// Where clients reach it; empty for a witness.
    pub client_url: String,
    /// Its wall clock in Unix milliseconds, so that a clock that is wrong is told.
    pub now_ms: u64,
    /// SHA-256 of the certificate that it wants to show from now on, as soon as the pair's settings name it.
    pub next_certificate: Option<[u8; 32]>,
}

/// The accepting side's answer: the same of itself, and where its log begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Of the accepting side. `protocol` is the one that both will speak.
    pub hello: Hello,
    /// The first index in its log; 0 when the log is empty.
    pub first: u64,
    /// The last one; 0 when the log is empty.
    pub last: u64,
    /// The pair's settings, from a data node: a witness has no log to learn them from.
    pub settings: Option<Bytes>,
}

/// The accepting side's no. Also the answer to any later request that cannot be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// A stable code.
    pub code: String,
    /// What a person should know.
    pub text: String,
    /// The refusing side's epoch; 0 towards strangers.
    pub epoch: Epoch,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Come in.
    Welcome(Box<Welcome>),
    /// No.
    Refused(Refused),
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloProto {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(uint32, tag = "2")]
    protocol_min: u32,
    #[prost(uint32, tag = "3")]
    level: u32,
    #[prost(uint32, tag = "4")]
    level_in_use: u32,
    #[prost(bytes = "bytes", tag = "5")]
    cluster: Bytes,
    #[prost(uint32, tag = "6")]
    member: u32,
    #[prost(uint32, tag = "7")]
    class: u32,
    #[prost(fixed64, tag = "8")]
    epoch: u64,
    #[prost(string, tag = "9")]
    version: String,
    #[prost(string, tag = "10")]
    client_url: String,
    #[prost(uint64, tag = "11")]
    now_ms: u64,
    #[prost(bytes = "bytes", optional, tag = "12")]
    next_certificate: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WelcomeProto {
    #[prost(message, optional, tag = "1")]
    hello: Option<HelloProto>,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, tag = "3")]
    last: u64,
    #[prost(bytes = "bytes", optional, tag = "4")]
    settings: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefusedProto {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(fixed64, tag = "3")]
    epoch: u64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ReplyKind {
    #[prost(message, tag = "1")]
    Welcome(WelcomeProto),
    #[prost(message, tag = "2")]
    Refused(RefusedProto),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReplyProto {
    #[prost(oneof = "ReplyKind", tags = "1, 2")]
    kind: Option<ReplyKind>,
}

impl Hello {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put(out, &self.to_proto());
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`WireError`] when it is damaged, or of a class that this build does not know.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        Self::from_proto(HelloProto::decode(bytes)?)
    }

    fn to_proto(&self) -> HelloProto {
        HelloProto {
            protocol: self.protocol,
            protocol_min: self.protocol_min,
            level: self.level,
            level_in_use: self.level_in_use,
            cluster: owned(&self.cluster),
            member: u32::from(self.member),
            class: self.class as u32,
            epoch: self.epoch.0,
            version: self.version.clone(),
            client_url: self.client_url.clone(),
            now_ms: self.now_ms,
            next_certificate: self.next_certificate.as_ref().map(|print| owned(print)),
        }
    }

    fn from_proto(proto: HelloProto) -> Result<Self, WireError> {
        bounded("bytes of the version", proto.version.len(), limits::PEER_VERSION_BYTES_MAX)?;
        bounded("bytes of the client address", proto.client_url.len(), limits::PAIR_CLIENT_URL_BYTES_MAX)?;
        Ok(Self {
            protocol: proto.protocol,
            protocol_min: proto.protocol_min,
            level: proto.level,
            level_in_use: proto.level_in_use,
            cluster: cluster_id(&proto.cluster)?,
            member: member(proto.member)?,
            class: Class::from_number(proto.class)
                .ok_or_else(|| WireError(format!("links of class {} are not known here", proto.class)))?,
            epoch: Epoch(proto.epoch),
            version: one_line(&proto.version, limits::PEER_VERSION_BYTES_MAX),
            client_url: one_line(&proto.client_url, limits::PAIR_CLIENT_URL_BYTES_MAX),
            now_ms: proto.now_ms,
            next_certificate: proto
                .next_certificate
                .map(|print| digest(&print, "the fingerprint of a certificate"))
                .transpose()?,
        })
    }
}

impl Reply {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let kind = match self {
            Self::Welcome(welcome) => ReplyKind::Welcome(WelcomeProto {
                hello: Some(welcome.hello.to_proto()),
                first: welcome.first,
                last: welcome.last,
                settings: welcome.settings.clone(),
            }),
            Self::Refused(refused) => ReplyKind::Refused(refused.to_proto()),
        };
        put(out, &ReplyProto { kind: Some(kind) });
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`WireError`] when it is damaged, or neither a welcome nor a refusal.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        match ReplyProto::decode(bytes)?.kind {
            Some(ReplyKind::Welcome(proto)) => {
                let hello = proto.hello.ok_or_else(|| WireError("a welcome without a hello".to_owned()))?;
                Ok(Self::Welcome(Box::new(Welcome {
                    hello: Hello::from_proto(hello)?,
                    first: proto.first,
                    last: proto.last,
                    settings: proto.settings,
                })))
            }
            Some(ReplyKind::Refused(proto)) => Ok(Self::Refused(Refused::from_proto(&proto))),
            None => Err(WireError("neither a welcome nor a refusal".to_owned())),
        }
    }
}

impl Refused {
    /// A refusal of our own, cut to what may travel.
    #[must_use]
    pub fn new(code: &str, text: &str, epoch: Epoch) -> Self {
        Self {
            code: one_line(code, limits::PEER_CODE_BYTES_MAX),
            text: one_line(text, limits::PEER_TEXT_BYTES_MAX),
            epoch,
        }
    }

    pub(super) fn to_proto(&self) -> RefusedProto {
        RefusedProto { code: self.code.clone(), text: self.text.clone(), epoch: self.epoch.0 }
    }

    /// What a peer says is shown to people: only a code that looks like one, and a text on one line.
    pub(super) fn from_proto(proto: &RefusedProto) -> Self {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        let code = &proto.code;
        let fits = !code.is_empty() && code.len() <= limits::PEER_CODE_BYTES_MAX && code.bytes().all(plain);
        Self::new(if fits { code } else { "peer_refused" }, &proto.text, Epoch(proto.epoch))
    }
}

fn member(number: u32) -> Result<Member, WireError> {
    Member::try_from(number).map_err(|_| WireError(format!("{number} is no member number")))
}
