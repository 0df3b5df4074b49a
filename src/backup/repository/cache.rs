//! Copies of a repository's manifests and blob lists on this machine: both never change under their names, so a run every
//! minute need not fetch them again. May be deleted at any time. Must never be believed where it could decide what is good.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::super::error::BackupError;
use super::super::manifest::Part;
use super::Place;
use crate::ops::durable_file::create_private_dir;

/// The folder of copies of one repository.
#[derive(Clone, Debug)]
pub struct Cache {
    manifests: PathBuf,
    lists: PathBuf,
}

impl Cache {
    /// The copies below `scratch`, a folder of this one repository; made if needed.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn open(scratch: &Path) -> Result<Self, BackupError> {
        let cache = Self { manifests: scratch.join("manifests"), lists: scratch.join("blob-lists") };
        for dir in [&cache.manifests, &cache.lists] {
            create_private_dir(dir).map_err(BackupError::io("create", dir))?;
        }
        Ok(cache)
    }

    /// The copy of a manifest of this size.
    pub(super) fn manifest(&self, name: &str, size: u64) -> Option<Vec<u8>> {
        fs::read(self.manifests.join(name)).ok().filter(|bytes| bytes.len() as u64 == size)
    }

    /// Keeps a copy. Best effort: without it the next run fetches.
    pub(in super::super) fn keep_manifest(&self, name: &str, bytes: &[u8]) {
        let (path, temporary) = (self.manifests.join(name), self.manifests.join(format!("{name}.tmp")));
        let _ = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
    }

    /// Keeps a copy of a blob list.
    pub(in super::super) fn keep_list(&self, part: &Part, file: &Path) {
        let _ = fs::rename(file, self.list_path(part));
    }

    fn list_path(&self, part: &Part) -> PathBuf {
        self.lists.join(part.path.rsplit('/').next().unwrap_or_default())
    }

    /// A blob list whose size and BLAKE3 are right, fetched if there is no copy.
    ///
    /// # Errors
    /// [`BackupError::Part`] when the stored one is not what its manifest says; [`BackupError::Target`].
    pub fn blob_list(&self, place: &dyn Place, part: &Part) -> Result<File, BackupError> {
        let path = self.list_path(part);
        if !is_right(&path, part) {
            let temporary = path.with_extension("tmp");
            let mut source = place.open(&part.path)?;
            let mut out = File::create(&temporary).map_err(BackupError::io("create", &temporary))?;
            io::copy(&mut io::Read::take(&mut source, part.size + 1), &mut out)
                .map_err(BackupError::io("fetch a blob list to", &temporary))?;
            if !is_right(&temporary, part) {
                let what = "the blob list is not what its manifest says".to_owned();
                return Err(BackupError::Part { path: part.path.clone(), what });
            }
            fs::rename(&temporary, &path).map_err(BackupError::io("rename", &temporary))?;
        }
        File::open(&path).map_err(BackupError::io("open", &path))
    }

    /// Forgets what is not among `names` any more.
    pub(super) fn retain(&self, names: &HashSet<&str>) {
        for dir in [&self.manifests, &self.lists] {
            for item in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = item.file_name();
                if !names.contains(name.to_string_lossy().trim_end_matches(".zst")) {
                    let _ = fs::remove_file(item.path());
                }
            }
        }
    }
}

fn is_right(path: &Path, part: &Part) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut file, &mut hasher).is_ok_and(|bytes| bytes == part.size)
        && hasher.finalize().to_hex().as_str() == part.blake3
}
