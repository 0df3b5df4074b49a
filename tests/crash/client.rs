//! One connection that works: sends, resends, edits, deletions and read marks, and what it hears of the others.
//! It tells the oracle what it was promised, and checks that its feed of messages has no gap, also across a crash.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use holdfast::bench::client::Endpoint;
use holdfast::bench::socket::{Hello, Outbox, SharedBuffer, Socket, Turn};
use holdfast::bench::text::Picker;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::oracle::{Oracle, number, word};

/// Unanswered requests of one connection.
const WINDOW: usize = 8;

/// What a connection has heard; outlives it.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The position to resume from.
    pos: Option<u64>,
    /// The last message heard of, by channel.
    last: HashMap<String, u64>,
    /// How often it was told all that it had missed.
    pub(crate) resumed: u64,
}

/// What a connection does in one life of the server.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// The sender's place in the list of users.
    pub(crate) user: usize,
    /// Its session's token.
    pub(crate) token: Rc<str>,
    /// The mean time between two requests; zero for as fast as answers come.
    pub(crate) gap: Duration,
    /// New requests at most.
    pub(crate) quota: usize,
    /// What it does follows from this.
    pub(crate) seed: u64,
}

/// What a connection shares with the others.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) endpoint: Rc<Endpoint>,
    pub(crate) oracle: Rc<RefCell<Oracle>>,
    pub(crate) buffer: SharedBuffer,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The server's close code, if it said one.
    pub(crate) close_code: Option<u16>,
    /// Answers that it got.
    pub(crate) answers: usize,
}

enum Request {
    Send(usize),
    Change(usize),
    Read { channel: usize, seq: u64 },
}

struct Desk {
    work: Work,
    picker: Picker,
    oracle: Rc<RefCell<Oracle>>,
    channels: Vec<usize>,
    resends: Vec<usize>,
    waiting: HashMap<String, Request>,
    next_id: u64,
    due: Instant,
    left: usize,
    answers: usize,
    /// Read marks that the server took; they are written once a second and when it ends.
    marks: HashMap<usize, u64>,
}

/// Works until the connection ends. `marks` of the answer are read marks that were acknowledged.
pub(crate) async fn work(common: Common, work: Work, feed: Rc<RefCell<Feed>>) -> (Ended, HashMap<usize, u64>) {
    let hello = Hello { token: &work.token, pos: feed.borrow().pos, source: None };
    // The server may be killed before it answers.
    let Ok((mut socket, answer)) = Socket::connect(&common.endpoint, &hello, &common.buffer).await else {
        return (Ended::default(), HashMap::new());
    };
    feed.borrow_mut().greeted(&answer);
    let mut desk = Desk::new(&common.oracle, work);
    loop {
        desk.fill(&mut socket.out);
        let (due, may_ask) = (desk.due, desk.may_ask());
        let turn = tokio::select! {
            turn = socket.turn(|_, payload| { desk.take(&mut feed.borrow_mut(), payload); Ok(()) }) => turn,
            () = tokio::time::sleep_until(due), if may_ask => Ok(Turn::Progress),
        };
        let close_code = match turn {
            Ok(Turn::Progress) => continue,
            Ok(Turn::Closed(code)) => code,
            Err(_) => None,
        };
        return (Ended { close_code, answers: desk.answers }, desk.marks);
    }
}

impl Feed {
    fn greeted(&mut self, answer: &Value) {
        if answer["resumed"] == true {
            assert!(self.pos.is_some(), "resumed from nowhere");
            self.resumed += 1;
        } else {
            self.last.clear();
            self.pos = Some(word(answer, "pos").parse().expect("a position"));
        }
    }

    fn hear(&mut self, event: &Value) {
        let Some(pos) = event["pos"].as_str() else { return };
        let pos: u64 = pos.parse().expect("a position");
        // One log entry may have several events: a batch of read marks.
        assert!(self.pos <= Some(pos), "an event came too late: {event} after {:?}", self.pos);
        self.pos = Some(pos);
        if event["event"] == "message.created" {
            let message = &event["message"];
            let seq = number(message, "seq");
            if let Some(last) = self.last.insert(word(message, "channel_id").to_owned(), seq) {
                assert_eq!(seq, last + 1, "events of a channel have a gap before {event}");
            }
        }
    }
}

impl Desk {
    fn new(oracle: &Rc<RefCell<Oracle>>, work: Work) -> Self {
        let book = oracle.borrow();
        let mine = |index: &usize| book.messages[*index].sender == work.user;
        let resends = book.unknown.iter().copied().filter(mine).collect();
        let channels = (0..book.channels.len()).filter(|at| book.channels[*at].members.contains(&work.user)).collect();
        drop(book);
        Self {
            picker: Picker::new(work.seed),
            left: work.quota,
            work,
            oracle: oracle.clone(),
            channels,
            resends,
            waiting: HashMap::new(),
            next_id: 0,
            due: Instant::now(),
            answers: 0,
            marks: HashMap::new(),
        }
    }

    fn may_ask(&self) -> bool {
        self.left > 0 && self.waiting.len() < WINDOW
    }

    /// Sends what is due: first what nobody knows the fate of, then new things.
    fn fill(&mut self, out: &mut Outbox) {
        while self.waiting.len() < WINDOW
            && let Some(index) = self.resends.pop()
        {
            self.send(out, index);
        }
        while self.may_ask() && self.due <= Instant::now() {
            self.left -= 1;
            let gap_us = self.work.gap.as_micros() as usize;
            self.due = Instant::now() + Duration::from_micros(self.picker.below(2 * gap_us + 1) as u64);
            self.ask(out);
        }
    }

    fn ask(&mut self, out: &mut Outbox) {
        let (dice, user) = (self.picker.below(100), self.work.user);
        let oracle = self.oracle.clone();
        let mut oracle = oracle.borrow_mut();
        let change = match dice {
            0..=9 => oracle.plan_change(&mut self.picker, user, dice < 3),
            _ => None,
        };
        let again = if (10..13).contains(&dice) { oracle.a_late_one(&mut self.picker, user) } else { None };
        if let Some(index) = change {
            let message = &oracle.messages[index];
            let seq = message.place.as_ref().expect("an acknowledged message has a place").seq;
            let pending = message.pending.as_ref().expect("the change that was just planned");
            let channel = &oracle.channels[message.channel].id;
            let mut body = json!({"op": "edit", "channel_id": channel, "seq": seq, "version": pending.version - 1});
            if pending.deleted {
                body["op"] = "delete".into();
            } else {
                body["body"] = pending.body.as_str().into();
            }
            self.put(out, body, Request::Change(index));
        } else if let Some(index) = again {
            drop(oracle);
            self.send(out, index);
        } else if (13..20).contains(&dice) {
            let channel = self.channels[self.picker.below(self.channels.len())];
            let seq = oracle.channels[channel].found.len() as u64;
            let body = json!({"op": "read", "channel_id": oracle.channels[channel].id, "seq": seq});
            self.put(out, body, Request::Read { channel, seq });
        } else {
            let channel = self.channels[self.picker.below(self.channels.len())];
            let index = oracle.compose(&mut self.picker, user, channel);
            drop(oracle);
            self.send(out, index);
        }
    }

    fn send(&mut self, out: &mut Outbox, index: usize) {
        let oracle = self.oracle.clone();
        let oracle = oracle.borrow();
        let message = &oracle.messages[index];
        // A resend says what was said first, whatever became of the message since.
        let body = if message.content.deleted { "deleted since." } else { &message.content.body };
        let channel = &oracle.channels[message.channel].id;
        let body = json!({"op": "send", "channel_id": channel, "client_id": message.client_id, "body": body});
        self.put(out, body, Request::Send(index));
    }

    fn put(&mut self, out: &mut Outbox, body: Value, request: Request) {
        let (mut body, id) = (body, self.next_id.to_string());
        self.next_id += 1;
        body["id"] = id.as_str().into();
        out.text(body.to_string().as_bytes());
        self.waiting.insert(id, request);
    }

    /// Takes one frame: an answer or an event.
    fn take(&mut self, feed: &mut Feed, payload: &[u8]) {
        let frame: Value = serde_json::from_slice(payload).expect("a frame is JSON");
        let Some(id) = frame["id"].as_str() else { return feed.hear(&frame) };
        let request = self.waiting.remove(id).unwrap_or_else(|| panic!("nobody asked for {frame}"));
        let Some(answer) = frame.get("ok") else {
            // Only these may be said to a correct request: come again later, or the server is ending.
            let code = frame["error"]["code"].as_str().unwrap_or_default();
            assert!(matches!(code, "busy" | "not_active" | "shutting_down"), "refused: {frame}");
            return;
        };
        self.answers += 1;
        match request {
            Request::Send(index) => self.oracle.borrow_mut().acknowledge(index, answer),
            Request::Change(index) => self.oracle.borrow_mut().changed(index, answer),
            Request::Read { channel, seq } => {
                let mark = self.marks.entry(channel).or_default();
                *mark = (*mark).max(seq);
            }
        }
    }
}
