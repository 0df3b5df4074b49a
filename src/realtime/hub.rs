//! The hub: who is connected, who gets what. The apply thread publishes through it in log order.
//!
//! - A session gets durable events in the order of their positions, each once.
//! - Publishing never waits for a session.
//! - Subscribing and catching up happen under the same lock as publishing, so nothing falls between them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::frame;
use super::outbox::CloseReason;
use super::ring::{Content, Kept, Ring};
use super::session::Session;
use crate::core::event::{Audience, Event};
use crate::core::ids::{ChannelId, SessionId, UserId};
use crate::core::rows::Role;
use crate::limits;
use crate::node::{EventSink, Published};

/// Numbers for the status page and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Connected sessions.
    pub sessions: usize,
    /// Users with at least one connected session.
    pub users_online: usize,
    /// Frames handed to sessions since the start.
    pub deliveries: u64,
}

#[derive(Default)]
struct State {
    channels: HashMap<ChannelId, Vec<Arc<Session>>>,
    users: HashMap<UserId, Vec<Arc<Session>>>,
    ring: Ring,
    /// The log position up to which everything was published.
    pos: u64,
    /// Users whose presence changed since the last tick, with whether they were online then.
    presence_before: HashMap<UserId, bool>,
}

/// The hub. Clones share it.
#[derive(Clone, Default)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    deliveries: Arc<AtomicU64>,
}

/// A session about to join.
pub(super) struct Joining<'a, E> {
    pub(super) session: &'a Arc<Session>,
    /// The position up to which the client has seen everything, if it was here before.
    pub(super) since: Option<u64>,
    /// Asks for the user's channels. Called under the hub's lock, so that the answer is neither older nor newer than
    /// the events that follow.
    pub(super) channels: &'a dyn Fn() -> Result<Vec<ChannelId>, E>,
    /// Makes the first frame from the position from which events follow, and whether what was missed comes too.
    pub(super) greeting: &'a dyn Fn(u64, bool) -> Bytes,
}

impl Hub {
    /// Connects a session: its first frame is the greeting, then comes what it missed, then what happens.
    pub(super) fn join<E>(&self, joining: &Joining<'_, E>) -> Result<(), E> {
        let session = joining.session;
        let mut state = self.state.lock();
        let channels: HashSet<ChannelId> = (joining.channels)()?.into_iter().collect();
        // A position that was never reached is one of another history, such as before a restore: start afresh.
        let since = joining.since.filter(|pos| *pos <= state.pos);
        let missed = since.and_then(|pos| missed(&mut state.ring, pos, (session, &channels)));
        // The connection's own task joins, so nobody needs to be woken.
        drop(session.outbox.push((joining.greeting)(state.pos, missed.is_some())));
        for frame in missed.into_iter().flatten() {
            drop(session.outbox.push(frame));
        }
        for channel in channels {
            session.subscribe(channel);
            state.channels.entry(channel).or_default().push(session.clone());
        }
        let devices = state.users.entry(session.user).or_default();
        devices.push(session.clone());
        if devices.len() == 1 {
            state.presence_before.entry(session.user).or_insert(false);
        }
        Ok(())
    }

    /// Disconnects a session.
    pub(super) fn leave(&self, session: &Arc<Session>, channels: impl IntoIterator<Item = ChannelId>) {
        let mut state = self.state.lock();
        for channel in channels {
            state.unsubscribe(channel, |other| Arc::ptr_eq(other, session));
        }
        let Some(devices) = state.users.get_mut(&session.user) else { return };
        devices.retain(|other| !Arc::ptr_eq(other, session));
        if devices.is_empty() {
            state.users.remove(&session.user);
            state.presence_before.entry(session.user).or_insert(true);
        }
    }

    /// The log position up to which everything was published.
    #[must_use]
    pub fn pos(&self) -> u64 {
        self.state.lock().pos
    }

    /// Tells the other members of a channel that somebody types. Not durable, not kept.
    pub fn typing(&self, channel: ChannelId, user: UserId) {
        #[derive(serde::Serialize)]
        struct Typing {
            event: &'static str,
            channel_id: ChannelId,
            user_id: UserId,
        }
        let bytes = encode(&Typing { event: "typing", channel_id: channel, user_id: user });
        let state = self.state.lock();
        let others = state.channels.get(&channel).into_iter().flatten().filter(|session| session.user != user);
        let wakes: Vec<Waker> = others.filter_map(|session| session.outbox.push(bytes.clone())).collect();
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// The users who are online.
    #[must_use]
    pub fn online(&self) -> Vec<UserId> {
        self.state.lock().users.keys().copied().collect()
    }

    /// Tells everybody whose presence changed since the last call. Called about once a second: people who come and go
    /// in between are not mentioned, and a thousand who arrive together are one frame.
    pub fn tick_presence(&self) {
        #[derive(serde::Serialize)]
        struct Presence {
            event: &'static str,
            online: Vec<UserId>,
            offline: Vec<UserId>,
        }
        let mut state = self.state.lock();
        let before = std::mem::take(&mut state.presence_before);
        let (mut online, mut offline) = (Vec::new(), Vec::new());
        for (user, was_online) in before {
            match (was_online, state.users.contains_key(&user)) {
                (false, true) => online.push(user),
                (true, false) => offline.push(user),
                _ => {}
            }
        }
        if online.is_empty() && offline.is_empty() {
            return;
        }
        let bytes = encode(&Presence { event: "presence", online, offline });
        let insiders = state.users.values().flatten().filter(|session| !session.is_guest());
        let wakes: Vec<Waker> = insiders.filter_map(|session| session.outbox.push(bytes.clone())).collect();
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// Pings every session, and closes those that have expired or have been silent for too long. Called every
    /// [`limits::WS_PING_SECONDS`]; one shared frame, no timer per connection.
    pub fn tick_pings(&self, now: Instant, now_ms: u64) {
        let mut ping = BytesMut::new();
        frame::encode_ping(&mut ping, b"");
        let ping = ping.freeze();
        let sessions: Vec<Arc<Session>> = self.state.lock().users.values().flatten().cloned().collect();
        for session in sessions {
            if session.silent_seconds(now) >= limits::WS_SILENT_SECONDS_MAX {
                session.outbox.close(CloseReason::Silent);
            } else if now_ms >= session.expires_ms {
                session.outbox.close(CloseReason::Unauthenticated);
            } else if let Some(waker) = session.outbox.push(ping.clone()) {
                waker.wake();
            }
        }
    }

    /// Closes every session.
    pub fn close_all(&self, reason: CloseReason) {
        let sessions: Vec<Arc<Session>> = self.state.lock().users.values().flatten().cloned().collect();
        for session in sessions {
            session.outbox.close(reason);
        }
    }

    /// Numbers for the status page and the metrics.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let state = self.state.lock();
        HubStats {
            sessions: state.users.values().map(Vec::len).sum(),
            users_online: state.users.len(),
            deliveries: self.deliveries.load(Ordering::Relaxed),
        }
    }
}

/// The frames that a session missed, or `None` when some are gone.
fn missed(ring: &mut Ring, pos: u64, who: (&Session, &HashSet<ChannelId>)) -> Option<Vec<Bytes>> {
    let (session, channels) = who;
    let mine = |audience: &Audience| match audience {
        Audience::Channel(channel) => channels.contains(channel),
        Audience::User(user) => *user == session.user,
        Audience::Everyone => !session.is_guest(),
        Audience::Node => false,
    };
    let frames = ring.after(pos, mine)?;
    // More than the session's queue takes would only close it again: a fresh page is the shorter way.
    let bytes: usize = frames.iter().map(|frame| frame.len() + limits::SESSION_FRAME_OVERHEAD_BYTES).sum();
    (bytes <= limits::SESSION_QUEUE_BYTES_MAX / 2).then_some(frames)
}

impl State {
    fn unsubscribe(&mut self, channel: ChannelId, matches: impl Fn(&Arc<Session>) -> bool) {
        if let Some(sessions) = self.channels.get_mut(&channel) {
            sessions.retain(|session| !matches(session));
            if sessions.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// Hands a frame to everybody in the audience; returns how many that were.
    fn deliver(&self, audience: Audience, frame: &Bytes, wakes: &mut Vec<Waker>) -> usize {
        let mut count = 0;
        let mut push = |session: &Arc<Session>| {
            count += 1;
            wakes.extend(session.outbox.push(frame.clone()));
        };
        match audience {
            Audience::Channel(channel) => self.channels.get(&channel).into_iter().flatten().for_each(&mut push),
            Audience::User(user) => self.users.get(&user).into_iter().flatten().for_each(&mut push),
            Audience::Everyone => self.users.values().flatten().filter(|s| !s.is_guest()).for_each(&mut push),
            Audience::Node => {}
        }
        count
    }

    /// Keeps an event for whoever is away. Whoever is removed from a channel is no longer in its audience when it comes
    /// back, so the removal is kept for it by name too.
    fn keep(&mut self, published: &Published, content: Content) {
        let pos = published.pos;
        if let Event::MemberRemoved { user_id, .. } = published.event {
            self.ring.push(Kept { pos, audience: Audience::User(user_id), content: content.clone() });
        }
        let audience = published.event.audience();
        if audience != Audience::Node {
            self.ring.push(Kept { pos, audience, content });
        }
    }

    /// Whether an event is needed as a frame now. A message that nobody hears is not: most of a standby's work would be
    /// for frames that nobody ever gets.
    fn needs_frame(&self, event: &Event) -> bool {
        match event {
            Event::MessageCreated { message } | Event::MessageUpdated { message } => {
                self.channels.contains_key(&message.channel_id)
            }
            _ => true,
        }
    }

    /// A guest hears of nobody but of itself.
    fn deliver_to_guest(&self, event: &Event, frame: &Bytes, wakes: &mut Vec<Waker>) -> usize {
        let Event::UserUpdated { user } = event else { return 0 };
        let own = self.users.get(&user.id).into_iter().flatten().filter(|session| session.is_guest());
        own.map(|session| wakes.extend(session.outbox.push(frame.clone()))).count()
    }

    /// Keeps the subscriptions in step with the memberships, and ends the sockets of ended sessions.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::MemberAdded { channel_id, member } => {
                let sessions = self.users.get(&member.user_id).cloned().unwrap_or_default();
                for session in sessions {
                    if session.subscribe(*channel_id) {
                        self.channels.entry(*channel_id).or_default().push(session);
                    }
                }
            }
            Event::MemberRemoved { channel_id, user_id } => {
                self.unsubscribe(*channel_id, |session| session.user == *user_id);
                for session in self.users.get(user_id).into_iter().flatten() {
                    session.unsubscribe(*channel_id);
                }
            }
            Event::SessionEnded { user, session } => self.end_session(*user, *session),
            Event::UserUpdated { user } => {
                for session in self.users.get(&user.id).into_iter().flatten() {
                    session.set_guest(user.role == Role::Guest);
                }
            }
            _ => {}
        }
    }

    fn end_session(&self, user: UserId, ended: SessionId) {
        for session in self.users.get(&user).into_iter().flatten() {
            if session.session == ended {
                session.outbox.close(CloseReason::Unauthenticated);
            }
        }
    }
}

impl EventSink for Hub {
    fn start_from(&self, pos: u64) {
        let mut state = self.state.lock();
        state.ring = Ring::new(pos);
        state.pos = pos;
    }

    fn publish(&self, events: &[Published], pos: u64, wakes: &mut Vec<Waker>) {
        let wanted: Vec<bool> = {
            let state = self.state.lock();
            events.iter().map(|published| state.needs_frame(&published.event)).collect()
        };
        let frames = encode_all(events, &wanted);
        let mut state = self.state.lock();
        let mut count = 0;
        for (at, (published, frame)) in events.iter().zip(frames).enumerate() {
            let event = &published.event;
            // Somebody may have come since, also by an event before this one.
            if frame.is_none() && !state.needs_frame(event) {
                state.keep(published, Content::Message(Box::new((event.clone(), told_pos(events, at)))));
                continue;
            }
            let frame = frame.unwrap_or_else(|| encode_event(event, told_pos(events, at)));
            count += state.deliver_to_guest(event, &frame, wakes);
            // Whoever is removed still learns of it; whoever is added hears of it by `channel.created`.
            count += state.deliver(event.audience(), &frame, wakes);
            state.follow(event);
            state.keep(published, Content::Frame(frame));
        }
        state.pos = state.pos.max(pos);
        drop(state);
        self.deliveries.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// The position that an event's frame tells. Of an entry's events only the last one says that the whole entry was seen: a
/// client that is cut off before gets them again. Messages are one event each, so they never come twice.
fn told_pos(events: &[Published], at: usize) -> u64 {
    let Some(published) = events.get(at) else { return 0 };
    let more = events.get(at + 1).is_some_and(|next| next.pos == published.pos);
    if more { published.pos - 1 } else { published.pos }
}

/// An event with its position, as clients see it.
#[derive(serde::Serialize)]
struct WithPos<'a> {
    #[serde(flatten)]
    event: &'a Event,
    pos: PosText,
}

/// Encodes one event.
pub(super) fn encode_event(event: &Event, told: u64) -> Bytes {
    encode(&WithPos { event, pos: PosText(told) })
}

/// Encodes those of a batch that are wanted into one allocation; each frame is a slice of it.
fn encode_all(events: &[Published], wanted: &[bool]) -> Vec<Option<Bytes>> {
    let mut payload = Vec::new();
    let count = wanted.iter().filter(|wanted| **wanted).count();
    let mut frames = BytesMut::with_capacity(count * limits::EVENT_BYTES_TYPICAL);
    let mut ends = Vec::with_capacity(events.len());
    for (at, (published, wanted)) in events.iter().zip(wanted).enumerate() {
        payload.clear();
        if *wanted && !matches!(published.event, Event::SessionEnded { .. }) {
            write_json(&mut payload, &WithPos { event: &published.event, pos: PosText(told_pos(events, at)) });
            frame::encode_text(&mut frames, &payload);
        }
        ends.push(wanted.then_some(frames.len()));
    }
    let frames = frames.freeze();
    let mut start = 0;
    let slice = |end: Option<usize>| {
        let frame = frames.slice(start..end?);
        start = end?;
        Some(frame)
    };
    ends.into_iter().map(slice).collect()
}

/// A position in its JSON form: a string, as JavaScript's numbers cannot hold 64 bits.
struct PosText(u64);

impl serde::Serialize for PosText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A complete text frame with a value's JSON.
pub(super) fn encode(value: &impl serde::Serialize) -> Bytes {
    let mut payload = Vec::with_capacity(limits::EVENT_BYTES_TYPICAL);
    write_json(&mut payload, value);
    let mut bytes = BytesMut::with_capacity(payload.len() + frame::HEADER_BYTES_MAX);
    frame::encode_text(&mut bytes, &payload);
    bytes.freeze()
}

fn write_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out.writer(), value).expect("our own shapes have string keys, and a Vec takes every write");
}
