//! Walks the frames of one segment in memory and classifies what stands behind the last good one. Recovery, verify and
//! dump share it, so they never disagree. Reads only; must never call something a torn tail that could be damage to
//! acknowledged entries behind which the log went on.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::LogError;
use super::frame::{Depth, FLAG_CONTINUES, FrameDecoder, FrameHeader, HEADER_BYTES, LogPosition, Tracker};
use super::segment::{FOOTER_MAGIC, SEGMENT_HEADER_BYTES, SegmentName, SparsePoint};
use crate::limits::{LOG_SEGMENT_FILE_BYTES_MAX, LOG_SPARSE_INDEX_BYTES};

/// What stands behind the last good frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing, or the zeros of the reservation.
    Clean,
    /// A write that did not finish: `bytes` up to the last one that is not zero. Was never acknowledged.
    Torn { bytes: u64, what: &'static str },
    /// A footer whose file was not cut to its length yet, or a part of one. Holds no entries.
    UnfinishedSeal { bytes: u64 },
    /// Damage: the log went on behind it, or whole frames say something wrong.
    Damaged { what: String, resumes: Option<Resume> },
}

/// The first good frame behind damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) offset: u64,
    pub(super) index: u64,
}

/// The good frames of a segment and what follows them.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// The position after the last good frame.
    pub(super) after: LogPosition,
    pub(super) entries: u64,
    pub(super) frames: u64,
    /// Where the good frames end.
    pub(super) frames_end: u64,
    pub(super) points: Vec<SparsePoint>,
    pub(super) tail: Tail,
}

/// Reads a whole segment file into memory. A running writer may cut the file meanwhile (sealing): what is left counts.
pub(super) fn read_segment(file: &File, name: &SegmentName) -> Result<Vec<u8>, LogError> {
    let io = |e| LogError::io("read segment", &name.path, e);
    let length = file.metadata().map_err(io)?.len();
    if length > LOG_SEGMENT_FILE_BYTES_MAX {
        return Err(LogError::corrupt(&name.path, length, name.first_index, "the file is larger than any segment"));
    }
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(io)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Scans a segment without a footer, which a running writer may be appending to. A read can overtake a write half way and
/// see a later write before an earlier one, so anything but a clean end counts only if it is still there at the next look.
pub(super) fn scan_growing(file: &File, name: &SegmentName, start: ScanStart) -> Result<Scan, LogError> {
    let mut last_end = None;
    loop {
        let found = scan(&read_segment(file, name)?, start)
            .map_err(|e| LogError::io("start decompressor for", &name.path, e))?;
        if found.tail == Tail::Clean || last_end == Some(found.frames_end) {
            return Ok(found);
        }
        last_end = Some(found.frames_end);
    }
}

/// Adds a sparse point for a frame if it is far enough from the last one.
pub(super) fn add_point(points: &mut Vec<SparsePoint>, offset: u64, before: &LogPosition) {
    if points.last().is_none_or(|last| offset - last.offset >= LOG_SPARSE_INDEX_BYTES) {
        points.push(SparsePoint { index: before.index + 1, offset, chain: before.chain });
    }
}

/// Where a scan starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanStart {
    pub(super) offset: usize,
    /// The position before the frame there.
    pub(super) before: LogPosition,
    /// How closely to look. The last frame is always checked with its chain: the writer goes on from there.
    pub(super) depth: Depth,
}

impl ScanStart {
    /// The first frame of a segment that starts after `before`.
    pub(super) const fn of_segment(before: LogPosition, depth: Depth) -> Self {
        Self { offset: SEGMENT_HEADER_BYTES, before, depth }
    }
}

/// Walks the frames in `bytes` (a segment up to its footer, if it has one).
pub(super) fn scan(bytes: &[u8], ScanStart { offset, before, depth }: ScanStart) -> Result<Scan, std::io::Error> {
    let mut decoder = FrameDecoder::new(depth)?;
    let mut tracker = Tracker::new(before);
    let (mut offset, mut frames, mut points) = (offset, 0, Vec::new());
    let mut last_frame = None;
    let mut tail = loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let (header, frame) = match FrameHeader::parse_whole(rest) {
            Ok(found) => found,
            Err(what) => break classify(rest, offset as u64, tracker.at.index + 1, what),
        };
        let start = tracker.at;
        // The checksum holds, so these bytes were written like this: a defect or a forgery, never a torn write.
        if let Err(what) = decoder.decode(&header, frame, &mut tracker) {
            let resumes = Search::new(rest, offset as u64, header.first_index).from(header.length).first;
            break Tail::Damaged { what, resumes };
        }
        add_point(&mut points, offset as u64, &start);
        offset += header.length;
        last_frame = Some((header, frame, start));
        frames += 1;
    };
    if let (Depth::Order, Some((header, frame, start))) = (depth, last_frame)
        && let Err(what) = FrameDecoder::new(Depth::Chain)?.decode(&header, frame, &mut Tracker::new(start))
    {
        tail = Tail::Damaged { what, resumes: None };
    }
    let entries = tracker.at.index - before.index;
    Ok(Scan { after: tracker.at, entries, frames, frames_end: offset as u64, points, tail })
}

/// Says what `rest` is, which does not start with a good frame.
fn classify(rest: &[u8], offset: u64, expected_index: u64, what: &'static str) -> Tail {
    let used = used_bytes(rest);
    if used == 0 {
        return Tail::Clean;
    }
    let search = Search::new(&rest[..used], offset, expected_index).from(1);
    if search.settled.is_some() {
        return Tail::Damaged { what: what.to_owned(), resumes: search.first };
    }
    let bytes = used as u64;
    let marks = used.min(FOOTER_MAGIC.len());
    if rest[..marks] == FOOTER_MAGIC[..marks] { Tail::UnfinishedSeal { bytes } } else { Tail::Torn { bytes, what } }
}

/// Bytes up to the last one that is not zero.
pub(super) fn used_bytes(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let mut end = bytes.len();
    // Whole blocks are compared at once: the reservation can be most of 64 MiB.
    while end >= BLOCK && bytes[end - BLOCK..end] == [0_u8; BLOCK] {
        end -= BLOCK;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Looks for good frames behind damage.
struct Search<'a> {
    rest: &'a [u8],
    offset: u64,
    expected_index: u64,
    /// The first good frame.
    first: Option<Resume>,
    /// The first good frame that starts a write of its own. It was written after the write before it was acknowledged,
    /// so the damage hit acknowledged entries. Frames that only continue a write may be the far end of a torn one: the
    /// disk is free to write its pages in any order.
    settled: Option<Resume>,
}

impl<'a> Search<'a> {
    const fn new(rest: &'a [u8], offset: u64, expected_index: u64) -> Self {
        Self { rest, offset, expected_index, first: None, settled: None }
    }

    fn from(mut self, start: usize) -> Self {
        let mut at = start;
        while at + HEADER_BYTES <= self.rest.len() && self.settled.is_none() {
            let here = &self.rest[at..];
            let good = FrameHeader::parse_whole(here).ok();
            let Some((header, _)) = good.filter(|(header, _)| header.first_index > self.expected_index) else {
                at += 1;
                continue;
            };
            let resume = Resume { offset: self.offset + at as u64, index: header.first_index };
            self.first.get_or_insert(resume);
            if header.flags & FLAG_CONTINUES == 0 {
                self.settled = Some(resume);
            }
            at += header.length;
        }
        self
    }
}
