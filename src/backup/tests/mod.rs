//! Backups on real logs, states, files and folders; only the failures of targets are made.

mod damage;
mod jobs;
mod kills;
mod place;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::crypt::{Identity, Recipient};
use super::error::BackupError;
use super::job::{self, Extra, Facts, Job, Outcome, Source};
use super::manifest::{BackupKind, Signer};
use super::meter::Watch;
use super::repository::{Repository, VerifyReport};
use super::target::Target;
use crate::blobs::{BlobHash, BlobStore};
use crate::core::entry::{Entry, EntryKind, Origin};
use crate::core::ids::Hlc;
use crate::core::keys::Key;
use crate::core::rows::{Audit, Value};
use crate::core::view::{View, Write};
use crate::oplog::{LogOptions, LogWriter};
use crate::projection::{Applied, FatalHook, Options, Projection};

const CLUSTER: [u8; 16] = *b"cluster of tests";
const EPOCH: u64 = 1 << 16 | 1;
/// Small, so that a backup has several log parts.
const SEGMENT_BYTES: u64 = 4096;

/// A node's data and a repository in a folder, without a server.
struct Rig {
    dir: TempDir,
    writer: LogWriter,
    source: Source,
    repository: Repository,
    epoch: u64,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let repository = dir.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        let target = {
            let _entered = runtime.enter();
            Target::directory(&repository).unwrap()
        };
        let data = dir.path().join("data");
        let (writer, source) = node(&data, dir.path().join("scratch"));
        let repository = Repository::new(target, false);
        Self { dir, writer, source, repository, epoch: EPOCH, runtime: Arc::new(runtime) }
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// Logs and applies so many records.
    fn traffic(&mut self, records: u64) {
        let first = self.writer.last_index() + 1;
        let noise = |index: u64| blake3::hash(&index.to_le_bytes()).to_hex().repeat(4);
        let entry = |index| Entry {
            index,
            epoch: self.epoch,
            hlc: Hlc((1_790_000_000_000 + index) << 16),
            origin: Origin { site: 0, node: 1 },
            kind: EntryKind::Command,
            payload: Bytes::from(noise(index).into_bytes()),
            erased: false,
        };
        let entries: Vec<Entry> = (first..first + records).map(entry).collect();
        for batch in entries.chunks(10) {
            self.writer.append(batch).unwrap();
        }
        for index in first..first + records {
            let row = Audit { at_ms: 5, action: "user.create".to_owned(), before: noise(index), ..Audit::default() };
            let key = Key::Audit(index);
            let before = self.source.projection.get(&key).unwrap();
            let write = Write { key, before, after: Some(Value::from(row)) };
            self.source.projection.commit(Applied { index, epoch: self.epoch }, &[write]).unwrap();
        }
    }

    fn blob(&self, content: &[u8]) -> BlobHash {
        self.source.blobs.put(content, 1 << 30).unwrap().hash
    }

    fn back_up(&self, kind: BackupKind, recipients: &[Recipient]) -> Result<Outcome, BackupError> {
        back_up(&self.source, &self.repository, &Job { kind, recipients: recipients.to_vec() })
    }
}

fn back_up(source: &Source, repository: &Repository, job: &Job) -> Result<Outcome, BackupError> {
    let cancel = CancellationToken::new();
    job::run(source, repository, job, Watch { progress: &|_| {}, cancel: &cancel })
}

fn node(data: &Path, scratch: PathBuf) -> (LogWriter, Source) {
    std::fs::create_dir_all(data).unwrap();
    let options = LogOptions { dir: data.join("log"), cluster: CLUSTER, segment_bytes: SEGMENT_BYTES };
    let (writer, _) = LogWriter::open(options).unwrap();
    let fatal: FatalHook = Arc::new(|error| panic!("the store failed: {error}"));
    let state = Options::new(data, CLUSTER, fatal);
    let projection = Projection::open(&state).unwrap().projection;
    let source = Source {
        projection,
        log: writer.reader(),
        blobs: BlobStore::open(&data.join("blobs")).unwrap(),
        snapshots: state.snapshots_dir().to_owned(),
        scratch,
        facts: Facts { cluster: CLUSTER, organisation: "示例".to_owned(), site: 0, node: 1 },
        signer: Arc::new(Signer::generate().unwrap()),
        extras: Vec::new(),
    };
    (writer, source)
}

/// All files below a folder, relative to it, sorted.
fn files_below(root: &Path) -> Vec<String> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for item in std::fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Verifies all of a repository.
fn verify(repository: &Repository) -> VerifyReport {
    let cancel = CancellationToken::new();
    repository.verify(None, Watch { progress: &|_| {}, cancel: &cancel }).unwrap()
}
