//! Random people doing random things. A [`Step`] is six numbers that mean something only against the state that they
//! meet, so that most commands are about what exists, many are nonsense, and a failing sequence shrinks to a short one.

use bytes::Bytes;
use holdfast::core::chat::Reply;
use holdfast::core::command::{
    AcceptInvite, Actor, Command, CreateChannel, CreateInvite, CreateSession, DeleteMessage, EditMessage, Envelope,
    MarkRead, NewUser, NotePair, OpenDirect, PutMember, ReadMark, RemoveMember, RevokeInvite, RevokeSession,
    SendMessage, SetPassword, SetUp, UpdateChannel, UpdateMembership, UpdatePair, UpdateSettings, UpdateUser,
};
use holdfast::core::ids::{ChannelId, UserId};
use holdfast::core::keys::Key;
use holdfast::core::machine::Applied;
use holdfast::core::rows;
use holdfast::core::view::{View, ViewExt};
use holdfast::limits;

/// An id that nothing has.
pub(crate) const NOBODY: u64 = 77;

/// What somebody does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Which command.
    pub(crate) what: u8,
    /// Who.
    pub(crate) actor: u8,
    /// What it is about: channel, user, invitation, session.
    pub(crate) a: u8,
    /// Likewise.
    pub(crate) b: u8,
    /// Versions, roles, texts, client ids.
    pub(crate) c: u8,
    /// How much time passes before.
    pub(crate) gap: u8,
}

impl From<[u8; 6]> for Step {
    fn from([what, actor, a, b, c, gap]: [u8; 6]) -> Self {
        Self { what, actor, a, b, c, gap }
    }
}

impl Step {
    /// Milliseconds before it; mostly none, sometimes hours.
    pub(crate) fn gap_ms(self) -> u64 {
        match self.gap {
            0..=127 => 0,
            128..=250 => u64::from(self.gap),
            _ => 3_600_000 * u64::from(self.gap - 250),
        }
    }
}

/// The ids of what was made, as far as an outsider would know them.
#[derive(Clone, Default)]
pub(crate) struct Crowd {
    users: Vec<u64>,
    channels: Vec<u64>,
    sessions: Vec<(u64, u64)>,
    invites: Vec<u64>,
    /// Counts what needs to be unique: tokens, client ids of bursts.
    unique: u64,
}

fn pick(list: &[u64], at: u8) -> u64 {
    list.get(usize::from(at) % (list.len() + 1)).copied().unwrap_or(NOBODY)
}

fn sixteen(number: u64) -> Bytes {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Bytes::copy_from_slice(&bytes)
}

fn new_user(name: String, role: i32) -> NewUser {
    let display_name = name.to_uppercase();
    NewUser { username: name, display_name, role, password_hash: "hash".to_owned(), ..NewUser::default() }
}

impl Crowd {
    /// The set-up, one user of each role, one channel of each kind: what most steps need to mean anything.
    pub(crate) fn founding() -> Vec<Command> {
        let owner = Some(new_user("founder".to_owned(), 0));
        let mut commands = vec![Command::SetUp(SetUp { organisation: "Acme".to_owned(), owner, ..SetUp::default() })];
        for (role, name) in ["gus", "bob", "mia", "audrey", "adam", "olga"].into_iter().enumerate() {
            commands.push(Command::CreateUser(new_user(name.to_owned(), role as i32)));
        }
        for (kind, name) in [(1, "secret"), (2, "general"), (3, "news")] {
            commands.push(Command::CreateChannel(CreateChannel { kind, name: name.to_owned(), ..Default::default() }));
        }
        commands
    }

    /// Who acts: mostly somebody who may, else any user, the operator, somebody unknown.
    fn actor(&self, step: Step, view: &dyn View) -> Actor {
        let able = if step.gap.is_multiple_of(4) { Vec::new() } else { self.able(step, view) };
        let known = Actor { user: 0, session: u64::from(step.gap), address: "192.0.2.1".to_owned() };
        if !able.is_empty() {
            return Actor { user: able[usize::from(step.actor) % able.len()], ..known };
        }
        match usize::from(step.actor) % (self.users.len() + 3) {
            at if at < self.users.len() => Actor { user: self.users[at], ..known },
            at if at == self.users.len() => Actor::operator(),
            at if at == self.users.len() + 1 => known,
            _ => Actor::user_only(UserId(NOBODY)),
        }
    }

    /// Who may probably do this: members of the channel, or admins.
    fn able(&self, step: Step, view: &dyn View) -> Vec<u64> {
        let active = |id: &u64| {
            let row = view.row::<rows::User>(Key::User(UserId(*id))).unwrap();
            row.filter(|row| !row.disabled).map(|row| row.role())
        };
        match step.what % 43 {
            0..=14 | 34..=41 => {
                let channel = ChannelId(pick(&self.channels, step.a));
                let member = |id: &&u64| view.get(&Key::Member(channel, UserId(**id))).unwrap().is_some();
                self.users.iter().filter(member).filter(|id| active(id).is_some()).copied().collect()
            }
            15..=29 | 42 => self.users.iter().filter(|id| active(id) >= Some(rows::Role::Admin)).copied().collect(),
            _ => self.users.iter().filter(|id| active(id).is_some()).copied().collect(),
        }
    }

    /// The founder, once there is one.
    pub(crate) fn founder(&self) -> Actor {
        Actor::user_only(UserId(self.users.first().copied().unwrap_or_default()))
    }

    /// The commands of a step.
    pub(crate) fn commands(&mut self, step: Step, view: &dyn View) -> Vec<Envelope> {
        let actor = self.actor(step, view);
        let commands = match step.what % 43 {
            0 => return self.burst(step, view),
            1..=14 => vec![self.message(step, view)],
            15..=24 => vec![self.people(step, view)],
            25..=29 => vec![self.invitation(step)],
            _ => vec![self.channel(step, view)],
        };
        commands.into_iter().map(|command| Envelope { actor: Some(actor.clone()), command: Some(command) }).collect()
    }

    /// Learns from an outcome what there is.
    pub(crate) fn learn(&mut self, applied: &Applied) {
        match &applied.outcome {
            Ok(Reply::User(user)) if !self.users.contains(&user.id.0) => self.users.push(user.id.0),
            Ok(Reply::Session(session)) => self.sessions.push((session.user_id.0, session.id.0)),
            Ok(Reply::Invite(invite)) if !self.invites.contains(&invite.id.0) => self.invites.push(invite.id.0),
            Ok(Reply::Entry { entry, created: true }) => self.channels.push(entry.channel.id.0),
            _ => {}
        }
    }

    fn fresh(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }

    /// Many messages of one sender: enough to go round its ring of latest sends.
    fn burst(&mut self, step: Step, view: &dyn View) -> Vec<Envelope> {
        let (actor, channel) = (self.actor(step, view), pick(&self.channels, step.a));
        let mut one = || {
            let client_id = sixteen(1_000 + self.fresh());
            let send = SendMessage { channel, client_id, body: format!("burst {}", self.unique) };
            Envelope { actor: Some(actor.clone()), command: Some(Command::SendMessage(send)) }
        };
        (0..=step.c).map(|_| one()).collect()
    }

    fn body(step: Step) -> String {
        match step.b % 32 {
            0 => " ".to_owned(),
            1 => "x".repeat(limits::MESSAGE_BYTES_MAX + 1),
            2 => "永".repeat(1_000),
            other => format!("message {other} of {}", step.c),
        }
    }

    fn message(&self, step: Step, view: &dyn View) -> Command {
        let channel = pick(&self.channels, step.a);
        let head = view.row::<rows::ChannelHead>(Key::ChannelHead(ChannelId(channel))).unwrap().unwrap_or_default();
        let seq = u64::from(step.b) % (head.last_seq + 2);
        let message = view.row::<rows::Message>(Key::Message(ChannelId(channel), seq)).unwrap();
        let version = message.map_or(1, |row| row.edits + 1) + u32::from(step.c.is_multiple_of(8));
        match step.what % 43 {
            1..=8 => {
                // Few different ones, so that many are sent again.
                let client_id = if step.c == 255 { Bytes::from_static(b"short") } else { sixteen(step.c.into()) };
                Command::SendMessage(SendMessage { channel, client_id, body: Self::body(step) })
            }
            9 | 10 => Command::EditMessage(EditMessage { channel, seq, version, body: Self::body(step) }),
            11 | 12 => Command::DeleteMessage(DeleteMessage { channel, seq, version }),
            _ => {
                let mark = |at: u8| ReadMark { channel: pick(&self.channels, step.a ^ at), seq: seq + u64::from(at) };
                Command::MarkRead(MarkRead { marks: (0..step.c % 5).map(mark).collect() })
            }
        }
    }

    fn people(&mut self, step: Step, view: &dyn View) -> Command {
        let user = pick(&self.users, step.a);
        let role = i32::from(step.b % 8) - 1; // two of them no roles
        match step.what % 43 {
            15 if step.c & 1 == 0 => Self::pair(step, view),
            15 => {
                let owner = (step.b > 20).then(|| new_user("founder".to_owned(), 0));
                Command::SetUp(SetUp { organisation: "Again".to_owned(), owner, ..SetUp::default() })
            }
            16 | 17 => Command::CreateUser(new_user(format!("u{}", step.c % 64), role)),
            18..=20 => {
                let row = view.row::<rows::User>(Key::User(UserId(user))).unwrap();
                Command::UpdateUser(UpdateUser {
                    user,
                    version: row.map_or(1, |row| row.version) + u64::from(step.c.is_multiple_of(8)),
                    display_name: (step.c & 1 == 0).then(|| format!("name {}", step.c)),
                    role: (step.c & 2 == 0).then_some(role),
                    locale: None,
                    disabled: (step.c & 12 == 0).then_some(step.b & 48 == 0),
                })
            }
            21 => {
                let session = self.session(step);
                let keep_session = session.1;
                Command::SetPassword(SetPassword {
                    user,
                    password_hash: "new".to_owned(),
                    keep_session,
                    must_change: true,
                })
            }
            22 | 23 => {
                // Now and then a token that is in use, or none at all.
                let token = if step.c < 8 { u64::from(step.c) } else { self.fresh() };
                let token_hash = if step.c == 255 { Bytes::new() } else { sixteen(token) };
                Command::CreateSession(CreateSession { user, token_hash, device: "device".to_owned() })
            }
            _ => {
                let (owner, session) = self.session(step);
                Command::RevokeSession(RevokeSession { user: if step.c < 32 { user } else { owner }, session })
            }
        }
    }

    /// A change of the pair: members with neighbouring numbers, mostly sensible.
    fn pair(step: Step, view: &dyn View) -> Command {
        if step.c & 2 == 0 {
            let (what, text) = (i32::from(step.b % 16), Self::body(step));
            return Command::NotePair(NotePair { what, member: step.a.into(), text, ..NotePair::default() });
        }
        let row = view.row::<rows::Pair>(Key::Pair).unwrap();
        let next = row.as_deref().map_or(1, holdfast::core::pair::next_number);
        let member = |number: u32| rows::PairMember {
            number,
            kind: i32::from(step.b & 1 == 0 && number == next),
            addresses: vec![format!("192.0.2.{number}:8444")],
            client_url: if step.b & 1 == 0 && number == next { String::new() } else { "https://a".to_owned() },
            fingerprint: Bytes::copy_from_slice(blake3::hash(&number.to_le_bytes()).as_bytes()),
            name: format!("node {number}"),
            level: 1 + u32::from(step.c >> 6),
        };
        Command::UpdatePair(UpdatePair {
            version: row.as_deref().map_or(0, |row| row.version) + u64::from(step.c.is_multiple_of(8)),
            members: (next.saturating_sub(u32::from(step.a % 3)).max(1)..=next).map(member).collect(),
            ..UpdatePair::default()
        })
    }

    fn session(&self, step: Step) -> (u64, u64) {
        let at = usize::from(step.b) % (self.sessions.len() + 1);
        self.sessions.get(at).copied().unwrap_or((NOBODY, NOBODY))
    }

    fn invitation(&self, step: Step) -> Command {
        match step.what % 43 {
            25 | 26 => Command::CreateInvite(CreateInvite {
                token_hash: sixteen(u64::from(step.a % 8)),
                role: i32::from(step.b % 8) - 1,
                // Often one of them twice.
                channels: (0..step.c % 4).map(|at| pick(&self.channels, step.b.wrapping_add(at / 2))).collect(),
                expires_in_seconds: if step.c > 128 { u64::MAX } else { u64::from(step.c) * 1_000 },
                uses_max: u32::from(step.c % 8),
            }),
            27 => Command::RevokeInvite(RevokeInvite { invite: pick(&self.invites, step.a) }),
            _ => {
                let user = (step.b > 8).then(|| new_user(format!("u{}", step.c % 64), 5));
                Command::AcceptInvite(AcceptInvite { token_hash: sixteen(u64::from(step.a % 8)), user })
            }
        }
    }

    fn channel(&self, step: Step, view: &dyn View) -> Command {
        let (channel, user) = (pick(&self.channels, step.a), pick(&self.users, step.b));
        match step.what % 43 {
            30 | 31 => Command::CreateChannel(CreateChannel {
                kind: i32::from(step.a % 6) - 1,
                name: format!("{}{}", if step.b & 1 == 0 { "Name" } else { "nAME" }, step.c % 16),
                topic: String::new(),
                members: (0..step.c % 4).map(|at| pick(&self.users, step.b.rotate_left(at.into()))).collect(),
            }),
            32 | 33 => Command::OpenDirect(OpenDirect { user }),
            34 | 35 => {
                let row = view.row::<rows::Channel>(Key::Channel(ChannelId(channel))).unwrap();
                Command::UpdateChannel(UpdateChannel {
                    channel,
                    version: row.map_or(1, |row| row.version) + u64::from(step.c.is_multiple_of(8)),
                    name: (step.c & 1 == 0).then(|| format!("NAME{}", step.b % 16)),
                    topic: (step.c & 2 == 0).then(|| format!("topic {}", step.b)),
                    archived: (step.c & 12 == 0).then_some(step.b & 3 == 0),
                })
            }
            36..=39 => {
                let role = (step.c & 1 == 0).then(|| i32::from(step.c >> 1) % 3);
                // Often oneself: joining.
                let user = if step.c & 4 == 0 { self.actor(step, view).user } else { user };
                Command::PutMember(PutMember { channel, user, role })
            }
            40 => {
                let user = if step.c & 4 == 0 { self.actor(step, view).user } else { user };
                Command::RemoveMember(RemoveMember { channel, user })
            }
            41 => Command::UpdateMembership(UpdateMembership { channel, notify: i32::from(step.c % 5) - 1 }),
            _ => {
                let row = view.row::<rows::Settings>(Key::Settings).unwrap().unwrap_or_default();
                Command::UpdateSettings(UpdateSettings {
                    version: row.version + u64::from(step.c.is_multiple_of(8)),
                    session_days: (step.c & 1 == 0).then_some(step.b.into()),
                    edit_window_seconds: (step.c & 2 == 0).then_some(u64::from(step.b) * 60),
                    ..UpdateSettings::default()
                })
            }
        }
    }
}
