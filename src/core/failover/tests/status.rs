//! What an operator is shown.

use super::*;

#[test]
fn an_active_tells_whether_it_is_protected_and_since_when_not() {
    let mut node = Node::new(A, Some(W), log(1, A, 5));
    node.elect(B, 6);
    node.ack(6);
    node.record(paired(4, A));
    node.now_ms = 1_000;
    node.hear(
        B,
        Message::Heartbeat {
            epoch: node.epoch(),
            active: false,
            log: log(2, A, 6),
            commit: 6,
            pairing: paired(4, A),
            away: false,
        },
    );
    let status = node.member.status(1_200);
    assert_eq!((status.role, status.active, status.protected), (Role::Active, Some(A), true));
    assert_eq!(status.peer, Some(Contact { member: B, heard_ms_ago: Some(200) }));
    assert_eq!((status.matched, status.peer_log, status.peer_commit), (6, log(2, A, 6), 6));
    assert_eq!(status.not_automatic, None);
    assert_eq!((status.exposed_ms, status.exposed_from), (None, None));

    node.write(7);
    node.fire(Timer::AckOverdue);
    node.now_ms = 3_000;
    let epoch = node.epoch();
    let state = PairingState::Solo { epoch, from: 7 };
    node.record(Pairing { version: 5, epoch, active: A, state });
    let status = node.member.status(3_500);
    assert_eq!((status.protected, status.exposed_ms, status.exposed_from), (false, Some(500), Some(7)));
    assert_eq!(status.not_automatic, Some(NotAutomatic::PeerSilent));
}

#[test]
fn a_standby_tells_why_nobody_would_take_over() {
    let mut node = Node::new(B, None, log(1, A, 5));
    assert_eq!(node.member.status(0).not_automatic, Some(NotAutomatic::NoActive));
    node.beat(A, 5, solo(1, Epoch::new(1, A)));
    let status = node.member.status(0);
    assert_eq!((status.role, status.active), (Role::Standby, Some(A)));
    assert_eq!((status.not_automatic, status.exposed_from), (Some(NotAutomatic::Exposed), Some(1)));
    node.beat(A, 5, paired(2, A));
    assert_eq!(node.member.status(0).not_automatic, None);
    assert_eq!(node.member.status(60_000).not_automatic, Some(NotAutomatic::PeerSilent));
}

#[test]
fn a_witness_tells_its_record_and_whom_it_hears() {
    let mut witness = Witness::new(WitnessDurable::default(), settings());
    witness.step(Input::DataNodes { first: A, second: None }, 0);
    witness.step(Input::Received { from: A, message: Message::Stale { epoch: Epoch::new(3, A) } }, 100);
    let status = witness.status(150);
    assert_eq!((status.epoch, status.pairing), (Epoch::new(3, A), Pairing::default()));
    assert_eq!(status.data, [Some(Contact { member: A, heard_ms_ago: Some(50) }), None]);
}
