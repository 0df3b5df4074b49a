//! What a broken or hostile peer can make the port hold.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::*;

fn short() -> LinkTimes {
    LinkTimes { handshake_max: Duration::from_millis(300), refusal_max: Duration::from_millis(300) }
}

async fn pair_with(times: LinkTimes) -> (Issuing, Node, PeerTls) {
    let issuing = Issuing::new();
    let one = issuing.tls(1, PairMemberKind::Data);
    let two = issuing.tls(2, PairMemberKind::Data);
    let node = Node::start(one, times).await;
    (issuing, node, two)
}

#[tokio::test]
async fn who_does_not_say_who_it_is_is_let_go() {
    let (_issuing, mut node, two) = pair_with(short()).await;
    // Nothing at all; the beginning of a TLS record; TLS and then nothing; half a hello.
    let mut silent = node.raw().await;
    assert_eq!(node.refusal().await, "peer_handshake_timeout");
    assert_eq!(silent.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    let mut slow = node.raw().await;
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert_eq!(node.refusal().await, "peer_handshake_timeout");
    let _quiet = node.after_tls(&two).await;
    assert_eq!(node.refusal().await, "peer_handshake_timeout");
    let mut half = node.after_tls(&two).await;
    half.sender.writer().write_all(&[200, 0, 0, 0, 8, 1]).await.unwrap();
    half.sender.writer().flush().await.unwrap();
    assert_eq!(node.refusal().await, "peer_handshake_timeout");
    node.serves(&two).await;
}

#[tokio::test]
async fn garbage_instead_of_a_hello_is_refused() {
    let (_issuing, mut node, two) = pair_with(LinkTimes { handshake_max: PATIENCE, ..short() }).await;
    let mut framed = node.after_tls(&two).await;
    let answer = say(&mut framed, &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).await;
    assert_eq!(answer.code, "peer_message_malformed");
    assert_eq!(node.refusal().await, "peer_message_malformed");
    node.serves(&two).await;
}

async fn say(framed: &mut Framed, bytes: &[u8]) -> Refused {
    framed.sender.writer().write_all(bytes).await.unwrap();
    framed.sender.writer().flush().await.unwrap();
    let answer = timeout(PATIENCE, framed.receiver.receive_bytes(4096)).await.unwrap().unwrap();
    let Reply::Refused(refused) = Reply::decode(answer).unwrap() else { panic!("let in") };
    refused
}

#[tokio::test]
async fn a_length_of_four_gibibytes_costs_nothing() {
    let times = LinkTimes { refusal_max: Duration::from_millis(20), ..LinkTimes::default() };
    let (_issuing, mut node, two) = pair_with(times).await;
    let before = crate::ops::metrics::process_figures().resident_bytes;
    for _ in 0..20 {
        let mut framed = node.after_tls(&two).await;
        let answer = say(&mut framed, &[0xff, 0xff, 0xff, 0xff, 1, 2, 3]).await;
        assert_eq!(answer.code, "peer_message_too_large");
        assert_eq!(node.refusal().await, "peer_message_too_large");
    }
    // The same after the hello: the serving side ends the link, this side sees its end.
    for _ in 0..20 {
        let (_, mut link) = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap();
        link.sender().writer().write_all(&[0xff; 8]).await.unwrap();
        link.sender().writer().flush().await.unwrap();
        let ended = timeout(PATIENCE, link.receiver().receive::<Message>()).await.unwrap();
        assert!(matches!(ended, Err(LinkError::Closed | LinkError::Io(_))), "{ended:?}");
    }
    let grown = crate::ops::metrics::process_figures().resident_bytes.saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes");
    node.serves(&two).await;
}

#[tokio::test]
async fn each_class_has_its_own_limit() {
    let (_issuing, node, two) = pair().await;
    for class in Class::ALL.into_iter().filter(|class| *class != Class::Join) {
        let (_, mut link) = node.dial(&two, &own_hello(2, class)).await.unwrap();
        let max = class.message_bytes_max();
        let error = link.sender().queue_with(max, |out| {
            out.resize(out.len() + max + 1, 0);
            None
        });
        assert!(matches!(error, Err(LinkError::TooLarge { .. })), "{class}");
        assert_eq!(link.sender().queued_bytes(), 0, "a refused message leaves nothing behind");
    }
}

#[tokio::test]
async fn strangers_cannot_take_every_handshake() {
    let (_issuing, mut node, two) = pair_with(LinkTimes { handshake_max: Duration::from_secs(2), ..short() }).await;
    let mut waiting = Vec::new();
    for _ in 0..limits::PEER_HANDSHAKES_PER_ADDRESS_MAX {
        waiting.push(node.raw().await);
    }
    let mut one_more = node.raw().await;
    assert_eq!(node.refusal().await, "peer_too_many_links");
    let ended = one_more.read_u8().await;
    assert!(ended.is_err(), "closed at once");
    for _ in 0..waiting.len() {
        assert_eq!(node.refusal().await, "peer_handshake_timeout");
    }
    node.serves(&two).await;
}

#[tokio::test]
async fn a_member_has_a_bounded_number_of_links() {
    let (_issuing, mut node, two) = pair().await;
    let mut links = Vec::new();
    for _ in 0..limits::PEER_LINKS_PER_MEMBER_MAX {
        links.push(node.dial(&two, &own_hello(2, Class::Control)).await.unwrap());
    }
    let error = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap_err();
    assert_eq!(error.code(), "peer_too_many_links");
    assert_eq!(node.refusal().await, "peer_too_many_links");
    drop(links.pop());
    // The other side sees the end of that one when it does.
    node.unknown.recv().await.unwrap();
    let again = async {
        while node.dial(&two, &own_hello(2, Class::Control)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
    node.stop().await;
}
