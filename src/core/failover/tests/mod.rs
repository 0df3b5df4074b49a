//! What a data node and a witness do, step by step. The readings of the rules that lose records (A1 to A6, B, C, E of
//! the first check of the design) are here by name; `tests/model` finds them again by search.

mod alone;
mod away;
mod fence;
mod members;
mod status;
mod switchover;
mod votes;
mod witness;

use super::*;

/// The two data nodes and the witness.
const A: Member = 1;
const B: Member = 2;
const W: Member = 9;
/// No commit at all.
const NONE: [u64; 0] = [];

fn settings() -> Settings {
    Settings::default()
}

fn log(number: u64, member: Member, index: u64) -> LogEnd {
    LogEnd { epoch: Epoch::new(number, member), index }
}

fn paired(version: u64, active: Member) -> Pairing {
    let standby = if active == A { B } else { A };
    Pairing { version, epoch: Epoch::new(1, active), active, state: PairingState::Paired { standby } }
}

fn solo(version: u64, epoch: Epoch) -> Pairing {
    Pairing { version, epoch, active: epoch.member(), state: PairingState::Solo { epoch, from: 1 } }
}

/// A data node with shorthand for what happens to it.
struct Node {
    member: DataMember,
    now_ms: u64,
}

impl Node {
    /// A standby of epoch (1, A) with that much log, started.
    fn new(me: Member, witness: Option<Member>, log: LogEnd) -> Self {
        let peer = Some(if me == A { B } else { A });
        let durable = Durable { epoch: Epoch::new(1, A), peer, witness, ..Durable::default() };
        Self::with(me, durable, (log, settings()))
    }

    fn with(me: Member, durable: Durable, (log, settings): (LogEnd, Settings)) -> Self {
        let mut node = Self { member: DataMember::new(me, durable, log, settings), now_ms: 0 };
        node.step(Input::Start);
        node
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let before = *self.member.durable();
        let effects = self.member.step(input, self.now_ms);
        let wrote = effects.iter().filter(|effect| **effect == Effect::Persist).count();
        assert!(wrote <= 1, "one write per step: {effects:?}");
        if before != *self.member.durable() {
            assert_eq!(wrote, 1, "the change is written: {effects:?}");
            let place = effects.iter().position(|effect| *effect == Effect::Persist);
            let first = effects.iter().position(|effect| {
                matches!(effect, Effect::Send { .. } | Effect::Activate { .. } | Effect::Commit { .. })
            });
            assert!(first.is_none_or(|first| place < Some(first)), "written before it is acted upon: {effects:?}");
        }
        effects
    }

    fn hear(&mut self, from: Member, message: Message) -> Vec<Effect> {
        self.step(Input::Received { from, message })
    }

    fn fire(&mut self, timer: Timer) -> Vec<Effect> {
        self.step(Input::Fired(timer))
    }

    fn sync(&mut self, log: LogEnd) -> Vec<Effect> {
        self.step(Input::Synced { log })
    }

    fn epoch(&self) -> Epoch {
        self.member.durable().epoch
    }

    fn role(&self) -> Role {
        self.member.status(self.now_ms).role
    }

    /// Equal up to here, as the follower tells.
    fn equal(&mut self, index: u64) -> Vec<Effect> {
        let epoch = self.epoch();
        self.step(Input::Compared { epoch, relation: Relation::Equal { index }, commit: 0 })
    }

    /// A promotion by the vote of `by`, with `EpochStarted` logged and fsynced at `index`.
    fn elect(&mut self, by: Member, index: u64) {
        self.fire(Timer::ActiveSilence);
        let epoch = self.epoch().next(self.member.status(0).me);
        self.hear(by, Message::PreVoteAnswer { epoch, granted: true, own: self.epoch() });
        self.hear(by, Message::VoteAnswer { epoch, granted: true, own: epoch });
        assert_eq!(self.role(), Role::Active);
        self.step(Input::Started { epoch, index });
        self.sync(LogEnd { epoch, index });
    }

    /// The peer acknowledges.
    fn ack(&mut self, index: u64) -> Vec<Effect> {
        let (epoch, peer) = (self.epoch(), self.member.durable().peer.unwrap());
        self.hear(peer, Message::Ack { epoch, index })
    }

    /// Writes up to here, fsynced.
    fn write(&mut self, index: u64) -> Vec<Effect> {
        let mut effects = self.step(Input::Written { index });
        effects.extend(self.sync(LogEnd { epoch: self.epoch(), index }));
        effects
    }

    /// The witness tells its record.
    fn record(&mut self, pairing: Pairing) -> Vec<Effect> {
        let epoch = self.epoch();
        self.hear(W, Message::PairingIs { epoch, pairing })
    }

    /// A heartbeat of the peer, which is active in the present epoch.
    fn beat(&mut self, from: Member, commit: u64, pairing: Pairing) -> Vec<Effect> {
        let epoch = self.epoch();
        self.hear(
            from,
            Message::Heartbeat { epoch, active: true, log: LogEnd::default(), commit, pairing, away: false },
        )
    }
}

fn commits(effects: &[Effect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::Commit { index } = effect { Some(*index) } else { None })
        .collect()
}

fn sent(effects: &[Effect]) -> Vec<(Member, Message)> {
    let message =
        |effect: &Effect| if let Effect::Send { to, message } = effect { Some((*to, *message)) } else { None };
    effects.iter().filter_map(message).collect()
}

fn notices(effects: &[Effect]) -> Vec<Notice> {
    effects.iter().filter_map(|effect| if let Effect::Notice(notice) = effect { Some(*notice) } else { None }).collect()
}

/// The request that the active sent to the witness.
fn request(effects: &[Effect]) -> Option<(u64, PairingState)> {
    sent(effects).into_iter().find_map(|(to, message)| match message {
        Message::ChangePairing { base, state, .. } if to == W => Some((base, state)),
        _ => None,
    })
}
