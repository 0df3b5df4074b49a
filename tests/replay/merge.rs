//! What holds for every fork: a common history, two tails, one salvaged into the other. Whatever people did on either side
//! is there afterwards, once; nothing depends on caches; doing it again changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::core::chat::Reply;
use holdfast::core::command::{Actor, Command, Envelope, SendMessage};
use holdfast::core::entry::{Entry, EntryKind};
use holdfast::core::ids::ChannelId;
use holdfast::core::keys::Key;
use holdfast::core::machine::Machine;
use holdfast::core::merge::{self, Plan};
use holdfast::core::rows::{self, Value};
use holdfast::core::view::{StateHash, View as _, ViewExt as _};
use proptest::prelude::*;

use crate::crowd::Step;
use crate::node::Node;
use crate::properties::State;

/// A node with the log that it wrote.
struct Side {
    node: Node,
    log: Vec<Entry>,
    texts: u64,
    name: u8,
    /// It writes behind the fork.
    tail: bool,
}

impl Side {
    fn founded() -> Self {
        let mut side = Self { node: Node::default(), log: Vec::new(), texts: 0, name: b'p', tail: false };
        let start = side.node.entry(EntryKind::EpochStarted, bytes::Bytes::new());
        side.take(start);
        for envelope in side.node.founding() {
            let envelope = side.node.by_founder(envelope);
            side.order(&envelope);
        }
        side
    }

    fn fork(&self, number: u16) -> Self {
        let mut side = Self { node: self.node.fork(number), log: self.log.clone(), texts: 0, name: b'o', tail: true };
        let start = side.node.entry(EntryKind::EpochStarted, bytes::Bytes::new());
        side.take(start);
        side
    }

    fn take(&mut self, entry: Entry) -> holdfast::core::machine::Applied {
        let applied = self.node.apply(&entry);
        self.log.push(entry);
        applied
    }

    fn order(&mut self, envelope: &Envelope) -> holdfast::core::machine::Applied {
        let entry = self.node.command(envelope);
        self.take(entry)
    }

    /// Every text is another one, and no client of one side has the client ids of the other: what is there twice
    /// afterwards was doubled, what is not there was lost.
    fn told_apart(&mut self, envelope: &mut Envelope) {
        self.texts += 1;
        let own = |text: &str| format!("{} {} {text}", char::from(self.name), self.texts);
        match envelope.command.as_mut() {
            Some(Command::SendMessage(c)) => {
                if c.client_id.len() == 16 {
                    let mut id = c.client_id.to_vec();
                    id[0] = self.name;
                    id[1] = u8::from(self.tail);
                    c.client_id = id.into();
                }
                if !c.body.trim().is_empty() && c.body.len() < 4_000 {
                    c.body = own(&c.body);
                }
            }
            Some(Command::EditMessage(c)) if !c.body.trim().is_empty() && c.body.len() < 4_000 => c.body = own(&c.body),
            Some(Command::CreateSession(c)) if c.token_hash.len() == 16 => {
                let mut token = c.token_hash.to_vec();
                token[0] = self.name;
                c.token_hash = token.into();
            }
            _ => {}
        }
    }

    fn live(&mut self, steps: &[Step]) {
        for step in steps {
            for mut envelope in self.node.step(*step) {
                self.told_apart(&mut envelope);
                self.order(&envelope);
            }
        }
    }
}

/// A message that one side sent, as it is at the end of that side.
struct Written {
    channel: u64,
    row: rows::Message,
}

/// The messages that a side sent since the fork.
fn written(side: &Side, fork: &State) -> Vec<Written> {
    let end = State::of(&side.node);
    let mut found = Vec::new();
    for (channel, messages) in &end.messages {
        let last = fork.heads.get(channel).map_or(0, |head| head.last_seq);
        let sent = messages.range(last + 1..).map(|(_, row)| Written { channel: *channel, row: row.clone() });
        found.extend(sent);
    }
    found
}

/// Some clients reached the new active and sent again what they had sent to the old one.
fn resend(active: &mut Side, tail: &[Written], every: usize) -> BTreeSet<u64> {
    let mut again = BTreeSet::new();
    let count = |message: &Written| tail.iter().filter(|other| other.row.client_id == message.row.client_id).count();
    let tail = tail.iter().filter(|message| count(message) == 1).collect::<Vec<_>>();
    for message in tail.into_iter().step_by(every).filter(|message| message.row.deleted_ms == 0) {
        let (client_id, body) = (message.row.client_id.clone(), message.row.body.clone());
        let send = Command::SendMessage(SendMessage { channel: message.channel, client_id, body });
        let actor = Actor { user: message.row.sender, ..Actor::default() };
        let applied = active.order(&Envelope { actor: Some(actor), command: Some(send) });
        if applied.outcome.is_ok() {
            again.insert(message.row.id);
        }
    }
    again
}

/// Proposes the items on the active; each must be done, and the same without what the machine remembers.
fn propose(active: &mut Side, plan: &Plan) {
    for item in &plan.items {
        let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::Salvage(item.clone())) };
        let entry = active.node.command(&envelope);
        let fresh = Machine::default().apply(&entry, &active.node.view).unwrap();
        let applied = active.take(entry);
        assert!(applied.outcome.is_ok(), "{:?} for {item:?}", applied.outcome);
        assert_eq!((&fresh.outcome, &fresh.writes), (&applied.outcome, &applied.writes), "a cache decided");
        assert_eq!(fresh.events, applied.events);
    }
}

/// Everything that conflicts keep.
fn kept_in_conflicts(node: &Node) -> String {
    let conflict = |(_, value): (&Key, &Value)| match value {
        Value::Conflict(row) => Some(row.other.clone()),
        _ => None,
    };
    node.view.iter().filter_map(conflict).collect::<Vec<_>>().join("\n")
}

fn standing_for(node: &Node, channel: u64) -> u64 {
    let alias = node.view.row::<rows::Reference>(Key::ChannelAlias(ChannelId(channel))).unwrap();
    alias.map_or(channel, |alias| alias.id)
}

/// Every text of the tail is on the active exactly once, at its own time and of its own author.
fn nothing_is_lost(active: &Side, tail: &[Written], again: &BTreeSet<u64>) {
    let state = State::of(&active.node);
    let mut by_client: BTreeMap<(u64, Vec<u8>), Vec<Written>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (channel, messages) in &state.messages {
        for row in messages.values() {
            assert!(ids.insert(row.id), "two messages have one id");
            by_client
                .entry((row.sender, row.client_id.to_vec()))
                .or_default()
                .push(Written { channel: *channel, row: row.clone() });
        }
    }
    for message in tail {
        let key = (message.row.sender, message.row.client_id.to_vec());
        // A client id that its side had forgotten may stand for several messages: each has its own text.
        let same = |found: &&Written| again.contains(&message.row.id) || found.row.id == message.row.id;
        let found: Vec<_> = by_client.get(&key).into_iter().flatten().filter(same).collect();
        let found = found.as_slice();
        if message.row.deleted_ms > 0 {
            assert!(found.is_empty(), "a message that was taken back came back");
            continue;
        }
        let [Written { channel, row }] = found else { panic!("{:?} is there {} times", message.row, found.len()) };
        assert_eq!(*channel, standing_for(&active.node, message.channel));
        assert_eq!(row.body, message.row.body);
        if !again.contains(&message.row.id) {
            assert_eq!((row.id, row.created_ms), (message.row.id, message.row.created_ms));
            assert_eq!((row.edits, row.edited_ms), (message.row.edits, message.row.edited_ms));
            assert!(row.late_ms > 0, "it arrived late and does not say so");
        }
    }
}

/// What the tail made of messages, users and channels that both sides had is on the active, or in a conflict.
fn changes_are_kept(active: &Side, other: &Side, fork: &State) {
    let (here, there) = (State::of(&active.node), State::of(&other.node));
    let conflicts = kept_in_conflicts(&active.node);
    for (channel, messages) in &fork.messages {
        for (seq, before) in messages {
            let (wanted, found) = (&there.messages[channel][seq], &here.messages[channel][seq]);
            let changed = wanted.body != before.body && wanted.deleted_ms == 0;
            let kept = found.body == wanted.body || conflicts.contains(&wanted.body);
            assert!(!changed || kept, "an edit is gone: {wanted:?}");
        }
    }
    for (id, row) in &there.users {
        let found = here.users.get(id).unwrap_or_else(|| panic!("{row:?} is gone"));
        let renamed = fork.users.get(id).is_none_or(|before| before.display_name != row.display_name);
        let kept = found.display_name == row.display_name || conflicts.contains(&row.display_name);
        assert!(!renamed || kept, "a display name is gone: {row:?}");
        assert!(found.username.starts_with(&row.username), "{} became {}", row.username, found.username);
    }
    for (id, row) in &there.channels {
        let found = here.channels.get(&standing_for(&active.node, *id)).unwrap_or_else(|| panic!("{row:?} is gone"));
        let changed = fork.channels.get(id).is_none_or(|before| before.name != row.name || before.topic != row.topic);
        let kept = (found.name == row.name || conflicts.contains(&row.name))
            && (found.topic == row.topic || conflicts.contains(&row.topic));
        assert!(!changed || kept, "a channel's name or topic is gone: {row:?}");
    }
}

/// Nobody has read, on the active, what was not there to be read when it was read.
fn marks_are_right(active: &Side, before: &State, fork: &State) {
    let after = State::of(&active.node);
    for (key, row) in &after.memberships {
        let Some(old) = before.memberships.get(key) else { continue };
        let at_fork = fork.heads.get(&key.0).map_or(0, |head| head.last_seq);
        // Who left and joined again has, as everybody who joins, nothing to read.
        if before.joined.get(key) != after.joined.get(key) {
            continue;
        }
        assert!(row.read_seq >= old.read_seq, "a mark went back: {key:?}");
        let read = old.read_seq.max(at_fork);
        let messages = after.messages.get(&key.0).into_iter().flatten();
        let mut own = messages.filter(|(seq, _)| **seq > read && **seq <= row.read_seq);
        assert!(own.all(|(_, message)| message.sender == key.1), "a mark went beyond the fork: {key:?}");
    }
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<[u8; 6]>().prop_map(Step::from), 1..most)
}

/// What a fork leaves: the side that goes on, what the other one sent since, and what is to be salvaged of it.
struct Forked {
    active: Side,
    tail: Vec<Written>,
    plan: Plan,
}

fn forked((common, here, there): (&[Step], &[Step], &[Step])) -> Forked {
    let mut old = Side::founded();
    old.live(common);
    let (base, fork, fork_view) = (old.log.len(), State::of(&old.node), old.node.view.clone());
    let mut active = old.fork(2);
    active.live(here);
    old.tail = true;
    old.live(there);
    let plan = merge::salvage(&fork_view, &old.log[base..]).unwrap();
    Forked { active, tail: written(&old, &fork), plan }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_salvaged_tail_is_there_once(
        common in steps(80), here in steps(60), there in steps(60), every in 1..6_usize, resent in any::<bool>()
    ) {
        let mut old = Side::founded();
        old.live(&common);
        let (base, fork, fork_view) = (old.log.len(), State::of(&old.node), old.node.view.clone());
        let mut active = old.fork(2);
        active.live(&here);
        old.tail = true;
        old.live(&there);
        let tail = written(&old, &fork);
        let again = if resent { resend(&mut active, &tail, every) } else { BTreeSet::new() };
        let before = State::of(&active.node);

        let plan = merge::salvage(&fork_view, &old.log[base..]).unwrap();
        prop_assert_eq!(&plan, &merge::salvage(&fork_view, &old.log[base..]).unwrap());
        propose(&mut active, &plan);

        nothing_is_lost(&active, &tail, &again);
        changes_are_kept(&active, &old, &fork);
        marks_are_right(&active, &before, &fork);
        State::of(&active.node).check(&active.node);

        // Again, from the beginning or from the middle: nothing.
        let hash = active.node.view.state_hash();
        if let Some(id) = plan.tail.filter(|_| !plan.items.is_empty()) {
            prop_assert_eq!(merge::next_ordinal(&active.node.view, &id).unwrap(), plan.items.len() as u64 + 1);
        }
        for item in plan.items.iter().rev().chain(&plan.items) {
            let envelope = Envelope { actor: Some(Actor::system()), command: Some(Command::Salvage(item.clone())) };
            let applied = active.order(&envelope);
            prop_assert_eq!(applied.outcome, Ok(Reply::Done));
            prop_assert!(applied.writes.is_empty() && applied.events.is_empty());
        }
        prop_assert_eq!(active.node.view.state_hash(), hash);

        // The log of the active alone gives the same state.
        let mut replayed = Node::default();
        active.log.iter().for_each(|entry| drop(replayed.apply(entry)));
        prop_assert_eq!(replayed.view.state_hash(), hash);
        let mut full = StateHash::default();
        replayed.view.iter().for_each(|(key, value)| full.add(key, &value.encode()));
        prop_assert_eq!(full, hash);
        prop_assert!(active.node.view.get(&Key::Settings).unwrap().is_some());
    }

    /// While a tail is being salvaged the active is lost too, and what it had done is itself a diverged tail of the next one.
    #[test]
    fn a_tail_within_a_tail_is_there_once(
        common in steps(40), here in steps(40), there in steps(40), last in steps(30), done in 0..40_usize
    ) {
        let Forked { mut active, tail, mut plan } = forked((&common, &here, &there));
        let (base, fork, fork_view) = (active.log.len(), State::of(&active.node), active.node.view.clone());
        let mut next = active.fork(1);
        next.name = b'n';
        next.live(&last);
        plan.items.truncate(done);
        let salvaged: BTreeSet<u64> = plan.items.iter().map(|item| item.index).collect();
        propose(&mut active, &plan);
        let again = merge::salvage(&fork_view, &active.log[base..]).unwrap();
        let second = written(&active, &fork);
        propose(&mut next, &again);
        State::of(&next.node).check(&next.node);
        nothing_is_lost(&next, &second, &BTreeSet::new());
        changes_are_kept(&next, &active, &fork);
        let of_the_first = second.iter().filter(|message| tail.iter().any(|first| first.row.id == message.row.id));
        prop_assert!(of_the_first.count() <= salvaged.len());
        prop_assert_eq!(again, merge::salvage(&fork_view, &active.log[base..]).unwrap());
    }
}

/// The random forks are not too tame: they meet what the rules above are about.
#[test]
fn random_forks_meet_what_matters() {
    let mut random = crate::Random(20_261_121);
    let mut steps = |count: usize| (0..count).map(|_| random.step()).collect::<Vec<_>>();
    let (mut late, mut aliases, mut dropped) = (0, 0, 0);
    let mut kinds = BTreeSet::new();
    for _ in 0..40 {
        let (common, here, there) = (steps(80), steps(80), steps(80));
        let Forked { mut active, plan, .. } = forked((&common, &here, &there));
        propose(&mut active, &plan);
        dropped += plan.dropped.len();
        for (key, value) in active.node.view.iter() {
            match (key, value) {
                (Key::Message(..), Value::Message(row)) if row.late_ms > 0 => late += 1,
                (Key::Conflict(_), Value::Conflict(row)) => drop(kinds.insert((row.kind(), row.reason.clone()))),
                (Key::ChannelAlias(_), _) => aliases += 1,
                _ => {}
            }
        }
    }
    assert!(late > 1_000 && aliases > 0 && dropped > 100, "{late} late, {aliases} aliases, {dropped} dropped");
    let met: BTreeSet<rows::ConflictKind> = kinds.iter().map(|(kind, _)| *kind).collect();
    assert!(met.len() >= 4 && kinds.len() >= 8, "the conflicts met: {kinds:?}");
}
