//! Damage to the log itself. It holds what was acknowledged, so nothing may be guessed: it is found, named, and a
//! server that would need what is damaged refuses to start, says what to do, and changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::core::entry::Entry;
use holdfast::oplog::{LogOptions, LogWriter};
use holdfast::ops::datadir;
use serde_json::Value;

use crate::check::Extent;
use crate::havoc::SEGMENT_HEADER_BYTES;
use crate::process::{Server, holdfast, said};
use crate::world::{Load, World, on_one_thread};

/// Segments of this size instead of 64 MiB: some of them are sealed after a few hundred messages.
const SEGMENT_BYTES: u64 = 16 << 10;
/// Entries of one append when the log is written again.
const APPEND_ENTRIES: usize = 16;

/// A frame, as the format puts it on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    offset: u64,
    length: u64,
    first_index: u64,
}

/// The frames of a segment, sealed or not: what follows them, zeros or a footer, has no possible length.
fn frames(path: &Path) -> Vec<Frame> {
    let content = std::fs::read(path).expect("the segment is read");
    let number = |at: u64, bytes: usize| {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(&content[at as usize..at as usize + bytes]);
        u64::from_le_bytes(wide)
    };
    let (mut frames, mut offset) = (Vec::new(), SEGMENT_HEADER_BYTES);
    while offset + 16 <= content.len() as u64 {
        let length = number(offset, 4);
        if length == 0 || offset + length > content.len() as u64 {
            break;
        }
        frames.push(Frame { offset, length, first_index: number(offset + 8, 8) });
        offset += length;
    }
    frames
}

fn segments(log: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(log).expect("log/ is listed").flatten().map(|i| i.path()).collect();
    paths.sort();
    paths
}

/// Writes the same entries again in small segments.
fn cut_into_small_segments(data: &Path) {
    let cluster = datadir::read_identity(data).expect("node.toml").cluster_id_bytes().expect("a cluster id");
    let (old, new) = (data.join("log"), data.join("log.new"));
    let (from, _) = LogWriter::open(LogOptions::new(old.clone(), cluster)).expect("the log opens");
    let options = LogOptions { dir: new.clone(), cluster, segment_bytes: SEGMENT_BYTES };
    let (mut to, _) = LogWriter::open(options).expect("a new log");
    let entries: Result<Vec<Entry>, _> = from.reader().read_from(1).expect("the first entry").collect();
    for some in entries.expect("the log is whole").chunks(APPEND_ENTRIES) {
        to.append(some).expect("the entries are appended");
    }
    assert_eq!(from.position(), to.position(), "the same entries, the same chain");
    drop((from, to));
    std::fs::remove_dir_all(&old).expect("the old log goes");
    std::fs::rename(&new, &old).expect("the new one takes its place");
}

/// All files but those of the running process and its log files.
fn contents(dir: &Path, without: &[&str]) -> BTreeMap<PathBuf, String> {
    let (mut files, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for item in std::fs::read_dir(&next).expect("a directory is listed").flatten() {
            let path = item.path();
            let name = path.strip_prefix(dir).expect("it is inside").to_owned();
            if without.iter().any(|without| name.starts_with(without)) {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else {
                let hash = blake3::hash(&std::fs::read(&path).expect("a file is read")).to_hex().to_string();
                files.insert(name, hash);
            }
        }
    }
    files
}

/// An organisation with some history, stopped, its log in small segments.
async fn stopped_world() -> World {
    let (world, server, endpoint) = World::new().await;
    let crew = world.put_to_work(&endpoint, Load { gap: Duration::ZERO, quota: 120, seed: 7 });
    let deadline = Instant::now() + Duration::from_secs(60);
    while world.oracle.borrow().messages.iter().filter(|message| message.acknowledged).count() < 500 {
        assert!(Instant::now() < deadline, "the messages are not acknowledged");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.terminate().await;
    crew.join().await;
    cut_into_small_segments(&world.data());
    // Once on the new files, so that the last segment has its reservation; and it is the same to the server.
    let (server, endpoint) = Server::start(world.scratch()).await;
    world.check(&endpoint, Extent::All).await.expect("the server answers");
    server.terminate().await;
    world.verify_log_by_command();
    world
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the segment opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the byte is read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("the byte is flipped");
}

/// `log verify` must find exactly this one place, in both of its forms.
fn assert_found(data: &Path, path: &Path, frame: Frame) {
    let plain = holdfast(data, &["log", "verify"]);
    assert_eq!(plain.status.code(), Some(1), "{}", said(&plain));
    let place = format!("{} at byte {}, index {}", path.display(), frame.offset, frame.first_index);
    assert!(said(&plain).contains(&place), "{place} is not in:\n{}", said(&plain));
    let report = holdfast(data, &["log", "verify", "--json"]);
    assert_eq!(report.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["clean"], false);
    let findings = report["findings"].as_array().expect("findings");
    let here = findings.iter().find(|finding| finding["offset"] == frame.offset).expect("the damaged place");
    assert_eq!(here["segment"], path.to_str().expect("a path in UTF-8"));
    assert_eq!(here["index"], frame.first_index);
}

/// The server must not start; it names the place and what to do.
async fn assert_refused(world: &World, path: &Path, frame: Frame) {
    let mut server = Server::spawn(world.scratch());
    let not_ready = server.ready().await.err().expect("it must not start on a damaged log");
    let output = not_ready.output;
    assert_eq!(not_ready.status.and_then(|status| status.code()), Some(1), "{output}");
    let place = format!("{} at byte {}, index {}", path.display(), frame.offset, frame.first_index);
    for words in [place.as_str(), "the operation log is damaged", "holdfast log verify", "holdfast restore"] {
        assert!(output.contains(words), "{words:?} is not in:\n{output}");
    }
}

#[test]
fn a_flipped_byte_in_a_sealed_segment_is_named_and_stops_a_rebuild() {
    on_one_thread(async {
        let world = stopped_world().await;
        let (data, all) = (world.data(), segments(&world.data().join("log")));
        assert!(all.len() > 3, "only {} segments", all.len());
        let path = &all[1];
        let frame = frames(path)[1];
        flip(path, frame.offset + frame.length - 3);
        assert_found(&data, path, frame);

        // What is damaged is in the state already: the server works, and nothing is lost yet.
        let (server, endpoint) = Server::start(world.scratch()).await;
        world.check(&endpoint, Extent::All).await.expect("the server answers");
        server.terminate().await;

        std::fs::remove_dir_all(data.join("state")).expect("state/ is deleted");
        let before = contents(&data, &["run", "logs", "state"]);
        for _ in 0..2 {
            assert_refused(&world, path, frame).await;
            assert_eq!(contents(&data, &["run", "logs", "state"]), before, "a refusal changes nothing");
        }

        flip(path, frame.offset + frame.length - 3);
        world.verify_log_by_command();
        let (server, endpoint) = Server::start(world.scratch()).await;
        world.check(&endpoint, Extent::All).await.expect("with the byte as it was, everything is there");
        server.terminate().await;
    });
}

#[test]
fn a_flipped_byte_in_the_segment_being_written_refuses_to_start() {
    on_one_thread(async {
        let world = stopped_world().await;
        let data = world.data();
        // Starts and stops add writes of their own behind it: what is damaged is not the last write.
        let path = segments(&data.join("log")).pop().expect("a segment");
        let all = frames(&path);
        assert!(all.len() >= 2, "{all:?}");
        let frame = all[all.len() - 2];
        for at in [2, 5, 60] {
            flip(&path, frame.offset + at.min(frame.length - 1));
            let before = contents(&data, &["run", "logs"]);
            assert_found(&data, &path, frame);
            assert_refused(&world, &path, frame).await;
            assert_eq!(contents(&data, &["run", "logs"]), before, "a refusal changes nothing");
            flip(&path, frame.offset + at.min(frame.length - 1));
        }
        let (server, endpoint) = Server::start(world.scratch()).await;
        world.check(&endpoint, Extent::All).await.expect("with the bytes as they were, everything is there");
        server.terminate().await;
    });
}
