//! Rude clients: broken frames, slow ones, those that never read, those that vanish. They are shown the door, the
//! server's memory and file descriptors stay bounded, and the others notice nothing.

use std::net::SocketAddr;

use futures_util::SinkExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Frame, Options, Person, Server, Ws, until, within};
use crate::websocket::send_op;

/// A connection. The server stands behind it: it runs, and a machine that is busy or out of free ports or files for a
/// moment (other tests run beside this one) has them again soon.
async fn tcp(server: &Server) -> TcpStream {
    let address: SocketAddr = server.address().parse().unwrap();
    let connect = async || match TcpStream::connect(address).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            eprintln!("no connection to {address} yet: {error}");
            None
        }
    };
    until("the server takes a connection", connect).await
}

/// A raw connection that has upgraded; everything after it is up to the test.
async fn upgraded(server: &Server) -> TcpStream {
    let mut stream = tcp(server).await;
    let request = format!(
        "GET /api/v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within("the upgrade is answered", stream.read_u8()).await.unwrap());
    }
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.to_lowercase().contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "the proof of RFC 6455: {text}");
    stream
}

/// A masked client frame; the mask is zero, which leaves the payload readable.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads to the end and gives the code of the close frame, which must be the last thing said.
async fn close_code(stream: &mut TcpStream) -> Option<u16> {
    let mut bytes = Vec::new();
    let ended = within("the connection ends", stream.read_to_end(&mut bytes)).await;
    let at = bytes.iter().rposition(|byte| *byte == 0x88);
    let code = at.and_then(|at| bytes.get(at + 2..at + 4)).map(|code| u16::from_be_bytes([code[0], code[1]]));
    assert!(ended.is_ok() || code.is_some(), "no close frame before {ended:?}");
    code
}

fn hello(owner: &Person) -> Vec<u8> {
    frame(0x81, json!({"id": "h", "op": "hello", "token": owner.token()}).to_string().as_bytes())
}

#[tokio::test]
async fn frames_against_the_protocol_end_the_connection_with_its_code() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let ping = br#"{"id":"1","op":"ping"}"#;
    let mut unmasked = vec![0x81, ping.len() as u8];
    unmasked.extend_from_slice(ping);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("an unmasked frame", unmasked, 1002),
        ("a reserved bit", frame(0xC1, ping), 1002),
        ("a reserved opcode", frame(0x83, ping), 1002),
        ("a continuation of nothing", frame(0x80, ping), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a long ping", frame(0x89, &[b'x'; 126]), 1002),
        ("two beginnings", [frame(0x01, b"{"), frame(0x81, b"}")].concat(), 1002),
        ("text that is not UTF-8", frame(0x81, b"\xff\xfe"), 1007),
        ("a binary frame", frame(0x82, ping), 4003),
        ("malformed JSON", frame(0x81, b"{"), 4003),
        ("no id", frame(0x81, br#"{"op":"ping"}"#), 4003),
        ("an unknown field", frame(0x81, br#"{"id":"1","op":"ping","x":1}"#), 4003),
        ("deep nesting", frame(0x81, "[".repeat(90_000).as_bytes()), 4003),
        ("a message beyond the limit", frame(0x81, &vec![b' '; 200_000]), 1009),
        (
            "a frame that announces 2^63 bytes",
            vec![0x81, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
            1009,
        ),
        ("fragments beyond the limit", fragments(200_000, b' '), 1009),
    ];
    for greeted in [false, true] {
        for (what, bytes, code) in &cases {
            let mut stream = upgraded(&server).await;
            if greeted {
                stream.write_all(&hello(&owner)).await.unwrap();
            }
            // The server may end the connection before it has taken everything.
            let _ = stream.write_all(bytes).await;
            assert_eq!(close_code(&mut stream).await, Some(*code), "{what}, greeted: {greeted}");
        }
    }
    owner.api.get("/me").await.expect(200);
    server.stop().await;
}

fn fragments(length: usize, byte: u8) -> Vec<u8> {
    let mut bytes = frame(0x01, b"{");
    for _ in 0..length / 1_000 {
        bytes.extend(frame(0x00, &[byte; 1_000]));
    }
    bytes
}

#[tokio::test]
async fn fragmented_messages_are_put_together() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let channel = owner.channel("private", &[]).await;
    let mut ws = Ws::connect(&owner.api).await;
    let mut request = send_op(&channel, "磐 in pieces");
    request["id"] = "f".into();
    let text = request.to_string();
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Raw;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let bytes = text.as_bytes();
    for (index, piece) in bytes.chunks(7).enumerate() {
        let opcode = OpCode::Data(if index == 0 { Data::Text } else { Data::Continue });
        let last = (index + 1) * 7 >= bytes.len();
        // A control frame between the pieces is allowed.
        ws.socket().send(Message::Ping(vec![1].into())).await.unwrap();
        ws.socket().send(Message::Frame(Raw::message(piece.to_vec(), opcode, last))).await.unwrap();
    }
    assert_eq!(ws.answer("f").await["ok"]["seq"], 1);
    assert_eq!(owner.history(&channel).await[0]["body"], "磐 in pieces");
    server.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_shown_the_door() {
    let server = Server::start(Options::plain()).await;
    let tls_server = Server::start(Options::default()).await;
    // All at once, so that the test takes as long as the longest patience.
    let silent = async {
        let mut stream = upgraded(&server).await;
        assert_eq!(close_code(&mut stream).await, Some(4002), "silence before hello");
    };
    let half_frame = async {
        let mut stream = upgraded(&server).await;
        stream.write_all(&frame(0x81, &[b'x'; 100])[..50]).await.unwrap();
        assert_eq!(close_code(&mut stream).await, Some(4002), "half a frame");
    };
    let nothing = async {
        let mut stream = tcp(&server).await;
        let mut rest = Vec::new();
        let _ = within("a connection without a request ends", stream.read_to_end(&mut rest)).await;
    };
    let half_handshake = async {
        for start in [&[][..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] {
            let mut stream = tcp(&tls_server).await;
            stream.write_all(start).await.unwrap();
            let mut rest = Vec::new();
            let _ = within("a handshake without end ends", stream.read_to_end(&mut rest)).await;
        }
    };
    let slow_header = async {
        let mut stream = tcp(&server).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        // One header after the other, for as long as the server lets us.
        let dripping = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                if stream.write_all(b"X-Slow: 1\r\n").await.is_err() {
                    return;
                }
            }
        };
        within("a slow client is ended", dripping).await;
    };
    tokio::join!(silent, half_frame, nothing, half_handshake, slow_header);
    for server in [&server, &tls_server] {
        assert_eq!(server.api().try_get("/healthz").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn connections_dropped_in_the_middle_leave_nothing_behind() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let base = server.open_files();
    let hello_bytes: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    for round in 0..5 {
        let mut open = Vec::new();
        for index in 0..100 {
            let mut stream = tcp(&server).await;
            match index % 4 {
                0 => {}
                1 => stream.write_all(hello_bytes).await.unwrap(),
                2 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap(),
                _ => drop(Ws::open(&server.endpoint(), None).await.unwrap()),
            }
            open.push(stream);
        }
        if round % 2 == 0 {
            // Gone without a word: a reset instead of an end.
            for stream in &open {
                stream.set_zero_linger().unwrap();
            }
        }
        drop(open);
    }
    until("the descriptors are given back", async || (server.open_files() <= base + 2).then_some(())).await;
    owner.api.get("/me").await.expect(200);
    server.stop().await;
}

/// How many messages flow past the one who does not read: about 50 MiB.
const FLOOD: usize = 3_200;

#[tokio::test]
async fn one_who_never_reads_costs_little_holds_nobody_up_and_loses_nothing() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let (reader, sleeper) = (owner.invite("member", &[]).await, owner.invite("member", &[]).await);
    let channel = owner.channel("private", &[&reader, &sleeper]).await;
    let mut reading = Ws::connect(&reader.api).await;
    let mut sleeping = Ws::connect(&sleeper.api).await;
    owner.say(&channel, "begin").await;
    assert_eq!(sleeping.event("message.created").await["message"]["seq"], 1);
    let before_kib = server.rss_kib();
    let body = "y".repeat(16_000);
    let flood = async {
        let mut sender = Ws::connect(&owner.api).await;
        for _ in 0..FLOOD / 32 {
            let mut ids = Vec::new();
            for _ in 0..32 {
                ids.push(sender.request(send_op(&channel, &body)).await);
            }
            for id in ids {
                assert!(sender.answer(&id).await.get("ok").is_some());
            }
        }
    };
    let listen = async {
        for seq in 1..=1 + FLOOD {
            assert_eq!(reading.event("message.created").await["message"]["seq"], seq, "in order, none twice");
        }
    };
    tokio::join!(flood, listen);
    // The kept events (32 MiB), the store's and the rows' caches, the log's batches: all bounded; the flood is not.
    let grown_mib = server.rss_kib().saturating_sub(before_kib) / 1024;
    assert!(grown_mib < 256, "the server grew by {grown_mib} MiB");
    let mut last = 1;
    let code = loop {
        match sleeping.next().await {
            Frame::Json(event) if event["event"] == "message.created" => {
                last += 1;
                assert_eq!(event["message"]["seq"], last, "in order, none twice");
            }
            Frame::Json(_) => {}
            Frame::Closed(code) => break code,
        }
    };
    assert_eq!(code, Some(4000));
    // What a client does: reconnect with the last position, and fetch when told so.
    let (mut back, ok) = Ws::hello(&sleeper.api, Some(sleeping.pos)).await;
    if ok["resumed"] == false {
        let path = format!("/channels/{channel}/messages?after={last}&limit=200");
        let page = sleeper.api.get(&path).await.expect(200);
        assert_eq!(page["items"][0]["seq"], last + 1);
        let all = sleeper.history(&channel).await;
        assert!(all.iter().enumerate().all(|(index, message)| message["seq"] == index + 1));
        last = all.len() as u64;
    }
    owner.say(&channel, "end").await;
    while last < 2 + FLOOD as u64 {
        let message = back.event("message.created").await["message"].clone();
        last += 1;
        assert_eq!(message["seq"], last, "in order, none twice");
    }
    server.stop().await;
}
