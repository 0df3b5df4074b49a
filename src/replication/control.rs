//! The control links to the other members: one for each of their addresses, so that heartbeats survive the loss of one
//! network. A message that cannot be sent at once is lost, as the protocol expects; nothing here waits for anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::context::Contacts;
use super::link::{Link, LinkError};
use super::net::BoxFuture;
use super::settings::PairSettings;
use crate::core::failover::{Member, Message};
use crate::limits;

/// Who keeps the links: a data node or a witness.
pub(super) trait Dials: Send + Sync + 'static {
    /// Its own number.
    fn member(&self) -> Member;
    /// Connects to a member at one address.
    fn dial_control<'a>(&'a self, member: Member, address: &'a str) -> BoxFuture<'a, Result<Link, LinkError>>;
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
        let dialled = match tokio::time::timeout(patience, dialer.dial_control(member, &address)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(LinkError::ConnectTimeout { address: address.clone() }),
        };
        match dialled {
            Ok(link) => {
                if said.take().is_some() {
                    tracing::info!(member, address, "the control link is up again");
                }
                retry_ms = limits::CONTROL_RETRY_MS;
                dialer.contacts().up(member, &address);
                // What waited while nobody was there is out of date.
                while messages.try_recv().is_ok() {}
                let error = send_all(link, &mut messages).await;
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
                tokio::time::sleep(Duration::from_millis(retry_ms)).await;
                retry_ms = (retry_ms * 2).min(limits::CONTROL_RETRY_MS_MAX);
            }
        }
    }
}

/// Sends what comes until the link fails. Messages that wait together travel together.
async fn send_all(link: Link, messages: &mut mpsc::Receiver<Message>) -> LinkError {
    let (mut sender, mut receiver) = link.split();
    let patience = Duration::from_millis(limits::CONTROL_SEND_MS_MAX);
    loop {
        let first = tokio::select! {
            biased;
            message = messages.recv() => message,
            // Nothing is said in this direction: what ends is the link.
            ended = receiver.receive::<Message>() => match ended {
                Ok(_) => continue,
                Err(error) => return error,
            },
        };
        let Some(first) = first else { return LinkError::Closed };
        let mut next = Some(first);
        while let Some(message) = next {
            if let Err(error) = sender.queue(&message) {
                return error;
            }
            next = messages.try_recv().ok();
        }
        match tokio::time::timeout(patience, sender.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return LinkError::Silent { ms: limits::CONTROL_SEND_MS_MAX },
        }
    }
}
