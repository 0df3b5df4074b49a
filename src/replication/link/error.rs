//! What can go wrong on a link, each with a stable code and what to do about it.

use std::fmt;
use std::io;

use crate::core::failover::Member;
use crate::replication::wire::{Class, Refused, WireError};

/// Why a link could not be made, or ended.
#[derive(Debug)]
pub enum LinkError {
    /// Nothing answers at the address.
    Unreachable {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Connecting took too long.
    ConnectTimeout {
        /// The address.
        address: String,
    },
    /// The other side did not finish the TLS handshake or the hello in time.
    HandshakeTimeout,
    /// What arrives is not TLS.
    NotTls,
    /// The other side speaks no TLS 1.3.
    TlsVersion,
    /// TLS failed otherwise.
    Tls(String),
    /// The certificate is not of this pair's CA.
    CaUnknown,
    /// The certificate is not valid at the time that a clock shows: nearly always the clock is wrong.
    CertificateTime {
        /// What is known of both times.
        reason: String,
    },
    /// The link needs a certificate, and none was shown.
    CertificateRequired,
    /// The certificate names no member of a pair.
    CertificateUnreadable(String),
    /// The other side belongs to another cluster.
    OtherCluster,
    /// The other side is another member than it says, or than was dialled.
    OtherMember {
        /// Who was expected.
        expected: Member,
        /// Who it is.
        found: Member,
    },
    /// The member was retired: it has lost its state or was replaced, and must join anew.
    MemberRetired(Member),
    /// No such member.
    MemberUnknown(Member),
    /// The member's certificate is another one than the pair's settings name.
    CertificateReplaced(Member),
    /// A member of this kind has no business on links of this class.
    ClassNotAllowed {
        /// Who.
        member: Member,
        /// Which class.
        class: Class,
    },
    /// The answer is for a link of another class than was asked for.
    OtherClass(Class),
    /// No link protocol that both speak.
    Protocol {
        /// The other side's newest.
        theirs: u32,
        /// The other side's oldest.
        theirs_min: u32,
    },
    /// One of the two could not apply the other's records.
    Level {
        /// What the build of one can apply.
        can: u32,
        /// What the log of the other may hold.
        needed: u32,
    },
    /// The member, or everybody together, has too many links open.
    TooManyLinks,
    /// The other side said no.
    Refused(Refused),
    /// A message is longer than its class allows.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too much waits to be written: the caller queues without flushing.
    QueueFull,
    /// A message of another class was given to the link.
    WrongClass,
    /// The bytes are no message.
    Malformed(WireError),
    /// Nothing arrived for so long.
    Silent {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The other side closed the link.
    Closed,
    /// The system reported an error.
    Io(io::Error),
}

impl LinkError {
    /// The stable code; for a refusal, the other side's.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.code,
            other => other.own_code(),
        }
    }

    /// The stable code of what happened here.
    #[must_use]
    pub fn own_code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "peer_unreachable",
            Self::ConnectTimeout { .. } => "peer_connect_timeout",
            Self::HandshakeTimeout => "peer_handshake_timeout",
            Self::NotTls => "peer_not_tls",
            Self::TlsVersion => "peer_tls_version",
            Self::Tls(_) => "peer_tls_failed",
            Self::CaUnknown => "peer_ca_unknown",
            Self::CertificateTime { .. } => "peer_certificate_time",
            Self::CertificateRequired => "peer_certificate_required",
            Self::CertificateUnreadable(_) => "peer_certificate_unreadable",
            Self::OtherCluster => "peer_other_cluster",
            Self::OtherMember { .. } => "peer_other_member",
            Self::MemberRetired(_) => "peer_member_retired",
            Self::MemberUnknown(_) => "peer_member_unknown",
            Self::CertificateReplaced(_) => "peer_certificate_replaced",
            Self::ClassNotAllowed { .. } => "peer_class_not_allowed",
            Self::OtherClass(_) => "peer_other_class",
            Self::Protocol { .. } => "peer_protocol",
            Self::Level { .. } => "peer_level",
            Self::TooManyLinks => "peer_too_many_links",
            Self::Refused(_) => "peer_refused",
            Self::TooLarge { .. } => "peer_message_too_large",
            Self::QueueFull => "peer_queue_full",
            Self::WrongClass => "peer_wrong_class",
            Self::Malformed(_) => "peer_message_malformed",
            Self::Silent { .. } => "peer_silent",
            Self::Closed => "peer_closed",
            Self::Io(_) => "peer_io",
        }
    }

    /// What a TLS failure means, from this side's finding or from the other side's alert.
    pub(crate) fn from_rustls(error: &rustls::Error) -> Self {
        use rustls::AlertDescription as Alert;
        use rustls::{CertificateError as Certificate, Error};
        match error {
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::PeerIncompatible(_) | Error::AlertReceived(Alert::ProtocolVersion) => Self::TlsVersion,
            Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature)
            | Error::AlertReceived(Alert::UnknownCA) => Self::CaUnknown,
            Error::InvalidCertificate(
                Certificate::Expired
                | Certificate::NotValidYet
                | Certificate::ExpiredContext { .. }
                | Certificate::NotValidYetContext { .. },
            ) => Self::CertificateTime { reason: error.to_string() },
            Error::AlertReceived(Alert::CertificateExpired) => {
                Self::CertificateTime { reason: "the other side says so by its clock".to_owned() }
            }
            Error::NoCertificatesPresented | Error::AlertReceived(Alert::CertificateRequired) => {
                Self::CertificateRequired
            }
            Error::InvalidCertificate(other) => Self::CertificateUnreadable(format!("{other:?}")),
            other => Self::Tls(other.to_string()),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        // TLS errors travel inside I/O errors: in TLS 1.3 the client learns only when reading that its certificate was refused.
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::from_rustls(tls);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<WireError> for LinkError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, source } => write!(f, "{address} cannot be reached: {source}"),
            Self::ConnectTimeout { address } => write!(f, "{address} does not answer"),
            Self::HandshakeTimeout => write!(f, "the other side did not say in time who it is"),
            Self::NotTls => write!(f, "the other side does not speak TLS; is this the peer port of a Holdfast node?"),
            Self::TlsVersion => write!(f, "the other side does not speak TLS 1.3"),
            Self::Tls(reason) => write!(f, "TLS failed: {reason}"),
            Self::CaUnknown => {
                write!(f, "the certificate is not of this pair's CA; the member must join this pair first")
            }
            Self::CertificateTime { reason } => write!(
                f,
                "a certificate is not valid at the present time ({reason}); the clock of one of the two machines is \
                 probably wrong: set it, then it goes on by itself"
            ),
            Self::CertificateRequired => write!(f, "this link needs the certificate of a member"),
            Self::CertificateUnreadable(reason) => write!(f, "the certificate names no member of a pair: {reason}"),
            Self::OtherCluster => write!(f, "the other side belongs to another cluster"),
            Self::OtherMember { expected, found } => {
                write!(f, "member {expected} was expected, but the certificate is of member {found}")
            }
            Self::MemberRetired(member) => {
                write!(f, "member {member} was retired; the machine comes back by joining again: holdfast pair invite")
            }
            Self::MemberUnknown(member) => write!(f, "there is no member {member} in the pair's settings"),
            Self::CertificateReplaced(member) => {
                write!(f, "the certificate is not the one that the pair's settings name for member {member}")
            }
            Self::ClassNotAllowed { member, class } => write!(f, "member {member} may not open {class} links"),
            Self::OtherClass(class) => write!(f, "the other side answered for a {class} link"),
            Self::Protocol { theirs, theirs_min } => write!(
                f,
                "the other side speaks link protocol {theirs_min} to {theirs}, which this version does not: upgrade the \
                 older of the two"
            ),
            Self::Level { can, needed } => write!(
                f,
                "the log holds records of level {needed}, and the build of one side can apply up to {can}: upgrade it"
            ),
            Self::TooManyLinks => write!(f, "too many links are open"),
            Self::Refused(refused) => write!(f, "the other side refused: {}", refused.text),
            Self::TooLarge { bytes, max } => write!(f, "a message of {bytes} bytes; at most {max} are allowed"),
            Self::QueueFull => write!(f, "too much waits to be written to the link"),
            Self::WrongClass => write!(f, "the message belongs on a link of another class"),
            Self::Malformed(error) => error.fmt(f),
            Self::Silent { ms } => write!(f, "nothing was heard for {ms} ms"),
            Self::Closed => write!(f, "the other side closed the link"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::Io(source) => Some(source),
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}
