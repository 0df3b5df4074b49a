//! What the frame codec promises: round trips at every split, bounds, refusals, and agreement with an independent peer.

use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

use super::*;

const BOUND: usize = 100_000;
const KEY: [u8; 4] = [0xa1, 0x02, 0xf3, 0x44];

/// Feeds `wire` in pieces that end at `splits` and collects what comes out.
fn decode_pieces(decoder: &mut Decoder, wire: &[u8], splits: &[usize]) -> Result<Vec<Incoming>, FrameError> {
    let mut input = BytesMut::new();
    let mut out = Vec::new();
    let mut from = 0;
    for to in splits.iter().copied().chain([wire.len()]) {
        input.extend_from_slice(&wire[from..to]);
        from = to;
        while let Some(incoming) = decoder.decode(&mut input)? {
            out.push(incoming);
        }
    }
    Ok(out)
}

fn refused(side: Side, wire: &[u8]) -> FrameError {
    decode_pieces(&mut Decoder::new(side, BOUND), wire, &[]).unwrap_err()
}

/// One unmasked frame with any first byte.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = HeaderBytes::new(Opcode::Text, payload.len()).as_slice().to_vec();
    out[0] = first;
    out.extend_from_slice(payload);
    out
}

#[test]
fn every_split_of_the_input_gives_the_same_messages() {
    let long = "长".repeat(50);
    let mut wire = BytesMut::new();
    encode_text_masked(&mut wire, "hello 你好".as_bytes(), KEY);
    encode_ping_masked(&mut wire, b"p", KEY);
    encode_text_masked(&mut wire, long.as_bytes(), KEY);
    encode_pong_masked(&mut wire, b"", KEY);
    encode_close_masked(&mut wire, 1000, "bye", KEY);
    let expected = vec![
        Incoming::Text(Bytes::from("hello 你好")),
        Incoming::Ping(Bytes::from_static(b"p")),
        Incoming::Text(Bytes::from(long)),
        Incoming::Pong(Bytes::new()),
        Incoming::Close { code: Some(1000), reason: Bytes::from_static(b"bye") },
    ];
    for split in 0..=wire.len() {
        let got = decode_pieces(&mut Decoder::new(Side::Server, BOUND), &wire, &[split]).unwrap();
        assert_eq!(got, expected, "split at {split}");
    }
    let every_byte: Vec<usize> = (0..wire.len()).collect();
    assert_eq!(decode_pieces(&mut Decoder::new(Side::Server, BOUND), &wire, &every_byte).unwrap(), expected);
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let mut wire = raw(0x01, b"ab\xe4");
    wire.extend(raw(0x89, b"mid"));
    wire.extend(raw(0x00, b""));
    wire.extend(raw(0x00, b"\xbd"));
    wire.extend(raw(0x80, b"\xa0cd"));
    wire.extend(raw(0x82, b"\xff"));
    let mut decoder = Decoder::new(Side::Client, BOUND);
    let got = decode_pieces(&mut decoder, &wire, &[]).unwrap();
    assert_eq!(
        got,
        [
            Incoming::Ping(Bytes::from_static(b"mid")),
            Incoming::Text(Bytes::from("ab你cd")),
            Incoming::Binary(Bytes::from_static(b"\xff"))
        ]
    );
    assert!(decoder.is_between_messages());
}

#[test]
fn what_the_rfc_forbids_is_refused_with_its_close_code() {
    let cases: &[(Side, Vec<u8>, FrameError, u16)] = &[
        (Side::Server, raw(0x81, b"x"), FrameError::MaskMissing, 1002),
        (Side::Server, vec![0x81, 0x00], FrameError::MaskMissing, 1002),
        (Side::Client, vec![0x81, 0x81], FrameError::MaskUnexpected, 1002),
        (Side::Client, vec![0xc1], FrameError::ReservedBits, 1002),
        (Side::Client, vec![0x91], FrameError::ReservedBits, 1002),
        (Side::Client, vec![0x83], FrameError::UnknownOpcode(3), 1002),
        (Side::Client, vec![0x8b], FrameError::UnknownOpcode(11), 1002),
        (Side::Client, vec![0x09], FrameError::ControlFragmented, 1002),
        (Side::Client, vec![0x89, 126], FrameError::ControlTooLong, 1002),
        (Side::Client, vec![0x81, 126, 0, 125], FrameError::LengthNotMinimal, 1002),
        (Side::Client, vec![0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], FrameError::LengthNotMinimal, 1002),
        (Side::Client, vec![0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], FrameError::MessageTooLong, 1009),
        (Side::Client, raw(0x80, b""), FrameError::ContinuationUnexpected, 1002),
        (Side::Client, [raw(0x01, b"a"), raw(0x81, b"b")].concat(), FrameError::MessageUnfinished, 1002),
        (Side::Client, raw(0x81, b"\xff"), FrameError::InvalidUtf8, 1007),
        (Side::Client, raw(0x88, b"\x03"), FrameError::CloseInvalid, 1002),
        (Side::Client, raw(0x88, b"\x03\xed"), FrameError::CloseInvalid, 1002),
        (Side::Client, raw(0x88, b"\x03\xe8\xff"), FrameError::InvalidUtf8, 1007),
    ];
    for (side, wire, error, close_code) in cases {
        assert_eq!(refused(*side, wire), *error, "{wire:02x?}");
        assert_eq!(error.close_code(), *close_code);
    }
}

#[test]
fn a_long_message_is_refused_when_it_is_announced() {
    let header = text_frame_header(BOUND + 1);
    assert_eq!(refused(Side::Client, header.as_slice()), FrameError::MessageTooLong);
    let mut fits = text_frame_header(BOUND).as_slice().to_vec();
    fits.extend(vec![b'x'; BOUND]);
    assert_eq!(decode_pieces(&mut Decoder::new(Side::Client, BOUND), &fits, &[]).unwrap().len(), 1);
    // The bound holds for the sum of the parts, too.
    let mut parts = raw(0x01, &vec![b'x'; BOUND - 1]);
    parts.extend(&text_frame_header(2).as_slice()[1..].iter().copied().fold(vec![0x80], |mut all, byte| {
        all.push(byte);
        all
    }));
    assert_eq!(refused(Side::Client, &parts), FrameError::MessageTooLong);
}

#[test]
fn a_decoder_stays_failed_and_stays_closed() {
    let mut decoder = Decoder::new(Side::Client, BOUND);
    assert!(decoder.decode(&mut BytesMut::from(&b"\xc1"[..])).is_err());
    assert_eq!(decoder.decode(&mut BytesMut::from(&raw(0x81, b"x")[..])), Err(FrameError::ReservedBits));
    let mut decoder = Decoder::new(Side::Client, BOUND);
    let mut input = BytesMut::from(&[raw(0x88, b""), raw(0x81, b"late"), vec![0xff]].concat()[..]);
    let close = Incoming::Close { code: None, reason: Bytes::new() };
    assert_eq!(decoder.decode(&mut input), Ok(Some(close)));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
}

#[test]
fn a_close_reason_is_cut_at_a_character() {
    let mut wire = BytesMut::new();
    encode_close(&mut wire, 4003, &"信".repeat(100));
    let mut decoder = Decoder::new(Side::Client, BOUND);
    let Some(Incoming::Close { code, reason }) = decoder.decode(&mut wire).unwrap() else { panic!("no close frame") };
    assert_eq!(code, Some(4003));
    assert_eq!(reason, Bytes::from("信".repeat(41)));
}

#[test]
fn the_wide_mask_equals_the_bytewise_one() {
    for len in 0..40_usize {
        let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let mut masked = plain.clone();
        apply_mask(&mut masked, KEY);
        let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ KEY[i % 4]).collect();
        assert_eq!(masked, expected);
    }
}

/// Payload lengths at and around every change of the length field.
const LENGTHS: [usize; 9] = [0, 1, 7, 125, 126, 127, 65_535, 65_536, 90_001];

/// Reads until one message is there.
async fn next(stream: &mut DuplexStream, decoder: &mut Decoder, input: &mut BytesMut) -> Incoming {
    loop {
        if let Some(incoming) = decoder.decode(input).unwrap() {
            return incoming;
        }
        assert_ne!(stream.read_buf(input).await.unwrap(), 0, "the peer ended too early");
    }
}

#[tokio::test]
async fn our_server_side_agrees_with_an_independent_client() {
    let (mut ours, theirs) = duplex(1_000);
    let peer = tokio::spawn(async move {
        let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        for length in LENGTHS {
            let text = "x".repeat(length);
            peer.send(Message::text(text.clone())).await.unwrap();
            assert_eq!(peer.next().await.unwrap().unwrap(), Message::text(text));
        }
        peer.send(Message::binary(vec![0xff, 0x00])).await.unwrap();
        peer.send(Message::Ping(Bytes::from_static(b"are you there"))).await.unwrap();
        assert_eq!(peer.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"are you there")));
        let Message::Close(Some(CloseFrame { code, reason })) = peer.next().await.unwrap().unwrap() else {
            panic!("no close frame")
        };
        // Its answer to the close frame leaves with the next read.
        while peer.next().await.is_some() {}
        (u16::from(code), reason.to_string())
    });
    let (mut decoder, mut input) = (Decoder::new(Side::Server, BOUND), BytesMut::new());
    for length in LENGTHS {
        let Incoming::Text(text) = next(&mut ours, &mut decoder, &mut input).await else { panic!("no text") };
        assert_eq!(text.len(), length);
        let mut out = Vec::new();
        encode_text(&mut out, &text);
        ours.write_all(&out).await.unwrap();
    }
    let binary = next(&mut ours, &mut decoder, &mut input).await;
    assert_eq!(binary, Incoming::Binary(Bytes::from_static(b"\xff\x00")));
    let Incoming::Ping(payload) = next(&mut ours, &mut decoder, &mut input).await else { panic!("no ping") };
    let mut out = Vec::new();
    encode_pong(&mut out, &payload);
    encode_close(&mut out, 4008, "shutting down");
    ours.write_all(&out).await.unwrap();
    let answer = next(&mut ours, &mut decoder, &mut input).await;
    assert!(matches!(answer, Incoming::Close { code: Some(4008), .. }), "{answer:?}");
    drop(ours);
    assert_eq!(peer.await.unwrap(), (4008, "shutting down".to_owned()));
}

#[tokio::test]
async fn our_client_side_agrees_with_an_independent_server() {
    let (mut ours, theirs) = duplex(1_000);
    let peer = tokio::spawn(async move {
        let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        while let Some(Ok(message)) = peer.next().await {
            match message {
                Message::Text(_) => peer.send(message).await.unwrap(),
                Message::Ping(_) => peer.flush().await.unwrap(),
                Message::Close(frame) => return frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())),
                other => panic!("unexpected {other:?}"),
            }
        }
        None
    });
    let (mut decoder, mut input) = (Decoder::new(Side::Client, BOUND), BytesMut::new());
    for length in LENGTHS {
        let text = "y".repeat(length);
        let mut out = BytesMut::new();
        encode_text_masked(&mut out, text.as_bytes(), KEY);
        ours.write_all(&out).await.unwrap();
        assert_eq!(next(&mut ours, &mut decoder, &mut input).await, Incoming::Text(Bytes::from(text)));
    }
    let mut out = BytesMut::new();
    encode_ping_masked(&mut out, b"1", KEY);
    ours.write_all(&out).await.unwrap();
    assert_eq!(next(&mut ours, &mut decoder, &mut input).await, Incoming::Pong(Bytes::from_static(b"1")));
    out.clear();
    encode_close_masked(&mut out, 1000, "done", KEY);
    ours.write_all(&out).await.unwrap();
    assert_eq!(peer.await.unwrap(), Some((1000, "done".to_owned())));
}

proptest! {
    #[test]
    fn messages_survive_any_parts_and_any_splits(
        text in "\\PC{0,300}",
        cuts in prop::collection::vec(0_usize..1_000, 0..4),
        splits in prop::collection::vec(0_usize..2_000, 0..6),
        key in any::<[u8; 4]>(),
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut wire = BytesMut::new();
        let mut from = 0;
        for (i, to) in cuts.iter().copied().enumerate() {
            let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
            let at = wire.len();
            encode_masked(&mut wire, opcode, &bytes[from..to], key);
            if i + 1 < cuts.len() {
                wire[at] &= !FIN;
            }
            from = to;
        }
        let mut splits: Vec<usize> = splits.into_iter().map(|split| split % (wire.len() + 1)).collect();
        splits.sort_unstable();
        let got = decode_pieces(&mut Decoder::new(Side::Server, BOUND), &wire, &splits).unwrap();
        prop_assert_eq!(got, vec![Incoming::Text(Bytes::from(text))]);
    }

    #[test]
    fn garbage_never_panics_and_never_breaks_the_bound(
        wire in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x01), Just(0x00), Just(0x80), Just(0x81)], 0..400),
        splits in prop::collection::vec(0_usize..400, 0..4),
        server in any::<bool>(),
        bound in 0_usize..40,
    ) {
        let mut splits: Vec<usize> = splits.into_iter().map(|split| split % (wire.len() + 1)).collect();
        splits.sort_unstable();
        let side = if server { Side::Server } else { Side::Client };
        let mut decoder = Decoder::new(side, bound);
        let result = decode_pieces(&mut decoder, &wire, &splits);
        prop_assert!(decoder.parts.len() <= bound);
        for incoming in result.unwrap_or_default() {
            match incoming {
                Incoming::Text(text) => {
                    prop_assert!(text.len() <= bound);
                    prop_assert!(std::str::from_utf8(&text).is_ok());
                }
                Incoming::Binary(bytes) => prop_assert!(bytes.len() <= bound),
                Incoming::Ping(bytes) | Incoming::Pong(bytes) => prop_assert!(bytes.len() <= CONTROL_BYTES_MAX),
                Incoming::Close { reason, .. } => prop_assert!(reason.len() <= CONTROL_BYTES_MAX - 2),
            }
        }
    }
}
