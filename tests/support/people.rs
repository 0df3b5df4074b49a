//! People on the server under test, all through the public API.

use serde_json::{Value, json};

use super::http::{Answer, Api};
use super::server::Server;

/// Everyone's password.
pub(crate) const PASSWORD: &str = "nine llamas over the harbour";

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct Person {
    /// The user's id.
    pub(crate) id: String,
    /// The sign-in name.
    pub(crate) username: String,
    /// The session's id.
    pub(crate) session: String,
    /// The client, signed in.
    pub(crate) api: Api,
}

/// The first owner.
pub(crate) type Owner = Person;

/// A text that nothing else has, beginning with `prefix`.
pub(crate) fn unique(prefix: &str) -> String {
    let number = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &number[..12])
}

/// A new client id for a message.
pub(crate) fn client_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Person {
    /// From the answer to a set-up, a login or an accepted invitation.
    #[track_caller]
    pub(crate) fn from_answer(api: &Api, answer: &Value) -> Self {
        let text = |pointer: &str| {
            let value = answer.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("no {pointer} in {answer}")).to_owned()
        };
        Self {
            id: text("/user/id"),
            username: text("/user/username"),
            session: text("/session/id"),
            api: api.with_token(&text("/token")),
        }
    }

    /// The token.
    pub(crate) fn token(&self) -> &str {
        self.api.token()
    }

    /// Invites somebody of this role into these channels, who accepts at once.
    pub(crate) async fn invite(&self, role: &str, channels: &[&str]) -> Person {
        let invite = self.invitation(json!({"role": role, "channel_ids": channels})).await;
        let username = unique(role);
        let body = json!({
            "token": invite["token"], "username": username, "display_name": format!("The {username}"),
            "password": PASSWORD,
        });
        let answer = self.api.anonymous().post("/invites/accept", body).await.expect(201);
        Person::from_answer(&self.api, &answer)
    }

    /// An invitation: `{invite, token, link}`.
    pub(crate) async fn invitation(&self, body: Value) -> Value {
        self.api.post("/invites", body).await.expect(201)
    }

    /// Signs in once more, as on another device.
    pub(crate) async fn log_in_again(&self) -> Person {
        let answer = log_in(&self.api.anonymous(), &self.username, PASSWORD).await.expect(200);
        Person::from_answer(&self.api, &answer)
    }

    /// Creates a channel with these members and gives its id.
    pub(crate) async fn channel(&self, kind: &str, members: &[&Person]) -> String {
        let ids: Vec<&str> = members.iter().map(|person| person.id.as_str()).collect();
        let body = json!({"kind": kind, "name": unique(kind), "member_ids": ids});
        let entry = self.api.post("/channels", body).await.expect(201);
        entry["channel"]["id"].as_str().unwrap().to_owned()
    }

    /// Sends a message and gives it.
    pub(crate) async fn say(&self, channel: &str, body: &str) -> Value {
        let message = json!({"client_id": client_id(), "body": body});
        self.api.post(&format!("/channels/{channel}/messages"), message).await.expect(201)
    }

    /// Every message of a channel, in order, page by page.
    pub(crate) async fn history(&self, channel: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().map_or(0, |message| message["seq"].as_u64().unwrap());
            let path = format!("/channels/{channel}/messages?after={after}&limit=200");
            let page = self.api.get(&path).await.expect(200);
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            if page["has_after"] == false {
                return all;
            }
        }
    }
}

/// Tries to sign in.
pub(crate) async fn log_in(api: &Api, username: &str, password: &str) -> Answer {
    api.anonymous().post("/login", json!({"username": username, "password": password})).await
}

impl Server {
    /// The token of the set-up link in the data directory.
    pub(crate) fn setup_token(&self) -> String {
        let file = std::fs::read_to_string(self.data().join("setup-link.txt")).unwrap();
        let token = file.lines().find_map(|line| line.strip_prefix("token = "));
        token.unwrap_or_else(|| panic!("no token in {file}")).trim_matches('"').to_owned()
    }

    /// Sets the server up, as the link's receiver does, and gives the owner.
    pub(crate) async fn set_up(&self) -> Owner {
        let api = self.api();
        let answer = api.post("/setup", setup_body(&self.setup_token())).await.expect(201);
        Person::from_answer(&api, &answer)
    }

    /// Starts one and sets it up.
    pub(crate) async fn start_set_up(options: super::server::Options) -> (Self, Owner) {
        let server = Self::start(options).await;
        let owner = server.set_up().await;
        (server, owner)
    }
}

/// A body for the set-up.
pub(crate) fn setup_body(token: &str) -> Value {
    json!({
        "token": token, "organisation": "Tide & Sons", "time_zone": "Asia/Shanghai", "locale": "en",
        "username": "olga.owner", "display_name": "Olga Owner", "password": PASSWORD,
    })
}
