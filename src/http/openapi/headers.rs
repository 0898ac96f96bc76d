//! The headers of answers: how each looks, and which answer has which.

use serde_json::{Map, Value, json};

use super::super::operation::Operation;

/// All headers of answers that the description knows, with what they say.
pub(super) const ALL: [(&str, &str, &str); 19] = [
    ("X-Request-Id", "string", "The request's id: its own where it brought one, else a new one."),
    ("Traceparent", "string", "The trace that the request belongs to (W3C Trace Context)."),
    (
        "Holm-Session",
        "string",
        "What the client has seen now: to be sent with its next request, to whichever region.",
    ),
    (
        "Holm-Policy-Age-Ms",
        "integer",
        "How old the rules may be that the answer was authorized by, in milliseconds.",
    ),
    (
        "Holm-Inconsistent",
        "string",
        "`true`: the session was not reached, and the request asked to be served anyway.",
    ),
    ("Holm-Check", "string", "`local`: the check was made at this node alone."),
    ("Holm-Staleness-Ms", "integer", "How old this node's copy may be, in milliseconds."),
    ("ETag", "string", "Names what was read or written, for `If-Match` and `If-None-Match`."),
    ("Link", "string", "The next page: `rel=\"next\"` (RFC 8288)."),
    ("Location", "string", "Where the new thing is."),
    ("Cache-Control", "string", "Whether the answer may be kept (RFC 9111)."),
    ("Vary", "string", "What else the answer depends on."),
    ("Idempotency-Replayed", "string", "`true`: this answers a retry; nothing was done again."),
    ("Retry-After", "integer", "Seconds after which it may be worth asking again."),
    (
        "RateLimit",
        "string",
        "How the client stands with its rate (draft-ietf-httpapi-ratelimit-headers): from half of \
         it on.",
    ),
    ("RateLimit-Policy", "string", "The rate itself."),
    ("WWW-Authenticate", "string", "How to authenticate."),
    ("Upgrade", "string", "`websocket`."),
    ("Content-Security-Policy", "string", "That the page loads and runs nothing."),
];

/// `components.headers`.
pub(super) fn components() -> Map<String, Value> {
    let header = |(name, kind, text): (&str, &str, &str)| {
        (name.to_owned(), json!({"description": text, "schema": {"type": kind}}))
    };
    ALL.map(header).into_iter().collect()
}

/// References to these.
pub(super) fn references(names: impl IntoIterator<Item = &'static str>) -> Map<String, Value> {
    let reference = |name: &'static str| {
        (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))
    };
    names.into_iter().map(reference).collect()
}

/// What every answer may have.
pub(super) const EVERY: [&str; 4] =
    ["X-Request-Id", "Traceparent", "RateLimit", "RateLimit-Policy"];

/// The headers that the operation's good answers may have.
pub(super) fn of(operation: Operation) -> Vec<&'static str> {
    let mut names = EVERY.to_vec();
    let takes = operation.headers();
    if takes.contains(&"Holm-Session") && operation != Operation::Watch {
        names.push("Holm-Session");
    }
    if operation.is_config() {
        names.push("Holm-Policy-Age-Ms");
    }
    if takes.contains(&"Holm-Inconsistent") && operation != Operation::Watch {
        names.push("Holm-Inconsistent");
    }
    if takes.contains(&"Holm-Ack") {
        names.push("Holm-Check");
    }
    if takes.contains(&"Idempotency-Key") {
        names.push("Idempotency-Replayed");
    }
    if operation.parameters().contains(&"consistency") {
        names.extend(["Holm-Staleness-Ms", "Cache-Control"]);
    }
    if operation.parameters().contains(&"size") {
        names.push("Link");
    }
    match operation {
        Operation::Post
        | Operation::GetKey
        | Operation::PutKey
        | Operation::PatchKey
        | Operation::RemoveKey
        | Operation::Restore
        | Operation::GetAccount
        | Operation::UpdateAccount
        | Operation::GetRole
        | Operation::UpdateRole => names.push("ETag"),
        Operation::CreateAccount => names.extend(["ETag", "Location", "Cache-Control"]),
        Operation::AddCredential => names.extend(["Location", "Cache-Control"]),
        Operation::CreateRole | Operation::PostSecret => names.extend(["ETag", "Location"]),
        Operation::GetSecret => names.extend(["ETag", "Vary"]),
        Operation::GetDocs => names.extend(["ETag", "Cache-Control", "Content-Security-Policy"]),
        Operation::GetOpenApi => names.extend(["ETag", "Cache-Control"]),
        Operation::Watch
        | Operation::IssueToken
        | Operation::GetJwks
        | Operation::GetDiscovery
        | Operation::AddSigningKey
        | Operation::RotateKeys => names.push("Cache-Control"),
        _ => {}
    }
    names
}

/// The headers that refusals with this status may have.
pub(super) fn of_refusal(status: u16) -> Vec<&'static str> {
    let mut names = EVERY.to_vec();
    names.extend(["Holm-Policy-Age-Ms", "Cache-Control"]);
    match status {
        401 | 403 => names.push("WWW-Authenticate"),
        404 | 409 => names.extend(["Holm-Session", "Holm-Inconsistent"]),
        412 => names.extend(["Holm-Session", "Holm-Check"]),
        426 => names.push("Upgrade"),
        429 | 503 => names.push("Retry-After"),
        _ => {}
    }
    names
}
