//! A connection of the load generator against an independent WebSocket server that plays one session.

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

#[tokio::test]
async fn a_connection_closed_as_slow_is_resumed_and_every_send_keeps_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stats = Rc::new(Stats::new(Latency::Answer));
    let site = Site {
        endpoint: Rc::new(Endpoint::new(&url, &Trust::AnyCertificate).unwrap()),
        buffer: shared_buffer(),
        stats: stats.clone(),
        run: 9,
    };
    let plan = Plan {
        index: 3,
        token: "hf_x".into(),
        channels: [CHANNEL].into(),
        window: 8,
        rate: None,
        quota: Some(Rc::new(Cell::new(SENDS))),
        gate: None,
        body: Body { bytes: 120, timestamp: false },
    };
    let book = Rc::new(RefCell::new(Book::default()));
    let done = stats.clone();
    let play = tokio::spawn(play(listener));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let station = Station::open(site, plan, Rc::new(Notify::new()), book.clone()).await.unwrap();
            done.enter(Phase::Measure);
            let station = tokio::task::spawn_local(station.run());
            let deadline = Instant::now() + Duration::from_secs(30);
            while done.acknowledged.get() < SENDS && done.faults().0 == 0 && !play.is_finished() {
                assert!(Instant::now() < deadline, "not all was acknowledged");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            station.abort();
            // Its end closes the connection, which ends the session's player.
            let _ = station.await;
        })
        .await;
    assert_eq!(stats.faults(), (0, vec![]));
    let requests = play.await.unwrap();
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
