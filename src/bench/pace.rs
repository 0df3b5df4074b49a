//! When an open-loop sender sends: at fixed times, whatever the server does. Pure: the clock is an input.
//!
//! Latency is measured from these times, so that a server that stalls is charged for every send that had to wait
//! (no "coordinated omission").

use std::time::{Duration, Instant};

/// The times of one sender: `first`, and then every `interval`.
///
/// - The n-th time is computed from n, so that rounding does not add up.
/// - Every time is given out exactly once, also when the sender comes late.
#[derive(Clone, Debug)]
pub struct Pace {
    first: Instant,
    interval_ns: f64,
    given: u64,
}

impl Pace {
    /// Sender `index` of `senders` which together send `rate_per_s` times a second from `start` on, evenly spread.
    #[must_use]
    pub fn new(start: Instant, rate_per_s: f64, (index, senders): (usize, usize)) -> Self {
        let all_ns = 1e9 / rate_per_s.max(f64::MIN_POSITIVE);
        let first = start + Duration::from_nanos((all_ns * index as f64) as u64);
        Self { first, interval_ns: all_ns * senders.max(1) as f64, given: 0 }
    }

    /// The next time that was not given out yet.
    #[must_use]
    pub fn next_at(&self) -> Instant {
        self.first + Duration::from_nanos((self.interval_ns * self.given as f64) as u64)
    }

    /// Gives out the next time when it is not after `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next_at();
        (at <= now).then(|| {
            self.given += 1;
            at
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_the_rate_evenly_and_without_drift() {
        let start = Instant::now();
        let mut times = Vec::new();
        for index in 0..7 {
            let mut pace = Pace::new(start, 3_000.0, (index, 7));
            while let Some(at) = pace.take_due(start + Duration::from_secs(10)) {
                times.push(at);
            }
        }
        times.sort_unstable();
        assert!((30_000..=30_001).contains(&times.len()), "{}", times.len());
        for (i, at) in times.iter().enumerate() {
            let expected_ns = i as f64 * 1e9 / 3_000.0;
            assert!(((*at - start).as_nanos() as f64 - expected_ns).abs() < 10.0, "send {i}");
        }
    }

    #[test]
    fn a_late_sender_gets_every_time_that_passed() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 1_000.0, (0, 1));
        assert_eq!(pace.take_due(start), Some(start));
        assert_eq!(pace.take_due(start), None);
        let late = start + Duration::from_millis(50);
        let caught_up: Vec<_> = std::iter::from_fn(|| pace.take_due(late)).collect();
        assert_eq!(caught_up.len(), 50);
        assert_eq!(caught_up[0], start + Duration::from_millis(1), "latency counts from here, not from `late`");
        assert_eq!(pace.next_at(), start + Duration::from_millis(51));
    }
}
