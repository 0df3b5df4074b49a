//! Compares what the server has stored, read back through the API, with what it promised.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;

use super::client::{Call, Http};
use super::error::BenchError;
use super::progress::Progress;
use super::scan::{as_number, uuid};
use super::server::Target;
use super::station::{Body, Book};
use super::verify::{HistoryCheck, Verdict, client_id, origin};
use crate::limits::BENCH_PAGE_MAX;

/// A channel to check, and a member's token to read it with.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The channel.
    pub channel: u64,
    /// A member's token.
    pub token: Rc<str>,
    /// The indexes of its senders, each of which sends to this channel alone.
    pub senders: Vec<u32>,
    /// The indexes of all connections that receive it.
    pub receivers: Vec<u32>,
}

/// One stored message.
#[derive(Debug)]
pub struct Stored {
    /// Its number.
    pub seq: u64,
    /// Its key.
    pub client_id: u128,
    /// Its text.
    pub body: String,
}

/// A page of stored messages.
#[derive(Debug)]
pub struct Page {
    /// Ascending.
    pub items: Vec<Stored>,
    /// The channel's last number.
    pub last_seq: u64,
}

/// Reads a page of the channel's messages after `after`.
///
/// # Errors
/// The server refused, or the answer is not what the API says.
pub async fn page(http: &mut Http, channel: u64, after: u64, token: &str) -> Result<Page, BenchError> {
    let path = format!("/api/v1/channels/{channel}/messages?after={after}&limit={BENCH_PAGE_MAX}");
    let answer = http.call(Call::get(&path, token)).await?;
    let wrong = || BenchError::Protocol { op: format!("GET {path}"), detail: "not a page of messages".to_owned() };
    let items = answer.get("items").and_then(Value::as_array).ok_or_else(wrong)?;
    let stored = |item: &Value| {
        Some(Stored {
            seq: as_number(item.get("seq")?)?,
            client_id: uuid(item.get("client_id")?.as_str()?.as_bytes())?,
            body: item.get("body")?.as_str()?.to_owned(),
        })
    };
    Ok(Page {
        items: items.iter().map(stored).collect::<Option<_>>().ok_or_else(wrong)?,
        last_seq: answer.get("last_seq").and_then(as_number).ok_or_else(wrong)?,
    })
}

/// True when the text is the one that was sent under this key.
#[must_use]
pub fn is_text_of(stored: &Stored, body: Body) -> bool {
    let mut expected = String::with_capacity(body.bytes);
    // The time in a text is not known any more; the rest is.
    body.write(&mut expected, stored.client_id, 0);
    let from = if body.timestamp { 16 } else { 0 };
    stored.body.len() == expected.len() && stored.body.as_bytes()[from..] == expected.as_bytes()[from..]
}

/// Reads all of a channel and compares it with the books of its senders, and its receivers' books with it.
///
/// # Errors
/// It could not be read.
pub async fn channel(
    http: &mut Http,
    watched: &Watched,
    (run, body): (u32, Body),
    books: &[Rc<RefCell<Book>>],
) -> Result<Verdict, BenchError> {
    let mut check = HistoryCheck::default();
    let mut verdict = Verdict::default();
    let (mut after, mut last_seq) = (0, 0);
    loop {
        let page = page(http, watched.channel, after, &watched.token).await?;
        last_seq = page.last_seq.max(last_seq);
        let Some(end) = page.items.last().map(|stored| stored.seq) else { break };
        for stored in &page.items {
            let from = origin(run, stored.client_id).filter(|(sender, _)| watched.senders.contains(sender));
            let promised = from.and_then(|(sender, counter)| books[sender as usize].borrow().ledger.seq(counter));
            check.see(stored.seq, stored.client_id, promised);
            if from.is_none() || !is_text_of(stored, body) {
                verdict.wrong += 1;
            }
        }
        if end <= after || end >= last_seq {
            break;
        }
        after = end;
    }
    let mut acknowledged = Vec::new();
    for sender in &watched.senders {
        let book = books[*sender as usize].borrow();
        acknowledged.extend(book.ledger.iter().map(|(counter, _)| client_id(run, *sender, counter)));
    }
    verdict += check.finish(acknowledged.into_iter());
    for receiver in &watched.receivers {
        verdict += received(&books[*receiver as usize].borrow(), watched.channel, last_seq);
    }
    Ok(verdict)
}

/// The verdict on one connection's events of a channel with that last number; of one that had to go on without some of
/// them there is none.
#[must_use]
pub fn received(book: &Book, channel: u64, last_seq: u64) -> Verdict {
    if book.has_holes {
        return Verdict::default();
    }
    let own: std::collections::HashSet<u64> = book.ledger.iter().map(|(_, seq)| seq).collect();
    book.trackers.get(&channel).cloned().unwrap_or_default().verdict(last_seq, |seq| own.contains(&seq))
}

/// Checks all channels.
///
/// # Errors
/// One could not be read.
pub async fn channels(
    target: &Target,
    watched: &[Watched],
    body: Body,
    (books, progress): (&[Rc<RefCell<Book>>], &mut Progress),
) -> Result<Verdict, BenchError> {
    let mut http = target.http().await?;
    let mut verdict = Verdict::default();
    for (done, one) in watched.iter().enumerate() {
        verdict += channel(&mut http, one, (target.run, body), books).await?;
        progress.say(|| format!("{done} of {} channels read back and compared", watched.len()));
    }
    Ok(verdict)
}

/// The last number of each of a person's channels.
///
/// # Errors
/// The server refused, or the answer is not what the API says.
pub async fn last_seqs(http: &mut Http, token: &str) -> Result<HashMap<u64, u64>, BenchError> {
    let answer = http.call(Call::get("/api/v1/channels", token)).await?;
    let entry = |item: &Value| {
        let id = item.pointer("/channel/id").and_then(as_number)?;
        Some((id, item.pointer("/channel/last_seq").and_then(as_number)?))
    };
    let items = answer.get("items").and_then(Value::as_array);
    items.and_then(|items| items.iter().map(entry).collect()).ok_or_else(|| BenchError::Protocol {
        op: "GET /api/v1/channels".to_owned(),
        detail: "not a list of channels".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_text_is_told_from_the_one_sent() {
        for timestamp in [false, true] {
            let body = Body { bytes: 150, timestamp };
            let mut text = String::new();
            body.write(&mut text, 77, 1_234_567);
            assert_eq!(text.len(), 150);
            let mut stored = Stored { seq: 1, client_id: 77, body: text };
            assert!(is_text_of(&stored, body));
            stored.client_id = 78;
            assert!(!is_text_of(&stored, body), "another message's text");
            stored.client_id = 77;
            stored.body.pop();
            assert!(!is_text_of(&stored, body), "cut off");
        }
    }
}
