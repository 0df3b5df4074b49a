//! The active node of a pair fails under load, again and again: how long nothing is acknowledged, and whether everything
//! that was acknowledged is still there, exactly once.
//!
//! A round: the pair is protected; people write; the active fails at a random moment; the clients find the other node by
//! themselves; the damage is repaired; the pair is protected again; the load stops and all that was acknowledged is
//! looked for. The next round's active is then mostly the other node.
//!
//! The gap of a round is the longest time between two successive acknowledgements of which the second arrived after the
//! fault and before the repair. Times are those of arrival at the load generator, over all clients: what people saw,
//! with everything in it that their clients needed to find the other node. Where nobody took over (a full disk on both), it
//! spans the repair.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Run;
use super::send::{Manner, people_in_twos};
use crate::bench::Fault;
use crate::bench::audit::Audit;
use crate::bench::check::{self, Watched};
use crate::bench::client::Http;
use crate::bench::crew::Crew;
use crate::bench::error::BenchError;
use crate::bench::gaps::Round;
use crate::bench::nodes::NodeIndex;
use crate::bench::station::Body;
use crate::bench::stats::{Latency, Phase};
use crate::bench::text::Picker;
use crate::bench::verify::Verdict;
use crate::limits::{
    BENCH_BODY_BYTES, BENCH_DISK_FULL_RATE, BENCH_FAILOVER_CLIENTS, BENCH_FAILOVER_ROUNDS, BENCH_FAULT_AFTER_MS,
    BENCH_FAULT_LASTS_MS, BENCH_POLL_MS, BENCH_SETTLED_MS, BENCH_TAKEOVER_SECONDS_MAX,
};

/// The load, and what is known of it.
struct Load {
    crew: Crew,
    watched: Vec<Watched>,
    body: Body,
    audit: Audit,
    /// The only node that half of the clients may use while that is set.
    side: Rc<Cell<Option<NodeIndex>>>,
    picker: Picker,
    fault: Fault,
    may_merge: bool,
}

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let wanted = run.options.rounds.unwrap_or(BENCH_FAILOVER_ROUNDS);
    let mut load = Load::open(run).await?;
    let mut rounds = Vec::new();
    while (rounds.len() as u64) < wanted {
        match load.round(run).await {
            Ok(round) => {
                let (number, verdict) = (rounds.len() + 1, load.audit.verdict());
                run.progress.tell(&line((number, wanted), &round, verdict));
                rounds.push(round);
            }
            // What was found until then is told all the same.
            Err(error) => {
                load.crew.stats.fault(format!("round {}: {error}", rounds.len() + 1));
                break;
            }
        }
    }
    load.crew.leave().await;
    run.report.count(&load.crew.stats);
    run.report.count_messages(&load.crew.stats);
    run.report.connections = Some(load.crew.books.len() as u64);
    run.report.judge(load.audit.verdict());
    if !load.may_merge {
        run.report.judge(load.delivered());
    }
    let figures = &mut run.report.failover;
    figures.fault = Some(load.fault.name());
    figures.witness = Some(run.options.witness);
    figures.failed_sends = Some(load.crew.stats.failed_sends.get());
    figures.late_answers = Some(load.crew.stats.late_answers.get());
    figures.merged = load.may_merge.then(|| load.audit.merged());
    figures.finish(rounds);
    Ok(())
}

/// What is said of a finished round.
fn line((number, wanted): (usize, u64), round: &Round, verdict: Verdict) -> String {
    let Round { gap_ms, repair_gap_ms, protected_ms, active_before, acknowledged, .. } = round;
    let who = if round.took_over { "the other node took over" } else { "nobody took over" };
    format!(
        "round {number} of {wanted}: node {active_before} was active, {who}, gap {gap_ms:.0} ms; repaired: protected \
         after {protected_ms:.0} ms, gap {repair_gap_ms:.0} ms; {acknowledged} acknowledged, {} lost, {} duplicated",
        verdict.lost, verdict.duplicated
    )
}

impl Load {
    async fn open(run: &mut Run<'_>) -> Result<Self, BenchError> {
        let clients = run.options.clients.unwrap_or(BENCH_FAILOVER_CLIENTS) / 2 * 2;
        let fault = run.options.fault;
        let body = run.body(BENCH_BODY_BYTES);
        let side = Rc::new(Cell::new(None));
        let rate = run.options.rate.or((fault == Fault::DiskFull).then_some(BENCH_DISK_FULL_RATE));
        let manner = Manner { clients, body, window: 1, rate, side: Some(side.clone()) };
        let (watched, plans) = people_in_twos(run, &manner).await?;
        let crew = Crew::open(&run.target, Latency::Answer, plans, &mut run.progress).await?;
        let may_merge = !run.options.witness;
        crew.stats.may_merge.set(may_merge);
        let audit = Audit::new(run.target.run, (watched.len(), clients), may_merge);
        let picker = Picker::new(u64::from(run.target.run));
        Ok(Self { crew, watched, body, audit, side, picker, fault, may_merge })
    }

    async fn round(&mut self, run: &mut Run<'_>) -> Result<Round, BenchError> {
        let active = run.target.pair().ok_or_else(no_pair)?.whole(&mut run.progress).await?;
        self.crew.enter(Phase::Load);
        self.crew.enter(Phase::Measure);
        let load_ms = BENCH_FAULT_AFTER_MS + self.picker.below(BENCH_FAULT_AFTER_MS as usize) as u64;
        tokio::time::sleep(Duration::from_millis(load_ms)).await;
        let took_over = self.fail(run, active).await?;
        let gap_ms = self.crew.stats.longest_silence_ms();
        if took_over {
            self.crew.stats.watch_silence();
        }
        let repair = Instant::now();
        self.side.set(None);
        let pair = run.target.pair().ok_or_else(no_pair)?;
        pair.repair_node(active, self.fault)?;
        let now_active = pair.whole(&mut run.progress).await?;
        let protected_ms = repair.elapsed().as_secs_f64() * 1_000.0;
        self.crew.enter(Phase::Drain);
        self.crew.drain(u64::from(!self.may_merge), &mut run.progress).await;
        let after_ms = self.crew.stats.longest_silence_ms();
        let unanswered = self.crew.stats.unanswered.get();
        if unanswered > 0 {
            let detail = format!("{unanswered} sends had no answer although the pair was protected again");
            return Err(BenchError::Protocol { op: "end the load".to_owned(), detail });
        }
        self.look(run, now_active).await?;
        Ok(Round {
            gap_ms: if took_over { gap_ms } else { after_ms },
            repair_gap_ms: if took_over { after_ms } else { 0.0 },
            protected_ms,
            took_over,
            active_before: active,
            acknowledged: self.crew.stats.acknowledged.get(),
        })
    }

    /// Does the fault and waits until the other node took over, and a little longer. Gives whether it did.
    async fn fail(&mut self, run: &mut Run<'_>, active: usize) -> Result<bool, BenchError> {
        let other = 1 - active;
        let pair = run.target.pair().ok_or_else(no_pair)?;
        let other_url = pair.url(other).to_owned();
        self.crew.stats.watch_silence();
        let begin = Instant::now();
        pair.break_node(active, self.fault).await?;
        let nodes = &run.target.nodes;
        let other_node = nodes.index_of(&other_url).ok_or_else(no_pair)?;
        if self.fault == Fault::Partition && self.may_merge {
            // Nobody else decides who may go on, so both may: half of the clients are on the other side of the cut.
            self.side.set(Some(other_node));
        }
        let lasts = match self.fault {
            Fault::Kill | Fault::Switchover => Duration::ZERO,
            Fault::Pause | Fault::Partition | Fault::DiskFull => Duration::from_millis(BENCH_FAULT_LASTS_MS),
        };
        let may_stay = self.fault == Fault::DiskFull;
        let limit = if may_stay { lasts } else { Duration::from_secs(BENCH_TAKEOVER_SECONDS_MAX) };
        let mut acknowledged_before = None;
        let mut over_since = None;
        loop {
            tokio::time::sleep(Duration::from_millis(BENCH_POLL_MS)).await;
            let acknowledged = self.crew.stats.acknowledged.get();
            if nodes.current() == other_node {
                let before = *acknowledged_before.get_or_insert(acknowledged);
                if acknowledged > before {
                    over_since.get_or_insert_with(Instant::now);
                }
            }
            let settled =
                over_since.is_some_and(|since: Instant| since.elapsed().as_millis() as u64 >= BENCH_SETTLED_MS);
            if settled && begin.elapsed() >= lasts {
                return Ok(true);
            }
            if begin.elapsed() >= limit {
                if may_stay {
                    return Ok(over_since.is_some());
                }
                let detail = format!("node {other} took no client over within {BENCH_TAKEOVER_SECONDS_MAX} s");
                return Err(BenchError::Protocol { op: format!("{} node {active}", self.fault.name()), detail });
            }
            run.progress.say(|| format!("waiting until node {other} takes over; {acknowledged} acknowledged"));
        }
    }

    /// Looks for everything that was acknowledged so far.
    async fn look(&mut self, run: &mut Run<'_>, active: usize) -> Result<(), BenchError> {
        let pair = run.target.pair().ok_or_else(no_pair)?;
        let url = pair.url(active).to_owned();
        let node = run.target.nodes.index_of(&url).ok_or_else(no_pair)?;
        let mut http = Http::connect(&run.target.nodes.endpoint_of(node)).await?;
        self.audit.round(&mut http, (&self.watched, self.body), (&self.crew.books, &mut run.progress)).await
    }

    /// What the connections saw arrive, compared with what is stored.
    fn delivered(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (watched, last_seq) in self.watched.iter().zip(self.audit.last_seqs()) {
            for receiver in &watched.receivers {
                let book = self.crew.books[*receiver as usize].borrow();
                verdict += check::received(&book, watched.channel, last_seq);
            }
        }
        verdict
    }
}

fn no_pair() -> BenchError {
    BenchError::options("failover works on a pair that it starts itself")
}
