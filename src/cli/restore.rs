//! `holdfast restore`: a data directory out of a backup. `holdfast drill` proves beforehand that it would work.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use hyper::Method;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::admin_client::AdminClient;
use super::output::Progress;
use super::repository::{Place, TARGET_FILE_HELP};
use super::{CliError, Global, Output};
use crate::backup::crypt::{Identity, read_identities};
use crate::backup::manifest::{BackupKind, Manifest};
use crate::backup::repository::Repository;
use crate::backup::restore::{
    self, Catalogue, Moment, RestoreError, RestoreOptions, RestorePreview, RestoreReport, Stage,
};
use crate::limits;

/// Where the backups are, and what reads them.
#[derive(Clone, Debug, Args)]
pub struct From {
    /// The repository.
    #[command(flatten)]
    pub place: Place,
    /// File with the private key, for an encrypted backup
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Accept only backups signed by this key, as `holdfast backup list` prints it
    #[arg(long, value_name = "FINGERPRINT")]
    pub signer: Option<String>,
}

impl From {
    /// The repository. Called within a tokio runtime.
    pub(super) fn repository(&self) -> Result<Repository, CliError> {
        // Nothing is ever deleted through it.
        Ok(Repository::new(self.place.open()?, true))
    }

    /// The private keys.
    pub(super) fn keys(&self) -> Result<Vec<Identity>, CliError> {
        self.key.as_deref().map_or(Ok(Vec::new()), |path| read_identities(path).map_err(|e| failed(e.code(), &e, "")))
    }
}

const EXAMPLES: &str = "\
Makes a data directory from a backup, as it was at the end of the newest backup
or at any earlier moment. Everything is checked first: a part that is missing,
damaged or of another backup is named, and the destination stays as it was. The
new directory takes its place in one step at the end.

After a restore nobody is signed in, and the server is alone: make the pair anew
with `holdfast pair invite`.

Examples:
  holdfast restore --from /mnt/usb/backups --list
      which backups there are
  holdfast restore --from /mnt/usb/backups --data /srv/holdfast --dry-run
      what would come back, and how long it takes
  holdfast restore --from /mnt/usb/backups --data /srv/holdfast --key key.txt
      the newest backup
  holdfast restore --from /mnt/usb/backups --data /srv/holdfast \\
      --to-time 2026-11-21T14:05:00+08:00
      as it was at that time
  holdfast restore --target-file store.toml --data /srv/holdfast --key key.txt
      the same from S3, WebDAV or SFTP, on a machine that has nothing yet
  holdfast serve --data /srv/holdfast
      then start it
  holdfast restore --from /mnt/usb/backups --data /srv/holdfast --live \\
      --channel 7238461 --to-time 2026-11-21T14:05:00Z
      deleted messages of one channel, back into the running server
";

/// `holdfast restore`
#[derive(Clone, Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\nHow the file for --target-file looks: holdfast restore --help"))]
#[command(after_long_help = format!("{EXAMPLES}\n{TARGET_FILE_HELP}"))]
pub struct RestoreArgs {
    #[command(flatten)]
    from: From,
    /// As it was at this time, with Z or an offset: 2026-11-21T14:05:00+08:00
    #[arg(long, value_name = "TIME", conflicts_with_all = ["to_index", "backup"])]
    to_time: Option<jiff::Timestamp>,
    /// Up to this record of the log
    #[arg(long, value_name = "N", conflicts_with = "backup")]
    to_index: Option<u64>,
    /// The end of this backup
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Say what would come back, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// List the backups, and change nothing
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,
    /// Move what is in the data directory aside (never deletes it)
    #[arg(long, conflicts_with = "live")]
    force: bool,
    /// Put texts of messages back into the running server instead (--channel, --to-time)
    #[arg(long, requires_all = ["channel", "to_time"], conflicts_with = "list")]
    live: bool,
    /// With --live: a backup target of the server, instead of --from
    #[arg(long, value_name = "NAME", requires = "live")]
    target: Option<String>,
    /// With --live: the channel's id
    #[arg(long, value_name = "ID", requires = "live")]
    channel: Option<u64>,
    /// With --live: only this message, by its id; may be repeated
    #[arg(long, value_name = "ID", requires = "live")]
    message: Vec<u64>,
    /// With --live: also where somebody wrote a newer text since
    #[arg(long, requires = "live")]
    overwrite: bool,
}

impl RestoreArgs {
    fn moment(&self) -> Moment {
        match (&self.backup, self.to_index, self.to_time) {
            (Some(name), ..) => Moment::Backup(name.clone()),
            (_, Some(index), _) => Moment::Index(index),
            (_, _, Some(at)) => Moment::Time(u64::try_from(at.as_millisecond()).unwrap_or(0)),
            _ => Moment::Latest,
        }
    }
}

/// Runs it.
pub fn run(global: &Global, args: &RestoreArgs, output: &Output) -> Result<(), CliError> {
    if args.live {
        return live(global, args, output);
    }
    let keys = args.from.keys()?;
    let prepare = move |repository: Repository| RestoreOptions {
        repository,
        keys: keys.clone(),
        signer: args.from.signer.clone(),
        moment: args.moment(),
        destination: global.data.clone(),
        force: args.force,
    };
    let progress = Said::new();
    blocking(|cancel| {
        let options = prepare(args.from.repository()?);
        if args.list {
            return list(&options, output);
        }
        let tell = |at: restore::Progress| progress.say(at);
        if args.dry_run {
            let preview = restore::preview(&options, &tell, cancel).map_err(|e| refused(&e))?;
            return output.show(&preview, &preview_text(&preview));
        }
        let report = restore::restore(&options, &tell, cancel).map_err(|e| refused(&e))?;
        output.show(&report, &report_text(&report, &options))
    })
}

/// Runs blocking work within a runtime; Ctrl-C and SIGTERM cancel it.
pub(super) fn blocking(work: impl FnOnce(&CancellationToken) -> Result<(), CliError>) -> Result<(), CliError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(CliError::failed)?;
    let cancel = CancellationToken::new();
    let asked = cancel.clone();
    let _entered = runtime.enter();
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(CliError::failed)?;
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        asked.cancel();
    });
    work(&cancel)
}

fn failed(code: &str, error: &dyn std::fmt::Display, hint: &str) -> CliError {
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    CliError::failed(format!("{error} ({code}){hint}"))
}

/// A refusal with its code and what to do.
pub(super) fn refused(error: &RestoreError) -> CliError {
    failed(error.code(), error, error.hint())
}

/// Progress lines with the speed so far.
pub(super) struct Said {
    lines: Mutex<Progress>,
    started: Instant,
}

impl Said {
    pub(super) fn new() -> Self {
        Self { lines: Mutex::new(Progress::new()), started: Instant::now() }
    }

    pub(super) fn say(&self, at: restore::Progress) {
        let text = match at.stage {
            Stage::Checking => "checking what there is".to_owned(),
            Stage::Reading => {
                let mb = |bytes: u64| bytes as f64 / 1e6;
                let speed = mb(at.bytes_done) / self.started.elapsed().as_secs_f64().max(0.001);
                format!("{:.0} of {:.0} MB read, {speed:.0} MB/s", mb(at.bytes_done), mb(at.bytes_total))
            }
            Stage::Opening => "applying the log and comparing".to_owned(),
            Stage::Placing => "giving the directory its place".to_owned(),
        };
        self.lines.lock().say(&text);
    }
}

/// A time as people read it; a dash when there is none.
pub(super) fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().filter(|ms| *ms > 0).and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Asks the running server to put texts back, and waits for it.
fn live(global: &Global, args: &RestoreArgs, output: &Output) -> Result<(), CliError> {
    let text = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|e| CliError::failed(format!("{}: {e}", path.display())))
    };
    let directory = match (&args.from.place.from, &args.target) {
        (Some(dir), None) => {
            let real = dir.canonicalize();
            Some(real.map_err(|e| CliError::failed(format!("{}: {e}", dir.display())))?)
        }
        (None, Some(_)) if args.from.place.target_file.is_none() => None,
        _ => {
            return Err(CliError::usage(
                "--live reads a directory of the server (--from DIR) or one of its targets (--target NAME)",
            ));
        }
    };
    let Moment::Time(as_of_ms) = args.moment() else { return Err(CliError::usage("--live needs --to-time")) };
    let ids: Vec<String> = args.message.iter().map(u64::to_string).collect();
    let body = json!({
        "directory": directory, "target": args.target, "key": args.from.key.as_ref().map(text).transpose()?, "signer": args.from.signer,
        "channel_id": args.channel.unwrap_or(0).to_string(), "as_of_ms": as_of_ms,
        "message_ids": (!ids.is_empty()).then_some(ids), "overwrite": args.overwrite, "dry_run": args.dry_run,
    });
    let (client, path) = (AdminClient::new(&global.data), "/admin/v1/restore/messages");
    let mut job = client.request_blocking(Method::POST, path, Some(&body))?;
    let progress = Said::new();
    while job["state"] == "running" {
        let number = |key: &str| job[key].as_u64().unwrap_or(0);
        let stage = serde_json::from_value(job["stage"].clone()).unwrap_or_default();
        progress.say(restore::Progress { stage, bytes_done: number("bytes_done"), bytes_total: number("bytes_total") });
        std::thread::park_timeout(std::time::Duration::from_millis(limits::RESTORE_LOOK_MS));
        job = client.request_blocking(Method::GET, path, None)?;
    }
    if let Some(failure) = job["failure"].as_object() {
        let text = |key: &str| failure.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        return Err(failed(text("code"), &text("text"), text("hint")));
    }
    let report = &job["report"];
    let shown = format!(
        "{} {} of {} messages as of {} (backup {})\n  {} had that text already, {} have a newer one that stands, {} are not \
         there\n",
        if args.dry_run { "Would put back" } else { "Put back" },
        report["restored"],
        report["found"],
        time(report["at_ms"].as_u64().unwrap_or(0)),
        report["backup"].as_str().unwrap_or_default(),
        report["unchanged"],
        report["kept"],
        report["missing"]
    );
    output.show(report, &shown)
}

fn list(options: &RestoreOptions, output: &Output) -> Result<(), CliError> {
    let mut catalogue =
        Catalogue::list(options.repository.place(), options.signer.as_deref()).map_err(|e| refused(&e))?;
    let (mut rows, mut all) =
        (vec![["name", "kind", "until record", "until", "stored"].map(str::to_owned).to_vec()], Vec::new());
    for name in catalogue.names().to_vec() {
        let found = catalogue.manifest(&name).map(|(manifest, _)| manifest);
        let kind = |manifest: &Manifest| if manifest.kind == BackupKind::Full { "full" } else { "incremental" };
        match found {
            Ok(manifest) => {
                rows.push(vec![
                    name.clone(),
                    kind(manifest).to_owned(),
                    manifest.until.index.to_string(),
                    time(manifest.until.at_ms),
                    format!("{:.1} MB", manifest.stored_bytes as f64 / 1e6),
                ]);
                all.push(json!({
                    "name": name, "kind": manifest.kind, "until_index": manifest.until.index,
                    "until_ms": manifest.until.at_ms, "stored_bytes": manifest.stored_bytes,
                    "encrypted": manifest.is_encrypted(),
                }));
            }
            Err(error) => {
                rows.push(vec![name.clone(), "DAMAGED".to_owned(), error.to_string()]);
                all.push(json!({ "name": name, "error": { "code": error.code(), "text": error.to_string() } }));
            }
        }
    }
    output.show(&json!({ "backups": all }), &super::output::table(&rows))
}

fn preview_text(preview: &RestorePreview) -> String {
    let (counts, at) =
        (&preview.counts, preview.index.map_or_else(|| "the time given".to_owned(), |n| format!("record {n}")));
    let mut text = format!(
        "Would restore {:?} up to {at}, from backup {}\n  (of {}, on the full {}, signed by {})\n\n",
        preview.organisation,
        preview.backup,
        time(preview.until_ms),
        preview.full,
        preview.signer
    );
    text.push_str(&format!(
        "  {} users, {} channels, {} messages in the snapshot; {} records of the log are applied to it\n  {} files of \
         {:.1} MB\n  {:.1} MB to read{}\n",
        counts.users,
        counts.channels,
        counts.messages,
        preview.records,
        counts.blobs,
        counts.blob_bytes as f64 / 1e6,
        preview.bytes as f64 / 1e6,
        if preview.encrypted { ", encrypted" } else { "" }
    ));
    match preview.estimate_ms {
        Some(ms) => text.push_str(&format!("  about {} s, as the last drill took\n", ms.div_ceil(1_000))),
        None => text.push_str("  how long it takes is not known: no drill was stored here yet\n"),
    }
    for warning in &preview.warnings {
        text.push_str(&format!("\nWarning: {warning}\n"));
    }
    text
}

fn report_text(report: &RestoreReport, options: &RestoreOptions) -> String {
    let counts = &report.counts;
    let mut text = format!(
        "Restored {:?} as of {} (record {}) from backup {}, signed by {}\n  {} users, {} channels, {} messages, {} files\n  \
         {:.1} MB in {:.1} s; log and state are as recorded\n",
        report.organisation,
        time(report.at_ms),
        report.index,
        report.backup,
        report.signer,
        counts.users,
        counts.channels,
        counts.messages,
        counts.blobs,
        report.bytes_read as f64 / 1e6,
        report.took_ms as f64 / 1e3
    );
    if let Some(aside) = &report.moved_aside {
        text.push_str(&format!("What was there before is now {}\n", aside.display()));
    }
    text.push_str(&format!(
        "\nStart the server:  holdfast serve --data {}\nEverybody signs in again. A pair is made anew: holdfast pair invite\n",
        options.destination.display()
    ));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        restore: RestoreArgs,
    }

    fn parse(line: &str) -> Result<Moment, clap::Error> {
        Alone::try_parse_from(line.split(' ')).map(|alone| alone.restore.moment())
    }

    #[test]
    fn the_moment_is_understood() {
        assert_eq!(parse("restore --from /b").unwrap(), Moment::Latest);
        assert_eq!(parse("restore --from /b --to-index 7").unwrap(), Moment::Index(7));
        assert_eq!(parse("restore --from /b --backup x").unwrap(), Moment::Backup("x".to_owned()));
        let at = parse("restore --from /b --to-time 2026-11-21T14:05:00+08:00").unwrap();
        assert_eq!(at, Moment::Time(1_795_241_100_000));
        parse("restore --from /b --to-time 2026-11-21T14:05:00").unwrap_err();
        parse("restore --from /b --to-index 7 --backup x").unwrap_err();
        let nowhere = Alone::try_parse_from(["restore"]).unwrap().restore;
        let refused = nowhere.from.repository().err().unwrap();
        assert!(refused.exit_code() == 2 && refused.to_string().contains("--from DIR"), "{refused}");
    }
}
