//! The runs: which scenarios, how many seeds of each.

use crate::run::{Report, run};
use crate::scenario::{Breakage, Scenario};

/// The seed to run, if only one is wanted.
fn only() -> Option<u64> {
    std::env::var("HOLDFAST_SIM_SEED").ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// How many seeds a part runs: so many of all that were asked for, else its own number.
fn many(usual: u64) -> u64 {
    let asked = std::env::var("HOLDFAST_SIM_SEEDS").ok().filter(|text| !text.is_empty());
    asked.map_or(usual, |text| (text.parse::<u64>().unwrap() * usual).div_ceil(USUAL_SEEDS))
}

/// What all parts together run unless told otherwise.
const USUAL_SEEDS: u64 = 210;

/// Runs the seeds of one part (nextest runs the parts beside each other) and fails with those that broke something.
fn seeds(scenario: Scenario, part: u64, usual: u64) {
    let first = 1 + part * 1_000_000;
    let seeds = match only() {
        Some(_) if part > 0 => return,
        Some(seed) => seed..seed + 1,
        None => first..first + many(usual),
    };
    let (mut failed, mut acknowledged, mut simulated_ms) = (Vec::new(), 0, 0);
    for seed in seeds.clone() {
        let report = run(seed, scenario);
        if only().is_some() {
            eprintln!("{}\nseed {seed}: digest {}, {:?}", report.trace, report.digest, report.counts);
        }
        acknowledged += report.counts.0;
        simulated_ms += report.simulated_ms;
        if !report.violations.is_empty() {
            eprintln!("{}\nseed {seed}, digest {}: {:#?}", tail(&report), report.digest, report.violations);
            eprintln!("again: HOLDFAST_SIM_SEED={seed} cargo nextest run --test sim {} --no-capture", scenario.name);
            failed.push(seed);
        }
    }
    eprintln!(
        "{}: seeds {seeds:?}, {acknowledged} acknowledged in {} simulated s",
        scenario.name,
        simulated_ms / 1_000
    );
    assert!(failed.is_empty(), "{}: seeds {failed:?} broke a promise", scenario.name);
    assert!(acknowledged > 0, "nothing was acknowledged: the runs show nothing");
}

/// The last that happened.
fn tail(report: &Report) -> String {
    let lines: Vec<&str> = report.trace.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

const WITNESS: Scenario = Scenario {
    name: "with_a_witness",
    witness: true,
    join: false,
    switchovers: true,
    force: false,
    network_holds: false,
    faults_ms: 60_000,
    breakage: None,
};

const ALONE: Scenario = Scenario { name: "two_alone", witness: false, ..WITNESS };

const MACHINES: Scenario = Scenario { name: "two_alone_machines_fail", network_holds: true, ..ALONE };

const JOINING: Scenario = Scenario { name: "joining", join: true, ..ALONE };

const JOINING_ALL: Scenario = Scenario { name: "joining_and_a_witness", join: true, ..WITNESS };

const FORCE: Scenario = Scenario { name: "by_force", force: true, ..WITNESS };

#[test]
fn with_a_witness_1() {
    seeds(WITNESS, 0, 20);
}

#[test]
fn with_a_witness_2() {
    seeds(WITNESS, 1, 20);
}

#[test]
fn with_a_witness_3() {
    seeds(WITNESS, 2, 20);
}

#[test]
fn with_a_witness_4() {
    seeds(WITNESS, 3, 20);
}

#[test]
fn two_alone_1() {
    seeds(ALONE, 0, 20);
}

#[test]
fn two_alone_2() {
    seeds(ALONE, 1, 20);
}

#[test]
fn two_alone_3() {
    seeds(ALONE, 2, 20);
}

#[test]
fn two_alone_machines_fail() {
    seeds(MACHINES, 0, 20);
}

#[test]
fn joining() {
    seeds(JOINING, 0, 15);
}

#[test]
fn joining_and_a_witness() {
    seeds(JOINING_ALL, 0, 15);
}

#[test]
fn by_force() {
    seeds(FORCE, 0, 20);
}

/// Whether any of some seeds breaks a promise, and which.
fn noticed(breakage: Breakage, scenario: Scenario) -> String {
    let broken = Scenario { breakage: Some(breakage), ..scenario };
    let found = (1..=20).find_map(|seed| run(seed, broken).violations.into_iter().next());
    found.expect("no seed noticed it")
}

#[test]
fn a_node_that_acknowledges_too_early_is_noticed() {
    let found = noticed(Breakage::AcksBeforeTheStandby, WITNESS);
    assert!(found.starts_with("P1") || found.starts_with("P2") || found.starts_with("P5"), "{found}");
}

#[test]
fn a_disk_that_forgets_is_noticed() {
    let found = noticed(Breakage::DiskForgets, WITNESS);
    assert!(found.starts_with("P1") || found.starts_with("P2") || found.starts_with("P5"), "{found}");
}

#[test]
fn a_message_sent_twice_under_two_ids_is_noticed() {
    let found = noticed(Breakage::ResendsAsNew, WITNESS);
    assert!(found.contains("is there already"), "{found}");
}

#[test]
fn a_lost_message_is_noticed() {
    let found = noticed(Breakage::OracleDreams, WITNESS);
    assert!(found.contains("acknowledged and is not there"), "{found}");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1..=2 {
        let (first, second) = (run(seed, WITNESS), run(seed, WITNESS));
        let differs = first.trace.lines().zip(second.trace.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}
