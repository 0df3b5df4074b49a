//! Round trips, the exact bytes, what newer builds may add, and what is refused.

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::blobs::BlobHash;
use crate::core::failover::{Epoch, LogEnd, Message, Pairing, PairingState};
use crate::core::ids::Hlc;
use crate::core::rows::PairMemberKind;

/// Head and payload as they stand in a frame.
fn bytes_of(message: &impl Wire) -> Bytes {
    let mut out = BytesMut::new();
    let payload = message.encode(&mut out).unwrap_or_default();
    out.extend_from_slice(&payload);
    out.freeze()
}

fn survives<M: Wire + PartialEq + std::fmt::Debug>(message: &M) {
    assert_eq!(M::decode(bytes_of(message)).unwrap().as_ref(), Some(message));
    // A newer build's fields: number 1000 as a varint, and as bytes.
    let mut newer = bytes_of(message).to_vec();
    newer.extend_from_slice(&[0xc0, 0x3e, 0x05, 0xc2, 0x3e, 0x02, 0xaa, 0xbb]);
    assert_eq!(M::decode(newer.into()).unwrap().as_ref(), Some(message));
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u64>().prop_map(Epoch)
}

fn log_end() -> impl Strategy<Value = LogEnd> {
    (epoch(), any::<u64>()).prop_map(|(epoch, index)| LogEnd { epoch, index })
}

fn state() -> impl Strategy<Value = PairingState> {
    prop_oneof![
        any::<u16>().prop_map(|standby| PairingState::Paired { standby }),
        (epoch(), any::<u64>()).prop_map(|(epoch, from)| PairingState::Solo { epoch, from }),
    ]
}

fn pairing() -> impl Strategy<Value = Pairing> {
    (any::<u64>(), epoch(), any::<u16>(), state()).prop_map(|(version, epoch, active, state)| Pairing {
        version,
        epoch,
        active,
        state,
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (epoch(), any::<[bool; 2]>(), log_end(), any::<u64>(), pairing()).prop_map(
            |(epoch, [active, away], log, commit, pairing)| Message::Heartbeat {
                epoch,
                active,
                log,
                commit,
                pairing,
                away
            }
        ),
        (epoch(), log_end()).prop_map(|(epoch, log)| Message::PreVote { epoch, log }),
        (epoch(), any::<bool>(), epoch()).prop_map(|(epoch, granted, own)| Message::PreVoteAnswer {
            epoch,
            granted,
            own
        }),
        (epoch(), log_end(), any::<bool>()).prop_map(|(epoch, log, handed_over)| Message::Vote {
            epoch,
            log,
            handed_over
        }),
        (epoch(), any::<bool>(), epoch()).prop_map(|(epoch, granted, own)| Message::VoteAnswer { epoch, granted, own }),
        (epoch(), any::<u64>(), state()).prop_map(|(epoch, base, state)| Message::ChangePairing { epoch, base, state }),
        (epoch(), pairing()).prop_map(|(epoch, pairing)| Message::PairingIs { epoch, pairing }),
        (epoch(), any::<u64>()).prop_map(|(epoch, index)| Message::Ack { epoch, index }),
        (epoch(), any::<u64>()).prop_map(|(epoch, index)| Message::HandOver { epoch, index }),
        epoch().prop_map(|epoch| Message::Stale { epoch }),
    ]
}

fn hello(class: Class) -> Hello {
    Hello {
        protocol: 3,
        protocol_min: 1,
        level: 2,
        level_in_use: 1,
        cluster: [7; 16],
        member: 513,
        class,
        epoch: Epoch::new(4, 1),
        version: "1.2.3".to_owned(),
        client_url: "https://chat.example".to_owned(),
        now_ms: 1_700_000_000_000,
        next_certificate: None,
    }
}

/// One of every kind, with every field set.
fn log_samples() -> Vec<LogMessage> {
    let epoch = Epoch::new(3, 2);
    vec![
        LogMessage::AskPosition { index: 300 },
        LogMessage::PositionIs { index: 300, epoch, chain: [9; 32], first: 1, last: 400 },
        LogMessage::PositionUnknown { index: 300, first: 310, last: 400 },
        LogMessage::ShipFrom { epoch, index: 301 },
        LogMessage::Ship(Ship { epoch, frames: Bytes::from_static(b"frames"), commit: 5, last: 6, sent_ms: 7 }),
        LogMessage::Ship(Ship { epoch, frames: Bytes::new(), commit: 0, last: 0, sent_ms: 0 }),
        LogMessage::Control(Message::Ack { epoch, index: 12 }),
    ]
}

fn snapshot_samples() -> Vec<SnapshotMessage> {
    vec![
        SnapshotMessage::Want { have_index: 8 },
        SnapshotMessage::Is {
            index: 8,
            epoch: Epoch::new(1, 1),
            hlc: Hlc(99),
            chain: [1; 32],
            manifest: Bytes::from_static(b"manifest"),
        },
        SnapshotMessage::GetChunk { index: 8, name: "rows-0001.zst".to_owned() },
        SnapshotMessage::Chunk { bytes: Bytes::from_static(b"chunk") },
        SnapshotMessage::Gone,
    ]
}

fn blob_samples() -> Vec<BlobMessage> {
    let hash = BlobHash([2; 32]);
    vec![
        BlobMessage::List { after: None, max: 10 },
        BlobMessage::List { after: Some(hash), max: 10 },
        BlobMessage::Blobs(vec![ListedBlob { hash, size: 0 }, ListedBlob { hash: BlobHash([3; 32]), size: 1 << 40 }]),
        BlobMessage::Blobs(Vec::new()),
        BlobMessage::Get { hash, offset: 4096 },
        BlobMessage::Part { offset: 4096, bytes: Bytes::from_static(b"part"), last: true },
        BlobMessage::Unknown { hash },
    ]
}

fn salvage_samples() -> Vec<Salvage> {
    let refusal = SalvageRefusal { ordinal: 8, code: "conflict".to_owned(), text: "changed on both".to_owned() };
    vec![
        Salvage::Batch {
            tail: Bytes::from_static(b"tail"),
            first_ordinal: 7,
            items: vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"c")],
        },
        Salvage::Answer { upto: 10, refused: vec![refusal] },
    ]
}

fn join_request() -> JoinRequest {
    JoinRequest {
        token: [5; 32],
        csr: Bytes::from_static(b"csr"),
        kind: PairMemberKind::Witness,
        name: "attic".to_owned(),
        addresses: vec!["10.0.0.2:7401".to_owned(), "[::1]:7401".to_owned()],
        client_url: "https://10.0.0.2".to_owned(),
        level: 2,
        version: "1.2.3".to_owned(),
        retired_member: Some(2),
    }
}

fn join_samples() -> Vec<JoinMessage> {
    let answer = JoinAnswer {
        member: 3,
        chain: vec![Bytes::from_static(b"leaf")],
        ca: Bytes::from_static(b"ca"),
        ca_key: Some(Bytes::from_static(b"key")),
        cluster: [7; 16],
        settings: Bytes::from_static(b"settings"),
        web_ca: Some(Bytes::from_static(b"web")),
        web_ca_key: Some(Bytes::from_static(b"webkey")),
    };
    vec![
        JoinMessage::Request(Box::new(join_request())),
        JoinMessage::Answer(Box::new(answer)),
        JoinMessage::Refused(Refused::new("invite_unknown", "no", Epoch::new(2, 1))),
    ]
}

proptest! {
    #[test]
    fn every_message_of_the_protocol_survives(message in message()) {
        survives(&message);
        survives(&LogMessage::Control(message));
    }

    #[test]
    fn shipped_frames_survive(frames in proptest::collection::vec(any::<u8>(), 0..2000), numbers in any::<[u64; 4]>()) {
        let [epoch, commit, last, sent_ms] = numbers;
        survives(&LogMessage::Ship(Ship { epoch: Epoch(epoch), frames: frames.into(), commit, last, sent_ms }));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = Message::decode(bytes.clone());
        let _ = LogMessage::decode(bytes.clone());
        let _ = SnapshotMessage::decode(bytes.clone());
        let _ = BlobMessage::decode(bytes.clone());
        let _ = Salvage::decode(bytes.clone());
        let _ = JoinMessage::decode(bytes.clone());
        let _ = Hello::decode(bytes.clone());
        let _ = Reply::decode(bytes);
    }

    #[test]
    fn a_flipped_byte_never_panics(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        for sample in join_samples() {
            let mut bytes = bytes_of(&sample).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = JoinMessage::decode(bytes.into());
        }
        for sample in log_samples() {
            let mut bytes = bytes_of(&sample).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = LogMessage::decode(bytes.into());
        }
    }
}

#[test]
fn every_kind_of_message_survives() {
    log_samples().iter().for_each(survives);
    snapshot_samples().iter().for_each(survives);
    blob_samples().iter().for_each(survives);
    salvage_samples().iter().for_each(survives);
    join_samples().iter().for_each(survives);
    for class in Class::ALL {
        assert_eq!(Class::from_number(class as u32), Some(class));
        let hello = hello(class);
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        assert_eq!(Hello::decode(out.freeze()).unwrap(), hello);
        for reply in [
            Reply::Welcome(Box::new(Welcome { hello, first: 1, last: 2, settings: Some(Bytes::from_static(b"pair")) })),
            Reply::Refused(Refused::new("peer_level", "upgrade", Epoch::new(1, 1))),
        ] {
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            assert_eq!(Reply::decode(out.freeze()).unwrap(), reply);
        }
    }
}

/// The bytes of every message. They may get longer in a later version, never different.
#[test]
fn the_bytes_stay_the_same() {
    let mut lines = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| lines.push(format!("{name} {}", HEXLOWER.encode(bytes)));
    let mut out = BytesMut::new();
    hello(Class::Log).encode(&mut out);
    add("hello", &out.split());
    Reply::Welcome(Box::new(Welcome { hello: hello(Class::Log), first: 1, last: 2, settings: None })).encode(&mut out);
    add("welcome", &out.split());
    Reply::Refused(Refused::new("peer_level", "upgrade", Epoch::new(1, 1))).encode(&mut out);
    add("refused", &out.split());
    let (epoch, log) = (Epoch::new(3, 2), LogEnd { epoch: Epoch::new(2, 1), index: 300 });
    let paired = Pairing { version: 4, epoch, active: 2, state: PairingState::Paired { standby: 1 } };
    let solo = PairingState::Solo { epoch, from: 9 };
    let control = [
        Message::Heartbeat { epoch, active: true, log, commit: 299, pairing: paired, away: false },
        Message::Heartbeat { epoch, active: false, log, commit: 299, pairing: paired, away: true },
        Message::PreVote { epoch, log },
        Message::PreVoteAnswer { epoch, granted: true, own: Epoch::new(2, 1) },
        Message::Vote { epoch, log, handed_over: true },
        Message::VoteAnswer { epoch, granted: true, own: Epoch::new(2, 1) },
        Message::ChangePairing { epoch, base: 3, state: solo },
        Message::PairingIs { epoch, pairing: Pairing { state: solo, ..paired } },
        Message::Ack { epoch, index: 300 },
        Message::HandOver { epoch, index: 300 },
        Message::Stale { epoch },
    ];
    control.iter().for_each(|it| add("control", &bytes_of(it)));
    log_samples().iter().for_each(|it| add("log", &bytes_of(it)));
    snapshot_samples().iter().for_each(|it| add("snapshot", &bytes_of(it)));
    blob_samples().iter().for_each(|it| add("blob", &bytes_of(it)));
    salvage_samples().iter().for_each(|it| add("salvage", &bytes_of(it)));
    join_samples().iter().for_each(|it| add("join", &bytes_of(it)));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_a_newer_build_means_is_skipped_and_not_guessed() {
    // Kind 99 of each class, as a newer build may send it.
    let newer = || Bytes::from_static(&[0x9a, 0x06, 0x02, 0x08, 0x01]);
    assert_eq!(Message::decode(newer()).unwrap(), None);
    assert_eq!(LogMessage::decode(newer()).unwrap(), None);
    assert_eq!(SnapshotMessage::decode(newer()).unwrap(), None);
    assert_eq!(BlobMessage::decode(newer()).unwrap(), None);
    assert_eq!(Salvage::decode(newer()).unwrap(), None);
    assert_eq!(JoinMessage::decode(newer()).unwrap(), None);
    assert_eq!(LogMessage::decode(Bytes::new()).unwrap(), None);

    // A pairing state of kind 3 is neither Paired nor Solo: `ChangePairing { epoch 1, base 1, state { kind: 3 } }`.
    let odd = [0x32, 0x0f, 0x09, 1, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0x1a, 0x02, 0x08, 0x03];
    assert_eq!(Message::decode(Bytes::copy_from_slice(&odd)).unwrap(), None);
    let mut paired = odd;
    paired[16] = 1;
    assert!(matches!(Message::decode(Bytes::copy_from_slice(&paired)), Ok(Some(Message::ChangePairing { .. }))));
    // A vote without the end of the log is no vote for an empty log: `Vote { epoch 1 }`.
    let bare = [0x22, 0x09, 0x09, 1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Message::decode(Bytes::copy_from_slice(&bare)).unwrap(), None);
}

#[test]
fn large_payloads_are_not_copied() {
    let frames = Bytes::from(vec![7_u8; 100_000]);
    let ship = Ship { epoch: Epoch(1), frames: frames.clone(), commit: 1, last: 2, sent_ms: 3 };
    let mut head = BytesMut::new();
    let payload = LogMessage::Ship(ship).encode(&mut head).unwrap();
    assert_eq!(payload.as_ptr(), frames.as_ptr());
    assert!(head.len() < 40);

    head.extend_from_slice(&payload);
    let frame = head.freeze();
    let inside = frame.as_ptr_range();
    let Some(LogMessage::Ship(got)) = LogMessage::decode(frame.clone()).unwrap() else { panic!("no ship") };
    assert_eq!(got.frames, frames);
    assert!(inside.contains(&got.frames.as_ptr()), "received frames share the buffer they arrived in");
}

#[test]
fn what_is_too_long_or_cannot_be_is_refused() {
    let refused = |message: JoinRequest| {
        let bytes = bytes_of(&JoinMessage::Request(Box::new(message)));
        assert!(JoinMessage::decode(bytes).is_err());
    };
    refused(JoinRequest { csr: vec![0; limits::PEER_DER_BYTES_MAX + 1].into(), ..join_request() });
    refused(JoinRequest { name: "n".repeat(1_000), ..join_request() });
    refused(JoinRequest { addresses: vec!["a:1".to_owned(); limits::PAIR_ADDRESSES_MAX + 1], ..join_request() });
    refused(JoinRequest { client_url: "u".repeat(1_000), ..join_request() });
    refused(JoinRequest { version: "v".repeat(1_000), ..join_request() });
    for name in ["", "..", ".x", "a/b", "a\0", "a\\b", &"n".repeat(1_000)] {
        let chunk = SnapshotMessage::GetChunk { index: 1, name: name.to_owned() };
        assert!(SnapshotMessage::decode(bytes_of(&chunk)).is_err(), "{name}");
    }
    let many = vec![ListedBlob { hash: BlobHash([0; 32]), size: 1 }; limits::PEER_BLOB_LIST_MAX as usize + 1];
    assert!(BlobMessage::decode(bytes_of(&BlobMessage::Blobs(many))).is_err());
    let part =
        BlobMessage::Part { offset: 0, bytes: vec![0; limits::PEER_BLOB_PART_BYTES_MAX + 1].into(), last: false };
    assert!(BlobMessage::decode(bytes_of(&part)).is_err());
    let items = vec![Bytes::new(); limits::PEER_SALVAGE_ITEMS_MAX + 1];
    assert!(Salvage::decode(bytes_of(&Salvage::Batch { tail: Bytes::new(), first_ordinal: 0, items })).is_err());
    // A list whose hashes and sizes do not go together: one size, no hash.
    assert!(BlobMessage::decode(Bytes::from_static(&[0x12, 0x03, 0x12, 0x01, 0x05])).is_err());
    // A chain hash of one byte.
    assert!(LogMessage::decode(Bytes::from_static(&[0x12, 0x03, 0x1a, 0x01, 0x05])).is_err());
    // A length that points beyond the end.
    assert!(LogMessage::decode(Bytes::from_static(&[0x2a, 0xff, 0xff, 0xff, 0xff, 0x0f])).is_err());
}

#[test]
fn what_a_peer_says_cannot_break_a_log_line() {
    let mut out = BytesMut::new();
    Reply::Refused(Refused { code: "Not A Code\n".to_owned(), text: "a\nb\u{1b}[31m".to_owned(), epoch: Epoch(0) })
        .encode(&mut out);
    let Reply::Refused(refused) = Reply::decode(out.freeze()).unwrap() else { panic!("no refusal") };
    assert_eq!((refused.code.as_str(), refused.text.as_str()), ("peer_refused", "a b [31m"));
    assert_eq!(one_line("ééé", 3), "é");
}

#[test]
fn what_later_builds_added_is_read_and_is_nothing_to_earlier_ones() {
    let plain = hello(Class::Control);
    let renewing = Hello { next_certificate: Some([9; 32]), ..plain.clone() };
    let bytes = |hello: &Hello| {
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        out.freeze()
    };
    assert_eq!(Hello::decode(bytes(&renewing)).unwrap(), renewing);
    assert!(bytes(&renewing).starts_with(&bytes(&plain)), "only added behind the rest");
    let mut short = BytesMut::from(&bytes(&plain)[..]);
    short.extend_from_slice(&[12 << 3 | 2, 1, 9]);
    assert!(Hello::decode(short.freeze()).is_err(), "a fingerprint has 32 bytes");

    let mut out = BytesMut::new();
    Heard { messages: 300 }.encode(&mut out);
    let heard = out.freeze();
    assert_eq!(Heard::decode(heard.clone()).unwrap(), Some(Heard { messages: 300 }));
    assert_eq!(Message::decode(heard).unwrap(), None, "the protocol never sees it");
}
