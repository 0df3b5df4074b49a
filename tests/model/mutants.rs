//! A checker that cannot fail is a defect: every rule is broken once, and the checker must notice.
//!
//! Where no promise is named, any may be the one: mostly the invariant that the witness's blind vote rests on, which
//! breaks a few steps before a record is lost. The names of the readings (A1 to A6, B, D) are those of the first check of the design; `DESIGN.md` has the sentences.

use crate::check::{notices, notices_backwards};
use crate::config::{Config, Executor};
use crate::memberships;
use holdfast::core::failover::Mutation;

fn broken(mutation: Mutation, bounds: [u64; 4]) -> Config {
    Config { mutation: Some(mutation), ..Config::pair("broken", true, bounds) }
}

fn executor(executor: Executor, bounds: [u64; 4]) -> Config {
    Config { executor: Some(executor), ..Config::pair("broken", true, bounds) }
}

#[test]
fn a1_any_answer_counts() {
    notices(broken(Mutation::AnyAnswerCounts, [1, 2, 0, 3]), "");
}

#[test]
fn a1_alone_until_answered() {
    notices(broken(Mutation::AloneUntilAnswered, [1, 2, 0, 3]), "");
}

#[test]
fn a2_caught_up_with_what_was_acknowledged() {
    notices(broken(Mutation::CaughtUpWithAcknowledged, [1, 3, 1, 4]), "");
}

#[test]
fn a3_any_solo_record_entitles() {
    notices_backwards(broken(Mutation::AnySoloEntitles, [1, 2, 1, 3]), "");
}

#[test]
fn a4_the_end_of_a_message_is_a_fork() {
    notices(executor(Executor::CutsAtMessageEnd, [1, 2, 0, 2]), "");
}

#[test]
fn a5_the_log_is_cut_below_the_fork() {
    notices(executor(Executor::CutsBelowFork, [1, 3, 0, 2]), "");
}

#[test]
fn a5_a_bootstrap_is_swapped_in_too_early() {
    let config = Config { bootstrap: true, ..executor(Executor::SwapsTooEarly, [1, 3, 0, 2]) };
    notices(config, "");
}

#[test]
fn a6_a_candidate_claims_what_is_not_fsynced() {
    notices(executor(Executor::ClaimsUnsynced, [1, 3, 1, 3]), "");
}

/// B: pre-votes and votes for an epoch that was merely seen are refused; elections come to nothing.
#[test]
fn b_an_epoch_that_was_seen_is_not_granted() {
    let config = Config { p4_every: 1, ..broken(Mutation::SeenIsGranted, [0, 2, 0, 1]) };
    notices(config, "P4");
}

/// The standby would hear for ever that somebody is active.
#[test]
fn an_isolated_active_says_that_it_is_active() {
    let config = Config { p4_every: 1, ..broken(Mutation::IsolatedIsActive, [0, 2, 0, 1]) };
    notices(config, "P4");
}

/// The witness would grant what the active never hears of, and nobody else could be elected any more.
#[test]
fn a_right_is_asked_for_whose_granting_cannot_be_heard() {
    let config = Config { p4_every: 1, ..broken(Mutation::AsksUnheard, [0, 2, 0, 2]) };
    notices(config, "P4");
}

#[test]
fn a_goodbye_is_taken_for_the_right_to_go_on_alone() {
    let config = Config { goodbyes: true, ..broken(Mutation::GoodbyeEntitles, [1, 2, 0, 2]) };
    notices(config, "");
}

#[test]
fn d_no_compare_and_set() {
    notices(broken(Mutation::NoCompareAndSet, [1, 2, 0, 4]), "");
}

#[test]
fn d_no_epoch_started_before_the_first_ack() {
    notices_backwards(broken(Mutation::NoEpochStarted, [1, 3, 1, 3]), "");
}

#[test]
fn d_the_witness_ignores_the_pairing() {
    notices(broken(Mutation::WitnessIgnoresPairing, [1, 2, 0, 2]), "P1");
}

#[test]
fn d_votes_by_index_only() {
    notices_backwards(broken(Mutation::VotesByIndex, [1, 3, 0, 2]), "P1");
}

#[test]
fn d_an_ack_for_what_was_not_compared() {
    notices(broken(Mutation::AckUncompared, [1, 3, 0, 1]), "");
}

#[test]
fn d_an_ack_for_what_is_not_fsynced() {
    notices(broken(Mutation::AckUnsynced, [1, 2, 1, 1]), "");
}

#[test]
fn d_acks_outlive_their_epoch() {
    notices(broken(Mutation::KeepsMatched, [1, 2, 1, 1]), "");
}

#[test]
fn d_the_witness_serves_old_epochs() {
    notices(broken(Mutation::WitnessServesOldEpochs, [1, 2, 0, 2]), "");
}

#[test]
fn a_new_witness_votes_untold() {
    let all = [([1, 2], 5), ([1, 2], 6)];
    let config = memberships("broken", &all, [1, 2, 0, 2]);
    notices_backwards(Config { depth: 13, mutation: Some(Mutation::NewWitnessVotes), ..config }, "P");
}

#[test]
fn a_new_witness_is_asked_before_its_record_is_committed() {
    let all = [([1, 2], 5), ([1, 2], 6)];
    let config = memberships("broken", &all, [0, 2, 0, 2]);
    notices_backwards(Config { executor: Some(Executor::TellsMembersEarly), ..config }, "P");
}

#[test]
fn a_standby_is_told_late_of_a_new_witness() {
    let all = [([1, 2], 5), ([1, 2], 6)];
    let config = memberships("broken", &all, [1, 2, 0, 1]);
    notices(Config { executor: Some(Executor::TellsMembersLate), ..config }, "P");
}

#[test]
fn paired_means_anybody() {
    let all = [([1, 2], 5), ([1, 3], 5)];
    let config = memberships("broken", &all, [0, 2, 0, 1]);
    notices(Config { mutation: Some(Mutation::PairedMeansAnybody), ..config }, "P");
}

#[test]
fn a_new_peer_is_taken_for_paired() {
    let all = [([1, 2], 5), ([1, 3], 5)];
    let config = memberships("broken", &all, [0, 2, 0, 3]);
    notices(Config { mutation: Some(Mutation::NewPeerIsPaired), ..config }, "P");
}

/// Without a witness.
fn alone(mutation: Mutation, bounds: [u64; 4]) -> Config {
    Config { mutation: Some(mutation), unvoted: true, ..Config::pair("broken", false, bounds) }
}

#[test]
fn alone_it_promotes_itself_behind_solo() {
    notices(alone(Mutation::PromotesBehindSolo, [1, 2, 0, 3]), "no step");
}

#[test]
fn alone_it_acknowledges_before_its_record_says_so() {
    notices(alone(Mutation::SoloUnrecorded, [1, 2, 0, 3]), "no step");
}

#[test]
fn alone_it_acknowledges_what_is_not_fsynced() {
    notices(Config { depth: 13, ..alone(Mutation::AckUnsynced, [1, 2, 1, 3]) }, "N");
}
