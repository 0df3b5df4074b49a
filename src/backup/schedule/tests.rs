//! Calendars by example, where the clocks change, and as properties over nine zones.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond() as u64
}

/// The next moments as text in the zone.
fn shown(calendar: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::new(calendar, zone).unwrap();
    let zone = TimeZone::get(zone).unwrap();
    let text = |at: u64| {
        let at = Timestamp::from_millisecond(at as i64).unwrap().to_zoned(zone.clone());
        at.strftime("%Y-%m-%d %H:%M %:z").to_string()
    };
    schedule.upcoming(ms(after), count).into_iter().map(text).collect()
}

#[test]
fn presets_mean_what_they_say() {
    let after = "2026-11-21T13:40:00Z";
    assert_eq!(shown("hourly", "UTC", after, 2), ["2026-11-21 14:00 +00:00", "2026-11-21 15:00 +00:00"]);
    assert_eq!(shown("hourly :45", "UTC", after, 1), ["2026-11-21 13:45 +00:00"]);
    let shanghai = shown("daily 02:00", "Asia/Shanghai", after, 2);
    assert_eq!(shanghai, ["2026-11-22 02:00 +08:00", "2026-11-23 02:00 +08:00"]);
    assert_eq!(shown("daily", "Asia/Shanghai", after, 2), shanghai);
    assert_eq!(shown("weekly sun 02:00", "UTC", after, 2), ["2026-11-22 02:00 +00:00", "2026-11-29 02:00 +00:00"]);
    assert_eq!(shown("monthly 1 02:00", "UTC", after, 2), ["2026-12-01 02:00 +00:00", "2027-01-01 02:00 +00:00"]);
    assert_eq!(shown("monthly 31 02:00", "UTC", after, 2), ["2026-12-31 02:00 +00:00", "2027-01-31 02:00 +00:00"]);
}

#[test]
fn cron_means_what_cron_means() {
    let after = "2026-11-21T13:40:00Z";
    let workdays = shown("30 2 * * mon-fri", "UTC", after, 6);
    assert_eq!(workdays[0], "2026-11-23 02:30 +00:00");
    assert_eq!(workdays[5], "2026-11-30 02:30 +00:00");
    assert_eq!(shown("*/20 8-9 * * 7", "UTC", after, 2), ["2026-11-22 08:00 +00:00", "2026-11-22 08:20 +00:00"]);
    // Both kinds of day: either.
    let either = shown("0 0 13 * fri", "UTC", "2026-11-21T00:00:00Z", 4);
    let days: Vec<&str> = either.iter().map(|text| &text[..10]).collect();
    assert_eq!(days, ["2026-11-27", "2026-12-04", "2026-12-11", "2026-12-13"]);
    assert_eq!(shown("0 0 29 2 *", "UTC", after, 2), ["2028-02-29 00:00 +00:00", "2032-02-29 00:00 +00:00"]);
    assert_eq!(shown("0 0 30 2 *", "UTC", after, 1), [""; 0]);
}

#[test]
fn a_skipped_moment_happens_when_the_clocks_go_on() {
    // Berlin, 29 March 2026: 02:00 to 03:00 does not exist.
    let daily = shown("daily 02:30", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
    assert_eq!(daily, ["2026-03-29 03:30 +02:00", "2026-03-30 02:30 +02:00"]);
    let hourly = shown("hourly", "Europe/Berlin", "2026-03-29T00:30:00Z", 3);
    assert_eq!(hourly, ["2026-03-29 03:00 +02:00", "2026-03-29 04:00 +02:00", "2026-03-29 05:00 +02:00"]);
    // Two moments that fall together happen once.
    let both = shown("30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
    assert_eq!(both, ["2026-03-29 03:30 +02:00", "2026-03-30 02:30 +02:00"]);
    // Samoa had no 30 December 2011 at all.
    let samoa = shown("daily 02:00", "Pacific/Apia", "2011-12-29T20:00:00Z", 2);
    assert_eq!(samoa, ["2011-12-31 02:00 +14:00", "2012-01-01 02:00 +14:00"]);
}

#[test]
fn a_moment_that_comes_twice_happens_once_but_every_hour_is_every_hour() {
    // Berlin, 25 October 2026: 02:00 to 03:00 comes twice.
    let daily = shown("daily 02:30", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(daily, ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]);
    let hourly = shown("hourly", "Europe/Berlin", "2026-10-24T23:30:00Z", 4);
    assert_eq!(
        hourly,
        ["2026-10-25 02:00 +02:00", "2026-10-25 02:00 +01:00", "2026-10-25 03:00 +01:00", "2026-10-25 04:00 +01:00"]
    );
}

#[test]
fn missed_moments_are_made_up_once() {
    let schedule = Schedule::new("daily 02:00", "UTC").unwrap();
    let done = ms("2026-11-01T02:00:30Z");
    assert!(!schedule.is_due(done, ms("2026-11-02T01:59:59Z")));
    assert!(schedule.is_due(done, ms("2026-11-02T02:00:00Z")));
    let now = ms("2026-11-09T15:00:00Z");
    assert!(schedule.is_due(done, now), "the node was down for a week");
    assert!(!schedule.is_due(now, now + 1_000), "once");
    assert!(!schedule.is_due(now, ms("2026-11-10T01:59:59Z")) && schedule.is_due(now, ms("2026-11-10T02:00:00Z")));
}

#[test]
fn what_is_no_calendar_is_refused_with_what_is() {
    for bad in [
        "",
        "never",
        "daily 2",
        "daily 24:00",
        "daily 02:60",
        "hourly 15",
        "weekly 02:00",
        "weekly fun 02:00",
        "monthly 32 02:00",
        "* * * *",
        "60 * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "+5 * * * *",
        "* * * * * *",
    ] {
        let error = Schedule::new(bad, "UTC").unwrap_err();
        assert_eq!(error.code(), "backup_calendar_invalid", "{bad:?}");
    }
    assert_eq!(Schedule::new("daily", "Mars/Base").unwrap_err().code(), "time_zone_unknown");
    assert!(Schedule::new("nonsense", "UTC").unwrap_err().to_string().contains("daily 02:00"));
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Asia/Shanghai",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Africa/Casablanca",
    ])
}

proptest! {
    /// Whatever the zone does to its clocks, `daily` happens once for each day that there is.
    #[test]
    fn a_daily_moment_happens_once_a_day(zone in zones(), hour in 0..24u8, minute in 0..60u8, day in 0..8_000u64) {
        let after = ms("2005-01-01T00:00:00Z") + day * 86_400_000;
        let schedule = Schedule::new(&format!("daily {hour:02}:{minute:02}"), zone).unwrap();
        let found = schedule.upcoming(after, 10);
        prop_assert_eq!(found.len(), 10);
        for pair in found.windows(2) {
            let hours = (pair[1] - pair[0]) / 3_600_000;
            prop_assert!((22..=26).contains(&hours), "{hours} hours in {zone}");
        }
    }

    /// The moments rise, are what the clock shows, and `hourly` is never more than an hour and a half away.
    #[test]
    fn moments_rise_and_hourly_is_every_hour(zone in zones(), minute in 0..60u8, hours in 0..190_000u64) {
        let after = ms("2005-01-01T00:00:00Z") + hours * 3_600_000;
        let schedule = Schedule::new(&format!("hourly :{minute:02}"), zone).unwrap();
        let mut last = after;
        for at in schedule.upcoming(after, 30) {
            prop_assert!(at > last);
            prop_assert!(at - last <= 90 * 60_000, "{} minutes in {zone}", (at - last) / 60_000);
            last = at;
        }
    }

    /// `next_after` gives the first: between a moment and the next there is none.
    #[test]
    fn nothing_lies_between_a_moment_and_the_next(
        zone in zones(),
        (minute, hour, day, weekday) in (0..60u8, 0..24u8, 1..29u8, 0..8u8),
        (at, part) in (0..8_000u64, 0..1_000u64),
    ) {
        let after = ms("2005-01-01T00:00:00Z") + at * 86_400_000;
        let schedule = Schedule::new(&format!("{minute} {hour} {day} * {weekday}"), zone).unwrap();
        let next = schedule.next_after(after).unwrap();
        prop_assert!(next > after);
        let between = after + (next - after - 1) * part / 1_000;
        prop_assert_eq!(schedule.next_after(between), Some(next));
    }

    #[test]
    fn any_text_is_a_calendar_or_refused(text in "[a-z0-9*/,: -]{0,30}") {
        if let Ok(schedule) = Schedule::new(&text, "Europe/Berlin") {
            drop(schedule.upcoming(ms("2026-11-21T00:00:00Z"), 2));
        }
    }
}
