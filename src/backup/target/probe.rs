//! Tries a target out and says in sentences what works. Must never touch a file that it did not make itself.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use opendal::options;

use super::{Place, Target, TargetError, filesystem, unfinished_name};
use crate::limits::BACKUP_PROBE_BYTES;

/// Where the files of probes are.
const PROBES: &str = "probe";

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BackupTestLevel)]
pub enum Level {
    /// It works.
    Good,
    /// It works, but somebody should know.
    Warning,
    /// It does not work.
    Bad,
}

/// One sentence of a report.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = BackupTestFinding)]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// Stable, for programs: what was tried (`write`, `read`, `list`, `remove`), what was noticed, or a target's error.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

impl Finding {
    fn good(code: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Good, code, text: text.into() }
    }

    pub(super) fn warning(code: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warning, code, text: text.into() }
    }

    pub(super) fn bad(code: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Bad, code, text: text.into() }
    }

    fn failed(error: &TargetError) -> Self {
        Self::bad(error.code(), error.to_string())
    }
}

/// What came of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = BackupTestReport)]
pub struct Report {
    /// In the order of trying.
    pub findings: Vec<Finding>,
    /// Bytes of the file that was written and read.
    pub bytes: u64,
    /// How long writing took, in milliseconds.
    pub write_ms: Option<u64>,
    /// How long reading took, in milliseconds.
    pub read_ms: Option<u64>,
}

impl Report {
    /// Whether backups can be stored there.
    #[must_use]
    pub fn works(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Bad)
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Target {
    /// Writes a small file, reads it back, lists it and removes it, and looks at what holds it; `data` is the node's data
    /// directory, when there is one here. On an append-only target the removal is tried as well, on this one file: it should
    /// be refused.
    #[must_use]
    pub fn probe(&self, data: Option<&Path>) -> Report {
        let mut report = Report { bytes: BACKUP_PROBE_BYTES as u64, ..Report::default() };
        if let Place::Directory { path, .. } = &self.place {
            report.findings = filesystem::look(path, data);
        }
        let path = format!("{PROBES}/{}", unfinished_name());
        if let Err(error) = self.try_out(&path, &mut report) {
            report.findings.push(Finding::failed(&error));
        }
        report
    }

    fn try_out(&self, path: &str, report: &mut Report) -> Result<(), TargetError> {
        // Nothing that any layer on the way could shorten.
        let mut content = vec![0; BACKUP_PROBE_BYTES];
        getrandom::fill(&mut content).map_err(|e| TargetError::Source(e.into()))?;
        let began = Instant::now();
        self.put(path, &mut &content[..])?;
        self.settle()?;
        let took = milliseconds(began);
        report.write_ms = Some(took);
        report.findings.push(Finding::good("write", format!("a file was written in {took} ms")));
        self.read_back(path, &content, report)?;
        let listed = self.list(PROBES)?;
        let found = listed.iter().find(|file| file.path == path);
        report.findings.push(match found {
            Some(file) if file.size == content.len() as u64 => Finding::good("list", "the file is listed"),
            Some(file) => Finding::bad("list", format!("the file is listed with {} bytes", file.size)),
            None => Finding::bad("list", "the file is not listed"),
        });
        report.findings.push(if self.append_only { self.try_to_remove(path) } else { self.remove_probe(path) });
        Ok(())
    }

    fn read_back(&self, path: &str, content: &[u8], report: &mut Report) -> Result<(), TargetError> {
        let began = Instant::now();
        let mut back = Vec::new();
        let reading = self.open(path)?.take(content.len() as u64 + 1).read_to_end(&mut back);
        let took = milliseconds(began);
        report.read_ms = Some(took);
        report.findings.push(match reading {
            Ok(_) if back == content => {
                Finding::good("read", format!("it was read back in {took} ms, every byte right"))
            }
            Ok(_) => Finding::bad("read", "what was read back is not what was written"),
            Err(error) => Finding::bad("read", format!("it could not be read back: {error}")),
        });
        Ok(())
    }

    fn remove_probe(&self, path: &str) -> Finding {
        match self.remove(path).and_then(|()| self.size(path)) {
            Ok(None) => Finding::good("remove", "it was removed"),
            Ok(Some(_)) => {
                let text = "the target said that it removed the file, but it is there: declare it append-only";
                Finding::bad("remove", text)
            }
            Err(error) => {
                let text = format!("files cannot be removed ({error}): give the right to, or declare it append-only");
                Finding::bad("remove", text)
            }
        }
    }

    /// Whether the target itself keeps what is append-only.
    fn try_to_remove(&self, path: &str) -> Finding {
        let keeps = || Finding::good("append_only", "it refuses to remove the file, as an append-only target should");
        match self.remove_anyway(path) {
            Err(TargetError::Denied { .. } | TargetError::ReadOnly { .. } | TargetError::Unreachable { .. }) => keeps(),
            Err(error) => Finding::failed(&error),
            Ok(()) => match self.remove_versions(path) {
                Some(true) => keeps(),
                Some(false) => Finding::warning(
                    "append_only_not_enforced",
                    "we remove nothing there, but with this key older versions can be removed: switch on object lock",
                ),
                None => Finding::warning(
                    "append_only_not_enforced",
                    "we remove nothing there, but the target lets this account remove files: take that right away",
                ),
            },
        }
    }

    /// Tries to remove what a versioned bucket kept of our file: whether that was refused; `None` when nothing was kept.
    fn remove_versions(&self, path: &str) -> Option<bool> {
        let Place::S3 { operator, .. } = &self.place else { return None };
        self.runtime.block_on(async {
            let all = options::ListOptions { versions: true, recursive: true, ..Default::default() };
            let kept = operator.list_options(&format!("{PROBES}/"), all).await.ok()?;
            let kept = kept.iter().find(|entry| entry.path() == path && !entry.metadata().is_deleted())?;
            let version = kept.metadata().version()?.to_owned();
            let options = options::DeleteOptions { version: Some(version), ..Default::default() };
            Some(operator.delete_options(path, options).await.is_err())
        })
    }
}
