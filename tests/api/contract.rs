//! What holds for every route: who is refused and how, which requests make no sense, and that nothing a client sends
//! is answered with 5xx.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::routes::{Places, Route, Who, all, operations, placeholders};
use crate::support::{Answer, Api, Call, Options, Owner, PASSWORD, Server};

/// A version that no record has.
const STALE: &str = "\"999999\"";

async fn start() -> (Server, Owner, Places) {
    let (server, owner) = Server::start_set_up(Options::plain()).await;
    let places = Places::make(&owner).await;
    (server, owner, places)
}

#[tokio::test]
async fn no_token_and_no_false_token_opens_anything() {
    let (mut server, owner, places) = start().await;
    let (other_server, stranger) = Server::start_set_up(Options::plain()).await;
    let ended = owner.log_in_again().await;
    ended.api.post("/logout", json!({})).await.expect(204);
    let invitation = owner.invitation(json!({"role": "member"})).await;
    let cut = &owner.token()[..owner.token().len() - 1];
    let headers = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(owner.token().to_owned()),
        Some(format!("Basic {}", owner.token())),
        Some(format!("Bearer {cut}")),
        Some(format!("Bearer {}x", owner.token())),
        Some(format!("Bearer {}", owner.token().to_uppercase())),
        Some(format!("Bearer {}", stranger.token())),
        Some(format!("Bearer {}", ended.token())),
        Some(format!("Bearer {}", invitation["token"].as_str().unwrap())),
        Some(format!("Bearer hf_{}", "a".repeat(10_000))),
        Some("Bearer hf_\u{e9}\u{e8}".to_owned()),
    ];
    for route in all().iter().filter(|route| route.who != Who::Anyone) {
        for header in &headers {
            let mut call = places.call(route);
            if let Some(value) = header {
                call = call.header("authorization", value);
            }
            let answer = server.api().send(call).await;
            answer.refused(401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{answer}");
        }
    }
    drop(other_server);
    server.stop().await;
}

#[tokio::test]
async fn who_must_choose_a_password_can_do_nothing_else() {
    let (mut server, owner, places) = start().await;
    let body = json!({"username": "newcomer", "display_name": "N", "role": "owner", "password": PASSWORD});
    assert_eq!(owner.api.post("/users", body).await.expect(201)["must_change_password"], true);
    let signed_in = crate::support::people::log_in(&server.api(), "newcomer", PASSWORD).await.expect(200);
    let newcomer = crate::support::Person::from_answer(&server.api(), &signed_in);
    for route in all().iter().filter(|route| route.who > Who::SignedIn) {
        let answer = newcomer.api.send(places.call(route)).await;
        answer.refused(403, "password_change_required");
    }
    newcomer.api.get("/me").await.expect(200);
    let change = json!({"current_password": PASSWORD, "new_password": "kettle lamp ocean stair"});
    newcomer.api.post("/me/password", change).await.expect(204);
    newcomer.api.get("/channels").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn other_methods_are_405_in_json() {
    let (mut server, owner, places) = start().await;
    let mut paths: BTreeSet<&str> = all().iter().map(|route| route.path).collect();
    paths.extend(["/openapi.json", "/ws"]);
    for path in paths {
        let known: Vec<&str> = all().iter().filter(|route| route.path == path).map(|route| route.method).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let reads = method == "GET" && ["/openapi.json", "/ws"].contains(&path);
            if known.contains(&method) || reads {
                continue;
            }
            let answer = owner.api.send(Call::new(method, &places.fill(path, None))).await;
            answer.refused(405, "method_not_allowed");
            assert!(!answer.header("allow").is_empty(), "an Allow header is due: {answer} {:?}", answer.headers);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_ids_are_404() {
    let (mut server, owner, places) = start().await;
    for route in all() {
        for name in placeholders(route.path) {
            // Names are texts: `backups.rs` asks for those that are not there.
            if ["target", "backup"].contains(&name.as_str()) {
                continue;
            }
            let code = match name.as_str() {
                "channel_id" => "channel_not_found",
                "user_id" => "user_not_found",
                "session_id" => "session_not_found",
                "invite_id" => "invite_not_found",
                "conflict_id" => "conflict_not_found",
                "number" => "pair_member_not_found",
                "job" => "backup_job_not_found",
                _ => "message_not_found",
            };
            // The own sessions belong to the caller.
            for (value, code) in [
                ("999999999", code),
                ("0", code),
                ("18446744073709551615", code),
                ("18446744073709551616", "not_found"),
                ("-1", "not_found"),
                ("1.0", "not_found"),
                ("x", "not_found"),
                ("%00", "not_found"),
                ("%FF%FE", "not_found"),
                ("%2e%2e", "not_found"),
            ] {
                // A session id is looked for among the user's: nobody's user has none of it.
                let session = route.path.contains("session_id") && name == "user_id" && code == "user_not_found";
                let code = if session { "session_not_found" } else { code };
                let mut call = places.call(&route);
                call.path = places.fill(route.path, Some((&name, value)));
                owner.api.send(call).await.refused(404, code);
            }
        }
    }
    for path in ["/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/me", "/api/v1/me/", "/api/v1/nothing", "/api/v1//me"]
    {
        owner.api.try_get(path).await.unwrap().refused(404, "not_found");
    }
    server.stop().await;
}

/// Bodies that are not what the route takes, whatever it takes: `(content type, body, status, code)`.
fn senseless() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let json = "application/json";
    let deep = |open: &str, count| open.repeat(count).into_bytes();
    let mut cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("", b"{}".to_vec(), 415, "unsupported_media_type"),
        ("text/plain", b"{}".to_vec(), 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"a=b".to_vec(), 415, "unsupported_media_type"),
        ("application/jsonp", b"{}".to_vec(), 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=x", b"--x--".to_vec(), 415, "unsupported_media_type"),
        (json, deep("[", 100_000), 400, "invalid_body"),
        (json, deep("{\"a\":", 20_000), 400, "invalid_body"),
        (json, vec![b' '; 128 * 1024 + 1], 413, "body_too_large"),
        (json, vec![b'9'; 200 * 1024], 413, "body_too_large"),
        (json, vec![0xff; 1024], 400, "invalid_body"),
        (json, b"{\"a\":\"\xff\xfe\"}".to_vec(), 400, "invalid_body"),
        (json, b"\xef\xbb\xbf{}".to_vec(), 400, "invalid_body"),
    ];
    let broken = ["", "{", "}", "[]", "null", "true", "7", "\"x\"", "{}{}", "{'a':1}", "{\"a\"}", "1e999", "NaN", "\0"];
    cases.extend(broken.map(|text| (json, text.as_bytes().to_vec(), 400, "invalid_body")));
    cases
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_refused_everywhere() {
    let (mut server, owner, places) = start().await;
    for route in all().iter().filter(|route| route.body.is_some()) {
        let api = api_for(route, &server, &owner);
        for (content_type, body, status, code) in senseless() {
            let mut call = Call::new(route.method, &places.fill(route.path, None)).header("if-match", STALE);
            call.body = body.into();
            if !content_type.is_empty() {
                call = call.header("content-type", content_type);
            }
            let start = String::from_utf8_lossy(&call.body[..call.body.len().min(30)]).into_owned();
            let answer = api.send(call).await;
            assert_eq!(answer.status, status, "{answer} for {content_type:?} {start:?}");
            answer.refused(status, code);
        }
    }
    server.stop().await;
}

fn api_for(route: &Route, server: &Server, owner: &Owner) -> Api {
    if route.who == Who::Anyone { server.api() } else { owner.api.clone() }
}

/// The schema of a route's body: its properties and which of them must be there.
fn schema(document: &Value, route: &Route) -> (Map<String, Value>, BTreeSet<String>) {
    let operations = operations(document);
    let (_, _, operation) = operations.iter().find(|(m, p, _)| format!("{m} {p}") == route.name()).unwrap();
    let reference = operation.pointer("/requestBody/content/application~1json/schema/$ref").unwrap().as_str().unwrap();
    let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
    let required = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned());
    (schema["properties"].as_object().unwrap().clone(), required.collect())
}

async fn send_body(api: &Api, places: &Places, route: &Route, body: &Value) -> Answer {
    let call = Call::new(route.method, &places.fill(route.path, None)).json(body).header("if-match", STALE);
    api.send(call).await
}

#[tokio::test]
async fn unknown_missing_and_doubled_fields_are_refused_everywhere() {
    let (mut server, owner, places) = start().await;
    let document = server.api().get("/openapi.json").await.expect(200);
    for route in all().iter().filter(|route| route.body.is_some()) {
        let api = api_for(route, &server, &owner);
        let body = route.body.as_ref().unwrap().as_object().unwrap();
        let (properties, required) = schema(&document, route);
        let (described, tested): (BTreeSet<_>, BTreeSet<_>) = (properties.keys().collect(), body.keys().collect());
        assert_eq!(described, tested, "the fields of {}", route.name());
        let mut more = body.clone();
        more.insert("nonsense".to_owned(), json!(1));
        let problem = send_body(&api, &places, route, &Value::Object(more)).await.refused(400, "invalid_body");
        assert!(problem["detail"].as_str().unwrap().contains("nonsense"), "{problem}");
        for name in &required {
            let mut less = body.clone();
            less.remove(name);
            let problem = send_body(&api, &places, route, &Value::Object(less)).await.refused(400, "invalid_body");
            assert!(problem["detail"].as_str().unwrap().contains(name.as_str()), "{problem}");
        }
        let (name, value) = body.iter().next().unwrap();
        let text = Value::Object(body.clone()).to_string();
        let doubled = format!("{{\"{name}\":{value},{}", &text[1..]);
        let path = places.fill(route.path, None);
        let call = Call::new(route.method, &path).raw("application/json", doubled).header("if-match", STALE);
        api.send(call).await.refused(400, "invalid_body");
    }
    server.stop().await;
}

/// Values of every JSON type, with what breaks parsers and stores.
fn odd_values() -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!([[]]),
        json!([null]),
        json!(["1", "1"]),
        json!([-1]),
        json!({}),
        json!({"a": {"b": []}}),
        json!(vec!["999999999"; 2_000]),
    ];
    let texts = [
        "",
        " ",
        "\0",
        "\u{202e}evil",
        "a\nb",
        "\u{feff}",
        "\u{1f469}\u{200d}\u{1f469}",
        "../../etc/passwd",
        "' OR 1=1 --",
        "<script>alert(1)</script>",
        "%s%n",
        "-1",
        "0",
        "18446744073709551615",
        "18446744073709551616",
        "1e5",
        "+7",
        "owner",
        "hf_",
        "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA",
    ];
    values.extend(texts.map(Value::from));
    values.push(Value::from("x".repeat(20_000)));
    values.push(Value::from("\u{1}".repeat(17_000)));
    values.push(Value::from("\u{78d0}".repeat(30_000)));
    values
}

fn same_type(one: &Value, other: &Value) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

#[tokio::test]
async fn odd_values_in_any_field_never_break_the_server() {
    let (mut server, owner, places) = start().await;
    for route in all().iter().filter(|route| route.body.is_some()) {
        let api = api_for(route, &server, &owner);
        let body = route.body.as_ref().unwrap().as_object().unwrap();
        for (name, right) in body {
            for odd in odd_values() {
                let mut changed = body.clone();
                changed.insert(name.clone(), odd.clone());
                let answer = send_body(&api, &places, route, &Value::Object(changed)).await;
                assert!(answer.status < 500, "{name} = {odd:.60}: {answer}");
                if answer.status >= 400 {
                    answer.problem();
                }
                if !odd.is_null() && !same_type(&odd, right) {
                    answer.refused(400, "invalid_body");
                }
            }
        }
    }
    owner.api.get("/me").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn edits_name_the_version_they_are_based_on() {
    let (mut server, owner, places) = start().await;
    for route in all().iter().filter(|route| route.versioned) {
        let path = places.fill(route.path, None);
        let call = || {
            let call = Call::new(route.method, &path);
            route.body.as_ref().map_or(call.clone(), |body| call.json(body))
        };
        owner.api.send(call()).await.refused(428, "precondition_required");
        for value in
            ["", "*", "x", "\"\"", "\"-1\"", "\"1\", \"2\"", "W/\"1\"", "1.0", "\"18446744073709551616\"", "'1'"]
        {
            owner.api.send(call().header("if-match", value)).await.refused(400, "invalid_header");
        }
        if route.path.contains("conflict_id") || route.path == "/admin/pair" {
            continue; // there is none without a fork, or a second machine: other tests make them
        }
        let now = owner.api.try_get(&path).await.unwrap().expect(200);
        let now = now.get("user").or_else(|| now.get("channel")).unwrap_or(&now).clone();
        for value in ["\"0\"", "\"999999\"", "\"18446744073709551615\"", "4294967297"] {
            let problem = owner.api.send(call().header("if-match", value)).await.refused(412, "stale_version");
            assert_eq!(problem["current"], now, "{}", route.name());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn queries_are_read_strictly() {
    let (mut server, owner, places) = start().await;
    let document = server.api().get("/openapi.json").await.expect(200);
    for (method, path, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> =
            parameters.iter().filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap()).collect();
        if names.is_empty() {
            continue;
        }
        assert_eq!(method, "GET");
        let path = places.fill(path.trim_start_matches("/api/v1"), None);
        let mut bad = vec!["nonsense=1".to_owned(), format!("{0}=1&{0}=1", names[0])];
        let numbers = ["limit", "cursor", "before", "after", "around", "from_ms", "to_ms"];
        for name in names.iter().filter(|name| numbers.contains(name)) {
            let wrong = ["", "x", "-1", "1.5", "1e3", "99999999999999999999", "%00", "%FF"];
            bad.extend(wrong.map(|value| format!("{name}={value}")));
        }
        bad.extend(["limit=0", "limit=201", "limit=18446744073709551615"].map(str::to_owned));
        if names.contains(&"before") {
            bad.extend(["before=1&after=1", "after=1&around=1", "before=1&around=1"].map(str::to_owned));
        }
        for query in bad {
            owner.api.try_get(&format!("{path}?{query}")).await.unwrap().refused(400, "invalid_query");
        }
        let long = format!("{path}?limit={}", "1".repeat(3_000));
        owner.api.try_get(&long).await.unwrap().refused(414, "uri_too_long");
        for name in ["query", "actor", "action", "target_kind", "target"].iter().filter(|name| names.contains(name)) {
            for value in ["", "%00", "%FF%FE", "%", "%e7%a3%90", "a%20b", "..%2f", "99999999999999999999", "*"] {
                let answer = owner.api.try_get(&format!("{path}?{name}={value}")).await.unwrap();
                assert!(answer.status == 200 || answer.status == 400, "{name}={value}: {answer}");
            }
        }
        for limit in [1, 200] {
            let page = owner.api.try_get(&format!("{path}?limit={limit}")).await.unwrap().expect(200);
            assert!(page["items"].as_array().unwrap().len() <= limit, "{page}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_answer_says_which_request_it_is_for_and_is_not_stored() {
    let (mut server, owner, places) = start().await;
    let mut seen = BTreeSet::new();
    for route in all() {
        let answer = owner.api.send(places.call(&route)).await;
        let id = answer.header("x-request-id").to_owned();
        assert!(!id.is_empty() && seen.insert(id), "a request id of its own: {answer}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{answer}");
        assert_eq!(answer.header("cache-control"), "no-store", "{answer}");
    }
    server.stop().await;
}
