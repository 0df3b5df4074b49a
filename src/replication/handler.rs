//! What becomes of the links that other members open to this data node.

use std::sync::Arc;

use super::bootstrap;
use super::context::Context;
use super::control;
use super::link::{Link, LinkError, LinkHandler, PeerHello};
use super::net::BoxFuture;
use super::salvage;
use super::service::PairHandle;
use super::shipper;
use super::wire::{Class, Hello, Welcome};
use crate::core::rows::PairMemberKind;
use crate::node::Node;

/// Takes the links of the peer port.
pub(super) struct Handler {
    pub(super) context: Arc<Context>,
    pub(super) node: Node,
    /// Lets machines in that want to join.
    pub(super) pair: PairHandle,
}

impl LinkHandler for Handler {
    fn welcome(&self) -> Welcome {
        let hello: Hello = self.context.hello(Class::Control);
        let log = self.node.log();
        let last = log.last_durable_index();
        let settings = self.context.settings.latest();
        let settings = (settings.version() > 0).then(|| settings.encode());
        Welcome { hello, first: if last == 0 { 0 } else { log.first_index() }, last, settings }
    }

    fn serve(&self, peer: PeerHello, link: Link) -> BoxFuture<'static, ()> {
        let (context, node) = (self.context.clone(), self.node.clone());
        let member = peer.hello.member;
        let class = link.class();
        if class != Class::Join {
            context.note_hello(&peer.hello);
        }
        if class == Class::Join {
            let inviter = self.pair.inviter();
            return Box::pin(async move {
                if let Some(inviter) = inviter
                    && let Err(error) = inviter.serve(peer, link).await
                {
                    tracing::warn!(code = error.code(), %error, "a joining link failed");
                }
            });
        }
        Box::pin(async move {
            let served = async {
                match class {
                    Class::Control => {
                        let take = |message| {
                            context.driver.received(member, message);
                            true
                        };
                        control::hear(link, peer.protocol, take).await
                    }
                    Class::Log => shipper::serve(context.clone(), node, (member, link)).await,
                    Class::Snapshot => bootstrap::serve_snapshots(&context, &node, link).await,
                    Class::Blob => bootstrap::serve_blobs(&context, link).await,
                    Class::Salvage => salvage::serve(&context, &node, link).await,
                    Class::Join => Ok(()),
                }
            };
            let still_member = async {
                // A member that was removed keeps no link.
                // A witness learns new settings when it dials anew.
                let opened = context.settings.latest().version();
                let witness = peer.kind == Some(PairMemberKind::Witness);
                let mut look = tokio::time::interval(std::time::Duration::from_millis(crate::limits::MEMBERS_LOOK_MS));
                loop {
                    let settings = context.settings.latest();
                    if settings.member(member).is_none() || (witness && settings.version() != opened) {
                        return;
                    }
                    look.tick().await;
                }
            };
            let ended = tokio::select! {
                biased;
                () = context.ending.cancelled() => Ok(()),
                () = still_member => Ok(()),
                ended = served => ended,
            };
            match ended {
                Ok(()) | Err(LinkError::Closed) => tracing::debug!(member, %class, "a link ended"),
                Err(error) => tracing::debug!(member, %class, code = error.code(), %error, "a link ended"),
            }
        })
    }
}
