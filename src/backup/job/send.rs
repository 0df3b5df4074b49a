//! Storing the pieces of a plan, several at once. Must never report a piece before the target has confirmed it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::crypt::Encrypting;
use super::super::error::BackupError;
use super::super::manifest::{BlobLine, Part};
use super::super::meter::{Meter, Phase};
use super::super::repository::Repository;
use super::super::workers;
use super::journal::{Journal, Stored};
use super::plan::{Content, Piece, Plan};
use super::{Job, Source};
use crate::blobs::{BlobError, BlobHash};
use crate::limits::{BACKUP_WORKERS_MAX, BACKUP_ZSTD_LEVEL};

/// Counts and hashes what is read through it.
pub(super) struct Hashing<R> {
    source: R,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// Length and BLAKE3 of all that was read.
    pub(super) fn finish(self) -> (u64, String) {
        (self.bytes, self.hasher.finalize().to_hex().to_string())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(out)?;
        self.hasher.update(&out[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Tells the meter what is read through it, and ends when the run is cancelled.
struct Metered<'a, R> {
    source: R,
    meter: &'a Meter<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.meter.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.source.read(out)?;
        self.meter.bytes(count as u64);
        Ok(count)
    }
}

/// A scratch file that goes with its user.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays after a kill is removed by the next run that needs the name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What was stored.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) parts: Vec<Part>,
    pub(super) blobs: Vec<BlobLine>,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) damaged: Vec<BlobHash>,
}

/// What became of one piece.
enum Fate {
    Sent(Stored),
    /// An earlier run sent it.
    There(Stored),
    Damaged(BlobHash),
    /// It was removed from this node meanwhile.
    Gone,
}

pub(super) struct Sender<'a> {
    pub(super) source: &'a Source,
    pub(super) repository: &'a Repository,
    pub(super) job: &'a Job,
    pub(super) journal: Journal,
    pub(super) meter: &'a Meter<'a>,
}

impl Sender<'_> {
    pub(super) fn send_all(&self, plan: &Plan) -> Result<Sent, BackupError> {
        let bytes = plan.pieces.iter().map(|piece| piece.bytes).sum();
        self.meter.begin(Phase::Storing, bytes, plan.pieces.len() as u64);
        let results = workers::map(&plan.pieces, BACKUP_WORKERS_MAX, |piece| self.send(piece))?;
        let mut sent = Sent::default();
        for (piece, result) in plan.pieces.iter().zip(results) {
            let stored = match result {
                Fate::Sent(stored) => {
                    sent.count += 1;
                    sent.bytes += stored.size;
                    stored
                }
                Fate::There(stored) => stored,
                Fate::Damaged(hash) => {
                    sent.damaged.push(hash);
                    continue;
                }
                Fate::Gone => continue,
            };
            let Stored { path, size, blake3, .. } = stored;
            match (piece.kind, &piece.content) {
                (None, Content::Blob(hash)) => {
                    sent.blobs.push(BlobLine { blob: hash.to_string(), bytes: piece.bytes, size, blake3 });
                }
                (Some(kind), _) => sent.parts.push(Part { path, kind, size, blake3 }),
                (None, _) => {}
            }
        }
        Ok(sent)
    }

    fn send(&self, piece: &Piece) -> Result<Fate, BackupError> {
        self.meter.check()?;
        if let Some(stored) = piece.key.as_ref().and_then(|key| self.journal.find(&piece.path, key))
            && self.repository.place().size(&piece.path)? == Some(stored.size)
        {
            self.meter.part(piece.bytes);
            return Ok(Fate::There(stored.clone()));
        }
        if self.repository.is_append_only()
            && let Some(stored) = self.adopt(piece)?
        {
            self.journal.add(&stored)?;
            self.meter.part(piece.bytes);
            return Ok(Fate::There(stored));
        }
        let result = match &piece.content {
            Content::File(path) => {
                let file = File::open(path).map_err(BackupError::io("open", path))?;
                self.put(piece, file)
            }
            Content::Log(first, last) => self.put_log(piece, (*first, *last)),
            Content::Blob(hash) => match self.source.blobs.get(hash) {
                Ok(reader) => self.put(piece, reader),
                Err(BlobError::Damaged { hash, .. }) => return Ok(Fate::Damaged(hash)),
                Err(BlobError::NotFound(_)) => return Ok(Fate::Gone),
                Err(error) => return Err(error.into()),
            },
        };
        let stored = match result {
            // The reader ends early then, and the target reports that.
            Err(_) if self.meter.is_cancelled() => return Err(BackupError::Cancelled),
            other => other?,
        };
        self.journal.add(&stored)?;
        self.meter.part(0);
        Ok(Fate::Sent(stored))
    }

    /// What an interrupted run left on an append-only target, where it cannot be replaced: taken as it is after it was read
    /// back. Without encryption it has to be the same content; an encrypted blob is known by its name only.
    fn adopt(&self, piece: &Piece) -> Result<Option<Stored>, BackupError> {
        let (Some(key), false) = (&piece.key, matches!(piece.content, Content::Log(..))) else { return Ok(None) };
        if self.repository.place().size(&piece.path)?.is_none() {
            return Ok(None);
        }
        let (size, blake3) = self.repository.read_back(&piece.path)?;
        if self.job.recipients.is_empty() && blake3 != *key {
            let what = "the target has another content there, and it is append-only".to_owned();
            return Err(BackupError::Part { path: piece.path.clone(), what });
        }
        Ok(Some(Stored { path: piece.path.clone(), key: key.clone(), size, blake3 }))
    }

    fn put_log(&self, piece: &Piece, (first, last): (u64, u64)) -> Result<Stored, BackupError> {
        let scratch = Scratch(self.source.scratch.join(format!("{first:020}.seg")));
        remove_if_there(&scratch.0)?;
        self.source.log.export_segment(first, last, &scratch.0)?;
        let failed = || BackupError::io("read", &scratch.0);
        let file = File::open(&scratch.0).map_err(failed())?;
        let metered = Metered { source: file, meter: self.meter };
        let packed = zstd::stream::read::Encoder::new(metered, BACKUP_ZSTD_LEVEL).map_err(failed())?;
        self.put_unmetered(piece, packed)
    }

    fn put(&self, piece: &Piece, source: impl Read) -> Result<Stored, BackupError> {
        self.put_unmetered(piece, Metered { source, meter: self.meter })
    }

    fn put_unmetered(&self, piece: &Piece, source: impl Read) -> Result<Stored, BackupError> {
        if self.job.recipients.is_empty() {
            self.put_as_is(piece, source)
        } else {
            self.put_as_is(piece, Encrypting::new(source, &self.job.recipients)?)
        }
    }

    fn put_as_is(&self, piece: &Piece, source: impl Read) -> Result<Stored, BackupError> {
        let mut hashing = Hashing::new(source);
        let stored = self.repository.place().put(&piece.path, &mut hashing)?;
        let (size, blake3) = hashing.finish();
        if stored != size {
            let what = format!("the target stored {stored} bytes of {size}");
            return Err(BackupError::Part { path: piece.path.clone(), what });
        }
        Ok(Stored { path: piece.path.clone(), key: piece.key.clone().unwrap_or_default(), size, blake3 })
    }
}

fn remove_if_there(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
