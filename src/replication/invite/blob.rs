//! The invitation as one line of text that a person copies.
//!
//! `holdfast-pair-1.` (the format), the invitation in protobuf as base64url, `.`, and 13 characters of a checksum over all
//! before it. The checksum only finds slips of copying; what protects is the token and the fingerprint inside.

use std::fmt;

use bytes::Bytes;
use data_encoding::{BASE32_DNSSEC, BASE64URL_NOPAD};
use prost::Message as _;

use super::InviteError;
use crate::core::pair::is_address;
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::replication::pki::Fingerprint;

const PREFIX: &str = "holdfast-pair-";
/// The format that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;
const CHECKSUM_CONTEXT: &str = "holdfast 2026-11 pair invitation checksum";
/// Bytes of the checksum: a slip goes unnoticed once in 2^64.
const CHECKSUM_BYTES: usize = 8;

/// What an invitation says.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Where the inviting data nodes are reached, `host:port`; the first that answers is asked.
    pub addresses: Vec<String>,
    /// SHA-256 of the pair's CA certificate.
    pub ca_fingerprint: Fingerprint,
    /// The one-time token. A secret.
    pub token: [u8; 32],
    /// Until when it is valid, Unix milliseconds.
    pub expires_ms: u64,
    /// What it is for.
    pub kind: PairMemberKind,
    /// The cluster to join.
    pub cluster: [u8; 16],
}

impl fmt::Debug for Invitation {
    // The token must not be printable by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("addresses", &self.addresses)
            .field("kind", &self.kind)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct InvitationProto {
    #[prost(string, repeated, tag = "1")]
    addresses: Vec<String>,
    #[prost(bytes = "bytes", tag = "2")]
    ca_fingerprint: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    token: Bytes,
    #[prost(uint64, tag = "4")]
    expires_ms: u64,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(bytes = "bytes", tag = "6")]
    cluster: Bytes,
}

impl Invitation {
    /// The line of text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let proto = InvitationProto {
            addresses: self.addresses.clone(),
            ca_fingerprint: Bytes::copy_from_slice(&self.ca_fingerprint),
            token: Bytes::copy_from_slice(&self.token),
            expires_ms: self.expires_ms,
            kind: self.kind as i32,
            cluster: Bytes::copy_from_slice(&self.cluster),
        };
        let front = format!("{PREFIX}{FORMAT}.{}", BASE64URL_NOPAD.encode(&proto.encode_to_vec()));
        let checksum = checksum(&front);
        format!("{front}.{checksum}")
    }

    /// Reads the text, as it was pasted: white space around it and line breaks inside it do not matter.
    ///
    /// # Errors
    /// Each way in which it cannot be used has its own.
    pub fn parse(text: &str, wanted: PairMemberKind, now_ms: u64) -> Result<Invitation, InviteError> {
        let text: String =
            text.chars().filter(|c| !c.is_whitespace()).take(limits::PAIR_INVITE_CHARS_MAX + 1).collect();
        let rest = text.strip_prefix(PREFIX).ok_or(InviteError::NotOne)?;
        if text.len() > limits::PAIR_INVITE_CHARS_MAX {
            return Err(InviteError::Damaged);
        }
        // The checksum before the format: a slip in the format's digit is no newer version.
        let (front, found) = text.rsplit_once('.').ok_or(InviteError::Damaged)?;
        if checksum(front) != found {
            return Err(InviteError::Damaged);
        }
        let (format, body) = rest.split_once('.').ok_or(InviteError::Damaged)?;
        let body = body.split('.').next().unwrap_or_default();
        match format.parse::<u32>() {
            Ok(FORMAT) => {}
            Ok(found) if found > FORMAT => return Err(InviteError::NewerFormat { found }),
            _ => return Err(InviteError::Damaged),
        }
        let invitation = Self::decode(body)?;
        if invitation.kind != wanted {
            return Err(InviteError::WrongKind { found: invitation.kind });
        }
        if now_ms >= invitation.expires_ms {
            return Err(InviteError::Expired { expires_ms: invitation.expires_ms, now_ms });
        }
        Ok(invitation)
    }

    fn decode(body: &str) -> Result<Invitation, InviteError> {
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InviteError::Damaged)?;
        let proto = InvitationProto::decode(Bytes::from(bytes)).map_err(|_| InviteError::Damaged)?;
        let fits = (1..=limits::PAIR_ADDRESSES_MAX).contains(&proto.addresses.len());
        if !fits || !proto.addresses.iter().all(|address| is_address(address)) {
            return Err(InviteError::Damaged);
        }
        Ok(Invitation {
            addresses: proto.addresses,
            ca_fingerprint: exactly(&proto.ca_fingerprint)?,
            token: exactly(&proto.token)?,
            expires_ms: proto.expires_ms,
            kind: PairMemberKind::try_from(proto.kind).map_err(|_| InviteError::Damaged)?,
            cluster: exactly(&proto.cluster)?,
        })
    }

    /// The CA's fingerprint as both sides show it to people: hex with colons.
    #[must_use]
    pub fn ca_fingerprint_text(&self) -> String {
        let pairs: Vec<String> = self.ca_fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }
}

fn exactly<const N: usize>(bytes: &Bytes) -> Result<[u8; N], InviteError> {
    <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| InviteError::Damaged)
}

pub(super) fn checksum(front: &str) -> String {
    let full = blake3::derive_key(CHECKSUM_CONTEXT, front.as_bytes());
    BASE32_DNSSEC.encode(full.get(..CHECKSUM_BYTES).unwrap_or_default())
}
