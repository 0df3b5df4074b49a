//! What holds for every sequence of commands, sensible or not. Each command is checked when it is applied, the state as a
//! whole at the end.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::core::chat::Reply;
use holdfast::core::command::{Actor, Command, Envelope};
use holdfast::core::entry::EntryKind;
use holdfast::core::ids::{ChannelId, InviteId, UserId};
use holdfast::core::keys::{Key, name_hash};
use holdfast::core::machine::{self, Applied, Machine};
use holdfast::core::refusal::{RefusalCode, RuleError};
use holdfast::core::rows::{self, ChannelKind, MemberRole, Role, TypedRow, Value};
use holdfast::core::view::{StateHash, View as _, ViewExt as _};
use holdfast::limits;
use proptest::prelude::*;

use crate::crowd::{NOBODY, Step};
use crate::node::Node;

/// What a sender has sent, in order: client id and message id.
type Sends = BTreeMap<u64, Vec<(Vec<u8>, u64)>>;

#[derive(Default)]
struct Watched {
    node: Node,
    sends: Sends,
}

impl Watched {
    fn run(mut self, steps: &[Step]) -> Self {
        for envelope in self.node.founding() {
            let envelope = self.node.by_founder(envelope);
            self.apply(&envelope);
        }
        for step in steps {
            for envelope in self.node.step(*step) {
                self.apply(&envelope);
            }
        }
        self
    }

    /// Applies a command and checks all that can be seen of it.
    fn apply(&mut self, envelope: &Envelope) {
        self.nobody_learns_of_what_is_hidden(envelope);
        let checked = machine::check(&self.node.view, envelope, self.node.now_ms);
        let entry = self.node.command(envelope);
        let fresh = Machine::default().apply(&entry, &self.node.view).unwrap();
        let before = self.node.view.clone();
        let applied = self.node.apply(&entry);

        assert_eq!(fresh.outcome, applied.outcome, "the machine's cache changed an outcome of {envelope:?}");
        assert_eq!(fresh.writes, applied.writes, "the machine's cache changed the writes of {envelope:?}");
        assert_eq!(fresh.events, applied.events, "the machine's cache changed the events of {envelope:?}");
        match (checked, &applied.outcome) {
            (Ok(()), Ok(_)) => {}
            (Err(RuleError::Refused(early)), Err(late)) => assert_eq!(early, *late, "{envelope:?}"),
            (early, late) => panic!("check says {early:?}, apply says {late:?} to {envelope:?}"),
        }
        if applied.outcome.is_err() {
            assert!(applied.writes.is_empty() && applied.events.is_empty(), "a refused {envelope:?} left something");
        }
        let actor = envelope.actor.clone().unwrap_or_default();
        let command = envelope.command.as_ref().unwrap();
        exactly_once(&mut self.sends, (&actor, command), &applied);
        for write in &applied.writes {
            let authority = Authority { view: &before, actor: &actor, command };
            authority.over_users(&write.key, (write.before.as_ref(), write.after.as_ref()));
            authority.over_channels(&write.key, write.after.as_ref());
            authority.over_messages(&write.key, write.before.as_ref());
            authority.over_joining(&write.key, write.before.as_ref());
        }
    }

    /// A channel or a person that the actor may not know of is refused exactly as one that does not exist.
    fn nobody_learns_of_what_is_hidden(&self, envelope: &Envelope) {
        let view = &self.node.view;
        let actor = envelope.actor.as_ref().map_or(0, |actor| actor.user);
        let guest = user(view, actor).is_some_and(|row| row.role() == Role::Guest);
        let hidden_channel = |id: u64| {
            let row = view.row::<rows::Channel>(Key::Channel(ChannelId(id))).unwrap();
            let secret =
                row.is_some_and(|row| guest || matches!(row.kind(), ChannelKind::Direct | ChannelKind::Private));
            secret && view.get(&Key::Member(ChannelId(id), UserId(actor))).unwrap().is_none()
        };
        let hidden_user = |id: u64| guest && id != actor && !shares_a_channel(view, actor, id);
        let mut other = envelope.clone();
        let hides = |slot: &mut u64, hidden: &dyn Fn(u64) -> bool| {
            let found = hidden(*slot);
            if found {
                *slot = NOBODY;
            }
            found
        };
        let changed = match other.command.as_mut().unwrap() {
            Command::SendMessage(c) if !was_sent(view, actor, &c.client_id) => hides(&mut c.channel, &hidden_channel),
            Command::EditMessage(c) => hides(&mut c.channel, &hidden_channel),
            Command::DeleteMessage(c) => hides(&mut c.channel, &hidden_channel),
            Command::UpdateChannel(c) => hides(&mut c.channel, &hidden_channel),
            Command::RemoveMember(c) => hides(&mut c.channel, &hidden_channel),
            Command::UpdateMembership(c) => hides(&mut c.channel, &hidden_channel),
            Command::PutMember(c) => hides(&mut c.channel, &hidden_channel) | hides(&mut c.user, &hidden_user),
            Command::OpenDirect(c) => hides(&mut c.user, &hidden_user),
            Command::CreateInvite(c) => c.channels.iter_mut().fold(false, |any, id| any | hides(id, &hidden_channel)),
            _ => false,
        };
        if changed {
            let code = |envelope| refused(machine::check(view, envelope, self.node.now_ms));
            assert_eq!(code(envelope), code(&other), "{envelope:?} tells of something hidden");
        }
    }
}

fn refused(checked: Result<(), RuleError>) -> Option<RefusalCode> {
    match checked {
        Ok(()) => None,
        Err(RuleError::Refused(refusal)) => Some(refusal.code),
        Err(RuleError::View(error)) => panic!("{error}"),
    }
}

fn user(view: &holdfast::projection::memory_view::MemoryView, id: u64) -> Option<std::sync::Arc<rows::User>> {
    view.row::<rows::User>(Key::User(UserId(id))).unwrap()
}

fn was_sent(view: &holdfast::projection::memory_view::MemoryView, sender: u64, client_id: &[u8]) -> bool {
    holdfast::core::chat::messages::was_sent(view, UserId(sender), client_id).unwrap()
}

fn shares_a_channel(view: &holdfast::projection::memory_view::MemoryView, one: u64, other: u64) -> bool {
    let channels = |of: u64| -> BTreeSet<ChannelId> {
        let in_channel = |(key, _): (&Key, &Value)| match key {
            Key::Member(channel, user) if user.0 == of => Some(*channel),
            _ => None,
        };
        view.iter().filter_map(in_channel).collect()
    };
    !channels(one).is_disjoint(&channels(other))
}

/// A client id within a sender's latest sends names one message; any other makes one.
fn exactly_once(sends: &mut Sends, order: (&Actor, &Command), applied: &Applied) {
    let (actor, Command::SendMessage(command)) = order else { return };
    let Ok(Reply::Sent(sent)) = &applied.outcome else { return };
    let own = sends.entry(actor.user).or_default();
    let recent = own.len().saturating_sub(usize::from(limits::SENT_RING));
    let first = own[recent..].iter().find(|(client_id, _)| client_id[..] == command.client_id[..]).map(|(_, id)| *id);
    assert_eq!(sent.duplicate, first.is_some());
    match first {
        Some(id) => {
            assert_eq!(sent.id.0, id, "a resend names another message");
            assert!(applied.writes.is_empty() && applied.events.is_empty(), "a resend left something");
        }
        None => own.push((command.client_id.to_vec(), sent.id.0)),
    }
}

/// What an actor may have done, told apart from the rules: by what was written.
struct Authority<'a> {
    view: &'a holdfast::projection::memory_view::MemoryView,
    actor: &'a Actor,
    command: &'a Command,
}

impl Authority<'_> {
    fn role(&self) -> Option<Role> {
        if self.actor.is_operator() {
            return Some(Role::Owner);
        }
        user(self.view, self.actor.user).filter(|row| !row.disabled).map(|row| row.role())
    }

    /// Admins and owners are made and changed by owners; others by admins; oneself never upwards.
    fn over_users(&self, key: &Key, change: (Option<&Value>, Option<&Value>)) {
        let Key::User(id) = key else { return };
        let row = |value: Option<&Value>| value.and_then(|value| rows::User::from_value(value.clone()));
        let (before, after) = (row(change.0), row(change.1).expect("users are never removed"));
        let old = before.as_ref().map_or(Role::Guest, |row| row.role());
        match self.command {
            Command::SetUp(_) => assert!(before.is_none() && after.role() == Role::Owner),
            Command::AcceptInvite(_) => {
                let maker = self.inviting(|row| assert_eq!(row.role(), after.role()));
                assert!(before.is_none() && maker >= Some(Role::Admin), "an invitation outlived its maker's rights");
                assert!(after.role() < Role::Admin || maker == Some(Role::Owner));
            }
            _ if id.0 == self.actor.user => assert!(after.role() <= old, "{:?} raised itself", self.actor),
            _ if old.max(after.role()) >= Role::Admin => assert_eq!(self.role(), Some(Role::Owner)),
            _ => assert!(self.role() >= Some(Role::Admin)),
        }
    }

    /// The present role of whoever made the invitation that is accepted; `None` when that account is disabled.
    fn inviting(&self, look: impl Fn(&rows::Invite)) -> Option<Role> {
        let Command::AcceptInvite(command) = self.command else { return None };
        let token = Key::InviteToken(command.token_hash.as_ref().try_into().unwrap());
        let reference = self.view.row::<rows::Reference>(token).unwrap().unwrap();
        let row = self.view.row::<rows::Invite>(Key::Invite(InviteId(reference.id))).unwrap().unwrap();
        look(&row);
        if row.creator == 0 {
            return Some(Role::Owner); // the operator
        }
        user(self.view, row.creator).filter(|maker| !maker.disabled).map(|maker| maker.role())
    }

    /// Others' messages: taken away by managers, and by admins where the channel is no secret; never edited.
    fn over_messages(&self, key: &Key, before: Option<&Value>) {
        let (Key::Message(id, _), Some(Value::Message(message))) = (key, before) else { return };
        if message.sender == self.actor.user {
            return;
        }
        let channel = self.view.row::<rows::Channel>(Key::Channel(*id)).unwrap().unwrap();
        let member = self.view.row::<rows::Member>(Key::Member(*id, UserId(self.actor.user))).unwrap().unwrap();
        let public = matches!(channel.kind(), ChannelKind::Public | ChannelKind::Announcement);
        let may = member.role() == MemberRole::Manager || (public && self.role() >= Some(Role::Admin));
        assert!(may && matches!(self.command, Command::DeleteMessage(_)), "{:?} changed another's message", self.actor);
    }

    /// Others are added from inside, or by admins where the channel is no secret; guests add whom they know.
    fn over_joining(&self, key: &Key, before: Option<&Value>) {
        let (Key::Member(id, added), None) = (key, before) else { return };
        let inside = |user: u64| self.view.get(&Key::Member(*id, UserId(user))).unwrap().is_some();
        let row = self.view.row::<rows::Channel>(Key::Channel(*id)).unwrap();
        let private = row.is_some_and(|row| row.kind() == ChannelKind::Private);
        match self.command {
            Command::AcceptInvite(_) => {
                self.inviting(|row| {
                    assert!(!private || inside(row.creator), "an invitation led into a channel unasked")
                });
            }
            Command::PutMember(_) if added.0 != self.actor.user => {
                assert!(inside(self.actor.user) || self.role() >= Some(Role::Admin), "somebody was added from outside");
            }
            _ => {}
        }
    }

    /// Nobody changes what is in a channel from outside, and nobody joins a private one by itself.
    fn over_channels(&self, key: &Key, after: Option<&Value>) {
        let own = |id: ChannelId| self.view.get(&Key::Member(id, UserId(self.actor.user))).unwrap().is_some();
        let kind = |id: ChannelId| {
            self.view.row::<rows::Channel>(Key::Channel(id)).unwrap().map(|row| (row.kind(), row.archived))
        };
        match *key {
            Key::Message(id, _) => {
                assert!(own(id), "{:?} wrote into a channel from outside", self.actor);
                assert_eq!(kind(id).map(|kind| kind.1), Some(false), "a message changed in an archived channel");
            }
            Key::Member(id, _) if !matches!(self.command, Command::AcceptInvite(_)) => match kind(id) {
                None => assert!(matches!(self.command, Command::CreateChannel(_) | Command::OpenDirect(_))),
                Some((ChannelKind::Direct, _)) => panic!("the people of a direct channel changed"),
                Some((ChannelKind::Private, _)) => assert!(own(id), "a private channel changed from outside"),
                Some((_, archived)) => {
                    assert!(after.is_none() || !archived, "somebody joined an archived channel");
                    assert!(
                        own(id) || self.role() > Some(Role::Guest),
                        "a guest changed a public channel from outside"
                    );
                }
            },
            Key::Membership(member, _) => {
                let adds = matches!(self.command, Command::CreateChannel(_) | Command::OpenDirect(_));
                let members = matches!(self.command, Command::PutMember(_) | Command::RemoveMember(_));
                let accepts = matches!(self.command, Command::AcceptInvite(_));
                assert!(adds || members || accepts || member.0 == self.actor.user, "somebody else's side changed");
            }
            Key::Channel(id) => match kind(id) {
                Some((ChannelKind::Private | ChannelKind::Direct, _)) => assert!(own(id)),
                Some(_) => assert!(own(id) || self.role() >= Some(Role::Admin)),
                None => {}
            },
            _ => {}
        }
    }
}

/// The state, sorted by what it holds.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) users: BTreeMap<u64, rows::User>,
    pub(crate) channels: BTreeMap<u64, rows::Channel>,
    pub(crate) heads: BTreeMap<u64, rows::ChannelHead>,
    members: BTreeSet<(u64, u64)>,
    /// When each member joined.
    pub(crate) joined: BTreeMap<(u64, u64), u64>,
    pub(crate) memberships: BTreeMap<(u64, u64), rows::Membership>,
    pub(crate) messages: BTreeMap<u64, BTreeMap<u64, rows::Message>>,
    sent: BTreeMap<u64, Vec<rows::Sent>>,
}

impl State {
    pub(crate) fn of(node: &Node) -> Self {
        let mut state = Self::default();
        for (key, value) in node.view.iter() {
            match (*key, value.clone()) {
                (Key::User(id), Value::User(row)) => drop(state.users.insert(id.0, (*row).clone())),
                (Key::Channel(id), Value::Channel(row)) => drop(state.channels.insert(id.0, (*row).clone())),
                (Key::ChannelHead(id), Value::ChannelHead(row)) => drop(state.heads.insert(id.0, (*row).clone())),
                (Key::Member(channel, user), Value::Member(row)) => {
                    state.members.insert((channel.0, user.0));
                    state.joined.insert((channel.0, user.0), row.joined_ms);
                }
                (Key::Membership(user, channel), Value::Membership(row)) => {
                    state.memberships.insert((channel.0, user.0), (*row).clone());
                }
                (Key::Message(channel, seq), Value::Message(row)) => {
                    state.messages.entry(channel.0).or_default().insert(seq, (*row).clone());
                }
                (Key::Sent(user, slot), Value::Sent(row)) => {
                    assert_eq!(u64::from(slot), row.number % u64::from(limits::SENT_RING));
                    state.sent.entry(user.0).or_default().push((*row).clone());
                }
                _ => {}
            }
        }
        state
    }

    pub(crate) fn check(&self, node: &Node) {
        let owner = |user: &rows::User| user.role() == Role::Owner && !user.disabled;
        assert!(self.users.values().any(owner), "there is no owner who may sign in");
        assert!(self.users.values().all(|user| Role::try_from(user.role).is_ok()), "a role that nobody knows");
        let sides: BTreeSet<(u64, u64)> = self.memberships.keys().copied().collect();
        assert_eq!(self.members, sides, "both sides of every membership");
        for (id, channel) in &self.channels {
            self.check_channel(*id, channel);
        }
        for (user, sent) in &self.sent {
            self.check_ring(*user, sent);
        }
        indexes_agree(node, self);
    }

    fn check_channel(&self, id: u64, channel: &rows::Channel) {
        let head = &self.heads[&id];
        let messages = self.messages.get(&id).cloned().unwrap_or_default();
        let contiguous: Vec<u64> = (1..=head.last_seq).collect();
        assert_eq!(messages.keys().copied().collect::<Vec<_>>(), contiguous, "the numbers of channel {id}");
        // What arrived late stands behind newer messages.
        let last_ms = messages.values().map(|message| message.created_ms).max().unwrap_or_default();
        assert_eq!(head.last_ms, last_ms);
        let members = self.members.range((id, 0)..=(id, u64::MAX)).count();
        assert_eq!(head.members as usize, members, "the count of channel {id}");
        for (_, side) in self.memberships.range((id, 0)..=(id, u64::MAX)) {
            assert!(side.read_seq <= head.last_seq, "read beyond the newest message");
        }
        let people: BTreeSet<u64> = self.members.range((id, 0)..=(id, u64::MAX)).map(|member| member.1).collect();
        if channel.kind() == ChannelKind::Direct {
            assert_eq!(people, channel.direct.iter().copied().collect(), "a direct channel is for its people");
        }
        for message in messages.values() {
            assert!(message.deleted_ms == 0 || message.body.is_empty(), "the text of a deleted message is kept");
        }
    }

    /// The ring holds the latest sends, each once, and each is the message it says.
    fn check_ring(&self, user: u64, sent: &[rows::Sent]) {
        let mut numbers: Vec<u64> = sent.iter().map(|row| row.number).collect();
        numbers.sort_unstable();
        let newest = numbers.last().copied().unwrap_or_default();
        let oldest = newest.saturating_sub(u64::from(limits::SENT_RING) - 1).max(1);
        assert_eq!(numbers, (oldest..=newest).collect::<Vec<_>>());
        let ids: BTreeSet<&[u8]> = sent.iter().map(|row| &row.client_id[..]).collect();
        assert_eq!(ids.len(), sent.len(), "a client id stands for two messages");
        for row in sent {
            let message = &self.messages[&row.channel][&row.seq];
            assert_eq!((message.sender, &message.client_id), (user, &row.client_id));
        }
    }
}

/// Every index row leads to a record that leads back to it, and no record lacks its index row.
fn indexes_agree(node: &Node, state: &State) {
    let mut expected: BTreeMap<Key, u64> = BTreeMap::new();
    for user in state.users.values() {
        expected.insert(Key::Username(name_hash(&user.username)), user.id);
    }
    for channel in state.channels.values() {
        match channel.kind() {
            ChannelKind::Public | ChannelKind::Announcement => {
                let taken = expected.insert(Key::ChannelName(name_hash(&channel.name)), channel.id);
                assert_eq!(taken, None, "two public channels have one name");
            }
            ChannelKind::Direct => {
                let pair = (channel.direct[0], *channel.direct.last().unwrap());
                expected.insert(Key::DirectPair(UserId(pair.0), UserId(pair.1)), channel.id);
            }
            ChannelKind::Private => {}
        }
    }
    for (key, value) in node.view.iter() {
        match (key, value) {
            (Key::Session(id), Value::Session(row)) => {
                assert!(!state.users[&row.user].disabled, "a disabled user has a session");
                expected.insert(Key::SessionToken(row.token_hash.as_ref().try_into().unwrap()), id.0);
                expected.insert(Key::UserSession(UserId(row.user), *id), id.0);
            }
            (Key::Invite(id), Value::Invite(row)) => {
                expected.insert(Key::InviteToken(row.token_hash.as_ref().try_into().unwrap()), id.0);
                assert!(row.uses <= row.uses_max, "an invitation was used too often");
            }
            (Key::Conflict(id), Value::Conflict(row)) if row.state() == rows::ConflictState::Open => {
                expected.insert(Key::OpenConflict(*id), *id);
            }
            (Key::ChannelAlias(_), Value::Reference(row)) => {
                assert_eq!(state.channels[&row.id].kind(), ChannelKind::Direct);
                expected.insert(*key, row.id);
            }
            _ => {}
        }
    }
    let reference = |(key, value): (&Key, &Value)| match value {
        Value::Reference(row) => Some((*key, row.id)),
        _ => None,
    };
    assert_eq!(node.view.iter().filter_map(reference).collect::<BTreeMap<_, _>>(), expected);
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<[u8; 6]>().prop_map(Step::from), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_people_do(steps in steps(240)) {
        let watched = Watched::default().run(&steps);
        State::of(&watched.node).check(&watched.node);
        let mut hash = StateHash::default();
        watched.node.view.iter().for_each(|(key, value)| hash.add(key, &value.encode()));
        prop_assert_eq!(hash, watched.node.view.state_hash());
    }

    /// Whatever is in a log: the machine takes it or stops with an error, it never panics.
    #[test]
    fn nonsense_in_the_log_never_panics(payload in prop::collection::vec(any::<u8>(), 0..200), kind in 1..4_u8) {
        let mut node = Node::default();
        let kind = EntryKind::from_number(kind).unwrap();
        let entry = node.entry(kind, payload.into());
        let _ = Machine::default().apply(&entry, &node.view);
    }
}
