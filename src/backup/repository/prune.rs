//! Removing what retention lets go, and what interrupted runs left. Must never remove a part that a manifest names which
//! stays, nor a manifest after one of its parts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::tz::TimeZone;

use super::super::error::BackupError;
use super::super::manifest::{Manifest, PartKind, manifest_path};
use super::super::meter::{Meter, Phase, Watch};
use super::super::target::TargetError;
use super::super::workers;
use super::retention::{Candidate, Decision, Policy, retention};
use super::verify::PART_FOLDERS;
use super::{Listed, Repository, chain};
use crate::limits::{BACKUP_ORPHAN_HOURS, BACKUP_WORKERS_MAX};

/// What is to be pruned, and how.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// What stays.
    pub policy: Policy,
    /// The zone of hours and days.
    pub zone: TimeZone,
    /// The time, in Unix milliseconds.
    pub now_ms: u64,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PruneReport {
    /// Every backup, and why it stays or goes.
    pub decisions: Vec<Decision>,
    /// Parts that go.
    pub parts: Vec<String>,
    /// Their stored bytes.
    pub bytes: u64,
    /// Whether it was done.
    pub done: bool,
    /// What was left alone, and why; for people.
    pub notes: Vec<String>,
}

impl Repository {
    /// Removes the backups that `options` let go, with the parts that nobody needs any more, and parts of interrupted runs
    /// that are older than a day. Nothing on an append-only target. No backup may be written meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]; what was not removed goes the next time.
    pub fn prune(&self, options: &PruneOptions, watch: Watch<'_>) -> Result<PruneReport, BackupError> {
        let meter = Meter::new(watch);
        let listed = self.list(None)?;
        let candidates: Vec<Candidate> = listed.iter().map(Candidate::from).collect();
        let mut report =
            PruneReport { decisions: retention(&candidates, &options.policy, &options.zone), ..PruneReport::default() };
        if self.is_append_only() {
            report.notes.push("nothing is ever removed from an append-only target".to_owned());
            for decision in report.decisions.iter_mut().filter(|decision| !decision.keep) {
                decision.keep = true;
                "the target is append-only".clone_into(&mut decision.reason);
            }
            return Ok(report);
        }
        let kept: HashSet<&str> =
            report.decisions.iter().filter(|decision| decision.keep).map(|decision| decision.name.as_str()).collect();
        let going: Vec<&Listed> = listed.iter().filter(|item| !kept.contains(item.name.as_str())).collect();
        let staying: Vec<&Listed> = listed.iter().filter(|item| kept.contains(item.name.as_str())).collect();
        let parts = self.unneeded(&staying, &going, (options.now_ms, &mut report.notes))?;
        report.bytes = parts.values().sum();
        report.parts = parts.into_keys().collect();
        if options.dry_run {
            return Ok(report);
        }
        self.remove_all(&going, &report.parts, &meter)?;
        report.done = true;
        Ok(report)
    }

    /// The manifests, then what only they needed.
    fn remove_all(&self, going: &[&Listed], parts: &[String], meter: &Meter<'_>) -> Result<(), BackupError> {
        meter.begin(Phase::Removing, 0, (going.len() + parts.len()) as u64);
        // The newest first: an interruption never leaves one without what it rests on.
        for item in going.iter().rev() {
            meter.check()?;
            self.place().remove(&manifest_path(&item.name))?;
            meter.part(0);
        }
        self.place().settle()?;
        workers::map(parts, BACKUP_WORKERS_MAX, |path| {
            meter.check()?;
            self.place().remove(path)?;
            meter.part(0);
            Ok::<_, BackupError>(())
        })?;
        Ok(self.place().settle()?)
    }

    /// The parts that may go, with their sizes.
    fn unneeded(
        &self,
        staying: &[&Listed],
        going: &[&Listed],
        (now_ms, notes): (u64, &mut Vec<String>),
    ) -> Result<BTreeMap<String, u64>, BackupError> {
        if staying.is_empty() {
            notes.push("no part is removed: there is no backup here at all, which may be a mistake".to_owned());
            return Ok(BTreeMap::new());
        }
        if let Some(bad) = staying.iter().find(|item| item.manifest.is_err()) {
            notes.push(format!(
                "no part is removed: nobody knows what backup {} needs, its manifest is damaged",
                bad.name
            ));
            return Ok(BTreeMap::new());
        }
        // A manifest that was lost may be found again: what it needs is not taken away meanwhile.
        let kept: Vec<Listed> = staying.iter().map(|item| (*item).clone()).collect();
        if let Some(error) = kept.iter().find_map(|item| chain(&kept, &item.name).err()) {
            notes.push(format!("no part is removed: {error}"));
            return Ok(BTreeMap::new());
        }
        let Some(needed) = self.named_by(staying, notes)? else { return Ok(BTreeMap::new()) };
        // What is damaged of those that go need not be known: it is an orphan then.
        let named = self.named_by(going, &mut Vec::new())?.unwrap_or_default();
        let old = now_ms.saturating_sub(BACKUP_ORPHAN_HOURS * 3_600_000);
        let mut found = BTreeMap::new();
        for folder in PART_FOLDERS {
            for file in self.place().list(folder)? {
                let orphan = file.stored_ms != 0 && file.stored_ms < old;
                if !needed.contains(&file.path) && (orphan || named.contains(&file.path)) {
                    found.insert(file.path, file.size);
                }
            }
        }
        Ok(found)
    }

    /// All paths that these backups name; `None` when a blob list cannot be read.
    fn named_by(&self, backups: &[&Listed], notes: &mut Vec<String>) -> Result<Option<BTreeSet<String>>, BackupError> {
        let manifests: Vec<&Manifest> = backups.iter().filter_map(|item| item.manifest.as_ref().ok()).collect();
        let mut paths = BTreeSet::new();
        let mut lists = Vec::new();
        for manifest in manifests {
            paths.extend(manifest.parts.iter().map(|part| part.path.clone()));
            lists.extend(
                manifest.parts.iter().filter(|part| part.kind == PartKind::BlobList).map(|part| (manifest, part)),
            );
        }
        let read = workers::map(&lists, BACKUP_WORKERS_MAX, |(manifest, part)| match self.blob_list(part) {
            Ok(blobs) => Ok(Ok(blobs.iter().map(|(hash, _)| manifest.blob_path(hash)).collect::<Vec<_>>())),
            Err(BackupError::Part { path, .. } | BackupError::Target(TargetError::NotFound(path))) => Ok(Err(path)),
            Err(error) => Err(error),
        })?;
        for list in read {
            match list {
                Ok(blobs) => paths.extend(blobs),
                Err(path) => {
                    notes.push(format!(
                        "no part is removed: the blob list {path} cannot be read; verify the repository"
                    ));
                    return Ok(None);
                }
            }
        }
        Ok(Some(paths))
    }
}
