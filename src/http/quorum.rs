//! `/cluster/quorum`: how the quorum stands as this node sees it, and changes of its members. A
//! change is carried out by the leader, wherever it is asked for, and put on this node's audit
//! chain with what came of it.

use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::query::bad;
use super::{paths, propose, write};
use crate::access::{ClusterAction, decide};
use crate::audit::{Decision, Event};
use crate::model::NodeName;
use crate::quorum::{ChangeError, MemberChange};

/// `GET /cluster/quorum`.
pub(super) fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    decide::cluster(incoming.caller()?, &app.state().rules, ClusterAction::ReadCluster)?;
    incoming.parameters()?;
    let body = serde_json::to_vec(&app.quorum().status()).unwrap_or_default();
    Ok(write::json(StatusCode::OK, Bytes::from(body)))
}

/// `POST /cluster/quorum/{change}/{node}`: `add`, `remove` or `transfer`.
pub(super) async fn change(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    let state = app.state();
    let permit = decide::cluster(caller, &state.rules, ClusterAction::ManageCluster)?;
    incoming.parameters()?;
    let (what, node) = paths::member_change(incoming.parts.uri.path())?;
    let node = NodeName::new(&node)?;
    let action = match what.as_str() {
        "add" => MemberChange::Add(node.clone()),
        "remove" => MemberChange::Remove(node.clone()),
        "transfer" => MemberChange::Transfer(node.clone()),
        _ => return Err(bad("change", "has to be `add`, `remove` or `transfer`")),
    };
    let done = app.quorum().change(action, propose::deadline(app)).await;
    let event = Event {
        at: app.0.env.clock.now(),
        principal: caller.principal().clone(),
        action: format!("quorum.{what}").as_str().into(),
        target: node.as_str().into(),
        decision: Decision::Allowed(permit.grant().clone()),
        outcome: match &done {
            Ok(()) => "done".into(),
            Err(error) => error.to_string().as_str().into(),
        },
        source: incoming.source(app),
        count: 1,
        index: None,
    };
    app.quorum().record(vec![event]).await?;
    done?;
    let body = serde_json::to_vec(&app.quorum().status()).unwrap_or_default();
    Ok(write::json(StatusCode::OK, Bytes::from(body)))
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(why) => Self::Conflict(why),
            ChangeError::Unavailable(why) => Self::QuorumUnavailable(why),
            ChangeError::Unknown(why) => Self::OutcomeUnknown(why),
        }
    }
}
