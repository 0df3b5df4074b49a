//! A full disk. The others are told, so that they do not wait for this node; and an active that can take no writes any more
//! hands over to a standby that can. Must never hand over to one whose disk is full, too: the two would do nothing else.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::desk::SwitchoverReason;
use super::service::PairHandle;
use crate::core::failover::{Input, Role};
use crate::limits;

/// Looks again and again whether the disk takes records.
pub(super) async fn watch(pair: PairHandle) {
    let mut look = interval(Duration::from_millis(limits::ROOM_LOOK_MS));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut tried) = (false, None::<Instant>);
    loop {
        look.tick().await;
        let full = !pair.node.accepting();
        if full != told {
            told = full;
            pair.context.driver.input(Input::Room { full });
        }
        let soon = tried.is_some_and(|at| at.elapsed() < Duration::from_millis(limits::ROOM_RETRY_MS));
        if !full {
            tried = None;
        } else if !soon && pair.node.role() == crate::node::Role::Active && can_hand_over(&pair).await {
            tried = Some(Instant::now());
            hand_over(&pair).await;
        }
    }
}

/// Whether the standby holds everything and has room. If not, writes are refused until there is room somewhere.
async fn can_hand_over(pair: &PairHandle) -> bool {
    let fail_after_ms = pair.context.settings.latest().timings().fail_after_ms.into();
    let status = pair.driver().status().await;
    status.is_some_and(|status| {
        let heard = status.peer.and_then(|peer| peer.heard_ms_ago);
        let lives = heard.is_some_and(|ms| ms <= fail_after_ms);
        status.role == Role::Active && status.protected && lives && !status.peer_away && !status.switchover
    })
}

async fn hand_over(pair: &PairHandle) {
    let text = "the disk of this node is full: it hands over to the standby, which has room";
    tracing::warn!("{text}");
    pair.context.notices.say(text.to_owned(), pair.context.now_ms());
    if let Err(error) = pair.switchover(SwitchoverReason::DiskFull).await {
        tracing::warn!(code = error.code, %error, "could not hand over although the disk is full; trying again");
    }
}
