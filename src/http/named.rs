//! What the quorum keeps under an id and a name: found by either, listed by name in pages, and
//! shown as it is after a change.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use imbl::OrdMap;
use serde::Serialize;

use super::App;
use super::config_write;
use super::edge::Incoming;
use super::error::ApiError;
use super::page::{self, Listing};
use super::propose::{self, Proposed};
use super::query::Query;
use super::write;
use crate::access::{ClusterAction, decide};
use crate::model::Id;
use crate::registry::State;

/// A linearizable state, or a local one where that is asked for, that the caller may see the
/// accounts and roles of.
pub(super) async fn read(
    app: &App,
    incoming: &Incoming,
    query: &Query<'_>,
) -> Result<propose::Read, ApiError> {
    let read = propose::read(app, incoming, query).await?;
    // By the rules of the state that is shown: what was taken from the caller before is not shown.
    decide::cluster(incoming.caller()?, &read.state.rules, ClusterAction::ReadAccess)?;
    Ok(read)
}

/// Leave to change accounts, roles and bindings; asked again where it is applied.
pub(super) async fn may_manage(app: &App, incoming: &Incoming) -> Result<(), ApiError> {
    super::permit::permit(app, incoming, |caller, rules| {
        decide::cluster(caller, rules, ClusterAction::ManageAccess)
    })
    .await?;
    Ok(())
}

/// The id of what is called by its id or its name. A name that this node does not know is looked
/// up in the newest state there is.
pub(super) async fn id_of(
    app: &App,
    what: &str,
    text: &str,
    ids: impl Fn(&State) -> Option<Id>,
) -> Result<Id, ApiError> {
    if let Some(id) = Id::parse(text) {
        return Ok(id);
    }
    if let Some(id) = ids(&app.state()) {
        return Ok(id);
    }
    let latest = app.quorum().latest(propose::deadline(app)).await?;
    ids(&latest).ok_or_else(|| not_there(what, text))
}

/// Nothing has this id or name.
pub(super) fn not_there(what: &str, text: &str) -> ApiError {
    let text: String = text.chars().take(64).collect();
    ApiError::NotFound { what: format!("the {what} {text}"), gone: None }
}

/// A page of things, in the order of their names.
pub(super) async fn list<N, T>(
    app: &App,
    incoming: &Incoming,
    ids: impl Fn(&State) -> OrdMap<N, Id>,
    show: impl Fn(&State, &Id) -> Option<T>,
) -> Result<Response, ApiError>
where
    N: Ord + Clone + std::fmt::Display + std::str::FromStr,
    T: Serialize,
{
    let query = incoming.parameters()?;
    let size = page::size(&query, &app.settings().limits)?;
    let listing = Listing::new(incoming.path(), "");
    let damaged = ApiError::BadCursor("the cursor is damaged");
    let after = match query.get("cursor") {
        None => Unbounded,
        Some(cursor) => {
            let place: String = listing.place(cursor)?;
            Excluded(place.parse::<N>().map_err(|_| damaged)?)
        }
    };
    let read = read(app, incoming, &query).await?;
    let ids = ids(&read.state);
    let mut rest = ids.range((after, Unbounded));
    let (mut items, mut last) = (Vec::new(), None);
    for (name, id) in rest.by_ref().take(size) {
        let shown = show(&read.state, id).and_then(|it| serde_json::to_vec(&it).ok());
        items.extend(shown.map(Bytes::from));
        last = Some(name);
    }
    let next = last.filter(|_| rest.next().is_some());
    let next = next.map(|name| listing.cursor(&name.to_string()));
    let member = match &next {
        None => ",\"next_cursor\":null".to_owned(),
        Some(cursor) => format!(",\"next_cursor\":\"{cursor}\""),
    };
    let body = config_write::list(items.into_iter(), &member).freeze();
    let mut response = write::json(StatusCode::OK, body);
    let headers = response.headers_mut();
    if let Some(cursor) = next {
        let link = page::next_link(incoming.path(), &query, &cursor);
        headers.extend(HeaderValue::try_from(link).ok().map(|link| (header::LINK, link)));
    }
    read.tell(incoming, headers)?;
    Ok(response)
}

/// The state that includes what was decided; this node may be late, and then says what it has.
pub(super) async fn after(app: &App, proposed: &Proposed) -> Arc<State> {
    let reached = app.quorum().wait_for(proposed.index(), propose::deadline(app)).await;
    reached.unwrap_or_else(|earlier| earlier)
}

/// A thing as JSON, with its version as the entity tag.
pub(super) fn answer(status: StatusCode, shown: &impl Serialize, version: u64) -> Response {
    // Texts and numbers alone: there is nothing to fail.
    let body = serde_json::to_vec(shown).unwrap_or_default();
    let mut response = write::json(status, body.into());
    response.headers_mut().insert(header::ETAG, propose::etag_of(version));
    response
}

/// 204.
pub(super) fn nothing(incoming: &Incoming, proposed: &Proposed) -> Result<Response, ApiError> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// Where a new thing is.
pub(super) fn locate(headers: &mut HeaderMap, path: &str) {
    headers.extend(HeaderValue::try_from(path).ok().map(|path| (header::LOCATION, path)));
}

/// What was shown once, and what is secret, is kept by no cache (RFC 9111).
pub(super) fn keep_out_of_caches(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
