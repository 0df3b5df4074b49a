//! What the protocol decided, for people: a line in the log at once, and a record of the audit trail as soon as this node
//! can write one. Also the latest of them, for the status.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::core::command::{Actor, Command, Envelope, NotePair, PairEvent};
use crate::core::failover::{Member, Notice, WaitingFor};
use crate::limits;
use crate::node::{Node, ReplyTo, Role};

/// One of the latest happenings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = PairNotice)]
pub struct Told {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// What, in one English sentence.
    pub text: String,
}

/// The notices of this node.
#[derive(Default)]
pub(super) struct Notices {
    me: Member,
    latest: Mutex<VecDeque<Told>>,
    unwritten: Mutex<VecDeque<NotePair>>,
}

impl Notices {
    pub(super) fn new(me: Member) -> Self {
        Self { me, ..Self::default() }
    }

    /// Tells a decision of the protocol.
    ///
    /// The starts of a node that is alone are no events of a pair: they stay out of the audit trail.
    pub(super) fn tell(&self, notice: Notice, (at_ms, in_pair): (u64, bool)) {
        let (text, grave) = sentence(notice);
        if grave {
            tracing::warn!("{text}");
        } else {
            tracing::info!("{text}");
        }
        self.say(text, at_ms);
        if in_pair && let Some(note) = self.note(notice) {
            self.write_later(note);
        }
    }

    /// Tells something else about the pair.
    pub(super) fn say(&self, text: String, at_ms: u64) {
        let mut latest = self.latest.lock();
        if latest.len() == limits::PAIR_NOTICES_MAX {
            latest.pop_front();
        }
        latest.push_back(Told { at_ms, text });
    }

    /// Puts something into the audit trail as soon as that is possible here.
    pub(super) fn write_later(&self, note: NotePair) {
        let mut unwritten = self.unwritten.lock();
        if unwritten.len() == limits::PAIR_NOTICES_MAX {
            unwritten.pop_front();
        }
        unwritten.push_back(note);
    }

    /// The latest happenings, the oldest first.
    pub(super) fn latest(&self) -> Vec<Told> {
        self.latest.lock().iter().cloned().collect()
    }

    /// Writes what waits for the audit trail, if this node is the active.
    pub(super) fn write(&self, node: &Node) {
        if node.role() != Role::Active {
            return;
        }
        let mut unwritten = self.unwritten.lock();
        while let Some(note) = unwritten.front() {
            let command = Command::NotePair(note.clone());
            let envelope = Envelope { actor: Some(Actor::system()), command: Some(command) };
            if let Err(error) = node.propose_into(&envelope, ReplyTo::Nobody) {
                tracing::debug!(?error, "a note on the pair waits");
                return;
            }
            unwritten.pop_front();
        }
    }

    /// The record of the audit trail for a decision, if it deserves one.
    fn note(&self, notice: Notice) -> Option<NotePair> {
        let note = |what: PairEvent| NotePair { what: what.into(), member: self.me.into(), ..NotePair::default() };
        let (text, _) = sentence(notice);
        Some(match notice {
            Notice::Promoted { epoch, forced, .. } => {
                let what = if forced { PairEvent::PromotedByForce } else { PairEvent::Promoted };
                NotePair { epoch: epoch.number(), text, ..note(what) }
            }
            Notice::SteppedDown { epoch } => NotePair { epoch: epoch.number(), ..note(PairEvent::SteppedDown) },
            Notice::Solo { from } => NotePair { index: from, ..note(PairEvent::Exposed) },
            Notice::Paired => note(PairEvent::Protected),
            // A switchover is noted before it begins: afterwards this node could not.
            _ => return None,
        })
    }
}

/// The sentence for people, and whether somebody should look.
fn sentence(notice: Notice) -> (String, bool) {
    match notice {
        Notice::Promoted { epoch, unvoted, forced, blind } => {
            let how = match (forced, unvoted) {
                (true, _) => " by the operator's word",
                (_, true) => " without a vote, since the other node is silent",
                _ => "",
            };
            let unsure = if blind { "; up to where the other node had acknowledged is not known" } else { "" };
            (format!("this node is active now, in epoch {}{how}{unsure}", epoch.number()), forced || unvoted || blind)
        }
        Notice::Following { active, epoch } => {
            (format!("this node follows member {active}, active in epoch {}", epoch.number()), false)
        }
        Notice::Diverged { fork } => {
            (format!("records from index {fork} on are not in the active node's log: they go into quarantine"), true)
        }
        Notice::Bootstrapping => ("the log is too far behind: this node fetches a snapshot".to_owned(), false),
        Notice::SteppedDown { epoch } => {
            (format!("this node is not active any more: it met epoch {}", epoch.number()), true)
        }
        Notice::Solo { from } => {
            (format!("exposed: records from index {from} on are on this node only, until the other one is back"), true)
        }
        Notice::Paired => ("protected: both nodes have every acknowledged record".to_owned(), false),
        Notice::Isolated => (
            "isolated: neither the other node nor the witness is heard; nothing is acknowledged until one of them is"
                .to_owned(),
            true,
        ),
        Notice::Reached => ("another member is heard again".to_owned(), false),
        Notice::SwitchoverBegun => ("a planned switchover begins".to_owned(), false),
        Notice::SwitchoverRefused(why) => (format!("a planned switchover is not possible now: {why:?}"), true),
        Notice::SwitchoverFailed => {
            ("the planned switchover did not succeed in time; this node goes on as active".to_owned(), true)
        }
        Notice::ForceNotNeeded => ("this node is active already: nothing was changed".to_owned(), false),
        Notice::Waiting(why) => {
            (format!("the active node is silent, and this node does not take over: {}", wait(why)), true)
        }
    }
}

/// Why a standby waits, as the end of a sentence.
pub(super) const fn wait(why: WaitingFor) -> &'static str {
    match why {
        WaitingFor::TheOther => "the other node may hold acknowledged records that this one lacks",
        WaitingFor::AVote => "neither the other node nor the witness answers",
        WaitingFor::Records => "this node lacks records that the active is known to have",
        WaitingFor::Reference => "the reference address does not answer, so the fault may be on this side",
        WaitingFor::PeerAlive => "the other node answers at one of its addresses",
        WaitingFor::TheOperator => "automatic promotion is switched off",
        WaitingFor::TheWitness => "the witness is new and does not know yet who holds everything",
    }
}
