//! What is due at which target. Pure: settings, what the repositories hold and the clock in; jobs out. What was done is read
//! from the repositories, so that either node of a pair knows it, and what was missed is made up once.

use crate::backup::schedule::{Schedule, ScheduleError};
use crate::core::rows::{BackupSchedule, Backups, ScheduledKind};
use crate::limits::{BACKUP_CONTINUOUS_SECONDS, BACKUP_RETRY_SECONDS, BACKUP_RETRY_SECONDS_MAX};

/// What is known of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// When its newest full backup was begun, in Unix milliseconds; 0: it has none.
    pub full_ms: u64,
    /// The same of its newest backup of either kind.
    pub any_ms: u64,
    /// When this node last found that a full backup, or any, was not needed because nothing had changed.
    pub looked_ms: u64,
    /// When the newest drill of it was made, good or not; 0: never.
    pub drill_ms: u64,
    /// How often in a row this node failed there.
    pub failures: u32,
    /// When it last failed.
    pub failed_ms: u64,
}

impl Done {
    /// Until when the target is left alone after failures: twice as long each time, up to half an hour.
    #[must_use]
    pub(super) fn rests_until_ms(&self) -> u64 {
        if self.failures == 0 {
            return 0;
        }
        let doubled = BACKUP_RETRY_SECONDS.saturating_mul(1 << (self.failures - 1).min(16));
        self.failed_ms.saturating_add(doubled.min(BACKUP_RETRY_SECONDS_MAX) * 1_000)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// A full backup; else an incremental one.
    pub full: bool,
    /// The schedule that asks for it; empty: the continuous mode.
    pub schedule: String,
}

/// The schedules that count, with the time zone.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    schedules: Vec<(BackupSchedule, Schedule)>,
    drill: Option<Schedule>,
    continuous: bool,
    paused: bool,
    paused_until_ms: u64,
}

impl Plan {
    /// Reads the settings. A calendar that does not parse is left out and told.
    #[must_use]
    pub(super) fn new(settings: &Backups, zone: &str) -> (Self, Vec<ScheduleError>) {
        let mut wrong = Vec::new();
        let mut read = |calendar: &str| match Schedule::new(calendar, zone) {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                wrong.push(error);
                None
            }
        };
        let enabled = settings.schedules.iter().filter(|row| row.enabled);
        let schedules = enabled.filter_map(|row| Some((row.clone(), read(&row.calendar)?))).collect();
        let drill = (!settings.drill.is_empty()).then(|| read(&settings.drill)).flatten();
        let plan = Self {
            schedules,
            drill,
            continuous: settings.continuous,
            paused: settings.paused,
            paused_until_ms: settings.paused_until_ms,
        };
        (plan, wrong)
    }

    /// Whether nothing is made by itself now.
    #[must_use]
    pub(super) const fn is_paused(&self, now_ms: u64) -> bool {
        self.paused && (self.paused_until_ms == 0 || now_ms < self.paused_until_ms)
    }

    /// What is due at a target now: at most one backup, a full one before an incremental one.
    #[must_use]
    pub(super) fn due(&self, target: &str, done: &Done, now_ms: u64) -> Option<Due> {
        if self.is_paused(now_ms) || now_ms < done.rests_until_ms() {
            return None;
        }
        let ours =
            self.schedules.iter().filter(|(row, _)| row.targets.is_empty() || row.targets.iter().any(|t| t == target));
        let mut found: Option<Due> = None;
        for (row, schedule) in ours {
            let full = row.kind() == ScheduledKind::Full;
            let done_ms = if full { done.full_ms } else { done.any_ms.max(done.looked_ms) };
            // A target that has nothing gets its first backup at once.
            let due = done.any_ms == 0 || schedule.is_due(done_ms, now_ms);
            if due && (full || found.is_none()) {
                found = Some(Due { full, schedule: row.name.clone() });
            }
        }
        let continuous_at = done.any_ms.max(done.looked_ms) + BACKUP_CONTINUOUS_SECONDS * 1_000;
        if found.is_none() && self.continuous && now_ms >= continuous_at {
            return Some(Due { full: false, schedule: String::new() });
        }
        found
    }

    /// Whether a drill is due at a target that has backups.
    #[must_use]
    pub(super) fn drill_due(&self, done: &Done, now_ms: u64) -> bool {
        let resting = self.is_paused(now_ms) || now_ms < done.rests_until_ms();
        let Some(drill) = self.drill.as_ref().filter(|_| !resting && done.any_ms > 0) else { return false };
        // The first one comes at its time, not at once: it takes as long as a restore.
        drill.is_due(if done.drill_ms > 0 { done.drill_ms } else { done.any_ms }, now_ms)
    }

    /// The next moments of all schedules, in order: `(schedule, Unix milliseconds)`.
    #[must_use]
    pub(super) fn upcoming(&self, now_ms: u64, count: usize) -> Vec<(String, u64)> {
        let of = |(row, schedule): &(BackupSchedule, Schedule)| {
            let name = row.name.clone();
            schedule.upcoming(now_ms, count).into_iter().map(move |at| (name.clone(), at)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.schedules.iter().flat_map(of).collect();
        all.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    /// 2026-11-21T00:00:00Z.
    const DAY: u64 = 1_795_219_200_000;

    fn schedule(name: &str, calendar: &str, kind: ScheduledKind) -> BackupSchedule {
        let (name, calendar) = (name.to_owned(), calendar.to_owned());
        BackupSchedule { name, calendar, kind: kind.into(), targets: Vec::new(), enabled: true }
    }

    fn settings() -> Backups {
        Backups {
            schedules: vec![
                schedule("hours", "hourly", ScheduledKind::Incremental),
                schedule("nights", "daily 02:00", ScheduledKind::Full),
            ],
            ..Backups::default()
        }
    }

    fn plan(settings: &Backups) -> Plan {
        let (plan, wrong) = Plan::new(settings, "UTC");
        assert_eq!(wrong, []);
        plan
    }

    #[test]
    fn a_full_one_comes_before_an_incremental_one_and_missed_ones_are_made_up_once() {
        let plan = plan(&settings());
        let due = |done: &Done, at: u64| plan.due("disk", done, at).map(|due| due.full);
        let first = Done::default();
        assert_eq!(due(&first, DAY + 5), Some(true), "an empty target gets one at once");
        let done = Done { full_ms: DAY + HOUR, any_ms: DAY + HOUR, ..first };
        assert_eq!(due(&done, DAY + HOUR + 1), None);
        assert_eq!(due(&done, DAY + 2 * HOUR), Some(true), "both are due: the full one");
        let done = Done { full_ms: DAY + 2 * HOUR, any_ms: DAY + 2 * HOUR, ..first };
        assert_eq!(due(&done, DAY + 2 * HOUR + 1), None, "it counts for both");
        assert_eq!(due(&done, DAY + 3 * HOUR), Some(false));
        let looked = Done { looked_ms: DAY + 3 * HOUR + 1, ..done };
        assert_eq!(due(&looked, DAY + 3 * HOUR + 2), None, "nothing had changed");
        assert_eq!(due(&done, DAY + 24 * 9 * HOUR), Some(true), "nine days later");
    }

    #[test]
    fn a_target_that_fails_rests_longer_each_time_and_others_go_on() {
        let plan = plan(&settings());
        let failing = |failures| Done { failures, failed_ms: DAY, ..Done::default() };
        let rests = |failures| failing(failures).rests_until_ms().saturating_sub(DAY) / 1_000;
        assert_eq!([1, 2, 3].map(rests), [30, 60, 120]);
        assert_eq!(rests(40), BACKUP_RETRY_SECONDS_MAX);
        assert_eq!(plan.due("usb", &failing(1), DAY + 29_999), None);
        assert!(plan.due("usb", &failing(1), DAY + 30_000).is_some());
        assert!(plan.due("disk", &Done::default(), DAY + 1).is_some());
    }

    #[test]
    fn a_pause_holds_everything_until_it_ends() {
        let paused = Backups { paused: true, paused_until_ms: DAY + HOUR, ..settings() };
        let plan = plan(&paused);
        assert_eq!(plan.due("disk", &Done::default(), DAY), None);
        assert!(plan.due("disk", &Done::default(), DAY + HOUR).is_some());
        let (forever, _) = Plan::new(&Backups { paused_until_ms: 0, ..paused }, "UTC");
        assert_eq!(forever.due("disk", &Done::default(), DAY + 1_000 * HOUR), None);
    }

    #[test]
    fn schedules_name_their_targets_and_can_be_off() {
        let mut settings = settings();
        settings.schedules[0].targets = vec!["disk".to_owned()];
        settings.schedules[1].enabled = false;
        let plan = plan(&settings);
        assert!(plan.due("disk", &Done::default(), DAY).is_some());
        assert_eq!(plan.due("usb", &Done::default(), DAY), None);
    }

    #[test]
    fn the_continuous_mode_runs_every_minute() {
        let plan = plan(&Backups { continuous: true, ..Backups::default() });
        let done = Done { full_ms: DAY, any_ms: DAY, ..Done::default() };
        assert_eq!(plan.due("disk", &done, DAY + 59_999), None);
        assert_eq!(plan.due("disk", &done, DAY + 60_000), Some(Due { full: false, schedule: String::new() }));
        assert_eq!(plan.due("disk", &Done { looked_ms: DAY + 60_000, ..done }, DAY + 119_999), None);
    }

    #[test]
    fn drills_come_at_their_time() {
        let plan = plan(&Backups { drill: "weekly sun 04:00".to_owned(), ..Backups::default() });
        let sunday = DAY + 28 * HOUR; // 2026-11-22T04:00:00Z
        assert!(!plan.drill_due(&Done::default(), sunday), "nothing to restore");
        let backed_up = Done { any_ms: DAY, ..Done::default() };
        assert!(!plan.drill_due(&backed_up, sunday - 1) && plan.drill_due(&backed_up, sunday));
        assert!(!plan.drill_due(&Done { drill_ms: sunday, ..backed_up }, sunday + 24 * HOUR));
    }

    #[test]
    fn the_next_moments_of_all_schedules_come_in_order() {
        let next = plan(&settings()).upcoming(DAY, 4);
        let expected = [("hours", 1), ("hours", 2), ("nights", 2), ("hours", 3)];
        assert_eq!(next, expected.map(|(name, hours)| (name.to_owned(), DAY + hours * HOUR)));
    }

    proptest! {
        /// Whatever was down for however long: after a run nothing is due until the next moment.
        #[test]
        fn nothing_is_due_twice(down_hours in 0..5_000u64, minutes in 0..60u64) {
            let plan = plan(&settings());
            let done = Done { full_ms: DAY, any_ms: DAY, ..Done::default() };
            let mut now = DAY + down_hours * HOUR + minutes * 60_000;
            let mut done_now = done;
            let mut runs = 0;
            while let Some(due) = plan.due("disk", &done_now, now) {
                runs += 1;
                now += 1;
                done_now.any_ms = now;
                if due.full {
                    done_now.full_ms = now;
                }
            }
            prop_assert!(runs <= 2, "{runs}");
        }
    }
}
