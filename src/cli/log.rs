//! `holdfast log`: the arguments of the commands that read the operation log.

use clap::{Args, Subcommand};

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
Exit code 0: the log is whole. 1: it is damaged; the first damaged place is
named. Works while the server runs.

Example:
  holdfast log verify --data /srv/holdfast")]
    Verify,
    /// Print the records of the log, one per line
    #[command(after_help = "\
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
