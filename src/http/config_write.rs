//! `POST` and `DELETE /config/{service}/{environment}`: many keys at once, or all of them.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::permit;
use super::write::{self, Shown, Write, carry_out};
use super::{item, paths};
use crate::access::decide;
use crate::config::Written;
use crate::model::DocumentId;

/// What a POST wrote: the one item, or all of them.
#[derive(JsonSchema)]
#[schemars(rename = "Items", untagged)]
#[expect(dead_code, reason = "a description, and never made")]
pub(super) enum Items {
    One(item::Rendered<'static>),
    Many { items: Vec<item::Rendered<'static>> },
}

/// How many keys a removal removed.
#[derive(Serialize, JsonSchema)]
pub(super) struct Removed {
    removed: usize,
}

/// `POST`: sets one key, or several together. One that the caller may not write refuses them all.
pub(super) async fn post(app: &App, incoming: &Incoming, body: Body) -> Result<Response, ApiError> {
    let document = paths::document(incoming.path())?;
    incoming.parameters()?;
    let bytes = write::read_body(app, incoming, body, None).await?;
    let post = super::body::post(&bytes, &app.settings().limits)?;
    let keys = post.operations.iter().map(|operation| &operation.key);
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::write_keys(caller, rules, &document, keys.clone())
    })
    .await?;
    let write = Write {
        permit,
        document,
        operations: post.operations,
        remove_all: false,
        message: post.message,
        body: &bytes,
    };
    let show = if post.single { write::one_item } else { all_items };
    carry_out(app, incoming, write, show).await
}

/// `DELETE`: removes the keys that this node sees, in one change.
pub(super) async fn remove_all(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let document = paths::document(incoming.path())?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::write_document(caller, rules, &document)
    })
    .await?;
    let query = incoming.parameters()?;
    let message =
        query.get("message").map(|text| super::body::message(text, &app.settings().limits));
    let message = message.transpose()?;
    let write =
        Write { permit, document, operations: vec![], remove_all: true, message, body: b"" };
    carry_out(app, incoming, write, |_, written| {
        let body = serde_json::to_vec(&Removed { removed: written.keys.len() });
        Shown { status: StatusCode::OK, body: body.unwrap_or_default().into(), etag: None }
    })
    .await
}

fn all_items(document: &DocumentId, written: &Written) -> Shown {
    let items = written.keys.iter().map(|key| item::json(document, &key.key, &key.row));
    let body = list(items, "").freeze();
    Shown { status: write::status(written), body, etag: None }
}

/// `{"items":[…]` with `more` members behind, and the closing brace.
pub(super) fn list(items: impl Iterator<Item = Bytes>, more: &str) -> BytesMut {
    let mut body = BytesMut::from(&b"{\"items\":["[..]);
    for (i, item) in items.enumerate() {
        if i > 0 {
            body.extend_from_slice(b",");
        }
        body.extend_from_slice(&item);
    }
    body.extend_from_slice(b"]");
    body.extend_from_slice(more.as_bytes());
    body.extend_from_slice(b"}");
    body
}
