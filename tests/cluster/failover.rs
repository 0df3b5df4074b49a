//! Nodes die under load: one, again and again, both, all.

use crate::support::load::Senders;
use crate::support::pair::other;
use crate::support::{Book, Load, Pair, PairOptions};

/// Starts a load on a pair.
pub(crate) fn load_on(pair: &Pair) -> Load {
    Load::start(&pair.endpoints(), &pair.owner, (&pair.channel, Senders::default()))
}

/// Everything acknowledged is on both nodes, and both are equal in everything else too.
pub(crate) async fn settle(pair: Pair, book: &Book) {
    println!("{} acknowledged, longest silence {:?}, {:?}", book.acknowledged(), book.longest_silence(), book.failures);
    let active = pair.protected().await;
    book.check(&pair.person(active, &pair.owner), &pair.channel).await;
    pair.equal_logs().await;
    book.check(&pair.person(other(active), &pair.owner), &pair.channel).await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_witness_the_standby_takes_over_and_the_old_active_comes_back() {
    killed_and_back(PairOptions { tls: true, ..PairOptions::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_witness_too() {
    killed_and_back(PairOptions::alone()).await;
}

async fn killed_and_back(options: PairOptions) {
    let mut pair = Pair::start(options).await;
    let load = load_on(&pair);
    load.until_more(200).await;
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    load.until_more(200).await;
    pair.nodes[0].start_again().await;
    assert_eq!(pair.protected().await, 1, "the one that took over goes on");
    let standby = pair.status(0).await.unwrap();
    assert_eq!((&standby["role"], &standby["active"]), (&"standby".into(), &2.into()), "{standby:#}");
    load.until_more(100).await;
    let book = load.stop().await;
    settle(pair, &book).await;
}

/// How often the active is killed.
fn rounds() -> usize {
    std::env::var("HOLDFAST_FAILOVER_ROUNDS").map_or(5, |text| text.parse().expect("a number of rounds"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn again_and_again() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    for round in 0..rounds() {
        let active = pair.protected().await;
        load.until_more(50).await;
        pair.nodes[active].kill9();
        pair.is_active(other(active)).await;
        load.until_more(50).await;
        pair.nodes[active].start_again().await;
        assert_eq!(pair.protected().await, other(active), "round {round}");
        if round % 10 == 9 {
            let so_far = load.acknowledged();
            println!("round {}: {so_far} acknowledged, longest silence {:?}", round + 1, load.book().longest_silence());
        }
    }
    let book = load.stop().await;
    settle(pair, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_data_nodes_at_once() {
    everything_at_once(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_three_at_once() {
    everything_at_once(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_nodes_of_a_pair_without_witness_at_once() {
    let pair = Pair::start(PairOptions::alone()).await;
    power_cut(pair).await;
}

async fn everything_at_once(witness: bool) {
    let mut pair = Pair::start(PairOptions::default()).await;
    if witness {
        // As a power cut does it: before anybody notices that the others are gone.
        let third = pair.witness.as_mut().unwrap();
        third.kill9();
    }
    power_cut(pair).await;
}

async fn power_cut(mut pair: Pair) {
    let load = load_on(&pair);
    load.until_more(150).await;
    for node in &mut pair.nodes {
        node.kill9();
    }
    let before = load.acknowledged();
    for node in &mut pair.nodes {
        node.spawn();
    }
    for node in &mut pair.nodes {
        node.listening().await;
    }
    if let Some(witness) = &mut pair.witness
        && !witness.runs()
    {
        witness.start_again().await;
    }
    pair.active().await;
    load.until_more(100).await;
    let book = load.stop().await;
    assert!(book.acknowledged() >= before + 100);
    settle(pair, &book).await;
}
