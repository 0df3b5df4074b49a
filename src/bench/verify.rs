//! The oracle of the load generator: what was acknowledged must be there exactly once. Pure.
//!
//! Must never give the server the benefit of the doubt: what is not proven to be there counts as lost.

/// A message's idempotency key made from who sent it: `run` (random), the sender's index and its counter, in the form of a
/// version 4 UUID. So whatever comes back can be traced to the send it came from.
#[must_use]
pub fn client_id(run: u32, sender: u32, counter: u32) -> u128 {
    let sender = u128::from(sender);
    u128::from(run) << 96
        | (sender >> 12 & 0xffff) << 80
        | (0x4000 | sender & 0xfff) << 64
        | 0x8000_0000_0000_0000
        | u128::from(counter)
}

/// The sender and counter in a key of this run; `None` for a key that the run did not make.
#[must_use]
pub fn origin(run: u32, client_id: u128) -> Option<(u32, u32)> {
    let sender = ((client_id >> 80 & 0xffff) << 12 | client_id >> 64 & 0xfff) as u32;
    let counter = client_id as u32;
    (self::client_id(run, sender, counter) == client_id).then_some((sender, counter))
}

/// What one connection saw of one channel's events.
///
/// - Every `seq` from 1 is `seen`, `missing` or not yet there.
/// - A `seq` that comes again is a duplicate; one that comes after a later one is out of order.
#[derive(Clone, Debug, Default)]
pub struct SeqTracker {
    last: u64,
    missing: Vec<u64>,
    duplicated: u64,
    disordered: u64,
}

impl SeqTracker {
    /// Notes an event.
    #[inline]
    pub fn see(&mut self, seq: u64) {
        if seq == self.last + 1 {
            self.last = seq;
        } else {
            self.see_odd(seq);
        }
    }

    #[cold]
    fn see_odd(&mut self, seq: u64) {
        if seq > self.last {
            self.missing.extend(self.last + 1..seq);
            self.last = seq;
        } else if let Some(at) = self.missing.iter().position(|missing| *missing == seq) {
            self.missing.swap_remove(at);
            self.disordered += 1;
        } else {
            self.duplicated += 1;
        }
    }

    /// The highest number seen.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The verdict when the channel's last number is `last_seq`. Numbers for which `known` holds need no event: the
    /// connection has them from its own acknowledgements.
    pub fn verdict(&self, last_seq: u64, mut known: impl FnMut(u64) -> bool) -> Verdict {
        let lost = self.missing.iter().copied().chain(self.last + 1..=last_seq).filter(|seq| !known(*seq)).count();
        Verdict { lost: lost as u64, duplicated: self.duplicated, wrong: self.disordered }
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, but not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// There, but not what or where it should be.
    pub wrong: u64,
}

impl std::ops::AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
    }
}

/// What one sender was promised: the number that each of its messages got, by its counter from 0.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    seqs: Vec<u32>,
    acknowledged: u64,
}

impl Ledger {
    /// Notes that message `counter` was acknowledged as `seq`. False when it was acknowledged before with another number.
    pub fn acknowledge(&mut self, counter: u32, seq: u64) -> bool {
        let at = counter as usize;
        if self.seqs.len() <= at {
            self.seqs.resize(at + 1, 0);
        }
        // A channel of a benchmark never has 2^32 messages; a number that does not fit is as wrong as another number.
        let seq = u32::try_from(seq).unwrap_or(0);
        if self.seqs[at] == 0 {
            self.acknowledged += 1;
            self.seqs[at] = seq;
            return seq != 0;
        }
        self.seqs[at] == seq
    }

    /// The number that message `counter` got.
    #[must_use]
    pub fn seq(&self, counter: u32) -> Option<u64> {
        self.seqs.get(counter as usize).filter(|seq| **seq != 0).map(|seq| u64::from(*seq))
    }

    /// How many messages were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The counters that were acknowledged, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.iter_from(0)
    }

    /// The same from counter `first` on.
    pub fn iter_from(&self, first: u32) -> impl Iterator<Item = (u32, u64)> + '_ {
        (first..)
            .zip(self.seqs.get(first as usize..).unwrap_or_default())
            .filter(|(_, seq)| **seq != 0)
            .map(|(counter, seq)| (counter, u64::from(*seq)))
    }
}

/// Compares one channel's stored history, read in order, with what its senders were promised.
#[derive(Debug, Default)]
pub struct HistoryCheck {
    last: u64,
    seen: std::collections::HashSet<u128>,
    verdict: Verdict,
}

impl HistoryCheck {
    /// Notes the next stored message. `promised`: the number that its sender was given, if it was acknowledged. A message
    /// that was sent but never acknowledged may be there: its fate was unknown.
    pub fn see(&mut self, seq: u64, client_id: u128, promised: Option<u64>) {
        if seq != self.last + 1 {
            self.verdict.wrong += 1;
        }
        self.last = seq;
        if !self.seen.insert(client_id) {
            self.verdict.duplicated += 1;
        } else if promised.is_some_and(|promised| promised != seq) {
            self.verdict.wrong += 1;
        }
    }

    /// The verdict, given all that was acknowledged for this channel.
    #[must_use]
    pub fn finish(mut self, acknowledged: impl Iterator<Item = u128>) -> Verdict {
        self.verdict.lost += acknowledged.filter(|client_id| !self.seen.contains(client_id)).count() as u64;
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_version_4_uuids_and_lead_back() {
        for (sender, counter) in [(0, 0), (1, 2), (4_095, 7), (4_096, u32::MAX), (99_999, 1)] {
            let key = client_id(0xdead_beef, sender, counter);
            assert_eq!(origin(0xdead_beef, key), Some((sender, counter)));
            assert_eq!(origin(1, key), None, "another run's");
            let uuid = uuid::Uuid::from_u128(key);
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
        }
        assert_eq!(origin(7, uuid::Uuid::new_v4().as_u128()), None);
    }

    #[test]
    fn each_fault_of_the_events_is_reported() {
        let track = |seqs: &[u64], last| {
            let mut tracker = SeqTracker::default();
            seqs.iter().for_each(|seq| tracker.see(*seq));
            tracker.verdict(last, |_| false)
        };
        assert_eq!(track(&[1, 2, 3], 3), Verdict::default());
        assert_eq!(track(&[1, 3], 3), Verdict { lost: 1, ..Verdict::default() }, "gap");
        assert_eq!(track(&[2, 3], 3), Verdict { lost: 1, ..Verdict::default() }, "the first");
        assert_eq!(track(&[1, 2], 4), Verdict { lost: 2, ..Verdict::default() }, "tail");
        assert_eq!(track(&[], 2), Verdict { lost: 2, ..Verdict::default() }, "all");
        assert_eq!(track(&[1, 2, 2, 3, 1], 3), Verdict { duplicated: 2, ..Verdict::default() });
        assert_eq!(track(&[1, 3, 2], 3), Verdict { wrong: 1, ..Verdict::default() }, "order");
        assert_eq!(track(&[1, 3, 2, 2], 3), Verdict { wrong: 1, duplicated: 1, lost: 0 });
    }

    #[test]
    fn own_messages_need_no_event() {
        let mut tracker = SeqTracker::default();
        tracker.see(1);
        tracker.see(3);
        assert_eq!(tracker.verdict(4, |seq| seq == 2 || seq == 4), Verdict::default());
        assert_eq!(tracker.verdict(4, |seq| seq == 2).lost, 1);
    }

    #[test]
    fn a_ledger_refuses_a_second_number() {
        let mut ledger = Ledger::default();
        assert!(ledger.acknowledge(2, 10));
        assert!(ledger.acknowledge(2, 10), "a repeated answer with the same number is what a resend gets");
        assert!(!ledger.acknowledge(2, 11));
        assert!(!ledger.acknowledge(3, u64::MAX));
        assert_eq!(ledger.seq(2), Some(10));
        assert_eq!(ledger.seq(0), None);
        assert_eq!(ledger.iter().collect::<Vec<_>>(), [(2, 10)]);
    }

    #[test]
    fn each_fault_of_the_history_is_reported() {
        let check = |stored: &[(u64, u128, Option<u64>)], acknowledged: &[u128]| {
            let mut check = HistoryCheck::default();
            stored.iter().for_each(|(seq, key, promised)| check.see(*seq, *key, *promised));
            check.finish(acknowledged.iter().copied())
        };
        assert_eq!(check(&[(1, 7, Some(1)), (2, 8, None)], &[7]), Verdict::default(), "unknown fate may be there");
        assert_eq!(check(&[(1, 7, Some(1))], &[7, 8]), Verdict { lost: 1, ..Verdict::default() });
        assert_eq!(check(&[(1, 7, Some(1)), (2, 7, Some(1))], &[7]), Verdict { duplicated: 1, ..Verdict::default() });
        assert_eq!(check(&[(1, 7, Some(2))], &[7]), Verdict { wrong: 1, ..Verdict::default() }, "another number");
        assert_eq!(check(&[(1, 7, None), (3, 8, None)], &[]), Verdict { wrong: 1, ..Verdict::default() }, "seq gap");
    }
}
