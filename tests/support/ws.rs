//! A WebSocket client that shares no code with the server: its frames are judged by an independent implementation.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use holdfast::bench::client::{Endpoint, Stream};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::Api;
use super::wait::within;

/// What came on a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// A JSON object.
    Json(Value),
    /// The connection was closed, with this code if one was said.
    Closed(Option<u16>),
}

/// An open WebSocket.
pub(crate) struct Ws {
    socket: WebSocketStream<Stream>,
    /// Events that came while an answer was waited for.
    events: VecDeque<Value>,
    next_id: u64,
    /// The position that a reconnect would name: the highest of hello and every durable event taken so far.
    pub(crate) pos: u64,
}

impl Ws {
    /// Connects and upgrades, with a bearer token in the header if one is given. Says no hello.
    pub(crate) async fn open(endpoint: &Endpoint, token: Option<&str>) -> Result<Self, String> {
        let stream = endpoint.connect(None).await.map_err(|error| error.to_string())?;
        let mut request = format!("ws://{}/api/v1/ws", endpoint.authority()).into_client_request().unwrap();
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let opening = tokio_tungstenite::client_async(request, stream);
        let (socket, _) = within("the WebSocket opens", opening).await.map_err(|error| error.to_string())?;
        Ok(Self { socket, events: VecDeque::new(), next_id: 0, pos: 0 })
    }

    /// Connects and says hello; gives the answer's `ok` too.
    pub(crate) async fn hello(api: &Api, pos: Option<u64>) -> (Self, Value) {
        let mut ws = Self::open(api.endpoint(), None).await.unwrap();
        let mut hello = json!({"op": "hello", "token": api.token()});
        if let Some(pos) = pos {
            hello["pos"] = pos.to_string().into();
        }
        let ok = ws.ask(hello).await;
        // After a resume the missed events come next, each with its own position.
        ws.pos = if ok["resumed"] == true { pos.unwrap_or(0) } else { number(&ok["pos"]) };
        (ws, ok)
    }

    /// Connects and says hello without a position.
    pub(crate) async fn connect(api: &Api) -> Self {
        Self::hello(api, None).await.0
    }

    /// Sends a text frame.
    pub(crate) async fn send_text(&mut self, text: &str) {
        within("a frame is sent", self.socket.send(Message::text(text))).await.unwrap();
    }

    /// Sends a request without waiting for its answer; gives its id.
    pub(crate) async fn request(&mut self, mut body: Value) -> String {
        self.next_id += 1;
        let id = self.next_id.to_string();
        body["id"] = id.clone().into();
        self.send_text(&body.to_string()).await;
        id
    }

    /// Sends a request and waits for the whole answer; events that come before it are kept.
    pub(crate) async fn answer_to(&mut self, body: Value) -> Value {
        let id = self.request(body).await;
        self.answer(&id).await
    }

    /// Waits for the answer to a request; events that come before it are kept.
    pub(crate) async fn answer(&mut self, id: &str) -> Value {
        // It may have come while another one was waited for.
        if let Some(at) = self.events.iter().position(|value| value["id"] == *id) {
            return self.events.remove(at).unwrap_or_default();
        }
        loop {
            match self.read().await {
                Frame::Json(value) if value["id"] == *id => return value,
                Frame::Json(value) => self.events.push_back(value),
                Frame::Closed(code) => panic!("closed ({code:?}) instead of an answer to {id}"),
            }
        }
    }

    /// Sends a request and gives the answer's `ok`.
    pub(crate) async fn ask(&mut self, body: Value) -> Value {
        let answer = self.answer_to(body.clone()).await;
        answer.get("ok").unwrap_or_else(|| panic!("{body} was refused: {answer}")).clone()
    }

    /// Sends a request that must be refused with this code; gives the error.
    pub(crate) async fn refused(&mut self, body: Value, code: &str) -> Value {
        let answer = self.answer_to(body.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
        assert!(answer["error"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer}");
        answer["error"].clone()
    }

    /// Drops the events that came while an answer was waited for; answers that came too early stay.
    pub(crate) fn forget(&mut self) {
        self.events.retain(|value| value.get("event").is_none());
    }

    /// Connects and says hello without a position; an error when the node does not want it or does not answer.
    pub(crate) async fn try_connect(api: &Api) -> Result<Self, Value> {
        let mut ws = Self::open(api.endpoint(), None).await.map_err(Value::from)?;
        ws.try_ask(json!({"op": "hello", "token": api.token()})).await?;
        Ok(ws)
    }

    /// Sends a request and gives the answer's `ok`; else its `error`, or null when the connection ended. Events that come
    /// before it are dropped.
    pub(crate) async fn try_ask(&mut self, mut body: Value) -> Result<Value, Value> {
        self.next_id += 1;
        let id = self.next_id.to_string();
        body["id"] = id.clone().into();
        self.socket.send(Message::text(body.to_string())).await.map_err(|_| Value::Null)?;
        loop {
            match self.read_on().await {
                Frame::Json(mut value) if value["id"] == *id => {
                    return if value["ok"].is_null() { Err(value["error"].take()) } else { Ok(value["ok"].take()) };
                }
                Frame::Json(_) => {}
                Frame::Closed(_) => return Err(Value::Null),
            }
        }
    }

    /// The next event or answer, or the close.
    pub(crate) async fn next(&mut self) -> Frame {
        let frame = match self.events.pop_front() {
            Some(event) => Frame::Json(event),
            None => self.read().await,
        };
        if let Frame::Json(value) = &frame
            && value.get("event").is_some()
            && let Some(pos) = value["pos"].as_str()
        {
            let pos: u64 = pos.parse().unwrap();
            assert!(pos >= self.pos, "positions ascend: {pos} after {}", self.pos);
            self.pos = pos;
        }
        frame
    }

    /// The next event of this kind; others are passed over.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Frame::Json(value) if value["event"] == *kind => return value,
                Frame::Json(_) => {}
                Frame::Closed(code) => panic!("closed ({code:?}) while waiting for {kind}"),
            }
        }
    }

    /// Waits for the close and gives its code; what comes before is passed over.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Frame::Closed(code) = self.next().await {
                return code;
            }
        }
    }

    /// Every event so far: asks for a ping and takes what came before its answer.
    pub(crate) async fn drain(&mut self) -> Vec<Value> {
        let id = self.request(json!({"op": "ping"})).await;
        let answer = self.answer(&id).await;
        let mut taken = Vec::new();
        while !self.events.is_empty() {
            if let Frame::Json(event) = self.next().await {
                taken.push(event);
            }
        }
        self.pos = self.pos.max(number(&answer["ok"]["pos"]));
        taken
    }

    /// Closes it in order.
    pub(crate) async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    /// The socket itself, for what only a rude client does.
    pub(crate) fn socket(&mut self) -> &mut WebSocketStream<Stream> {
        &mut self.socket
    }

    async fn read(&mut self) -> Frame {
        // One deadline for all: the server's pings must not prolong it.
        within("an event, an answer or a close comes", self.read_on()).await
    }

    async fn read_on(&mut self) -> Frame {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Frame::Json(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(close))) => Frame::Closed(close.map(|close| close.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("the server sent {other:?}"),
                None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => Frame::Closed(None),
                Some(Err(Error::Io(_) | Error::Protocol(_))) => Frame::Closed(None),
                Some(Err(error)) => panic!("{error}"),
            };
        }
    }
}

/// A position in its JSON form.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no number in text: {value}"))
}
