//! Segment files: their names, header and footer. Must never write in place; the writer decides when these bytes go where.
//!
//! Header (104 bytes, little-endian): magic `[8]`, format u32, program version `[16]`, cluster `[16]`, first index u64, then the
//! position before the segment: epoch u64, clock u64, chain hash `[32]`; CRC32C u32 over all before it.
//!
//! Footer: magic `[8]`, entries u64, last index u64, epoch u64, clock u64, chain hash `[32]`, offset of the footer u64, points
//! u32, points of (index u64, offset u64, chain hash before `[32]`); CRC32C u32 over all before it; footer length u32, magic
//! `[8]`: the trailer by which it is found from the end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::error::LogError;
use super::frame::{INDEX_MAX, LogPosition, take_digest};
use crate::core::entry::Digest;
use crate::core::ids::Hlc;

/// Bytes of a segment before its first frame.
pub(super) const SEGMENT_HEADER_BYTES: usize = 104;
/// The format this build writes and reads.
pub(super) const FORMAT: u32 = 1;
/// What a footer starts with. Read as a frame length it is impossible, so a footer is never taken for a frame.
pub(super) const FOOTER_MAGIC: &[u8; 8] = b"HFSEALED";
const HEADER_MAGIC: &[u8; 8] = b"HFOPLOG\n";
const TRAILER_MAGIC: &[u8; 8] = b"HFFOOTER";
const TRAILER_BYTES: usize = 12;
const POINT_BYTES: usize = 48;
/// Bytes of a footer without points.
const FOOTER_FIXED_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 32 + 8 + 4 + 4 + TRAILER_BYTES;
/// Digits of a segment's name: all of u64, so that names sort as numbers do.
const NAME_DIGITS: usize = 20;

/// What a segment says about itself before its first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Version of the program that wrote it, zero-padded ASCII.
    pub(super) writer: [u8; 16],
    pub(super) cluster: [u8; 16],
    /// The position before the segment; its first entry has the index after it.
    pub(super) before: LogPosition,
}

impl SegmentHeader {
    /// A header of this build.
    pub(super) fn new(cluster: [u8; 16], before: LogPosition) -> Self {
        let mut writer = [0; 16];
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        let length = version.len().min(writer.len());
        writer[..length].copy_from_slice(&version[..length]);
        Self { writer, cluster, before }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.put_slice(HEADER_MAGIC);
        out.put_u32_le(FORMAT);
        out.put_slice(&self.writer);
        out.put_slice(&self.cluster);
        out.put_u64_le(self.before.index + 1);
        out.put_u64_le(self.before.epoch);
        out.put_u64_le(self.before.hlc.0);
        out.put_slice(&self.before.chain);
        out.put_u32_le(crc32c::crc32c(&out));
        out
    }

    /// Reads the header at the start of `bytes`. The format is looked at first: a newer one may have another layout.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, LogError> {
        let named = first_index_of(path).unwrap_or(0);
        let corrupt = |what: &str| LogError::corrupt(path, 0, named, what);
        let Some(all) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return Err(corrupt("the file is shorter than a segment header"));
        };
        let Some(mut input) = all.strip_prefix(HEADER_MAGIC) else {
            return Err(corrupt("this is not a log segment"));
        };
        let format = input.get_u32_le();
        let writer = take_16(&mut input);
        if format != FORMAT {
            let text = String::from_utf8_lossy(&writer);
            let writer = text.trim_end_matches('\0').escape_default().to_string();
            return Err(LogError::UnknownFormat { path: path.to_path_buf(), format, writer });
        }
        let cluster = take_16(&mut input);
        let first_index = input.get_u64_le();
        let (epoch, hlc) = (input.get_u64_le(), Hlc(input.get_u64_le()));
        let chain = take_digest(&mut input);
        if input.get_u32_le() != crc32c::crc32c(&all[..SEGMENT_HEADER_BYTES - 4]) {
            return Err(corrupt("the segment header's checksum does not match"));
        }
        if first_index == 0 || first_index != named {
            return Err(corrupt(&format!("the file's name does not match its first index, {first_index}")));
        }
        Ok(Self { writer, cluster, before: LogPosition { index: first_index - 1, epoch, hlc, chain } })
    }
}

fn take_16(input: &mut &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    input.copy_to_slice(&mut out);
    out
}

/// A place in a segment from which reading can start with the chain verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SparsePoint {
    /// First index of the frame there.
    pub(super) index: u64,
    /// Its offset in the file.
    pub(super) offset: u64,
    /// Chain hash before that frame.
    pub(super) chain: Digest,
}

/// What a sealed segment says about itself at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentFooter {
    /// Entries in the segment.
    pub(super) entries: u64,
    /// The position after its last entry.
    pub(super) after: LogPosition,
    /// Where the frames end and the footer starts.
    pub(super) offset: u64,
    /// Its sparse index, ascending.
    pub(super) points: Vec<SparsePoint>,
}

/// Bytes of a footer with this many points.
pub(super) const fn footer_bytes(points: usize) -> usize {
    FOOTER_FIXED_BYTES + points * POINT_BYTES
}

impl SegmentFooter {
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = footer_bytes(self.points.len());
        let mut out = Vec::with_capacity(length);
        out.put_slice(FOOTER_MAGIC);
        out.put_u64_le(self.entries);
        out.put_u64_le(self.after.index);
        out.put_u64_le(self.after.epoch);
        out.put_u64_le(self.after.hlc.0);
        out.put_slice(&self.after.chain);
        out.put_u64_le(self.offset);
        out.put_u32_le(self.points.len() as u32);
        for point in &self.points {
            out.put_u64_le(point.index);
            out.put_u64_le(point.offset);
            out.put_slice(&point.chain);
        }
        out.put_u32_le(crc32c::crc32c(&out));
        out.put_u32_le(length as u32);
        out.put_slice(TRAILER_MAGIC);
        out
    }

    /// Reads the footer that ends at the end of the file, `None` if the file does not end like a sealed segment. Nor does
    /// one that has become shorter than `file_bytes`: a running writer is sealing it.
    pub(super) fn read(file: &File, file_bytes: u64, place: &SegmentName) -> Result<Option<Self>, LogError> {
        let io = |e| LogError::io("read footer", &place.path, e);
        let Some(trailer_at) = file_bytes.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let mut trailer = [0; TRAILER_BYTES];
        match file.read_exact_at(&mut trailer, trailer_at) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(io)?,
        }
        if &trailer[4..] != TRAILER_MAGIC {
            return Ok(None);
        }
        let length = u64::from((&trailer[..4]).get_u32_le());
        let corrupt = |what| LogError::corrupt(&place.path, trailer_at, place.first_index, what);
        if length < FOOTER_FIXED_BYTES as u64 || length + SEGMENT_HEADER_BYTES as u64 > file_bytes {
            return Err(corrupt("the footer's length is impossible"));
        }
        let offset = file_bytes - length;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).map_err(io)?;
        let footer = Self::decode(&bytes).map_err(corrupt)?;
        if !footer.points_fit(place.first_index) {
            return Err(corrupt("the footer's sparse index leads outside of the segment"));
        }
        if footer.offset != offset
            || footer.after.index > INDEX_MAX
            || footer.after.index.checked_sub(footer.entries) != Some(place.first_index - 1)
        {
            return Err(corrupt("the footer does not fit its segment"));
        }
        Ok(Some(footer))
    }

    fn points_fit(&self, first_index: u64) -> bool {
        self.points.iter().all(|point| {
            (first_index..=self.after.index).contains(&point.index)
                && (SEGMENT_HEADER_BYTES as u64..self.offset).contains(&point.offset)
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let checked = &bytes[..bytes.len() - TRAILER_BYTES - 4];
        let crc = (&bytes[checked.len()..]).get_u32_le();
        if crc != crc32c::crc32c(checked) {
            return Err("the footer's checksum does not match");
        }
        let Some(mut input) = checked.strip_prefix(FOOTER_MAGIC) else {
            return Err("the footer does not start like one");
        };
        let entries = input.get_u64_le();
        let (index, epoch, hlc) = (input.get_u64_le(), input.get_u64_le(), Hlc(input.get_u64_le()));
        let chain = take_digest(&mut input);
        let offset = input.get_u64_le();
        let count = input.get_u32_le() as usize;
        if input.len() != count * POINT_BYTES {
            return Err("the footer's sparse index has the wrong length");
        }
        let points = (0..count)
            .map(|_| {
                let (index, offset) = (input.get_u64_le(), input.get_u64_le());
                SparsePoint { index, offset, chain: take_digest(&mut input) }
            })
            .collect();
        Ok(Self { entries, after: LogPosition { index, epoch, hlc, chain }, offset, points })
    }
}

/// The last point at or before `index`.
pub(super) fn point_before(points: &[SparsePoint], index: u64) -> Option<SparsePoint> {
    points[..points.partition_point(|point| point.index <= index)].last().copied()
}

/// A segment file by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentName {
    pub(super) path: PathBuf,
    pub(super) first_index: u64,
}

impl SegmentName {
    pub(super) fn new(dir: &Path, first_index: u64) -> Self {
        Self { path: dir.join(format!("{first_index:0NAME_DIGITS$}.seg")), first_index }
    }

    /// Where the segment is prepared before it gets its name.
    pub(super) fn temporary(&self) -> PathBuf {
        self.path.with_extension("seg.tmp")
    }
}

fn first_index_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    let plain = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|index| plain && (1..=INDEX_MAX).contains(index))
}

/// What a log directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Segments, lowest index first.
    pub(super) segments: Vec<SegmentName>,
    /// Segments that were being prepared when the process ended.
    pub(super) temporaries: Vec<PathBuf>,
}

/// Lists a log directory. Other files are none of the log's business and are left alone.
pub(super) fn list(dir: &Path) -> Result<Listing, LogError> {
    let io = |e| LogError::io("list", dir, e);
    let mut listing = Listing::default();
    for item in std::fs::read_dir(dir).map_err(io)? {
        let path = item.map_err(io)?.path();
        if let Some(first_index) = first_index_of(&path) {
            listing.segments.push(SegmentName { path, first_index });
        } else if path.extension().is_some_and(|e| e == "tmp") && first_index_of(&path.with_extension("")).is_some() {
            listing.temporaries.push(path);
        }
    }
    listing.segments.sort_by_key(|segment| segment.first_index);
    Ok(listing)
}

/// What readers and the writer know of a segment without looking into it.
#[derive(Clone, Debug)]
pub(super) struct SegmentMeta {
    pub(super) name: SegmentName,
    /// The position before its first entry.
    pub(super) before: LogPosition,
    /// The position after its last (durable) entry.
    pub(super) after: LogPosition,
    /// Where its (durable) frames end.
    pub(super) frames_end: u64,
    /// Length of the file.
    pub(super) file_bytes: u64,
    pub(super) sealed: bool,
}

/// One segment, for lists that people read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// Its first index.
    pub first: u64,
    /// Its last index; `first - 1` when it is empty.
    pub last: u64,
    /// Bytes in use: header, frames and footer, without what is reserved ahead.
    pub bytes: u64,
    /// Whether it is immutable.
    pub sealed: bool,
}

impl From<&SegmentMeta> for SegmentInfo {
    fn from(meta: &SegmentMeta) -> Self {
        Self {
            path: meta.name.path.clone(),
            first: meta.name.first_index,
            last: meta.after.index,
            bytes: if meta.sealed { meta.file_bytes } else { meta.frames_end },
            sealed: meta.sealed,
        }
    }
}
