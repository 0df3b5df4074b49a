//! The chat state machine: `apply` is the only way state changes.
//!
//! - Deterministic: the same entries on the same state give the same writes, replies and events on every node.
//! - A refusal is an outcome like any other. An entry that cannot be read, or a state that fails, is fatal: the node
//!   stops rather than differ from the others.

use prost::Message as _;

use super::chat::{Context, Reply, Ruled, channels, invites, messages, restores, sessions, settings, users};
use super::command::{Actor, Command, Envelope, StateHashRecord};
use super::entry::{Digest, Entry, EntryKind};
use super::event::Event;
use super::refusal::{Refusal, RuleError};
use super::view::{Changes, View, ViewError, Write};
use super::{backups, merge, pair};

/// What one entry did.
#[derive(Debug)]
pub struct Applied {
    /// The rows to commit; empty when the command was refused.
    pub writes: Vec<Write>,
    /// The answer to whoever asked.
    pub outcome: Result<Reply, Refusal>,
    /// What to tell clients; empty when the command was refused.
    pub events: Vec<Event>,
    /// A state hash that an earlier node recorded, to be compared with our own at that index.
    pub recorded_hash: Option<(u64, Digest)>,
}

impl Applied {
    const fn nothing() -> Self {
        Self { writes: Vec::new(), outcome: Ok(Reply::Done), events: Vec::new(), recorded_hash: None }
    }
}

/// An entry that this node cannot apply. It must stop.
#[derive(Debug)]
pub enum ApplyError {
    /// The payload does not parse, or holds no command that this build knows.
    Undecodable {
        /// Which entry.
        index: u64,
        /// Why.
        cause: String,
    },
    /// The state failed.
    View(ViewError),
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Undecodable { index, cause } => write!(
                f,
                "log record {index} cannot be applied: {cause}; a newer version of holdfast may have written it"
            ),
            Self::View(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ApplyError {}

/// The state machine. What it holds beside the state is a cache derived from it.
#[derive(Default)]
pub struct Machine {
    pub(super) sent: messages::SentRings,
    pub(super) arrived: merge::Arrived,
}

impl Machine {
    /// Applies one entry to the state in `view`. The caller commits the writes before it applies the next.
    ///
    /// # Errors
    /// [`ApplyError`]: the node must stop.
    pub fn apply(&mut self, entry: &Entry, view: &dyn View) -> Result<Applied, ApplyError> {
        match entry.kind {
            EntryKind::EpochStarted => Ok(Applied::nothing()),
            EntryKind::StateHash => Ok(Applied { recorded_hash: state_hash(entry)?, ..Applied::nothing() }),
            EntryKind::Command if entry.erased => Ok(Applied::nothing()),
            EntryKind::Command => {
                let envelope = Envelope::decode(entry.payload.clone())
                    .map_err(|e| ApplyError::Undecodable { index: entry.index, cause: e.to_string() })?;
                self.apply_command(entry, &envelope, view)
            }
        }
    }

    fn apply_command(&mut self, entry: &Entry, envelope: &Envelope, view: &dyn View) -> Result<Applied, ApplyError> {
        let unknown = || ApplyError::Undecodable { index: entry.index, cause: "it holds no known command".to_owned() };
        let command = envelope.command.as_ref().ok_or_else(unknown)?;
        let nobody = Actor::default();
        let mut ctx = Context {
            id: entry.id(),
            index: entry.index,
            now_ms: entry.unix_ms(),
            late_ms: 0,
            actor: envelope.actor.as_ref().unwrap_or(&nobody),
            changes: Changes::new(view),
            events: Vec::new(),
        };
        match self.rule(&mut ctx, command) {
            Ok(reply) => Ok(Applied {
                writes: ctx.changes.into_writes(),
                outcome: Ok(reply),
                events: ctx.events,
                recorded_hash: None,
            }),
            Err(RuleError::Refused(refusal)) => Ok(Applied { outcome: Err(refusal), ..Applied::nothing() }),
            Err(RuleError::View(error)) => Err(ApplyError::View(error)),
        }
    }

    pub(super) fn rule(&mut self, ctx: &mut Context<'_>, command: &Command) -> Ruled<Reply> {
        match command {
            Command::SendMessage(c) => messages::send(ctx, &mut self.sent, c),
            Command::EditMessage(c) => messages::edit(ctx, c),
            Command::DeleteMessage(c) => messages::delete(ctx, c),
            Command::MarkRead(c) => messages::mark_read(ctx, c),
            Command::SetUp(c) => settings::set_up(ctx, c),
            Command::CreateUser(c) => users::create_by_admin(ctx, c),
            Command::UpdateUser(c) => users::update(ctx, c),
            Command::SetPassword(c) => users::set_password(ctx, c),
            Command::CreateSession(c) => sessions::create(ctx, c),
            Command::RevokeSession(c) => sessions::revoke(ctx, c),
            Command::CreateInvite(c) => invites::create(ctx, c),
            Command::RevokeInvite(c) => invites::revoke(ctx, c),
            Command::AcceptInvite(c) => invites::accept(ctx, c),
            Command::CreateChannel(c) => channels::create(ctx, c),
            Command::OpenDirect(c) => channels::open_direct(ctx, c),
            Command::UpdateChannel(c) => channels::update(ctx, c),
            Command::PutMember(c) => channels::put_member(ctx, c),
            Command::RemoveMember(c) => channels::remove_member(ctx, c),
            Command::UpdateMembership(c) => channels::update_membership(ctx, c),
            Command::UpdateSettings(c) => settings::update(ctx, c),
            Command::NoteCertificate(c) => settings::note_certificate(ctx, c),
            Command::UpdatePair(c) => pair::update(ctx, c),
            Command::NotePair(c) => {
                if c.what() == super::command::PairEvent::Salvaged {
                    self.arrived.forget();
                }
                pair::note(ctx, c)
            }
            Command::Salvage(c) => merge::apply(self, ctx, c),
            Command::ResolveConflict(c) => merge::resolve(self, ctx, c),
            Command::UpdateBackups(c) => backups::update(ctx, c),
            Command::NoteBackup(c) => backups::note(ctx, c),
            Command::NoteRestore(c) => restores::note(ctx, c),
            Command::RestoreMessages(c) => restores::put_back(ctx, c),
        }
    }
}

fn state_hash(entry: &Entry) -> Result<Option<(u64, Digest)>, ApplyError> {
    let undecodable = |cause: String| ApplyError::Undecodable { index: entry.index, cause };
    let record = StateHashRecord::decode(entry.payload.clone()).map_err(|e| undecodable(e.to_string()))?;
    let hash = record.hash.as_ref().try_into().map_err(|_| undecodable("the hash is not 32 bytes".to_owned()))?;
    Ok(Some((record.index, hash)))
}

/// Whether a command would be refused by the state as it is now: asked before it is logged, so that what is plainly
/// wrong never reaches the log. The answer that counts is the one when it is applied.
///
/// # Errors
/// The refusal, or a failing state.
pub fn check(view: &dyn View, envelope: &Envelope, now_ms: u64) -> Result<(), RuleError> {
    let nobody = Actor::default();
    let actor = envelope.actor.as_ref().unwrap_or(&nobody);
    match &envelope.command {
        None => Err(super::refusal::RefusalCode::InvalidCommand.into()),
        Some(Command::SendMessage(c)) => {
            let sender = super::ids::UserId(actor.user);
            match messages::check_send(view, sender, c) {
                // A resend goes through even where a first send would now be refused: its answer is the first message.
                Err(RuleError::Refused(_)) if messages::was_sent(view, sender, &c.client_id)? => Ok(()),
                checked => checked,
            }
        }
        Some(Command::MarkRead(_)) => Ok(()),
        Some(Command::Salvage(_)) if actor.is_system() => Ok(()),
        Some(command) => {
            let changes = Changes::new(view);
            let mut ctx =
                Context { id: u64::MAX, index: u64::MAX, now_ms, late_ms: 0, actor, changes, events: Vec::new() };
            Machine::default().rule(&mut ctx, command).map(|_| ())
        }
    }
}
