//! The load generator behind `holdfast bench`: real clients over real connections, against a server of one's own.
//!
//! It measures, and it checks: every acknowledged message must be stored and delivered exactly once, or the run fails.
//! Everything runs on one thread, as it shares the machine with the server it measures.
//!
//! Must never use anything but the public API, and never report a number that it did not measure.

pub mod audit;
pub mod check;
pub mod client;
pub mod crew;
pub mod error;
pub mod follow;
pub mod forward;
pub mod gaps;
pub mod machine;
pub mod nodes;
pub mod pace;
pub mod pair;
pub mod process;
pub mod progress;
pub mod report;
pub mod scan;
mod scenarios;
pub mod server;
pub mod small_disk;
pub mod socket;
pub mod station;
pub mod stats;
pub mod text;
pub mod verify;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;

pub use error::BenchError;
pub use report::BenchReport;

use crate::limits::{BENCH_BODY_BYTES_MAX, BENCH_SECONDS};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Pairs of people write to each other.
    Send,
    /// A few write to many.
    Fanout,
    /// Many are connected and nothing happens.
    Idle,
    /// The latest messages of a long channel are asked for.
    History,
    /// The server is killed with much stored and started again.
    Restart,
    /// The active node of a pair fails under load, again and again.
    Failover,
}

/// What is done to the active node of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It is killed (SIGKILL) and started again later.
    #[default]
    Kill,
    /// It is stopped (SIGSTOP) for some seconds and wakes up where it was.
    Pause,
    /// Nothing passes between it and the other members for some seconds.
    Partition,
    /// Its disk fills up and is freed again.
    DiskFull,
    /// Its operator hands over to the other node.
    Switchover,
}

impl Fault {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::DiskFull => "disk-full",
            Self::Switchover => "switchover",
        }
    }
}

impl Scenario {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Send, Self::Fanout, Self::Idle, Self::History, Self::Restart, Self::Failover];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Fanout => "fanout",
            Self::Idle => "idle",
            Self::History => "history",
            Self::Restart => "restart",
            Self::Failover => "failover",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scenario {
    type Err = BenchError;
    fn from_str(text: &str) -> Result<Self, BenchError> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == text).ok_or_else(|| {
            BenchError::options(format!(
                "no scenario {text}; there are send, fanout, idle, history, restart and failover"
            ))
        })
    }
}

/// What to measure and how. `None` is the scenario's own default (`limits.rs`).
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// What is measured.
    pub scenario: Scenario,
    /// How long it is measured.
    pub seconds: Option<u64>,
    /// People or connections that do something.
    pub clients: Option<usize>,
    /// Length of a message's text.
    pub body_bytes: Option<usize>,
    /// Open loop: sends (`send`) or deliveries (`fanout`) per second; otherwise as fast as answers come.
    pub rate: Option<u64>,
    /// A server that runs already; otherwise one is started on a scratch directory.
    pub url: Option<String>,
    /// An administrator's token for it.
    pub token: Option<String>,
    /// The authority whose certificates are believed; otherwise any certificate is, so use it with your own server only.
    pub ca_file: Option<PathBuf>,
    /// Start the server without TLS.
    pub no_tls: bool,
    /// Messages stored beforehand (`history`, `restart`).
    pub messages: Option<u64>,
    /// Connections (`idle`; `fanout` when `clients` is not given).
    pub connections: Option<usize>,
    /// Times that the active fails (`failover`).
    pub rounds: Option<u64>,
    /// How it fails (`failover`).
    pub fault: Fault,
    /// The pair that is started has a witness.
    pub witness: bool,
    /// Start a pair instead of a server (`send`); `failover` always does.
    pub pair: bool,
    /// The program to start; otherwise this one.
    pub program: Option<PathBuf>,
}

impl BenchOptions {
    /// The scenario with its defaults, on a server that is started for it.
    #[must_use]
    pub const fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            seconds: None,
            clients: None,
            body_bytes: None,
            rate: None,
            url: None,
            token: None,
            ca_file: None,
            no_tls: false,
            messages: None,
            connections: None,
            rounds: None,
            fault: Fault::Kill,
            witness: true,
            pair: false,
            program: None,
        }
    }

    fn check(&self) -> Result<(), BenchError> {
        let wrong = |detail: &str| Err(BenchError::options(detail));
        if self.seconds == Some(0) || self.rate == Some(0) || self.messages == Some(0) {
            return wrong("--seconds, --rate and --messages must be at least 1");
        }
        if self.clients.is_some_and(|count| count < 2 && self.scenario != Scenario::History) || self.clients == Some(0)
        {
            return wrong("--clients must be at least 2");
        }
        if self.connections == Some(0) {
            return wrong("--connections must be at least 1");
        }
        // A time of 16 digits and a space must fit where one is carried.
        if self.body_bytes.is_some_and(|bytes| !(17..=BENCH_BODY_BYTES_MAX).contains(&bytes)) {
            return Err(BenchError::options(format!("--body-bytes must be from 17 to {BENCH_BODY_BYTES_MAX}")));
        }
        if self.rate.is_some() && !matches!(self.scenario, Scenario::Send | Scenario::Fanout | Scenario::Failover) {
            return wrong("--rate is for the scenarios send, fanout and failover");
        }
        if self.scenario == Scenario::Restart && self.url.is_some() {
            return wrong("restart kills the server, so it only works on one that it starts itself: leave out --url");
        }
        if self.scenario == Scenario::Failover && self.url.is_some() {
            return wrong("failover breaks the nodes of a pair that it starts itself: leave out --url");
        }
        self.check_pair()?;
        if self.url.is_some() && self.no_tls {
            return wrong("--no-tls is for the server that is started; with --url the URL says it");
        }
        if self.url.is_some() != self.token.is_some() {
            return wrong("--url and --token (an administrator's token) belong together");
        }
        Ok(())
    }

    fn check_pair(&self) -> Result<(), BenchError> {
        let wrong = |detail: &str| Err(BenchError::options(detail));
        let failover = self.scenario == Scenario::Failover;
        if !failover && (self.rounds.is_some() || self.fault != Fault::Kill) {
            return wrong("--rounds and --fault are for the scenario failover");
        }
        if self.rounds == Some(0) {
            return wrong("--rounds must be at least 1");
        }
        if self.pair && self.scenario != Scenario::Send {
            return wrong("--pair is for the scenario send; failover always starts a pair");
        }
        if self.pair && self.url.is_some() {
            return wrong("--pair starts a pair of its own: leave out --url");
        }
        if !self.witness && !self.needs_pair() {
            return wrong("--witness is for a pair: failover, or send --pair yes");
        }
        Ok(())
    }

    /// A pair is started for it.
    #[must_use]
    pub fn needs_pair(&self) -> bool {
        self.pair || self.scenario == Scenario::Failover
    }

    /// The program to start.
    fn program(&self) -> Result<PathBuf, BenchError> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => std::env::current_exe().map_err(|error| BenchError::io("find this program's file", &error)),
        }
    }

    fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(BENCH_SECONDS)
    }

    /// The options as the report shows them: without the token.
    fn to_json(&self) -> serde_json::Value {
        json!({
            "scenario": self.scenario.name(), "seconds": self.seconds(), "clients": self.clients,
            "body_bytes": self.body_bytes, "rate": self.rate, "url": self.url, "no_tls": self.no_tls,
            "messages": self.messages, "connections": self.connections, "pair": self.needs_pair(),
            "rounds": self.rounds, "fault": self.fault.name(), "witness": self.needs_pair() && self.witness,
        })
    }
}

/// Measures. Blocks until it is done; may be called from anywhere, as it has a thread and a runtime of its own. Ctrl-C
/// ends it and cleans up.
///
/// # Errors
/// It could not be run. That messages were lost is not such an error: see [`BenchReport::passed`].
pub fn run(options: BenchOptions) -> Result<BenchReport, BenchError> {
    options.check()?;
    let thread = std::thread::Builder::new().name("bench".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| BenchError::io("start the runtime", &error))?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            tokio::select! {
                report = scenarios::run(&options) => report,
                () = interrupted() => Err(BenchError::Interrupted),
            }
        })
    });
    let thread = thread.map_err(|error| BenchError::io("start a thread", &error))?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits for Ctrl-C or SIGTERM: whatever was started is ended then.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_that_lead_back() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.to_string().parse::<Scenario>().unwrap(), scenario);
        }
        assert_eq!("soak".parse::<Scenario>().unwrap_err().code(), "bench_options");
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_starts() {
        let refused = |change: fn(&mut BenchOptions)| {
            let mut options = BenchOptions::new(Scenario::Restart);
            change(&mut options);
            run(options).unwrap_err().to_string()
        };
        assert!(refused(|options| options.seconds = Some(0)).contains("--seconds"));
        assert!(refused(|options| options.rate = Some(5)).contains("--rate"));
        assert!(refused(|options| options.body_bytes = Some(3)).contains("--body-bytes"));
        assert!(refused(|options| options.clients = Some(1)).contains("--clients"));
        assert!(refused(|options| options.url = Some("http://127.0.0.1:1".to_owned())).contains("restart"));
        assert!(refused(|options| options.rounds = Some(3)).contains("--rounds"));
        assert!(refused(|options| options.fault = Fault::Pause).contains("--fault"));
        assert!(refused(|options| options.pair = true).contains("--pair"));
        assert!(refused(|options| options.witness = false).contains("--witness"));
        let failover = |change: fn(&mut BenchOptions)| {
            let mut options = BenchOptions::new(Scenario::Failover);
            change(&mut options);
            run(options).unwrap_err().to_string()
        };
        assert!(failover(|options| options.rounds = Some(0)).contains("--rounds"));
        assert!(failover(|options| options.url = Some("http://127.0.0.1:1".to_owned())).contains("--url"));
        assert!(
            refused(|options| {
                options.scenario = Scenario::Send;
                options.url = Some("http://127.0.0.1:1".to_owned());
            })
            .contains("--token")
        );
    }

    #[test]
    fn the_token_is_not_in_the_report() {
        let mut options = BenchOptions::new(Scenario::Send);
        options.token = Some("hf_secret".to_owned());
        assert!(!options.to_json().to_string().contains("secret"));
    }

    #[test]
    fn a_program_that_ends_at_once_is_told_with_its_output() {
        let mut options = BenchOptions::new(Scenario::Send);
        options.program = Some("/bin/false".into());
        let error = run(options).unwrap_err();
        assert_eq!(error.code(), "bench_server", "{error}");
    }
}
