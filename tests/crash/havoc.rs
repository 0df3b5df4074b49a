//! What may befall a data directory while no server runs on it, short of damage to the log: the server must start on it
//! as if nothing had happened. Each act says what it did.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use holdfast::bench::text::Picker;

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 104;
/// The first bytes of a segment's footer.
const FOOTER_MAGIC: &[u8] = b"HFSEALED";

/// What was done.
#[derive(Clone, Debug)]
pub(crate) struct Havoc {
    /// For people.
    pub(crate) what: String,
    /// The state's files were changed in place: the store below it may notice only when it reads them.
    pub(crate) damages_state: bool,
    /// The state is gone, with any damage in it.
    pub(crate) removes_state: bool,
}

/// Does one thing to the directory, or nothing.
pub(crate) fn wreak(data: &Path, picker: &mut Picker) -> Havoc {
    let state = data.join("state");
    let dice = picker.below(100);
    let damages_state = (50..76).contains(&dice) && state.join("db").exists();
    let what = match dice {
        0..=41 => "nothing".to_owned(),
        42..=49 => delete_state(&state),
        50..=54 => fill_with_garbage(&state, picker),
        55..=60 => truncate(&state.join("db"), picker),
        61..=68 => flip_bytes(&state.join("db"), picker),
        69..=71 => empty(&state.join("conf")),
        72..=75 => flip_bytes(&newest(&state, |name| name.starts_with("snap.")).unwrap_or(state), picker),
        76..=86 => tear_tail(&data.join("log"), picker),
        87..=91 => unfinished_snapshot(&state, picker),
        92..=93 => stale_redo(&state, picker),
        94..=96 => temporary_segment(&data.join("log"), picker),
        _ => stale_run_files(data),
    };
    Havoc { what, damages_state, removes_state: (42..=49).contains(&dice) }
}

fn bytes(picker: &mut Picker, count: usize) -> Vec<u8> {
    (0..count).map(|_| (picker.next() >> 32) as u8).collect()
}

/// The last file by name, if there is one that matches.
fn newest(dir: &Path, matches: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir).ok()?.flatten().map(|item| item.path()).collect();
    names.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&matches));
    names.sort();
    names.pop()
}

fn delete_state(state: &Path) -> String {
    if state.exists() {
        std::fs::remove_dir_all(state).expect("state/ is deleted");
    }
    "deleted state/".to_owned()
}

fn fill_with_garbage(state: &Path, picker: &mut Picker) -> String {
    std::fs::create_dir_all(state).expect("state/ is made");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(state).expect("state/ is listed").flatten().map(|i| i.path()).collect();
    names.retain(|path| path.is_file());
    for path in &names {
        std::fs::write(path, bytes(picker, 3_000)).expect("garbage is written");
    }
    format!("filled {} files of state/ with garbage", names.len())
}

fn truncate(path: &Path, picker: &mut Picker) -> String {
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return "found nothing to truncate".to_owned() };
    let length = file.metadata().expect("the file has a length").len();
    let rest = picker.below(usize::try_from(length).expect("a test is small") + 1) as u64;
    file.set_len(rest).expect("the file is cut");
    format!("cut {} from {length} to {rest} bytes", path.display())
}

fn flip_bytes(path: &Path, picker: &mut Picker) -> String {
    let Some(mut content) = std::fs::read(path).ok().filter(|content| !content.is_empty()) else {
        return "found nothing to flip".to_owned();
    };
    // Mostly where there is something: the store's file is full of zeros.
    let used = content.iter().rposition(|byte| *byte != 0).map_or(content.len(), |last| last + 1);
    let count = 1 + picker.below(40);
    for _ in 0..count {
        content[picker.below(used)] ^= 1 << picker.below(8);
    }
    std::fs::write(path, content).expect("the bytes are flipped");
    format!("flipped {count} bits of {}", path.display())
}

fn empty(path: &Path) -> String {
    if path.exists() {
        std::fs::write(path, b"").expect("the file is emptied");
    }
    format!("emptied {}", path.display())
}

/// A kill while the store opens leaves the copy of a snapshot that was not renamed yet.
fn unfinished_snapshot(state: &Path, picker: &mut Picker) -> String {
    let Some(snapshot) = newest(state, |name| name.starts_with("snap.") && !name.ends_with("generating")) else {
        return "found no snapshot of the store".to_owned();
    };
    let mut content = std::fs::read(&snapshot).expect("the snapshot is read");
    content.truncate(picker.below(content.len() + 1));
    let name = state.join(format!("snap.{:016X}.generating", picker.next() >> 40));
    std::fs::write(&name, content).expect("the copy is written");
    format!("left {}", name.display())
}

fn stale_redo(state: &Path, picker: &mut Picker) -> String {
    if state.exists() {
        for name in ["redo", "redo.new"] {
            let count = picker.below(500);
            std::fs::write(state.join(name), bytes(picker, count)).expect("the file is written");
        }
    }
    "left unfinished redo files".to_owned()
}

fn temporary_segment(log: &Path, picker: &mut Picker) -> String {
    let name = log.join(format!("{:020}.seg.tmp", 1_000_000 + picker.below(1_000)));
    let count = picker.below(5_000);
    std::fs::write(&name, bytes(picker, count)).expect("the file is written");
    format!("left {}", name.display())
}

fn stale_run_files(data: &Path) -> String {
    let run = data.join("run");
    std::fs::write(run.join("lock"), format!("{}\n", std::process::id())).expect("the lock file is written");
    drop(std::fs::remove_file(run.join("admin.sock")));
    std::fs::write(run.join("admin.sock"), b"").expect("a file is in the socket's place");
    std::fs::write(run.join("address"), b"http://127.0.0.1:1").expect("the address is written");
    "left a lock file of another process, a file in place of the admin socket, an old address".to_owned()
}

/// A segment and where its frames end.
pub(crate) struct Tail {
    pub(crate) path: PathBuf,
    /// Where each frame begins.
    pub(crate) frames: Vec<u64>,
    /// Behind the last frame.
    pub(crate) end: u64,
}

/// Walks over the frames of the last segment: each begins with its length, and zeros follow the last.
pub(crate) fn tail(log: &Path) -> Option<Tail> {
    tail_of(newest(log, |name| name.ends_with(".seg"))?)
}

/// The same for any segment that is not sealed.
pub(crate) fn tail_of(path: PathBuf) -> Option<Tail> {
    let file = File::open(&path).expect("the segment opens");
    let (mut frames, mut end) = (Vec::new(), SEGMENT_HEADER_BYTES);
    loop {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, end).ok()?;
        let length = u64::from(u32::from_le_bytes(length));
        if length == 0 {
            return Some(Tail { path, frames, end });
        }
        if length > file.metadata().expect("the segment has a length").len() {
            return None; // a write was torn right now, by the kill itself
        }
        frames.push(end);
        end += length;
    }
}

/// Emulates a write that did not finish: nothing of it was acknowledged. Whole records are never taken away.
fn tear_tail(log: &Path, picker: &mut Picker) -> String {
    let Some(Tail { path, frames, end }) = tail(log) else { return "found a torn tail already".to_owned() };
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("the segment opens");
    let kind = picker.below(4);
    let torn = match kind {
        // The start of a frame, the rest of it never reached the disk.
        0 if !frames.is_empty() => {
            let start = frames[picker.below(frames.len())];
            let mut length = [0; 4];
            file.read_exact_at(&mut length, start).expect("the frame is read");
            let whole = u32::from_le_bytes(length) as usize;
            let mut frame = vec![0; 1 + picker.below(whole - 1)];
            file.read_exact_at(&mut frame, start).expect("the frame is read");
            frame
        }
        // The far end of a write came first.
        1 => [vec![0; picker.below(5_000)], bytes(picker, 200)].concat(),
        // It stopped while it sealed the segment.
        2 => [FOOTER_MAGIC, &bytes(picker, 60)[..]].concat(),
        _ => {
            let count = 1 + picker.below(3_000);
            bytes(picker, count)
        }
    };
    file.write_all_at(&torn, end).expect("the tail is written");
    format!("tore the tail of {} at {end} ({} bytes, kind {kind})", path.display(), torn.len())
}
