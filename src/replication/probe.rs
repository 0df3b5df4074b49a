//! Whether somebody is there: what a standby without a witness asks before it promotes itself.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::net::Net;
use super::wire::Class;
use crate::core::failover::Member;
use crate::limits;

const PATIENCE: Duration = Duration::from_millis(limits::PROBE_MS);

/// Whether a machine lives at `address` (`host:port`): an answer is anything that only a living one can say, a refusal too.
pub(super) async fn lives(net: &dyn Net, address: &str) -> bool {
    match tokio::time::timeout(PATIENCE, net.connect(address)).await {
        Ok(Ok(_)) => true,
        // Its kernel said that nobody listens there: it lives.
        Ok(Err(error)) => matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset),
        Err(_) => false,
    }
}

/// Whether the member answers at any of its addresses. Only its own hello counts: a process that is dead or stopped on a
/// living machine answers nobody. All addresses are asked at once.
pub(super) async fn answers(context: &Arc<Context>, member: Member) -> bool {
    let mut asked = tokio::task::JoinSet::new();
    for address in context.settings.latest().addresses(member) {
        let context = Arc::clone(context);
        asked.spawn(async move {
            let dialled = context.dial_at(member, &address, Class::Control);
            // Connecting, TLS and the hello go there and back once each.
            let patience = PATIENCE + 4 * context.contacts.rtt(member, &address);
            matches!(tokio::time::timeout(patience, dialled).await, Ok(Ok(_)))
        });
    }
    while let Some(answer) = asked.join_next().await {
        if answer.unwrap_or(false) {
            return true;
        }
    }
    false
}
