//! What can happen next, and what of a state is dead and dropped.

use crate::check::Check;
use crate::log::name;
use crate::world::{FIRST_WITNESS, World};
use holdfast::core::failover::{Epoch, Input, Member, Message, Mutation, Order, Role, Timer};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Write(Member),
    /// The next membership goes into the active's log.
    Reconfigure(Member),
    Fsync(Member),
    /// The record at an index of the log of this epoch's active reaches a follower.
    Ship(Member, Epoch, u64),
    /// A bootstrap of that length is finished.
    Swap(Member, Epoch, u64),
    Deliver(Member, Member, Message),
    /// Any other message that carries the sender's epoch.
    Learn(Member, Member),
    /// Stands for election; that it would win is left to chance.
    Stand(Member),
    Fire(Member, Timer),
    Order(Member, Order),
    /// The first so many records survive.
    Crash(Member, u64),
    Up(Member),
    /// A witness is told who the data nodes are now.
    Tell(Member, usize),
}

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Write(me) => write!(f, "{me} writes"),
            Self::Reconfigure(me) => write!(f, "{me} changes the members"),
            Self::Fsync(me) => write!(f, "{me} fsyncs"),
            Self::Ship(me, epoch, index) => write!(f, "{me} gets record {index} of {}", name(epoch)),
            Self::Swap(me, epoch, len) => write!(f, "{me} swaps in {len} records of {}", name(epoch)),
            Self::Deliver(from, to, message) => write!(f, "{from} -> {to}: {message:?}"),
            Self::Learn(me, from) => write!(f, "{me} learns the epoch of {from}"),
            Self::Stand(me) => write!(f, "{me} stands"),
            Self::Fire(me, timer) => write!(f, "{me}: {timer:?}"),
            Self::Order(me, order) => write!(f, "{me}: {order:?}"),
            Self::Crash(me, keep) => write!(f, "{me} crashes and keeps {keep}"),
            Self::Tell(me, number) => write!(f, "{me} is told of membership {number}"),
            Self::Up(me) => write!(f, "{me} is up again"),
        }
    }
}

impl Check {
    pub(crate) fn acts(&self, world: &World, out: &mut Vec<Act>) {
        for (place, node) in world.nodes.iter().enumerate() {
            let me = place as Member + 1;
            if !node.up {
                out.push(Act::Up(me));
                continue;
            }
            if node.active.is_some() {
                self.acts_of_active(world, me, out);
            } else {
                if self.config.pre_votes {
                    out.push(Act::Fire(me, Timer::ActiveSilence));
                    out.push(Act::Fire(me, Timer::Candidacy));
                } else {
                    out.push(Act::Stand(me));
                }
                if self.config.unvoted {
                    out.push(Act::Fire(me, Timer::PromoteAfter));
                }
            }
            if world.left.forces > 0 {
                out.push(Act::Order(me, Order::ForcePromote));
            }
            if node.synced < node.log.len() {
                out.push(Act::Fsync(me));
            }
            if world.left.crashes > 0 {
                out.extend((node.synced..=node.log.len()).map(|keep| Act::Crash(me, keep)));
            }
        }
        self.acts_of_network(world, out);
    }

    fn acts_of_active(&self, world: &World, me: Member, out: &mut Vec<Act>) {
        let node = &world.nodes[usize::from(me) - 1];
        if world.left.records > 0 && !node.held {
            out.push(Act::Write(me));
        }
        if self.config.memberships.len() > 1 && !node.held {
            out.push(Act::Reconfigure(me));
        }
        if let (true, Some(peer)) = (self.config.goodbyes, node.member.durable().peer) {
            let epoch = node.member.durable().epoch;
            let (log, pairing) = Default::default();
            out.extend([true, false].map(|away| {
                let message = Message::Heartbeat { epoch, active: false, log, commit: 0, pairing, away };
                Act::Deliver(peer, me, message)
            }));
        }
        out.push(Act::Fire(me, Timer::AckOverdue));
        if node.member.acknowledges_alone() || world.left.switchovers < self.config.budget.switchovers {
            out.push(Act::Fire(me, Timer::Heartbeat));
        }
        if world.left.switchovers > 0 {
            out.push(Act::Order(me, Order::Switchover));
        }
        if node.held {
            out.push(Act::Fire(me, Timer::Switchover));
        }
    }

    fn acts_of_network(&self, world: &World, out: &mut Vec<Act>) {
        for reign in &world.reigns {
            for me in 1..=world.nodes.len() as Member {
                let node = &world.nodes[usize::from(me) - 1];
                if me == reign.epoch.member() || node.member.durable().epoch > reign.epoch || !node.up {
                    continue;
                }
                for index in 1..=reign.log.len() {
                    out.push(Act::Ship(me, reign.epoch, index));
                    if self.config.bootstrap {
                        out.push(Act::Swap(me, reign.epoch, index));
                    }
                }
            }
        }
        // A witness may be told of a membership too early: its vote does not rest on that list.
        let last = world.nodes.iter().map(|node| node.log.membership(node.log.len())).max().unwrap_or(0);
        if last > 0 {
            let witnesses = world.members().filter(|member| *member >= FIRST_WITNESS);
            out.extend(witnesses.map(|witness| Act::Tell(witness, last)));
        }
        out.extend(world.net.iter().map(|(from, to, message)| Act::Deliver(*from, *to, *message)));
        for me in world.members() {
            for from in world.members().filter(|from| *from != me) {
                if world.epoch_of(from) > world.epoch_of(me) {
                    out.push(Act::Learn(me, from));
                }
            }
        }
    }

    /// The state after that; none when nothing changes or a bound is reached.
    pub(crate) fn next(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        match act {
            Act::Write(me) => self.write(&mut world, me, 0)?,
            Act::Reconfigure(me) => self.reconfigure(&mut world, me)?,
            Act::Fsync(me) => self.fsync(&mut world, me),
            Act::Ship(me, epoch, index) => self.ship(&mut world, me, (epoch, index)),
            Act::Swap(me, epoch, len) => self.swap(&mut world, me, (epoch, len)),
            Act::Deliver(from, to, message) => self.deliver(&mut world, (from, to), message),
            Act::Learn(me, from) => {
                let message = Message::Stale { epoch: world.epoch_of(from) };
                self.deliver(&mut world, (from, me), message);
            }
            Act::Stand(me) => self.stand(&mut world, me),
            Act::Fire(me, timer) => self.step(&mut world, me, Input::Fired(timer)),
            Act::Order(me, order) => {
                let left = match order {
                    Order::Switchover => &mut world.left.switchovers,
                    Order::ForcePromote => &mut world.left.forces,
                };
                *left -= 1;
                self.step(&mut world, me, Input::Ordered(order));
            }
            Act::Crash(me, keep) => self.crash(&mut world, me, keep)?,
            Act::Tell(me, number) => {
                let data = self.config.memberships[number].data;
                let first = data[0].unwrap_or_default();
                self.step_witness(&mut world, me, Input::DataNodes { first, second: data[1] });
            }
            Act::Up(me) => {
                world.nodes[usize::from(me) - 1].up = true;
                self.step(&mut world, me, Input::Start);
            }
        }
        let high = world.members().any(|member| world.epoch_of(member).number() > self.config.epochs);
        let changed = world.witnesses.iter().any(|witness| witness.durable().pairing.version > self.config.versions);
        let own = world.nodes.iter().any(|node| node.member.durable().pairing.version > self.config.versions);
        let no_room = world.nodes.iter().any(|node| !node.log.has_room());
        if high || changed || own || no_room {
            return None;
        }
        self.drop_dead(&mut world);
        (world != *before).then_some(world)
    }

    pub(crate) fn write(&self, world: &mut World, me: Member, kind: usize) -> Option<()> {
        let node = &mut world.nodes[usize::from(me) - 1];
        let epoch = node.active?;
        node.log.push(epoch, kind);
        let log = node.log;
        if kind == 0 {
            world.left.records = world.left.records.checked_sub(1)?;
        }
        world.reign_mut(epoch)?.log = log;
        self.step(world, me, Input::Written { index: log.len() });
        Some(())
    }

    fn reconfigure(&self, world: &mut World, me: Member) -> Option<()> {
        let node = &world.nodes[usize::from(me) - 1];
        let number = node.log.membership(node.log.len()) + 1;
        let membership = self.config.memberships.get(number)?;
        membership.peer_of(me)?;
        self.write(world, me, number)?;
        if self.config.executor == Some(crate::config::Executor::TellsMembersEarly) {
            self.tell_members(world, me, number);
        }
        Some(())
    }

    pub(crate) fn fsync(&self, world: &mut World, me: Member) {
        let node = &mut world.nodes[usize::from(me) - 1];
        node.synced = node.log.len();
        let log = node.log.end(node.synced);
        self.step(world, me, Input::Synced { log });
        if self.config.executor == Some(crate::config::Executor::TellsMembersLate) {
            let number = world.nodes[usize::from(me) - 1].log.membership(log.index);
            if number > 0 && world.nodes[usize::from(me) - 1].active.is_none() {
                // Only what is known to be committed.
                let commit = world.nodes[usize::from(me) - 1].member.status(0).commit;
                let known = world.nodes[usize::from(me) - 1].log.membership(commit);
                if known > 0 {
                    self.tell_members(world, me, known);
                }
            }
        }
    }

    pub(crate) fn deliver(&self, world: &mut World, (from, to): (Member, Member), message: Message) {
        if to >= FIRST_WITNESS {
            self.step_witness(world, to, Input::Received { from, message });
        } else if world.nodes[usize::from(to) - 1].up {
            self.cover_delivery(world, to, &message);
            if let Message::Heartbeat { epoch, active: true, commit, .. } = message {
                let node = &mut world.nodes[usize::from(to) - 1];
                let same = node.member.durable().epoch == epoch;
                self.step(world, to, Input::Received { from, message });
                let node = &mut world.nodes[usize::from(to) - 1];
                if node.member.durable().epoch == epoch {
                    node.told = if same { node.told.max(commit) } else { commit };
                }
            } else {
                self.step(world, to, Input::Received { from, message });
            }
        }
    }

    /// Without pre-votes as messages: one succeeds.
    pub(crate) fn stand(&self, world: &mut World, me: Member) {
        let timer = match world.nodes[usize::from(me) - 1].member.status(0).role {
            Role::Candidate => Timer::Candidacy,
            _ => Timer::ActiveSilence,
        };
        self.step(world, me, Input::Fired(timer));
        let durable = *world.nodes[usize::from(me) - 1].member.durable();
        if let Some(from) = durable.witness.or(durable.peer) {
            let message = Message::PreVoteAnswer { epoch: durable.epoch.next(me), granted: true, own: durable.epoch };
            self.step(world, me, Input::Received { from, message });
        }
    }

    fn crash(&self, world: &mut World, me: Member, keep: u64) -> Option<()> {
        let node = &mut world.nodes[usize::from(me) - 1];
        let standby = node.member.status(0).role == Role::Standby;
        if standby && node.synced == node.log.len() && !self.config.unvoted {
            return None; // it loses nothing
        }
        world.left.crashes = world.left.crashes.checked_sub(1)?;
        node.synced = node.synced.min(keep);
        if self.config.unvoted {
            let durable = *node.member.durable();
            let log = node.log.cut(keep);
            *node = self.fresh(me, durable, (log, keep));
            node.up = false;
        } else {
            self.restart(world, me, keep);
        }
        let node = &mut world.nodes[usize::from(me) - 1];
        node.synced = keep;
        // What the disk holds after a crash is what survives the next one, too.
        let log = node.log.end(keep);
        self.step(world, me, Input::Synced { log });
        Some(())
    }

    /// Messages that change nothing any more, whenever they arrive, and history that no property can refer to.
    pub(crate) fn drop_dead(&self, world: &mut World) {
        self.answer_spontaneously(world);
        let mut net = std::mem::take(&mut world.net);
        net.retain(|(from, to, message)| self.is_alive(world, (*from, *to), message));
        keep_highest(&mut net);
        world.net = net;
        if self.violated(world).is_none() {
            self.forget_history(world);
        }
    }

    /// A witness may tell its record to a node of its epoch at any time, and an active may be heard at any time.
    fn answer_spontaneously(&self, world: &mut World) {
        let mut said = Vec::new();
        for (place, witness) in world.witnesses.iter().enumerate() {
            let durable = witness.durable();
            let (epoch, pairing) = (durable.epoch, durable.pairing);
            let to = epoch.member();
            let node = world.node(to);
            if node.is_some_and(|node| node.member.durable().epoch == epoch) {
                said.push((FIRST_WITNESS + place as Member, to, Message::PairingIs { epoch, pairing }));
            }
        }
        for packet in said {
            world.post(packet);
        }
        let beating: Vec<Member> = world
            .nodes
            .iter()
            .filter(|node| node.up && node.active.is_some())
            .map(|node| node.member.status(0).me)
            .collect();
        for me in beating {
            self.beat(world, me);
        }
    }

    /// The heartbeat that an active would send now.
    fn beat(&self, world: &mut World, me: Member) {
        let durable = *world.nodes[usize::from(me) - 1].member.durable();
        let commit = world.nodes[usize::from(me) - 1].member.status(0).commit;
        if let Some(to) = durable.peer {
            let pairing = if self.config.memberships[0].has_witness() { Default::default() } else { durable.pairing };
            let epoch = durable.epoch;
            world.post((
                me,
                to,
                Message::Heartbeat { epoch, active: true, log: Default::default(), commit, pairing, away: false },
            ));
        }
    }

    fn is_alive(&self, world: &World, (from, to): (Member, Member), message: &Message) -> bool {
        let own = world.epoch_of(to);
        let active = |epoch| world.node(to).is_some_and(|node| node.active == Some(epoch));
        match *message {
            Message::Vote { epoch, .. } => epoch >= own && (self.config.late_votes || Self::stands(world, epoch)),
            Message::VoteAnswer { epoch, .. } => Self::stands(world, epoch) && own == epoch,
            Message::PreVote { epoch, .. } => {
                let asks = |node: &crate::world::Node| node.member.asks();
                world.epoch_of(from).next(from) == epoch && world.node(from).is_some_and(asks)
            }
            Message::PreVoteAnswer { epoch, .. } => {
                own.next(to) == epoch && world.node(to).is_some_and(|node| node.member.asks())
            }
            Message::ChangePairing { epoch, base, .. } => {
                let witness = &world.witnesses[usize::from(to - FIRST_WITNESS)];
                let old = self.config.mutation == Some(Mutation::WitnessServesOldEpochs);
                let any = self.config.mutation == Some(Mutation::NoCompareAndSet);
                (epoch >= own || old) && (base >= witness.durable().pairing.version || any)
            }
            Message::PairingIs { epoch, pairing } => {
                let node = world.node(to);
                let known = node.and_then(|node| node.member.known_pairing());
                own == epoch
                    && (active(epoch) || Self::stands(world, epoch))
                    && known.is_none_or(|known| pairing.version >= known.version)
                    && node.is_some_and(|node| node.member.durable().witness == Some(from))
            }
            Message::Ack { epoch, .. } => active(epoch),
            Message::Heartbeat { epoch, .. } | Message::HandOver { epoch, .. } => epoch >= own,
            Message::Stale { .. } => false,
        }
    }

    /// What was acknowledged in an epoch that nobody can acknowledge in any more is compared only as far as it goes.
    fn forget_history(&self, world: &mut World) {
        let epochs: Vec<Epoch> = world.nodes.iter().map(|node| node.member.durable().epoch).collect();
        let mut most = 0;
        for place in 0..world.reigns.len() {
            let reign = world.reigns[place];
            most = most.max(reign.commit);
            let me = reign.epoch.member();
            let over = world.node(me).is_none_or(|node| node.active != Some(reign.epoch));
            let heard = (1..).zip(&epochs).any(|(node, epoch)| node != me && *epoch <= reign.epoch);
            if over && !heard {
                let keep = if reign.commit == 0 { 0 } else { most };
                world.reigns[place].log = reign.log.cut(keep.max(self.paired_of(&reign)));
            }
        }
        let everywhere = |epoch: Epoch| epochs.iter().all(|own| *own >= epoch);
        let top = world.reigns.iter().rfind(|reign| reign.commit > 0).copied();
        if let Some(top) = top.filter(|top| everywhere(top.epoch) && !self.config.excuses()) {
            world
                .reigns
                .retain(|reign| reign.epoch >= top.epoch || reign.commit > top.commit || self.paired_of(reign) > 0);
        }
        world.reigns.retain(|reign| reign.log.len() > 0);
    }

    fn paired_of(&self, reign: &crate::world::Reign) -> u64 {
        if self.config.unvoted { reign.paired } else { 0 }
    }
}

/// Of several acks of one epoch under way only the highest matters, and of heartbeats that say the same.
fn keep_highest(net: &mut Vec<(Member, Member, Message)>) {
    let same = |one: &(Member, Member, Message), other: &(Member, Member, Message)| {
        (one.0, one.1) == (other.0, other.1)
            && match (one.2, other.2) {
                (Message::Ack { epoch, .. }, Message::Ack { epoch: other, .. }) => epoch == other,
                (
                    Message::Heartbeat { epoch, active, pairing, .. },
                    Message::Heartbeat { epoch: other, active: also, pairing: copy, .. },
                ) => (epoch, active, pairing) == (other, also, copy),
                _ => false,
            }
    };
    // The set is ordered: of two alike the higher comes later.
    let all = net.clone();
    let mut place = 0;
    net.retain(|packet| {
        place += 1;
        !all[place..].iter().any(|later| same(packet, later) && later > packet)
    });
}
