//! `holdfast doctor`: looks for what would go wrong later.

use std::path::PathBuf;

use clap::Args;

use super::serve::{load_config, no_flags};
use super::{CliError, Global, Output, now_ms, output};
use crate::config::Loaded;
use crate::ops::disk::DiskReserve;
use crate::ops::doctor::{DoctorOptions, Report, Verdict, examine};
use crate::replication::{Checkup, level_held};

/// `holdfast doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0: all well, or only warnings. 1: something would stop the server or
break its promise.

Examples:
  holdfast doctor --data /srv/holdfast
  holdfast doctor --json | jq '.checks[] | select(.verdict != \"ok\")'")]
pub struct DoctorArgs {
    /// The configuration file [default: DIR/holdfast.toml if it exists]
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs it.
pub fn run(global: &Global, args: &DoctorArgs, output: &Output) -> Result<(), CliError> {
    let Loaded { config, warnings } = load_config(&global.data, args.config.as_deref(), no_flags())?;
    let report = examine(&DoctorOptions {
        data: global.data.clone(),
        listen: config.listen_address().map_err(CliError::usage)?,
        reserve: DiskReserve::from(&config.storage),
        tls: config.tls.enabled,
        now_ms: now_ms(),
        drill_key: config.backup.drill_key.clone().map(PathBuf::from),
        config_warnings: warnings,
        log_time_ms: None,
    });
    let pair = Checkup {
        data: global.data.clone(),
        on_active: config.pair.on_active.clone(),
        on_standby: config.pair.on_standby.clone(),
        level: level_held(config.pair.level_max),
    };
    let report = report.with(pair.run().map_err(CliError::failed)?);
    output.show(&report, &text(&report))?;
    if report.verdict == Verdict::Fail { Err(CliError::Reported) } else { Ok(()) }
}

fn text(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .flat_map(|check| {
            let mark = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            let line = vec![mark.to_owned(), check.name.to_owned(), check.found.clone()];
            let advice = vec![String::new(), String::new(), format!("-> {}", check.advice)];
            std::iter::once(line).chain((!check.advice.is_empty()).then_some(advice))
        })
        .collect();
    output::table(&rows)
}
