//! The planned switchover.

use super::*;

fn active() -> Node {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(B, 6);
    node.ack(6);
    node
}

#[test]
fn the_old_actives_vote_promotes_the_standby() {
    let (mut old, mut new) = (active(), Node::new(B, Some(W), log(1, A, 5)));
    let epoch = Epoch::new(2, A);
    new.hear(
        A,
        Message::Heartbeat {
            epoch,
            active: true,
            log: log(2, A, 6),
            commit: 0,
            pairing: Pairing::default(),
            away: false,
        },
    );
    new.equal(7);
    new.sync(log(2, A, 7));
    old.write(7);
    let begun = old.step(Input::Ordered(Order::Switchover));
    assert!(begun.contains(&Effect::HoldWrites(true)) && old.member.status(0).switchover);
    assert_eq!(sent(&begun), [], "the standby has not reached the end yet");
    let hand = sent(&old.ack(7));
    assert_eq!(hand, [(B, Message::HandOver { epoch, index: 7 })]);
    let asked = new.hear(A, hand[0].1);
    let vote = sent(&asked)[0].1;
    assert!(matches!(vote, Message::Vote { handed_over: true, .. }), "no pre-vote");
    let answer = old.hear(B, vote);
    assert!(answer.contains(&Effect::StepDown));
    let promoted = new.hear(A, sent(&answer)[0].1);
    assert!(promoted.contains(&Effect::Activate { epoch: Epoch::new(3, B) }));
}

#[test]
fn what_was_on_its_way_when_writes_were_held_goes_over_too() {
    let mut node = active();
    node.write(7);
    node.ack(7);
    let begun = node.step(Input::Ordered(Order::Switchover));
    assert!(begun.contains(&Effect::HoldWrites(true)));
    assert_eq!(sent(&begun), [], "the end of the log is not known yet");
    assert_eq!(sent(&node.write(8)), [], "the standby lacks it");
    let epoch = node.epoch();
    assert_eq!(sent(&node.ack(8)), [(B, Message::HandOver { epoch, index: 8 })]);
}

#[test]
fn too_late_it_goes_on() {
    let mut node = active();
    node.write(7);
    node.step(Input::Ordered(Order::Switchover));
    let effects = node.fire(Timer::Switchover);
    assert_eq!(effects, [Effect::HoldWrites(false), Effect::Notice(Notice::SwitchoverFailed)]);
    assert_eq!(commits(&node.ack(7)), [7]);
    assert_eq!(node.fire(Timer::Switchover), [], "a timer that comes late");
}

#[test]
fn a_standby_that_is_not_there_yet_does_not_stand() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    let hand = Message::HandOver { epoch: Epoch::new(1, A), index: 5 };
    assert_eq!(node.hear(A, hand), [], "it does not follow");
    node.beat(A, 0, Pairing::default());
    node.equal(4);
    node.hear(A, hand);
    assert_eq!(node.role(), Role::Standby);
    node.equal(5);
    node.hear(A, hand);
    assert_eq!(node.role(), Role::Candidate);
}

#[test]
fn refused_with_a_reason() {
    let order = Input::Ordered(Order::Switchover);
    let why = |node: &mut Node| notices(&node.step(order));
    assert_eq!(why(&mut Node::new(B, Some(W), log(1, A, 5))), [Notice::SwitchoverRefused(Refused::NotActive)]);
    let mut node = active();
    node.record(solo(3, Epoch::new(2, A)));
    node.write(7);
    let mut early = Node::new(A, Some(W), log(1, A, 5));
    early.elect(W, 6);
    assert_eq!(why(&mut early), [Notice::SwitchoverRefused(Refused::Exposed)]);
    let mut twice = active();
    twice.step(order);
    assert_eq!(why(&mut twice), [Notice::SwitchoverRefused(Refused::UnderWay)]);
    let mut lone = Node::with(A, Durable::default(), (log(1, A, 5), settings()));
    assert_eq!(why(&mut lone), [Notice::SwitchoverRefused(Refused::NoPeer)]);
}
