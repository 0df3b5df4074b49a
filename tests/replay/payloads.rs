//! The bytes of every command, for ever: a log that an older version wrote must stay readable and mean the same. A line
//! of the fixture is never changed; `UPDATE_GOLDEN=1` only adds lines for commands that are new.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use holdfast::core::command::{
    AcceptInvite, Actor, Command, CreateChannel, CreateInvite, CreateSession, DeleteMessage, EditMessage, Envelope,
    MarkRead, NewUser, NoteBackup, NoteCertificate, NotePair, NoteRestore, OpenDirect, PairEvent, PutMember, ReadMark,
    RemoveMember, ResolveConflict, RestoreMessages, RestoredMessage, RevokeInvite, RevokeSession, Salvage, SendMessage,
    SetPassword, SetUp, StateHashRecord, TailId, UpdateBackups, UpdateChannel, UpdateMembership, UpdatePair,
    UpdateSettings, UpdateUser,
};
use holdfast::core::rows::{
    BackupPlace, BackupRetention, BackupSchedule, BackupTarget, Backups, DirectoryPlace, PairMember, S3Place, Secret,
    SftpPlace, WebdavPlace,
};
use prost::Message as _;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/commands-v1.txt");

/// A command's name in the fixture. A new command does not compile until it has one, and fails until it has a sample.
const fn name(command: &Command) -> &'static str {
    match command {
        Command::SendMessage(_) => "send_message",
        Command::EditMessage(_) => "edit_message",
        Command::DeleteMessage(_) => "delete_message",
        Command::MarkRead(_) => "mark_read",
        Command::SetUp(_) => "set_up",
        Command::CreateUser(_) => "create_user",
        Command::UpdateUser(_) => "update_user",
        Command::SetPassword(_) => "set_password",
        Command::CreateSession(_) => "create_session",
        Command::RevokeSession(_) => "revoke_session",
        Command::CreateInvite(_) => "create_invite",
        Command::RevokeInvite(_) => "revoke_invite",
        Command::AcceptInvite(_) => "accept_invite",
        Command::CreateChannel(_) => "create_channel",
        Command::OpenDirect(_) => "open_direct",
        Command::UpdateChannel(_) => "update_channel",
        Command::PutMember(_) => "put_member",
        Command::RemoveMember(_) => "remove_member",
        Command::UpdateMembership(_) => "update_membership",
        Command::UpdateSettings(_) => "update_settings",
        Command::NoteCertificate(_) => "note_certificate",
        Command::UpdatePair(_) => "update_pair",
        Command::NotePair(_) => "note_pair",
        Command::Salvage(_) => "salvage",
        Command::ResolveConflict(_) => "resolve_conflict",
        Command::UpdateBackups(_) => "update_backups",
        Command::NoteBackup(_) => "note_backup",
        Command::NoteRestore(_) => "note_restore",
        Command::RestoreMessages(_) => "restore_messages",
    }
}

/// How many names [`name`] has.
const COMMANDS: usize = 29;

const ID: u64 = 0x0102_0304_0506_0708;
const OTHER: u64 = 0x1112_1314_1516_1718;

fn sixteen() -> Bytes {
    Bytes::from_static(&[
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
    ])
}

fn new_user() -> NewUser {
    NewUser {
        username: "wang".to_owned(),
        display_name: "王小明".to_owned(),
        role: 3,
        password_hash: "$argon2id$x".to_owned(),
        locale: "zh-CN".to_owned(),
        must_change_password: true,
    }
}

/// One command of every kind, every field set to something that is not its default.
fn samples() -> Vec<Command> {
    let text = |text: &str| text.to_owned();
    let mut all = chat_samples();
    all.extend([
        Command::SetUp(SetUp {
            organisation: text("磐信"),
            default_locale: text("zh-CN"),
            time_zone: text("Asia/Shanghai"),
            owner: Some(new_user()),
        }),
        Command::CreateUser(new_user()),
        Command::UpdateUser(UpdateUser {
            user: ID,
            version: 300,
            display_name: Some(text("Wang")),
            role: Some(4),
            locale: Some(String::new()),
            disabled: Some(false),
        }),
        Command::SetPassword(SetPassword {
            user: ID,
            password_hash: text("$argon2id$y"),
            keep_session: OTHER,
            must_change: true,
        }),
        Command::CreateSession(CreateSession { user: ID, token_hash: sixteen(), device: text("Firefox") }),
        Command::RevokeSession(RevokeSession { user: ID, session: OTHER }),
        Command::CreateInvite(CreateInvite {
            token_hash: sixteen(),
            role: 2,
            channels: vec![ID, OTHER],
            expires_in_seconds: 604_800,
            uses_max: 5,
        }),
        Command::RevokeInvite(RevokeInvite { invite: ID }),
        Command::AcceptInvite(AcceptInvite { token_hash: sixteen(), user: Some(new_user()) }),
        Command::NoteCertificate(NoteCertificate {
            before: "{}".to_owned(),
            after: "{\"subject\":\"CN=x\"}".to_owned(),
        }),
        Command::UpdateSettings(UpdateSettings {
            version: 2,
            organisation: Some(text("Acme")),
            default_locale: Some(text("en")),
            time_zone: Some(text("UTC")),
            session_days: Some(7),
            edit_window_seconds: Some(0),
        }),
    ]);
    all.extend(pair_samples());
    all.push(Command::NoteBackup(NoteBackup { what: 6, target: text("disk"), text: text("为什么") }));
    all.push(Command::UpdateBackups(UpdateBackups { version: 4, settings: Some(backups()) }));
    all.extend(backup_samples());
    all
}

/// Settings of the backups with a target of every kind.
fn backups() -> Backups {
    let text = |text: &str| text.to_owned();
    let secret = |text: &str| Some(Secret::text(text));
    let target =
        |name: &str, place| BackupTarget { name: text(name), append_only: true, enabled: true, place: Some(place) };
    Backups {
        version: 3,
        targets: vec![
            target("disk", BackupPlace::Directory(DirectoryPlace { path: text("/mnt/备份") })),
            target(
                "store",
                BackupPlace::S3(S3Place {
                    endpoint: text("https://s3.example"),
                    bucket: text("holdfast"),
                    region: text("eu"),
                    prefix: text("chat"),
                    access_key: text("AKIA"),
                    secret: secret("s3-secret"),
                    ca_pem: text("-----BEGIN CERTIFICATE-----\n"),
                }),
            ),
            target(
                "dav",
                BackupPlace::Webdav(WebdavPlace {
                    url: text("https://dav.example/b"),
                    user: text("anna"),
                    password: secret("dav-secret"),
                    ca_pem: text("-----BEGIN CERTIFICATE-----\n"),
                }),
            ),
            target(
                "ssh",
                BackupPlace::Sftp(SftpPlace {
                    host: text("ssh.example"),
                    port: 2_222,
                    user: text("backup"),
                    password: secret("ssh-secret"),
                    private_key: secret("ssh-key"),
                    path: text("/srv/b"),
                    host_key: text("SHA256:abc"),
                }),
            ),
        ],
        recipients: vec![text("age1x")],
        schedules: vec![BackupSchedule {
            name: text("nightly"),
            calendar: text("daily 02:00"),
            kind: 1,
            targets: vec![text("disk")],
            enabled: true,
        }],
        continuous: true,
        retention: Some(BackupRetention { last: 1, hourly: 2, daily: 3, weekly: 4, monthly: 5 }),
        drill: text("weekly sun 04:00"),
        alarm_backup_hours: 26,
        alarm_drill_days: 35,
        paused: true,
        paused_until_ms: 1_800_000_000_000,
        encrypted: true,
        signing_key: secret("pkcs8"),
    }
}

fn backup_samples() -> Vec<Command> {
    let backup = "20270115T080000Z-00000000000000000300".to_owned();
    vec![
        Command::NoteRestore(NoteRestore { backup: backup.clone(), index: 300, at_ms: 1_800_000_000_000 }),
        Command::RestoreMessages(RestoreMessages {
            channel: ID,
            as_of_ms: 1_800_000_000_000,
            backup,
            overwrite: true,
            messages: vec![RestoredMessage { seq: 300, id: OTHER, body: "hello 世界".to_owned() }],
        }),
    ]
}

fn pair_samples() -> Vec<Command> {
    let member = PairMember {
        number: 3,
        kind: 1,
        addresses: vec!["192.0.2.3:8444".to_owned(), "198.51.100.3:8444".to_owned()],
        client_url: "https://chat.example".to_owned(),
        fingerprint: Bytes::from(vec![7; 32]),
        name: "节点".to_owned(),
        level: 2,
    };
    vec![
        Command::UpdatePair(UpdatePair {
            version: 4,
            members: vec![member],
            auto_promote: true,
            reference: "192.0.2.254:443".to_owned(),
            timings: Some(holdfast::core::pair::TIMINGS_DEFAULT),
            level_held: Some(2),
        }),
        Command::NotePair(NotePair {
            what: PairEvent::Rewound.into(),
            member: 2,
            epoch: 196_610,
            index: 300,
            records: 7,
            text: "为什么".to_owned(),
        }),
        Command::Salvage(Salvage {
            tail: Some(TailId { node: 2, epoch: 196_610, fork: 300 }),
            ordinal: 7,
            index: 310,
            epoch: 196_609,
            hlc: ID,
            site: 1,
            node: 2,
            envelope: Bytes::from_static(b"envelope"),
            edits: 3,
            edited_ms: 1_800_000_000_000,
            seq_at_fork: 299,
            seen: sixteen(),
            other: "{}".to_owned(),
        }),
        Command::ResolveConflict(ResolveConflict {
            conflict: ID,
            version: 1,
            record_version: 3,
            decision: 3,
            user: Some(UpdateUser { role: Some(4), ..UpdateUser::default() }),
            channel: Some(UpdateChannel { archived: Some(true), ..UpdateChannel::default() }),
            settings: Some(UpdateSettings { session_days: Some(7), ..UpdateSettings::default() }),
        }),
    ]
}

fn chat_samples() -> Vec<Command> {
    let text = |text: &str| text.to_owned();
    let marks = vec![ReadMark { channel: ID, seq: 300 }, ReadMark { channel: OTHER, seq: 1 }];
    vec![
        Command::SendMessage(SendMessage { channel: ID, client_id: sixteen(), body: text("hello 世界") }),
        Command::EditMessage(EditMessage { channel: ID, seq: 300, version: 2, body: text("hello") }),
        Command::DeleteMessage(DeleteMessage { channel: ID, seq: 300, version: 2 }),
        Command::MarkRead(MarkRead { marks }),
        Command::CreateChannel(CreateChannel {
            kind: 3,
            name: text("News"),
            topic: text("All of it"),
            members: vec![ID, OTHER],
        }),
        Command::OpenDirect(OpenDirect { user: ID }),
        Command::UpdateChannel(UpdateChannel {
            channel: ID,
            version: 2,
            name: Some(text("Lobby")),
            topic: Some(String::new()),
            archived: Some(false),
        }),
        Command::PutMember(PutMember { channel: ID, user: OTHER, role: Some(0) }),
        Command::RemoveMember(RemoveMember { channel: ID, user: OTHER }),
        Command::UpdateMembership(UpdateMembership { channel: ID, notify: 2 }),
    ]
}

/// What is written for each name.
fn lines() -> Vec<(&'static str, Vec<u8>)> {
    let actor = Actor { user: ID, session: OTHER, address: "192.0.2.1".to_owned() };
    let sealed = |command| Envelope { actor: Some(actor.clone()), command: Some(command) }.encode_to_vec();
    let mut lines: Vec<_> = samples().into_iter().map(|command| (name(&command), sealed(command))).collect();
    let bare = Command::OpenDirect(OpenDirect { user: ID });
    lines.push(("without_actor", Envelope { actor: None, command: Some(bare.clone()) }.encode_to_vec()));
    lines.push(("by_operator", Envelope { actor: Some(Actor::operator()), command: Some(bare) }.encode_to_vec()));
    let record = StateHashRecord { index: 1_024, hash: Bytes::from(vec![9; 32]) };
    lines.push(("state_hash_record", record.encode_to_vec()));
    lines
}

#[test]
fn every_command_reads_and_writes_as_it_always_did() {
    let mut fixture = std::fs::read_to_string(FIXTURE).unwrap_or_default();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    for (name, bytes) in lines() {
        let line = fixture.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        let Some(line) = line else {
            assert!(update, "{name} is not in {FIXTURE}; UPDATE_GOLDEN=1 adds it");
            fixture.push_str(&format!("{name} {}\n", HEXLOWER.encode(&bytes)));
            continue;
        };
        assert_eq!(HEXLOWER.encode(&bytes), line, "{name} is written in other bytes: old versions would not read it");
    }
    if update {
        std::fs::write(FIXTURE, &fixture).unwrap();
    }
    let old = |name: &str| fixture.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let mut names = std::collections::BTreeSet::new();
    for command in samples() {
        names.insert(name(&command));
        let bytes = HEXLOWER.decode(old(name(&command)).unwrap().as_bytes()).unwrap();
        let read = Envelope::decode(Bytes::from(bytes)).unwrap();
        assert_eq!(read.command, Some(command), "an old log means something else now");
    }
    assert_eq!(names.len(), COMMANDS, "every command has a sample");
}

/// A field that a later version added to a command is passed over.
#[test]
fn unknown_fields_are_ignored() {
    let (_, mut bytes) = lines().into_iter().find(|(name, _)| *name == "without_actor").unwrap();
    bytes.extend([0xfa, 0x06, 0x02, 0x68, 0x69]); // field 111, length-delimited, "hi"
    let read = Envelope::decode(Bytes::from(bytes)).unwrap();
    assert_eq!(read.command, Some(Command::OpenDirect(OpenDirect { user: ID })));
}
