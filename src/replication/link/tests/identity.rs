//! Who is let in.

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::replication::pki::pinned_client;
use crate::replication::pki::tests::issuing::{YEAR_SECONDS, now_seconds};
use crate::replication::pki::{AllowedMember, PairCa};

#[tokio::test]
async fn the_right_pair_talks() {
    let (_issuing, node, two) = pair().await;
    let (welcome, mut link) = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap();
    assert_eq!((welcome.hello.member, welcome.hello.epoch, welcome.first, welcome.last), (1, Epoch::new(5, 1), 10, 20));
    assert_eq!(welcome.hello.client_url, "https://10.0.0.1");
    let log = LogEnd { epoch: Epoch::new(1, 1), index: 7 };
    let sent = Message::PreVote { epoch: Epoch::new(6, 2), log };
    for _ in 0..3 {
        link.sender().send(&sent).await.unwrap();
        assert_eq!(link.receiver().receive::<Message>().await.unwrap(), sent);
    }
    for class in [Class::Log, Class::Snapshot, Class::Blob, Class::Salvage] {
        let (welcome, link) = node.dial(&two, &own_hello(2, class)).await.unwrap();
        assert_eq!((welcome.hello.class, link.class()), (class, class));
    }
    node.stop().await;
}

/// Dials as member 2 with odd certificates and expects the same code on both sides.
async fn refused_with(node: &mut Node, tls: &PeerTls, code: &str) {
    let error = node.dial(tls, &own_hello(2, Class::Control)).await.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(node.refusal().await, code);
}

#[tokio::test]
async fn certificates_that_are_not_the_pairs_are_refused() {
    let (issuing, mut node, two) = pair().await;
    let stranger = PairCa::make(now_seconds()).unwrap();
    let of = |issuer: &PairCa, cluster: &[u8; 16], at: i64| issuing.odd_tls(issuer, (cluster, 2), at);

    refused_with(&mut node, &of(&stranger, &CLUSTER, now_seconds()), "peer_ca_unknown").await;
    refused_with(&mut node, &of(&issuing.ca, &[8; 16], now_seconds()), "peer_other_cluster").await;
    let (past, future) = (now_seconds() - 20 * YEAR_SECONDS, now_seconds() + 20 * YEAR_SECONDS);
    refused_with(&mut node, &of(&issuing.ca, &CLUSTER, past), "peer_certificate_time").await;
    refused_with(&mut node, &of(&issuing.ca, &CLUSTER, future), "peer_certificate_time").await;
    // Of this CA, for this member, and yet not the one that the settings name.
    refused_with(&mut node, &of(&issuing.ca, &CLUSTER, now_seconds()), "peer_certificate_replaced").await;
    node.serves(&two).await;
}

#[tokio::test]
async fn members_that_are_not_in_the_settings_are_refused() {
    let (issuing, mut node, two) = pair().await;
    issuing.change(|allowed| {
        allowed.members.remove(&2);
    });
    refused_with(&mut node, &two, "peer_member_unknown").await;
    issuing.change(|allowed| {
        allowed.retired.insert(2);
    });
    let error = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap_err();
    let LinkError::Refused(refused) = error else { panic!("{error}") };
    assert_eq!((refused.code.as_str(), refused.epoch), ("peer_member_retired", Epoch::new(5, 1)));
    assert!(refused.text.contains("pair invite"), "{}", refused.text);
    assert_eq!(node.refusal().await, "peer_member_retired");
    node.stop().await;
}

#[tokio::test]
async fn a_member_cannot_pass_for_another() {
    let (issuing, mut node, two) = pair().await;
    let error = node.dial(&two, &own_hello(3, Class::Control)).await.unwrap_err();
    assert_eq!(error.code(), "peer_other_member");
    assert_eq!(node.refusal().await, "peer_other_member");

    // Nor can one be dialled for another: not a word is said to it.
    let three = issuing.tls(3, PairMemberKind::Data);
    let to = Target { address: &node.address, member: 2 };
    let error = dial(&TcpNet, &three, to, &own_hello(3, Class::Control)).await.unwrap_err();
    assert!(matches!(error, LinkError::OtherMember { expected: 2, found: 1 }), "{error}");
    assert_eq!(node.refusal().await, "peer_closed");

    let mut other_cluster = own_hello(2, Class::Control);
    other_cluster.cluster = [9; 16];
    assert_eq!(node.dial(&two, &other_cluster).await.unwrap_err().code(), "peer_other_cluster");
    assert_eq!(node.refusal().await, "peer_closed");
    node.serves(&two).await;
}

#[tokio::test]
async fn a_server_with_a_wrong_certificate_is_not_talked_to() {
    let issuing = Issuing::new();
    let two = issuing.tls(2, PairMemberKind::Data);
    let stranger = PairCa::make(now_seconds()).unwrap();
    let past = now_seconds() - 20 * YEAR_SECONDS;
    let odd = [
        (issuing.odd_tls(&stranger, (&CLUSTER, 1), now_seconds()), "peer_ca_unknown"),
        (issuing.odd_tls(&issuing.ca, (&[8; 16], 1), now_seconds()), "peer_other_cluster"),
        (issuing.odd_tls(&issuing.ca, (&CLUSTER, 1), past), "peer_certificate_time"),
        (issuing.odd_tls(&issuing.ca, (&CLUSTER, 1), now_seconds()), "peer_member_unknown"),
    ];
    for (tls, code) in odd {
        let node = Node::start(tls, LinkTimes::default()).await;
        let error = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        if code == "peer_certificate_time" {
            assert!(error.to_string().contains("clock"), "{error}");
        }
        node.stop().await;
    }
    issuing.change(|allowed| {
        let other = AllowedMember { fingerprint: [0; 32], kind: PairMemberKind::Data };
        allowed.members.insert(1, other);
    });
    let node = Node::start(issuing.odd_tls(&issuing.ca, (&CLUSTER, 1), now_seconds()), LinkTimes::default()).await;
    let error = node.dial(&two, &own_hello(2, Class::Control)).await.unwrap_err();
    assert_eq!(error.code(), "peer_certificate_replaced");
}

#[tokio::test]
async fn without_a_certificate_one_may_only_join() {
    let (issuing, mut node, _two) = pair().await;
    let connect = async || {
        let config = pinned_client(issuing.ca.fingerprint()).unwrap();
        tls_client(config, node.raw().await).await.unwrap().0
    };
    let (_welcome, link) = exchange(connect().await, &own_hello(0, Class::Join)).await.unwrap();
    assert_eq!(link.class(), Class::Join);
    for class in [Class::Control, Class::Log, Class::Snapshot, Class::Blob, Class::Salvage] {
        let error = exchange(connect().await, &own_hello(2, class)).await.unwrap_err();
        assert_eq!(error.code(), "peer_certificate_required");
        // A stranger learns no epoch.
        assert!(matches!(error, LinkError::Refused(refused) if refused.epoch == Epoch::default()));
    }
    assert_eq!(node.refusal().await, "peer_certificate_required");
    // And the pinned fingerprint is looked at.
    let config = pinned_client([1; 32]).unwrap();
    let error = tls_client(config, node.raw().await).await.err().unwrap();
    assert_eq!(error.code(), "peer_ca_unknown");
}

#[tokio::test]
async fn a_witness_reads_nothing() {
    let (issuing, mut node, _two) = pair().await;
    let witness = issuing.tls(3, PairMemberKind::Witness);
    node.dial(&witness, &own_hello(3, Class::Control)).await.unwrap();
    for class in [Class::Log, Class::Snapshot, Class::Blob, Class::Salvage] {
        let error = node.dial(&witness, &own_hello(3, class)).await.unwrap_err();
        assert_eq!(error.code(), "peer_class_not_allowed");
        assert_eq!(node.refusal().await, "peer_class_not_allowed");
    }
}

#[tokio::test]
async fn only_tls_1_3_is_spoken() {
    let (_issuing, mut node, two) = pair().await;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let error = tls_client(Arc::new(config), node.raw().await).await.err().unwrap();
    assert_eq!(error.code(), "peer_tls_version");
    assert_eq!(node.refusal().await, "peer_tls_version");

    let mut browser = node.raw().await;
    browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = browser.read_to_end(&mut answer).await;
    assert_eq!(node.refusal().await, "peer_not_tls");
    node.serves(&two).await;
}

#[tokio::test]
async fn versions_are_agreed_on_or_refused_with_the_reason() {
    let (_issuing, mut node, two) = pair().await;
    let newer = Hello { protocol: 9, ..own_hello(2, Class::Control) };
    let (welcome, _link) = node.dial(&two, &newer).await.unwrap();
    assert_eq!(welcome.hello.protocol, limits::PEER_PROTOCOL);

    let too_new = Hello { protocol: 9, protocol_min: 8, ..own_hello(2, Class::Control) };
    let error = node.dial(&two, &too_new).await.unwrap_err();
    assert_eq!(error.code(), "peer_protocol");
    assert!(error.to_string().contains("upgrade"), "{error}");
    assert_eq!(node.refusal().await, "peer_protocol");

    for (level, level_in_use) in [(1, 1), (9, 9)] {
        let odd = Hello { level, level_in_use, ..own_hello(2, Class::Log) };
        assert_eq!(node.dial(&two, &odd).await.unwrap_err().code(), "peer_level");
        assert_eq!(node.refusal().await, "peer_level");
        // Votes count all the same.
        node.dial(&two, &Hello { class: Class::Control, ..odd }).await.unwrap();
    }
}

/// What simulations use: no TLS, and the member is the one that it says.
#[tokio::test]
async fn a_plain_link_keeps_to_the_settings() {
    let issuing = Issuing::new();
    for member in [1, 2] {
        issuing.member(member, PairMemberKind::Data);
    }
    let plain = PeerTls::Plain(issuing.allowed.clone());
    let mut node = Node::start(plain.clone(), LinkTimes::default()).await;
    node.serves(&plain).await;
    let error = node.dial(&plain, &own_hello(3, Class::Control)).await.unwrap_err();
    assert_eq!(error.code(), "peer_member_unknown");
    assert_eq!(node.refusal().await, "peer_member_unknown");
}
