//! What admins, auditors and operators use: the audit trail, settings, certificates, health, metrics, the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast::bench::client::{Endpoint, Trust};
use serde_json::{Value, json};

use crate::support::people::client_id;
use crate::support::{Api, Command, Options, PASSWORD, Server, unique};

#[tokio::test]
async fn every_administrative_act_leaves_a_trace() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let member = owner.invite("member", &[]).await;
    let user = format!("/users/{}", member.id);
    let before = owner.api.get(&user).await.expect(200);
    let after = owner.api.patch(&user, &before["version"], json!({"role": "auditor"})).await.expect(200);
    let new = json!({"username": unique("u"), "display_name": "U", "role": "member", "password": PASSWORD});
    let made = owner.api.post("/users", new).await.expect(201);
    let reset = json!({"password": "stone bridge winter kite"});
    owner.api.post(&format!("/users/{}/password", made["id"].as_str().unwrap()), reset).await.expect(204);
    let invite = owner.invitation(json!({"role": "guest"})).await["invite"].clone();
    owner.api.delete(&format!("/invites/{}", invite["id"].as_str().unwrap())).await.expect(204);
    let settings = owner.api.get("/settings").await.expect(200);
    let changed = owner.api.patch("/settings", &settings["version"], json!({"session_days": 7})).await.expect(200);
    let channel = owner.channel("private", &[]).await;
    let path = format!("/channels/{channel}");
    owner.api.patch(&path, 1, json!({"topic": "t"})).await.expect(200);
    let seat = format!("/channels/{channel}/members/{}", member.id);
    owner.api.put(&seat, json!({})).await.expect(200);
    owner.api.put(&seat, json!({"role": "manager"})).await.expect(200);
    owner.api.delete(&seat).await.expect(204);
    let session = member.log_in_again().await;
    owner.api.delete(&format!("{user}/sessions/{}", session.session)).await.expect(204);

    let trail = member.api.get("/audit?limit=200").await.expect(200);
    let items = trail["items"].as_array().unwrap();
    let find = |action: &str, target: &Value| {
        let is = |act: &&Value| act["action"] == action && (target.is_null() || act["target_id"] == *target);
        items.iter().find(is).unwrap_or_else(|| panic!("no {action} of {target} in {trail:#}")).clone()
    };
    for (action, target, was, is) in [
        ("user.update", json!(member.id), before, after),
        ("user.create", made["id"].clone(), Value::Null, made.clone()),
        ("settings.update", Value::Null, settings, changed),
        ("invite.create", invite["id"].clone(), Value::Null, invite.clone()),
    ] {
        let act = find(action, &target);
        assert_eq!((&act["before"], &act["after"]), (&was, &is), "{action}");
        assert_eq!((&act["actor_id"], &act["session_id"]), (&json!(owner.id), &json!(owner.session)), "{action}");
        assert_eq!(act["address"], "127.0.0.1");
    }
    for (action, target) in [
        ("server.set_up", Value::Null),
        ("user.set_password", made["id"].clone()),
        ("invite.revoke", invite["id"].clone()),
        ("invite.accept", json!(member.id)),
        ("channel.create", json!(channel)),
        ("channel.update", json!(channel)),
        ("member.add", json!(channel)),
        ("member.update", json!(channel)),
        ("member.remove", json!(channel)),
        ("session.create", json!(session.session)),
        ("session.revoke", json!(session.session)),
    ] {
        find(action, &target);
    }
    assert!(!trail.to_string().contains("argon2"), "no secrets in the trail");
    server.kill9();
    server.restart().await;
    let again = server.api().with_token(member.token()).get("/audit?limit=200").await.expect(200);
    assert_eq!(again, trail, "the trail is derived from the log");
    server.stop().await;
}

#[tokio::test]
async fn the_trail_is_filtered_and_paged() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let member = owner.invite("member", &[]).await;
    for _ in 0..7 {
        owner.invitation(json!({"role": "member"})).await;
    }
    let get = async |query: &str| {
        let page = owner.api.get(&format!("/audit?{query}")).await.expect(200);
        (page["items"].as_array().unwrap().clone(), page["next_cursor"].clone())
    };
    let (all, _) = get("limit=200").await;
    let indexes: Vec<u64> = all.iter().map(|act| act["index"].as_u64().unwrap()).collect();
    assert!(indexes.windows(2).all(|pair| pair[0] > pair[1]), "the newest first: {indexes:?}");
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let (items, next) = get(&format!("limit=2{cursor}")).await;
        paged.extend(items);
        let Some(next) = next.as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    for (query, member_of) in [
        ("action=invite.create".to_owned(), ("action", json!("invite.create"))),
        (format!("actor={}", owner.id), ("actor_id", json!(owner.id))),
        ("target_kind=invite".to_owned(), ("target_kind", json!("invite"))),
        (format!("target={}", member.id), ("target_id", json!(member.id))),
    ] {
        let (items, _) = get(&format!("limit=200&{query}")).await;
        let expected: Vec<Value> = all.iter().filter(|act| act[member_of.0] == member_of.1).cloned().collect();
        assert!(!expected.is_empty() && items == expected, "{query}: {items:?}");
    }
    let middle = all[all.len() / 2]["at_ms"].as_u64().unwrap();
    let (since, _) = get(&format!("limit=200&from_ms={middle}")).await;
    let (until, _) = get(&format!("limit=200&to_ms={middle}")).await;
    assert!(since.iter().all(|act| act["at_ms"].as_u64().unwrap() >= middle));
    assert_eq!([since, until].concat(), all);
    assert_eq!(get("action=nothing.such").await, (Vec::new(), Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn settings_are_checked_and_take_effect() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let now = owner.api.get("/settings").await.expect(200);
    for (body, code) in [
        (json!({"organisation": ""}), "invalid_organisation"),
        (json!({"time_zone": "a b"}), "invalid_time_zone"),
        (json!({"default_locale": "fr"}), "invalid_locale"),
        (json!({"default_locale": ""}), "invalid_body"),
        (json!({"session_days": 0}), "invalid_body"),
        (json!({"session_days": 3651}), "invalid_body"),
    ] {
        let answer = owner.api.patch("/settings", &now["version"], body).await;
        assert_eq!(answer.problem()["code"], code, "{answer}");
    }
    assert_eq!(owner.api.get("/settings").await.expect(200), now, "a refused change changes nothing");
    let body = json!({"organisation": "磐信", "default_locale": "zh-CN", "session_days": 1});
    let new = owner.api.patch("/settings", &now["version"], body).await.expect(200);
    assert_eq!((&new["organisation"], &new["time_zone"]), (&json!("磐信"), &now["time_zone"]));
    let info = server.api().get("/server").await.expect(200);
    assert_eq!((&info["organisation"], &info["default_locale"]), (&json!("磐信"), &json!("zh-CN")));
    let session = owner.api.post("/login", json!({"username": owner.username, "password": PASSWORD})).await.expect(200);
    let session = &session["session"];
    let life_ms = session["expires_ms"].as_u64().unwrap() - session["created_ms"].as_u64().unwrap();
    assert_eq!(life_ms, 86_400_000);
    server.stop().await;
}

/// A certificate authority of the organisation's own, and what it signs.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Tide CA");
        let key = rcgen::KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A chain and its key, both PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn a_certificate_is_uploaded_and_new_connections_get_it() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let own = owner.api.get("/admin/certificate").await.expect(200);
    assert_eq!(own["own_ca"], true);
    let ca = server.api().get("/tls/ca.pem").await;
    assert_eq!((ca.status, ca.header("content-type")), (200, "application/x-pem-file"));
    assert_eq!(ca.text(), std::fs::read_to_string(server.data().join("tls/ca.pem")).unwrap());
    let authority = Authority::new();
    let (chain, key) = authority.issue("127.0.0.1");
    let (_, other_key) = authority.issue("127.0.0.1");
    let half = &chain[..chain.len() / 2];
    for (chain, key) in [("", ""), (half, &key), (&chain, &other_key), (&key, &chain), (&chain, ""), (&chain, "x")] {
        let answer = owner.api.put("/admin/certificate", json!({"chain_pem": chain, "key_pem": key})).await;
        assert_eq!(answer.status, 422, "{answer}");
        answer.problem();
        assert!(!answer.text().contains("PRIVATE KEY"), "{answer}");
        assert_eq!(owner.api.get("/admin/certificate").await.expect(200), own, "a refused one changes nothing");
    }
    let mut open = crate::support::Ws::connect(&owner.api).await;
    let installed = owner.api.put("/admin/certificate", json!({"chain_pem": chain, "key_pem": key})).await.expect(200);
    assert_eq!((&installed["own_ca"], &installed["sans"]), (&json!(false), &json!(["127.0.0.1"])));
    assert!(open.ask(json!({"op": "ping"})).await["pos"].is_string(), "open connections stay");
    let trail = owner.api.get("/audit?action=certificate.install").await.expect(200);
    assert_eq!(trail["items"].as_array().unwrap().len(), 1, "only the one that was installed");
    assert_eq!(trail["items"][0]["before"]["sha256_fingerprint"], own["sha256_fingerprint"]);
    assert_eq!(trail["items"][0]["after"]["sha256_fingerprint"], installed["sha256_fingerprint"]);
    // A client that has not been here before: others may resume their TLS session, without a look at a certificate.
    let trusting = |ca: PathBuf| Api::new(Endpoint::new(&server.url(), &Trust::CaFile(ca)).unwrap());
    trusting(server.data().join("tls/ca.pem")).try_get("/healthz").await.unwrap_err();
    let api = trusting(authority.file());
    assert_eq!(api.with_token(owner.token()).get("/admin/certificate").await.expect(200), installed);
    api.get("/tls/ca.pem").await.refused(404, "not_found");
    assert_eq!(api.get("/server").await.expect(200)["ca_fingerprint"], Value::Null);
    open.close().await;
    server.stop().await;
    server.spawn();
    server.listening().await;
    let api = Api::new(Endpoint::new(&server.url(), &Trust::CaFile(authority.file())).unwrap());
    let after = crate::support::until("it is ready again", async || {
        let answer = api.with_token(owner.token()).try_get("/api/v1/admin/certificate").await.ok()?;
        Some(answer.expect(200))
    })
    .await;
    assert_eq!(after, installed, "it is kept over a restart");
    server.stop().await;
}

#[tokio::test]
async fn without_tls_there_is_no_certificate() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    owner.api.get("/admin/certificate").await.refused(404, "no_tls");
    let body = json!({"chain_pem": "x", "key_pem": "x"});
    owner.api.put("/admin/certificate", body).await.refused(404, "no_tls");
    server.api().get("/tls/ca.pem").await.refused(404, "not_found");
    server.stop().await;
}

/// The samples of an exposition in Prometheus's text format, by name; each line must have its form.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let bare = name.split('{').next().unwrap();
        assert!(bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'), "{line}");
        assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        *found.entry(bare.to_owned()).or_insert(0.0) += value;
    }
    found
}

#[tokio::test]
async fn health_readiness_and_metrics_tell_how_it_is() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let api = server.api();
    assert_eq!(api.try_get("/healthz").await.unwrap().status, 200);
    let ready = api.try_get("/readyz").await.unwrap().expect(200);
    assert_eq!(ready, json!({"ready": true, "reasons": [], "warnings": []}));
    let channel = owner.channel("private", &[]).await;
    let mut ws = crate::support::Ws::connect(&owner.api).await;
    owner.say(&channel, "counted").await;
    ws.event("message.created").await;
    crate::support::people::log_in(&api, "nobody", "wrong").await.refused(401, "login_failed");
    let answer = api.try_get("/metrics").await.unwrap();
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"), "{answer}");
    let found = samples(&answer.text());
    use holdfast::ops::metrics as names;
    for (name, least) in [
        (names::SESSIONS, 1.0),
        (names::DELIVERIES_TOTAL, 1.0),
        (names::APPLIED_INDEX, 4.0),
        (names::DURABLE_INDEX, 4.0),
        (names::LOG_BYTES, 100.0),
        (names::PROPOSAL_QUEUE_DEPTH, 0.0),
        (names::CHECKPOINT_AGE_SECONDS, 0.0),
        (names::DISK_ACCEPTING, 1.0),
        (names::PROCESS_RESIDENT_BYTES, 1e6),
        (names::PROCESS_CPU_SECONDS, 0.0),
        (names::PROCESS_OPEN_FDS, 5.0),
    ] {
        assert!(found.get(name).is_some_and(|value| *value >= least), "{name}: {:?}", found.get(name));
    }
    for secret in [owner.token(), "counted", owner.username.as_str()] {
        assert!(!answer.text().contains(secret), "{secret} in the metrics");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_status_says_what_the_status_page_says() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let channel = owner.channel("private", &[]).await;
    owner.say(&channel, "x").await;
    let page = owner.api.get("/admin/status").await.expect(200);
    let shell = server.command(&["status", "--json"]).run().await.json();
    for member in ["version", "role", "epoch", "applied_index", "durable_index", "certificate", "notices"] {
        assert_eq!(page[member], shell[member], "{member}");
    }
    assert_eq!((&page["role"], &page["version"]), (&json!("active"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(page["disk"]["accepting"], true);
    let text = server.command(&["status"]).run().await;
    assert!(text.expect(0).stdout.contains("applied_index"), "{text:?}");
    server.stop().await;
    let down = server.command(&["status", "--json"]).run().await;
    assert!(down.expect(1).stderr.contains("holdfast serve"), "{down:?}");
}

#[tokio::test]
async fn the_log_is_verified_and_dumped_beside_the_server() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let channel = owner.channel("private", &[]).await;
    owner.say(&channel, "in the log").await;
    let verified = server.command(&["log", "verify", "--json"]).run().await.json();
    assert_eq!((&verified["clean"], &verified["findings"]), (&json!(true), &json!([])));
    let dumped = server.command(&["log", "dump", "--json"]).run().await;
    let lines: Vec<Value> = dumped.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(dumped.stdout.contains("in the log"));
    assert!(!dumped.stdout.contains("argon2"), "hashes stay out of terminals");
    let from = lines[2]["index"].as_u64().unwrap();
    let later = server.command(&["log", "dump", "--json", "--from", &from.to_string()]).run().await;
    let later: Vec<Value> = later.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(later, lines[2..]);
    server.stop().await;
    let segment = std::fs::read_dir(server.data().join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the middle of the records, not in the reserved rest of the file.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = server.command(&["log", "verify", "--json"]).run().await;
    damaged.expect(1);
    let report: Value = serde_json::from_str(&damaged.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert!(!report["findings"].as_array().unwrap().is_empty(), "{report}");
    Command::new(&["log", "verify", "--data", "/nonexistent"]).run().await.expect(1);
}

#[tokio::test]
async fn doctor_and_the_example_configuration_are_right_about_a_healthy_server() {
    let (mut server, _owner) = Server::start_set_up(Options::plain()).await;
    let report = server.command(&["doctor", "--json"]).run().await;
    let checks: Value = serde_json::from_str(&report.stdout).unwrap();
    let failed: Vec<&Value> =
        checks["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == "fail").collect();
    assert!(failed.iter().all(|check| check["name"] == "disk" || check["name"] == "fsync"), "{failed:?}");
    server.stop().await;
    let example = Command::new(&["config", "example"]).run().await;
    let text = example.expect(0).stdout.clone();
    let parsed: toml::Table = toml::from_str(&text).unwrap();
    assert!(["server", "tls", "storage", "auth", "logging", "limits"].iter().all(|part| parsed.contains_key(*part)));
    let mut from_example = Server::start(Options::plain().config(&text)).await;
    from_example.stop().await;
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let second = server.command(&["serve", "--listen", "127.0.0.1:0", "--no-tls"]).run().await;
    assert!(second.expect(1).stderr.contains(&server.pid().to_string()), "it names who has it: {second:?}");
    owner.api.get("/me").await.expect(200);
    server.stop().await;
    server.restart().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_would_be_unsafe_or_misunderstand_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data_text = data.display().to_string();
    let serve = |more: &[&str]| {
        let start = Command::new(&["serve", "--data", &data_text]);
        more.iter().fold(start, |command, argument| command.argument(argument))
    };
    let open = serve(&["--no-tls", "--listen", "0.0.0.0:0"]).run().await;
    assert!(open.expect(2).stderr.contains("--behind-proxy"), "{open:?}");
    for arguments in [["--listen", "nonsense"], ["--config", "/nonexistent.toml"], ["--public-url", "ftp://x"]] {
        serve(&arguments).run().await.expect(2);
    }
    let config = dir.path().join("bad.toml");
    for text in ["[storage]\ndisk_reserve_mib = 1\n", "[nonsense]\n", "[server]\nlissen = 1\n", "[server\n"] {
        std::fs::write(&config, text).unwrap();
        let refused = serve(&["--config", config.to_str().unwrap()]).run().await;
        assert!(refused.expect(2).stderr.contains("bad.toml"), "it names the file: {refused:?}");
    }
    assert!(!data.exists(), "nothing was made");

    let (mut server, _owner) = Server::start_set_up(Options::plain().data(&data)).await;
    server.stop().await;
    let node = data.join("node.toml");
    let known = std::fs::read_to_string(&node).unwrap();
    std::fs::write(&node, known.replace("format_version = 1", "format_version = 9")).unwrap();
    let before = tree(&data);
    let refused = serve(&["--no-tls", "--listen", "127.0.0.1:0"]).run().await;
    assert!(refused.expect(1).stderr.contains('9'), "it says which format: {refused:?}");
    assert_eq!(tree(&data), before, "nothing was changed");
    std::fs::write(&node, known).unwrap();
    server.restart().await;
    server.stop().await;
    let stranger = dir.path().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    std::fs::write(stranger.join("letter.txt"), "mine").unwrap();
    let refused = Command::new(&["serve", "--listen", "127.0.0.1:0", "--data"]).argument(stranger.to_str().unwrap());
    refused.run().await.expect(1);
    assert_eq!(tree(&stranger).len(), 1, "a directory of somebody else's is left alone");
}

/// Every file below a directory with its bytes, apart from logs.
fn tree(dir: &std::path::Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.is_file() {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_proxy_is_believed_only_when_it_is_named() {
    let config = "[server]\nbehind_proxy = true\ntrusted_proxies = [\"127.0.0.1\"]\n";
    for (config, expected) in [(config, "203.0.113.9"), ("", "127.0.0.1")] {
        let (mut server, owner) = Server::start_set_up(Options::plain().config(config)).await;
        let call = crate::support::Call::new("POST", "/api/v1/login")
            .json(&json!({"username": owner.username, "password": PASSWORD}))
            .header("x-forwarded-for", "198.51.100.1, 203.0.113.9");
        assert_eq!(server.api().send(call).await.expect(200)["session"]["address"], expected);
        server.stop().await;
    }
}

#[tokio::test]
async fn secrets_never_reach_the_logs() {
    let config = "[logging]\nlevel = \"trace\"\n";
    let (mut server, owner) = Server::start_set_up(Options::plain().config(config)).await;
    let member = owner.invite("member", &[]).await;
    let channel = owner.channel("private", &[&member]).await;
    let body = json!({"client_id": client_id(), "body": "between the two of us"});
    owner.api.post(&format!("/channels/{channel}/messages"), body).await.expect(201);
    let mut ws = crate::support::Ws::connect(&member.api).await;
    ws.ask(json!({"op": "ping"})).await;
    let tokens = [owner.token().to_owned(), member.token().to_owned(), PASSWORD.to_owned()];
    server.stop().await;
    let mut logs = server.stderr();
    for entry in std::fs::read_dir(server.data().join("logs")).unwrap() {
        logs.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    assert!(logs.len() > 1_000, "the logs were on");
    for secret in tokens.iter().map(String::as_str).chain(["between the two of us", "$argon2"]) {
        assert!(!logs.contains(secret), "a secret is in the logs");
    }
}
