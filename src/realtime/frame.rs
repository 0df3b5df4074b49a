//! WebSocket frames (RFC 6455) as bytes in and bytes out: no socket, no clock, no randomness.
//!
//! Why our own: an event is encoded once, as a *complete* frame, and the same bytes go to thousands of sessions; and an
//! idle connection holds no buffer at all, as every buffer belongs to the caller.
//!
//! Must never allocate for a length that a peer only announces, and never accept what the RFC forbids: every refusal is
//! a [`FrameError`] that carries the close code to answer with. Extensions are not negotiated, so reserved bits are errors.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most bytes that a frame header has in front of an unmasked payload: two, and eight of length.
pub const HEADER_BYTES_MAX: usize = 10;
/// The most bytes that the payload of a control frame may have (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Final-frame bit of the first header byte.
const FIN: u8 = 0x80;
/// The three reserved bits of the first header byte.
const RESERVED: u8 = 0x70;
/// Mask bit of the second header byte.
const MASKED: u8 = 0x80;
/// A second-byte length that says: the length is in the next two bytes.
const LENGTH_IS_U16: u8 = 126;
/// A second-byte length that says: the length is in the next eight bytes.
const LENGTH_IS_U64: u8 = 127;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a message.
    Continuation = 0x0,
    /// The first or only part of a text message.
    Text = 0x1,
    /// The first or only part of a binary message.
    Binary = 0x2,
    /// The peer ends the connection.
    Close = 0x8,
    /// The peer wants a pong with the same payload.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xa,
}

impl Opcode {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Which end of the connection a decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reads what clients send: every frame must be masked.
    Server,
    /// Reads what a server sends: no frame may be masked.
    Client,
}

/// Why a peer's bytes are refused. The connection is over: answer with [`close_code`](Self::close_code) and end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit is set, though no extension was agreed on.
    ReservedBits,
    /// The opcode is none of RFC 6455's.
    UnknownOpcode(u8),
    /// A length was written in more bytes than it needs.
    LengthNotMinimal,
    /// A control frame says that more parts follow.
    ControlFragmented,
    /// A control frame's payload is longer than [`CONTROL_BYTES_MAX`].
    ControlTooLong,
    /// A client's frame is not masked.
    MaskMissing,
    /// A server's frame is masked.
    MaskUnexpected,
    /// A continuation without a message that it continues.
    ContinuationUnexpected,
    /// A new message started before the last one ended.
    MessageUnfinished,
    /// A close frame with one byte, or with a code that must not be sent.
    CloseInvalid,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The message is longer than the decoder's bound.
    MessageTooLong,
}

impl FrameError {
    /// The close code to answer with: 1002 protocol error, 1007 not UTF-8, 1009 too big.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::MessageTooLong => 1009,
            _ => 1002,
        }
    }

    /// The stable name of the error, as logs and close reasons carry it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::UnknownOpcode(_) => "unknown_opcode",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::MaskMissing => "mask_missing",
            Self::MaskUnexpected => "mask_unexpected",
            Self::ContinuationUnexpected => "continuation_unexpected",
            Self::MessageUnfinished => "message_unfinished",
            Self::CloseInvalid => "close_invalid",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooLong => "message_too_long",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOpcode(opcode) => write!(f, "websocket frame refused: {} {opcode:#x}", self.code()),
            _ => write!(f, "websocket frame refused: {}", self.code()),
        }
    }
}

impl std::error::Error for FrameError {}

/// The front of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// No part of this message follows.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key the payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the header itself; the payload starts behind them.
    pub header_bytes: usize,
    /// Bytes of the payload, as announced. Bound it before use.
    pub payload_bytes: u64,
}

/// Reads the header at the start of `input`; `None` when it is not all there yet. Bounds of messages and who must mask
/// are the [`Decoder`]'s concern; a reader that scans frames in place uses this directly.
///
/// # Errors
/// What makes a header wrong by itself: reserved bits, unknown opcode, length, fragmented or long control frame.
pub fn parse_header(input: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&first) = input.first() else { return Ok(None) };
    if first & RESERVED != 0 {
        return Err(FrameError::ReservedBits);
    }
    let Some(opcode) = Opcode::from_number(first & 0x0f) else { return Err(FrameError::UnknownOpcode(first & 0x0f)) };
    let fin = first & FIN != 0;
    if opcode.is_control() && !fin {
        return Err(FrameError::ControlFragmented);
    }
    let Some(&second) = input.get(1) else { return Ok(None) };
    let short = second & !MASKED;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(FrameError::ControlTooLong);
    }
    let Some((payload_bytes, length_end)) = parse_length(short, input)? else { return Ok(None) };
    let (mask, header_bytes) = if second & MASKED == 0 {
        (None, length_end)
    } else {
        let Some(key) = input.get(length_end..).and_then(<[u8]>::first_chunk::<4>) else { return Ok(None) };
        (Some(*key), length_end + 4)
    };
    Ok(Some(Header { fin, opcode, mask, header_bytes, payload_bytes }))
}

/// The payload length and the offset behind it, from the 7 bits of the second byte and what follows.
fn parse_length(short: u8, input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let rest = input.get(2..).unwrap_or_default();
    match short {
        LENGTH_IS_U16 => {
            let Some(length) = rest.first_chunk::<2>().map(|bytes| u64::from(u16::from_be_bytes(*bytes))) else {
                return Ok(None);
            };
            if length < u64::from(LENGTH_IS_U16) {
                return Err(FrameError::LengthNotMinimal);
            }
            Ok(Some((length, 4)))
        }
        LENGTH_IS_U64 => {
            let Some(length) = rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)) else {
                return Ok(None);
            };
            if length <= u64::from(u16::MAX) {
                return Err(FrameError::LengthNotMinimal);
            }
            if length >> 63 != 0 {
                return Err(FrameError::MessageTooLong);
            }
            Ok(Some((length, 10)))
        }
        short => Ok(Some((u64::from(short), 2))),
    }
}

/// One message or control frame from the peer. The bytes are a part of the input buffer, not a copy: whoever keeps them
/// long should copy them, or the whole read buffer stays alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message, checked to be UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// The answer to a ping, or unasked for.
    Pong(Bytes),
    /// The peer ends the connection; whatever it sends after this is ignored.
    Close {
        /// The code, or `None` when the frame was empty.
        code: Option<u16>,
        /// The reason, UTF-8, at most 123 bytes.
        reason: Bytes,
    },
}

/// Whether a decoder still reads.
#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Closed,
    Failed(FrameError),
}

/// Turns a peer's bytes into messages.
///
/// - Holds memory only while a message of several frames is incomplete, and then at most `message_bytes_max`.
/// - Refuses a message that is too long at the frame that announces it, before its bytes arrive.
/// - After an error every call gives the same error; after a close frame every input is dropped.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    message_bytes_max: usize,
    /// The kind of the message of which parts came so far; `None` between messages.
    unfinished: Option<Opcode>,
    /// Those parts.
    parts: BytesMut,
    state: State,
}

impl Decoder {
    /// A decoder at one end of a new connection, for messages of at most `message_bytes_max` bytes.
    #[must_use]
    pub fn new(side: Side, message_bytes_max: usize) -> Self {
        Self { side, message_bytes_max, unfinished: None, parts: BytesMut::new(), state: State::Open }
    }

    /// Takes the next message or control frame from the start of `input`; `None` when more bytes are needed. Call it
    /// until it gives `None`, then read more.
    ///
    /// # Errors
    /// What the peer must not send; the connection is over then.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, FrameError> {
        match self.state {
            State::Open => {}
            State::Closed => {
                input.clear();
                return Ok(None);
            }
            State::Failed(error) => return Err(error),
        }
        let result = self.decode_open(input);
        match &result {
            Err(error) => {
                self.state = State::Failed(*error);
                self.parts = BytesMut::new();
            }
            Ok(Some(Incoming::Close { .. })) => {
                self.state = State::Closed;
                self.parts = BytesMut::new();
            }
            Ok(_) => {}
        }
        result
    }

    /// True when no part of a message is held.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.unfinished.is_none()
    }

    fn decode_open(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, FrameError> {
        // A loop, as a part of a message gives nothing yet; every turn takes at least two bytes.
        while let Some(header) = parse_header(input)? {
            let payload_bytes = self.check(&header)?;
            if input.len() - header.header_bytes < payload_bytes {
                return Ok(None);
            }
            input.advance(header.header_bytes);
            let mut payload = input.split_to(payload_bytes);
            if let Some(key) = header.mask {
                apply_mask(&mut payload, key);
            }
            if let Some(incoming) = self.take(&header, payload)? {
                return Ok(Some(incoming));
            }
        }
        // The mask bit is known before the key is: refuse an unmasked client without waiting for more.
        if let Some(second) = input.get(1) {
            self.check_mask(second & MASKED != 0)?;
        }
        Ok(None)
    }

    fn check_mask(&self, masked: bool) -> Result<(), FrameError> {
        match (self.side, masked) {
            (Side::Server, false) => Err(FrameError::MaskMissing),
            (Side::Client, true) => Err(FrameError::MaskUnexpected),
            _ => Ok(()),
        }
    }

    /// All that can be refused before the payload is there. Gives the payload's length, now known to fit.
    fn check(&self, header: &Header) -> Result<usize, FrameError> {
        self.check_mask(header.mask.is_some())?;
        match (header.opcode, self.unfinished) {
            (Opcode::Continuation, None) => return Err(FrameError::ContinuationUnexpected),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(FrameError::MessageUnfinished),
            _ => {}
        }
        let payload_bytes = usize::try_from(header.payload_bytes).map_err(|_| FrameError::MessageTooLong)?;
        // `parts` never exceeds the bound, so this cannot wrap.
        if !header.opcode.is_control() && payload_bytes > self.message_bytes_max - self.parts.len() {
            return Err(FrameError::MessageTooLong);
        }
        Ok(payload_bytes)
    }

    fn take(&mut self, header: &Header, payload: BytesMut) -> Result<Option<Incoming>, FrameError> {
        match header.opcode {
            Opcode::Ping => return Ok(Some(Incoming::Ping(payload.freeze()))),
            Opcode::Pong => return Ok(Some(Incoming::Pong(payload.freeze()))),
            Opcode::Close => return take_close(payload).map(Some),
            Opcode::Text | Opcode::Binary if header.fin => return finish(header.opcode, payload.freeze()).map(Some),
            Opcode::Text | Opcode::Binary => self.unfinished = Some(header.opcode),
            Opcode::Continuation => {}
        }
        self.parts.extend_from_slice(&payload);
        if !header.fin {
            return Ok(None);
        }
        let message = std::mem::take(&mut self.parts).freeze();
        let opcode = self.unfinished.take().expect("a continuation is refused unless a message is unfinished");
        finish(opcode, message).map(Some)
    }
}

fn finish(opcode: Opcode, message: Bytes) -> Result<Incoming, FrameError> {
    if opcode == Opcode::Binary {
        return Ok(Incoming::Binary(message));
    }
    if std::str::from_utf8(&message).is_err() {
        return Err(FrameError::InvalidUtf8);
    }
    Ok(Incoming::Text(message))
}

fn take_close(payload: BytesMut) -> Result<Incoming, FrameError> {
    let mut payload = payload.freeze();
    if payload.is_empty() {
        return Ok(Incoming::Close { code: None, reason: payload });
    }
    if payload.len() == 1 {
        return Err(FrameError::CloseInvalid);
    }
    let code = payload.get_u16();
    // 1004 to 1006 and 1015 are never on the wire (RFC 6455, 7.4.1); 1012 to 1014 were registered later.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::CloseInvalid);
    }
    if std::str::from_utf8(&payload).is_err() {
        return Err(FrameError::InvalidUtf8);
    }
    Ok(Incoming::Close { code: Some(code), reason: payload })
}

/// XORs `data` with the repeated key: masks and unmasks. Eight bytes at a time.
pub fn apply_mask(data: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The header bytes of an unmasked frame, to be written in front of a payload that is built in place.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl HeaderBytes {
    fn new(opcode: Opcode, payload_bytes: usize) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = FIN | opcode as u8;
        let len = if let Some(short) = u8::try_from(payload_bytes).ok().filter(|short| *short < LENGTH_IS_U16) {
            bytes[1] = short;
            2
        } else if let Ok(length) = u16::try_from(payload_bytes) {
            bytes[1] = LENGTH_IS_U16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            4
        } else {
            bytes[1] = LENGTH_IS_U64;
            bytes[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        };
        Self { bytes, len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The header of a whole, unmasked text frame with a payload of `payload_bytes` bytes.
#[must_use]
pub fn text_frame_header(payload_bytes: usize) -> HeaderBytes {
    HeaderBytes::new(Opcode::Text, payload_bytes)
}

/// Appends a server's text frame. `payload` must be UTF-8.
pub fn encode_text(out: &mut impl BufMut, payload: &[u8]) {
    encode(out, Opcode::Text, payload);
}

/// Appends a server's ping. The payload is cut at [`CONTROL_BYTES_MAX`].
pub fn encode_ping(out: &mut impl BufMut, payload: &[u8]) {
    encode(out, Opcode::Ping, control_payload(payload));
}

/// Appends a server's pong. The payload is that of the ping.
pub fn encode_pong(out: &mut impl BufMut, payload: &[u8]) {
    encode(out, Opcode::Pong, control_payload(payload));
}

/// Appends a server's close frame; the reason is cut, at a character, to the 123 bytes it may have.
pub fn encode_close(out: &mut impl BufMut, code: u16, reason: &str) {
    let (payload, len) = close_payload(code, reason);
    encode(out, Opcode::Close, &payload[..len]);
}

fn encode(out: &mut impl BufMut, opcode: Opcode, payload: &[u8]) {
    out.put_slice(HeaderBytes::new(opcode, payload.len()).as_slice());
    out.put_slice(payload);
}

/// Appends a client's text frame, masked with `key`. `payload` must be UTF-8.
pub fn encode_text_masked(out: &mut BytesMut, payload: &[u8], key: [u8; 4]) {
    encode_masked(out, Opcode::Text, payload, key);
}

/// Appends a client's ping. The payload is cut at [`CONTROL_BYTES_MAX`].
pub fn encode_ping_masked(out: &mut BytesMut, payload: &[u8], key: [u8; 4]) {
    encode_masked(out, Opcode::Ping, control_payload(payload), key);
}

/// Appends a client's pong. The payload is that of the ping.
pub fn encode_pong_masked(out: &mut BytesMut, payload: &[u8], key: [u8; 4]) {
    encode_masked(out, Opcode::Pong, control_payload(payload), key);
}

/// Appends a client's close frame; the reason is cut, at a character, to the 123 bytes it may have.
pub fn encode_close_masked(out: &mut BytesMut, code: u16, reason: &str, key: [u8; 4]) {
    let (payload, len) = close_payload(code, reason);
    encode_masked(out, Opcode::Close, &payload[..len], key);
}

fn encode_masked(out: &mut BytesMut, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    let mut header = HeaderBytes::new(opcode, payload.len());
    header.bytes[1] |= MASKED;
    out.reserve(header.len + key.len() + payload.len());
    out.put_slice(header.as_slice());
    out.put_slice(&key);
    let start = out.len();
    out.put_slice(payload);
    apply_mask(&mut out[start..], key);
}

fn control_payload(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(CONTROL_BYTES_MAX)]
}

fn close_payload(code: u16, reason: &str) -> ([u8; CONTROL_BYTES_MAX], usize) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    (payload, 2 + reason.len())
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
