//! A data node's side of the protocol. Pure: it knows of its log only what it is told, and does nothing itself.
//!
//! - As active it commits a record only when the own log and, unless it is entitled to go on alone, the standby's hold
//!   it fsynced in this epoch, and never before its own `EpochStarted` record.
//! - As standby it acknowledges only what was compared equal in this epoch and is fsynced.
//! - Whatever it says, its durable state says before.
//! - Every higher epoch that it meets ends what it was.

mod acks;
mod alone;
mod members;
mod solo;
mod status;
mod switchover;
mod votes;

use super::mutation::Mutation;
use super::{
    Durable, Effect, Epoch, Input, LogEnd, Member, Message, NOBODY, Notice, Order, Pairing, PairingState, Settings,
    Timer, WaitingFor,
};

/// A data node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataMember {
    me: Member,
    settings: Settings,
    pub(super) durable: Durable,
    /// The durable state was changed and not yet written.
    dirty: bool,
    /// The end of the own fsynced log.
    log: LogEnd,
    /// Up to where `Effect::Commit` was given.
    commit: u64,
    pub(super) state: State,
    /// The own disk takes no records.
    full: bool,
    /// The process is about to stop: this node takes part in nothing any more.
    leaving: bool,
    /// The others are told at the end of this step how this node stands.
    announce: bool,
    /// Heartbeats sent since the witness was heard.
    pub(super) unheard_beats: u8,
    /// What people are told to wait for; none when nothing was said yet.
    pub(super) waiting: Option<WaitingFor>,
    pub(super) seen: Seen,
    out: Vec<Effect>,
    pub(super) mutation: Option<Mutation>,
}

/// What it is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Standby(Standby),
    /// Stands for the present epoch, which it has made.
    Candidate,
    Active(Active),
}

/// A standby: follows, or waits for somebody to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Standby {
    /// It heard from the active of the present epoch, and follows it.
    pub(super) following: bool,
    /// It has asked whether it would be elected.
    pub(super) asking: bool,
    /// The own log equals the active's up to here, as far as compared in this epoch.
    matched: u64,
    /// Up to where the active of this epoch said that records are committed.
    told: u64,
    /// The log is being cut or replaced: nothing of it is compared any more.
    rebuilding: bool,
    /// Without a witness: has asked whether the reference and the peer answer, to promote itself.
    probing: bool,
    /// Without a witness: it has heard up to where the active had committed, since it began to follow it.
    informed: bool,
}

/// An active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Active {
    /// The index of its `EpochStarted` record; 0 before it is logged.
    started: u64,
    /// The last record written.
    written: u64,
    /// The standby holds everything up to here, fsynced, in this epoch.
    acked: u64,
    /// The witness's record (without one: the own) says that this epoch may acknowledge alone.
    solo: bool,
    /// The operator said that it may.
    forced: bool,
    /// It may, but waits for the standby for a moment, so that the standby can catch up under load.
    closing: bool,
    /// Up to where was committed at the last heartbeat: how far behind a standby may be to be waited for.
    commit_at_beat: u64,
    /// The witness's record, as last heard in this epoch.
    pub(super) known: Option<Pairing>,
    /// The version that a request for Paired is based on, which may still be on its way.
    pending: Option<u64>,
    /// The standby is overdue: asks to go on alone until it may or need not.
    overdue: bool,
    /// The record whose ack `Timer::AckOverdue` waits for; 0 when none.
    watched: u64,
    /// The peer did not vote and is presumably gone: its first ack is not waited for as long as usual.
    hurry: bool,
    /// The peer said that it acknowledges nothing for now: it is not waited for.
    away: bool,
    isolated: bool,
    /// Without a witness: has asked whether the reference answers, to go on alone.
    probing: bool,
    /// Another member was heard since the last heartbeat.
    heard: bool,
    hold: Hold,
}

/// How far a planned switchover is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Hold {
    #[default]
    None,
    /// Writes are held until the standby has the last record.
    Waiting,
    /// The standby was asked to stand.
    Handed,
}

impl Active {
    pub(super) fn forget_times(&mut self) {
        self.overdue = false;
        self.watched = 0;
        self.hurry = false;
        self.isolated = false;
        self.heard = false;
        self.probing = false;
        self.known = self.known.map(|mut pairing| {
            pairing.forget_from();
            pairing
        });
    }
}

impl Pairing {
    /// Forgets from which record on: that is for people.
    pub(super) fn forget_from(&mut self) {
        if let PairingState::Solo { from, .. } = &mut self.state {
            *from = 0;
        }
    }

    /// Whether it says that these two hold everything.
    pub(super) fn is_paired(&self, me: Member, peer: Member) -> bool {
        let names = |standby| (self.active, standby) == (me, peer) || (self.active, standby) == (peer, me);
        self.version > 0 && matches!(self.state, PairingState::Paired { standby } if names(standby))
    }
}

/// What is only shown to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    now_ms: u64,
    peer_ms: Option<u64>,
    witness_ms: Option<u64>,
    exposed_ms: Option<u64>,
    peer_log: LogEnd,
    peer_commit: u64,
    peer_away: bool,
    /// The witness's record, whatever its epoch: newer than the own copy.
    witness_empty: bool,
}

impl DataMember {
    /// The member with this number, with the durable state that it wrote last and the end of its fsynced log.
    #[must_use]
    pub fn new(me: Member, durable: Durable, log: LogEnd, settings: Settings) -> Self {
        Self {
            me,
            settings,
            durable,
            dirty: false,
            log,
            commit: 0,
            state: State::Standby(Standby::default()),
            full: false,
            leaving: false,
            announce: false,
            unheard_beats: 0,
            waiting: None,
            seen: Seen::default(),
            out: Vec::new(),
            mutation: None,
        }
    }

    /// What has to be kept on disk: written and synced at every `Effect::Persist`.
    #[must_use]
    pub const fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Takes what happened and tells what has to be done, in order. `now_ms` is only shown to people.
    pub fn step(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        self.seen.now_ms = now_ms;
        match input {
            _ if self.leaving => {}
            Input::Members { peer, witness } => self.change_members(peer, witness),
            Input::Removed => self.remove(),
            Input::Settings(settings) => self.settings = settings,
            Input::Room { full } => self.room(full),
            _ if self.durable.removed => {}
            Input::Leave => self.leave(),
            Input::Start => self.start(),
            Input::Fired(timer) => self.fired(timer),
            Input::Received { from, message } => self.received(from, message),
            Input::Written { index } => self.written(index),
            Input::Synced { log } => self.synced(log),
            Input::Started { epoch, index } => self.epoch_started(epoch, index),
            Input::Compared { epoch, relation, commit } => self.compared(epoch, relation, commit),
            Input::Probed { reference_answers, peer_answers } => self.probed(reference_answers, peer_answers),
            Input::Ordered(Order::Switchover) => self.begin_switchover(),
            Input::Ordered(Order::ForcePromote) => self.force(),
            Input::DataNodes { .. } => {}
        }
        if self.dirty {
            self.persist();
        }
        if std::mem::take(&mut self.announce) {
            self.send_heartbeats();
        }
        std::mem::take(&mut self.out)
    }

    fn start(&mut self) {
        if self.is_lone() {
            return self.promote_lone();
        }
        self.arm(Timer::Heartbeat, self.settings.heartbeat_ms);
        self.send_heartbeats();
        self.arm_silence(self.stagger_ms());
        let twice = if self.durable.was_active { 1 } else { 2 };
        self.arm_promotion(self.settings.promote_after_ms * twice);
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.beat(),
            Timer::ActiveSilence => self.active_is_silent(),
            Timer::Candidacy => self.candidacy_failed(),
            Timer::AckOverdue => self.ack_is_overdue(),
            Timer::Lease => self.lease_is_over(),
            Timer::PromoteAfter => self.peer_is_silent(),
            Timer::Switchover => self.switchover_failed(),
        }
    }

    /// Every heartbeat also repeats what may have been lost.
    fn beat(&mut self) {
        self.arm(Timer::Heartbeat, self.settings.heartbeat_ms);
        self.send_heartbeats();
        self.unheard_beats = self.unheard_beats.saturating_add(1);
        match self.state {
            // The witness may have heard the active a moment later than this node: it is asked again soon.
            State::Standby(Standby { asking: true, .. }) => self.ask_for_pre_votes(),
            State::Standby(_) => self.send_ack(),
            State::Candidate => self.ask_for_votes(false),
            State::Active(mut active) => {
                if active.heard && !self.is_lone() {
                    self.arm(Timer::Lease, self.settings.lease_ms);
                }
                active.heard = false;
                active.commit_at_beat = self.commit;
                self.state = State::Active(active);
                self.repeat_requests();
                self.hand_over();
            }
        }
    }

    fn received(&mut self, from: Member, message: Message) {
        let (peer, witness) = (self.durable.peer, self.durable.witness);
        if from == NOBODY || from == self.me || (Some(from) != peer && Some(from) != witness) {
            return;
        }
        // An active that says that it is not one any more is not what is waited for.
        let own = self.durable.epoch;
        let resigned = matches!(message, Message::Heartbeat { epoch, active: false, .. }
            if epoch == own && epoch.member() == from);
        self.reached(from, resigned);
        if let Message::PreVote { epoch, log } = message {
            return self.answer_pre_vote(from, epoch, log);
        }
        let asking = matches!(self.state, State::Standby(Standby { asking: true, .. }));
        let epoch = epoch_of(&message);
        if epoch > self.durable.epoch {
            self.adopt(epoch);
            if asking && matches!(message, Message::PreVoteAnswer { .. }) {
                // It only asked about an epoch that was too low.
                self.ask();
            }
        } else if epoch < self.durable.epoch {
            return self.refuse_old(from, &message);
        }
        match message {
            Message::Heartbeat { active, log, commit, pairing, away, .. } if Some(from) == peer => {
                self.peer_beats((from, active), log, (commit, pairing));
                self.peer_is_away(away);
            }
            Message::Heartbeat { pairing, .. } | Message::PairingIs { pairing, .. } if Some(from) == witness => {
                self.witness_says(pairing);
            }
            Message::Ack { index, .. } if Some(from) == peer => self.acked(index),
            Message::Vote { epoch, log, .. } if Some(from) == peer => self.vote(from, epoch, log),
            Message::PreVoteAnswer { epoch, granted, .. } => self.pre_vote_answered(epoch, granted),
            Message::VoteAnswer { epoch, granted, .. } => self.vote_answered(from, epoch, granted),
            Message::HandOver { index, .. } if Some(from) == peer => self.handed_over(from, index),
            _ => {}
        }
    }

    /// A member of a lower epoch speaks: it is told the present one, and steps down.
    fn refuse_old(&mut self, from: Member, message: &Message) {
        let own = self.durable.epoch;
        match *message {
            Message::Vote { epoch, .. } => self.send(from, Message::VoteAnswer { epoch, granted: false, own }),
            Message::Heartbeat { .. } | Message::Ack { .. } | Message::HandOver { .. } => {
                self.send(from, Message::Stale { epoch: own });
            }
            // Answers, and what only a witness says: the next heartbeat tells it.
            _ => {}
        }
    }

    /// Takes a higher epoch, and is no more than a standby in it.
    fn adopt(&mut self, epoch: Epoch) {
        self.durable.epoch = epoch;
        self.durable.granted = NOBODY;
        self.dirty = true;
        let was = self.state;
        self.become_standby();
        if let (State::Standby(old), State::Standby(new)) = (was, &mut self.state)
            && self.mutation == Some(Mutation::KeepsMatched)
        {
            new.matched = old.matched;
        }
    }

    fn become_standby(&mut self) {
        let before = std::mem::replace(&mut self.state, State::Standby(Standby::default()));
        match before {
            State::Active(_) => {
                self.durable.was_active = false;
                self.dirty = true;
                self.out.push(Effect::StepDown);
                for timer in [Timer::AckOverdue, Timer::Lease, Timer::Switchover] {
                    self.disarm(timer);
                }
                self.notice(Notice::SteppedDown { epoch: self.durable.epoch });
                self.seen.exposed_ms = None;
            }
            State::Standby(standby) if standby.following => self.out.push(Effect::Unfollow),
            State::Standby(_) | State::Candidate => {}
        }
        self.arm_silence(self.stagger_ms());
        // It does not know up to where an active of this epoch acknowledges.
        self.arm_promotion(self.settings.promote_after_ms * 2);
    }

    fn send_heartbeats(&mut self) {
        for to in [self.durable.peer, self.durable.witness].into_iter().flatten() {
            self.send_heartbeat(to);
        }
    }

    fn send_heartbeat(&mut self, to: Member) {
        let message = Message::Heartbeat {
            epoch: self.durable.epoch,
            active: self.can_be_relied_on(),
            log: self.log,
            commit: self.commit,
            pairing: self.durable.pairing,
            away: self.full || self.leaving,
        };
        self.send(to, message);
    }

    /// An active that hears nobody acknowledges nothing, so the others must not rely on it: it may well be heard, and then
    /// nobody would take over.
    fn can_be_relied_on(&self) -> bool {
        let State::Active(active) = &self.state else { return false };
        (!active.isolated || self.mutation == Some(Mutation::IsolatedIsActive)) && !self.leaving
    }

    /// The own disk takes records again, or no more: told at once, so that nobody waits for this node's acks.
    fn room(&mut self, full: bool) {
        if std::mem::replace(&mut self.full, full) != full && !self.durable.removed {
            self.send_heartbeats();
        }
    }

    /// The last word: nobody need wait for this node.
    fn leave(&mut self) {
        self.leaving = true;
        self.send_heartbeats();
    }

    /// No other member: nobody to ask, nobody to wait for.
    const fn is_lone(&self) -> bool {
        self.durable.peer.is_none() && self.durable.witness.is_none()
    }

    fn send(&mut self, to: Member, message: Message) {
        self.emit(Effect::Send { to, message });
    }

    fn arm(&mut self, timer: Timer, after_ms: u64) {
        self.out.push(Effect::Arm { timer, after_ms });
    }

    fn disarm(&mut self, timer: Timer) {
        self.out.push(Effect::Disarm(timer));
    }

    fn notice(&mut self, notice: Notice) {
        self.out.push(Effect::Notice(notice));
    }

    /// For what depends on the durable state: it comes behind it. Ending something need not wait for the disk.
    fn emit(&mut self, effect: Effect) {
        if self.dirty {
            self.persist();
        }
        self.out.push(effect);
    }

    fn persist(&mut self) {
        self.dirty = false;
        self.out.push(Effect::Persist);
    }
}

/// The sender's epoch. Answers to votes tell it apart from the epoch that they answer.
const fn epoch_of(message: &Message) -> Epoch {
    match *message {
        Message::PreVoteAnswer { own, .. } | Message::VoteAnswer { own, .. } => own,
        Message::Heartbeat { epoch, .. }
        | Message::PreVote { epoch, .. }
        | Message::Vote { epoch, .. }
        | Message::ChangePairing { epoch, .. }
        | Message::PairingIs { epoch, .. }
        | Message::Ack { epoch, .. }
        | Message::HandOver { epoch, .. }
        | Message::Stale { epoch } => epoch,
    }
}
