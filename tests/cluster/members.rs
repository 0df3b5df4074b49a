//! Members leave, are replaced, are promoted by an operator's word; and what level of commands they agree on.

use serde_json::Value;

use crate::failover::{load_on, settle};
use crate::support::pair::{invite, join, join_with, pair_status};
use crate::support::{Pair, PairOptions, Server, Witness, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_goes_on_alone_and_another_machine_takes_the_place() {
    let options = PairOptions::default();
    let mut pair = Pair::start(options.clone()).await;
    let load = load_on(&pair);
    load.until_more(100).await;
    let here = pair.nodes[0].command(&["pair", "leave", "1", "--yes"]).run().await;
    here.expect(1);
    assert!(here.stderr.contains("switch over first"), "{here:?}");
    pair.nodes[0].command(&["pair", "leave", "--yes"]).run().await.expect(0);
    load.until_more(100).await;
    let alone = pair.status(0).await.unwrap();
    assert_eq!((&alone["role"], &alone["isolated"]), (&"active".into(), &false.into()), "{alone:#}");

    // The one that is out says so, also after a restart, and never becomes active again.
    let out = |status: &Value| status["summary"].as_str().is_some_and(|summary| summary.contains("removed"));
    pair.until_status(1, "told that it was removed", out).await;
    pair.nodes[1].kill9();
    pair.nodes[1].start_again().await;
    let status = pair.until_status(1, "sure that it was removed", out).await;
    assert_eq!(status["role"], "standby", "{status:#}");

    let third = join(&pair.nodes[0], options.server(1)).await;
    let removed = std::mem::replace(&mut pair.nodes[1], third);
    assert_eq!(pair.protected().await, 0);
    drop(load.stop().await);
    let load = load_on(&pair);
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    load.until_more(50).await;
    let status = pair_status(removed.data()).await.unwrap();
    assert_eq!(status["role"], "standby", "{status:#}");
    pair.nodes[0].start_again().await;
    let book = load.stop().await;
    settle(pair, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_machine_that_was_off_learns_it_when_it_comes_back() {
    let mut pair = Pair::start(PairOptions::alone()).await;
    pair.nodes[1].kill9();
    pair.nodes[0].command(&["pair", "leave", "2", "--yes"]).run().await.expect(0);
    pair.nodes[1].start_again().await;
    let out = |status: &Value| status["summary"].as_str().is_some_and(|summary| summary.contains("removed"));
    let status = pair.until_status(1, "told that it was removed", out).await;
    assert_eq!(status["role"], "standby", "{status:#}");
    pair.owner.say(&pair.channel, "we go on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_promotes_by_force_and_what_the_other_had_comes_late() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    load.until_more(50).await;
    pair.nodes[1].kill9();
    let solo = |status: &Value| status["pairing"]["state"] == "solo";
    pair.until_status(0, "alone", solo).await;
    load.until_more(100).await;
    let typed = load.stop().await;
    pair.witness.as_mut().unwrap().kill9();
    pair.nodes[0].kill9();

    pair.nodes[1].start_again().await;
    let told = pair.nodes[1].command(&["promote"]).run().await;
    told.expect(0);
    assert!(told.stdout.contains("lost if it never does") && told.stdout.contains("promote --force"), "{told:?}");
    let status = pair.status(1).await.unwrap();
    assert_eq!(status["role"], "standby", "it was only told: {status:#}");
    let unasked = pair.nodes[1].command(&["promote", "--force"]).run().await;
    assert_ne!(unasked.code, Some(0), "nobody was there to ask: {unasked:?}");
    pair.nodes[1].command(&["promote", "--force", "--yes"]).run().await.expect(0);
    let status = pair.is_active(1).await;
    assert_eq!(status["protected"], false, "{status:#}");
    let load = load_on(&pair);
    load.until_more(100).await;

    pair.nodes[0].start_again().await;
    pair.witness.as_mut().unwrap().start_again().await;
    assert_eq!(pair.protected().await, 1, "the operator's choice stands");
    let status = pair
        .until_status(0, "rid of its tail", |status| {
            status["quarantine"].as_array().is_some_and(|tails| !tails.is_empty() && tails[0]["salvaged"] == true)
        })
        .await;
    let tail = std::path::PathBuf::from(status["quarantine"][0]["directory"].as_str().unwrap());
    assert!(tail.starts_with(pair.nodes[0].data()) && tail.join("tail.jsonl").is_file(), "{status:#}");
    let book = load.stop().await;
    // What was typed on the lost side is there once, behind what the others saw first, and says that it was late.
    let owner = pair.person(1, &pair.owner);
    let history = until("everything that was typed is there", async || {
        let history = owner.history(&pair.channel).await;
        let there = |id: &str| history.iter().any(|message| message["client_id"] == *id);
        typed.messages.iter().all(|sent| there(&sent.client_id)).then_some(history)
    })
    .await;
    let late = history.iter().filter(|message| message["late"] == true).count();
    println!("{late} of {} messages came late", history.len());
    assert!(late >= 90, "those that only the lost side had");
    typed.check_anywhere(&owner, &pair.channel).await;
    settle(pair, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_agree_on_the_lower_level() {
    let options = PairOptions::alone();
    // Its log never had a record above level 2, so that a member of that level can join.
    let mut own = options.server(0);
    own.env.push(("HOLDFAST_PAIR_LEVEL_MAX".to_owned(), "2".to_owned()));
    let (first, owner) = Server::start_set_up(own).await;
    let channel = owner.channel("public", &[]).await;
    // Held below every level that a pair can have.
    let mut old = options.server(1);
    old.env.push(("HOLDFAST_PAIR_LEVEL_MAX".to_owned(), "1".to_owned()));
    let second = Server::prepare(old);
    let refused = second.command(&["pair", "join", "--yes", &invite(&first, false).await]).run().await;
    refused.expect(1);
    assert!(refused.stderr.contains("level"), "{refused:?}");

    let mut held = options.server(1);
    held.env.push(("HOLDFAST_PAIR_LEVEL_MAX".to_owned(), "2".to_owned()));
    let mut second = Server::prepare(held);
    join_with(&second, &invite(&first, false).await).await;
    second.start_again().await;
    let pair = Pair { nodes: [first, second], witness: None, owner, channel };
    pair.protected().await;
    let view = pair.owner.api.get("/admin/pair").await.expect(200);
    assert_eq!(view["settings"]["level"], 2, "{view:#}");
    pair.owner.say(&pair.channel, "understood by both").await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_witness_takes_the_place_of_the_old_one() {
    let options = PairOptions::default();
    let mut pair = Pair::start(options.clone()).await;
    let load = load_on(&pair);
    load.until_more(50).await;
    let mut old = pair.witness.take().unwrap();
    old.kill9();
    let invitation = invite(&pair.nodes[0], true).await;
    pair.witness = Some(Witness::join(&invitation, options.sites[2].clone()).await);
    assert_eq!(pair.protected().await, 0);
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    load.until_more(100).await;
    pair.nodes[0].start_again().await;
    assert_eq!(pair.protected().await, 1);
    let book = load.stop().await;
    settle(pair, &book).await;
}
