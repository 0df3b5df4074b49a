//! Opening what a stopped (or killed) process left: loads and checks all segments, cuts a torn tail. Must never cut anything
//! that could have been acknowledged; what is not clearly a torn tail refuses to open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{Disk, is_no_room, sync_dir, write_zeros};
use super::error::LogError;
use super::frame::{Depth, LogPosition};
use super::scan::{Scan, ScanStart, Tail, read_segment, scan, scan_growing};
use super::segment::{
    SEGMENT_HEADER_BYTES, SegmentFooter, SegmentHeader, SegmentMeta, SegmentName, SparsePoint, footer_bytes, list,
};

/// A write that did not finish and was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutTail {
    /// The segment file.
    pub path: PathBuf,
    /// Offset from which the bytes were cut.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What was wrong with them.
    pub what: &'static str,
}

/// What opening the log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was no log; an empty one was created.
    pub created: bool,
    /// Segments present, with the one being written.
    pub segments: usize,
    /// Entries of the last segment, each verified.
    pub entries_scanned: u64,
    /// The torn tail that was cut, if there was one.
    pub cut_tail: Option<CutTail>,
    /// The process ended while it sealed the last segment; the segment was opened for writing again.
    pub unfinished_seal: bool,
    /// Segments that were still being prepared and were removed.
    pub temporaries_removed: usize,
}

/// All segments of a directory, checked against each other.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) segments: Vec<SegmentMeta>,
    /// The scan of the last segment.
    pub(super) last: Option<Scan>,
}

/// Loads all segments: headers, footers and their continuity; the last one frame by frame. Reads only.
pub(super) fn load(names: &[SegmentName], cluster: Option<[u8; 16]>) -> Result<Loaded, LogError> {
    let mut loaded = Loaded::default();
    let mut cluster = cluster;
    for (position, name) in names.iter().enumerate() {
        let file = File::open(&name.path).map_err(|e| LogError::io("open", &name.path, e))?;
        let header = read_header(&file, name)?;
        if *cluster.get_or_insert(header.cluster) != header.cluster {
            return Err(LogError::WrongCluster { path: name.path.clone(), found: header.cluster });
        }
        if let Some(previous) = loaded.segments.last() {
            check_follows(&previous.after, &header.before)
                .map_err(|what| LogError::corrupt(&name.path, 0, name.first_index, what))?;
        }
        let meta = if position + 1 < names.len() {
            load_sealed(&file, name, &header)?
        } else {
            let (meta, scan) = load_last(&file, name, &header)?;
            loaded.last = Some(scan);
            meta
        };
        loaded.segments.push(meta);
    }
    Ok(loaded)
}

pub(super) fn read_header(file: &File, name: &SegmentName) -> Result<SegmentHeader, LogError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => SegmentHeader::decode(&bytes, &name.path),
        // Too short: let the decoder say so.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => SegmentHeader::decode(&[], &name.path),
        Err(error) => Err(LogError::io("read header", &name.path, error)),
    }
}

/// Whether a segment that starts after `start` follows one that ended at `end`; if not, why.
pub(super) fn check_follows(end: &LogPosition, start: &LogPosition) -> Result<(), String> {
    if start.index > end.index {
        return Err(format!(
            "the segment with index {} is missing before this one (up to {})",
            end.index + 1,
            start.index
        ));
    }
    if start.index < end.index {
        return Err(format!("the segment before this one already holds indexes up to {}", end.index));
    }
    if start.chain != end.chain {
        return Err("the hash chain does not continue the segment before".to_owned());
    }
    if start != end {
        return Err("epoch or clock do not continue the segment before".to_owned());
    }
    Ok(())
}

fn file_length(file: &File, name: &SegmentName) -> Result<u64, LogError> {
    Ok(file.metadata().map_err(|e| LogError::io("stat", &name.path, e))?.len())
}

fn sealed_meta(name: &SegmentName, header: &SegmentHeader, footer: &SegmentFooter, file_bytes: u64) -> SegmentMeta {
    SegmentMeta {
        name: name.clone(),
        before: header.before,
        after: footer.after,
        frames_end: footer.offset,
        file_bytes,
        sealed: true,
    }
}

fn load_sealed(file: &File, name: &SegmentName, header: &SegmentHeader) -> Result<SegmentMeta, LogError> {
    let file_bytes = file_length(file, name)?;
    let Some(footer) = SegmentFooter::read(file, file_bytes, name)? else {
        let what = "the segment has no footer though a later one exists";
        return Err(LogError::corrupt(&name.path, file_bytes, name.first_index, what));
    };
    Ok(sealed_meta(name, header, &footer, file_bytes))
}

fn load_last(file: &File, name: &SegmentName, header: &SegmentHeader) -> Result<(SegmentMeta, Scan), LogError> {
    let file_bytes = file_length(file, name)?;
    let start = ScanStart::of_segment(header.before, Depth::Order);
    // A footer that does not verify is an unfinished seal: the scan tells, and the entries are verified either way.
    let footer = match SegmentFooter::read(file, file_bytes, name) {
        Err(LogError::Corrupt { .. }) => None,
        other => other?,
    };
    if let Some(footer) = footer {
        let bytes = read_segment(file, name)?;
        let frames = bytes.get(..footer.offset as usize).unwrap_or(&bytes);
        let found = scan(frames, start).map_err(|e| LogError::io("start decompressor for", &name.path, e))?;
        check_sealed(&found, &footer)
            .map_err(|what| LogError::corrupt(&name.path, found.frames_end, found.after.index + 1, what))?;
        return Ok((sealed_meta(name, header, &footer, file_bytes), found));
    }
    let found = scan_growing(file, name, start)?;
    if let Tail::Damaged { what, resumes } = &found.tail {
        let what = resumes.map_or_else(
            || what.clone(),
            |at| format!("{what}; good entries follow at byte {}, index {}", at.offset, at.index),
        );
        return Err(LogError::corrupt(&name.path, found.frames_end, found.after.index + 1, what));
    }
    let meta = SegmentMeta {
        name: name.clone(),
        before: header.before,
        after: found.after,
        frames_end: found.frames_end,
        file_bytes,
        sealed: false,
    };
    Ok((meta, found))
}

/// Whether the frames of a sealed segment are what its footer says.
pub(super) fn check_sealed(found: &Scan, footer: &SegmentFooter) -> Result<(), String> {
    match &found.tail {
        Tail::Clean if found.frames_end == footer.offset => {}
        Tail::Clean => return Err("the sealed segment has zeros instead of frames".to_owned()),
        Tail::Damaged { what, .. } => return Err(what.clone()),
        Tail::Torn { what, .. } => return Err((*what).to_owned()),
        Tail::UnfinishedSeal { .. } => return Err("there is a second footer inside the sealed segment".to_owned()),
    }
    if found.entries != footer.entries || found.after != footer.after {
        return Err("the footer's totals do not match the entries".to_owned());
    }
    if found.points != footer.points {
        return Err("the footer's sparse index does not match the frames".to_owned());
    }
    Ok(())
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: File,
    pub(super) name: SegmentName,
    /// The position before its first entry.
    pub(super) before: LogPosition,
    /// The position after its last entry.
    pub(super) last: LogPosition,
    /// Where the next frame goes.
    pub(super) frames_end: u64,
    /// Allocated bytes of the file: writing below this cannot meet a full disk.
    pub(super) reserved_bytes: u64,
    pub(super) points: Vec<SparsePoint>,
}

impl Active {
    /// Bytes that still fit in front of the footer, which must keep its place (with one more point than now).
    pub(super) fn room_bytes(&self) -> u64 {
        self.reserved_bytes.saturating_sub(self.frames_end + footer_bytes(self.points.len() + 1) as u64)
    }
}

/// What the writer starts from.
pub(super) struct Recovered {
    pub(super) sealed: Vec<SegmentMeta>,
    /// The last segment if it is not sealed.
    pub(super) active: Option<Active>,
    pub(super) report: RecoveryReport,
}

/// Brings a log directory into order after a stop of any kind. The caller holds the directory's lock.
pub(super) fn recover(
    dir: &Path,
    cluster: [u8; 16],
    segment_bytes: u64,
    disk: &dyn Disk,
) -> Result<Recovered, LogError> {
    let listing = list(dir)?;
    // Everything is checked before anything is changed.
    let mut loaded = load(&listing.segments, Some(cluster))?;
    let mut report = RecoveryReport { segments: listing.segments.len(), ..RecoveryReport::default() };
    for path in &listing.temporaries {
        std::fs::remove_file(path).map_err(|e| LogError::io("remove leftover", path, e))?;
        report.temporaries_removed += 1;
    }
    // Also when nothing was removed: a rename may have happened just before the process was killed.
    sync_dir(disk, dir)?;
    let Some(scan) = loaded.last else {
        return Ok(Recovered { sealed: Vec::new(), active: None, report });
    };
    report.entries_scanned = scan.entries;
    let active = match loaded.segments.pop_if(|last| !last.sealed) {
        Some(last) => Some(reopen(last, scan, &mut report)?.reserve(segment_bytes, disk)?),
        None => None,
    };
    Ok(Recovered { sealed: loaded.segments, active, report })
}

/// Opens the last segment for writing and cuts what does not belong to it.
fn reopen(meta: SegmentMeta, scan: Scan, report: &mut RecoveryReport) -> Result<Active, LogError> {
    let path = &meta.name.path;
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| LogError::io("open", path, e))?;
    let cut_bytes = match scan.tail {
        Tail::Torn { bytes, what } => {
            report.cut_tail = Some(CutTail { path: path.clone(), offset: scan.frames_end, bytes, what });
            bytes
        }
        Tail::UnfinishedSeal { bytes } => {
            report.unfinished_seal = true;
            bytes
        }
        Tail::Clean | Tail::Damaged { .. } => 0,
    };
    let cut_end = (scan.frames_end + cut_bytes).min(meta.file_bytes);
    write_zeros(&file, scan.frames_end, cut_end).map_err(|e| LogError::io("cut torn tail of", path, e))?;
    // Always: a killed process may have left frames in the page cache only, and from here on they count as durable.
    file.sync_all().map_err(|e| LogError::io("fsync", path, e))?;
    Ok(Active {
        file,
        before: meta.before,
        last: scan.after,
        frames_end: scan.frames_end,
        reserved_bytes: meta.file_bytes,
        points: scan.points,
        name: meta.name,
    })
}

impl Active {
    /// Takes the room for a whole segment if it is not taken yet. A full disk is no reason not to open: the log can be
    /// read, and the writer asks again when it needs room.
    fn reserve(mut self, segment_bytes: u64, disk: &dyn Disk) -> Result<Self, LogError> {
        let length = segment_bytes.max(self.reserved_bytes);
        match disk.reserve(&self.file, length).and_then(|()| self.file.sync_all()) {
            Ok(()) => self.reserved_bytes = length,
            Err(error) if is_no_room(&error) => {}
            Err(error) => return Err(LogError::io("reserve", &self.name.path, error)),
        }
        Ok(self)
    }
}
