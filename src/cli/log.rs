//! `holdfast log`: reads the operation log without a server, or beside one.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, Global, Output};
use crate::core::entry::Entry;
use crate::oplog::{self, describe};

/// `holdfast log …`
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// What to do with the log.
    #[command(subcommand)]
    pub command: LogCommand,
}

/// The commands on the operation log.
#[derive(Clone, Debug, Subcommand)]
pub enum LogCommand {
    /// Check every record of every segment: checksums, order, the hash chain
    #[command(after_help = "\
Exit code 0: the log is whole. 1: it is damaged; every damaged place is
named. Works while the server runs.

Example:
  holdfast log verify --data /srv/holdfast")]
    Verify,
    /// Print the records of the log, one per line
    #[command(after_help = "\
Message texts are in the records: treat the output like the data itself.

Examples:
  holdfast log dump --data /srv/holdfast --from 1000 | head
  holdfast log dump --data /srv/holdfast --json | jq .kind")]
    Dump(DumpArgs),
}

/// `holdfast log dump`
#[derive(Clone, Debug, Args)]
pub struct DumpArgs {
    /// The first index to print [default: the first that is there]
    #[arg(long, value_name = "N")]
    pub from: Option<u64>,
}

/// Runs it.
pub fn run(global: &Global, args: &LogArgs, output: &Output) -> Result<(), CliError> {
    let dir = global.data.join("log");
    if !dir.is_dir() {
        return Err(CliError::failed(format!("there is no log in {}; is --data right?", global.data.display())));
    }
    match &args.command {
        LogCommand::Verify => verify(&dir, output),
        LogCommand::Dump(dump_args) => dump(&dir, dump_args.from.unwrap_or(0), output),
    }
}

fn verify(dir: &std::path::Path, output: &Output) -> Result<(), CliError> {
    let mut progress = super::output::Progress::new();
    let report = oplog::verify(dir, &mut |at: oplog::Progress| {
        progress.say(&format!("{} of {} segments checked", at.segments_done, at.segments));
    })
    .map_err(CliError::failed)?;
    let finding = |finding: &oplog::Finding| json!({ "segment": finding.path, "offset": finding.offset, "index": finding.index, "what": finding.what });
    let last = report.last.as_ref();
    let chain = last.map(|last| data_encoding::HEXLOWER.encode(&last.chain));
    let torn = report.torn_tail.as_ref();
    let state = json!({
        "clean": report.is_clean(), "segments": report.segments, "frames": report.frames, "records": report.entries,
        "bytes": report.bytes, "first_index": report.first_index, "last_index": last.map(|last| last.index),
        "chain_hash": chain, "unfinished_tail_bytes": torn.map(|tail| tail.bytes),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    let mut text = String::new();
    for damage in &report.findings {
        let place = format!("{} at byte {}, index {}", damage.path.display(), damage.offset, damage.index);
        text.push_str(&format!("DAMAGED  {place}: {}\n", damage.what));
    }
    if let Some(tail) = torn {
        text.push_str(&format!("{} bytes of an unfinished write at the end: the next start cuts them\n", tail.bytes));
    }
    text.push_str(&format!(
        "{}: {} records in {} segments, {} bytes, chain hash {}",
        if report.is_clean() { "The log is whole" } else { "The log is damaged" },
        report.entries,
        report.segments,
        report.bytes,
        chain.as_deref().unwrap_or("unknown"),
    ));
    if !report.is_clean() {
        text.push_str("\nStop the server. Restore from a backup (`holdfast restore`), or let a standby take over.");
    }
    output.show(&state, &text)?;
    if report.is_clean() { Ok(()) } else { Err(CliError::Reported) }
}

fn dump(dir: &std::path::Path, from: u64, output: &Output) -> Result<(), CliError> {
    for entry in oplog::dump(dir, from).map_err(CliError::failed)? {
        let entry = entry.map_err(CliError::failed)?;
        let line = if output.is_json() { describe(&entry).to_string() } else { line(&entry) };
        if !output.line(&line)? {
            return Ok(()); // the reader has seen enough
        }
    }
    Ok(())
}

/// A record as a line.
fn line(entry: &Entry) -> String {
    let at = i64::try_from(entry.unix_ms()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| entry.unix_ms().to_string(), |at| at.to_string());
    let described = describe(entry);
    let payload = match (entry.erased, &described["payload"]) {
        (true, _) => "erased".to_owned(),
        (false, Value::Null) => String::new(),
        (false, payload) => payload["command"].as_str().map_or_else(|| payload.to_string(), str::to_owned),
    };
    let kind = described["kind"].as_str().unwrap_or_default().to_owned();
    format!("{} {at} epoch={} {kind} {payload}", entry.index, entry.epoch >> 16)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        log: LogArgs,
    }

    #[test]
    fn the_command_line_is_understood() {
        let parse = |line: &str| Alone::try_parse_from(line.split(' ')).map(|alone| alone.log.command);
        assert!(matches!(parse("log verify").unwrap(), LogCommand::Verify));
        assert!(matches!(parse("log dump --from 7").unwrap(), LogCommand::Dump(DumpArgs { from: Some(7) })));
        assert!(matches!(parse("log dump").unwrap(), LogCommand::Dump(DumpArgs { from: None })));
        parse("log dump --from -1").unwrap_err();
    }
}
