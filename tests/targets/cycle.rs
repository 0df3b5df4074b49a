//! A backup of a running server on each kind of remote target, and the way back: on a machine that has nothing but the program,
//! the file that describes the target, and its secrets.

use std::path::Path;

use serde_json::{Value, json};

use super::servers::{Dav, Ssh, Store};
use super::support::people::log_in;
use super::support::{Api, Command, Options, PASSWORD, Person, Server, until};
use holdfast::blobs::BlobStore;

/// A target in the settings, and what its description needs beside it: files with secrets.
struct Remote {
    append_only: bool,
    place: Value,
    secrets: Vec<(&'static str, String)>,
}

async fn job(api: &Api, work: Value) -> Value {
    let begun = api.post("/admin/backups/jobs", json!({ "work": work, "target": "remote" })).await.expect(201);
    let id = begun["jobs"][0]["id"].as_u64().unwrap();
    let job = until("the job has ended", async || {
        let job = api.get(&format!("/admin/backups/jobs/{id}")).await.expect(200);
        (!job["outcome"].is_null()).then_some(job)
    })
    .await;
    assert_eq!(job["state"], "done", "{job}");
    job
}

/// Makes backups on the target, loses the server, and gets it back.
async fn goes_and_comes_back(remote: Remote) {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("public", &[]).await;
    server.stop().await;
    // Larger than a part of an upload.
    let large = super::suite::content(20 * super::suite::MEBIBYTE, 7);
    BlobStore::open(&server.data().join("blobs")).unwrap().put(&large[..], 1 << 30).unwrap();
    server.restart().await;
    let owner = Person { api: server.api().with_token(owner.token()), ..owner };
    let first = owner.say(&channel, "in the full backup").await;

    let target = json!({ "place": remote.place, "append_only": remote.append_only });
    owner.api.put("/admin/backups/targets/remote", target).await.expect(200);
    let tested = owner.api.post("/admin/backups/targets/remote/test", json!({})).await.expect(200);
    assert!(tested["findings"].as_array().unwrap().iter().all(|found| found["level"] == "good"), "{tested}");
    job(&owner.api, json!({ "kind": "backup", "full": true })).await;
    owner.say(&channel, "in the incremental one").await;
    job(&owner.api, json!({ "kind": "backup", "full": false })).await;
    job(&owner.api, json!({ "kind": "verify", "backup": null })).await;
    job(&owner.api, json!({ "kind": "prune", "dry_run": false })).await;

    let then = jiff::Timestamp::now().to_string();
    let path = format!("/channels/{channel}/messages/{}", first["seq"]);
    owner.api.delete_version(&path, 1).await.expect(200);
    let live = ["restore", "--live", "--json", "--target", "remote", "--channel", &channel, "--to-time", &then];
    assert_eq!(server.command(&live).run().await.json()["restored"], 1);
    let described = server.command(&["backup", "target", "describe", "remote"]).run().await;
    described.expect(0);
    server.stop().await;
    std::fs::remove_dir_all(server.data()).unwrap();

    let machine = tempfile::tempdir().unwrap();
    let file = machine.path().join("target.toml");
    std::fs::write(&file, &described.stdout).unwrap();
    for (name, secret) in &remote.secrets {
        std::fs::write(machine.path().join(name), secret).unwrap();
        assert!(!described.stdout.contains(secret.trim()), "a secret was printed");
    }
    let data = machine.path().join("data");
    restored(&file, &data, (&channel, &owner.username)).await;
    // With another secret nothing comes, and it is said why.
    let (name, _) = &remote.secrets[0];
    std::fs::write(machine.path().join(name), "wrong").unwrap();
    let refused = with(&["restore"], &file).argument("--data").argument(&format!("{}-2", data.display())).run().await;
    refused.expect(1);
    assert!(refused.stderr.contains("target_key_refused"), "{refused:?}");
}

/// A command that reads the described target.
fn with(arguments: &[&str], file: &Path) -> Command {
    Command::new(arguments).argument("--json").argument("--target-file").argument(&file.display().to_string())
}

async fn restored(file: &Path, data: &Path, (channel, username): (&str, &str)) {
    let listed = with(&["backup", "list"], file).run().await.json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2, "{listed}");
    let checked = with(&["backup", "verify"], file).run().await.json();
    assert_eq!(checked["code"], Value::Null, "{checked}");
    let drill = with(&["drill"], file).argument("--scratch").argument(&file.parent().unwrap().display().to_string());
    assert_eq!(drill.run().await.json()["good"], true);
    let report = with(&["restore"], file).argument("--data").argument(&data.display().to_string()).run().await.json();
    assert_eq!((&report["messages"], &report["blobs"]), (&json!(2), &json!(1)), "{report}");
    let mut server = Server::start(Options::plain().data(data)).await;
    let answer = log_in(&server.api(), username, PASSWORD).await.expect(200);
    let owner = Person::from_answer(&server.api(), &answer);
    let history = owner.history(channel).await;
    let texts: Vec<&Value> = history.iter().map(|message| &message["body"]).collect();
    assert_eq!(texts, [&json!("in the full backup"), &json!("in the incremental one")]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_bucket_whose_key_may_remove_nothing() {
    let store = Store::start();
    let settings = store.settings("keeper");
    let place = json!({ "kind": "s3", "endpoint": settings.endpoint, "bucket": settings.bucket,
        "prefix": settings.prefix, "access_key": settings.access_key, "secret": settings.secret });
    let secrets = vec![("secret.txt", format!("{}\n", settings.secret))];
    goes_and_comes_back(Remote { append_only: true, place, secrets }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_webdav_server_of_a_private_authority() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dav = Dav::start_tls(&own.cert.pem(), &own.signing_key.serialize_pem());
    let settings = dav.settings();
    let place = json!({ "kind": "webdav", "url": settings.url, "user": settings.user, "password": settings.password,
        "ca_pem": own.cert.pem() });
    let secrets = vec![("password.txt", format!("{}\n", settings.password))];
    goes_and_comes_back(Remote { append_only: false, place, secrets }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_ssh_server() {
    let ssh = Ssh::start();
    let settings = ssh.settings();
    let place = json!({ "kind": "sftp", "host": settings.host, "port": settings.port, "user": settings.user,
        "path": settings.path, "host_key": settings.host_key, "private_key": settings.private_key });
    let secrets = vec![("private_key.txt", settings.private_key)];
    goes_and_comes_back(Remote { append_only: false, place, secrets }).await;
}
