//! A repository: which backups it has, what each rests on, whether all of it is as it was stored, what may go. Must never
//! delete what a kept backup needs, and never take a part for good that was not read.

mod cache;
mod chain;
mod place;
mod prune;
mod retention;
mod verify;

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;

use super::error::BackupError;
use super::manifest::{Manifest, ManifestError, manifest_path};
use super::target::{Target, TargetError};
use super::workers;
use crate::limits::{BACKUP_DRILL_BYTES_MAX, BACKUP_MANIFEST_BYTES_MAX, BACKUP_WORKERS_MAX};

pub use cache::Cache;
pub use chain::{ChainError, chain};
pub use place::Place;
pub use prune::{PruneOptions, PruneReport};
pub use retention::{Candidate, Decision, Policy, retention};
pub use verify::{Finding, VerifyReport, Wrong};

/// One backup of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name: `<UTC time>-<index>`.
    pub name: String,
    /// What it says, when it is to be believed.
    pub manifest: Result<Manifest, ManifestError>,
    /// The signer's fingerprint; empty when the manifest is not to be believed.
    pub signer: String,
    /// The BLAKE3 of the manifest's bytes, in hex.
    pub blake3: String,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether a drill of it went well, by the reports in the repository.
    pub drilled: bool,
}

impl Listed {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let (manifest, signer) = match Manifest::read(name, bytes) {
            Ok((manifest, signer)) => (Ok(manifest), signer),
            Err(error) => (Err(error), String::new()),
        };
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        Self { name: name.to_owned(), manifest, signer, blake3, pinned: false, drilled: false }
    }
}

/// A repository at a place.
#[derive(Clone)]
pub struct Repository {
    place: Arc<dyn Place>,
    append_only: bool,
}

impl Repository {
    /// The repository that lies on a target; empty when nothing is there. `append_only`: nothing is ever deleted or
    /// replaced in it.
    #[must_use]
    pub fn new(target: Target, append_only: bool) -> Self {
        Self::on(Arc::new(target), append_only)
    }

    /// The same on any place.
    #[must_use]
    pub fn on(place: Arc<dyn Place>, append_only: bool) -> Self {
        Self { place, append_only }
    }

    /// Where it lies.
    #[must_use]
    pub fn place(&self) -> &dyn Place {
        &*self.place
    }

    /// Whether nothing is ever deleted or replaced in it.
    #[must_use]
    pub const fn is_append_only(&self) -> bool {
        self.append_only
    }

    /// The names of all backups, the oldest first.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn names(&self) -> Result<Vec<String>, TargetError> {
        Ok(self.stored_manifests()?.into_iter().map(|(name, _)| name).collect())
    }

    fn stored_manifests(&self) -> Result<Vec<(String, u64)>, TargetError> {
        let stored = self.place.list("manifests")?;
        let name = |path: &str| Some(path.strip_prefix("manifests/")?.strip_suffix(".json")?.to_owned());
        let mut found: Vec<_> = stored.iter().filter_map(|file| Some((name(&file.path)?, file.size))).collect();
        found.sort();
        Ok(found)
    }

    /// All backups, the oldest first, every manifest read and checked, with its pin and its drill. With a
    /// cache, manifests that it has are not fetched, but for the newest.
    ///
    /// # Errors
    /// [`TargetError`] when the target does not answer; a manifest that is not to be believed is no error.
    pub fn list(&self, cache: Option<&Cache>) -> Result<Vec<Listed>, TargetError> {
        let mut listed = self.manifests(cache)?;
        let (pins, drilled) = (self.pins()?, self.drilled_well()?);
        for item in &mut listed {
            item.pinned = pins.contains(&item.name);
            item.drilled = drilled.contains(&item.name);
        }
        Ok(listed)
    }

    /// The same without pins and drills: for a run every minute.
    ///
    /// # Errors
    /// As [`Repository::list`].
    pub fn manifests(&self, cache: Option<&Cache>) -> Result<Vec<Listed>, TargetError> {
        let names = self.stored_manifests()?;
        if let Some(cache) = cache {
            cache.retain(&names.iter().map(|(name, _)| name.as_str()).collect());
        }
        let newest = names.last().map(|(name, _)| name.clone());
        let listed = workers::map(&names, BACKUP_WORKERS_MAX, |(name, size)| {
            let copy = cache.filter(|_| newest.as_ref() != Some(name)).and_then(|cache| cache.manifest(name, *size));
            // A copy that a power cut spoilt is none.
            if let Some(copy) = copy.map(|bytes| Listed::new(name, &bytes)).filter(|copy| copy.manifest.is_ok()) {
                return Ok(Some(copy));
            }
            let bytes = match self.place.read(&manifest_path(name), BACKUP_MANIFEST_BYTES_MAX) {
                Ok(bytes) => bytes,
                // Removed since it was listed.
                Err(TargetError::NotFound(_)) => return Ok(None),
                Err(TargetError::TooLarge { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            let listed = Listed::new(name, &bytes);
            if let (Some(cache), Ok(_)) = (cache, &listed.manifest) {
                cache.keep_manifest(name, &bytes);
            }
            Ok(Some(listed))
        })?;
        Ok(listed.into_iter().flatten().collect())
    }

    fn pins(&self) -> Result<HashSet<String>, TargetError> {
        let stored = self.place.list("pins")?;
        Ok(stored.iter().filter_map(|file| Some(file.path.strip_prefix("pins/")?.to_owned())).collect())
    }

    /// The backups that a drill report in the repository calls good: `backup` has the manifest's name, `good` is true.
    fn drilled_well(&self) -> Result<HashSet<String>, TargetError> {
        #[derive(Deserialize)]
        struct Report {
            backup: String,
            good: bool,
        }
        let reports = self.place.list("drills")?;
        let read = workers::map(&reports, BACKUP_WORKERS_MAX, |file| {
            match self.place.read(&file.path, BACKUP_DRILL_BYTES_MAX) {
                Ok(bytes) => Ok(serde_json::from_slice::<Report>(&bytes).ok().filter(|report| report.good)),
                Err(TargetError::NotFound(_) | TargetError::TooLarge { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        Ok(read.into_iter().flatten().map(|report| report.backup).collect())
    }

    /// Pins a backup: retention keeps it and what it rests on.
    ///
    /// # Errors
    /// [`ChainError::NotFound`]; [`BackupError::Target`].
    pub fn pin(&self, name: &str) -> Result<(), BackupError> {
        if self.place.size(&manifest_path(name))?.is_none() {
            return Err(ChainError::NotFound(name.to_owned()).into());
        }
        self.place.put(&format!("pins/{name}"), &mut &b""[..])?;
        Ok(self.place.settle()?)
    }

    /// Takes a pin away. Fine when there is none.
    ///
    /// # Errors
    /// [`BackupError::Target`].
    pub fn unpin(&self, name: &str) -> Result<(), BackupError> {
        self.place.remove(&format!("pins/{name}"))?;
        Ok(self.place.settle()?)
    }
}
