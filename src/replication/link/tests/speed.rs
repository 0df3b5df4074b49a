//! How fast shipped frames travel: a figure to read, not a test.

use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::replication::wire::Ship;

/// `cargo test --release --lib shipping_over_tls -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn shipping_over_tls() {
    let (_issuing, node, two) = pair().await;
    for bytes in [4 << 10, 64 << 10, 1 << 20, 4 << 20] {
        let (_, link) = node.dial(&two, &own_hello(2, Class::Log)).await.unwrap();
        let (mut sender, mut receiver) = link.split();
        let batches: u64 = ((512 << 20) / bytes as u64).min(20_000);
        let frames = Bytes::from((0..bytes).map(|byte| (byte % 251) as u8).collect::<Vec<_>>());
        let started = Instant::now();
        let acks = tokio::spawn(async move {
            for _ in 0..batches {
                receiver.receive::<LogMessage>().await.unwrap();
            }
        });
        for last in 0..batches {
            let ship = Ship { epoch: Epoch::new(5, 1), frames: frames.clone(), commit: 0, last, sent_ms: 0 };
            sender.send(&LogMessage::Ship(ship)).await.unwrap();
        }
        acks.await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let mib = (batches * bytes as u64) as f64 / f64::from(1 << 20);
        println!("{bytes} bytes: {:.0} MiB/s, {:.0} batches/s", mib / seconds, batches as f64 / seconds);
    }
    let (_, mut link) = node.dial(&two, &own_hello(2, Class::Log)).await.unwrap();
    let started = Instant::now();
    for last in 0..10_000 {
        let ship = Ship { epoch: Epoch::new(5, 1), frames: Bytes::from_static(&[0; 300]), commit: 0, last, sent_ms: 0 };
        link.sender().send(&LogMessage::Ship(ship)).await.unwrap();
        link.receiver().receive::<LogMessage>().await.unwrap();
    }
    println!("300 bytes there and an ack back: {:.0} µs", started.elapsed().as_secs_f64() * 1e6 / 10_000.0);
}
