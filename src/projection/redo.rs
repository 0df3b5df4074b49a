//! Large batches in small steps. sled locks every reader out while it applies a batch, so a checkpoint's batch is applied
//! in steps of [`STATE_STEP_PAIRS`](crate::limits::STATE_STEP_PAIRS), and it is a file that makes it all or nothing: written
//! and synced before the first step, removed after the sync that follows the last. A state between two steps says so
//! itself, and is never used unless the file completes it.
//!
//! The file: the batch's number (u64), per change the key's length (u16), the key, the value's length or `u32::MAX` for a
//! removal (u32), the value; then the BLAKE3 of all that. Integers are little-endian.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::ProjectionError;
use super::snapshot::sync_dir;
use super::store::Batch;
use crate::limits;

/// Where the store's own row is: the number of the last batch (u64, little-endian) and 1 while it is in steps, else 0.
pub(crate) const CONTROL_KEY: &[u8] = &[0, 0];

const REMOVED: u32 = u32::MAX;
const HASH_BYTES: usize = 32;

/// How far the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// The last batch, from 1.
    pub(crate) number: u64,
    /// Only some of its steps were applied.
    pub(crate) in_steps: bool,
}

impl Control {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [&self.number.to_le_bytes()[..], &[u8::from(self.in_steps)]].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let in_steps = match rest {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self { number: u64::from_le_bytes(*number), in_steps })
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("redo")
}

/// Puts a batch on stable storage.
pub(crate) fn write(state: &Path, number: u64, batch: &Batch) -> Result<(), ProjectionError> {
    let mut bytes = number.to_le_bytes().to_vec();
    for (key, change) in batch {
        bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(key);
        let len = change.as_ref().map_or(REMOVED, |value| value.len() as u32);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(change.as_deref().unwrap_or_default());
    }
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    let (path, temporary) = (file(state), state.join("redo.new"));
    let write = || {
        let mut file = File::create(&temporary)?;
        // In pieces: behind one large sync, the log's own fsync (and every sender) would wait for all of it.
        for piece in bytes.chunks(limits::STATE_SYNC_BYTES) {
            file.write_all(piece)?;
            file.sync_data()?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|e| ProjectionError::io("write", &path, &e))?;
    sync_dir(state)
}

/// The batch in the file and its number; `None` when there is no file, or it was never finished.
pub(crate) fn read(state: &Path) -> Result<Option<(u64, Batch)>, ProjectionError> {
    match std::fs::read(file(state)) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ProjectionError::io("read", &file(state), &e)),
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, Batch)> {
    let (content, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
    if blake3::hash(content) != *hash {
        return None;
    }
    let (number, mut rest) = content.split_first_chunk()?;
    let mut batch = Batch::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk()?;
        let (key, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let (len, after) = after.split_first_chunk()?;
        let len = u32::from_le_bytes(*len);
        let (value, after) = after.split_at_checked(if len == REMOVED { 0 } else { len as usize })?;
        batch.insert(key.to_vec(), (len != REMOVED).then(|| value.to_vec()));
        rest = after;
    }
    Some((u64::from_le_bytes(*number), batch))
}

/// Forgets the batch: it is on stable storage.
pub(crate) fn remove(state: &Path) -> Result<(), ProjectionError> {
    match std::fs::remove_file(file(state)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(ProjectionError::io("remove", &file(state), &e)),
        _ => Ok(()),
    }
}

/// The batch in steps of about `pairs`. All pairs of one unit (keys that begin with its first key) are in one step, so that
/// a reader never finds parts of two versions in a store at rest.
pub(crate) fn steps(batch: Batch, pairs: usize) -> Vec<Batch> {
    let mut steps = vec![Batch::new()];
    let mut base: Vec<u8> = Vec::new();
    for (key, change) in batch {
        let same_unit = !base.is_empty() && key.starts_with(&base);
        if !same_unit {
            base.clone_from(&key);
            if steps.last().is_some_and(|step| step.len() >= pairs) {
                steps.push(Batch::new());
            }
        }
        if let Some(step) = steps.last_mut() {
            step.insert(key, change);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let pair = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
        Batch::from([
            pair(&[0], Some(b"meta")),
            pair(&[2, 1], Some(b"")),
            pair(&[2, 1, 0, 1], None),
            pair(&[2, 1, 0, 2], Some(b"x")),
            pair(&[3, 1], None),
        ])
    }

    #[test]
    fn steps_keep_units_together_and_lose_nothing() {
        let steps = steps(batch(), 2);
        assert_eq!(steps.iter().map(Batch::len).collect::<Vec<_>>(), [4, 1]);
        assert_eq!(steps.into_iter().flatten().collect::<Batch>(), batch());
    }

    #[test]
    fn what_was_written_is_read_and_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        write(dir.path(), 7, &batch()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some((7, batch())));
        let sound = std::fs::read(file(dir.path())).unwrap();
        for place in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[place] ^= 1;
            assert_eq!(parse(&bytes), None);
            assert_eq!(parse(&sound[..place]), None);
        }
        remove(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
