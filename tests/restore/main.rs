//! Restores with the real program: a restored directory serves, a killed restore leaves nothing half-valid, texts come back
//! into a running server, and a pair in the middle of an upgrade refuses what its older member does not understand.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why"
)]

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use holdfast::blobs::BlobStore;
use serde_json::{Value, json};

use support::backup::back_up;
use support::pair::join;
use support::people::log_in;
use support::server::program;
use support::{Api, Command, Finished, Options, PASSWORD, Pair, PairOptions, Person, Server, until};

fn restore(repository: &Path, data: &Path) -> Command {
    let (from, data) = (repository.display().to_string(), data.display().to_string());
    Command::new(&["restore", "--json", "--from", &from, "--data", &data])
}

/// What was printed is one JSON object.
fn printed(finished: &Finished) -> Value {
    finished.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_directory_serves_and_nobody_is_signed_in() {
    let place = tempfile::tempdir().unwrap();
    let (repository, data) = (place.path().join("repository"), place.path().join("restored"));
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("public", &[]).await;
    owner.say(&channel, "still here").await;
    server.stop().await;
    let backup = back_up(server.data(), &repository).await;

    let listed = printed(&restore(&repository, &data).argument("--list").run().await);
    assert_eq!(listed["backups"][0]["name"], backup.name());
    let preview = printed(&restore(&repository, &data).argument("--dry-run").run().await);
    assert_eq!((&preview["users"], &preview["messages"]), (&json!(1), &json!(1)), "{preview}");
    assert!(!data.exists(), "a dry run writes nothing");
    let from = repository.display().to_string();
    let drill = Command::new(&["drill", "--json", "--from", &from]).run().await;
    assert_eq!(printed(&drill)["good"], true, "{drill:?}");

    let report = printed(&restore(&repository, &data).run().await);
    assert_eq!((&report["index"], &report["messages"]), (&json!(backup.until.index), &json!(1)), "{report}");
    let again = restore(&repository, &data).run().await;
    again.expect(1);
    assert!(again.stderr.contains("destination_not_empty"), "{again:?}");

    let mut restored = Server::start(Options::plain().data(&data)).await;
    restored.api().with_token(owner.token()).get("/me").await.refused(401, "unauthenticated");
    let answer = log_in(&restored.api(), &owner.username, PASSWORD).await.expect(200);
    let owner = Person::from_answer(&restored.api(), &answer);
    assert_eq!(owner.history(&channel).await[0]["body"], "still here");
    owner.say(&channel, "and it goes on").await;
    let audit = owner.api.get("/audit").await.expect(200);
    let actions: Vec<&str> =
        audit["items"].as_array().unwrap().iter().filter_map(|item| item["action"].as_str()).collect();
    assert!(actions.contains(&"server.restore"), "{actions:?}");
    restored.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_leaves_nothing_half_valid() {
    let place = tempfile::tempdir().unwrap();
    let (repository, data) = (place.path().join("repository"), place.path().join("restored"));
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("public", &[]).await;
    for number in 0..50 {
        owner.say(&channel, &format!("message {number}")).await;
    }
    server.stop().await;
    let blobs = BlobStore::open(&server.data().join("blobs")).unwrap();
    for number in 0..24_u8 {
        let noise: Vec<u8> = (0..4_000_u64)
            .flat_map(|at| *blake3::hash(&[&at.to_le_bytes()[..], &[number]].concat()).as_bytes())
            .collect();
        blobs.put(&noise[..], 1 << 30).unwrap();
    }
    back_up(server.data(), &repository).await;

    let started = std::time::Instant::now();
    restore(&repository, &data).run().await.expect(0);
    let whole = started.elapsed();
    std::fs::remove_dir_all(&data).unwrap();
    let mut killed = 0;
    for round in 1..=8_u32 {
        let arguments = ["restore", "--from", &repository.display().to_string(), "--data", &data.display().to_string()]
            .map(str::to_owned);
        let mut child = program(&[], &[])
            .args(&arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(whole * round / 8).await;
        killed += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        if data.exists() {
            // Only ever as a whole.
            let verified =
                Command::new(&["log", "verify", "--json", "--data", &data.display().to_string()]).run().await;
            assert_eq!(printed(&verified)["clean"], true);
            assert!(data.join("node.toml").exists() && data.join("state").is_dir());
            std::fs::remove_dir_all(&data).unwrap();
        }
    }
    println!("{killed} of 8 restores were killed, {whole:?} is a whole one");
    assert!(killed >= 2, "the moments are within a restore");
    restore(&repository, &data).run().await.expect(0);
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the repository and what was restored: {left:?}");
    let mut restored = Server::start(Options::plain().data(&data)).await;
    restored.stop().await;
}

/// Asks for texts and waits for the end of the job.
async fn put_back(api: &Api, body: Value) -> Value {
    api.post("/admin/restore/messages", body).await.expect(202);
    until("the job ends", async || {
        let job = api.get("/admin/restore/messages").await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await
}

/// Starts a member again without the bound on its level, as a newer release would.
async fn upgrade(server: &mut Server) {
    server.stop().await;
    server.change(|options| options.env.clear());
    server.start_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_in_an_upgrade_puts_texts_back_only_when_both_understand_it() {
    let place = tempfile::tempdir().unwrap();
    let repository = place.path().join("repository");
    // A pair of the release before: neither understands the new commands.
    let held = || vec![("HOLDFAST_PAIR_LEVEL_MAX".to_owned(), "2".to_owned())];
    let options = PairOptions { env: held(), ..PairOptions::alone() };
    let (mut first, owner) = Server::start_set_up(options.server(0)).await;
    let channel = owner.channel("public", &[]).await;
    let message = owner.say(&channel, "the text that counts").await;
    first.stop().await;
    let as_of_ms = back_up(first.data(), &repository).await.until.at_ms;
    first.restart().await;
    let owner = Person { api: first.api().with_token(owner.token()), ..owner };
    let second = join(&first, options.server(1)).await;
    let mut pair = Pair { nodes: [first, second], witness: None, owner, channel: channel.clone() };
    pair.protected().await;
    // The standby is upgraded first and takes over; the other one, still old, is the standby now.
    upgrade(&mut pair.nodes[1]).await;
    assert_eq!(pair.protected().await, 0);
    pair.nodes[0].command(&["switchover"]).run().await.expect(0);
    pair.is_active(1).await;
    pair.owner = pair.person(1, &pair.owner);
    pair.protected().await;
    assert_eq!(pair.owner.api.get("/admin/pair").await.expect(200)["settings"]["level"], 2);
    let path = format!("/channels/{channel}/messages/{}", message["seq"]);
    pair.owner.api.delete_version(&path, 1).await.expect(200);
    let body = json!({
        "directory": repository, "channel_id": channel, "as_of_ms": as_of_ms, "dry_run": false,
    });
    pair.owner.api.post("/admin/restore/messages", body.clone()).await.refused(409, "upgrade_pending");

    upgrade(&mut pair.nodes[0]).await;
    assert_eq!(pair.protected().await, 1);
    until("both understand all of it", async || {
        let view = pair.owner.api.get("/admin/pair").await.expect(200);
        (view["settings"]["level"] == json!(holdfast::core::command::LEVEL)).then_some(())
    })
    .await;
    let mut dry = body.clone();
    dry["dry_run"] = json!(true);
    let job = put_back(&pair.owner.api, dry).await;
    assert_eq!((&job["report"]["restored"], &job["dry_run"]), (&json!(1), &json!(true)), "{job}");
    assert_eq!(pair.owner.history(&channel).await[0]["body"], "", "a dry run changes nothing");
    let job = put_back(&pair.owner.api, body).await;
    assert_eq!((&job["state"], &job["report"]["restored"]), (&json!("done"), &json!(1)), "{job}");
    let history = pair.owner.history(&channel).await;
    assert_eq!((&history[0]["body"], &history[0]["version"]), (&json!("the text that counts"), &json!(3)));
    pair.equal_logs().await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_puts_texts_back_and_says_what_is_wrong() {
    let place = tempfile::tempdir().unwrap();
    let repository = place.path().join("repository");
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("public", &[]).await;
    let message = owner.say(&channel, "do not lose me").await;
    server.stop().await;
    back_up(server.data(), &repository).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let then = jiff::Timestamp::now().to_string();
    server.restart().await;
    let owner = Person { api: server.api().with_token(owner.token()), ..owner };
    owner.api.delete_version(&format!("/channels/{channel}/messages/{}", message["seq"]), 1).await.expect(200);
    let from = repository.display().to_string();
    let live = ["restore", "--live", "--json", "--from", &from, "--channel", &channel, "--to-time", &then];
    let report = printed(&server.command(&live).run().await);
    assert_eq!(report["restored"], 1, "{report}");
    assert_eq!(owner.history(&channel).await[0]["body"], "do not lose me");
    let audit = owner.api.get("/audit").await.expect(200).to_string();
    assert!(audit.contains("message.restore") && !audit.contains("do not lose me"), "{audit}");
    let nowhere = server.command(&[&live[..5], &["--channel", "7", "--to-time", &then]].concat()).run().await;
    nowhere.expect(1);
    std::fs::remove_dir_all(repository.join("snapshots")).unwrap();
    let damaged = server.command(&live).run().await;
    damaged.expect(1);
    assert!(damaged.stderr.contains("snapshots/") && damaged.stderr.contains("part_missing"), "{damaged:?}");
    server.stop().await;
}
