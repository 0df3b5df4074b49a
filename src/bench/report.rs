//! What a benchmark found, for people and for programs.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::crew::Usage;
use super::gaps::FailoverFigures;
use super::machine::Machine;
use super::stats::Stats;
use super::verify::Verdict;

/// What a benchmark found. `null` in JSON: does not apply, or cannot be known.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// `send`, `fanout`, `idle`, `history`, `restart` or `failover`.
    pub scenario: String,
    /// What was counted per second: acknowledged sends, deliveries, pages, connections opened or messages stored.
    pub rate_per_s: Option<f64>,
    /// What `rate_per_s` counts.
    pub rate_of: &'static str,
    /// The median latency.
    pub p50_ms: Option<f64>,
    /// The latency that 90 % stay below.
    pub p90_ms: Option<f64>,
    /// The latency that 99 % stay below.
    pub p99_ms: Option<f64>,
    /// The highest latency.
    pub max_ms: Option<f64>,
    /// Sends that were acknowledged, over the whole run.
    pub acknowledged: Option<u64>,
    /// Events that arrived at others than their sender, over the whole run.
    pub delivered: Option<u64>,
    /// Acknowledged messages that are not stored or were not delivered; 0 is the promise.
    pub lost: Option<u64>,
    /// Messages stored or delivered more than once; 0 is the promise.
    pub duplicated: Option<u64>,
    /// Everything else that went wrong: refusals, broken connections, wrong texts, wrong order.
    pub errors: u64,
    /// The first errors, in words.
    pub error_details: Vec<String>,
    /// Connections that were closed as too slow and resumed.
    pub resyncs: Option<u64>,
    /// Sends that were refused as busy and made again.
    pub busy: Option<u64>,
    /// Connections that were lost and opened again, to the same node or another.
    pub reconnects: Option<u64>,
    /// Connections that a node could not resume, so that a client would fetch everything again; what was delivered to
    /// them is not judged.
    pub refetches: Option<u64>,
    /// What only `failover` finds.
    #[serde(flatten)]
    pub failover: FailoverFigures,
    /// The server's resident memory at the end of the measurement.
    pub server_rss_bytes: Option<u64>,
    /// The server's processor time during the measurement.
    pub server_cpu_seconds: Option<f64>,
    /// The load generator's processor time during the measurement.
    pub client_cpu_seconds: Option<f64>,
    /// Connections held open (`idle`).
    pub connections: Option<u64>,
    /// The server's memory per idle connection.
    pub bytes_per_connection: Option<u64>,
    /// From the start of the process to the first 200 of `/readyz`, after kill -9.
    pub ready_ms: Option<f64>,
    /// Messages stored before the measurement.
    pub messages: Option<u64>,
    /// The log on disk, as allocated.
    pub log_bytes: Option<u64>,
    /// The applied state on disk, as allocated.
    pub state_bytes: Option<u64>,
    /// The texts alone.
    pub raw_body_bytes: Option<u64>,
    /// The version of the load generator.
    pub version: &'static str,
    /// What it ran on.
    pub machine: Machine,
    /// What was asked for.
    pub options: Value,
}

impl BenchReport {
    /// Nothing found yet.
    #[must_use]
    pub fn new(scenario: String, machine: Machine, options: Value) -> Self {
        Self {
            scenario,
            rate_per_s: None,
            rate_of: "",
            p50_ms: None,
            p90_ms: None,
            p99_ms: None,
            max_ms: None,
            acknowledged: None,
            delivered: None,
            lost: None,
            duplicated: None,
            errors: 0,
            error_details: Vec::new(),
            resyncs: None,
            busy: None,
            reconnects: None,
            refetches: None,
            failover: FailoverFigures::default(),
            server_rss_bytes: None,
            server_cpu_seconds: None,
            client_cpu_seconds: None,
            connections: None,
            bytes_per_connection: None,
            ready_ms: None,
            messages: None,
            log_bytes: None,
            state_bytes: None,
            raw_body_bytes: None,
            version: env!("CARGO_PKG_VERSION"),
            machine,
            options,
        }
    }

    /// True when no acknowledged message is missing or duplicated and nothing else went wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.lost.unwrap_or(0) == 0 && self.duplicated.unwrap_or(0) == 0 && self.errors == 0
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Takes over what was counted.
    pub fn count(&mut self, stats: &Stats) {
        if let Some([p50, p90, p99, max]) = stats.latencies_ms() {
            (self.p50_ms, self.p90_ms) = (Some(p50), Some(p90));
            (self.p99_ms, self.max_ms) = (Some(p99), Some(max));
        }
        let (errors, details) = stats.faults();
        self.errors += errors;
        self.error_details.extend(details);
    }

    /// Takes over what only senders and receivers of messages count.
    pub fn count_messages(&mut self, stats: &Stats) {
        self.acknowledged = Some(stats.acknowledged.get());
        self.delivered = Some(stats.delivered.get());
        self.resyncs = Some(stats.resyncs.get());
        self.busy = Some(stats.busy.get());
        self.reconnects = Some(stats.reconnects.get());
        self.refetches = Some(stats.refetches.get());
    }

    /// Takes over what the sides used.
    pub fn used(&mut self, usage: Usage) {
        self.server_rss_bytes = usage.server_rss_bytes;
        self.server_cpu_seconds = usage.server_cpu_seconds;
        self.client_cpu_seconds = usage.client_cpu_seconds;
    }

    /// Takes over what a check found.
    pub fn judge(&mut self, verdict: Verdict) {
        self.lost = Some(self.lost.unwrap_or(0) + verdict.lost);
        self.duplicated = Some(self.duplicated.unwrap_or(0) + verdict.duplicated);
        if verdict.wrong > 0 {
            self.errors += verdict.wrong;
            self.error_details.push(format!("{} messages are wrong in text, number or order", verdict.wrong));
        }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: Option<String>| match value {
            Some(value) => writeln!(f, "{name:<24}{value:>16}"),
            None => Ok(()),
        };
        line("scenario", Some(self.scenario.clone()))?;
        line(&format!("{}/s", self.rate_of), self.rate_per_s.map(|rate| format!("{rate:.0}")))?;
        for (name, value) in
            [("p50 ms", self.p50_ms), ("p90 ms", self.p90_ms), ("p99 ms", self.p99_ms), ("max ms", self.max_ms)]
        {
            line(name, value.map(|ms| format!("{ms:.2}")))?;
        }
        for (name, value) in self.failover.lines() {
            line(name, Some(value))?;
        }
        line("ready ms", self.ready_ms.map(|ms| format!("{ms:.0}")))?;
        for (name, value) in [
            ("messages stored", self.messages),
            ("connections", self.connections),
            ("bytes per connection", self.bytes_per_connection),
            ("acknowledged", self.acknowledged),
            ("delivered", self.delivered),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("errors", Some(self.errors)),
            ("resyncs", self.resyncs.filter(|count| *count > 0)),
            ("busy", self.busy.filter(|count| *count > 0)),
            ("reconnects", self.reconnects.filter(|count| *count > 0)),
            ("refetches", self.refetches.filter(|count| *count > 0)),
        ] {
            line(name, value.map(|count| count.to_string()))?;
        }
        for (name, value) in [
            ("server memory MB", self.server_rss_bytes),
            ("log MB", self.log_bytes),
            ("state MB", self.state_bytes),
            ("texts MB", self.raw_body_bytes),
        ] {
            line(name, value.map(|bytes| format!("{:.1}", bytes as f64 / 1e6)))?;
        }
        for (name, value) in [("server CPU s", self.server_cpu_seconds), ("client CPU s", self.client_cpu_seconds)] {
            line(name, value.map(|seconds| format!("{seconds:.1}")))?;
        }
        for detail in &self.error_details {
            writeln!(f, "error: {detail}")?;
        }
        let machine = &self.machine;
        write!(
            f,
            "holdfast {}, {} cores, {}, Linux {}",
            self.version, machine.cores, machine.cpu_model, machine.kernel
        )?;
        match &machine.scratch_fs {
            Some(fs) => writeln!(f, ", {fs}"),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BenchReport {
        BenchReport::new("send".to_owned(), Machine::here(None), Value::Null)
    }

    #[test]
    fn any_lost_duplicated_or_wrong_message_fails_the_run() {
        assert!(report().passed());
        for verdict in [
            Verdict { lost: 1, ..Verdict::default() },
            Verdict { duplicated: 1, ..Verdict::default() },
            Verdict { wrong: 1, ..Verdict::default() },
        ] {
            let mut report = report();
            report.judge(Verdict::default());
            assert!(report.passed());
            report.judge(verdict);
            assert!(!report.passed(), "{verdict:?}");
        }
        let mut report = report();
        let stats = Stats::new(super::super::stats::Latency::Answer);
        stats.fault("the server closed it");
        report.count(&stats);
        assert!(!report.passed());
        assert!(report.to_string().contains("error: the server closed it"));
    }

    #[test]
    fn what_does_not_apply_is_null_in_json() {
        let json = report().to_json();
        for name in [
            "scenario",
            "rate_per_s",
            "p50_ms",
            "p90_ms",
            "p99_ms",
            "max_ms",
            "acknowledged",
            "delivered",
            "lost",
            "duplicated",
            "errors",
            "server_rss_bytes",
            "server_cpu_seconds",
            "client_cpu_seconds",
            "bytes_per_connection",
            "ready_ms",
            "log_bytes",
            "state_bytes",
            "raw_body_bytes",
            "machine",
            "version",
            "options",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing");
        }
        assert!(json["ready_ms"].is_null());
    }
}
