//! Who is not waited for: a standby that stops or has no room, an active that hears nobody.

use super::*;

/// A heartbeat in the present epoch of one that is not active.
fn passive(node: &mut Node, from: Member, away: bool) -> Vec<Effect> {
    let (epoch, log, pairing) = (node.epoch(), LogEnd::default(), Pairing::default());
    node.hear(from, Message::Heartbeat { epoch, active: false, log, commit: 0, pairing, away })
}

fn is_asked_at_once(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Arm { timer: Timer::AckOverdue, after_ms: 0 })
}

fn heartbeats(effects: &[Effect]) -> Vec<(Member, bool, bool)> {
    let beat = |(to, message)| match message {
        Message::Heartbeat { active, away, .. } => Some((to, active, away)),
        _ => None,
    };
    sent(effects).into_iter().filter_map(beat).collect()
}

/// A, active in 2A with everything acknowledged, and what the witness says is known.
fn active() -> Node {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(B, 6);
    node.ack(6);
    node.record(paired(4, A));
    node
}

#[test]
fn a_goodbye_replaces_the_waiting_and_not_the_witness() {
    let mut node = active();
    let effects = passive(&mut node, B, true);
    assert!(!is_asked_at_once(&effects) && request(&effects).is_none(), "nothing waits yet: the record stays");
    assert!(is_asked_at_once(&node.write(7)));
    let asked = node.fire(Timer::AckOverdue);
    let epoch = node.epoch();
    assert_eq!(request(&asked), Some((4, PairingState::Solo { epoch, from: 7 })));
    assert_eq!(commits(&asked), NONE);
    assert_eq!(commits(&node.record(solo(5, epoch))), [7]);
    assert_eq!(request(&node.ack(7)), None, "what was on its way when it left makes nobody a standby");
}

#[test]
fn a_goodbye_while_a_record_waits_ends_the_waiting() {
    let mut node = active();
    node.write(7);
    assert!(is_asked_at_once(&passive(&mut node, B, true)));
    assert!(request(&node.fire(Timer::AckOverdue)).is_some());
    assert!(!is_asked_at_once(&node.write(8)), "asked already");
}

#[test]
fn a_late_goodbye_is_taken_back_by_the_next_heartbeat() {
    let mut node = active();
    passive(&mut node, B, true);
    node.write(7);
    node.fire(Timer::AckOverdue);
    let epoch = node.epoch();
    node.record(solo(5, epoch));
    node.ack(7);
    let back = passive(&mut node, B, false);
    assert_eq!(request(&back), Some((5, PairingState::Paired { standby: B })), "it is back and has everything");
    node.record(paired(6, A));
    assert!(!is_asked_at_once(&node.write(8)), "waited for as ever");
}

#[test]
fn without_a_witness_its_own_record_comes_first() {
    let mut node = Node::new(A, None, log(1, A, 5));
    node.elect(B, 6);
    node.ack(6);
    passive(&mut node, B, true);
    node.write(7);
    let effects = node.fire(Timer::AckOverdue);
    assert_eq!(commits(&effects), [7]);
    assert_eq!(effects[0], Effect::Persist);
}

#[test]
fn who_leaves_says_so_once_and_takes_part_in_nothing() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.beat(A, 5, paired(4, A));
    assert_eq!(heartbeats(&node.step(Input::Leave)), [(A, false, true), (W, false, true)]);
    assert_eq!(node.equal(5), []);
    assert_eq!(node.fire(Timer::Heartbeat), []);
    assert_eq!(node.hear(A, Message::Vote { epoch: Epoch::new(2, A), log: log(1, A, 9), handed_over: false }), []);
    let mut lone = Node::with(A, Durable::default(), (log(1, A, 5), settings()));
    assert_eq!(sent(&lone.step(Input::Leave)), []);
    assert_eq!(heartbeats(&active().step(Input::Leave)), [(B, false, true), (W, false, true)], "an active resigns");
}

#[test]
fn a_full_disk_is_told_at_once_and_takes_nothing_over() {
    let mut node = Node::new(B, Some(W), log(2, A, 7));
    node.hear(W, Message::Stale { epoch: Epoch::new(2, A) });
    node.beat(A, 5, paired(4, A));
    node.equal(7);
    assert_eq!(heartbeats(&node.step(Input::Room { full: true })), [(A, false, true), (W, false, true)]);
    assert_eq!(node.step(Input::Room { full: true }), [], "once");
    let (epoch, index) = (Epoch::new(2, A), 7);
    assert_eq!(sent(&node.hear(A, Message::HandOver { epoch, index })), []);
    assert_eq!(heartbeats(&node.step(Input::Room { full: false })), [(A, false, false), (W, false, false)]);
    assert!(matches!(sent(&node.hear(A, Message::HandOver { epoch, index }))[..], [(A, Message::Vote { .. }), _]));

    let mut old = active();
    passive(&mut old, B, true);
    assert!(old.member.status(0).peer_away);
    let refused = old.step(Input::Ordered(Order::Switchover));
    assert_eq!(notices(&refused), [Notice::SwitchoverRefused(Refused::PeerAway)]);
}

#[test]
fn an_isolated_active_is_heard_as_none() {
    let mut node = active();
    node.fire(Timer::Heartbeat);
    let alone = node.fire(Timer::Lease);
    assert!(alone.contains(&Effect::Isolate(true)));
    assert_eq!(heartbeats(&alone), [(B, false, false), (W, false, false)], "at once");
    assert_eq!(heartbeats(&node.fire(Timer::Heartbeat)), [(B, false, false), (W, false, false)]);
    let back = node.record(paired(4, A));
    assert_eq!(heartbeats(&back), [(B, true, false), (W, true, false)], "and taken back at once");
}

#[test]
fn a_standby_stands_when_its_active_says_that_it_is_none() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    assert_eq!(passive(&mut node, A, false), [], "it was not followed");
    node.beat(A, 5, paired(4, A));
    let effects = passive(&mut node, A, false);
    assert!(sent(&effects).iter().all(|(_, message)| matches!(message, Message::PreVote { .. })), "{effects:?}");
    assert_eq!(sent(&effects).len(), 2);
    assert_eq!(passive(&mut node, A, false), [], "once");
    node.beat(A, 5, paired(4, A));
    let epoch = node.epoch().next(B);
    assert_eq!(node.hear(W, Message::PreVoteAnswer { epoch, granted: true, own: node.epoch() }), [], "it is back");
}

/// Nobody answers, but it says that it is there: votes cannot decide, and the silence that counts is that of an active.
#[test]
fn without_a_witness_an_active_that_is_none_does_not_hold_the_standby_back() {
    let mut node = Node::new(B, None, log(1, A, 5));
    let waits = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::Arm { timer: Timer::PromoteAfter, .. }))
    };
    assert!(waits(&node.beat(A, 5, paired(4, A))));
    assert!(!waits(&passive(&mut node, A, false)));
    let (epoch, granted) = (node.epoch().next(B), false);
    assert!(waits(&node.hear(A, Message::PreVoteAnswer { epoch, granted, own: node.epoch() })), "it hears, too");
}

/// Granted without its hearing of it, nobody else could be elected any more.
#[test]
fn nothing_is_asked_of_a_witness_that_is_not_heard() {
    let mut node = active();
    node.write(7);
    for _ in 0..3 {
        node.fire(Timer::Heartbeat);
    }
    assert_eq!(request(&node.fire(Timer::AckOverdue)), None);
    assert_eq!(request(&node.fire(Timer::Heartbeat)), None);
    assert!(request(&node.record(paired(4, A))).is_some(), "as soon as it is heard again");
}
