//! `GET /cluster/backup`: both of this node's stores, as they are when it is asked, in one stream. Who
//! took it is on the audit chain before the first byte is sent. What is sealed stays sealed. The stores
//! keep every page that it may still read, so that whoever takes it too slowly does not get to its end.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::limits;
use crate::access::{ClusterAction, decide};
use crate::audit::{Decision, Event};
use crate::node::BackupError;
use crate::storage::StoreError;

/// What the answer's body is.
const KIND: HeaderValue = HeaderValue::from_static("application/vnd.holm.backup");

/// `GET /cluster/backup`.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    let permit = decide::cluster(caller, &app.state().rules, ClusterAction::BackUp)?;
    incoming.parameters()?;
    let at = app.0.env.clock.now();
    let taking = app.node().back_up(&permit, app.0.env.blocking, at).await?;
    let event = Event {
        at,
        principal: caller.principal().clone(),
        action: "cluster.backup".into(),
        target: app.node().name().as_str().into(),
        decision: Decision::Allowed(permit.grant().clone()),
        outcome: "begun".into(),
        source: incoming.source(app),
        count: 1,
        index: None,
    };
    app.quorum().record(vec![event]).await?;
    let chunks = stream::try_unfold(taking, async |taking| {
        let next = taking.next().await;
        if let Err(error) = &next {
            // The stream breaks off: whoever reads it sees that the end is missing.
            tracing::error!(%error, "a backup could not be taken to its end");
        }
        next.map(|next| next.map(|(bytes, taking)| (Bytes::from(bytes), taking)))
    });
    Ok(([(header::CONTENT_TYPE, KIND)], limits::paced(app, chunks)).into_response())
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Busy
            | BackupError::Store(StoreError::Damaged(_) | StoreError::Failed(_)) => {
                Self::NotReady(error.to_string())
            }
            BackupError::Store(StoreError::Full) => Self::StorageFull,
        }
    }
}
