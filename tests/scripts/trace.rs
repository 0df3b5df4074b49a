//! How an applied entry reads: the outcome first, then events with their audience, then rows.

use std::fmt::Write as _;

use holdfast::core::chat::Reply;
use holdfast::core::event::{Audience, Event};
use holdfast::core::machine::Applied;
use holdfast::core::refusal::Refusal;
use holdfast::core::view::Write;

/// The trace of one entry, one fact a line, still with ids.
pub(crate) fn of(applied: &Applied) -> String {
    let mut out = String::new();
    match &applied.outcome {
        Ok(reply) => out.push_str(&reply_line(reply)),
        Err(refusal) => out.push_str(&refusal_line(refusal)),
    }
    out.push('\n');
    for event in &applied.events {
        let _ = writeln!(out, "event to {}: {}", audience(event.audience()), event_text(event));
    }
    for write in &applied.writes {
        let _ = writeln!(out, "{}", row_line(write));
    }
    out
}

fn reply_line(reply: &Reply) -> String {
    let json = |kind: &str, value: serde_json::Result<String>| format!("ok {kind} {}", value.unwrap());
    match reply {
        Reply::Done => "ok".to_owned(),
        Reply::Sent(sent) => {
            let again = if sent.duplicate { ", sent before" } else { "" };
            format!("ok sent {} as {} in {} at {}{again}", sent.id, sent.seq, sent.channel, sent.created_ms)
        }
        Reply::Message(message) => json("message", serde_json::to_string(message)),
        Reply::User(user) => json("user", serde_json::to_string(user)),
        Reply::Session(session) => json("session", serde_json::to_string(session)),
        Reply::Invite(invite) => json("invite", serde_json::to_string(invite)),
        Reply::Entry { entry, created: true } => json("created", serde_json::to_string(entry)),
        Reply::Entry { entry, created: false } => json("existing", serde_json::to_string(entry)),
        Reply::Channel(channel) => json("channel", serde_json::to_string(channel)),
        Reply::Member(member) => json("member", serde_json::to_string(member)),
        Reply::OwnMember(member) => json("membership", serde_json::to_string(member)),
        Reply::Settings(settings) => json("settings", serde_json::to_string(settings)),
        Reply::Pair(pair) => json("pair", serde_json::to_string(pair)),
        Reply::Conflict(conflict) => json("conflict", serde_json::to_string(conflict)),
        Reply::Backups(backups) => json("backups", serde_json::to_string(backups)),
        Reply::PutBack(done) => json("put back", serde_json::to_string(done)),
    }
}

fn refusal_line(refusal: &Refusal) -> String {
    use holdfast::core::refusal::Current;
    let current = match refusal.current.as_deref() {
        None => return format!("refused {}", refusal.code.as_str()),
        Some(Current::User(user)) => serde_json::to_string(user),
        Some(Current::Channel(channel)) => serde_json::to_string(channel),
        Some(Current::Message(message)) => serde_json::to_string(message),
        Some(Current::Settings(settings)) => serde_json::to_string(settings),
        Some(Current::Pair(pair)) => serde_json::to_string(pair),
        Some(Current::Conflict(conflict)) => serde_json::to_string(conflict),
        Some(Current::Backups(backups)) => serde_json::to_string(backups),
    };
    format!("refused {}, current {}", refusal.code.as_str(), current.unwrap())
}

fn audience(audience: Audience) -> String {
    match audience {
        Audience::Channel(channel) => format!("the members of {channel}"),
        Audience::User(user) => format!("{user}"),
        Audience::Everyone => "everyone".to_owned(),
        Audience::Node => "the node".to_owned(),
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::SessionEnded { user, session } => format!("session {session} of {user} ended"),
        other => serde_json::to_string(other).unwrap(),
    }
}

fn row_line(write: &Write) -> String {
    let key = format!("{:?}", write.key);
    let text = |value: &holdfast::core::rows::Value| {
        let text = format!("{value:?}");
        // `User(User { .. })` says it twice.
        text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).map_or(text.clone(), str::to_owned)
    };
    match (write.before.as_ref().map(text), write.after.as_ref().map(text)) {
        (None, Some(after)) => format!("row + {key}: {after}"),
        (Some(before), None) => format!("row - {key}: {before}"),
        (Some(before), Some(after)) => format!("row ~ {key}: {}", changed(&before, &after)),
        (None, None) => format!("row . {key}: was not there, is not there"),
    }
}

/// The fields that differ, each with its value before and after.
fn changed(before: &str, after: &str) -> String {
    let (old, new) = (fields(before), fields(after));
    let pairs = old.iter().zip(&new).filter(|(old, new)| old != new);
    let texts: Vec<String> = pairs
        .map(|(old, new)| match (old.split_once(": "), new.split_once(": ")) {
            (Some((name, old)), Some((_, new))) => format!("{name} {old} -> {new}"),
            _ => format!("{old} -> {new}"),
        })
        .collect();
    if texts.is_empty() { "unchanged".to_owned() } else { texts.join(", ") }
}

/// The fields of a struct in its `Debug` form. Commas inside of brackets and quotes separate nothing.
fn fields(text: &str) -> Vec<String> {
    let inner = text.split_once("{ ").and_then(|(_, rest)| rest.strip_suffix(" }")).unwrap_or(text);
    let (mut fields, mut field, mut depth, mut quoted, mut escaped) = (Vec::new(), String::new(), 0, false, false);
    for c in inner.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' | '(' if !quoted => depth += 1,
            ']' | '}' | ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                fields.push(std::mem::take(&mut field).trim().to_owned());
                continue;
            }
            _ => {}
        }
        field.push(c);
    }
    fields.push(field.trim().to_owned());
    fields
}
