//! One of each channel's members writes, all others receive: deliveries per second, and how old a message is on arrival.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::Run;
use crate::bench::check::{self, Watched};
use crate::bench::crew::Crew;
use crate::bench::error::BenchError;
use crate::bench::server::NewChannel;
use crate::bench::station::{Body, Gate, Plan};
use crate::bench::stats::Latency;
use crate::limits::{
    BENCH_BODY_BYTES, BENCH_FANOUT_CLIENTS, BENCH_FANOUT_MEMBERS, BENCH_FANOUT_WINDOW, BENCH_FILL_WINDOW,
};

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let clients = run.options.clients.or(run.options.connections).unwrap_or(BENCH_FANOUT_CLIENTS);
    let members = BENCH_FANOUT_MEMBERS.min(clients);
    let channels = clients / members;
    let body = Body { timestamp: true, ..run.body(BENCH_BODY_BYTES) };
    let people = run.target.people(channels * members, &mut run.progress).await?;
    let mut http = run.target.http().await?;
    let receivers = members as u64 - 1;
    let sends_per_s = run.options.rate.map(|deliveries| deliveries as f64 / receivers as f64);
    let mut watched = Vec::new();
    let mut plans = Vec::new();
    for (index, members) in people.chunks_exact(members).enumerate() {
        let new = NewChannel { token: &members[0].token, index, members: &members[1..] };
        let channel = run.target.channel(&mut http, &new).await?;
        let first = plans.len() as u32;
        let wake = Rc::new(Notify::new());
        let (sent, delivered) = (Cell::new(0), Cell::new(0));
        let gate = Rc::new(Gate { receivers, window: BENCH_FANOUT_WINDOW, sent, delivered, wake: wake.clone() });
        for (person, index_in_all) in members.iter().zip(first..) {
            let is_sender = index_in_all == first;
            let plan = Plan {
                index: index_in_all,
                token: person.token.clone(),
                channels: if is_sender { [channel].into() } else { [].into() },
                window: BENCH_FILL_WINDOW,
                rate: sends_per_s.map(|rate| (rate, index, channels)),
                quota: None,
                side: None,
                gate: Some(gate.clone()),
                body,
            };
            plans.push((plan, if is_sender { wake.clone() } else { Rc::new(Notify::new()) }));
        }
        let receivers = (first..plans.len() as u32).collect();
        watched.push(Watched { channel, token: members[0].token.clone(), senders: vec![first], receivers });
    }
    let mut crew = Crew::open(&run.target, Latency::Delivery, plans, &mut run.progress).await?;
    let usage = crew.measure(run.options.seconds(), &run.target, &mut run.progress).await;
    crew.drain(receivers, &mut run.progress).await;
    crew.leave().await;
    run.report.used(usage);
    run.report.count(&crew.stats);
    run.report.count_messages(&crew.stats);
    run.report.connections = Some(people.len() as u64);
    (run.report.rate_per_s, run.report.rate_of) = (Some(crew.stats.rates_per_s().1), "deliveries");
    run.report.judge(check::channels(&run.target, &watched, body, (&crew.books, &mut run.progress)).await?);
    Ok(())
}
