//! The same on a repository anywhere, without a server: on the machine where the disk was plugged in, or where the store can be
//! reached from.

use jiff::tz::TimeZone;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::settings::KeepArgs;
use super::show::listing;
use crate::backup::repository::{PruneOptions, Repository};
use crate::backup::service::{JobOutcome, Seen, pruned, verified};
use crate::backup::{Progress, Watch};
use crate::cli::output::Progress as Said;
use crate::cli::repository::Place;
use crate::cli::{CliError, Output, now_ms};

/// Does something with the repository at `place`.
fn with_repository<T>(
    place: &Place,
    work: impl FnOnce(&Repository, Watch<'_>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(CliError::failed)?;
    let _entered = runtime.enter();
    let repository = Repository::new(place.open()?, false);
    if repository.names().map_err(CliError::failed)?.is_empty() {
        return Err(CliError::failed(format!("there are no backups in {}", place.shown())));
    }
    let said = Mutex::new(Said::new());
    let progress = |now: &Progress| {
        let (done, total) = (now.bytes_done / 1_000_000, now.bytes_total / 1_000_000);
        said.lock().say(&format!("{:?}: {done} of {total} MB", now.phase));
    };
    let cancel = CancellationToken::new();
    work(&repository, Watch { progress: &progress, cancel: &cancel })
}

pub(super) fn list(place: &Place, output: &Output) -> Result<(), CliError> {
    let listed = with_repository(place, |repository, _| repository.list(None).map_err(CliError::failed))?;
    let backups: Vec<_> = listed.iter().map(Seen::from).filter_map(|seen| serde_json::to_value(seen).ok()).collect();
    output.show(&json!({ "place": place.shown(), "backups": backups }), &listing(&backups))
}

fn show(outcome: &JobOutcome, output: &Output) -> Result<(), CliError> {
    let lines: Vec<String> = outcome.lines.iter().map(|line| format!("  {line}\n")).collect();
    output.show(outcome, &format!("{}\n{}", outcome.text, lines.concat()))?;
    if outcome.code.is_some() { Err(CliError::Reported) } else { Ok(()) }
}

pub(super) fn verify(place: &Place, backup: Option<&str>, output: &Output) -> Result<(), CliError> {
    let names = backup.map(|name| vec![name.to_owned()]);
    let report = with_repository(place, |repository, watch| {
        repository.verify(names.as_deref(), watch).map_err(CliError::failed)
    })?;
    show(&verified(&report), output)
}

pub(super) fn prune(place: &Place, (keep, dry_run): (&KeepArgs, bool), output: &Output) -> Result<(), CliError> {
    if !keep.is_given() {
        return Err(CliError::usage("say what stays: --keep-last, --keep-daily, ..."));
    }
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let options = PruneOptions { policy: keep.policy(), zone, now_ms: now_ms(), dry_run };
    let report =
        with_repository(place, |repository, watch| repository.prune(&options, watch).map_err(CliError::failed))?;
    show(&pruned(&report), output)
}
