//! `holdfast bench`: the arguments of the load generator.

use clap::{Args, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Durable sends: pairs of clients, each send waits for its acknowledgement
    Send,
    /// Deliveries: a few senders, channels full of online members
    Fanout,
    /// Memory of the server for each idle connection
    Idle,
    /// Pages of a long channel: the latest 50 messages, again and again
    History,
    /// Time from kill -9 to ready with many messages stored
    Restart,
}

/// `holdfast bench`
#[derive(Clone, Debug, PartialEq, Args)]
#[command(after_help = "\
Without --url it starts a server of its own in a scratch directory, on
loopback, with TLS unless --no-tls, and ends it after. The load runs on the
same machine, so it competes with the server for the processors.

Examples:
  holdfast bench send --clients 200 --seconds 20
  holdfast bench send --rate 5000 --no-tls      open loop, at a fixed load
  holdfast bench fanout --connections 1000 --no-tls --json
  holdfast bench idle --connections 10000
  holdfast bench history --messages 1000000
  holdfast bench restart --messages 10000000
  holdfast bench send --url https://10.0.0.5:8443 --token hf_...")]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// Seconds of measuring, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Sending clients (send: half of them on each side of the pairs)
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Bytes of each message's text
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub body_bytes: u32,
    /// Sends a second in all, open loop: they do not wait for each other [default: as fast as answers come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// A running server to load [default: start one]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The token of an administrator of that server; it makes the users that send
    #[arg(long, value_name = "TOKEN", requires = "url", env = "HOLDFAST_BENCH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Plain HTTP for the server that is started
    #[arg(long, conflicts_with = "url")]
    pub no_tls: bool,
    /// Messages stored before measuring (history, restart)
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub messages: u64,
    /// Connections held open (fanout, idle)
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        Alone::try_parse_from(line.split(' ')).map(|alone| alone.bench)
    }

    #[test]
    fn defaults_are_as_documented() {
        let expected = BenchArgs {
            scenario: Scenario::Send,
            seconds: 10,
            clients: 200,
            body_bytes: 200,
            rate: None,
            url: None,
            token: None,
            no_tls: false,
            messages: 100_000,
            connections: 1_000,
            json: false,
        };
        assert_eq!(parse("bench send").unwrap(), expected);
    }

    #[test]
    fn the_global_json_flag_is_the_same_flag() {
        #[derive(Parser)]
        struct Whole {
            #[command(flatten)]
            global: super::super::Global,
            #[command(subcommand)]
            command: Command,
        }
        #[derive(clap::Subcommand)]
        enum Command {
            Bench(BenchArgs),
        }
        for (line, expected) in [("x bench send --json", true), ("x --json bench send", true), ("x bench send", false)]
        {
            let whole = Whole::try_parse_from(line.split(' ')).unwrap();
            let Command::Bench(bench) = whole.command;
            assert_eq!((whole.global.json, bench.json), (expected, expected), "{line}");
        }
    }

    #[test]
    fn flags_are_bounded_and_fit_together() {
        let args = parse("bench fanout --connections 5000 --rate 100 --json --url https://x --token hf_x").unwrap();
        assert_eq!((args.connections, args.rate, args.json), (5000, Some(100), true));
        for line in [
            "bench",
            "bench juggle",
            "bench send --seconds 0",
            "bench send --clients -1",
            "bench send --token hf_x",
            "bench send --url https://x --no-tls",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
