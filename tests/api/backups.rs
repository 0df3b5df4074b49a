//! Backups as admins and operators use them: settings without secrets in any answer, jobs, lists, alarms, the command line.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Api, Options, Server, until};

const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn directory(path: &Path) -> Value {
    json!({"place": {"kind": "directory", "path": path}})
}

/// Begins a job and waits for its end.
async fn job(api: &Api, work: Value) -> Value {
    let begun = api.post("/admin/backups/jobs", json!({"work": work, "target": "disk"})).await.expect(201);
    let id = begun["jobs"][0]["id"].as_u64().unwrap();
    until("the job has ended", async || {
        let job = api.get(&format!("/admin/backups/jobs/{id}")).await.expect(200);
        (!job["outcome"].is_null()).then_some(job)
    })
    .await
}

fn flip_a_bit(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn from_the_first_day_to_a_lost_disk() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    // Not in memory: the test of a target would complain.
    let (place, api) = (tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), &owner.api);
    let disk = place.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let status = api.get("/admin/backups").await.expect(200);
    assert!(status["summary"].as_str().unwrap().contains("no backups are made"), "{status}");
    api.post("/admin/backups/jobs", json!({"work": {"kind": "backup", "full": true}}))
        .await
        .refused(409, "backup_no_targets");

    let settings = api.put("/admin/backups/targets/disk", directory(&disk)).await.expect(200);
    assert_eq!((&settings["targets"][0]["name"], &settings["signing_key_set"]), (&json!("disk"), &json!(true)));
    let tested = api.post("/admin/backups/targets/disk/test", json!({})).await.expect(200);
    let done: Vec<&Value> = tested["findings"].as_array().unwrap().iter().map(|found| &found["code"]).collect();
    for what in ["write", "read", "list", "remove"] {
        assert!(done.contains(&&json!(what)), "{tested}");
    }
    let channel = owner.channel("private", &[]).await;
    owner.say(&channel, "to be kept").await;

    let full = job(api, json!({"kind": "backup", "full": true})).await;
    assert_eq!(full["state"], "done", "{full}");
    owner.say(&channel, "and this").await;
    let more = job(api, json!({"kind": "backup", "full": false})).await;
    assert_eq!((&more["state"], &more["cause"]), (&json!("done"), &json!("api")), "{more}");
    let list = api.get("/admin/backups/targets/disk/backups").await.expect(200);
    let kinds: Vec<&Value> = list["backups"].as_array().unwrap().iter().map(|one| &one["full"]).collect();
    assert_eq!(kinds, [&json!(true), &json!(false)], "{list}");
    let name = list["backups"][0]["name"].as_str().unwrap();
    assert_eq!(full["outcome"]["backup"], name);

    let pin = format!("/admin/backups/targets/disk/backups/{name}/pin");
    api.put(&pin, json!({})).await.expect(204);
    let list = api.get("/admin/backups/targets/disk/backups").await.expect(200);
    assert_eq!(list["backups"][0]["pinned"], true);
    api.delete(&pin).await.expect(204);
    let missing = api.put("/admin/backups/targets/disk/backups/nothing/pin", json!({})).await;
    assert_eq!(missing.status, 404, "{missing}");

    let checked = job(api, json!({"kind": "verify", "backup": null})).await;
    assert_eq!(checked["state"], "done", "{checked}");
    let pruned = job(api, json!({"kind": "prune", "dry_run": true})).await;
    assert!(pruned["outcome"]["text"].as_str().unwrap().starts_with("0 of 2 backups"), "{pruned}");

    // A damaged part is named.
    let log = std::fs::read_dir(disk.join("log")).unwrap().next().unwrap().unwrap().path();
    flip_a_bit(&log);
    let checked = job(api, json!({"kind": "verify", "backup": null})).await;
    assert_eq!((&checked["state"], &checked["outcome"]["code"]), (&json!("failed"), &json!("part_damaged")));
    let part = log.file_name().unwrap().to_str().unwrap();
    assert!(checked["outcome"]["lines"][0].as_str().unwrap().contains(part), "{checked}");

    // The disk is gone: said at once by the test and by a job.
    std::fs::rename(&disk, place.path().join("gone")).unwrap();
    api.post("/admin/backups/targets/disk/test", json!({})).await.refused(409, "target_not_there");
    let failed = job(api, json!({"kind": "backup", "full": false})).await;
    assert_eq!((&failed["state"], &failed["outcome"]["code"]), (&json!("failed"), &json!("target_not_there")));

    let trail = api.get("/audit?limit=200&target_kind=backups").await.expect(200);
    let acts: Vec<&str> =
        trail["items"].as_array().unwrap().iter().map(|act| act["action"].as_str().unwrap()).collect();
    for act in ["backups.update", "backups.run", "backups.pin", "backups.unpin", "backups.verify", "backups.prune"] {
        assert!(acts.contains(&act), "{act} is not in {acts:?}");
    }
    server.stop().await;
}

/// A bucket of which nobody answers.
fn store(secret: Value) -> Value {
    json!({"place": {"kind": "s3", "endpoint": "https://127.0.0.1:9", "bucket": "chat", "access_key": "AK", "secret": secret}})
}

#[tokio::test]
async fn the_certificate_of_a_private_authority_is_read_at_once_and_belongs_to_the_place() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let api = &owner.api;
    api.put("/admin/backups/targets/store", store(json!("hunter2-s3cret"))).await.expect(200);
    let trusting = |ca: &str, secret: Value| {
        let mut body = store(secret);
        body["place"]["ca_pem"] = json!(ca);
        body
    };
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = own.cert.pem();
    let damaged = pem.replacen("MII", "AAA", 1);
    let with_key = format!("{pem}{}", own.signing_key.serialize_pem());
    for bad in ["nonsense", &damaged, &with_key, &pem.repeat(100)] {
        let refused = api.put("/admin/backups/targets/store", trusting(bad, json!("x"))).await;
        refused.refused(422, "backup_ca_invalid");
    }
    let other = api.put("/admin/backups/targets/store", trusting(&pem, Value::Null)).await;
    other.refused(422, "backup_secret_needed");
    let kept = api.put("/admin/backups/targets/store", trusting(&pem, json!("hunter2-s3cret"))).await.expect(200);
    assert_eq!(kept["targets"][0]["place"]["ca_pem"], pem);
    server.stop().await;
}

#[tokio::test]
async fn settings_are_checked_and_secrets_never_come_back() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let auditor = owner.invite("auditor", &[]).await;
    let api = &owner.api;
    let put = api.put("/admin/backups/targets/store", store(json!("hunter2-s3cret"))).await;
    assert_eq!(put.expect(200)["targets"][0]["place"]["secret_set"], true);
    // Left out: it stays.
    let kept = api.put("/admin/backups/targets/store", store(Value::Null)).await.expect(200);
    assert_eq!(kept["targets"][0]["place"]["secret_set"], true);
    let elsewhere =
        json!({"place": {"kind": "s3", "endpoint": "https://evil.example", "bucket": "b", "access_key": "AK"}});
    api.put("/admin/backups/targets/store", elsewhere).await.refused(422, "backup_secret_needed");
    // Nobody listens there.
    api.post("/admin/backups/targets/store/test", json!({})).await.refused(409, "target_unreachable");

    let version = kept["version"].clone();
    let patch = async |body: Value| api.patch("/admin/backups/settings", &version, body).await;
    let schedule = |calendar: &str| json!({"schedules": [{"name": "night", "calendar": calendar, "kind": "full"}]});
    patch(schedule("daily 25:00")).await.refused(422, "backup_calendar_invalid");
    patch(json!({"drill": "sometimes"})).await.refused(422, "backup_calendar_invalid");
    patch(json!({"recipients": ["age1nonsense"]})).await.refused(422, "backup_recipient_invalid");
    patch(json!({"recipients": ["AGE-SECRET-KEY-1XXXX"]})).await.refused(422, "backup_recipient_invalid");
    patch(json!({"retention": {"last": 1_000_000, "hourly": 0, "daily": 0, "weekly": 0, "monthly": 0}}))
        .await
        .refused(422, "backup_retention_invalid");
    patch(json!({"password": "x"})).await.refused(400, "invalid_body");
    let good = json!({
        "schedules": [{"name": "night", "calendar": "daily  02:00", "kind": "full", "targets": ["store"]}],
        "recipients": [KEY], "encrypted": true, "drill": "monthly 1 04:00",
    });
    let changed = patch(good).await.expect(200);
    assert_eq!(changed["schedules"][0]["calendar"], "daily 02:00");
    let stale = patch(json!({"continuous": true})).await.refused(412, "stale_version");
    assert_eq!(stale["current"]["version"], changed["version"]);

    let status = auditor.api.get("/admin/backups").await.expect(200);
    assert_eq!(status["next"].as_array().unwrap().len(), 5, "{status}");
    let codes: Vec<&Value> = status["alarms"].as_array().unwrap().iter().map(|alarm| &alarm["code"]).collect();
    assert!(codes.contains(&&json!("drill_key_missing")), "{codes:?}");
    let paused = api.post("/admin/backups/pause", json!({"until_ms": 4_000_000_000_000_u64})).await.expect(200);
    assert_eq!(paused["paused_until_ms"], 4_000_000_000_000_u64);
    assert_eq!(auditor.api.get("/admin/backups").await.expect(200)["paused"], true);
    assert_eq!(api.post("/admin/backups/resume", json!({})).await.expect(200)["paused"], false);
    let gone = api.delete("/admin/backups/targets/store").await.expect(200);
    assert_eq!((&gone["targets"], &gone["schedules"][0]["enabled"]), (&json!([]), &json!(false)));
    api.delete("/admin/backups/targets/store").await.refused(404, "backup_target_not_found");

    let trail = api.get("/audit?limit=200").await;
    trail.expect(200);
    let logs: String = std::fs::read_dir(server.data().join("logs"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let dump = server.command(&["log", "dump"]).run().await;
    for text in [trail.text(), logs, server.stderr(), dump.stdout.clone()] {
        assert!(!text.contains("hunter2-s3cret"), "a secret came out");
    }
    assert!(dump.stdout.contains("Secret(set)"), "the dump shows that there is one");
    server.stop().await;
}

#[tokio::test]
async fn schedules_run_by_themselves_and_catch_up() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let (place, api) = (tempfile::tempdir().unwrap(), &owner.api);
    let disk = place.path().join("disk");
    let settings = api.put("/admin/backups/targets/disk", directory(&disk)).await.expect(200);
    let schedule = json!({"schedules": [{"name": "hours", "calendar": "hourly", "kind": "incremental"}]});
    api.patch("/admin/backups/settings", &settings["version"], schedule).await.expect(200);
    // The disk is not there: the target is reported, and the server goes on.
    until("the missing disk is seen", async || {
        let status = api.get("/admin/backups").await.expect(200);
        (status["targets"][0]["error"]["code"] == "target_not_there").then_some(())
    })
    .await;
    // It is plugged in; a restart looks at once.
    std::fs::create_dir(&disk).unwrap();
    server.stop().await;
    server.restart().await;
    let owner = owner_after(&server, &owner);
    let job = until("the first backup is made by itself", async || {
        let jobs = owner.get("/admin/backups/jobs").await.expect(200);
        jobs["jobs"].as_array().unwrap().iter().find(|job| job["state"] == "done").cloned()
    })
    .await;
    assert_eq!(job["cause"], "schedule hours", "{job}");
    let status = until("the target is seen with its backup", async || {
        let status = owner.get("/admin/backups").await.expect(200);
        (status["targets"][0]["backups"] == 1).then_some(status)
    })
    .await;
    assert!(status["works_here"] == true && status["alarms"] == json!([]), "{status}");
    server.stop().await;
}

/// The owner's token at the server's new address.
fn owner_after(server: &Server, owner: &crate::support::Person) -> Api {
    server.api().with_token(owner.token())
}

#[tokio::test]
async fn the_command_line_teaches_and_does() {
    let (mut server, _owner) = Server::start_set_up(Options::plain()).await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_str().unwrap();
    let run = async |arguments: &[&str]| server.command(&[&["backup"], arguments].concat()).run().await;
    let first = run(&["now"]).await;
    assert!(first.code == Some(1) && first.stderr.contains("backup target add"), "{first:?}");
    let added = run(&["target", "add", "usb", "--directory", path]).await;
    assert!(added.expect(0).stdout.contains("It works"), "{added:?}");
    run(&["set", "--full", "weekly sun 02:00", "--incremental", "hourly", "--keep-last", "5"]).await.expect(0);
    let wrong = run(&["set", "--full", "now and then"]).await;
    assert!(wrong.code == Some(1) && wrong.stderr.contains("backup_calendar_invalid"), "{wrong:?}");
    let made = run(&["now", "--full", "usb"]).await;
    assert!(made.expect(0).stdout.contains("usb: done:"), "{made:?}");
    let list = run(&["list", "--json"]).await.json();
    let name = list["targets"][0]["backups"][0]["name"].as_str().unwrap().to_owned();
    run(&["pin", "usb", &name]).await.expect(0);
    assert!(run(&["list", "usb"]).await.expect(0).stdout.contains("pinned"));
    run(&["unpin", "usb", &name]).await.expect(0);
    run(&["verify", "usb"]).await.expect(0);
    run(&["prune", "--dry-run"]).await.expect(0);
    let status = run(&["status"]).await;
    assert!(status.expect(0).stdout.contains("next:") && status.stdout.contains("usb"), "{status:?}");
    run(&["pause", "--hours", "1"]).await.expect(0);
    assert!(run(&["status"]).await.expect(0).stdout.contains("paused"));
    run(&["resume"]).await.expect(0);
    assert!(server.command(&["status"]).run().await.expect(0).stdout.contains("backups are in order"));

    // Without the server, on the disk alone.
    server.stop().await;
    let run = async |arguments: &[&str]| server.command(&[&["backup"], arguments].concat()).run().await;
    assert!(run(&["list", "--from", path]).await.expect(0).stdout.contains(&name));
    run(&["verify", "--from", path]).await.expect(0);
    assert!(run(&["prune", "--from", path]).await.expect(2).stderr.contains("--keep-last"));
    run(&["prune", "--from", path, "--keep-last", "1", "--dry-run"]).await.expect(0);
    let empty = tempfile::tempdir().unwrap();
    let none = run(&["verify", "--from", empty.path().to_str().unwrap()]).await;
    assert!(none.expect(1).stderr.contains("there are no backups"), "{none:?}");
}
