//! The witness is lost; then the standby too; then they come back.

use crate::failover::{load_on, settle};
use crate::support::{Api, Call, Pair, PairOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_it_the_pair_goes_on_and_without_anybody_it_acknowledges_nothing() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    load.until_more(100).await;
    pair.witness.as_mut().unwrap().kill9();
    let status = pair
        .until_status(0, "unsure of the witness", |status| {
            status["automatic_failover"] == false && status["protected"] == true
        })
        .await;
    let why = status["automatic_failover_obstacle"].as_str().unwrap();
    assert!(why.contains("witness"), "{status:#}");
    load.until_more(100).await;

    // Alone it cannot know whether the other two have gone on without it.
    pair.nodes[1].kill9();
    let status = pair.until_status(0, "isolated", |status| status["isolated"] == true).await;
    assert!(status["summary"].as_str().unwrap().contains("isolated"), "{status:#}");
    assert_eq!(send(&pair.api(0, &pair.owner), &pair.channel).await, Err("not_active".to_owned()));
    let before = load.acknowledged();

    // One of them is enough.
    pair.witness.as_mut().unwrap().start_again().await;
    pair.until_status(0, "reached again", |status| status["isolated"] == false).await;
    load.until_more(100).await;
    assert!(load.acknowledged() > before);
    let status = pair.status(0).await.unwrap();
    assert_eq!((&status["pairing"]["state"], &status["protected"]), (&"solo".into(), &false.into()), "{status:#}");
    let from = status["exposed_from"].as_u64().expect("from which record on");
    assert!(from > 0 && status["exposed_since_ms"].as_u64().is_some(), "{status:#}");

    // Again alone, now with the witness's word for it: that still counts.
    pair.witness.as_mut().unwrap().kill9();
    load.until_more(100).await;
    pair.nodes[1].start_again().await;
    pair.witness.as_mut().unwrap().start_again().await;
    assert_eq!(pair.protected().await, 0);
    load.until_more(50).await;
    let book = load.stop().await;
    settle(pair, &book).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_may_be_what_comes_back_first() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    load.until_more(50).await;
    pair.witness.as_mut().unwrap().kill9();
    pair.nodes[1].kill9();
    pair.until_status(0, "isolated", |status| status["isolated"] == true).await;
    pair.nodes[1].start_again().await;
    pair.until_status(0, "reached again", |status| status["isolated"] == false).await;
    load.until_more(100).await;
    pair.witness.as_mut().unwrap().start_again().await;
    let book = load.stop().await;
    settle(pair, &book).await;
}

/// The code of the refusal, if it is one.
async fn send(api: &Api, channel: &str) -> Result<u64, String> {
    let body = serde_json::json!({"client_id": crate::support::people::client_id(), "body": "is anybody there?"});
    let call = Call::new("POST", &format!("/api/v1/channels/{channel}/messages")).json(&body);
    let answer = api.send(call).await;
    match answer.status {
        201 => Ok(answer.json()["seq"].as_u64().unwrap()),
        _ => Err(answer.json()["code"].as_str().unwrap().to_owned()),
    }
}
