//! The failover protocol under every interleaving within bounds: the real `step` of the members, in a network that loses,
//! repeats, delays and reorders, with restarts at every point and timers that fire whenever they like.
//!
//! `src/core/failover/DESIGN.md` says what is abstracted and how large the runs were. `HOLDFAST_MODEL=large` takes larger
//! bounds, for runs by hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test: it panics and prints")]

mod acts;
mod check;
mod config;
mod executor;
mod log;
mod mutants;
mod timed;
mod world;

use check::{holds, large};
use config::{Config, Membership};

/// What every run of the pair with a witness must have seen.
const REACHED: &[&str] = &[
    "EpochStarted committed by both",
    "EpochStarted committed alone",
    "a record acknowledged by both",
    "a record acknowledged alone",
    "the witness's vote",
    "the peer's vote",
    "Solo recorded",
    "Paired recorded",
    "an fsynced tail was cut at the fork",
    "promoted while an older active believes in itself",
    "the old Solo active elected again",
];

/// Bounds by hand, for finding out: HOLDFAST_MODEL_BOUNDS="records epochs crashes versions".
fn bounds(usual: [u64; 4], large_ones: [u64; 4]) -> [u64; 4] {
    if let Ok(given) = std::env::var("HOLDFAST_MODEL_BOUNDS") {
        let numbers: Vec<u64> = given.split(' ').map(|number| number.parse().unwrap()).collect();
        return numbers.try_into().unwrap();
    }
    if large() { large_ones } else { usual }
}

#[test]
fn a_pair_with_a_witness() {
    let bounds = bounds([1, 2, 1, 3], [1, 3, 1, 3]);
    let p4_every = if large() { 4_096 } else { 512 };
    holds(Config { p4_every, ..Config::pair("pair with witness", true, bounds) }, REACHED);
}

#[test]
fn bootstraps_and_late_votes() {
    let bounds = bounds([1, 2, 0, 3], [1, 3, 1, 3]);
    let config = Config { bootstrap: true, late_votes: true, ..Config::pair("bootstrap, late votes", true, bounds) };
    holds(config, &["a bootstrapped log was put into force", "Paired recorded"]);
}

#[test]
fn pre_votes_as_messages() {
    let bounds = bounds([0, 2, 1, 2], [1, 2, 1, 3]);
    let config = Config { pre_votes: true, p4_every: 1_024, ..Config::pair("pre-votes", true, bounds) };
    holds(config, &["the witness's vote", "the peer's vote", "Solo recorded"]);
}

#[test]
fn planned_switchover() {
    let mut config = Config::pair("switchover", true, bounds([1, 2, 0, 2], [1, 3, 0, 3]));
    config.budget.switchovers = 1;
    config.p4_every = 256;
    holds(config, &["a switchover handed over", "the peer's vote"]);
}

/// What may be lost is what was said: what the promoted node lacks, what older actives acknowledge from then on, and what
/// it acknowledges itself on the operator's word alone.
#[test]
fn promotion_by_force() {
    let mut config = Config::pair("promote --force", true, bounds([0, 2, 0, 3], [1, 2, 0, 3]));
    config.budget.forces = 1;
    holds(config, &["promoted by force", "Solo recorded", "Paired recorded"]);
}

#[test]
fn a_pair_without_a_witness() {
    let bounds = bounds([1, 2, 1, 3], [1, 3, 1, 5]);
    let config = Config { unvoted: true, ..Config::pair("no witness, partitions", false, bounds) };
    holds(config, &["a standby promoted itself", "a restarted node promoted itself", "the peer's vote"]);
}

#[test]
fn a_pair_without_a_witness_and_no_partition() {
    let bounds = bounds([1, 2, 1, 4], [1, 3, 1, 5]);
    let config = Config::pair("no witness, no partition", false, bounds);
    let config = Config { unvoted: true, truthful: true, p4_every: if large() { 4_096 } else { 256 }, ..config };
    holds(config, &["a standby promoted itself", "a restarted node promoted itself", "the peer's vote"]);
}

/// A standby says that it acknowledges nothing for now: whenever it likes, true or not, and from whichever life.
#[test]
fn goodbyes() {
    let config = Config::pair("goodbyes", true, bounds([1, 2, 0, 3], [1, 2, 1, 3]));
    let config = Config { goodbyes: true, p4_every: 512, ..config };
    holds(config, &["a standby said goodbye", "Paired recorded", "a record acknowledged alone"]);
}

#[test]
fn goodbyes_without_a_witness() {
    let config = Config::pair("goodbyes, no witness", false, bounds([1, 2, 0, 3], [1, 2, 1, 4]));
    holds(Config { goodbyes: true, unvoted: true, ..config }, &["a standby said goodbye", "a standby promoted itself"]);
}

/// A data node or a witness comes or goes.
pub(crate) fn memberships(name: &'static str, all: &[([u16; 2], u16)], bounds: [u64; 4]) -> Config {
    let some = |member: u16| (member != 0).then_some(member);
    let one = |(data, witness): &([u16; 2], u16)| Membership { data: data.map(some), witness: some(*witness) };
    Config { memberships: all.iter().map(one).collect(), ..Config::pair(name, true, bounds) }
}

#[test]
fn joining() {
    let all = [([1, 0], 0), ([1, 2], 0), ([1, 2], 5)];
    holds(memberships("joining", &all, bounds([0, 2, 0, 2], [1, 2, 1, 2])), &["Paired recorded", "Solo recorded"]);
}

#[test]
fn another_witness() {
    let all = [([1, 2], 5), ([1, 2], 6)];
    let bounds = bounds([0, 2, 0, 2], [1, 2, 0, 3]);
    holds(memberships("another witness", &all, bounds), &["Paired recorded", "Solo recorded"]);
}

#[test]
fn another_standby() {
    let all = [([1, 2], 5), ([1, 3], 5)];
    holds(memberships("another standby", &all, bounds([0, 2, 0, 2], [1, 2, 0, 2])), &["Solo recorded"]);
}
