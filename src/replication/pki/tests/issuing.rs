//! Certificates for tests: right ones, and wrong in every way.

use bytes::Bytes;
use rustls::pki_types::CertificateDer;

use super::super::tls::Shown;
use super::super::{
    Allowed, JoinKey, JoinedFiles, Membership, PairCa, PairPki, PeerCertificates, PeerTls, SharedAllowed,
};
use crate::core::failover::Member;
use crate::core::rows::PairMemberKind;
use crate::replication::wire::JoinAnswer;

pub(in crate::replication) const CLUSTER: [u8; 16] = [7; 16];
pub(in crate::replication) const YEAR_SECONDS: i64 = 365 * 24 * 3600;

pub(in crate::replication) fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A pair's CA and who is allowed.
pub(in crate::replication) struct Issuing {
    pub(in crate::replication) ca: PairCa,
    pub(in crate::replication) allowed: SharedAllowed,
    dir: tempfile::TempDir,
}

impl Issuing {
    pub(in crate::replication) fn new() -> Self {
        let ca = PairCa::make(now_seconds()).unwrap();
        Self { ca, allowed: SharedAllowed::default(), dir: tempfile::tempdir().unwrap() }
    }

    /// A member as it is after joining, on disk and allowed.
    pub(in crate::replication) fn member(&self, member: Member, kind: PairMemberKind) -> PairPki {
        let key = JoinKey::make().unwrap();
        let leaf = self.ca.sign(&key.request().unwrap(), (&CLUSTER, member), now_seconds()).unwrap();
        let (ca, ca_key) = (Bytes::from(self.ca.certificate().to_vec()), Bytes::from(self.ca.key_der()));
        let answer = JoinAnswer {
            member,
            chain: vec![leaf.to_vec().into()],
            ca: ca.clone(),
            ca_key: Some(ca_key.clone()),
            cluster: CLUSTER,
            settings: Bytes::from_static(b"settings"),
            web_ca: Some(ca),
            web_ca_key: Some(ca_key),
        };
        let membership = Membership { cluster: CLUSTER, member, kind };
        let joined = JoinedFiles { key: &key, answer: &answer, membership };
        let pki = PairPki::store_joined(&self.dir_of(member), &joined).unwrap();
        self.allow(member, &pki);
        pki
    }

    /// The pair directory of a member.
    pub(in crate::replication) fn dir_of(&self, member: Member) -> std::path::PathBuf {
        self.dir.path().join(format!("pair-{member}"))
    }

    pub(in crate::replication) fn allow(&self, member: Member, pki: &PairPki) {
        self.change(|allowed| {
            allowed.members.insert(member, pki.as_allowed());
        });
    }

    pub(in crate::replication) fn change(&self, change: impl Fn(&mut Allowed)) {
        self.allowed.rcu(|allowed| {
            let mut allowed = (**allowed).clone();
            change(&mut allowed);
            allowed
        });
    }

    /// TLS of a member as it should be.
    pub(in crate::replication) fn tls(&self, member: Member, kind: PairMemberKind) -> PeerTls {
        self.member(member, kind).tls(self.allowed.clone()).unwrap()
    }

    /// TLS that trusts this CA, and shows a certificate that `issuer` made at some time for some cluster.
    pub(in crate::replication) fn odd_tls(
        &self,
        issuer: &PairCa,
        (cluster, member): (&[u8; 16], Member),
        issued_seconds: i64,
    ) -> PeerTls {
        let key = JoinKey::make().unwrap();
        let leaf = issuer.sign(&key.request().unwrap(), (cluster, member), issued_seconds).unwrap();
        self.showing(leaf, &key)
    }

    fn showing(&self, leaf: CertificateDer<'static>, key: &JoinKey) -> PeerTls {
        let shown = Shown { chain: vec![leaf, self.ca.certificate().clone()], key: key.der() };
        PeerTls::Certificates(PeerCertificates::new(self.ca.certificate(), shown, self.allowed.clone()).unwrap().into())
    }
}
