//! Every metric of the program: its name, unit and meaning in one table, the recorder, and the text for `/metrics`.
//! Must never open a listener of its own, nor carry user names, message text or addresses in a label.

use std::fmt;
use std::fs;

use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds of one log fsync (histogram).
pub const LOG_FSYNC_SECONDS: &str = "holdfast_log_fsync_seconds";
/// Entries in one commit batch (histogram).
pub const COMMIT_BATCH_ENTRIES: &str = "holdfast_commit_batch_entries";
/// Commands waiting for the log writer (gauge).
pub const PROPOSAL_QUEUE_DEPTH: &str = "holdfast_proposal_queue_depth";
/// Commands refused because the queue was full (counter).
pub const PROPOSALS_BUSY_TOTAL: &str = "holdfast_proposals_busy_total";
/// Seconds since the last checkpoint (gauge).
pub const CHECKPOINT_AGE_SECONDS: &str = "holdfast_checkpoint_age_seconds";
/// Seconds that the last checkpoint took (gauge).
pub const CHECKPOINT_DURATION_SECONDS: &str = "holdfast_checkpoint_duration_seconds";
/// Index of the last entry applied to the state (gauge).
pub const APPLIED_INDEX: &str = "holdfast_applied_index";
/// Index of the last entry that is durable in the log (gauge).
pub const DURABLE_INDEX: &str = "holdfast_durable_index";
/// Bytes of the operation log on disk (gauge).
pub const LOG_BYTES: &str = "holdfast_log_bytes";
/// Open realtime sessions (gauge).
pub const SESSIONS: &str = "holdfast_sessions";
/// Events handed to sessions (counter).
pub const DELIVERIES_TOTAL: &str = "holdfast_deliveries_total";
/// Sessions ended because they read too slowly (counter).
pub const SLOW_SESSIONS_TOTAL: &str = "holdfast_slow_sessions_total";
/// State hashes that differ from the recorded ones (counter); anything but 0 is an alarm.
pub const STATE_MISMATCHES_TOTAL: &str = "holdfast_state_mismatches_total";
/// 1 on the active node, 0 on a standby (gauge).
pub const ACTIVE: &str = "holdfast_active";
/// Number of the highest epoch that the node has seen (gauge).
pub const EPOCH: &str = "holdfast_epoch";
/// 1 while every acknowledged record is on both data nodes (gauge); 0 also on a node that is alone.
pub const PAIR_PROTECTED: &str = "holdfast_pair_protected";
/// Records that the standby is behind (gauge).
pub const REPLICATION_LAG_RECORDS: &str = "holdfast_replication_lag_records";
/// HTTP requests by route, method and status (counter).
pub const HTTP_REQUESTS_TOTAL: &str = "holdfast_http_requests_total";
/// Requests that were answered `not_active`, because the other node is the active one (counter).
pub const NOT_ACTIVE_TOTAL: &str = "holdfast_not_active_total";
/// Seconds of an HTTP request by route (histogram).
pub const HTTP_REQUEST_SECONDS: &str = "holdfast_http_request_seconds";
/// Failed logins by reason (counter).
pub const LOGIN_FAILURES_TOTAL: &str = "holdfast_login_failures_total";
/// Free bytes on the data disk (gauge).
pub const DISK_FREE_BYTES: &str = "holdfast_disk_free_bytes";
/// 1 while writes are accepted (gauge).
pub const DISK_ACCEPTING: &str = "holdfast_disk_accepting";
/// Backup jobs at work (gauge).
pub const BACKUP_JOBS_RUNNING: &str = "holdfast_backup_jobs_running";
/// Backup jobs that failed (counter).
pub const BACKUP_FAILURES_TOTAL: &str = "holdfast_backup_failures_total";
/// Things that are wrong with the backups (gauge); anything but 0 needs somebody.
pub const BACKUP_ALARMS: &str = "holdfast_backup_alarms";
/// When the newest backup was finished on the target where that is longest ago, in Unix seconds (gauge).
pub const BACKUP_NEWEST_SECONDS: &str = "holdfast_backup_newest_timestamp_seconds";
/// Resident memory of the process (gauge).
pub const PROCESS_RESIDENT_BYTES: &str = "process_resident_memory_bytes";
/// CPU seconds used by the process (gauge, it only grows).
pub const PROCESS_CPU_SECONDS: &str = "process_cpu_seconds_total";
/// Open file descriptors of the process (gauge).
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";

/// Bounds in seconds of what should take micro- to milliseconds: fsync, requests.
const LATENCY_BUCKETS_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// The unit of the times in `/proc/<pid>/stat`: USER_HZ, which the Linux ABI fixes at 100.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// Bounds in entries of a commit batch.
const BATCH_BUCKETS_ENTRIES: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind, unit, help }
}

/// The table. A metric that is not here does not exist.
const METRICS: [Metric; 30] = [
    metric(LOG_FSYNC_SECONDS, Kind::Histogram(&LATENCY_BUCKETS_SECONDS), Unit::Seconds, "Time of one log fsync."),
    metric(COMMIT_BATCH_ENTRIES, Kind::Histogram(&BATCH_BUCKETS_ENTRIES), Unit::Count, "Entries in one commit batch."),
    metric(PROPOSAL_QUEUE_DEPTH, Kind::Gauge, Unit::Count, "Commands waiting for the log writer."),
    metric(PROPOSALS_BUSY_TOTAL, Kind::Counter, Unit::Count, "Commands refused because the queue was full."),
    metric(CHECKPOINT_AGE_SECONDS, Kind::Gauge, Unit::Seconds, "Time since the last checkpoint."),
    metric(CHECKPOINT_DURATION_SECONDS, Kind::Gauge, Unit::Seconds, "Time that the last checkpoint took."),
    metric(APPLIED_INDEX, Kind::Gauge, Unit::Count, "Index of the last entry applied to the state."),
    metric(DURABLE_INDEX, Kind::Gauge, Unit::Count, "Index of the last entry durable in the log."),
    metric(LOG_BYTES, Kind::Gauge, Unit::Bytes, "Size of the operation log on disk."),
    metric(SESSIONS, Kind::Gauge, Unit::Count, "Open realtime sessions."),
    metric(DELIVERIES_TOTAL, Kind::Counter, Unit::Count, "Events handed to sessions."),
    metric(SLOW_SESSIONS_TOTAL, Kind::Counter, Unit::Count, "Sessions ended because they read too slowly."),
    metric(STATE_MISMATCHES_TOTAL, Kind::Counter, Unit::Count, "State hashes unlike the recorded ones: an alarm."),
    metric(ACTIVE, Kind::Gauge, Unit::Count, "1 on the active node, 0 on a standby."),
    metric(EPOCH, Kind::Gauge, Unit::Count, "Number of the highest epoch seen."),
    metric(PAIR_PROTECTED, Kind::Gauge, Unit::Count, "1 while both data nodes have every acknowledged record."),
    metric(REPLICATION_LAG_RECORDS, Kind::Gauge, Unit::Count, "Records that the standby is behind."),
    metric(HTTP_REQUESTS_TOTAL, Kind::Counter, Unit::Count, "HTTP requests by route, method and status."),
    metric(NOT_ACTIVE_TOTAL, Kind::Counter, Unit::Count, "Requests answered not_active: the other node is active."),
    metric(HTTP_REQUEST_SECONDS, Kind::Histogram(&LATENCY_BUCKETS_SECONDS), Unit::Seconds, "Time of an HTTP request."),
    metric(LOGIN_FAILURES_TOTAL, Kind::Counter, Unit::Count, "Failed logins by reason."),
    metric(BACKUP_JOBS_RUNNING, Kind::Gauge, Unit::Count, "Backup jobs at work."),
    metric(BACKUP_FAILURES_TOTAL, Kind::Counter, Unit::Count, "Backup jobs that failed."),
    metric(BACKUP_ALARMS, Kind::Gauge, Unit::Count, "Things that are wrong with the backups."),
    metric(
        BACKUP_NEWEST_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "When the worst target got its newest backup, Unix time.",
    ),
    metric(DISK_FREE_BYTES, Kind::Gauge, Unit::Bytes, "Free space on the data disk."),
    metric(DISK_ACCEPTING, Kind::Gauge, Unit::Count, "1 while there is room and writes are accepted, else 0."),
    metric(PROCESS_RESIDENT_BYTES, Kind::Gauge, Unit::Bytes, "Resident memory of the process."),
    metric(PROCESS_CPU_SECONDS, Kind::Gauge, Unit::Seconds, "CPU time used by the process."),
    metric(PROCESS_OPEN_FDS, Kind::Gauge, Unit::Count, "Open file descriptors of the process."),
];

/// Why the recorder was not set up.
#[derive(Debug)]
pub struct MetricsError(String);

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics could not be set up: {}", self.0)
    }
}

impl std::error::Error for MetricsError {}

/// Renders what was recorded. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder of this process, once, and describes every metric.
    pub fn install() -> Result<Metrics, MetricsError> {
        let recorder = builder()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| MetricsError(error.to_string()))?;
        describe_all();
        Ok(Metrics { handle })
    }

    /// The Prometheus text. Reads the process's own figures from `/proc` at this moment.
    pub fn render(&self) -> String {
        record_process();
        self.handle.render()
    }

    /// Folds waiting histogram samples into their buckets. Call every few seconds, or samples pile up between scrapes.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Counts one HTTP request. `route` is the matched pattern (`/api/v1/channels/{id}`), never the path itself.
pub fn http_request(route: &str, method: &str, status: u16, seconds: f64) {
    let labels = [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
    counter!(HTTP_REQUESTS_TOTAL, &labels).increment(1);
    histogram!(HTTP_REQUEST_SECONDS, "route" => route.to_owned()).record(seconds);
}

/// Counts a request that has to go to the other node.
pub fn not_active() {
    counter!(NOT_ACTIVE_TOTAL).increment(1);
}

/// Records one group commit: its entries and how long its fsync took.
pub fn record_commit(entries: usize, fsync: std::time::Duration) {
    histogram!(COMMIT_BATCH_ENTRIES).record(entries as f64);
    histogram!(LOG_FSYNC_SECONDS).record(fsync.as_secs_f64());
}

/// Counts one failed login. `reason` is a stable code such as `bad_credentials` or `rate_limited`.
pub fn login_failure(reason: &'static str) {
    counter!(LOGIN_FAILURES_TOTAL, "reason" => reason).increment(1);
}

fn builder() -> Result<PrometheusBuilder, MetricsError> {
    METRICS.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(buckets) => builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
            .map_err(|error| MetricsError(error.to_string())),
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

fn describe_all() {
    for metric in &METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// What `/proc/self` says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// CPU time in user and system mode, in seconds.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// Reads the process's own figures; what cannot be read (no `/proc`) is zero.
pub fn process_figures() -> ProcessFigures {
    let resident_kib =
        fs::read_to_string("/proc/self/status").ok().and_then(|text| parse_resident_kib(&text)).unwrap_or(0);
    let cpu_ticks = fs::read_to_string("/proc/self/stat").ok().and_then(|text| parse_cpu_ticks(&text)).unwrap_or(0);
    ProcessFigures {
        resident_bytes: resident_kib * 1024,
        cpu_seconds: cpu_ticks as f64 / CLOCK_TICKS_PER_SECOND,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
    }
}

/// `VmRSS` of `/proc/<pid>/status`, in KiB (proc(5)).
fn parse_resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// utime + stime of `/proc/<pid>/stat` (proc(5): fields 14 and 15). The name in field 2 may hold blanks and brackets.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn record_process() {
    let figures = process_figures();
    gauge!(PROCESS_RESIDENT_BYTES).set(figures.resident_bytes as f64);
    gauge!(PROCESS_CPU_SECONDS).set(figures.cpu_seconds);
    gauge!(PROCESS_OPEN_FDS).set(figures.open_fds as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered_with_its_help() {
        let recorder = builder().unwrap().build_recorder();
        let metrics = Metrics { handle: recorder.handle() };
        let text = metrics::with_local_recorder(&recorder, || {
            describe_all();
            histogram!(LOG_FSYNC_SECONDS).record(0.003);
            http_request("/api/v1/channels/{id}", "GET", 404, 0.02);
            login_failure("bad_credentials");
            gauge!(APPLIED_INDEX).set(17.0);
            metrics.run_upkeep();
            metrics.render()
        });
        assert!(text.contains("holdfast_log_fsync_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("holdfast_log_fsync_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("# HELP holdfast_applied_index Index of the last entry applied"), "{text}");
        assert!(text.contains("holdfast_applied_index 17"), "{text}");
        assert!(text.contains("route=\"/api/v1/channels/{id}\"") && text.contains("status=\"404\""), "{text}");
        assert!(text.contains("holdfast_login_failures_total{reason=\"bad_credentials\"} 1"), "{text}");
        assert!(text.contains("process_open_fds "), "{text}");
    }

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for metric in &METRICS {
            match metric.kind {
                Kind::Counter => assert!(metric.name.ends_with("_total"), "{}", metric.name),
                Kind::Histogram(buckets) => assert!(buckets.is_sorted(), "{}", metric.name),
                Kind::Gauge => {}
            }
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_process_is_measured() {
        let figures = process_figures();
        assert!(figures.resident_bytes > 100_000, "{figures:?}");
        assert!(figures.open_fds >= 3, "{figures:?}");
        assert_eq!(parse_cpu_ticks("1 (a) b) c) S 0 0 0 0 -1 0 1 2 3 4 70 5 0 0"), Some(75));
        assert_eq!(parse_cpu_ticks("nonsense"), None);
    }
}
