//! A log as the protocol sees it: a sequence of epochs. Within one epoch only one node writes, and never again after it
//! was restarted, so that index and epoch name a record. The first record of an epoch is its `EpochStarted`.

use holdfast::core::failover::{Epoch, LogEnd, Member};

const RECORDS_MAX: usize = 14;

/// Records as small numbers: 8 bits of kind, 5 of the epoch's number, 3 of its member.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    len: u8,
    records: [u16; RECORDS_MAX],
}

impl Log {
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.len)
    }

    fn record(&self, index: u64) -> u16 {
        assert!(index >= 1 && index <= self.len(), "no record {index} of {}", self.len);
        self.records[index as usize - 1]
    }

    pub(crate) fn epoch(&self, index: u64) -> Epoch {
        let record = self.record(index);
        Epoch::new(u64::from(record >> 3 & 31), record as Member & 7)
    }

    /// The kind of a record: 0, or the number of the membership that it begins.
    pub(crate) fn kind(&self, index: u64) -> usize {
        usize::from(self.record(index) >> 8)
    }

    pub(crate) fn push(&mut self, epoch: Epoch, kind: usize) {
        assert!(epoch.number() < 32 && epoch.member() < 8);
        self.records[usize::from(self.len)] = (kind as u16) << 8 | (epoch.number() as u16) << 3 | epoch.member();
        self.len += 1;
    }

    /// Whether another record fits.
    pub(crate) fn has_room(&self) -> bool {
        usize::from(self.len) + 3 < RECORDS_MAX
    }

    /// The first `len` records.
    #[must_use]
    pub(crate) fn cut(mut self, len: u64) -> Self {
        let len = len.min(self.len());
        self.records[len as usize..].fill(0);
        self.len = len as u8;
        self
    }

    /// How many records at the beginning are the same.
    pub(crate) fn common(&self, other: &Self) -> u64 {
        let most = self.len().min(other.len());
        (1..=most).find(|index| self.record(*index) != other.record(*index)).map_or(most, |index| index - 1)
    }

    /// Whether the first `len` records of this one are in the other.
    pub(crate) fn is_in(&self, len: u64, other: &Self) -> bool {
        self.common(other) >= len.min(self.len())
    }

    pub(crate) fn end(&self, len: u64) -> LogEnd {
        if len == 0 { LogEnd::default() } else { LogEnd { epoch: self.epoch(len), index: len } }
    }

    /// The index of the first record of an epoch.
    pub(crate) fn start(&self, epoch: Epoch) -> Option<u64> {
        (1..=self.len()).find(|index| self.epoch(*index) == epoch)
    }

    /// The last membership that begins in it.
    pub(crate) fn membership(&self, len: u64) -> usize {
        (1..=len.min(self.len())).map(|index| self.kind(index)).max().unwrap_or(0)
    }
}

/// An epoch for people: "2A".
pub(crate) fn name(epoch: Epoch) -> String {
    format!("{}{}", epoch.number(), ["-", "A", "B", "C", "D", "W", "X", "Y"][usize::from(epoch.member() & 7)])
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = (1..=self.len()).map(|index| match self.kind(index) {
            0 => name(self.epoch(index)),
            kind => format!("{}#{kind}", name(self.epoch(index))),
        });
        f.write_str(&shown.collect::<Vec<_>>().join(","))
    }
}
