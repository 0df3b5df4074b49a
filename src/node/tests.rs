//! The write pipeline with its threads, while nothing gets committed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{EventSink, Execution, Node, NodeEvents, NodeOptions, ProposeError, Published, ReplyTo};
use crate::core::command::{Actor, Command, Envelope, NewUser, NoteCertificate, SetUp};
use crate::core::entry::{Entry, Origin};
use crate::limits;
use crate::oplog::{LogError, LogPosition};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

/// Tells how long the log is.
struct Ends(Mutex<Sender<LogPosition>>);

impl NodeEvents for Ends {
    fn received(&self, _entries: &[Entry]) {}
    fn appended(&self, after: &LogPosition) {
        let _ = self.0.lock().send(*after);
    }
    fn started(&self, _epoch: u64, _index: u64) {}
    fn refused(&self, _epoch: u64, _error: &LogError) {}
}

/// One of a pair whose other node never answers: nothing is committed unless the test says so.
fn one_of_two() -> (TempDir, Node, Receiver<LogPosition>) {
    let dir = tempfile::tempdir().unwrap();
    let (sender, ends) = channel();
    let options = NodeOptions {
        data: dir.path().to_owned(),
        cluster: [7; 16],
        origin: Origin { site: 0, node: 1 },
        alone: false,
        events: Arc::new(Ends(Mutex::new(sender))),
        sink: Arc::new(NoSink),
        execution: Execution::Threads,
        on_fatal: Arc::new(|reason| panic!("{reason}")),
    };
    let (node, _) = Node::start(options).unwrap();
    (dir, node, ends)
}

/// The rules allow it as long as none of its kind was applied.
fn proposal() -> Envelope {
    let owner = Some(NewUser {
        username: "olga".to_owned(),
        display_name: "Olga".to_owned(),
        password_hash: "hash".to_owned(),
        ..NewUser::default()
    });
    let set_up = SetUp { organisation: "Acme".to_owned(), owner, ..SetUp::default() };
    Envelope { actor: Some(Actor::operator()), command: Some(Command::SetUp(set_up)) }
}

/// An active of epoch 1 with as many batches as may wait, and one more proposal that waits for them.
fn full() -> (TempDir, Node, Receiver<LogPosition>, tokio::sync::oneshot::Receiver<Result<super::Answer, ProposeError>>)
{
    let (dir, node, ends) = one_of_two();
    node.activate(1 << 16 | 1).unwrap();
    let index = ends.recv_timeout(PATIENCE).unwrap().index;
    let mut role = node.watch_role();
    node.commit(index);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(role.wait_for(|role| *role == super::Role::Active)).unwrap();
    for _ in 0..limits::BATCHES_WAITING_PAIRED_MAX {
        node.propose_into(&proposal(), ReplyTo::Nobody).unwrap();
        ends.recv_timeout(PATIENCE).unwrap();
    }
    let (sender, answer) = tokio::sync::oneshot::channel();
    node.propose_into(&proposal(), ReplyTo::Task(sender)).unwrap();
    (dir, node, ends, answer)
}

#[test]
fn an_epoch_begins_although_as_much_as_may_wait_is_not_committed() {
    let (_dir, node, ends, answer) = full();
    node.step_down();
    node.activate(2 << 16 | 1).unwrap();
    let end = ends.recv_timeout(PATIENCE).expect("the record that begins the epoch is logged");
    assert_eq!(end.epoch, 2 << 16 | 1);
    let answer = answer.blocking_recv().unwrap();
    assert!(matches!(answer, Err(ProposeError::NotActive)), "{answer:?}: it was made in the epoch before");
    node.commit(end.index);
    node.stop(PATIENCE);
    assert_eq!(node.log().last_position().index, end.index, "nothing else was logged");
}

#[test]
fn who_waits_for_room_is_refused_when_the_node_steps_down() {
    let (_dir, node, _ends, answer) = full();
    node.step_down();
    let answer = answer.blocking_recv().unwrap();
    assert!(matches!(answer, Err(ProposeError::NotActive)), "{answer:?}");
    node.stop(Duration::ZERO);
}

/// A node that is alone, active in the epoch of this number.
fn alone(dir: &std::path::Path, epoch: u64) -> (Node, super::StartReport) {
    let options = NodeOptions {
        data: dir.to_owned(),
        cluster: [7; 16],
        origin: Origin { site: 0, node: 1 },
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(NoSink),
        execution: Execution::Threads,
        on_fatal: Arc::new(|reason| panic!("{reason}")),
    };
    let (node, report) = Node::start(options).unwrap();
    node.activate(epoch << 16 | 1).unwrap();
    let mut role = node.watch_role();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(role.wait_for(|role| *role == super::Role::Active)).unwrap();
    (node, report)
}

/// Records that fill the log and not the state: what they note is no JSON, so the audit trail has nothing of it.
fn fill(node: &Node, megabytes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 0..megabytes * 2 {
        let noise = blake3::Hasher::new().update(&round.to_le_bytes()).finalize_xof();
        let mut bytes = vec![0; 400 << 10];
        let mut noise = noise;
        noise.fill(&mut bytes);
        let note = NoteCertificate { before: data_encoding::BASE64.encode(&bytes), after: String::new() };
        let envelope = Envelope { actor: Some(Actor::operator()), command: Some(Command::NoteCertificate(note)) };
        runtime.block_on(node.propose(&envelope)).unwrap().outcome.unwrap();
    }
}

fn snapshot(node: &Node, dir: &std::path::Path) -> u64 {
    node.projection().checkpoint().unwrap();
    let hold = node.projection().hold_checkpoints();
    let index = hold.stored().index;
    let chain = node.log().position_at(index).unwrap().chain;
    let info = crate::projection::snapshot::SnapshotInfo { site: 0, chain };
    crate::projection::snapshot::write_snapshot(&hold, &dir.join("snapshots"), info, |_| {}).unwrap();
    index
}

#[test]
fn a_trimmed_log_starts_again_and_its_state_is_rebuilt_from_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = alone(dir.path(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(node.propose(&proposal())).unwrap().outcome.unwrap();
    fill(&node, 110);
    let first = snapshot(&node, dir.path());
    fill(&node, 20);
    snapshot(&node, dir.path());
    assert_eq!(node.log().first_index(), 1);
    node.trim_log(first + 1);
    let deadline = std::time::Instant::now() + PATIENCE;
    while node.log().first_index() == 1 {
        assert!(std::time::Instant::now() < deadline, "nothing was trimmed");
        std::thread::yield_now();
    }
    let begins = node.log().first_index();
    assert!(begins <= first + 1, "what comes after the older snapshot is there");
    fill(&node, 1);
    let (end, state) = (node.log().last_position().index, node.projection().state_hash());
    node.stop(PATIENCE);
    drop(node);

    let (node, report) = alone(dir.path(), 2);
    assert_eq!((node.log().first_index(), report.replayed), (begins, 0));
    assert_eq!(node.projection().state_hash().1, state.1, "the epoch's record changes no row");
    node.stop(PATIENCE);
    drop(node);

    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let (node, report) = alone(dir.path(), 3);
    assert!(matches!(report.state, crate::projection::OpenOutcome::Rebuilt { .. }), "{:?}", report.state);
    assert_eq!(node.projection().state_hash().1, state.1);
    assert_eq!(node.projection().full_state_hash().unwrap().1, state.1);
    assert!(node.log().last_position().index > end);
    node.stop(PATIENCE);
}
