//! One WebSocket session: `hello`, then requests in and events out until one side ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{self, Incoming};
use super::hub::{Hub, Joining};
use super::outbox::{CloseReason, Outbox};
use super::protocol::{self, Empty, HelloBody, Op, PosBody};
use super::read_marks::ReadMarks;
use super::socket::{Socket, Step};
use crate::api::ApiError;
use crate::auth::{Identity, authenticate};
use crate::core::command::{Actor, Command, DeleteMessage, EditMessage, Envelope, SendMessage};
use crate::core::ids::{ChannelId, SessionId, UserId};
use crate::core::keys::Key;
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, View, ViewError, ViewExt};
use crate::limits;
use crate::node::{Answer, AnswerSink, Node, ProposeError, ReplyTo, Role as NodeRole, now_ms};
use crate::replication::Face;

/// What every session works with.
#[derive(Clone)]
pub struct SessionContext {
    /// The node.
    pub node: Node,
    /// The hub.
    pub hub: Hub,
    /// The read marks.
    pub read_marks: ReadMarks,
    /// What clients are told of the pair.
    pub face: Face,
}

/// A new connection.
pub struct Arrival {
    /// The bearer token of the upgrade request, if it had one.
    pub token: Option<String>,
}

/// The part of a session that the hub and the node's threads see.
pub(super) struct Session {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    /// When the session ends, in Unix milliseconds.
    pub(super) expires_ms: u64,
    /// Sees only what concerns its channels; follows the user's role.
    guest: AtomicBool,
    pub(super) outbox: Outbox,
    channels: Mutex<Vec<ChannelId>>,
    unanswered: AtomicU32,
    started: Instant,
    /// When the client was last heard, in seconds after `started`.
    heard_seconds: AtomicU64,
}

impl Session {
    fn new(identity: &Identity) -> Self {
        Self {
            user: UserId(identity.user.id),
            session: SessionId(identity.session.id),
            expires_ms: identity.session.expires_ms,
            guest: AtomicBool::new(identity.user.role() == Role::Guest),
            outbox: Outbox::default(),
            channels: Mutex::default(),
            unanswered: AtomicU32::new(0),
            started: Instant::now(),
            heard_seconds: AtomicU64::new(0),
        }
    }

    /// Whether the user is a guest.
    pub(super) fn is_guest(&self) -> bool {
        self.guest.load(Ordering::Relaxed)
    }

    /// Follows a change of the user's role.
    pub(super) fn set_guest(&self, guest: bool) {
        self.guest.store(guest, Ordering::Relaxed);
    }

    /// Notes a channel; false when it was known.
    pub(super) fn subscribe(&self, channel: ChannelId) -> bool {
        let mut channels = self.channels.lock();
        let new = !channels.contains(&channel);
        if new {
            channels.push(channel);
        }
        new
    }

    /// Forgets a channel.
    pub(super) fn unsubscribe(&self, channel: ChannelId) {
        self.channels.lock().retain(|other| *other != channel);
    }

    fn heard(&self) {
        self.heard_seconds.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// For how long the client has said nothing, in seconds.
    pub(super) fn silent_seconds(&self, now: Instant) -> u64 {
        let heard = self.started + Duration::from_secs(self.heard_seconds.load(Ordering::Relaxed));
        now.saturating_duration_since(heard).as_secs()
    }
}

impl AnswerSink for Session {
    fn answer(&self, tag: &str, result: Result<&Answer, &ProposeError>) -> Option<Waker> {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        self.outbox.push(protocol::answer(tag, result))
    }
}

/// Serves a connection to its end.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(context: SessionContext, stream: S, arrival: Arrival) {
    let mut socket = Socket::new(stream);
    let patience = Duration::from_secs(limits::WS_HELLO_SECONDS_MAX);
    let greeted = match tokio::time::timeout(patience, greet(&context, &mut socket, arrival)).await {
        Ok(greeted) => greeted,
        Err(_) => Err(CloseReason::HelloTimeout),
    };
    match greeted {
        Ok(session) => {
            let reason = converse(&context, &mut socket, &session).await;
            let channels = std::mem::take(&mut *session.channels.lock());
            context.hub.leave(&session, channels);
            socket.close(reason).await;
        }
        Err(reason) => socket.close(reason).await,
    }
}

/// Waits for `hello` and connects the session to the hub.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    context: &SessionContext,
    socket: &mut Socket<S>,
    arrival: Arrival,
) -> Result<Arc<Session>, CloseReason> {
    let text = first_message(socket).await?;
    let refuse = |socket: &mut Socket<S>, id: Option<&str>, error: &ApiError, reason| {
        socket.push(protocol::error(id, error));
        Err(reason)
    };
    let (id, op) = match protocol::parse(&text) {
        Ok(request) => request,
        Err(m) => return refuse(socket, m.id.as_deref(), &m.error, CloseReason::Protocol),
    };
    let Op::Hello { token, pos } = op else {
        let error = ApiError::invalid_body("the first request must be `hello`".to_owned());
        return refuse(socket, Some(&id), &error, CloseReason::Protocol);
    };
    if context.node.role() != NodeRole::Active {
        let error = ApiError::from(&ProposeError::NotActive).with_nodes(&context.face);
        return refuse(socket, Some(&id), &error, CloseReason::NotActive);
    }
    let Some(token) = token.or(arrival.token) else {
        return refuse(socket, Some(&id), &ApiError::unauthenticated(), CloseReason::Unauthenticated);
    };
    let identity = match authenticate(context.node.projection(), &token, now_ms()) {
        Ok(identity) if identity.user.must_change_password => {
            return refuse(socket, Some(&id), &ApiError::password_change_required(), CloseReason::Unauthenticated);
        }
        Ok(identity) => identity,
        Err(error) => return refuse(socket, Some(&id), &error.into(), CloseReason::Unauthenticated),
    };
    let session = Arc::new(Session::new(&identity));
    join(context, &session, (&id, pos)).map_err(|error| {
        tracing::error!(%error, "a session could not be opened");
        CloseReason::ShuttingDown
    })?;
    Ok(session)
}

/// Connects a session: the answer to `hello` comes first, then what it missed, then what happens.
fn join(context: &SessionContext, session: &Arc<Session>, hello: (&str, Option<u64>)) -> Result<(), ViewError> {
    let (id, since) = hello;
    let greeting = |pos, resumed| {
        let (user_id, session_id) = (session.user, session.session);
        protocol::ok(id, HelloBody { user_id, session_id, pos, resumed, addresses: &context.face.nodes() })
    };
    let channels = || own_channels(context.node.projection(), session.user);
    context.hub.join(&Joining { session, since, channels: &channels, greeting: &greeting })
}

/// The channels of a user.
fn own_channels(view: &impl View, user: UserId) -> Result<Vec<ChannelId>, ViewError> {
    let range = Key::Membership(user, ChannelId(0))..=Key::Membership(user, ChannelId(u64::MAX));
    let rows = view.rows::<rows::Membership>(range, Direction::Up, usize::MAX)?;
    Ok(rows.into_iter().filter_map(|(key, _)| if let Key::Membership(_, id) = key { Some(id) } else { None }).collect())
}

/// The first text message of a connection.
async fn first_message<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) -> Result<Bytes, CloseReason> {
    loop {
        match std::future::poll_fn(|cx| socket.poll_read(cx)).await {
            Step::Input => {}
            Step::Close(reason) => return Err(reason),
            Step::Gone => return Err(CloseReason::Gone),
        }
        match socket.decode() {
            Ok(None | Some(Incoming::Ping(_) | Incoming::Pong(_))) => {}
            Ok(Some(Incoming::Text(text))) => return Ok(text),
            Ok(Some(Incoming::Binary(_))) => return Err(CloseReason::Protocol),
            Ok(Some(Incoming::Close { .. })) => return Err(CloseReason::Gone),
            Err(error) => return Err(CloseReason::Frame(error.close_code())),
        }
    }
}

/// Requests in, events out, until the end; returns why it ended.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    context: &SessionContext,
    socket: &mut Socket<S>,
    session: &Arc<Session>,
) -> CloseReason {
    loop {
        match std::future::poll_fn(|cx| socket.poll_step(cx, &session.outbox)).await {
            Step::Input => session.heard(),
            Step::Close(reason) => return reason,
            Step::Gone => return CloseReason::Gone,
        }
        loop {
            match socket.decode() {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => {
                    request(context, session, &text);
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    let mut pong = BytesMut::new();
                    frame::encode_pong(&mut pong, &payload);
                    drop(session.outbox.push(pong.freeze()));
                }
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Binary(_))) => return CloseReason::Protocol,
                Ok(Some(Incoming::Close { .. })) => return CloseReason::Gone,
                Err(error) => return CloseReason::Frame(error.close_code()),
            }
        }
    }
}

/// Carries out one request.
fn request(context: &SessionContext, session: &Arc<Session>, text: &[u8]) {
    // The connection's own task is awake: its waker is not registered, so nothing of these pushes needs a wake.
    let say = |frame: Bytes| drop(session.outbox.push(frame));
    let (id, op) = match protocol::parse(text) {
        Ok(request) => request,
        Err(malformed) => {
            say(protocol::error(malformed.id.as_deref(), &malformed.error));
            if malformed.id.is_none() {
                session.outbox.close(CloseReason::Protocol); // after the error has been written
            }
            return;
        }
    };
    match op {
        Op::Hello { .. } => say(protocol::error(Some(&id), &ApiError::invalid_body("already greeted".to_owned()))),
        Op::Ping => say(protocol::ok(&id, PosBody { pos: context.hub.pos() })),
        Op::Read { channel, seq } => {
            context.read_marks.note(session.user, channel, seq);
            say(protocol::ok(&id, Empty {}));
        }
        Op::Typing { channel } => {
            if session.channels.lock().contains(&channel) {
                context.hub.typing(channel, session.user);
            }
            say(protocol::ok(&id, Empty {}));
        }
        Op::Send { channel, client_id, body } => {
            let command = Command::SendMessage(SendMessage { channel: channel.0, client_id, body });
            propose(context, session, (id, command));
        }
        Op::Edit { channel, seq, version, body } => {
            let command = Command::EditMessage(EditMessage { channel: channel.0, seq, version, body });
            propose(context, session, (id, command));
        }
        Op::Delete { channel, seq, version } => {
            let command = Command::DeleteMessage(DeleteMessage { channel: channel.0, seq, version });
            propose(context, session, (id, command));
        }
    }
}

/// Proposes a change; the answer comes through the session's queue.
fn propose(context: &SessionContext, session: &Arc<Session>, request: (Box<str>, Command)) {
    let (id, command) = request;
    if session.unanswered.fetch_add(1, Ordering::Relaxed) >= limits::WS_UNANSWERED_MAX {
        session.answer(&id, Err(&ProposeError::Busy));
        return;
    }
    let envelope = Envelope { actor: Some(Actor::user_only(session.user)), command: Some(command) };
    let reply = ReplyTo::Sink { sink: session.clone(), tag: id.clone() };
    if let Err(error) = context.node.propose_into(&envelope, reply) {
        session.answer(&id, Err(&error));
    }
}
