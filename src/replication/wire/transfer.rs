//! Copying what the log does not carry: snapshots of the state, and attachments.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Class, PAYLOAD_FIELD, PayloadAt, Wire, WireError, bounded, digest, owned, put, put_before_payload};
use crate::blobs::BlobHash;
use crate::core::entry::Digest;
use crate::core::failover::Epoch;
use crate::core::ids::Hlc;
use crate::limits;

/// A message on a snapshot link. The asking side resumes by asking only for the chunks that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotMessage {
    /// "I need a snapshot."
    Want {
        /// The index of the one that was begun, so that it is continued if it still exists; 0 for any.
        have_index: u64,
    },
    /// The one that there is.
    Is {
        /// The last record that it includes.
        index: u64,
        /// The epoch of that record.
        epoch: Epoch,
        /// The clock after that record.
        hlc: Hlc,
        /// The chain hash after that record.
        chain: Digest,
        /// Its manifest, as it is on disk: names, sizes and hashes of the chunks.
        manifest: Bytes,
    },
    /// "Send me this file of it."
    GetChunk {
        /// The snapshot's index.
        index: u64,
        /// The file's name in the manifest.
        name: String,
    },
    /// The file.
    Chunk {
        /// Its content.
        bytes: Bytes,
    },
    /// The snapshot is no longer there: ask for another one.
    Gone,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WantProto {
    #[prost(uint64, tag = "1")]
    have_index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotIsProto {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(fixed64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    hlc: u64,
    #[prost(bytes = "bytes", tag = "4")]
    chain: Bytes,
    #[prost(bytes = "bytes", tag = "15")]
    manifest: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetChunkProto {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChunkProto {
    #[prost(bytes = "bytes", tag = "15")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GoneProto {}

const CHUNK_KIND: u32 = 4;

#[derive(Clone, PartialEq, prost::Oneof)]
enum SnapshotKind {
    #[prost(message, tag = "1")]
    Want(WantProto),
    #[prost(message, tag = "2")]
    Is(SnapshotIsProto),
    #[prost(message, tag = "3")]
    GetChunk(GetChunkProto),
    #[prost(message, tag = "4")]
    Chunk(ChunkProto),
    #[prost(message, tag = "5")]
    Gone(GoneProto),
}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotProto {
    #[prost(oneof = "SnapshotKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<SnapshotKind>,
}

impl Wire for SnapshotMessage {
    const CLASS: Class = Class::Snapshot;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        let kind = match self {
            Self::Want { have_index } => SnapshotKind::Want(WantProto { have_index: *have_index }),
            Self::Is { index, epoch, hlc, chain, manifest } => SnapshotKind::Is(SnapshotIsProto {
                index: *index,
                epoch: epoch.0,
                hlc: hlc.0,
                chain: owned(chain),
                manifest: manifest.clone(),
            }),
            Self::GetChunk { index, name } => {
                SnapshotKind::GetChunk(GetChunkProto { index: *index, name: name.clone() })
            }
            Self::Chunk { bytes } => {
                let at = PayloadAt { kind: CHUNK_KIND, field: PAYLOAD_FIELD };
                put_before_payload(out, at, &ChunkProto::default(), bytes);
                return Some(bytes.clone());
            }
            Self::Gone => SnapshotKind::Gone(GoneProto {}),
        };
        put(out, &SnapshotProto { kind: Some(kind) });
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let Some(kind) = SnapshotProto::decode(bytes)?.kind else { return Ok(None) };
        Ok(Some(match kind {
            SnapshotKind::Want(it) => Self::Want { have_index: it.have_index },
            SnapshotKind::Is(it) => Self::Is {
                index: it.index,
                epoch: Epoch(it.epoch),
                hlc: Hlc(it.hlc),
                chain: digest(&it.chain, "the chain hash")?,
                manifest: it.manifest,
            },
            SnapshotKind::GetChunk(it) => {
                bounded("bytes of a file name", it.name.len(), limits::PEER_FILE_NAME_BYTES_MAX)?;
                // It becomes part of a path: a plain name, whatever the reader does with it.
                if !is_plain_name(&it.name) {
                    return Err(WireError("a file name that is none".to_owned()));
                }
                Self::GetChunk { index: it.index, name: it.name }
            }
            SnapshotKind::Chunk(it) => Self::Chunk { bytes: it.bytes },
            SnapshotKind::Gone(_) => Self::Gone,
        }))
    }
}

/// Letters, digits, `.`, `-`, `_`, and not beginning with a dot.
fn is_plain_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

/// A blob in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedBlob {
    /// Its name: the hash of its content.
    pub hash: BlobHash,
    /// Its length in bytes.
    pub size: u64,
}

/// A message on a blob link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobMessage {
    /// "Which blobs do you have?" In the order of their hashes.
    List {
        /// Only those behind this one; `None` from the first on.
        after: Option<BlobHash>,
        /// At most so many; the other side may send fewer, but none only at the end.
        max: u32,
    },
    /// The answer.
    Blobs(Vec<ListedBlob>),
    /// "Send me this one."
    Get {
        /// Which.
        hash: BlobHash,
        /// From this byte on: what was received of it before is kept.
        offset: u64,
    },
    /// A part of it, in order.
    Part {
        /// Where it begins.
        offset: u64,
        /// Its bytes.
        bytes: Bytes,
        /// Whether it is the last.
        last: bool,
    },
    /// There is no such blob.
    Unknown {
        /// Which.
        hash: BlobHash,
    },
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    after: Option<Bytes>,
    #[prost(uint32, tag = "2")]
    max: u32,
}

/// The hashes one behind the other and the sizes packed: a page costs no more memory than its bytes do.
#[derive(Clone, PartialEq, prost::Message)]
struct BlobsProto {
    #[prost(bytes = "bytes", tag = "1")]
    hashes: Bytes,
    #[prost(uint64, repeated, tag = "2")]
    sizes: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetProto {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    #[prost(uint64, tag = "2")]
    offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartProto {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(bool, tag = "2")]
    last: bool,
    #[prost(bytes = "bytes", tag = "15")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnknownProto {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
}

const PART_KIND: u32 = 4;

#[derive(Clone, PartialEq, prost::Oneof)]
enum BlobKind {
    #[prost(message, tag = "1")]
    List(ListProto),
    #[prost(message, tag = "2")]
    Blobs(BlobsProto),
    #[prost(message, tag = "3")]
    Get(GetProto),
    #[prost(message, tag = "4")]
    Part(PartProto),
    #[prost(message, tag = "5")]
    Unknown(UnknownProto),
}

#[derive(Clone, PartialEq, prost::Message)]
struct BlobProto {
    #[prost(oneof = "BlobKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<BlobKind>,
}

impl Wire for BlobMessage {
    const CLASS: Class = Class::Blob;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        let kind = match self {
            Self::List { after, max } => {
                BlobKind::List(ListProto { after: after.map(|hash| owned(&hash.0)), max: *max })
            }
            Self::Blobs(blobs) => {
                let mut hashes = BytesMut::with_capacity(blobs.len() * 32);
                blobs.iter().for_each(|blob| hashes.extend_from_slice(&blob.hash.0));
                let sizes = blobs.iter().map(|blob| blob.size).collect();
                BlobKind::Blobs(BlobsProto { hashes: hashes.freeze(), sizes })
            }
            Self::Get { hash, offset } => BlobKind::Get(GetProto { hash: owned(&hash.0), offset: *offset }),
            Self::Part { offset, bytes, last } => {
                let head = PartProto { offset: *offset, last: *last, bytes: Bytes::new() };
                put_before_payload(out, PayloadAt { kind: PART_KIND, field: PAYLOAD_FIELD }, &head, bytes);
                return Some(bytes.clone());
            }
            Self::Unknown { hash } => BlobKind::Unknown(UnknownProto { hash: owned(&hash.0) }),
        };
        put(out, &BlobProto { kind: Some(kind) });
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let Some(kind) = BlobProto::decode(bytes)?.kind else { return Ok(None) };
        Ok(Some(match kind {
            BlobKind::List(it) => Self::List {
                after: it.after.map(|hash| blob_hash(&hash)).transpose()?,
                max: it.max.min(limits::PEER_BLOB_LIST_MAX),
            },
            BlobKind::Blobs(it) => Self::Blobs(listed(&it)?),
            BlobKind::Get(it) => Self::Get { hash: blob_hash(&it.hash)?, offset: it.offset },
            BlobKind::Part(it) => {
                bounded("bytes of a part", it.bytes.len(), limits::PEER_BLOB_PART_BYTES_MAX)?;
                Self::Part { offset: it.offset, bytes: it.bytes, last: it.last }
            }
            BlobKind::Unknown(it) => Self::Unknown { hash: blob_hash(&it.hash)? },
        }))
    }
}

fn blob_hash(bytes: &Bytes) -> Result<BlobHash, WireError> {
    digest(bytes, "a blob's hash").map(BlobHash)
}

fn listed(proto: &BlobsProto) -> Result<Vec<ListedBlob>, WireError> {
    bounded("blobs in a list", proto.sizes.len(), limits::PEER_BLOB_LIST_MAX as usize)?;
    let (hashes, rest) = proto.hashes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != proto.sizes.len() {
        return Err(WireError("a list of blobs whose hashes and sizes do not go together".to_owned()));
    }
    let blobs = hashes.iter().zip(&proto.sizes);
    Ok(blobs.map(|(hash, size)| ListedBlob { hash: BlobHash(*hash), size: *size }).collect())
}
