//! Sessions on requests and answers: `Holm-Session` in and out, `Holm-Wait`, `Holm-Inconsistent`.
//! A request is answered from a state that includes what its session has seen, or not at all,
//! unless it asks to be served anyway; an answer's session never shows less than the request's.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::error::ApiError;
use super::{HOLM_INCONSISTENT, HOLM_SESSION, HOLM_WAIT};
use crate::config::Snapshot;
use crate::model::{Session, Vector};
use crate::node::Node;
use crate::settings::HttpSettings;

/// The state that a request is answered from.
pub(super) struct Reached {
    pub(super) snapshot: Arc<Snapshot>,
    /// What the session has seen and this state does not include, where the request asked to be
    /// served anyway.
    missing: Option<Vector>,
}

impl Reached {
    /// Says in the answer what it was made from.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        tell(headers, &self.snapshot, self.missing.as_ref());
    }

    /// The same where the answer is made from a later state.
    pub(super) fn tell_later(&self, headers: &mut HeaderMap, snapshot: &Snapshot) {
        let missing = self.missing.as_ref().filter(|seen| !snapshot.vector.covers(seen));
        tell(headers, snapshot, missing);
    }
}

fn tell(headers: &mut HeaderMap, snapshot: &Snapshot, missing: Option<&Vector>) {
    let session = match missing {
        None => HeaderValue::from_str(snapshot.session()),
        Some(seen) => {
            headers.insert(HOLM_INCONSISTENT, HeaderValue::from_static("true"));
            let mut both = (*snapshot.vector).clone();
            both.merge(seen);
            HeaderValue::from_str(&Session::of(both).encode())
        }
    };
    if let Ok(session) = session {
        headers.insert(HOLM_SESSION, session);
    }
}

/// Waits for the session that the request brings, if it brings one.
pub(super) async fn reach(
    node: &Node,
    headers: &HeaderMap,
    settings: &HttpSettings,
) -> Result<Reached, ApiError> {
    let snapshot = node.snapshot();
    let Some(session) = one(headers, &HOLM_SESSION, "Holm-Session")? else {
        check_wait(headers, settings)?;
        return Ok(Reached { snapshot, missing: None });
    };
    // A client that keeps to one node mostly brings the session that it is given back.
    if session == &**snapshot.session() {
        return Ok(Reached { snapshot, missing: None });
    }
    wait_for(node, &Session::decode(session)?.config, headers, settings).await
}

/// Waits for what this vector includes, as long as the request says.
pub(super) async fn wait_for(
    node: &Node,
    seen: &Vector,
    headers: &HeaderMap,
    settings: &HttpSettings,
) -> Result<Reached, ApiError> {
    let at_most = check_wait(headers, settings)?;
    let serve_anyway = match one(headers, &HOLM_INCONSISTENT, "Holm-Inconsistent")? {
        None => false,
        Some("serve") => true,
        Some(_) => return Err(bad("Holm-Inconsistent", "has to be `serve`, or absent")),
    };
    match node.wait_for(seen, at_most).await {
        Ok(snapshot) => Ok(Reached { snapshot, missing: None }),
        Err(snapshot) if serve_anyway => Ok(Reached { snapshot, missing: Some(seen.clone()) }),
        Err(_) => Err(ApiError::SessionNotReached),
    }
}

fn check_wait(headers: &HeaderMap, settings: &HttpSettings) -> Result<Duration, ApiError> {
    match one(headers, &HOLM_WAIT, "Holm-Wait")? {
        None => Ok(settings.session_wait_default),
        Some(text) => length(text, settings.session_wait_max).map_err(|e| bad("Holm-Wait", &e)),
    }
}

/// Reads a length of time up to `max`.
pub(super) fn length(text: &str, max: Duration) -> Result<Duration, String> {
    match crate::settings::parse_duration(text)? {
        length if length > max => Err(format!("{text:?} is above the limit of {max:?}")),
        length => Ok(length),
    }
}

/// A header that may stand once, as text.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: &axum::http::HeaderName,
    shown: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(shown, "stands twice"));
    }
    value.to_str().map(Some).map_err(|_| bad(shown, "has characters outside of ASCII"))
}

/// A header that is wrong.
pub(super) fn bad(header: &'static str, reason: &str) -> ApiError {
    ApiError::BadHeader { header, reason: reason.to_owned() }
}
