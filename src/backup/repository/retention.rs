//! Which backups stay and why. A pure function of what is there, the policy, and a time zone. Must never let go the newest
//! backup, the newest that a drill proved, a pinned one, or one that a kept one rests on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::manifest::BackupKind;
use super::Listed;

/// How many stay. Of hours, days, weeks and months the newest backup of each of the last so many that have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The last so many, whatever their time.
    pub last: u32,
    /// Hours.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// Weeks, from Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

/// A backup, as far as retention looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// When it was begun, in Unix milliseconds.
    pub at_ms: u64,
    /// Somebody pinned it.
    pub pinned: bool,
    /// A drill of it went well.
    pub drilled: bool,
    /// The backup that it needs to be restored; `None` for a full one.
    pub rests_on: Option<String>,
    /// Its manifest cannot be read: nobody knows what it is.
    pub unreadable: bool,
}

impl From<&Listed> for Candidate {
    fn from(listed: &Listed) -> Self {
        let manifest = listed.manifest.as_ref().ok();
        let incremental = manifest.filter(|manifest| manifest.kind == BackupKind::Incremental);
        Self {
            name: listed.name.clone(),
            at_ms: manifest.map_or(0, |manifest| manifest.started_ms),
            pinned: listed.pinned,
            drilled: listed.drilled,
            rests_on: incremental.and_then(|manifest| Some(manifest.previous.as_ref()?.name.clone())),
            unreadable: manifest.is_none(),
        }
    }
}

/// What becomes of a backup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Decision {
    /// Its name.
    pub name: String,
    /// Whether it stays.
    pub keep: bool,
    /// Why, for people.
    pub reason: String,
}

/// Decides for each of `candidates`, which are sorted by name, the oldest first.
#[must_use]
pub fn retention(candidates: &[Candidate], policy: &Policy, zone: &TimeZone) -> Vec<Decision> {
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); candidates.len()];
    if let Some(newest) = reasons.last_mut() {
        newest.push("it is the newest".to_owned());
    }
    if let Some(proven) = candidates.iter().rposition(|candidate| candidate.drilled) {
        reasons[proven].push("it is the newest that a drill restored".to_owned());
    }
    for (candidate, why) in candidates.iter().zip(&mut reasons) {
        if candidate.pinned {
            why.push("it is pinned".to_owned());
        }
        if candidate.unreadable {
            why.push("its manifest cannot be read: look at it first".to_owned());
        }
    }
    let readable = || candidates.iter().enumerate().rev().filter(|(_, candidate)| !candidate.unreadable);
    for (number, (place, _)) in readable().take(policy.last as usize).enumerate() {
        reasons[place].push(format!("it is one of the last {} (number {})", policy.last, number + 1));
    }
    for period in [Period::Hour, Period::Day, Period::Week, Period::Month] {
        let mut seen = BTreeSet::new();
        for (place, candidate) in readable() {
            let name = period.of(candidate.at_ms, zone);
            if seen.len() < period.count(policy) as usize && seen.insert(name.clone()) {
                reasons[place].push(format!("it is the last of {} {name}", period.noun()));
            }
        }
    }
    close(candidates, &mut reasons);
    let removed = || "no rule keeps it: see the settings for how many of each kind stay".to_owned();
    let decide = |(candidate, why): (&Candidate, Vec<String>)| Decision {
        name: candidate.name.clone(),
        keep: !why.is_empty(),
        reason: if why.is_empty() { removed() } else { why.join("; ") },
    };
    candidates.iter().zip(reasons).map(decide).collect()
}

/// Keeps all that a kept backup rests on.
fn close(candidates: &[Candidate], reasons: &mut [Vec<String>]) {
    let places: BTreeMap<&str, usize> =
        candidates.iter().enumerate().map(|(place, candidate)| (candidate.name.as_str(), place)).collect();
    // Newest first: what a backup rests on is older, so one pass sees everything after it was decided.
    for place in (0..candidates.len()).rev().filter(|place| *place > 0) {
        if reasons[place].is_empty() {
            continue;
        }
        let Candidate { name, rests_on, unreadable, .. } = &candidates[place];
        if *unreadable {
            // What it rests on is not known: as likely as not the one before.
            reasons[place - 1].push(format!("{name} may rest on it"));
        } else if let Some(below) = rests_on.as_deref().and_then(|below| places.get(below)).filter(|at| **at < place) {
            reasons[*below].push(format!("{name} rests on it"));
        }
    }
}

#[derive(Clone, Copy)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
}

impl Period {
    const fn count(self, policy: &Policy) -> u32 {
        match self {
            Self::Hour => policy.hourly,
            Self::Day => policy.daily,
            Self::Week => policy.weekly,
            Self::Month => policy.monthly,
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Hour => "the hour",
            Self::Day => "the day",
            Self::Week => "the week",
            Self::Month => "the month",
        }
    }

    /// The name of the period that holds a time.
    fn of(self, at_ms: u64, zone: &TimeZone) -> String {
        let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        let at = at.to_zoned(zone.clone());
        match self {
            // With the offset: when clocks go back there are two hours of the same name.
            Self::Hour => at.strftime("%Y-%m-%d %H:00 %:z").to_string(),
            Self::Day => at.strftime("%Y-%m-%d").to_string(),
            Self::Week => {
                let week = at.date().iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Self::Month => at.strftime("%Y-%m").to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A backup every so many minutes; every tenth is a full one.
    fn series(count: usize, minutes: u64) -> Vec<Candidate> {
        let name = |place: usize| format!("{place:06}");
        let one = |place: usize| Candidate {
            name: name(place),
            at_ms: 1_790_000_000_000 + place as u64 * minutes * 60_000,
            pinned: false,
            drilled: false,
            rests_on: (!place.is_multiple_of(10)).then(|| name(place - 1)),
            unreadable: false,
        };
        (0..count).map(one).collect()
    }

    fn kept(candidates: &[Candidate], policy: &Policy, zone: &TimeZone) -> Vec<String> {
        retention(candidates, policy, zone).into_iter().filter(|it| it.keep).map(|it| it.name).collect()
    }

    #[test]
    fn the_newest_of_each_period_in_the_zone_of_the_settings_stays() {
        let mut daily = series(30, 12 * 60);
        for candidate in &mut daily {
            candidate.rests_on = None;
        }
        let policy = Policy { daily: 3, monthly: 2, ..Policy::default() };
        // From 2026-09-21T14:13:20Z on every twelve hours: at 02:13 and 14:13 UTC, at 12:13 and 00:13 in Brisbane.
        assert_eq!(kept(&daily, &policy, &TimeZone::UTC), ["000018", "000026", "000028", "000029"]);
        let brisbane = TimeZone::fixed(jiff::tz::offset(10));
        assert_eq!(kept(&daily, &policy, &brisbane), ["000017", "000025", "000027", "000029"]);
    }

    #[test]
    fn every_decision_says_why() {
        let mut some = series(12, 60);
        some[3].pinned = true;
        some[5].drilled = true;
        let decisions = retention(&some, &Policy { last: 1, ..Policy::default() }, &TimeZone::UTC);
        let text: Vec<String> = decisions.iter().map(|it| format!("{} {} {}", it.name, it.keep, it.reason)).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        000000 true 000001 rests on it
        000001 true 000002 rests on it
        000002 true 000003 rests on it
        000003 true it is pinned; 000004 rests on it
        000004 true 000005 rests on it
        000005 true it is the newest that a drill restored
        000006 false no rule keeps it: see the settings for how many of each kind stay
        000007 false no rule keeps it: see the settings for how many of each kind stay
        000008 false no rule keeps it: see the settings for how many of each kind stay
        000009 false no rule keeps it: see the settings for how many of each kind stay
        000010 true 000011 rests on it
        000011 true it is the newest; it is one of the last 1 (number 1)
        ");
    }

    #[test]
    fn the_hour_that_comes_twice_is_two_hours() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at: Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
        let (first, second) = (at.as_millisecond() as u64, at.as_millisecond() as u64 + 3_600_000);
        assert_ne!(Period::Hour.of(first, &zone), Period::Hour.of(second, &zone));
        assert_eq!(Period::Day.of(first, &zone), Period::Day.of(second, &zone));
    }

    proptest! {
        #[test]
        fn what_must_stay_stays(
            count in 1_usize..80,
            minutes in 1_u64..3_000,
            marks in prop::collection::vec(any::<(bool, bool, bool)>(), 80),
            counts in any::<[u8; 5]>(),
        ) {
            let mut candidates = series(count, minutes);
            for (candidate, (pinned, drilled, unreadable)) in candidates.iter_mut().zip(&marks) {
                (candidate.pinned, candidate.drilled) = (*pinned && *drilled, *drilled);
                candidate.unreadable = *unreadable && *pinned;
            }
            let [last, hourly, daily, weekly, monthly] = counts.map(|count| u32::from(count % 8));
            let policy = Policy { last, hourly, daily, weekly, monthly };
            let decisions = retention(&candidates, &policy, &TimeZone::UTC);
            let keeps = |place: usize| decisions[place].keep;
            prop_assert!(keeps(count - 1), "the newest");
            if let Some(proven) = candidates.iter().rposition(|it| it.drilled) {
                prop_assert!(keeps(proven), "the newest drilled");
            }
            for (place, candidate) in candidates.iter().enumerate() {
                prop_assert!(!decisions[place].reason.is_empty());
                prop_assert!(keeps(place) || !(candidate.pinned || candidate.unreadable));
                if let Some(below) = &candidate.rests_on {
                    let below = candidates.iter().position(|it| &it.name == below).unwrap();
                    prop_assert!(!keeps(place) || keeps(below), "{} rests on {}", place, below);
                }
            }
            let readable = candidates.iter().filter(|it| !it.unreadable).count();
            prop_assert!(decisions.iter().filter(|it| it.keep).count() >= readable.min(last as usize));
            // More is never kept by less.
            let less = Policy { last: last / 2, hourly: 0, ..policy };
            for (one, other) in retention(&candidates, &less, &TimeZone::UTC).iter().zip(&decisions) {
                prop_assert!(!one.keep || other.keep);
            }
        }
    }
}
