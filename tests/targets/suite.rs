//! What every kind of target has to do alike.

use std::io::Read;
use std::path::Path;

use holdfast::backup::repository::Place as _;
use holdfast::backup::target::{Target, TargetError};
use tokio::runtime::Runtime;

use super::servers::{Dav, Ssh, Store};

pub(crate) const MEBIBYTE: usize = 1 << 20;

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Bytes that differ everywhere, without a random source.
pub(crate) fn content(length: usize, seed: u8) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&[seed]).finalize_xof();
    let mut bytes = vec![0; length];
    reader.fill(&mut bytes);
    bytes
}

/// A source that does something once when so many bytes were read.
pub(crate) struct Interrupted<'a> {
    pub(crate) content: &'a [u8],
    pub(crate) after: usize,
    pub(crate) then: Option<Box<dyn FnOnce() -> std::io::Result<()> + 'a>>,
    pub(crate) read: usize,
}

impl<'a> Interrupted<'a> {
    pub(crate) fn new(content: &'a [u8], after: usize, then: impl FnOnce() -> std::io::Result<()> + 'a) -> Self {
        Self { content, after, then: Some(Box::new(then)), read: 0 }
    }
}

impl Read for Interrupted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read >= self.after
            && let Some(then) = self.then.take()
        {
            then()?;
        }
        let count = (&self.content[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

fn listed(target: &Target, prefix: &str) -> Vec<(String, u64)> {
    target.list(prefix).unwrap().into_iter().map(|file| (file.path, file.size)).collect()
}

/// The suite. `many` files are stored to be listed.
fn conforms(target: &Target, many: usize) {
    stores_and_gives_back(target);
    lists_many(target, many);
    leaves_nothing_of_a_broken_source(target);
    keeps_to_its_place(target);
}

fn stores_and_gives_back(target: &Target) {
    assert_eq!(listed(target, "log"), []);
    // 8 MiB is where an upload comes in parts; 32 KiB and 1 MiB are pieces within.
    let lengths = [0, 1, 32 << 10, MEBIBYTE, MEBIBYTE + 1, 8 * MEBIBYTE, 8 * MEBIBYTE + 1, 40 * MEBIBYTE];
    for length in lengths {
        let (path, bytes) = (format!("log/{length:020}.zst"), content(length, 1));
        assert_eq!(target.put(&path, &mut &bytes[..]).unwrap(), length as u64, "{path}");
        assert_eq!(target.size(&path).unwrap(), Some(length as u64), "{path}");
        assert!(target.read(&path, length).unwrap() == bytes, "{path} came back different");
        target.remove(&path).unwrap();
    }
    target.put("log/a.zst", &mut &b"first"[..]).unwrap();
    let found = target.list("log").unwrap();
    assert!(found[0].stored_ms > 1_700_000_000_000, "{found:?}");
    // A file is replaced by a shorter and by a longer one.
    for (length, seed) in [(3, 2), (9 * MEBIBYTE, 3), (0, 4)] {
        let bytes = content(length, seed);
        target.put("log/a.zst", &mut &bytes[..]).unwrap();
        assert!(target.read("log/a.zst", length).unwrap() == bytes);
    }
    assert_eq!(target.read("log/none.zst", 9).unwrap_err().code(), "target_file_missing");
    target.remove("log/a.zst").unwrap();
    target.remove("log/a.zst").unwrap();
    assert_eq!(target.size("log/a.zst").unwrap(), None);
    assert_eq!(listed(target, "log"), []);
    target.settle().unwrap();
}

fn lists_many(target: &Target, many: usize) {
    let names = ["a", "a.b", "A", "-", "_.-", "x.zst.age", "00000000000000000001-00000000000000000009"];
    let mut expected: Vec<(String, u64)> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        expected.push((format!("blobs/odd/{name}"), index as u64));
    }
    for index in 0..many {
        expected.push((format!("blobs/{:02x}/{index:08}", index % 8), (index % 3) as u64));
    }
    std::thread::scope(|scope| {
        for share in expected.chunks(expected.len().div_ceil(4)) {
            let target = target.clone();
            scope.spawn(move || {
                for (path, size) in share {
                    target.put(path, &mut &content(usize::try_from(*size).unwrap(), 5)[..]).unwrap();
                }
            });
        }
    });
    expected.sort();
    assert_eq!(listed(target, "blobs"), expected);
    assert_eq!(listed(target, "blobs/odd").len(), names.len());
    // A folder whose name only begins alike is another one.
    assert_eq!(listed(target, "blobs/od"), []);
}

fn leaves_nothing_of_a_broken_source(target: &Target) {
    let bytes = content(20 * MEBIBYTE, 6);
    for after in [0, 5, 18 * MEBIBYTE] {
        let gone = || Err(std::io::Error::other("the disk broke"));
        let error = target.put("snapshots/1/000001.zst", &mut Interrupted::new(&bytes, after, gone)).unwrap_err();
        assert!(matches!(error, TargetError::Source(_)), "{error}");
        assert_eq!(target.size("snapshots/1/000001.zst").unwrap(), None);
        assert_eq!(listed(target, "snapshots"), []);
    }
    // What was there before stays.
    target.put("snapshots/1/000001.zst", &mut &b"before"[..]).unwrap();
    let gone = || Err(std::io::Error::other("the disk broke"));
    target.put("snapshots/1/000001.zst", &mut Interrupted::new(&bytes, 18 * MEBIBYTE, gone)).unwrap_err();
    assert_eq!(target.read("snapshots/1/000001.zst", 9).unwrap(), b"before");
}

fn keeps_to_its_place(target: &Target) {
    for path in ["../x", "/x", "a//b", "a/../b", ".unfinished/x", "", "a\nb", "a b"] {
        assert_eq!(target.put(path, &mut &b"x"[..]).unwrap_err().code(), "target_bad_path", "{path:?}");
    }
    let kept = target.clone().append_only(true);
    kept.put("pins/1", &mut &b""[..]).unwrap();
    assert_eq!(kept.remove("pins/1").unwrap_err().code(), "target_append_only");
    assert_eq!(kept.size("pins/1").unwrap(), Some(0));
}

/// Nothing unfinished lies in a folder of a server.
pub(crate) fn nothing_unfinished(folder: &Path) {
    let unfinished = folder.join(".unfinished");
    if unfinished.exists() {
        let left: Vec<_> = std::fs::read_dir(unfinished).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_directory_conforms() {
    let (runtime, place) = (runtime(), tempfile::tempdir().unwrap());
    let _entered = runtime.enter();
    conforms(&Target::directory(place.path()).unwrap(), 1_200);
    nothing_unfinished(place.path());
}

#[test]
fn a_bucket_conforms_and_is_listed_beyond_a_page() {
    let (runtime, mut store) = (runtime(), Store::start());
    let _entered = runtime.enter();
    conforms(&Target::s3(&store.settings("admin")).unwrap(), 1_200);
    assert_eq!(store.unfinished_uploads(), 0);
}

#[test]
fn a_webdav_folder_conforms() {
    let (runtime, dav) = (runtime(), Dav::start());
    let _entered = runtime.enter();
    conforms(&Target::webdav(&dav.settings()).unwrap(), 150);
    nothing_unfinished(&dav.folder.path().join("shared/backups"));
}

#[test]
fn an_sftp_folder_conforms() {
    let (runtime, ssh) = (runtime(), Ssh::start());
    let _entered = runtime.enter();
    conforms(&Target::sftp(&ssh.settings()).unwrap(), 1_200);
    nothing_unfinished(&ssh.folder.path().join("backups"));
}
