//! The load generator against a server that fails under it.

use std::cell::Cell;

use holdfast::bench::forward::free_port;
use holdfast::bench::{self, BenchOptions, Scenario};
use holdfast::ops::metrics::DURABLE_INDEX;

use crate::support::{Options, Server, Site, until};

/// Waits until `more` further records are in the log.
async fn load(server: &Server, more: u64) {
    let api = server.api();
    let durable = async || {
        let text = api.try_get("/metrics").await.ok()?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(DURABLE_INDEX)?.trim().parse::<f64>().ok())?;
        Some(line as u64)
    };
    let from = until("the log's end is known", &durable).await;
    until("messages arrive", async || durable().await.filter(|now| *now > from + more)).await;
}

#[tokio::test]
async fn the_load_goes_on_by_itself_when_the_server_is_killed_and_started_again() {
    // Not one of those that outgoing connections get: it must still be free after the server was killed.
    let site = Site { port: free_port(&Cell::new(0)).unwrap(), ..Site::default() };
    let (mut server, owner) = Server::start_set_up(Options { site, ..Options::default() }).await;
    let options = BenchOptions {
        url: Some(server.url()),
        token: Some(owner.token().to_owned()),
        ca_file: Some(server.data().join("tls/ca.pem")),
        clients: Some(20),
        seconds: Some(8),
        ..BenchOptions::new(Scenario::Send)
    };
    let running = tokio::task::spawn_blocking(move || bench::run(options));
    for _ in 0..2 {
        load(&server, 1_000).await;
        server.kill9();
        server.restart().await;
    }
    let report = running.await.unwrap().unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!((report.reconnects, report.refetches), (Some(40), Some(0)), "{report}");
    assert!(report.acknowledged.unwrap() > 2_000, "{report}");
}
