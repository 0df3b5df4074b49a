//! What can go wrong around joining, each with a stable code.

use std::fmt;

use super::super::link::LinkError;
use super::super::pki::{PkiError, kind_name};
use crate::core::failover::Member;
use crate::core::rows::PairMemberKind;
use crate::limits;

/// Why an invitation cannot be made or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InviteError {
    /// The text is something else.
    NotOne,
    /// The text was cut or changed on its way.
    Damaged,
    /// A newer version made it.
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// Its time is over.
    Expired {
        /// When it ended, Unix milliseconds.
        expires_ms: u64,
        /// What this machine's clock shows.
        now_ms: u64,
    },
    /// It is for the other kind of member.
    WrongKind {
        /// What it is for.
        found: PairMemberKind,
    },
    /// Too many are open.
    TooMany,
    /// It would have no address, or one that is none.
    Addresses,
    /// The system gave no random bytes.
    NoRandomness(String),
}

impl InviteError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotOne => "invite_not_one",
            Self::Damaged => "invite_damaged",
            Self::NewerFormat { .. } => "invite_newer_format",
            Self::Expired { .. } => "invite_expired",
            Self::WrongKind { .. } => "invite_wrong_kind",
            Self::TooMany => "invite_too_many",
            Self::Addresses => "invite_addresses",
            Self::NoRandomness(_) => "no_randomness",
        }
    }
}

impl fmt::Display for InviteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOne => write!(
                f,
                "this is no invitation into a pair; it is one line that begins with \"holdfast-pair-\", as `holdfast pair \
                 invite` prints it"
            ),
            Self::Damaged => {
                write!(f, "the invitation was cut or changed when it was copied; copy the whole line again")
            }
            Self::NewerFormat { found } => {
                write!(f, "the invitation has format {found}, of a newer holdfast; install that version here first")
            }
            Self::Expired { expires_ms, now_ms } => write!(
                f,
                "the invitation was valid until {}, and this machine's clock shows {}; make a new one, or set the clock",
                rfc3339(*expires_ms),
                rfc3339(*now_ms)
            ),
            Self::WrongKind { found } => match found {
                PairMemberKind::Data => {
                    write!(
                        f,
                        "the invitation is for a data node; use it with `holdfast pair join`, or invite a witness"
                    )
                }
                PairMemberKind::Witness => write!(
                    f,
                    "the invitation is for a {}; use it with `holdfast witness --join`, or invite a data node",
                    kind_name(*found)
                ),
            },
            Self::TooMany => write!(
                f,
                "{} invitations are open; use one, or wait {} minutes",
                limits::PAIR_INVITES_MAX,
                limits::PAIR_INVITE_MINUTES
            ),
            Self::Addresses => write!(
                f,
                "an invitation needs 1 to {} addresses (host:port) under which the other machine reaches this one",
                limits::PAIR_ADDRESSES_MAX
            ),
            Self::NoRandomness(reason) => write!(f, "the system gave no random bytes: {reason}"),
        }
    }
}

impl std::error::Error for InviteError {}

fn rfc3339(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{unix_ms} ms since 1970"), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Why a machine did not join.
#[derive(Debug)]
pub enum JoinError {
    /// This machine is a member already.
    AlreadyMember(Member),
    /// The inviting side could not be reached, or refused.
    Link(LinkError),
    /// What came does not fit together, or cannot be stored.
    Pki(PkiError),
    /// It took too long.
    TooSlow,
}

impl JoinError {
    /// The stable code; for a refusal, the inviting side's.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::AlreadyMember(_) => "join_already_member",
            Self::Link(error) => error.code(),
            Self::Pki(error) => error.code(),
            Self::TooSlow => "join_too_slow",
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyMember(member) => {
                write!(f, "this machine is member {member} already; nothing was done")
            }
            Self::Link(error) => error.fmt(f),
            Self::Pki(error) => error.fmt(f),
            Self::TooSlow => write!(
                f,
                "the inviting side did not answer within {} s; look at its status before you try again: it may have \
                 admitted this machine",
                limits::PAIR_JOIN_SECONDS_MAX
            ),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Link(error) => Some(error),
            Self::Pki(error) => Some(error),
            Self::AlreadyMember(_) | Self::TooSlow => None,
        }
    }
}

impl From<LinkError> for JoinError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<PkiError> for JoinError {
    fn from(error: PkiError) -> Self {
        Self::Pki(error)
    }
}
