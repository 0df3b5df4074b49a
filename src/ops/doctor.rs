//! `holdfast doctor`: looks at what makes a server fail later, and says in one sentence what to do about each.
//! Must never change anything but one small file that it writes to measure the disk and removes again.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::datadir::{DataDirError, loose_modes, read_identity};
use super::disk::{DiskReserve, DiskWatch};
use super::durable_file::create_private_file;
use super::limits::open_files;
use super::lockfile;
use crate::limits::{
    DOCTOR_CERTIFICATE_WARN_DAYS, DOCTOR_FSYNC_BYTES, DOCTOR_FSYNC_FAIL_MS, DOCTOR_FSYNC_ROUNDS, DOCTOR_FSYNC_WARN_MS,
    OPEN_FILES_WANTED,
};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// It works, and will not for ever or not under load.
    Warn,
    /// The server will not start or will lose its promise.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its stable name: `disk_free`.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, one sentence; empty when all is well.
    pub advice: String,
}

/// All checks, and the worst verdict among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the checks.
    pub verdict: Verdict,
    /// The checks in a fixed order.
    pub checks: Vec<Check>,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// The data directory.
    pub data: PathBuf,
    /// Where the server would listen.
    pub listen: SocketAddr,
    /// Free space that is kept.
    pub reserve: DiskReserve,
    /// Whether certificates matter.
    pub tls: bool,
    /// The wall clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The file with the private key for drills, if one is configured.
    pub drill_key: Option<PathBuf>,
    /// What was odd about the configuration: [`Loaded::warnings`](crate::config::Loaded::warnings).
    pub config_warnings: Vec<String>,
    /// The newest time in the log, if somebody read it: a clock behind it would stop new ids.
    pub log_time_ms: Option<u64>,
}

/// Runs every check. Takes a second at most on a healthy machine.
pub fn examine(options: &DoctorOptions) -> Report {
    let lock = lockfile::holder(&options.data);
    let running = matches!(lock, Ok(Some(_)));
    let mut checks = vec![
        check_configuration(&options.config_warnings),
        check_data_dir(&options.data),
        check_permissions(&options.data),
        check_clock(options.now_ms, options.log_time_ms),
        check_disk(options),
        check_fsync(&options.data),
        check_open_files(),
        check_lock(lock),
        check_port(options.listen, running),
    ];
    if let Some(key) = &options.drill_key {
        checks.push(check_drill_key(key));
    }
    if options.tls {
        checks.push(check_certificate(&options.data, options.now_ms));
    }
    Report::of(checks)
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
        Self { verdict, checks }
    }

    /// The same with what others found.
    #[must_use]
    pub fn with(mut self, more: Vec<Check>) -> Self {
        self.checks.extend(more);
        Self::of(self.checks)
    }
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    /// It works, and will not for ever.
    #[must_use]
    pub fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), advice: advice.into() }
    }

    /// It does not work.
    #[must_use]
    pub fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), advice: advice.into() }
    }
}

fn check_configuration(warnings: &[String]) -> Check {
    const NAME: &str = "configuration";
    if warnings.is_empty() {
        return Check::ok(NAME, "understood");
    }
    Check::warn(NAME, warnings.join("; "), "Correct the name, or ignore this if another program sets the variable.")
}

fn check_data_dir(data: &Path) -> Check {
    const NAME: &str = "data_directory";
    let shown = data.display();
    if !data.is_dir() {
        return Check::fail(
            NAME,
            format!("{shown} is not there"),
            format!("Make it with: holdfast init --data {shown}"),
        );
    }
    match read_identity(data) {
        Ok(identity) => Check::ok(NAME, format!("{shown}, node {} of cluster {}", identity.node, identity.cluster_id)),
        Err(DataDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Check::fail(
            NAME,
            format!("{shown} has no node.toml"),
            format!("Make one with: holdfast init --data {shown}"),
        ),
        Err(error) => Check::fail(NAME, error.to_string(), "See the sentence before; nothing was changed."),
    }
}

fn check_permissions(data: &Path) -> Check {
    const NAME: &str = "permissions";
    let Ok(metadata) = fs::metadata(data) else { return Check::ok(NAME, "no data directory yet") };
    let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != us && us != 0 {
        let advice = format!("Run holdfast as user {owner}, or give the directory to user {us} with chown -R.");
        return Check::fail(NAME, format!("the directory belongs to user {owner}, this is user {us}"), advice);
    }
    match loose_modes(data) {
        Ok(loose) if loose.is_empty() => Check::ok(NAME, format!("owned by user {owner}, closed to others")),
        Ok(loose) => {
            let list: Vec<String> = loose.iter().map(|(path, mode)| format!("{} ({mode:o})", path.display())).collect();
            let advice = format!("Close them with: chmod -R go= {}", data.display());
            Check::warn(NAME, format!("open to other users: {}", list.join(", ")), advice)
        }
        Err(error) => {
            Check::fail(NAME, format!("modes cannot be read: {error}"), "Check the owner of the data directory.")
        }
    }
}

/// Whoever has the key can read all backups.
fn check_drill_key(key: &Path) -> Check {
    const NAME: &str = "drill_key";
    let shown = key.display();
    let mode = match super::durable_file::mode_of(key) {
        Ok(mode) => mode,
        Err(error) => {
            let advice =
                format!("Put the private key into {shown}, or take backup.drill_key out of the configuration.");
            return Check::fail(NAME, format!("{shown} cannot be read: {error}"), advice);
        }
    };
    if mode & 0o077 != 0 {
        return Check::fail(
            NAME,
            format!("{shown} is open to other users ({mode:o})"),
            format!("Close it with: chmod 600 {shown}"),
        );
    }
    match crate::backup::crypt::read_identities(key) {
        Ok(keys) => Check::ok(NAME, format!("{shown}, {} keys, closed to others", keys.len())),
        Err(error) => Check::fail(NAME, error.to_string(), "Make one with: holdfast backup keygen --out FILE"),
    }
}

fn check_clock(now_ms: u64, log_time_ms: Option<u64>) -> Check {
    const NAME: &str = "clock";
    /// 2026-01-01: this program did not exist before. 2100-01-01: nor will certificates of today be valid then.
    const SANE_MS: std::ops::Range<u64> = 1_767_225_600_000..4_102_444_800_000;
    let seconds = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let shown = jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{now_ms} ms"), |time| time.to_string());
    if !SANE_MS.contains(&now_ms) {
        return Check::fail(NAME, format!("the clock says {shown}"), "Set the clock, and keep it with NTP or chrony.");
    }
    match log_time_ms.map(|log| log.saturating_sub(now_ms)) {
        Some(ahead) if ahead > 60_000 => Check::fail(
            NAME,
            format!("the log is {} s ahead of the clock ({shown})", ahead / 1000),
            "Set the clock; until it passes the log's time, new messages carry the log's time.",
        ),
        Some(ahead) if ahead > 1_000 => {
            Check::warn(NAME, format!("the log is {ahead} ms ahead of the clock"), "Keep the clock with NTP or chrony.")
        }
        _ => Check::ok(NAME, shown),
    }
}

fn check_disk(options: &DoctorOptions) -> Check {
    const NAME: &str = "disk_free";
    const MIB: u64 = 1024 * 1024;
    match DiskWatch::new(nearest_existing(&options.data), options.reserve).check() {
        Ok(state) => {
            let found = format!("{} MiB free, {} MiB kept free", state.free_bytes / MIB, state.reserve_bytes / MIB);
            if !state.accepting {
                Check::fail(NAME, found, "Make room: below the reserve no message is accepted.")
            } else if state.free_bytes < state.reserve_bytes.saturating_mul(4) {
                Check::warn(NAME, found, "Plan for more room: messages stop when the reserve is reached.")
            } else {
                Check::ok(NAME, found)
            }
        }
        Err(error) => Check::fail(NAME, format!("cannot be read: {error}"), "Check that the disk is mounted."),
    }
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("."))
}

/// Writes and syncs a small file several times and judges the median, on the disk that would hold the log.
fn check_fsync(data: &Path) -> Check {
    const NAME: &str = "fsync";
    let dir = if data.join("run").is_dir() { data.join("run") } else { nearest_existing(data).to_owned() };
    let path = dir.join(format!(".doctor-{}.tmp", std::process::id()));
    let measured = measure_fsync(&path);
    let removed = fs::remove_file(&path);
    match (measured, removed) {
        (Ok(median_us), _) => {
            let found =
                format!("{}.{:03} ms for a {DOCTOR_FSYNC_BYTES}-byte write", median_us / 1000, median_us % 1000);
            if median_us >= DOCTOR_FSYNC_FAIL_MS * 1000 {
                Check::fail(NAME, found, "This disk is too slow for a durable log; use a local SSD.")
            } else if median_us >= DOCTOR_FSYNC_WARN_MS * 1000 {
                Check::warn(NAME, found, "Every send waits for this; a local SSD answers in under 5 ms.")
            } else {
                Check::ok(NAME, found)
            }
        }
        (Err(error), _) => Check::fail(
            NAME,
            format!("{} cannot be written: {error}", dir.display()),
            "Check owner, mount options and free space.",
        ),
    }
}

fn measure_fsync(path: &Path) -> io::Result<u64> {
    let mut file = create_private_file(path)?;
    let block = [0x5a_u8; DOCTOR_FSYNC_BYTES];
    let mut took_us = Vec::with_capacity(DOCTOR_FSYNC_ROUNDS);
    for _ in 0..DOCTOR_FSYNC_ROUNDS {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        took_us.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    took_us.sort_unstable();
    Ok(took_us[DOCTOR_FSYNC_ROUNDS / 2])
}

fn check_open_files() -> Check {
    const NAME: &str = "open_files";
    // The server raises its soft limit itself; only the hard one needs the administrator.
    match open_files().hard {
        Some(hard) if hard < OPEN_FILES_WANTED => Check::warn(
            NAME,
            format!("at most {hard} open files, so about as many connections"),
            format!("Allow {OPEN_FILES_WANTED}: LimitNOFILE= of the service, or ulimit -Hn."),
        ),
        Some(hard) => Check::ok(NAME, format!("up to {hard}")),
        None => Check::ok(NAME, "unlimited"),
    }
}

fn check_lock(holder: Result<Option<Option<u32>>, lockfile::LockError>) -> Check {
    const NAME: &str = "lock";
    match holder {
        Ok(None) => Check::ok(NAME, "no server is running on this data directory"),
        Ok(Some(Some(pid))) => Check::ok(NAME, format!("a server is running: process {pid}")),
        Ok(Some(None)) => Check::warn(NAME, "locked by an unknown process", "Find it with: fuser <data>/run/lock"),
        Err(error) => Check::fail(NAME, error.to_string(), "Check the owner of the data directory."),
    }
}

fn check_port(listen: SocketAddr, running: bool) -> Check {
    const NAME: &str = "port";
    match TcpListener::bind(listen) {
        Ok(_) if running => Check::warn(
            NAME,
            format!("{listen} is free though a server is running"),
            "It listens elsewhere: look at its configuration.",
        ),
        Ok(_) => Check::ok(NAME, format!("{listen} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
            Check::ok(NAME, format!("{listen} is served"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Check::fail(
            NAME,
            format!("{listen} is taken"),
            "Another program listens there: stop it, or choose another --listen.",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Check::fail(
            NAME,
            format!("{listen} is not allowed: {error}"),
            "Ports below 1024 need CAP_NET_BIND_SERVICE: AmbientCapabilities= of the service, or choose 8443.",
        ),
        Err(error) => {
            Check::fail(NAME, format!("{listen} cannot be used: {error}"), "Choose an address of this machine.")
        }
    }
}

fn check_certificate(data: &Path, now_ms: u64) -> Check {
    const NAME: &str = "certificate";
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    match crate::tls::read_served(&data.join("tls")) {
        Ok(None) => Check::ok(NAME, "none yet: it is made at the first start"),
        Ok(Some(info)) => {
            let days = info.days_left(now);
            let found = format!("{}, valid until {}", info.subject, info.not_after);
            let advice = if info.own_ca {
                "Restart the server or wait a day: it issues a new one by itself."
            } else {
                "Upload a new certificate in the console."
            };
            match days {
                ..0 => Check::fail(NAME, format!("{found}: expired"), advice),
                0..DOCTOR_CERTIFICATE_WARN_DAYS => Check::warn(NAME, format!("{found}: {days} days left"), advice),
                _ => Check::ok(NAME, found),
            }
        }
        Err(error) => {
            Check::fail(NAME, error.to_string(), "Upload it again, or remove the file to use the own certificate.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::datadir::DataDir;
    use super::super::lockfile::DataLock;
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;

    fn options(data: &Path) -> DoctorOptions {
        DoctorOptions {
            data: data.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            reserve: DiskReserve { bytes: 0, percent: 0 },
            tls: true,
            now_ms: NOW_MS,
            drill_key: None,
            config_warnings: Vec::new(),
            log_time_ms: None,
        }
    }

    fn of(report: &Report, name: &str) -> Check {
        report.checks.iter().find(|check| check.name == name).unwrap().clone()
    }

    #[test]
    fn a_fresh_directory_is_healthy_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        DataDir::open_or_create(&data).unwrap();
        let report = examine(&options(&data));
        for name in ["data_directory", "permissions", "clock", "disk_free", "lock", "port", "certificate"] {
            assert_eq!(of(&report, name).verdict, Verdict::Ok, "{report:?}");
        }
        assert!(of(&report, "fsync").found.contains("ms for a 4096-byte write"), "{report:?}");
        assert_eq!(fs::read_dir(data.join("run")).unwrap().count(), 0, "the measuring file is gone");
        assert!(
            report.checks.iter().all(|check| check.advice.is_empty() == (check.verdict == Verdict::Ok)),
            "{report:?}"
        );
    }

    #[test]
    fn a_missing_directory_fails_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("none");
        let report = examine(&options(&data));
        assert_eq!(report.verdict, Verdict::Fail);
        assert!(of(&report, "data_directory").advice.contains("holdfast init"));
        assert!(!data.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn clock_disk_and_lock_are_judged() {
        assert_eq!(check_clock(86_400_000, None).verdict, Verdict::Fail);
        assert_eq!(check_clock(NOW_MS, Some(NOW_MS + 3_600_000)).verdict, Verdict::Fail);
        assert_eq!(check_clock(NOW_MS, Some(NOW_MS + 5_000)).verdict, Verdict::Warn);
        assert_eq!(check_clock(NOW_MS, Some(NOW_MS - 5_000)).verdict, Verdict::Ok);

        let dir = tempfile::tempdir().unwrap();
        DataDir::open_or_create(dir.path()).unwrap();
        let full = DoctorOptions { reserve: DiskReserve { bytes: u64::MAX, percent: 0 }, ..options(dir.path()) };
        assert_eq!(of(&examine(&full), "disk_free").verdict, Verdict::Fail);
        let _lock = DataLock::acquire(dir.path()).unwrap();
        let report = examine(&options(dir.path()));
        assert!(of(&report, "lock").found.contains(&std::process::id().to_string()));
    }

    #[test]
    fn a_drill_key_must_be_a_key_and_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.txt");
        assert_eq!(check_drill_key(&path).verdict, Verdict::Fail, "it is not there");
        crate::backup::crypt::Identity::generate().write_new(&path, "2026-11-21T12:00:00Z").unwrap();
        assert_eq!(check_drill_key(&path).verdict, Verdict::Ok);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = check_drill_key(&path);
        assert!(open.verdict == Verdict::Fail && open.advice.contains("chmod 600"), "{open:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(check_drill_key(&path).verdict, Verdict::Fail);
    }

    #[test]
    fn a_taken_port_fails_unless_the_server_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(check_port(address, false).verdict, Verdict::Fail);
        assert_eq!(check_port(address, true).verdict, Verdict::Ok);
        drop(listener);
        assert_eq!(check_port(SocketAddr::from(([203, 0, 113, 1], 8443)), false).verdict, Verdict::Fail);
    }

    #[test]
    fn an_ending_certificate_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let now = i64::try_from(NOW_MS / 1000).unwrap();
        crate::tls::ServerTls::open(crate::tls::TlsOptions { dir: dir.path().join("tls"), names: Vec::new() }, now)
            .unwrap();
        let after_days = |days: u64| check_certificate(dir.path(), NOW_MS + days * 86_400_000).verdict;
        assert_eq!(after_days(0), Verdict::Ok);
        assert_eq!(after_days(720), Verdict::Warn);
        assert_eq!(after_days(728), Verdict::Fail);
        fs::write(dir.path().join("tls/node.pem"), "damaged").unwrap();
        assert_eq!(after_days(0), Verdict::Fail);
    }

    #[test]
    fn open_modes_are_a_warning_with_the_command() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        DataDir::open_or_create(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        let check = check_permissions(&data);
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.advice.starts_with("Close them with: chmod"), "{check:?}");
    }
}
