//! Messages on an open link: order, limits, silence, futures that are dropped.

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::*;
use crate::replication::wire::{BlobMessage, Ship};

fn ship(last: u64, frames: Bytes) -> LogMessage {
    LogMessage::Ship(Ship { epoch: Epoch::new(5, 1), frames, commit: 1, last, sent_ms: 2 })
}

/// Two ends of a link, without TLS and in memory.
fn ends(class: Class) -> (Link, Link) {
    let (here, there) = tokio::io::duplex(1024);
    let link = |end| Link::new(Framed::new(Box::new(end)), class, None);
    (link(here), link(there))
}

#[tokio::test]
async fn small_and_large_messages_keep_their_order() {
    let (_issuing, node, two) = pair().await;
    let (_, link) = node.dial(&two, &own_hello(2, Class::Log)).await.unwrap();
    let (mut sender, mut receiver) = link.split();
    let sizes = [0_usize, 1, limits::PEER_COPY_BYTES_MAX - 1, limits::PEER_COPY_BYTES_MAX, 100_000, 3 << 20, 5];
    for (at, size) in sizes.iter().enumerate() {
        sender.queue(&ship(at as u64, vec![at as u8; *size].into())).unwrap();
    }
    let acks = tokio::spawn(async move {
        for at in 0..sizes.len() {
            let LogMessage::Control(Message::Ack { index, .. }) = receiver.receive().await.unwrap() else {
                panic!("no ack")
            };
            assert_eq!(index, at as u64);
        }
    });
    sender.flush().await.unwrap();
    assert_eq!(sender.queued_bytes(), 0);
    timeout(PATIENCE, acks).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dropped_flush_or_receive_loses_and_doubles_nothing() {
    let (here, there) = ends(Class::Log);
    let (mut sender, _) = here.split();
    let (_, mut receiver) = there.split();
    let sent: Vec<LogMessage> =
        (0..20).map(|at| ship(at, (0..3_000 * at as usize).map(|byte| byte as u8).collect())).collect();
    for message in &sent {
        sender.queue(message).unwrap();
    }
    let mut got = Vec::new();
    // Both sides are polled only now and then, and dropped each time.
    while got.len() < sent.len() {
        tokio::select! {
            biased;
            flushed = sender.flush(), if sender.queued_bytes() > 0 => flushed.unwrap(),
            () = tokio::task::yield_now() => {}
        }
        tokio::select! {
            biased;
            message = receiver.receive::<LogMessage>() => got.push(message.unwrap()),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(got, sent);
}

#[tokio::test]
async fn what_is_never_flushed_is_bounded() {
    let (mut here, _there) = ends(Class::Log);
    let frames = Bytes::from(vec![0; 4 << 20]);
    let queued = (0..100).take_while(|_| here.sender().queue(&ship(1, frames.clone())).is_ok()).count();
    assert!((2..=5).contains(&queued), "{queued}");
    assert!(matches!(here.sender().queue(&ship(1, frames)), Err(LinkError::QueueFull)));
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed() {
    let (mut here, mut there) = ends(Class::Control);
    there.receiver().set_silence_max(Some(Duration::from_millis(1_500)));
    let message = Message::Stale { epoch: Epoch::new(1, 1) };
    here.sender().send(&message).await.unwrap();
    assert_eq!(there.receiver().receive::<Message>().await.unwrap(), message);
    let error = there.receiver().receive::<Message>().await.unwrap_err();
    assert!(matches!(error, LinkError::Silent { ms: 1_500 }), "{error}");
    // Half a message and then nothing is silence, too.
    here.sender().writer().write_all(&[20, 0, 0, 0, 1]).await.unwrap();
    let error = there.receiver().receive::<Message>().await.unwrap_err();
    assert_eq!(error.code(), "peer_silent");
}

#[tokio::test]
async fn a_closed_link_says_so() {
    let (mut here, mut there) = ends(Class::Control);
    here.sender().close().await.unwrap();
    assert!(matches!(there.receiver().receive::<Message>().await, Err(LinkError::Closed)));
    // The other direction is still open.
    let message = Message::Stale { epoch: Epoch::new(1, 1) };
    there.sender().send(&message).await.unwrap();
    assert_eq!(here.receiver().receive::<Message>().await.unwrap(), message);
}

#[tokio::test]
async fn messages_of_other_classes_are_refused_here() {
    let (mut here, _there) = ends(Class::Log);
    let error = here.sender().queue(&BlobMessage::List { after: None, max: 1 }).unwrap_err();
    assert_eq!(error.code(), "peer_wrong_class");
    assert!(matches!(here.receiver().receive::<BlobMessage>().await, Err(LinkError::WrongClass)));
}

#[tokio::test]
async fn unknown_messages_are_skipped_and_counted() {
    let (_issuing, mut node, two) = pair().await;
    let (_, mut link) = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap();
    // Kind 99, twice, and an empty one.
    let unknown = [5, 0, 0, 0, 0x9a, 0x06, 0x02, 0x08, 0x01];
    for _ in 0..2 {
        link.sender().writer().write_all(&unknown).await.unwrap();
    }
    link.sender().writer().write_all(&[0; 4]).await.unwrap();
    let known = Message::Stale { epoch: Epoch::new(1, 1) };
    link.sender().send(&known).await.unwrap();
    assert_eq!(link.receiver().receive::<Message>().await.unwrap(), known);
    drop(link);
    assert_eq!(timeout(PATIENCE, node.unknown.recv()).await.unwrap(), Some(3));
}

#[tokio::test]
async fn names_are_looked_up_and_dead_addresses_told() {
    let (_issuing, node, two) = pair().await;
    let by_name = node.address.replace("127.0.0.1", "localhost");
    let to = Target { address: &by_name, member: 1 };
    dial(&TcpNet, &two, to, &own_hello(2, Class::Control)).await.unwrap();
    let gone = node.address.clone();
    node.stop().await;
    let to = Target { address: &gone, member: 1 };
    let error = dial(&TcpNet, &two, to, &own_hello(2, Class::Control)).await.unwrap_err();
    assert_eq!(error.code(), "peer_unreachable");
    assert!(error.to_string().contains(&gone), "{error}");
}
