//! Whom a certificate is of: the URI `holdfast://<cluster>/member/<number>` in its alternative names.

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::core::failover::Member;
use crate::replication::link::LinkError;

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// What a verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The member.
    pub member: Member,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
}

impl PeerIdentity {
    /// Reads a certificate. That it is of the right CA was checked by TLS.
    ///
    /// # Errors
    /// [`LinkError::CertificateUnreadable`] unless exactly one of its names is a member's.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, LinkError> {
        let unreadable = |reason: &str| LinkError::CertificateUnreadable(reason.to_owned());
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| unreadable("it is not an X.509 certificate"))?;
        let names = parsed.subject_alternative_name().map_err(|_| unreadable("its alternative names are damaged"))?;
        let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(unreadable("it has not exactly one URI"));
        };
        let (cluster, member) = parse_uri(uri).ok_or_else(|| unreadable("its URI is not a member's"))?;
        Ok(Self { cluster, member, fingerprint: fingerprint(certificate) })
    }

    /// # Errors
    /// [`LinkError::OtherCluster`].
    pub(crate) fn check_cluster(&self, expected: &[u8; 16]) -> Result<(), LinkError> {
        if self.cluster == *expected { Ok(()) } else { Err(LinkError::OtherCluster) }
    }

    /// # Errors
    /// [`LinkError::OtherMember`].
    pub(crate) fn check_member(&self, expected: Member) -> Result<(), LinkError> {
        if self.member == expected { Ok(()) } else { Err(LinkError::OtherMember { expected, found: self.member }) }
    }
}

/// SHA-256 of a certificate.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut out = Fingerprint::default();
    // SHA-256 has 32 bytes.
    out.iter_mut().zip(digest.as_ref()).for_each(|(out, byte)| *out = *byte);
    out
}

/// Until when a certificate is valid, in seconds since the Unix epoch; `None` when it cannot be read.
pub(super) fn valid_until(certificate: &[u8]) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// The URI of a member.
pub(super) fn member_uri(cluster: &[u8; 16], member: Member) -> String {
    format!("holdfast://{}/member/{member}", HEXLOWER.encode(cluster))
}

fn parse_uri(uri: &str) -> Option<([u8; 16], Member)> {
    let (cluster, member) = uri.strip_prefix("holdfast://")?.split_once("/member/")?;
    let cluster = <[u8; 16]>::try_from(HEXLOWER.decode(cluster.as_bytes()).ok()?).ok()?;
    let member: Member = member.parse().ok()?;
    // One text per member: no sign, no leading zero.
    (member_uri(&cluster, member) == uri).then_some((cluster, member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_uri_names_a_member() {
        let uri = member_uri(&[0xab; 16], 7);
        assert_eq!(uri, "holdfast://abababababababababababababababab/member/7");
        assert_eq!(parse_uri(&uri), Some(([0xab; 16], 7)));
        for wrong in ["/member/07", "/member/+7", "/member/65536", "/member/", "/member/7/", "/members/7", ""] {
            assert_eq!(parse_uri(&uri.replace("/member/7", wrong)), None, "{wrong}");
        }
        assert_eq!(parse_uri(&uri.to_uppercase()), None);
        assert_eq!(parse_uri("holdfast://ab/member/7"), None);
    }
}
