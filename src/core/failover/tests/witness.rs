//! The witness's record and its vote.

use super::*;

fn witness(pairing: Pairing) -> Witness {
    let durable = WitnessDurable { epoch: Epoch::new(1, A), granted: A, pairing, data: [A, B] };
    let mut witness = Witness::new(durable, settings());
    witness.step(Input::Start, 0);
    witness.step(Input::Fired(Timer::ActiveSilence), 0);
    witness
}

fn hear(witness: &mut Witness, from: Member, message: Message) -> Vec<Message> {
    let before = *witness.durable();
    let effects = witness.step(Input::Received { from, message }, 0);
    if before != *witness.durable() {
        let order = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
        let (wrote, said) = (order(|e| *e == Effect::Persist), order(|e| matches!(e, Effect::Send { .. })));
        assert!(wrote.is_some() && said.is_none_or(|said| wrote < Some(said)), "{effects:?}");
    }
    sent(&effects).into_iter().map(|(_, message)| message).collect()
}

fn votes(witness: &mut Witness, candidate: Member, number: u64) -> bool {
    let epoch = Epoch::new(number, candidate);
    let vote = Message::Vote { epoch, log: LogEnd::default(), handed_over: false };
    let answers = hear(witness, candidate, vote);
    assert_eq!(answers.len(), 1);
    matches!(answers[0], Message::VoteAnswer { epoch: answered, granted: true, .. } if answered == epoch)
}

fn change(witness: &mut Witness, epoch: Epoch, base: u64, state: PairingState) -> Pairing {
    let answers = hear(witness, epoch.member(), Message::ChangePairing { epoch, base, state });
    let [Message::PairingIs { epoch: own, pairing }] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(own, witness.durable().epoch);
    pairing
}

#[test]
fn it_votes_for_whom_its_record_names() {
    assert!(votes(&mut witness(paired(1, A)), B, 2));
    assert!(votes(&mut witness(paired(1, A)), A, 2));
    assert!(!votes(&mut witness(solo(1, Epoch::new(1, A))), B, 2));
    assert!(votes(&mut witness(solo(1, Epoch::new(1, A))), A, 2));
}

#[test]
fn it_votes_for_nobody_before_it_was_told() {
    let mut witness = witness(Pairing::default());
    assert!(!votes(&mut witness, A, 2));
    assert!(!votes(&mut witness, B, 2));
    let told = change(&mut witness, Epoch::new(3, A), 0, PairingState::Paired { standby: B });
    assert_eq!((told.version, told.active), (1, A));
    witness.step(Input::Fired(Timer::ActiveSilence), 0);
    assert!(votes(&mut witness, B, 4));
}

#[test]
fn it_records_nobody_as_the_standby_whom_it_does_not_know() {
    let mut witness = witness(paired(1, A));
    let epoch = Epoch::new(1, A);
    let request = Message::ChangePairing { epoch, base: 1, state: PairingState::Paired { standby: 4 } };
    assert_eq!(hear(&mut witness, A, request), [], "the active asks again at its next heartbeat");
    assert_eq!(witness.durable().pairing, paired(1, A));
    witness.step(Input::DataNodes { first: A, second: Some(4) }, 0);
    let told = change(&mut witness, epoch, 1, PairingState::Paired { standby: 4 });
    assert_eq!((told.version, told.state), (2, PairingState::Paired { standby: 4 }));
}

/// A node that joined after the record was written holds nothing, whatever the record says of the others.
#[test]
fn it_does_not_vote_for_one_who_joined_later() {
    let mut witness = witness(paired(1, A));
    witness.step(Input::DataNodes { first: A, second: Some(4) }, 0);
    assert!(!votes(&mut witness, 4, 2));
    assert_eq!(hear(&mut witness, B, Message::Stale { epoch: Epoch::new(5, B) }), [], "and B is not heard any more");
    assert!(votes(&mut witness, A, 3));
}

#[test]
fn compare_and_set_lets_one_of_two_through() {
    let mut witness = witness(paired(3, A));
    let epoch = Epoch::new(1, A);
    let alone = PairingState::Solo { epoch, from: 7 };
    assert_eq!(change(&mut witness, epoch, 2, alone), paired(3, A), "based on an old version");
    assert_eq!(change(&mut witness, epoch, 3, alone).version, 4);
    assert_eq!(change(&mut witness, epoch, 3, PairingState::Paired { standby: B }).state, alone);
    assert_eq!(change(&mut witness, epoch, 4, alone).version, 5, "counted although it is the same: A1 rests on it");
}

#[test]
fn a_lower_epoch_changes_nothing_and_is_told() {
    let mut witness = witness(paired(3, A));
    assert!(votes(&mut witness, B, 2));
    let state = PairingState::Solo { epoch: Epoch::new(1, A), from: 1 };
    assert_eq!(change(&mut witness, Epoch::new(1, A), 3, state), paired(3, A));
    assert!(!votes(&mut witness, A, 1));
}

/// E: of one number both candidates may get the vote, the lower one first.
#[test]
fn e_epochs_of_one_number_are_ordered() {
    let mut witness = witness(paired(3, A));
    assert!(votes(&mut witness, A, 2));
    witness.step(Input::Fired(Timer::ActiveSilence), 0);
    assert!(votes(&mut witness, B, 2));
    assert!(!votes(&mut witness, A, 2));
}

/// B: an epoch that was merely seen is granted.
#[test]
fn b_a_seen_epoch_is_granted() {
    let mut witness = witness(paired(3, A));
    hear(&mut witness, B, Message::Stale { epoch: Epoch::new(2, B) });
    assert!(votes(&mut witness, B, 2));
    assert!(votes(&mut witness, B, 2), "asked again, answered again");
}

#[test]
fn it_helps_nobody_against_an_active_that_it_hears() {
    let beat = |active| Message::Heartbeat {
        epoch: Epoch::new(1, A),
        active,
        log: LogEnd::default(),
        commit: 0,
        pairing: Pairing::default(),
        away: false,
    };
    let mut witness = witness(paired(1, A));
    hear(&mut witness, A, beat(true));
    assert!(!votes(&mut witness, B, 2));
    let epoch = Epoch::new(3, B);
    let handed = Message::Vote { epoch, log: LogEnd::default(), handed_over: true };
    assert!(matches!(hear(&mut witness, B, handed)[..], [Message::VoteAnswer { granted: true, .. }]), "switchover");
    let mut witness = self::witness(paired(1, A));
    hear(&mut witness, A, beat(true));
    assert!(votes(&mut witness, A, 2), "the active itself came back");
    let mut witness = self::witness(paired(1, A));
    hear(&mut witness, A, beat(true));
    hear(&mut witness, A, beat(false));
    assert!(votes(&mut witness, B, 2), "it stepped down");
}

/// E: after its own start it may have heard an active a moment before.
#[test]
fn e_after_its_start_it_waits() {
    let durable = WitnessDurable { epoch: Epoch::new(1, A), granted: A, pairing: paired(1, A), data: [A, B] };
    let mut witness = Witness::new(durable, settings());
    witness.step(Input::Start, 0);
    assert!(!votes(&mut witness, B, 2));
    witness.step(Input::Fired(Timer::ActiveSilence), 0);
    assert!(votes(&mut witness, B, 2));
}

#[test]
fn nonsense_is_not_recorded() {
    let mut witness = witness(paired(3, A));
    let epoch = Epoch::new(1, A);
    for (from, state) in [
        (B, PairingState::Paired { standby: A }),
        (A, PairingState::Paired { standby: A }),
        (A, PairingState::Paired { standby: 0 }),
        (A, PairingState::Solo { epoch: Epoch::new(1, B), from: 0 }),
    ] {
        assert_eq!(hear(&mut witness, from, Message::ChangePairing { epoch, base: 3, state }), []);
    }
    assert_eq!(witness.durable().pairing, paired(3, A));
}
