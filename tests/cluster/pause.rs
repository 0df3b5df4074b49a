//! The active is stopped in its tracks, somebody else takes over, and it wakes up believing that nothing has happened.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::failover::{load_on, settle};
use crate::support::load::Sent;
use crate::support::people::client_id;
use crate::support::{Book, Frame, Pair, PairOptions, Ws};

/// How long the active sleeps: much longer than anything that the protocol waits for.
fn pause(default_ms: u64) -> Duration {
    let wanted = std::env::var("HOLDFAST_PAUSE_SECONDS").ok();
    wanted.map_or(Duration::from_millis(default_ms), |text| Duration::from_secs(text.parse().expect("seconds")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_woken_active_acknowledges_nothing_that_the_new_one_lacks() {
    let (pair, book) = paused(PairOptions::default(), pause(4_500)).await;
    settle(pair, &book).await;
}

/// Without a witness it may go on for a moment as if nothing had happened: what it acknowledges then arrives late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_witness_what_a_woken_active_acknowledges_is_merged() {
    let (pair, book) = paused(PairOptions::alone(), pause(6_500)).await;
    pair.until_status(0, "rid of its tail", |status| {
        status["quarantine"].as_array().is_some_and(|tails| tails.iter().all(|tail| tail["salvaged"] == true))
    })
    .await;
    book.check_anywhere(&pair.person(1, &pair.owner), &pair.channel).await;
    pair.equal_logs().await;
    book.check_anywhere(&pair.person(0, &pair.owner), &pair.channel).await;
    pair.finish().await;
}

/// A client that keeps its connection to one node whatever happens.
struct Faithful {
    ws: Ws,
    waiting: Vec<(String, String)>,
    channel: String,
    book: Book,
}

impl Faithful {
    async fn connect(pair: &Pair, node: usize) -> Self {
        let ws = Ws::connect(&pair.api(node, &pair.owner)).await;
        Self { ws, waiting: Vec::new(), channel: pair.channel.clone(), book: Book::default() }
    }

    /// Sends without waiting for an answer.
    async fn say(&mut self, count: usize) {
        for _ in 0..count {
            let (client, body) = (client_id(), "into the silence".to_owned());
            let request = json!({"op": "send", "channel_id": self.channel, "client_id": client, "body": body});
            self.waiting.push((self.ws.request(request).await, client.clone()));
            self.book.messages.push(Sent { client_id: client, body, seq: None, acknowledged: None, node: 0 });
        }
    }

    /// Takes every answer until the node ends the session; gives how many were acknowledgements.
    async fn hear_all(&mut self) -> usize {
        let mut acknowledged = 0;
        loop {
            match self.ws.next().await {
                Frame::Closed(_) => return acknowledged,
                Frame::Json(frame) => {
                    let Some(id) = frame["id"].as_str() else { continue };
                    let (_, client) = self.waiting.iter().find(|(request, _)| request == id).unwrap();
                    if let Some(seq) = frame["ok"]["seq"].as_u64() {
                        let sent = self.book.messages.iter_mut().find(|sent| sent.client_id == *client).unwrap();
                        (sent.seq, sent.acknowledged) = (Some(seq), Some(Instant::now()));
                        acknowledged += 1;
                    } else {
                        // A connection may have only so many unanswered.
                        let code = frame["error"]["code"].as_str().unwrap();
                        assert!(matches!(code, "not_active" | "busy"), "{frame}");
                    }
                }
            }
        }
    }
}

async fn paused(options: PairOptions, pause: Duration) -> (Pair, Book) {
    let witness = options.witness;
    let pair = Pair::start(options).await;
    let load = load_on(&pair);
    load.until_more(200).await;
    let mut faithful = Faithful::connect(&pair, 0).await;
    faithful.say(50).await;
    pair.nodes[0].pause();
    let began = Instant::now();
    faithful.say(200).await;
    pair.is_active(1).await;
    load.until_more(100).await;
    // How long it sleeps is the fault itself.
    tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
    pair.nodes[0].resume();

    let acknowledged = faithful.hear_all().await;
    println!("the woken node acknowledged {acknowledged} of 250 before it ended the session");
    assert_eq!(pair.protected().await, 1);
    let woken = pair.status(0).await.unwrap();
    assert_eq!(woken["role"], "standby", "{woken:#}");
    if witness {
        // Before anything could be merged: what it acknowledged must be in the new active's log as it stands.
        faithful.book.check(&pair.person(1, &pair.owner), &pair.channel).await;
    }
    load.until_more(50).await;
    let book = load.stop().await.and(faithful.book);
    (pair, book)
}
