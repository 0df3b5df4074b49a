//! What restoring from a backup means for the state: the note that a log begins with after it, and texts of messages that
//! are put back into a living system. Must never let text of a deleted message into the audit trail.

use std::collections::HashSet;

use super::{Act, Context, Reply, Ruled, channel, sessions};
use crate::core::command::{NoteRestore, RestoreMessages, RestoredMessage};
use crate::core::event::{self, Event};
use crate::core::ids::ChannelId;
use crate::core::keys::Key;
use crate::core::refusal::RefusalCode;
use crate::core::rows::{self, Value};
use crate::core::view::ViewExt;
use crate::limits;

/// What became of messages that a backup still has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PutBack {
    /// They have the old text again, as a new version.
    pub restored: u64,
    /// Somebody wrote a newer text since; it stands.
    pub kept: u64,
    /// They have that text already.
    pub unchanged: u64,
    /// They are not there under that number: the backup is of another history.
    pub missing: u64,
}

impl PutBack {
    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            restored: self.restored + other.restored,
            kept: self.kept + other.kept,
            unchanged: self.unchanged + other.unchanged,
            missing: self.missing + other.missing,
        }
    }
}

/// Whether a text is a backup's name or empty: it goes into the audit trail.
fn is_name(text: &str) -> bool {
    text.len() <= limits::BACKUP_TITLE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Notes a restore: every session ends (also those that were revoked after the backup are back in it, and clients must not
/// go on from positions of the lost history), and there is no pair any more: one is made anew.
pub(crate) fn note(ctx: &mut Context<'_>, command: &NoteRestore) -> Ruled<Reply> {
    if !ctx.actor.is_system() {
        return Err(RefusalCode::Forbidden.into());
    }
    if !is_name(&command.backup) {
        return Err(RefusalCode::InvalidCommand.into());
    }
    let ended = sessions::end_everybodys(ctx)?;
    let pair = ctx.changes.row::<rows::Pair>(Key::Pair)?;
    if pair.is_some() {
        ctx.changes.delete(Key::Pair)?;
    }
    let after = serde_json::json!({
        "backup": command.backup, "index": command.index.to_string(), "at_ms": command.at_ms,
        "sessions_ended": ended, "members_removed": pair.map_or(0, |pair| pair.members.len()),
    });
    ctx.audit(Act { action: "server.restore", kind: "settings", target: 0, before: None, after: Some(after) });
    Ok(Reply::Done)
}

/// What is to become of one message.
enum Verdict {
    Restore(std::sync::Arc<rows::Message>),
    Kept,
    Unchanged,
    Missing,
}

/// Puts texts back: deleted messages get theirs, edited ones only when that was asked for. Doing it twice changes nothing.
pub(crate) fn put_back(ctx: &mut Context<'_>, command: &RestoreMessages) -> Ruled<Reply> {
    ctx.require_admin()?;
    check_form(command)?;
    let id = ChannelId(command.channel);
    channel(&ctx.changes, id)?;
    let mut done = PutBack::default();
    for message in &command.messages {
        match judge(ctx, id, (message, command.overwrite))? {
            Verdict::Restore(row) => {
                restore(ctx, id, (message, row));
                done.restored += 1;
            }
            Verdict::Kept => done.kept += 1,
            Verdict::Unchanged => done.unchanged += 1,
            Verdict::Missing => done.missing += 1,
        }
    }
    if done.restored > 0 {
        let after = serde_json::json!({
            "as_of_ms": command.as_of_ms, "backup": command.backup, "overwrite": command.overwrite,
            "restored": done.restored, "kept": done.kept,
        });
        ctx.audit(Act { action: "message.restore", kind: "channel", target: id.0, before: None, after: Some(after) });
    }
    Ok(Reply::PutBack(done))
}

fn check_form(command: &RestoreMessages) -> Ruled<()> {
    let mut seen = HashSet::new();
    let text = |message: &RestoredMessage| {
        !message.body.trim().is_empty() && message.body.len() <= limits::MESSAGE_BYTES_MAX && seen.insert(message.seq)
    };
    let bytes: usize = command.messages.iter().map(|message| message.body.len()).sum();
    let bounded = (1..=limits::RESTORE_MESSAGES_MAX).contains(&command.messages.len())
        && bytes <= limits::RESTORE_MESSAGES_BYTES_MAX;
    if !bounded || !is_name(&command.backup) || !command.messages.iter().all(text) {
        return Err(RefusalCode::InvalidCommand.into());
    }
    Ok(())
}

fn judge(ctx: &Context<'_>, id: ChannelId, (wanted, overwrite): (&RestoredMessage, bool)) -> Ruled<Verdict> {
    let Some(row) = ctx.changes.row::<rows::Message>(Key::Message(id, wanted.seq))? else {
        return Ok(Verdict::Missing);
    };
    Ok(if row.id != wanted.id {
        Verdict::Missing
    } else if row.deleted_ms != 0 {
        Verdict::Restore(row)
    } else if row.body == wanted.body {
        Verdict::Unchanged
    } else if overwrite {
        Verdict::Restore(row)
    } else {
        Verdict::Kept
    })
}

fn restore(ctx: &mut Context<'_>, id: ChannelId, (wanted, row): (&RestoredMessage, std::sync::Arc<rows::Message>)) {
    let mut new = (*row).clone();
    new.edits += 1;
    new.body.clone_from(&wanted.body);
    new.deleted_ms = 0;
    new.edited_ms = ctx.now_ms;
    let view = event::Message::of(id, wanted.seq, &new);
    ctx.changes.replace(Key::Message(id, wanted.seq), Some(Value::Message(row)), new);
    ctx.events.push(Event::MessageUpdated { message: view });
}
