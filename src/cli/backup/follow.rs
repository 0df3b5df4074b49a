//! Begins jobs on the server and follows them to their end.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::ask;
use crate::cli::admin_client::AdminClient;
use crate::cli::output::Progress;
use crate::cli::{CliError, Global, Output};

/// Begins a job on one target or on all, and shows how far it is until it ends. With `detach` it only begins it.
pub(super) fn run(
    global: &Global,
    (work, target): (Value, Option<&str>),
    (detach, output): (bool, &Output),
) -> Result<(), CliError> {
    let begun = ask(global, Method::POST, ("/jobs", Some(&json!({ "work": work, "target": target }))))?;
    if detach {
        return output.show(&begun, "It is under way: `holdfast backup status` shows how far it is.");
    }
    let ids: Vec<u64> = jobs(&begun).filter_map(|job| job.get("id").and_then(Value::as_u64)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::failed)?;
    let ended = runtime.block_on(watch(&AdminClient::new(&global.data), &ids))?;
    let failed = ended.iter().any(|job| text(job, "/state") != "done");
    let shown: Vec<String> = ended.iter().map(outcome).collect();
    output.show(&json!({ "jobs": ended }), &shown.join("\n"))?;
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

/// Asks after the jobs until all have ended.
async fn watch(client: &AdminClient, ids: &[u64]) -> Result<Vec<Value>, CliError> {
    let mut progress = Progress::new();
    loop {
        let mut now = Vec::new();
        for id in ids {
            now.push(client.request(Method::GET, &format!("/admin/v1/backups/jobs/{id}"), None).await?);
        }
        let live: Vec<String> = now.iter().filter(|job| is_live(job)).map(line).collect();
        if live.is_empty() {
            return Ok(now);
        }
        progress.say(&live.join("; "));
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// How often a job is asked after.
const LOOK_MS: u64 = 200;

pub(super) fn jobs(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("jobs").and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer);
    found.and_then(|found| found.as_u64().or_else(|| found.as_f64().map(|number| number as u64))).unwrap_or(0)
}

fn is_live(job: &Value) -> bool {
    matches!(text(job, "/state"), "waiting" | "running")
}

/// How far a job is: `disk: storing 120 of 400 MB, 55 MB/s`.
pub(super) fn line(job: &Value) -> String {
    let (target, phase) = (text(job, "/target"), text(job, "/progress/phase"));
    if text(job, "/state") == "waiting" {
        return format!("{target}: waiting");
    }
    let megabytes = |pointer: &str| number(job, pointer) / 1_000_000;
    let of = match megabytes("/progress/bytes_total") {
        0 => String::new(),
        total => format!(" of {total}"),
    };
    let done = megabytes("/progress/bytes_done");
    format!("{target}: {phase} {done}{of} MB, {} MB/s", megabytes("/progress/bytes_per_second"))
}

/// What became of a job, with what it found.
pub(super) fn outcome(job: &Value) -> String {
    let mut shown = format!("{}: {}: {}", text(job, "/target"), text(job, "/state"), text(job, "/outcome/text"));
    let code = text(job, "/outcome/code");
    if !code.is_empty() {
        shown.push_str(&format!(" [{code}]"));
    }
    for found in job.pointer("/outcome/lines").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        shown.push_str(&format!("\n  {found}"));
    }
    shown
}
