//! The physical layout: which stored pairs a row lives in. Small rows are stored one by one; messages and sends in
//! blocks of [`STATE_BLOCK_ROWS`]; what is too long for one pair is split over numbered parts. Pure: no I/O here.
//!
//! A unit is one small row or one block. Its pairs are
//! - `key` → flags, and the content; or, when it does not fit,
//! - `key` → flags, part count (u16), CRC32C of the content (u32), the content's first bytes; and
//! - `key`, part (u16) from 1 → the same CRC32C, more of the content.
//!
//! `key` is [`Key::encode`], with the block's number in place of the sequence number or slot. All integers in pairs are
//! big-endian. The content is the row's bytes, or for a block per row: slot (u8), length (varint), bytes; when
//! the flags say so, it is a u32 length and a zstd frame of that.

use std::cell::RefCell;
use std::sync::Arc;

use super::error::ProjectionError;
use super::store::{Batch, ByteRange};
use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::limits::{
    STATE_BLOCK_ROWS, STATE_BLOCK_ZSTD_LEVEL, STATE_COMPRESS_FROM_BYTES, STATE_UNIT_BYTES_MAX, STATE_VALUE_BYTES_MAX,
};

const COMPRESSED: u8 = 1;
const IN_PARTS: u8 = 2;
/// Flags, part count, checksum.
const FIRST_HEADER_BYTES: usize = 7;
/// Checksum.
const PART_HEADER_BYTES: usize = 4;

/// The rows of one unit in the order of their keys; empty when it is not stored. Clones share them.
pub(crate) type Rows = Arc<[(Key, Value)]>;

/// The slot within the unit and the encoded row.
pub(crate) type RawRow = (u8, Vec<u8>);

/// Which unit. Units sort as their rows do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitKey(Key);

impl UnitKey {
    /// The unit that holds a row.
    pub(crate) const fn of(key: &Key) -> Self {
        Self(match *key {
            Key::Message(channel, seq) => Key::Message(channel, seq / STATE_BLOCK_ROWS),
            Key::Sent(user, slot) => Key::Sent(user, slot / STATE_BLOCK_ROWS as u16),
            other => other,
        })
    }

    /// A row's slot within its unit.
    pub(crate) const fn slot(key: &Key) -> u8 {
        match *key {
            Key::Message(_, seq) => (seq % STATE_BLOCK_ROWS) as u8,
            Key::Sent(_, slot) => (slot % STATE_BLOCK_ROWS as u16) as u8,
            _ => 0,
        }
    }

    /// The key of the row in `slot`.
    pub(crate) fn row_key(self, slot: u8) -> Option<Key> {
        if u64::from(slot) >= STATE_BLOCK_ROWS {
            return None;
        }
        match self.0 {
            Key::Message(channel, block) => {
                Some(Key::Message(channel, block.checked_mul(STATE_BLOCK_ROWS)?.checked_add(slot.into())?))
            }
            Key::Sent(user, block) => {
                Some(Key::Sent(user, block.checked_mul(STATE_BLOCK_ROWS as u16)?.checked_add(slot.into())?))
            }
            other => (slot == 0).then_some(other),
        }
    }

    /// Whether it is a block of rows.
    pub(crate) const fn is_block(self) -> bool {
        matches!(self.0, Key::Message(..) | Key::Sent(..))
    }

    /// Whether it may take more than one pair. The other rows have a fixed, small size.
    pub(crate) const fn may_have_parts(self) -> bool {
        !matches!(
            self.0,
            Key::ChannelHead(_)
                | Key::Member(..)
                | Key::Membership(..)
                | Key::Username(_)
                | Key::SessionToken(_)
                | Key::UserSession(..)
                | Key::InviteToken(_)
                | Key::ChannelName(_)
                | Key::DirectPair(..)
                | Key::TailMark(_)
                | Key::OpenConflict(_)
                | Key::ChannelAlias(_)
        )
    }

    /// The units of a range that lies within one channel's messages or one user's sends, when there are at most `max` of
    /// them: then they can be read one by one, without asking the store which ones there are.
    pub(crate) fn listed(first: &Key, last: &Key, max: u64) -> Option<Vec<Self>> {
        match (Self::of(first).0, Self::of(last).0) {
            (Key::Message(channel, from), Key::Message(other, to)) if channel == other && to - from < max => {
                Some((from..=to).map(|block| Self(Key::Message(channel, block))).collect())
            }
            (Key::Sent(user, from), Key::Sent(other, to)) if user == other && u64::from(to - from) < max => {
                Some((from..=to).map(|block| Self(Key::Sent(user, block))).collect())
            }
            _ => None,
        }
    }

    /// The stored key of a part.
    pub(crate) fn part(self, part: u16) -> Vec<u8> {
        let mut bytes = self.0.encode().to_vec();
        if part > 0 {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// The unit and part of a stored key; `None` when it is not one of ours.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, u16)> {
        if let Some(key) = Key::decode(bytes) {
            return Some((Self(key), 0));
        }
        let (base, part) = bytes.split_last_chunk()?;
        Some((Self(Key::decode(base)?), u16::from_be_bytes(*part)))
    }

    /// The stored keys of all parts of all units in a range.
    pub(crate) fn byte_range(first: Self, last: Self) -> ByteRange {
        use std::ops::Bound::Included;
        (Included(first.part(0)), Included(last.part(u16::MAX)))
    }
}

fn damaged(unit: UnitKey, what: &str) -> ProjectionError {
    ProjectionError::Store { op: "decode", cause: format!("{:?}: {what}", unit.0) }
}

/// How many pairs the unit with this first value takes.
pub(crate) fn part_count(unit: UnitKey, first: &[u8]) -> Result<u16, ProjectionError> {
    match first {
        [] => Err(damaged(unit, "an empty value")),
        [flags, ..] if flags & !(COMPRESSED | IN_PARTS) != 0 => Err(damaged(unit, "unknown flags")),
        [flags, high, low, ..] if flags & IN_PARTS != 0 => Ok(u16::from_be_bytes([*high, *low])),
        [flags, ..] if flags & IN_PARTS != 0 => Err(damaged(unit, "a cut header")),
        _ => Ok(1),
    }
}

/// The content of a unit from its values in order; `Ok(None)` when the parts do not belong together, which happens when a
/// checkpoint replaced the unit between two reads.
pub(crate) fn join_parts(unit: UnitKey, values: &[Vec<u8>]) -> Result<Option<Vec<u8>>, ProjectionError> {
    let (first, rest) = values.split_first().ok_or_else(|| damaged(unit, "no value"))?;
    let (flags, body) = first.split_first().ok_or_else(|| damaged(unit, "an empty value"))?;
    if flags & IN_PARTS == 0 {
        return unpack(unit, flags & COMPRESSED != 0, body).map(Some);
    }
    let (head, start) = first.split_at_checked(FIRST_HEADER_BYTES).ok_or_else(|| damaged(unit, "a cut header"))?;
    let crc = head.split_at(FIRST_HEADER_BYTES - PART_HEADER_BYTES).1;
    let mut content = start.to_vec();
    for part in rest {
        match part.split_at_checked(PART_HEADER_BYTES) {
            Some((part_crc, more)) if part_crc == crc => content.extend_from_slice(more),
            _ => return Ok(None),
        }
    }
    if crc32c::crc32c(&content).to_be_bytes() != crc {
        return Ok(None);
    }
    unpack(unit, flags & COMPRESSED != 0, &content).map(Some)
}

fn unpack(unit: UnitKey, compressed: bool, body: &[u8]) -> Result<Vec<u8>, ProjectionError> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    if !compressed {
        return Ok(body.to_vec());
    }
    let (len, frame) = body.split_first_chunk().ok_or_else(|| damaged(unit, "a cut length"))?;
    let len = u32::from_be_bytes(*len) as usize;
    if len > STATE_UNIT_BYTES_MAX {
        return Err(damaged(unit, "an impossible length"));
    }
    let failed = |e: std::io::Error| damaged(unit, &format!("zstd: {e}"));
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(failed)?),
        };
        let content = decompressor.decompress(frame, len).map_err(failed)?;
        if content.len() == len { Ok(content) } else { Err(damaged(unit, "another length than it says")) }
    })
}

/// The rows of a unit's content, still encoded, in the order of their slots.
pub(crate) fn raw_rows(unit: UnitKey, content: Vec<u8>) -> Result<Vec<RawRow>, ProjectionError> {
    if !unit.is_block() {
        return Ok(vec![(0, content)]);
    }
    let mut rows: Vec<RawRow> = Vec::with_capacity(STATE_BLOCK_ROWS as usize);
    let mut rest = content.as_slice();
    while let Some((&slot, after)) = rest.split_first() {
        let mut body = after;
        let len = prost::decode_length_delimiter(&mut body).map_err(|_| damaged(unit, "a bad row length"))?;
        let (row, after) = body.split_at_checked(len).ok_or_else(|| damaged(unit, "a cut row"))?;
        if rows.last().is_some_and(|(last, _)| *last >= slot) {
            return Err(damaged(unit, "rows out of order"));
        }
        rows.push((slot, row.to_vec()));
        rest = after;
    }
    Ok(rows)
}

/// Decodes the rows of a unit.
pub(crate) fn decode_rows(unit: UnitKey, content: Vec<u8>) -> Result<Rows, ProjectionError> {
    let decode = |(slot, bytes): RawRow| {
        let key = unit.row_key(slot).ok_or_else(|| damaged(unit, "a slot that no row can have"))?;
        let value = Value::decode(&key, &bytes).map_err(|e| ProjectionError::row(key, &e))?;
        Ok((key, value))
    };
    raw_rows(unit, content)?.into_iter().map(decode).collect()
}

/// Turns units into pairs. Keeps its compressor: making one costs more than compressing a block.
pub(crate) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
}

impl Packer {
    /// A packer at the level of blocks.
    pub(crate) fn new() -> Result<Self, ProjectionError> {
        let compressor = zstd::bulk::Compressor::new(STATE_BLOCK_ZSTD_LEVEL)
            .map_err(|e| ProjectionError::Store { op: "compress", cause: e.to_string() })?;
        Ok(Self { compressor })
    }

    /// Adds the pairs of a unit to a batch; no rows remove it. `old_parts` is how many pairs it took before.
    pub(crate) fn put(
        &mut self,
        batch: &mut Batch,
        (unit, old_parts): (UnitKey, u16),
        rows: &[RawRow],
    ) -> Result<(), ProjectionError> {
        let values = if rows.is_empty() { Vec::new() } else { self.values(unit, rows)? };
        let parts = u16::try_from(values.len()).map_err(|_| damaged(unit, "too long to store"))?;
        batch.extend((0..).zip(values).map(|(part, value)| (unit.part(part), Some(value))));
        batch.extend((parts..old_parts).map(|part| (unit.part(part), None)));
        Ok(())
    }

    fn values(&mut self, unit: UnitKey, rows: &[RawRow]) -> Result<Vec<Vec<u8>>, ProjectionError> {
        let mut content = Vec::new();
        for (slot, row) in rows {
            if unit.is_block() {
                content.push(*slot);
                prost::encode_length_delimiter(row.len(), &mut content)
                    .map_err(|_| damaged(unit, "a length that cannot be written"))?;
            }
            content.extend_from_slice(row);
        }
        let (compressed, content) = self.pack(unit, content)?;
        let flags = if compressed { COMPRESSED } else { 0 };
        if content.len() < STATE_VALUE_BYTES_MAX {
            return Ok(vec![[&[flags], content.as_slice()].concat()]);
        }
        Ok(split_parts(flags | IN_PARTS, &content))
    }

    fn pack(&mut self, unit: UnitKey, content: Vec<u8>) -> Result<(bool, Vec<u8>), ProjectionError> {
        if content.len() > STATE_UNIT_BYTES_MAX {
            return Err(damaged(unit, "too long to store"));
        }
        if content.len() < STATE_COMPRESS_FROM_BYTES {
            return Ok((false, content));
        }
        let frame = self.compressor.compress(&content).map_err(|e| damaged(unit, &format!("zstd: {e}")))?;
        if frame.len() + 4 >= content.len() {
            return Ok((false, content));
        }
        Ok((true, [&(content.len() as u32).to_be_bytes(), frame.as_slice()].concat()))
    }
}

fn split_parts(flags: u8, content: &[u8]) -> Vec<Vec<u8>> {
    let crc = crc32c::crc32c(content).to_be_bytes();
    let (first, rest) = content.split_at(content.len().min(STATE_VALUE_BYTES_MAX - FIRST_HEADER_BYTES));
    let more = rest.chunks(STATE_VALUE_BYTES_MAX - PART_HEADER_BYTES);
    let count = (1 + more.len()) as u16;
    let head = [&[flags], &count.to_be_bytes()[..], &crc, first].concat();
    std::iter::once(head).chain(more.map(|chunk| [&crc[..], chunk].concat())).collect()
}
