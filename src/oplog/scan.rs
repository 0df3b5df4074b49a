//! Walks the frames of one segment in memory and classifies what stands behind the last good one. Recovery, verify and
//! dump share it, so they never disagree. Reads only; must never call something a torn tail that could be damage to
//! acknowledged entries behind which the log went on.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::LogError;
use super::frame::{Depth, FLAG_CONTINUES, FrameDecoder, FrameHeader, LogPosition, Tracker};
use super::segment::{FOOTER_MAGIC, SEGMENT_HEADER_BYTES, SegmentName, SparsePoint};
use crate::limits::{LOG_OPEN_THREADS_MAX, LOG_SEGMENT_FILE_BYTES_MAX, LOG_SPARSE_INDEX_BYTES};

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How closely to look.
    pub(super) depth: Depth,
}

impl ScanStart {
    /// The first frame of a segment that starts after `before`.
    pub(super) const fn of_segment(before: LogPosition, depth: Depth) -> Self {
        Self { offset: SEGMENT_HEADER_BYTES, before, depth }
    }
}

/// Walks the frames in `bytes` (a segment up to its footer, if it has one).
pub(super) fn scan(bytes: &[u8], start: ScanStart) -> Result<Scan, std::io::Error> {
    if start.depth == Depth::Order
        && let Some(found) = scan_in_parallel(bytes, start)?
    {
        return Ok(found);
    }
    let mut decoder = FrameDecoder::new(Depth::Chain)?;
    let mut tracker = Tracker::new(start.before);
    let (mut offset, mut frames, mut points) = (start.offset, 0, Vec::new());
    let tail = loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let (header, frame) = match FrameHeader::parse_whole(rest) {
            Ok(found) => found,
            Err(what) => break classify(rest, offset as u64, tracker.at.index + 1, what),
        };
        let before = tracker.at;
        // The checksum holds, so these bytes were written like this: a defect or a forgery, never a torn write.
        if let Err(what) = decoder.decode(&header, frame, &mut tracker) {
            let resumes = Search::new(rest, offset as u64, header.first_index).from(header.length).first;
            break Tail::Damaged { what, resumes };
        }
        add_point(&mut points, offset as u64, &before);
        offset += header.length;
        frames += 1;
    };
    let entries = tracker.at.index - start.before.index;
    Ok(Scan { after: tracker.at, entries, frames, frames_end: offset as u64, points, tail })
}

/// A frame whose checksum holds, and the index and chain hash before it.
struct Placed<'a> {
    header: FrameHeader,
    frame: &'a [u8],
    before: LogPosition,
}

/// The scan for opening: checksums, and the order of entries on several threads, as a full segment can hold a million.
/// `None` when there is anything out of order: the plain scan then says what and where.
fn scan_in_parallel(bytes: &[u8], start: ScanStart) -> Result<Option<Scan>, std::io::Error> {
    let (mut offset, mut before) = (start.offset, start.before);
    let (mut placed, mut points) = (Vec::new(), Vec::new());
    let tail = loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let (header, frame) = match FrameHeader::parse_whole(rest) {
            Ok(found) => found,
            Err(what) => break classify(rest, offset as u64, before.index + 1, what),
        };
        if header.first_index != before.index + 1 {
            return Ok(None);
        }
        add_point(&mut points, offset as u64, &before);
        let after =
            LogPosition { index: header.last_index(), chain: header.chain_after, epoch: 0, hlc: start.before.hlc };
        placed.push(Placed { header, frame, before });
        before = after;
        offset += frame.len();
    };
    let Some(after) = order_of(&placed, start.before)? else { return Ok(None) };
    let entries = after.index - start.before.index;
    Ok(Some(Scan { after, entries, frames: placed.len() as u64, frames_end: offset as u64, points, tail }))
}

/// Checks the order of all entries, and the chain of the last frame, from which the writer goes on. Returns the position
/// after them, or `None` when something is out of order.
fn order_of(placed: &[Placed<'_>], start: LogPosition) -> Result<Option<LogPosition>, std::io::Error> {
    let Some(last) = placed.last() else { return Ok(Some(start)) };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(LOG_OPEN_THREADS_MAX);
    let share = placed.len().div_ceil(threads);
    let walked: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..placed.len())
            .step_by(share)
            // Each share starts one frame early, so that the order across the border is checked too.
            .map(|from| &placed[from.saturating_sub(1)..(from + share).min(placed.len())])
            .map(|part| scope.spawn(move || walk_order(part)))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(None))).collect()
    });
    let mut after = start;
    for part in walked {
        let Some(at) = part? else { return Ok(None) };
        after = LogPosition { hlc: after.hlc.max(at.hlc), ..at };
    }
    let mut tracker = Tracker::new(last.before);
    let chain = FrameDecoder::new(Depth::Chain)?.decode(&last.header, last.frame, &mut tracker);
    Ok(chain.is_ok().then_some(after))
}

fn walk_order(part: &[Placed<'_>]) -> Result<Option<LogPosition>, std::io::Error> {
    let mut decoder = FrameDecoder::new(Depth::Order)?;
    let mut tracker = Tracker::new(part.first().map_or_else(LogPosition::default, |first| first.before));
    for Placed { header, frame, .. } in part {
        if decoder.decode(header, frame, &mut tracker).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(tracker.at))
}

/// Says what `rest` is, which does not start with a good frame.
fn classify(rest: &[u8], offset: u64, expected_index: u64, what: &'static str) -> Tail {
    let used = used_bytes(rest);
    if used == 0 {
        return Tail::Clean;
    }
    let search = Search::new(rest, offset, expected_index).from(1);
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
    /// Frames begin before this. They may reach behind it: a frame can end in zeros, and then nothing but the whole of
    /// it is a good frame.
    used: usize,
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
    fn new(rest: &'a [u8], offset: u64, expected_index: u64) -> Self {
        Self { rest, used: used_bytes(rest), offset, expected_index, first: None, settled: None }
    }

    fn from(mut self, start: usize) -> Self {
        let mut at = start;
        while at < self.used && self.settled.is_none() {
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
