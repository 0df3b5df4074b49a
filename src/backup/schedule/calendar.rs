//! A calendar: which minutes of which days. `hourly`, `hourly :15`, `daily 02:00`, `weekly sun 02:00`, `monthly 1 02:00`, or
//! the five fields of cron (`minute hour day-of-month month day-of-week`).
//!
//! - A moment that the clocks skip happens when they go on: 02:30 becomes 03:30 on that day.
//! - A moment that the clocks show twice happens the first time; what happens every hour happens in both.

use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

use super::ScheduleError;

/// A set of small numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set(u64);

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.0 & (1 << number) != 0)
    }
}

/// Which minutes of which days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    /// Cron's rule: when both kinds of day are given, either is enough.
    either_day: bool,
}

/// A field of cron: its name and bounds.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    words: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, words: &[] };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, words: &[] };
const DAY: Field = Field { name: "day of the month", low: 1, high: 31, words: &[] };
const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 7 is Sunday too.
const WEEKDAY: Field =
    Field { name: "day of the week", low: 0, high: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// What a calendar looks like, for people.
const EXPECTED: &str = "write hourly, hourly :15, daily 02:00, weekly sun 02:00, monthly 1 02:00, or five fields of cron such as \
                        \"30 2 * * mon-fri\"";

fn wrong(text: &str) -> ScheduleError {
    ScheduleError::Calendar(format!("{text:?} is no calendar: {EXPECTED}"))
}

impl Field {
    fn error(self, text: &str) -> ScheduleError {
        ScheduleError::Calendar(format!("{text:?} is no {}: {} to {}", self.name, self.low, self.high))
    }

    /// `*`, `5`, `1-5`, `*/15`, `mon-fri`, and lists of these.
    fn parse(self, text: &str) -> Result<Set, ScheduleError> {
        text.split(',').try_fold(Set(0), |set, part| Ok(Set(set.0 | self.part(part)?.0)))
    }

    fn part(self, text: &str) -> Result<Set, ScheduleError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, step.parse::<u8>().map_err(|_| self.error(text))?),
            None => (text, 1),
        };
        if step == 0 {
            return Err(self.error(text));
        }
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.low, self.high),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if text.contains('/') => (self.number(range)?, self.high),
            None => (self.number(range)?, self.number(range)?),
        };
        if first > last {
            return Err(self.error(text));
        }
        Ok(Set((first..=last).step_by(step.into()).fold(0, |set, number| set | 1 << number)))
    }

    fn number(self, text: &str) -> Result<u8, ScheduleError> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.words.iter().position(|word| *word == lower) {
            return Ok(self.low + at as u8);
        }
        // `+5` is a number for Rust, not for cron.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (self.low..=self.high).contains(number));
        number.ok_or_else(|| self.error(text))
    }
}

/// `02:30`
fn time(text: &str) -> Result<(u8, u8), ScheduleError> {
    let (hour, minute) = text.split_once(':').ok_or_else(|| wrong(text))?;
    Ok((HOUR.number(hour)?, MINUTE.number(minute)?))
}

impl FromStr for Calendar {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let cron =
            |minute: u8, hour: &str, days: (&str, &str)| Self::cron([&minute.to_string(), hour, days.0, "*", days.1]);
        let at = |at: &str, days| time(at).and_then(|(hour, minute)| cron(minute, &hour.to_string(), days));
        match fields.as_slice() {
            ["hourly"] => cron(0, "*", ("*", "*")),
            ["hourly", minute] => {
                let minute = minute.strip_prefix(':').ok_or_else(|| wrong(text))?;
                cron(MINUTE.number(minute)?, "*", ("*", "*"))
            }
            ["daily"] => at("02:00", ("*", "*")),
            ["daily", time] => at(time, ("*", "*")),
            ["weekly"] => at("02:00", ("*", "sun")),
            ["weekly", day, time] => at(time, ("*", day)),
            ["monthly"] => at("02:00", ("1", "*")),
            ["monthly", day, time] => at(time, (day, "*")),
            [minute, hour, day, month, weekday] => Self::cron([minute, hour, day, month, weekday]),
            _ => Err(wrong(text)),
        }
    }
}

impl Calendar {
    fn cron([minute, hour, day, month, weekday]: [&str; 5]) -> Result<Self, ScheduleError> {
        let mut weekdays = WEEKDAY.parse(weekday)?;
        weekdays.0 |= (weekdays.0 >> 7) & 1;
        Ok(Self {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        self.months.has(date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    fn is_hourly(&self) -> bool {
        self.hours.0 == (1 << 24) - 1
    }

    /// The first moment after `after`.
    pub(super) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = after.to_zoned(zone.clone()).date();
        // A moment of yesterday that the clocks skipped may happen today.
        let mut date = today.checked_sub(1.day()).unwrap_or(today);
        let last = today.checked_add(YEARS_AHEAD.years()).ok()?;
        while date <= last {
            let next = date.checked_add(1.day()).ok()?;
            let found = self.first_of(date, after, zone);
            if found.is_some() {
                // A skipped moment of this day may come after one of the next.
                return found.into_iter().chain(self.first_of(next, after, zone)).min();
            }
            date = next;
        }
        None
    }

    /// The first moment of a day that is after `after`.
    fn first_of(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.has_day(date) {
            return None;
        }
        let hours = (0..24).filter(|hour| self.hours.has(*hour));
        let times = hours.flat_map(|hour| (0..60).filter(|minute| self.minutes.has(*minute)).map(move |m| (hour, m)));
        times
            .flat_map(|(hour, minute)| self.moments(date, Time::constant(hour, minute, 0, 0), zone))
            .filter(|at| *at > after)
            .min()
    }

    /// When a clock in the zone shows this: never, once or twice.
    fn moments(&self, date: Date, time: Time, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
        let found = zone.to_ambiguous_timestamp(date.to_datetime(time));
        let twice = matches!(found.offset(), AmbiguousOffset::Fold { .. }) && self.is_hourly();
        let second = if twice { found.later().ok() } else { None };
        found.compatible().ok().into_iter().chain(second)
    }
}

/// 29 February comes after at most eight years.
const YEARS_AHEAD: i64 = 8;
