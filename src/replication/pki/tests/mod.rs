//! The pair directory: made, loaded, damaged, killed half-way.

pub(in crate::replication) mod issuing;

use std::fs;

use self::issuing::{CLUSTER, Issuing, now_seconds};
use super::*;
use crate::core::rows::{self, PairMemberKind};
use crate::ops::durable_file::{DIR_MODE, FILE_MODE, mode_of};
use crate::tls::{ServerTls, TlsOptions};

#[test]
fn the_first_invitation_makes_a_private_directory_once() {
    let dir = tempfile::tempdir().unwrap();
    let pair = dir.path().join("pair");
    assert!(PairPki::load(&pair).unwrap().is_none());
    let made = PairPki::load_or_create(&pair, CLUSTER, 1, now_seconds()).unwrap();
    assert_eq!(mode_of(&pair).unwrap(), DIR_MODE);
    for entry in fs::read_dir(&pair).unwrap() {
        assert_eq!(mode_of(&entry.unwrap().path()).unwrap(), FILE_MODE);
    }
    let again = PairPki::load_or_create(&pair, CLUSTER, 1, now_seconds()).unwrap();
    assert_eq!(again.ca_fingerprint(), made.ca_fingerprint());
    assert_eq!(again.as_allowed(), made.as_allowed());
    assert_eq!(again.membership(), Membership { cluster: CLUSTER, member: 1, kind: PairMemberKind::Data });
    let other = PairPki::load_or_create(&pair, CLUSTER, 2, now_seconds()).unwrap_err();
    assert_eq!(other.code(), "pair_other_membership");
}

#[test]
fn a_killed_attempt_is_no_membership_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let first = PairPki::load_or_create(dir.path(), CLUSTER, 1, now_seconds()).unwrap();
    fs::remove_file(dir.path().join("pair.toml")).unwrap();
    assert!(PairPki::load(dir.path()).unwrap().is_none());
    let second = PairPki::load_or_create(dir.path(), CLUSTER, 1, now_seconds()).unwrap();
    assert_ne!(first.ca_fingerprint(), second.ca_fingerprint());
}

#[test]
fn every_damaged_or_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    PairPki::load_or_create(dir.path(), CLUSTER, 1, now_seconds()).unwrap();
    let other = tempfile::tempdir().unwrap();
    PairPki::load_or_create(other.path(), CLUSTER, 1, now_seconds()).unwrap();
    for file in ["ca.pem", "ca-key.pem", "member.pem", "pair.toml"] {
        let path = dir.path().join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, b"format_version = 1\n").unwrap();
        let error = PairPki::load(dir.path()).unwrap_err();
        assert_eq!(error.code(), "pair_certificates_damaged", "{error}");
        assert!(error.to_string().contains(file) || error.to_string().contains("ca"), "{error}");
        if file == "ca-key.pem" {
            fs::copy(other.path().join(file), &path).unwrap();
            let error = PairPki::load(dir.path()).unwrap_err();
            assert!(error.to_string().contains("not the CA's"), "{error}");
        }
        if file != "pair.toml" {
            fs::remove_file(&path).unwrap();
            assert_eq!(PairPki::load(dir.path()).unwrap_err().code(), "pair_certificates_damaged");
        }
        fs::write(&path, whole).unwrap();
    }
    PairPki::load(dir.path()).unwrap().unwrap();
}

#[test]
fn a_witness_has_no_key_of_the_ca() {
    let issuing = Issuing::new();
    let witness = issuing.member(3, PairMemberKind::Witness);
    assert_eq!(witness.ca().unwrap_err().code(), "pair_no_ca_key");
    assert!(issuing.member(2, PairMemberKind::Data).ca().is_ok());
}

#[test]
fn only_the_key_of_a_signing_request_is_used() {
    let issuing = Issuing::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI("holdfast://x/member/1".try_into().unwrap()));
    let request = params.serialize_request(&key).unwrap();
    let signed = issuing.ca.sign(request.der(), (&CLUSTER, 9), now_seconds()).unwrap();
    assert_eq!(PeerIdentity::read(&signed).unwrap().member, 9);
    assert!(!signed.windows(4).any(|part| part == b"evil"));

    let mut broken = request.der().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(issuing.ca.sign(&broken, (&CLUSTER, 9), now_seconds()).unwrap_err().code(), "pair_request_unusable");
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&ed25519).unwrap();
    let error = issuing.ca.sign(request.der(), (&CLUSTER, 9), now_seconds()).unwrap_err();
    assert!(error.to_string().contains("P-256"), "{error}");
    assert!(issuing.ca.sign(&vec![0x30; 100_000], (&CLUSTER, 9), now_seconds()).is_err());
}

#[test]
fn the_second_node_serves_certificates_of_the_first_ones_ca() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let options = TlsOptions { dir: dir.path().join(name), names: Vec::new() };
        ServerTls::open(options, now_seconds()).unwrap()
    };
    let first = open("first");
    let before = open("second").ca_fingerprint();
    assert_ne!(first.ca_fingerprint(), before);

    let web_ca = read_web_ca(&dir.path().join("first")).unwrap();
    let issuing = Issuing::new();
    let key = JoinKey::make().unwrap();
    let leaf = issuing.ca.sign(&key.request().unwrap(), (&CLUSTER, 2), now_seconds()).unwrap();
    let answer = crate::replication::wire::JoinAnswer {
        member: 2,
        chain: vec![leaf.to_vec().into()],
        ca: issuing.ca.certificate().to_vec().into(),
        ca_key: Some(issuing.ca.key_der().into()),
        cluster: CLUSTER,
        settings: bytes::Bytes::new(),
        web_ca: Some(web_ca.certificate),
        web_ca_key: Some(web_ca.key),
    };
    let membership = Membership { cluster: CLUSTER, member: 2, kind: PairMemberKind::Data };
    let (pair, second) = (dir.path().join("pair"), dir.path().join("second"));
    install_web_ca(&pair, &second).unwrap();
    assert_eq!(open("second").ca_fingerprint(), before, "before joining nothing is installed");
    PairPki::store_joined(&pair, &JoinedFiles { key: &key, answer: &answer, membership }).unwrap();
    install_web_ca(&pair, &second).unwrap();
    install_web_ca(&pair, &second).unwrap();
    let now = open("second");
    assert_eq!(now.ca_fingerprint(), first.ca_fingerprint());
    assert!(now.info().own_ca, "the node's certificate was issued anew by the shared CA");
}

#[test]
fn the_settings_say_who_is_allowed() {
    let member = |number: u32, kind: i32, fingerprint: &'static [u8]| rows::PairMember {
        number,
        kind,
        fingerprint: bytes::Bytes::from_static(fingerprint),
        ..rows::PairMember::default()
    };
    let pair = rows::Pair {
        members: vec![member(1, 0, &[1; 32]), member(3, 1, &[3; 32]), member(4, 0, b"short"), member(5, 9, &[5; 32])],
        retired: vec![2],
        ..rows::Pair::default()
    };
    let allowed = Allowed::from(&pair);
    assert_eq!(allowed.check(1, None).unwrap(), PairMemberKind::Data);
    assert_eq!(allowed.check(3, None).unwrap(), PairMemberKind::Witness);
    assert_eq!(allowed.check(2, None).unwrap_err().code(), "peer_member_retired");
    for unknown in [4, 5, 6] {
        assert_eq!(allowed.check(unknown, None).unwrap_err().code(), "peer_member_unknown");
    }
    let certificate = PeerIdentity { cluster: CLUSTER, member: 1, fingerprint: [9; 32] };
    assert_eq!(allowed.check(1, Some(&certificate)).unwrap_err().code(), "peer_certificate_replaced");
}

#[test]
fn a_certificate_is_renewed_in_time_and_people_are_told_when_it_cannot_be() {
    const DAY: i64 = 24 * 3600;
    let issuing = issuing::Issuing::new();
    let pki = issuing.member(1, PairMemberKind::Data);
    let (now, validity) = (now_seconds(), pki.validity());
    assert_eq!((validity.certificate_until - now) / DAY, 3_650 - 30, "back-dated");
    assert_eq!((validity.ca_until - now) / DAY, 10_950 - 30);
    assert!(!validity.is_due(now) && validity.trouble(now).is_none());
    let late = validity.certificate_until - 300 * DAY;
    assert!(validity.is_due(late), "a year before the end");
    assert!(validity.trouble(late).is_none(), "it renews it by itself");
    let very_late = validity.certificate_until - 89 * DAY;
    assert!(validity.trouble(very_late).unwrap().contains("pair renew"), "that did not happen");
    assert_eq!(validity.days_left(validity.certificate_until + 1), -1);
    assert!(validity.text(validity.certificate_until + 3 * DAY).contains("expired 3 days ago"));
    let witness = issuing.member(3, PairMemberKind::Witness).validity();
    assert!(!witness.is_due(late), "it has no key to sign one");
    assert!(witness.trouble(very_late).unwrap().contains("witness --join"));
    // At the end of the CA another certificate would gain nothing.
    let end = super::Validity { certificate_until: validity.ca_until, ..validity };
    let last_days = end.ca_until - 80 * DAY;
    assert!(!end.is_due(last_days));
    assert!(end.trouble(last_days).unwrap().contains("anew"));
}

#[test]
fn another_certificate_takes_the_place_of_the_first_at_once() {
    let issuing = issuing::Issuing::new();
    let pki = issuing.member(1, PairMemberKind::Data);
    let dir = issuing.dir_of(1);
    let tls = pki.tls(issuing.allowed.clone()).unwrap();
    assert_eq!(PairPki::next(&dir).unwrap(), None);
    let next = pki.prepare(&dir, now_seconds()).unwrap();
    assert_eq!(PairPki::next(&dir).unwrap(), Some(next));
    assert_eq!(PairPki::load(&dir).unwrap().unwrap().as_allowed(), pki.as_allowed(), "not shown yet");
    let renewed = PairPki::install_next(&dir, &tls).unwrap();
    assert_eq!(renewed.as_allowed().fingerprint, next);
    assert_ne!(next, pki.as_allowed().fingerprint);
    assert_eq!(renewed.membership(), pki.membership());
    assert_eq!(PairPki::load(&dir).unwrap().unwrap().as_allowed(), renewed.as_allowed());
    assert_eq!(PairPki::next(&dir).unwrap(), None);
    // No certificate outlasts the CA.
    let late = pki.validity().ca_until - 24 * 3600;
    pki.prepare(&dir, late).unwrap();
    assert_eq!(PairPki::install_next(&dir, &tls).unwrap().validity().certificate_until, pki.validity().ca_until);
    assert!(matches!(issuing.member(3, PairMemberKind::Witness).prepare(&dir, late), Err(PkiError::NoCaKey)));
}
