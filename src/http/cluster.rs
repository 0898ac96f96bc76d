//! `/cluster`: members, vectors and lag as this node sees them, which regions have a write, and which
//! certificates the nodes show.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::query::bad;
use crate::access::{ClusterAction, decide};
use crate::model::Session;
use crate::node::RegionReceipt;
use crate::node::certificates::NodeCertificates;

/// What every node shows and believes.
#[derive(Serialize, JsonSchema)]
pub(super) struct Certificates {
    nodes: Vec<NodeCertificates>,
}

/// Which regions have a write.
#[derive(Serialize, JsonSchema)]
pub(super) struct Receipts {
    regions: Vec<RegionReceipt>,
}

fn json(body: &impl Serialize) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind], serde_json::to_vec(body).unwrap_or_default()).into_response()
}

/// `GET /cluster`.
pub(super) fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    decide::cluster(incoming.caller()?, &app.state().rules, ClusterAction::ReadCluster)?;
    incoming.parameters()?;
    Ok(json(&app.node().cluster()))
}

/// `GET /cluster/certificates`: what every node shows to others and to clients, and whom it believes.
pub(super) async fn certificates(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    decide::cluster(incoming.caller()?, &app.state().rules, ClusterAction::ReadCluster)?;
    incoming.parameters()?;
    Ok(json(&Certificates { nodes: app.node().certificates().await }))
}

/// `GET /cluster/receipts?session=`: any caller may ask who has what it wrote.
pub(super) fn receipts(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.caller()?;
    let query = incoming.parameters()?;
    let session = query.get("session").ok_or_else(|| bad("session", "is missing"))?;
    let regions = app.node().receipts(&Session::decode(session)?.config);
    Ok(json(&Receipts { regions }))
}
