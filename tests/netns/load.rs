//! People who write all the time, and the book of what was acknowledged to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lan::Place;
use crate::pair::Pair;
use crate::support::people::client_id;
use crate::support::{Api, Call, until};

/// How long a writer waits for one node before it asks the other: a client of ours does not wait longer, either.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Between two messages of a writer.
const PAUSE: Duration = Duration::from_millis(10);

/// A message that was acknowledged.
pub(crate) struct Acked {
    /// Its text, which no other has.
    pub(crate) body: String,
    /// When.
    pub(crate) at: Instant,
    /// By whom.
    pub(crate) by: Place,
}

/// What became of the messages.
#[derive(Default)]
pub(crate) struct Book {
    /// Those that were acknowledged.
    pub(crate) acked: Vec<Acked>,
    /// Those that may be there or not.
    pub(crate) unknown: Vec<String>,
    /// How often a node refused with which code.
    pub(crate) refused: BTreeMap<(&'static str, String), usize>,
}

/// Writers at work.
pub(crate) struct Load {
    stop: Rc<Cell<bool>>,
    writers: Vec<tokio::task::JoinHandle<()>>,
    book: Rc<RefCell<Book>>,
}

impl Load {
    /// Starts `writers` writers who know these nodes, the first of them first.
    pub(crate) fn start(pair: &Pair, name: &str, nodes: &[Place], writers: usize) -> Self {
        let (stop, book) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Book::default())));
        let writer = |number: usize| {
            let nodes = nodes.iter().map(|place| (*place, pair.node(*place).api(pair.owner.token()))).collect();
            let path = format!("/api/v1/channels/{}/messages", pair.channel);
            let writer =
                Writer { name: format!("{name}{number}"), nodes, path, stop: stop.clone(), book: book.clone() };
            tokio::task::spawn_local(writer.run())
        };
        let writers = (0..writers).map(writer).collect();
        Self { stop, writers, book }
    }

    /// What happened so far.
    pub(crate) fn book(&self) -> std::cell::Ref<'_, Book> {
        self.book.borrow()
    }

    /// How many were acknowledged so far.
    pub(crate) fn count(&self) -> usize {
        self.book.borrow().acked.len()
    }

    /// Waits until `more` further ones were acknowledged.
    pub(crate) async fn more(&self, more: usize) {
        let wanted = self.count() + more;
        until("messages are acknowledged", async || (self.count() >= wanted).then_some(())).await;
    }

    /// Waits until a node has acknowledged something after `since`; gives when.
    pub(crate) async fn acked_by(&self, place: Place, since: Instant) -> Instant {
        let first = || {
            let book = self.book.borrow();
            book.acked.iter().find(|acked| acked.by == place && acked.at > since).map(|acked| acked.at)
        };
        until("that node acknowledges", async || first()).await
    }

    /// The longest time without an acknowledgement since `since`.
    pub(crate) fn longest_gap(&self, since: Instant) -> Duration {
        let book = self.book.borrow();
        let mut times: Vec<Instant> = book.acked.iter().map(|acked| acked.at).filter(|at| *at > since).collect();
        times.sort();
        let begun = std::iter::once(since).chain(times.iter().copied());
        begun.zip(&times).map(|(before, after)| *after - before).max().unwrap_or_default()
    }

    /// Ends the writing and gives the book.
    pub(crate) async fn finish(self) -> Book {
        self.stop.set(true);
        for writer in self.writers {
            writer.await.unwrap();
        }
        self.book.take()
    }
}

struct Writer {
    name: String,
    nodes: Vec<(Place, Api)>,
    path: String,
    stop: Rc<Cell<bool>>,
    book: Rc<RefCell<Book>>,
}

impl Writer {
    async fn run(self) {
        let mut node = 0;
        for number in 1.. {
            let body = format!("{} {number}", self.name);
            let message = json!({"client_id": client_id(), "body": body});
            let mut sent = false;
            loop {
                if self.stop.get() {
                    if sent {
                        self.book.borrow_mut().unknown.push(body);
                    }
                    return;
                }
                sent = true;
                if self.try_once(node, &message, &body).await {
                    break;
                }
                node = (node + 1) % self.nodes.len();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the node acknowledged it.
    async fn try_once(&self, node: usize, message: &Value, body: &str) -> bool {
        let (place, api) = &self.nodes[node];
        let call = Call::new("POST", &self.path).json(message);
        let code = match tokio::time::timeout(ANSWER_PATIENCE, api.try_send(call)).await {
            // 200: it is there already, from an earlier try.
            Ok(Ok(answer)) if [200, 201].contains(&answer.status) => {
                assert_eq!(answer.json()["body"], body, "{answer}");
                self.book.borrow_mut().acked.push(Acked { body: body.to_owned(), at: Instant::now(), by: *place });
                return true;
            }
            Ok(Ok(answer)) => {
                assert_eq!(answer.status, 503, "{answer}");
                answer.problem()["code"].as_str().unwrap().to_owned()
            }
            Ok(Err(_)) => "broken".to_owned(),
            Err(_) => "no answer".to_owned(),
        };
        let name = if *place == Place::A { "A" } else { "B" };
        *self.book.borrow_mut().refused.entry((name, code)).or_default() += 1;
        false
    }
}

impl Book {
    /// One book of two.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.acked.extend(other.acked);
        self.unknown.extend(other.unknown);
        self
    }

    /// Both nodes show every acknowledged message once, in the same order, and nothing that nobody wrote. Gives them.
    pub(crate) async fn check(&self, pair: &Pair) -> Vec<Value> {
        let (a, b) = (pair.owner_on(Place::A), pair.owner_on(Place::B));
        let history = until("both show the same", async || {
            let history = a.history(&pair.channel).await;
            (history == b.history(&pair.channel).await).then_some(history)
        })
        .await;
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for message in &history {
            *found.entry(message["body"].as_str().unwrap()).or_default() += 1;
        }
        for acked in &self.acked {
            assert_eq!(found.remove(acked.body.as_str()), Some(1), "{}, acknowledged by {:?}", acked.body, acked.by);
        }
        for body in &self.unknown {
            assert!(found.remove(body.as_str()).unwrap_or(0) <= 1, "{body}");
        }
        assert!(found.is_empty(), "nobody wrote {found:?}");
        eprintln!("{} acknowledged, {} unknown, refusals {:?}", self.acked.len(), self.unknown.len(), self.refused);
        history
    }
}
