//! A slow link between the nodes: everything takes longer, nothing else happens.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::lan::{Place, on_a_lan};
use crate::load::Load;
use crate::pair::{Pair, Plan};

/// How late every byte arrives on a slow link: a round trip takes 200 ms more, as with `tc netem delay 200ms` at one end.
/// Not every kernel has netem, so the gateway relays the connections of the nodes, and opens them as late as a connection
/// is made over such a link.
const SLOW: Duration = Duration::from_millis(100);
/// The same to the other side of the world over a satellite: there and back takes half a second.
const VERY_SLOW: Duration = Duration::from_millis(250);

/// Where the gateway takes connections for a node.
fn relayed(place: Place) -> String {
    format!("{}:{}", Place::G.address(), if place == Place::A { 8441 } else { 8442 })
}

/// Carries bytes from one side to the other, late.
async fn carry(delay: Duration, mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
    let (queue, mut waiting) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(4_096);
    let reading = async move {
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            if queue.send((tokio::time::Instant::now() + delay, piece[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((at, bytes)) = waiting.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Relays on the gateway until the test ends.
fn relay(lan: &crate::lan::Lan, delay: Duration) {
    let entered = lan.namespace(Place::G);
    std::thread::spawn(move || {
        crate::lan::enter(&entered);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let serve = async |place: Place| {
                let listener = TcpListener::bind(relayed(place)).await.unwrap();
                let target = format!("{}:8444", place.address());
                while let Ok((near, _)) = listener.accept().await {
                    let target = target.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(2 * delay).await;
                        let Ok(far) = TcpStream::connect(target).await else { return };
                        for stream in [&near, &far] {
                            stream.set_nodelay(true).unwrap();
                        }
                        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                        tokio::join!(carry(delay, near_in, far_out), carry(delay, far_in, near_out));
                    });
                }
            };
            tokio::join!(serve(Place::A), serve(Place::B))
        })
    });
}

/// Eight seconds of load on a pair whose nodes are so far apart.
async fn far_apart(lan: std::rc::Rc<crate::lan::Lan>, delay: Duration) {
    relay(&lan, delay);
    let pair = |place| format!("addresses = [\"{}\"]\n", relayed(place));
    let pair = Pair::start(&lan, Plan { pair, ..Plan::default() }).await;
    let begun = Instant::now();
    let before = pair.a.status().await;
    let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
    while begun.elapsed() < Duration::from_secs(8) {
        load.more(5).await;
        let now = pair.a.status().await;
        assert_eq!(now["pair"]["protected"], true, "{now:#}");
    }
    eprintln!("longest time without an acknowledgement: {:?}", load.longest_gap(begun));
    let one = Instant::now();
    pair.owner.say(&pair.channel, "how long").await;
    eprintln!("one send takes {:?}", one.elapsed());
    assert!(one.elapsed() >= delay, "it waits for the standby");
    let (after, standby) = pair.protected(&pair.a).await;
    assert_eq!(after["pair"]["epoch"], before["pair"]["epoch"], "no failover");
    assert_eq!(after["pair"]["pairing"], before["pair"]["pairing"], "and never exposed");
    for (status, other) in [(&after, &standby), (&standby, &after)] {
        let members = status["pair"]["members"].as_array().unwrap();
        let peer = members.iter().find(|member| member["number"] == other["pair"]["member"]).unwrap();
        let link = &peer["links"][0];
        eprintln!("the link to the other node: {link}");
        assert!(link["rtt_ms"].as_u64().unwrap() as u128 >= 2 * delay.as_millis(), "{link}");
        assert!(link["since_ms"].as_u64().unwrap() >= 8_000, "it was up all the time: {link}");
    }
    let mut book = load.finish().await;
    book.unknown.push("how long".to_owned());
    book.check(&pair).await;
    pair.equal_at_the_end().await;
}

#[test]
fn a_slow_link_makes_sends_slower_and_leads_to_no_failover() {
    on_a_lan(async |lan| far_apart(lan, SLOW).await);
}

#[test]
fn half_a_second_between_the_nodes_is_no_obstacle() {
    on_a_lan(async |lan| far_apart(lan, VERY_SLOW).await);
}
