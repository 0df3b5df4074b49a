//! A connection of the load generator against independent WebSocket servers that play the sessions.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::bench::client::Trust;
use crate::bench::socket::shared_buffer;
use crate::bench::stats::{Latency, Phase};

const CHANNEL: u64 = 77;
const SENDS: u64 = 4;

type Peer = WebSocketStream<TcpStream>;

async fn accept(listener: &TcpListener) -> Peer {
    let (stream, _) = listener.accept().await.unwrap();
    tokio_tungstenite::accept_async(stream).await.unwrap()
}

async fn receive(peer: &mut Peer) -> Value {
    loop {
        if let Message::Text(text) = peer.next().await.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

async fn say(peer: &mut Peer, value: &Value) {
    peer.feed(Message::text(value.to_string())).await.unwrap();
}

fn created(request: &Value, seq: u64) -> Value {
    json!({"event": "message.created", "pos": (10 + seq).to_string(), "message": {
        "id": "1", "channel_id": CHANNEL.to_string(), "seq": seq, "sender_id": "2",
        "client_id": request["client_id"], "body": request["body"],
    }})
}

fn sent(request: &Value, seq: u64) -> Value {
    json!({"id": request["id"], "ok": {"id": "1", "seq": seq, "created_ms": 1, "pos": "1", "duplicate": false}})
}

/// The session: answers one of the sends, closes as if the client were slow, and expects the others again.
async fn play(listener: TcpListener) -> Vec<Value> {
    let mut peer = accept(&listener).await;
    let hello = receive(&mut peer).await;
    assert_eq!((&hello["op"], &hello["token"], hello.get("pos")), (&json!("hello"), &json!("hf_x"), None));
    // The answer and what follows it may come in one segment; a ping and an event that does not matter in between.
    say(&mut peer, &json!({"id": "hello", "ok": {"pos": "10", "resumed": false}})).await;
    say(&mut peer, &json!({"event": "presence", "online": ["2"], "offline": []})).await;
    peer.send(Message::Ping(bytes::Bytes::from_static(b"1"))).await.unwrap();
    let mut first = Vec::new();
    for _ in 0..SENDS {
        first.push(receive(&mut peer).await);
    }
    say(&mut peer, &sent(&first[1], 1)).await;
    say(&mut peer, &created(&first[1], 1)).await;
    let close = CloseFrame { code: 4000.into(), reason: "resync".into() };
    peer.send(Message::Close(Some(close))).await.unwrap();

    let mut peer = accept(&listener).await;
    assert_eq!(receive(&mut peer).await["pos"], "11", "it goes on from the last event");
    say(&mut peer, &json!({"id": "hello", "ok": {"pos": "11", "resumed": true}})).await;
    peer.flush().await.unwrap();
    let mut again = Vec::new();
    for seq in 2..=SENDS {
        let request = receive(&mut peer).await;
        let busy = json!({"id": request["id"], "error": {"code": "busy", "detail": "", "retry_after_seconds": 1}});
        if seq == 2 {
            // Busy: it must come a third time, under the same key.
            peer.send(Message::text(busy.to_string())).await.unwrap();
        }
        again.push(request);
    }
    let third = receive(&mut peer).await;
    assert_eq!(third, again[0]);
    for (request, seq) in again.iter().zip(2..) {
        say(&mut peer, &created(request, seq)).await;
        say(&mut peer, &sent(request, seq)).await;
    }
    peer.flush().await.unwrap();
    again.push(first[1].clone());
    again.sort_by_key(|request| request["id"].as_str().unwrap().to_owned());
    assert_eq!(again, first, "what was not acknowledged is sent again as it was, and nothing else");
    // Keep the connection until the client ends it.
    while let Some(Ok(_)) = peer.next().await {}
    first
}

fn site(url: &str) -> Site {
    let stats = Rc::new(Stats::new(Latency::Answer));
    Site { nodes: Nodes::new(url, Trust::AnyCertificate).unwrap(), buffer: shared_buffer(), stats, run: 9 }
}

fn plan() -> Plan {
    Plan {
        index: 3,
        token: "hf_x".into(),
        channels: [CHANNEL].into(),
        window: 8,
        rate: None,
        quota: Some(Rc::new(Cell::new(SENDS))),
        side: None,
        gate: None,
        body: Body { bytes: 120, timestamp: false },
    }
}

/// Runs a connection until all its sends are acknowledged, or nobody plays with it any more.
async fn converse<T>(site: Site, player: tokio::task::JoinHandle<T>) -> (Rc<Stats>, Rc<RefCell<Book>>, T) {
    let book = Rc::new(RefCell::new(Book::default()));
    let (stats, nodes, wake) = (site.stats.clone(), site.nodes.clone(), Rc::new(Notify::new()));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let station = Station::open(site, plan(), wake.clone(), book.clone()).await.unwrap();
            stats.enter(Phase::Measure);
            let station = tokio::task::spawn_local(station.run());
            let deadline = Instant::now() + Duration::from_secs(30);
            while stats.acknowledged.get() < SENDS && stats.faults().0 == 0 && !player.is_finished() {
                assert!(Instant::now() < deadline, "not all was acknowledged");
                tokio::time::sleep(Duration::from_millis(1)).await;
                // Time passes faster for the connection than for the players.
                nodes.tick.set(nodes.tick.get() + 1);
                wake.notify_one();
            }
            station.abort();
            // Its end closes the connection, which ends the session's player.
            let _ = station.await;
        })
        .await;
    let played = player.await.unwrap();
    (stats, book, played)
}

#[tokio::test]
async fn a_connection_closed_as_slow_is_resumed_and_every_send_keeps_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = site(&format!("http://{}", listener.local_addr().unwrap()));
    let (stats, book, requests) = converse(site, tokio::spawn(play(listener))).await;
    assert_eq!(stats.faults(), (0, vec![]));
    assert_eq!((stats.acknowledged.get(), stats.resyncs.get(), stats.busy.get()), (SENDS, 1, 1));
    assert_eq!((stats.unanswered.get(), stats.delivered.get()), (0, 0), "its own messages are no deliveries");
    let book = book.borrow();
    assert_eq!(book.trackers[&CHANNEL].last(), SENDS);
    for (counter, request) in (0..).zip(&requests) {
        let key = uuid::Uuid::from_u128(client_id(9, 3, counter));
        assert_eq!(request["client_id"], key.to_string());
        assert_eq!(request["body"].as_str().unwrap().len(), 120);
        assert!(book.ledger.seq(counter).is_some());
    }
}

/// The next connection's hello.
async fn hello(listener: &TcpListener) -> (Peer, Value) {
    let mut peer = accept(listener).await;
    let hello = receive(&mut peer).await;
    (peer, hello)
}

async fn refuse(listener: &TcpListener, active: &str, addresses: &[String]) {
    let (mut peer, _) = hello(listener).await;
    let error = json!({"code": "not_active", "detail": "", "active": active, "addresses": addresses});
    peer.send(Message::text(json!({"id": "hello", "error": error}).to_string())).await.unwrap();
    let close = CloseFrame { code: 4010.into(), reason: "not_active".into() };
    let _ = peer.send(Message::Close(Some(close))).await;
}

/// The first node acknowledges a send, refuses another as it steps down and closes; asked again it tells of the second,
/// which is not ready at first, and then answers everything.
async fn play_takeover(first: TcpListener, second: TcpListener) -> (Vec<Value>, Vec<Value>) {
    let addresses = [&first, &second].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let (mut peer, _) = hello(&first).await;
    say(&mut peer, &json!({"id": "hello", "ok": {"pos": "10", "resumed": false}})).await;
    peer.flush().await.unwrap();
    let mut sent_first = Vec::new();
    for _ in 0..SENDS {
        sent_first.push(receive(&mut peer).await);
    }
    say(&mut peer, &created(&sent_first[2], 1)).await;
    say(&mut peer, &sent(&sent_first[2], 1)).await;
    say(&mut peer, &json!({"id": sent_first[3]["id"], "error": {"code": "not_active", "detail": ""}})).await;
    let close = CloseFrame { code: 4010.into(), reason: "not_active".into() };
    peer.send(Message::Close(Some(close))).await.unwrap();

    refuse(&first, &addresses[1], &addresses).await;
    drop(first);
    refuse(&second, &addresses[0], &addresses).await;
    let (mut peer, again) = hello(&second).await;
    assert_eq!((&again["token"], &again["pos"]), (&json!("hf_x"), &json!("11")), "same session, same cursor");
    say(&mut peer, &json!({"id": "hello", "ok": {"pos": "11", "resumed": true, "addresses": addresses}})).await;
    peer.flush().await.unwrap();
    let mut sent_again = Vec::new();
    for seq in 2..=SENDS {
        let request = receive(&mut peer).await;
        say(&mut peer, &created(&request, seq)).await;
        say(&mut peer, &sent(&request, seq)).await;
        peer.flush().await.unwrap();
        sent_again.push(request);
    }
    while let Some(Ok(_)) = peer.next().await {}
    sent_again.push(sent_first[2].clone());
    sent_again.sort_by_key(|request| request["id"].as_str().unwrap().to_owned());
    (sent_first, sent_again)
}

#[tokio::test]
async fn a_connection_goes_to_the_node_that_took_over_and_sends_again_what_has_no_answer() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = site(&format!("http://{}", first.local_addr().unwrap()));
    let nodes = site.nodes.clone();
    let (stats, book, (before, after)) = converse(site, tokio::spawn(play_takeover(first, second))).await;
    assert_eq!(stats.faults(), (0, vec![]));
    assert_eq!(before, after, "what was not acknowledged is sent again as it was, and nothing else");
    assert_eq!((stats.acknowledged.get(), stats.unanswered.get(), stats.failed_sends.get()), (SENDS, 0, 0));
    assert_eq!((stats.reconnects.get(), stats.refetches.get(), nodes.count(), nodes.current()), (1, 0, 2, 1));
    assert_eq!(book.borrow().trackers[&CHANNEL].last(), SENDS);
}

/// The first node takes everything and says nothing, as if it were paused; the second takes over. When the first wakes
/// up it acknowledges one of the sends after all, under another number.
async fn play_pause(first: TcpListener, second: TcpListener) {
    let addresses = [&first, &second].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let (mut paused, _) = hello(&first).await;
    say(&mut paused, &json!({"id": "hello", "ok": {"pos": "10", "resumed": false, "addresses": addresses}})).await;
    paused.flush().await.unwrap();
    let mut late = None;
    for _ in 0..SENDS {
        late = Some(receive(&mut paused).await);
    }
    let (mut peer, _) = hello(&second).await;
    say(&mut peer, &json!({"id": "hello", "ok": {"pos": "10", "resumed": true}})).await;
    peer.flush().await.unwrap();
    for seq in 1..SENDS {
        let request = receive(&mut peer).await;
        say(&mut peer, &sent(&request, seq)).await;
    }
    peer.flush().await.unwrap();
    let last = receive(&mut peer).await;
    assert_eq!(Some(&last), late.as_ref());
    say(&mut paused, &sent(&last, 77)).await;
    paused.flush().await.unwrap();
    // The connection that was left ends only after what it said was read.
    say(&mut peer, &json!({"event": "presence", "online": [], "offline": []})).await;
    peer.flush().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(200), paused.next()).await;
    say(&mut peer, &sent(&last, SENDS)).await;
    peer.flush().await.unwrap();
    while let Some(Ok(_)) = peer.next().await {}
}

#[tokio::test]
async fn a_silent_node_is_left_and_still_held_to_what_it_acknowledges_later() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = site(&format!("http://{}", first.local_addr().unwrap()));
    let nodes = site.nodes.clone();
    let (stats, _, ()) = converse(site, tokio::spawn(play_pause(first, second))).await;
    assert_eq!((stats.reconnects.get(), stats.late_answers.get(), nodes.current()), (1, 1, 1));
    let (faults, told) = stats.faults();
    assert!(faults == 1 && told[0].contains("two numbers"), "{told:?}");
}
