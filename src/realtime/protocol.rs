//! The WebSocket's JSON: requests in, answers out, and the handshake's proof. Pure.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::hub::encode;
use crate::api::ApiError;
use crate::core::chat::{Reply, Sent};
use crate::core::ids::{ChannelId, MessageId};
use crate::node::{Answer, ProposeError};

/// The value of `Sec-WebSocket-Accept` for a client's key (RFC 6455, 4.2.2). The protocol asks for SHA-1; nothing rests
/// on its strength.
#[must_use]
pub fn handshake_accept(key: &[u8]) -> String {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(MAGIC);
    data_encoding::BASE64.encode(context.finish().as_ref())
}

/// A request as it comes: one flat shape for all operations, so that the common one parses without copying.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(borrow, default)]
    pos: Cow<'a, str>,
    #[serde(borrow, default)]
    channel_id: Cow<'a, str>,
    #[serde(borrow, default)]
    client_id: Cow<'a, str>,
    body: Option<String>,
    seq: Option<u64>,
    version: Option<u32>,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Sign in and, with a position, resume.
    Hello { token: Option<String>, pos: Option<u64> },
    /// Send a message.
    Send { channel: ChannelId, client_id: Bytes, body: String },
    /// Edit a message.
    Edit { channel: ChannelId, seq: u64, version: u32, body: String },
    /// Delete a message.
    Delete { channel: ChannelId, seq: u64, version: u32 },
    /// Move a read mark.
    Read { channel: ChannelId, seq: u64 },
    /// Tell that one types.
    Typing { channel: ChannelId },
    /// Ask whether the server is there.
    Ping,
}

/// A request that makes no sense: what to answer. Without an id there is nobody to answer, and the connection ends.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) id: Option<String>,
    pub(super) error: ApiError,
}

/// The longest id of a request, in bytes.
const ID_BYTES_MAX: usize = 64;

/// Reads one request: its id and what it asks for.
pub(super) fn parse(text: &[u8]) -> Result<(Box<str>, Op), Malformed> {
    let raw: Raw<'_> = serde_json::from_slice(text)
        .map_err(|e| Malformed { id: None, error: ApiError::invalid_body(e.to_string()) })?;
    if raw.id.is_empty() || raw.id.len() > ID_BYTES_MAX {
        let error = ApiError::invalid_body(format!("id must have 1 to {ID_BYTES_MAX} bytes"));
        return Err(Malformed { id: None, error });
    }
    let id: Box<str> = raw.id.as_ref().into();
    match raw.op() {
        Ok(op) => Ok((id, op)),
        Err(error) => Err(Malformed { id: Some(id.into()), error }),
    }
}

impl Raw<'_> {
    fn op(self) -> Result<Op, ApiError> {
        let fields = self.present();
        let allowed: &[&str] = match self.op.as_ref() {
            "hello" => &["token", "pos"],
            "send" => &["channel_id", "client_id", "body"],
            "edit" => &["channel_id", "seq", "version", "body"],
            "delete" => &["channel_id", "seq", "version"],
            "read" => &["channel_id", "seq"],
            "typing" => &["channel_id"],
            "ping" => &[],
            other => return Err(ApiError::invalid_body(format!("unknown op `{}`", other.escape_debug()))),
        };
        if let Some(field) = fields.into_iter().flatten().find(|field| !allowed.contains(field)) {
            return Err(ApiError::invalid_body(format!("op `{}` has no field `{field}`", self.op)));
        }
        match self.op.as_ref() {
            "hello" => {
                let token = (!self.token.is_empty()).then(|| self.token.into_owned());
                Ok(Op::Hello { token, pos: position(&self.pos)? })
            }
            "send" => Ok(Op::Send {
                channel: channel(&self.channel_id)?,
                client_id: crate::api::client_id(&self.client_id)?,
                body: self.body.ok_or_else(|| missing("body"))?,
            }),
            "edit" => Ok(Op::Edit {
                channel: channel(&self.channel_id)?,
                seq: self.seq.ok_or_else(|| missing("seq"))?,
                version: self.version.ok_or_else(|| missing("version"))?,
                body: self.body.ok_or_else(|| missing("body"))?,
            }),
            "delete" => Ok(Op::Delete {
                channel: channel(&self.channel_id)?,
                seq: self.seq.ok_or_else(|| missing("seq"))?,
                version: self.version.ok_or_else(|| missing("version"))?,
            }),
            "read" => {
                Ok(Op::Read { channel: channel(&self.channel_id)?, seq: self.seq.ok_or_else(|| missing("seq"))? })
            }
            "typing" => Ok(Op::Typing { channel: channel(&self.channel_id)? }),
            _ => Ok(Op::Ping),
        }
    }

    /// The names of the optional fields that were given.
    fn present(&self) -> [Option<&'static str>; 7] {
        [
            (!self.token.is_empty()).then_some("token"),
            (!self.pos.is_empty()).then_some("pos"),
            (!self.channel_id.is_empty()).then_some("channel_id"),
            (!self.client_id.is_empty()).then_some("client_id"),
            self.body.is_some().then_some("body"),
            self.seq.is_some().then_some("seq"),
            self.version.is_some().then_some("version"),
        ]
    }
}

fn missing(field: &str) -> ApiError {
    ApiError::invalid_body(format!("missing field `{field}`"))
}

fn channel(text: &str) -> Result<ChannelId, ApiError> {
    text.parse().map_err(|_| ApiError::invalid_body("channel_id must be an id: a string of decimal digits".to_owned()))
}

fn position(text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let pos = text.parse().map_err(|_| ApiError::invalid_body("pos must be a string of decimal digits".to_owned()))?;
    Ok(Some(pos))
}

#[derive(Serialize)]
struct Ok_<'a, T> {
    id: &'a str,
    ok: T,
}

#[derive(Serialize)]
struct Err_<'a> {
    id: Option<&'a str>,
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<&'a serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    addresses: &'a [String],
}

/// The answer to `send`.
#[derive(Serialize)]
struct SentBody {
    id: MessageId,
    seq: u64,
    created_ms: u64,
    #[serde(serialize_with = "text")]
    pos: u64,
    duplicate: bool,
}

fn text<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The answer to `hello`.
#[derive(Serialize)]
pub(super) struct HelloBody<'a> {
    pub(super) user_id: crate::core::ids::UserId,
    pub(super) session_id: crate::core::ids::SessionId,
    #[serde(serialize_with = "text")]
    pub(super) pos: u64,
    pub(super) resumed: bool,
    pub(super) addresses: &'a [String],
}

/// A positive answer as a frame.
pub(super) fn ok(id: &str, body: impl Serialize) -> Bytes {
    encode(&Ok_ { id, ok: body })
}

/// A position alone, the answer to `ping`.
#[derive(Serialize)]
pub(super) struct PosBody {
    #[serde(serialize_with = "text")]
    pub(super) pos: u64,
}

/// An empty body.
#[derive(Serialize)]
pub(super) struct Empty {}

/// A negative answer as a frame.
pub(super) fn error(id: Option<&str>, error: &ApiError) -> Bytes {
    encode(&Err_ {
        id,
        error: ErrorBody {
            code: error.code(),
            detail: error.detail(),
            retry_after_seconds: error.retry_after_seconds(),
            current: error.current(),
            active: error.active(),
            addresses: error.addresses(),
        },
    })
}

/// The answer to a proposal as a frame.
pub(super) fn answer(id: &str, result: Result<&Answer, &ProposeError>) -> Bytes {
    match result {
        Ok(Answer { outcome: Ok(reply), pos }) => match reply {
            Reply::Sent(Sent { id: message, seq, created_ms, duplicate, .. }) => {
                let (id_, seq, created_ms, duplicate) = (*message, *seq, *created_ms, *duplicate);
                ok(id, SentBody { id: id_, seq, created_ms, pos: *pos, duplicate })
            }
            Reply::Message(message) => ok(id, message),
            _ => ok(id, Empty {}),
        },
        Ok(Answer { outcome: Err(refusal), .. }) => error(Some(id), &ApiError::from(refusal.clone())),
        Err(failure) => error(Some(id), &ApiError::from(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_proof_is_the_one_of_the_rfc() {
        assert_eq!(handshake_accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn requests_are_read_strictly() {
        let (id, op) = parse(br#"{"id":"7","op":"read","channel_id":"12","seq":3}"#).unwrap();
        assert_eq!((&*id, op), ("7", Op::Read { channel: ChannelId(12), seq: 3 }));
        let bad = [
            (r#"{"id":"7","op":"read","channel_id":"12"}"#, Some("7"), "missing field `seq`"),
            (r#"{"id":"7","op":"read","channel_id":"x","seq":3}"#, Some("7"), "channel_id must be an id"),
            (r#"{"id":"7","op":"ping","seq":3}"#, Some("7"), "op `ping` has no field `seq`"),
            (r#"{"id":"7","op":"fly"}"#, Some("7"), "unknown op `fly`"),
            (r#"{"id":"7","op":"ping","extra":1}"#, None, "unknown field `extra`"),
            (r#"{"id":"","op":"ping"}"#, None, "id must have"),
            (r#"{"op":"ping"}"#, None, "missing field `id`"),
            ("[]", None, "invalid"),
            ("{", None, "EOF"),
        ];
        for (text, id, detail) in bad {
            let malformed = parse(text.as_bytes()).unwrap_err();
            assert_eq!(malformed.id.as_deref(), id, "{text}");
            assert_eq!(malformed.error.code(), "invalid_body", "{text}");
            assert!(malformed.error.detail().contains(detail), "{text}: {}", malformed.error.detail());
        }
    }
}
