//! One connection of the load generator: sends by its plan, notes what is acknowledged and what arrives, and resumes when
//! the server says so.
//!
//! Must never send a message under a second key: what was not acknowledged is sent again as it was.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::error::BenchError;
use super::follow::{Found, addresses, follow, is_passing, listen};
use super::nodes::{NodeIndex, Nodes, Reach};
use super::pace::Pace;
use super::scan::{Created, Frame, Scanner, timestamp};
use super::socket::{Hello, Outbox, SharedBuffer, Socket, Turn};
use super::stats::{Stats, add};
use super::text::{write_escaped, write_text};
use super::verify::{Ledger, SeqTracker, client_id, origin};
use crate::limits::BENCH_TRY_MS_MAX;

/// How long a send that was refused as busy waits before it is made again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long a send that a node refused for what it is, not for what was sent, waits: it steps down, or its disk is full.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// Refusals of a node that say nothing about the message: it is sent again until somebody takes it.
const NOT_NOW: [&str; 3] = ["not_active", "shutting_down", "disk_full"];
/// Quarter seconds without a word, with sends unanswered, after which another node is asked whether it took over.
const SILENT_TICKS: u64 = 3;
/// Close code of a connection that was too slow: reconnect and resume.
const CLOSE_RESYNC: u16 = 4000;

/// What a connection does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its number among all connections.
    pub index: u32,
    /// The session's token.
    pub token: Rc<str>,
    /// The channels it sends to, in turn; none: it only receives.
    pub channels: Rc<[u64]>,
    /// How many sends may be unanswered.
    pub window: usize,
    /// Open loop: sends per second of all senders, the number of this one, and of all.
    pub rate: Option<(f64, usize, usize)>,
    /// How many messages all that share this may still send.
    pub quota: Option<Rc<Cell<u64>>>,
    /// The only node that it may use while that is set: where the network is cut.
    pub side: Option<Rc<Cell<Option<NodeIndex>>>>,
    /// Holds the sender back until its receivers have followed.
    pub gate: Option<Rc<Gate>>,
    /// What it writes.
    pub body: Body,
}

/// What a message's text is.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Its length.
    pub bytes: usize,
    /// It starts with the time it was due, so that each receiver knows how old it is.
    pub timestamp: bool,
}

impl Body {
    /// Appends the text of the message with this key, due at `due_ns`.
    pub fn write(self, out: &mut String, client_id: u128, due_ns: u64) {
        use std::fmt::Write as _;
        let seed = client_id as u64 ^ (client_id >> 64) as u64;
        if self.timestamp {
            // Writing to a string cannot fail.
            let _ = write!(out, "{due_ns:016x} ");
            write_text(out, seed, self.bytes.saturating_sub(17));
        } else {
            write_text(out, seed, self.bytes);
        }
    }
}

/// Bounds what is on its way to the receivers of one channel.
#[derive(Debug)]
pub struct Gate {
    /// Receivers beside the sender.
    pub receivers: u64,
    /// Messages that may be on their way.
    pub window: u64,
    /// Messages sent.
    pub sent: Cell<u64>,
    /// Deliveries.
    pub delivered: Cell<u64>,
    /// Wakes the sender.
    pub wake: Rc<Notify>,
}

impl Gate {
    fn is_open(&self) -> bool {
        self.sent.get() * self.receivers < self.delivered.get() + self.window * self.receivers
    }

    fn deliver(&self) {
        add(&self.delivered, 1);
        if self.delivered.get().is_multiple_of(self.receivers) {
            self.wake.notify_one();
        }
    }
}

/// What a connection was promised and saw; outlives it.
#[derive(Debug, Default)]
pub struct Book {
    /// What it was promised.
    pub ledger: Ledger,
    /// What it saw, by channel.
    pub trackers: HashMap<u64, SeqTracker>,
    /// It had to go on without the events in between, so what it saw says nothing about what was delivered.
    pub has_holes: bool,
}

/// A send without an answer.
#[derive(Clone, Copy, Debug)]
struct Pending {
    counter: u32,
    due_ns: u64,
}

/// Everything of a connection but the socket.
struct Desk {
    plan: Plan,
    run: u32,
    stats: Rc<Stats>,
    book: Rc<RefCell<Book>>,
    scanner: Scanner,
    /// The times of the sends, and when the load started that they belong to.
    pace: Option<(u64, Pace)>,
    next: u32,
    pending: Vec<Pending>,
    /// Refused as busy: to be sent again at that time.
    again: Vec<(Instant, Pending)>,
    last_pos: u64,
    text: String,
    frame: Vec<u8>,
}

/// One connection.
pub struct Station {
    nodes: Rc<Nodes>,
    /// Where it is connected.
    node: NodeIndex,
    /// When it last heard something, in ticks of `nodes`.
    heard_tick: u64,
    /// Connections that it left because they were silent. They end with it.
    left: JoinSet<()>,
    buffer: SharedBuffer,
    socket: Socket,
    wake: Rc<Notify>,
    desk: Desk,
}

/// What happened to a connection.
enum Event {
    /// Something came or went over it, or it ended.
    Turn(Result<Turn, BenchError>),
    /// The phase, the gate or the clock changed.
    Woken,
    /// Another node took it.
    Found(Box<Found>),
}

/// What all connections of a benchmark share.
#[derive(Clone)]
pub struct Site {
    /// The server, or the nodes of the pair.
    pub nodes: Rc<Nodes>,
    /// What they read into.
    pub buffer: SharedBuffer,
    /// What they count.
    pub stats: Rc<Stats>,
    /// The run's number.
    pub run: u32,
}

impl Station {
    /// Connects. `wake` makes it look at the phase, the gate and the clock again.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn open(site: Site, plan: Plan, wake: Rc<Notify>, book: Rc<RefCell<Book>>) -> Result<Self, BenchError> {
        let hello = Hello { token: &plan.token, pos: None, source: None };
        let node = site.nodes.current();
        let (socket, answer) = Socket::connect(&site.nodes.endpoint(), &hello, &site.buffer).await?;
        site.nodes.learn(addresses(&answer));
        let last_pos = answer.get("pos").and_then(super::scan::as_number).unwrap_or_default();
        let desk = Desk {
            plan,
            run: site.run,
            stats: site.stats,
            book,
            scanner: Scanner::default(),
            pace: None,
            next: 0,
            pending: Vec::new(),
            again: Vec::new(),
            last_pos,
            text: String::new(),
            frame: Vec::new(),
        };
        let (heard_tick, left) = (site.nodes.tick.get(), JoinSet::new());
        Ok(Self { nodes: site.nodes, node, heard_tick, left, buffer: site.buffer, socket, wake, desk })
    }

    /// Sends and receives until it is dropped or fails; a failure is noted in the statistics.
    pub async fn run(mut self) {
        let stats = self.desk.stats.clone();
        let result = self.work().await;
        stats.fault_if(result);
    }

    async fn work(&mut self) -> Result<(), BenchError> {
        let mut ahead = None;
        loop {
            self.desk.top_up(&mut self.socket.out);
            let event = match ahead.take() {
                Some(event) => event,
                None => self.event().await,
            };
            match event {
                Event::Turn(Ok(Turn::Progress)) => self.heard_tick = self.nodes.tick.get(),
                Event::Turn(ended) if is_passing(&ended) => self.follow().await?,
                Event::Turn(Ok(Turn::Closed(code))) => self.resume(code).await?,
                Event::Turn(Err(error)) => return Err(error),
                Event::Woken if self.is_cut_off() => self.follow().await?,
                Event::Woken if self.is_silent() => {
                    ahead = Some(self.look_elsewhere().await);
                }
                Event::Woken => {}
                Event::Found(found) => {
                    let left = self.settle(*found);
                    let (book, stats) = (self.desk.book.clone(), self.desk.stats.clone());
                    self.left.spawn_local(listen(left, book, stats));
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        let wait = self.desk.next_at();
        let desk = &mut self.desk;
        tokio::select! {
            biased;
            turn = self.socket.turn(|_, payload| desk.take(payload)) => Event::Turn(turn),
            () = tokio::time::sleep_until(wait.unwrap_or_else(Instant::now).into()), if wait.is_some() => Event::Woken,
            () = self.wake.notified() => Event::Woken,
        }
    }

    /// Its node is not within reach any more.
    fn is_cut_off(&self) -> bool {
        matches!(reach(&self.desk.plan), Reach::Only(node) if node != self.node)
    }

    /// Its node owes answers and has said nothing for long, and there is another one to ask.
    fn is_silent(&self) -> bool {
        self.nodes.count() > 1
            && !self.desk.pending.is_empty()
            && self.nodes.tick.get().saturating_sub(self.heard_tick) >= SILENT_TICKS
            && reach(&self.desk.plan) == Reach::Any
    }

    /// Asks the other nodes whether one took over, until this connection says something after all.
    async fn look_elsewhere(&mut self) -> Event {
        let (token, pos) = (self.desk.plan.token.clone(), Some(self.desk.last_pos));
        let hello = Hello { token: &token, pos, source: None };
        let (nodes, not_this) = (self.nodes.clone(), Reach::Not(self.node));
        let reach = || not_this;
        let desk = &mut self.desk;
        let search = follow(&nodes, &hello, &self.buffer, &reach);
        let search = tokio::time::timeout(Duration::from_millis(2 * BENCH_TRY_MS_MAX), search);
        tokio::select! {
            biased;
            turn = self.socket.turn(|_, payload| desk.take(payload)) => Event::Turn(turn),
            // That none takes it is no fault as long as this connection lives: they are asked again later.
            found = search => match found {
                Ok(Ok(found)) => Event::Found(Box::new(found)),
                Ok(Err(_)) | Err(_) => Event::Woken,
            },
        }
    }

    /// Connects again after the connection was lost, wherever it is taken, and goes on from the last position.
    async fn follow(&mut self) -> Result<(), BenchError> {
        let hello = Hello { token: &self.desk.plan.token, pos: Some(self.desk.last_pos), source: None };
        let found = follow(&self.nodes, &hello, &self.buffer, &|| reach(&self.desk.plan)).await?;
        drop(self.settle(found));
        Ok(())
    }

    /// Goes on over a new connection; gives the old one.
    fn settle(&mut self, found: Found) -> Socket {
        let left = std::mem::replace(&mut self.socket, found.socket);
        (self.node, self.heard_tick) = (found.node, self.nodes.tick.get());
        add(&self.desk.stats.reconnects, 1);
        if found.answer.get("resumed").and_then(serde_json::Value::as_bool) != Some(true) {
            add(&self.desk.stats.refetches, 1);
            self.desk.book.borrow_mut().has_holes = true;
            let pos = found.answer.get("pos").and_then(super::scan::as_number);
            self.desk.last_pos = pos.unwrap_or(self.desk.last_pos);
        }
        self.desk.send_again(&mut self.socket.out);
        left
    }

    /// Connects again after the server closed the connection as too slow, and goes on from the last position.
    async fn resume(&mut self, code: Option<u16>) -> Result<(), BenchError> {
        let failed = |detail: String| BenchError::Protocol { op: "keep a WebSocket".to_owned(), detail };
        if code != Some(CLOSE_RESYNC) {
            return Err(failed(format!("the server closed it, code {code:?}")));
        }
        add(&self.desk.stats.resyncs, 1);
        let hello = Hello { token: &self.desk.plan.token, pos: Some(self.desk.last_pos), source: None };
        let endpoint = self.nodes.endpoint_of(self.node);
        let (socket, answer) = Socket::connect(&endpoint, &hello, &self.buffer).await?;
        self.socket = socket;
        if answer.get("resumed").and_then(serde_json::Value::as_bool) != Some(true) {
            return Err(failed("the server could not resume it".to_owned()));
        }
        self.desk.send_again(&mut self.socket.out);
        Ok(())
    }
}

/// Which nodes are within reach now.
fn reach(plan: &Plan) -> Reach {
    plan.side.as_ref().and_then(|side| side.get()).map_or(Reach::Any, Reach::Only)
}

impl Desk {
    /// Queues all sends that are due and allowed.
    fn top_up(&mut self, out: &mut Outbox) {
        if self.plan.channels.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(at) = self.again.iter().position(|(at, _)| *at <= now) {
            let (_, pending) = self.again.swap_remove(at);
            self.pending.push(pending);
            self.send(out, pending);
        }
        while self.may_send() {
            let due = match self.pace() {
                Some(pace) => match pace.take_due(now) {
                    Some(due) => due,
                    None => return,
                },
                None => now,
            };
            let pending = Pending { counter: self.next, due_ns: self.stats.ns(due) };
            self.next += 1;
            if let Some(quota) = &self.plan.quota {
                quota.set(quota.get() - 1);
            }
            if let Some(gate) = &self.plan.gate {
                add(&gate.sent, 1);
            }
            add(&self.stats.unanswered, 1);
            self.pending.push(pending);
            self.send(out, pending);
        }
    }

    /// Queues everything that has no answer.
    fn send_again(&mut self, out: &mut Outbox) {
        for at in 0..self.pending.len() {
            self.send(out, self.pending[at]);
        }
    }

    fn may_send(&self) -> bool {
        self.stats.is_sending()
            && self.pending.len() + self.again.len() < self.plan.window
            && self.plan.quota.as_ref().is_none_or(|quota| quota.get() > 0)
            && (self.plan.rate.is_some() || self.plan.gate.as_ref().is_none_or(|gate| gate.is_open()))
    }

    fn pace(&mut self) -> Option<&mut Pace> {
        let (rate_per_s, index, senders) = self.plan.rate?;
        let load_ns = self.stats.load_ns.get();
        // Load that starts again after a break is not late by the length of the break.
        if self.pace.as_ref().is_none_or(|(of, _)| *of != load_ns) {
            let start = self.stats.instant(load_ns);
            self.pace = Some((load_ns, Pace::new(start, rate_per_s, (index, senders))));
        }
        self.pace.as_mut().map(|(_, pace)| pace)
    }

    /// When there is something to do even if nothing arrives.
    fn next_at(&mut self) -> Option<Instant> {
        let again = self.again.iter().map(|(at, _)| *at).min();
        let due = if !self.plan.channels.is_empty() && self.may_send() {
            self.pace().map(|pace| pace.next_at())
        } else {
            None
        };
        again.into_iter().chain(due).min()
    }

    fn channel(&self, counter: u32) -> u64 {
        self.plan.channels[counter as usize % self.plan.channels.len()]
    }

    fn send(&mut self, out: &mut Outbox, pending: Pending) {
        use std::io::Write as _;
        let key = client_id(self.run, self.plan.index, pending.counter);
        self.text.clear();
        self.plan.body.write(&mut self.text, key, pending.due_ns);
        let channel = self.channel(pending.counter);
        self.frame.clear();
        // Writing to a vector cannot fail.
        let _ = write!(
            self.frame,
            r#"{{"id":"{}","op":"send","channel_id":"{channel}","client_id":"{}","body":""#,
            pending.counter,
            uuid::Uuid::from_u128(key).hyphenated(),
        );
        write_escaped(&mut self.frame, &self.text);
        self.frame.extend_from_slice(b"\"}");
        out.text(&self.frame);
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), BenchError> {
        let scanned = self.scanner.scan(payload);
        let frame =
            scanned.map_err(|detail| BenchError::Protocol { op: "read an event or answer".to_owned(), detail })?;
        match frame {
            Frame::Created(created) => self.see(&created),
            Frame::Sent { id, seq } => {
                let Some(pending) = self.answered(id) else { return Ok(()) };
                self.stats.unanswered.set(self.stats.unanswered.get() - 1);
                self.stats.acknowledge(pending.due_ns);
                if !self.book.borrow_mut().ledger.acknowledge(pending.counter, seq) {
                    self.stats.renumbered(seq);
                }
            }
            Frame::Refused { id, code } => {
                let Some(pending) = self.answered(id) else { return Ok(()) };
                if code == "busy" {
                    add(&self.stats.busy, 1);
                    self.again.push((Instant::now() + BUSY_PAUSE, pending));
                } else if NOT_NOW.contains(&code.as_str()) {
                    self.again.push((Instant::now() + REFUSED_PAUSE, pending));
                } else {
                    self.stats.unanswered.set(self.stats.unanswered.get() - 1);
                    add(&self.stats.failed_sends, 1);
                    self.stats.fault(format!("a send was refused: {code}"));
                }
            }
            Frame::Other => {}
        }
        Ok(())
    }

    fn answered(&mut self, id: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| u64::from(pending.counter) == id);
        if at.is_none() {
            self.stats.fault(format!("an answer to no request, id {id}"));
        }
        at.map(|at| self.pending.swap_remove(at))
    }

    fn see(&mut self, created: &Created<'_>) {
        self.last_pos = created.pos;
        self.book.borrow_mut().trackers.entry(created.channel_id).or_default().see(created.seq);
        // Messages that are not of this run are none of its deliveries.
        let Some((sender, _)) = origin(self.run, created.client_id) else { return };
        if sender == self.plan.index {
            return;
        }
        self.stats.deliver(if self.plan.body.timestamp { timestamp(created.body_on) } else { None });
        if let Some(gate) = &self.plan.gate {
            gate.deliver();
        }
    }
}

#[cfg(test)]
#[path = "station_tests.rs"]
mod tests;
