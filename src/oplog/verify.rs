//! `log verify`: reads every byte of every segment and names all that is wrong. Must never change anything, and never stop
//! at the first finding where more can be told.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::frame::{Depth, FrameHeader, LogPosition};
use super::recovery::{CutTail, check_follows, check_sealed, read_header};
use super::scan::{Resume, Scan, ScanStart, Tail, read_segment, scan, scan_growing};
use super::segment::{SegmentFooter, SegmentName, list};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The segment file.
    pub path: PathBuf,
    /// Byte offset in it.
    pub offset: u64,
    /// The index expected there.
    pub index: u64,
    /// What is wrong, for people.
    pub what: String,
}

/// How far verify has come, told after each segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The segment just done.
    pub path: PathBuf,
    /// Segments done.
    pub segments_done: usize,
    /// Segments in all.
    pub segments: usize,
    /// Findings so far.
    pub findings: usize,
}

/// The result of verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments looked at.
    pub segments: usize,
    /// Good frames.
    pub frames: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The first index, if there is a segment.
    pub first_index: Option<u64>,
    /// The position at the end of the last segment, if it could be read to its end.
    pub last: Option<LogPosition>,
    /// An unfinished write at the end: normal after a crash or while the log is being written; the next start cuts it.
    pub torn_tail: Option<CutTail>,
    /// All that is wrong.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether everything verified. A torn tail is no damage.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies a log, stopped or running: every segment, frame and chain link, the footers, and gaps between segments.
///
/// # Errors
/// Only when the directory cannot be listed; everything else is a finding.
pub fn verify(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<VerifyReport, LogError> {
    let names = list(dir)?.segments;
    let mut run = Run::default();
    run.report.segments = names.len();
    run.report.first_index = names.first().map(|name| name.first_index);
    for (position, name) in names.iter().enumerate() {
        run = run.with(name, position + 1 == names.len());
        progress(Progress {
            path: name.path.clone(),
            segments_done: position + 1,
            segments: names.len(),
            findings: run.report.findings.len(),
        });
    }
    run.report.last = run.expected;
    Ok(run.report)
}

/// Looks at the segment that may be being written until two agree. Each look takes longer than what a writer does at once,
/// so two are nearly always enough.
const LOOKS_MAX: usize = 8;

#[derive(Clone, Default)]
struct Run {
    report: VerifyReport,
    /// Where the next segment has to start; `None` before the first and when that is unknown because of damage.
    expected: Option<LogPosition>,
    cluster: Option<[u8; 16]>,
}

impl Run {
    /// This run with one more segment. A running writer may be writing or sealing the last one at this moment: what seems
    /// wrong there counts only if it is still the same at another look.
    fn with(self, name: &SegmentName, is_last: bool) -> Run {
        let look = || {
            let mut run = self.clone();
            if let Err(error) = run.segment(name, is_last) {
                run.failed(name, error);
            }
            run
        };
        let mut seen = look();
        for _ in 1..LOOKS_MAX {
            if !is_last || seen.report.findings == self.report.findings {
                break;
            }
            let again = look();
            let same = again.report.findings == seen.report.findings;
            seen = again;
            if same {
                break;
            }
        }
        seen
    }

    /// Records an error that ends the look at one segment.
    fn failed(&mut self, name: &SegmentName, error: LogError) {
        self.expected = None;
        match error {
            LogError::Corrupt { place, what } => self.find(name, (place.offset, place.index), what),
            // Trimmed since the directory was listed.
            LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {}
            other => self.find(name, (0, name.first_index), other.to_string()),
        }
    }

    fn find(&mut self, name: &SegmentName, (offset, index): (u64, u64), what: impl Into<String>) {
        self.report.findings.push(Finding { path: name.path.clone(), offset, index, what: what.into() });
    }

    fn segment(&mut self, name: &SegmentName, is_last: bool) -> Result<(), LogError> {
        let file = File::open(&name.path).map_err(|e| LogError::io("open", &name.path, e))?;
        let header = read_header(&file, name)?;
        if *self.cluster.get_or_insert(header.cluster) != header.cluster {
            self.find(name, (0, name.first_index), "the segment belongs to another cluster than the first one");
        }
        if let Some(Err(what)) = self.expected.map(|end| check_follows(&end, &header.before)) {
            self.find(name, (0, name.first_index), what);
        }
        let file_bytes = file.metadata().map_err(|e| LogError::io("stat", &name.path, e))?.len();
        self.report.bytes += file_bytes;
        let footer = match SegmentFooter::read(&file, file_bytes, name) {
            Err(LogError::Corrupt { place, what }) => {
                self.find(name, (place.offset, place.index), what);
                None
            }
            other => other?,
        };
        self.expected = None;
        match footer {
            Some(footer) => self.sealed(&file, name, (header.before, footer)),
            None if is_last => self.growing(&file, name, header.before),
            None => {
                self.find(
                    name,
                    (file_bytes, name.first_index),
                    "the segment has no good footer though a later one exists",
                );
                let bytes = read_segment(&file, name)?;
                self.frames(&bytes, name, header.before)?;
                Ok(())
            }
        }
    }

    fn sealed(
        &mut self,
        file: &File,
        name: &SegmentName,
        (before, footer): (LogPosition, SegmentFooter),
    ) -> Result<(), LogError> {
        let bytes = read_segment(file, name)?;
        let frames = bytes.get(..footer.offset as usize).unwrap_or(&bytes);
        if let Some(whole) = self.frames(frames, name, before)?
            && let Err(what) = check_sealed(&whole, &footer)
        {
            self.find(name, (whole.frames_end, whole.after.index + 1), what);
        }
        // The footer verified by itself, so the next segment can be held against it whatever this one is like inside.
        self.expected = Some(footer.after);
        Ok(())
    }

    fn growing(&mut self, file: &File, name: &SegmentName, before: LogPosition) -> Result<(), LogError> {
        let found = scan_growing(file, name, ScanStart::of_segment(before, Depth::Chain))?;
        let (bytes, what) = match found.tail {
            Tail::Damaged { .. } => {
                let bytes = read_segment(file, name)?;
                self.expected = self.frames(&bytes, name, before)?.map(|whole| whole.after);
                return Ok(());
            }
            Tail::Clean => (0, ""),
            Tail::Torn { bytes, what } => (bytes, what),
            Tail::UnfinishedSeal { bytes } => (bytes, "the segment was being sealed"),
        };
        if bytes > 0 {
            self.report.torn_tail = Some(CutTail { path: name.path.clone(), offset: found.frames_end, bytes, what });
        }
        self.report.frames += found.frames;
        self.report.entries += found.entries;
        self.expected = Some(found.after);
        Ok(())
    }

    /// Walks all frames, also behind damage. Returns the scan if there was none.
    fn frames(&mut self, bytes: &[u8], name: &SegmentName, before: LogPosition) -> Result<Option<Scan>, LogError> {
        let first = ScanStart::of_segment(before, Depth::Chain);
        let mut start = first;
        loop {
            let found = scan(bytes, start).map_err(|e| LogError::io("start decompressor for", &name.path, e))?;
            self.report.frames += found.frames;
            self.report.entries += found.entries;
            let whole = start.offset == first.offset;
            let (what, resumes) = match &found.tail {
                Tail::Clean | Tail::UnfinishedSeal { .. } => return Ok(whole.then_some(found)),
                Tail::Torn { what, .. } => ((*what).to_owned(), None),
                Tail::Damaged { what, resumes } => (what.clone(), *resumes),
            };
            let index = found.after.index + 1;
            let Some(resume) = resumes else {
                self.find(name, (found.frames_end, index), what);
                return Ok(None);
            };
            let behind = format!("{what}; good entries follow at byte {}, index {}", resume.offset, resume.index);
            self.find(name, (found.frames_end, index), behind);
            start = behind_damage(bytes, resume);
            self.report.frames += 1;
            self.report.entries += start.before.index + 1 - resume.index;
        }
    }
}

/// Where to go on behind damage: after the first good frame, whose header says what the chain must continue from.
fn behind_damage(bytes: &[u8], resume: Resume) -> ScanStart {
    let offset = resume.offset as usize;
    let (length, before) = match FrameHeader::parse_whole(&bytes[offset..]) {
        Ok((header, _)) => {
            let at = LogPosition { index: header.last_index(), chain: header.chain_after, ..LogPosition::default() };
            (header.length, at)
        }
        // The search has parsed these very bytes; stopping here keeps even a defect from looping.
        Err(_) => (bytes.len() - offset, LogPosition { index: resume.index, ..LogPosition::default() }),
    };
    ScanStart { offset: offset + length, before, depth: Depth::Chain }
}
