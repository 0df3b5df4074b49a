//! Every message between members: its type here, its protobuf bytes on the wire. Must never allocate by a number that a
//! peer sent, nor fail on what a newer peer added.
//!
//! Evolution: a field or a message kind is only ever added, under a number that was never used. An unknown field is
//! skipped; an unknown kind of message, or a value that only a newer build can mean, decodes to `None` and is counted by
//! the link. Only bytes that are no protobuf at all, or a length that cannot be, are errors: they end the link.
#![allow(clippy::too_many_arguments, reason = "functions that prost derives for a oneof have five")]

mod control;
mod hello;
mod join;
mod log;
mod salvage;
mod transfer;

use std::fmt;

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

pub use control::Heard;
pub use hello::{Hello, Refused, Reply, Welcome};
pub use join::{JoinAnswer, JoinMessage, JoinRequest};
pub use log::{LogMessage, Ship};
pub use salvage::{Salvage, SalvageRefusal};
pub use transfer::{BlobMessage, ListedBlob, SnapshotMessage};

use crate::core::entry::Digest;
use crate::limits;

/// What a link is for. Each has its own messages and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Class {
    /// Heartbeats, votes, acks.
    Control = 1,
    /// Log shipping, and control messages that go with it.
    Log = 2,
    /// A snapshot of the state.
    Snapshot = 3,
    /// Attachments.
    Blob = 4,
    /// A diverged tail on its way to the active.
    Salvage = 5,
    /// A machine that wants to become a member: the only class without a certificate.
    Join = 6,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 6] = [Class::Control, Class::Log, Class::Snapshot, Class::Blob, Class::Salvage, Class::Join];

    /// The class with this number, or `None` when this build does not know it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Control),
            2 => Some(Self::Log),
            3 => Some(Self::Snapshot),
            4 => Some(Self::Blob),
            5 => Some(Self::Salvage),
            6 => Some(Self::Join),
            _ => None,
        }
    }

    /// Bytes of one message at most; checked before anything is allocated for it.
    #[must_use]
    pub const fn message_bytes_max(self) -> usize {
        match self {
            Self::Control => limits::PEER_CONTROL_BYTES_MAX,
            Self::Log => limits::PEER_LOG_BYTES_MAX,
            Self::Snapshot => limits::PEER_SNAPSHOT_BYTES_MAX,
            Self::Blob => limits::PEER_BLOB_BYTES_MAX,
            Self::Salvage => limits::PEER_SALVAGE_BYTES_MAX,
            Self::Join => limits::PEER_JOIN_BYTES_MAX,
        }
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Log => "log",
            Self::Snapshot => "snapshot",
            Self::Blob => "blob",
            Self::Salvage => "salvage",
            Self::Join => "join",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are not a message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError(pub(super) String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message of the link protocol: {}", self.0)
    }
}

impl std::error::Error for WireError {}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// A message that travels on links of one class.
pub trait Wire: Sized {
    /// The class.
    const CLASS: Class;

    /// Appends the message to `out`. What is returned belongs behind it: a payload that needs no copy.
    fn encode(&self, out: &mut BytesMut) -> Option<Bytes>;

    /// Reads a message; payloads inside share `bytes`. `None`: a newer peer means something that this build does not know.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are damaged, or a part is longer than it may be.
    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError>;
}

/// Appends a protobuf message; a `BytesMut` grows as needed.
fn put(out: &mut BytesMut, message: &impl prost::Message) {
    out.reserve(message.encoded_len());
    message.encode_raw(out);
}

/// Where a payload stands in a frame: message kind, and field inside it.
#[derive(Clone, Copy)]
struct PayloadAt {
    kind: u32,
    field: u32,
}

/// Appends `kind { head, field: payload }` but for the payload itself, which the caller sends behind it. The same bytes as
/// if `head` had held the payload in its last field.
fn put_before_payload(out: &mut BytesMut, at: PayloadAt, head: &impl prost::Message, payload: &Bytes) {
    let head_len = head.encoded_len();
    let payload_len = payload.len() as u64;
    let field_len = if payload.is_empty() { 0 } else { key_len(at.field) + encoded_len_varint(payload_len) };
    encode_key(at.kind, WireType::LengthDelimited, out);
    encode_varint((head_len + field_len) as u64 + payload_len, out);
    head.encode_raw(out);
    if !payload.is_empty() {
        encode_key(at.field, WireType::LengthDelimited, out);
        encode_varint(payload_len, out);
    }
}

/// The last field of a message that carries a payload: behind every field that may still be added.
const PAYLOAD_FIELD: u32 = 15;

fn digest(bytes: &Bytes, what: &str) -> Result<Digest, WireError> {
    Digest::try_from(bytes.as_ref()).map_err(|_| WireError(format!("{what} has {} bytes instead of 32", bytes.len())))
}

fn cluster_id(bytes: &Bytes) -> Result<[u8; 16], WireError> {
    <[u8; 16]>::try_from(bytes.as_ref())
        .map_err(|_| WireError(format!("the cluster id has {} bytes instead of 16", bytes.len())))
}

fn bounded(what: &str, len: usize, max: usize) -> Result<(), WireError> {
    if len <= max { Ok(()) } else { Err(WireError(format!("{what}: {len}, at most {max}"))) }
}

/// A fixed-size array as protobuf bytes.
fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A text of a peer as it may be logged: one line, no control characters, at most so many bytes.
pub(super) fn one_line(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > bytes_max {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests;
