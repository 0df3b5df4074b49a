//! The open invitations of this node: hashed one-time tokens in memory, and a brake on guessing.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Invitation, InviteError};
use crate::auth::rate_limit::{BucketRate, LoginDecision, LoginLimiter, LoginLimits};
use crate::core::pair::is_address;
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::replication::pki::PairPki;

const TOKEN_CONTEXT: &str = "holdfast 2026-11 pair invitation token";
/// All addresses together, in the limiter's terms.
const EVERYBODY: &str = "pair-join";

/// An open invitation, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenInvite {
    /// What it is for.
    pub kind: PairMemberKind,
    /// Until when it is valid, Unix milliseconds.
    pub expires_ms: u64,
}

struct Token {
    /// Compared in constant time: that is how `blake3::Hash` does it.
    hash: blake3::Hash,
    open: OpenInvite,
    /// Somebody is using it at this moment.
    claimed: bool,
}

/// The invitations that are open.
pub struct Invites {
    tokens: Mutex<Vec<Token>>,
    limiter: LoginLimiter,
}

impl std::fmt::Debug for Invites {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invites").field("open", &self.tokens.lock().len()).finish_non_exhaustive()
    }
}

impl Default for Invites {
    fn default() -> Self {
        let rates = LoginLimits {
            account: BucketRate {
                burst: limits::PAIR_JOIN_ALL_BURST,
                refill_seconds: limits::PAIR_JOIN_ALL_REFILL_SECONDS,
            },
            address: BucketRate { burst: limits::PAIR_JOIN_BURST, refill_seconds: limits::PAIR_JOIN_REFILL_SECONDS },
            buckets_max: limits::PAIR_JOIN_BUCKETS_MAX,
        };
        Self { tokens: Mutex::default(), limiter: LoginLimiter::new(rates) }
    }
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenRefusal {
    /// Unknown, spent, expired, or for another kind: one answer for all, so that guessing learns nothing.
    Unknown,
    /// Too many wrong ones.
    Limited {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
}

impl Invites {
    /// Makes an invitation into the pair of `pki`, to be reached at `addresses`; valid for 15 minutes from `now_ms`.
    ///
    /// # Errors
    /// [`InviteError::TooMany`], [`InviteError::Addresses`], [`InviteError::NoRandomness`].
    pub fn invite(
        &self,
        pki: &PairPki,
        addresses: Vec<String>,
        (kind, now_ms): (PairMemberKind, u64),
    ) -> Result<Invitation, InviteError> {
        let fits = (1..=limits::PAIR_ADDRESSES_MAX).contains(&addresses.len());
        if !fits || !addresses.iter().all(|address| is_address(address)) {
            return Err(InviteError::Addresses);
        }
        let mut token = [0_u8; 32];
        getrandom::fill(&mut token).map_err(|error| InviteError::NoRandomness(error.to_string()))?;
        let expires_ms = now_ms + limits::PAIR_INVITE_MINUTES * 60_000;
        let mut tokens = self.tokens.lock();
        forget_expired(&mut tokens, now_ms);
        if tokens.len() >= limits::PAIR_INVITES_MAX {
            return Err(InviteError::TooMany);
        }
        tokens.push(Token { hash: hash(&token), open: OpenInvite { kind, expires_ms }, claimed: false });
        drop(tokens);
        let (ca_fingerprint, cluster) = (pki.ca_fingerprint(), pki.membership().cluster);
        Ok(Invitation { addresses, ca_fingerprint, token, expires_ms, kind, cluster })
    }

    /// The open ones, oldest first.
    #[must_use]
    pub fn open(&self, now_ms: u64) -> Vec<OpenInvite> {
        let mut tokens = self.tokens.lock();
        forget_expired(&mut tokens, now_ms);
        tokens.iter().map(|token| token.open).collect()
    }

    /// Ends all of them.
    pub fn revoke_all(&self) {
        self.tokens.lock().clear();
    }

    /// Takes a token for one attempt.
    pub(super) fn claim(
        self: &Arc<Self>,
        token: &[u8; 32],
        kind: PairMemberKind,
        (address, now_ms): (IpAddr, u64),
    ) -> Result<Claim, TokenRefusal> {
        if let LoginDecision::Limited { retry_after_seconds } = self.limiter.attempt(EVERYBODY, address, now_ms) {
            return Err(TokenRefusal::Limited { retry_after_seconds });
        }
        let wanted = hash(token);
        let mut tokens = self.tokens.lock();
        forget_expired(&mut tokens, now_ms);
        // All are compared, so that the time tells nothing of the place.
        let mut found = None;
        for token in tokens.iter_mut() {
            if token.hash == wanted {
                found = Some(token);
            }
        }
        match found {
            Some(token) if token.open.kind == kind && !token.claimed => {
                token.claimed = true;
                drop(tokens);
                self.limiter.abandoned(EVERYBODY, address, now_ms);
                Ok(Claim { invites: Arc::clone(self), hash: wanted })
            }
            _ => Err(TokenRefusal::Unknown),
        }
    }
}

/// A token in use. Dropped, it is as it was; spent, it is gone.
pub(super) struct Claim {
    invites: Arc<Invites>,
    hash: blake3::Hash,
}

impl Claim {
    /// The new member is in the log: the token opens nothing any more.
    pub(super) fn spend(self) {
        self.invites.tokens.lock().retain(|token| token.hash != self.hash);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(token) = self.invites.tokens.lock().iter_mut().find(|token| token.hash == self.hash) {
            token.claimed = false;
        }
    }
}

fn hash(token: &[u8; 32]) -> blake3::Hash {
    blake3::Hash::from_bytes(blake3::derive_key(TOKEN_CONTEXT, token))
}

fn forget_expired(tokens: &mut Vec<Token>, now_ms: u64) {
    tokens.retain(|token| now_ms < token.open.expires_ms);
}
