//! All connections of a benchmark: opens them, takes them through the phases, and waits for the last answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::error::BenchError;
use super::machine;
use super::nodes::Nodes;
use super::progress::Progress;
use super::server::Target;
use super::socket::shared_buffer;
use super::station::{Book, Plan, Site, Station};
use super::stats::{Latency, Phase, Stats};
use crate::limits::{BENCH_DRAIN_SECONDS_MAX, BENCH_OPENING_MAX, BENCH_WARMUP_MS};

/// How often the phases look at the clock and the counters.
const TICK: Duration = Duration::from_millis(20);

/// Between two ticks: a quarter of a second.
const TELL: Duration = Duration::from_millis(250);

/// All connections of a benchmark. They end when this is dropped.
pub struct Crew {
    /// What they count.
    pub stats: Rc<Stats>,
    /// What each was promised and saw, by its index.
    pub books: Vec<Rc<RefCell<Book>>>,
    wakes: Vec<Rc<Notify>>,
    tasks: JoinSet<()>,
}

/// What the two sides used during the measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The server's memory at the end.
    pub server_rss_bytes: Option<u64>,
    /// The server's processor time.
    pub server_cpu_seconds: Option<f64>,
    /// The load generator's processor time.
    pub client_cpu_seconds: Option<f64>,
}

impl Crew {
    /// Opens a connection per plan; `wakes[i]` is what wakes the i-th. Plan i must have index i.
    ///
    /// # Errors
    /// A connection failed.
    pub async fn open(
        target: &Target,
        latency: Latency,
        plans: Vec<(Plan, Rc<Notify>)>,
        progress: &mut Progress,
    ) -> Result<Self, BenchError> {
        let stats = Rc::new(Stats::new(latency));
        let site = Site { nodes: target.nodes.clone(), buffer: shared_buffer(), stats: stats.clone(), run: target.run };
        let count = plans.len();
        let mut crew = Self { stats, books: Vec::new(), wakes: Vec::new(), tasks: JoinSet::new() };
        let mut opening = JoinSet::new();
        let mut plans = plans.into_iter();
        loop {
            while opening.len() < BENCH_OPENING_MAX {
                let Some((plan, wake)) = plans.next() else { break };
                let book = Rc::new(RefCell::new(Book::default()));
                crew.books.push(book.clone());
                crew.wakes.push(wake.clone());
                opening.spawn_local(Station::open(site.clone(), plan, wake, book));
            }
            let Some(opened) = opening.join_next().await else { break };
            crew.tasks.spawn_local(joined(opened)?.run());
            progress.say(|| format!("{} of {count} connections open", crew.tasks.len()));
        }
        crew.tasks.spawn_local(tick(target.nodes.clone(), crew.wakes.clone()));
        Ok(crew)
    }

    /// Goes to another phase and wakes all.
    pub fn enter(&self, phase: Phase) {
        self.stats.enter(phase);
        self.wakes.iter().for_each(|wake| wake.notify_one());
    }

    /// Load for a short time, then measured load for `seconds`.
    pub async fn measure(&self, seconds: u64, target: &Target, progress: &mut Progress) -> Usage {
        self.enter(Phase::Load);
        self.wait(Duration::from_millis(BENCH_WARMUP_MS), progress).await;
        let before = (target.cpu_seconds(), machine::cpu_seconds(std::process::id()));
        self.enter(Phase::Measure);
        self.wait(Duration::from_secs(seconds), progress).await;
        self.enter(Phase::Drain);
        let since = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
        Usage {
            server_rss_bytes: target.rss_bytes(),
            server_cpu_seconds: since(target.cpu_seconds(), before.0),
            client_cpu_seconds: since(machine::cpu_seconds(std::process::id()), before.1),
        }
    }

    async fn wait(&self, time: Duration, progress: &mut Progress) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::sleep(TICK.min(end.saturating_duration_since(Instant::now()))).await;
            let (acknowledged, delivered) = (self.stats.acknowledged.get(), self.stats.delivered.get());
            progress.say(|| format!("{acknowledged} acknowledged, {delivered} delivered"));
        }
    }

    /// Sends until the plans' quota is used up and all is acknowledged. Gives sends per second.
    ///
    /// # Errors
    /// Connections failed, so that it cannot be reached.
    pub async fn fill(&mut self, messages: u64, progress: &mut Progress) -> Result<f64, BenchError> {
        self.enter(Phase::Load);
        let start = Instant::now();
        while self.stats.acknowledged.get() < messages {
            let (errors, faults) = self.stats.faults();
            if errors > 0 {
                let detail = faults.join("; ");
                return Err(BenchError::Protocol { op: "store messages".to_owned(), detail });
            }
            tokio::time::sleep(TICK).await;
            let (stored, seconds) = (self.stats.acknowledged.get(), start.elapsed().as_secs_f64());
            progress.say(|| format!("{stored} of {messages} messages stored, {:.0}/s", stored as f64 / seconds));
        }
        let rate = messages as f64 / start.elapsed().as_secs_f64();
        self.enter(Phase::Drain);
        Ok(rate)
    }

    /// Waits, for a bounded time, until everything sent is answered and delivered to `receivers` others each. What does
    /// not come is found by the checks that follow.
    pub async fn drain(&self, receivers: u64, progress: &mut Progress) {
        let end = Instant::now() + Duration::from_secs(BENCH_DRAIN_SECONDS_MAX);
        let is_done = || {
            let stats = &self.stats;
            let arrived = stats.delivered.get() >= stats.acknowledged.get() * receivers;
            // Who had to fetch everything again never gets the events in between.
            stats.unanswered.get() == 0 && (arrived || stats.refetches.get() > 0)
        };
        while !is_done() && Instant::now() < end {
            tokio::time::sleep(TICK).await;
            progress.say(|| format!("waiting for {} answers and the last deliveries", self.stats.unanswered.get()));
        }
    }

    /// Closes all connections; the books stay.
    pub async fn leave(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Counts quarter seconds for the connections. Where there is another node to ask, each looks whether its own is silent.
async fn tick(nodes: Rc<Nodes>, wakes: Vec<Rc<Notify>>) {
    loop {
        tokio::time::sleep(TELL).await;
        nodes.tick.set(nodes.tick.get() + 1);
        if nodes.count() > 1 {
            wakes.iter().for_each(|wake| wake.notify_one());
        }
    }
}

/// The result of a task of ours, none of which may panic.
pub fn joined<T>(result: Result<Result<T, BenchError>, tokio::task::JoinError>) -> Result<T, BenchError> {
    result.unwrap_or_else(|error| {
        Err(BenchError::Protocol { op: "run a connection".to_owned(), detail: error.to_string() })
    })
}
