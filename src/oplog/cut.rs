//! Cutting the end off a closed log: what a returning node does with its diverged tail. Must never remove a record at or
//! below the place of the cut, and never leave a log that does not open, whenever it is interrupted.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use super::disk::{Disk, SystemDisk, is_no_room, lock, no_room, remove_durably, rename_durably, reserve};
use super::error::LogError;
use super::frame::{
    Depth, FLAG_CONTINUES, FrameDecoder, FrameEncoder, FrameHeader, FrameStyle, LogPosition, Tracker, erased_hashes,
};
use super::recovery::load;
use super::scan::read_segment;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentInfo, SegmentMeta, list};
use super::writer::LogOptions;
use crate::core::entry::Entry;

/// What a cut did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutReport {
    /// Where the log ended.
    pub before: LogPosition,
    /// Where it ends now.
    pub after: LogPosition,
    /// Segments that are gone, highest index first.
    pub removed: Vec<SegmentInfo>,
    /// The segment that a shorter one took the place of.
    pub rewritten: Option<PathBuf>,
}

/// Removes every record above `index` from a log that nobody writes. `index` may be `first_index() - 1`: the log is then
/// empty, and goes on after the position that it began at. Interrupted anywhere, it leaves a log that opens and ends
/// somewhere between `index` and its old end; the same cut can be made again. Readers made before know nothing of it.
///
/// # Errors
/// [`LogError::NotInLog`] when the log does not hold `index`; [`LogError::Locked`] when it is being written;
/// [`LogError::Corrupt`] when the log would not open, or the part of the segment that stays does not verify: nothing was
/// changed then. [`LogError::DiskFull`] when there is no room to write the shorter segment (its own size at most): segments
/// above it are gone by then, and the cut can be made again.
pub fn cut_after(options: &LogOptions, index: u64) -> Result<CutReport, LogError> {
    cut_after_on(options, index, &SystemDisk)
}

pub(super) fn cut_after_on(options: &LogOptions, index: u64, disk: &dyn Disk) -> Result<CutReport, LogError> {
    let _lock = lock(&options.dir)?;
    let metas = load(&list(&options.dir)?.segments, Some(options.cluster))?.segments;
    let (Some(lowest), Some(highest)) = (metas.first(), metas.last()) else {
        return Err(LogError::NotInLog { wanted: index, first: 1, last: 0 });
    };
    let before = highest.after;
    if index < lowest.before.index || index > before.index {
        let first = lowest.name.first_index;
        return Err(LogError::NotInLog { wanted: index, first, last: before.index });
    }
    // The lowest segment stays in any case: its header says where the log begins.
    let kept = metas.partition_point(|meta| meta.before.index < index).saturating_sub(1);
    let (last, above) = (&metas[kept], &metas[kept + 1..]);
    // All that stays is verified before anything goes.
    let shorter = if index < last.after.index { Some(shortened(last, index)?) } else { None };
    let mut report = CutReport { before, after: last.after, removed: Vec::new(), rewritten: None };
    for meta in above.iter().rev() {
        remove_durably(disk, &meta.name.path)?;
        report.removed.push(SegmentInfo::from(meta));
    }
    if let Some(Shortened { bytes, after }) = shorter {
        replace(last, &bytes, disk)?;
        report.rewritten = Some(last.name.path.clone());
        report.after = after;
    }
    Ok(report)
}

/// A segment up to a record.
struct Shortened {
    /// Header and frames; no footer, as it becomes the last segment, which is written on.
    bytes: Vec<u8>,
    after: LogPosition,
}

/// The segment without its records above `index`: whole frames as they are, and the one that is cut through encoded anew.
fn shortened(meta: &SegmentMeta, index: u64) -> Result<Shortened, LogError> {
    let path = &meta.name.path;
    let file = File::open(path).map_err(|e| LogError::io("open", path, e))?;
    let mut bytes = read_segment(&file, &meta.name)?;
    let start_failed = |e| LogError::io("start compressor for", path, e);
    let mut decoder = FrameDecoder::new(Depth::Chain).map_err(start_failed)?;
    let mut tracker = Tracker::new(meta.before);
    let mut end = SEGMENT_HEADER_BYTES;
    while tracker.at.index < index {
        let corrupt = |what: String| LogError::corrupt(path, end as u64, tracker.at.index + 1, what);
        let rest = bytes.get(end..).unwrap_or_default();
        let (header, frame) = FrameHeader::parse_whole(rest).map_err(|what| corrupt(what.to_owned()))?;
        let mut next = tracker.clone();
        let mut verified = decoder.decode(&header, frame, &mut next).map_err(corrupt)?;
        if header.last_index() <= index {
            tracker = next;
            end += header.length;
            continue;
        }
        verified.truncate((index - tracker.at.index) as usize);
        let erased = erased_hashes(&verified);
        let entries: Vec<Entry> = verified.into_iter().map(|item| item.entry).collect();
        let style = FrameStyle { continues: header.flags & FLAG_CONTINUES != 0, erased: &erased };
        let mut encoder = FrameEncoder::new().map_err(start_failed)?;
        encoder.encode(&entries, style, &mut tracker)?;
        bytes.truncate(end);
        bytes.extend_from_slice(&encoder.take());
        return Ok(Shortened { bytes, after: tracker.at });
    }
    bytes.truncate(end);
    Ok(Shortened { bytes, after: tracker.at })
}

/// Puts `bytes` in the place of a segment, in one durable step.
fn replace(meta: &SegmentMeta, bytes: &[u8], disk: &dyn Disk) -> Result<(), LogError> {
    let (name, length) = (&meta.name, bytes.len() as u64);
    let path = name.temporary();
    let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let file =
        opened.map_err(|e| if is_no_room(&e) { no_room(name, length) } else { LogError::io("create", &path, e) })?;
    if let Err(error) = reserve(disk, &file, name, length) {
        // What was reserved of it must not keep the disk full.
        remove_durably(disk, &path)?;
        return Err(error);
    }
    disk.write_at(&file, bytes, 0).map_err(|e| LogError::io("write", &path, e))?;
    disk.sync_data(&file).map_err(|e| LogError::io("fdatasync", &path, e))?;
    rename_durably(disk, &path, &name.path)
}
