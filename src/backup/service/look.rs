//! What was seen of a target: its backups, its drills, whether it answers. Read from the repository, so that it is true
//! whichever node made them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::backup::manifest::{BackupKind, Manifest, PartKind};
use crate::backup::repository::{Cache, Listed, Repository};
use crate::backup::target::{self, TargetError};
use crate::core::rows::BackupTarget;
use crate::limits::BACKUP_DRILL_BYTES_MAX;

/// Why a target does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BackupFailure)]
pub struct Failure {
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

impl From<&TargetError> for Failure {
    fn from(error: &TargetError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

/// A backup of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BackupSummary)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// A full one.
    pub full: bool,
    /// The node that made it.
    pub node: u16,
    /// When it was begun, in Unix milliseconds.
    pub started_ms: u64,
    /// When its last part was stored, in Unix milliseconds.
    pub finished_ms: u64,
    /// Up to which record it restores.
    pub index: u64,
    /// Up to which moment, in Unix milliseconds.
    pub until_ms: u64,
    /// The bytes that it stored.
    pub stored_bytes: u64,
    /// Of a full one: the stored bytes of its state.
    pub snapshot_bytes: u64,
    /// Files that it lists.
    pub files: u64,
    /// Its parts are encrypted.
    pub encrypted: bool,
    /// Retention leaves it alone.
    pub pinned: bool,
    /// A drill of it went well.
    pub drilled: bool,
    /// The fingerprint of the key that signed it.
    pub signer: String,
    /// Why its manifest is not to be believed; null: it is.
    pub damaged: Option<String>,
}

impl From<&Listed> for Seen {
    fn from(listed: &Listed) -> Self {
        let base = Self {
            name: listed.name.clone(),
            pinned: listed.pinned,
            drilled: listed.drilled,
            signer: listed.signer.clone(),
            ..Self::default()
        };
        match &listed.manifest {
            Ok(manifest) => Self { ..of(manifest, base) },
            Err(error) => Self { damaged: Some(error.to_string()), ..base },
        }
    }
}

fn of(manifest: &Manifest, base: Seen) -> Seen {
    let snapshot = manifest.parts.iter().filter(|part| part.kind == PartKind::SnapshotChunk);
    Seen {
        full: manifest.kind == BackupKind::Full,
        node: manifest.node,
        started_ms: manifest.started_ms,
        finished_ms: manifest.finished_ms,
        index: manifest.until.index,
        until_ms: manifest.until.at_ms,
        stored_bytes: manifest.stored_bytes,
        snapshot_bytes: snapshot.map(|part| part.size).sum(),
        files: manifest.blobs,
        encrypted: manifest.is_encrypted(),
        ..base
    }
}

/// What was seen of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The backups that are to be believed, the oldest first. After a failure: those that were there before.
    pub backups: Vec<Seen>,
    /// When the newest drill was made, in Unix milliseconds; 0: never.
    pub drill_ms: u64,
    /// When the newest good one was; 0: never.
    pub good_drill_ms: u64,
    /// Why the last look failed.
    pub error: Option<Failure>,
    /// Since when looks fail.
    pub failing_since_ms: Option<u64>,
}

/// What a drill report says that matters here.
#[derive(Deserialize)]
struct Report {
    good: bool,
}

impl Look {
    /// Looks at a target; `scratch` is the repository's folder for copies. Blocks.
    #[must_use]
    pub(super) fn take(target: &BackupTarget, scratch: &Path, (before, now_ms): (Option<Self>, u64)) -> Self {
        match Self::try_take(target, scratch, now_ms) {
            Ok(look) => look,
            Err(error) => {
                let before = before.unwrap_or_default();
                let failing_since_ms = before.failing_since_ms.or(Some(now_ms));
                Self { at_ms: now_ms, error: Some(Failure::from(&error)), failing_since_ms, ..before }
            }
        }
    }

    fn try_take(target: &BackupTarget, scratch: &Path, now_ms: u64) -> Result<Self, TargetError> {
        let repository = open(target)?;
        // Without copies every manifest is fetched: slower, not wrong.
        let cache = Cache::open(scratch).ok();
        let listed = repository.list(cache.as_ref())?;
        let backups = listed.iter().map(Seen::from).filter(|seen| seen.damaged.is_none()).collect();
        let (drill_ms, good_drill_ms) = drills(&repository)?;
        Ok(Self { at_ms: now_ms, backups, drill_ms, good_drill_ms, error: None, failing_since_ms: None })
    }

    /// When the newest backup was begun that is a full one, and the newest of either kind; 0: none.
    #[must_use]
    pub(super) fn newest_ms(&self) -> (u64, u64) {
        let newest = |full: bool| {
            let ours = self.backups.iter().filter(|seen| seen.full || !full);
            ours.map(|seen| seen.started_ms).max().unwrap_or(0)
        };
        (newest(true), newest(false))
    }
}

/// The repository on a target.
///
/// # Errors
/// [`TargetError`].
pub(super) fn open(target: &BackupTarget) -> Result<Repository, TargetError> {
    let place = target.place.as_ref().ok_or_else(|| TargetError::NotThere(target.name.clone()))?;
    Ok(Repository::new(target::open(place)?, target.append_only))
}

/// When the newest drill was, and the newest good one.
fn drills(repository: &Repository) -> Result<(u64, u64), TargetError> {
    let reports = repository.place().list("drills")?;
    let (mut newest, mut good) = (0, 0);
    for file in reports.iter().rev() {
        let Some(at) = time_of(&file.path) else { continue };
        newest = newest.max(at);
        let report = match repository.place().read(&file.path, BACKUP_DRILL_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice::<Report>(&bytes).ok(),
            Err(TargetError::NotFound(_) | TargetError::TooLarge { .. }) => None,
            Err(error) => return Err(error),
        };
        if report.is_some_and(|report| report.good) {
            good = at;
            break;
        }
    }
    Ok((newest, good))
}

/// The moment in the name of a drill report: `drills/<YYYYMMDDTHHMMSSZ>-<index>.json`.
fn time_of(path: &str) -> Option<u64> {
    let text = path.rsplit('/').next()?.split('-').next()?;
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(at.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rows::{BackupPlace, DirectoryPlace};

    fn target(path: &Path) -> BackupTarget {
        let place = BackupPlace::Directory(DirectoryPlace { path: path.display().to_string() });
        BackupTarget { name: "disk".to_owned(), append_only: false, enabled: true, place: Some(place) }
    }

    #[test]
    fn a_target_that_goes_away_keeps_what_was_seen_and_since_when() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let (place, scratch) = (dir.path().join("usb"), dir.path().join("scratch"));
        std::fs::create_dir_all(place.join("drills")).unwrap();
        std::fs::create_dir_all(&scratch).unwrap();
        let report = |name: &str, good: bool| {
            let text = format!("{{\"backup\":\"b\",\"good\":{good},\"more\":1}}");
            std::fs::write(place.join("drills").join(name), text).unwrap();
        };
        report("20261120T040000Z-00000000000000000007.json", true);
        report("20261121T040000Z-00000000000000000009.json", false);
        let seen = Look::take(&target(&place), &scratch, (None, 5));
        let times =
            ["2026-11-21T04:00:00Z", "2026-11-20T04:00:00Z"].map(|text| text.parse::<jiff::Timestamp>().unwrap());
        assert_eq!([seen.drill_ms, seen.good_drill_ms].map(|ms| ms as i64), times.map(jiff::Timestamp::as_millisecond));
        assert_eq!((seen.error.clone(), seen.newest_ms()), (None, (0, 0)));
        std::fs::rename(&place, dir.path().join("gone")).unwrap();
        let lost = Look::take(&target(&place), &scratch, (Some(seen.clone()), 6));
        let lost = Look::take(&target(&place), &scratch, (Some(lost), 7));
        assert_eq!((lost.failing_since_ms, lost.good_drill_ms), (Some(6), seen.good_drill_ms));
        assert_eq!(lost.error.unwrap().code, "target_not_there");
    }
}
