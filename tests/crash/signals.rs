//! Signals under load: a pause, an orderly end, and a second server on the same directory.

use std::rc::Rc;
use std::time::{Duration, Instant};

use holdfast::bench::client::{Call, Endpoint, Http};
use rustix::process::Signal;

use crate::check::{Extent, check_output};
use crate::oracle::number;
use crate::process::{Server, holdfast, said};
use crate::world::{Load, World, on_one_thread};

/// The promise to operators: an orderly end takes at most this long.
const STOP_SECONDS_MAX: u64 = 10;

fn acknowledged(world: &World) -> usize {
    world.oracle.borrow().messages.iter().filter(|message| message.acknowledged).count()
}

async fn wait_for_acknowledged(world: &World, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while acknowledged(world) < count {
        assert!(Instant::now() < deadline, "only {} messages are acknowledged, not {count}", acknowledged(world));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends again what has no answer, and compares everything.
async fn settle(world: &World, endpoint: &Rc<Endpoint>) {
    world.check(endpoint, Extent::All).await.expect("the server answers");
    let _crew = world.put_to_work(endpoint, Load { gap: Duration::ZERO, quota: 0, seed: 1 });
    let count = world.oracle.borrow().messages.len();
    wait_for_acknowledged(world, count).await;
    world.check(endpoint, Extent::All).await.expect("the server answers");
    world.oracle.borrow().finish();
}

#[test]
fn a_pause_under_load_loses_nothing() {
    on_one_thread(async {
        let (world, server, endpoint) = World::new().await;
        let crew = world.put_to_work(&endpoint, Load { gap: Duration::from_millis(2), quota: 5_000, seed: 11 });
        for pause in [100, 3_000] {
            wait_for_acknowledged(&world, acknowledged(&world) + 100).await;
            server.signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let before = acknowledged(&world);
            server.signal(Signal::CONT);
            wait_for_acknowledged(&world, before + 100).await;
        }
        check_output(&server.terminate().await, false);
        let outcome = crew.join().await;
        assert!(outcome.ended.iter().all(|ended| ended.close_code == Some(4008)), "{:?}", outcome.ended);
        let (server, endpoint) = Server::start(world.scratch()).await;
        settle(&world, &endpoint).await;
        check_output(&server.terminate().await, false);
        world.verify_log_by_command();
    });
}

#[test]
fn an_orderly_end_under_load_is_quick_and_keeps_every_promise() {
    on_one_thread(async {
        let (world, mut server, endpoint) = World::new().await;
        for round in 0..3 {
            let endpoint = if round == 0 {
                endpoint.clone()
            } else {
                let (next, endpoint) = Server::start(world.scratch()).await;
                server = next;
                world.check(&endpoint, Extent::New).await.expect("the server answers");
                endpoint
            };
            let crew = world.put_to_work(&endpoint, Load { gap: Duration::ZERO, quota: 1_000_000, seed: round });
            wait_for_acknowledged(&world, acknowledged(&world) + 300).await;
            server.signal(Signal::TERM);
            let status = server.wait(Duration::from_secs(STOP_SECONDS_MAX)).await;
            let status = status.unwrap_or_else(|| panic!("it still runs:\n{}", server.printed()));
            assert_eq!(status.code(), Some(0), "{}", server.printed());
            check_output(&server.printed(), false);
            let outcome = crew.join().await;
            assert!(outcome.ended.iter().all(|ended| ended.close_code == Some(4008)), "{:?}", outcome.ended);
            assert!(!outcome.marks.is_empty(), "some read marks were acknowledged");
            let (server, endpoint) = Server::start(world.scratch()).await;
            check_marks(&world, &endpoint, &outcome.marks).await;
            check_output(&server.terminate().await, false);
        }
        let (server, endpoint) = Server::start(world.scratch()).await;
        settle(&world, &endpoint).await;
        server.terminate().await;
    });
}

/// Read marks wait in memory for up to a second; an orderly end writes them.
async fn check_marks(world: &World, endpoint: &Endpoint, marks: &std::collections::HashMap<(usize, usize), u64>) {
    let mut http = Http::connect(endpoint).await.expect("the server listens");
    for ((user, channel), mark) in marks {
        let path = format!("/api/v1/channels/{}", world.oracle.borrow().channels[*channel].id);
        let entry = http.call(Call::get(&path, &world.users[*user].token)).await.expect("the server answers");
        let stored = number(&entry["member"], "read_seq");
        assert!(stored >= *mark, "user {user} had read up to {mark} in channel {channel}, now {stored}");
    }
}

#[test]
fn a_second_server_on_the_directory_is_refused() {
    on_one_thread(async {
        let (world, first, endpoint) = World::new().await;
        let crew = world.put_to_work(&endpoint, Load { gap: Duration::from_millis(2), quota: 5_000, seed: 3 });
        wait_for_acknowledged(&world, 50).await;
        for _ in 0..3 {
            let arguments = ["serve", "--listen", "127.0.0.1:0", "--no-tls"];
            let refused = holdfast(&world.data(), &arguments);
            assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
            assert!(said(&refused).contains("in use by process"), "{}", said(&refused));
            // The first works on as if nothing had happened.
            wait_for_acknowledged(&world, acknowledged(&world) + 50).await;
        }
        check_output(&first.terminate().await, false);
        crew.join().await;
        let (server, endpoint) = Server::start(world.scratch()).await;
        settle(&world, &endpoint).await;
        server.terminate().await;
    });
}
