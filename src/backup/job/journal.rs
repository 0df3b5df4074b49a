//! What an unfinished run has stored already, so that the next one need not send it again. May be deleted at any time. It is
//! believed only together with the size of what lies at the target.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::super::error::BackupError;

/// A part that was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) path: String,
    /// What says that the content is the same: a BLAKE3 of it, or of what it is made of.
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) blake3: String,
}

pub(super) struct Journal {
    path: PathBuf,
    before: HashMap<String, Stored>,
    file: Mutex<File>,
}

impl Journal {
    /// Reads what the run before left. A line that was cut off by a crash is passed over.
    pub(super) fn open(scratch: &Path) -> Result<Self, BackupError> {
        let path = scratch.join("unfinished.jsonl");
        let mut before = HashMap::new();
        if let Ok(file) = File::open(&path) {
            for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                if let Ok(stored) = serde_json::from_slice::<Stored>(&line) {
                    before.insert(stored.path.clone(), stored);
                }
            }
        }
        let open = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = open.map_err(BackupError::io("open", &path))?;
        // A line that was cut off must not swallow the next one.
        file.write_all(b"\n").map_err(BackupError::io("write", &path))?;
        Ok(Self { path, before, file: Mutex::new(file) })
    }

    pub(super) fn find(&self, path: &str, key: &str) -> Option<&Stored> {
        self.before.get(path).filter(|stored| stored.key == key)
    }

    pub(super) fn add(&self, stored: &Stored) -> Result<(), BackupError> {
        let failed = || BackupError::io("write", &self.path);
        let mut line = serde_json::to_vec(stored).map_err(|e| failed()(e.into()))?;
        line.push(b'\n');
        self.file.lock().write_all(&line).map_err(failed())
    }

    /// After the manifest names it all.
    pub(super) fn forget(&self) -> Result<(), BackupError> {
        std::fs::remove_file(&self.path).map_err(BackupError::io("remove", &self.path))
    }
}
