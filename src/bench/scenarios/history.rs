//! The latest page of a long channel, over and over: pages per second and how long one takes.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Filler, Run};
use crate::bench::check;
use crate::bench::client::{Call, Http};
use crate::bench::error::BenchError;
use crate::bench::follow;
use crate::bench::machine;
use crate::bench::nodes::Nodes;
use crate::bench::scan::is_latest_page;
use crate::bench::stats::{Latency, Phase, Stats, add};
use crate::bench::verify::Verdict;
use crate::limits::{BENCH_HISTORY_CLIENTS, BENCH_HISTORY_MESSAGES, BENCH_WARMUP_MS};

/// People that fill the channel: each receives all of it, so few.
const SENDERS: usize = 4;
/// Messages of a page, the API's default.
const PAGE: u64 = 50;

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let messages = run.options.messages.unwrap_or(BENCH_HISTORY_MESSAGES);
    let people = run.target.people(SENDERS, &mut run.progress).await?;
    let filler = Filler::fill(run, people, 1, messages).await?;
    run.report.count(&filler.crew.stats);
    let (channel, token) = (filler.channels[0][0], filler.people[0].token.clone());
    let stats = Rc::new(Stats::new(Latency::Answer));
    let mut readers = JoinSet::new();
    for _ in 0..run.options.clients.unwrap_or(BENCH_HISTORY_CLIENTS) {
        let http = run.target.http().await?;
        let place = (run.target.nodes.clone(), token.clone());
        readers.spawn_local(read(http, place, (channel, PAGE.min(messages)), stats.clone()));
    }
    stats.enter(Phase::Load);
    tokio::time::sleep(Duration::from_millis(BENCH_WARMUP_MS)).await;
    let before = (run.target.cpu_seconds(), machine::cpu_seconds(std::process::id()));
    stats.enter(Phase::Measure);
    for second in 0..run.options.seconds() {
        run.progress.say(|| format!("reading pages, {second} s, {} read", stats.acknowledged.get()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stats.enter(Phase::Drain);
    let since = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
    run.report.server_rss_bytes = run.target.rss_bytes();
    run.report.server_cpu_seconds = since(run.target.cpu_seconds(), before.0);
    run.report.client_cpu_seconds = since(machine::cpu_seconds(std::process::id()), before.1);
    while readers.join_next().await.is_some() {}
    run.report.count(&stats);
    run.measure_disk();
    (run.report.rate_per_s, run.report.rate_of) = (Some(stats.rates_per_s().0), "pages");
    let mut http = run.target.http().await?;
    let stored = check::last_seqs(&mut http, &token).await?.get(&channel).copied().unwrap_or_default();
    let (lost, duplicated) = (messages.saturating_sub(stored), stored.saturating_sub(messages));
    run.report.judge(Verdict { lost, duplicated, wrong: 0 });
    Ok(())
}

/// Asks for pages until the measurement ends.
async fn read(mut http: Http, place: (Rc<Nodes>, Rc<str>), (channel, count): (u64, u64), stats: Rc<Stats>) {
    let (nodes, token) = place;
    let path = format!("/api/v1/channels/{channel}/messages");
    let call = Call::get(&path, &token);
    // The load starts after all readers are connected.
    while !stats.is_sending() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while stats.is_sending() {
        let start_ns = stats.now_ns();
        match http.exchange(&call).await {
            Ok((status, _, page)) if status.is_success() && is_latest_page(&page, count) => stats.acknowledge(start_ns),
            Ok((status, _, page)) => {
                let start = String::from_utf8_lossy(&page[..page.len().min(200)]).into_owned();
                stats.fault(format!("a wrong page, status {status}: {start}"));
                // A refusal must not become a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // The connection was lost: the server was started again, or another node is to be asked.
            Err(_) => match follow::http(&nodes).await {
                Ok(found) => {
                    http = found;
                    add(&stats.reconnects, 1);
                }
                Err(error) => return stats.fault(error),
            },
        }
    }
}
