//! `holdfast backup`: what concerns backups. Must never print a private key unless that is what was asked for.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{CliError, Output};
use crate::backup::crypt::Identity;

/// `holdfast backup …`
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// The commands on backups.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
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

/// `holdfast backup keygen`
#[derive(Clone, Debug, Args)]
pub struct KeygenArgs {
    /// Write the private key to this new file, readable by its owner only [default: print it]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &BackupArgs, output: &Output) -> Result<(), CliError> {
    match &args.command {
        BackupCommand::Keygen(keygen_args) => keygen(keygen_args, output),
    }
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
        run(&args, &Output::new(false)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("# created: 2") && lines[1].starts_with("# public key: age1"), "{text}");
        assert!(lines[2].starts_with("AGE-SECRET-KEY-1") && lines.len() == 3, "{text}");
        let error = run(&args, &Output::new(false)).unwrap_err();
        assert!(error.to_string().contains("never overwritten"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
