//! The commands of a script: `[+10ms|+2h|+3d] ACTOR VERB WORDS... KEY=VALUE...`. The actor is a user, `operator` or
//! `nobody`, `anna/phone` for a session. A name with `?` in front is one that does not exist; versions default to the
//! present one. `makes` names what a command makes, so that later lines can use it.

use holdfast::core::command::{
    AcceptInvite, Actor, Command, CreateChannel, CreateInvite, CreateSession, Decision, DeleteMessage, EditMessage,
    Envelope, MarkRead, NewUser, NoteBackup, NotePair, NoteRestore, OpenDirect, PutMember, ReadMark, RemoveMember,
    ResolveConflict, RestoreMessages, RestoredMessage, RevokeInvite, RevokeSession, SendMessage, SetPassword, SetUp,
    StateHashRecord, UpdateBackups, UpdateChannel, UpdateMembership, UpdatePair, UpdateSettings, UpdateUser,
};
use holdfast::core::entry::EntryKind;
use holdfast::core::ids::{ChannelId, UserId};
use holdfast::core::keys::Key;
use holdfast::core::rows::{self, ChannelKind, MemberRole, NotifyLevel, Role};
use holdfast::core::view::ViewExt;
use prost::Message as _;

use crate::world::{Order, World};

type Made<T> = Result<T, String>;

/// The words and the options of a line.
struct Line {
    words: Vec<String>,
    options: Vec<(String, String)>,
}

impl Line {
    fn word(&self, at: usize) -> Made<&str> {
        self.words.get(at).map(String::as_str).ok_or_else(|| format!("word {at} is missing"))
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.option(name).map(str::to_owned)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Made<Option<T>> {
        self.option(name).map(number).transpose()
    }

    fn flag(&self, name: &str) -> Made<Option<bool>> {
        self.number(name)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Made<T> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// Words separated by spaces; quotes hold one together, `x*500` in quotes repeats.
fn split(line: &str) -> Line {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    let is_option = |word: &String| word.split_once('=').is_some_and(|(key, _)| key.chars().all(char::is_alphanumeric));
    let (options, words): (Vec<_>, Vec<_>) = words.into_iter().partition(is_option);
    let pair = |word: String| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    Line { words, options: options.into_iter().filter_map(pair).collect() }
}

fn pass_time(world: &mut World, line: &mut Line) -> Made<()> {
    let Some(gap) = line.words.first().and_then(|word| word.strip_prefix('+')) else {
        world.now_ms += 1_000; // otherwise a second passes
        return Ok(());
    };
    let digits: String = gap.chars().take_while(char::is_ascii_digit).collect();
    let unit = match gap.get(digits.len()..) {
        Some("ms") => 1,
        Some("s") => 1_000,
        Some("h") => 3_600_000,
        Some("d") => 86_400_000,
        other => return Err(format!("{other:?} is no unit of time")),
    };
    world.now_ms += number::<u64>(&digits)? * unit;
    line.words.remove(0);
    Ok(())
}

/// Runs one line and returns its trace.
pub(crate) fn run(world: &mut World, text: &str) -> Made<String> {
    let mut line = split(text);
    pass_time(world, &mut line)?;
    match line.word(0)? {
        "log" => return log_record(world, &line),
        "forget" => {
            world.forget_cache();
            return Ok("ok".to_owned());
        }
        "fork" => {
            world.part();
            return Ok("two nodes, each alone".to_owned());
        }
        "swap" => {
            world.swap();
            return Ok("on the other node".to_owned());
        }
        "salvage" => return Ok(world.salvage()),
        _ => {}
    }
    let actor = actor(world, line.word(0)?)?;
    line.words.remove(0);
    if line.word(0)? == "fill" {
        return fill(world, &actor, &line);
    }
    let (command, makes) = command(world, &line)?;
    Ok(world.order(Order { actor, command, makes }))
}

fn actor(world: &World, text: &str) -> Made<Actor> {
    let (name, session) = text.split_once('/').map_or((text, None), |(name, session)| (name, Some(session)));
    match name {
        "operator" => return Ok(Actor::operator()),
        "system" => return Ok(Actor::system()),
        "nobody" => return Ok(Actor { user: 0, session: 0, address: "192.0.2.7".to_owned() }),
        _ => {}
    }
    let session = session.map(|session| world.names.id('$', session)).transpose()?.unwrap_or_default();
    Ok(Actor { user: world.names.id('@', name)?, session, address: "192.0.2.1".to_owned() })
}

/// Sends many messages and tells of the last.
fn fill(world: &mut World, actor: &Actor, line: &Line) -> Made<String> {
    let (channel, count) = (world.names.id('#', line.word(1)?)?, number::<u64>(line.word(3)?)?);
    let mut last = String::new();
    for at in 1..=count {
        let client_id = world.names.bytes_of(&format!("{}{at}", line.word(2)?));
        let command = Command::SendMessage(SendMessage { channel, client_id, body: format!("number {at}") });
        last = world.order(Order { actor: actor.clone(), command, makes: None });
    }
    Ok(last.lines().next().unwrap_or_default().to_owned())
}

/// Entries that are no commands, and commands that cannot be read.
fn log_record(world: &mut World, line: &Line) -> Made<String> {
    let (kind, payload, erased) = match line.word(1)? {
        "epoch" => (EntryKind::EpochStarted, Vec::new(), false),
        "state-hash" => {
            let mut hash = world.full_hash().to_bytes().to_vec();
            match line.option("hash") {
                Some("wrong") => hash.reverse(),
                Some("short") => hash.truncate(31),
                _ => {}
            }
            let record = StateHashRecord { index: world.index, hash: hash.into() };
            (EntryKind::StateHash, record.encode_to_vec(), false)
        }
        "nonsense" => (EntryKind::Command, vec![0xff, 0xff], false),
        "empty" => (EntryKind::Command, Envelope::default().encode_to_vec(), false),
        // Field 200 of the envelope, length-delimited, empty: a command of a later version.
        "newer" => (EntryKind::Command, vec![0xc2, 0x0c, 0x00], false),
        "erased" => (EntryKind::Command, Vec::new(), true),
        other => return Err(format!("unknown log record {other}")),
    };
    let own = (world.index, world.view.state_hash().to_bytes());
    match world.apply(kind, payload.into(), erased) {
        Err(error) => Ok(format!("fatal: {error}")),
        Ok(applied) => {
            let recorded = applied.recorded_hash.map(|(index, hash)| {
                let same = if (index, hash) == own { "as here" } else { "not as here" };
                format!("recorded state hash of index {index}: {same}\n")
            });
            Ok(format!("{}{}", crate::trace::of(&applied), recorded.unwrap_or_default()))
        }
    }
}

fn role(text: &str) -> Made<i32> {
    Ok(match text {
        "guest" => Role::Guest.into(),
        "bot" => Role::Bot.into(),
        "member" => Role::Member.into(),
        "auditor" => Role::Auditor.into(),
        "admin" => Role::Admin.into(),
        "owner" => Role::Owner.into(),
        other => number(other)?,
    })
}

fn member_role(text: &str) -> Made<i32> {
    Ok(match text {
        "member" => MemberRole::Member.into(),
        "manager" => MemberRole::Manager.into(),
        other => number(other)?,
    })
}

fn kind(text: &str) -> Made<i32> {
    Ok(match text {
        "direct" => ChannelKind::Direct.into(),
        "private" => ChannelKind::Private.into(),
        "public" => ChannelKind::Public.into(),
        "announcement" => ChannelKind::Announcement.into(),
        other => number(other)?,
    })
}

fn level(text: &str) -> Made<i32> {
    Ok(match text {
        "all" => NotifyLevel::All.into(),
        "mentions" => NotifyLevel::Mentions.into(),
        "muted" => NotifyLevel::Muted.into(),
        other => number(other)?,
    })
}

/// `"x*500"` is 500 times `x`.
fn body(text: &str) -> String {
    let repeated = text.split_once('*').and_then(|(part, times)| Some(part.repeat(times.parse().ok()?)));
    repeated.unwrap_or_else(|| text.to_owned())
}

fn ids(world: &World, sigil: char, list: Option<&str>) -> Made<Vec<u64>> {
    list.into_iter().flat_map(|list| list.split(',')).map(|name| world.names.id(sigil, name)).collect()
}

fn new_user(world: &mut World, name: &str, line: &Line) -> Made<NewUser> {
    world.names.hash_of(name);
    Ok(NewUser {
        username: name.to_owned(),
        display_name: line.text("name").unwrap_or_else(|| name.to_uppercase()),
        role: role(line.option("role").unwrap_or("member"))?,
        password_hash: "hash".to_owned(),
        locale: line.text("locale").unwrap_or_default(),
        must_change_password: line.flag("must")?.unwrap_or_default(),
    })
}

fn command(world: &mut World, line: &Line) -> Made<(Command, Option<String>)> {
    let made = match line.word(0)? {
        "set-up" | "user" | "user-set" | "password" | "sign-in" | "sign-out" => people(world, line)?,
        "invite" | "revoke-invite" | "accept" => invitations(world, line)?,
        "channel" | "direct" | "channel-set" | "put" | "remove" | "notify" => channels(world, line)?,
        "send" | "edit" | "delete" | "read" => (messages(world, line)?, None),
        "settings" => (settings(world, line)?, None),
        "pair" => (pair(world, line)?, None),
        "pair-note" => (pair_note(line)?, None),
        "resolve" => (resolve(world, line)?, None),
        "backups" => (backups(world, line)?, None),
        "backup-note" => {
            let (what, target) = (number(line.word(1)?)?, line.word(2)?.to_owned());
            let text = line.text("text").map(|text| body(&text)).unwrap_or_default();
            (Command::NoteBackup(NoteBackup { what, target, text }), None)
        }
        "restored" => (note_restore(line)?, None),
        "put-back" => (put_back(world, line)?, None),
        other => return Err(format!("unknown command {other}")),
    };
    Ok(made)
}

fn people(world: &mut World, line: &Line) -> Made<(Command, Option<String>)> {
    let name = line.word(1)?;
    let user_name = || Some(format!("@{}", name.to_lowercase()));
    Ok(match line.word(0)? {
        "set-up" => {
            let owner = Some(new_user(world, name, line)?);
            let command = SetUp {
                organisation: line.text("organisation").unwrap_or_else(|| "Acme".to_owned()),
                default_locale: "en".to_owned(),
                time_zone: "UTC".to_owned(),
                owner,
            };
            (Command::SetUp(command), user_name())
        }
        "user" => (Command::CreateUser(new_user(world, name, line)?), user_name()),
        "user-set" => {
            let user = world.names.id('@', name)?;
            let now = world.view.row::<rows::User>(Key::User(UserId(user))).unwrap().map(|row| row.version);
            let command = UpdateUser {
                user,
                version: line.number("v")?.or(now).unwrap_or(1),
                display_name: line.text("name"),
                role: line.option("role").map(role).transpose()?,
                locale: line.text("locale"),
                disabled: line.flag("disabled")?,
            };
            (Command::UpdateUser(command), None)
        }
        "password" => {
            let keep_session = line.option("keep").map(|keep| world.names.id('$', keep)).transpose()?;
            let command = SetPassword {
                user: world.names.id('@', name)?,
                password_hash: line.text("hash").unwrap_or_else(|| "new hash".to_owned()),
                keep_session: keep_session.unwrap_or_default(),
                must_change: line.flag("must")?.unwrap_or_default(),
            };
            (Command::SetPassword(command), None)
        }
        "sign-in" => {
            let session = line.word(2)?;
            let token = line.option("token").unwrap_or(session);
            let token_hash = world.names.bytes_of(token);
            let command = CreateSession { user: world.names.id('@', name)?, token_hash, device: session.to_owned() };
            (Command::CreateSession(command), Some(format!("${session}")))
        }
        _ => {
            let command =
                RevokeSession { user: world.names.id('@', name)?, session: world.names.id('$', line.word(2)?)? };
            (Command::RevokeSession(command), None)
        }
    })
}

fn invitations(world: &mut World, line: &Line) -> Made<(Command, Option<String>)> {
    let name = line.word(1)?;
    Ok(match line.word(0)? {
        "invite" => {
            let command = CreateInvite {
                token_hash: world.names.bytes_of(line.option("token").unwrap_or(name)),
                role: role(line.option("role").unwrap_or("member"))?,
                channels: ids(world, '#', line.option("channels"))?,
                expires_in_seconds: line.number("seconds")?.unwrap_or(3_600),
                uses_max: line.number("uses")?.unwrap_or(1),
            };
            (Command::CreateInvite(command), Some(format!("%{name}")))
        }
        "revoke-invite" => (Command::RevokeInvite(RevokeInvite { invite: world.names.id('%', name)? }), None),
        _ => {
            let user = line.word(2)?;
            let made = new_user(world, user, line)?;
            let command = AcceptInvite { token_hash: world.names.bytes_of(name), user: Some(made) };
            (Command::AcceptInvite(command), Some(format!("@{user}")))
        }
    })
}

fn channels(world: &mut World, line: &Line) -> Made<(Command, Option<String>)> {
    let alias = line.word(1)?;
    if line.word(0)? == "channel" {
        let name = line.text("name").unwrap_or_else(|| alias.to_owned());
        world.names.hash_of(&name);
        let command = CreateChannel {
            kind: kind(line.word(2)?)?,
            name,
            topic: line.text("topic").unwrap_or_default(),
            members: ids(world, '@', line.option("members"))?,
        };
        return Ok((Command::CreateChannel(command), Some(format!("#{alias}"))));
    }
    if line.word(0)? == "direct" {
        let user = world.names.id('@', line.word(2)?)?;
        return Ok((Command::OpenDirect(OpenDirect { user }), Some(format!("#{alias}"))));
    }
    let channel = world.names.id('#', alias)?;
    let command = match line.word(0)? {
        "channel-set" => {
            line.option("name").into_iter().for_each(|name| world.names.hash_of(name));
            let now = world.view.row::<rows::Channel>(Key::Channel(ChannelId(channel))).unwrap();
            Command::UpdateChannel(UpdateChannel {
                channel,
                version: line.number("v")?.or(now.map(|row| row.version)).unwrap_or(1),
                name: line.text("name"),
                topic: line.text("topic"),
                archived: line.flag("archived")?,
            })
        }
        "put" => Command::PutMember(PutMember {
            channel,
            user: world.names.id('@', line.word(2)?)?,
            role: line.words.get(3).map(|text| member_role(text)).transpose()?,
        }),
        "remove" => Command::RemoveMember(RemoveMember { channel, user: world.names.id('@', line.word(2)?)? }),
        _ => Command::UpdateMembership(UpdateMembership { channel, notify: level(line.word(2)?)? }),
    };
    Ok((command, None))
}

fn messages(world: &mut World, line: &Line) -> Made<Command> {
    if line.word(0)? == "read" {
        let marks = line.words.get(1..).unwrap_or_default().chunks(2);
        let mark = |pair: &[String]| match pair {
            [channel, seq] => Ok(ReadMark { channel: world.names.id('#', channel)?, seq: number(seq)? }),
            _ => Err("a channel and a number belong together".to_owned()),
        };
        return Ok(Command::MarkRead(MarkRead { marks: marks.map(mark).collect::<Made<_>>()? }));
    }
    let channel = world.names.id('#', line.word(1)?)?;
    if line.word(0)? == "send" {
        let client_id = match line.word(2)? {
            "short" => bytes::Bytes::from_static(b"short"),
            "zero" => bytes::Bytes::from_static(&[0; 16]),
            name => world.names.bytes_of(name),
        };
        return Ok(Command::SendMessage(SendMessage { channel, client_id, body: body(line.word(3)?) }));
    }
    let seq = number(line.word(2)?)?;
    let now = world.view.row::<rows::Message>(Key::Message(ChannelId(channel), seq)).unwrap();
    let version = line.number("v")?.or(now.map(|row| row.edits + 1)).unwrap_or(1);
    Ok(match line.word(0)? {
        "edit" => Command::EditMessage(EditMessage { channel, seq, version, body: body(line.word(3)?) }),
        _ => Command::DeleteMessage(DeleteMessage { channel, seq, version }),
    })
}

/// `pair 1=data 3=witness level=3 beat=300 held=2 ...`: members by number; the options are those of all of them.
fn pair(world: &World, line: &Line) -> Made<Command> {
    let now = world.view.row::<rows::Pair>(Key::Pair).unwrap().map_or(0, |row| row.version);
    let member = |(number, kind): &(String, String)| {
        let number: u32 = number.parse().ok()?;
        let kind = if kind == "witness" { rows::PairMemberKind::Witness } else { rows::PairMemberKind::Data };
        let url =
            if kind == rows::PairMemberKind::Data { format!("https://node{number}.example") } else { String::new() };
        Some(rows::PairMember {
            number,
            kind: kind.into(),
            addresses: vec![line.text("address").unwrap_or_else(|| format!("192.0.2.{number}:8444"))],
            client_url: line.text("url").unwrap_or(url),
            fingerprint: vec![line.number::<u8>("print").ok()?.unwrap_or(number as u8); 32].into(),
            name: line.text("name").unwrap_or_else(|| format!("node {number}")),
            level: line.number(&format!("level{number}")).ok()?.unwrap_or(2),
        })
    };
    let beat = line.number("beat")?;
    let timings = beat.map(|heartbeat_ms| rows::PairTimings { heartbeat_ms, ..holdfast::core::pair::TIMINGS_DEFAULT });
    Ok(Command::UpdatePair(UpdatePair {
        version: line.number("v")?.unwrap_or(now),
        members: line.options.iter().filter_map(member).collect(),
        auto_promote: line.flag("auto")?.unwrap_or_default(),
        reference: line.text("reference").unwrap_or_default(),
        timings,
        level_held: line.number("held")?,
    }))
}

/// `resolve 1 take rv=3`: conflicts are numbered; the versions default to the present ones.
fn resolve(world: &World, line: &Line) -> Made<Command> {
    let conflict = world.names.id('!', line.word(1)?)?;
    let row = world.view.row::<rows::Conflict>(Key::Conflict(conflict)).unwrap();
    let view = row.map(|row| holdfast::core::merge::view_of(&world.view, &row, None).unwrap());
    let decision = match line.word(2)? {
        "keep" => Decision::Keep.into(),
        "take" => Decision::TakeOther.into(),
        "merge" => Decision::Merge.into(),
        other => number(other)?,
    };
    let of = line.option("of").unwrap_or_default();
    let (name, topic, zone) = (line.text("name"), line.text("topic"), line.text("zone"));
    let user = UpdateUser { display_name: name.clone(), ..UpdateUser::default() };
    let channel = UpdateChannel { name: name.clone(), topic, ..UpdateChannel::default() };
    let settings = UpdateSettings { organisation: name, time_zone: zone, ..UpdateSettings::default() };
    Ok(Command::ResolveConflict(ResolveConflict {
        conflict,
        version: line.number("v")?.or(view.as_ref().map(|view| view.version)).unwrap_or(1),
        record_version: line.number("rv")?.or(view.as_ref().map(|view| view.record_version)).unwrap_or(1),
        decision,
        user: (of == "user").then_some(user),
        channel: (of == "channel").then_some(channel),
        settings: (of == "settings").then_some(settings),
    }))
}

/// `restored NAME index=7 at=1800000000000`.
fn note_restore(line: &Line) -> Made<Command> {
    Ok(Command::NoteRestore(NoteRestore {
        backup: line.word(1)?.to_owned(),
        index: line.number("index")?.unwrap_or_default(),
        at_ms: line.number("at")?.unwrap_or_default(),
    }))
}

/// `put-back room NAME 1=text 4=text`: messages by number; `stranger=4` gives one another id.
fn put_back(world: &World, line: &Line) -> Made<Command> {
    let channel = world.names.id('#', line.word(1)?)?;
    let stranger: Option<u64> = line.number("stranger")?;
    let message = |(seq, text): &(String, String)| {
        let seq: u64 = seq.parse().ok()?;
        let row = world.view.row::<rows::Message>(Key::Message(ChannelId(channel), seq)).unwrap();
        let id = row.map_or(1, |row| row.id) + u64::from(stranger == Some(seq));
        Some(RestoredMessage { seq, id, body: body(text) })
    };
    Ok(Command::RestoreMessages(RestoreMessages {
        channel,
        as_of_ms: world.now_ms - 60_000,
        backup: line.word(2)?.to_owned(),
        overwrite: line.flag("overwrite")?.unwrap_or_default(),
        messages: line.options.iter().filter_map(message).collect(),
    }))
}

fn pair_note(line: &Line) -> Made<Command> {
    Ok(Command::NotePair(NotePair {
        what: number(line.word(1)?)?,
        member: line.number("member")?.unwrap_or_default(),
        epoch: line.number("epoch")?.unwrap_or_default(),
        index: line.number("index")?.unwrap_or_default(),
        records: line.number("records")?.unwrap_or_default(),
        text: line.text("text").map(|text| body(&text)).unwrap_or_default(),
    }))
}

fn settings(world: &World, line: &Line) -> Made<Command> {
    let now = world.view.row::<rows::Settings>(Key::Settings).unwrap().map(|row| row.version);
    Ok(Command::UpdateSettings(UpdateSettings {
        version: line.number("v")?.or(now).unwrap_or(1),
        organisation: line.text("organisation"),
        default_locale: line.text("locale"),
        time_zone: line.text("zone"),
        session_days: line.number("days")?,
        edit_window_seconds: line.number("window")?,
    }))
}

/// `backups disk=/mnt/a store=https://s3.example secret=x for=age1... at="daily 02:00" on=disk ...`: targets by name, a
/// folder or a bucket by what they look like; the schedule and the secrets are those of all.
fn backups(world: &World, line: &Line) -> Made<Command> {
    let now = world.view.row::<rows::Backups>(Key::Backups).unwrap().map_or(1, |row| row.version);
    let secret = |name: &str| line.option(name).map(rows::Secret::text);
    // Enough of a certificate for the rules, which read none.
    let ca_pem = line.text("ca").map_or_else(String::new, |name| format!("-----BEGIN CERTIFICATE-----\n{name}\n"));
    let target = |(name, place): &(String, String)| {
        let place = match place.split_once("://") {
            Some(("https", _)) => rows::BackupPlace::S3(rows::S3Place {
                endpoint: place.clone(),
                bucket: line.text("bucket").unwrap_or_else(|| "chat".to_owned()),
                access_key: "AKIA".to_owned(),
                secret: secret("secret"),
                ca_pem: ca_pem.clone(),
                ..rows::S3Place::default()
            }),
            Some(("dav", rest)) => rows::BackupPlace::Webdav(rows::WebdavPlace {
                url: format!("https://{rest}"),
                user: "anna".to_owned(),
                password: secret("secret"),
                ca_pem: ca_pem.clone(),
            }),
            Some(("sftp", rest)) => rows::BackupPlace::Sftp(rows::SftpPlace {
                host: rest.to_owned(),
                user: "backup".to_owned(),
                password: secret("secret"),
                private_key: secret("key"),
                path: "/srv".to_owned(),
                host_key: "SHA256:abc".to_owned(),
                ..rows::SftpPlace::default()
            }),
            _ if place.starts_with(['/', '.']) => {
                rows::BackupPlace::Directory(rows::DirectoryPlace { path: place.clone() })
            }
            _ => return None,
        };
        Some(rows::BackupTarget { name: name.clone(), append_only: false, enabled: true, place: Some(place) })
    };
    let schedule = line.text("at").map(|calendar| rows::BackupSchedule {
        name: "main".to_owned(),
        calendar,
        kind: line.number("kind").ok().flatten().unwrap_or_default(),
        targets: line.text("on").into_iter().collect(),
        enabled: true,
    });
    let settings = rows::Backups {
        targets: line.options.iter().filter_map(target).collect(),
        recipients: line.text("for").into_iter().collect(),
        schedules: schedule.into_iter().collect(),
        retention: line.number("last")?.map(|last| rows::BackupRetention { last, ..rows::BackupRetention::default() }),
        paused: line.flag("paused")?.unwrap_or_default(),
        signing_key: secret("signing"),
        ..rows::Backups::default()
    };
    let settings = if line.word(1) == Ok("nothing") { None } else { Some(settings) };
    Ok(Command::UpdateBackups(UpdateBackups { version: line.number("v")?.unwrap_or(now), settings }))
}
