//! Pairs of people write to each other in direct channels: durable sends per second, and how long an acknowledgement takes.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::Run;
use crate::bench::check::{self, Watched};
use crate::bench::crew::Crew;
use crate::bench::error::BenchError;
use crate::bench::nodes::NodeIndex;
use crate::bench::station::{Body, Plan};
use crate::bench::stats::Latency;
use crate::limits::{BENCH_BODY_BYTES, BENCH_FILL_WINDOW, BENCH_SEND_CLIENTS, BENCH_SEND_WINDOW};

/// How the people write.
pub(super) struct Manner {
    /// How many they are.
    pub(super) clients: usize,
    /// What they write.
    pub(super) body: Body,
    /// Unanswered sends of one, unless there is a rate.
    pub(super) window: usize,
    /// Sends per second of all; otherwise as fast as answers come.
    pub(super) rate: Option<u64>,
    /// The only node that the second of each two may use while that is set.
    pub(super) side: Option<Rc<Cell<Option<NodeIndex>>>>,
}

/// The channels and connections of people that write to each other, two by two.
pub(super) async fn people_in_twos(
    run: &mut Run<'_>,
    manner: &Manner,
) -> Result<(Vec<Watched>, Vec<(Plan, Rc<Notify>)>), BenchError> {
    let (clients, body) = (manner.clients, manner.body);
    let people = run.target.people(clients, &mut run.progress).await?;
    let mut http = run.target.http().await?;
    let mut watched = Vec::new();
    let mut plans = Vec::new();
    for (pair, two) in people.chunks_exact(2).enumerate() {
        let channel = run.target.direct(&mut http, &two[0], &two[1]).await?;
        let indexes = [pair as u32 * 2, pair as u32 * 2 + 1];
        for (person, index) in two.iter().zip(indexes) {
            // At a fixed rate nobody holds a send back, up to what the server allows one connection.
            let window = if manner.rate.is_some() { BENCH_FILL_WINDOW } else { manner.window };
            let plan = Plan {
                index,
                token: person.token.clone(),
                channels: [channel].into(),
                window,
                rate: manner.rate.map(|rate| (rate as f64, index as usize, clients)),
                quota: None,
                side: manner.side.clone().filter(|_| index % 2 == 1),
                gate: None,
                body,
            };
            plans.push((plan, Rc::new(Notify::new())));
        }
        let (senders, receivers) = (indexes.to_vec(), indexes.to_vec());
        watched.push(Watched { channel, token: two[0].token.clone(), senders, receivers });
        run.progress.say(|| format!("{pair} of {} direct channels created", clients / 2));
    }
    Ok((watched, plans))
}

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let clients = run.options.clients.unwrap_or(BENCH_SEND_CLIENTS) / 2 * 2;
    let body = run.body(BENCH_BODY_BYTES);
    let manner = Manner { clients, body, window: BENCH_SEND_WINDOW, rate: run.options.rate, side: None };
    let (watched, plans) = people_in_twos(run, &manner).await?;
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
