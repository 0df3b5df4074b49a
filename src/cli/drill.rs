//! `holdfast drill`: proves that a backup restores, on any machine.

use std::path::PathBuf;

use clap::Args;

use super::restore::{From, Said, blocking, refused, time};
use super::{CliError, Global, Output};
use crate::backup::drill::{self, DrillOptions, DrillReport, LiveComparison};
use crate::backup::restore::Progress;
use crate::ops::durable_file::write_private;

/// `holdfast drill`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Restores the newest backup into a scratch directory exactly as a real restore
would, opens it, compares the state with what was recorded, counts what came
back and says how long it took. The scratch directory is removed.

Exit code 0: the backup is good. 1: it is not; the report says why.

Examples:
  holdfast drill --from /mnt/usb/backups --key drill-key.txt
  holdfast drill --from /mnt/usb/backups --report drill.json --json
  holdfast drill --target-file store.toml --key drill-key.txt
      on S3, WebDAV or SFTP; `holdfast restore --help` shows the file")]
pub struct DrillArgs {
    #[command(flatten)]
    from: From,
    /// The backup [default: the newest]
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Where to restore it for the time of the drill [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Also write the report to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs it.
pub fn run(_global: &Global, args: &DrillArgs, output: &Output) -> Result<(), CliError> {
    let keys = args.from.keys()?;
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let progress = Said::new();
    blocking(|cancel| {
        let options = DrillOptions {
            repository: args.from.repository()?,
            keys,
            signer: args.from.signer.clone(),
            backup: args.backup.clone(),
            scratch: scratch.join("holdfast-drill"),
        };
        let report = drill::run(&options, None, &|at: Progress| progress.say(at), cancel).map_err(|e| refused(&e))?;
        if let Some(path) = &args.report {
            let bytes = serde_json::to_vec_pretty(&report).map_err(CliError::failed)?;
            write_private(path, &bytes).map_err(|e| CliError::failed(format!("{}: {e}", path.display())))?;
        }
        output.show(&report, &text(&report))?;
        if report.good { Ok(()) } else { Err(CliError::Reported) }
    })
}

fn text(report: &DrillReport) -> String {
    if let Some(failure) = &report.failure {
        return format!("Backup {} does NOT restore: {} ({})\n", report.backup, failure.text, failure.code);
    }
    let counts = &report.counts;
    let live = match report.live {
        LiveComparison::Same | LiveComparison::SameLog => ", the same as on the running server",
        _ => "",
    };
    format!(
        "Backup {} restores: as of {} (record {}), signed by {}\n  {} users, {} channels, {} messages, {} files of {:.1} MB\n  \
         state hash {}{live}\n  {:.1} MB in {:.1} s\n",
        report.backup,
        time(report.at_ms),
        report.index,
        report.backup_signer,
        counts.users,
        counts.channels,
        counts.messages,
        counts.blobs,
        counts.blob_bytes as f64 / 1e6,
        report.state_hash,
        report.bytes as f64 / 1e6,
        report.took_ms as f64 / 1e3
    )
}
