//! `WATCH /config/{service}/{environment}`: what is there, and then what changes, as server-sent
//! events or over a WebSocket. What is sent, and in which order, is `watch::stream`'s; how it is
//! written, `watch::events`' and `watch::socket`'s.

mod events;
mod leave;
mod socket;
mod stream;

use std::sync::Arc;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::limits::{Place, Who};
use super::operation::wants_websocket;
use super::paths;
use super::permit;
use super::session::{self, one};
use crate::access::{Caller, Rules, decide};
use crate::model::Session;
use crate::telemetry::Shed;

use leave::Leave;
pub(super) use stream::Moved;
use stream::Watch;

/// `GET` with `Accept: text/event-stream`, a WebSocket upgrade, or the method `WATCH`.
pub(super) async fn watch(app: &App, incoming: Incoming) -> Result<Response, ApiError> {
    let document = paths::document(incoming.path())?;
    let caller = incoming.caller()?.clone();
    let may = |caller: &Caller, rules: &Rules| {
        Ok((decide::read_document(caller, rules, &document)?, rules.clone()))
    };
    let (permit, rules) = permit::permit(app, &incoming, may).await?;
    let query = incoming.parameters()?;
    let prefix = query.get("prefix").unwrap_or_default().to_owned();
    let headers = incoming.headers();
    let header: header::HeaderName = header::HeaderName::from_static("last-event-id");
    // A reconnecting client sends the header with the address it was first given: it is later.
    let since = one(headers, &header, "Last-Event-ID")?.filter(|id| !id.is_empty());
    let since = since.or_else(|| query.get("since")).map(Session::decode).transpose()?;
    let http = &app.settings().http;
    let places = places(app, &caller)?;
    session::reach(app, headers).await?;
    // Before the state: what changes in between is then in both, not in neither.
    let feed = app.node().feed(&document);
    let snapshot = match &since {
        None => app.node().snapshot(),
        Some(since) => session::wait_for(app.node(), &since.config, headers, http).await?.snapshot,
    };
    let since = since.map(|since| since.config.read(&snapshot.vector.folds()));
    // A client that reads slowly holds on to this; not to all other documents as well.
    let snapshot = Arc::new(snapshot.only(&document));
    let expires_in = caller.until().0.saturating_sub(app.0.env.clock.now().0);
    let watch = Watch::new(stream::Start {
        document,
        prefix,
        leave: Leave::new(permit, caller, app.quorum().clone(), rules),
        feed,
        node: app.node().clone(),
        snapshot,
        since,
        heartbeat_every: http.heartbeat_every,
        expires_in: std::time::Duration::from_micros(expires_in),
        stop: app.0.stop.clone(),
        lag_max: http.watch_lag_max,
        metrics: app.node().metrics().clone(),
        places,
    });
    // Other upgrades, `h2c` for one, are offers that a server may pass over (RFC 9110, section 7.8).
    if !wants_websocket(headers) {
        return Ok(events::answer(watch));
    }
    let mut parts = incoming.parts;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|e| ApiError::UpgradeRequired(e.body_text()))?;
    Ok(socket::answer(upgrade, watch))
}

/// A place among the node's watches, and one among the client's.
fn places(app: &App, caller: &Caller) -> Result<(OwnedSemaphorePermit, Place<Who>), ApiError> {
    let metrics = app.node().metrics();
    let Some(of_client) = app.0.gate.watches.take(&Who::of(caller)) else {
        metrics.shed(Shed::WatchesOfClient);
        let max = app.settings().limits.watchers_per_client_max;
        return Err(ApiError::TooManyWatchesOfClient { max });
    };
    let Ok(of_node) = app.0.watches.clone().try_acquire_owned() else {
        metrics.shed(Shed::WatchesOfNode);
        return Err(ApiError::TooManyWatches);
    };
    Ok((of_node, of_client))
}
