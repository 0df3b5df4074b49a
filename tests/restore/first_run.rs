//! A restore begun from the set-up page of an empty server.

use serde_json::{Value, json};

use crate::support::backup::back_up;
use crate::support::people::log_in;
use crate::support::server::free_port;
use crate::support::{Api, Options, PASSWORD, Person, Server, until};

/// An empty server that keeps its port when it starts again.
async fn empty() -> Server {
    let mut options = Options::plain();
    options.site.port = free_port();
    Server::start(options).await
}

/// The job when it is over.
async fn ended(api: &Api, token: &str) -> Value {
    until("the restore ends", async || {
        let job = api.post("/setup/restore/job", json!({"token": token})).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_up_page_restores_and_the_server_goes_on_with_it() {
    let place = tempfile::tempdir().unwrap();
    let repository = place.path().join("repository");
    let (mut first, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("public", &[]).await;
    owner.say(&channel, "from before the fire").await;
    first.stop().await;
    let backup = back_up(first.data(), &repository).await;

    let mut server = empty().await;
    let (api, token) = (server.api(), server.setup_token());
    let asked = |path: &std::path::Path, more: Value| {
        let mut body = json!({"token": token, "place": {"kind": "directory", "path": path}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let nothing = json!({});
    api.post("/setup/restore/look", json!({"token": "hfs_x", "place": {"kind": "directory", "path": "/"}}))
        .await
        .refused(403, "setup_token_invalid");
    api.post("/setup/restore/look", asked(&place.path().join("nowhere"), nothing.clone()))
        .await
        .refused(422, "target_not_there");
    api.post("/setup/restore/look", asked(place.path(), nothing.clone())).await.refused(409, "no_backups");
    api.post("/setup/restore/job", json!({"token": token})).await.refused(404, "restore_job_not_found");
    let found = api.post("/setup/restore/look", asked(&repository, nothing.clone())).await.expect(200);
    assert_eq!((&found["backups"][0]["name"], &found["preview"]["messages"]), (&json!(backup.name()), &json!(1)));

    // What cannot be restored changes nothing, and the page may try again.
    let wrong = asked(&repository, json!({"signer": "no such fingerprint"}));
    api.post("/setup/restore", wrong).await.expect(202);
    let failed = ended(&api, &token).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["failure"]["code"].is_string(), "{failed}");

    let named = asked(&repository, json!({"backup": backup.name()}));
    api.post("/setup/restore", named.clone()).await.expect(202);
    let job = ended(&api, &token).await;
    assert_eq!((&job["state"], &job["report"]["messages"]), (&json!("done"), &json!(1)), "{job}");
    // Until it starts again, nobody sets up what would be gone then.
    api.post("/setup/restore", named).await.refused(409, "restore_job_running");

    until("the server has started again", async || {
        let info = api.try_get("/api/v1/server").await.ok()?.json();
        (info["set_up"] == json!(true)).then_some(())
    })
    .await;
    let answer = log_in(&api, &owner.username, PASSWORD).await.expect(200);
    let owner = Person::from_answer(&api, &answer);
    assert_eq!(owner.history(&channel).await[0]["body"], "from before the fire");
    api.post("/setup/check", json!({"token": token})).await.refused(409, "already_set_up");
    let data = server.data().to_owned();
    assert!(!data.join("restored").exists() && !data.join("setup-link.txt").exists());
    let aside: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("before-restore-"))
        .collect();
    assert_eq!(aside.len(), 1, "what was there is moved aside: {aside:?}");
    owner.say(&channel, "and it goes on").await;
    server.stop().await;
    server.restart().await;
    assert_eq!(server.api().get("/server").await.expect(200)["set_up"], true);
    server.stop().await;
}
