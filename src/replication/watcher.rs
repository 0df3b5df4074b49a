//! What the log thread tells the pair: how far the log is, and who the members are by it. Called under the node's fence, so
//! it only passes on; it must never block.

use std::sync::Arc;

use tokio::sync::watch;

use super::driver::DriverHandle;
use super::settings::SettingsCache;
use super::watched::{Watch, Watched};
use crate::core::entry::Entry;
use crate::core::failover::{Epoch, Input};
use crate::node::NodeEvents;
use crate::oplog::{LogError, LogPosition};

/// Takes what the log thread tells.
pub(super) struct Watcher {
    log: Watched<LogPosition>,
    refusals: watch::Sender<u64>,
    driver: DriverHandle,
    settings: Arc<SettingsCache>,
    on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Watcher {
    /// A watcher for a node that is about to start.
    #[must_use]
    pub(super) fn new(
        driver: DriverHandle,
        settings: Arc<SettingsCache>,
        on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        let (log, refusals) = (Watched::new(LogPosition::default()), watch::Sender::new(0));
        Self { log, refusals, driver, settings, on_fatal }
    }

    /// Follows the log's durable end.
    pub(super) fn log(&self) -> Watch<LogPosition> {
        self.log.watch()
    }

    /// Counts how often received records did not fit, or had no room.
    pub(super) fn refusals(&self) -> watch::Receiver<u64> {
        self.refusals.subscribe()
    }

    /// The log was opened and ends here.
    pub(super) fn opened(&self, at: LogPosition) {
        self.log.set(at);
    }
}

impl NodeEvents for Watcher {
    fn received(&self, entries: &[Entry]) {
        for entry in entries {
            match self.settings.note(entry) {
                Ok(false) => {}
                Ok(true) => self.driver.settings_changed(),
                Err(error) => (self.on_fatal)(&format!("the pair settings cannot be written: {error}")),
            }
        }
    }

    fn appended(&self, after: &LogPosition) {
        self.log.set(*after);
    }

    fn started(&self, epoch: u64, index: u64) {
        self.driver.input(Input::Started { epoch: Epoch(epoch), index });
    }

    fn refused(&self, epoch: u64, error: &LogError) {
        tracing::warn!(epoch = epoch >> 16, code = error.code(), %error, "records of the active were not taken");
        self.refusals.send_modify(|count| *count += 1);
    }
}
