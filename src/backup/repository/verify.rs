//! Reading a repository back: every part's length and BLAKE3 against what its manifest says. Needs no private key. Must never
//! stop at the first finding, and never call a backup good of which anything was not read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::time::Instant;

use super::super::blob_list::read_blob_list;
use super::super::error::BackupError;
use super::super::manifest::{Manifest, Part, PartKind, manifest_path};
use super::super::meter::{Meter, Phase, Watch};
use super::super::target::TargetError;
use super::super::workers;
use super::{ChainError, Listed, Repository, chain};
use crate::limits::{BACKUP_COPY_BYTES, BACKUP_WORKERS_MAX};

/// The folders of parts.
pub(super) const PART_FOLDERS: [&str; 5] = ["snapshots", "log", "blobs", "blob-lists", "extras"];

/// What is wrong with a file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wrong {
    /// It is not there.
    Missing,
    /// It is too short.
    Truncated {
        /// Bytes that there should be.
        wanted: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// It has other bytes than were stored.
    Damaged,
    /// It has the content of another part.
    Swapped {
        /// Of which.
        with: String,
    },
    /// The target gives an error while it is read.
    Unreadable {
        /// Which.
        cause: String,
    },
    /// A manifest is not to be believed, or not the one that others rest on.
    Manifest {
        /// A stable code.
        code: &'static str,
        /// Why, for people.
        why: String,
    },
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The file's path in the repository.
    pub path: String,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// The backups that cannot be restored because of it.
    pub backups: Vec<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// The backups that were looked at.
    pub backups: Vec<String>,
    /// Those of them of which everything is as it was stored.
    pub good: Vec<String>,
    /// All that is wrong.
    pub findings: Vec<Finding>,
    /// Files that no manifest names: of an interrupted backup, of one whose manifest was removed, or foreign. Looked for when
    /// all backups are checked and all manifests are good.
    pub unknown: Vec<String>,
    /// Parts and blobs that were read.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A part that is to be read.
struct Wanted {
    path: String,
    size: u64,
    blake3: String,
}

impl Wanted {
    fn key(&self) -> Key {
        (self.path.clone(), self.blake3.clone())
    }
}

/// A part's path and its BLAKE3; of a manifest, which nothing names, the path alone.
type Key = (String, String);

/// Everything to read, and who needs it.
#[derive(Default)]
struct Scope {
    /// By path and BLAKE3: two manifests may disagree about a part, when one was replaced.
    wanted: BTreeMap<Key, Wanted>,
    /// The manifests that name a part.
    named_by: HashMap<Key, BTreeSet<String>>,
    findings: BTreeMap<Key, Finding>,
    /// The chain of each backup, by its name.
    chains: BTreeMap<String, Vec<String>>,
}

impl Repository {
    /// Reads back all parts of the backups `names` and of what they rest on, or of all backups.
    ///
    /// # Errors
    /// [`BackupError`] when the target cannot be listed, a name is not there, or it was cancelled. What is wrong with files is
    /// in the report.
    pub fn verify(&self, names: Option<&[String]>, watch: Watch<'_>) -> Result<VerifyReport, BackupError> {
        let begun = Instant::now();
        let meter = Meter::new(watch);
        let listed = self.list(None)?;
        let chosen: Vec<String> = match names {
            Some(names) => names.to_vec(),
            None => listed.iter().map(|item| item.name.clone()).collect(),
        };
        let mut scope = Scope::default();
        for name in &chosen {
            scope.add_chain(&listed, name)?;
        }
        let manifests_good = scope.findings.is_empty();
        self.add_parts(&mut scope, &listed, &meter)?;
        let lists_good = scope.findings.len();
        let wanted: Vec<&Wanted> = scope.wanted.values().collect();
        meter.begin(Phase::Verifying, wanted.iter().map(|part| part.size).sum(), wanted.len() as u64);
        let by_hash: HashMap<&str, &str> =
            wanted.iter().map(|part| (part.blake3.as_str(), part.path.as_str())).collect();
        let read = workers::map(&wanted, BACKUP_WORKERS_MAX, |part| self.check_part(part, &by_hash, &meter))?;
        let mut report = VerifyReport { parts: wanted.len() as u64, ..VerifyReport::default() };
        let mut wrong = Vec::new();
        for (part, (bytes, found)) in wanted.iter().zip(read) {
            report.bytes += bytes;
            wrong.extend(found.map(|found| (part.key(), found)));
        }
        for (key, found) in wrong {
            scope.find(key, found);
        }
        if names.is_none() && manifests_good && lists_good == 0 {
            report.unknown = self.unknown(&scope, &listed)?;
        }
        scope.judge(&chosen, &mut report);
        report.duration_ms = begun.elapsed().as_millis() as u64;
        Ok(report)
    }

    /// Reads the blob lists of the chosen manifests, and adds their parts and blobs to what is to be read.
    fn add_parts(&self, scope: &mut Scope, listed: &[Listed], meter: &Meter<'_>) -> Result<(), BackupError> {
        let names: BTreeSet<String> = scope.chains.values().flatten().cloned().collect();
        let manifests: Vec<&Manifest> = listed
            .iter()
            .filter(|item| names.contains(&item.name))
            .filter_map(|item| item.manifest.as_ref().ok())
            .collect();
        for manifest in manifests {
            meter.check()?;
            let name = manifest.name();
            for part in &manifest.parts {
                scope.add(&name, Wanted { path: part.path.clone(), size: part.size, blake3: part.blake3.clone() });
                if part.kind == PartKind::BlobList {
                    match self.blob_list(part) {
                        Ok(blobs) => {
                            for (hash, line) in blobs {
                                let path = manifest.blob_path(&hash);
                                scope.add(&name, Wanted { path, size: line.size, blake3: line.blake3 });
                            }
                        }
                        // What exactly is wrong shows when it is read with all the others.
                        Err(BackupError::Part { path, .. }) => scope.find((path, part.blake3.clone()), Wrong::Damaged),
                        Err(BackupError::Target(TargetError::NotFound(path))) => {
                            scope.find((path, part.blake3.clone()), Wrong::Missing);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Length and BLAKE3 of a stored file, by reading it.
    ///
    /// # Errors
    /// [`BackupError::Target`]; [`BackupError::Part`] when it cannot be read to its end.
    pub fn read_back(&self, path: &str) -> Result<(u64, String), BackupError> {
        let (failure, found) = read_back(self.place().open(path)?, |_| Ok(()))?;
        failure.map_or(Ok((found.size, found.blake3)), |what| Err(BackupError::Part { path: path.to_owned(), what }))
    }

    /// Reads a blob list of the size and the BLAKE3 that its manifest says.
    ///
    /// # Errors
    /// [`BackupError::Part`] when it is another; [`BackupError::Target`].
    pub fn blob_list(
        &self,
        part: &Part,
    ) -> Result<Vec<(crate::blobs::BlobHash, super::super::manifest::BlobLine)>, BackupError> {
        let wrong = |what: String| BackupError::Part { path: part.path.clone(), what };
        // Twice: first whether it is what was signed, then what it says. What is not is not unpacked.
        let (size, blake3) = self.read_back(&part.path)?;
        if size != part.size || blake3 != part.blake3 {
            return Err(wrong("the blob list is not what its manifest says".to_owned()));
        }
        let mut blobs = Vec::new();
        read_blob_list(self.place().open(&part.path)?, |blob| blobs.push((blob.hash, blob.line))).map_err(wrong)?;
        Ok(blobs)
    }

    fn check_part(
        &self,
        part: &Wanted,
        by_hash: &HashMap<&str, &str>,
        meter: &Meter<'_>,
    ) -> Result<(u64, Option<Wrong>), BackupError> {
        meter.check()?;
        let source = match self.place().open(&part.path) {
            Ok(source) => source,
            Err(TargetError::NotFound(_)) => return Ok((0, Some(Wrong::Missing))),
            Err(error) => return Err(error.into()),
        };
        let count = |bytes| {
            meter.bytes(bytes);
            meter.check()
        };
        let (failure, found) = read_back(source, count)?;
        meter.part(0);
        if let Some(cause) = failure {
            return Ok((found.size, Some(Wrong::Unreadable { cause })));
        }
        if found.size == part.size && found.blake3 == part.blake3 {
            return Ok((found.size, None));
        }
        let wrong = match by_hash.get(found.blake3.as_str()) {
            Some(with) => Wrong::Swapped { with: (*with).to_owned() },
            None if found.size < part.size => Wrong::Truncated { wanted: part.size, found: found.size },
            None => Wrong::Damaged,
        };
        Ok((found.size, Some(wrong)))
    }

    fn unknown(&self, scope: &Scope, listed: &[Listed]) -> Result<Vec<String>, BackupError> {
        let mut unknown = Vec::new();
        let named: BTreeSet<&str> = scope.wanted.keys().map(|(path, _)| path.as_str()).collect();
        for folder in PART_FOLDERS {
            let stored = self.place().list(folder)?;
            unknown.extend(stored.into_iter().map(|file| file.path).filter(|path| !named.contains(path.as_str())));
        }
        let manifests: BTreeSet<String> = listed.iter().map(|item| manifest_path(&item.name)).collect();
        let stored = self.place().list("manifests")?;
        unknown.extend(stored.into_iter().map(|file| file.path).filter(|path| !manifests.contains(path)));
        Ok(unknown)
    }
}

/// Length and BLAKE3 of what was read.
struct ReadBack {
    size: u64,
    blake3: String,
}

/// Reads to the end; an error of the source is given beside what was read before it. `count` is told of every piece.
fn read_back(
    mut source: impl Read,
    count: impl Fn(u64) -> Result<(), BackupError>,
) -> Result<(Option<String>, ReadBack), BackupError> {
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    let mut piece = vec![0; BACKUP_COPY_BYTES];
    let failure = loop {
        match source.read(&mut piece) {
            Ok(0) => break None,
            Ok(bytes) => {
                hasher.update(&piece[..bytes]);
                size += bytes as u64;
                count(bytes as u64)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    Ok((failure, ReadBack { size, blake3: hasher.finalize().to_hex().to_string() }))
}

impl Scope {
    fn find(&mut self, key: Key, wrong: Wrong) {
        // The later one is the closer look.
        let path = key.0.clone();
        self.findings.insert(key, Finding { path, wrong, backups: Vec::new() });
    }

    fn add(&mut self, manifest: &str, part: Wanted) {
        self.named_by.entry(part.key()).or_default().insert(manifest.to_owned());
        self.wanted.insert(part.key(), part);
    }

    /// Adds a backup and what it rests on; of a broken chain as much as can be had.
    fn add_chain(&mut self, listed: &[Listed], name: &str) -> Result<(), BackupError> {
        match chain(listed, name) {
            Ok(found) => {
                self.chains.insert(name.to_owned(), found.iter().map(|(item, _)| item.name.clone()).collect());
            }
            Err(error @ ChainError::NotFound(_)) => return Err(error.into()),
            Err(error) => {
                let at = match &error {
                    ChainError::Missing { missing, .. } => missing.clone(),
                    ChainError::Exchanged { name, .. }
                    | ChainError::Unreadable { name, .. }
                    | ChainError::Gap { name, .. }
                    | ChainError::MixedClusters { name } => name.clone(),
                    ChainError::MixedSigners { other_name, .. } | ChainError::NotFound(other_name) => {
                        other_name.clone()
                    }
                };
                let key = (manifest_path(&at), String::new());
                self.named_by.entry(key.clone()).or_default().insert(name.to_owned());
                self.find(key, Wrong::Manifest { code: error.code(), why: error.to_string() });
                self.chains.insert(name.to_owned(), vec![name.to_owned()]);
            }
        }
        Ok(())
    }

    /// Says of each backup whether anything that it needs is wrong.
    fn judge(mut self, chosen: &[String], report: &mut VerifyReport) {
        let mut bad = BTreeSet::new();
        for (key, finding) in &mut self.findings {
            let hit = self.named_by.get(key);
            for (name, chain) in &self.chains {
                if hit.is_some_and(|hit| chain.iter().any(|one| hit.contains(one))) {
                    finding.backups.push(name.clone());
                    bad.insert(name.clone());
                }
            }
        }
        report.backups = chosen.to_vec();
        report.good = chosen.iter().filter(|name| !bad.contains(*name)).cloned().collect();
        report.findings = self.findings.into_values().collect();
    }
}
