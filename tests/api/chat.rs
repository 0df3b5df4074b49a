//! Channels, members, messages: what people do all day, and what others must not see of it.

use serde_json::{Value, json};

use crate::routes::{Places, all};
use crate::support::people::client_id;
use crate::support::{Call, Options, Person, Server, unique, until};

/// PATCH without a version.
async fn patch(person: &Person, path: &str, body: Value) -> crate::support::Answer {
    person.api.send(Call::new("PATCH", &format!("/api/v1{path}")).json(&body)).await
}

#[tokio::test]
async fn private_channels_do_not_exist_for_others() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let places = Places::make(&owner).await;
    let direct = owner.api.post("/channels/direct", json!({"user_id": places.victim.id})).await.expect(201);
    let direct = direct["channel"]["id"].as_str().unwrap();
    let nosy = [owner.invite("admin", &[]).await, owner.invite("member", &[]).await, owner.invite("guest", &[]).await];
    let mut walked = 0;
    for route in all().iter().filter(|route| route.path.contains("{channel_id}")) {
        walked += 1;
        for person in &nosy {
            for channel in [places.channel.as_str(), direct] {
                let mut call = places.call(route);
                call.path = places.fill(route.path, Some(("channel_id", channel)));
                let real = person.api.send(call.clone()).await.refused(404, "channel_not_found");
                call.path = places.fill(route.path, Some(("channel_id", "999999999")));
                let none = person.api.send(call).await.refused(404, "channel_not_found");
                assert_eq!((&real["title"], &real["detail"]), (&none["title"], &none["detail"]), "{}", route.name());
            }
            // Nor by way of oneself.
            let own = format!("/channels/{}/members/{}", places.channel, person.id);
            person.api.put(&own, json!({})).await.refused(404, "channel_not_found");
            person.api.delete(&own).await.refused(404, "channel_not_found");
        }
    }
    assert_eq!(walked, 13, "every route of a channel");
    let browse = nosy[0].api.get("/channels/browse").await.expect(200);
    assert_eq!(browse["items"], json!([]));
    let invite = json!({"role": "member", "channel_ids": [places.channel]});
    nosy[0].api.post("/invites", invite).await.refused(404, "channel_not_found");
    assert_eq!(owner.history(&places.channel).await.len(), 1, "nothing was changed");
    server.stop().await;
}

#[tokio::test]
async fn messages_are_sent_once_paged_edited_and_deleted() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let member = owner.invite("member", &[]).await;
    let channel = owner.channel("private", &[&member]).await;
    let path = format!("/channels/{channel}/messages");
    let body = json!({"client_id": client_id(), "body": "磐 **1**\n\u{1f469}\u{200d}\u{1f680}"});
    let sent = owner.api.post(&path, body.clone()).await.expect(201);
    assert_eq!((&sent["seq"], &sent["body"], &sent["version"]), (&json!(1), &body["body"], &json!(1)));
    let other_text = json!({"client_id": body["client_id"], "body": "another text"});
    for resend in [body, other_text] {
        let again = owner.api.post(&path, resend).await.expect(200);
        assert_eq!(again, sent, "a resend gives the first message");
    }
    let resends = (0..8).map(|_| owner.api.post(&path, json!({"client_id": sent["client_id"], "body": "x"})));
    for answer in futures_util::future::join_all(resends).await {
        assert_eq!(answer.expect(200)["id"], sent["id"]);
    }
    for (body, code) in [("", "message_empty"), (" \n\t", "message_empty")] {
        owner.api.post(&path, json!({"client_id": client_id(), "body": body})).await.refused(422, code);
    }
    let longest = json!({"client_id": client_id(), "body": "\u{1}".repeat(16_384)});
    owner.api.post(&path, longest).await.expect(201);
    let longer = json!({"client_id": client_id(), "body": "x".repeat(16_385)});
    owner.api.post(&path, longer).await.refused(422, "message_too_long");
    for id in ["", "x", "00000000-0000-0000-0000-000000000000"] {
        let bad = json!({"client_id": id, "body": "x"});
        owner.api.post(&path, bad).await.refused(422, "invalid_client_id");
    }
    let one = format!("{path}/1");
    member.api.patch(&one, 1, json!({"body": "mine?"})).await.refused(403, "forbidden");
    member.api.delete_version(&one, 1).await.refused(403, "forbidden");
    let edited = owner.api.patch(&one, 1, json!({"body": "edited"})).await.expect(200);
    assert!(edited["edited_ms"].as_u64() >= sent["created_ms"].as_u64(), "{edited}");
    let stale = owner.api.patch(&one, 1, json!({"body": "again"})).await.refused(412, "stale_version");
    assert_eq!(stale["current"], edited);
    let deleted = owner.api.delete_version(&one, 2).await.expect(200);
    assert_eq!((&deleted["body"], &deleted["seq"]), (&json!(""), &json!(1)));
    assert!(deleted["deleted_ms"].is_u64(), "{deleted}");
    assert_eq!(member.api.get(&one).await.expect(200), deleted);
    owner.api.patch(&one, 3, json!({"body": "risen"})).await.refused(404, "message_not_found");
    // A manager takes others' messages away, which leaves a trace: whose it was, not what it said.
    let theirs = member.say(&channel, "rude").await;
    let taken = owner.api.delete_version(&format!("{path}/{}", theirs["seq"]), 1).await.expect(200);
    assert_eq!(taken["body"], "");
    let trail = owner.api.get("/audit?action=message.delete").await.expect(200);
    assert_eq!(trail["items"][0]["before"]["sender_id"], member.id.as_str());
    assert_eq!(trail["items"][0]["before"]["body"], "");
    server.stop().await;
}

#[tokio::test]
async fn the_window_for_edits_closes() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("private", &[]).await;
    let version = owner.api.get("/settings").await.expect(200)["version"].clone();
    owner.api.patch("/settings", version, json!({"edit_window_seconds": 1})).await.expect(200);
    owner.say(&channel, "soon fixed").await;
    let path = format!("/channels/{channel}/messages/1");
    // Edits succeed or not by the clock; at some moment they do not any more.
    until("the window closes", async || {
        let version = owner.api.get(&path).await.expect(200)["version"].clone();
        let answer = owner.api.patch(&path, version, json!({"body": "x"})).await;
        (answer.status == 403).then(|| answer.refused(403, "edit_window_closed"))
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn pages_join_without_gap_or_overlap() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("private", &[]).await;
    let path = format!("/channels/{channel}/messages");
    let empty = owner.api.get(&path).await.expect(200);
    assert_eq!((&empty["items"], &empty["last_seq"]), (&json!([]), &json!(0)));
    for number in 1..=25 {
        owner.say(&channel, &number.to_string()).await;
    }
    let page = async |query: &str| {
        let page = owner.api.get(&format!("{path}?{query}")).await.expect(200);
        let seqs: Vec<u64> = page["items"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
        assert_eq!(page["last_seq"], 25);
        (seqs, page["has_before"].as_bool().unwrap(), page["has_after"].as_bool().unwrap())
    };
    let range = |range: std::ops::RangeInclusive<u64>| range.collect::<Vec<u64>>();
    assert_eq!(page("limit=10").await, (range(16..=25), true, false));
    assert_eq!(page("before=16&limit=10").await, (range(6..=15), true, true));
    assert_eq!(page("before=6&limit=10").await, (range(1..=5), false, true));
    assert_eq!(page("before=1").await.0, Vec::<u64>::new());
    assert_eq!(page("after=0&limit=10").await, (range(1..=10), false, true));
    assert_eq!(page("after=10&limit=10").await, (range(11..=20), true, true));
    assert_eq!(page("after=20&limit=10").await, (range(21..=25), true, false));
    assert_eq!(page("after=25").await.0, Vec::<u64>::new());
    assert_eq!(page("after=18446744073709551615").await.0, Vec::<u64>::new());
    let (around, before, after) = page("around=12&limit=5").await;
    assert!(around.contains(&12) && around.len() == 5 && before && after, "{around:?}");
    assert!(page("around=1&limit=5").await.0.contains(&1));
    assert_eq!(page("around=25&limit=5").await.0.last(), Some(&25));
    assert_eq!(page("around=0&limit=5").await.0.first(), Some(&1));
    server.stop().await;
}

#[tokio::test]
async fn read_marks_move_forward_only() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let member = owner.invite("member", &[]).await;
    let channel = owner.channel("private", &[&member]).await;
    for number in 1..=5 {
        owner.say(&channel, &number.to_string()).await;
    }
    let path = format!("/channels/{channel}/read");
    let own = owner.api.get(&format!("/channels/{channel}")).await.expect(200);
    assert_eq!(own["member"]["read_seq"], 5, "what one says oneself one has read");
    let read_seq =
        async || member.api.get(&format!("/channels/{channel}")).await.expect(200)["member"]["read_seq"].clone();
    for seq in [1, 4, 2] {
        member.api.post(&path, json!({"seq": seq})).await.expect(202);
    }
    until("the mark is durable", async || (read_seq().await == 4).then_some(())).await;
    member.api.post(&path, json!({"seq": 1})).await.expect(202);
    member.api.post(&path, json!({"seq": u64::MAX})).await.expect(202);
    until("the mark stops at the last message", async || (read_seq().await == 5).then_some(())).await;
    // What waits when the server stops is kept.
    owner.say(&channel, "6").await;
    member.api.post(&path, json!({"seq": 6})).await.expect(202);
    server.stop().await;
    server.restart().await;
    let member = server.api().with_token(member.token());
    assert_eq!(member.get(&format!("/channels/{channel}")).await.expect(200)["member"]["read_seq"], 6);
    server.stop().await;
}

#[tokio::test]
async fn direct_channels_exist_once_per_pair() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let member = owner.invite("member", &[]).await;
    let open = |from: &Person, to: &str| {
        let (api, body) = (from.api.clone(), json!({"user_id": to}));
        async move { api.post("/channels/direct", body).await }
    };
    let first = open(&owner, &member.id).await.expect(201);
    let (kind, both) = (&first["channel"]["kind"], &first["channel"]["direct_user_ids"]);
    assert_eq!((kind, both), (&json!("direct"), &json!([owner.id, member.id])));
    let id = first["channel"]["id"].clone();
    assert_eq!(open(&member, &owner.id).await.expect(200)["channel"]["id"], id);
    assert_eq!(open(&owner, &member.id).await.expect(200)["channel"]["id"], id);
    let notes = open(&owner, &owner.id).await.expect(201);
    assert_eq!(notes["channel"]["direct_user_ids"], json!([owner.id]));
    open(&owner, "999999").await.refused(404, "user_not_found");
    let channel = id.as_str().unwrap();
    owner.say(channel, "between us").await;
    assert_eq!(member.history(channel).await.len(), 1);
    owner.api.patch(&format!("/channels/{channel}"), 1, json!({"name": "x"})).await.problem();
    let third = owner.invite("member", &[]).await;
    owner
        .api
        .put(&format!("/channels/{channel}/members/{}", third.id), json!({}))
        .await
        .refused(409, "wrong_channel_kind");
    member.api.delete(&format!("/channels/{channel}/members/{}", member.id)).await.refused(409, "wrong_channel_kind");
    server.stop().await;
}

#[tokio::test]
async fn public_channels_are_found_joined_and_left() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let (member, guest) = (owner.invite("member", &[]).await, owner.invite("guest", &[]).await);
    let name = unique("Harbour");
    let made = owner.api.post("/channels", json!({"kind": "public", "name": name, "topic": "ships"})).await.expect(201);
    let id = made["channel"]["id"].as_str().unwrap();
    let taken = json!({"kind": "public", "name": name.to_uppercase()});
    member.api.post("/channels", taken).await.refused(409, "channel_name_taken");
    let found = member.api.get(&format!("/channels/browse?query={}", &name[..9])).await.expect(200);
    assert_eq!(found["items"][0]["id"], id);
    let seen = member.api.get(&format!("/channels/{id}")).await.expect(200);
    assert_eq!((&seen["channel"]["topic"], &seen["member"]), (&json!("ships"), &Value::Null));
    owner.say(id, "ahoy").await;
    let messages = format!("/channels/{id}/messages");
    member.api.get(&messages).await.refused(403, "not_a_member");
    member.api.post(&messages, json!({"client_id": client_id(), "body": "x"})).await.refused(403, "not_a_member");
    for path in [format!("/channels/{id}"), messages.clone(), format!("/channels/{id}/members")] {
        guest.api.get(&path).await.refused(404, "channel_not_found");
    }
    let own = format!("/channels/{id}/members/{}", member.id);
    assert_eq!(member.api.put(&own, json!({})).await.expect(200)["role"], "member");
    assert_eq!(member.api.put(&own, json!({})).await.expect(200)["role"], "member", "joining twice is joining");
    assert_eq!(member.api.get(&messages).await.expect(200)["items"][0]["body"], "ahoy");
    member.api.put(&own, json!({"role": "manager"})).await.refused(403, "forbidden");
    member.api.patch(&format!("/channels/{id}"), 1, json!({"topic": "mine"})).await.refused(403, "forbidden");
    let members = owner.api.get(&format!("/channels/{id}/members?limit=1")).await.expect(200);
    assert_eq!(members["items"][0]["user_id"], *owner.id);
    let next = format!("/channels/{id}/members?limit=1&cursor={}", members["next_cursor"].as_str().unwrap());
    assert_eq!(owner.api.get(&next).await.expect(200)["items"][0]["user_id"], *member.id);
    patch(&member, &format!("/channels/{id}/membership"), json!({"notify": "muted"})).await.expect(200);
    assert_eq!(member.api.get(&format!("/channels/{id}")).await.expect(200)["member"]["notify"], "muted");
    member.api.delete(&own).await.expect(204);
    member.api.delete(&own).await.refused(404, "user_not_found");
    // Archived: read-only and no longer found.
    let archived = owner.api.patch(&format!("/channels/{id}"), 1, json!({"archived": true})).await.expect(200);
    assert_eq!(archived["archived"], true);
    owner.api.post(&messages, json!({"client_id": client_id(), "body": "x"})).await.refused(409, "channel_archived");
    member.api.put(&own, json!({})).await.refused(409, "channel_archived");
    assert_eq!(member.api.get("/channels/browse").await.expect(200)["items"], json!([]));
    assert_eq!(owner.history(id).await.len(), 1, "what was said stays readable");
    server.stop().await;
}

#[tokio::test]
async fn announcements_are_written_by_few_and_read_by_many() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let member = owner.invite("member", &[]).await;
    let new = json!({"kind": "announcement", "name": "News"});
    member.api.post("/channels", new.clone()).await.refused(403, "forbidden");
    let made = owner.api.post("/channels", new).await.expect(201);
    let id = made["channel"]["id"].as_str().unwrap();
    member.api.put(&format!("/channels/{id}/members/{}", member.id), json!({})).await.expect(200);
    let say = json!({"client_id": client_id(), "body": "me too"});
    member.api.post(&format!("/channels/{id}/messages"), say).await.refused(403, "channel_read_only");
    owner.say(id, "hear ye").await;
    assert_eq!(member.history(id).await.len(), 1);
    for (body, code) in [
        (json!({"kind": "direct", "name": "x"}), "wrong_channel_kind"),
        (json!({"kind": "public", "name": ""}), "invalid_channel_name"),
        (json!({"kind": "public", "name": "x", "topic": "x".repeat(251)}), "invalid_topic"),
        (json!({"kind": "private", "name": "x", "member_ids": ["999999"]}), "user_not_found"),
    ] {
        assert_eq!(owner.api.post("/channels", body).await.problem()["code"], code);
    }
    server.stop().await;
}
