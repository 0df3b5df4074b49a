//! kill -9 in the middle of commits and checkpoints, in a real second process.

use std::io::BufRead;
use std::process::{Command, Stdio};

use super::*;
use crate::core::view::StateHash;
use crate::projection::memory_view::MemoryView;

const VICTIM: &str = "HOLDFAST_TEST_PROJECTION_VICTIM";
const CHANNELS: u64 = 40;
/// The victim checkpoints after every so many entries, and never otherwise.
const EVERY: u64 = 150;
const ROUNDS: u64 = 6;

fn entry(view: &dyn View, index: u64) -> Vec<Write> {
    let mut writes = send(view, index % CHANNELS + 1, index / CHANNELS + 1);
    if index.is_multiple_of(11) {
        writes.push(put(view, Key::Audit(index), audit(&"x".repeat(index as usize % 9_000))));
    }
    writes
}

/// Goes on from where the state is, until it is killed.
fn victim(dir: &Path) {
    let opened = Projection::open(&options(dir)).unwrap();
    for index in opened.applied.index + 1.. {
        let writes = entry(&opened.projection, index);
        opened.projection.commit(at(index), &writes).unwrap();
        if index.is_multiple_of(EVERY) {
            opened.projection.checkpoint().unwrap();
            println!("checkpoint {index}");
        }
    }
}

fn expected_hash(index: u64) -> StateHash {
    let mut model = MemoryView::new();
    for index in 1..=index {
        let writes = entry(&model, index);
        model.commit(&writes);
    }
    model.state_hash()
}

#[test]
fn a_kill_at_any_moment_leaves_exactly_a_checkpointed_state() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return victim(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "projection::tests::crash::a_kill_at_any_moment_leaves_exactly_a_checkpointed_state",
            ])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The output ends when the child ends, so this cannot wait for ever: a child that fails ends.
        let mut promised = 0;
        let mut seen = 0;
        for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(index) = line.unwrap().strip_prefix("checkpoint ") {
                promised = index.parse().unwrap();
                seen += 1;
                if seen == round {
                    child.kill().unwrap(); // somewhere in the entries or the checkpoint after this one
                }
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen >= round, "the victim ended by itself");

        let opened = Projection::open(&options(dir.path())).unwrap();
        let index = opened.applied.index;
        assert!(index >= promised && index.is_multiple_of(EVERY), "{index} after {promised}");
        assert_eq!(opened.state_hash, expected_hash(index));
        assert_eq!(opened.projection.full_state_hash().unwrap(), (at(index), opened.state_hash));
    }
}
