//! A second machine joins: what it fetches, what interrupts it, what is refused.

use std::io::Cursor;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast::blobs::BlobStore;
use holdfast::core::rows::PairMemberKind;
use holdfast::limits::BOOTSTRAP_RECORDS;
use holdfast::replication::invite::Invitation;

use crate::support::load::{Senders, flood};
use crate::support::pair::{admin_status, invite, join_with, other};
use crate::support::server::free_port;
use crate::support::{Load, Options, Pair, PairOptions, Server, Witness, until};

/// Blobs that the first node has.
const BLOBS: usize = 150;
/// Bytes of each.
const BLOB_BYTES: usize = 256 * 1024;

/// The names and sizes of a node's blobs.
fn blobs(data: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    // Not opened by the store itself: that would empty the temporary directory of a running server.
    let mut open = vec![data.join("blobs")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let (name, kind) = (entry.file_name().into_string().unwrap(), entry.file_type().unwrap());
            if kind.is_dir() {
                open.push(entry.path());
            } else if name.len() == 64 {
                // Only whole blobs have such names; one may have been renamed since.
                found.extend(entry.metadata().map(|about| (name, about.len())));
            }
        }
    }
    found.sort();
    found
}

fn put_blobs(data: &Path) {
    let store = BlobStore::open(&data.join("blobs")).unwrap();
    for number in 0..BLOBS {
        // Every one another, and none that compression makes small.
        let mut content = vec![0; BLOB_BYTES];
        let mut output = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
        output.fill(&mut content);
        store.put(Cursor::new(content), BLOB_BYTES as u64).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_filled_from_a_snapshot_while_people_send() {
    let options = PairOptions::default();
    let (first, owner) = Server::start_set_up(options.server(0)).await;
    let channel = owner.channel("public", &[]).await;
    put_blobs(first.data());
    let before = flood(&owner, &channel, BOOTSTRAP_RECORDS as usize + 500).await;
    let load = Load::start(&[first.endpoint()], &owner, (&channel, Senders::default()));
    load.until_more(20).await;

    let mut second = Server::prepare(options.server(1));
    join_with(&second, &invite(&first, false).await).await;
    second.spawn();
    let data = second.data().to_owned();
    // Killed as soon as some of it is there, and not all.
    until("some blobs have arrived", async || (!blobs(&data).is_empty()).then_some(())).await;
    second.kill9();
    let there = blobs(&data).len();
    println!("{there} of {BLOBS} blobs were there when it was killed");
    assert!(there < BLOBS, "it was too quick to be interrupted");
    second.start_again().await;

    let mut pair = Pair { nodes: [first, second], witness: None, owner, channel };
    pair.witness = Some(Witness::join(&invite(&pair.nodes[0], true).await, options.sites[2].clone()).await);
    assert_eq!(pair.protected().await, 0);
    load.until_more(50).await;
    let said = pair.nodes[1].stderr();
    assert!(said.contains("this node is filled from a snapshot"), "{said}");
    let missing: Vec<usize> = said.lines().filter_map(missing_blobs).collect();
    assert!(missing.len() >= 2 && missing[0] == BLOBS && *missing.last().unwrap() <= BLOBS - there, "{missing:?}");
    assert_eq!(blobs(pair.nodes[1].data()), blobs(pair.nodes[0].data()));
    assert_eq!(blobs(pair.nodes[1].data()).len(), BLOBS);

    let book = load.stop().await.and(before);
    let (one, two) = (pair.person(0, &pair.owner), pair.person(1, &pair.owner));
    book.check(&one, &pair.channel).await;
    pair.equal_logs().await;
    book.check(&two, &pair.channel).await;
    let witness = admin_status(pair.witness.as_ref().unwrap().data()).await.unwrap();
    assert_eq!((&witness["role"], &witness["pairing"]), (&"witness".into(), &"paired".into()), "{witness}");
    pair.finish().await;
}

/// How many blobs a line of the server's log says it fetches.
fn missing_blobs(line: &str) -> Option<usize> {
    let rest = line.split_once("fetching blobs")?.1;
    let digits: String = rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// `pair join` on `server` is refused with all of these words.
async fn refused(server: &Server, invitation: &str, words: &[&str]) {
    let done = server.command(&["pair", "join", "--yes", invitation]).run().await;
    done.expect(1);
    assert!(words.iter().all(|word| done.stderr.contains(word)), "not {words:?}: {done:?}");
    assert!(!done.stderr.contains("at src"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_join_is_told_why() {
    let options = PairOptions::alone();
    let (first, owner) = Server::start_set_up(options.server(0)).await;
    let second = Server::prepare(options.server(1));
    let good = invite(&first, false).await;
    let parsed = Invitation::parse(&good, PairMemberKind::Data, 0).unwrap();

    refused(&second, "holdfast", &["no invitation into a pair"]).await;
    refused(&second, &good[..good.len() - 3], &["cut or changed"]).await;
    refused(&second, &invite(&first, true).await, &["witness", "--join"]).await;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let expired = Invitation { expires_ms: now_ms - 1, ..parsed.clone() };
    refused(&second, &expired.to_text(), &["was valid until", "make a new one"]).await;
    let mut wrong = parsed.clone();
    wrong.token[0] ^= 1;
    refused(&second, &wrong.to_text(), &["invitation"]).await;
    let mut impostor = parsed.clone();
    impostor.ca_fingerprint[0] ^= 1;
    refused(&second, &impostor.to_text(), &["CA"]).await;
    let nobody = Invitation { addresses: vec![format!("127.0.0.1:{}", free_port())], ..parsed.clone() };
    refused(&second, &nobody.to_text(), &["127.0.0.1:"]).await;

    // Somebody else's messages are not thrown away.
    let (mut foreign, _) = Server::start_set_up(options.server(1)).await;
    foreign.stop().await;
    refused(&foreign, &good, &["another installation", "empty data directory"]).await;
    foreign.restart().await;

    // None of this has used it up.
    let mut second = second;
    join_with(&second, &good).await;
    second.start_again().await;
    let third = Server::prepare(options.server(1));
    refused(&third, &good, &["invitation"]).await;
    refused(&third, &invite(&first, false).await, &["standby already", "pair leave"]).await;
    let channel = owner.channel("public", &[]).await;
    let pair = Pair { nodes: [first, second], witness: None, owner, channel };
    assert_eq!(pair.protected().await, 0);
    assert_eq!(other(pair.active().await), 1);
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_not_invited_says_so() {
    let mut nobody = Server::prepare(Options::default());
    let witness = nobody.command(&["witness"]).run().await;
    witness.expect(1);
    assert!(witness.stderr.contains("pair invite --witness"), "{witness:?}");
    assert!(!nobody.data().exists(), "nothing is left of what was refused");
    let witness = nobody.command(&["witness", "--yes", "--join", "nonsense"]).run().await;
    witness.expect(1);
    assert!(!nobody.data().exists(), "{witness:?}");
    std::fs::create_dir(nobody.data()).unwrap();
    std::fs::set_permissions(nobody.data(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    nobody.command(&["witness"]).run().await.expect(1);
    // The directory can become a data node's.
    nobody.spawn();
    nobody.ready().await;
    let server = Server::start(Options::default()).await;
    let witness = server.command(&["witness"]).run().await;
    witness.expect(1);
    assert!(witness.stderr.contains("needs one of its own"), "{witness:?}");
    let none = server.command(&["switchover"]).run().await;
    none.expect(1);
    assert!(none.stderr.contains("no other data node"), "{none:?}");
}
