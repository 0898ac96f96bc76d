//! What all writes have in common: the session that is waited for first, the checks, the retry
//! that is recognised, the regions that are waited for after, and the headers of the answer.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::ack::Asked;
use super::edge::Incoming;
use super::error::ApiError;
use super::session::{self, bad, one};
use super::{App, HOLM_CHECK, IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, etag, item};
use crate::access::{Caller, WritePermit};
use crate::config::{Check, Idempotency, Operation, WriteRequest, Written};
use crate::model::{DocumentId, Text};

/// Longest `Idempotency-Key`, in bytes.
const IDEMPOTENCY_KEY_LEN_MAX: usize = 255;

/// One write on its way to the node.
pub(super) struct Write<'a> {
    pub(super) permit: WritePermit,
    pub(super) document: DocumentId,
    pub(super) operations: Vec<Operation>,
    /// Every key that the node sees, instead of `operations`.
    pub(super) remove_all: bool,
    pub(super) message: Option<Text>,
    /// The body as it came: a retry brings the same.
    pub(super) body: &'a [u8],
}

/// What the answer to a write shows.
pub(super) struct Shown {
    pub(super) status: StatusCode,
    /// A JSON object.
    pub(super) body: Bytes,
    pub(super) etag: Option<HeaderValue>,
}

/// Carries the write out and answers with what `show` makes of it.
pub(super) async fn carry_out(
    app: &App,
    incoming: &Incoming,
    write: Write<'_>,
    show: impl FnOnce(&DocumentId, &Written) -> Shown,
) -> Result<Response, ApiError> {
    let (node, settings) = (app.node(), &app.settings().http);
    let headers = incoming.headers();
    let regions = node.region_count();
    let asked = Asked::read(headers, settings, regions)?;
    let idempotency = idempotency(app, incoming, write.body)?;
    let reached = session::reach(app, headers).await?;
    let mut operations = write.operations;
    if let [operation] = operations.as_mut_slice() {
        let rows = reached.snapshot.document(&write.document).map(|view| &view.rows);
        let row = rows.and_then(|rows| rows.get(&operation.key));
        match etag::check(headers, row.map(|row| &**row))? {
            Check::None => {}
            check if operation.check == Check::None => operation.check = check,
            _ => return Err(bad("If-Match", "and expect_version cannot both be asked")),
        }
    } else if etag::check(headers, None)? != Check::None {
        return Err(bad("If-Match", "is for one key; entries take expect_version"));
    }
    let is_checked = operations.iter().any(|operation| operation.check != Check::None);
    let document = write.document;
    let request = WriteRequest {
        document: document.clone(),
        operations,
        remove_all: write.remove_all,
        author: incoming.caller()?.principal().clone(),
        message: write.message,
        idempotency,
        behalf: None,
    };
    let source = incoming.source(app);
    let written = node.write(&write.permit, source, request).await?;
    let answer = asked.wait(node, written.dot).await;
    let Shown { mut status, mut body, etag } = show(&document, &written);
    if let Some(answer) = answer {
        if !answer.reached {
            status = StatusCode::ACCEPTED;
        }
        body = answer.into_body(&body);
    }
    let mut response = json(status, body);
    let headers = response.headers_mut();
    if let Some(etag) = etag {
        headers.insert(header::ETAG, etag);
    }
    reached.tell_later(app, headers, &written.snapshot);
    if is_checked {
        headers.insert(HOLM_CHECK, HeaderValue::from_static("local"));
    }
    if written.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// As many headers as an answer has, or a few more.
const HEADERS: usize = 12;

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    // What every answer carries fits, so that the map does not grow again and again.
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// 201 where a key is new, else 200.
pub(super) fn status(written: &Written) -> StatusCode {
    let is_new = written.keys.iter().any(|key| key.created && !key.row.winner().is_removal());
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}

/// Shows the one key that was written.
pub(super) fn one_item(document: &DocumentId, written: &Written) -> Shown {
    let item = written.keys.first().map(|key| item::item(document, &key.key, &key.row));
    let (etag, body) =
        item.map_or((None, Bytes::from_static(b"{}")), |item| (Some(item.etag), item.json));
    Shown { status: status(written), body, etag }
}

/// The check and the message that writes of one key take as parameters.
pub(super) fn parameters(
    app: &App,
    incoming: &Incoming,
) -> Result<(Check, Option<Text>), ApiError> {
    let query = incoming.parameters()?;
    let version = query.number("expect_version", 0, u64::MAX)?;
    let check = version.map_or(Check::None, super::body::expected);
    let message = query.get("message");
    let message = message.map(|text| super::body::message(text, &app.settings().limits));
    Ok((check, message.transpose()?))
}

/// An `Idempotency-Key` that can be taken.
pub(super) fn check_idempotency_key(key: &str) -> Result<(), ApiError> {
    let fits = (1..=IDEMPOTENCY_KEY_LEN_MAX).contains(&key.len());
    if fits && key.bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(bad("Idempotency-Key", "has to be 1 to 255 visible ASCII characters"))
}

fn idempotency(
    app: &App,
    incoming: &Incoming,
    body: &[u8],
) -> Result<Option<Idempotency>, ApiError> {
    const SHOWN: &str = "Idempotency-Key";
    let Some(key) = one(incoming.headers(), &IDEMPOTENCY_KEY, SHOWN)? else { return Ok(None) };
    check_idempotency_key(key)?;
    let caller: &Caller = incoming.caller()?;
    let checks = [header::IF_MATCH, header::IF_NONE_MATCH];
    let checks = checks.map(|name| incoming.headers().get(name).map_or(&b""[..], |v| v.as_bytes()));
    let (method, target) = (incoming.parts.method.as_str(), incoming.parts.uri.path());
    let query = incoming.query().unwrap_or_default();
    let cluster = app.node().cluster_id();
    Ok(Some(Idempotency {
        key: digest(&[cluster.as_bytes(), caller.principal().as_bytes(), key.as_bytes()]),
        request: digest(&[
            method.as_bytes(),
            target.as_bytes(),
            query.as_bytes(),
            checks[0],
            checks[1],
            body,
        ]),
    }))
}

/// The first half of SHA-256 over the parts, each with its length.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

/// Reads the body of a write.
pub(super) async fn read_body(
    app: &App,
    incoming: &Incoming,
    body: Body,
    also: Option<&str>,
) -> Result<Bytes, ApiError> {
    super::body::check_type(&incoming.parts.headers, also)?;
    let (limits, http) = (&app.settings().limits, &app.settings().http);
    super::body::read(&incoming.parts.headers, body, limits.body_bytes_max, http.request_timeout)
        .await
}
