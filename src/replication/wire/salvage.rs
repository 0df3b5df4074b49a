//! A diverged tail on its way to the active: records as they were, each answered for itself.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Class, Wire, WireError, bounded, one_line, put};
use crate::limits;

/// A message on a salvage link. A batch that is not answered is sent again: the active knows what it has had by the
/// tail's id and the ordinals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Salvage {
    /// Records of the tail.
    Batch {
        /// The tail's id, the same after every restart.
        tail: Bytes,
        /// The ordinal of the first item in the tail, from 0.
        first_ordinal: u64,
        /// The items, in order.
        items: Vec<Bytes>,
    },
    /// What became of them.
    Answer {
        /// Every item before this ordinal is dealt with, durably.
        upto: u64,
        /// Those that could not be applied.
        refused: Vec<SalvageRefusal>,
    },
}

/// An item that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvageRefusal {
    /// Which.
    pub ordinal: u64,
    /// A stable code.
    pub code: String,
    /// What a person should know.
    pub text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchProto {
    #[prost(bytes = "bytes", tag = "1")]
    tail: Bytes,
    #[prost(uint64, tag = "2")]
    first_ordinal: u64,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    items: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RefusalProto {
    #[prost(uint64, tag = "1")]
    ordinal: u64,
    #[prost(string, tag = "2")]
    code: String,
    #[prost(string, tag = "3")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnswerProto {
    #[prost(uint64, tag = "1")]
    upto: u64,
    #[prost(message, repeated, tag = "2")]
    refused: Vec<RefusalProto>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Batch(BatchProto),
    #[prost(message, tag = "2")]
    Answer(AnswerProto),
}

#[derive(Clone, PartialEq, prost::Message)]
struct SalvageProto {
    #[prost(oneof = "Kind", tags = "1, 2")]
    kind: Option<Kind>,
}

impl Wire for Salvage {
    const CLASS: Class = Class::Salvage;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        let kind = match self {
            Self::Batch { tail, first_ordinal, items } => {
                Kind::Batch(BatchProto { tail: tail.clone(), first_ordinal: *first_ordinal, items: items.clone() })
            }
            Self::Answer { upto, refused } => {
                let refused = refused.iter().map(|it| RefusalProto {
                    ordinal: it.ordinal,
                    code: one_line(&it.code, limits::PEER_CODE_BYTES_MAX),
                    text: one_line(&it.text, limits::PEER_TEXT_BYTES_MAX),
                });
                Kind::Answer(AnswerProto { upto: *upto, refused: refused.collect() })
            }
        };
        put(out, &SalvageProto { kind: Some(kind) });
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let Some(kind) = SalvageProto::decode(bytes)?.kind else { return Ok(None) };
        Ok(Some(match kind {
            Kind::Batch(it) => {
                bounded("bytes of a tail's id", it.tail.len(), limits::PEER_TAIL_ID_BYTES_MAX)?;
                bounded("items of a batch", it.items.len(), limits::PEER_SALVAGE_ITEMS_MAX)?;
                Self::Batch { tail: it.tail, first_ordinal: it.first_ordinal, items: it.items }
            }
            Kind::Answer(it) => {
                bounded("refused items", it.refused.len(), limits::PEER_SALVAGE_ITEMS_MAX)?;
                let refused = it.refused.into_iter().map(|it| SalvageRefusal {
                    ordinal: it.ordinal,
                    code: one_line(&it.code, limits::PEER_CODE_BYTES_MAX),
                    text: one_line(&it.text, limits::PEER_TEXT_BYTES_MAX),
                });
                Self::Answer { upto: it.upto, refused: refused.collect() }
            }
        }))
    }
}
