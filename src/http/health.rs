//! `/healthz`, `/readyz` and `/metrics`: for those who keep a node running.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use crate::access::{ClusterAction, decide};

/// How the node stands.
#[derive(Serialize, JsonSchema)]
pub(super) struct Standing {
    /// `ok`, or `ready`.
    status: &'static str,
}

fn json(body: &Standing) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind], serde_json::to_vec(body).unwrap_or_default()).into_response()
}

/// The process answers, and can go on.
pub(super) fn health(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.parameters()?;
    if app.node().has_failed() {
        return Err(ApiError::StorageFailed);
    }
    Ok(json(&Standing { status: "ok" }))
}

/// The node has caught up with a peer, or is alone by choice.
pub(super) fn ready(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.parameters()?;
    if *app.0.stop.borrow() {
        return Err(ApiError::ShuttingDown);
    }
    app.node().readiness().map_err(ApiError::NotReady)?;
    Ok(json(&Standing { status: "ready" }))
}

/// All metrics in Prometheus' text format.
pub(super) async fn metrics(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    if !app.settings().http.metrics_public {
        decide::cluster(incoming.caller()?, &app.state().rules, ClusterAction::ReadCluster)?;
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    app.node().refresh_metrics().await;
    let (limits, metrics) = (&app.settings().limits, app.node().metrics());
    let watches = limits.watchers_max.saturating_sub(app.0.watches.available_permits());
    metrics.set_bounded("watches", watches, limits.watchers_max);
    let connections = limits.connections_max.saturating_sub(app.0.connections.available_permits());
    metrics.set_bounded("connections", connections, limits.connections_max);
    Ok(([(header::CONTENT_TYPE, kind)], metrics.render()).into_response())
}
