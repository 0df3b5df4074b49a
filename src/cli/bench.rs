//! `holdfast bench`: the arguments of the load generator, and its report.

use clap::{Args, ValueEnum};

use super::{CliError, Output};
use crate::bench::{self, BenchOptions};

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
    /// The active node of a pair fails under load: how long until the other took over
    Failover,
}

/// What is done to the active node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// kill -9; started again after the other node took over
    Kill,
    /// SIGSTOP for 8 s
    Pause,
    /// Nothing passes between it and the other members for 8 s
    Partition,
    /// Its disk is full for 8 s (a disk in memory; needs root)
    DiskFull,
    /// A planned switchover
    Switchover,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Yes
    Yes,
    /// No
    No,
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
  holdfast bench fanout --clients 1000 --no-tls --json
  holdfast bench idle --connections 10000
  holdfast bench history --messages 1000000
  holdfast bench restart --messages 10000000
  holdfast bench send --pair yes                against a pair with a witness
  holdfast bench failover --rounds 100 --json
  holdfast bench failover --fault partition --witness no
  holdfast bench send --url https://10.0.0.5:8443 --token hf_...")]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// Seconds of measuring, after a warm-up [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,
    /// Clients: senders (send, default 200; failover, 100), members online (fanout, 1000), readers (history, 16)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: Option<u32>,
    /// Bytes of each message's text [default: 200; restart: 150]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub body_bytes: Option<u32>,
    /// Open loop: sends (send, failover) or deliveries (fanout) a second in all [default: as fast as answers come]
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
    /// Messages stored before measuring [default: history 1000000, restart 10000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub messages: Option<u64>,
    /// Connections held open (idle) [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: Option<u32>,
    /// Failures of the active (failover) [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rounds: Option<u64>,
    /// How the active fails (failover) [default: kill]
    #[arg(long, value_enum)]
    pub fault: Option<Fault>,
    /// Whether the pair that is started has a witness (failover, send --pair yes) [default: yes]
    #[arg(long, value_enum)]
    pub witness: Option<Choice>,
    /// Start a pair instead of a server (send) [default: no]
    #[arg(long, value_enum, conflicts_with = "url")]
    pub pair: Option<Choice>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

impl Scenario {
    const fn measured(self) -> bench::Scenario {
        match self {
            Self::Send => bench::Scenario::Send,
            Self::Fanout => bench::Scenario::Fanout,
            Self::Idle => bench::Scenario::Idle,
            Self::History => bench::Scenario::History,
            Self::Restart => bench::Scenario::Restart,
            Self::Failover => bench::Scenario::Failover,
        }
    }
}

impl Fault {
    const fn done(self) -> bench::Fault {
        match self {
            Self::Kill => bench::Fault::Kill,
            Self::Pause => bench::Fault::Pause,
            Self::Partition => bench::Fault::Partition,
            Self::DiskFull => bench::Fault::DiskFull,
            Self::Switchover => bench::Fault::Switchover,
        }
    }
}

/// Runs it. Exit code 1 when an acknowledged message is missing or came twice, or something failed.
pub fn run(args: &BenchArgs, output: &Output) -> Result<(), CliError> {
    let options = BenchOptions {
        seconds: args.seconds,
        clients: args.clients.map(|count| count as usize),
        body_bytes: args.body_bytes.map(|bytes| bytes as usize),
        rate: args.rate.map(u64::from),
        url: args.url.clone(),
        token: args.token.clone(),
        no_tls: args.no_tls,
        messages: args.messages,
        connections: args.connections.map(|count| count as usize),
        rounds: args.rounds,
        fault: args.fault.map_or(bench::Fault::Kill, Fault::done),
        witness: args.witness != Some(Choice::No),
        pair: args.pair == Some(Choice::Yes),
        ..BenchOptions::new(args.scenario.measured())
    };
    let report = bench::run(options).map_err(CliError::failed)?;
    output.show(&report.to_json(), &report.to_string())?;
    if report.passed() { Ok(()) } else { Err(CliError::Reported) }
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
            seconds: None,
            clients: None,
            body_bytes: None,
            rate: None,
            url: None,
            token: None,
            no_tls: false,
            messages: None,
            connections: None,
            rounds: None,
            fault: None,
            witness: None,
            pair: None,
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
        let args = parse("bench idle --connections 5000 --rate 100 --json --url https://x --token hf_x").unwrap();
        assert_eq!((args.connections, args.rate, args.json), (Some(5000), Some(100), true));
        let args = parse("bench failover --rounds 3 --fault disk-full --witness no --clients 10").unwrap();
        assert_eq!((args.rounds, args.fault, args.witness), (Some(3), Some(Fault::DiskFull), Some(Choice::No)));
        for (name, fault) in [
            ("kill", bench::Fault::Kill),
            ("pause", bench::Fault::Pause),
            ("partition", bench::Fault::Partition),
            ("disk-full", bench::Fault::DiskFull),
            ("switchover", bench::Fault::Switchover),
        ] {
            let args = parse(&format!("bench failover --fault {name}")).unwrap();
            assert_eq!((args.fault.unwrap().done(), fault.name()), (fault, name));
        }
        for line in [
            "bench failover --rounds 0",
            "bench failover --fault flood",
            "bench failover --witness maybe",
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
