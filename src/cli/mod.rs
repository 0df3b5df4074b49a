//! The command line: one file per subcommand. Only this folder prints.
//!
//! Exit codes: 0 done, 1 failed, 2 not understood.

pub mod admin_client;
pub mod backup;
pub mod bench;
pub mod config;
pub mod doctor;
pub mod drill;
pub mod init;
pub mod log;
mod output;
pub mod pair;
pub mod promote;
pub mod repository;
pub mod restore;
pub mod serve;
pub mod status;
pub mod user;
pub mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use output::{CliError, Output};

/// Private team chat that keeps running: one file, no internet, no database to care for.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Settings of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  holdfast serve --data /srv/holdfast       run the server
  holdfast status --data /srv/holdfast      how the running server is
  holdfast doctor --data /srv/holdfast      look for what would go wrong later
  holdfast config example > holdfast.toml   every setting with its default

Each command explains itself: holdfast help COMMAND";

/// Settings of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The data directory: everything the server keeps is in it
    #[arg(long, global = true, value_name = "DIR", env = "HOLDFAST_DATA", default_value = "./data")]
    pub data: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(serve::ServeArgs),
    /// Make the data directory and print the link that sets up the first owner
    Init(init::InitArgs),
    /// Show how the running server is
    Status(status::StatusArgs),
    /// Make a pair: invite a second node or a witness, join, leave
    Pair(pair::PairArgs),
    /// Hand over to the standby, as planned
    Switchover(promote::SwitchoverArgs),
    /// Make this node active although nobody votes for it
    Promote(promote::PromoteArgs),
    /// Run the witness of a pair: a third vote, no data
    Witness(witness::WitnessArgs),
    /// Manage accounts from the server's own shell
    User(user::UserArgs),
    /// Verify or print the operation log
    Log(log::LogArgs),
    /// Backups: targets, schedules, now, list, verify, prune, keys
    Backup(backup::BackupArgs),
    /// Make a data directory from a backup
    Restore(restore::RestoreArgs),
    /// Prove that a backup restores: restore it aside, compare, count, time
    Drill(drill::DrillArgs),
    /// Measure this machine: real clients, real connections, every message checked
    Bench(bench::BenchArgs),
    /// Look for what would go wrong later: disk, clock, permissions, certificate, port
    Doctor(doctor::DoctorArgs),
    /// Show what can be configured
    Config(config::ConfigArgs),
}

/// Parses the arguments of this process and runs the command.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.json);
    let result = match cli.command {
        Command::Serve(args) => serve::run(&cli.global, &args, &output),
        Command::Status(args) => status::run(&cli.global, &args, &output),
        Command::Pair(args) => pair::run(&cli.global, &args, &output),
        Command::Switchover(args) => promote::switchover(&cli.global, &args, &output),
        Command::Promote(args) => promote::promote(&cli.global, &args, &output),
        Command::Witness(args) => witness::run(&cli.global, &args, &output),
        Command::User(args) => user::run(&cli.global, &args, &output),
        Command::Log(args) => log::run(&cli.global, &args, &output),
        Command::Backup(args) => backup::run(&cli.global, &args, &output),
        Command::Restore(args) => restore::run(&cli.global, &args, &output),
        Command::Drill(args) => drill::run(&cli.global, &args, &output),
        Command::Bench(args) => bench::run(&args, &output),
        Command::Init(args) => init::run(&cli.global, &args, &output),
        Command::Doctor(args) => doctor::run(&cli.global, &args, &output),
        Command::Config(args) => config::run(&args, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// The wall clock in milliseconds since the Unix epoch; 0 when it is set before 1970.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn data_and_json_stand_anywhere() {
        for line in ["holdfast --data /x --json doctor", "holdfast doctor --json --data /x"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((cli.global.data.to_str(), cli.global.json), (Some("/x"), true));
        }
    }

    #[test]
    fn every_command_and_flag_says_what_it_is() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let wide = after.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{} is too wide", command.get_name());
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn a_wrong_flag_is_a_usage_error() {
        let error = Cli::try_parse_from(["holdfast", "doctor", "--nonsense"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
