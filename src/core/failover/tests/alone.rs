//! The pair without a witness, and the lone node.

use super::*;

fn standby(pairing: Pairing) -> Node {
    let durable = Durable { epoch: Epoch::new(1, A), pairing, peer: Some(A), ..Durable::default() };
    Node::with(B, durable, (log(1, A, 5), settings()))
}

fn probed(reference_answers: bool, peer_answers: bool) -> Input {
    Input::Probed { reference_answers, peer_answers }
}

#[test]
fn a_lone_node_is_active_at_once_and_commits_alone() {
    let mut member = DataMember::new(A, Durable::default(), log(1, A, 5), settings());
    let effects = member.step(Input::Start, 0);
    let epoch = Epoch::new(1, A);
    assert!(effects.contains(&Effect::Activate { epoch }));
    let mut node = Node { member, now_ms: 0 };
    node.step(Input::Started { epoch, index: 6 });
    assert_eq!(commits(&node.sync(log(1, A, 6))), [6]);
    assert_eq!(commits(&node.write(7)), [7]);
    assert_eq!(node.member.status(0).not_automatic, Some(NotAutomatic::NoStandby));
}

#[test]
fn a_standby_takes_over_after_all_checks() {
    let mut node = standby(Pairing::default());
    node.beat(A, 5, paired(1, A));
    node.equal(5);
    assert!(node.fire(Timer::PromoteAfter).contains(&Effect::Probe));
    assert_eq!(notices(&node.step(probed(false, false))), [Notice::Waiting(WaitingFor::Reference)]);
    node.fire(Timer::PromoteAfter);
    assert_eq!(notices(&node.step(probed(true, true))), [Notice::Waiting(WaitingFor::PeerAlive)]);
    assert_eq!(node.step(probed(true, false)), [], "nobody asked");
    node.fire(Timer::PromoteAfter);
    let effects = node.step(probed(true, false));
    let epoch = Epoch::new(2, B);
    assert!(effects.contains(&Effect::Activate { epoch }));
    assert!(notices(&effects).contains(&Notice::Promoted { epoch, unvoted: true, forced: false, blind: false }));
    node.step(Input::Started { epoch, index: 6 });
    assert_eq!(commits(&node.sync(log(2, B, 6))), [6], "alone, by its own record");
    assert!(matches!(node.member.durable().pairing.state, PairingState::Solo { epoch: own, .. } if own == epoch));
}

#[test]
fn a_standby_behind_waits_and_says_why() {
    let mut node = standby(Pairing::default());
    node.beat(A, 7, paired(1, A));
    node.equal(5);
    assert_eq!(notices(&node.fire(Timer::PromoteAfter)), [Notice::Waiting(WaitingFor::Records)]);
    node.beat(A, 7, solo(2, Epoch::new(1, A)));
    assert_eq!(notices(&node.fire(Timer::PromoteAfter)), [Notice::Waiting(WaitingFor::TheOther)]);
    assert_eq!(node.role(), Role::Standby);
}

/// The checker's finding: an active that dies before the first comparison must not leave its standby waiting for ever.
#[test]
fn a_standby_that_was_not_compared_yet_is_blind() {
    let mut node = standby(Pairing::default());
    node.beat(A, 5, paired(1, A));
    let after_ms = 2 * settings().promote_after_ms;
    let armed = node.beat(A, 5, paired(1, A));
    assert!(armed.contains(&Effect::Arm { timer: Timer::PromoteAfter, after_ms }));
    node.fire(Timer::PromoteAfter);
    let told = notices(&node.step(probed(true, false)));
    assert!(matches!(told[0], Notice::Promoted { blind: true, unvoted: true, .. }));
}

#[test]
fn a_restarted_standby_waits_twice_as_long_and_says_that_it_cannot_know() {
    let durable = Durable { epoch: Epoch::new(1, A), pairing: paired(1, A), peer: Some(A), ..Durable::default() };
    let mut member = DataMember::new(B, durable, log(1, A, 5), settings());
    let after_ms = settings().promote_after_ms;
    assert!(member.step(Input::Start, 0).contains(&Effect::Arm { timer: Timer::PromoteAfter, after_ms: 2 * after_ms }));
    let mut node = Node { member, now_ms: 0 };
    node.fire(Timer::PromoteAfter);
    let told = notices(&node.step(probed(true, false)));
    assert!(matches!(told[0], Notice::Promoted { blind: true, unvoted: true, .. }));
    let was = Durable { was_active: true, ..durable };
    let mut member = DataMember::new(B, was, log(1, A, 5), settings());
    assert!(member.step(Input::Start, 0).contains(&Effect::Arm { timer: Timer::PromoteAfter, after_ms }));
}

#[test]
fn without_automatic_promotion_the_operator_decides() {
    let settings = Settings { auto_promote: false, ..settings() };
    let durable = Durable { epoch: Epoch::new(1, A), pairing: paired(1, A), peer: Some(A), ..Durable::default() };
    let mut node = Node::with(B, durable, (log(1, A, 5), settings));
    assert_eq!(notices(&node.fire(Timer::PromoteAfter)), [Notice::Waiting(WaitingFor::TheOperator)]);
    let effects = node.step(Input::Ordered(Order::ForcePromote));
    assert!(effects.contains(&Effect::Activate { epoch: Epoch::new(2, B) }));
    let own = Durable { pairing: solo(3, Epoch::new(1, B)), was_active: true, ..durable };
    let mut node = Node::with(B, own, (log(1, A, 5), settings));
    assert!(node.fire(Timer::PromoteAfter).contains(&Effect::Probe), "its own record says that it holds everything");
}

#[test]
fn goes_on_alone_by_its_own_record() {
    let mut node = Node::new(A, None, log(1, A, 5));
    node.elect(B, 6);
    assert_eq!(commits(&node.write(7)), NONE);
    let effects = node.fire(Timer::AckOverdue);
    assert_eq!(commits(&effects), [7], "recorded first: `step` checks the order");
    assert!(matches!(notices(&effects)[..], [Notice::Solo { .. }]));
    assert_eq!(notices(&node.ack(7)), [Notice::Paired]);
    assert!(node.member.durable().pairing.is_paired(A, B));
    assert_eq!(commits(&node.write(8)), NONE);
}

#[test]
fn with_a_dead_reference_it_is_isolated_instead() {
    let settings = Settings { reference: true, ..settings() };
    let durable = Durable { epoch: Epoch::new(1, A), peer: Some(B), ..Durable::default() };
    let mut node = Node::with(A, durable, (log(1, A, 5), settings));
    node.elect(B, 6);
    let effects = node.fire(Timer::AckOverdue);
    assert!(effects.contains(&Effect::Probe) && commits(&effects).is_empty());
    assert!(node.step(probed(false, false)).contains(&Effect::Isolate(true)));
    assert!(node.fire(Timer::Heartbeat).contains(&Effect::Probe), "asks again");
    let effects = node.step(probed(true, false));
    assert!(effects.contains(&Effect::Isolate(false)));
    assert_eq!(commits(&effects), [6]);
}

#[test]
fn both_up_and_nobody_active_the_peer_votes() {
    let mut node = standby(solo(3, Epoch::new(1, A)));
    let asked = sent(&node.fire(Timer::ActiveSilence));
    assert_eq!(asked, [(A, Message::PreVote { epoch: Epoch::new(2, B), log: log(1, A, 5) })]);
    let armed = node.hear(A, Message::PreVoteAnswer { epoch: Epoch::new(2, B), granted: false, own: Epoch::new(1, A) });
    assert!(armed.iter().any(|effect| matches!(effect, Effect::Arm { timer: Timer::PromoteAfter, .. })), "it is heard");
    node.elect(A, 6);
    assert_eq!(commits(&node.write(7)), NONE, "promoted by a vote, it needs the peer");
}

/// The checker's finding: a voted promotion after a time alone must not tell the standby that it holds everything.
#[test]
fn a_voted_promotion_does_not_make_the_standby_complete() {
    let durable =
        Durable { epoch: Epoch::new(1, A), pairing: solo(3, Epoch::new(1, A)), peer: Some(B), ..Durable::default() };
    let mut node = Node::with(A, durable, (log(1, A, 5), settings()));
    node.elect(B, 6);
    assert!(matches!(node.member.durable().pairing.state, PairingState::Solo { .. }));
    assert_eq!(commits(&node.write(7)), NONE, "although it needs the standby's acks");
    assert_eq!(notices(&node.ack(6)), [Notice::Paired]);
    let mut node = Node::with(A, Durable { pairing: paired(3, A), ..durable }, (log(1, A, 5), settings()));
    node.elect(B, 6);
    assert!(node.member.durable().pairing.is_paired(A, B), "it did before");
}

#[test]
fn pairings_are_ordered_by_epoch_and_version() {
    let mut node = standby(solo(3, Epoch::new(1, A)));
    let beat = |pairing| Message::Heartbeat {
        epoch: Epoch::new(1, A),
        active: false,
        log: LogEnd::default(),
        commit: 0,
        pairing,
        away: false,
    };
    node.hear(A, beat(paired(2, A)));
    assert_eq!(node.member.durable().pairing, solo(3, Epoch::new(1, A)));
    node.hear(A, beat(solo(1, Epoch::new(2, A))));
    assert_eq!(node.member.durable().pairing, solo(1, Epoch::new(2, A)));
}

#[test]
fn force_needs_nobody_with_a_witness_either() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.record(solo(3, Epoch::new(1, A)));
    let effects = node.step(Input::Ordered(Order::ForcePromote));
    let epoch = Epoch::new(2, B);
    assert!(notices(&effects).contains(&Notice::Promoted { epoch, unvoted: true, forced: true, blind: true }));
    node.step(Input::Started { epoch, index: 6 });
    assert_eq!(commits(&node.sync(log(2, B, 6))), [6]);
    let asked = request(&node.record(solo(3, Epoch::new(1, A))));
    assert_eq!(asked, Some((3, PairingState::Solo { epoch, from: 6 })), "the witness is told as soon as it is heard");
    assert_eq!(notices(&node.step(Input::Ordered(Order::ForcePromote))), [Notice::ForceNotNeeded]);
    let mut isolated = Node::new(A, Some(W), log(1, A, 5));
    isolated.elect(B, 6);
    isolated.fire(Timer::Heartbeat);
    isolated.fire(Timer::Lease);
    let effects = isolated.step(Input::Ordered(Order::ForcePromote));
    assert!(effects.contains(&Effect::Isolate(false)));
    assert_eq!(commits(&effects), [6]);
}
