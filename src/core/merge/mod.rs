//! What happens to a diverged tail: what one side of a fork acknowledged and the active lacks. `salvage` makes a list of
//! commands out of it, on the returning node; `apply` takes each of them on the active, under its original id, time and
//! author; what both sides changed becomes a conflict that an admin decides. `DESIGN.md` beside this file has the rules.
//!
//! - Nothing a person typed is thrown away: it is applied, or kept in a conflict, or was taken back in the tail itself.
//! - An item is applied once, for ever: the mark of its tail says up to which ordinal.
//! - An item is refused only when it is not in its order. Whatever stands in its way otherwise, it is done afterwards.

mod arrived;
mod conflict;
mod late;
mod overlay;
mod plan;

pub use arrived::Arrived;
pub(crate) use conflict::resolve;
pub use conflict::{conflict_of, view_of};
pub use plan::{Dropped, Plan, salvage};

use bytes::Bytes;
use prost::Message as _;

use super::chat::{Context, Reply, Ruled};
use super::command::{Command, Envelope, Salvage, TailId};
use super::ids::Hlc;
use super::keys::{Key, LookupHash};
use super::machine::Machine;
use super::refusal::{RefusalCode, RuleError};
use super::rows;
use super::view::{Changes, View, ViewError, ViewExt};

/// The key of a tail's mark.
fn mark_key(tail: &TailId) -> Key {
    let digest = blake3::hash(&tail.encode_to_vec());
    let mut hash: LookupHash = [0; 16];
    hash.copy_from_slice(digest.as_bytes().split_at(16).0);
    Key::TailMark(hash)
}

/// The ordinal of the first item of a tail that was not applied yet: where whoever proposes them begins, or goes on.
///
/// # Errors
/// A failing state.
pub fn next_ordinal(view: &(impl View + ?Sized), tail: &TailId) -> Result<u64, ViewError> {
    Ok(view.row::<rows::TailMark>(mark_key(tail))?.map_or(0, |mark| mark.ordinal) + 1)
}

/// The command of an item and for whom it is; `None` when there is none that this build knows.
#[must_use]
pub fn inner(item: &Salvage) -> Option<Envelope> {
    let envelope = Envelope::decode(item.envelope.clone()).ok()?;
    let usable = !matches!(envelope.command, None | Some(Command::Salvage(_)));
    (usable && envelope.actor.is_some()).then_some(envelope)
}

/// An envelope's bytes.
fn encoded(envelope: &Envelope) -> Bytes {
    envelope.encode_to_vec().into()
}

/// The hash by which a password hash is compared without being told.
fn password_mark(password_hash: &str) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(password_hash.as_bytes()).as_bytes().split_at(16).0)
}

/// Applies an item of a tail on the active.
pub(crate) fn apply(machine: &mut Machine, ctx: &mut Context<'_>, item: &Salvage) -> Ruled<Reply> {
    if !ctx.actor.is_system() {
        return Err(RefusalCode::Forbidden.into());
    }
    let tail = item.tail.ok_or(RefusalCode::InvalidCommand)?;
    let envelope = inner(item).ok_or(RefusalCode::InvalidCommand)?;
    let key = mark_key(&tail);
    let mark = ctx.changes.row::<rows::TailMark>(key)?.map(|mark| (*mark).clone());
    let done = mark.as_ref().map_or(0, |mark| mark.ordinal);
    if item.ordinal <= done {
        return Ok(Reply::Done);
    }
    if item.ordinal > done + 1 {
        return Err(RefusalCode::SalvageGap.into());
    }
    let reply = attempt(machine, ctx, (item, &envelope))?;
    let first_ms = mark.map_or(ctx.now_ms, |mark| mark.first_ms);
    let mark = rows::TailMark { tail: Some(tail), ordinal: item.ordinal, first_ms, last_ms: ctx.now_ms };
    ctx.changes.put(key, mark)?;
    Ok(reply)
}

/// Runs an item on changes of its own. When it is refused they are dropped, and what matters of it becomes a conflict.
fn attempt(machine: &mut Machine, ctx: &mut Context<'_>, work: (&Salvage, &Envelope)) -> Ruled<Reply> {
    let (item, envelope) = work;
    let nobody = super::command::Actor::default();
    let hlc = Hlc(item.hlc);
    let mut inside = Context {
        id: hlc.id(item.node as u16),
        index: ctx.index,
        now_ms: hlc.unix_ms(),
        late_ms: ctx.now_ms,
        actor: envelope.actor.as_ref().unwrap_or(&nobody),
        changes: Changes::new(&ctx.changes),
        events: Vec::new(),
    };
    let outcome = match late::run(machine, &mut inside, work) {
        Err(RuleError::Refused(refusal)) => {
            inside.changes = Changes::new(&ctx.changes);
            inside.events.clear();
            conflict::after_refusal(&mut inside, work, &refusal)
        }
        outcome => outcome,
    };
    let (writes, events) = (inside.changes.into_writes(), inside.events);
    let reply = outcome?;
    ctx.changes.absorb(writes);
    ctx.events.extend(events);
    Ok(reply)
}
