//! The WebSocket as a well-behaved client meets it: hello, requests, events, resuming.

use serde_json::{Value, json};

use crate::support::people::client_id;
use crate::support::ws::number;
use crate::support::{Frame, Options, Person, Server, Ws, until};

/// A request to send a message.
pub(crate) fn send_op(channel: &str, body: &str) -> Value {
    json!({"op": "send", "channel_id": channel, "client_id": client_id(), "body": body})
}

#[tokio::test]
async fn hello_signs_in_by_frame_or_by_header() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let (_ws, ok) = Ws::hello(&owner.api, None).await;
    assert_eq!((&ok["user_id"], &ok["session_id"]), (&json!(owner.id), &json!(owner.session)));
    assert_eq!((ok["resumed"].clone(), ok["addresses"].clone()), (json!(false), json!([server.url()])));
    assert!(number(&ok["pos"]) > 0);
    let mut by_header = Ws::open(&server.endpoint(), Some(owner.token())).await.unwrap();
    assert_eq!(by_header.ask(json!({"op": "hello"})).await["session_id"], *owner.session);
    // A token in the frame counts over the header's.
    let mut both = Ws::open(&server.endpoint(), Some("hf_wrong")).await.unwrap();
    assert_eq!(both.ask(json!({"op": "hello", "token": owner.token()})).await["user_id"], *owner.id);
    both.refused(json!({"op": "hello", "token": owner.token()}), "invalid_body").await;
    assert!(both.ask(json!({"op": "ping"})).await["pos"].is_string(), "a second hello does no harm");
    server.stop().await;
}

#[tokio::test]
async fn a_hello_that_is_none_is_refused_and_the_connection_closed() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let ended = owner.log_in_again().await;
    ended.api.post("/logout", json!({})).await.expect(204);
    let must_change =
        json!({"username": "nn", "display_name": "N", "role": "member", "password": crate::support::PASSWORD});
    owner.api.post("/users", must_change).await.expect(201);
    let newcomer = crate::support::people::log_in(&server.api(), "nn", crate::support::PASSWORD).await.expect(200);
    let cases = [
        (json!({"op": "hello"}), "unauthenticated", 4001),
        (json!({"op": "hello", "token": "x"}), "unauthenticated", 4001),
        (json!({"op": "hello", "token": ended.token()}), "unauthenticated", 4001),
        (json!({"op": "hello", "token": newcomer["token"]}), "password_change_required", 4001),
        (json!({"op": "hello", "token": owner.token(), "pos": "x"}), "invalid_body", 4003),
        (json!({"op": "hello", "token": owner.token(), "body": "x"}), "invalid_body", 4003),
        (json!({"op": "ping"}), "invalid_body", 4003),
        (json!({"op": "nonsense"}), "invalid_body", 4003),
    ];
    for (hello, code, close) in cases {
        let mut ws = Ws::open(&server.endpoint(), None).await.unwrap();
        ws.refused(hello.clone(), code).await;
        assert_eq!(ws.closed().await, Some(close), "{hello}");
    }
    for text in
        ["", "{", "[]", "null", "{\"op\":\"ping\"}", "{\"id\":\"\",\"op\":\"ping\"}", "{\"id\":7,\"op\":\"ping\"}"]
    {
        let mut ws = Ws::open(&server.endpoint(), None).await.unwrap();
        ws.send_text(text).await;
        assert_eq!(ws.closed().await, Some(4003), "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_are_answered_and_refused_by_their_ids() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let outsider = owner.invite("member", &[]).await;
    let channel = owner.channel("private", &[]).await;
    let mut ws = Ws::connect(&owner.api).await;
    let first = send_op(&channel, "one");
    let sent = ws.ask(first.clone()).await;
    assert_eq!((sent["seq"].clone(), sent["duplicate"].clone()), (json!(1), json!(false)));
    let again = ws.ask(first).await;
    assert_eq!((&again["id"], &again["seq"], &again["duplicate"]), (&sent["id"], &json!(1), &json!(true)));
    let edit = json!({"op": "edit", "channel_id": channel, "seq": 1, "version": 1, "body": "two"});
    let edited = ws.ask(edit.clone()).await;
    assert_eq!((edited["body"].clone(), edited["version"].clone()), (json!("two"), json!(2)));
    let stale = ws.refused(edit, "stale_version").await;
    assert_eq!(stale["current"], edited);
    let delete = |version: u32| json!({"op": "delete", "channel_id": channel, "seq": 1, "version": version});
    ws.refused(delete(1), "stale_version").await;
    let deleted = ws.ask(delete(2)).await;
    assert_eq!(deleted["body"], "");
    assert!(deleted["deleted_ms"].is_u64(), "{deleted}");
    ws.ask(json!({"op": "read", "channel_id": channel, "seq": 1})).await;
    ws.ask(json!({"op": "typing", "channel_id": channel})).await;

    let mut with_bad_id = send_op(&channel, "x");
    with_bad_id["client_id"] = json!("not a uuid");
    ws.refused(with_bad_id, "invalid_client_id").await;
    ws.refused(send_op(&channel, "  \n"), "message_empty").await;
    ws.refused(send_op(&channel, &"x".repeat(16_385)), "message_too_long").await;
    ws.refused(send_op("999999", "x"), "channel_not_found").await;
    ws.refused(send_op("x", "x"), "invalid_body").await;
    ws.refused(json!({"op": "send", "channel_id": channel}), "invalid_client_id").await;
    ws.refused(json!({"op": "read", "channel_id": channel}), "invalid_body").await;
    ws.refused(json!({"op": "fly"}), "invalid_body").await;
    ws.refused(json!({"op": "ping", "seq": 1}), "invalid_body").await;
    let mut theirs = Ws::connect(&outsider.api).await;
    for op in
        [send_op(&channel, "x"), delete(3), json!({"op":"edit","channel_id":channel,"seq":1,"version":3,"body":"x"})]
    {
        theirs.refused(op, "channel_not_found").await;
    }
    let history = owner.history(&channel).await;
    assert_eq!(history, [deleted]);
    server.stop().await;
}

#[tokio::test]
async fn members_get_every_event_and_nobody_else_does() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let (member, outsider) = (owner.invite("member", &[]).await, owner.invite("member", &[]).await);
    let guest = owner.invite("guest", &[]).await;
    let mut inside = Ws::connect(&member.api).await;
    let mut outside = Ws::connect(&outsider.api).await;
    let mut far_outside = Ws::connect(&guest.api).await;
    let channel = owner.channel("private", &[&member]).await;
    let entry = inside.event("channel.created").await["entry"].clone();
    assert_eq!((&entry["channel"]["id"], &entry["member"]["role"]), (&json!(channel), &json!("member")));
    let said = owner.say(&channel, "for us").await;
    assert_eq!(inside.event("message.created").await["message"], said);
    let path = format!("/channels/{channel}/messages/1");
    let edited = owner.api.patch(&path, 1, json!({"body": "changed"})).await.expect(200);
    assert_eq!(inside.event("message.updated").await["message"], edited);
    let deleted = owner.api.delete_version(&path, 2).await.expect(200);
    assert_eq!(inside.event("message.updated").await["message"], deleted);
    let version = entry["channel"]["version"].clone();
    let topic = json!({"topic": "tides"});
    let changed = owner.api.patch(&format!("/channels/{channel}"), version, topic).await.expect(200);
    assert_eq!(inside.event("channel.updated").await["channel"], changed);
    owner.api.post(&format!("/channels/{channel}/typing"), json!({})).await.expect(204);
    assert_eq!(inside.event("typing").await["user_id"], *owner.id);
    let third = owner.invite("member", &[&channel]).await;
    assert_eq!(inside.event("member.added").await["member"]["user_id"], *third.id);
    let manager = json!({"role": "manager"});
    owner.api.put(&format!("/channels/{channel}/members/{}", third.id), manager).await.expect(200);
    assert_eq!(inside.event("member.updated").await["member"]["role"], "manager");
    inside.ask(json!({"op": "read", "channel_id": channel, "seq": 1})).await;
    let read = inside.event("read").await;
    assert_eq!((&read["user_id"], &read["read_seq"]), (&json!(member.id), &json!(1)));
    member
        .api
        .send(
            crate::support::Call::new("PATCH", &format!("/api/v1/channels/{channel}/membership"))
                .json(&json!({"notify": "muted"})),
        )
        .await
        .expect(200);
    assert_eq!(inside.event("membership.updated").await["member"]["notify"], "muted");
    owner.api.delete(&format!("/channels/{channel}/members/{}", member.id)).await.expect(204);
    let removed = inside.event("member.removed").await;
    assert_eq!((&removed["channel_id"], &removed["user_id"]), (&json!(channel), &json!(member.id)));
    owner.say(&channel, "without you").await;
    for (who, ws) in [("the removed", &mut inside), ("an outsider", &mut outside), ("a guest", &mut far_outside)] {
        for event in ws.drain().await {
            assert!(!event.to_string().contains(&channel), "{who} got {event}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn everybody_but_guests_hears_of_people_settings_and_presence() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let (member, guest) = (owner.invite("member", &[]).await, owner.invite("guest", &[]).await);
    let mut insider = Ws::connect(&member.api).await;
    let mut far = Ws::connect(&guest.api).await;
    let joined = owner.invite("member", &[]).await;
    assert_eq!(insider.event("user.created").await["user"]["id"], *joined.id);
    let mut theirs = Ws::connect(&joined.api).await;
    let online = until("presence names who came", async || {
        let event = insider.event("presence").await;
        event["online"].as_array().unwrap().contains(&json!(joined.id)).then_some(event)
    });
    online.await;
    assert_eq!(theirs.ask(json!({"op": "ping"})).await.as_object().unwrap().len(), 1);
    theirs.close().await;
    until("presence names who went", async || {
        let event = insider.event("presence").await;
        event["offline"].as_array().unwrap().contains(&json!(joined.id)).then_some(())
    })
    .await;
    let version = owner.api.get("/settings").await.expect(200)["version"].clone();
    let settings = owner.api.patch("/settings", version, json!({"organisation": "Ebb"})).await.expect(200);
    assert_eq!(insider.event("settings.updated").await["settings"], settings);
    for event in far.drain().await {
        assert!(!event.to_string().contains(&joined.id), "a guest got {event}");
    }
    server.stop().await;
}

/// The messages' texts among events, in order.
fn texts(events: &[Value]) -> Vec<String> {
    let created = events.iter().filter(|event| event["event"] == "message.created");
    created.map(|event| event["message"]["body"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_comes_back_gets_all_that_was_missed_in_order_and_once() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let member = owner.invite("member", &[]).await;
    let channel = owner.channel("private", &[&member]).await;
    let secret = owner.channel("private", &[]).await;
    let mut sender = Ws::connect(&owner.api).await;
    let mut ws = Ws::connect(&member.api).await;
    sender.ask(send_op(&channel, "0")).await;
    assert_eq!(ws.event("message.created").await["message"]["body"], "0");
    let pos = ws.pos;
    ws.close().await;
    for number in 1..=500 {
        sender.request(send_op(&channel, &number.to_string())).await;
        if number % 50 == 0 {
            sender.ask(send_op(&secret, "not for you")).await;
        }
    }
    let expected: Vec<String> = (1..=500).map(|number: u32| number.to_string()).collect();
    // Twice from the same position: what was missed is not used up.
    for _ in 0..2 {
        let (mut back, ok) = Ws::hello(&member.api, Some(pos)).await;
        assert_eq!(ok["resumed"], true);
        let mut events = back.drain().await;
        while texts(&events).len() < 500 {
            events.extend(back.drain().await);
        }
        assert_eq!(texts(&events), expected);
        assert!(!json!(events).to_string().contains("not for you"));
    }
    server.kill9();
    server.restart().await;
    let api = server.api().with_token(member.token());
    // What the start replays from the log can be resumed too; then it must be all of it, and nothing of others.
    let (mut back, ok) = Ws::hello(&api, Some(pos)).await;
    if ok["resumed"] == true {
        let mut events = Vec::new();
        while texts(&events).len() < 500 {
            events.extend(back.drain().await);
        }
        assert_eq!(texts(&events), expected);
        assert!(!json!(events).to_string().contains("not for you"));
    }
    server.stop().await;
    server.restart().await;
    let api = server.api().with_token(member.token());
    let (_, ok) = Ws::hello(&api, Some(pos)).await;
    assert_eq!(ok["resumed"], false, "an orderly start replays nothing: the client must fetch");
    let (_, ok) = Ws::hello(&api, Some(u64::MAX)).await;
    assert_eq!(ok["resumed"], false, "a position that never was: the client belongs to another history");
    let after_restart = Person { api, ..member };
    assert_eq!(after_restart.history(&channel).await.len(), 501);
    server.stop().await;
}

#[tokio::test]
async fn who_missed_more_than_fits_the_queue_is_told_to_fetch() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let member = owner.invite("member", &[]).await;
    let channel = owner.channel("private", &[&member]).await;
    let (mut ws, _) = Ws::hello(&member.api, None).await;
    ws.drain().await;
    let pos = ws.pos;
    ws.close().await;
    let mut sender = Ws::connect(&owner.api).await;
    // Six MiB: more than a session's queue, less than what the server keeps.
    let body = "x".repeat(16_000);
    for _ in 0..400 {
        sender.ask(send_op(&channel, &body)).await;
    }
    let (mut back, ok) = Ws::hello(&member.api, Some(pos)).await;
    let mut missed = 0;
    if ok["resumed"] == true {
        while missed < 400 {
            missed += texts(&back.drain().await).len();
        }
    }
    sender.ask(send_op(&channel, "after")).await;
    assert_eq!(back.event("message.created").await["message"]["body"], "after");
    assert_eq!(member.history(&channel).await.len(), 401);
    server.stop().await;
}

#[tokio::test]
async fn too_many_unanswered_requests_are_refused_as_busy() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("private", &[]).await;
    let mut ws = Ws::connect(&owner.api).await;
    // The process is held still while the requests pile up, so that it meets them all at once.
    server.pause();
    let mut ids = Vec::new();
    for number in 0..200 {
        ids.push(ws.request(send_op(&channel, &number.to_string())).await);
    }
    server.resume();
    let (mut sent, mut busy) = (0, 0);
    for id in &ids {
        let answer = ws.answer(id).await;
        match answer["error"]["code"].as_str() {
            None => sent += 1,
            Some("busy") => {
                assert!(answer["error"]["retry_after_seconds"].as_u64().is_some_and(|s| s >= 1), "{answer}");
                busy += 1;
            }
            Some(_) => panic!("{answer}"),
        }
    }
    assert!(sent >= 64 && busy > 0, "{sent} sent, {busy} busy");
    assert_eq!(owner.history(&channel).await.len(), sent, "what was refused is not there");
    ws.ask(send_op(&channel, "and on it goes")).await;
    server.stop().await;
}

#[tokio::test]
async fn ended_sessions_lose_their_websockets() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let member = owner.invite("member", &[]).await;
    let (second, third) = (member.log_in_again().await, member.log_in_again().await);
    let (mut first_ws, mut second_ws) = (Ws::connect(&member.api).await, Ws::connect(&second.api).await);
    let mut third_ws = Ws::connect(&third.api).await;
    member.api.delete(&format!("/me/sessions/{}", third.session)).await.expect(204);
    assert_eq!(third_ws.closed().await, Some(4001));
    let change = json!({"current_password": crate::support::PASSWORD, "new_password": "kettle lamp ocean stair"});
    member.api.post("/me/password", change).await.expect(204);
    assert_eq!(second_ws.closed().await, Some(4001));
    assert!(first_ws.ask(json!({"op": "ping"})).await["pos"].is_string(), "the device that changed it stays");
    let version = owner.api.get(&format!("/users/{}", member.id)).await.expect(200)["version"].clone();
    owner.api.patch(&format!("/users/{}", member.id), version, json!({"disabled": true})).await.expect(200);
    assert_eq!(first_ws.closed().await, Some(4001));
    member.api.get("/me").await.refused(401, "unauthenticated");
    let mut again = Ws::open(&server.endpoint(), None).await.unwrap();
    again.refused(json!({"op": "hello", "token": member.token()}), "unauthenticated").await;
    assert_eq!(again.next().await, Frame::Closed(Some(4001)));
    server.stop().await;
}
