//! The audit trail: read by auditors and admins, written by nobody: it is derived from the log.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::extract::{Authed, Params};
use crate::api::page::{self, Collector, Page};
use crate::api::{ApiError, App, Problem};
use crate::core::event::Audit;
use crate::core::keys::Key;
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;

/// Which acts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// Only acts of this user; 0: the operator at the machine.
    actor: Option<String>,
    /// Only this act, for example `user.create`; with a dot at the end, all acts that begin so.
    action: Option<String>,
    /// Only acts on this kind of record.
    target_kind: Option<String>,
    /// Only acts on the record with this id.
    target: Option<String>,
    /// Only acts at or after this time, in Unix milliseconds.
    from_ms: Option<u64>,
    /// Only acts before this time, in Unix milliseconds.
    to_ms: Option<u64>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

impl AuditParams {
    fn matches(&self, row: &rows::Audit) -> bool {
        let is = |wanted: &Option<String>, found: u64| wanted.as_ref().is_none_or(|id| *id == found.to_string());
        let action = self.action.as_ref().is_none_or(|wanted| {
            row.action == *wanted || (wanted.ends_with('.') && row.action.starts_with(wanted.as_str()))
        });
        action
            && is(&self.actor, row.actor)
            && is(&self.target, row.target)
            && self.target_kind.as_ref().is_none_or(|kind| *kind == row.target_kind)
            && self.from_ms.is_none_or(|from| row.at_ms >= from)
            && self.to_ms.is_none_or(|to| row.at_ms < to)
    }
}

/// Administrative acts, the newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditParams), security(("bearer" = [])),
    responses((status = 200, body = Page<Audit>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    user: Authed,
    Params(params): Params<AuditParams>,
) -> Result<axum::Json<Page<Audit>>, ApiError> {
    if user.role() < Role::Auditor {
        return Err(ApiError::forbidden());
    }
    let mut before = match page::cursor(params.cursor.as_deref())? {
        0 => u64::MAX,
        index => index,
    };
    let mut collector = Collector::new(page::limit(params.limit)?);
    loop {
        let range = Key::Audit(0)..=Key::Audit(before.saturating_sub(1));
        let rows = app.node.projection().rows::<rows::Audit>(range, Direction::Down, limits::PAGE_CHUNK_ROWS)?;
        let whole = rows.len() == limits::PAGE_CHUNK_ROWS;
        for (key, row) in rows {
            let Key::Audit(index) = key else { continue };
            before = index;
            if !collector.offer(params.matches(&row).then(|| Audit::of(index, &row))) {
                return Ok(axum::Json(collector.page(Some(index))));
            }
        }
        if !whole {
            return Ok(axum::Json(collector.page(None)));
        }
    }
}
