//! Runs the protocol of one data node: feeds `core::failover` with what happens and does what it answers, in order. The
//! only executor of its effects. Must never do anything behind a `Persist` before that is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::context::{Context, Restart};
use super::control::ControlLinks;
use super::durable::DurableFile;
use super::follower::{self, Following};
use super::probe;
use super::settings::PairSettings;
use super::watched::Watch;
use crate::core::failover::{
    DataMember, Effect, Epoch, Input, LogEnd, Member, Message, Notice, Order, Relation, Status, Timer,
};
use crate::limits;
use crate::node::Node;
use crate::oplog::LogPosition;

/// What reaches the driver.
pub(super) enum Event {
    /// Something for the protocol.
    Input(Input),
    /// Somebody wants to know how it stands.
    Status(oneshot::Sender<Status>),
    /// An operator's order, and who waits to hear whether it was taken.
    Order(Order, oneshot::Sender<()>),
    /// The process is about to stop, and who waits until the others were told.
    Leave(oneshot::Sender<()>),
}

/// How the rest of the program reaches the driver. Clones share it.
#[derive(Clone)]
pub struct DriverHandle {
    own: mpsc::Sender<Event>,
    peers: mpsc::Sender<Input>,
    nudges: Arc<Nudges>,
}

/// What only has to be looked at again, however often it is told.
#[derive(Default)]
struct Nudges {
    settings: AtomicBool,
    committed: AtomicBool,
    told: Notify,
}

/// The driver's end of its handles.
pub(super) struct DriverEvents {
    own: mpsc::Receiver<Event>,
    peers: mpsc::Receiver<Input>,
    nudges: Arc<Nudges>,
}

impl DriverHandle {
    /// A handle, and the other end for the driver.
    pub(super) fn new() -> (Self, DriverEvents) {
        let (own, own_events) = mpsc::channel(limits::DRIVER_EVENTS_MAX);
        let (peers, peer_events) = mpsc::channel(limits::DRIVER_EVENTS_MAX);
        let nudges = Arc::new(Nudges::default());
        let events = DriverEvents { own: own_events, peers: peer_events, nudges: nudges.clone() };
        (Self { own, peers, nudges }, events)
    }

    /// Something happened on this node.
    pub(super) fn input(&self, input: Input) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.own.try_send(Event::Input(input)) {
            // Such things happen a few times in a second at most: the driver has hung for minutes.
            tracing::error!(?input, "the pair's part of this node is stuck");
        }
    }

    /// A message of another member arrived. Lost when too many wait, which the protocol survives.
    pub(super) fn received(&self, from: Member, message: Message) {
        let _ = self.peers.try_send(Input::Received { from, message });
    }

    /// The pair settings changed in the own log.
    pub(super) fn settings_changed(&self) {
        self.nudges.settings.store(true, Ordering::Release);
        self.nudges.told.notify_one();
    }

    /// The active told that more is committed.
    pub(super) fn commit_told(&self) {
        self.nudges.committed.store(true, Ordering::Release);
        self.nudges.told.notify_one();
    }

    /// How the protocol stands; `None` when the driver has ended.
    pub async fn status(&self) -> Option<Status> {
        let (sender, answer) = oneshot::channel();
        self.own.send(Event::Status(sender)).await.ok()?;
        answer.await.ok()
    }

    /// Tells the others that this node is about to stop: nobody waits for it then. Afterwards it takes part in nothing.
    pub(super) async fn leave(&self) {
        let (sender, told) = oneshot::channel();
        if self.own.send(Event::Leave(sender)).await.is_ok() {
            drop(told.await);
        }
    }

    /// Gives an operator's order. What becomes of it shows in the status.
    pub async fn order(&self, order: Order) {
        let (sender, taken) = oneshot::channel();
        if self.own.send(Event::Order(order, sender)).await.is_ok() {
            drop(taken.await);
        }
    }
}

/// The driver's own state.
pub(super) struct Driver {
    core: DataMember,
    context: Arc<Context>,
    node: Node,
    durable: DurableFile,
    links: ControlLinks,
    events: DriverEvents,
    log: Watch<LogPosition>,
    timers: BTreeMap<Timer, Instant>,
    following: Option<Following>,
    /// The pair settings that the members were last taken from.
    settings_version: Option<u64>,
    started: Instant,
}

/// What a driver is made of.
pub(super) struct DriverParts {
    pub(super) core: DataMember,
    pub(super) context: Arc<Context>,
    pub(super) node: Node,
    pub(super) durable: DurableFile,
    pub(super) events: DriverEvents,
    pub(super) log: Watch<LogPosition>,
}

/// How often the pair settings in the state are looked at.
const SETTINGS_EVERY: Duration = Duration::from_millis(250);

impl Driver {
    pub(super) fn new(parts: DriverParts) -> Self {
        Self {
            links: ControlLinks::new(parts.context.clone()),
            core: parts.core,
            context: parts.context,
            node: parts.node,
            durable: parts.durable,
            events: parts.events,
            log: parts.log,
            timers: BTreeMap::new(),
            following: None,
            settings_version: None,
            started: Instant::now(),
        }
    }

    /// Runs until the handles are gone or the process has to start again.
    ///
    /// # Errors
    /// Why the node must stop: its durable state cannot be written.
    pub(super) async fn run(mut self) -> std::io::Result<()> {
        self.take_settings()?;
        let log = self.log_end();
        self.step(Input::Synced { log })?;
        self.step(Input::Start)?;
        let mut settings = tokio::time::interval(SETTINGS_EVERY);
        settings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = self.timers.values().min().copied();
            tokio::select! {
                biased;
                () = self.events.nudges.told.notified() => self.nudged()?,
                event = self.events.own.recv() => match event {
                    None => return Ok(()),
                    Some(event) => self.event(event).await?,
                },
                Some(input) = self.events.peers.recv() => self.step(input)?,
                () = self.log.changed() => self.log_moved()?,
                () = sleep_until(next) => self.fire()?,
                _ = settings.tick() => self.take_settings()?,
                () = self.context.ending.cancelled() => return Ok(()),
            }
        }
    }

    fn nudged(&mut self) -> std::io::Result<()> {
        let nudges = self.events.nudges.clone();
        if nudges.settings.swap(false, Ordering::AcqRel) {
            self.take_settings()?;
        }
        if nudges.committed.swap(false, Ordering::AcqRel) {
            self.equal_to_active()?;
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> std::io::Result<()> {
        match event {
            Event::Leave(told) => {
                self.step(Input::Leave)?;
                self.links.finish(Duration::from_millis(limits::LEAVE_MS_MAX)).await;
                let _ = told.send(());
                Ok(())
            }
            Event::Input(input) => self.step(input),
            Event::Status(asked) => {
                let _ = asked.send(self.core.status(self.now_ms()));
                Ok(())
            }
            Event::Order(order, taken) => {
                self.step(Input::Ordered(order))?;
                let _ = taken.send(());
                Ok(())
            }
        }
    }

    /// The log's durable end moved: by own records, or by those of the active that this node follows.
    fn log_moved(&mut self) -> std::io::Result<()> {
        let end = self.log_end();
        // Without this the active would never notice that the standby's ack is overdue.
        self.step(Input::Written { index: end.index })?;
        self.step(Input::Synced { log: end })?;
        self.equal_to_active()
    }

    /// While this node follows with an equal log, what is appended came from the active and continued it.
    fn equal_to_active(&mut self) -> std::io::Result<()> {
        let Some(following) = self.following.as_ref().filter(|following| following.is_equal()) else { return Ok(()) };
        let (epoch, commit) = (following.epoch(), following.commit());
        let index = self.log.peek().index;
        self.step(Input::Compared { epoch, relation: Relation::Equal { index }, commit })
    }

    fn log_end(&mut self) -> LogEnd {
        let position = self.log.look();
        LogEnd { epoch: Epoch(position.epoch), index: position.index }
    }

    fn fire(&mut self) -> std::io::Result<()> {
        let now = Instant::now();
        let due: Vec<Timer> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in due {
            // An earlier one of them may have armed it anew.
            if self.timers.get(&timer).is_some_and(|at| *at <= now) {
                self.timers.remove(&timer);
                self.step(Input::Fired(timer))?;
            }
        }
        Ok(())
    }

    /// Tells the protocol when the members changed: the pair settings live in the log.
    fn take_settings(&mut self) -> std::io::Result<()> {
        let settings = self.context.settings.refresh(&self.node)?;
        self.tell_face(&settings);
        self.context.notices.write(&self.node);
        let own = self.node.log().last_durable_index();
        let active = self.context.active_epoch.get().is_some();
        let last = if active { own } else { self.context.lag.latest().last };
        self.context.lag.sample(self.context.now_ms(), last);
        if self.settings_version == Some(settings.version()) {
            return Ok(());
        }
        self.settings_version = Some(settings.version());
        let (peer, witness) = settings.others(self.context.member);
        self.context.allow(&settings);
        self.node.set_level(settings.level().min(self.context.identity.level));
        self.links.connect(&settings);
        self.node.set_alone(peer.is_none() && witness.is_none());
        self.step(Input::Settings(settings.protocol()))?;
        let removed = settings.version() > 0 && settings.member(self.context.member).is_none();
        self.step(if removed { Input::Removed } else { Input::Members { peer, witness } })
    }

    /// Tells clients the nodes' addresses and which is active.
    fn tell_face(&self, settings: &PairSettings) {
        let nodes = settings.client_urls();
        if nodes.is_empty() {
            return; // no pair: the own address is told already
        }
        let active = self.core.status(self.now_ms()).active.and_then(|member| settings.member(member));
        self.context.face.set(nodes, active.map(|member| member.client_url.clone()).filter(|url| !url.is_empty()));
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// One step of the protocol, and whatever follows from it at once.
    fn step(&mut self, input: Input) -> std::io::Result<()> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now_ms = self.now_ms();
            for effect in self.core.step(input, now_ms) {
                self.execute(effect, &mut inputs)?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) -> std::io::Result<()> {
        match effect {
            Effect::Persist => self.durable.save(self.core.durable())?,
            Effect::Send { to, message } => self.send(to, message),
            Effect::Arm { timer, after_ms } => {
                self.timers.insert(timer, Instant::now() + Duration::from_millis(after_ms));
            }
            Effect::Disarm(timer) => drop(self.timers.remove(&timer)),
            Effect::Follow { active, epoch } => {
                self.tell_face(&self.context.settings.latest());
                self.follow(active, epoch);
            }
            Effect::Unfollow => {
                self.following = None;
                self.node.unfollow();
            }
            Effect::Activate { epoch } => {
                self.following = None;
                self.context.active_epoch.set(Some(epoch));
                self.tell_face(&self.context.settings.latest());
                // Refused only while the node stops.
                drop(self.node.activate(epoch.0));
            }
            Effect::StepDown => {
                self.context.active_epoch.set(None);
                // Before anybody is sent away, so that nobody is sent here.
                self.tell_face(&self.context.settings.latest());
                self.node.step_down();
                self.context.close_sessions();
            }
            Effect::Commit { index } => {
                self.node.commit(index);
                self.context.committed.set(index);
            }
            Effect::HoldWrites(held) => {
                self.node.hold_writes(held);
                let log = self.log_end();
                inputs.extend([Input::Written { index: log.index }, Input::Synced { log }]);
            }
            Effect::Isolate(isolated) => {
                self.node.set_isolated(isolated);
                if isolated {
                    self.context.close_sessions();
                }
            }
            Effect::Rewind { fork } => self.context.restart(Restart::Rewind { fork })?,
            Effect::Bootstrap => self.bootstrap(),
            Effect::Probe => self.probe(),
            Effect::Notice(notice) => self.notice(notice),
        }
        Ok(())
    }

    /// Acks travel on the link that brought the records; everything else on the control links.
    fn send(&self, to: Member, message: Message) {
        match (&message, &self.following) {
            (Message::Ack { .. }, Some(following)) if following.active() == to => following.ack(message),
            _ => self.links.send(to, message),
        }
    }

    fn follow(&mut self, active: Member, epoch: Epoch) {
        if self.following.as_ref().is_some_and(|following| following.is(active, epoch)) {
            return;
        }
        self.following = None; // the old one ends before the new one begins
        self.following = Some(follower::start(self.context.clone(), self.node.clone(), (active, epoch)));
    }

    fn bootstrap(&mut self) {
        if let Some(following) = &self.following {
            following.bootstrap();
        }
    }

    fn probe(&self) {
        let context = self.context.clone();
        tokio::spawn(async move {
            let settings = context.settings.latest();
            let reference = async {
                match settings.reference() {
                    Some(address) => probe::lives(&*context.net, address).await,
                    None => true,
                }
            };
            let peer = async {
                match settings.others(context.member).0 {
                    Some(peer) => probe::answers(&context, peer).await,
                    None => false,
                }
            };
            let (reference_answers, peer_answers) = tokio::join!(reference, peer);
            context.driver.input(Input::Probed { reference_answers, peer_answers });
        });
    }

    fn notice(&self, notice: Notice) {
        let in_pair = self.context.settings.latest().version() > 0;
        self.context.notices.tell(notice, (self.context.now_ms(), in_pair));
    }
}

/// Waits until `at`; for ever when there is no time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
