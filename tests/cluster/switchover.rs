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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_that_is_told_to_stop_hands_over() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    for from in [0, 1] {
        assert_eq!(pair.protected().await, from);
        load.until_more(100).await;
        pair.nodes[from].stop().await;
        assert!(pair.nodes[from].stderr().contains("handed over before stopping"), "{}", pair.nodes[from].stderr());
        let active = pair.status(other(from)).await.unwrap();
        assert_eq!(active["role"], "active", "{active:#}");
        load.until_more(100).await;
        pair.nodes[from].start_again().await;
    }
    pair.protected().await;
    let book = load.stop().await;
    assert_smooth(&book);
    settle(pair, &book).await;
}
