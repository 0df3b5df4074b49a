//! Set-up, invitations, signing in and out, passwords, devices, rate limits.

use serde_json::{Value, json};

use crate::support::people::{log_in, setup_body};
use crate::support::{Command, Options, PASSWORD, Person, Server, unique};

const OTHER: &str = "kettle lamp ocean stair";

#[tokio::test]
async fn the_server_is_set_up_once() {
    let mut server = Server::start(Options::default()).await;
    let api = server.api();
    let info = api.get("/server").await.expect(200);
    assert_eq!(
        (&info["set_up"], &info["setup_locked"], &info["organisation"]),
        (&json!(false), &json!(false), &json!(""))
    );
    assert!(server.stdout().contains(&server.setup_token()), "the link is printed");
    assert!(!server.stderr().contains(&server.setup_token()), "the log never holds the link");
    let token = server.setup_token();
    api.post("/setup/check", json!({"token": token})).await.expect(204);
    for (field, value, code) in [
        ("username", "a b", "invalid_username"),
        ("display_name", "", "invalid_display_name"),
        ("organisation", " ", "invalid_organisation"),
        ("time_zone", "../etc", "invalid_time_zone"),
        ("locale", "fr", "invalid_locale"),
        ("password", "short", "password_too_short"),
        ("password", "1234567890", "password_common"),
        ("password", "olga.owner", "password_is_username"),
    ] {
        let mut body = setup_body(&token);
        body[field] = value.into();
        let problem = api.post("/setup", body).await.refused(422, code);
        assert!(problem["field"].is_string(), "{problem}");
    }
    let owner = server.set_up().await;
    let me = owner.api.get("/me").await.expect(200);
    assert_eq!((&me["user"]["role"], &me["user"]["username"]), (&json!("owner"), &json!("olga.owner")));
    assert_eq!(me["settings"]["organisation"], "Tide & Sons");
    assert!(!server.data().join("setup-link.txt").exists(), "the link is gone");
    api.post("/setup", setup_body(&token)).await.refused(409, "already_set_up");
    api.post("/setup/check", json!({"token": token})).await.refused(409, "already_set_up");
    server.command(&["init", "--link"]).run().await.expect(1);
    server.kill9();
    server.restart().await;
    assert_eq!(server.api().get("/server").await.expect(200)["set_up"], true);
    server.api().post("/setup", setup_body(&token)).await.refused(409, "already_set_up");
    server.stop().await;
}

#[tokio::test]
async fn wrong_set_up_links_lock_it_and_the_operator_unlocks_it() {
    let mut server = Server::start(Options::plain()).await;
    let api = server.api();
    let token = server.setup_token();
    let wrong = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    for tries in 1..=9 {
        let wrong = if tries % 2 == 0 { "nonsense" } else { &wrong };
        api.post("/setup/check", json!({"token": wrong})).await.refused(403, "setup_token_invalid");
    }
    server.kill9();
    server.restart().await;
    let api = server.api();
    api.post("/setup", setup_body(&wrong)).await.refused(423, "setup_locked");
    api.post("/setup", setup_body(&token)).await.refused(423, "setup_locked");
    api.post("/setup/check", json!({"token": token})).await.refused(423, "setup_locked");
    assert_eq!(api.get("/server").await.expect(200)["setup_locked"], true);
    let printed = server.command(&["init", "--link"]).run().await;
    let fresh = server.setup_token();
    assert!(printed.expect(0).stdout.contains(&fresh), "{printed:?}");
    assert_ne!(fresh, token);
    api.post("/setup", setup_body(&token)).await.refused(403, "setup_token_invalid");
    api.post("/setup", setup_body(&fresh)).await.expect(201);
    server.stop().await;
}

#[tokio::test]
async fn nothing_works_before_the_set_up() {
    let mut server = Server::start(Options::plain()).await;
    let api = server.api();
    log_in(&api, "olga.owner", PASSWORD).await.refused(401, "login_failed");
    api.post("/invites/check", json!({"token": "hfi_x"})).await.refused(404, "invite_invalid");
    api.get("/me").await.refused(401, "unauthenticated");
    server.stop().await;
}

fn accept(token: &Value, username: &str) -> Value {
    json!({"token": token, "username": username, "display_name": username, "password": OTHER})
}

#[tokio::test]
async fn invitations_are_used_as_often_as_they_say_and_can_be_taken_back() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let api = server.api();
    let channel = owner.channel("private", &[]).await;
    let body = json!({"role": "guest", "channel_ids": [channel], "uses_max": 2, "expires_in_seconds": 60});
    let made = owner.invitation(body).await;
    assert!(made["link"].as_str().unwrap().starts_with(&format!("{}/invite#", server.url())), "{made}");
    let offer = api.post("/invites/check", json!({"token": made["token"]})).await.expect(200);
    assert_eq!((&offer["role"], &offer["invited_by"]), (&json!("guest"), &json!("Olga Owner")));
    api.post("/invites/accept", accept(&made["token"], "OLGA.owner")).await.refused(409, "username_taken");
    let mut weak = accept(&made["token"], "first");
    weak["password"] = "first".into();
    api.post("/invites/accept", weak).await.problem();
    let answer = api.post("/invites/accept", accept(&made["token"], "First")).await.expect(201);
    let first = Person::from_answer(&api, &answer);
    assert_eq!((answer["user"]["role"].clone(), first.username.as_str()), (json!("guest"), "first"));
    assert_eq!(first.api.get("/channels").await.expect(200)["items"][0]["channel"]["id"], *channel);
    api.post("/invites/accept", accept(&made["token"], "second")).await.expect(201);
    api.post("/invites/accept", accept(&made["token"], "third")).await.refused(410, "invite_used_up");
    api.post("/invites/check", json!({"token": made["token"]})).await.refused(410, "invite_used_up");

    let other = owner.invitation(json!({"role": "member"})).await;
    owner.api.delete(&format!("/invites/{}", other["invite"]["id"].as_str().unwrap())).await.expect(204);
    api.post("/invites/accept", accept(&other["token"], "third")).await.refused(410, "invite_revoked");
    api.post("/invites/check", json!({"token": other["token"]})).await.refused(410, "invite_revoked");
    api.post("/invites/accept", accept(&json!("hfi_none"), "third")).await.refused(404, "invite_invalid");
    for bad in [
        json!({"role": "member", "uses_max": 0}),
        json!({"role": "member", "uses_max": 1001}),
        json!({"role": "member", "expires_in_seconds": 0}),
        json!({"role": "member", "expires_in_seconds": 2_592_001}),
        json!({"role": "king"}),
        json!({"role": "member", "channel_ids": vec!["1"; 51]}),
    ] {
        owner.api.post("/invites", bad).await.refused(400, "invalid_body");
    }
    let unknown = json!({"role": "member", "channel_ids": ["999999"]});
    owner.api.post("/invites", unknown).await.refused(404, "channel_not_found");
    let listed = owner.api.get("/invites?limit=1").await.expect(200);
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["revoked"]), (&other["invite"]["id"], &json!(true)));
    let cursor = listed["next_cursor"].as_str().unwrap();
    let next = owner.api.get(&format!("/invites?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!((&next["items"][0]["id"], &next["items"][0]["uses"]), (&made["invite"]["id"], &json!(2)));
    assert!(!listed.to_string().contains(other["token"].as_str().unwrap()), "tokens are shown once");
    server.stop().await;
}

#[tokio::test]
async fn one_invitation_cannot_be_used_twice_at_once() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let made = owner.invitation(json!({"role": "member"})).await;
    let tries = (0..8).map(|number| {
        let (api, token) = (server.api(), made["token"].clone());
        async move { api.post("/invites/accept", accept(&token, &format!("racer{number}"))).await.status }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 410, 410, 410, 410, 410, 410, 410]);
    server.stop().await;
}

#[tokio::test]
async fn signing_in_fails_alike_for_wrong_names_and_passwords() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let api = server.api();
    let strip = |mut problem: Value| {
        problem["request_id"].take();
        problem
    };
    let wrong_name = log_in(&api, "nobody", PASSWORD).await.refused(401, "login_failed");
    let wrong_password = log_in(&api, &owner.username, "wrong").await.refused(401, "login_failed");
    assert_eq!(strip(wrong_name), strip(wrong_password), "nobody learns which names exist");
    for (name, password) in
        [("", ""), ("olga.owner", ""), ("olga.owner\0", PASSWORD), ("olga.owner", &"x".repeat(2_000))]
    {
        log_in(&api, name, password).await.refused(401, "login_failed");
    }
    log_in(&api, " OLGA.Owner ", PASSWORD).await.expect(200);
    let body = json!({"username": "olga.owner", "password": PASSWORD, "device": "Pad\u{7}\u{202e}"});
    assert_eq!(api.post("/login", body).await.expect(200)["session"]["device"], "Pad");
    let member = owner.invite("member", &[]).await;
    let version = owner.api.get(&format!("/users/{}", member.id)).await.expect(200)["version"].clone();
    let user = owner.api.patch(&format!("/users/{}", member.id), version, json!({"disabled": true})).await.expect(200);
    log_in(&api, &member.username, PASSWORD).await.refused(403, "user_disabled");
    log_in(&api, &member.username, "wrong").await.refused(401, "login_failed");
    owner.api.patch(&format!("/users/{}", member.id), &user["version"], json!({"disabled": false})).await.expect(200);
    log_in(&api, &member.username, PASSWORD).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn guessing_is_limited_per_account_and_per_address() {
    let config = "[auth]\nlogin_account_burst = 3\nlogin_address_burst = 8\n";
    let (mut server, owner) = Server::start_set_up(Options::plain().config(config)).await;
    let api = server.api();
    for _ in 0..3 {
        log_in(&api, &owner.username, "wrong").await.refused(401, "login_failed");
    }
    let limited = log_in(&api, &owner.username, PASSWORD).await;
    let problem = limited.refused(429, "rate_limited");
    assert!(problem["retry_after_seconds"].as_u64().is_some_and(|seconds| (1..=15).contains(&seconds)), "{problem}");
    // The account's bucket does not close the door to others, the address's does.
    let statuses = futures_util::future::join_all((0..20).map(|number| {
        let api = api.clone();
        async move { log_in(&api, &format!("guess{number}"), "wrong").await.status }
    }))
    .await;
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    // Who is signed in goes on working; changing the password counts as guessing too.
    owner.api.get("/me").await.expect(200);
    let change = json!({"current_password": PASSWORD, "new_password": OTHER});
    owner.api.post("/me/password", change).await.refused(429, "rate_limited");
    server.stop().await;
}

#[tokio::test]
async fn a_storm_of_sign_ins_is_weathered_in_bounded_memory() {
    let config = "[auth]\nlogin_account_burst = 1000\nlogin_address_burst = 1000\n";
    let (mut server, owner) = Server::start_set_up(Options::default().config(config)).await;
    owner.log_in_again().await;
    let before_kib = server.peak_rss_kib();
    let storm = (0..50).map(|number| {
        let (api, username) = (server.api(), owner.username.clone());
        let password = if number % 5 == 0 { "wrong" } else { PASSWORD };
        async move { (number, log_in(&api, &username, password).await) }
    });
    for (number, answer) in futures_util::future::join_all(storm).await {
        match answer.status {
            200 => assert_ne!(number % 5, 0),
            401 => assert_eq!(number % 5, 0),
            429 => drop(answer.refused(429, "rate_limited")),
            _ => drop(answer.refused(503, "busy")),
        }
    }
    // Two hashes of 19 MiB at once, whatever the number of people at the door.
    let grown_mib = (server.peak_rss_kib() - before_kib) / 1024;
    assert!(grown_mib < 120, "the storm cost {grown_mib} MiB");
    owner.api.get("/me").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn a_password_change_ends_the_other_devices() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let api = server.api();
    let member = owner.invite("member", &[]).await;
    let other = member.log_in_again().await;
    let change = |current: &str, new: &str| json!({"current_password": current, "new_password": new});
    member.api.post("/me/password", change("wrong", OTHER)).await.refused(403, "login_failed");
    for (bad, code) in [
        ("short", "password_too_short"),
        ("password123", "password_common"),
        (member.username.as_str(), "password_is_username"),
        (&"x".repeat(257), "password_too_long"),
    ] {
        member.api.post("/me/password", change(PASSWORD, bad)).await.refused(422, code);
    }
    other.api.get("/me").await.expect(200);
    member.api.post("/me/password", change(PASSWORD, OTHER)).await.expect(204);
    member.api.get("/me").await.expect(200);
    other.api.get("/me").await.refused(401, "unauthenticated");
    log_in(&api, &member.username, PASSWORD).await.refused(401, "login_failed");
    log_in(&api, &member.username, OTHER).await.expect(200);
    // By an admin: every device ends, and the user must choose anew.
    let reset = json!({"password": "stone bridge winter kite"});
    owner.api.post(&format!("/users/{}/password", member.id), reset).await.expect(204);
    member.api.get("/me").await.refused(401, "unauthenticated");
    let back = log_in(&api, &member.username, "stone bridge winter kite").await.expect(200);
    assert_eq!(back["user"]["must_change_password"], true);
    let back = Person::from_answer(&api, &back);
    back.api.get("/channels").await.refused(403, "password_change_required");
    back.api.post("/me/password", change("stone bridge winter kite", OTHER)).await.expect(204);
    back.api.get("/channels").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn devices_are_listed_and_signed_out() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let member = owner.invite("member", &[]).await;
    let other = member.log_in_again().await;
    let listed = member.api.get("/me/sessions").await.expect(200);
    let items = listed["items"].as_array().unwrap();
    let brief: Vec<(&str, bool)> =
        items.iter().map(|item| (item["id"].as_str().unwrap(), item["current"].as_bool().unwrap())).collect();
    assert_eq!(brief, [(member.session.as_str(), true), (other.session.as_str(), false)]);
    assert_eq!(items[0]["address"], "127.0.0.1");
    assert!(!listed.to_string().contains("token"), "{listed}");
    // Somebody else's session is nobody's business.
    member.api.delete(&format!("/me/sessions/{}", owner.session)).await.refused(404, "session_not_found");
    member.api.delete(&format!("/me/sessions/{}", other.session)).await.expect(204);
    other.api.get("/me").await.refused(401, "unauthenticated");
    member.api.delete(&format!("/me/sessions/{}", other.session)).await.refused(404, "session_not_found");
    let by_admin = owner.api.get(&format!("/users/{}/sessions", member.id)).await.expect(200);
    assert_eq!(by_admin["items"].as_array().unwrap().len(), 1);
    let wrong_user = format!("/users/{}/sessions/{}", owner.id, member.session);
    owner.api.delete(&wrong_user).await.refused(404, "session_not_found");
    owner.api.delete(&format!("/users/{}/sessions/{}", member.id, member.session)).await.expect(204);
    member.api.get("/me").await.refused(401, "unauthenticated");
    owner.api.post("/logout", json!({})).await.expect(204);
    owner.api.post("/logout", json!({})).await.refused(401, "unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn people_are_listed_by_pages_and_guests_see_only_their_own() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let (member, stranger) = (owner.invite("member", &[]).await, owner.invite("member", &[]).await);
    let channel = owner.channel("private", &[&member]).await;
    let guest = owner.invite("guest", &[&channel]).await;
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = member.api.get(&format!("/users?limit=1{cursor}")).await.expect(200);
        ids.extend(page["items"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let all = [&owner, &member, &stranger, &guest].map(|person| person.id.clone());
    assert_eq!(ids, all);
    let seen = guest.api.get("/users").await.expect(200);
    let seen: Vec<&str> = seen["items"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
    assert_eq!(seen, [&owner.id, &member.id, &guest.id]);
    guest.api.get(&format!("/users/{}", member.id)).await.expect(200);
    guest.api.get(&format!("/users/{}", stranger.id)).await.refused(404, "user_not_found");
    let online = guest.api.get("/presence").await.expect(200);
    assert_eq!(online["online"], json!([]));
    let found = member.api.get(&format!("/users?query={}", stranger.username)).await.expect(200);
    assert_eq!((found["items"][0]["id"].clone(), found["items"].as_array().unwrap().len()), (json!(stranger.id), 1));
    assert!(!found.to_string().contains("hash"), "{found}");
    server.stop().await;
}

#[tokio::test]
async fn the_operator_manages_accounts_from_the_shell() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let api = server.api();
    let name = unique("shell");
    let made = server
        .command(&["user", "add", &name, "--role", "admin", "--display-name", "李雷", "--json"])
        .run()
        .await
        .json();
    let password = made["password"].as_str().unwrap().to_owned();
    let signed_in = log_in(&api, &name, &password).await.expect(200);
    assert_eq!(
        (&signed_in["user"]["role"], &signed_in["user"]["must_change_password"]),
        (&json!("admin"), &json!(true))
    );
    let person = Person::from_answer(&api, &signed_in);
    server.command(&["user", "add", &name]).run().await.expect(1);
    server.command(&["user", "add", "a b"]).run().await.expect(1);
    server.command(&["user", "passwd", &name, "--password-stdin"]).input(&format!("{OTHER}\n")).run().await.expect(0);
    person.api.get("/me").await.refused(401, "unauthenticated");
    log_in(&api, &name, &password).await.refused(401, "login_failed");
    log_in(&api, &name, OTHER).await.expect(200);
    let weak = server.command(&["user", "passwd", &name, "--password-stdin"]).input("short\n").run().await;
    assert!(weak.expect(1).stderr.contains("10"), "it says what is missing: {weak:?}");
    server.command(&["user", "disable", &name]).run().await.expect(0);
    log_in(&api, &name, OTHER).await.refused(403, "user_disabled");
    let listed = server.command(&["user", "list", "--json"]).run().await.json();
    let shown = listed["users"].as_array().unwrap().iter().find(|user| user["name"] == *name).unwrap();
    assert_eq!((&shown["disabled"], &shown["display_name"]), (&json!(true), &json!("李雷")));
    assert!(!listed.to_string().contains("argon2"), "{listed}");
    server.command(&["user", "disable", &name, "--undo"]).run().await.expect(0);
    log_in(&api, &name, OTHER).await.expect(200);
    let last = server.command(&["user", "disable", &owner.username]).run().await;
    assert!(last.expect(1).stderr.contains("owner"), "{last:?}");
    for command in [["user", "passwd", "nobody"], ["user", "disable", "nobody"]] {
        server.command(&command).run().await.expect(1);
    }
    let trail = owner.api.get("/audit?actor=0&limit=200").await.expect(200);
    let actions: Vec<&str> =
        trail["items"].as_array().unwrap().iter().map(|act| act["action"].as_str().unwrap()).collect();
    for action in ["user.create", "user.set_password", "user.update"] {
        assert!(actions.contains(&action), "{action} by the operator is in the trail: {actions:?}");
    }
    server.stop().await;
    let down = server.command(&["user", "list"]).run().await;
    assert!(down.expect(1).stderr.contains("holdfast serve"), "{down:?}");
    Command::new(&["user", "list", "--data", "/nonexistent"]).run().await.expect(1);
}
