//! Shows how the backups stand and what targets hold.

use hyper::Method;
use serde_json::{Value, json};

use super::ask;
use super::follow::{jobs, line, number, outcome, text};
use crate::cli::output::table;
use crate::cli::{CliError, Global, Output};

/// `holdfast backup status`
pub(super) fn status(global: &Global, output: &Output) -> Result<(), CliError> {
    let mut status = ask(global, Method::GET, ("", None))?;
    let jobs_now = ask(global, Method::GET, ("/jobs", None))?;
    let mut shown = format!("{}\n", text(&status, "/summary"));
    let here = status.get("works_here").and_then(Value::as_bool).unwrap_or(false);
    shown.push_str(&format!(
        "Backups are made {}: {}.\n",
        if here { "by this node" } else { "elsewhere" },
        text(&status, "/reason")
    ));
    if status.get("paused").and_then(Value::as_bool).unwrap_or(false) {
        shown.push_str("They are paused: `holdfast backup resume` goes on.\n");
    }
    for alarm in array(&status, "/alarms") {
        shown.push_str(&format!("! {}\n  -> {}\n", text(alarm, "/text"), text(alarm, "/action")));
    }
    let mut rows = vec![["TARGET", "BACKUPS", "NEWEST", "STATE"].map(str::to_owned).to_vec()];
    rows.extend(array(&status, "/targets").map(target_row));
    shown.push_str(&format!("\n{}", table(&rows)));
    for next in array(&status, "/next") {
        shown.push_str(&format!("next: {} {}\n", when(number(next, "/at_ms")), text(next, "/schedule")));
    }
    let live = jobs(&jobs_now).filter(|job| job.get("outcome").is_none_or(Value::is_null));
    for job in live {
        shown.push_str(&format!("job {}: {}\n", number(job, "/id"), line(job)));
    }
    let ended = jobs(&jobs_now).filter(|job| job.get("outcome").is_some_and(|outcome| !outcome.is_null()));
    for job in ended.take(ENDED_SHOWN) {
        let (id, at) = (number(job, "/id"), when(number(job, "/finished_ms")));
        let first = outcome(job);
        shown.push_str(&format!("job {id}, {at}: {}\n", first.lines().next().unwrap_or_default()));
    }
    if let (Some(all), Some(found)) = (status.as_object_mut(), jobs_now.get("jobs")) {
        all.insert("jobs".to_owned(), found.clone());
    }
    output.show(&status, &shown)
}

/// Ended jobs that the status shows.
const ENDED_SHOWN: usize = 5;

fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn target_row(target: &Value) -> Vec<String> {
    let newest = match number(target, "/newest/finished_ms") {
        0 => "none".to_owned(),
        at => when(at),
    };
    let enabled = target.get("enabled").and_then(Value::as_bool).unwrap_or(false);
    let state = match (enabled, text(target, "/error/text")) {
        (false, _) => "switched off".to_owned(),
        (true, "") if number(target, "/looked_ms") == 0 => "not looked at yet".to_owned(),
        (true, "") => "answers".to_owned(),
        (true, error) => error.to_owned(),
    };
    vec![text(target, "/name").to_owned(), number(target, "/backups").to_string(), newest, state]
}

/// A moment in UTC, to the second.
pub(super) fn when(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default()
}

/// `holdfast backup list`
pub(super) fn list(global: &Global, target: Option<&str>, output: &Output) -> Result<(), CliError> {
    let targets: Vec<String> = match target {
        Some(name) => vec![name.to_owned()],
        None => {
            let settings = ask(global, Method::GET, ("/settings", None))?;
            array(&settings, "/targets").map(|target| text(target, "/name").to_owned()).collect()
        }
    };
    if targets.is_empty() {
        return Err(CliError::failed("there is no backup target: holdfast backup target add NAME --directory PATH"));
    }
    let (mut shown, mut all) = (String::new(), Vec::new());
    for name in &targets {
        let listed = ask(global, Method::GET, (&format!("/targets/{name}/backups"), None))?;
        let rows: Vec<_> = array(&listed, "/backups").cloned().collect();
        shown.push_str(&format!("{name}:\n{}", listing(&rows)));
        all.push(listed);
    }
    output.show(&json!({ "targets": all }), &shown)
}

/// Backups as a table, the oldest first.
pub(super) fn listing(backups: &[Value]) -> String {
    if backups.is_empty() {
        return "no backups\n".to_owned();
    }
    let mut rows = vec![["NAME", "KIND", "UNTIL", "STORED", "NOTES"].map(str::to_owned).to_vec()];
    for backup in backups {
        let is = |name: &str| backup.get(name).and_then(Value::as_bool).unwrap_or(false);
        let damaged = text(backup, "/damaged");
        let notes = [("encrypted", "encrypted"), ("pinned", "pinned"), ("drilled", "drilled")];
        let mut notes: Vec<&str> = notes.iter().filter(|(name, _)| is(name)).map(|(_, shown)| *shown).collect();
        notes.extend((!damaged.is_empty()).then_some(damaged));
        rows.push(vec![
            text(backup, "/name").to_owned(),
            if is("full") { "full" } else { "incremental" }.to_owned(),
            when(number(backup, "/until_ms")),
            format!("{:.1} MB", number(backup, "/stored_bytes") as f64 / 1e6),
            notes.join(", "),
        ]);
    }
    table(&rows)
}
