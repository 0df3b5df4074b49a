//! `holdfast backup`: what concerns backups. Must never print a private key unless that is what was asked for.

mod follow;
mod offline;
mod settings;
mod show;
mod target;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::repository::Place;
use super::{CliError, Global, Output};
use crate::backup::crypt::Identity;
use settings::{KeepArgs, SetArgs};
use target::TargetArgs;

/// `holdfast backup …`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The first day:

  1. on another machine:  holdfast backup keygen --out backup-key.txt
  2. on the server:       holdfast backup target add usb --directory /mnt/usb
                          holdfast backup set --recipient age1... \\
                            --full 'weekly sun 02:00' --incremental hourly
  3. at once:             holdfast backup now
  4. every now and then:  holdfast backup status

On a pair the standby makes the backups: mount directories on both machines.")]
pub struct BackupArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// The commands on backups.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
    /// Show who makes the backups, what each target holds, what comes next, what is wrong
    Status,
    /// Make a backup now and wait for it
    #[command(after_help = "\
Examples:
  holdfast backup now                 what came since the last, on all targets
  holdfast backup now --full usb      a full one on the target usb")]
    Now(NowArgs),
    /// List the backups on a target, or at any place without a server
    #[command(after_help = "\
Examples:
  holdfast backup list usb
  holdfast backup list --from /mnt/usb      needs no server and no data
  holdfast backup list --target-file store.toml
      the same on S3, WebDAV or SFTP; `holdfast restore --help` shows the file")]
    List(ListArgs),
    /// Read every part of the backups back and compare it with what was stored
    #[command(after_help = "\
Needs no key: what is compared are the stored files. Exit code 1 when
anything is wrong; every wrong part is named, and who needs it.

Examples:
  holdfast backup verify usb
  holdfast backup verify --from /mnt/usb --backup NAME
  holdfast backup verify --target-file store.toml")]
    Verify(VerifyArgs),
    /// Take away the backups that the retention does not keep
    #[command(after_help = "\
Pinned backups stay, and the newest one that a drill has proven. Nothing
is taken away on an append-only target.

Examples:
  holdfast backup prune --dry-run           say what would go
  holdfast backup prune usb
  holdfast backup prune --from /mnt/usb --keep-last 3 --keep-monthly 12")]
    Prune(PruneArgs),
    /// Pin a backup: the retention leaves it alone
    Pin(PinArgs),
    /// Take the pin of a backup away
    Unpin(PinArgs),
    /// Stop a job that waits or runs
    Cancel(CancelArgs),
    /// Where backups go: add, list, test, remove
    Target(TargetArgs),
    /// Change when backups are made, for whom they are encrypted, which are kept
    #[command(after_help = "\
A calendar: hourly, hourly :15, daily 02:00, weekly sun 02:00, monthly 1 02:00,
or five fields of cron, in the organisation's time zone. \"\" takes it away.

Examples:
  holdfast backup set --full 'weekly sun 02:00' --incremental hourly
  holdfast backup set --recipient age1... --encrypted true
  holdfast backup set --keep-last 3 --keep-daily 7 --keep-monthly 12")]
    Set(Box<SetArgs>),
    /// Make nothing by itself until further notice, or for some hours
    Pause(PauseArgs),
    /// Go on; what was missed is made up once
    Resume,
    /// Make a key pair for encrypted backups: the public key is for the settings, the private one to restore
    #[command(after_help = "\
Do this on a machine that is not the server, and keep the file in two
places that are not the server either: without it nobody can read the
backups, and who has it can read all of them. The file is in the format
of age-keygen; the tools age and rage read it as well.

Examples:
  holdfast backup keygen --out backup-key.txt
  holdfast backup keygen --json")]
    Keygen(KeygenArgs),
}

/// `holdfast backup now`
#[derive(Clone, Debug, Args)]
pub struct NowArgs {
    /// The target [default: all that are enabled]
    pub target: Option<String>,
    /// A backup that rests on no other
    #[arg(long)]
    pub full: bool,
    /// Do not wait for it
    #[arg(long)]
    pub detach: bool,
}

/// `holdfast backup list`
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// The target [default: all]
    pub target: Option<String>,
    /// Where else than on a target of the server.
    #[command(flatten)]
    pub place: Place,
}

/// `holdfast backup verify`
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The target [default: all that are enabled]
    pub target: Option<String>,
    /// Where else than on a target of the server.
    #[command(flatten)]
    pub place: Place,
    /// Only this backup and what it rests on
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
}

/// `holdfast backup prune`
#[derive(Clone, Debug, Args)]
pub struct PruneArgs {
    /// The target [default: all that are enabled]
    pub target: Option<String>,
    /// Where else than on a target of the server.
    #[command(flatten)]
    pub place: Place,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// What stays; only with --from or --target-file: a server has its own settings.
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// `holdfast backup pin|unpin`
#[derive(Clone, Debug, Args)]
pub struct PinArgs {
    /// The target
    pub target: String,
    /// The backup, as `holdfast backup list` names it
    pub backup: String,
}

/// `holdfast backup cancel`
#[derive(Clone, Debug, Args)]
pub struct CancelArgs {
    /// The job's number, as `holdfast backup status` shows it
    pub job: u64,
}

/// `holdfast backup pause`
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// For so many hours [default: until `holdfast backup resume`]
    #[arg(long, value_name = "HOURS")]
    pub hours: Option<u64>,
}

/// `holdfast backup keygen`
#[derive(Clone, Debug, Args)]
pub struct KeygenArgs {
    /// Write the private key to this new file, readable by its owner only [default: print it]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Asks the server.
fn ask(global: &Global, method: Method, (path, body): (&str, Option<&Value>)) -> Result<Value, CliError> {
    let path = format!("/admin/v1/backups{path}");
    Ok(AdminClient::new(&global.data).request_blocking(method, &path, body)?)
}

/// Runs it.
pub fn run(global: &Global, args: &BackupArgs, output: &Output) -> Result<(), CliError> {
    match &args.command {
        BackupCommand::Status => show::status(global, output),
        BackupCommand::Now(args) => {
            let work = json!({ "kind": "backup", "full": args.full });
            follow::run(global, (work, args.target.as_deref()), (args.detach, output))
        }
        BackupCommand::List(args) => match one_place(&args.place, args.target.as_deref())? {
            Some(place) => offline::list(place, output),
            None => show::list(global, args.target.as_deref(), output),
        },
        BackupCommand::Verify(args) => match one_place(&args.place, args.target.as_deref())? {
            Some(place) => offline::verify(place, args.backup.as_deref(), output),
            None => {
                let work = json!({ "kind": "verify", "backup": args.backup });
                follow::run(global, (work, args.target.as_deref()), (false, output))
            }
        },
        BackupCommand::Prune(args) => prune(global, args, output),
        BackupCommand::Pin(args) => pin(global, (args, true), output),
        BackupCommand::Unpin(args) => pin(global, (args, false), output),
        BackupCommand::Cancel(args) => {
            let job = ask(global, Method::DELETE, (&format!("/jobs/{}/cancel", args.job), None))?;
            output.show(&job, &format!("Job {} ends.", args.job))
        }
        BackupCommand::Target(args) => target::run(global, args, output),
        BackupCommand::Set(args) => settings::set(global, args, output),
        BackupCommand::Pause(args) => {
            let until_ms = args.hours.map(|hours| super::now_ms().saturating_add(hours.saturating_mul(3_600_000)));
            let settings = ask(global, Method::POST, ("/pause", Some(&json!({ "until_ms": until_ms }))))?;
            output.show(&settings, "Nothing is backed up by itself now. `holdfast backup resume` goes on.")
        }
        BackupCommand::Resume => {
            let settings = ask(global, Method::POST, ("/resume", Some(&json!({}))))?;
            output.show(&settings, "Backups go on; what was missed is made up once.")
        }
        BackupCommand::Keygen(keygen_args) => keygen(keygen_args, output),
    }
}

/// The place that was named instead of a target of the server.
fn one_place<'a>(place: &'a Place, target: Option<&str>) -> Result<Option<&'a Place>, CliError> {
    match (place.is_given(), target) {
        (true, Some(_)) => {
            Err(CliError::usage("name either a target of the server, or a place with --from or --target-file"))
        }
        (given, _) => Ok(given.then_some(place)),
    }
}

fn prune(global: &Global, args: &PruneArgs, output: &Output) -> Result<(), CliError> {
    if let Some(place) = one_place(&args.place, args.target.as_deref())? {
        return offline::prune(place, (&args.keep, args.dry_run), output);
    }
    if args.keep.is_given() {
        return Err(CliError::usage(
            "--keep-... goes with --from or --target-file; a server's retention is set by `holdfast backup set`",
        ));
    }
    let work = json!({ "kind": "prune", "dry_run": args.dry_run });
    follow::run(global, (work, args.target.as_deref()), (false, output))
}

fn pin(global: &Global, (args, pinned): (&PinArgs, bool), output: &Output) -> Result<(), CliError> {
    let method = if pinned { Method::PUT } else { Method::DELETE };
    let path = format!("/targets/{}/backups/{}/pin", args.target, args.backup);
    let answer = ask(global, method, (&path, None))?;
    let text = if pinned { "It stays until it is unpinned." } else { "The retention decides about it again." };
    output.show(&answer, text)
}

fn keygen(args: &KeygenArgs, output: &Output) -> Result<(), CliError> {
    let identity = Identity::generate();
    let created = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let public = identity.recipient().to_string();
    let Some(path) = &args.out else {
        let text = identity.to_file_text(&created);
        let key = text.lines().last().unwrap_or_default();
        return output.show(&json!({ "public_key": public, "created": created, "private_key": key }), &text);
    };
    identity.write_new(path, &created).map_err(CliError::failed)?;
    let text = format!("Public key: {public}\nThe private key is in {}. Keep it away from the server.", path.display());
    output.show(&json!({ "public_key": public, "created": created, "file": path }), &text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        backup: BackupArgs,
    }

    #[test]
    fn the_command_line_is_understood_and_a_key_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.txt");
        let line = ["backup", "keygen", "--out", path.to_str().unwrap()];
        let args = Alone::try_parse_from(line).unwrap().backup;
        let global = Global { data: dir.path().to_owned(), json: false };
        run(&global, &args, &Output::new(false)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("# created: 2") && lines[1].starts_with("# public key: age1"), "{text}");
        assert!(lines[2].starts_with("AGE-SECRET-KEY-1") && lines.len() == 3, "{text}");
        let error = run(&global, &args, &Output::new(false)).unwrap_err();
        assert!(error.to_string().contains("never overwritten"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
