//! People who go on sending while nodes fail: each sends one message after the other, follows the pair to the node that
//! takes it, and sends again under the same client id until it is acknowledged. What was acknowledged is written down.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast::bench::client::Endpoint;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::http::{Api, Call};
use super::people::{Person, client_id};
use super::wait::{PATIENCE, until};
use super::ws::{Ws, number};

/// How long a client waits for an answer before it tries the other node: as the web client does, roughly.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Unanswered messages of a flood.
const FLOOD_WINDOW: usize = 64;
/// Before the next try after one that failed.
const RETRY: Duration = Duration::from_millis(50);

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Its client id.
    pub(crate) client_id: String,
    /// Its text.
    pub(crate) body: String,
    /// Its place, once acknowledged.
    pub(crate) seq: Option<u64>,
    /// When that was.
    pub(crate) acknowledged: Option<Instant>,
    /// By which node.
    pub(crate) node: usize,
}

/// All that was sent to one channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// In the order in which they were first sent.
    pub(crate) messages: Vec<Sent>,
    /// Tries that did not succeed: why, and how often.
    pub(crate) failures: BTreeMap<String, usize>,
}

/// How a load is to be.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    /// Over a WebSocket each.
    pub(crate) ws: usize,
    /// Over HTTP, a connection per message.
    pub(crate) http: usize,
    /// Between two messages of one sender.
    pub(crate) gap: Duration,
}

impl Default for Senders {
    fn default() -> Self {
        Self { ws: 3, http: 1, gap: Duration::from_millis(5) }
    }
}

/// Senders at work. They are ended when this is dropped.
pub(crate) struct Load {
    desk: Arc<Desk>,
    tasks: Vec<JoinHandle<()>>,
}

struct Desk {
    book: Mutex<Book>,
    acknowledged: AtomicUsize,
    stop: AtomicBool,
    channel: String,
    gap: Duration,
    nodes: Vec<(Api, String)>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Load {
    /// Has `person` send to `channel` from several places at once, beginning at the first of these nodes.
    pub(crate) fn start(nodes: &[Endpoint], person: &Person, (channel, senders): (&str, Senders)) -> Self {
        let scheme = |node: &Endpoint| Api::new(node.clone()).with_token(person.token());
        let desk = Arc::new(Desk {
            book: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            channel: channel.to_owned(),
            gap: senders.gap,
            nodes: nodes.iter().map(|node| (scheme(node), node.authority().to_owned())).collect(),
        });
        let ws = (0..senders.ws).map(|_| tokio::spawn(desk.clone().work(Way::Ws(None))));
        let http = (0..senders.http).map(|_| tokio::spawn(desk.clone().work(Way::Http)));
        let tasks = ws.chain(http).collect();
        Self { desk, tasks }
    }

    /// How many messages are acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.desk.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `count` more messages are acknowledged.
    pub(crate) async fn until_more(&self, count: usize) {
        let wanted = self.acknowledged() + count;
        until(&format!("{count} more messages are acknowledged"), async || {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a sender gave up");
            (self.acknowledged() >= wanted).then_some(())
        })
        .await;
    }

    /// What was sent so far.
    pub(crate) fn book(&self) -> Book {
        self.desk.book.lock().unwrap().clone()
    }

    /// Lets everybody finish the message that they are at, and gives what was sent: all of it is acknowledged.
    pub(crate) async fn stop(mut self) -> Book {
        self.desk.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        for task in std::mem::take(&mut self.tasks) {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = tokio::time::timeout(left, task).await;
            ended.unwrap_or_else(|_| panic!("a message was not acknowledged: {:?}", self.book().failures)).unwrap();
        }
        self.book()
    }
}

/// Sends `count` messages as quickly as a node takes them, all of them acknowledged.
pub(crate) async fn flood(person: &Person, channel: &str, count: usize) -> Book {
    let mut book = Book::default();
    let mut ws = Ws::connect(&person.api).await;
    let mut waiting = VecDeque::new();
    while !(waiting.is_empty() && book.messages.len() == count) {
        if book.messages.len() < count && waiting.len() < FLOOD_WINDOW {
            let (id, body) = (client_id(), format!("one of {count}"));
            let sent = Sent { client_id: id.clone(), body: body.clone(), seq: None, acknowledged: None, node: 0 };
            book.messages.push(sent);
            let request = json!({"op": "send", "channel_id": channel, "client_id": id, "body": body});
            waiting.push_back((book.messages.len() - 1, ws.request(request).await));
            continue;
        }
        let (at, id) = waiting.pop_front().expect("something is unanswered");
        let answer = ws.answer(&id).await;
        let seq = answer["ok"]["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        (book.messages[at].seq, book.messages[at].acknowledged) = (Some(seq), Some(Instant::now()));
        ws.forget();
    }
    book
}

/// How a sender talks to a node.
enum Way {
    Http,
    Ws(Option<(usize, Box<Ws>)>),
}

/// What became of a try.
enum Tried {
    Acknowledged(u64),
    /// Not taken: for the book, and the address of the node that the answer names.
    Not(String, Option<String>),
}

impl Desk {
    async fn work(self: Arc<Self>, mut way: Way) {
        let mut node = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let (id, body) = (client_id(), format!("said {}", client_id()));
            let at = self.compose(&id, &body);
            let seq = loop {
                let tried = tokio::time::timeout(ANSWER_PATIENCE, self.attempt(&mut way, (node, &id, &body))).await;
                match tried.unwrap_or_else(|_| Tried::Not("no answer".to_owned(), None)) {
                    Tried::Acknowledged(seq) => break seq,
                    Tried::Not(why, named) => {
                        self.failed(why);
                        if let Way::Ws(open) = &mut way {
                            *open = None;
                        }
                        node = self.next(node, named);
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            self.note(at, (seq, node));
            tokio::time::sleep(self.gap).await;
        }
    }

    /// Writes down what is about to be sent; gives its place in the book.
    fn compose(&self, id: &str, body: &str) -> usize {
        let mut book = self.book.lock().unwrap();
        let (client_id, body) = (id.to_owned(), body.to_owned());
        book.messages.push(Sent { client_id, body, seq: None, acknowledged: None, node: 0 });
        book.messages.len() - 1
    }

    /// Writes down that it is acknowledged.
    fn note(&self, at: usize, (seq, node): (u64, usize)) {
        let mut book = self.book.lock().unwrap();
        let sent = &mut book.messages[at];
        (sent.seq, sent.acknowledged, sent.node) = (Some(seq), Some(Instant::now()), node);
        drop(book);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, why: String) {
        *self.book.lock().unwrap().failures.entry(why).or_default() += 1;
    }

    /// Where to try next: at the node that the answer names, else at the one after this.
    fn next(&self, node: usize, named: Option<String>) -> usize {
        let named = named.and_then(|url| self.nodes.iter().position(|(_, authority)| url.ends_with(authority)));
        named.unwrap_or((node + 1) % self.nodes.len())
    }

    async fn attempt(&self, way: &mut Way, (node, id, body): (usize, &str, &str)) -> Tried {
        match way {
            Way::Http => self.by_http(node, (id, body)).await,
            Way::Ws(open) => {
                if open.as_ref().is_none_or(|(at, _)| *at != node) {
                    match Ws::try_connect(&self.nodes[node].0).await {
                        Ok(ws) => *open = Some((node, Box::new(ws))),
                        Err(error) => return refused(&error),
                    }
                }
                let Some((_, ws)) = open else { unreachable!("it was just opened") };
                let request = json!({"op": "send", "channel_id": self.channel, "client_id": id, "body": body});
                match ws.try_ask(request).await {
                    Ok(ok) => Tried::Acknowledged(ok["seq"].as_u64().unwrap_or_else(|| number(&ok["seq"]))),
                    Err(error) => refused(&error),
                }
            }
        }
    }

    async fn by_http(&self, node: usize, (id, body): (&str, &str)) -> Tried {
        let path = format!("/api/v1/channels/{}/messages", self.channel);
        let call = Call::new("POST", &path).json(&json!({"client_id": id, "body": body}));
        match self.nodes[node].0.try_send(call).await {
            Err(_) => Tried::Not("connection lost".to_owned(), None),
            Ok(answer) => match answer.status {
                200 | 201 => Tried::Acknowledged(answer.json()["seq"].as_u64().unwrap()),
                503 => refused(&answer.json()),
                _ => panic!("a send was refused: {answer}"),
            },
        }
    }
}

/// A refusal that means "not here, not now"; anything else is a fault.
fn refused(error: &Value) -> Tried {
    let Some(code) = error["code"].as_str() else { return Tried::Not("connection lost".to_owned(), None) };
    assert!(matches!(code, "not_active" | "busy" | "shutting_down"), "a send was refused: {error}");
    Tried::Not(code.to_owned(), error["active"].as_str().map(str::to_owned))
}

impl Book {
    /// Takes over what another one has.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.messages.extend(more.messages);
        self
    }

    /// The longest time in which nothing was acknowledged, between the first and the last message.
    pub(crate) fn longest_silence(&self) -> Duration {
        let mut times: Vec<Instant> = self.messages.iter().filter_map(|sent| sent.acknowledged).collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// The longest time between two acknowledgements of which the second came after `since`.
    pub(crate) fn longest_silence_since(&self, since: Instant) -> Duration {
        let mut times: Vec<Instant> = self.messages.iter().filter_map(|sent| sent.acknowledged).collect();
        times.sort_unstable();
        times.windows(2).filter(|pair| pair[1] > since).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// How many are acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.messages.iter().filter(|sent| sent.seq.is_some()).count()
    }

    /// Everything acknowledged is on this node exactly once, at its place, as it was said; what was not acknowledged is
    /// there at most once; the channel has no gap.
    pub(crate) async fn check(&self, person: &Person, channel: &str) {
        self.compare(&person.history(channel).await, true);
    }

    /// The same when some of it arrived late, at other places than were told first.
    pub(crate) async fn check_anywhere(&self, person: &Person, channel: &str) {
        self.compare(&person.history(channel).await, false);
    }

    fn compare(&self, history: &[Value], places: bool) {
        let mut found: BTreeMap<&str, &Value> = BTreeMap::new();
        for (message, seq) in history.iter().zip(1..) {
            assert_eq!(message["seq"], seq, "a gap before {message}");
            let before = found.insert(message["client_id"].as_str().unwrap(), message);
            assert!(before.is_none(), "twice: {message} and {before:?}");
        }
        let mut wrong = String::new();
        for sent in &self.messages {
            let there = found.get(sent.client_id.as_str());
            let fits = match (there, sent.seq) {
                (None, None) => true,
                (None, Some(_)) => false,
                (Some(there), None) => there["body"] == *sent.body,
                (Some(there), Some(seq)) => there["body"] == *sent.body && (!places || there["seq"] == seq),
            };
            if !fits {
                let _ = writeln!(wrong, "{sent:?} but there is {there:?}");
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {} messages are not as acknowledged:\n{wrong}",
            wrong.lines().count(),
            self.messages.len()
        );
    }
}
