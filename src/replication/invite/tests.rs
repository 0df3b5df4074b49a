//! The blob, the tokens, and joining over real TLS with a desk that writes no log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::blob::Invitation;
use super::tokens::TokenRefusal;
use super::*;
use crate::core::failover::{Epoch, Member, Message};
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::node::now_ms;
use crate::replication::link::{Link, LinkHandler, LinkServer, LinkServerOptions, LinkTimes, PeerHello, Target, dial};
use crate::replication::net::{BoxFuture, TcpNet};
use crate::replication::pki::tests::issuing::{CLUSTER, now_seconds};
use crate::replication::pki::{AllowedMember, PairCa, PairPki, SharedAllowed, WebCa};
use crate::replication::wire::{Class, Hello, JoinRequest, Refused, Welcome};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn sample() -> Invitation {
    Invitation {
        addresses: vec!["10.0.0.1:7401".to_owned(), "chat-a.example:7401".to_owned()],
        ca_fingerprint: [1; 32],
        token: [2; 32],
        expires_ms: 1_800_000_000_000,
        kind: PairMemberKind::Data,
        cluster: CLUSTER,
    }
}

fn parse(text: &str) -> Result<Invitation, InviteError> {
    Invitation::parse(text, PairMemberKind::Data, 1_799_999_999_999)
}

#[test]
fn an_invitation_survives_copying() {
    let text = sample().to_text();
    assert!(text.starts_with("holdfast-pair-1.") && text.len() < 300 && !text.contains('\n'), "{text}");
    assert_eq!(parse(&text), Ok(sample()));
    let wrapped = format!("  {}\r\n  {}\n", &text[..80], &text[80..]);
    assert_eq!(parse(&wrapped), Ok(sample()), "a terminal broke the line");
    assert!(!format!("{:?}", sample()).contains("2, 2"), "the token is not printed");
}

#[test]
fn every_damaged_character_is_noticed() {
    let text = sample().to_text();
    for at in 0..text.len() {
        for put in ["A", "b", "1", ".", "-", "_", "é", "", "xx"] {
            let damaged = format!("{}{put}{}", &text[..at], &text[at + 1..]);
            if damaged != text {
                let error = parse(&damaged).unwrap_err();
                assert!(matches!(error, InviteError::Damaged | InviteError::NotOne), "{at} {put}: {error}");
            }
        }
        assert!(parse(&text[..at]).is_err(), "cut at {at}");
    }
    for nothing in ["", "hfi_0123", "holdfast-pair-", "holdfast-pair-1", "holdfast-pair-1.", "holdfast-pair-1.x.y.z"] {
        assert!(parse(nothing).is_err(), "{nothing}");
    }
    assert!(parse(&format!("holdfast-pair-1.{}", "A".repeat(1 << 20))).is_err());
}

#[test]
fn what_cannot_be_used_says_why() {
    let text = sample().to_text();
    let late = Invitation::parse(&text, PairMemberKind::Data, 1_800_000_000_000).unwrap_err();
    assert_eq!(late.code(), "invite_expired");
    assert!(late.to_string().contains("2027-01-15T08:00:00Z"), "{late}");
    let kind = Invitation::parse(&text, PairMemberKind::Witness, 1).unwrap_err();
    assert_eq!(kind, InviteError::WrongKind { found: PairMemberKind::Data });
    assert!(kind.to_string().contains("pair join"), "{kind}");
    // As a newer version would write it: another number, and the checksum over it.
    let front = text.rsplit_once('.').unwrap().0.replace("pair-1.", "pair-2.");
    let newer = format!("{front}.{}", super::blob::checksum(&front));
    assert_eq!(parse(&newer), Err(InviteError::NewerFormat { found: 2 }));
    let none = Invitation { addresses: Vec::new(), ..sample() };
    assert_eq!(parse(&none.to_text()), Err(InviteError::Damaged));
}

fn token_of(invites: &Invites, pki: &PairPki, now_ms: u64) -> Result<Invitation, InviteError> {
    invites.invite(pki, vec!["127.0.0.1:1".to_owned()], (PairMemberKind::Data, now_ms))
}

#[test]
fn tokens_are_few_short_lived_and_used_once() {
    let dir = tempfile::tempdir().unwrap();
    let pki = PairPki::load_or_create(dir.path(), CLUSTER, 1, now_seconds()).unwrap();
    let invites = Arc::new(Invites::default());
    let minutes = limits::PAIR_INVITE_MINUTES * 60_000;
    let first = token_of(&invites, &pki, 1_000).unwrap();
    assert_eq!(first.expires_ms, 1_000 + minutes);
    assert_eq!(first.ca_fingerprint, pki.ca_fingerprint());
    for _ in 1..limits::PAIR_INVITES_MAX {
        token_of(&invites, &pki, 1_000).unwrap();
    }
    assert_eq!(token_of(&invites, &pki, 1_000), Err(InviteError::TooMany));
    assert_eq!(invites.open(1_000).len(), limits::PAIR_INVITES_MAX);

    let claim = |token: &[u8; 32], kind, at| invites.claim(token, kind, (HERE, at));
    let (data, witness) = (PairMemberKind::Data, PairMemberKind::Witness);
    assert_eq!(claim(&first.token, witness, 2_000).err(), Some(TokenRefusal::Unknown), "the kind counts");
    let using = claim(&first.token, data, 2_000).ok().unwrap();
    assert_eq!(claim(&first.token, data, 2_000).err(), Some(TokenRefusal::Unknown), "not twice at once");
    drop(using);
    claim(&first.token, data, 2_000).ok().unwrap().spend();
    assert_eq!(claim(&first.token, data, 2_000).err(), Some(TokenRefusal::Unknown), "not twice");
    assert_eq!(invites.open(1_000 + minutes), Vec::new());
    let late = token_of(&invites, &pki, 5_000_000).unwrap();
    assert!(claim(&late.token, data, 5_000_000 + minutes - 1).is_ok());
    assert_eq!(claim(&late.token, data, 5_000_000 + minutes).err(), Some(TokenRefusal::Unknown));
    token_of(&invites, &pki, 9_000_000).unwrap();
    invites.revoke_all();
    assert_eq!(invites.open(9_000_000), Vec::new());
}

#[test]
fn guessing_is_slowed_down_per_address() {
    let dir = tempfile::tempdir().unwrap();
    let pki = PairPki::load_or_create(dir.path(), CLUSTER, 1, now_seconds()).unwrap();
    let invites = Arc::new(Invites::default());
    let right = token_of(&invites, &pki, 0).unwrap().token;
    let data = PairMemberKind::Data;
    for _ in 0..limits::PAIR_JOIN_BURST {
        assert_eq!(invites.claim(&[0; 32], data, (HERE, 0)).err(), Some(TokenRefusal::Unknown));
    }
    let limited = invites.claim(&right, data, (HERE, 0)).err();
    assert!(matches!(limited, Some(TokenRefusal::Limited { retry_after_seconds: 1.. })), "{limited:?}");
    let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    assert!(invites.claim(&right, data, (elsewhere, 0)).is_ok(), "a person at another machine is not held up");
    let later = u64::from(limits::PAIR_JOIN_REFILL_SECONDS) * 1_000;
    assert!(invites.claim(&right, data, (HERE, later)).is_ok());
}

/// A desk that admits into a list, and lets in whom it admits.
struct FakeDesk {
    allowed: SharedAllowed,
    admitted: Mutex<Vec<NewMember>>,
    active: AtomicBool,
    next: Mutex<Member>,
    web_ca: WebCa,
}

impl JoinDesk for FakeDesk {
    fn next_number<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<Member, Refused>> {
        Box::pin(async move {
            assert_eq!(request.name, "attic");
            Ok(*self.next.lock())
        })
    }

    fn admit(&self, new: NewMember) -> BoxFuture<'_, Result<Admitted, Refused>> {
        Box::pin(async move {
            if !self.active.load(Ordering::SeqCst) {
                return Err(Refused::new("not_active", "ask the other node", Epoch::default()));
            }
            *self.next.lock() += 1;
            let member = AllowedMember { fingerprint: new.fingerprint, kind: new.kind };
            self.allowed.rcu(|allowed| {
                let mut allowed = (**allowed).clone();
                allowed.members.insert(new.member, member);
                allowed
            });
            self.admitted.lock().push(new);
            Ok(Admitted { settings: Bytes::from_static(b"the settings"), web_ca: Some(self.web_ca.clone()) })
        })
    }
}

/// A data node that invites.
struct Host {
    member: Member,
    inviter: Inviter,
}

impl LinkHandler for Host {
    fn welcome(&self) -> Welcome {
        Welcome { hello: own_hello(self.member, Class::Control), first: 0, last: 0, settings: None }
    }

    fn serve(&self, peer: PeerHello, mut link: Link) -> BoxFuture<'static, ()> {
        let inviter = self.inviter.clone();
        Box::pin(async move {
            if peer.hello.class == Class::Join {
                let _ = inviter.serve(peer, link).await;
            } else if let Ok(message) = link.receiver().receive::<Message>().await {
                link.sender().send(&message).await.unwrap();
            }
        })
    }
}

fn own_hello(member: Member, class: Class) -> Hello {
    Hello {
        protocol: limits::PEER_PROTOCOL,
        protocol_min: limits::PEER_PROTOCOL_MIN,
        level: 2,
        level_in_use: 2,
        cluster: CLUSTER,
        member,
        class,
        epoch: Epoch::new(1, member),
        version: "0.1.0".to_owned(),
        client_url: String::new(),
        now_ms: now_ms(),
        next_certificate: None,
    }
}

struct Inviting {
    pki: Arc<PairPki>,
    invites: Arc<Invites>,
    desk: Arc<FakeDesk>,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Inviting {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Inviting {
    async fn start(pki: PairPki, allowed: SharedAllowed, next: Member) -> Inviting {
        let member = pki.membership().member;
        let web_ca = PairCa::make(now_seconds()).unwrap();
        let web_ca = WebCa { certificate: web_ca.certificate().to_vec().into(), key: web_ca.key_der().into() };
        allowed.rcu(|old| {
            let mut new = (**old).clone();
            new.members.insert(member, pki.as_allowed());
            new
        });
        let desk = Arc::new(FakeDesk {
            allowed: allowed.clone(),
            admitted: Mutex::default(),
            active: AtomicBool::new(true),
            next: Mutex::new(next),
            web_ca,
        });
        let (pki, invites) = (Arc::new(pki), Arc::new(Invites::default()));
        let inviter = Inviter::new(Arc::clone(&pki), Arc::clone(&invites), Arc::clone(&desk) as Arc<dyn JoinDesk>);
        let options = LinkServerOptions {
            tls: pki.tls(allowed).unwrap(),
            handler: Arc::new(Host { member, inviter }),
            times: LinkTimes::default(),
        };
        let server = LinkServer::bind(&TcpNet, "127.0.0.1:0", options).await.unwrap();
        let address = server.local_address().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(server.run(shutdown.clone()));
        Inviting { pki, invites, desk, address, shutdown }
    }

    async fn first(dir: &Path) -> Inviting {
        let pki = PairPki::load_or_create(&dir.join("one"), CLUSTER, 1, now_seconds()).unwrap();
        Inviting::start(pki, SharedAllowed::default(), 2).await
    }

    /// An invitation that was printed and pasted.
    fn invite(&self, kind: PairMemberKind) -> Invitation {
        let addresses = vec![self.address.to_string()];
        let text = self.invites.invite(&self.pki, addresses, (kind, now_ms())).unwrap().to_text();
        Invitation::parse(&text, kind, now_ms()).unwrap()
    }
}

fn applicant() -> Applicant {
    Applicant {
        name: "attic".to_owned(),
        addresses: vec!["127.0.0.1:7401".to_owned()],
        client_url: "https://127.0.0.1".to_owned(),
        level: 2,
        version: "0.1.0".to_owned(),
        retired_member: None,
    }
}

#[tokio::test]
async fn a_data_node_joins_and_then_invites_itself() {
    let dir = tempfile::tempdir().unwrap();
    let one = Inviting::first(dir.path()).await;
    let invitation = one.invite(PairMemberKind::Data);
    let two_dir = dir.path().join("two");
    let two = join(&TcpNet, &invitation, &applicant(), &two_dir).await.unwrap();

    assert_eq!(two.membership().member, 2);
    assert_eq!(two.settings_at_joining(), Some(&b"the settings"[..]));
    assert_eq!(two.ca_fingerprint(), one.pki.ca_fingerprint());
    let admitted = one.desk.admitted.lock().pop().unwrap();
    assert_eq!((admitted.member, admitted.kind), (2, PairMemberKind::Data));
    assert_eq!(admitted.fingerprint, two.as_allowed().fingerprint);
    assert_eq!(admitted.addresses, applicant().addresses);
    assert!(two_dir.join("web-ca-key.pem").exists());

    // It talks as a member now.
    let allowed = one.desk.allowed.clone();
    let tls = two.tls(allowed.clone()).unwrap();
    let address = one.address.to_string();
    let to = Target { address: &address, member: 1 };
    let (_, mut link) = dial(&TcpNet, &tls, to, &own_hello(2, Class::Control)).await.unwrap();
    let message = Message::Stale { epoch: Epoch::new(1, 1) };
    link.sender().send(&message).await.unwrap();
    assert_eq!(link.receiver().receive::<Message>().await.unwrap(), message);

    // The first one is gone; the second invites a witness, which the CA of the first vouches for.
    drop(one);
    let two = Inviting::start(two, allowed, 3).await;
    let witness_dir = dir.path().join("witness");
    let invitation = two.invite(PairMemberKind::Witness);
    let witness = join(&TcpNet, &invitation, &applicant(), &witness_dir).await.unwrap();
    assert_eq!(witness.membership().member, 3);
    assert!(witness.ca().is_err(), "a witness gets no key");
    for secret in ["ca-key.pem", "web-ca-key.pem", "web-ca.pem"] {
        assert!(!witness_dir.join(secret).exists(), "{secret}");
    }
    assert_eq!(PairPki::load(&witness_dir).unwrap().unwrap().membership(), witness.membership());
}

#[tokio::test]
async fn a_token_opens_once() {
    let dir = tempfile::tempdir().unwrap();
    let one = Inviting::first(dir.path()).await;
    let invitation = one.invite(PairMemberKind::Data);
    join(&TcpNet, &invitation, &applicant(), &dir.path().join("two")).await.unwrap();
    let error = join(&TcpNet, &invitation, &applicant(), &dir.path().join("three")).await.unwrap_err();
    assert_eq!(error.code(), "invite_unknown", "{error}");
    assert!(PairPki::load(&dir.path().join("three")).unwrap().is_none());
    assert_eq!(one.desk.admitted.lock().len(), 1);
    // Of a token of its own making, and of one for the other kind, nobody learns more.
    let guessed = Invitation { token: [0; 32], ..one.invite(PairMemberKind::Data) };
    let other_kind = Invitation { kind: PairMemberKind::Witness, ..one.invite(PairMemberKind::Data) };
    for wrong in [guessed, other_kind] {
        let error = join(&TcpNet, &wrong, &applicant(), &dir.path().join("three")).await.unwrap_err();
        assert_eq!(error.code(), "invite_unknown", "{error}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_desk_leaves_the_token_valid() {
    let dir = tempfile::tempdir().unwrap();
    let one = Inviting::first(dir.path()).await;
    one.desk.active.store(false, Ordering::SeqCst);
    let invitation = one.invite(PairMemberKind::Data);
    let two = dir.path().join("two");
    let error = join(&TcpNet, &invitation, &applicant(), &two).await.unwrap_err();
    assert_eq!(error.code(), "not_active");
    assert!(error.to_string().contains("ask the other node"), "{error}");
    one.desk.active.store(true, Ordering::SeqCst);
    // A dead address before the right one costs nothing but time.
    let dead = vec!["127.0.0.1:1".to_owned(), one.address.to_string()];
    join(&TcpNet, &Invitation { addresses: dead, ..invitation }, &applicant(), &two).await.unwrap();
}

#[tokio::test]
async fn the_token_is_shown_to_nobody_but_the_pair() {
    let dir = tempfile::tempdir().unwrap();
    let one = Inviting::first(dir.path()).await;
    let invitation = one.invite(PairMemberKind::Data);
    let (right, two) = (invitation.clone(), dir.path().join("two"));
    let other_ca = Invitation { ca_fingerprint: [9; 32], ..invitation.clone() };
    let error = join(&TcpNet, &other_ca, &applicant(), &two).await.unwrap_err();
    assert_eq!(error.code(), "peer_ca_unknown");
    let other_cluster = Invitation { cluster: [9; 16], ..invitation };
    let error = join(&TcpNet, &other_cluster, &applicant(), &two).await.unwrap_err();
    assert_eq!(error.code(), "peer_other_cluster");
    join(&TcpNet, &right, &applicant(), &two).await.unwrap();
}

#[tokio::test]
async fn a_member_joins_again_only_as_one_that_was_retired() {
    let dir = tempfile::tempdir().unwrap();
    let one = Inviting::first(dir.path()).await;
    let two = dir.path().join("two");
    join(&TcpNet, &one.invite(PairMemberKind::Data), &applicant(), &two).await.unwrap();
    let invitation = one.invite(PairMemberKind::Data);
    let error = join(&TcpNet, &invitation, &applicant(), &two).await.unwrap_err();
    assert_eq!(error.code(), "join_already_member");
    let back = Applicant { retired_member: Some(2), ..applicant() };
    let again = join(&TcpNet, &invitation, &back, &two).await.unwrap();
    assert_eq!(again.membership().member, 3);
    assert_eq!(one.desk.admitted.lock().last().unwrap().retired_member, Some(2));
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_spends_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let one = Inviting::first(dir.path()).await;
    let invitation = one.invite(PairMemberKind::Data);
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let error = join(&TcpNet, &invitation, &applicant(), &dir.path().join("file/pair")).await.unwrap_err();
    assert_eq!(error.code(), "pair_storage_failed");
    assert!(one.desk.admitted.lock().is_empty());
    assert_eq!(one.invites.open(now_ms()).len(), 1);
}
