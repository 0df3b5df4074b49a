//! Who makes the backups of a pair: the standby while it is in step, else the active, and the one that took over.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::pair::other;
use crate::support::{Api, Pair, PairOptions, until};

/// Adds a target; one without any backup gets its first one at once, from whoever does the work.
async fn add_target(api: &Api, name: &str, path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    let body = json!({"place": {"kind": "directory", "path": path}});
    let settings = api.put(&format!("/admin/backups/targets/{name}"), body).await.expect(200);
    if settings["schedules"] == json!([]) {
        let schedule = json!({"schedules": [{"name": "weeks", "calendar": "weekly", "kind": "incremental"}]});
        api.patch("/admin/backups/settings", &settings["version"], schedule).await.expect(200);
    }
}

/// The numbers of the nodes that made the backups on a target, the oldest first.
async fn makers(api: &Api, target: &str) -> Vec<Value> {
    let list = api.get(&format!("/admin/backups/targets/{target}/backups")).await.expect(200);
    list["backups"].as_array().unwrap().iter().map(|one| one["node"].clone()).collect()
}

async fn first_maker(api: &Api, target: &str) -> Value {
    until("a backup is made by itself", async || makers(api, target).await.first().cloned()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_does_the_work_and_whoever_is_left_takes_over() {
    let place = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(PairOptions::default()).await;
    assert_eq!(pair.protected().await, 0);
    let api = pair.api(0, &pair.owner);
    add_target(&api, "one", &place.path().join("one")).await;
    assert_eq!(first_maker(&api, "one").await, 2, "the standby");
    // The active sees it as well, and does nothing itself.
    let status = until("the active sees the backup", async || {
        let status = api.get("/admin/backups").await.expect(200);
        (status["targets"][0]["backups"] == 1).then_some(status)
    })
    .await;
    assert_eq!((&status["works_here"], &status["alarms"]), (&json!(false), &json!([])), "{status}");

    // The standby is gone: after a while the active does it.
    pair.nodes[1].kill9();
    add_target(&api, "two", &place.path().join("two")).await;
    assert_eq!(first_maker(&api, "two").await, 1, "the active");
    pair.nodes[1].start_again().await;
    assert_eq!(pair.protected().await, 0);

    // The active is gone: the one that took over does it, from the settings that it has by the log.
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    let api = pair.api(1, &pair.owner);
    add_target(&api, "three", &place.path().join("three")).await;
    assert_eq!(first_maker(&api, "three").await, 2);
    pair.nodes[0].start_again().await;
    let active = pair.protected().await;
    add_target(&pair.api(active, &pair.owner), "four", &place.path().join("four")).await;
    assert_eq!(first_maker(&pair.api(active, &pair.owner), "four").await, other(active) + 1);
    assert_eq!(makers(&api, "one").await, [json!(2)], "nobody made another one there");
    pair.finish().await;
}
