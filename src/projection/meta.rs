//! The one row that says what the stored state is: written in the same batch as the rows it speaks of. Never guessed at:
//! a meta row that does not verify means that the state is rebuilt.

use std::path::Path;

use super::error::ProjectionError;
use crate::core::entry::Digest;
use crate::core::rows::{Row, RowError};
use crate::core::view::StateHash;

/// Where the meta row is: before every other key (the tags of [`crate::core::keys::Key`] start at 1).
pub(crate) const META_KEY: &[u8] = &[0];

/// The format of units and of the meta row. It grows when either changes, or when the encoding of a row changes, since
/// the state hash covers the encoded rows: the state is then rebuilt. It also grows when there are new kinds of rows or new
/// fields, so that an older build refuses the state instead of stumbling over them; then [`STATE_FORMAT_READ`] stays.
///
/// - 1: the first.
/// - 2: the rows of the pair, of salvage and of conflicts; what arrived late says so. All rows of 1 are written as before.
pub(crate) const STATE_FORMAT: u32 = 2;

/// The oldest format whose rows this build would write in the same bytes: such a state is used as it is, and becomes one of
/// the present format with its next checkpoint.
pub(crate) const STATE_FORMAT_READ: u32 = 1;

/// What the stored state is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Meta {
    /// See [`STATE_FORMAT`].
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    /// Whose state, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) cluster: Vec<u8>,
    /// The last log index in it.
    #[prost(uint64, tag = "3")]
    pub(crate) applied_index: u64,
    /// That entry's epoch.
    #[prost(uint64, tag = "4")]
    pub(crate) epoch: u64,
    /// The hash of all rows, 32 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) state_hash: Vec<u8>,
    /// The machine's boot id at the time of writing.
    #[prost(string, tag = "6")]
    pub(crate) boot_id: String,
}

impl Row for Meta {
    const VERSION: u8 = 1;
    type Previous = Self;
    fn upgrade(previous: Self) -> Self {
        previous
    }
}

impl Meta {
    /// The stored bytes: the row and its CRC32C, little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.encode_row();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads [`Meta::to_bytes`], refusing what this build or this cluster must not open. `path` is for the error.
    pub(crate) fn from_bytes(bytes: &[u8], path: &Path, cluster: [u8; 16]) -> Result<Self, ProjectionError> {
        let damaged = |what: String| ProjectionError::Damaged { path: path.to_owned(), what };
        let (row, crc) = bytes.split_last_chunk().ok_or_else(|| damaged("the meta row is too short".to_owned()))?;
        if crc32c::crc32c(row) != u32::from_le_bytes(*crc) {
            return Err(damaged("the meta row's checksum fails".to_owned()));
        }
        let too_new = |found| ProjectionError::FormatTooNew { path: path.to_owned(), found, known: STATE_FORMAT };
        let meta = Self::decode_row(row).map_err(|e| match e {
            RowError::TooNew { found, .. } => too_new(found.into()),
            other => damaged(format!("the meta row: {other}")),
        })?;
        if meta.format > STATE_FORMAT {
            return Err(too_new(meta.format));
        }
        if meta.format < STATE_FORMAT_READ {
            return Err(damaged(format!("format {} is from an older build", meta.format)));
        }
        if meta.cluster != cluster {
            let found = data_encoding::HEXLOWER.encode(&meta.cluster);
            return Err(ProjectionError::WrongCluster { path: path.to_owned(), found });
        }
        meta.hash().ok_or_else(|| damaged("the meta row's hash is not 32 bytes".to_owned()))?;
        Ok(meta)
    }

    /// The state hash; `None` when it is not 32 bytes.
    pub(crate) fn hash(&self) -> Option<StateHash> {
        Digest::try_from(self.state_hash.as_slice()).ok().map(StateHash::from_bytes)
    }
}

/// The machine's boot id; empty when the kernel does not tell, which never equals a stored one.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
