//! When a durable batch may be acknowledged. The seam at which the standby joins the write path.

use crate::oplog::Appended;

/// Decides when entries that are durable on this node are committed.
pub trait AckRule: Send + Sync {
    /// Called by the log thread as soon as a batch is durable here, with the bytes to ship. Must not block.
    fn durable(&self, appended: &Appended);

    /// Called by the apply thread: returns once every entry up to `index` is committed.
    ///
    /// # Errors
    /// [`AckLost`] when they never will be in this epoch: the node is no longer active, and nobody is told "sent".
    fn committed(&self, index: u64) -> Result<(), AckLost>;
}

/// The batch can no longer be committed by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckLost;

/// A node alone: durable here is committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoloAck;

impl AckRule for SoloAck {
    fn durable(&self, _appended: &Appended) {}

    fn committed(&self, _index: u64) -> Result<(), AckLost> {
        Ok(())
    }
}
