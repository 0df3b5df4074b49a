//! A record as JSON that people read: what the frame says, and what the payload means. Must never show a secret.

use prost::Message as _;
use serde_json::{Value, json};

use crate::core::command::{Command, Envelope, StateHashRecord};
use crate::core::entry::{Entry, EntryKind};

/// A record as JSON: what the frame says, and what the payload means as far as it decodes.
#[must_use]
pub fn describe(entry: &Entry) -> Value {
    json!({
        "index": entry.index, "epoch": entry.epoch >> 16, "epoch_node": entry.epoch & 0xffff,
        "at_ms": entry.unix_ms(), "site": entry.origin.site, "node": entry.origin.node, "id": entry.id().to_string(),
        "kind": kind_name(entry.kind), "erased": entry.erased, "payload_bytes": entry.payload.len(),
        "payload": payload(entry),
    })
}

/// A kind's name, for people and archives.
pub(super) const fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Command => "command",
        EntryKind::EpochStarted => "epoch_started",
        EntryKind::StateHash => "state_hash",
    }
}

/// What a payload means.
pub(super) fn payload(entry: &Entry) -> Value {
    match entry.kind {
        EntryKind::EpochStarted => Value::Null,
        EntryKind::StateHash => state_hash(entry),
        EntryKind::Command => command(entry),
    }
}

fn state_hash(entry: &Entry) -> Value {
    match StateHashRecord::decode(entry.payload.clone()) {
        Ok(record) => json!({ "index": record.index, "hash": data_encoding::HEXLOWER.encode(&record.hash) }),
        Err(error) => json!({ "undecodable": error.to_string() }),
    }
}

fn command(entry: &Entry) -> Value {
    let envelope = match Envelope::decode(entry.payload.clone()) {
        Ok(envelope) => envelope,
        Err(error) => return json!({ "undecodable": error.to_string() }),
    };
    let actor = envelope.actor.unwrap_or_default();
    let what = envelope.command.as_ref().map(|command| redact(command, format!("{command:?}")));
    json!({ "actor": actor.user.to_string(), "session": actor.session.to_string(), "address": actor.address,
            "command": what })
}

/// Secrets stay out of terminals and their scroll-back: the log has only hashes, but hashes can be attacked too.
fn redact(command: &Command, text: String) -> String {
    let secret = match command {
        Command::SetUp(c) => c.owner.as_ref().map(|owner| owner.password_hash.as_str()),
        Command::CreateUser(c) => Some(c.password_hash.as_str()),
        Command::AcceptInvite(c) => c.user.as_ref().map(|user| user.password_hash.as_str()),
        Command::SetPassword(c) => Some(c.password_hash.as_str()),
        _ => None,
    };
    match secret {
        Some(secret) if !secret.is_empty() => text.replace(secret, "[redacted]"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::SetPassword;

    #[test]
    fn hashes_of_passwords_are_not_printed() {
        let command = Command::SetPassword(SetPassword {
            user: 1,
            password_hash: "$argon2id$secret".to_owned(),
            keep_session: 0,
            must_change: false,
        });
        let text = redact(&command, format!("{command:?}"));
        assert!(text.contains("[redacted]") && !text.contains("secret"), "{text}");
    }
}
