//! A lean WebSocket client: many of them on one thread, at well under a microsecond per event.
//!
//! All sockets of a thread read into one shared buffer and frames are read in place there; only the part of a frame that
//! is cut off at the end is kept per socket. So an idle socket holds no buffer, and the buffer stays in the cache.
//!
//! The `Sec-WebSocket-Accept` header is not checked: it guards against caches in between, and there are none here.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::client::{Endpoint, Stream};
use super::error::BenchError;
use super::text::Picker;
use crate::limits::{BENCH_CONNECT_SECONDS_MAX, BENCH_FRAME_BYTES_MAX, BENCH_READ_BYTES};
use crate::realtime::frame::{self, Opcode};

/// The buffer that all sockets of a thread read into.
pub type SharedBuffer = Rc<RefCell<Vec<u8>>>;

/// A buffer for all sockets of this thread.
#[must_use]
pub fn shared_buffer() -> SharedBuffer {
    Rc::new(RefCell::new(vec![0; BENCH_READ_BYTES + BENCH_FRAME_BYTES_MAX]))
}

/// Frames that wait to be written.
#[derive(Debug)]
pub struct Outbox {
    bytes: BytesMut,
    keys: Picker,
}

impl Outbox {
    /// Queues a text frame.
    pub fn text(&mut self, payload: &[u8]) {
        let key = self.key();
        frame::encode_text_masked(&mut self.bytes, payload, key);
    }

    fn key(&mut self) -> [u8; 4] {
        (self.keys.next() as u32).to_ne_bytes()
    }
}

/// What a turn of a socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something was read or written.
    Progress,
    /// The server ended the connection, with this close code if it said one.
    Closed(Option<u16>),
}

/// One WebSocket that said hello.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// The start of a frame that was cut off at the end of the last read.
    tail: Vec<u8>,
    /// What waits to be written.
    pub out: Outbox,
    must_flush: bool,
    buffer: SharedBuffer,
}

/// Who says hello, and from where.
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    /// The session's token.
    pub token: &'a str,
    /// The log position to resume from.
    pub pos: Option<u64>,
    /// The source address to connect from.
    pub source: Option<IpAddr>,
}

impl Socket {
    /// Connects, upgrades and says hello. Gives the server's answer to it, too.
    ///
    /// # Errors
    /// Any of these failed.
    pub async fn connect(
        endpoint: &Endpoint,
        hello: &Hello<'_>,
        buffer: &SharedBuffer,
    ) -> Result<(Self, Value), BenchError> {
        let op = || "open a WebSocket".to_owned();
        let opening = async {
            let mut stream = endpoint.connect(hello.source).await?;
            let tail = upgrade(&mut stream, endpoint.authority()).await?;
            let seed = u64::from_ne_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().expect("a UUID has 16 bytes"));
            let out = Outbox { bytes: BytesMut::new(), keys: Picker::new(seed) };
            let mut socket = Self { stream, tail, out, must_flush: false, buffer: buffer.clone() };
            let answer = socket.hello(hello).await?;
            Ok((socket, answer))
        };
        match tokio::time::timeout(Duration::from_secs(BENCH_CONNECT_SECONDS_MAX), opening).await {
            Ok(result) => result,
            Err(_) => Err(BenchError::Protocol { op: op(), detail: "no answer in time".to_owned() }),
        }
    }

    async fn hello(&mut self, hello: &Hello<'_>) -> Result<Value, BenchError> {
        let mut request = json!({"id": "hello", "op": "hello", "token": hello.token});
        if let Some(pos) = hello.pos {
            request["pos"] = Value::from(pos.to_string());
        }
        self.out.text(request.to_string().as_bytes());
        // A byte-wise read, once per connection: what follows the answer stays in the stream for the first turn.
        self.flush().await?;
        let mut first = None;
        while first.is_none() {
            first = self.read_one().await?;
        }
        let payload = first.unwrap_or_default();
        let mut answer: Value = serde_json::from_slice(&payload).unwrap_or_default();
        match answer.get_mut("ok").map(Value::take) {
            Some(ok) => Ok(ok),
            None => Err(refusal(&answer["error"], &payload)),
        }
    }

    async fn flush(&mut self) -> Result<(), BenchError> {
        let failed = |error: std::io::Error| BenchError::io("write to a WebSocket", &error);
        while self.out.bytes.has_remaining() {
            self.stream.write_buf(&mut self.out.bytes).await.map_err(failed)?;
        }
        self.stream.flush().await.map_err(failed)
    }

    /// The first text frame, leaving what follows it in `tail`.
    async fn read_one(&mut self) -> Result<Option<Vec<u8>>, BenchError> {
        let op = || "say hello on a WebSocket".to_owned();
        if let Some(header) = frame::parse_header(&self.tail).map_err(|error| broken(error.code()))? {
            let end = header.header_bytes + frame_bytes(&header)?;
            if self.tail.len() >= end {
                let rest = self.tail.split_off(end);
                let whole = std::mem::replace(&mut self.tail, rest);
                let payload = whole[header.header_bytes..].to_vec();
                return match header.opcode {
                    Opcode::Text => Ok(Some(payload)),
                    Opcode::Close => Err(BenchError::Protocol {
                        op: op(),
                        detail: format!("closed: {:?}", close_code(&payload).unwrap_or_default()),
                    }),
                    _ => Ok(None),
                };
            }
        }
        let mut piece = [0; 1024];
        let count = self.stream.read(&mut piece).await.map_err(|error| BenchError::io(op(), &error))?;
        if count == 0 {
            return Err(BenchError::Protocol { op: op(), detail: "the connection ended".to_owned() });
        }
        self.tail.extend_from_slice(&piece[..count]);
        Ok(None)
    }

    /// Writes what waits and reads what is there; waits until at least one of them is possible. `on_text` gets each text
    /// payload and may queue frames. Cancel safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection broke, or the server sent what it must not.
    pub async fn turn(
        &mut self,
        mut on_text: impl FnMut(&mut Outbox, &[u8]) -> Result<(), BenchError>,
    ) -> Result<Turn, BenchError> {
        poll_fn(|cx| self.poll_turn(cx, &mut on_text)).await
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        on_text: &mut impl FnMut(&mut Outbox, &[u8]) -> Result<(), BenchError>,
    ) -> Poll<Result<Turn, BenchError>> {
        let wrote = self.poll_write(cx)?;
        let buffer = self.buffer.clone();
        let mut buffer = buffer.borrow_mut();
        let kept = self.tail.len();
        buffer[..kept].copy_from_slice(&self.tail);
        let mut target = ReadBuf::new(&mut buffer[kept..]);
        let filled = match Pin::new(&mut self.stream).poll_read(cx, &mut target) {
            Poll::Pending if self.tail_has_frame() => 0,
            Poll::Pending => return if wrote { Poll::Ready(Ok(Turn::Progress)) } else { Poll::Pending },
            Poll::Ready(Err(error)) => return Poll::Ready(Err(BenchError::io("read from a WebSocket", &error))),
            Poll::Ready(Ok(())) if target.filled().is_empty() => return Poll::Ready(Ok(Turn::Closed(None))),
            Poll::Ready(Ok(())) => target.filled().len(),
        };
        Poll::Ready(self.take_frames(&buffer[..kept + filled], on_text))
    }

    /// Only after hello: frames that came together with its answer.
    fn tail_has_frame(&self) -> bool {
        frame::parse_header(&self.tail).is_ok_and(|header| {
            header.is_some_and(|header| (self.tail.len() - header.header_bytes) as u64 >= header.payload_bytes)
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, BenchError> {
        let failed = |error: std::io::Error| BenchError::io("write to a WebSocket", &error);
        let mut wrote = false;
        while self.out.bytes.has_remaining() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out.bytes) {
                Poll::Pending => break,
                Poll::Ready(result) => {
                    let count = result.map_err(failed)?;
                    self.out.bytes.advance(count);
                    (wrote, self.must_flush) = (true, true);
                }
            }
        }
        // TLS may hold records that it took but could not write yet.
        if self.must_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    result.map_err(failed)?;
                    self.must_flush = false;
                }
            }
        }
        Ok(wrote)
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        on_text: &mut impl FnMut(&mut Outbox, &[u8]) -> Result<(), BenchError>,
    ) -> Result<Turn, BenchError> {
        let mut rest = bytes;
        while let Some(header) = frame::parse_header(rest).map_err(|error| broken(error.code()))? {
            let payload_bytes = frame_bytes(&header)?;
            let Some(payload) = rest.get(header.header_bytes..header.header_bytes + payload_bytes) else { break };
            match header.opcode {
                Opcode::Text if header.fin => on_text(&mut self.out, payload)?,
                Opcode::Ping => {
                    let key = self.out.key();
                    frame::encode_pong_masked(&mut self.out.bytes, payload, key);
                }
                Opcode::Pong => {}
                Opcode::Close => return Ok(Turn::Closed(close_code(payload))),
                _ => return Err(broken("a binary or fragmented message")),
            }
            rest = &rest[header.header_bytes + payload_bytes..];
        }
        self.tail.clear();
        self.tail.extend_from_slice(rest);
        if self.tail.is_empty() {
            // An idle socket holds no buffer.
            self.tail = Vec::new();
        }
        Ok(Turn::Progress)
    }
}

/// What a hello that was not welcomed means.
fn refusal(error: &Value, payload: &[u8]) -> BenchError {
    let op = "say hello on a WebSocket".to_owned();
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    match text("code") {
        Some(code) if code == "not_active" => {
            let addresses = error["addresses"].as_array().into_iter().flatten();
            let addresses = addresses.filter_map(|address| address.as_str().map(str::to_owned)).collect();
            BenchError::NotActive { active: text("active"), addresses }
        }
        // These pass: the node starts, ends, or has too much to do.
        Some(code) if !matches!(code.as_str(), "busy" | "shutting_down" | "internal") => {
            BenchError::Refused { op, status: 101, code, detail: text("detail").unwrap_or_default() }
        }
        _ => BenchError::Protocol { op, detail: String::from_utf8_lossy(payload).into_owned() },
    }
}

/// The payload's length, checked to fit the shared buffer and to come from a server.
fn frame_bytes(header: &frame::Header) -> Result<usize, BenchError> {
    let fits = header.payload_bytes < (BENCH_FRAME_BYTES_MAX - frame::HEADER_BYTES_MAX) as u64;
    if header.mask.is_none() && fits {
        Ok(header.payload_bytes as usize)
    } else {
        Err(broken("a masked or too long frame"))
    }
}

fn broken(detail: &str) -> BenchError {
    BenchError::Protocol { op: "read from a WebSocket".to_owned(), detail: detail.to_owned() }
}

fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

/// The HTTP part. Gives what the server sent behind it.
async fn upgrade(stream: &mut Stream, authority: &str) -> Result<Vec<u8>, BenchError> {
    let failed = |detail: String| BenchError::Protocol { op: "upgrade to a WebSocket".to_owned(), detail };
    let key = data_encoding::BASE64.encode(uuid::Uuid::new_v4().as_bytes());
    let request = format!(
        "GET /api/v1/ws HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    stream.flush().await.map_err(|error| failed(error.to_string()))?;
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).await.map_err(|error| failed(error.to_string()))?;
        answer.extend_from_slice(&piece[..count]);
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            if !answer.starts_with(b"HTTP/1.1 101 ") {
                return Err(failed(String::from_utf8_lossy(&answer).into_owned()));
            }
            return Ok(answer.split_off(end + 4));
        }
        if count == 0 || answer.len() > 16 * 1024 {
            return Err(failed(String::from_utf8_lossy(&answer).into_owned()));
        }
    }
}
