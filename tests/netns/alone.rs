//! A pair without a witness in a partition: both sides may go on, and nothing that either acknowledged is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cuts::{notices, summary};
use crate::lan::{Place, on_a_lan};
use crate::load::Load;
use crate::pair::{Pair, Plan};
use crate::support::Person;

/// Gives a channel another name.
async fn rename(person: &Person, channel: &str, name: &str) {
    let entry = person.api.get(&format!("/channels/{channel}")).await.expect(200);
    let version = entry["channel"]["version"].as_u64().unwrap_or_else(|| panic!("{entry}"));
    person.api.patch(&format!("/channels/{channel}"), version, json!({"name": name})).await.expect(200);
}

#[test]
fn what_both_sides_of_a_partition_acknowledged_is_there_afterwards() {
    on_a_lan(async |lan| {
        let pair = Pair::start(&lan, Plan { witness: false, ..Plan::default() }).await;
        let disputed = pair.owner.channel("private", &[]).await;
        let left = Load::start(&pair, "left", &[Place::A], 2);
        let right = Load::start(&pair, "right", &[Place::B], 2);
        left.more(50).await;
        lan.part(Place::A, Place::B);

        let alone = pair.a.until_status("exposed", |status| status["pair"]["exposed_since_ms"].is_u64()).await;
        assert_eq!((&alone["role"], summary(&alone).starts_with("exposed")), (&"active".into(), true), "{alone:#}");
        let promoted = pair.b.until_status("it promotes itself", |status| status["role"] == "active").await;
        assert!(notices(&promoted).contains("without a vote"), "{promoted:#}");
        assert_eq!(pair.a.status().await["role"], "active", "both are, and both say that they are exposed");
        let before = left.count();
        left.more(50).await;
        right.more(50).await;
        rename(&pair.owner_on(Place::A), &disputed, "left's name").await;
        rename(&pair.owner_on(Place::B), &disputed, "right's name").await;
        let (lefts, rights) = (left.finish().await, right.finish().await);

        lan.heal();
        let active = pair.healed().await;
        assert_eq!(active, Place::B, "the higher epoch");
        let back = pair
            .a
            .until_status("its tail is settled", |status| status["pair"]["quarantine"][0]["salvaged"] == true)
            .await;
        assert_eq!(back["pair"]["quarantine"].as_array().unwrap().len(), 1, "{back:#}");
        let later: Vec<String> = lefts.acked[before..].iter().map(|acked| acked.body.clone()).collect();
        let history = lefts.and(rights).check(&pair).await;
        let late = |body: &str| history.iter().any(|message| message["body"] == *body && message["late"] == true);
        assert!(later.iter().all(|body| late(body)), "what only the losing side had is marked");
        assert!(!history.iter().any(|message| message["late"] == true && right_side(message)));

        let owner = pair.owner_on(Place::B);
        let conflicts = owner.api.get("/admin/conflicts").await.expect(200);
        let open = conflicts["items"].as_array().unwrap();
        assert_eq!(open.len(), 1, "{conflicts:#}");
        assert!(open[0].to_string().contains("left's name"), "the other value is kept: {conflicts:#}");
        let entry = owner.api.get(&format!("/channels/{disputed}")).await.expect(200);
        assert_eq!(entry["channel"]["name"], "right's name", "the active's stands");
        pair.equal_at_the_end().await;
    });
}

fn right_side(message: &Value) -> bool {
    message["body"].as_str().unwrap().starts_with("right")
}

/// Something that is always on and answers, if only that nobody listens there.
fn reference() -> Vec<String> {
    vec!["--reference".to_owned(), format!("{}:9", Place::G.address())]
}

#[test]
fn an_active_that_cannot_reach_the_reference_stops_and_the_standby_takes_over() {
    on_a_lan(async |lan| {
        let pair = Pair::start(&lan, Plan { witness: false, set: reference(), ..Plan::default() }).await;
        let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
        load.more(50).await;
        let cut = std::time::Instant::now();
        lan.part(Place::A, Place::B);
        lan.part(Place::A, Place::G);
        let alone = pair.a.until_status("it is isolated", |status| status["pair"]["isolated"] == true).await;
        assert!(summary(&alone).contains("isolated"), "{alone:#}");
        let first = load.acked_by(Place::B, cut).await;
        eprintln!("cut to first message acknowledged by B: {:?}", first - cut);
        load.more(30).await;
        let late = load.book().acked.iter().filter(|acked| acked.by == Place::A && acked.at > first).count();
        assert_eq!(late, 0, "the old active acknowledges nothing more");
        lan.heal();
        pair.protected(&pair.b).await;
        let book = load.finish().await;
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}

#[test]
fn a_standby_that_cannot_reach_the_reference_does_not_promote_itself() {
    on_a_lan(async |lan| {
        let pair = Pair::start(&lan, Plan { witness: false, set: reference(), ..Plan::default() }).await;
        let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
        load.more(50).await;
        let epoch = pair.a.status().await["pair"]["epoch"].clone();
        lan.part(Place::B, Place::A);
        lan.part(Place::B, Place::G);
        let why = "the reference address does not answer";
        pair.b.until_status(why, |status| notices(status).contains(why)).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(pair.b.status().await["role"], "standby");
        load.more(30).await;
        let alone = pair.a.status().await;
        assert!(summary(&alone).starts_with("exposed"), "{alone:#}");
        lan.heal();
        let (active, _) = pair.protected(&pair.a).await;
        assert_eq!(active["pair"]["epoch"], epoch, "nobody else was active");
        let book = load.finish().await;
        assert!(book.acked.iter().all(|acked| acked.by == Place::A));
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}
