//! What a client sees of the pair: where to go, and that nothing is missing when it gets there.

use serde_json::{Value, json};

use crate::support::pair::other;
use crate::support::{Answer, Api, Call, Frame, Pair, PairOptions, Ws};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_at_the_other_node_with_exactly_what_it_missed() {
    let mut pair = Pair::start(PairOptions { tls: true, ..PairOptions::default() }).await;
    let friend = pair.owner.invite("member", &[&pair.channel]).await;
    let (mut ws, hello) = Ws::hello(&friend.api, None).await;
    let told: Vec<&str> = hello["addresses"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(told, [pair.nodes[0].url(), pair.nodes[1].url()]);
    for number in 1..=3 {
        pair.owner.say(&pair.channel, &format!("heard {number}")).await;
        assert_eq!(ws.event("message.created").await["message"]["body"], format!("heard {number}"));
    }
    let pos = ws.pos;
    ws.close().await;
    for number in 1..=20 {
        pair.owner.say(&pair.channel, &format!("missed {number}")).await;
    }
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    let (mut ws, hello) = Ws::hello(&pair.api(1, &friend), Some(pos)).await;
    assert_eq!(hello["resumed"], true, "{hello}");
    pair.person(1, &pair.owner).say(&pair.channel, "and on").await;
    let mut heard = Vec::new();
    while heard.last().is_none_or(|body| body != "and on") {
        let event = ws.event("message.created").await;
        heard.push(event["message"]["body"].as_str().unwrap().to_owned());
    }
    let expected: Vec<String> =
        (1..=20).map(|number| format!("missed {number}")).chain(["and on".to_owned()]).collect();
    assert_eq!(heard, expected);
    pair.nodes[0].start_again().await;
    assert_eq!(pair.protected().await, 1);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_an_active_that_hands_over_are_told_where_to_go() {
    let pair = Pair::start(PairOptions::default()).await;
    let mut ws = Ws::connect(&pair.owner.api).await;
    pair.nodes[0].command(&["switchover"]).run().await.expect(0);
    assert_eq!(ws.closed().await, Some(4010));
    let mut refused = Ws::open(&pair.nodes[0].endpoint(), None).await.unwrap();
    let hello = json!({"op": "hello", "token": pair.owner.token()});
    let error = refused.refused(hello, "not_active").await;
    assert_eq!(error["active"], pair.nodes[1].url(), "{error}");
    assert_eq!(refused.closed().await, Some(4010));
    pair.finish().await;
}

fn nodes_told(answer: &Answer) -> Vec<&str> {
    answer.header("holdfast-nodes").split(", ").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_names_the_active_and_lets_its_pages_in() {
    let pair = Pair::start(PairOptions::default()).await;
    let urls = [pair.nodes[0].url(), pair.nodes[1].url()];
    let standby = pair.api(1, &pair.owner);

    // Reads work, writes and logins are sent on.
    let read = standby.get("/me").await;
    read.expect(200);
    assert_eq!(nodes_told(&read), urls);
    let path = format!("/channels/{}/messages", pair.channel);
    let body = json!({"client_id": crate::support::people::client_id(), "body": "x"});
    let login = json!({"username": pair.owner.username, "password": crate::support::PASSWORD});
    for answer in [standby.post(&path, body).await, standby.anonymous().post("/login", login).await] {
        let problem = answer.refused(503, "not_active");
        assert_eq!((&problem["active"], &problem["addresses"]), (&json!(urls[0]), &json!(urls)), "{problem}");
        assert_eq!(nodes_told(&answer), urls);
    }
    assert_eq!(nodes_told(&pair.owner.api.get("/me").await), urls, "the active tells both too");
    let ready = standby.send(Call::new("GET", "/readyz")).await;
    assert_eq!(ready.expect(503)["reasons"], json!(["not_active"]));
    // That is nothing to worry about: it is counted, and not in the log.
    let metrics = standby.send(Call::new("GET", "/metrics")).await.text();
    let counted = metrics.lines().find_map(|line| line.strip_prefix("holdfast_not_active_total "));
    assert!(counted.is_some_and(|count| count.parse::<f64>().unwrap() >= 2.0), "{metrics}");
    let log = pair.nodes[1].stderr();
    assert!(!log.contains("request failed"), "{log}");

    for node in 0..2 {
        let api = pair.api(node, &pair.owner);
        let allowed = preflight(&api, &urls[other(node)]).await;
        assert_eq!(allowed.status, 204, "{allowed}");
        assert_eq!(allowed.header("access-control-allow-origin"), urls[other(node)]);
        assert!(allowed.header("access-control-allow-methods").contains("POST"));
        assert!(allowed.header("access-control-allow-headers").contains("authorization"));
        for stranger in ["https://example.org", "http://127.0.0.1", "null"] {
            let answer = preflight(&api, stranger).await;
            assert_eq!(answer.header("access-control-allow-origin"), "", "{answer} for {stranger}");
        }
        let call = Call::new("GET", "/api/v1/me").header("origin", &urls[other(node)]);
        let answer = api.send(call).await;
        assert_eq!(answer.header("access-control-allow-origin"), urls[other(node)]);
        assert!(answer.header("access-control-expose-headers").contains("holdfast-nodes"));
    }
    let mut ws = Ws::open(&pair.nodes[1].endpoint(), None).await.unwrap();
    ws.request(json!({"op": "hello", "token": pair.owner.token()})).await;
    while !matches!(ws.next().await, Frame::Closed(Some(4010))) {}
    pair.finish().await;
}

async fn preflight(api: &Api, origin: &str) -> Answer {
    let call = Call::new("OPTIONS", "/api/v1/channels").header("origin", origin);
    api.anonymous().send(call.header("access-control-request-method", "POST")).await
}
