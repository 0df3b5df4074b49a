//! Writing a range of the log as one sealed segment file, beside the writer: what backups store. Must never write a record
//! that is not durable, and never leave a file that looks whole and is not.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::error::LogError;
use super::frame::{ENTRY_OVERHEAD_BYTES, FrameEncoder, FrameStyle, LogPosition, Tracker, Verified, erased_hashes};
use super::reader::{EntryIter, LogReader};
use super::recovery::read_header;
use super::scan::add_point;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader, SparsePoint};
use crate::core::entry::Entry;
use crate::limits::{LOG_EXPORT_FRAME_BYTES, LOG_FRAME_ENTRIES_MAX};

/// A segment file that was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The position before its first record.
    pub before: LogPosition,
    /// The position after its last record.
    pub after: LogPosition,
    /// When the last record was proposed, in Unix milliseconds.
    pub last_ms: u64,
    /// Length of the file, in bytes.
    pub bytes: u64,
}

impl LogReader {
    /// Writes the records `first..=last` as one sealed segment to `out`, which must not exist. Under the name
    /// `<first, 20 digits>.seg` it joins the neighbours of its range in any log directory of the cluster. Every record is
    /// verified on the way and encoded anew, so memory is bounded by a frame; the file is not synced.
    ///
    /// # Errors
    /// [`LogError::NotInLog`] when the range is empty, trimmed or not durable yet; otherwise what is wrong on disk. The file
    /// is removed then.
    pub fn export_segment(&self, first: u64, last: u64, out: &Path) -> Result<Exported, LogError> {
        let (log_first, log_last) = (self.first_index(), self.last_durable_index());
        if first < log_first || last < first || last > log_last {
            let wanted = if (log_first..=log_last).contains(&first) { last } else { first };
            return Err(LogError::NotInLog { wanted, first: log_first, last: log_last });
        }
        let io = |op| move |e| LogError::io(op, out, e);
        let file = OpenOptions::new().write(true).create_new(true).open(out).map_err(io("create"))?;
        self.export_to(file, (first, last), out).inspect_err(|_| {
            // Best effort: the caller's folder is one of scratch files.
            let _ = std::fs::remove_file(out);
        })
    }

    fn export_to(&self, file: File, (first, last): (u64, u64), out: &Path) -> Result<Exported, LogError> {
        let not_here =
            || LogError::NotInLog { wanted: first, first: self.first_index(), last: self.last_durable_index() };
        let (name, start) = self.segment_start(first).ok_or_else(not_here)?;
        let source = File::open(&name.path).map_err(|e| LogError::io("open", &name.path, e))?;
        let cluster = read_header(&source, &name)?.cluster;
        // From the segment's start: the highest clock so far is written at its start only, and neighbours must agree on it.
        let mut entries = self.read_from(start.index + 1)?;
        let (before, first_item) = skip_to(&mut entries, start, first)?;
        let mut writer = SegmentFileWriter::new(file, out, (cluster, before))?;
        let mut next = first_item;
        while let Some(item) = next {
            let index = item.entry.index;
            writer.push(item)?;
            next = if index < last { Some(following(&mut entries, index + 1)?) } else { None };
        }
        writer.finish()
    }
}

/// Reads up to the record `first`: the position before it, and it.
fn skip_to(
    entries: &mut EntryIter,
    start: LogPosition,
    first: u64,
) -> Result<(LogPosition, Option<Verified>), LogError> {
    let mut before = start;
    loop {
        let item = following(entries, before.index + 1)?;
        if item.entry.index >= first {
            return Ok((before, Some(item)));
        }
        let hlc = before.hlc.max(item.entry.hlc);
        before = LogPosition { index: item.entry.index, epoch: item.entry.epoch, hlc, chain: item.chain };
    }
}

fn following(entries: &mut EntryIter, index: u64) -> Result<Verified, LogError> {
    entries.next_verified().unwrap_or(Err(LogError::NotInLog { wanted: index, first: index, last: index - 1 }))
}

/// Writes a segment from its header to its footer.
struct SegmentFileWriter<'a> {
    file: File,
    path: &'a Path,
    encoder: FrameEncoder,
    tracker: Tracker,
    before: LogPosition,
    points: Vec<SparsePoint>,
    offset: u64,
    /// The records of the next frame.
    waiting: Vec<Verified>,
    waiting_bytes: usize,
    last_ms: u64,
}

impl<'a> SegmentFileWriter<'a> {
    fn new(mut file: File, path: &'a Path, (cluster, before): ([u8; 16], LogPosition)) -> Result<Self, LogError> {
        file.write_all(&SegmentHeader::new(cluster, before).encode()).map_err(|e| LogError::io("write", path, e))?;
        let encoder = FrameEncoder::new().map_err(|e| LogError::io("start compressor for", path, e))?;
        Ok(Self {
            file,
            path,
            encoder,
            tracker: Tracker::new(before),
            before,
            points: Vec::new(),
            offset: SEGMENT_HEADER_BYTES as u64,
            waiting: Vec::new(),
            waiting_bytes: 0,
            last_ms: 0,
        })
    }

    fn push(&mut self, item: Verified) -> Result<(), LogError> {
        let bytes = item.entry.payload.len() + ENTRY_OVERHEAD_BYTES;
        if self.waiting.len() == LOG_FRAME_ENTRIES_MAX || self.waiting_bytes + bytes > LOG_EXPORT_FRAME_BYTES {
            self.frame()?;
        }
        self.waiting_bytes += bytes;
        self.last_ms = item.entry.unix_ms();
        self.waiting.push(item);
        Ok(())
    }

    fn frame(&mut self) -> Result<(), LogError> {
        let items = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let Some(chain) = items.last().map(|item| item.chain) else { return Ok(()) };
        let erased = erased_hashes(&items);
        let entries: Vec<Entry> = items.into_iter().map(|item| item.entry).collect();
        add_point(&mut self.points, self.offset, &self.tracker.at);
        self.encoder.encode(&entries, FrameStyle { continues: false, erased: &erased }, &mut self.tracker)?;
        if self.tracker.at.chain != chain {
            let index = self.tracker.at.index;
            return Err(LogError::corrupt(self.path, self.offset, index, "the exported chain is not the log's"));
        }
        let bytes = self.encoder.take();
        self.file.write_all(&bytes).map_err(|e| LogError::io("write", self.path, e))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Exported, LogError> {
        self.frame()?;
        let after = self.tracker.at;
        let entries = after.index - self.before.index;
        let footer = SegmentFooter { entries, after, offset: self.offset, points: self.points }.encode();
        self.file.write_all(&footer).map_err(|e| LogError::io("write", self.path, e))?;
        let bytes = self.offset + footer.len() as u64;
        Ok(Exported { before: self.before, after, last_ms: self.last_ms, bytes })
    }
}
