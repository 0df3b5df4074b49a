//! A large diverged tail: proposed again within seconds, also when its node is killed in the middle of it.

use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use crate::lan::{Lan, Place, on_a_lan};
use crate::load::{Book, Load};
use crate::pair::{Pair, Plan};

/// Records that only the losing side of a partition acknowledged: `HOLDFAST_SALVAGE_RECORDS`, 4,000 if it is not set.
fn records() -> usize {
    std::env::var("HOLDFAST_SALVAGE_RECORDS").map_or(4_000, |records| records.parse().expect("a number of records"))
}

/// Has A acknowledge that many records alone, and B some others; the network is whole again afterwards. Gives what was
/// acknowledged.
async fn diverge(lan: &Rc<Lan>, pair: &Pair) -> Book {
    let left = Load::start(pair, "left", &[Place::A], 40);
    let right = Load::start(pair, "right", &[Place::B], 2);
    left.more(50).await;
    lan.part(Place::A, Place::B);
    pair.b.until_status("it promotes itself", |status| status["role"] == "active").await;
    let begun = Instant::now();
    while left.count() < records() + 200 {
        left.more(100).await;
    }
    right.more(50).await;
    let (lefts, rights) = (left.finish().await, right.finish().await);
    eprintln!("{} records on either side after {:?}", lefts.acked.len(), begun.elapsed());
    lan.heal();
    lefts.and(rights)
}

/// The only tail of the returned node.
fn tail(status: &Value) -> &Value {
    &status["pair"]["quarantine"][0]
}

#[test]
fn a_large_tail_is_proposed_again_within_seconds() {
    on_a_lan(async |lan| {
        let pair = Pair::start(&lan, Plan { witness: false, ..Plan::default() }).await;
        let book = diverge(&lan, &pair).await;
        let healed = Instant::now();
        pair.a.until_status("it has rewound", |status| tail(status).is_object()).await;
        let begun = Instant::now();
        let back = pair.a.until_status("its tail is settled", |status| tail(status)["salvaged"] == true).await;
        eprintln!(
            "{} records proposed again in {:?}, {:?} after the network was whole",
            tail(&back)["records"],
            begun.elapsed(),
            healed.elapsed()
        );
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}

/// Waits until at least a part of the tail is proposed, and kills the machine before all of it is.
async fn kill_in_the_middle(pair: &Pair, place: Place, part: impl Fn(u64) -> u64) {
    let status = pair
        .a
        .until_status("a part of the tail is proposed", |status| {
            let (done, all) = (tail(status)["proposed"].as_u64(), tail(status)["to_propose"].as_u64());
            tail(status)["salvaged"] == true || done.zip(all).is_some_and(|(done, all)| done > 0 && done >= part(all))
        })
        .await;
    pair.node(place).kill9();
    assert_eq!(tail(&status)["salvaged"], false, "it was in the middle: {status:#}");
    let (done, all) = (&tail(&status)["proposed"], &tail(&status)["to_propose"]);
    eprintln!("{place:?} killed after {done} of {all} records");
    let said = crate::cuts::summary(&status);
    assert!(said.contains(&format!("{done} of {all} records that only this node had")), "{said}");
    pair.node(place).spawn();
}

#[test]
fn a_kill_of_either_node_while_a_large_tail_is_proposed_loses_and_doubles_nothing() {
    on_a_lan(async |lan| {
        let pair = Pair::start(&lan, Plan { witness: false, ..Plan::default() }).await;
        let book = diverge(&lan, &pair).await;
        kill_in_the_middle(&pair, Place::A, |_| 1).await;
        kill_in_the_middle(&pair, Place::B, |all| all / 2).await;
        pair.a.until_status("its tail is settled", |status| tail(status)["salvaged"] == true).await;
        pair.healed().await;
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}
