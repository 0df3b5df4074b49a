//! The figures of a run of failovers: how long nothing was acknowledged, round by round, and the distribution. Pure.
//!
//! Must never leave a round out of the distribution because its gap is long.

use serde::Serialize;

/// One round.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Round {
    /// The longest time between two successive acknowledgements of which the second arrived between the fault and the
    /// beginning of the repair: what people saw.
    pub gap_ms: f64,
    /// The same between the beginning of the repair and the pair being protected again.
    pub repair_gap_ms: f64,
    /// From the beginning of the repair until the pair was protected again.
    pub protected_ms: f64,
    /// Another node took over.
    pub took_over: bool,
    /// The data node that was active before, 0 or 1.
    pub active_before: usize,
    /// Messages acknowledged so far.
    pub acknowledged: u64,
}

/// What only `failover` finds; all `null` in other scenarios.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
pub struct FailoverFigures {
    /// What was done to the active.
    pub fault: Option<&'static str>,
    /// Whether there was a witness.
    pub witness: Option<bool>,
    /// Rounds that were finished.
    pub rounds: Option<u64>,
    /// The median of the rounds' gaps.
    pub gap_ms_p50: Option<f64>,
    /// The gap that 99 % of the rounds stay at or below.
    pub gap_ms_p99: Option<f64>,
    /// The longest gap.
    pub gap_ms_max: Option<f64>,
    /// The longest gap between the beginning of a repair and the pair being protected again.
    pub repair_gap_ms_max: Option<f64>,
    /// The median time from the beginning of a repair until the pair was protected again.
    pub protected_ms_p50: Option<f64>,
    /// Rounds in which another node took over.
    pub takeovers: Option<u64>,
    /// Sends that were refused for good; one that is taken at a later try is none.
    pub failed_sends: Option<u64>,
    /// Without a witness: acknowledged messages that arrived late, with another number, after two histories were merged.
    pub merged: Option<u64>,
    /// Answers of nodes whose clients had left already: each is checked like every other.
    pub late_answers: Option<u64>,
    /// How the gap is measured.
    pub gap_is: Option<&'static str>,
    /// The rounds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_round: Vec<Round>,
}

/// How the gap is measured, in the report itself.
pub const GAP_IS: &str = "the longest time between two successive acknowledgements, as they arrive at the load generator \
    over all clients, of which the second arrives after the fault and before the repair";

impl FailoverFigures {
    /// Takes over the finished rounds.
    pub fn finish(&mut self, rounds: Vec<Round>) {
        let sorted = |of: fn(&Round) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (gaps, repairs, protected) =
            (sorted(|round| round.gap_ms), sorted(|round| round.repair_gap_ms), sorted(|round| round.protected_ms));
        self.rounds = Some(rounds.len() as u64);
        self.gap_ms_p50 = quantile(&gaps, 0.5);
        self.gap_ms_p99 = quantile(&gaps, 0.99);
        self.gap_ms_max = gaps.last().copied();
        self.repair_gap_ms_max = repairs.last().copied();
        self.protected_ms_p50 = quantile(&protected, 0.5);
        self.takeovers = Some(rounds.iter().filter(|round| round.took_over).count() as u64);
        self.gap_is = Some(GAP_IS);
        self.per_round = rounds;
    }

    /// Name and value of each figure that is known, for people.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let ms = |value: Option<f64>| value.map(|ms| format!("{ms:.0}"));
        let count = |value: Option<u64>| value.map(|count| count.to_string());
        let figures = [
            ("fault", self.fault.map(str::to_owned)),
            ("witness", self.witness.map(|yes| if yes { "yes" } else { "no" }.to_owned())),
            ("rounds", count(self.rounds)),
            ("takeovers", count(self.takeovers)),
            ("gap p50 ms", ms(self.gap_ms_p50)),
            ("gap p99 ms", ms(self.gap_ms_p99)),
            ("gap max ms", ms(self.gap_ms_max)),
            ("repair gap max ms", ms(self.repair_gap_ms_max)),
            ("protected p50 ms", ms(self.protected_ms_p50)),
            ("failed sends", count(self.failed_sends)),
            ("merged", count(self.merged)),
            ("late answers", count(self.late_answers)),
        ];
        figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The smallest value that at least the share `q` of `sorted` stays at or below (nearest rank).
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(gap_ms: f64) -> Round {
        Round {
            gap_ms,
            repair_gap_ms: gap_ms / 10.0,
            protected_ms: 100.0,
            took_over: gap_ms > 50.0,
            active_before: 0,
            acknowledged: 1,
        }
    }

    #[test]
    fn the_distribution_is_of_all_rounds_by_nearest_rank() {
        let mut figures = FailoverFigures::default();
        figures.finish((1..=100).rev().map(|gap| round(f64::from(gap))).collect());
        assert_eq!((figures.rounds, figures.takeovers), (Some(100), Some(50)));
        let gaps = [figures.gap_ms_p50, figures.gap_ms_p99, figures.gap_ms_max, figures.repair_gap_ms_max];
        assert_eq!(gaps, [Some(50.0), Some(99.0), Some(100.0), Some(10.0)]);
        figures.finish(vec![round(7.0)]);
        assert_eq!([figures.gap_ms_p50, figures.gap_ms_p99, figures.gap_ms_max], [Some(7.0); 3]);
        figures.finish(Vec::new());
        assert_eq!((figures.rounds, figures.gap_ms_p50, figures.gap_ms_max), (Some(0), None, None));
    }

    #[test]
    fn the_fixed_names_are_in_the_json_of_every_report() {
        let json = serde_json::to_value(FailoverFigures::default()).unwrap();
        for name in ["rounds", "gap_ms_p50", "gap_ms_p99", "gap_ms_max", "failed_sends", "merged"] {
            assert!(json.get(name).is_some_and(serde_json::Value::is_null), "{name}");
        }
        let mut figures = FailoverFigures { merged: Some(3), ..FailoverFigures::default() };
        figures.finish(vec![round(12.4)]);
        let json = serde_json::to_value(&figures).unwrap();
        assert_eq!((&json["rounds"], &json["gap_ms_max"], &json["merged"]), (&1.into(), &12.4.into(), &3.into()));
        assert!(figures.lines().contains(&("gap max ms", "12".to_owned())));
    }
}
