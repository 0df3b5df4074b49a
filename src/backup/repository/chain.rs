//! What a backup rests on. Must never accept a chain with a manifest exchanged or left out.

use std::fmt;

use super::super::manifest::{BackupKind, Manifest, ManifestError};
use super::Listed;

/// Why a backup does not lead down to a full one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// There is no backup of this name.
    NotFound(String),
    /// A manifest that another one rests on is gone.
    Missing {
        /// The one that is gone.
        missing: String,
        /// The one that rests on it.
        of: String,
    },
    /// A manifest is not the one that another one rests on.
    Exchanged {
        /// The one that is not right.
        name: String,
        /// The one that rests on it.
        of: String,
    },
    /// A manifest is not to be believed.
    Unreadable {
        /// Which.
        name: String,
        /// Why.
        error: ManifestError,
    },
    /// Records are missing between two backups.
    Gap {
        /// The backup with the records that come next.
        name: String,
        /// The first record that is needed.
        wanted: u64,
        /// The first record that it has.
        found: u64,
    },
    /// Two keys signed.
    MixedSigners {
        /// The backup asked for.
        name: String,
        /// Its signer's fingerprint.
        signer: String,
        /// The backup of the other.
        other_name: String,
        /// The other's fingerprint.
        other: String,
    },
    /// Backups of two clusters.
    MixedClusters {
        /// The backup of the other cluster.
        name: String,
    },
}

impl ChainError {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "backup_not_found",
            Self::Missing { .. } => "chain_manifest_missing",
            Self::Exchanged { .. } => "chain_manifest_exchanged",
            Self::Unreadable { error, .. } => error.code(),
            Self::Gap { .. } => "chain_gap",
            Self::MixedSigners { .. } => "chain_mixed_signers",
            Self::MixedClusters { .. } => "chain_mixed_clusters",
        }
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(name) => write!(f, "there is no backup {name}"),
            Self::Missing { missing, of } => write!(f, "backup {of} rests on {missing}, which is not there"),
            Self::Exchanged { name, of } => {
                write!(f, "the manifest of {name} is not the one that {of} rests on: it was exchanged")
            }
            Self::Unreadable { name, error } => write!(f, "backup {name}: {error}"),
            Self::Gap { name, wanted, found } => {
                write!(f, "backup {name} begins at record {found}, but {wanted} comes next: records are missing")
            }
            Self::MixedSigners { name, signer, other_name, other } => {
                write!(f, "backup {name} was signed by {signer}, but {other_name}, which it rests on, by {other}")
            }
            Self::MixedClusters { name } => write!(f, "backup {name} is one of another cluster"),
        }
    }
}

impl std::error::Error for ChainError {}

/// The backup `name` and all that it rests on, the full one first. `listed` is sorted, as [`super::Repository::list`] gives it.
///
/// # Errors
/// [`ChainError`] naming the first manifest that is not right.
pub fn chain<'a>(listed: &'a [Listed], name: &str) -> Result<Vec<(&'a Listed, &'a Manifest)>, ChainError> {
    let find = |name: &str| listed.binary_search_by(|one| one.name.as_str().cmp(name)).ok().map(|at| &listed[at]);
    let mut item = find(name).ok_or_else(|| ChainError::NotFound(name.to_owned()))?;
    let mut found: Vec<(&Listed, &Manifest)> = Vec::new();
    loop {
        let manifest = item
            .manifest
            .as_ref()
            .map_err(|error| ChainError::Unreadable { name: item.name.clone(), error: error.clone() })?;
        if let Some((above, of)) = found.last() {
            joins((above, of), (item, manifest))?;
        }
        found.push((item, manifest));
        if manifest.kind == BackupKind::Full {
            check_full(manifest)?;
            found.reverse();
            return Ok(found);
        }
        let of = item.name.clone();
        let Some(previous) = &manifest.previous else {
            return Err(ChainError::Missing { missing: "a full backup".to_owned(), of });
        };
        let below =
            find(&previous.name).ok_or(ChainError::Missing { missing: previous.name.clone(), of: of.clone() })?;
        // Names grow along a chain: without this a forged one could go round for ever.
        if below.blake3 != previous.blake3 || below.name >= item.name {
            return Err(ChainError::Exchanged { name: below.name.clone(), of });
        }
        item = below;
    }
}

fn joins((above, of): (&Listed, &Manifest), (item, manifest): (&Listed, &Manifest)) -> Result<(), ChainError> {
    if item.signer != above.signer {
        return Err(ChainError::MixedSigners {
            name: above.name.clone(),
            signer: above.signer.clone(),
            other_name: item.name.clone(),
            other: item.signer.clone(),
        });
    }
    if manifest.cluster != of.cluster {
        return Err(ChainError::MixedClusters { name: item.name.clone() });
    }
    let wanted = manifest.until.index.saturating_add(1);
    if of.log_first != wanted || of.until.index < manifest.until.index {
        return Err(ChainError::Gap { name: above.name.clone(), wanted, found: of.log_first });
    }
    Ok(())
}

/// A full has its snapshot, and the log from there up to where it restores.
fn check_full(manifest: &Manifest) -> Result<(), ChainError> {
    let wanted = manifest.snapshot.as_ref().map_or(0, |snapshot| snapshot.index.saturating_add(1));
    let reaches = manifest.until.index.saturating_add(1) >= wanted && manifest.log_first <= wanted;
    if manifest.snapshot.is_none() || !reaches {
        return Err(ChainError::Gap { name: manifest.name(), wanted, found: manifest.log_first });
    }
    Ok(())
}
