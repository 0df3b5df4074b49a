//! Texts of messages out of a backup into the running system, "as of five past two". The backup's state is made in a scratch
//! directory; what differs becomes commands like any other. Must never write into the running node's data itself, never
//! propose text that is not of this node's own history, and never show text to whoever asks for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::RestoreError;
use super::fetch::{Source, Stage, Tell};
use super::open::Opened;
use super::plan::{Catalogue, Moment};
use super::stage::Staging;
use super::{Checked, build_and_open, check_room, fetch, try_keys};
use crate::backup::crypt::Identity;
use crate::backup::repository::Repository;
use crate::core::chat::restores::PutBack;
use crate::core::command::{RestoreMessages, RestoredMessage};
use crate::core::entry::Digest;
use crate::core::ids::ChannelId;
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::{Direction, ViewError, ViewExt as _};
use crate::limits;
use crate::node::Node;

/// Which texts, from where.
#[derive(Clone)]
pub struct LiveOptions {
    /// The repository.
    pub repository: Repository,
    /// Private keys that its parts may be encrypted for.
    pub keys: Vec<Identity>,
    /// The fingerprint that all manifests must be signed by. Without it the node must still have the log to compare with.
    pub signer: Option<String>,
    /// The node's cluster.
    pub cluster: [u8; 16],
    /// The channel.
    pub channel: ChannelId,
    /// As it was at this time, in Unix milliseconds.
    pub as_of_ms: u64,
    /// Only these messages, by id.
    pub messages: Option<BTreeSet<u64>>,
    /// Also where somebody wrote a newer text since.
    pub overwrite: bool,
    /// Where the backup's state is made for the time of the work.
    pub scratch: PathBuf,
}

/// What was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = MessagesRestored)]
pub struct LiveReport {
    /// The backup that holds the moment.
    pub backup: String,
    /// The last record of the state that was made.
    pub index: u64,
    /// When it was proposed, in Unix milliseconds.
    pub at_ms: u64,
    /// Messages of the channel that had a text then, as far as they were asked for.
    pub found: u64,
    /// What became of them; with a dry run what would.
    #[serde(flatten)]
    pub outcome: PutBack,
}

/// Carries one command out, or says what it would do.
pub type Put<'a> = &'a mut dyn FnMut(RestoreMessages) -> Result<PutBack, RestoreError>;

fn place(scratch: &Path) -> PathBuf {
    scratch.join("messages")
}

/// Removes what a killed run has left. Called at the start of the server.
///
/// # Errors
/// [`RestoreError::Io`].
pub fn sweep(scratch: &Path) -> Result<(), RestoreError> {
    Staging::sweep(&place(scratch))
}

/// Does the work. Blocks; called from a thread that may, within a tokio runtime's context. `put` is given every command.
///
/// # Errors
/// [`RestoreError`], also what `put` says; commands before it were carried out.
pub fn put_back(
    options: &LiveOptions,
    (live, put): (&Node, Put<'_>),
    tell: Tell<'_>,
    cancel: &CancellationToken,
) -> Result<LiveReport, RestoreError> {
    let source = Source::new(options.repository.place(), &options.keys, (tell, cancel));
    if live.projection().row::<rows::Channel>(Key::Channel(options.channel)).map_err(state)?.is_none() {
        return Err(RestoreError::ChannelGone(options.channel));
    }
    let checked = check(&source, options)?;
    check_room(&options.scratch, checked.bytes)?;
    let staging = Staging::begin(&place(&options.scratch))?;
    let opened = build_and_open(&source, &checked, staging.dir())?;
    same_history(&opened, (live, options))?;
    source.enter(Stage::Placing)?;
    let mut report = LiveReport {
        backup: checked.plan.newest().name(),
        index: opened.index,
        at_ms: opened.at_ms,
        found: 0,
        outcome: PutBack::default(),
    };
    compare(&source, (&opened, live), (options, put), &mut report)?;
    drop(opened); // before the scratch directory goes
    Ok(report)
}

fn state(error: ViewError) -> RestoreError {
    RestoreError::Start(error.to_string())
}

/// As for a restore, but without files: only texts are wanted.
fn check(source: &Source<'_>, options: &LiveOptions) -> Result<Checked, RestoreError> {
    source.enter(Stage::Checking)?;
    let moment = Moment::Time(options.as_of_ms);
    let plan = Catalogue::list(source.place, options.signer.as_deref())?.plan(&moment)?;
    if plan.base().cluster != data_encoding::HEXLOWER.encode(&options.cluster) {
        return Err(RestoreError::OtherHistory);
    }
    let bytes = fetch::compare_lengths(source, &plan, &[])?;
    try_keys(source, &plan)?;
    source.set_total(bytes + source.bytes_done());
    Ok(Checked { plan, blobs: Vec::new(), bytes })
}

/// The texts must be those of this very log: anybody could sign a backup with a key of their own.
fn same_history(opened: &Opened, (live, options): (&Node, &LiveOptions)) -> Result<(), RestoreError> {
    let chain: Option<Digest> = live.log().chain_hash_at(opened.index).ok();
    match chain {
        Some(chain) if chain != opened.chain => Err(RestoreError::OtherHistory),
        None if options.signer.is_none() => Err(RestoreError::HistoryUnknown),
        _ => Ok(()),
    }
}

/// Goes through the channel as it was, and proposes what is to change.
fn compare(
    source: &Source<'_>,
    (opened, live): (&Opened, &Node),
    (options, put): (&LiveOptions, Put<'_>),
    report: &mut LiveReport,
) -> Result<(), RestoreError> {
    let (then, now) = (opened.node.projection(), live.projection());
    let mut batch = Batch { options, backup: report.backup.clone(), messages: Vec::new(), bytes: 0 };
    let mut next = 0;
    loop {
        source.go_on()?;
        let range = Key::Message(options.channel, next)..=Key::Message(options.channel, u64::MAX);
        let page = then.rows::<rows::Message>(range, Direction::Up, limits::RESTORE_PAGE_MESSAGES).map_err(state)?;
        let Some((Key::Message(_, last), _)) = page.last() else { break };
        next = last + 1;
        for (key, old) in &page {
            let asked = options.messages.as_ref().is_none_or(|wanted| wanted.contains(&old.id));
            let Key::Message(_, seq) = *key else { continue };
            if !asked || old.deleted_ms != 0 {
                continue;
            }
            report.found += 1;
            let new = now.row::<rows::Message>(*key).map_err(state)?;
            match judge(old, new.as_deref(), options.overwrite) {
                Some(verdict) => report.outcome = report.outcome.plus(verdict),
                None => {
                    let message = RestoredMessage { seq, id: old.id, body: old.body.clone() };
                    if let Some(full) = batch.add(message) {
                        report.outcome = report.outcome.plus(put(full)?);
                    }
                }
            }
        }
    }
    if let Some(rest) = batch.take() {
        report.outcome = report.outcome.plus(put(rest)?);
    }
    Ok(())
}

/// What is clear without asking; `None`: it is to be put back.
fn judge(old: &Arc<rows::Message>, new: Option<&rows::Message>, overwrite: bool) -> Option<PutBack> {
    let none = PutBack::default();
    match new {
        Some(new) if new.id == old.id => {
            if new.deleted_ms != 0 || (new.body != old.body && overwrite) {
                None
            } else if new.body == old.body {
                Some(PutBack { unchanged: 1, ..none })
            } else {
                Some(PutBack { kept: 1, ..none })
            }
        }
        _ => Some(PutBack { missing: 1, ..none }),
    }
}

/// Messages that wait to become a command.
struct Batch<'a> {
    options: &'a LiveOptions,
    backup: String,
    messages: Vec<RestoredMessage>,
    bytes: usize,
}

impl Batch<'_> {
    /// Adds one; gives the command of those before it when it is full.
    fn add(&mut self, message: RestoredMessage) -> Option<RestoreMessages> {
        let full = self.messages.len() == limits::RESTORE_MESSAGES_MAX
            || self.bytes + message.body.len() > limits::RESTORE_MESSAGES_BYTES_MAX;
        let ready = if full { self.take() } else { None };
        self.bytes += message.body.len();
        self.messages.push(message);
        ready
    }

    fn take(&mut self) -> Option<RestoreMessages> {
        self.bytes = 0;
        let messages = std::mem::take(&mut self.messages);
        (!messages.is_empty()).then(|| RestoreMessages {
            channel: self.options.channel.0,
            as_of_ms: self.options.as_of_ms,
            backup: self.backup.clone(),
            overwrite: self.options.overwrite,
            messages,
        })
    }
}
