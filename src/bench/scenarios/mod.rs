//! The six measurements. Each prepares people and channels through the API, measures, and then checks.

mod failover;
mod fanout;
mod history;
mod idle;
mod restart;
mod send;

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::crew::Crew;
use super::error::BenchError;
use super::machine::{self, Machine};
use super::progress::Progress;
use super::report::BenchReport;
use super::server::{NewChannel, Person, Target};
use super::station::{Body, Plan};
use super::stats::Latency;
use super::{BenchOptions, Scenario};
use crate::limits::{BENCH_BODY_BYTES, BENCH_FILL_WINDOW, BENCH_RESTART_BODY_BYTES};

/// What a scenario works with.
struct Run<'a> {
    options: &'a BenchOptions,
    target: Target,
    progress: Progress,
    report: BenchReport,
}

/// Runs the scenario of the options.
pub(super) async fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    machine::raise_open_files();
    let mut progress = Progress::stderr();
    let target = Target::new(options, &mut progress).await?;
    let machine = Machine::here(target.data());
    let report = BenchReport::new(options.scenario.name().to_owned(), machine, options.to_json());
    let mut run = Run { options, target, progress, report };
    match options.scenario {
        Scenario::Send => Box::pin(send::run(&mut run)).await?,
        Scenario::Fanout => Box::pin(fanout::run(&mut run)).await?,
        Scenario::Idle => Box::pin(idle::run(&mut run)).await?,
        Scenario::History => Box::pin(history::run(&mut run)).await?,
        Scenario::Restart => Box::pin(restart::run(&mut run)).await?,
        Scenario::Failover => Box::pin(failover::run(&mut run)).await?,
    }
    let Run { mut target, mut report, .. } = run;
    if let Err(error) = target.end().await {
        report.errors += 1;
        report.error_details.push(error.to_string());
    }
    Ok(report)
}

/// Connections that store messages before a measurement.
struct Filler {
    crew: Crew,
    people: Vec<Person>,
    /// The channels of each of them.
    channels: Vec<Rc<[u64]>>,
}

impl Filler {
    /// Stores `messages` messages: `people` send, each to its own channels of `channels`, or all to the only one.
    async fn fill(run: &mut Run<'_>, people: Vec<Person>, channels: usize, messages: u64) -> Result<Self, BenchError> {
        let restart = run.options.scenario == Scenario::Restart;
        let body = run.body(if restart { BENCH_RESTART_BODY_BYTES } else { BENCH_BODY_BYTES });
        let mut http = run.target.http().await?;
        let mut own: Vec<Vec<u64>> = vec![Vec::new(); people.len()];
        for index in 0..channels {
            let owner = index % people.len();
            let members = if channels == 1 { &people[1..] } else { &[] };
            let new = NewChannel { token: &people[owner].token, index, members };
            let channel = run.target.channel(&mut http, &new).await?;
            if channels == 1 {
                own.iter_mut().for_each(|own| own.push(channel));
            } else {
                own[owner].push(channel);
            }
            run.progress.say(|| format!("{index} of {channels} channels created"));
        }
        let channels: Vec<Rc<[u64]>> = own.into_iter().map(Into::into).collect();
        let quota = Rc::new(Cell::new(messages));
        let plan = |(index, (person, channels)): (usize, (&Person, &Rc<[u64]>))| {
            let plan = Plan {
                index: index as u32,
                token: person.token.clone(),
                channels: channels.clone(),
                window: BENCH_FILL_WINDOW,
                rate: None,
                quota: Some(quota.clone()),
                side: None,
                gate: None,
                body,
            };
            (plan, Rc::new(Notify::new()))
        };
        let plans = people.iter().zip(&channels).enumerate().map(plan).collect();
        let mut crew = Crew::open(&run.target, Latency::Answer, plans, &mut run.progress).await?;
        let rate_per_s = crew.fill(messages, &mut run.progress).await?;
        let receivers = if channels.len() > 1 && channels[0] == channels[1] { people.len() as u64 - 1 } else { 0 };
        crew.drain(receivers, &mut run.progress).await;
        crew.leave().await;
        run.report.count_messages(&crew.stats);
        run.report.messages = Some(messages);
        run.report.raw_body_bytes = Some(messages * body.bytes as u64);
        (run.report.rate_per_s, run.report.rate_of) = (Some(rate_per_s), "messages stored");
        Ok(Self { crew, people, channels })
    }
}

impl Run<'_> {
    /// The text to write, without a time in it.
    fn body(&self, bytes: usize) -> Body {
        Body { bytes: self.options.body_bytes.unwrap_or(bytes), timestamp: false }
    }

    /// Notes what the server's data takes on disk.
    fn measure_disk(&mut self) {
        if let Some(data) = self.target.data() {
            self.report.log_bytes = Some(machine::allocated_bytes(&data.join("log")));
            self.report.state_bytes = Some(machine::allocated_bytes(&data.join("state")));
        }
    }
}
