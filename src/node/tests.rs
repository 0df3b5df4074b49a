//! The write pipeline with its threads, while nothing gets committed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{EventSink, Execution, Node, NodeEvents, NodeOptions, ProposeError, Published, ReplyTo};
use crate::core::command::{Actor, Command, Envelope, NewUser, SetUp};
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
