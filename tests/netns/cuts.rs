//! A pair with a witness whose links are cut, one after the other and in one direction only.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lan::{Lan, Net, Place, on_a_lan};
use crate::load::Load;
use crate::pair::{Pair, Plan};
use crate::support::Ws;

/// How long a cut lasts that must not lead to anything: several times as long as anybody waits for anybody.
pub(crate) const CUT: Duration = Duration::from_secs(6);

/// How often each cut is made: `HOLDFAST_NETNS_ROUNDS`, once if it is not set.
fn rounds() -> usize {
    std::env::var("HOLDFAST_NETNS_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// The summary in a status.
pub(crate) fn summary(status: &Value) -> &str {
    status["pair"]["summary"].as_str().unwrap()
}

/// What the status says has happened, in one text.
pub(crate) fn notices(status: &Value) -> String {
    let told = status["pair"]["notices"].as_array().unwrap().iter();
    told.map(|notice| format!("{}\n", notice["text"].as_str().unwrap())).collect()
}

/// A protected pair with a witness and three people who write.
pub(crate) async fn at_work(lan: &Rc<Lan>) -> (Pair, Load) {
    let pair = Pair::start(lan, Plan::default()).await;
    let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
    load.more(50).await;
    (pair, load)
}

/// Everything is well again and nothing is lost.
pub(crate) async fn well_at_the_end(pair: Pair, load: Load) {
    load.more(20).await;
    let book = load.finish().await;
    pair.healed().await;
    book.check(&pair).await;
    pair.equal_at_the_end().await;
}

#[test]
fn an_active_cut_off_from_all_is_replaced_and_comes_back_as_standby() {
    on_a_lan(async |lan| {
        let (pair, load) = at_work(&lan).await;
        let mut ws = Ws::connect(&pair.owner.api).await;
        let epoch = pair.a.status().await["pair"]["epoch"].as_u64().unwrap();
        let cut = Instant::now();
        lan.part(Place::A, Place::B);
        lan.part(Place::A, Place::W);

        let first = load.acked_by(Place::B, cut).await;
        eprintln!("cut to first message acknowledged by B: {:?}", first - cut);
        let alone = pair.a.until_status("it is isolated", |status| status["pair"]["isolated"] == true).await;
        assert!(summary(&alone).contains("isolated"), "{alone:#}");
        assert_eq!(ws.closed().await, Some(4010), "its clients are sent away");
        let now = pair.b.until_status("it is active", |status| status["role"] == "active").await;
        assert_eq!(now["pair"]["epoch"].as_u64().unwrap(), epoch + 1, "{now:#}");
        assert!(summary(&now).starts_with("exposed for"), "{now:#}");
        assert_eq!(now["pair"]["automatic_failover_obstacle"], "the other data node is not heard");
        load.more(30).await;
        let late = load.book().acked.iter().filter(|acked| acked.by == Place::A && acked.at > first).count();
        assert_eq!(late, 0, "the old active acknowledges nothing more");

        lan.heal();
        let (_, back) = pair.protected(&pair.b).await;
        eprintln!("the returned node: {} tails in quarantine", back["pair"]["quarantine"].as_array().unwrap().len());
        for tail in back["pair"]["quarantine"].as_array().unwrap() {
            assert!(tail["records"].as_u64().unwrap() > 0, "{tail}");
        }
        well_at_the_end(pair, load).await;
    });
}

#[test]
fn a_pair_whose_two_nodes_lose_each_other_goes_on_exposed() {
    on_a_lan(async |lan| {
        let (pair, load) = at_work(&lan).await;
        let epoch = pair.a.status().await["pair"]["epoch"].clone();
        let cut = Instant::now();
        lan.part(Place::A, Place::B);
        let alone = pair.a.until_status("exposed", |status| status["pair"]["exposed_since_ms"].is_u64()).await;
        assert!(summary(&alone).starts_with("exposed for"), "{alone:#}");
        assert_eq!(alone["pair"]["pairing"]["state"], "solo", "the witness has recorded it");
        tokio::time::sleep(CUT).await;
        load.more(30).await;
        let waiting = pair.b.status().await;
        assert_eq!((&waiting["role"], &waiting["pair"]["epoch"]), (&"standby".into(), &epoch), "{waiting:#}");
        assert!(notices(&waiting).contains("this node does not take over"), "{waiting:#}");
        eprintln!("longest time without an acknowledgement: {:?}", load.longest_gap(cut));

        lan.heal();
        let (active, _) = pair.protected(&pair.a).await;
        assert_eq!(active["pair"]["epoch"], epoch, "nobody else was active");
        assert!(load.book().acked.iter().all(|acked| acked.by == Place::A));
        well_at_the_end(pair, load).await;
    });
}

#[test]
fn an_active_that_loses_only_the_witness_goes_on_and_says_so() {
    on_a_lan(async |lan| {
        let (pair, load) = at_work(&lan).await;
        let epoch = pair.a.status().await["pair"]["epoch"].clone();
        let cut = Instant::now();
        lan.part(Place::A, Place::W);
        let told = pair
            .a
            .until_status("it says so", |status| {
                let why = &status["pair"]["automatic_failover_obstacle"];
                why == "the witness is not heard, so there would be no second vote"
            })
            .await;
        assert!(summary(&told).starts_with("protected, but nobody would take over by itself"), "{told:#}");
        tokio::time::sleep(CUT).await;
        load.more(30).await;
        let (a, b) = (pair.a.status().await, pair.b.status().await);
        assert_eq!((&a["pair"]["epoch"], &b["role"]), (&epoch, &"standby".into()), "{a:#}");
        assert_eq!(a["pair"]["protected"], true, "{a:#}");
        assert!(load.book().acked.iter().all(|acked| acked.by == Place::A));
        eprintln!("longest time without an acknowledgement: {:?}", load.longest_gap(cut));
        lan.heal();
        pair.protected(&pair.a).await;
        well_at_the_end(pair, load).await;
    });
}

#[test]
fn a_standby_without_the_witness_does_not_take_over_and_says_why() {
    on_a_lan(async |lan| {
        let (pair, load) = at_work(&lan).await;
        lan.part(Place::B, Place::W);
        let why = "the witness is not heard, so there would be no second vote";
        pair.b.until_status(why, |status| status["pair"]["automatic_failover_obstacle"] == why).await;
        load.more(20).await;
        let book = load.finish().await;
        pair.a.kill9();
        let left = pair
            .b
            .until_status("it says why", |status| notices(status).contains("neither the other node nor the witness"))
            .await;
        assert!(summary(&left).contains("is silent, and this node has not taken over"), "{left:#}");
        tokio::time::sleep(CUT).await;
        assert_eq!(pair.b.status().await["role"], "standby");
        // The witness is back: its vote is enough.
        lan.heal();
        pair.b.until_status("it is active", |status| status["role"] == "active").await;
        pair.a.spawn();
        pair.protected(&pair.b).await;
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}

/// Cuts one direction after the other between the active and someone else; after each one the pair heals.
async fn one_way_after_the_other(lan: Rc<Lan>, other: fn(Place) -> Place) {
    let (pair, load) = at_work(&lan).await;
    for from_active in [true, false].repeat(rounds()) {
        let active = pair.healed().await;
        let standby = if active == Place::A { Place::B } else { Place::A };
        let end = other(standby);
        let (from, to) = if from_active { (active, end) } else { (end, active) };
        let cut = Instant::now();
        lan.cut(from, to);
        tokio::time::sleep(CUT).await;
        load.more(10).await;
        for place in [Place::A, Place::B] {
            eprintln!("{from:?} -> {to:?} lost, {place:?}: {}", summary(&pair.node(place).status().await));
        }
        eprintln!("longest time without an acknowledgement: {:?}", load.longest_gap(cut));
        lan.heal();
        let active = pair.healed().await;
        eprintln!("healed after {:?}, {active:?} is active", cut.elapsed() - CUT);
    }
    well_at_the_end(pair, load).await;
}

#[test]
fn packets_lost_one_way_between_the_nodes_do_no_harm() {
    on_a_lan(async |lan| one_way_after_the_other(lan, |standby| standby).await);
}

#[test]
fn packets_lost_one_way_between_the_active_and_the_witness_do_no_harm() {
    on_a_lan(async |lan| one_way_after_the_other(lan, |_| Place::W).await);
}

#[test]
fn with_a_second_network_the_loss_of_the_main_link_changes_nobodys_role() {
    on_a_lan(async |lan| {
        let pair = |place| {
            let [main, second] = [Net::Main, Net::Second].map(|net| net.address(place));
            format!("addresses = [\"{main}:8444\", \"{second}:8444\"]\n")
        };
        // Without a witness the standby would promote itself if it believed that the active was gone.
        let pair = Pair::start(&lan, Plan { witness: false, pair, ..Plan::default() }).await;
        let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
        load.more(50).await;
        let epoch = pair.a.status().await["pair"]["epoch"].clone();
        let cut = Instant::now();
        lan.part(Place::A, Place::B);
        let written = pair.a.status().await["durable_index"].as_u64().unwrap();
        let down = pair
            .a
            .until_status("one link is down, one is up", |status| {
                let members = status["pair"]["members"].as_array().unwrap();
                let links = members.iter().flat_map(|member| member["links"].as_array().unwrap());
                let (up, down): (Vec<_>, Vec<_>) = links.partition(|link| link["up"] == true);
                up.len() == 1 && down.len() == 1 && down[0]["address"].as_str().unwrap().starts_with("10.77.")
            })
            .await;
        let known_down = cut.elapsed();
        // The records travel on the second network, too.
        pair.b.until_status("records arrive", |status| status["durable_index"].as_u64().unwrap() > written + 5).await;
        eprintln!(
            "link known to be down {known_down:?}, records on the second network {:?} after the cut",
            cut.elapsed()
        );
        // The figures are 1.0 to 1.6 s; a machine that does other things as well may take twice as long.
        assert!(cut.elapsed() < Duration::from_secs(4), "{:?}", cut.elapsed());
        pair.protected(&pair.a).await;
        assert_eq!(down["role"], "active");
        load.more(30).await;
        eprintln!("longest time without an acknowledgement: {:?}", load.longest_gap(cut));
        lan.heal();
        let (active, _) = pair.protected(&pair.a).await;
        assert_eq!(active["pair"]["epoch"], epoch, "nobody else was active");
        well_at_the_end(pair, load).await;
    });
}
