//! The protocol's messages (`core::failover::Message`) as bytes, field by field.
//!
//! A message in which something is missing that every build sends, or whose pairing is of a kind that this build does not
//! know, is not guessed at: it decodes to `None`, as if it had been lost, which the protocol must survive anyway.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Class, Wire, WireError, put};
use crate::core::failover::{Epoch, LogEnd, Member, Message, Pairing, PairingState};

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct LogEndProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

const STATE_PAIRED: u32 = 1;
const STATE_SOLO: u32 = 2;

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct StateProto {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(fixed64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    from: u64,
    #[prost(uint32, tag = "4")]
    standby: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PairingProto {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(fixed64, tag = "2")]
    epoch: u64,
    #[prost(uint32, tag = "3")]
    active: u32,
    #[prost(message, optional, tag = "4")]
    state: Option<StateProto>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HeartbeatProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(bool, tag = "2")]
    active: bool,
    #[prost(message, optional, tag = "3")]
    log: Option<LogEndProto>,
    #[prost(uint64, tag = "4")]
    commit: u64,
    #[prost(message, optional, tag = "5")]
    pairing: Option<PairingProto>,
    #[prost(bool, tag = "6")]
    away: bool,
}

/// A vote or pre-vote asked for.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct VoteProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(message, optional, tag = "2")]
    log: Option<LogEndProto>,
    #[prost(bool, tag = "3")]
    handed_over: bool,
}

/// A vote or pre-vote answered.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct VoteAnswerProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(fixed64, tag = "3")]
    own: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ChangePairingProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    base: u64,
    #[prost(message, optional, tag = "3")]
    state: Option<StateProto>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PairingIsProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(message, optional, tag = "2")]
    pairing: Option<PairingProto>,
}

/// An epoch and an index: an ack, a handing over.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct UpToProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct StaleProto {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Heartbeat(HeartbeatProto),
    #[prost(message, tag = "2")]
    PreVote(VoteProto),
    #[prost(message, tag = "3")]
    PreVoteAnswer(VoteAnswerProto),
    #[prost(message, tag = "4")]
    Vote(VoteProto),
    #[prost(message, tag = "5")]
    VoteAnswer(VoteAnswerProto),
    #[prost(message, tag = "6")]
    ChangePairing(ChangePairingProto),
    #[prost(message, tag = "7")]
    PairingIs(PairingIsProto),
    #[prost(message, tag = "8")]
    Ack(UpToProto),
    #[prost(message, tag = "9")]
    HandOver(UpToProto),
    #[prost(message, tag = "10")]
    Stale(StaleProto),
}

/// A control message on the wire; also inside log links.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ControlProto {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<Kind>,
}

impl Wire for Message {
    const CLASS: Class = Class::Control;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        put(out, &to_proto(self));
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        Ok(from_proto(&ControlProto::decode(bytes)?))
    }
}

/// How many messages were heard on a control link: the only thing that is said on it in the other direction. It is for
/// whoever keeps the link, never for the protocol: there a link carries messages one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// All since the link was made.
    pub messages: u64,
}

/// Its field is no kind of [`ControlProto`]: older builds skip it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HeardProto {
    #[prost(uint64, tag = "100")]
    messages: u64,
}

impl Wire for Heard {
    const CLASS: Class = Class::Control;

    fn encode(&self, out: &mut BytesMut) -> Option<Bytes> {
        put(out, &HeardProto { messages: self.messages });
        None
    }

    fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        Ok(Some(Self { messages: HeardProto::decode(bytes)?.messages }))
    }
}

pub(super) fn to_proto(message: &Message) -> ControlProto {
    let kind = match *message {
        Message::Heartbeat { epoch, active, log, commit, pairing, away } => Kind::Heartbeat(HeartbeatProto {
            epoch: epoch.0,
            active,
            log: Some(log_end_to(log)),
            commit,
            pairing: Some(pairing_to(pairing)),
            away,
        }),
        Message::PreVote { epoch, log } => {
            Kind::PreVote(VoteProto { epoch: epoch.0, log: Some(log_end_to(log)), handed_over: false })
        }
        Message::PreVoteAnswer { epoch, granted, own } => {
            Kind::PreVoteAnswer(VoteAnswerProto { epoch: epoch.0, granted, own: own.0 })
        }
        Message::Vote { epoch, log, handed_over } => {
            Kind::Vote(VoteProto { epoch: epoch.0, log: Some(log_end_to(log)), handed_over })
        }
        Message::VoteAnswer { epoch, granted, own } => {
            Kind::VoteAnswer(VoteAnswerProto { epoch: epoch.0, granted, own: own.0 })
        }
        Message::ChangePairing { epoch, base, state } => {
            Kind::ChangePairing(ChangePairingProto { epoch: epoch.0, base, state: Some(state_to(state)) })
        }
        Message::PairingIs { epoch, pairing } => {
            Kind::PairingIs(PairingIsProto { epoch: epoch.0, pairing: Some(pairing_to(pairing)) })
        }
        Message::Ack { epoch, index } => Kind::Ack(UpToProto { epoch: epoch.0, index }),
        Message::HandOver { epoch, index } => Kind::HandOver(UpToProto { epoch: epoch.0, index }),
        Message::Stale { epoch } => Kind::Stale(StaleProto { epoch: epoch.0 }),
    };
    ControlProto { kind: Some(kind) }
}

/// `None`: unknown, or something is missing.
pub(super) fn from_proto(proto: &ControlProto) -> Option<Message> {
    Some(match proto.kind? {
        Kind::Heartbeat(it) => Message::Heartbeat {
            epoch: Epoch(it.epoch),
            active: it.active,
            log: log_end_from(it.log?),
            commit: it.commit,
            pairing: pairing_from(it.pairing?)?,
            away: it.away,
        },
        Kind::PreVote(it) => Message::PreVote { epoch: Epoch(it.epoch), log: log_end_from(it.log?) },
        Kind::PreVoteAnswer(it) => {
            Message::PreVoteAnswer { epoch: Epoch(it.epoch), granted: it.granted, own: Epoch(it.own) }
        }
        Kind::Vote(it) => {
            Message::Vote { epoch: Epoch(it.epoch), log: log_end_from(it.log?), handed_over: it.handed_over }
        }
        Kind::VoteAnswer(it) => Message::VoteAnswer { epoch: Epoch(it.epoch), granted: it.granted, own: Epoch(it.own) },
        Kind::ChangePairing(it) => {
            Message::ChangePairing { epoch: Epoch(it.epoch), base: it.base, state: state_from(it.state?)? }
        }
        Kind::PairingIs(it) => Message::PairingIs { epoch: Epoch(it.epoch), pairing: pairing_from(it.pairing?)? },
        Kind::Ack(it) => Message::Ack { epoch: Epoch(it.epoch), index: it.index },
        Kind::HandOver(it) => Message::HandOver { epoch: Epoch(it.epoch), index: it.index },
        Kind::Stale(it) => Message::Stale { epoch: Epoch(it.epoch) },
    })
}

fn log_end_to(log: LogEnd) -> LogEndProto {
    LogEndProto { epoch: log.epoch.0, index: log.index }
}

fn log_end_from(proto: LogEndProto) -> LogEnd {
    LogEnd { epoch: Epoch(proto.epoch), index: proto.index }
}

fn state_to(state: PairingState) -> StateProto {
    match state {
        PairingState::Paired { standby } => {
            StateProto { kind: STATE_PAIRED, epoch: 0, from: 0, standby: u32::from(standby) }
        }
        PairingState::Solo { epoch, from } => StateProto { kind: STATE_SOLO, epoch: epoch.0, from, standby: 0 },
    }
}

fn state_from(proto: StateProto) -> Option<PairingState> {
    match proto.kind {
        STATE_PAIRED => Some(PairingState::Paired { standby: Member::try_from(proto.standby).ok()? }),
        STATE_SOLO => Some(PairingState::Solo { epoch: Epoch(proto.epoch), from: proto.from }),
        _ => None,
    }
}

fn pairing_to(pairing: Pairing) -> PairingProto {
    PairingProto {
        version: pairing.version,
        epoch: pairing.epoch.0,
        active: u32::from(pairing.active),
        state: Some(state_to(pairing.state)),
    }
}

fn pairing_from(proto: PairingProto) -> Option<Pairing> {
    Some(Pairing {
        version: proto.version,
        epoch: Epoch(proto.epoch),
        active: Member::try_from(proto.active).ok()?,
        state: state_from(proto.state?)?,
    })
}
