//! The planned kind: by command in both directions, and by stopping the active.

use std::time::{Duration, Instant};

use crate::failover::{load_on, settle};
use crate::support::pair::other;
use crate::support::{Book, Pair, PairOptions};

/// What FAILOVER promises is one second; a busy machine gets more.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Nobody was told anything but to go to the other node, and nobody waited long.
fn assert_smooth(book: &Book) {
    println!("{} acknowledged, longest silence {:?}, {:?}", book.acknowledged(), book.longest_silence(), book.failures);
    let known = ["not_active", "connection lost", "shutting_down"];
    assert!(book.failures.keys().all(|why| known.contains(&why.as_str())), "{:?}", book.failures);
    assert!(book.longest_silence() < SILENCE_MAX, "{:?}", book.longest_silence());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_with_a_witness() {
    there_and_back(PairOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_without() {
    there_and_back(PairOptions::alone()).await;
}

async fn there_and_back(options: PairOptions) {
    let pair = Pair::start(options).await;
    let load = load_on(&pair);
    for from in [0, 1, 0] {
        load.until_more(100).await;
        assert_eq!(pair.protected().await, from);
        let refused = pair.nodes[other(from)].command(&["switchover"]).run().await;
        refused.expect(1);
        assert!(refused.stderr.contains("not the active one"), "{refused:?}");
        let began = Instant::now();
        let done = pair.nodes[from].command(&["switchover", "--json"]).run().await.json();
        println!("switched over in {:?}", began.elapsed());
        assert_eq!(done["member"], other(from) + 1, "{done}");
        assert_eq!(pair.active().await, other(from));
    }
    load.until_more(100).await;
    let book = load.stop().await;
    assert_smooth(&book);
    settle(pair, &book).await;
}

/// Nobody waits for a node that said goodbye. So that this shows on a busy machine, too, one would wait for long.
async fn wait_long_for_the_silent(pair: &Pair) {
    pair.nodes[0].command(&["pair", "set", "--solo-after-ms", "10000"]).run().await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_that_is_told_to_stop_hands_over() {
    active_stops(PairOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_witness_it_hands_over_too() {
    active_stops(PairOptions::alone()).await;
}

async fn active_stops(options: PairOptions) {
    let mut pair = Pair::start(options).await;
    wait_long_for_the_silent(&pair).await;
    let load = load_on(&pair);
    for from in [0, 1] {
        assert_eq!(pair.protected().await, from);
        load.until_more(100).await;
        let begun = Instant::now();
        pair.nodes[from].stop().await;
        assert!(pair.nodes[from].stderr().contains("handed over before stopping"), "{}", pair.nodes[from].stderr());
        let active = pair.status(other(from)).await.unwrap();
        assert_eq!(active["role"], "active", "{active:#}");
        load.until_more(100).await;
        println!("the active was stopped: silence {:?}", load.book().longest_silence_since(begun));
        pair.nodes[from].start_again().await;
    }
    pair.protected().await;
    let book = load.stop().await;
    assert_smooth(&book);
    settle(pair, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_told_to_stop_is_not_waited_for() {
    standby_stops(PairOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_witness_it_is_not_waited_for_either() {
    standby_stops(PairOptions::alone()).await;
}

async fn standby_stops(options: PairOptions) {
    let mut pair = Pair::start(options).await;
    wait_long_for_the_silent(&pair).await;
    let load = load_on(&pair);
    for _ in 0..2 {
        assert_eq!(pair.protected().await, 0);
        load.until_more(100).await;
        let begun = Instant::now();
        pair.nodes[1].stop().await;
        load.until_more(100).await;
        println!("the standby was stopped: silence {:?}", load.book().longest_silence_since(begun));
        let alone = pair.until_status(0, "exposed", |status| status["exposed_since_ms"].is_u64()).await;
        assert_eq!(alone["role"], "active", "{alone:#}");
        pair.nodes[1].start_again().await;
    }
    pair.protected().await;
    let book = load.stop().await;
    assert!(book.failures.is_empty(), "nobody was sent away: {:?}", book.failures);
    assert_smooth(&book);
    settle(pair, &book).await;
}
