//! One table from errors to answers. Each error has one name, one status and says which field and
//! why; `tests/golden/errors.json` holds every one of them. Nothing here decides.
//!
//! An answer has RFC 9457's members and `error`, the name that clients tell errors apart by.
//! `Unauthorized` alone says nothing more: whoever has no good token is told no reasons.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::item;
use super::limits::Quota;
use crate::access::Denied;
use crate::config::WriteError;
use crate::model::{Dot, JsonText, Key, NameError, NodeName, SecretName, SessionError};
use crate::secrets::{Algorithm, KeyError};

/// What is known of a key that was removed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Gone {
    /// The removal's columns: when, by whom, under which version.
    #[schemars(with = "item::Shown<'static>")]
    pub(crate) removal: JsonText,
    /// What was written elsewhere at the same time and lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<item::Shown<'static>>>")]
    pub(crate) conflicts: Option<JsonText>,
}

/// Why a request was not done. Nothing was changed, except where the name is `TimedOut`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    BadName(#[from] NameError),
    #[error("{parameter}: {reason}")]
    BadQuery { parameter: String, reason: String },
    #[error("{header}: {reason}")]
    BadHeader { header: &'static str, reason: String },
    #[error("the body is no JSON that is taken here: {0}")]
    BadJson(String),
    #[error("{field}: {reason}")]
    BadField { field: String, reason: String },
    #[error("the field {0:?} is not known here")]
    UnknownField(String),
    #[error("the key {0:?} stands twice in the request")]
    DuplicateKey(String),
    #[error("{0}")]
    BadCursor(&'static str),
    #[error("{0}")]
    BadSession(#[from] SessionError),
    #[error("no good bearer token")]
    Unauthorized,
    #[error("{0}")]
    Forbidden(#[from] Denied),
    #[error("{what} is not there")]
    NotFound { what: String, gone: Option<Gone> },
    #[error("version {version} of the key {key} is not there any more: {}", what_is(version, *oldest))]
    VersionGone { key: Key, version: String, oldest: Option<u64> },
    #[error(
        "the records of that time are archived, and in no store any more: see audit.archive_dir of {}",
        nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
    )]
    AuditArchived { nodes: Vec<NodeName> },
    #[error("there is nothing at this path")]
    UnknownPath,
    #[error("this path takes {allow}")]
    MethodNotAllowed { allow: &'static str },
    #[error("the client was too slow to send its request")]
    RequestTooSlow,
    #[error("{}", ambiguous(*version, candidates.len()))]
    AmbiguousVersion { version: u64, candidates: Vec<String> },
    #[error("{detail}")]
    PreconditionFailed { detail: String },
    #[error("this node does not have what the session has seen, and did not get it in time")]
    SessionNotReached,
    #[error(
        "the session has seen change {0}, which no node has that was heard for long: it is lost, unless \
         the node that made it comes back"
    )]
    SessionLost(Dot),
    #[error("the body has more than {max} bytes")]
    BodyTooLarge { max: usize },
    #[error("{key}: the value has {len} bytes; at most {max} are allowed")]
    ValueTooLarge { key: Key, len: usize, max: usize },
    #[error("the request has {count} entries; at most {max} are allowed")]
    TooManyEntries { count: usize, max: usize },
    #[error(
        "the write comes to {bytes} bytes in all; at most {max} fit into one change: write or \
         remove fewer keys at a time"
    )]
    WriteTooLarge { bytes: usize, max: usize },
    #[error("the body has to be {expected}; the request says {found}")]
    UnsupportedMediaType { expected: &'static str, found: String },
    #[error("{key}: {reason}")]
    BadValue { key: Key, reason: String },
    #[error("this Idempotency-Key was used with another request")]
    IdempotencyKeyReused,
    #[error("this path upgrades to a WebSocket: {0}")]
    UpgradeRequired(String),
    #[error("the request took too long; a write may have happened or not")]
    TimedOut,
    #[error("the node has as much to do as it can, and did nothing of this")]
    Overloaded,
    #[error("too many watches are open")]
    TooManyWatches,
    #[error("this client has {max} watches open; it may not have more")]
    TooManyWatchesOfClient { max: usize },
    #[error("this client asks too often; it may ask again in {} s", .0.retry_after_s)]
    TooManyRequests(Quota),
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("the store failed; reads go on")]
    StorageFailed,
    #[error("the store failed while it committed: the write may have happened or not")]
    WriteUnknown,
    #[error("the node is shutting down")]
    ShuttingDown,
    #[error("the disk is full; reads go on")]
    StorageFull,
    #[error("{what} is there already")]
    AlreadyExists { what: String },
    #[error("{0}")]
    Conflict(String),
    #[error("{detail}")]
    VersionMismatch { detail: String },
    #[error("{0}")]
    LimitReached(String),
    #[error("the algorithm is not known; there are {}", algorithms())]
    UnknownAlgorithm,
    #[error("the value has {len} bytes; at most {max} are allowed")]
    SecretTooLarge { len: usize, max: usize },
    #[error("the secret {name}, to which this configuration refers, is not there")]
    UnknownSecret { name: SecretName },
    #[error("{0}")]
    KeyUnavailable(#[from] KeyError),
    #[error(
        "version {version} of the secret {name} does not open: what is stored was changed, or \
         belongs elsewhere"
    )]
    SecretDamaged { name: SecretName, version: u32 },
    #[error("no quorum answers: {0}; configurations are read and written all the same")]
    QuorumUnavailable(String),
    #[error(
        "it may have been done or not ({0}): ask again, with the same Idempotency-Key if there \
         was one"
    )]
    OutcomeUnknown(String),
    #[error(
        "this node's copy may be {} ms old; the request allows {} ms",
        staleness.as_millis(),
        max.as_millis()
    )]
    TooStale { staleness: Duration, max: Duration },
    #[error(
        "this node's rules may be {} ms old; access.max_policy_age allows {} ms for writes",
        age.as_millis(),
        max.as_millis()
    )]
    PolicyTooOld { age: Duration, max: Duration },
}

/// What is there of a history in which a version is not.
fn what_is(version: &str, oldest: Option<u64>) -> String {
    let number: Option<u64> = version.split('@').next().and_then(|it| it.parse().ok());
    match oldest {
        None => "no earlier one is".to_owned(),
        Some(oldest) if number.is_some_and(|number| number >= oldest) => {
            format!("the oldest is {oldest}, and not all behind it are")
        }
        Some(oldest) => format!("the oldest is {oldest}"),
    }
}

/// One that is left can have shared its number with others, which went by the policy of histories; where the
/// next number is not there, that is not known.
fn ambiguous(version: u64, left: usize) -> String {
    match left {
        1 => format!("version {version} may have stood for more than the one entry that is there"),
        _ => format!("version {version} stands for {left} entries"),
    }
}

fn algorithms() -> String {
    Algorithm::ALL.map(Algorithm::name).join(", ")
}

/// RFC 9457's members, and ours.
#[derive(Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    error: &'static str,
    detail: String,
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    #[serde(flatten)]
    more: More<'a>,
}

#[derive(Default, Serialize, JsonSchema)]
struct More<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_version: Option<u64>,
    #[serde(flatten)]
    gone: Option<&'a Gone>,
}

/// What the log says of an error: its name, and what the client is not told.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) error: &'static str,
}

/// Seconds after which it may be worth asking again.
const RETRY_AFTER_S: &str = "1";

impl ApiError {
    /// The table.
    pub(super) fn name_and_status(&self) -> (&'static str, StatusCode) {
        match self {
            Self::BadName(_) => ("BadName", StatusCode::BAD_REQUEST),
            Self::BadQuery { .. } => ("BadQuery", StatusCode::BAD_REQUEST),
            Self::BadHeader { .. } => ("BadHeader", StatusCode::BAD_REQUEST),
            Self::BadJson(_) => ("BadJson", StatusCode::BAD_REQUEST),
            Self::BadField { .. } => ("BadField", StatusCode::BAD_REQUEST),
            Self::UnknownField(_) => ("UnknownField", StatusCode::BAD_REQUEST),
            Self::DuplicateKey(_) => ("DuplicateKey", StatusCode::BAD_REQUEST),
            Self::BadCursor(_) => ("BadCursor", StatusCode::BAD_REQUEST),
            Self::BadSession(_) => ("BadSession", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("Unauthorized", StatusCode::UNAUTHORIZED),
            Self::Forbidden(_) => ("Forbidden", StatusCode::FORBIDDEN),
            Self::NotFound { .. } | Self::UnknownPath => ("NotFound", StatusCode::NOT_FOUND),
            Self::VersionGone { .. } | Self::AuditArchived { .. } => ("Gone", StatusCode::GONE),
            Self::MethodNotAllowed { .. } => ("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::RequestTooSlow => ("RequestTooSlow", StatusCode::REQUEST_TIMEOUT),
            Self::AmbiguousVersion { .. } => ("AmbiguousVersion", StatusCode::CONFLICT),
            Self::PreconditionFailed { .. } => {
                ("PreconditionFailed", StatusCode::PRECONDITION_FAILED)
            }
            Self::SessionNotReached | Self::SessionLost(_) => {
                ("SessionNotReached", StatusCode::PRECONDITION_FAILED)
            }
            Self::BodyTooLarge { .. } => ("BodyTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
            Self::ValueTooLarge { .. } => ("ValueTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooManyEntries { .. } => ("TooManyEntries", StatusCode::PAYLOAD_TOO_LARGE),
            Self::WriteTooLarge { .. } => ("WriteTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType { .. } => {
                ("UnsupportedMediaType", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::BadValue { .. } => ("BadValue", StatusCode::UNPROCESSABLE_ENTITY),
            Self::IdempotencyKeyReused => {
                ("IdempotencyKeyReused", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::UpgradeRequired(_) => ("UpgradeRequired", StatusCode::UPGRADE_REQUIRED),
            Self::TimedOut => ("TimedOut", StatusCode::SERVICE_UNAVAILABLE),
            Self::Overloaded => ("Overloaded", StatusCode::SERVICE_UNAVAILABLE),
            Self::TooManyWatches => ("TooManyWatches", StatusCode::SERVICE_UNAVAILABLE),
            Self::TooManyWatchesOfClient { .. } => {
                ("TooManyWatches", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::TooManyRequests(_) => ("TooManyRequests", StatusCode::TOO_MANY_REQUESTS),
            Self::NotReady(_) => ("NotReady", StatusCode::SERVICE_UNAVAILABLE),
            Self::StorageFailed => ("StorageFailed", StatusCode::SERVICE_UNAVAILABLE),
            Self::WriteUnknown => ("WriteUnknown", StatusCode::SERVICE_UNAVAILABLE),
            Self::ShuttingDown => ("ShuttingDown", StatusCode::SERVICE_UNAVAILABLE),
            Self::StorageFull => ("StorageFull", StatusCode::INSUFFICIENT_STORAGE),
            Self::AlreadyExists { .. } => ("AlreadyExists", StatusCode::CONFLICT),
            Self::Conflict(_) => ("Conflict", StatusCode::CONFLICT),
            Self::VersionMismatch { .. } => ("PreconditionFailed", StatusCode::PRECONDITION_FAILED),
            Self::LimitReached(_) => ("LimitReached", StatusCode::UNPROCESSABLE_ENTITY),
            Self::UnknownAlgorithm => ("UnknownAlgorithm", StatusCode::UNPROCESSABLE_ENTITY),
            Self::SecretTooLarge { .. } => ("ValueTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnknownSecret { .. } => ("UnknownSecret", StatusCode::UNPROCESSABLE_ENTITY),
            Self::KeyUnavailable(_) => ("KeyUnavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::SecretDamaged { .. } => ("SecretDamaged", StatusCode::INTERNAL_SERVER_ERROR),
            Self::QuorumUnavailable(_) => ("QuorumUnavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::OutcomeUnknown(_) => ("OutcomeUnknown", StatusCode::SERVICE_UNAVAILABLE),
            Self::TooStale { .. } => ("TooStale", StatusCode::SERVICE_UNAVAILABLE),
            Self::PolicyTooOld { .. } => ("PolicyTooOld", StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// The answer's body.
    pub(super) fn body(&self) -> String {
        let (name, status) = self.name_and_status();
        if *self == Self::Unauthorized {
            return r#"{"error":"Unauthorized"}"#.to_owned();
        }
        let problem = Problem {
            error: name,
            detail: self.to_string(),
            kind: format!("urn:holm:error:{name}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            more: self.more(),
        };
        // Texts and numbers alone: there is nothing to fail.
        serde_json::to_string(&problem).unwrap_or_default()
    }

    /// The members that one error has and others have not.
    fn more(&self) -> More<'_> {
        let mut more = More::default();
        match self {
            Self::BadName(error) => more.field = Some(error.field()),
            Self::BadQuery { parameter, .. } => more.field = Some(parameter),
            Self::BadHeader { header, .. } => more.field = Some(header),
            Self::BadField { field, .. } | Self::UnknownField(field) => more.field = Some(field),
            Self::UnknownAlgorithm => more.field = Some("algorithm"),
            Self::SecretTooLarge { .. } => more.field = Some("value"),
            Self::UnknownSecret { name } | Self::SecretDamaged { name, .. } => {
                more.secret = Some(name.as_str());
            }
            Self::DuplicateKey(key) => more.key = Some(key),
            Self::BadValue { key, .. } | Self::ValueTooLarge { key, .. } => {
                more.key = Some(key.as_str());
            }
            Self::AmbiguousVersion { candidates, .. } => more.candidates = Some(candidates),
            Self::VersionGone { key, oldest, .. } => {
                (more.key, more.oldest_version) = (Some(key.as_str()), *oldest);
            }
            Self::NotFound { gone, .. } => more.gone = gone.as_ref(),
            _ => {}
        }
        more
    }

    fn headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: HeaderName, value| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        match self {
            Self::Unauthorized => set(header::WWW_AUTHENTICATE, "Bearer realm=\"holm\""),
            Self::Forbidden(_) => {
                set(
                    header::WWW_AUTHENTICATE,
                    "Bearer realm=\"holm\", error=\"insufficient_scope\"",
                );
            }
            Self::MethodNotAllowed { allow } => set(header::ALLOW, allow),
            Self::UpgradeRequired(_) => set(header::UPGRADE, "websocket"),
            Self::PreconditionFailed { .. } => set(super::HOLM_CHECK, "local"),
            _ => {}
        }
        if let Self::TooManyRequests(quota) = self {
            headers.insert(header::RETRY_AFTER, quota.retry_after_s.into());
            quota.headers(headers);
        } else if matches!(
            self.name_and_status().1,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (name, status) = self.name_and_status();
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = status;
        let kind = match self {
            Self::Unauthorized => "application/json",
            _ => "application/problem+json",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        self.headers(headers);
        response.extensions_mut().insert(Logged { error: name });
        response
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::PreconditionFailed { .. } => {
                Self::PreconditionFailed { detail: error.to_string() }
            }
            WriteError::NotFound(key) => {
                Self::NotFound { what: format!("the key {key}"), gone: None }
            }
            WriteError::BadValue { key, reason } => Self::BadValue { key, reason },
            WriteError::TooLarge { bytes, bytes_max } => {
                Self::WriteTooLarge { bytes, max: bytes_max }
            }
            WriteError::Unknown => Self::WriteUnknown,
            WriteError::IdempotencyKeyReused => Self::IdempotencyKeyReused,
            WriteError::StorageFull => Self::StorageFull,
            WriteError::StorageFailed(_) => Self::StorageFailed,
            WriteError::Overloaded => Self::Overloaded,
            WriteError::Closed => Self::ShuttingDown,
        }
    }
}

#[cfg(test)]
mod tests;
