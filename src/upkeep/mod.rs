//! Local snapshots on a schedule, and the trimming of the log below them. Every data node does it for itself. Must never trim
//! what a rebuild from a snapshot, a rewind to before a fork, or the other node still needs; backups hold the log as well, until
//! the disk comes near its reserve.

mod plan;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::backup::service::BackupService;
use crate::limits::{DISK_PRESSED_PERCENT, UPKEEP_EVERY_SECONDS};
use crate::node::{Node, now_ms};
use crate::ops::disk::DiskWatch;
use crate::projection::ProjectionError;
use crate::projection::snapshot::{self, SnapshotInfo};
use crate::replication::PairHandle;
use plan::{Facts, Since};

/// What the upkeep works on.
#[derive(Clone)]
pub struct Upkeep {
    /// The node.
    pub node: Node,
    /// The pair, which knows how far the other node is.
    pub pair: PairHandle,
    /// The backups, which hold the log until they have it.
    pub backups: BackupService,
    /// The data disk.
    pub disk: Arc<DiskWatch>,
    /// The folder of snapshots.
    pub snapshots: PathBuf,
    /// The site.
    pub site: u16,
    /// Snapshots that were read back since the start: `(name, its own hash)`.
    pub verified: Arc<Mutex<HashSet<(u64, String)>>>,
}

/// How this node stands to the other one.
#[derive(Clone, Copy)]
struct Standing {
    /// Up to where the other data node is known to have the log; `None`: it does not matter.
    standby: Option<u64>,
    /// Up to where the history cannot be taken back.
    settled: u64,
}

impl Upkeep {
    /// Works until `shutdown`. A snapshot that is being written then is thrown away by the next one.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(UPKEEP_EVERY_SECONDS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await; // a server that has just started has better things to do
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let Some(standing) = self.standing().await else { continue };
            let upkeep = self.clone();
            let turn = tokio::task::spawn_blocking(move || upkeep.turn(standing));
            let done = tokio::select! {
                () = shutdown.cancelled() => return,
                done = turn => done,
            };
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "local snapshots and the trimming of the log failed; trying again")
                }
                Err(error) => tracing::error!(%error, "local snapshots and the trimming of the log broke off"),
            }
        }
    }

    async fn standing(&self) -> Option<Standing> {
        let status = self.pair.status().await?;
        let has_other = status.members.iter().any(|member| !member.this && member.kind == "data");
        let applied = self.node.applied_index();
        Some(match (has_other, status.role) {
            (false, _) => Standing { standby: None, settled: applied },
            // What a standby has applied was committed by both.
            (true, "standby") => Standing { standby: None, settled: applied },
            (true, "active") => Standing { standby: Some(status.standby_index), settled: status.standby_index },
            _ => return None,
        })
    }

    /// Makes a snapshot if one is due, then trims.
    fn turn(&self, standing: Standing) -> Result<(), ProjectionError> {
        // First of all: which one must not go when newer ones are written.
        snapshot::keep_base(&self.snapshots, standing.settled, self.node.log().first_index())?;
        if plan::is_snapshot_due(&self.since()?) {
            self.make()?;
        }
        let pressed = self.disk.check().is_ok_and(|disk| {
            disk.free_bytes < disk.reserve_bytes.saturating_add(disk.reserve_bytes / 100 * DISK_PRESSED_PERCENT)
        });
        let facts = Facts {
            first: self.node.log().first_index(),
            snapshots: self.verified()?,
            standby: standing.standby,
            backups: self.backups.shipped_index(),
            pressed,
        };
        let trim = plan::trim(&facts);
        self.backups.set_log_trimmed_ahead(trim.ahead_of_backups);
        if let Some(below) = trim.below {
            self.node.trim_log(below);
        }
        Ok(())
    }

    fn since(&self) -> Result<Since, ProjectionError> {
        let newest = snapshot::list_snapshots(&self.snapshots)?.pop();
        let manifest = newest.and_then(|dir| snapshot::read_manifest(&dir).ok());
        let (index, created_ms) = manifest.map_or((0, 0), |manifest| (manifest.index, manifest.created_ms));
        let after = self.node.log().segments().into_iter().filter(|segment| segment.last > index);
        Ok(Since {
            records: self.node.applied_index().saturating_sub(index),
            bytes: after.map(|segment| segment.bytes).sum(),
            age_ms: now_ms().saturating_sub(created_ms),
        })
    }

    fn make(&self) -> Result<(), ProjectionError> {
        let started = now_ms();
        let projection = self.node.projection();
        projection.checkpoint()?;
        let hold = projection.hold_checkpoints();
        let index = hold.stored().index;
        let chain = match self.node.log().position_at(index) {
            Ok(position) => position.chain,
            Err(error) => {
                tracing::error!(%error, index, "no snapshot can be made: the log does not know this record");
                return Ok(());
            }
        };
        snapshot::write_snapshot(&hold, &self.snapshots, SnapshotInfo { site: self.site, chain }, |_| {})?;
        tracing::info!(index, milliseconds = now_ms().saturating_sub(started), "a local snapshot was made");
        Ok(())
    }

    /// The indexes of the snapshots that were read back and are of this log's history, ascending. Each is read once.
    fn verified(&self) -> Result<Vec<u64>, ProjectionError> {
        let mut found = Vec::new();
        for dir in snapshot::list_snapshots(&self.snapshots)? {
            let Ok(manifest) = snapshot::read_manifest(&dir) else { continue };
            let name = (manifest.index, manifest.blake3.clone());
            let known = self.verified.lock().contains(&name);
            if !known {
                if let Err(error) = snapshot::verify_snapshot(&dir) {
                    tracing::error!(%error, "a local snapshot is damaged; the log is kept for it");
                    continue;
                }
                self.verified.lock().insert(name);
            }
            let ours = self.node.log().position_at(manifest.index);
            if ours.is_ok_and(|position| data_encoding::HEXLOWER.encode(&position.chain) == manifest.chain) {
                found.push(manifest.index);
            }
        }
        Ok(found)
    }
}
