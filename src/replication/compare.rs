//! How the own log relates to the active's: the chain hash at an index covers everything before it, so a binary search
//! finds the last record that both have. That one log ends earlier is no fork.

use super::link::{Link, LinkError};
use super::wire::LogMessage;
use crate::core::entry::Digest;
use crate::limits;
use crate::node::Node;
use crate::oplog::LogError;

/// What the comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// The own log is a beginning of the active's, up to and with its own last record.
    Equal {
        /// That record's index.
        index: u64,
    },
    /// Both have a record at this index, and they differ; everything before is equal.
    Fork {
        /// The first such index.
        index: u64,
    },
    /// The active cannot continue the own log: it begins later, or the own log is so far behind that a snapshot is quicker.
    TooOld {
        /// From which index on the own records differ from the active's; `None` when none does.
        archive_from: Option<u64>,
    },
    /// The active's log is a beginning of the own one. It will differ, or not, when the active has written more.
    NotReady,
}

/// The active's record at an index.
enum There {
    Chain(Digest),
    Unknown { first: u64, last: u64 },
}

/// Compares the node's log with the one at the other end of the link, which ended with `end` when the link was made.
pub(super) async fn logs(link: &mut Link, node: &Node, end: u64) -> Result<Compared, LinkError> {
    let reader = node.log();
    let own = (reader.first_index(), reader.last_durable_index());
    if own.1 == 0 && end > limits::BOOTSTRAP_RECORDS {
        return Ok(Compared::TooOld { archive_from: None });
    }
    let there = match ask(link, own.1).await? {
        There::Chain(chain) if equal(node, own.1, &chain) => return Ok(Compared::Equal { index: own.1 }),
        There::Chain(_) => None,
        There::Unknown { first, last } => Some((first, last)),
    };
    if let Some((first, last)) = there {
        if own.1 + 1 < first {
            // Nothing of it differs as far as anybody can tell; records before the active's first cannot be compared.
            let differs = (own.1 > 0).then_some(own.0);
            return Ok(Compared::TooOld { archive_from: differs });
        }
        if own.1 == 0 {
            return Ok(Compared::Equal { index: 0 });
        }
        // The own log is longer: is the active's a beginning of it?
        if last >= own.0 - 1
            && let There::Chain(chain) = ask(link, last).await?
            && equal(node, last, &chain)
        {
            return Ok(Compared::NotReady);
        }
        return search(link, node, (own.0.max(first), last.min(own.1))).await;
    }
    search(link, node, (own.0, own.1)).await
}

/// Finds the first index at which the two differ, between the first that both could have and the last, which differs.
async fn search(link: &mut Link, node: &Node, (first, differs): (u64, u64)) -> Result<Compared, LinkError> {
    let before = first - 1;
    let mut low = match ask(link, before).await? {
        There::Chain(chain) if equal(node, before, &chain) => before,
        There::Chain(_) => return Ok(Compared::TooOld { archive_from: Some(first) }),
        There::Unknown { first: theirs, .. } => {
            // The active's log begins later: its first record is the first that can be compared.
            let place = theirs.max(first);
            match ask(link, place).await? {
                There::Chain(chain) if place <= differs && equal(node, place, &chain) => place,
                _ => return Ok(Compared::TooOld { archive_from: Some(first) }),
            }
        }
    };
    let mut high = differs;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match ask(link, middle).await? {
            There::Chain(chain) if equal(node, middle, &chain) => low = middle,
            There::Chain(_) => high = middle,
            There::Unknown { .. } => return Ok(Compared::NotReady), // it was trimmed meanwhile: look again
        }
    }
    Ok(Compared::Fork { index: high })
}

async fn ask(link: &mut Link, index: u64) -> Result<There, LinkError> {
    link.sender().send(&LogMessage::AskPosition { index }).await?;
    loop {
        match link.receiver().receive().await? {
            LogMessage::PositionIs { index: about, chain, .. } if about == index => return Ok(There::Chain(chain)),
            LogMessage::PositionUnknown { index: about, first, last } if about == index => {
                return Ok(There::Unknown { first, last });
            }
            _ => {}
        }
    }
}

/// Whether the own log has this chain hash at the index.
fn equal(node: &Node, index: u64, chain: &Digest) -> bool {
    match node.log().position_at(index) {
        Ok(position) => position.chain == *chain,
        Err(LogError::NotInLog { .. }) => false,
        Err(error) => {
            tracing::error!(index, %error, "the own log cannot be read");
            false
        }
    }
}
