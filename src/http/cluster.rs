//! `/cluster`: members, vectors and lag as this node sees them, and which regions have a write.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::query::{Query, bad};
use crate::access::{ClusterAction, decide};
use crate::model::Session;
use crate::node::RegionReceipt;

fn json(body: &impl Serialize) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind], serde_json::to_vec(body).unwrap_or_default()).into_response()
}

/// `GET /cluster`.
pub(super) fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    decide::cluster(incoming.caller()?, &app.state().rules, ClusterAction::ReadCluster)?;
    Query::parse(incoming.query(), &[])?;
    Ok(json(&app.node().cluster()))
}

/// `GET /cluster/receipts?session=`: any caller may ask who has what it wrote.
pub(super) fn receipts(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        regions: Vec<RegionReceipt>,
    }
    incoming.caller()?;
    let query = Query::parse(incoming.query(), &["session"])?;
    let session = query.get("session").ok_or_else(|| bad("session", "is missing"))?;
    let regions = app.node().receipts(&Session::decode(session)?.config);
    Ok(json(&Answer { regions }))
}
