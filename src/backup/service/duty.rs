//! Which node of a pair makes the backups. Pure. Must never say so to both: what they agreed on decides, and who takes over
//! waits longer than who gives up.

use crate::limits::{BACKUP_ACTIVE_HEARD_MS, BACKUP_LAG_RECORDS_MAX, BACKUP_TAKE_OVER_MS};
use crate::replication::PairStatus;

/// Who does the work, with the reason for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// This node.
    Here(&'static str),
    /// The other node, or nobody for the moment.
    Elsewhere(&'static str),
}

impl Duty {
    /// Whether it is this node.
    #[must_use]
    pub(super) const fn is_here(self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// Why.
    #[must_use]
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Here(reason) | Self::Elsewhere(reason) => reason,
        }
    }
}

/// What decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PairFacts {
    /// There is another data node.
    pub has_other: bool,
    /// This node is the active one.
    pub active: bool,
    /// Both nodes have agreed that the standby has everything.
    pub protected: bool,
    /// For how long they have not, in milliseconds.
    pub exposed_for_ms: u64,
    /// When the other data node was last heard, in milliseconds before now.
    pub heard_ms_ago: Option<u64>,
    /// How many records this node is behind.
    pub lag_records: u64,
    /// This node has room, and its state is that of the active.
    pub sound: bool,
}

impl PairFacts {
    /// From what the pair's part tells, at `now_ms`.
    #[must_use]
    pub(super) fn of(status: &PairStatus, now_ms: u64) -> Self {
        let other = status.members.iter().find(|member| !member.this && member.kind == "data");
        Self {
            has_other: other.is_some(),
            active: status.role == "active",
            protected: status.protected,
            exposed_for_ms: status.exposed_since_ms.map_or(0, |since| now_ms.saturating_sub(since)),
            heard_ms_ago: other.and_then(|other| other.heard_ms_ago),
            lag_records: status.lag_records,
            sound: status.has_room && !status.state_differs,
        }
    }

    /// Who does the work.
    #[must_use]
    pub(super) fn duty(&self) -> Duty {
        if !self.has_other {
            return if self.active {
                Duty::Here("this node is alone")
            } else {
                Duty::Elsewhere("this node is not active")
            };
        }
        if self.active {
            return self.of_active();
        }
        let heard = self.heard_ms_ago.is_some_and(|ms| ms <= BACKUP_ACTIVE_HEARD_MS);
        if !self.protected || !heard {
            return Duty::Elsewhere("this standby is not in step with the active node");
        }
        if !self.sound {
            return Duty::Elsewhere("this standby is not sound");
        }
        if self.lag_records > BACKUP_LAG_RECORDS_MAX {
            return Duty::Elsewhere("this standby is too far behind");
        }
        Duty::Here("this node is the standby and in step")
    }

    fn of_active(&self) -> Duty {
        // While nothing is written, a pair stays protected although the standby is gone.
        if self.heard_ms_ago.is_some_and(|ms| ms >= BACKUP_TAKE_OVER_MS) {
            return Duty::Here("the standby is silent");
        }
        if self.protected {
            return Duty::Elsewhere("the standby makes the backups");
        }
        if self.exposed_for_ms < BACKUP_TAKE_OVER_MS {
            return Duty::Elsewhere("the standby has just gone; this node takes over soon");
        }
        Duty::Here("there is no standby in step")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDBY: PairFacts = PairFacts {
        has_other: true,
        active: false,
        protected: true,
        exposed_for_ms: 0,
        heard_ms_ago: Some(100),
        lag_records: 3,
        sound: true,
    };
    const ACTIVE: PairFacts = PairFacts { active: true, ..STANDBY };

    #[test]
    fn the_standby_works_while_it_is_in_step_and_sound() {
        assert!(STANDBY.duty().is_here() && !ACTIVE.duty().is_here());
        for unfit in [
            PairFacts { protected: false, ..STANDBY },
            PairFacts { heard_ms_ago: None, ..STANDBY },
            PairFacts { heard_ms_ago: Some(BACKUP_ACTIVE_HEARD_MS + 1), ..STANDBY },
            PairFacts { sound: false, ..STANDBY },
            PairFacts { lag_records: BACKUP_LAG_RECORDS_MAX + 1, ..STANDBY },
        ] {
            assert!(!unfit.duty().is_here(), "{unfit:?}");
        }
    }

    #[test]
    fn the_active_takes_over_later_than_the_standby_gives_up() {
        let gone = |exposed_for_ms| PairFacts { protected: false, exposed_for_ms, ..ACTIVE };
        assert!(!gone(BACKUP_ACTIVE_HEARD_MS + 1).duty().is_here());
        assert!(gone(BACKUP_TAKE_OVER_MS).duty().is_here());
        assert!(PairFacts { heard_ms_ago: Some(BACKUP_TAKE_OVER_MS), ..ACTIVE }.duty().is_here(), "nothing is written");
        const { assert!(BACKUP_TAKE_OVER_MS > BACKUP_ACTIVE_HEARD_MS) };
        assert!(PairFacts { has_other: false, active: true, ..PairFacts::default() }.duty().is_here());
    }
}
