//! What is checked in one run: who is there, what may happen, how much of it, which rule is broken.

use crate::world::Budget;
use holdfast::core::failover::{Member, Mutation};

/// A fault that the checker puts into the executor, not into the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executor {
    /// A4: takes the end of a message of the active for a fork.
    CutsAtMessageEnd,
    /// A5: cuts the log below the fork, at a checkpoint.
    CutsBelowFork,
    /// A5: puts a bootstrapped log into force before it reaches the fork.
    SwapsTooEarly,
    /// A6: a candidate claims records that are not fsynced.
    ClaimsUnsynced,
    /// Tells the standby of another witness only after it has acknowledged the record that says so.
    TellsMembersLate,
    /// Tells the active of another witness before the record that says so is committed.
    TellsMembersEarly,
}

/// Who belongs to the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) data: [Option<Member>; 2],
    pub(crate) witness: Option<Member>,
}

impl Membership {
    pub(crate) const fn has_witness(&self) -> bool {
        self.witness.is_some()
    }

    /// The other data node, for one of them; none when this one is out.
    pub(crate) fn peer_of(&self, me: Member) -> Option<Option<Member>> {
        match self.data {
            [first, second] if first == Some(me) => Some(second),
            [first, second] if second == Some(me) => Some(first),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) name: &'static str,
    /// The memberships, one after the other. A record of the log begins the next one.
    pub(crate) memberships: Vec<Membership>,
    pub(crate) budget: Budget,
    /// The highest number of an epoch.
    pub(crate) epochs: u64,
    /// The highest version of a pairing.
    pub(crate) versions: u64,
    /// Pre-votes are messages; else one may succeed at any time, which allows more.
    pub(crate) pre_votes: bool,
    /// Votes asked for in a candidacy that was given up may still arrive.
    pub(crate) late_votes: bool,
    /// A bootstrapped log may replace the own one.
    pub(crate) bootstrap: bool,
    /// Without a witness: nodes may be down for a while, and promote themselves.
    pub(crate) unvoted: bool,
    /// Without a witness: a probe of a peer that is up always finds it.
    pub(crate) truthful: bool,
    /// A standby may say at any time that it acknowledges nothing for now, and take it back: late, or of an earlier life.
    pub(crate) goodbyes: bool,
    /// Checks P4 in one of so many states; 0: in none.
    pub(crate) p4_every: u64,
    /// No way longer than this; 0: any.
    pub(crate) depth: usize,
    /// Tries what can happen in the opposite order: finds some ways sooner.
    pub(crate) backwards: bool,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) executor: Option<Executor>,
}

impl Config {
    /// Whether the operator may say that something may be lost.
    pub(crate) const fn excuses(&self) -> bool {
        self.budget.forces > 0
    }

    /// Two data nodes and perhaps a witness.
    pub(crate) fn pair(name: &'static str, with_witness: bool, bounds: [u64; 4]) -> Self {
        let [records, epochs, crashes, versions] = bounds;
        let witness = with_witness.then_some(crate::world::FIRST_WITNESS);
        let membership = Membership { data: [Some(crate::world::A), Some(crate::world::B)], witness };
        Self {
            name,
            memberships: vec![membership],
            budget: Budget { records: records as u8, crashes: crashes as u8, ..Budget::default() },
            epochs,
            versions,
            pre_votes: false,
            late_votes: false,
            bootstrap: false,
            unvoted: false,
            truthful: false,
            goodbyes: false,
            p4_every: 0,
            depth: 0,
            backwards: false,
            mutation: None,
            executor: None,
        }
    }
}
