//! Many WebSockets that said hello and then do nothing: what each costs the server in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Run;
use crate::bench::client::Endpoint;
use crate::bench::crew::joined;
use crate::bench::error::BenchError;
use crate::bench::machine;
use crate::bench::server::{Person, Target};
use crate::bench::socket::{Hello, SharedBuffer, Socket, Turn, shared_buffer};
use crate::bench::stats::{Latency, Stats};
use crate::limits::{
    BENCH_CONNECTIONS_PER_ADDRESS, BENCH_IDLE_CONNECTIONS, BENCH_OPENING_MAX, BENCH_SETTLE_SECONDS_MAX,
};

/// People whose sessions the connections are: presence then changes a few times, not once per connection.
const PEOPLE: usize = 4;
/// Connections that are open before the memory is read for the first time.
const FIRST: usize = 64;
/// Files that this process has open beside the connections, with room to spare.
const OTHER_FILES: u64 = 100;

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let connections = run.options.connections.unwrap_or(BENCH_IDLE_CONNECTIONS);
    let open_files = machine::raise_open_files();
    if open_files < connections as u64 + OTHER_FILES {
        return Err(BenchError::options(format!(
            "{connections} connections need more open files than the {open_files} allowed: raise `ulimit -Hn`"
        )));
    }
    let people = run.target.people(PEOPLE.min(connections), &mut run.progress).await?;
    if let Some(server) = run.target.server() {
        // What password hashing left behind would be used up first and hide what connections take.
        let url = server.end_and_start().await?;
        run.target.nodes.moved(&url)?;
    }
    let mut held = Held {
        people,
        stats: Rc::new(Stats::new(Latency::Answer)),
        buffer: shared_buffer(),
        holding: JoinSet::new(),
        opened: 0,
    };
    // The first ones set up what all share.
    let first = FIRST.min(connections / 10);
    held.open_until(first, run).await?;
    let before = settled_rss_bytes(&run.target).await;
    let cpu = (run.target.cpu_seconds(), machine::cpu_seconds(std::process::id()));
    let start = Instant::now();
    held.open_until(connections, run).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = settled_rss_bytes(&run.target).await;
    let since = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
    run.report.server_cpu_seconds = since(run.target.cpu_seconds(), cpu.0);
    run.report.client_cpu_seconds = since(machine::cpu_seconds(std::process::id()), cpu.1);
    run.report.count(&held.stats);
    run.report.connections = Some(connections as u64);
    run.report.server_rss_bytes = after;
    run.report.bytes_per_connection =
        before.zip(after).map(|(before, after)| after.saturating_sub(before) / (connections - first) as u64);
    (run.report.rate_per_s, run.report.rate_of) = (Some((connections - first) as f64 / seconds), "connections opened");
    Ok(())
}

/// The open connections. They end when this is dropped.
struct Held {
    people: Vec<Person>,
    stats: Rc<Stats>,
    buffer: SharedBuffer,
    holding: JoinSet<()>,
    opened: usize,
}

impl Held {
    /// Opens more until there are `count`.
    async fn open_until(&mut self, count: usize, run: &mut Run<'_>) -> Result<(), BenchError> {
        let endpoint = run.target.nodes.endpoint();
        let mut opening = JoinSet::new();
        loop {
            while self.opened < count && opening.len() < BENCH_OPENING_MAX {
                let person = &self.people[self.opened % self.people.len()];
                let source = endpoint.is_loopback().then(|| source(self.opened));
                opening.spawn_local(open(endpoint.clone(), person.token.clone(), source, self.buffer.clone()));
                self.opened += 1;
            }
            let Some(socket) = opening.join_next().await else { return Ok(()) };
            self.holding.spawn_local(hold(joined(socket)?, self.stats.clone()));
            run.progress.say(|| format!("{} of {count} connections open", self.holding.len()));
        }
    }
}

/// One loopback address for so many connections that its ports suffice.
fn source(index: usize) -> IpAddr {
    let block = (index / BENCH_CONNECTIONS_PER_ADDRESS) as u8;
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + block))
}

async fn open(
    endpoint: Rc<Endpoint>,
    token: Rc<str>,
    source: Option<IpAddr>,
    buffer: SharedBuffer,
) -> Result<Socket, BenchError> {
    let hello = Hello { token: &token, pos: None, source };
    Ok(Socket::connect(&endpoint, &hello, &buffer).await?.0)
}

/// Answers pings; anything that ends the connection is a fault.
async fn hold(mut socket: Socket, stats: Rc<Stats>) {
    loop {
        match socket.turn(|_, _| Ok(())).await {
            Ok(Turn::Progress) => {}
            Ok(Turn::Closed(code)) => return stats.fault(format!("an idle connection was closed, code {code:?}")),
            Err(error) => return stats.fault(error),
        }
    }
}

/// The server's memory once it changes by less than 1 % in half a second, or a bounded time later.
async fn settled_rss_bytes(target: &Target) -> Option<u64> {
    let deadline = Instant::now() + Duration::from_secs(BENCH_SETTLE_SECONDS_MAX);
    let mut last = target.rss_bytes()?;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = target.rss_bytes()?;
        if now.abs_diff(last) < last / 100 || Instant::now() > deadline {
            return Some(now);
        }
        last = now;
    }
}
