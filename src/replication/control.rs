//! The control links to the other members: one for each of their addresses, so that heartbeats survive the loss of one
//! network. A message that cannot be sent at once is lost, as the protocol expects; nothing here waits for anybody.
//!
//! The other side says how many messages it has heard. So a link that loses them is known within a few heartbeats, ended
//! and dialled anew, and the time to there and back is measured.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::context::Contacts;
use super::link::{Link, LinkError};
use super::net::BoxFuture;
use super::settings::PairSettings;
use super::wire::{Heard, Welcome};
use crate::core::failover::{Member, Message};
use crate::limits;

/// A link that is being made.
pub(super) type Dialling<'a> = BoxFuture<'a, Result<(Welcome, Link), LinkError>>;

/// Who keeps the links: a data node or a witness.
pub(super) trait Dials: Send + Sync + 'static {
    /// Its own number.
    fn member(&self) -> Member;
    /// Connects to a member at one address.
    fn dial_control<'a>(&'a self, member: Member, address: &'a str) -> Dialling<'a>;
    /// How long a message may take to be heard on a link without delay.
    fn unheard_max(&self) -> Duration;
    /// The state of the links, for people.
    fn contacts(&self) -> &Contacts;
}

/// One address of one member.
struct Outgoing {
    queue: mpsc::Sender<Message>,
    task: JoinHandle<()>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All outgoing control links.
pub(super) struct ControlLinks {
    dialer: Arc<dyn Dials>,
    links: BTreeMap<(Member, String), Outgoing>,
}

impl ControlLinks {
    pub(super) fn new(dialer: Arc<dyn Dials>) -> Self {
        Self { dialer, links: BTreeMap::new() }
    }

    /// Keeps a link to every address of every other member, and none to anybody else.
    pub(super) fn connect(&mut self, settings: &PairSettings) {
        let mut wanted = Vec::new();
        for member in &settings.0.members {
            let Ok(number) = Member::try_from(member.number) else { continue };
            if number != self.dialer.member() {
                wanted.extend(member.addresses.iter().map(|address| (number, address.clone())));
            }
        }
        self.links.retain(|place, _| wanted.contains(place));
        for place in wanted {
            let dialer = &self.dialer;
            self.links.entry(place.clone()).or_insert_with(|| {
                let (queue, messages) = mpsc::channel(limits::CONTROL_QUEUE_MAX);
                Outgoing { queue, task: tokio::spawn(keep(dialer.clone(), place, messages)) }
            });
        }
    }

    /// Sends what waits, and ends all links; a link that is down is not waited for longer than `patience`.
    pub(super) async fn finish(&mut self, patience: Duration) {
        let mut links = std::mem::take(&mut self.links);
        for link in links.values_mut() {
            // Without a sender the task sends what is left, and ends.
            link.queue = mpsc::channel(1).0;
        }
        let ended = async {
            for link in links.values_mut() {
                drop((&mut link.task).await);
            }
        };
        // A second copy of each message may have gone over another link.
        drop(tokio::time::timeout(patience, ended).await);
    }

    /// Sends a message over every link to the member; a second copy does no harm.
    pub(super) fn send(&self, to: Member, message: Message) {
        for (_, link) in self.links.range((to, String::new())..).take_while(|((member, _), _)| *member == to) {
            // Full: nobody takes messages there, so one more would come too late anyway.
            let _ = link.queue.try_send(message);
        }
    }
}

/// Keeps one link up for ever.
async fn keep(dialer: Arc<dyn Dials>, (member, address): (Member, String), mut messages: mpsc::Receiver<Message>) {
    let mut retry_ms = limits::CONTROL_RETRY_MS;
    let mut said = None;
    loop {
        let patience = Duration::from_millis(limits::CONTROL_DIAL_MS_MAX);
        let begun = Instant::now();
        let dialled = match tokio::time::timeout(patience, dialer.dial_control(member, &address)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(LinkError::ConnectTimeout { address: address.clone() }),
        };
        match dialled {
            Ok((welcome, link)) => {
                if said.take().is_some() {
                    tracing::info!(member, address, "the control link is up again");
                }
                retry_ms = limits::CONTROL_RETRY_MS;
                dialer.contacts().up(member, &address);
                // What waited while nobody was there is out of date.
                while messages.try_recv().is_ok() {}
                let kept = Kept { dialer: &*dialer, member, address: &address };
                let answers = welcome.hello.protocol >= limits::PEER_PROTOCOL_HEARD;
                let error = kept.send_all(link, (&mut messages, Unheard::new(answers, begun.elapsed()))).await;
                dialer.contacts().down(member, &address, &error);
                if messages.is_closed() {
                    return;
                }
            }
            Err(error) => {
                // Once for each kind of trouble: a dead peer would fill the log otherwise.
                if said.as_deref() != Some(error.code()) {
                    tracing::warn!(member, address, code = error.code(), %error, "no control link");
                    said = Some(error.code().to_owned());
                }
                dialer.contacts().down(member, &address, &error);
                if messages.is_closed() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(retry_ms)).await;
                retry_ms = (retry_ms * 2).min(limits::CONTROL_RETRY_MS_MAX);
            }
        }
    }
}

/// What was sent on a link and not heard yet.
struct Unheard {
    /// Whether the other side tells at all.
    answers: bool,
    sent: u64,
    /// Messages by their number, and when each left; the oldest first. Bounded: what is beyond is not watched.
    waiting: VecDeque<(u64, Instant)>,
    /// There and back, as measured last.
    rtt: Duration,
}

impl Unheard {
    const fn new(answers: bool, rtt: Duration) -> Self {
        Self { answers, sent: 0, waiting: VecDeque::new(), rtt }
    }

    fn sent(&mut self, messages: u64) {
        self.sent += messages;
        if self.answers && self.waiting.len() < limits::CONTROL_QUEUE_MAX {
            self.waiting.push_back((self.sent, Instant::now()));
        }
    }

    /// Takes what the other side says. Gives the time there and back when it tells that.
    fn heard(&mut self, heard: Heard) -> Option<Duration> {
        let mut latest = None;
        while let Some((_, at)) = self.waiting.pop_front_if(|(number, _)| *number <= heard.messages) {
            latest = Some(at);
        }
        self.rtt = latest?.elapsed();
        Some(self.rtt)
    }

    /// When the link is to be given up.
    fn until(&self, unheard_max: Duration) -> Option<Instant> {
        self.waiting.front().map(|(_, at)| *at + unheard_max + 2 * self.rtt)
    }
}

/// One link that is kept.
struct Kept<'a> {
    dialer: &'a dyn Dials,
    member: Member,
    address: &'a str,
}

impl Kept<'_> {
    /// Sends what comes until the link fails. Messages that wait together travel together.
    async fn send_all(
        &self,
        link: Link,
        (messages, mut unheard): (&mut mpsc::Receiver<Message>, Unheard),
    ) -> LinkError {
        let (mut sender, mut receiver) = link.split();
        let patience = Duration::from_millis(limits::CONTROL_SEND_MS_MAX);
        loop {
            let unheard_max = self.dialer.unheard_max();
            let given_up = unheard.until(unheard_max);
            let first = tokio::select! {
                biased;
                heard = receiver.receive::<Heard>() => match heard {
                    Ok(heard) => {
                        if let Some(rtt) = unheard.heard(heard) {
                            self.dialer.contacts().measured(self.member, self.address, rtt);
                        }
                        continue;
                    }
                    Err(error) => return error,
                },
                () = tokio::time::sleep_until(given_up.unwrap_or_else(Instant::now)), if given_up.is_some() => {
                    return LinkError::Silent { ms: unheard_max.as_millis() as u64 };
                }
                message = messages.recv() => message,
            };
            let Some(first) = first else { return LinkError::Closed };
            let (mut next, mut count) = (Some(first), 0);
            while let Some(message) = next {
                if let Err(error) = sender.queue(&message) {
                    return error;
                }
                count += 1;
                next = messages.try_recv().ok();
            }
            match tokio::time::timeout(patience, sender.flush()).await {
                Ok(Ok(())) => unheard.sent(count),
                Ok(Err(error)) => return error,
                Err(_) => return LinkError::Silent { ms: limits::CONTROL_SEND_MS_MAX },
            }
        }
    }
}

/// Takes the messages of a link that another member has opened, as long as `take` wants more, and tells that member how
/// many were heard, if it listens to that.
pub(super) async fn hear(link: Link, protocol: u32, mut take: impl FnMut(Message) -> bool) -> Result<(), LinkError> {
    let answers = protocol >= limits::PEER_PROTOCOL_HEARD;
    let (mut sender, mut receiver) = link.split();
    let mut messages = 0;
    loop {
        tokio::select! {
            biased;
            // Whether it can be said must not keep anything from being heard.
            said = sender.flush(), if sender.queued_bytes() > 0 => said?,
            message = receiver.receive::<Message>() => {
                if !take(message?) {
                    return Ok(());
                }
                messages += 1;
                if answers && sender.queued_bytes() == 0 {
                    sender.queue(&Heard { messages })?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_not_heard_in_time_ends_the_link_and_slow_networks_have_more_time() {
        let max = Duration::from_secs(1);
        let mut unheard = Unheard::new(true, Duration::from_millis(10));
        assert_eq!(unheard.until(max), None, "nothing was sent");
        let begun = Instant::now();
        unheard.sent(1);
        tokio::time::advance(Duration::from_millis(250)).await;
        unheard.sent(2);
        assert_eq!(unheard.until(max), Some(begun + Duration::from_millis(1_020)), "the first of them counts");
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(unheard.heard(Heard { messages: 1 }), Some(Duration::from_millis(500)));
        assert_eq!(unheard.until(max), Some(begun + Duration::from_millis(250 + 1_000 + 1_000)));
        assert_eq!(unheard.heard(Heard { messages: 1 }), None, "nothing new");
        assert_eq!(unheard.heard(Heard { messages: 3 }), Some(Duration::from_millis(250)));
        assert_eq!(unheard.until(max), None, "everything was heard");
        for _ in 0..limits::CONTROL_QUEUE_MAX * 2 {
            unheard.sent(1);
        }
        assert_eq!(unheard.waiting.len(), limits::CONTROL_QUEUE_MAX, "bounded");
    }

    #[tokio::test]
    async fn of_a_member_that_tells_nothing_nothing_is_expected() {
        let mut unheard = Unheard::new(false, Duration::ZERO);
        unheard.sent(1);
        assert_eq!(unheard.until(Duration::ZERO), None);
    }
}
