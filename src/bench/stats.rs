//! What all connections of a benchmark count together, and in which phase it is. One thread, so cells are enough.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::error::BenchError;
use crate::limits::BENCH_FAULTS_TOLD_MAX;

/// Where a benchmark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are being opened.
    Opening,
    /// Load before the measurement, or load that is not measured.
    Load,
    /// Load that is measured.
    Measure,
    /// Nothing new is sent; answers and deliveries still come.
    Drain,
}

/// Which time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// From a send to its acknowledgement.
    Answer,
    /// From a send to its delivery at each receiver.
    Delivery,
}

/// Highest latency that is told apart: a minute, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// The counters. Times are nanoseconds since `base`.
#[derive(Debug)]
pub struct Stats {
    base: Instant,
    phase: Cell<Phase>,
    /// When load started.
    pub load_ns: Cell<u64>,
    measure_ns: Cell<(u64, u64)>,
    latency_kind: Latency,
    latency: RefCell<Histogram<u64>>,
    /// Sends that were acknowledged.
    pub acknowledged: Cell<u64>,
    acknowledged_measured: Cell<u64>,
    /// Events that arrived at connections other than the message's own sender.
    pub delivered: Cell<u64>,
    delivered_measured: Cell<u64>,
    /// Sends without an answer.
    pub unanswered: Cell<u64>,
    /// Times that a connection was closed as too slow and resumed.
    pub resyncs: Cell<u64>,
    /// Times that a send was refused as busy and made again.
    pub busy: Cell<u64>,
    /// Times that a connection was lost and opened again, to the same node or another.
    pub reconnects: Cell<u64>,
    /// Times that a node could not go on where a connection had been, so that a client would fetch everything again.
    pub refetches: Cell<u64>,
    /// Answers that came over a connection that its owner had left.
    pub late_answers: Cell<u64>,
    /// Sends that were refused for good.
    pub failed_sends: Cell<u64>,
    /// Two histories may be merged: a message may then be acknowledged with two numbers.
    pub may_merge: Cell<bool>,
    /// When the latest acknowledgement arrived, and the longest time between two since [`Stats::watch_silence`].
    last_ack_ns: Cell<u64>,
    silence_ns: Cell<u64>,
    errors: Cell<u64>,
    faults: RefCell<Vec<String>>,
}

/// Adds to a counter.
pub fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

impl Stats {
    /// All zero.
    #[must_use]
    pub fn new(latency_kind: Latency) -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self {
            base: Instant::now(),
            phase: Cell::new(Phase::Opening),
            load_ns: Cell::default(),
            measure_ns: Cell::new((u64::MAX, u64::MAX)),
            latency_kind,
            latency: RefCell::new(histogram.expect("the bounds are constants that the histogram accepts")),
            acknowledged: Cell::default(),
            acknowledged_measured: Cell::default(),
            delivered: Cell::default(),
            delivered_measured: Cell::default(),
            unanswered: Cell::default(),
            resyncs: Cell::default(),
            busy: Cell::default(),
            reconnects: Cell::default(),
            refetches: Cell::default(),
            late_answers: Cell::default(),
            failed_sends: Cell::default(),
            may_merge: Cell::default(),
            last_ack_ns: Cell::default(),
            silence_ns: Cell::default(),
            errors: Cell::default(),
            faults: RefCell::default(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    /// A time of this clock as an instant.
    #[must_use]
    pub fn instant(&self, ns: u64) -> Instant {
        self.base + std::time::Duration::from_nanos(ns)
    }

    /// An instant as a time of this clock.
    #[must_use]
    pub fn ns(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Goes to another phase.
    pub fn enter(&self, phase: Phase) {
        let now = self.now_ns();
        match (self.phase.get(), phase) {
            (_, Phase::Load) => self.load_ns.set(now),
            (_, Phase::Measure) => self.measure_ns.set((now, u64::MAX)),
            (Phase::Measure, _) => self.measure_ns.set((self.measure_ns.get().0, now)),
            _ => {}
        }
        self.phase.set(phase);
    }

    /// New messages may be sent.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        matches!(self.phase.get(), Phase::Load | Phase::Measure)
    }

    /// A send that was due at `due_ns` was acknowledged.
    pub fn acknowledge(&self, due_ns: u64) {
        add(&self.acknowledged, 1);
        if self.phase.get() == Phase::Measure {
            add(&self.acknowledged_measured, 1);
        }
        let now_ns = self.now_ns();
        self.end_silence(now_ns);
        if self.latency_kind == Latency::Answer {
            self.record(due_ns, now_ns);
        }
    }

    fn end_silence(&self, now_ns: u64) {
        let silence_ns = now_ns.saturating_sub(self.last_ack_ns.replace(now_ns));
        if silence_ns > self.silence_ns.get() {
            self.silence_ns.set(silence_ns);
        }
    }

    /// From now on the longest silence is looked for. The one that lasts now counts from the acknowledgement it began
    /// with.
    pub fn watch_silence(&self) {
        self.silence_ns.set(0);
    }

    /// The longest time in milliseconds between two successive acknowledgements of any connections, the second of which
    /// arrived since [`Stats::watch_silence`].
    #[must_use]
    pub fn longest_silence_ms(&self) -> f64 {
        self.silence_ns.get() as f64 / 1e6
    }

    /// A message was acknowledged once more, with another number: wrong, unless two histories may have been merged.
    pub fn renumbered(&self, seq: u64) {
        if !self.may_merge.get() {
            self.fault(format!("a message was acknowledged with two numbers, the second {seq}"));
        }
    }

    /// A message arrived at someone else; `due_ns` is when its send was due, if it says so.
    #[inline]
    pub fn deliver(&self, due_ns: Option<u64>) {
        add(&self.delivered, 1);
        if self.phase.get() == Phase::Measure {
            add(&self.delivered_measured, 1);
        }
        if let (Latency::Delivery, Some(due_ns)) = (self.latency_kind, due_ns) {
            self.record(due_ns, self.now_ns());
        }
    }

    /// A latency counts when its send was due within the measurement, whenever the answer comes: else the slowest ones,
    /// still on their way at the end, would be left out.
    fn record(&self, due_ns: u64, now_ns: u64) {
        let (from, to) = self.measure_ns.get();
        if (from..to).contains(&due_ns) {
            self.latency.borrow_mut().saturating_record(now_ns.saturating_sub(due_ns) / 1_000);
        }
    }

    /// Records a latency that ends now.
    pub fn record_since(&self, due_ns: u64) {
        self.record(due_ns, self.now_ns());
    }

    /// Something went wrong.
    pub fn fault(&self, fault: impl ToString) {
        add(&self.errors, 1);
        let mut faults = self.faults.borrow_mut();
        if faults.len() < BENCH_FAULTS_TOLD_MAX {
            faults.push(fault.to_string());
        }
    }

    /// Something went wrong, if it did.
    pub fn fault_if<T>(&self, result: Result<T, BenchError>) -> Option<T> {
        result.map_err(|error| self.fault(error)).ok()
    }

    /// How often something went wrong, and the first of it in words.
    #[must_use]
    pub fn faults(&self) -> (u64, Vec<String>) {
        (self.errors.get(), self.faults.borrow().clone())
    }

    /// Acknowledgements and deliveries per second of the measurement.
    #[must_use]
    pub fn rates_per_s(&self) -> (f64, f64) {
        let (from, to) = self.measure_ns.get();
        let seconds = to.min(self.now_ns()).saturating_sub(from) as f64 / 1e9;
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        (rate(self.acknowledged_measured.get()), rate(self.delivered_measured.get()))
    }

    /// p50, p90, p99 and the highest latency in milliseconds; `None` when nothing was measured.
    #[must_use]
    pub fn latencies_ms(&self) -> Option<[f64; 4]> {
        let latency = self.latency.borrow();
        let ms = |us: u64| us as f64 / 1_000.0;
        (!latency.is_empty()).then(|| {
            let at = |quantile| ms(latency.value_at_quantile(quantile));
            [at(0.5), at(0.9), at(0.99), ms(latency.max())]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sends_that_were_due_in_the_measurement_count_and_late_answers_do() {
        let stats = Stats::new(Latency::Answer);
        stats.enter(Phase::Load);
        assert!(stats.is_sending());
        let warmup = stats.now_ns();
        stats.enter(Phase::Measure);
        stats.acknowledge(warmup);
        assert_eq!(stats.latencies_ms(), None, "due before the measurement");
        let due = stats.now_ns();
        stats.enter(Phase::Drain);
        assert!(!stats.is_sending());
        stats.acknowledge(due);
        assert!(stats.latencies_ms().is_some(), "an answer that comes late is not left out");
        assert_eq!(stats.acknowledged.get(), 2);
        assert_eq!(stats.acknowledged_measured.get(), 1);
    }

    #[test]
    fn the_longest_silence_spans_the_fault_and_ends_with_an_acknowledgement() {
        let stats = Stats::new(Latency::Answer);
        let ms = 1_000_000;
        [5, 900, 1_000].into_iter().for_each(|at| stats.end_silence(at * ms));
        stats.watch_silence();
        assert_eq!(stats.longest_silence_ms(), 0.0, "what ended before does not count, what did not end is not known");
        // One that was on its way when the fault came, then nothing until somebody took over.
        [1_003, 3_010, 3_012, 3_500].into_iter().for_each(|at| stats.end_silence(at * ms));
        assert_eq!(stats.longest_silence_ms(), 2_007.0);
        stats.watch_silence();
        stats.end_silence(3_600 * ms);
        assert_eq!(stats.longest_silence_ms(), 100.0, "the one that lasted counts from its beginning");
    }

    #[test]
    fn faults_are_all_counted_and_a_few_are_told() {
        let stats = Stats::new(Latency::Answer);
        (0..100).for_each(|i| stats.fault(format!("fault {i}")));
        let (count, told) = stats.faults();
        assert_eq!((count, told.len(), told[0].as_str()), (100, BENCH_FAULTS_TOLD_MAX, "fault 0"));
    }
}
