//! The frame: one group commit of 1..N entries as bytes, and the hash chain over entries. Pure; no files here.
//! Must never hand out an entry whose frame, order or chain it has not checked.
//!
//! Layout (little-endian): length u32 of the whole frame, CRC32C u32 of everything after it, first index u64, entries u32,
//! raw body bytes u32, flags u8, chain hash after the frame `[32]`, body.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::LogError;
use crate::core::entry::{Digest, Entry, EntryKind, Origin};
use crate::core::ids::Hlc;
use crate::limits::{LOG_COMPRESS_BYTES_MIN, LOG_FRAME_BODY_BYTES_MAX, LOG_FRAME_ENTRIES_MAX, LOG_PAYLOAD_BYTES_MAX};

/// Bytes of a frame before its body.
pub(super) const HEADER_BYTES: usize = 57;
/// Where a frame's flags stand.
const FLAGS_AT: usize = 24;
/// The body is zstd-compressed.
pub(super) const FLAG_ZSTD: u8 = 1;
/// The frame belongs to the same write as the frame before it.
pub(super) const FLAG_CONTINUES: u8 = 2;
/// An entry's payload was erased; its hash stands in its place.
const ENTRY_ERASED: u8 = 1;
/// Bytes of an entry in a body beside its payload, at most: three 10-byte varints, two of 3, kind, flags.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 38;
/// The highest index a log may hold; leaves room to count on without overflow, whatever a forged file says.
pub(super) const INDEX_MAX: u64 = i64::MAX as u64;
/// zstd's fastest standard level: the log thread pays for it on every commit.
const ZSTD_LEVEL: i32 = 1;

/// A point in the log: everything the next entry must continue from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// Index of the last entry, 0 before the first.
    pub index: u64,
    /// Epoch of the last entry.
    pub epoch: u64,
    /// The highest clock reading so far, of any origin.
    pub hlc: Hlc,
    /// Chain hash after the last entry; zeros before the first.
    pub chain: Digest,
}

/// Follows the log entry by entry and checks each rule of order. Clone it to try something that may fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    pub(super) at: LogPosition,
    /// The last reading of each origin seen since the tracker started. A handful: one per node.
    clocks: Vec<(Origin, Hlc)>,
}

impl Tracker {
    pub(super) const fn new(at: LogPosition) -> Self {
        Self { at, clocks: Vec::new() }
    }

    /// How many origins it has met.
    pub(super) const fn origins(&self) -> usize {
        self.clocks.len()
    }

    /// Goes on to `entry`, or says which rule it breaks.
    pub(super) fn advance(&mut self, entry: &Entry, payload_hash: &Digest) -> Result<(), &'static str> {
        self.advance_unhashed(entry)?;
        self.at.chain = chain_after(&self.at.chain, entry, payload_hash);
        Ok(())
    }

    /// As `advance`, but leaves the chain hash behind.
    fn advance_unhashed(&mut self, entry: &Entry) -> Result<(), &'static str> {
        self.check_order(entry)?;
        let hlc = self.at.hlc.max(entry.hlc);
        self.at = LogPosition { index: entry.index, epoch: entry.epoch, hlc, chain: self.at.chain };
        Ok(())
    }

    fn check_order(&mut self, entry: &Entry) -> Result<(), &'static str> {
        if self.at.index.checked_add(1) != Some(entry.index) {
            return Err("its index does not follow the one before");
        }
        if entry.epoch < self.at.epoch {
            return Err("its epoch is lower than the one before");
        }
        match self.clocks.iter_mut().find(|(origin, _)| *origin == entry.origin) {
            Some((_, last)) if entry.hlc <= *last => return Err("its clock reading does not grow within its origin"),
            Some((_, last)) => *last = entry.hlc,
            None => self.clocks.push((entry.origin, entry.hlc)),
        }
        Ok(())
    }
}

/// The chain hash after `entry`: BLAKE3 over the hash before, the entry's header and its payload's hash. Only the
/// payload's hash goes in, so the chain still verifies after the payload was erased.
fn chain_after(before: &Digest, entry: &Entry, payload_hash: &Digest) -> Digest {
    let mut input = [0_u8; 93];
    let mut out = &mut input[..];
    out.put_slice(before);
    out.put_u64_le(entry.index);
    out.put_u64_le(entry.epoch);
    out.put_u64_le(entry.hlc.0);
    out.put_u16_le(entry.origin.site);
    out.put_u16_le(entry.origin.node);
    out.put_u8(entry.kind as u8);
    out.put_slice(payload_hash);
    *blake3::hash(&input).as_bytes()
}

/// A frame's header as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: usize,
    pub(super) crc: u32,
    pub(super) first_index: u64,
    pub(super) entries: usize,
    pub(super) raw_bytes: usize,
    pub(super) flags: u8,
    pub(super) chain_after: Digest,
}

impl FrameHeader {
    /// Reads a header, or says why these bytes cannot be one. Bounds everything before anybody allocates for it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some(mut input) = bytes.get(..HEADER_BYTES) else {
            return Err("the bytes end inside a frame header");
        };
        let header = Self {
            length: input.get_u32_le() as usize,
            crc: input.get_u32_le(),
            first_index: input.get_u64_le(),
            entries: input.get_u32_le() as usize,
            raw_bytes: input.get_u32_le() as usize,
            flags: input.get_u8(),
            chain_after: take_digest(&mut input),
        };
        let body_bytes = header.length.wrapping_sub(HEADER_BYTES);
        if header.length <= HEADER_BYTES || body_bytes > header.raw_bytes {
            return Err("the frame length is impossible");
        }
        if header.raw_bytes > LOG_FRAME_BODY_BYTES_MAX {
            return Err("the frame body is larger than any frame");
        }
        if header.entries == 0 || header.entries > LOG_FRAME_ENTRIES_MAX {
            return Err("the frame's entry count is impossible");
        }
        if header.first_index == 0 || header.first_index > INDEX_MAX {
            return Err("the frame's first index is impossible");
        }
        if header.flags & !(FLAG_ZSTD | FLAG_CONTINUES) != 0 {
            return Err("the frame has unknown flags");
        }
        Ok(header)
    }

    /// The whole frame at the start of `bytes`, its checksum verified, or why there is none.
    pub(super) fn parse_whole(bytes: &[u8]) -> Result<(Self, &[u8]), &'static str> {
        let header = Self::parse(bytes)?;
        let Some(frame) = bytes.get(..header.length) else {
            return Err("the bytes end inside a frame");
        };
        if crc32c::crc32c(&frame[8..]) != header.crc {
            return Err("the frame's checksum does not match");
        }
        Ok((header, frame))
    }

    /// Index of the frame's last entry.
    pub(super) const fn last_index(&self) -> u64 {
        self.first_index.saturating_add(self.entries as u64 - 1)
    }

    /// What the frame counts towards `LOG_APPEND_BYTES_MAX` where frames of another log are taken: what it costs in memory.
    /// Never more than what its entries counted where they were appended, but for the header.
    pub(super) fn append_bytes(&self) -> usize {
        HEADER_BYTES + self.raw_bytes.max(self.entries * ENTRY_OVERHEAD_BYTES)
    }
}

/// Marks a whole frame as the first of its write or as a later one. The checksum is set anew if that changes anything.
pub(super) fn set_continues(frame: &mut [u8], continues: bool) {
    let flags = if continues { frame[FLAGS_AT] | FLAG_CONTINUES } else { frame[FLAGS_AT] & !FLAG_CONTINUES };
    if flags != frame[FLAGS_AT] {
        frame[FLAGS_AT] = flags;
        seal_frame(frame);
    }
}

fn seal_frame(frame: &mut [u8]) {
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Turns entries into frames. Keeps its buffers and its zstd context between calls.
pub(super) struct FrameEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    out: BytesMut,
}

/// How one frame is to be encoded.
#[derive(Clone, Copy, Default)]
pub(super) struct FrameStyle<'a> {
    /// The frame belongs to the same write as the one before.
    pub(super) continues: bool,
    /// Payload hashes of the entries that are erased, lowest index first. The writer has none; what rewrites a frame does.
    pub(super) erased: &'a [(u64, Digest)],
}

impl FrameEncoder {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?, raw: Vec::new(), out: BytesMut::new() })
    }

    /// Takes the frames encoded since the last call, as the bytes to write.
    pub(super) fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Encodes one frame with `entries` behind those not taken yet and moves `tracker` behind them. Returns its bytes.
    pub(super) fn encode(
        &mut self,
        entries: &[Entry],
        style: FrameStyle<'_>,
        tracker: &mut Tracker,
    ) -> Result<usize, LogError> {
        let first_index = tracker.at.index + 1;
        self.raw.clear();
        // Each frame stands alone: its first entry is coded against zero.
        let (mut epoch, mut hlc) = (0, Hlc(0));
        for entry in entries {
            let payload_hash = payload_hash_of(entry, style.erased)?;
            tracker.advance(entry, &payload_hash).map_err(|what| LogError::Rejected { index: entry.index, what })?;
            put_entry(&mut self.raw, entry, (epoch, hlc), &payload_hash);
            (epoch, hlc) = (entry.epoch, entry.hlc);
        }
        Ok(self.finish(first_index, entries.len(), (style.continues, tracker.at.chain)))
    }

    fn finish(&mut self, first_index: u64, entries: usize, (continues, chain): (bool, Digest)) -> usize {
        let out = &mut self.out;
        let start = out.len();
        let raw_bytes = self.raw.len();
        out.resize(start + HEADER_BYTES + raw_bytes, 0);
        let body = &mut out[start + HEADER_BYTES..];
        // The target is as long as the input, so zstd fails exactly when compressing does not pay.
        let packed = if raw_bytes < LOG_COMPRESS_BYTES_MIN {
            None
        } else {
            self.compressor.compress_to_buffer(&self.raw, body).ok().filter(|packed| *packed < raw_bytes)
        };
        let mut flags = if continues { FLAG_CONTINUES } else { 0 };
        if let Some(packed) = packed {
            flags |= FLAG_ZSTD;
            out.truncate(start + HEADER_BYTES + packed);
        } else {
            body.copy_from_slice(&self.raw);
        }
        let frame = &mut out[start..];
        let length = frame.len() as u32;
        let mut header = &mut frame[..HEADER_BYTES];
        header.put_u32_le(length);
        header.put_u32_le(0);
        header.put_u64_le(first_index);
        header.put_u32_le(entries as u32);
        header.put_u32_le(raw_bytes as u32);
        header.put_u8(flags);
        header.put_slice(&chain);
        seal_frame(frame);
        frame.len()
    }
}

fn payload_hash_of(entry: &Entry, erased: &[(u64, Digest)]) -> Result<Digest, LogError> {
    let refuse = |what| Err(LogError::Rejected { index: entry.index, what });
    if entry.payload.len() > LOG_PAYLOAD_BYTES_MAX {
        return refuse("its payload is larger than the log takes");
    }
    if !entry.erased {
        return Ok(*blake3::hash(&entry.payload).as_bytes());
    }
    match erased.binary_search_by_key(&entry.index, |(index, _)| *index) {
        Ok(found) if entry.payload.is_empty() => Ok(erased[found].1),
        _ => refuse("an erased entry cannot be written without its payload's hash"),
    }
}

/// Writes one entry of a body. Epoch and clock are differences to the entry before: mostly one and three bytes.
fn put_entry(raw: &mut Vec<u8>, entry: &Entry, (epoch, hlc): (u64, Hlc), payload_hash: &Digest) {
    put_varint(raw, entry.epoch.wrapping_sub(epoch));
    put_varint(raw, zigzag(entry.hlc.0.wrapping_sub(hlc.0)));
    put_varint(raw, u64::from(entry.origin.site));
    put_varint(raw, u64::from(entry.origin.node));
    raw.push(entry.kind as u8);
    raw.push(if entry.erased { ENTRY_ERASED } else { 0 });
    let payload: &[u8] = if entry.erased { payload_hash } else { &entry.payload };
    put_varint(raw, payload.len() as u64);
    raw.extend_from_slice(payload);
}

/// One entry whose frame, order and chain verified.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) entry: Entry,
    /// The chain hash after this entry.
    pub(super) chain: Digest,
    /// The payload's hash if the payload was erased.
    pub(super) erased_hash: Option<Digest>,
}

/// What a frame of some of these entries needs to keep what is left of the erased ones.
pub(super) fn erased_hashes(verified: &[Verified]) -> Vec<(u64, Digest)> {
    verified.iter().filter_map(|item| Some((item.entry.index, item.erased_hash?))).collect()
}

/// How closely frames are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Order and the hash of every entry.
    Chain,
    /// Order only; the chain hash is taken from the frame's header, which the checksum covers. Half the time: for opening.
    Order,
}

/// Turns frames back into entries. Keeps its zstd context between calls.
pub(super) struct FrameDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    depth: Depth,
    /// The frame's body; reused as long as no entry keeps a part of it.
    body: Vec<u8>,
}

impl FrameDecoder {
    pub(super) fn new(depth: Depth) -> std::io::Result<Self> {
        Ok(Self { decompressor: zstd::bulk::Decompressor::new()?, depth, body: Vec::new() })
    }

    /// The entries of a frame whose checksum was verified (none at [`Depth::Order`]). Checks order and chain against
    /// `tracker` and moves it behind the frame; on an error `tracker` is unchanged.
    pub(super) fn decode(
        &mut self,
        header: &FrameHeader,
        frame: &[u8],
        tracker: &mut Tracker,
    ) -> Result<Vec<Verified>, String> {
        self.inflate(header, &frame[HEADER_BYTES..])?;
        let expected = tracker.at.index + 1;
        if header.first_index != expected {
            return Err(format!("the frame starts at index {}, expected is {expected}", header.first_index));
        }
        let mut next = tracker.clone();
        let entries = match self.depth {
            Depth::Order => {
                walk(&self.body, header, |entry, _, _| next.advance_unhashed(&entry))?;
                next.at.chain = header.chain_after;
                Vec::new()
            }
            Depth::Chain => {
                let body = Bytes::from(std::mem::take(&mut self.body));
                verify_body(&body, header, &mut next)?
            }
        };
        if next.at.chain != header.chain_after {
            return Err("the hash chain does not match".to_owned());
        }
        *tracker = next;
        Ok(entries)
    }

    /// The epoch of a frame's last entry. The frame's checksum was verified; its order and chain are not looked at.
    pub(super) fn last_epoch(&mut self, header: &FrameHeader, frame: &[u8]) -> Result<u64, String> {
        self.inflate(header, &frame[HEADER_BYTES..])?;
        let mut epoch = 0;
        walk(&self.body, header, |entry, _, _| {
            epoch = entry.epoch;
            Ok(())
        })?;
        Ok(epoch)
    }

    fn inflate(&mut self, header: &FrameHeader, packed: &[u8]) -> Result<(), String> {
        self.body.clear();
        if header.flags & FLAG_ZSTD == 0 {
            self.body.extend_from_slice(packed);
        } else {
            self.body.reserve(header.raw_bytes);
            let unpacked = self.decompressor.decompress_to_buffer(packed, &mut self.body);
            unpacked.map_err(|e| format!("the frame does not decompress: {e}"))?;
        }
        if self.body.len() == header.raw_bytes {
            Ok(())
        } else {
            Err("the frame's body has the wrong length".to_owned())
        }
    }
}

/// Checks every entry of a body with its hash. Their payloads share the body's memory.
fn verify_body(body: &Bytes, header: &FrameHeader, next: &mut Tracker) -> Result<Vec<Verified>, String> {
    let mut entries = Vec::with_capacity(header.entries);
    walk(body, header, |mut entry, payload, erased_hash| {
        let payload_hash = erased_hash.unwrap_or_else(|| *blake3::hash(payload).as_bytes());
        entry.payload = body.slice_ref(payload);
        next.advance(&entry, &payload_hash)?;
        entries.push(Verified { entry, chain: next.at.chain, erased_hash });
        Ok(())
    })?;
    Ok(entries)
}

/// Gives each entry of a body to `visit`: the entry without its payload, the payload, and the payload's hash if that is
/// all that is left of it.
fn walk<'a>(
    mut body: &'a [u8],
    header: &FrameHeader,
    mut visit: impl FnMut(Entry, &'a [u8], Option<Digest>) -> Result<(), &'static str>,
) -> Result<(), String> {
    let mut previous = (0, Hlc(0));
    for index in header.first_index..=header.last_index() {
        let (entry, stored) = take_entry(&mut body, index, previous)?;
        previous = (entry.epoch, entry.hlc);
        let (payload, erased_hash) = if entry.erased {
            let hash = Digest::try_from(stored).map_err(|_| format!("entry {index} is erased but has no hash"))?;
            (&[][..], Some(hash))
        } else {
            (stored, None)
        };
        visit(entry, payload, erased_hash).map_err(|what| format!("entry {index}: {what}"))?;
    }
    if body.is_empty() { Ok(()) } else { Err(format!("{} bytes follow the frame's last entry", body.len())) }
}

/// Takes one entry off a body: the entry without its payload, and the bytes stored for the payload.
fn take_entry<'a>(body: &mut &'a [u8], index: u64, (epoch, hlc): (u64, Hlc)) -> Result<(Entry, &'a [u8]), String> {
    let short = || format!("entry {index} is cut short");
    let epoch = epoch.wrapping_add(take_varint(body).ok_or_else(short)?);
    let hlc = Hlc(hlc.0.wrapping_add(unzigzag(take_varint(body).ok_or_else(short)?)));
    let mut half = || take_varint(body).and_then(|value| u16::try_from(value).ok());
    let site = half().ok_or_else(|| format!("entry {index} has no valid site"))?;
    let node = half().ok_or_else(|| format!("entry {index} has no valid node"))?;
    if body.len() < 2 {
        return Err(short());
    }
    let (kind, flags) = (body.get_u8(), body.get_u8());
    let kind = EntryKind::from_number(kind).ok_or_else(|| format!("entry {index} is of the unknown kind {kind}"))?;
    if flags & !ENTRY_ERASED != 0 {
        return Err(format!("entry {index} has unknown flags {flags:#x}"));
    }
    let length = take_varint(body).and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
    let (stored, rest) = body.split_at_checked(length).ok_or_else(short)?;
    *body = rest;
    let erased = flags & ENTRY_ERASED != 0;
    Ok((Entry { index, epoch, hlc, origin: Origin { site, node }, kind, payload: Bytes::new(), erased }, stored))
}

/// Takes 32 bytes. The caller has checked that they are there.
pub(super) fn take_digest(input: &mut &[u8]) -> Digest {
    let mut digest = Digest::default();
    input.copy_to_slice(&mut digest);
    digest
}

/// Differences of clock readings are small in both directions: the sign goes into the lowest bit.
const fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

const fn unzigzag(coded: u64) -> u64 {
    (coded >> 1) ^ (coded & 1).wrapping_neg()
}

/// LEB128: seven bits a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (position, byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if position == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            input.advance(position + 1);
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_and_zigzag_round_trip(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut input = &out[..];
            prop_assert_eq!(take_varint(&mut input), Some(value));
            prop_assert!(input.is_empty());
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic_the_decoder(
            body in prop::collection::vec(any::<u8>(), 1..200), entries in 1_usize..20, zstd: bool,
        ) {
            let header = FrameHeader {
                length: HEADER_BYTES + body.len(), crc: 0, first_index: 1, entries, raw_bytes: body.len(),
                flags: if zstd { FLAG_ZSTD } else { 0 }, chain_after: [0; 32],
            };
            let frame = [vec![0; HEADER_BYTES], body].concat();
            let mut tracker = Tracker::default();
            prop_assert!(FrameDecoder::new(Depth::Chain).unwrap().decode(&header, &frame, &mut tracker).is_err());
            prop_assert_eq!(tracker.at, LogPosition::default());
        }

        #[test]
        fn arbitrary_bytes_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(FrameHeader::parse_whole(&bytes).is_err());
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
        assert_eq!(take_varint(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take_varint(&mut &[][..]), None);
    }
}
