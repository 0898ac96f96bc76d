//! Sessions on requests and answers: `Holm-Session` in and out, `Holm-Wait`, `Holm-Inconsistent`.
//! A request is answered from a state that includes what its session has seen, or not at all,
//! unless it asks to be served anyway; an answer's session never shows less than the request's.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::error::ApiError;
use super::{App, HOLM_INCONSISTENT, HOLM_SESSION, HOLM_WAIT};
use crate::config::Snapshot;
use crate::model::{self, Session, Vector};
use crate::node::Node;
use crate::settings::HttpSettings;

/// The state that a request is answered from.
pub(super) struct Reached {
    pub(super) snapshot: Arc<Snapshot>,
    /// What the session has seen and this state does not include, where the request asked to be
    /// served anyway.
    missing: Option<model::Told>,
    /// What the session has seen of the quorum path: not waited for here, and not forgotten.
    quorum: Option<u64>,
}

/// The session that was told last, which mostly is the next one, too.
pub(super) struct Told {
    vector: Arc<Vector>,
    quorum: Option<u64>,
    text: HeaderValue,
}

impl Default for Told {
    fn default() -> Self {
        let vector = Arc::new(Vector::default());
        let text = encoded(&Session::of(vector.told()));
        Self { vector, quorum: None, text }
    }
}

fn encoded(session: &Session) -> HeaderValue {
    // Base64url: there is nothing to fail.
    HeaderValue::from_str(&session.encode()).unwrap_or(HeaderValue::from_static(""))
}

/// The session of a client that has seen `snapshot`, and what the quorum has decided so far.
pub(super) fn of(app: &App, snapshot: &Snapshot) -> HeaderValue {
    of_both(app, snapshot, None)
}

fn of_both(app: &App, snapshot: &Snapshot, seen: Option<u64>) -> HeaderValue {
    let index = app.state().index;
    let quorum = seen.max((index > 0).then_some(index));
    let told = app.0.told.load();
    if told.quorum == quorum && Arc::ptr_eq(&told.vector, &snapshot.vector) {
        return told.text.clone();
    }
    let vector = snapshot.vector.clone();
    let text = encoded(&Session { config: vector.told(), quorum });
    app.0.told.store(Arc::new(Told { vector, quorum, text: text.clone() }));
    text
}

impl Reached {
    /// Says in the answer what it was made from.
    pub(super) fn tell(&self, app: &App, headers: &mut HeaderMap) {
        self.tell_with(app, headers, &self.snapshot, self.missing.as_ref());
    }

    /// The same where the answer is made from a later state.
    pub(super) fn tell_later(&self, app: &App, headers: &mut HeaderMap, snapshot: &Snapshot) {
        let missing = self.missing.as_ref().filter(|seen| !snapshot.vector.covers_told(seen));
        self.tell_with(app, headers, snapshot, missing);
    }

    fn tell_with(
        &self,
        app: &App,
        headers: &mut HeaderMap,
        snapshot: &Snapshot,
        missing: Option<&model::Told>,
    ) {
        let session = match missing {
            None => of_both(app, snapshot, self.quorum),
            Some(seen) => {
                headers.insert(HOLM_INCONSISTENT, HeaderValue::from_static("true"));
                let mut config = snapshot.vector.told();
                config.merge(seen);
                let index = app.state().index;
                let quorum = self.quorum.max((index > 0).then_some(index));
                encoded(&Session { config, quorum })
            }
        };
        headers.insert(HOLM_SESSION, session);
    }
}

/// Waits for the session that the request brings, if it brings one.
pub(super) async fn reach(app: &App, headers: &HeaderMap) -> Result<Reached, ApiError> {
    let (node, settings) = (app.node(), &app.settings().http);
    let snapshot = node.snapshot();
    let Some(session) = one(headers, &HOLM_SESSION, "Holm-Session")? else {
        wait(headers, settings)?;
        is_served_anyway(headers)?;
        node.metrics().view_read("at_once");
        return Ok(Reached { snapshot, missing: None, quorum: None });
    };
    // A client that keeps to one node mostly brings the session that it is given back.
    let told = app.0.told.load();
    if told.text == session && Arc::ptr_eq(&told.vector, &snapshot.vector) {
        node.metrics().view_read("at_once");
        return Ok(Reached { snapshot, missing: None, quorum: told.quorum });
    }
    drop(told);
    let session = Session::decode(session)?;
    let mut reached = wait_for(node, &session.config, headers, settings).await?;
    reached.quorum = session.quorum;
    Ok(reached)
}

/// Waits for what this vector includes, as long as the request says.
pub(super) async fn wait_for(
    node: &Node,
    seen: &model::Told,
    headers: &HeaderMap,
    settings: &HttpSettings,
) -> Result<Reached, ApiError> {
    let at_most = wait(headers, settings)?;
    let serve_anyway = is_served_anyway(headers)?;
    let is_there = node.snapshot().vector.covers_told(seen);
    // Nobody is waited for who has been given up.
    let lost = if is_there { None } else { node.lost(seen) };
    let at_most = if lost.is_some() { Duration::ZERO } else { at_most };
    let reached = node.wait_for(seen, at_most).await;
    node.metrics().view_read(match &reached {
        Ok(_) if is_there => "at_once",
        Ok(_) => "waited",
        Err(_) => "not_reached",
    });
    match reached {
        Ok(snapshot) => Ok(Reached { snapshot, missing: None, quorum: None }),
        Err(snapshot) if serve_anyway => {
            Ok(Reached { snapshot, missing: Some(seen.clone()), quorum: None })
        }
        Err(_) => Err(lost.map_or(ApiError::SessionNotReached, ApiError::SessionLost)),
    }
}

/// Refuses what these headers may not be, also where nothing has to be waited for, so that a typing
/// error is not passed over until it matters.
pub(super) fn check(
    headers: &HeaderMap,
    settings: &HttpSettings,
    is_config: bool,
) -> Result<(), ApiError> {
    if let Some(session) = one(headers, &HOLM_SESSION, "Holm-Session")? {
        Session::decode(session)?;
    }
    if is_config {
        is_served_anyway(headers)?;
    }
    wait(headers, settings).map(drop)
}

/// Whether the request is to be answered where its session is not reached.
fn is_served_anyway(headers: &HeaderMap) -> Result<bool, ApiError> {
    match one(headers, &HOLM_INCONSISTENT, "Holm-Inconsistent")? {
        None => Ok(false),
        Some("serve") => Ok(true),
        Some(_) => Err(bad("Holm-Inconsistent", "has to be `serve`, or absent")),
    }
}

/// How long the request may wait for its session.
pub(super) fn wait(headers: &HeaderMap, settings: &HttpSettings) -> Result<Duration, ApiError> {
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
