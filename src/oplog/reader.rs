//! Reading the log while it is written: entries in order, each verified by checksum and chain. Must never show an entry
//! that is not durable, and never reads beyond what the writer has published.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use super::error::LogError;
use super::frame::{Depth, FrameDecoder, FrameHeader, HEADER_BYTES, LogPosition, Tracker, Verified};
use super::recovery::load;
use super::segment::{
    SEGMENT_HEADER_BYTES, SegmentFooter, SegmentInfo, SegmentMeta, SegmentName, SparsePoint, list, point_before,
};
use crate::core::entry::{Digest, Entry};
use crate::limits::LOG_READ_AHEAD_BYTES;

/// The segment being written, as readers see it.
#[derive(Debug)]
pub(super) struct ActiveView {
    pub(super) meta: SegmentMeta,
    pub(super) points: Vec<SparsePoint>,
}

/// What is durable. The writer changes it after each fdatasync; readers copy what they need out of it.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) sealed: Arc<Vec<SegmentMeta>>,
    pub(super) active: Option<ActiveView>,
}

impl View {
    fn metas(&self) -> impl DoubleEndedIterator<Item = &SegmentMeta> {
        self.sealed.iter().chain(self.active.as_ref().map(|active| &active.meta))
    }

    fn first_index(&self) -> u64 {
        self.metas().next().map_or(1, |meta| meta.name.first_index)
    }

    fn last(&self) -> LogPosition {
        self.metas().next_back().map_or_else(LogPosition::default, |meta| meta.after)
    }
}

/// Reads the log. Cheap to clone; works beside the writer and after it.
#[derive(Clone, Debug)]
pub struct LogReader {
    view: Arc<RwLock<View>>,
}

impl LogReader {
    pub(super) const fn new(view: Arc<RwLock<View>>) -> Self {
        Self { view }
    }

    /// The lowest index in the log; 1 or more, also when the log is empty.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.view.read().first_index()
    }

    /// The highest index that is on disk for good; `first_index() - 1` when the log is empty.
    #[must_use]
    pub fn last_durable_index(&self) -> u64 {
        self.view.read().last().index
    }

    /// The position after the last durable entry.
    #[must_use]
    pub fn last_position(&self) -> LogPosition {
        self.view.read().last()
    }

    /// All segments, lowest index first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.view.read().metas().map(SegmentInfo::from).collect()
    }

    /// The entries from `index` up to the durable end at the time of this call. `index` may be one beyond the end, which
    /// gives none.
    ///
    /// # Errors
    /// [`LogError::NotInLog`] when `index` was trimmed or is further beyond the end; otherwise what is wrong on disk.
    pub fn read_from(&self, index: u64) -> Result<EntryIter, LogError> {
        let view = self.view.read();
        let (first, last) = (view.first_index(), view.last().index);
        if index < first || index > last + 1 {
            return Err(LogError::NotInLog { wanted: index, first, last });
        }
        let from = view.sealed.partition_point(|meta| meta.after.index < index);
        let active = view.active.as_ref().map(|active| active.meta.clone());
        let point = view.active.as_ref().and_then(|active| point_before(&active.points, index));
        let sealed = Arc::clone(&view.sealed);
        drop(view);
        let decoder = FrameDecoder::new(Depth::Chain).map_err(|e| {
            LogError::io("start decompressor for", active.as_ref().map_or(Path::new("log"), |meta| &meta.name.path), e)
        })?;
        let mut entries = EntryIter {
            sealed,
            next_segment: from,
            active,
            cursor: None,
            decoder,
            tracker: Tracker::default(),
            pending: Vec::new().into_iter(),
            skip_below: index,
            failed: false,
            chain: Digest::default(),
        };
        if index <= last {
            entries.seek(index, point)?;
        } else {
            entries.stop();
        }
        Ok(entries)
    }

    /// The chain hash after the entry with this index, or, for `first_index() - 1`, before the first.
    ///
    /// # Errors
    /// As [`LogReader::read_from`].
    pub fn chain_hash_at(&self, index: u64) -> Result<Digest, LogError> {
        self.position_at(index).map(|position| position.chain)
    }

    /// Where the log is after the entry with this index, or, for `first_index() - 1`, before the first. Reads the frame
    /// that holds it, and at most the headers of those between it and a sparse point: cheap enough to search a fork with.
    ///
    /// # Errors
    /// As [`LogReader::read_from`], and [`LogError::NotInLog`] for an index beyond the end.
    pub fn position_at(&self, index: u64) -> Result<RecordPosition, LogError> {
        let (first, last, before) = {
            let view = self.view.read();
            let before = view.metas().next().map_or_else(LogPosition::default, |meta| meta.before);
            (view.first_index(), view.last().index, before)
        };
        if index.checked_add(1) == Some(first) {
            return Ok(RecordPosition { index, epoch: before.epoch, chain: before.chain });
        }
        let mut entries = self.read_from(index)?;
        match entries.next() {
            Some(Ok(entry)) => Ok(RecordPosition { index, epoch: entry.epoch, chain: entries.chain }),
            Some(Err(error)) => Err(error),
            None => Err(LogError::NotInLog { wanted: index, first, last }),
        }
    }

    /// What is known of the segment that holds this index, without looking into it; `None` when it is beyond the end.
    ///
    /// # Errors
    /// [`LogError::NotInLog`] when the index was trimmed.
    pub(super) fn stretch_of(&self, index: u64) -> Result<Option<Stretch>, LogError> {
        let view = self.view.read();
        let (first, last) = (view.first_index(), view.last().index);
        if index < first {
            return Err(LogError::NotInLog { wanted: index, first, last });
        }
        let sealed = view.sealed.get(view.sealed.partition_point(|meta| meta.after.index < index));
        let meta = sealed.or_else(|| view.active.as_ref().map(|active| &active.meta).filter(|_| index <= last));
        Ok(meta.map(|meta| Stretch {
            first_index: meta.name.first_index,
            frames_end: meta.frames_end,
            epoch_before: meta.before.epoch,
            after: meta.after,
        }))
    }

    /// Opens the segment that holds this index, at the frame that holds it.
    pub(super) fn locate(&self, index: u64) -> Result<Option<Place>, LogError> {
        let entries = self.read_from(index)?;
        let before = entries.tracker.at;
        Ok(entries.cursor.map(|Cursor { file, name, offset, .. }| Place { file, name, offset, before }))
    }

    /// The segment that holds this index, and the position before its first entry; `None` when there is none.
    pub(super) fn segment_start(&self, index: u64) -> Option<(SegmentName, LogPosition)> {
        let view = self.view.read();
        let holds = view.metas().find(|meta| meta.before.index < index && index <= meta.after.index);
        holds.map(|meta| (meta.name.clone(), meta.before))
    }

    /// The segment that holds this index, or the last one.
    pub(super) fn segment_of(&self, index: u64) -> Option<SegmentName> {
        let view = self.view.read();
        let holds = view.metas().find(|meta| index <= meta.after.index);
        holds.or_else(|| view.metas().next_back()).map(|meta| meta.name.clone())
    }
}

/// The durable frames of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The segment's first index, which names it.
    pub(super) first_index: u64,
    /// Where its durable frames end.
    pub(super) frames_end: u64,
    /// The epoch before its first entry.
    pub(super) epoch_before: u64,
    /// The position after its last durable entry.
    pub(super) after: LogPosition,
}

/// A frame in an open segment.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: File,
    pub(super) name: SegmentName,
    /// The frame's offset.
    pub(super) offset: u64,
    /// Index and chain hash before the frame; its epoch and clock are not known.
    pub(super) before: LogPosition,
}

/// What identifies a record and all before it: two logs with the same chain hash at an index are equal up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition {
    /// The record's index, 0 before the first one.
    pub index: u64,
    /// Its epoch: number in the high 48 bits, node in the low 16.
    pub epoch: u64,
    /// The chain hash after it.
    pub chain: Digest,
}

/// The entries of a log directory from `from` on (or from its first one, if that is later), without the writer's lock:
/// for `log dump`. A torn tail is left out.
///
/// # Errors
/// What is wrong on disk; [`LogError::NotInLog`] when `from` is more than one beyond the end.
pub fn dump(dir: &Path, from: u64) -> Result<EntryIter, LogError> {
    let loaded = load(&list(dir)?.segments, None)?;
    let mut sealed = loaded.segments;
    let active = sealed.pop_if(|last| !last.sealed).map(|meta| {
        let points = loaded.last.map(|scan| scan.points).unwrap_or_default();
        ActiveView { meta, points }
    });
    let view = View { sealed: Arc::new(sealed), active };
    let from = from.max(view.first_index());
    LogReader::new(Arc::new(RwLock::new(view))).read_from(from)
}

/// Entries in order. Ends after the first error.
pub struct EntryIter {
    sealed: Arc<Vec<SegmentMeta>>,
    /// Position in `sealed` of the segment after the cursor's; `sealed.len()` is the active one.
    next_segment: usize,
    active: Option<SegmentMeta>,
    cursor: Option<Cursor>,
    decoder: FrameDecoder,
    tracker: Tracker,
    pending: std::vec::IntoIter<Verified>,
    skip_below: u64,
    failed: bool,
    chain: Digest,
}

impl EntryIter {
    /// The chain hash after the entry that was returned last; zeros before the first.
    #[must_use]
    pub const fn chain_hash(&self) -> Digest {
        self.chain
    }

    fn stop(&mut self) {
        self.cursor = None;
        self.active = None;
        self.next_segment = self.sealed.len();
    }

    /// Goes to the frame that holds `index`. `point` is where to start in the active segment.
    fn seek(&mut self, index: u64, point: Option<SparsePoint>) -> Result<(), LogError> {
        let in_active = self.next_segment == self.sealed.len();
        if !self.open_next()? {
            return Ok(());
        }
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let point = if in_active { point } else { cursor.sealed_point(index)? };
        if let Some(point) = point {
            cursor.offset = point.offset;
            self.tracker =
                Tracker::new(LogPosition { index: point.index - 1, chain: point.chain, ..LogPosition::default() });
        }
        // Frames before the wanted one are stepped over by their headers; the wanted one's chain check covers them.
        while let Some(header) = cursor.peek(self.tracker.at.index + 1)? {
            if header.last_index() >= index {
                break;
            }
            cursor.offset += header.length as u64;
            let at = LogPosition { index: header.last_index(), chain: header.chain_after, ..LogPosition::default() };
            self.tracker = Tracker::new(at);
        }
        Ok(())
    }

    /// Opens the next segment; false when there is none.
    fn open_next(&mut self) -> Result<bool, LogError> {
        let Some(meta) = self.sealed.get(self.next_segment).cloned().or_else(|| self.active.take()) else {
            return Ok(false);
        };
        self.next_segment += 1;
        if meta.after.index == meta.before.index {
            return self.open_next();
        }
        let file = match File::open(&meta.name.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Trimmed since this iterator was made.
                let (wanted, last) = (meta.name.first_index, meta.after.index);
                return Err(LogError::NotInLog { wanted, first: last + 1, last });
            }
            Err(error) => return Err(LogError::io("open", &meta.name.path, error)),
        };
        self.tracker = Tracker::new(meta.before);
        self.cursor = Some(Cursor {
            file,
            name: meta.name,
            offset: SEGMENT_HEADER_BYTES as u64,
            end: meta.frames_end,
            last_index: meta.after.index,
            file_bytes: meta.file_bytes,
            window: Vec::new(),
            window_at: 0,
        });
        Ok(true)
    }

    /// As the iterator, with the chain hash and what is left of an erased payload.
    pub(super) fn next_verified(&mut self) -> Option<Result<Verified, LogError>> {
        while !self.failed {
            if let Some(verified) = self.pending.next() {
                self.chain = verified.chain;
                if verified.entry.index < self.skip_below {
                    continue;
                }
                return Some(Ok(verified));
            }
            match self.load_frame() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Decodes the next frame into `pending`; false at the end.
    fn load_frame(&mut self) -> Result<bool, LogError> {
        loop {
            if let Some(cursor) = &mut self.cursor {
                let expected = self.tracker.at.index + 1;
                if let Some(header) = cursor.peek(expected)? {
                    let (offset, name) = (cursor.offset, cursor.name.clone());
                    let corrupt = |what: String| LogError::corrupt(&name.path, offset, expected, what);
                    let bytes = cursor.bytes(header.length, expected)?;
                    let (header, frame) = FrameHeader::parse_whole(bytes).map_err(|what| corrupt(what.to_owned()))?;
                    self.pending = self.decoder.decode(&header, frame, &mut self.tracker).map_err(corrupt)?.into_iter();
                    cursor.offset += header.length as u64;
                    return Ok(true);
                }
            }
            self.cursor = None;
            if !self.open_next()? {
                return Ok(false);
            }
        }
    }
}

impl Iterator for EntryIter {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_verified()?.map(|verified| verified.entry))
    }
}

/// A place in one segment, with a window of bytes read ahead.
struct Cursor {
    file: File,
    name: SegmentName,
    offset: u64,
    /// Where the readable frames end.
    end: u64,
    /// Index of the last entry before `end`.
    last_index: u64,
    file_bytes: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Cursor {
    /// The sparse point of a sealed segment to look for `index` from.
    fn sealed_point(&self, index: u64) -> Result<Option<SparsePoint>, LogError> {
        let footer = SegmentFooter::read(&self.file, self.file_bytes, &self.name)?;
        Ok(footer.and_then(|footer| point_before(&footer.points, index)))
    }

    /// The header of the frame at the cursor, `None` at the end of the segment.
    fn peek(&mut self, expected_index: u64) -> Result<Option<FrameHeader>, LogError> {
        if self.offset >= self.end {
            if expected_index != self.last_index + 1 {
                let what = format!("the segment ends before index {}", self.last_index);
                return Err(LogError::corrupt(&self.name.path, self.end, expected_index, what));
            }
            return Ok(None);
        }
        let offset = self.offset;
        let header = FrameHeader::parse(self.bytes(HEADER_BYTES, expected_index)?);
        header.map(Some).map_err(|what| LogError::corrupt(&self.name.path, offset, expected_index, what))
    }

    /// `count` bytes at the cursor.
    fn bytes(&mut self, count: usize, expected_index: u64) -> Result<&[u8], LogError> {
        if self.end.saturating_sub(self.offset) < count as u64 {
            let what = "a frame goes beyond the end of its segment";
            return Err(LogError::corrupt(&self.name.path, self.offset, expected_index, what));
        }
        let inside =
            self.offset >= self.window_at && self.offset + count as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            let wanted = (count.max(LOG_READ_AHEAD_BYTES) as u64).min(self.end - self.offset);
            self.window.resize(wanted as usize, 0);
            self.window_at = self.offset;
            if let Err(error) = self.file.read_exact_at(&mut self.window, self.offset) {
                self.window.clear();
                return Err(LogError::io("read", &self.name.path, error));
            }
        }
        let start = (self.offset - self.window_at) as usize;
        Ok(&self.window[start..start + count])
    }
}
