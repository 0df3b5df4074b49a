//! For the people and programs that watch: is the process there, may it take traffic, how does it do.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::App;
use crate::api::layers::Usual;
use crate::ops::metrics;

/// The process is there.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<&'static str>,
    /// What needs somebody soon, without being in the way of traffic.
    warnings: Vec<&'static str>,
}

/// Whether the node may take traffic; if not, why.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let mut reasons = Vec::new();
    if app.stopping.is_cancelled() {
        reasons.push("shutting_down");
    }
    if app.node.role() != crate::node::Role::Active {
        reasons.push("not_active");
    }
    if !app.node.accepting() {
        reasons.push("disk_full");
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut warnings: Vec<_> = app.backups.alarms_now().into_iter().map(|alarm| alarm.code).collect();
    warnings.dedup();
    let standby = reasons == ["not_active"];
    let mut response = (status, axum::Json(Ready { ready, reasons, warnings })).into_response();
    if standby {
        // A load balancer asks every second.
        response.extensions_mut().insert(Usual);
    }
    response
}

/// The metrics in Prometheus's text format.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    refresh(&app);
    refresh_pair(&app).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render()).into_response()
}

/// Sets the gauges of the pair.
async fn refresh_pair(app: &App) {
    let Some(status) = app.pair.status().await else { return };
    let gauge = |name: &'static str, value: f64| ::metrics::gauge!(name).set(value);
    gauge(metrics::ACTIVE, f64::from(u8::from(app.node.role() == crate::node::Role::Active)));
    gauge(metrics::EPOCH, status.epoch as f64);
    gauge(metrics::PAIR_PROTECTED, f64::from(u8::from(status.protected)));
    gauge(metrics::REPLICATION_LAG_RECORDS, status.lag_records as f64);
}

/// Sets the gauges that are read rather than counted.
fn refresh(app: &App) {
    /// What was last reported of a counter that the hub keeps itself.
    static REPORTED: AtomicU64 = AtomicU64::new(0);
    let gauge = |name: &'static str, value: f64| ::metrics::gauge!(name).set(value);
    let hub = app.hub.stats();
    gauge(metrics::SESSIONS, hub.sessions as f64);
    let before = REPORTED.swap(hub.deliveries, Ordering::Relaxed);
    ::metrics::counter!(metrics::DELIVERIES_TOTAL).increment(hub.deliveries.saturating_sub(before));
    gauge(metrics::PROPOSAL_QUEUE_DEPTH, app.node.queue_state().proposals as f64);
    gauge(metrics::APPLIED_INDEX, app.node.applied_index() as f64);
    gauge(metrics::DURABLE_INDEX, app.node.log().last_durable_index() as f64);
    gauge(metrics::LOG_BYTES, app.node.log().segments().iter().map(|segment| segment.bytes).sum::<u64>() as f64);
    if let Ok(state) = app.node.projection().stats() {
        gauge(metrics::CHECKPOINT_DURATION_SECONDS, state.last_checkpoint.duration_ms as f64 / 1_000.0);
        gauge(metrics::CHECKPOINT_AGE_SECONDS, state.checkpoint_age_ms as f64 / 1_000.0);
    }
    gauge(metrics::DISK_ACCEPTING, f64::from(u8::from(app.node.accepting())));
    let process = metrics::process_figures();
    gauge(metrics::PROCESS_RESIDENT_BYTES, process.resident_bytes as f64);
    gauge(metrics::PROCESS_CPU_SECONDS, process.cpu_seconds);
    gauge(metrics::PROCESS_OPEN_FDS, process.open_fds as f64);
}
