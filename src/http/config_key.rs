//! `/config/{service}/{environment}/{key}`: one value.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::permit;
use super::write::{self, Write, carry_out};
use super::{audit, etag, item, paths, resolve, session};
use crate::access::decide;
use crate::config::{Action, Operation, Row};
use crate::model::Key;

/// `GET`: the value, or 304 where the client has it.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::read_key(caller, rules, &document, &key)
    })
    .await?;
    let is_resolved = resolve::is_asked(&incoming.parameters()?)?;
    let headers = incoming.headers();
    let reached = session::reach(app, headers).await?;
    audit::read(app, incoming, &permit, &document, &key);
    let view = reached.snapshot.document(&document);
    let row = view.and_then(|view| view.rows.get(&key));
    let live = row.filter(|row| !row.winner().is_removal());
    let Some(row) = live else {
        // That it is gone is something seen, too.
        let mut response = not_there(&key, row).into_response();
        reached.tell(app, response.headers_mut());
        return Ok(response);
    };
    let item = item::item(&document, &key, row);
    if is_resolved {
        // In a box, so that the future of every other read stays small.
        return Box::pin(resolved(app, incoming, reached, item.json)).await;
    }
    let mut response = if etag::is_known(headers, &item.etag)? {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        write::json(StatusCode::OK, item.json)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, item.etag);
    reached.tell(app, headers);
    Ok(response)
}

/// The same with the secrets that the value refers to.
async fn resolved(
    app: &App,
    incoming: &Incoming,
    reached: session::Reached,
    item: Bytes,
) -> Result<Response, ApiError> {
    let query = incoming.parameters()?;
    let resolved = resolve::resolve(app, incoming, &query, &[item], ("", "")).await?;
    let mut response = write::json(StatusCode::OK, resolved.body.clone());
    resolved.tell(incoming, response.headers_mut())?;
    reached.tell(app, response.headers_mut());
    Ok(response)
}

/// `PUT`: the body is the value.
pub(super) async fn put(app: &App, incoming: &Incoming, body: Body) -> Result<Response, ApiError> {
    let value = |bytes: &[u8]| super::body::value(bytes).map(Action::Put);
    with_body(app, incoming, body, None, value).await
}

/// `PATCH`: the body is merged into the value (RFC 7396).
pub(super) async fn patch(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    let value = |bytes: &[u8]| super::body::value(bytes).map(Action::MergePatch);
    with_body(app, incoming, body, Some("application/merge-patch+json"), value).await
}

async fn with_body(
    app: &App,
    incoming: &Incoming,
    body: Body,
    also: Option<&str>,
    action: impl FnOnce(&[u8]) -> Result<Action, ApiError>,
) -> Result<Response, ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    // Before the body: who may not write needs not send it.
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::write_keys(caller, rules, &document, [&key])
    })
    .await?;
    let (check, message) = write::parameters(app, incoming)?;
    let bytes = write::read_body(app, incoming, body, also).await?;
    let action = action(&bytes)?;
    if let Action::Put(value) | Action::MergePatch(value) = &action {
        super::body::check_value(&key, value, &app.settings().limits)?;
    }
    let operations = vec![Operation { key, action, check }];
    let write = Write { permit, document, operations, remove_all: false, message, body: &bytes };
    carry_out(app, incoming, write, write::one_item).await
}

/// `DELETE`: removes the key.
pub(super) async fn remove(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::write_keys(caller, rules, &document, [&key])
    })
    .await?;
    let (check, message) = write::parameters(app, incoming)?;
    let operations = vec![Operation { key, action: Action::Remove, check }];
    let write = Write { permit, document, operations, remove_all: false, message, body: b"" };
    carry_out(app, incoming, write, write::one_item).await
}

/// The key is not there; where it was removed and others wrote it at the same time, with those.
pub(super) fn not_there(key: &Key, row: Option<&Arc<Row>>) -> ApiError {
    ApiError::NotFound { what: format!("the key {key}"), gone: row.and_then(|row| item::gone(row)) }
}
