//! The certificates of the pair: renewed while people write, recovered when a node missed that its own was; and what
//! `holdfast doctor` says of a pair.

use std::path::Path;

use serde_json::Value;

use crate::failover::{load_on, settle};
use crate::support::{Pair, PairOptions, Server, until};

/// The certificate that a node shows to the pair.
fn shown(node: &Server) -> String {
    std::fs::read_to_string(node.data().join("pair/member.pem")).unwrap()
}

/// One check of `holdfast doctor` on a node.
async fn examined(node: &Server, name: &str) -> Value {
    let report = node.command(&["doctor", "--json"]).run().await;
    let report: Value = serde_json::from_str(&report.stdout).unwrap_or_else(|e| panic!("{e}: {report:?}"));
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("{report:#}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_nodes_renew_their_certificates_and_nobody_notices() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    load.until_more(50).await;
    let epoch = pair.status(0).await.unwrap()["epoch"].clone();
    for node in [1, 0] {
        let before = shown(&pair.nodes[node]);
        let renewed = pair.nodes[node].command(&["pair", "renew"]).run().await;
        renewed.expect(0);
        assert!(renewed.stdout.contains("valid for 36"), "{renewed:?}");
        assert_ne!(shown(&pair.nodes[node]), before);
        assert!(!pair.nodes[node].data().join("pair/member-next.pem").exists());
        load.until_more(20).await;
    }
    assert_eq!(pair.protected().await, 0);
    let status = pair.status(0).await.unwrap();
    assert_eq!(status["epoch"], epoch, "{status:#}");
    assert!(status["certificate_days_left"].as_i64().unwrap() > 3_600, "{status:#}");
    assert_eq!(status["certificate_warning"], Value::Null);

    // New links are made with the new certificates, by all members.
    for (node, other, third) in [(0, "pair_peer", "pair_witness"), (1, "pair_peer", "pair_witness")] {
        for name in [other, third, "pair_certificate"] {
            // A member that has just been told of the settings may be between two links.
            let check = until("all is well with the pair", async || {
                let check = examined(&pair.nodes[node], name).await;
                (check["verdict"] == "ok").then_some(check)
            })
            .await;
            let told = check["found"].as_str().unwrap();
            assert!(
                name == "pair_certificate" || told.contains("answers in") && told.contains("its clock is"),
                "{told}"
            );
        }
    }
    pair.nodes[1].kill9();
    let check = examined(&pair.nodes[0], "pair_peer").await;
    assert_eq!(check["verdict"], "warn", "{check:#}");
    assert!(check["found"].as_str().unwrap().contains("does not answer"), "{check:#}");
    pair.nodes[1].start_again().await;
    assert_eq!(pair.protected().await, 0);
    pair.nodes[0].kill9();
    pair.is_active(1).await;
    load.until_more(20).await;
    pair.nodes[0].start_again().await;
    let book = load.stop().await;
    settle(pair, &book).await;
}

/// Makes `to` what `from` is now.
fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_that_its_certificate_is_renewed_shows_the_new_one() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let away = tempfile::tempdir().unwrap();
    let data = pair.nodes[1].data().to_owned();
    pair.nodes[1].kill9();
    std::fs::remove_dir_all(data.join("run")).unwrap();
    copy(&data, &away.path().join("before"));
    pair.nodes[1].start_again().await;
    pair.nodes[1].command(&["pair", "renew"]).run().await.expect(0);
    let renewed = shown(&pair.nodes[1]);
    pair.nodes[1].kill9();
    // As if it had died before the record that names the new certificate reached it.
    std::fs::remove_dir_all(&data).unwrap();
    copy(&away.path().join("before"), &data);
    std::fs::write(data.join("pair/member-next.pem"), &renewed).unwrap();
    assert_ne!(shown(&pair.nodes[1]), renewed);
    pair.nodes[1].start_again().await;
    until("it shows the new one", async || (shown(&pair.nodes[1]) == renewed).then_some(())).await;
    assert_eq!(pair.protected().await, 0);
    pair.finish().await;
}
