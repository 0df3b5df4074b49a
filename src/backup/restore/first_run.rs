//! A restore from the set-up page: built inside the data directory of the running, still empty server, and put in the place
//! of what is there when the server starts again. Must never delete what it finds, and never run on a server that is set up.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::desk::{JobState, RestoreDesk, RestoreJob};
use super::stage::Staging;
use super::{RestoreError, RestoreOptions, RestoreReport};
use crate::limits::RESTORE_LINGER_MS;
use crate::ops::durable_file::{create_private_dir, sync_dir, write_private};

/// Where it is built, in the data directory: the parent may not be ours to write to.
const DIR: &str = "restored";
/// Of this process and of the file system, not of what was restored.
const STAYS: [&str; 3] = ["logs", "run", "lost+found"];
/// What the new machine has counts, where it has it.
const IF_ABSENT: [&str; 1] = ["holdfast.toml"];
/// Of the new machine until something takes its place.
const CERTIFICATES: &str = "tls";
/// In the directory that was built: nothing of the empty server is at its place any more.
const CLEARED: &str = "cleared";
/// How the names begin of what was moved aside.
const ASIDE: &str = "before-restore-";
/// Makes the directory a data directory: goes last.
const IDENTITY: &str = "node.toml";

/// The one restore that a set-up page may begin. Clones share it.
#[derive(Clone, Default)]
pub struct FirstRun {
    desk: RestoreDesk<RestoreReport>,
    placed: CancellationToken,
}

impl FirstRun {
    /// Where `restore` has to build within the data directory `root`.
    #[must_use]
    pub fn destination(root: &Path) -> PathBuf {
        root.join(DIR)
    }

    /// The newest job.
    #[must_use]
    pub fn look(&self) -> Option<RestoreJob<RestoreReport>> {
        self.desk.look()
    }

    /// Whether nobody may set the server up by hand any more: a restore runs, or has been done.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.desk.look().is_some_and(|job| job.state != JobState::Failed)
    }

    /// Ends the job that runs, if one does.
    pub fn cancel(&self) {
        self.desk.cancel();
    }

    /// Begins to restore; `None` when one runs already, or is done. When it is done, [`FirstRun::placed`] says so: the server
    /// has to start again. Called within a tokio runtime.
    pub fn begin(&self, options: RestoreOptions, cancel: CancellationToken) -> Option<RestoreJob<RestoreReport>> {
        if self.is_busy() {
            return None;
        }
        let placed = self.placed.clone();
        let runtime = tokio::runtime::Handle::current();
        self.desk.begin((false, cancel), move |tell, cancel| {
            let report = super::restore(&options, tell, cancel)?;
            // The page that waits for it should see the end before the connection goes.
            let patience = std::time::Duration::from_millis(RESTORE_LINGER_MS);
            runtime.spawn(async move {
                tokio::time::sleep(patience).await;
                placed.cancel();
            });
            Ok(report)
        })
    }

    /// Waits until a restore is done.
    pub async fn placed(&self) {
        self.placed.cancelled().await;
    }
}

/// Puts a restore that is done in the place of what the data directory at `root` holds, which is moved aside. Called under the
/// lock of `root`, before anything in it is open. Ended at any point, it goes on at the next call. Returns where the old is
/// now; `None` when there was nothing to do.
///
/// # Errors
/// When the system refuses; what was done stays and the next call goes on.
pub fn take_place(root: &Path, now_ms: u64) -> Result<Option<PathBuf>, RestoreError> {
    let built = root.join(DIR);
    Staging::sweep(&built)?;
    let io = RestoreError::io;
    if !built.is_dir() {
        return Ok(None);
    }
    let aside = root.join(format!("{ASIDE}{now_ms}"));
    create_private_dir(&aside).map_err(io("create", &aside))?;
    if !built.join(CLEARED).exists() {
        clear(root, &aside)?;
        write_private(&built.join(CLEARED), b"").map_err(io("write into", &built))?;
    }
    let mut names = names_in(&built)?;
    // What says that there is something to do goes last.
    names.sort_by_key(|name| name == IDENTITY);
    for name in names {
        let (new, old) = (built.join(&name), root.join(&name));
        let keeps = is_any(&name, &IF_ABSENT) || is_bare(&new);
        if name == CLEARED || is_any(&name, &STAYS) || (keeps && old.exists()) {
            continue;
        }
        if name == IDENTITY && old.exists() {
            // Replaced in one step: without it the directory would be nobody's.
            fs::copy(&old, aside.join(&name)).map_err(io("copy aside", &old))?;
        } else if old.exists() {
            fs::rename(&old, aside.join(&name)).map_err(io("move aside", &old))?;
        }
        fs::rename(&new, &old).map_err(io("give its place to", &old))?;
        sync_dir(root).map_err(io("sync", root))?;
    }
    fs::remove_dir_all(&built).map_err(io("remove", &built))?;
    sync_dir(root).map_err(io("sync", root))?;
    Ok(Some(aside))
}

/// Moves aside what the empty server had: also what the restored one has nothing for, such as the memory of its votes.
fn clear(root: &Path, aside: &Path) -> Result<(), RestoreError> {
    for name in names_in(root)? {
        let stays = is_any(&name, &STAYS) || is_any(&name, &IF_ABSENT) || is_any(&name, &[DIR, CERTIFICATES, IDENTITY]);
        if !stays && !name.to_string_lossy().starts_with(ASIDE) {
            let old = root.join(&name);
            fs::rename(&old, aside.join(&name)).map_err(RestoreError::io("move aside", &old))?;
        }
    }
    sync_dir(root).map_err(RestoreError::io("sync", root))
}

fn names_in(dir: &Path) -> Result<Vec<OsString>, RestoreError> {
    let names = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    names.map_err(RestoreError::io("read", dir))
}

fn is_any(name: &OsStr, names: &[&str]) -> bool {
    names.iter().any(|one| name == *one)
}

/// A directory of certificates with nothing in it: the backup had none, and those of this machine stay.
fn is_bare(dir: &Path) -> bool {
    dir.ends_with(CERTIFICATES) && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{} {file}", root.file_name().unwrap().display())).unwrap();
        }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|_| "-".to_owned())
    }

    /// Stopped before any of its steps and begun again, it ends the same.
    #[test]
    fn whatever_was_done_already_it_ends_the_same() {
        let steps = ["log", "state", "tls", "holdfast.toml", IDENTITY];
        for done in 0..=steps.len() {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("data");
            let built = root.join(DIR);
            fill(&built, &["log/1", "state/db", "tls/ca.pem", "logs/1", "node.toml", "holdfast.toml"]);
            fill(&root, &["log/1", "log/2", "state/db", "tls/ca.pem", "logs/1", "run/lock", "node.toml", "pair/votes"]);
            let earlier = root.join("before-restore-6");
            fs::create_dir(&earlier).unwrap();
            if done > 0 {
                clear(&root, &earlier).unwrap();
                fs::write(built.join(CLEARED), "").unwrap();
                fs::create_dir(root.join("log")).unwrap(); // as every start does
            }
            for name in &steps[..done] {
                if *name == IDENTITY {
                    fs::copy(root.join(name), earlier.join(name)).unwrap();
                } else if root.join(name).exists() {
                    let again = root.join(format!("before-restore-6-{name}"));
                    fs::rename(root.join(name), again).unwrap();
                }
                // The last step of these was only half done.
                if *name != steps[done - 1] || done % 2 == 0 {
                    fs::rename(built.join(name), root.join(name)).unwrap();
                }
            }
            take_place(&root, 7).unwrap().unwrap();
            for file in ["log/1", "state/db", "tls/ca.pem", "node.toml", "holdfast.toml"] {
                assert_eq!(text(&root.join(file)), format!("{DIR} {file}"), "after {done} steps");
            }
            assert_eq!(text(&root.join("logs/1")), "data logs/1");
            assert!(root.join("run/lock").exists() && !root.join("log/2").exists() && !built.exists());
            assert!(!root.join("pair").exists(), "nothing of the empty server is mixed with it");
            let aside = |file: &str| text(&earlier.join(file)) + &text(&root.join("before-restore-7").join(file));
            for file in ["log/2", "pair/votes"] {
                assert!(aside(file).contains(&format!("data {file}")), "moved aside, not deleted");
            }
            assert!(take_place(&root, 8).unwrap().is_none() && !root.join("before-restore-8").exists());
        }
    }

    #[test]
    fn what_this_machine_has_and_the_backup_not_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        fill(&root.join(DIR), &["log/1", "node.toml", "holdfast.toml"]);
        fs::create_dir(root.join(DIR).join("tls")).unwrap();
        fill(&root, &["log/1", "tls/ca.pem", "holdfast.toml", "node.toml"]);
        take_place(&root, 1).unwrap().unwrap();
        assert_eq!(text(&root.join("tls/ca.pem")), "data tls/ca.pem");
        assert_eq!(text(&root.join("holdfast.toml")), "data holdfast.toml");
        assert_eq!(text(&root.join("log/1")), "restored log/1");
    }
}
