//! A diverged tail as a file that people can read and the program can take back in: one JSON object per line. Must never
//! leave a record out, and never hand one back that is not exactly the one that was archived.
//!
//! The first line names the format, the cluster, the fork (the first record's index), the last record's index, and epoch and
//! chain hash before the fork. Every further line is a record: what it means for people, its payload in base64, and the
//! chain hash after it, which covers all of it. Whole numbers of 64 bits that can be large are strings.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::describe::{kind_name, payload};
use super::error::LogError;
use super::frame::{INDEX_MAX, LogPosition, Tracker, Verified};
use super::reader::{LogReader, RecordPosition};
use super::recovery::read_header;
use crate::core::entry::{Digest, Entry, EntryKind, Origin};
use crate::core::ids::Hlc;
use crate::limits::{LOG_ARCHIVE_LINE_BYTES_MAX, LOG_ARCHIVE_READABLE_BYTES_MAX};

const FORMAT: &str = "holdfast-log-archive";
const VERSION: u32 = 1;

/// What an archive says about itself in its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveHeader {
    /// The cluster whose log it is of.
    pub cluster: [u8; 16],
    /// Index of its first record.
    pub fork: u64,
    /// Index of its last record; `fork - 1` when there is none.
    pub last: u64,
    /// The record before the fork: what the archive goes on from.
    pub before: RecordPosition,
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    format: String,
    version: u32,
    cluster: String,
    fork: u64,
    last: u64,
    epoch_before: u64,
    epoch_node_before: u16,
    chain_before: String,
}

#[derive(Serialize)]
struct RecordLine<'a> {
    #[serde(flatten)]
    exact: ExactLine,
    at: Option<String>,
    at_ms: u64,
    id: String,
    payload: &'a Value,
}

/// The part of a record's line that is read back.
#[derive(Serialize, Deserialize)]
struct ExactLine {
    index: u64,
    epoch: u64,
    epoch_node: u16,
    hlc: String,
    site: u16,
    node: u16,
    kind: String,
    erased: bool,
    chain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hash: Option<String>,
    payload_base64: String,
}

/// Writes the records from `from` up to the durable end as a readable archive. `from` may be one beyond the end. The payloads
/// are in it as they are, with hashes of passwords: it needs the same care as the log. Making it durable is up to the caller.
///
/// # Errors
/// As [`LogReader::read_from`]; [`LogError::Io`] when it cannot be written.
pub fn archive_tail(reader: &LogReader, from: u64, out: &mut dyn Write) -> Result<ArchiveHeader, LogError> {
    let last = reader.last_durable_index();
    let not_there = || LogError::NotInLog { wanted: from, first: reader.first_index(), last };
    let name = reader.segment_of(from).ok_or_else(not_there)?;
    let segment = File::open(&name.path).map_err(|e| LogError::io("open", &name.path, e))?;
    let cluster = read_header(&segment, &name)?.cluster;
    let before = reader.position_at(from.checked_sub(1).ok_or_else(not_there)?)?;
    let header = ArchiveHeader { cluster, fork: from, last, before };
    write_line(out, &header.line())?;
    let mut entries = reader.read_from(from)?;
    while let Some(item) = entries.next_verified() {
        let verified = item?;
        if verified.entry.index > last {
            break; // it became durable after the header was written
        }
        write_line(out, &record_line(&verified, &readable(&verified.entry)))?;
    }
    out.flush().map_err(|e| LogError::io("write", Path::new("archive"), e))?;
    Ok(header)
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> Result<(), LogError> {
    let mut bytes = serde_json::to_vec(line).map_err(|e| LogError::io("write", Path::new("archive"), e.into()))?;
    bytes.push(b'\n');
    out.write_all(&bytes).map_err(|e| LogError::io("write", Path::new("archive"), e))
}

fn record_line<'a>(Verified { entry, chain, erased_hash }: &Verified, payload: &'a Value) -> RecordLine<'a> {
    let at = i64::try_from(entry.unix_ms()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    RecordLine {
        exact: ExactLine {
            index: entry.index,
            epoch: entry.epoch >> 16,
            epoch_node: (entry.epoch & 0xffff) as u16,
            hlc: entry.hlc.0.to_string(),
            site: entry.origin.site,
            node: entry.origin.node,
            kind: kind_name(entry.kind).to_owned(),
            erased: entry.erased,
            chain: HEXLOWER.encode(chain),
            payload_hash: erased_hash.map(|hash| HEXLOWER.encode(&hash)),
            payload_base64: BASE64.encode(&entry.payload),
        },
        at: at.map(|at| format!("{at:.3}")),
        at_ms: entry.unix_ms(),
        id: entry.id().to_string(),
        payload,
    }
}

/// What a payload means, cut when it is long.
fn readable(entry: &Entry) -> Value {
    if entry.erased {
        return Value::Null;
    }
    let whole = payload(entry);
    let text = whole.to_string();
    if text.len() <= LOG_ARCHIVE_READABLE_BYTES_MAX {
        return whole;
    }
    json!({ "beginning": text[..text.floor_char_boundary(LOG_ARCHIVE_READABLE_BYTES_MAX)], "bytes": text.len() })
}

/// Opens an archive.
///
/// # Errors
/// [`LogError::BadArchive`] when its first line is none of this format; [`LogError::Io`] when it cannot be read.
pub fn read_archive(path: &Path) -> Result<ArchiveReader, LogError> {
    let file = File::open(path).map_err(|e| LogError::io("open", path, e))?;
    let placeholder = RecordPosition { index: 0, epoch: 0, chain: Digest::default() };
    let mut reader = ArchiveReader {
        path: path.to_path_buf(),
        input: BufReader::new(file),
        line: Vec::new(),
        number: 0,
        header: ArchiveHeader { cluster: [0; 16], fork: 1, last: 0, before: placeholder },
        tracker: Tracker::default(),
        ended: false,
    };
    if !reader.take_line()? {
        return Err(reader.bad("it is empty"));
    }
    reader.header = ArchiveHeader::parse(&reader.line).map_err(|what| reader.bad(what))?;
    let RecordPosition { index, epoch, chain } = reader.header.before;
    reader.tracker = Tracker::new(LogPosition { index, epoch, chain, hlc: Hlc(0) });
    Ok(reader)
}

impl ArchiveHeader {
    fn line(&self) -> HeaderLine {
        HeaderLine {
            format: FORMAT.to_owned(),
            version: VERSION,
            cluster: HEXLOWER.encode(&self.cluster),
            fork: self.fork,
            last: self.last,
            epoch_before: self.before.epoch >> 16,
            epoch_node_before: (self.before.epoch & 0xffff) as u16,
            chain_before: HEXLOWER.encode(&self.before.chain),
        }
    }

    fn parse(line: &[u8]) -> Result<Self, String> {
        let line: HeaderLine =
            serde_json::from_slice(line).map_err(|e| format!("this is no archive of records: {e}"))?;
        if line.format != FORMAT || line.version != VERSION {
            return Err(format!("{} version {} is not known", line.format.escape_default(), line.version));
        }
        if line.fork == 0 || line.fork > INDEX_MAX || line.last > INDEX_MAX || line.last < line.fork - 1 {
            return Err("its first and last index are impossible".to_owned());
        }
        let epoch = epoch_of(line.epoch_before, line.epoch_node_before)?;
        let before = RecordPosition { index: line.fork - 1, epoch, chain: hex(&line.chain_before)? };
        Ok(Self { cluster: hex(&line.cluster)?, fork: line.fork, last: line.last, before })
    }
}

fn hex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("this is no hash or id of {N} bytes"))
}

fn epoch_of(number: u64, node: u16) -> Result<u64, String> {
    if number >> 48 == 0 { Ok((number << 16) | u64::from(node)) } else { Err("the epoch is impossible".to_owned()) }
}

/// The records of an archive, each verified by the chain. Ends after the first error; an archive that lacks its last records
/// ends with one.
pub struct ArchiveReader {
    path: PathBuf,
    input: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    header: ArchiveHeader,
    tracker: Tracker,
    ended: bool,
}

impl ArchiveReader {
    /// What the first line says.
    #[must_use]
    pub const fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    fn bad(&self, what: impl Into<String>) -> LogError {
        LogError::BadArchive { path: self.path.clone(), line: self.number, what: what.into() }
    }

    /// Reads the next line; false at the end of the file.
    fn take_line(&mut self) -> Result<bool, LogError> {
        self.line.clear();
        self.number += 1;
        let mut bounded = (&mut self.input).take(LOG_ARCHIVE_LINE_BYTES_MAX as u64);
        bounded.read_until(b'\n', &mut self.line).map_err(|e| LogError::io("read", &self.path, e))?;
        match self.line.pop() {
            None => Ok(false),
            Some(b'\n') => Ok(true),
            Some(_) if self.line.len() + 1 == LOG_ARCHIVE_LINE_BYTES_MAX => {
                Err(self.bad("the line is longer than any line of an archive"))
            }
            Some(_) => Err(self.bad("the file ends inside a line")),
        }
    }

    fn take_record(&mut self) -> Result<Option<Entry>, LogError> {
        let (at, last) = (self.tracker.at.index, self.header.last);
        if !self.take_line()? {
            return if at == last {
                Ok(None)
            } else {
                Err(self.bad(format!("the archive ends after record {at}, it held up to {last}")))
            };
        }
        if at == last {
            return Err(self.bad(format!("there is more behind its last record, {last}")));
        }
        let line: ExactLine = serde_json::from_slice(&self.line).map_err(|e| self.bad(e.to_string()))?;
        line.into_entry(&mut self.tracker).map(Some).map_err(|what| self.bad(what))
    }
}

impl ExactLine {
    fn into_entry(self, tracker: &mut Tracker) -> Result<Entry, String> {
        let kinds = [EntryKind::Command, EntryKind::EpochStarted, EntryKind::StateHash];
        let kind = kinds.into_iter().find(|kind| kind_name(*kind) == self.kind);
        let payload = BASE64.decode(self.payload_base64.as_bytes()).map_err(|e| format!("the payload: {e}"))?;
        let hash = match (self.erased, &self.payload_hash) {
            (false, None) => *blake3::hash(&payload).as_bytes(),
            (true, Some(hash)) if payload.is_empty() => hex(hash)?,
            _ => return Err("an erased record has a hash and no payload, any other a payload and no hash".to_owned()),
        };
        let entry = Entry {
            index: self.index,
            epoch: epoch_of(self.epoch, self.epoch_node)?,
            hlc: Hlc(self.hlc.parse().map_err(|_| "the clock reading is no number".to_owned())?),
            origin: Origin { site: self.site, node: self.node },
            kind: kind.ok_or_else(|| "the record's kind is not known".to_owned())?,
            payload: Bytes::from(payload),
            erased: self.erased,
        };
        tracker.advance(&entry, &hash)?;
        if tracker.at.chain != hex::<32>(&self.chain)? {
            return Err("the hash chain does not match: the record was changed".to_owned());
        }
        Ok(entry)
    }
}

impl Iterator for ArchiveReader {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.take_record().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}
