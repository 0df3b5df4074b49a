//! `holdfast config`: what can be configured.

use clap::{Args, Subcommand};

use super::{CliError, Output};

/// `holdfast config …`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a configuration file with every setting, its default and what it does
    #[command(after_help = "\
Examples:
  holdfast config example > /srv/holdfast/holdfast.toml
  HOLDFAST_SERVER_LISTEN=0.0.0.0:443 holdfast serve
      a variable counts over the file, a flag over both")]
    Example,
}

/// Runs it.
pub fn run(args: &ConfigArgs, output: &Output) -> Result<(), CliError> {
    match args.command {
        ConfigCommand::Example => output.raw(&crate::config::example_file()),
    }
}
