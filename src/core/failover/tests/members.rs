//! Joining, leaving, another witness.

use super::*;

fn members(peer: Option<Member>, witness: Option<Member>) -> Input {
    Input::Members { peer, witness }
}

/// A lone active with `EpochStarted` at 1.
fn lone() -> Node {
    let mut member = DataMember::new(A, Durable::default(), LogEnd::default(), settings());
    member.step(Input::Start, 0);
    let mut node = Node { member, now_ms: 0 };
    node.step(Input::Started { epoch: Epoch::new(1, A), index: 1 });
    node.sync(log(1, A, 1));
    node
}

#[test]
fn a_joining_peer_leaves_the_active_alone_until_it_has_caught_up() {
    let mut node = lone();
    node.write(5);
    let effects = node.step(members(Some(B), None));
    assert!(matches!(notices(&effects)[..], [Notice::Solo { .. }]));
    assert_eq!(commits(&node.write(6)), [6]);
    assert!(!node.member.status(0).protected);
    assert_eq!(notices(&node.ack(6)), [Notice::Paired]);
    assert_eq!(commits(&node.write(7)), NONE);
    assert_eq!(commits(&node.ack(7)), [7]);
}

#[test]
fn a_new_witness_is_told_before_its_record_entitles() {
    let mut node = lone();
    node.step(members(Some(B), None));
    node.ack(1);
    node.step(members(Some(B), Some(W)));
    assert_eq!(commits(&node.write(2)), NONE);
    assert_eq!(commits(&node.ack(2)), [2], "paired goes on");
    let asked = request(&node.record(Pairing::default()));
    assert_eq!(asked, Some((0, PairingState::Paired { standby: B })));
    node.record(paired(1, A));
    assert_eq!(node.member.status(0).not_automatic, None);
}

#[test]
fn a_witness_and_a_standby_that_has_everything_are_asked_once_each() {
    let mut node = lone();
    node.step(members(Some(B), Some(W)));
    let epoch = Epoch::new(1, A);
    assert_eq!(request(&node.record(Pairing::default())), Some((0, PairingState::Solo { epoch, from: 1 })));
    node.record(solo(1, epoch));
    assert_eq!(request(&node.ack(1)), Some((1, PairingState::Paired { standby: B })));
    // Nothing waits for a right to go on alone: the record is not changed back and forth for ever.
    assert_eq!(request(&node.record(paired(2, A))), None);
    assert_eq!(request(&node.fire(Timer::Heartbeat)), None);
}

#[test]
fn a_new_witness_of_a_solo_active_is_told_solo() {
    let mut node = lone();
    node.step(members(Some(B), Some(W)));
    assert_eq!(commits(&node.write(2)), NONE, "the witness has to record it first");
    let epoch = Epoch::new(1, A);
    let asked = request(&node.record(Pairing::default()));
    assert_eq!(asked, Some((0, PairingState::Solo { epoch, from: 1 })));
    assert_eq!(commits(&node.record(solo(1, epoch))), [2]);
    node.step(members(Some(B), Some(W + 1)));
    assert_eq!(commits(&node.write(3)), NONE, "what the old one recorded means nothing to the new one");
    assert_eq!(node.record(solo(1, epoch)), [], "and it is not heard any more");
}

#[test]
fn a_request_under_way_is_remembered_when_the_peer_changes() {
    let mut node = lone();
    node.step(members(Some(B), Some(W)));
    let epoch = Epoch::new(1, A);
    node.record(solo(1, epoch));
    node.ack(1);
    node.step(members(Some(4), Some(W)));
    node.record(solo(1, epoch));
    assert_eq!(commits(&node.write(2)), NONE, "the request for Paired may still arrive");
    assert_eq!(commits(&node.record(solo(2, epoch))), [2]);
}

#[test]
fn without_its_witness_the_own_record_counts() {
    let mut node = lone();
    node.step(members(Some(B), Some(W)));
    node.record(solo(1, Epoch::new(1, A)));
    let effects = node.step(members(Some(B), None));
    assert!(matches!(notices(&effects)[..], [Notice::Solo { .. }]));
    assert!(matches!(node.member.durable().pairing.state, PairingState::Solo { .. }));
    node.ack(1);
    node.step(members(None, None));
    assert_eq!(commits(&node.write(3)), [3], "nobody else is there");
}

#[test]
fn a_removed_node_takes_part_in_nothing() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.step(Input::Removed);
    for input in [
        Input::Start,
        Input::Fired(Timer::ActiveSilence),
        Input::Fired(Timer::PromoteAfter),
        Input::Ordered(Order::ForcePromote),
        Input::Received { from: A, message: Message::PreVote { epoch: Epoch::new(2, A), log: log(9, A, 9) } },
    ] {
        assert_eq!(node.step(input), []);
    }
    let mut again = DataMember::new(B, *node.member.durable(), log(1, A, 5), settings());
    assert_eq!(again.step(Input::Start, 0), [], "nor after a restart: it is no lone node");
    again.step(members(Some(A), Some(W)), 0);
    assert!(!again.step(Input::Start, 0).is_empty(), "the record was cut off again");
}
