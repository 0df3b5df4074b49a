//! The timings of the pair, and two choices of the operator. Never anything that safety rests on.

use crate::limits;

/// How long the protocol waits for what, in milliseconds, and what the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Settings {
    /// Between two heartbeats.
    pub heartbeat_ms: u64,
    /// Silence of the active after which a standby stands for election.
    pub fail_after_ms: u64,
    /// How long a record waits for the standby before the active asks to acknowledge alone.
    pub solo_after_ms: u64,
    /// Silence of both others after which an active with a witness calls itself isolated.
    pub lease_ms: u64,
    /// Without a witness: silence of the peer after which a standby promotes itself.
    pub promote_after_ms: u64,
    /// How long writes are held for a planned switchover before the active goes on.
    pub switchover_ms: u64,
    /// Without a witness: whether a standby may promote itself.
    pub auto_promote: bool,
    /// Whether a reference address is configured: any host that is always on.
    pub reference: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: limits::PAIR_HEARTBEAT_MS,
            fail_after_ms: limits::PAIR_FAIL_AFTER_MS,
            solo_after_ms: limits::PAIR_SOLO_AFTER_MS,
            lease_ms: limits::PAIR_LEASE_MS,
            promote_after_ms: limits::PAIR_PROMOTE_AFTER_MS,
            switchover_ms: limits::PAIR_SWITCHOVER_MS,
            auto_promote: true,
            reference: false,
        }
    }
}
