//! What the numbers were measured on, and what a process used: read from the kernel.

use std::path::Path;

use serde::Serialize;

/// Clock ticks per second in `/proc/<pid>/stat`: fixed at 100 in Linux's interface to user space on this architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine a benchmark ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors this process may use.
    pub cores: usize,
    /// The processor's name.
    pub cpu_model: String,
    /// The kernel's release.
    pub kernel: String,
    /// The file system of the scratch directory; `null` when the server was not started here.
    pub scratch_fs: Option<String>,
}

impl Machine {
    /// This machine; `scratch` is where the server keeps its data.
    #[must_use]
    pub fn here(scratch: Option<&Path>) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            scratch_fs: scratch.and_then(|path| rustix::fs::statfs(path).ok()).map(|stat| fs_name(stat.f_type as u64)),
        }
    }
}

fn fs_name(magic: u64) -> String {
    match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        _ => return format!("{magic:#x}"),
    }
    .to_owned()
}

/// Seconds of processor time (user and system) that a process used so far.
#[must_use]
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    cpu_seconds_in(&stat)
}

fn cpu_seconds_in(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may hold anything; user and system time are the 14th
    // and 15th, so the 12th and 13th behind it (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// The resident memory of a process in bytes.
#[must_use]
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    rss_bytes_in(&status)
}

fn rss_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes that the files under `path` take on disk, as allocated. What cannot be read counts as nothing.
#[must_use]
pub fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| if metadata.is_dir() { allocated_bytes(&path) } else { metadata.blocks() * 512 })
        .sum()
}

/// Raises this process's limit of open files to what it may have, and gives it. Children inherit it.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194368 94 0 0 0 250 50 9 9 20 0 1 0 140084 5586944 694";
        assert_eq!(cpu_seconds_in(stat), Some(3.0));
        assert_eq!(rss_bytes_in("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t    694 kB\n"), Some(694 * 1024));
        assert!(cpu_seconds(std::process::id()).is_some());
        assert!(rss_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        let machine = Machine::here(Some(Path::new("/")));
        assert!(machine.cores > 0 && !machine.kernel.is_empty() && machine.scratch_fs.is_some());
    }

    #[test]
    fn directories_are_summed_as_allocated() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("in/a"), vec![1; 100_000]).unwrap();
        std::fs::write(dir.path().join("b"), vec![1; 10]).unwrap();
        std::fs::File::open(dir.path().join("in/a")).unwrap().sync_all().unwrap();
        let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let bytes = allocated_bytes(dir.path());
        assert!((100_000..1 << 20).contains(&bytes), "{bytes}");
    }
}
