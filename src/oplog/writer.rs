//! The one writer of the log: group commit, rolling and sealing segments, trimming. Must never retry after an error, never
//! report an entry before its fdatasync, and never write where room was not reserved.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;

use super::disk::{Disk, SystemDisk, create_dir, is_no_room, lock, no_room, remove_durably, rename_durably, reserve};
use super::error::LogError;
use super::frame::{Depth, ENTRY_OVERHEAD_BYTES, FrameDecoder, FrameEncoder, FrameStyle, LogPosition, Tracker};
use super::reader::{ActiveView, LogReader, View};
use super::recovery::{Active, Recovered, RecoveryReport, recover};
use super::scan::add_point;
use super::segment::{
    SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader, SegmentInfo, SegmentMeta, SegmentName, footer_bytes, list,
};
use crate::core::entry::{Digest, Entry};
use crate::core::ids::Hlc;
use crate::limits::{LOG_APPEND_BYTES_MAX, LOG_FRAME_BODY_BYTES_MAX, LOG_FRAME_ENTRIES_MAX, LOG_SEGMENT_BYTES};

/// Where a log is and how it is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The log directory; created if it does not exist.
    pub dir: PathBuf,
    /// The cluster this log belongs to; another cluster's log is refused.
    pub cluster: [u8; 16],
    /// Bytes to reserve for each segment.
    pub segment_bytes: u64,
}

impl LogOptions {
    /// The normal layout.
    #[must_use]
    pub const fn new(dir: PathBuf, cluster: [u8; 16]) -> Self {
        Self { dir, cluster, segment_bytes: LOG_SEGMENT_BYTES }
    }
}

/// The frames of one write: the offset of each in it, and the position before it.
pub(super) type FrameStarts = Vec<(usize, LogPosition)>;

/// One finished append.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The bytes that were written: one frame or several, as on disk. Empty if there were no entries.
    pub frames: Bytes,
    /// How long the fdatasync took.
    pub fsync: Duration,
    /// The position after the last entry.
    pub after: LogPosition,
}

/// The log's single owner.
///
/// Invariants:
///
/// - Indexes are contiguous: from 1 (or from the position the log was created at), without gaps.
/// - The epoch never falls; the clock grows within an origin.
/// - What `append` returned is durable and is found again by every later open.
/// - What a reader sees is durable.
/// - After any error but a full disk or a bad shipment, nothing is written any more.
/// - A full disk changes nothing: the same append may be tried again. Neither does what a peer sent and does not verify.
/// - Only the last segment is not sealed; a sealed one never changes while there is a writer. Only `cut_after`, which
///   holds the writer's lock, puts a shorter one in its place.
/// - Each segment starts at the position where the one before ended.
/// - One process writes: the directory is locked as long as the writer lives.
pub struct LogWriter {
    options: LogOptions,
    pub(super) disk: Box<dyn Disk>,
    encoder: FrameEncoder,
    /// For what another node sends.
    pub(super) decoder: FrameDecoder,
    pub(super) tracker: Tracker,
    /// `None` while a full disk keeps the next segment from being created.
    active: Option<Active>,
    view: Arc<RwLock<View>>,
    poisoned: bool,
    /// Holds the lock on the directory.
    _lock: File,
}

impl LogWriter {
    /// Opens the log, or creates an empty one where there is none. Recovers from any kind of stop.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when something beyond a torn tail is wrong, and all that the kinds of [`LogError`] say.
    pub fn open(options: LogOptions) -> Result<(Self, RecoveryReport), LogError> {
        Self::open_on(options, LogPosition::default(), Box::new(SystemDisk))
    }

    /// Creates a log that goes on after `before`: the position of the snapshot that a node was bootstrapped from.
    ///
    /// # Errors
    /// [`LogError::NotEmpty`] when there is a log already; otherwise as [`LogWriter::open`].
    pub fn create_after(options: LogOptions, before: LogPosition) -> Result<Self, LogError> {
        create_dir(&options.dir)?;
        let lock = lock(&options.dir)?;
        if !list(&options.dir)?.segments.is_empty() {
            return Err(LogError::NotEmpty { path: options.dir });
        }
        drop(lock);
        Ok(Self::open_on(options, before, Box::new(SystemDisk))?.0)
    }

    pub(super) fn open_on(
        options: LogOptions,
        before: LogPosition,
        disk: Box<dyn Disk>,
    ) -> Result<(Self, RecoveryReport), LogError> {
        create_dir(&options.dir)?;
        let lock = lock(&options.dir)?;
        let Recovered { sealed, active, mut report } =
            recover(&options.dir, options.cluster, options.segment_bytes, &*disk)?;
        let last = active.as_ref().map(|active| active.last).or_else(|| sealed.last().map(|meta| meta.after));
        report.created = last.is_none();
        let encoder = FrameEncoder::new().map_err(|e| LogError::io("start compressor for", &options.dir, e))?;
        let decoder =
            FrameDecoder::new(Depth::Chain).map_err(|e| LogError::io("start decompressor for", &options.dir, e))?;
        let view = Arc::new(RwLock::new(View { sealed: Arc::new(sealed), active: None }));
        let tracker = Tracker::new(last.unwrap_or(before));
        let mut writer = Self { options, disk, encoder, decoder, tracker, active, view, poisoned: false, _lock: lock };
        if writer.active.is_none() {
            match writer.roll(0) {
                // The log can be read; appending asks for the room again.
                Err(LogError::DiskFull { .. }) if !report.created => {}
                other => other?,
            }
        }
        writer.publish();
        report.segments = writer.segments().len();
        Ok((writer, report))
    }

    /// Appends entries as one write and one fdatasync. They are durable when this returns.
    ///
    /// # Errors
    /// [`LogError::DiskFull`]: nothing was written, try again later. After anything else the writer refuses all further
    /// work and the process has to stop.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Appended, LogError> {
        self.guarded(|writer| writer.append_now(entries))
    }

    /// Removes the sealed segments whose entries are all below `index`. Deciding how far is up to the caller: not above the
    /// last verified snapshot, the standby's position and what the backup still needs. Returns what was removed.
    ///
    /// # Errors
    /// [`LogError::Io`], after which the writer refuses all further work.
    pub fn trim_below(&mut self, index: u64) -> Result<Vec<SegmentInfo>, LogError> {
        self.guarded(|writer| writer.trim_now(index))
    }

    /// Index of the last entry; the index before the first when there is none.
    #[must_use]
    pub const fn last_index(&self) -> u64 {
        self.tracker.at.index
    }

    /// Epoch of the last entry.
    #[must_use]
    pub const fn last_epoch(&self) -> u64 {
        self.tracker.at.epoch
    }

    /// The highest clock reading in the log.
    #[must_use]
    pub const fn last_hlc(&self) -> Hlc {
        self.tracker.at.hlc
    }

    /// Chain hash after the last entry.
    #[must_use]
    pub const fn chain_hash(&self) -> Digest {
        self.tracker.at.chain
    }

    /// All of the above at once.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        self.tracker.at
    }

    /// Bytes of frames that still fit before a new segment must be reserved. Writing that many cannot meet a full disk.
    #[must_use]
    pub fn bytes_until_new_segment(&self) -> u64 {
        self.active.as_ref().map_or(0, Active::room_bytes)
    }

    /// All segments, lowest index first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.reader().segments()
    }

    /// A reader of this log, which may outlive the writer.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.view))
    }

    pub(super) fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        // Set first, so that a panic in the middle counts as a failure too.
        self.poisoned = true;
        let result = work(self);
        self.poisoned = result.as_ref().is_err_and(|error| !error.spares_writer());
        result
    }

    fn append_now(&mut self, entries: &[Entry]) -> Result<Appended, LogError> {
        if entries.is_empty() {
            return Ok(Appended { frames: Bytes::new(), fsync: Duration::ZERO, after: self.tracker.at });
        }
        let mut tracker = self.tracker.clone();
        let (frames, starts) = self.encode(entries, &mut tracker)?;
        self.write(frames, &starts, tracker)
    }

    /// Writes frames that lead to `after`, as one write and one fdatasync. `starts` has each frame's offset and the position
    /// before it.
    pub(super) fn write(&mut self, frames: Bytes, starts: &FrameStarts, after: Tracker) -> Result<Appended, LogError> {
        if self.bytes_until_new_segment() < room_for(&frames, starts) {
            self.roll(room_for(&frames, starts))?;
        }
        let active = self.active.as_mut().expect("roll leaves an active segment or fails");
        let io = |op| move |path: &Path, e| LogError::io(op, path, e);
        self.disk.write_at(&active.file, &frames, active.frames_end).map_err(|e| io("write")(&active.name.path, e))?;
        let started = Instant::now();
        self.disk.sync_data(&active.file).map_err(|e| io("fdatasync")(&active.name.path, e))?;
        let fsync = started.elapsed();
        for (offset, before) in starts {
            add_point(&mut active.points, active.frames_end + *offset as u64, before);
        }
        active.frames_end += frames.len() as u64;
        active.last = after.at;
        self.tracker = after;
        self.publish();
        Ok(Appended { frames, fsync, after: self.tracker.at })
    }

    /// Encodes entries as the fewest frames; with each frame's offset and the position before it.
    fn encode(&mut self, entries: &[Entry], tracker: &mut Tracker) -> Result<(Bytes, FrameStarts), LogError> {
        let mut starts = Vec::with_capacity(1);
        let (mut rest, mut total, mut offset) = (entries, 0, 0);
        while !rest.is_empty() {
            let (count, raw_bytes) = frame_share(rest);
            total += raw_bytes;
            if total > LOG_APPEND_BYTES_MAX {
                return Err(LogError::Rejected {
                    index: rest[0].index,
                    what: "the append is larger than the log takes",
                });
            }
            starts.push((offset, tracker.at));
            let style = FrameStyle { continues: offset > 0, erased: &[] };
            offset += self.encoder.encode(&rest[..count], style, tracker)?;
            rest = &rest[count..];
        }
        Ok((self.encoder.take(), starts))
    }

    /// Makes room for `needed` bytes: seals the active segment and starts the next one. On a full disk nothing changes.
    fn roll(&mut self, needed: u64) -> Result<(), LogError> {
        let before = self.tracker.at;
        let length = self.options.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + needed + footer_bytes(1) as u64);
        if let Some(active) = self.active.as_mut().filter(|active| active.before.index == before.index) {
            // It is empty, only too small: the next segment would have the same name.
            reserve(&*self.disk, &active.file, &active.name, length)?;
            active.reserved_bytes = length;
            return Ok(());
        }
        let name = SegmentName::new(&self.options.dir, before.index + 1);
        let file = self.prepare(&name, length)?;
        if let Some(active) = &self.active {
            // Only short of room if it was opened on a full disk.
            let end = active.frames_end + footer_bytes(active.points.len()) as u64;
            if end > active.reserved_bytes
                && let Err(error) = reserve(&*self.disk, &active.file, &active.name, end)
            {
                remove(&name.temporary())?;
                return Err(error);
            }
        }
        if let Some(active) = self.active.take() {
            let sealed = self.seal(&active)?;
            let mut view = self.view.write();
            // Under one lock: no reader may see the segment twice.
            view.active = None;
            Arc::make_mut(&mut view.sealed).push(sealed);
        }
        rename_durably(&*self.disk, &name.temporary(), &name.path)?;
        let frames_end = SEGMENT_HEADER_BYTES as u64;
        self.active =
            Some(Active { file, name, before, last: before, frames_end, reserved_bytes: length, points: Vec::new() });
        self.publish();
        Ok(())
    }

    /// Writes the next segment under its temporary name: reserved, with its header, durable.
    fn prepare(&self, name: &SegmentName, length: u64) -> Result<File, LogError> {
        let path = name.temporary();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|e| if is_no_room(&e) { no_room(name, length) } else { LogError::io("create", &path, e) })?;
        if let Err(error) = reserve(&*self.disk, &file, name, length) {
            // What was reserved of it must not keep the disk full.
            remove(&path)?;
            return Err(error);
        }
        let header = SegmentHeader::new(self.options.cluster, self.tracker.at).encode();
        self.disk.write_at(&file, &header, 0).map_err(|e| LogError::io("write header", &path, e))?;
        file.sync_all().map_err(|e| LogError::io("fsync", &path, e))?;
        Ok(file)
    }

    /// Gives a segment its footer and its real length. Each step is durable before the next: a crash in between leaves the
    /// frames and, at most, a part of a footer, which recovery cuts.
    fn seal(&self, active: &Active) -> Result<SegmentMeta, LogError> {
        let io = |op| move |e| LogError::io(op, &active.name.path, e);
        let footer = SegmentFooter {
            entries: active.last.index - active.before.index,
            after: active.last,
            offset: active.frames_end,
            points: active.points.clone(),
        };
        let bytes = footer.encode();
        self.disk.write_at(&active.file, &bytes, active.frames_end).map_err(io("write footer"))?;
        self.disk.sync_data(&active.file).map_err(io("fdatasync"))?;
        let file_bytes = active.frames_end + bytes.len() as u64;
        active.file.set_len(file_bytes).map_err(io("truncate"))?;
        active.file.sync_all().map_err(io("fsync"))?;
        Ok(SegmentMeta {
            name: active.name.clone(),
            before: active.before,
            after: active.last,
            frames_end: active.frames_end,
            file_bytes,
            sealed: true,
        })
    }

    fn trim_now(&mut self, index: u64) -> Result<Vec<SegmentInfo>, LogError> {
        let removed: Vec<SegmentMeta> = {
            let mut view = self.view.write();
            // The last one stays, so that the log always says where it ends.
            let removable = if view.active.is_some() { view.sealed.len() } else { view.sealed.len().saturating_sub(1) };
            let count = view.sealed[..removable].partition_point(|meta| meta.after.index < index);
            if count == 0 {
                return Ok(Vec::new());
            }
            Arc::make_mut(&mut view.sealed).drain(..count).collect()
        };
        // Lowest first: a crash in between leaves a log without a gap.
        for meta in &removed {
            remove_durably(&*self.disk, &meta.name.path)?;
        }
        Ok(removed.iter().map(SegmentInfo::from).collect())
    }

    /// Shows readers what is durable now.
    fn publish(&self) {
        let mut view = self.view.write();
        let Some(active) = &self.active else {
            view.active = None;
            return;
        };
        let points = match view.active.take() {
            Some(shown) if shown.meta.name == active.name => {
                let mut points = shown.points;
                points.extend_from_slice(&active.points[points.len()..]);
                points
            }
            _ => active.points.clone(),
        };
        let meta = SegmentMeta {
            name: active.name.clone(),
            before: active.before,
            after: active.last,
            frames_end: active.frames_end,
            file_bytes: active.reserved_bytes,
            sealed: false,
        };
        view.active = Some(ActiveView { meta, points });
    }
}

/// How many of the entries go into the next frame, and their size before compression at most.
fn frame_share(entries: &[Entry]) -> (usize, usize) {
    let mut total = 0;
    for (count, entry) in entries.iter().enumerate() {
        let bytes = entry.payload.len() + ENTRY_OVERHEAD_BYTES;
        let full = count == LOG_FRAME_ENTRIES_MAX || total + bytes > LOG_FRAME_BODY_BYTES_MAX;
        if full && count > 0 {
            return (count, total);
        }
        total += bytes;
    }
    (entries.len(), total)
}

/// Room that an append needs: its frames, and their points in the footer beyond the one that is always kept free.
fn room_for(frames: &Bytes, starts: &FrameStarts) -> u64 {
    (frames.len() + footer_bytes(starts.len()) - footer_bytes(1)) as u64
}

fn remove(path: &Path) -> Result<(), LogError> {
    std::fs::remove_file(path).map_err(|e| LogError::io("remove", path, e))
}
