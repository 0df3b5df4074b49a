//! The active node dies under load.

use crate::support::load::Senders;
use crate::support::pair::other;
use crate::support::{Load, Pair, PairOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_witness_the_standby_takes_over_and_the_old_active_comes_back() {
    killed_and_back(PairOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_witness_too() {
    killed_and_back(PairOptions::alone()).await;
}

async fn killed_and_back(options: PairOptions) {
    let mut pair = Pair::start(options).await;
    let load = Load::start(&pair.endpoints(), &pair.owner, (&pair.channel, Senders::default()));
    load.until_more(200).await;
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    load.until_more(200).await;
    pair.nodes[0].start_again().await;
    assert_eq!(pair.protected().await, 1, "the one that took over goes on");
    load.until_more(100).await;
    let book = load.stop().await;
    println!("{} acknowledged, silence {:?}, {:?}", book.acknowledged(), book.longest_silence(), book.failures);
    let active = pair.active().await;
    book.check(&pair.person(active, &pair.owner), &pair.channel).await;
    pair.equal_logs().await;
    book.check(&pair.person(other(active), &pair.owner), &pair.channel).await;
    pair.finish().await;
}
