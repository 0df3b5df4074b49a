//! Standing, voting, stepping down.

use super::*;

fn ask(epoch: Epoch, log: LogEnd) -> Message {
    Message::Vote { epoch, log, handed_over: false }
}

fn granted(effects: &[Effect]) -> Option<bool> {
    sent(effects).into_iter().find_map(|(_, message)| match message {
        Message::VoteAnswer { granted, .. } | Message::PreVoteAnswer { granted, .. } => Some(granted),
        _ => None,
    })
}

#[test]
fn a_pre_vote_changes_nobodys_epoch() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    let before = *node.member.durable();
    let epoch = Epoch::new(2, B);
    assert_eq!(granted(&node.hear(B, Message::PreVote { epoch, log: log(1, A, 5) })), Some(true));
    assert_eq!(granted(&node.hear(B, Message::PreVote { epoch, log: log(1, A, 4) })), Some(false));
    assert_eq!(*node.member.durable(), before);
    let asked = node.fire(Timer::ActiveSilence);
    assert_eq!(sent(&asked).len(), 2);
    assert_eq!(*node.member.durable(), before);
}

/// The witness may have heard the active a moment later, and say no: it is asked again with the next heartbeat.
#[test]
fn a_pre_vote_is_asked_for_again_with_the_heartbeat() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    let question = (W, Message::PreVote { epoch: Epoch::new(2, B), log: log(1, A, 5) });
    assert!(sent(&node.fire(Timer::ActiveSilence)).contains(&question));
    assert!(sent(&node.fire(Timer::Heartbeat)).contains(&question));
    node.beat(A, 0, Pairing::default());
    assert!(!sent(&node.fire(Timer::Heartbeat)).contains(&question), "the active is heard again");
}

#[test]
fn a_log_is_compared_by_epoch_first() {
    let mut node = Node::new(A, Some(W), log(2, A, 5));
    assert_eq!(granted(&node.hear(B, ask(Epoch::new(3, B), log(1, A, 9)))), Some(false));
    assert_eq!(node.epoch(), Epoch::new(3, B), "the epoch was met all the same");
    assert_eq!(granted(&node.hear(B, ask(Epoch::new(4, B), log(2, A, 5)))), Some(true));
    assert_eq!(node.member.durable().granted, B);
}

/// B: that an epoch was seen in another message is no obstacle to a vote for its candidate.
#[test]
fn b_an_epoch_that_was_only_seen_is_granted() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.hear(W, Message::Stale { epoch: Epoch::new(2, B) });
    assert_eq!(granted(&node.hear(B, ask(Epoch::new(2, B), log(1, A, 5)))), Some(true));
    assert_eq!(granted(&node.hear(B, ask(Epoch::new(2, B), log(1, A, 5)))), Some(true), "asked again, answered again");
}

#[test]
fn a_vote_for_somebody_elses_epoch_is_not_given() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    assert_eq!(granted(&node.hear(B, ask(Epoch::new(3, A), log(1, A, 5)))), None);
    assert_eq!(granted(&node.hear(B, Message::PreVote { epoch: Epoch::new(4, A), log: log(9, A, 5) })), Some(false));
}

/// E: an active says no to a pre-vote, and answers a real vote by the rule, and steps down.
#[test]
fn e_an_active_steps_down_for_a_real_vote_only() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(W, 6);
    let epoch = Epoch::new(3, B);
    assert_eq!(granted(&node.hear(B, Message::PreVote { epoch, log: log(2, A, 6) })), Some(false));
    assert_eq!(node.role(), Role::Active);
    let effects = node.hear(B, ask(epoch, log(2, A, 6)));
    assert_eq!(granted(&effects), Some(true));
    assert!(effects.contains(&Effect::StepDown));
    assert_eq!(notices(&effects), [Notice::SteppedDown { epoch }]);
    assert!(!node.member.durable().was_active);
}

#[test]
fn an_answer_of_an_earlier_candidacy_promotes_nobody() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    let answer =
        |number| Message::VoteAnswer { epoch: Epoch::new(number, A), granted: true, own: Epoch::new(number, A) };
    node.fire(Timer::ActiveSilence);
    let (epoch, own) = (Epoch::new(2, A), Epoch::new(1, A));
    node.hear(W, Message::PreVoteAnswer { epoch, granted: true, own });
    node.fire(Timer::Candidacy);
    assert_eq!(node.role(), Role::Standby);
    node.hear(W, answer(2));
    assert_eq!(node.role(), Role::Standby, "it does not stand any more");
    node.hear(W, Message::PreVoteAnswer { epoch: Epoch::new(3, A), granted: true, own: epoch });
    node.hear(W, answer(2));
    assert_eq!(node.role(), Role::Candidate);
    assert!(node.hear(W, answer(3)).contains(&Effect::Activate { epoch: Epoch::new(3, A) }));
}

#[test]
fn who_asked_about_too_low_an_epoch_asks_again_at_once() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.fire(Timer::ActiveSilence);
    let effects =
        node.hear(W, Message::PreVoteAnswer { epoch: Epoch::new(2, A), granted: false, own: Epoch::new(7, B) });
    assert!(sent(&effects).contains(&(W, Message::PreVote { epoch: Epoch::new(8, A), log: log(1, A, 5) })));
}

#[test]
fn a_lower_epoch_is_told_the_higher_one() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(W, 6);
    let old = Epoch::new(1, B);
    let beat = Message::Heartbeat {
        epoch: old,
        active: true,
        log: log(1, B, 9),
        commit: 9,
        pairing: paired(1, B),
        away: false,
    };
    assert_eq!(sent(&node.hear(B, beat)), [(B, Message::Stale { epoch: Epoch::new(2, A) })]);
    assert_eq!(granted(&node.hear(B, ask(old, log(9, B, 9)))), Some(false));
    assert_eq!(node.role(), Role::Active);
}

#[test]
fn strangers_are_not_heard() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    for stranger in [0, A, 7] {
        assert_eq!(node.hear(stranger, ask(Epoch::new(9, stranger), log(9, 7, 99))), []);
        assert_eq!(node.hear(stranger, Message::Stale { epoch: Epoch::new(9, 7) }), []);
    }
    assert_eq!(node.epoch(), Epoch::new(1, A));
}

#[test]
fn the_higher_number_waits_a_little_longer() {
    let after = |me| {
        let durable = Durable { peer: Some(if me == A { B } else { A }), witness: Some(W), ..Durable::default() };
        let mut member = DataMember::new(me, durable, LogEnd::default(), settings());
        let armed = |effect: Effect| match effect {
            Effect::Arm { timer: Timer::ActiveSilence, after_ms } => Some(after_ms),
            _ => None,
        };
        member.step(Input::Start, 0).into_iter().find_map(armed).unwrap()
    };
    assert!(after(A) < after(B));
}

#[test]
fn people_are_told_what_a_standby_waits_for_once() {
    let mut node = Node::new(B, Some(W), log(1, A, 5));
    node.fire(Timer::ActiveSilence);
    assert_eq!(notices(&node.fire(Timer::Candidacy)), [Notice::Waiting(WaitingFor::AVote)]);
    assert_eq!(notices(&node.fire(Timer::Candidacy)), []);
    node.record(solo(3, Epoch::new(1, A)));
    assert_eq!(notices(&node.fire(Timer::Candidacy)), [Notice::Waiting(WaitingFor::TheOther)]);
    node.record(Pairing::default());
    assert_eq!(notices(&node.fire(Timer::Candidacy)), [Notice::Waiting(WaitingFor::TheWitness)]);
}

#[test]
fn an_epoch_at_the_end_of_all_numbers_is_survived() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.hear(W, Message::Stale { epoch: Epoch(u64::MAX) });
    node.fire(Timer::ActiveSilence);
    node.step(Input::Ordered(Order::ForcePromote));
}
