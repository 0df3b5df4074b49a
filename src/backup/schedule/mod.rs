//! When something is due: calendars in a time zone. Pure: the clock is an argument, the database of time zones is in the
//! binary. Must never run a missed moment more than once, and never skip a day because the clocks were changed.

mod calendar;

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use calendar::Calendar;

/// Why a calendar or a time zone is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The text is no calendar; with what is expected.
    Calendar(String),
    /// No such time zone.
    TimeZone(String),
}

impl ScheduleError {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Calendar(_) => "backup_calendar_invalid",
            Self::TimeZone(_) => "time_zone_unknown",
        }
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar(why) => f.write_str(why),
            Self::TimeZone(name) => write!(f, "there is no time zone {:?}", name),
        }
    }
}

impl std::error::Error for ScheduleError {}

/// A calendar in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    calendar: Calendar,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a calendar (see [`Calendar`]) in an IANA time zone.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn new(calendar: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone = TimeZone::get(zone).map_err(|_| ScheduleError::TimeZone(zone.to_owned()))?;
        Ok(Self { calendar: calendar.parse()?, zone })
    }

    /// The first moment after `after_ms`, both in Unix milliseconds. `None` when there is none within eight years: 30
    /// February.
    #[must_use]
    pub fn next_after(&self, after_ms: u64) -> Option<u64> {
        let after = Timestamp::from_millisecond(i64::try_from(after_ms).ok()?).ok()?;
        let next = self.calendar.next_after(after, &self.zone)?;
        u64::try_from(next.as_millisecond()).ok()
    }

    /// The next `count` moments after `after_ms`.
    #[must_use]
    pub fn upcoming(&self, after_ms: u64, count: usize) -> Vec<u64> {
        std::iter::successors(self.next_after(after_ms), |last| self.next_after(*last)).take(count).collect()
    }

    /// Whether a moment has come since `done_ms`, when it was last done. However many were missed, it is due once.
    #[must_use]
    pub fn is_due(&self, done_ms: u64, now_ms: u64) -> bool {
        self.next_after(done_ms).is_some_and(|next| next <= now_ms)
    }
}

#[cfg(test)]
mod tests;
