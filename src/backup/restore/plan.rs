//! What a restore reads: from the signed manifests of a repository to the one snapshot, the log parts and the blob lists that
//! lead to a moment. Reads manifests only; must never guess over a gap, and never mix two histories.

use std::collections::BTreeMap;

use crate::backup::manifest::{BackupKind, Manifest, Part, PartKind, manifest_path};
use crate::backup::repository::Place;
use crate::limits::BACKUP_MANIFEST_BYTES_MAX;

use super::error::RestoreError;

/// Up to which moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// The newest backup's end.
    #[default]
    Latest,
    /// The end of the backup of this name.
    Backup(String),
    /// This log record.
    Index(u64),
    /// The last record at or before this time, in Unix milliseconds.
    Time(u64),
}

/// A log part: which records, and the stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// Its first record.
    pub first: u64,
    /// Its last record.
    pub last: u64,
    /// The file.
    pub part: Part,
}

/// What to read, in which order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The manifests that it rests on: a full, then incrementals or fulls up to the one that holds the moment.
    pub chain: Vec<Manifest>,
    /// The fingerprint of who signed all of them.
    pub signer: String,
    /// The log, without a gap from behind the snapshot on.
    pub log: Vec<LogPart>,
    /// Up to which record; `None`: the last one at or before [`Plan::time_ms`], which only the records tell.
    pub index: Option<u64>,
    /// The time asked for, in Unix milliseconds.
    pub time_ms: Option<u64>,
}

impl Plan {
    /// The full that everything rests on.
    #[must_use]
    pub fn base(&self) -> &Manifest {
        &self.chain[0] // a plan always has one: `Plan::make` begins with it
    }

    /// The manifest that holds the moment.
    #[must_use]
    pub fn newest(&self) -> &Manifest {
        &self.chain[self.chain.len() - 1]
    }

    /// The index of the snapshot that is loaded.
    #[must_use]
    pub fn snapshot_index(&self) -> u64 {
        self.base().snapshot.as_ref().map_or(0, |snapshot| snapshot.index)
    }

    /// The snapshot's files.
    pub fn snapshot_parts(&self) -> impl Iterator<Item = &Part> {
        let wanted = |part: &&Part| matches!(part.kind, PartKind::SnapshotManifest | PartKind::SnapshotChunk);
        self.base().parts.iter().filter(wanted)
    }

    /// The lists of blobs.
    pub fn blob_lists(&self) -> impl Iterator<Item = &Part> {
        self.chain.iter().flat_map(|manifest| of_kind(manifest, PartKind::BlobList))
    }

    /// Certificates and configuration, of the newest manifest that has any.
    #[must_use]
    pub fn extras(&self) -> Vec<&Part> {
        let newest = self.chain.iter().rev().find(|manifest| of_kind(manifest, PartKind::Extra).next().is_some());
        newest.into_iter().flat_map(|manifest| of_kind(manifest, PartKind::Extra)).collect()
    }

    /// Every part but the blobs.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        let log = self.log.iter().map(|log| &log.part);
        self.snapshot_parts().chain(log).chain(self.blob_lists()).chain(self.extras())
    }

    /// Whether any of it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.chain.iter().any(Manifest::is_encrypted)
    }
}

fn of_kind(manifest: &Manifest, kind: PartKind) -> impl Iterator<Item = &Part> {
    manifest.parts.iter().filter(move |part| part.kind == kind)
}

/// The manifests of a repository, as far as they were looked at: each is read once, when it is needed.
pub struct Catalogue<'a> {
    place: &'a dyn Place,
    /// The names, the oldest first.
    names: Vec<String>,
    signer: Option<String>,
    read: BTreeMap<String, (Manifest, blake3::Hash)>,
}

impl<'a> Catalogue<'a> {
    /// Lists the manifests. `signer`: the fingerprint that all must be signed by.
    ///
    /// # Errors
    /// [`RestoreError::NoBackups`], [`RestoreError::Target`].
    pub fn list(place: &'a dyn Place, signer: Option<&str>) -> Result<Self, RestoreError> {
        let stored = place.list("manifests")?;
        let name = |path: &str| Some(path.strip_prefix("manifests/")?.strip_suffix(".json")?.to_owned());
        let mut names: Vec<String> = stored.iter().filter_map(|file| name(&file.path)).collect();
        names.sort_unstable();
        if names.is_empty() {
            return Err(RestoreError::NoBackups);
        }
        Ok(Self { place, names, signer: signer.map(str::to_owned), read: BTreeMap::new() })
    }

    /// The names of all backups, the oldest first.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads a manifest and checks it. The first one read decides who must have signed the others, unless that was said.
    ///
    /// # Errors
    /// [`RestoreError::Manifest`], [`RestoreError::Target`].
    pub fn manifest(&mut self, name: &str) -> Result<&(Manifest, blake3::Hash), RestoreError> {
        if !self.read.contains_key(name) {
            let bytes = self.place.read(&manifest_path(name), BACKUP_MANIFEST_BYTES_MAX)?;
            let refused = |cause| RestoreError::Manifest { name: name.to_owned(), cause };
            let (manifest, found) = Manifest::read(name, &bytes).map_err(refused)?;
            let wanted = self.signer.get_or_insert_with(|| found.clone());
            if *wanted != found {
                let cause = crate::backup::manifest::ManifestError::WrongSigner { found, wanted: wanted.clone() };
                return Err(refused(cause));
            }
            self.read.insert(name.to_owned(), (manifest, blake3::hash(&bytes)));
        }
        self.read.get(name).ok_or_else(|| RestoreError::ManifestMissing(name.to_owned()))
    }

    /// The manifests from `name` down to the oldest that is kept, as long as each rests on the next. `enough` says when to
    /// stop: after the manifest it is given.
    fn chain(&mut self, name: &str, enough: impl Fn(&Manifest) -> bool) -> Result<Vec<Manifest>, RestoreError> {
        let mut chain = vec![self.manifest(name)?.0.clone()];
        while let Some(last) = chain.last().filter(|last| !enough(last)).cloned() {
            let Some(previous) = &last.previous else { break };
            if !self.names.contains(&previous.name) {
                break; // pruned, or missing: whoever needs more will say so
            }
            let (manifest, hash) = self.manifest(&previous.name)?;
            if hash.to_hex().as_str() != previous.blake3 {
                return Err(RestoreError::ManifestExchanged { name: previous.name.clone(), by: last.name() });
            }
            if last.log_first != manifest.until.index.saturating_add(1) {
                break; // another history: the log went back, as after a restore
            }
            chain.push(manifest.clone());
        }
        chain.reverse();
        Ok(chain)
    }

    fn newest(&self, moment: &Moment) -> Result<String, RestoreError> {
        let name = match moment {
            Moment::Backup(name) => self.names.iter().find(|known| *known == name),
            _ => self.names.last(),
        };
        let unknown = || match moment {
            Moment::Backup(name) => RestoreError::UnknownBackup(name.clone()),
            _ => RestoreError::NoBackups,
        };
        name.cloned().ok_or_else(unknown)
    }

    /// Works out what leads to `moment`.
    ///
    /// # Errors
    /// [`RestoreError`]: there is no way, and why.
    pub fn plan(&mut self, moment: &Moment) -> Result<Plan, RestoreError> {
        let newest = self.newest(moment)?;
        let is_base = |manifest: &Manifest| match moment {
            _ if manifest.kind != BackupKind::Full || manifest.snapshot.is_none() => false,
            Moment::Index(index) => manifest.snapshot.as_ref().is_some_and(|snapshot| snapshot.index <= *index),
            Moment::Time(at_ms) => manifest.until.at_ms <= *at_ms,
            Moment::Latest | Moment::Backup(_) => true,
        };
        let mut chain = self.chain(&newest, is_base)?;
        let last = chain.last().map_or(0, |manifest| manifest.until.index);
        let (index, time_ms) = match moment {
            Moment::Latest | Moment::Backup(_) => (Some(last), None),
            Moment::Index(index) if *index > last => {
                return Err(RestoreError::BeyondLast { wanted: *index, last });
            }
            Moment::Index(index) => (Some(*index), None),
            Moment::Time(at_ms) => (None, Some(*at_ms)),
        };
        self.begin_with_base(&mut chain, &is_base, moment)?;
        let holds = chain.iter().position(|manifest| match (index, time_ms) {
            (Some(index), _) => manifest.until.index >= index,
            (None, Some(at_ms)) => manifest.until.at_ms > at_ms,
            (None, None) => false,
        });
        if let Some(holds) = holds {
            chain.truncate(holds + 1);
        }
        let signer = self.signer.clone().unwrap_or_default();
        let mut plan = Plan { chain, signer, log: Vec::new(), index, time_ms };
        plan.log = log_parts(&plan)?;
        Ok(plan)
    }

    /// Cuts what is older than the base off the chain. For a time, a full that ends later may do: its snapshot can be older.
    fn begin_with_base(
        &self,
        chain: &mut Vec<Manifest>,
        is_base: &dyn Fn(&Manifest) -> bool,
        moment: &Moment,
    ) -> Result<(), RestoreError> {
        let full = |manifest: &Manifest| manifest.kind == BackupKind::Full && manifest.snapshot.is_some();
        let base = chain.iter().rposition(is_base);
        let base = base.or_else(|| match moment {
            Moment::Time(_) => chain.iter().position(full),
            _ => None,
        });
        match base {
            Some(base) => drop(chain.drain(..base)),
            None => {
                let oldest = chain.first();
                let missing = oldest.and_then(|manifest| manifest.previous.as_ref());
                // A chain without any full was torn; one with fulls, all too new, was asked for too much.
                return Err(match (chain.iter().any(full), missing, moment) {
                    (false, Some(previous), _) => RestoreError::ManifestMissing(previous.name.clone()),
                    (_, _, Moment::Index(index)) => RestoreError::BeforeFirst(format!("record {index}")),
                    _ => RestoreError::NoBackups,
                });
            }
        }
        Ok(())
    }
}

/// The records of a log part, from its name.
fn records_of(part: &Part) -> Result<LogPart, RestoreError> {
    let name = part.path.strip_prefix("log/").unwrap_or_default();
    let name = name.strip_suffix(".age").unwrap_or(name).strip_suffix(".zst").unwrap_or_default();
    let numbers = name.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match numbers {
        Some((first, last)) if first > 0 && first <= last => Ok(LogPart { first, last, part: part.clone() }),
        _ => Err(RestoreError::damaged(&part.path, "no log part has such a name")),
    }
}

/// The log parts that are needed, without a gap: from the one that holds the snapshot's record, where there is one, to the
/// last record wanted.
fn log_parts(plan: &Plan) -> Result<Vec<LogPart>, RestoreError> {
    let (from, until) = (plan.snapshot_index(), plan.index.unwrap_or(plan.newest().until.index));
    let mut parts = Vec::new();
    for part in plan.chain.iter().flat_map(|manifest| of_kind(manifest, PartKind::Log)) {
        let log = records_of(part)?;
        if log.last >= from && log.first <= until.max(from) {
            parts.push(log);
        }
    }
    parts.sort_by_key(|log| log.first);
    let mut next = parts.first().map_or(from + 1, |log| log.first.min(from + 1));
    for log in &parts {
        if log.first != next {
            return Err(RestoreError::Gap { from: next, to: log.first.max(next + 1) });
        }
        next = log.last + 1;
    }
    if next <= until {
        return Err(RestoreError::Gap { from: next, to: until + 1 });
    }
    Ok(parts)
}
