//! Pairs of people write to each other in direct channels: durable sends per second, and how long an acknowledgement takes.

use std::rc::Rc;

use tokio::sync::Notify;

use super::Run;
use crate::bench::check::{self, Watched};
use crate::bench::client::Http;
use crate::bench::crew::Crew;
use crate::bench::error::BenchError;
use crate::bench::station::Plan;
use crate::bench::stats::Latency;
use crate::limits::{BENCH_BODY_BYTES, BENCH_FILL_WINDOW, BENCH_SEND_CLIENTS, BENCH_SEND_WINDOW};

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let clients = run.options.clients.unwrap_or(BENCH_SEND_CLIENTS) / 2 * 2;
    let body = run.body(BENCH_BODY_BYTES);
    let people = run.target.people(clients, &mut run.progress).await?;
    let mut http = Http::connect(&run.target.endpoint).await?;
    let mut watched = Vec::new();
    let mut plans = Vec::new();
    for (pair, two) in people.chunks_exact(2).enumerate() {
        let channel = run.target.direct(&mut http, &two[0], &two[1]).await?;
        let indexes = [pair as u32 * 2, pair as u32 * 2 + 1];
        for (person, index) in two.iter().zip(indexes) {
            // At a fixed rate nobody holds a send back, up to what the server allows one connection.
            let window = if run.options.rate.is_some() { BENCH_FILL_WINDOW } else { BENCH_SEND_WINDOW };
            let rate = run.options.rate.map(|rate| (rate as f64, index as usize, clients));
            let token = person.token.clone();
            let plan = Plan { index, token, channels: [channel].into(), window, rate, quota: None, gate: None, body };
            plans.push((plan, Rc::new(Notify::new())));
        }
        let (senders, receivers) = (indexes.to_vec(), indexes.to_vec());
        watched.push(Watched { channel, token: two[0].token.clone(), senders, receivers });
        run.progress.say(|| format!("{pair} of {} direct channels created", clients / 2));
    }
    let mut crew = Crew::open(&run.target, Latency::Answer, plans, &mut run.progress).await?;
    let usage = crew.measure(run.options.seconds(), &run.target, &mut run.progress).await;
    crew.drain(1, &mut run.progress).await;
    crew.leave().await;
    run.report.used(usage);
    run.report.count(&crew.stats);
    run.report.count_messages(&crew.stats);
    run.report.connections = Some(clients as u64);
    run.report.raw_body_bytes = Some(crew.stats.acknowledged.get() * body.bytes as u64);
    run.measure_disk();
    (run.report.rate_per_s, run.report.rate_of) = (Some(crew.stats.rates_per_s().0), "sends");
    run.report.judge(check::channels(&run.target, &watched, body, (&crew.books, &mut run.progress)).await?);
    Ok(())
}
