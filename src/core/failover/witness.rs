//! The witness: a vote, and the one record of who holds everything. It has no data and never judges a log.
//!
//! - It votes only for a node that its record says holds everything that was acknowledged.
//! - Its record changes only by a request of the present epoch that is based on the present version.
//! - Until an active has written a record to it, it votes for nobody.

use super::mutation::Mutation;
use super::{Contact, Effect, Epoch, Input, LogEnd, Member, Message, NOBODY, Pairing, PairingState, Settings, Timer};
use super::{WitnessDurable, WitnessStatus};

/// The witness's side of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    pub(super) durable: WitnessDurable,
    settings: Settings,
    /// The active heard within `fail_after`. `NOBODY` for a while after the start: it may have been any.
    pub(super) heard: Option<Member>,
    /// When each data node was last heard. For people.
    pub(super) seen_ms: [Option<u64>; 2],
    /// The durable state was changed and not yet written.
    dirty: bool,
    out: Vec<Effect>,
    pub(super) mutation: Option<Mutation>,
}

impl Witness {
    /// A witness with this durable state; the default one for a new witness.
    #[must_use]
    pub fn new(durable: WitnessDurable, settings: Settings) -> Self {
        Self { durable, settings, heard: None, seen_ms: [None; 2], dirty: false, out: Vec::new(), mutation: None }
    }

    /// What has to be kept on disk: written and synced at every `Effect::Persist`.
    #[must_use]
    pub const fn durable(&self) -> &WitnessDurable {
        &self.durable
    }

    /// What an operator is shown.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> WitnessStatus {
        let contact = |(member, seen): (Member, Option<u64>)| {
            let heard_ms_ago = seen.map(|at| now_ms.saturating_sub(at));
            (member != NOBODY).then_some(Contact { member, heard_ms_ago })
        };
        let [first, second] = self.durable.data;
        let [first_ms, second_ms] = self.seen_ms;
        WitnessStatus {
            epoch: self.durable.epoch,
            pairing: self.durable.pairing,
            data: [contact((first, first_ms)), contact((second, second_ms))],
        }
    }

    /// Takes what happened and tells what has to be done, in order. `now_ms` is only shown to people.
    pub fn step(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        match input {
            Input::Start => {
                // It may have heard an active a moment before it stopped: it waits before it helps to depose one.
                self.heard = Some(NOBODY);
                self.arm_silence();
            }
            Input::Fired(Timer::ActiveSilence) => self.heard = None,
            Input::Received { from, message } => self.received(from, message, now_ms),
            Input::DataNodes { first, second } => {
                let data = [first, second.unwrap_or(NOBODY)];
                if self.durable.data != data {
                    self.durable.data = data;
                    self.seen_ms = [None; 2];
                    self.dirty = true;
                }
            }
            _ => {}
        }
        if self.dirty {
            self.persist();
        }
        std::mem::take(&mut self.out)
    }

    fn received(&mut self, from: Member, message: Message, now_ms: u64) {
        let place = self.durable.data.iter().position(|member| *member == from && from != NOBODY);
        let Some(seen) = place.and_then(|at| self.seen_ms.get_mut(at)) else { return };
        *seen = Some(now_ms);
        match message {
            Message::Heartbeat { epoch, active, .. } => {
                self.adopt(epoch);
                if active && epoch == self.durable.epoch && epoch.member() == from {
                    self.hear(from);
                } else if !active && self.heard == Some(from) {
                    self.heard = None;
                }
                self.answer_heartbeat(from);
            }
            Message::PreVote { epoch, .. } => {
                let granted = self.would_grant(from, epoch, false);
                self.send(from, Message::PreVoteAnswer { epoch, granted, own: self.durable.epoch });
            }
            Message::Vote { epoch, handed_over, .. } => self.vote(from, epoch, handed_over),
            Message::ChangePairing { epoch, base, state } => self.change(from, epoch, (base, state)),
            Message::Stale { epoch } => self.adopt(epoch),
            // Nobody says these to a witness.
            Message::PreVoteAnswer { .. }
            | Message::VoteAnswer { .. }
            | Message::PairingIs { .. }
            | Message::Ack { .. }
            | Message::HandOver { .. } => {}
        }
    }

    /// Whether it would vote for this. That the epoch was seen already is no obstacle: it names its only candidate.
    fn would_grant(&self, candidate: Member, epoch: Epoch, handed_over: bool) -> bool {
        let own = self.durable.epoch;
        let new = if self.mutation == Some(Mutation::SeenIsGranted) { epoch > own } else { epoch >= own };
        let disturbs = self.heard.is_some_and(|active| active != candidate) && !handed_over;
        epoch.member() == candidate && new && self.holds_everything(candidate) && !disturbs
    }

    /// Whether the record says so. The record names both nodes: one that joined after it was written holds nothing.
    fn holds_everything(&self, candidate: Member) -> bool {
        let pairing = self.durable.pairing;
        if self.mutation == Some(Mutation::WitnessIgnoresPairing) {
            return true;
        }
        if pairing.version == 0 {
            return self.mutation == Some(Mutation::NewWitnessVotes);
        }
        let anybody = self.mutation == Some(Mutation::PairedMeansAnybody);
        match pairing.state {
            PairingState::Paired { standby } => anybody || candidate == pairing.active || candidate == standby,
            PairingState::Solo { epoch, .. } => candidate == epoch.member(),
        }
    }

    fn vote(&mut self, from: Member, epoch: Epoch, handed_over: bool) {
        if epoch.member() != from {
            return;
        }
        let granted = self.would_grant(from, epoch, handed_over);
        self.adopt(epoch);
        if granted {
            self.dirty |= self.durable.granted != from;
            self.durable.granted = from;
            // Time for the new active to be heard, before another candidate is helped.
            self.hear(from);
        }
        self.send(from, Message::VoteAnswer { epoch, granted, own: self.durable.epoch });
    }

    fn change(&mut self, from: Member, epoch: Epoch, (base, state): (u64, PairingState)) {
        let old = self.mutation == Some(Mutation::WitnessServesOldEpochs) && epoch < self.durable.epoch;
        let sensible = match state {
            PairingState::Solo { epoch: solo, .. } => solo == epoch,
            // One that it does not know yet it could not vote for either.
            PairingState::Paired { standby } => {
                standby != from && standby != NOBODY && self.durable.data.contains(&standby)
            }
        };
        if epoch.member() != from || !sensible {
            return;
        }
        self.adopt(epoch);
        let pairing = &mut self.durable.pairing;
        let asked = base == pairing.version || self.mutation == Some(Mutation::NoCompareAndSet);
        if (epoch == self.durable.epoch || old) && asked {
            // Counted even when the state stays the same: the answer then tells that no request on `base` can get through.
            *pairing = Pairing { version: pairing.version + 1, epoch, active: from, state };
            self.dirty = true;
        }
        if epoch == self.durable.epoch {
            self.hear(from);
        }
        let answered = if old { epoch } else { self.durable.epoch };
        self.send(from, Message::PairingIs { epoch: answered, pairing: self.durable.pairing });
    }

    fn adopt(&mut self, epoch: Epoch) {
        if epoch > self.durable.epoch {
            self.durable.epoch = epoch;
            self.durable.granted = NOBODY;
            self.dirty = true;
        }
    }

    fn hear(&mut self, active: Member) {
        self.heard = Some(active);
        self.arm_silence();
    }

    fn arm_silence(&mut self) {
        self.out.push(Effect::Arm { timer: Timer::ActiveSilence, after_ms: self.settings.fail_after_ms });
    }

    fn answer_heartbeat(&mut self, to: Member) {
        let WitnessDurable { epoch, pairing, .. } = self.durable;
        self.send(
            to,
            Message::Heartbeat { epoch, active: false, log: LogEnd::default(), commit: 0, pairing, away: false },
        );
    }

    fn send(&mut self, to: Member, message: Message) {
        if self.dirty {
            self.persist();
        }
        self.out.push(Effect::Send { to, message });
    }

    fn persist(&mut self) {
        self.dirty = false;
        self.out.push(Effect::Persist);
    }
}
