//! The standby's log is damaged while it is stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failover::{load_on, settle};
use crate::support::pair::{invite, join_with};
use crate::support::{Pair, PairOptions};

/// The newest segment of a log.
fn last_segment(data: &Path) -> PathBuf {
    let list = std::fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    list.filter(|path| path.extension().is_some_and(|ending| ending != "tmp")).max().expect("a segment")
}

/// Changes one bit in the middle of the records.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_standby_says_so_and_joins_anew_while_the_active_serves() {
    let mut pair = Pair::start(PairOptions::default()).await;
    let load = load_on(&pair);
    load.until_more(300).await;
    pair.nodes[1].stop().await;
    flip(&last_segment(pair.nodes[1].data()));
    pair.nodes[1].spawn();
    assert_eq!(pair.nodes[1].wait_exit(Duration::from_secs(30)).await, Some(1));
    let said = pair.nodes[1].stderr();
    assert!(!said.contains("panicked"), "{said}");
    for words in ["at byte", "holdfast log verify", "pair leave", "pair invite", "pair join"] {
        assert!(said.contains(words), "no {words:?} in what it says: {said}");
    }
    let verified = pair.nodes[1].command(&["log", "verify"]).run().await;
    verified.expect(1);
    assert!(verified.stdout.contains("DAMAGED"), "{verified:?}");
    load.until_more(100).await;

    // As the message says.
    std::fs::remove_dir_all(pair.nodes[1].data()).unwrap();
    pair.nodes[0].command(&["pair", "leave", "--yes"]).run().await.expect(0);
    let invitation = invite(&pair.nodes[0], false).await;
    join_with(&pair.nodes[1], &invitation).await;
    pair.nodes[1].start_again().await;
    assert_eq!(pair.protected().await, 0);
    let status = pair.status(1).await.unwrap();
    assert_eq!(status["member"], 4, "a number that nobody had before: {status:#}");
    load.until_more(50).await;
    let book = load.stop().await;
    settle(pair, &book).await;
}
