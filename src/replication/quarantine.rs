//! `quarantine/`: diverged tails, one directory each, never deleted by us. `tail.jsonl` is the readable archive,
//! `items.bin` what of it has to be proposed to the active again, `done.json` says that this has happened.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::core::command::Salvage;
use crate::core::entry::Entry;
use crate::limits;
use crate::oplog::{self, LogError, LogPosition};
use crate::ops::durable_file::write_private;

/// One diverged tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Its directory.
    pub(super) dir: PathBuf,
    /// The fork: its first record's index.
    pub(super) fork: u64,
    /// The epoch of its last record.
    pub(super) epoch: u64,
    /// How many records it has.
    pub(super) records: u64,
}

/// The directory of the tail from `fork` to the end of the log; its name tells what it is, and is the same after a crash.
pub(super) fn new_tail(data: &Path, (fork, end): (u64, LogPosition)) -> Tail {
    let name = format!("{fork:020}-{:020}-{:016x}", end.index, end.epoch);
    Tail { dir: data.join("quarantine").join(name), fork, epoch: end.epoch, records: end.index + 1 - fork }
}

/// All tails in quarantine, in the order of their forks.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn tails(data: &Path) -> io::Result<Vec<Tail>> {
    let mut found = Vec::new();
    let list = match fs::read_dir(data.join("quarantine")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        list => list?,
    };
    for item in list {
        let dir = item?.path();
        found.extend(tail_at(dir));
    }
    found.sort_by_key(|tail| (tail.fork, tail.epoch));
    Ok(found)
}

/// A tail's directory by its name; `None` when it is something else or its archive is not complete.
fn tail_at(dir: PathBuf) -> Option<Tail> {
    let name = dir.file_name()?.to_str()?;
    let mut parts = name.split('-');
    let fork = parts.next()?.parse().ok()?;
    let last: u64 = parts.next()?.parse().ok()?;
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    let records = (last + 1).checked_sub(fork)?;
    let tail = Tail { dir, fork, epoch, records };
    tail.archive().is_file().then_some(tail)
}

/// The tails of which nobody has worked out yet what has to be proposed again.
pub(super) fn without_items(data: &Path) -> io::Result<Vec<Tail>> {
    Ok(tails(data)?.into_iter().filter(|tail| !tail.items_path().exists()).collect())
}

/// The tails of which something may still have to be proposed.
pub(super) fn unsalvaged(data: &Path) -> io::Result<Vec<Tail>> {
    Ok(tails(data)?.into_iter().filter(|tail| tail.items_path().exists() && !tail.is_salvaged()).collect())
}

/// The records of a tail that have to be proposed again, in order, encoded; never more than one of them in memory.
#[derive(Debug)]
pub(super) struct Items {
    reader: BufReader<fs::File>,
}

impl Items {
    /// The bytes of the next one; `None` at the end.
    pub(super) fn next_item(&mut self) -> io::Result<Option<Bytes>> {
        let Some(length) = self.length()? else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(Some(bytes.into()))
    }

    /// Passes over the next one; false at the end.
    pub(super) fn skip_item(&mut self) -> io::Result<bool> {
        let Some(length) = self.length()? else { return Ok(false) };
        self.reader.seek_relative(length as i64)?;
        Ok(true)
    }

    /// How many there are from here on.
    pub(super) fn count_all(mut self) -> io::Result<u64> {
        let mut count = 0;
        while self.skip_item()? {
            count += 1;
        }
        Ok(count)
    }

    /// The length before an item, as protobuf writes it.
    fn length(&mut self) -> io::Result<Option<usize>> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("items.bin: {what}"));
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut length = 0_usize;
        for place in 0..LENGTH_BYTES_MAX {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << (7 * place);
            if byte[0] < 0x80 {
                return if length <= limits::PEER_SALVAGE_BYTES_MAX {
                    Ok(Some(length))
                } else {
                    Err(damaged("an item is longer than any record"))
                };
            }
        }
        Err(damaged("a length without end"))
    }
}

/// Bytes of a length: enough for everything that may be sent.
const LENGTH_BYTES_MAX: usize = 4;

impl Tail {
    /// The readable archive.
    #[must_use]
    pub(super) fn archive(&self) -> PathBuf {
        self.dir.join("tail.jsonl")
    }

    fn items_path(&self) -> PathBuf {
        self.dir.join("items.bin")
    }

    fn done_path(&self) -> PathBuf {
        self.dir.join("done.json")
    }

    /// Its records, verified one by one.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Entry, LogError>> + use<> {
        let (records, error) = match oplog::read_archive(&self.archive()) {
            Ok(records) => (Some(records), None),
            Err(error) => (None, Some(Err(error))),
        };
        records.into_iter().flatten().chain(error)
    }

    /// Keeps what has to be proposed again.
    pub(super) fn write_items(&self, items: &[Salvage]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for item in items {
            item.encode_length_delimited(&mut bytes).map_err(io::Error::other)?;
        }
        write_private(&self.items_path(), &bytes)
    }

    /// What has to be proposed again, read bit by bit.
    pub(super) fn items(&self) -> io::Result<Items> {
        Ok(Items { reader: BufReader::new(fs::File::open(self.items_path())?) })
    }

    /// What names it on the way to the active.
    pub(super) fn id(&self) -> Bytes {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Bytes::copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..16])
    }

    /// Whether everything was proposed again.
    #[must_use]
    pub(super) fn is_salvaged(&self) -> bool {
        self.done_path().exists()
    }

    /// Everything was proposed again: `refused` of them were refused by the rules and stay here only.
    pub(super) fn salvaged(&self, proposed: u64, refused: &[String]) -> io::Result<()> {
        let text = serde_json::json!({ "proposed": proposed, "refused": refused }).to_string();
        write_private(&self.done_path(), text.as_bytes())
    }
}
