//! Much is stored, the server is killed without warning and started again: how long until it is ready, what it all takes in
//! memory and on disk, and whether everything is still there.

use super::{Filler, Run};
use crate::bench::check::{self, Stored, is_text_of};
use crate::bench::error::BenchError;
use crate::bench::station::Body;
use crate::bench::text::Picker;
use crate::bench::verify::{Verdict, origin};
use crate::limits::{
    BENCH_FILL_CONNECTIONS, BENCH_PAGE_MAX, BENCH_RESTART_BODY_BYTES, BENCH_RESTART_CHANNELS, BENCH_RESTART_MESSAGES,
    BENCH_SAMPLE_PAGES,
};

pub(super) async fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let messages = run.options.messages.unwrap_or(BENCH_RESTART_MESSAGES);
    let clients = run.options.clients.unwrap_or(BENCH_FILL_CONNECTIONS);
    // So that small runs have channels with some messages in them, too.
    let channels = BENCH_RESTART_CHANNELS.min((messages / 10) as usize).max(clients);
    let people = run.target.people(clients, &mut run.progress).await?;
    let filler = Filler::fill(run, people, channels, messages).await?;
    run.report.count(&filler.crew.stats);
    run.report.server_rss_bytes = run.target.rss_bytes();
    run.report.server_cpu_seconds = run.target.cpu_seconds();
    run.measure_disk();
    let Some(server) = run.target.server() else {
        return Err(BenchError::options("restart only works on a server that it starts itself"));
    };
    let started = server.kill_and_start()?;
    let url = server.ready().await?;
    run.target.nodes.moved(&url)?;
    run.report.ready_ms = Some(started.elapsed().as_secs_f64() * 1_000.0);
    let counted = count(run, &filler).await?;
    run.report.judge(counted);
    let sampled = sample(run, &filler).await?;
    run.report.judge(sampled);
    Ok(())
}

/// Compares the last number of every channel with the number of messages acknowledged for it.
async fn count(run: &mut Run<'_>, filler: &Filler) -> Result<Verdict, BenchError> {
    let mut http = run.target.http().await?;
    let mut verdict = Verdict::default();
    for ((person, channels), book) in filler.people.iter().zip(&filler.channels).zip(&filler.crew.books) {
        let mut expected = vec![0_u64; channels.len()];
        for (counter, _) in book.borrow().ledger.iter() {
            expected[counter as usize % channels.len()] += 1;
        }
        let stored = check::last_seqs(&mut http, &person.token).await?;
        for (channel, expected) in channels.iter().zip(expected) {
            let last_seq = stored.get(channel).copied().unwrap_or_default();
            verdict.lost += expected.saturating_sub(last_seq);
            verdict.duplicated += last_seq.saturating_sub(expected);
        }
        run.progress.say(|| "comparing the counts of all channels".to_owned());
    }
    Ok(verdict)
}

/// Reads pages at random places and compares each message with what was acknowledged.
async fn sample(run: &mut Run<'_>, filler: &Filler) -> Result<Verdict, BenchError> {
    let mut http = run.target.http().await?;
    let mut picker = Picker::new(u64::from(run.target.run));
    let body = run.body(BENCH_RESTART_BODY_BYTES);
    let mut verdict = Verdict::default();
    for done in 0..BENCH_SAMPLE_PAGES {
        let sender = picker.below(filler.people.len());
        let own = &filler.channels[sender];
        let at = picker.below(own.len());
        let acknowledged = filler.crew.books[sender].borrow().ledger.acknowledged() as usize / own.len();
        let after = picker.below(acknowledged + 1) as u64;
        let page = check::page(&mut http, own[at], after, &filler.people[sender].token).await?;
        let expected = page.last_seq.saturating_sub(after).min(BENCH_PAGE_MAX);
        verdict.lost += expected.saturating_sub(page.items.len() as u64);
        for (stored, seq) in page.items.iter().zip(after + 1..) {
            let whole = stored.seq == seq && is_the_one(run.target.run, filler, (sender, at), (stored, body));
            verdict.wrong += u64::from(!whole);
        }
        run.progress.say(|| format!("{done} of {BENCH_SAMPLE_PAGES} pages compared"));
    }
    Ok(verdict)
}

/// True when this is the message that was acknowledged with this number in this channel.
fn is_the_one(run: u32, filler: &Filler, (sender, at): (usize, usize), (stored, body): (&Stored, Body)) -> bool {
    let Some((from, counter)) = origin(run, stored.client_id) else { return false };
    let own = &filler.channels[sender];
    let promised = filler.crew.books[sender].borrow().ledger.seq(counter);
    from as usize == sender
        && counter as usize % own.len() == at
        && promised == Some(stored.seq)
        && is_text_of(stored, body)
}
