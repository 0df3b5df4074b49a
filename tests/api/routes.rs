//! Every route with what it takes to call it. The contract tests walk over this table, and it must name exactly the
//! routes of the OpenAPI document: a new route without tests fails.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::people::client_id;
use crate::support::{Call, PASSWORD, Person, unique};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Everybody, without a token.
    Anyone,
    /// Signed in, also with a password that must be changed.
    SignedIn,
    /// Signed in.
    Guest,
    /// Not guests.
    Member,
    /// Auditors and above.
    Auditor,
    /// Admins and owners.
    Admin,
}

/// A route.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// Below `/api/v1`.
    pub(crate) path: &'static str,
    pub(crate) who: Who,
    /// A body of the right form; none if the route has none.
    pub(crate) body: Option<Value>,
    /// It wants `If-Match`.
    pub(crate) versioned: bool,
}

impl Route {
    /// The method and path as they stand in the OpenAPI document.
    pub(crate) fn name(&self) -> String {
        format!("{} /api/v1{}", self.method, self.path)
    }
}

/// What the placeholders in the paths stand for.
pub(crate) struct Places {
    /// A private channel of the owner with the victim in it and one message.
    pub(crate) channel: String,
    /// A member.
    pub(crate) victim: Person,
    /// An invitation.
    pub(crate) invite: String,
}

impl Places {
    pub(crate) async fn make(owner: &Person) -> Self {
        let victim = owner.invite("member", &[]).await;
        let channel = owner.channel("private", &[&victim]).await;
        owner.say(&channel, "the first").await;
        let invite = owner.invitation(json!({"role": "member"})).await;
        Self { channel, victim, invite: invite["invite"]["id"].as_str().unwrap().to_owned() }
    }

    /// What a placeholder stands for.
    pub(crate) fn value(&self, placeholder: &str) -> String {
        match placeholder {
            "channel_id" => self.channel.clone(),
            "user_id" => self.victim.id.clone(),
            "session_id" => self.victim.session.clone(),
            "invite_id" => self.invite.clone(),
            "seq" => "1".to_owned(),
            // There is none without a fork: `conflicts.rs` makes one.
            "conflict_id" => "1".to_owned(),
            "number" => "77".to_owned(),
            // None is set up: `backups.rs` does.
            "target" | "backup" => "none".to_owned(),
            "job" => "77".to_owned(),
            other => panic!("a placeholder without a value: {other}"),
        }
    }

    /// A route's path with its placeholders filled in; `instead` overrides one.
    pub(crate) fn fill(&self, path: &str, instead: Option<(&str, &str)>) -> String {
        let mut filled = format!("/api/v1{path}");
        for name in placeholders(path) {
            let value = match instead {
                Some((other, value)) if other == name => value.to_owned(),
                _ => self.value(&name),
            };
            filled = filled.replace(&format!("{{{name}}}"), &value);
        }
        filled
    }

    /// A whole request of the right form, with a version that is stale.
    pub(crate) fn call(&self, route: &Route) -> Call {
        let mut call = Call::new(route.method, &self.fill(route.path, None));
        if let Some(body) = &route.body {
            call = call.json(body);
        }
        if route.versioned { call.if_match(999_999) } else { call }
    }
}

/// The names in braces.
pub(crate) fn placeholders(path: &str) -> Vec<String> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned()).collect()
}

const fn route(method: &'static str, path: &'static str, who: Who) -> Route {
    Route { method, path, who, body: None, versioned: false }
}

fn with_body(method: &'static str, path: &'static str, who: Who, body: Value) -> Route {
    Route { body: Some(body), ..route(method, path, who) }
}

fn versioned(route: Route) -> Route {
    Route { versioned: true, ..route }
}

/// Every route.
pub(crate) fn all() -> Vec<Route> {
    [open(), own(), people(), invites(), channels(), messages(), backups(), server()].into_iter().flatten().collect()
}

fn open() -> Vec<Route> {
    use Who::Anyone;
    let set_up = json!({
        "token": "hfs_x", "organisation": "X", "time_zone": "UTC", "locale": "en", "username": "xx",
        "display_name": "X", "password": PASSWORD,
    });
    let restore = json!({
        "token": "hfs_x", "place": {"kind": "directory", "path": "/srv"}, "key": "x", "signer": "x", "backup": "x",
        "to_time_ms": 1,
    });
    let accept = json!({
        "token": "hfi_x", "username": "xx", "display_name": "X", "password": PASSWORD, "locale": "en", "device": "x",
    });
    vec![
        route("GET", "/server", Anyone),
        route("GET", "/tls/ca.pem", Anyone),
        with_body("POST", "/setup", Anyone, set_up),
        with_body("POST", "/setup/check", Anyone, json!({"token": "hfs_x"})),
        with_body("POST", "/setup/restore/look", Anyone, restore.clone()),
        with_body("POST", "/setup/restore", Anyone, restore),
        with_body("POST", "/setup/restore/job", Anyone, json!({"token": "hfs_x"})),
        with_body("POST", "/setup/restore/cancel", Anyone, json!({"token": "hfs_x"})),
        with_body("POST", "/login", Anyone, json!({"username": "nobody", "password": "wrong", "device": "x"})),
        with_body("POST", "/invites/check", Anyone, json!({"token": "hfi_x"})),
        with_body("POST", "/invites/accept", Anyone, accept),
    ]
}

fn own() -> Vec<Route> {
    use Who::{Guest, SignedIn};
    let change = json!({"current_password": "not the right one", "new_password": "another long sentence"});
    vec![
        route("GET", "/me", SignedIn),
        versioned(with_body("PATCH", "/me", Guest, json!({"display_name": "Me", "locale": "en"}))),
        with_body("POST", "/me/password", SignedIn, change),
        route("GET", "/me/sessions", Guest),
        route("DELETE", "/me/sessions/{session_id}", Guest),
    ]
}

fn people() -> Vec<Route> {
    use Who::{Admin, Guest};
    let create = json!({
        "username": unique("made"), "display_name": "Made", "role": "member", "password": PASSWORD, "locale": "zh-CN",
    });
    let update = json!({"display_name": "Other", "role": "member", "locale": "en", "disabled": false});
    vec![
        route("GET", "/users", Guest),
        with_body("POST", "/users", Admin, create),
        route("GET", "/users/{user_id}", Guest),
        versioned(with_body("PATCH", "/users/{user_id}", Admin, update)),
        with_body("POST", "/users/{user_id}/password", Admin, json!({"password": "kettle lamp ocean stair"})),
        route("GET", "/users/{user_id}/sessions", Admin),
        route("DELETE", "/users/{user_id}/sessions/{session_id}", Admin),
    ]
}

fn invites() -> Vec<Route> {
    use Who::Admin;
    let create = json!({"role": "member", "channel_ids": [], "expires_in_seconds": 3600, "uses_max": 2});
    vec![
        with_body("POST", "/invites", Admin, create),
        route("GET", "/invites", Admin),
        route("DELETE", "/invites/{invite_id}", Admin),
    ]
}

fn channels() -> Vec<Route> {
    use Who::{Guest, Member};
    let create = json!({"kind": "private", "name": "new", "topic": "t", "member_ids": []});
    let update = json!({"name": "other", "topic": "t", "archived": false});
    vec![
        route("GET", "/channels", Guest),
        with_body("POST", "/channels", Member, create),
        route("GET", "/channels/browse", Member),
        with_body("POST", "/channels/direct", Guest, json!({"user_id": "1"})),
        route("GET", "/channels/{channel_id}", Guest),
        versioned(with_body("PATCH", "/channels/{channel_id}", Guest, update)),
        route("GET", "/channels/{channel_id}/members", Guest),
        with_body("PUT", "/channels/{channel_id}/members/{user_id}", Guest, json!({"role": "member"})),
        route("DELETE", "/channels/{channel_id}/members/{user_id}", Guest),
        with_body("PATCH", "/channels/{channel_id}/membership", Guest, json!({"notify": "all"})),
    ]
}

fn messages() -> Vec<Route> {
    use Who::Guest;
    let create = json!({"client_id": client_id(), "body": "text"});
    vec![
        route("GET", "/channels/{channel_id}/messages", Guest),
        with_body("POST", "/channels/{channel_id}/messages", Guest, create),
        route("GET", "/channels/{channel_id}/messages/{seq}", Guest),
        versioned(with_body("PATCH", "/channels/{channel_id}/messages/{seq}", Guest, json!({"body": "other"}))),
        versioned(route("DELETE", "/channels/{channel_id}/messages/{seq}", Guest)),
        with_body("POST", "/channels/{channel_id}/read", Guest, json!({"seq": 1})),
        route("POST", "/channels/{channel_id}/typing", Guest),
    ]
}

fn backups() -> Vec<Route> {
    use Who::{Admin, Auditor};
    let place = json!({"kind": "directory", "path": "/nowhere"});
    let settings = json!({
        "targets": [{"name": "x", "append_only": false, "enabled": false, "place": place}], "encrypted": false,
        "recipients": [], "schedules": [{"name": "x", "calendar": "daily", "kind": "full", "targets": [], "enabled": false}],
        "continuous": false, "retention": {"last": 1, "hourly": 0, "daily": 0, "weekly": 0, "monthly": 0},
        "drill": "", "alarm_backup_hours": 0, "alarm_drill_days": 0,
    });
    let target = json!({"append_only": false, "enabled": false, "place": place});
    let job = json!({"work": {"kind": "verify", "backup": null}, "target": "none"});
    vec![
        route("GET", "/admin/backups", Auditor),
        route("GET", "/admin/backups/settings", Auditor),
        versioned(with_body("PATCH", "/admin/backups/settings", Admin, settings)),
        with_body("PUT", "/admin/backups/targets/{target}", Admin, target),
        route("DELETE", "/admin/backups/targets/{target}", Admin),
        route("POST", "/admin/backups/targets/{target}/test", Admin),
        route("GET", "/admin/backups/targets/{target}/backups", Auditor),
        route("PUT", "/admin/backups/targets/{target}/backups/{backup}/pin", Admin),
        route("DELETE", "/admin/backups/targets/{target}/backups/{backup}/pin", Admin),
        route("GET", "/admin/backups/jobs", Auditor),
        with_body("POST", "/admin/backups/jobs", Admin, job),
        route("GET", "/admin/backups/jobs/{job}", Auditor),
        route("DELETE", "/admin/backups/jobs/{job}", Admin),
        with_body("POST", "/admin/backups/pause", Admin, json!({"until_ms": 1})),
        route("POST", "/admin/backups/resume", Admin),
    ]
}

fn server() -> Vec<Route> {
    use Who::{Admin, Auditor, Guest, SignedIn};
    let update = json!({
        "organisation": "Other", "default_locale": "en", "time_zone": "UTC", "session_days": 7,
        "edit_window_seconds": 60,
    });
    let resolution = json!({
        "decision": "keep", "record_version": 1, "user": {"display_name": "X"}, "channel": {"name": "x"},
        "settings": {"organisation": "X"},
    });
    vec![
        route("GET", "/presence", Guest),
        route("GET", "/settings", Guest),
        versioned(with_body("PATCH", "/settings", Admin, update)),
        route("GET", "/audit", Auditor),
        route("GET", "/admin/certificate", Admin),
        with_body("PUT", "/admin/certificate", Admin, json!({"chain_pem": "x", "key_pem": "x"})),
        route("GET", "/admin/status", Admin),
        route("GET", "/admin/conflicts", Auditor),
        route("GET", "/admin/conflicts/{conflict_id}", Auditor),
        versioned(with_body("POST", "/admin/conflicts/{conflict_id}/resolve", Admin, resolution)),
        route("GET", "/admin/pair", Admin),
        versioned(with_body(
            "PATCH",
            "/admin/pair",
            Admin,
            json!({"auto_promote": false, "reference": "", "heartbeat_ms": 250, "fail_after_ms": 1500, "solo_after_ms": 1000, "lease_ms": 2000, "promote_after_ms": 4000, "level_held": 0}),
        )),
        with_body("POST", "/admin/pair/invitations", Admin, json!({"kind": "witness"})),
        route("DELETE", "/admin/pair/members/{number}", Admin),
        route("POST", "/admin/pair/switchover", Admin),
        route("GET", "/admin/pair/promotion", Admin),
        with_body("POST", "/admin/pair/promotion", Admin, json!({"force": true})),
        route("GET", "/admin/restore/messages", Admin),
        with_body(
            "POST",
            "/admin/restore/messages",
            Admin,
            json!({
                "directory": "/nowhere", "target": "nowhere", "key": "none", "signer": "nobody", "channel_id": "1", "as_of_ms": 1,
                "message_ids": ["1"], "overwrite": false, "dry_run": true,
            }),
        ),
        route("DELETE", "/admin/restore/messages", Admin),
        // The last one: it ends the session that a walk over the table uses.
        route("POST", "/logout", SignedIn),
    ]
}

/// The document's operations: `(method, path, operation)`.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                found.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    found
}

#[test]
fn every_route_of_the_document_is_in_the_table_and_says_what_it_takes() {
    let document = serde_json::to_value(holdfast::api::openapi()).unwrap();
    let operations = operations(&document);
    let described: BTreeSet<String> = operations.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let tested: BTreeSet<String> = all().iter().map(Route::name).collect();
    assert_eq!(described, tested, "the routes of the OpenAPI document and of tests/api/routes.rs");
    for route in all() {
        let (_, _, operation) = operations.iter().find(|(m, p, _)| format!("{m} {p}") == route.name()).unwrap();
        let name = route.name();
        assert_eq!(operation.get("security").is_some(), route.who != Who::Anyone, "security of {name}");
        assert_eq!(operation.get("requestBody").is_some(), route.body.is_some(), "body of {name}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let versioned = parameters.iter().any(|parameter| parameter["name"] == "If-Match");
        assert_eq!(versioned, route.versioned, "If-Match of {name}");
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path, placeholders(route.path).len(), "path parameters of {name}");
    }
}
