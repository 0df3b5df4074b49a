//! Building a data directory from parts: log segments, the snapshot, files, certificates. Every part is verified while it is
//! written; what fails is named.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::error::RestoreError;
use super::fetch::{Source, StoredFile, WantedBlob};
use super::plan::Plan;
use crate::backup::manifest::Part;
use crate::blobs::BlobHash;
use crate::limits;
use crate::ops::durable_file::{create_private_dir, create_private_file};

/// One file to be made.
struct Job {
    /// Its path in the repository.
    path: String,
    size: u64,
    blake3: String,
    /// It is a zstd file of what is wanted.
    unpack: bool,
    /// Where it goes.
    to: PathBuf,
    /// What its content must hash to, when the stored bytes do not say so already.
    name: Option<BlobHash>,
}

impl Job {
    fn of(part: &Part, unpack: bool, to: PathBuf) -> Self {
        Self { path: part.path.clone(), size: part.size, blake3: part.blake3.clone(), unpack, to, name: None }
    }
}

/// Where the snapshot is in a data directory.
pub(super) fn snapshot_dir(dir: &Path, plan: &Plan) -> PathBuf {
    dir.join("snapshots").join(format!("{:020}", plan.snapshot_index()))
}

/// Reads log, snapshot and certificates into `dir`, and `blobs` as well.
///
/// # Errors
/// [`RestoreError`], naming the part.
pub(super) fn build(
    source: &Source<'_>,
    (plan, blobs): (&Plan, &[WantedBlob]),
    dir: &Path,
) -> Result<(), RestoreError> {
    let mut jobs = Vec::new();
    let snapshot = snapshot_dir(dir, plan);
    for part in plan.snapshot_parts() {
        jobs.push(Job::of(part, false, snapshot.join(plain_name(&part.path))));
    }
    for log in &plan.log {
        jobs.push(Job::of(&log.part, true, dir.join("log").join(format!("{:020}.seg", log.first))));
    }
    for part in plan.extras() {
        if let Some(place) = place_of_extra(&part.path) {
            jobs.push(Job::of(part, false, dir.join(place)));
        }
    }
    for folder in ["log", "snapshots", "blobs"] {
        make(&dir.join(folder))?;
    }
    for job in &jobs {
        job.to.parent().map_or(Ok(()), make)?;
    }
    in_parallel(jobs.len(), |at| jobs.get(at).map_or(Ok(()), |job| fetch(source, job)))?;
    in_parallel(blobs.len(), |at| blobs.get(at).map_or(Ok(()), |blob| fetch_blob(source, blob, dir)))
}

fn make(dir: &Path) -> Result<(), RestoreError> {
    create_private_dir(dir).map_err(RestoreError::io("create", dir))
}

fn plain_name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(".age").unwrap_or(name)
}

/// Where an additional file of the node belongs: its certificates and its configuration, nothing else.
fn place_of_extra(path: &str) -> Option<PathBuf> {
    let (_, inner) = path.strip_prefix("extras/")?.split_once('/')?;
    let inner = inner.strip_suffix(".age").unwrap_or(inner);
    let known = inner == "holdfast.toml" || inner.strip_prefix("tls/").is_some_and(|name| !name.contains('/'));
    known.then(|| PathBuf::from(inner))
}

fn fetch_blob(source: &Source<'_>, blob: &WantedBlob, dir: &Path) -> Result<(), RestoreError> {
    let hex = blob.hash.to_string();
    let folder = dir.join("blobs").join(&hex[..2]).join(&hex[2..4]);
    make(&folder)?;
    let name = (blob.stored != blob.hash.0).then_some(blob.hash);
    let blake3 = data_encoding::HEXLOWER.encode(&blob.stored);
    fetch(source, &Job { path: blob.path(), size: blob.size, blake3, unpack: false, to: folder.join(&hex), name })
}

fn fetch(source: &Source<'_>, job: &Job) -> Result<(), RestoreError> {
    let file = create_private_file(&job.to).map_err(RestoreError::io("create", &job.to))?;
    let mut out = Hashing { file, hasher: job.name.map(|_| blake3::Hasher::new()) };
    source.fetch(&StoredFile { path: &job.path, size: job.size, blake3: &job.blake3 }, job.unpack, &mut out)?;
    if let (Some(name), Some(hasher)) = (job.name, out.hasher)
        && BlobHash(*hasher.finalize().as_bytes()) != name
    {
        return Err(RestoreError::damaged(&job.path, "its content is not what its name says"));
    }
    Ok(())
}

struct Hashing {
    file: File,
    hasher: Option<blake3::Hasher>,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes.get(..count).unwrap_or_default());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Does the work of `0..count` on some threads; the first error ends it.
fn in_parallel(count: usize, work: impl Fn(usize) -> Result<(), RestoreError> + Sync) -> Result<(), RestoreError> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let run = || {
        while failed.lock().is_none() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            if let Err(error) = work(at) {
                failed.lock().get_or_insert(error);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..limits::BACKUP_WORKERS_MAX.min(count) {
            scope.spawn(run);
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_and_configuration_go_back_to_their_places() {
        let place = |path: &str| place_of_extra(path).map(|path| path.display().to_string());
        assert_eq!(place("extras/x-1/tls/ca.pem.age").as_deref(), Some("tls/ca.pem"));
        assert_eq!(place("extras/x-1/holdfast.toml.age").as_deref(), Some("holdfast.toml"));
        for other in
            ["extras/x-1/node.toml", "extras/x-1/tls/a/b", "extras/holdfast.toml", "tls/ca.pem", "extras/x/log/1"]
        {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
