//! Asking for a permit by this node's copy of the rules. Where that says no, and the caller's
//! session has seen a later state of the rules than this node has, the node catches up first: a
//! grant that was just made is in force wherever its session is shown. Nobody who is allowed waits.

use axum::http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::edge::Incoming;
use super::error::ApiError;
use super::operation::Operation;
use super::session::{self, one};
use super::{App, HOLM_POLICY_AGE_MS, HOLM_SESSION};
use crate::access::{Caller, Denied, Rules};
use crate::model::Session;

/// What `decide` allows the request's caller.
pub(super) async fn permit<T>(
    app: &App,
    incoming: &Incoming,
    decide: impl Fn(&Caller, &Rules) -> Result<T, Denied>,
) -> Result<T, ApiError> {
    let caller = incoming.caller()?;
    let denied = match decide(caller, &app.state().rules) {
        Ok(permit) => return Ok(permit),
        Err(denied) => denied,
    };
    match catch_up(app, incoming.headers()).await? {
        true => Ok(decide(caller, &app.state().rules)?),
        false => Err(denied.into()),
    }
}

/// Waits for what the session has seen of the quorum path; whether there was something to wait for.
pub(super) async fn catch_up(app: &App, headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(session) = one(headers, &HOLM_SESSION, "Holm-Session")? else { return Ok(false) };
    let seen = Session::decode(session)?.quorum.unwrap_or(0);
    if seen <= app.state().index {
        return Ok(false);
    }
    let wait = session::wait(headers, &app.settings().http)?;
    let reached = app.quorum().wait_for(seen, Instant::now() + wait).await;
    // What it would be by the rules that the caller has seen is not known.
    reached.map(|_| true).map_err(|_| ApiError::SessionNotReached)
}

/// Refuses a write of configurations where the rules that allow it may be too old.
pub(super) fn check_policy_age(app: &App, operation: Operation) -> Result<(), ApiError> {
    let Some(max) = app.settings().access.max_policy_age else { return Ok(()) };
    if !operation.is_config() || operation.is_read() {
        return Ok(());
    }
    let age = app.quorum().contact_age();
    if age > max { Err(ApiError::PolicyTooOld { age, max }) } else { Ok(()) }
}

/// Says how old the rules may be that an answer about configurations was authorized by.
pub(super) fn tell_policy_age(app: &App, operation: Operation, headers: &mut HeaderMap) {
    if operation.is_config() {
        let ms = app.quorum().contact_age().as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        headers.insert(HOLM_POLICY_AGE_MS, HeaderValue::from(ms));
    }
}
