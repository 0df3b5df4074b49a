//! Golden scripts of the rules: text commands in, the full trace out (outcome, events with their audience, rows with
//! before and after, audit records). A script holds both; `UPDATE_GOLDEN=1 cargo test --test scripts` rewrites the
//! traces, and the diff is the review. Nothing here may depend on the clock, on randomness or on the order of tests.
//!
//! A line that begins with `>` is a command with its full trace below it; `:` prints the outcome alone; `#` is a remark.
//! `commands.rs` lists the commands.

// Clippy knows tests by their attribute; what they share is test code too.
#![allow(missing_docs, clippy::unwrap_used)]

mod commands;
mod names;
mod trace;
mod world;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use world::World;

/// Runs a script and returns it with the traces that this build gives.
fn run(script: &str) -> Result<String, String> {
    let mut world = World::default();
    let mut out = String::new();
    for (number, line) in script.lines().enumerate() {
        let (line, full) = match (line.strip_prefix("> "), line.strip_prefix(": ")) {
            (Some(command), _) => (command, true),
            (_, Some(command)) => (command, false),
            _ if line.starts_with('#') || line.is_empty() => {
                // One blank line between blocks, whatever was there before.
                if !(line.is_empty() && (out.is_empty() || out.ends_with("\n\n"))) {
                    let _ = writeln!(out, "{line}");
                }
                continue;
            }
            _ if line.starts_with("  ") => continue, // an old trace
            _ => return Err(format!("line {}: neither a command nor a trace: {line}", number + 1)),
        };
        let trace = commands::run(&mut world, line).map_err(|e| format!("line {}: {e}", number + 1))?;
        let _ = writeln!(out, "{} {line}", if full { '>' } else { ':' });
        let shown = if full { trace.as_str() } else { trace.lines().next().unwrap_or_default() };
        for line in shown.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    Ok(out)
}

fn golden(name: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(format!("{name}.script"));
    let script = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let now = run(&script).unwrap_or_else(|e| panic!("{name}.script, {e}"));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let differs = script.lines().zip(now.lines()).position(|(old, new)| old != new);
    let at = differs.unwrap_or_else(|| script.lines().count().min(now.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    assert!(
        script == now,
        "{name}.script, line {}: the trace changed\n  was: {}\n  now: {}\nUPDATE_GOLDEN=1 rewrites it; review the diff",
        at + 1,
        line(&script),
        line(&now)
    );
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { golden(stringify!($name)); })*
    };
}

scripts!(
    set_up,
    users,
    sessions,
    invitations,
    channels,
    direct,
    members,
    messages,
    resends,
    read_marks,
    settings,
    guests,
    privacy,
    log_records,
    pair,
    salvage,
    conflicts,
    backups,
    restore,
);

/// A script that nobody runs proves nothing.
#[test]
fn every_script_file_has_a_test() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
    let mut found: Vec<_> = files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    let mut named = NAMES.to_vec();
    found.sort_unstable();
    named.sort_unstable();
    assert_eq!(found, named);
}
