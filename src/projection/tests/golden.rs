//! The bytes on disk, for ever: a change here is a change of format, and needs `STATE_FORMAT` to grow.

use data_encoding::HEXLOWER;

use super::*;
use crate::core::ids::{InviteId, SessionId};
use crate::core::rows;
use crate::core::view::StateHash;
use crate::projection::store::Batch;
use crate::projection::unit::{Packer, UnitKey};

const ROWS: &str = include_str!("../../../tests/fixtures/rows-v1.txt");

/// One row of every kind, every field set.
fn samples() -> Vec<(&'static str, Key, Value)> {
    let (user, channel) = (UserId(0x0102_0304), ChannelId(0x0a0b_0c0d));
    let bytes = |byte: u8| bytes::Bytes::from(vec![byte; 16]);
    let text = |text: &str| text.to_owned();
    let reference: Value = rows::Reference { id: 77 }.into();
    vec![
        (
            "settings",
            Key::Settings,
            rows::Settings {
                version: 2,
                organisation: text("磐信"),
                default_locale: text("zh-CN"),
                time_zone: text("Asia/Shanghai"),
                session_days: 30,
                edit_window_seconds: 900,
                created_ms: 1_800_000_000_000,
            }
            .into(),
        ),
        (
            "user",
            Key::User(user),
            rows::User {
                id: user.0,
                username: text("anna"),
                display_name: text("Anna"),
                role: 5,
                password_hash: text("$argon2id$x"),
                locale: text("en"),
                disabled: true,
                version: 3,
                created_ms: 9,
                must_change_password: true,
            }
            .into(),
        ),
        ("username", Key::Username([1; 16]), reference.clone()),
        (
            "session",
            Key::Session(SessionId(5)),
            rows::Session {
                id: 5,
                user: user.0,
                token_hash: bytes(2),
                device: text("Firefox"),
                address: text("10.0.0.1"),
                created_ms: 10,
                expires_ms: 11,
            }
            .into(),
        ),
        ("session_token", Key::SessionToken([2; 16]), reference.clone()),
        ("user_session", Key::UserSession(user, SessionId(5)), reference.clone()),
        (
            "invite",
            Key::Invite(InviteId(6)),
            rows::Invite {
                id: 6,
                token_hash: bytes(3),
                creator: user.0,
                role: 2,
                channels: vec![1, 2],
                created_ms: 12,
                expires_ms: 13,
                uses_max: 4,
                uses: 1,
                revoked: true,
            }
            .into(),
        ),
        ("invite_token", Key::InviteToken([3; 16]), reference.clone()),
        (
            "channel",
            Key::Channel(channel),
            rows::Channel {
                id: channel.0,
                kind: 2,
                name: text("general"),
                topic: text("all"),
                creator: user.0,
                created_ms: 14,
                archived: true,
                version: 5,
                direct: vec![3, 4],
            }
            .into(),
        ),
        ("channel_name", Key::ChannelName([4; 16]), reference.clone()),
        ("direct_pair", Key::DirectPair(UserId(3), UserId(4)), reference),
        (
            "channel_head",
            Key::ChannelHead(channel),
            rows::ChannelHead { last_seq: 300, last_ms: 15, members: 7 }.into(),
        ),
        ("member", Key::Member(channel, user), rows::Member { role: 1, joined_ms: 16 }.into()),
        ("membership", Key::Membership(user, channel), rows::Membership { read_seq: 299, notify: 1 }.into()),
        (
            "message",
            Key::Message(channel, 300),
            rows::Message {
                id: 8,
                sender: user.0,
                client_id: bytes(5),
                body: text("hello 你好"),
                edits: 1,
                created_ms: 17,
                edited_ms: 18,
                deleted_ms: 19,
                late_ms: 0,
            }
            .into(),
        ),
        (
            "sent",
            Key::Sent(user, 33),
            rows::Sent { number: 33, client_id: bytes(6), channel: channel.0, seq: 300 }.into(),
        ),
        ("audit", Key::Audit(400), audit_sample().into()),
    ]
}

fn audit_sample() -> rows::Audit {
    let text = |text: &str| text.to_owned();
    rows::Audit {
        at_ms: 20,
        actor: 0x0102_0304,
        session: 5,
        address: text("local"),
        action: text("user.create"),
        target_kind: text("user"),
        target: 8,
        before: text("{}"),
        after: text("{\"a\":1}"),
        late_ms: 0,
    }
}

/// The kinds of rows that came with format 2.
fn samples_of_format_2() -> Vec<(&'static str, Key, Value)> {
    let late = rows::Message {
        id: 8,
        sender: 9,
        client_id: bytes::Bytes::from(vec![5; 16]),
        body: "late".to_owned(),
        created_ms: 17,
        late_ms: 20,
        ..rows::Message::default()
    };
    let audit = rows::Audit { at_ms: 20, action: "user.update".to_owned(), late_ms: 21, ..rows::Audit::default() };
    let tail = crate::core::command::TailId { node: 2, epoch: 196_610, fork: 300 };
    let mark = rows::TailMark { tail: Some(tail), ordinal: 7, first_ms: 21, last_ms: 22 };
    let reference = rows::Reference { id: 77 };
    vec![
        ("pair", Key::Pair, pair().into()),
        ("message_late", Key::Message(ChannelId(0x0a0b_0c0d), 301), late.into()),
        ("audit_late", Key::Audit(401), audit.into()),
        ("tail_mark", Key::TailMark([8; 16]), mark.into()),
        ("conflict", Key::Conflict(9), conflict().into()),
        ("open_conflict", Key::OpenConflict(9), reference.clone().into()),
        ("channel_alias", Key::ChannelAlias(ChannelId(10)), reference.into()),
        ("backups", Key::Backups, backups().into()),
    ]
}

fn conflict() -> rows::Conflict {
    rows::Conflict {
        id: 9,
        version: 2,
        kind: 4,
        subject: 10,
        channel: 11,
        seq: 12,
        reason: "stale_version".to_owned(),
        other: "{}".to_owned(),
        command: bytes::Bytes::from_static(b"command"),
        actor: 13,
        changed_ms: 14,
        node: 2,
        late_ms: 15,
        state: 1,
        resolver: 16,
        resolved_ms: 17,
    }
}

/// The shapes within are those of the command, which has its own fixture.
fn backups() -> rows::Backups {
    let text = |text: &str| text.to_owned();
    let place = rows::BackupPlace::Directory(rows::DirectoryPlace { path: text("/mnt/a") });
    let target = rows::BackupTarget { name: text("disk"), append_only: true, enabled: true, place: Some(place) };
    let schedule = rows::BackupSchedule {
        name: text("nightly"),
        calendar: text("daily 02:00"),
        kind: 1,
        targets: vec![text("disk")],
        enabled: true,
    };
    rows::Backups {
        version: 3,
        targets: vec![target],
        recipients: vec![text("age1x")],
        schedules: vec![schedule],
        continuous: true,
        retention: Some(rows::BackupRetention { last: 1, hourly: 2, daily: 3, weekly: 4, monthly: 5 }),
        drill: text("weekly sun 04:00"),
        alarm_backup_hours: 26,
        alarm_drill_days: 35,
        paused: true,
        paused_until_ms: 1_800_000_000_000,
        encrypted: true,
        signing_key: Some(rows::Secret::text("pkcs8")),
    }
}

fn pair() -> rows::Pair {
    let member = rows::PairMember {
        number: 3,
        kind: 1,
        addresses: vec!["192.0.2.3:8444".to_owned(), "198.51.100.3:8444".to_owned()],
        client_url: "https://chat.example".to_owned(),
        fingerprint: bytes::Bytes::from(vec![7; 32]),
        name: "节点".to_owned(),
        level: 2,
    };
    let timings = rows::PairTimings {
        heartbeat_ms: 250,
        fail_after_ms: 1_500,
        solo_after_ms: 1_000,
        lease_ms: 2_000,
        promote_after_ms: 4_000,
    };
    rows::Pair {
        version: 4,
        members: vec![member],
        retired: vec![1, 2],
        auto_promote: true,
        reference: "192.0.2.254:443".to_owned(),
        timings: Some(timings),
        level_held: Some(2),
    }
}

fn pairs(unit: UnitKey, rows: &[(u8, Vec<u8>)], old_parts: u16) -> Vec<(String, Option<Vec<u8>>)> {
    let mut batch = Batch::new();
    Packer::new().unwrap().put(&mut batch, (unit, old_parts), rows).unwrap();
    batch.into_iter().map(|(key, value)| (HEXLOWER.encode(&key), value)).collect()
}

#[test]
fn rows_of_every_version_keep_their_bytes_and_can_be_read() {
    let mut lines = ROWS.lines().filter(|line| !line.starts_with('#'));
    for (name, key, value) in samples().into_iter().chain(samples_of_format_2()) {
        let line = format!("{name} {} {}", HEXLOWER.encode(&key.encode()), HEXLOWER.encode(&value.encode()));
        let stored = lines.next().unwrap_or_default();
        assert_eq!(stored, line, "the bytes of {name} changed");
        let mut fields = stored.split(' ').skip(1).map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap());
        let key = Key::decode(&fields.next().unwrap()).unwrap();
        assert_eq!(Value::decode(&key, &fields.next().unwrap()).unwrap(), value);
    }
    assert_eq!(lines.next(), None, "a kind of row without a sample");
}

#[test]
fn the_meta_row_keeps_its_bytes() {
    let identity = open::Identity { cluster: CLUSTER, boot_id: "boot".to_owned() };
    let meta = identity.meta(at(300), StateHash::from_bytes([5; 32]));
    let bytes = meta.to_bytes();
    assert_eq!(HEXLOWER.encode(&bytes), META_HEX);
    assert_eq!(meta::Meta::from_bytes(&bytes, Path::new("x"), CLUSTER).unwrap(), meta);
    let older = HEXLOWER.decode(META_1_HEX.as_bytes()).unwrap();
    let read = meta::Meta::from_bytes(&older, Path::new("x"), CLUSTER).unwrap();
    assert_eq!(read, meta::Meta { format: 1, ..meta }, "a state of format 1 is used as it is");
}

#[test]
fn units_keep_their_bytes() {
    let key = |seq| Key::Message(ChannelId(1), seq);
    let small = UnitKey::of(&Key::ChannelHead(ChannelId(1)));
    assert_eq!(pairs(small, &[(0, vec![1, 8, 3])], 1), [("0c0000000000000001".to_owned(), Some(vec![0, 1, 8, 3]))]);

    let block = UnitKey::of(&key(70));
    assert_eq!(block, UnitKey::of(&key(64)));
    let rows = [(0, vec![1, 2]), (6, vec![3])];
    let name = "0f00000000000000010000000000000002".to_owned();
    assert_eq!(pairs(block, &rows, 1), [(name.clone(), Some(vec![0, 0, 2, 1, 2, 6, 1, 3]))]);
    assert_eq!(pairs(block, &[], 2), [(name.clone(), None), (format!("{name}0001"), None)], "no rows: all parts go");

    // A fixed frame of an earlier build, since a newer zstd may compress otherwise.
    let frame = HEXLOWER.decode(BLOCK_HEX.as_bytes()).unwrap();
    let content = unit::join_parts(block, &[frame]).unwrap().unwrap();
    let read = unit::decode_rows(block, content).unwrap();
    let expected: Vec<_> = (64..96).map(|seq| (key(seq), message(seq, "the same words again"))).collect();
    assert_eq!(&read[..], &expected[..]);
}

#[test]
fn long_units_are_split_into_small_values_and_joined_again() {
    let noise: Vec<u8> = (0..400u32).flat_map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
    let unit = UnitKey::of(&Key::Audit(1));
    let parts = pairs(unit, &[(0, noise.clone())], 0);
    assert_eq!(parts.len(), 4);
    let values: Vec<_> = parts.into_iter().map(|(_, value)| value.unwrap()).collect();
    assert!(values.iter().all(|value| value.len() <= crate::limits::STATE_VALUE_BYTES_MAX));
    assert_eq!(HEXLOWER.encode(&values[0][..7]), "020004e551208d".to_owned());
    assert_eq!(unit::join_parts(unit, &values).unwrap().unwrap(), noise);
    let mut torn = values.clone();
    torn[2][0] ^= 1;
    assert_eq!(unit::join_parts(unit, &torn).unwrap(), None, "parts of different writes do not join");
    let shorter = pairs(unit, &[(0, noise[..5_000].to_vec())], 4);
    assert_eq!(shorter.iter().filter(|(_, value)| value.is_none()).count(), 2, "parts no longer used go");
}

proptest::proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        for unit in [UnitKey::of(&Key::Message(ChannelId(1), 5)), UnitKey::of(&Key::Audit(1))] {
            if unit::part_count(unit, &bytes).is_ok()
                && let Ok(Some(content)) = unit::join_parts(unit, std::slice::from_ref(&bytes))
            {
                let _ = unit::decode_rows(unit, content);
            }
        }
        let _ = UnitKey::parse(&bytes);
        let _ = meta::Meta::from_bytes(&bytes, Path::new("x"), CLUSTER);
    }
}

/// The meta row of format 1, and of the present one.
const META_1_HEX: &str = "0108011210746865207465737420636c757374657218ac02208180042a2005050505050505050505050505050505050505050505050505050505050505053204626f6f742b9ec44a";
const META_HEX: &str = "0108021210746865207465737420636c757374657218ac02208180042a2005050505050505050505050505050505050505050505050505050505050505053204626f6f74b89983e1";
/// 32 messages of 20 characters, flags and length in front.
const BLOCK_HEX: &str = "010000068028b52ffd608005dd0700a24e312b00f1a403fcffffffff3b077ec1aa82b64cf5d7dfdaebafbffecefff096fe3086f266360cc2ed4f10ae2dc9999d7511c260ee2f5e2ff7162e97fb8a18dd53b45aee27582cf712ab95fb0895ca7d974ab98740a1dc3f9c4eee1d4c26f75ca9e4be814472cf301ab9df2074bf2012b9570885dc278040ee113e1ff7071e8f7b834ec77d0187e3de9b8d7b028dc6bd96c9b81fc060dc0b5c2eee032c16f700958a7b092529ee9bd95917e124e3a3e3dbf83c994608c88817f3f8645e8c4384c3486dcb89fb0c40a821800111f0f6efe0370312f0f00bffbf43981fd6386bc412508a28016544092845948032a204947e64ef070a9581d3a706";
