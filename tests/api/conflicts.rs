//! Conflicts as admins meet them: a server that holds the tail of another one, which was salvaged into its log.

use std::path::Path;

use holdfast::core::command::{
    Actor, Command, EditMessage, Envelope, Salvage, SendMessage, TailId, UpdateChannel, UpdateUser,
};
use holdfast::core::entry::{Entry, EntryKind, Origin};
use holdfast::core::ids::Hlc;
use holdfast::oplog::{LogOptions, LogWriter};
use holdfast::ops::datadir;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::people::Person;
use crate::support::{Api, Call, Options, Server};

fn sixteen(byte: u8) -> bytes::Bytes {
    vec![byte; 16].into()
}

/// Appends what another node had proposed after a fork to the log of a server that does not run.
fn salvage(data: &Path, actor: &Person, commands: Vec<(Command, &Value)>) {
    let cluster = datadir::read_identity(data).unwrap().cluster_id_bytes().unwrap();
    let (mut log, _) = LogWriter::open(LogOptions::new(data.join("log"), cluster)).unwrap();
    let last = log.reader().read_from(log.last_index()).unwrap().next().unwrap().unwrap();
    let by = Actor { user: actor.id.parse().unwrap(), session: 0, address: "192.0.2.1".to_owned() };
    let mut hlc = last.hlc;
    let mut entries = Vec::new();
    for (ordinal, (command, other)) in (1..).zip(commands) {
        hlc = hlc.next(0);
        let inner = Envelope { actor: Some(by.clone()), command: Some(command) };
        let item = Salvage {
            tail: Some(TailId { node: 2, epoch: 65_538, fork: 5 }),
            ordinal,
            index: 4 + ordinal,
            epoch: 65_538,
            hlc: Hlc::default().next(1_767_225_600_000 + ordinal).0,
            node: 2,
            envelope: inner.encode_to_vec().into(),
            seq_at_fork: 0,
            other: other.to_string(),
            ..Salvage::default()
        };
        let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::Salvage(item)) };
        entries.push(Entry {
            index: last.index + ordinal,
            epoch: last.epoch,
            hlc,
            origin: Origin { site: 0, node: last.origin.node },
            kind: EntryKind::Command,
            payload: envelope.encode_to_vec().into(),
            erased: false,
        });
    }
    log.append(&entries).unwrap();
}

/// A server after a fork: the victim's name, a public and a private channel and a message have conflicts, in this order.
struct Forked {
    server: Server,
    owner: Api,
    auditor: Api,
    victim: String,
    private: String,
}

async fn forked() -> Forked {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let (victim, auditor) = (owner.invite("member", &[]).await, owner.invite("auditor", &[]).await);
    let public = owner.channel("public", &[]).await;
    let private = victim.channel("private", &[]).await;
    victim.say(&private, "between us").await;
    let number = |id: &str| id.parse::<u64>().unwrap();
    let user = json!({"display_name": "There"});
    let channel = json!({"name": "there", "topic": "There"});
    let message = json!({"body": "what we said there"});
    let commands = vec![
        (
            Command::UpdateUser(UpdateUser {
                user: number(&victim.id),
                version: 77,
                display_name: Some("There".to_owned()),
                ..UpdateUser::default()
            }),
            &user,
        ),
        (
            Command::UpdateChannel(UpdateChannel {
                channel: number(&public),
                version: 77,
                topic: Some("There".to_owned()),
                ..UpdateChannel::default()
            }),
            &channel,
        ),
        (
            Command::EditMessage(EditMessage {
                channel: number(&private),
                seq: 1,
                version: 77,
                body: "what we said there".to_owned(),
            }),
            &message,
        ),
        (
            Command::SendMessage(SendMessage {
                channel: number(&public),
                client_id: sixteen(9),
                body: "late, but here".to_owned(),
            }),
            &message,
        ),
    ];
    server.stop().await;
    salvage(server.data(), &owner, commands);
    server.restart().await;
    let (owner, auditor) = (server.api().with_token(owner.token()), server.api().with_token(auditor.token()));
    let history = owner.get(&format!("/channels/{public}/messages")).await.expect(200);
    let late = &history["items"][0];
    assert_eq!((&late["body"], &late["late"]), (&json!("late, but here"), &json!(true)), "{history}");
    assert_eq!(late["created_ms"], 1_767_225_600_004_u64);
    Forked { server, owner, auditor, victim: victim.id, private }
}

fn resolve(id: &Value, version: u64, body: &Value) -> Call {
    Call::new("POST", &format!("/api/v1/admin/conflicts/{}/resolve", id.as_str().unwrap())).json(body).if_match(version)
}

#[tokio::test]
async fn conflicts_are_listed_shown_and_decided() {
    let Forked { mut server, owner, auditor, victim, private } = forked().await;
    let all = auditor.get("/admin/conflicts").await.expect(200);
    let items = all["items"].as_array().unwrap();
    assert_eq!((items.len(), &all["next_cursor"]), (3, &Value::Null), "{all}");
    let [message, channel, user] = [&items[0], &items[1], &items[2]];
    assert_eq!((&user["kind"], &user["subject_id"]), (&json!("user"), &json!(victim)));
    assert_eq!((&user["reason"], &user["state"]), (&json!("stale_version"), &json!("open")));
    assert_eq!(user["fields"][0]["other"], "There");
    assert_eq!(user["fields"][0]["active"], user["active"]["display_name"]);

    // Nobody reads in a private channel by way of a conflict.
    assert_eq!((&message["channel_id"], &message["hidden"]), (&json!(private), &json!(true)));
    assert!(!all.to_string().contains("between us") && !all.to_string().contains("what we said"), "{all}");

    // Auditors read.
    let take = |of: &Value| json!({"decision": "take_other", "record_version": of["record_version"]});
    auditor.send(resolve(&user["id"], 1, &take(user))).await.refused(403, "forbidden");
    auditor.get(&format!("/admin/conflicts/{}", user["id"].as_str().unwrap())).await.expect(200);

    // What one decides on is what one saw.
    owner.send(resolve(&user["id"], 2, &take(user))).await.refused(412, "stale_version");
    let stale = json!({"decision": "take_other", "record_version": 99});
    let problem = owner.send(resolve(&user["id"], 1, &stale)).await.refused(412, "stale_version");
    assert_eq!(problem["current"]["id"], user["id"]);
    let taken = owner.send(resolve(&user["id"], 1, &take(user))).await.expect(200);
    assert_eq!((&taken["state"], &taken["version"]), (&json!("taken"), &json!(2)));
    let now = owner.get(&format!("/users/{victim}")).await.expect(200);
    assert_eq!(now["display_name"], "There");
    owner.send(resolve(&user["id"], 2, &take(user))).await.refused(409, "conflict_resolved");

    let merge = json!({"decision": "merge", "record_version": channel["record_version"], "channel": {"topic": "Both"}});
    let merged = owner.send(resolve(&channel["id"], 1, &merge)).await.expect(200);
    assert_eq!((&merged["state"], &merged["active"]["topic"]), (&json!("merged"), &json!("Both")));
    let wrong = json!({"decision": "merge", "record_version": message["record_version"], "channel": {"topic": "x"}});
    owner.send(resolve(&message["id"], 1, &wrong)).await.refused(422, "conflict_decision_invalid");

    // The open one first, then the others, also over pages.
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = owner.get(&format!("/admin/conflicts?limit=1{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [&message["id"], &channel["id"], &user["id"]].map(Clone::clone));
    let audit = owner.get("/audit?action=conflict.").await.expect(200);
    let actions: Vec<&str> =
        audit["items"].as_array().unwrap().iter().map(|act| act["action"].as_str().unwrap()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "conflict.record").count(), 3);
    assert_eq!(actions.iter().filter(|action| **action == "conflict.resolve").count(), 2);
    assert!(!audit.to_string().contains("what we said"), "{audit}");
    server.stop().await;
}
