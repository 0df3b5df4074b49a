//! Reads what the load generator needs out of a server's JSON frames, without parsing them whole.
//!
//! Why this is exact and not a guess: inside a JSON string every quote is written `\"`. So the bytes `"seq":` cannot come
//! out of a message's text (there they are `\"seq\":`), only from a member of an object with that name; and the server's
//! events have each name that is looked for here once. Anything of another form goes through the full parser.
//!
//! Must never accept what it cannot read: an event without its members is an error, not a delivery.

use memchr::memmem::Finder;

/// One `message.created` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created<'a> {
    /// The log position to resume from.
    pub pos: u64,
    /// The conversation.
    pub channel_id: u64,
    /// The message's number in it, from 1.
    pub seq: u64,
    /// The sender's idempotency key, a UUID.
    pub client_id: u128,
    /// The text as it is in the JSON (escaped), and all that follows it.
    pub body_on: &'a [u8],
}

/// One text frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message was created.
    Created(Created<'a>),
    /// A send was acknowledged.
    Sent {
        /// The request's id.
        id: u64,
        /// The number the message got in its channel.
        seq: u64,
    },
    /// A request was refused.
    Refused {
        /// The request's id.
        id: u64,
        /// The error's stable code.
        code: String,
    },
    /// An event that does not matter here.
    Other,
}

/// The needles, prepared once.
#[derive(Debug)]
pub struct Scanner {
    created: Finder<'static>,
    pos: Finder<'static>,
    channel_id: Finder<'static>,
    seq: Finder<'static>,
    client_id: Finder<'static>,
    body: Finder<'static>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            created: Finder::new(br#""event":"message.created""#),
            pos: Finder::new(br#""pos":"#),
            channel_id: Finder::new(br#""channel_id":"#),
            seq: Finder::new(br#""seq":"#),
            client_id: Finder::new(br#""client_id":""#),
            body: Finder::new(br#""body":""#),
        }
    }
}

impl Scanner {
    /// Reads one text frame.
    ///
    /// # Errors
    /// The start of the frame, when it is an event or answer of a form that cannot be read.
    pub fn scan<'a>(&self, payload: &'a [u8]) -> Result<Frame<'a>, String> {
        let unreadable = || String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
        if payload.starts_with(br#"{"id":"#) {
            return self.sent(payload).or_else(|| refused(payload)).ok_or_else(unreadable);
        }
        if payload.starts_with(br#"{"event":"message.created","#) || self.created.find(payload).is_some() {
            return self.created(payload).map(Frame::Created).ok_or_else(unreadable);
        }
        if payload.starts_with(br#"{"event":"#) {
            return Ok(Frame::Other);
        }
        match serde_json::from_slice::<serde_json::Value>(payload) {
            Ok(value) if value.get("event").is_some() => Ok(Frame::Other),
            _ => refused(payload).ok_or_else(unreadable),
        }
    }

    fn created<'a>(&self, payload: &'a [u8]) -> Option<Created<'a>> {
        let behind =
            |finder: &Finder<'static>| finder.find(payload).and_then(|at| payload.get(at + finder.needle().len()..));
        Some(Created {
            pos: number(behind(&self.pos)?)?,
            channel_id: number(behind(&self.channel_id)?)?,
            seq: number(behind(&self.seq)?)?,
            client_id: uuid(behind(&self.client_id)?)?,
            body_on: behind(&self.body)?,
        })
    }

    fn sent<'a>(&self, payload: &'a [u8]) -> Option<Frame<'a>> {
        let rest = payload.get(br#"{"id":"#.len()..)?;
        let id = number(rest)?;
        let end = rest.iter().skip(1).position(|byte| !byte.is_ascii_digit())? + 1;
        let ok = rest.get(end..)?.strip_prefix(br#"","ok":{"#)?;
        let seq = number(ok.get(self.seq.find(ok)? + self.seq.needle().len()..)?)?;
        Some(Frame::Sent { id, seq })
    }
}

/// The slow way for an answer that is not a plain acknowledgement.
fn refused(payload: &[u8]) -> Option<Frame<'static>> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let id = value.get("id")?.as_str()?.parse().ok()?;
    if let Some(seq) = value.pointer("/ok/seq") {
        return Some(Frame::Sent { id, seq: as_number(seq)? });
    }
    Some(Frame::Refused { id, code: value.pointer("/error/code")?.as_str()?.to_owned() })
}

/// A number of the API: a JSON number, or a string of digits.
#[must_use]
pub fn as_number(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The number that `bytes` starts with, in quotes or not.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.strip_prefix(b"\"").unwrap_or(bytes);
    let mut value = 0_u64;
    let mut digits = 0;
    for byte in bytes {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        digits += 1;
    }
    (digits > 0).then_some(value)
}

/// The hyphenated UUID that `bytes` starts with.
#[must_use]
pub fn uuid(bytes: &[u8]) -> Option<u128> {
    let text = bytes.get(..36)?;
    let mut value = 0_u128;
    for (range, digits) in [(0..8, 8), (9..13, 4), (14..18, 4), (19..23, 4), (24..36, 12)] {
        let mut part = 0_u64;
        for byte in text.get(range)? {
            part = part << 4 | u64::from(hex(*byte)?);
        }
        value = value << (4 * digits) | u128::from(part);
    }
    [8, 13, 18, 23].iter().all(|at| text[*at] == b'-').then_some(value)
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The 16 hex digits that `body_on` starts with: the time a message was due, in nanoseconds.
#[must_use]
pub fn timestamp(body_on: &[u8]) -> Option<u64> {
    body_on.get(..16)?.iter().try_fold(0_u64, |value, byte| Some(value << 4 | u64::from(hex(*byte)?)))
}

/// True when `page` (a page of messages, as JSON) has exactly `count` messages in contiguous, ascending order that end at
/// the page's `last_seq`.
#[must_use]
pub fn is_latest_page(page: &[u8], count: u64) -> bool {
    let seq = br#""seq":"#;
    let mut previous = None;
    let mut seen = 0;
    for at in memchr::memmem::find_iter(page, seq) {
        let Some(next) = number(&page[at + seq.len()..]) else { return false };
        if previous.is_some_and(|previous| previous + 1 != next) {
            return false;
        }
        previous = Some(next);
        seen += 1;
    }
    let last = br#""last_seq":"#;
    let last_seq = memchr::memmem::rfind(page, last).and_then(|at| number(&page[at + last.len()..]));
    seen == count && previous.is_some() && previous == last_seq
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(seq: &serde_json::Value, body: &str) -> serde_json::Value {
        json!({"event": "message.created", "pos": "88", "message": {
            "id": "9", "channel_id": "7001", "seq": seq, "sender_id": "3",
            "client_id": "0a1b2c3d-0000-4000-8000-0123456789ab", "body": body, "version": 1,
            "created_ms": 5, "edited_ms": null, "deleted_ms": null,
        }})
    }

    #[test]
    fn text_that_looks_like_members_is_not_taken_for_them() {
        let tricky = [
            r#""seq":"1","channel_id":"2","pos":"3","client_id":"4","body":"5""#,
            r#"\"seq":1"#,
            r#"\\"seq":1\"#,
            "\"event\":\"typing\"",
            r#"{"id":"1","ok":{"seq":5}}"#,
            "\\",
            "\"",
        ];
        for body in tricky {
            for seq in [json!(42), json!("42")] {
                let text = serde_json::to_vec(&event(&seq, body)).unwrap();
                let Ok(Frame::Created(created)) = Scanner::default().scan(&text) else {
                    panic!("not an event: {body}")
                };
                assert_eq!((created.pos, created.channel_id, created.seq), (88, 7001, 42), "{body}");
                assert_eq!(created.client_id, 0x0a1b2c3d_0000_4000_8000_0123456789ab, "{body}");
                let escaped = serde_json::to_string(body).unwrap();
                assert!(created.body_on.starts_with(&escaped.as_bytes()[1..]), "{body}");
            }
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let scan = |text: &'static str| Scanner::default().scan(text.as_bytes());
        let sent = r#"{"id":"12","ok":{"id":"9","seq":34,"created_ms":1,"pos":"5","duplicate":false}}"#;
        assert_eq!(scan(sent), Ok(Frame::Sent { id: 12, seq: 34 }));
        assert_eq!(scan(r#"{"id":"12","ok":{"id":"9","seq":"34"}}"#), Ok(Frame::Sent { id: 12, seq: 34 }));
        assert_eq!(scan(r#"{"id":"1", "ok":{"seq":2}}"#), Ok(Frame::Sent { id: 1, seq: 2 }));
        let reordered = scan(r#"{"error":{"code":"busy","detail":""},"id":"8"}"#);
        assert_eq!(reordered, Ok(Frame::Refused { id: 8, code: "busy".to_owned() }));
        assert_eq!(scan(r#"{"ok":{"seq":2},"id":"1"}"#), Ok(Frame::Sent { id: 1, seq: 2 }));
        let refused = scan(r#"{"id":"8","error":{"code":"busy","detail":"\"ok\":{\"seq\":1"}}"#);
        assert_eq!(refused, Ok(Frame::Refused { id: 8, code: "busy".to_owned() }));
        assert_eq!(scan(r#"{"event":"presence","online":["1"],"offline":[]}"#), Ok(Frame::Other));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for text in [
            "",
            "{}",
            "x",
            r#"{"id":"1"}"#,
            r#"{"event":"message.created","pos":"1"}"#,
            r#"{"id":"99999999999999999999"}"#,
        ] {
            assert!(Scanner::default().scan(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_is_checked_for_count_order_and_end() {
        let page = |seqs: &[u64], last: u64| {
            let items: Vec<_> = seqs.iter().map(|seq| event(&json!(seq), "\"seq\":9")["message"].clone()).collect();
            serde_json::to_vec(&json!({"items": items, "last_seq": last, "has_before": true})).unwrap()
        };
        assert!(is_latest_page(&page(&[5, 6, 7], 7), 3));
        assert!(!is_latest_page(&page(&[5, 7], 7), 2), "gap");
        assert!(!is_latest_page(&page(&[6, 7], 7), 3), "short");
        assert!(!is_latest_page(&page(&[5, 6], 7), 2), "not the latest");
        assert!(!is_latest_page(b"{}", 0));
    }

    proptest! {
        #[test]
        fn any_text_gives_what_the_full_parser_gives(body in "\\PC{0,80}|[\"\\\\:a-z,]{0,40}", seq in any::<u64>()) {
            let text = serde_json::to_vec(&event(&json!(seq), &body)).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let Ok(Frame::Created(created)) = Scanner::default().scan(&text) else { panic!("not an event") };
            prop_assert_eq!(Some(created.seq), value.pointer("/message/seq").and_then(as_number));
            prop_assert_eq!(Some(created.channel_id), value.pointer("/message/channel_id").and_then(as_number));
            prop_assert_eq!(Some(created.pos), value.get("pos").and_then(as_number));
        }

        #[test]
        fn garbage_never_panics(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Scanner::default().scan(&payload);
            let _ = (uuid(&payload), timestamp(&payload), is_latest_page(&payload, 1));
        }
    }
}
