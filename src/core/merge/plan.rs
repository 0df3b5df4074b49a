//! What is worth salvaging of a diverged tail: computed on the returning node, whose state stands at the record before the
//! fork. The tail is replayed on top of it to learn what it did; what it did and undid again is folded away.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message as _;

use super::overlay::Overlay;
use super::{encoded, inner, password_mark};
use crate::core::chat::{Reply, json};
use crate::core::command::{
    Actor, Command, DeleteMessage, EditMessage, Envelope, MarkRead, ReadMark, Salvage, SendMessage, TailId,
    UpdateChannel, UpdateSettings, UpdateUser,
};
use crate::core::entry::{Entry, EntryKind};
use crate::core::event;
use crate::core::ids::{ChannelId, InviteId, SessionId, UserId};
use crate::core::keys::Key;
use crate::core::machine::{Applied, ApplyError, Machine};
use crate::core::rows;
use crate::core::view::{View, ViewError, ViewExt};
use crate::limits;

/// What is to be done about a tail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Which tail; `None` for an empty one.
    pub tail: Option<TailId>,
    /// What is proposed on the active as `Command::Salvage` by `Actor::system()`, one after the other, from
    /// [`next_ordinal`](super::next_ordinal) on.
    pub items: Vec<Salvage>,
    /// The records that nothing is proposed for; they are only in the quarantine.
    pub dropped: Vec<Dropped>,
}

/// A record that nothing is proposed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its index in the tail.
    pub index: u64,
    /// Why, for people.
    pub why: &'static str,
}

/// Where a record of the tail came from.
#[derive(Clone, Copy)]
struct Header {
    index: u64,
    epoch: u64,
    hlc: u64,
    site: u32,
    node: u32,
}

/// What several records of the tail may have changed one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    User(u64),
    Password(u64),
    Channel(u64),
    Settings,
    Text(ChannelId, u64),
}

/// An item before the end of the tail is known.
struct Draft {
    header: Header,
    actor: Actor,
    command: Command,
    /// Where a message that the tail sent was put there.
    place: Option<(ChannelId, u64)>,
    seen: Bytes,
}

/// What to salvage of a tail, whose first record is the one at the fork. `view` is the state at the record before it.
///
/// # Errors
/// [`ApplyError`] when a record of the tail cannot be applied to this state: then it is not the state before the fork.
pub fn salvage(view: &dyn View, tail: &[Entry]) -> Result<Plan, ApplyError> {
    let (Some(first), Some(last)) = (tail.first(), tail.last()) else { return Ok(Plan::default()) };
    let tail_id = TailId { node: last.origin.node.into(), epoch: last.epoch, fork: first.index };
    let mut reading = Reading::new(view);
    let mut machine = Machine::default();
    for entry in tail {
        let applied = machine.apply(entry, &reading.end)?;
        reading.entry(entry, &applied).map_err(ApplyError::View)?;
    }
    reading.finish(tail_id).map_err(ApplyError::View)
}

/// A tail being read.
struct Reading<'a> {
    fork: &'a dyn View,
    end: Overlay<'a>,
    drafts: Vec<Option<Draft>>,
    slots: HashMap<Slot, usize>,
    /// Whose read marks moved, with the record that moved one last.
    readers: BTreeMap<UserId, Header>,
    dropped: Vec<Dropped>,
}

impl<'a> Reading<'a> {
    fn new(fork: &'a dyn View) -> Self {
        let (drafts, dropped) = (Vec::new(), Vec::new());
        let (slots, readers) = (HashMap::new(), BTreeMap::new());
        Self { fork, end: Overlay::new(fork), drafts, slots, readers, dropped }
    }

    /// Takes over what a record did.
    fn entry(&mut self, entry: &Entry, applied: &Applied) -> Result<(), ViewError> {
        let password_before = self.end_password(applied)?;
        self.end.commit(&applied.writes);
        if entry.kind != EntryKind::Command {
            return Ok(());
        }
        let effective = applied.writes.iter().any(|write| !matches!(write.key, Key::TailMark(_)));
        let Some((header, envelope)) = opened(entry).filter(|_| effective && applied.outcome.is_ok()) else {
            self.drop(entry.index, "it was refused there, or changed nothing");
            return Ok(());
        };
        for write in &applied.writes {
            if let Key::Membership(user, _) = write.key {
                self.readers.insert(user, header);
            }
        }
        let Envelope { actor, command: Some(command) } = envelope else { return Ok(()) };
        let actor = actor.unwrap_or_default();
        let draft = Draft { header, actor, command, place: None, seen: password_before.unwrap_or_default() };
        let clashed = applied.writes.iter().any(|write| matches!(write.key, Key::Conflict(_)));
        match &applied.outcome {
            Ok(Reply::Sent(sent)) if !sent.duplicate => {
                self.drafts.push(Some(Draft { place: Some((sent.channel, sent.seq)), ..draft }));
            }
            // Part of a tail that was salvaged there: what it clashed with there says nothing about here.
            _ if clashed && !matches!(draft.command, Command::ResolveConflict(_)) => self.drafts.push(Some(draft)),
            Ok(Reply::Sent(sent)) => self.text(draft, (sent.channel, sent.seq))?,
            _ => self.draft(draft)?,
        }
        Ok(())
    }

    /// The hash of the password that a record replaces.
    fn end_password(&self, applied: &Applied) -> Result<Option<Bytes>, ViewError> {
        for write in &applied.writes {
            if let Key::User(_) = write.key {
                let row = self.end.row::<rows::User>(write.key)?;
                return Ok(row.map(|row| password_mark(&row.password_hash)));
            }
        }
        Ok(None)
    }

    fn drop(&mut self, index: u64, why: &'static str) {
        self.dropped.push(Dropped { index, why });
    }

    fn draft(&mut self, draft: Draft) -> Result<(), ViewError> {
        match &draft.command {
            Command::MarkRead(_) => {} // from the end of the tail, in `marks`
            Command::EditMessage(c) => {
                let place = (ChannelId(c.channel), c.seq);
                self.text(draft, place)?;
            }
            Command::DeleteMessage(c) => {
                let place = (ChannelId(c.channel), c.seq);
                self.text(draft, place)?;
            }
            Command::UpdateUser(c) => {
                let user = c.user;
                self.fold(Slot::User(user), draft);
                // The version is the one at the fork: the password, which changes it too, comes after it.
                if let Some(password) = self.slots.get(&Slot::Password(user)).copied() {
                    let moved = self.drafts.get_mut(password).and_then(Option::take);
                    self.slots.insert(Slot::Password(user), self.drafts.len());
                    self.drafts.push(moved);
                }
            }
            Command::SetPassword(c) => {
                let slot = Slot::Password(c.user);
                self.fold(slot, draft);
            }
            Command::UpdateChannel(c) => {
                let slot = Slot::Channel(c.channel);
                self.fold(slot, draft);
            }
            Command::UpdateSettings(_) => self.fold(Slot::Settings, draft),
            Command::UpdatePair(_) => self.drop(draft.header.index, "the pair is what the active says"),
            Command::UpdateBackups(_) => {
                self.drop(draft.header.index, "the backups' settings are what the active says")
            }
            _ => self.drafts.push(Some(draft)),
        }
        Ok(())
    }

    /// A change of a message: of one that the tail sent, it is part of the send.
    fn text(&mut self, draft: Draft, (channel, seq): (ChannelId, u64)) -> Result<(), ViewError> {
        if seq <= self.last_seq_at_fork(channel)? {
            self.fold(Slot::Text(channel, seq), draft);
        }
        Ok(())
    }

    fn last_seq_at_fork(&self, channel: ChannelId) -> Result<u64, ViewError> {
        Ok(self.fork.row::<rows::ChannelHead>(Key::ChannelHead(channel))?.map_or(0, |head| head.last_seq))
    }

    /// Puts a change behind the one that it continues, and takes over what that one set.
    fn fold(&mut self, slot: Slot, mut draft: Draft) {
        let place = self.slots.insert(slot, self.drafts.len());
        let earlier = place.and_then(|at| self.drafts.get_mut(at)).and_then(Option::take);
        if let Some(earlier) = earlier {
            let administrative =
                |c: &Command| matches!(c, Command::UpdateUser(c) if c.role.or(c.disabled.map(i32::from)).is_some());
            if administrative(&earlier.command) && !administrative(&draft.command) {
                draft.actor = earlier.actor; // who may do the one may do the other, but not the other way round
            }
            draft.command = continued(earlier.command, draft.command);
            draft.seen = earlier.seen;
        }
        self.drafts.push(Some(draft));
    }

    fn finish(mut self, tail: TailId) -> Result<Plan, ViewError> {
        let mut items = Vec::new();
        for draft in std::mem::take(&mut self.drafts).into_iter().flatten() {
            items.extend(self.item(draft)?);
        }
        items.extend(self.marks()?);
        for (ordinal, item) in (1..).zip(&mut items) {
            item.tail = Some(tail);
            item.ordinal = ordinal;
        }
        Ok(Plan { tail: Some(tail), items, dropped: self.dropped })
    }

    /// The item of a draft, with what the end of the tail says.
    fn item(&mut self, draft: Draft) -> Result<Option<Salvage>, ViewError> {
        let Draft { header, actor, command, place, seen } = draft;
        let mut item = blank(header);
        item.seen = seen;
        let command = match command {
            Command::SendMessage(c) => {
                let Some(place) = place else {
                    // A message that could not be put anywhere there either.
                    item.envelope = sealed(actor, Command::SendMessage(c));
                    return Ok(Some(item));
                };
                let row = self.end.row::<rows::Message>(Key::Message(place.0, place.1))?;
                let Some(row) = row.filter(|row| row.deleted_ms == 0) else {
                    self.drop(header.index, "the message was deleted there");
                    return Ok(None);
                };
                (item.edits, item.edited_ms) = (row.edits, row.edited_ms);
                item.seq_at_fork = self.last_seq_at_fork(place.0)?;
                item.other = text(&event::Message::of(place.0, place.1, &row));
                Command::SendMessage(SendMessage { body: row.body.clone(), ..c })
            }
            Command::CreateSession(c) => {
                let user = self.end.row::<rows::User>(Key::User(UserId(c.user)))?;
                let id = crate::core::ids::Hlc(header.hlc).id(header.node as u16);
                if self.end.get(&Key::Session(SessionId(id)))?.is_none() {
                    self.drop(header.index, "the session was ended there");
                    return Ok(None);
                }
                item.seen = user.map(|user| password_mark(&user.password_hash)).unwrap_or_default();
                Command::CreateSession(c)
            }
            other => self.settled(&mut item, other)?,
        };
        item.envelope = sealed(actor, command);
        Ok(Some(item))
    }

    /// A command with the versions of the fork and the values of the end.
    fn settled(&self, item: &mut Salvage, command: Command) -> Result<Command, ViewError> {
        let version = |found: Option<u64>| found.unwrap_or(1);
        Ok(match command {
            Command::UpdateUser(c) => {
                item.other = self.user(c.user)?;
                let row = self.fork.row::<rows::User>(Key::User(UserId(c.user)))?;
                Command::UpdateUser(UpdateUser { version: version(row.map(|row| row.version)), ..c })
            }
            Command::SetPassword(c) => {
                item.other = self.user(c.user)?;
                Command::SetPassword(c)
            }
            Command::UpdateChannel(c) => {
                item.other = self.channel(c.channel)?;
                let row = self.fork.row::<rows::Channel>(Key::Channel(ChannelId(c.channel)))?;
                Command::UpdateChannel(UpdateChannel { version: version(row.map(|row| row.version)), ..c })
            }
            Command::UpdateSettings(c) => {
                let row = self.end.row::<rows::Settings>(Key::Settings)?.unwrap_or_default();
                item.other = text(&event::Settings::from(&*row));
                let row = self.fork.row::<rows::Settings>(Key::Settings)?;
                Command::UpdateSettings(UpdateSettings { version: version(row.map(|row| row.version)), ..c })
            }
            Command::EditMessage(EditMessage { channel, seq, .. })
            | Command::DeleteMessage(DeleteMessage { channel, seq, .. }) => {
                self.changed_text(item, (ChannelId(channel), seq), command)?
            }
            Command::RevokeInvite(c) => {
                let row = self.end.row::<rows::Invite>(Key::Invite(InviteId(c.invite)))?;
                item.other = row.map(|row| text(&event::Invite::from(&*row))).unwrap_or_default();
                Command::RevokeInvite(c)
            }
            other => {
                item.other = typed(&other);
                other
            }
        })
    }

    /// The change of a message from the fork to the end of the tail.
    fn changed_text(
        &self,
        item: &mut Salvage,
        (id, seq): (ChannelId, u64),
        command: Command,
    ) -> Result<Command, ViewError> {
        let key = Key::Message(id, seq);
        let (fork, end) = (self.fork.row::<rows::Message>(key)?, self.end.row::<rows::Message>(key)?);
        let (Some(fork), Some(end)) = (fork, end) else { return Ok(command) };
        item.other = text(&event::Message::of(id, seq, &end));
        let (channel, version) = (id.0, fork.edits + 1);
        if end.deleted_ms > 0 {
            return Ok(Command::DeleteMessage(DeleteMessage { channel, seq, version }));
        }
        Ok(Command::EditMessage(EditMessage { channel, seq, version, body: end.body.clone() }))
    }

    fn user(&self, id: u64) -> Result<String, ViewError> {
        let row = self.end.row::<rows::User>(Key::User(UserId(id)))?;
        Ok(row.map(|row| text(&event::User::from(&*row))).unwrap_or_default())
    }

    fn channel(&self, id: u64) -> Result<String, ViewError> {
        let row = self.end.row::<rows::Channel>(Key::Channel(ChannelId(id)))?;
        let head = self.end.row::<rows::ChannelHead>(Key::ChannelHead(ChannelId(id)))?.unwrap_or_default();
        Ok(row.map(|row| text(&event::Channel::of(&row, &head))).unwrap_or_default())
    }

    /// The read marks that moved, no further than the fork: what was sent behind it has other numbers on the active.
    fn marks(&self) -> Result<Vec<Salvage>, ViewError> {
        let mut moved: BTreeMap<UserId, Vec<ReadMark>> = BTreeMap::new();
        for (key, row) in self.end.changed() {
            let (Key::Membership(user, channel), Some(rows::Value::Membership(row))) = (key, row) else { continue };
            let Some(before) = self.fork.row::<rows::Membership>(*key)? else { continue };
            let seq = row.read_seq.min(self.last_seq_at_fork(*channel)?);
            if seq > before.read_seq {
                moved.entry(*user).or_default().push(ReadMark { channel: channel.0, seq });
            }
        }
        let mut items = Vec::new();
        for (user, marks) in moved {
            let Some(header) = self.readers.get(&user) else { continue };
            for marks in marks.chunks(limits::SALVAGE_MARKS_MAX) {
                let command = Command::MarkRead(MarkRead { marks: marks.to_vec() });
                items.push(Salvage { envelope: sealed(Actor::user_only(user), command), ..blank(*header) });
            }
        }
        Ok(items)
    }
}

/// A record's envelope and where it came from. What was salvaged in this tail comes from an earlier one.
fn opened(entry: &Entry) -> Option<(Header, Envelope)> {
    if entry.erased {
        return None;
    }
    let header = Header {
        index: entry.index,
        epoch: entry.epoch,
        hlc: entry.hlc.0,
        site: entry.origin.site.into(),
        node: entry.origin.node.into(),
    };
    let envelope = Envelope::decode(entry.payload.clone()).ok()?;
    let Some(Command::Salvage(item)) = &envelope.command else { return Some((header, envelope)) };
    let header = Header { index: item.index, epoch: item.epoch, hlc: item.hlc, site: item.site, node: item.node };
    Some((header, inner(item)?))
}

fn blank(header: Header) -> Salvage {
    let Header { index, epoch, hlc, site, node } = header;
    Salvage { index, epoch, hlc, site, node, ..Salvage::default() }
}

fn sealed(actor: Actor, command: Command) -> Bytes {
    encoded(&Envelope { actor: Some(actor), command: Some(command) })
}

fn text<T: serde::Serialize>(view: &T) -> String {
    json(view).map(|json| json.to_string()).unwrap_or_default()
}

/// What a person typed into a command that has no record to show for it, should it be refused.
fn typed(command: &Command) -> String {
    let value = match command {
        Command::CreateChannel(c) => serde_json::json!({"name": c.name, "topic": c.topic}),
        Command::CreateUser(c) => serde_json::json!({"username": c.username, "display_name": c.display_name}),
        Command::SetUp(c) => serde_json::json!({
            "organisation": c.organisation, "username": c.owner.as_ref().map(|owner| owner.username.clone()),
        }),
        Command::PutMember(c) => serde_json::json!({"user_id": c.user.to_string(), "role": c.role}),
        Command::RemoveMember(c) => serde_json::json!({"user_id": c.user.to_string(), "removed": true}),
        Command::CreateInvite(c) => serde_json::json!({"role": c.role, "uses_max": c.uses_max}),
        _ => return String::new(),
    };
    value.to_string()
}

/// What two changes of the same record set together: the later one wins by field.
fn continued(earlier: Command, later: Command) -> Command {
    match (earlier, later) {
        (Command::UpdateUser(a), Command::UpdateUser(b)) => Command::UpdateUser(UpdateUser {
            display_name: b.display_name.or(a.display_name),
            role: b.role.or(a.role),
            locale: b.locale.or(a.locale),
            disabled: b.disabled.or(a.disabled),
            ..b
        }),
        (Command::UpdateChannel(a), Command::UpdateChannel(b)) => Command::UpdateChannel(UpdateChannel {
            name: b.name.or(a.name),
            topic: b.topic.or(a.topic),
            archived: b.archived.or(a.archived),
            ..b
        }),
        (Command::UpdateSettings(a), Command::UpdateSettings(b)) => Command::UpdateSettings(UpdateSettings {
            organisation: b.organisation.or(a.organisation),
            default_locale: b.default_locale.or(a.default_locale),
            time_zone: b.time_zone.or(a.time_zone),
            session_days: b.session_days.or(a.session_days),
            edit_window_seconds: b.edit_window_seconds.or(a.edit_window_seconds),
            ..b
        }),
        (_, later) => later,
    }
}
