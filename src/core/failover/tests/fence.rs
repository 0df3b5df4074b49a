//! When a record counts.

use super::*;

/// A, elected 2A with the standby's vote, with a witness; `EpochStarted` is record 6.
fn active() -> Node {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(B, 6);
    node
}

/// The same, and entitled to go on alone at version 1.
fn alone() -> Node {
    let mut node = active();
    node.record(solo(1, Epoch::new(2, A)));
    node
}

#[test]
fn paired_needs_both() {
    let mut node = active();
    assert_eq!(commits(&node.write(7)), NONE);
    assert_eq!(commits(&node.ack(6)), [6], "at once when the ack arrives");
    assert_eq!(commits(&node.ack(9)), [7], "no further than the own log is fsynced");
    node.step(Input::Written { index: 9 });
    assert_eq!(commits(&node.sync(log(2, A, 8))), [8]);
}

#[test]
fn nothing_counts_before_the_epoch_has_started() {
    let mut node = active();
    assert_eq!(commits(&node.ack(5)), NONE, "old records, before the own EpochStarted");
    assert_eq!(commits(&node.ack(6)), [6]);
}

#[test]
fn an_overdue_ack_asks_the_witness_and_its_record_entitles() {
    let mut node = active();
    assert_eq!(request(&node.fire(Timer::AckOverdue)), None, "the witness was not heard yet");
    let asked = request(&node.record(paired(4, A)));
    let epoch = Epoch::new(2, A);
    assert_eq!(asked, Some((4, PairingState::Solo { epoch, from: 6 })), "asked as soon as its version is known");
    assert_eq!(commits(&node.write(7)), NONE);
    let effects = node.record(solo(5, epoch));
    assert_eq!(commits(&effects), [7]);
    assert!(matches!(notices(&effects)[..], [Notice::Solo { .. }]));
    assert_eq!(commits(&node.write(8)), [8], "alone");
}

#[test]
fn nothing_is_asked_while_no_record_waits() {
    let mut node = active();
    node.record(paired(4, A));
    node.ack(6);
    assert_eq!(request(&node.fire(Timer::AckOverdue)), None);
    node.step(Input::Written { index: 7 });
    let effects = node.fire(Timer::AckOverdue);
    assert_eq!(request(&effects), None, "the own disk is the slow one");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Arm { timer: Timer::AckOverdue, .. })));
}

/// A1: an answer with the version that the request was based on changes nothing, however fresh.
#[test]
fn a1_an_answer_counts_only_above_the_version_asked_on() {
    let mut node = alone();
    let epoch = Epoch::new(2, A);
    assert_eq!(request(&node.ack(6)), Some((1, PairingState::Paired { standby: B })));
    assert_eq!(commits(&node.write(7)), NONE, "needs the standby from the moment of the request");
    assert_eq!(commits(&node.record(solo(1, epoch))), NONE, "the request may still arrive");
    assert_eq!(request(&node.fire(Timer::AckOverdue)).unwrap().0, 1, "to go back, it asks on the same version");
    assert_eq!(commits(&node.record(solo(2, epoch))), [7], "now the request is dead");
}

/// A1, the other half: it does not go on alone until the answer, either; and a paired answer ends the matter.
#[test]
fn a1_paired_is_recorded() {
    let mut node = alone();
    node.ack(6);
    node.write(7);
    let effects = node.record(paired(2, A));
    assert_eq!(notices(&effects), [Notice::Paired]);
    assert_eq!(commits(&effects), NONE);
    assert_eq!(commits(&node.ack(7)), [7]);
    assert!(node.member.status(0).protected);
}

/// A2: what is caught up with is the own `EpochStarted`, not what this epoch has acknowledged.
#[test]
fn a2_caught_up_is_measured_by_epoch_started() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(W, 6);
    node.record(solo(3, Epoch::new(1, A)));
    assert_eq!(request(&node.ack(4)), None, "nothing of this epoch is acknowledged, yet the standby lacks record 5");
    assert_eq!(request(&node.ack(6)).unwrap().1, PairingState::Paired { standby: B });
}

/// A3: a Solo record of an earlier epoch of the same node entitles to nothing, and nor does the own copy.
#[test]
fn a3_only_the_witness_record_of_this_epoch_entitles() {
    let durable = Durable {
        epoch: Epoch::new(1, A),
        pairing: solo(1, Epoch::new(1, A)),
        was_active: true,
        peer: Some(B),
        witness: Some(W),
        ..Durable::default()
    };
    let mut node = Node::with(A, durable, (log(1, A, 5), settings()));
    node.elect(B, 6);
    assert_eq!(commits(&node.write(7)), NONE);
    assert_eq!(commits(&node.record(solo(1, Epoch::new(1, A)))), NONE);
    assert_eq!(commits(&node.record(solo(2, Epoch::new(2, A)))), [7]);
}

/// A4: a fork at what was compared equal in this epoch is a late message, and cuts nothing.
#[test]
fn a4_no_fork_where_the_logs_were_equal() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.beat(A, 0, Pairing::default());
    node.equal(5);
    let epoch = node.epoch();
    let fork = |index| Input::Compared { epoch, relation: Relation::Fork { index }, commit: 0 };
    assert_eq!(node.step(fork(5)), []);
    let effects = node.step(fork(6));
    assert_eq!(effects[0], Effect::Rewind { fork: 6 });
    assert_eq!(notices(&effects), [Notice::Diverged { fork: 6 }]);
    assert_eq!(sent(&node.fire(Timer::Heartbeat)).len(), 2, "heartbeats go on, acks do not");
}

/// A4: only a comparison with the active of the present epoch counts.
#[test]
fn a4_a_comparison_of_another_epoch_is_ignored() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    let fork = |epoch| Input::Compared { epoch, relation: Relation::Fork { index: 2 }, commit: 0 };
    assert_eq!(node.step(fork(Epoch::new(1, A))), [], "it follows nobody yet");
    node.beat(A, 0, Pairing::default());
    assert_eq!(node.step(fork(Epoch::new(2, A))), []);
    assert_eq!(
        node.step(Input::Compared { epoch: Epoch::new(1, A), relation: Relation::TooOld, commit: 0 })[0],
        Effect::Bootstrap
    );
}

/// A6: acks and votes speak of the fsynced log only.
#[test]
fn a6_only_what_is_fsynced_is_claimed() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.beat(A, 0, Pairing::default());
    assert_eq!(sent(&node.equal(8)), [(A, Message::Ack { epoch: Epoch::new(1, A), index: 5 })]);
    assert_eq!(sent(&node.sync(log(1, A, 7))), [(A, Message::Ack { epoch: Epoch::new(1, A), index: 7 })]);
    let asked = sent(&node.fire(Timer::ActiveSilence));
    assert_eq!(asked[0], (A, Message::PreVote { epoch: Epoch::new(2, B), log: log(1, A, 7) }));
}

#[test]
fn an_ack_needs_comparison_in_the_same_epoch() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.beat(A, 0, Pairing::default());
    assert_eq!(sent(&node.sync(log(1, A, 6))), [], "fsynced, not compared");
    node.equal(6);
    node.hear(W, Message::Stale { epoch: Epoch::new(3, A) });
    assert_eq!(sent(&node.sync(log(1, A, 7))), [], "a higher epoch was met");
    node.beat(A, 0, Pairing::default());
    assert_eq!(sent(&node.equal(2)), [(A, Message::Ack { epoch: Epoch::new(3, A), index: 2 })]);
}

#[test]
fn a_standby_applies_what_is_committed_and_its_own() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    assert_eq!(commits(&node.beat(A, 4, Pairing::default())), NONE, "not compared");
    assert_eq!(commits(&node.equal(3)), [3]);
    assert_eq!(commits(&node.equal(9)), [4]);
    assert_eq!(commits(&node.beat(A, 9, Pairing::default())), [5], "not fsynced behind it");
    let told = Input::Compared { epoch: node.epoch(), relation: Relation::Equal { index: 9 }, commit: 7 };
    node.step(told);
    assert_eq!(commits(&node.sync(log(1, A, 8))), [8]);
}

/// C: an old active may confirm late what the standby had acknowledged in its epoch; after it met the new one, nothing.
#[test]
fn c_a_late_ack_counts_until_the_higher_epoch_is_met() {
    let mut node = active();
    node.write(7);
    assert_eq!(commits(&node.ack(7)), [7]);
    let effects = node.hear(B, Message::Ack { epoch: Epoch::new(3, B), index: 8 });
    assert!(effects.contains(&Effect::StepDown));
    assert_eq!(commits(&node.hear(B, Message::Ack { epoch: Epoch::new(2, A), index: 8 })), NONE);
}

/// Under load the standby is always a batch behind: the active waits for it as soon as it is less than a heartbeat behind.
#[test]
fn a_standby_catches_up_under_load() {
    let mut node = alone();
    assert_eq!(commits(&node.write(100)), [100]);
    node.fire(Timer::Heartbeat);
    node.write(150);
    assert_eq!(request(&node.ack(90)), None);
    assert_eq!(commits(&node.write(160)), [160], "too far behind to be waited for");
    assert_eq!(request(&node.ack(120)), None);
    assert_eq!(commits(&node.write(170)), NONE, "it waits now");
    assert!(request(&node.ack(160)).is_some(), "and asks as soon as the standby holds what was acknowledged");
    assert_eq!(commits(&node.ack(170)), [170]);
    let mut slow = alone();
    slow.write(100);
    slow.fire(Timer::Heartbeat);
    slow.write(150);
    slow.ack(101);
    assert_eq!(commits(&slow.write(160)), NONE);
    assert_eq!(commits(&slow.fire(Timer::AckOverdue)), [160], "a standby that stops on the way holds nobody up");
}

#[test]
fn an_active_that_hears_nobody_acknowledges_nothing() {
    let mut node = alone();
    node.fire(Timer::Heartbeat);
    let effects = node.fire(Timer::Lease);
    assert!(effects.contains(&Effect::Isolate(true)) && notices(&effects) == [Notice::Isolated]);
    assert_eq!(commits(&node.write(7)), NONE);
    assert!(node.member.status(0).isolated);
    let effects = node.record(solo(1, Epoch::new(2, A)));
    assert!(effects.contains(&Effect::Isolate(false)) && notices(&effects).contains(&Notice::Reached));
    assert_eq!(commits(&effects), [7]);
}

#[test]
fn what_was_lost_is_repeated_with_the_heartbeat() {
    let mut node = alone();
    node.ack(6);
    for _ in 0..2 {
        assert_eq!(request(&node.fire(Timer::Heartbeat)), Some((1, PairingState::Paired { standby: B })));
    }
    let mut standby = Node::new(B, Some(W), log(1, A, 5));
    standby.beat(A, 0, Pairing::default());
    standby.equal(5);
    let repeated = sent(&standby.fire(Timer::Heartbeat));
    assert!(repeated.contains(&(A, Message::Ack { epoch: Epoch::new(1, A), index: 5 })));
}
