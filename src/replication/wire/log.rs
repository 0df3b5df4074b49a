//! Log shipping: where the two logs stand to each other, then frames of the log as they are on disk.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::control::{self, ControlProto};
use super::{Class, PAYLOAD_FIELD, PayloadAt, Wire, WireError, digest, owned, put, put_before_payload};
use crate::core::entry::Digest;
use crate::core::failover::{Epoch, Message};

/// A message on a log link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogMessage {
    /// "What is your record at this index?"
    AskPosition {
        /// The index.
        index: u64,
    },
    /// The answer.
    PositionIs {
        /// The index asked about.
        index: u64,
        /// The epoch of the record there.
        epoch: Epoch,
        /// The chain hash after that record.
        chain: Digest,
        /// The first index in the log.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// The log has no record at that index: it begins later or ends earlier.
    PositionUnknown {
        /// The index asked about.
        index: u64,
        /// The first index in the log; 0 when it is empty.
        first: u64,
        /// The last one; 0 when it is empty.
        last: u64,
    },
    /// "Send me everything from here on."
    ShipFrom {
        /// The epoch of the active that is followed.
        epoch: Epoch,
        /// The first index wanted.
        index: u64,
    },
    /// Records.
    Ship(Ship),
    /// A message of the protocol, in order with the records.
    Control(Message),
}

/// Records on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ship {
    /// The active's epoch.
    pub epoch: Epoch,
    /// Whole frames of the log, one behind the other. Never copied: sent from, and received into, shared memory.
    pub frames: Bytes,
    /// Up to where the active knows records to be committed.
    pub commit: u64,
    /// The last index of the active's log when this was sent: how far behind the receiver is.
    pub last: u64,
    /// The active's wall clock when this was sent, Unix milliseconds.
    pub sent_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AskPositionProto {
    #[prost(uint64, tag = "1")]
    index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionIsProto {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(fixed64, tag = "2")]
    epoch: u64,
    #[prost(bytes = "bytes", tag = "3")]
    chain: Bytes,
    #[prost(uint64, tag = "4")]
    first: u64,
    #[prost(uint64, tag = "5")]
    last: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionUnknownProto {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, tag = "3")]
    last: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShipFromProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShipProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    commit: u64,
    #[prost(uint64, tag = "3")]
    last: u64,
    #[prost(uint64, tag = "4")]
    sent_ms: u64,
    #[prost(bytes = "bytes", tag = "15")]
    frames: Bytes,
}

const SHIP_KIND: u32 = 5;

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    AskPosition(AskPositionProto),
    #[prost(message, tag = "2")]
    PositionIs(PositionIsProto),
    #[prost(message, tag = "3")]
    PositionUnknown(PositionUnknownProto),
    #[prost(message, tag = "4")]
    ShipFrom(ShipFromProto),
    #[prost(message, tag = "5")]
    Ship(ShipProto),
    #[prost(message, tag = "6")]
    Control(ControlProto),
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogProto {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

impl Wire for LogMessage {
    const CLASS: Class = Class::Log;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        let kind = match self {
            Self::AskPosition { index } => Kind::AskPosition(AskPositionProto { index: *index }),
            Self::PositionIs { index, epoch, chain, first, last } => Kind::PositionIs(PositionIsProto {
                index: *index,
                epoch: epoch.0,
                chain: owned(chain),
                first: *first,
                last: *last,
            }),
            Self::PositionUnknown { index, first, last } => {
                Kind::PositionUnknown(PositionUnknownProto { index: *index, first: *first, last: *last })
            }
            Self::ShipFrom { epoch, index } => Kind::ShipFrom(ShipFromProto { epoch: epoch.0, index: *index }),
            Self::Ship(ship) => return Some(encode_ship(ship, out)),
            Self::Control(message) => Kind::Control(control::to_proto(message)),
        };
        put(out, &LogProto { kind: Some(kind) });
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let Some(kind) = LogProto::decode(bytes)?.kind else { return Ok(None) };
        Ok(Some(match kind {
            Kind::AskPosition(it) => Self::AskPosition { index: it.index },
            Kind::PositionIs(it) => Self::PositionIs {
                index: it.index,
                epoch: Epoch(it.epoch),
                chain: digest(&it.chain, "the chain hash")?,
                first: it.first,
                last: it.last,
            },
            Kind::PositionUnknown(it) => Self::PositionUnknown { index: it.index, first: it.first, last: it.last },
            Kind::ShipFrom(it) => Self::ShipFrom { epoch: Epoch(it.epoch), index: it.index },
            Kind::Ship(it) => Self::Ship(Ship {
                epoch: Epoch(it.epoch),
                frames: it.frames,
                commit: it.commit,
                last: it.last,
                sent_ms: it.sent_ms,
            }),
            Kind::Control(it) => return Ok(control::from_proto(&it).map(Self::Control)),
        }))
    }
}

fn encode_ship(ship: &Ship, out: &mut BytesMut) -> Bytes {
    let head = ShipProto {
        epoch: ship.epoch.0,
        commit: ship.commit,
        last: ship.last,
        sent_ms: ship.sent_ms,
        frames: Bytes::new(),
    };
    put_before_payload(out, PayloadAt { kind: SHIP_KIND, field: PAYLOAD_FIELD }, &head, &ship.frames);
    ship.frames.clone()
}
