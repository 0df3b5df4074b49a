//! When a snapshot is due, and how far the log may be trimmed. Pure. Must never give away what a rebuild, a rewind or the other
//! node would need.

use crate::limits::{LOG_KEPT_RECORDS, SNAPSHOT_EVERY_MS, SNAPSHOT_LOG_BYTES, SNAPSHOT_RECORDS_MIN};

/// What decides whether a snapshot is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Since {
    /// Records since the newest snapshot.
    pub(super) records: u64,
    /// Bytes of the log that hold them, about.
    pub(super) bytes: u64,
    /// How old it is, in milliseconds.
    pub(super) age_ms: u64,
}

/// Whether a snapshot is due: after much log soon, after some of it once a day.
pub(super) const fn is_snapshot_due(since: &Since) -> bool {
    since.bytes >= SNAPSHOT_LOG_BYTES || (since.records >= SNAPSHOT_RECORDS_MIN && since.age_ms >= SNAPSHOT_EVERY_MS)
}

/// What decides how far the log is trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The log's first index.
    pub(super) first: u64,
    /// The verified local snapshots, ascending.
    pub(super) snapshots: Vec<u64>,
    /// Up to where the other data node is known to have the log; `None`: there is no other, or this is the standby.
    pub(super) standby: Option<u64>,
    /// Up to where every enabled backup target has it; `None`: there is no target.
    pub(super) backups: Option<u64>,
    /// The disk comes near its reserve.
    pub(super) pressed: bool,
}

/// How far to trim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trim {
    /// Records below this index may go; `None`: nothing may.
    pub(super) below: Option<u64>,
    /// Backups had not got all of it, and the disk left no choice.
    pub(super) ahead_of_backups: bool,
}

/// Decides. A rebuild begins from the newest snapshot but one, so that a damaged one does no harm; a rewind, from one that
/// the other node is not behind of.
pub(super) fn trim(facts: &Facts) -> Trim {
    let mut usable = facts.snapshots.iter().rev().skip(1);
    let has = facts.standby.unwrap_or(u64::MAX);
    let Some(base) = usable.find(|index| **index <= has) else { return Trim::default() };
    // Some more than the standby lacks: it compares positions before its end when it returns.
    let below = (base + 1).min(has.saturating_sub(LOG_KEPT_RECORDS));
    let shipped = facts.backups.map_or(below, |index| below.min(index.saturating_add(1)));
    let ahead_of_backups = facts.pressed && shipped < below;
    let below = if facts.pressed { below } else { shipped };
    Trim { below: (below > facts.first).then_some(below), ahead_of_backups }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> Facts {
        Facts { first: 1, snapshots: vec![100_000, 200_000], ..Facts::default() }
    }

    fn below(facts: &Facts) -> Option<u64> {
        trim(facts).below
    }

    #[test]
    fn snapshots_are_made_daily_and_after_much_log() {
        let day = Since { records: SNAPSHOT_RECORDS_MIN, bytes: 1, age_ms: SNAPSHOT_EVERY_MS };
        assert!(is_snapshot_due(&day));
        assert!(!is_snapshot_due(&Since { records: SNAPSHOT_RECORDS_MIN - 1, ..day }), "an idle server");
        assert!(!is_snapshot_due(&Since { age_ms: SNAPSHOT_EVERY_MS - 1, ..day }));
        assert!(is_snapshot_due(&Since { records: 1, bytes: SNAPSHOT_LOG_BYTES, age_ms: 0 }));
    }

    #[test]
    fn everything_from_the_newest_snapshot_but_one_stays() {
        assert_eq!(below(&facts()), Some(100_001));
        assert_eq!(below(&Facts { snapshots: vec![200_000], ..facts() }), None);
        assert_eq!(below(&Facts { first: 100_001, ..facts() }), None, "done already");
    }

    #[test]
    fn a_standby_that_is_away_keeps_what_it_lacks_and_a_snapshot_to_rewind_to() {
        let behind = |standby| Facts { standby: Some(standby), ..facts() };
        assert_eq!(below(&behind(0)), None);
        assert_eq!(below(&behind(99_999)), None, "no snapshot before its end");
        assert_eq!(below(&behind(100_000)), Some(100_000 - LOG_KEPT_RECORDS));
        assert_eq!(below(&behind(300_000)), Some(100_001));
        let three = Facts { snapshots: vec![50_000, 100_000, 200_000], ..behind(60_000) };
        assert_eq!(below(&three), Some(50_000.min(60_000 - LOG_KEPT_RECORDS) + u64::from(LOG_KEPT_RECORDS < 10_000)));
    }

    #[test]
    fn backups_hold_the_log_until_the_disk_is_nearly_full() {
        let waiting = Facts { backups: Some(5_000), ..facts() };
        assert_eq!(trim(&waiting), Trim { below: Some(5_001), ahead_of_backups: false });
        assert_eq!(below(&Facts { backups: Some(0), ..facts() }), None, "a target without any backup");
        let pressed = Facts { pressed: true, ..waiting };
        assert_eq!(trim(&pressed), Trim { below: Some(100_001), ahead_of_backups: true });
        let away = Facts { standby: Some(100_000), ..pressed };
        assert_eq!(below(&away), Some(100_000 - LOG_KEPT_RECORDS), "the standby is not given up");
        assert!(!trim(&Facts { backups: Some(300_000), pressed: true, ..facts() }).ahead_of_backups);
    }

    proptest! {
        /// Whatever happens: a snapshot with a newer one behind it, not beyond what the standby has, and all records after it.
        #[test]
        fn a_way_back_always_stays(
            mut snapshots in prop::collection::vec(1..1_000_000_u64, 0..5),
            standby in prop::option::of(0..1_000_000_u64),
            backups in prop::option::of(0..1_000_000_u64),
            (first, pressed) in (1..1_000_000_u64, any::<bool>()),
        ) {
            snapshots.sort_unstable();
            snapshots.dedup();
            let facts = Facts { first, snapshots: snapshots.clone(), standby, backups, pressed };
            if let Some(below) = below(&facts) {
                let newest = *snapshots.last().unwrap();
                let fits = |index: u64| index < newest && standby.is_none_or(|has| index <= has) && index + 1 >= below;
                prop_assert!(snapshots.iter().any(|index| fits(*index)));
                prop_assert!(standby.is_none_or(|has| below <= has));
                prop_assert!(pressed || backups.is_none_or(|index| below <= index + 1));
            }
        }
    }
}
