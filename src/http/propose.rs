//! What all requests to the quorum path have in common: proposing, with the errors that can come
//! of it; reading, as new as was asked for; preconditions; and the session of the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::edge::Incoming;
use super::error::ApiError;
use super::query::{Query, bad as bad_query};
use super::session::{self, bad, one};
use super::{App, HOLM_SESSION, etag};
use crate::model::Session;
use crate::quorum::{Decided, ProposeError, ReadError};
use crate::registry::command::{Expect, Idempotency};
use crate::registry::{Command, Outcome, Proposal, Refusal, State};

const HOLM_STALENESS_MS: HeaderName = HeaderName::from_static("holm-staleness-ms");

/// The parameters that every read of the quorum path takes.
pub(super) const READ_PARAMETERS: [&str; 2] = ["consistency", "max_staleness_ms"];

/// What was decided and done.
pub(super) struct Proposed {
    /// What was done.
    pub(super) outcome: Outcome,
    /// Whether it answers a retry.
    pub(super) replayed: bool,
    index: u64,
}

/// The state that a request is answered from.
pub(super) struct Read {
    /// The state.
    pub(super) state: Arc<State>,
    /// How old it may be; absent where it is the newest there is.
    staleness: Option<Duration>,
}

/// Until when the quorum has to have answered.
pub(super) fn deadline(app: &App) -> Instant {
    Instant::now() + app.settings().http.quorum_timeout
}

/// Proposes. A refusal is an error, apart from [`Refusal::Moved`], which is the caller's to settle.
pub(super) async fn propose(
    app: &App,
    incoming: &Incoming,
    idempotency: Option<Idempotency>,
    command: Command,
) -> Result<Result<Proposed, Refusal>, ApiError> {
    let proposal = Proposal {
        at: app.0.env.clock.now(),
        caller: Some((**incoming.caller()?).clone()),
        source: incoming.source(app),
        idempotency,
        command,
    };
    let Decided { index, outcome, replayed } =
        app.quorum().propose(proposal, deadline(app)).await?;
    match outcome {
        Ok(outcome) => Ok(Ok(Proposed { outcome, replayed, index })),
        Err(refusal @ Refusal::Moved(..)) => Ok(Err(refusal)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// As [`propose`], for commands that are never refused with [`Refusal::Moved`].
pub(super) async fn decide(
    app: &App,
    incoming: &Incoming,
    idempotency: Option<Idempotency>,
    command: Command,
) -> Result<Proposed, ApiError> {
    propose(app, incoming, idempotency, command).await?.map_err(ApiError::from)
}

impl Proposed {
    /// The index of the log at which it was decided.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Says in the answer where it was decided.
    pub(super) fn tell(
        &self,
        incoming: &Incoming,
        headers: &mut HeaderMap,
    ) -> Result<(), ApiError> {
        if self.replayed {
            headers.insert(super::IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        tell_session(incoming, headers, self.index)
    }
}

/// The state to answer a read from: by default one that includes everything that was decided
/// before the request came; with `?consistency=local` this node's copy, where it is no older than
/// `max_staleness_ms`. Either includes what the request's session has seen.
pub(super) async fn read(
    app: &App,
    incoming: &Incoming,
    query: &Query<'_>,
) -> Result<Read, ApiError> {
    let is_local = match query.get("consistency") {
        None | Some("linearizable") => false,
        Some("local") => true,
        Some(_) => {
            return Err(bad_query("consistency", "has to be `linearizable` or `local`"));
        }
    };
    let max = query.number("max_staleness_ms", 0, u64::MAX)?.map(Duration::from_millis);
    if !is_local {
        if max.is_some() {
            return Err(bad_query("max_staleness_ms", "is for consistency=local"));
        }
        let state = app.quorum().latest(deadline(app)).await?;
        return Ok(Read { state, staleness: None });
    }
    let seen = seen(incoming)?.and_then(|session| session.quorum).unwrap_or(0);
    let wait = session::wait(incoming.headers(), &app.settings().http)?;
    let reached = app.quorum().wait_for(seen, Instant::now() + wait).await;
    reached.map_err(|_| ApiError::SessionNotReached)?;
    // First the age, then the state: what is applied between the two makes it no older.
    let staleness = app.quorum().contact_age();
    let state = app.quorum().state();
    match max {
        Some(max) if staleness > max => Err(ApiError::TooStale { staleness, max }),
        _ => Ok(Read { state, staleness: Some(staleness) }),
    }
}

impl Read {
    /// Says in the answer what it was made from.
    pub(super) fn tell(
        &self,
        incoming: &Incoming,
        headers: &mut HeaderMap,
    ) -> Result<(), ApiError> {
        if let Some(staleness) = self.staleness {
            // Rounded up: it is no older than it says.
            let ms = u64::try_from(staleness.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            headers.insert(HOLM_STALENESS_MS, HeaderValue::from(ms));
        }
        tell_session(incoming, headers, self.state.index)
    }
}

fn seen(incoming: &Incoming) -> Result<Option<Session>, ApiError> {
    let text = one(incoming.headers(), &HOLM_SESSION, "Holm-Session")?;
    Ok(text.map(Session::decode).transpose()?)
}

/// The answer's session: what the request had seen of configurations, and the quorum's index.
fn tell_session(incoming: &Incoming, headers: &mut HeaderMap, index: u64) -> Result<(), ApiError> {
    let mut session = seen(incoming)?.unwrap_or_default();
    session.quorum = session.quorum.max(Some(index));
    if let Ok(session) = HeaderValue::from_str(&session.encode()) {
        headers.insert(HOLM_SESSION, session);
    }
    Ok(())
}

/// The entity tag of a thing with this version.
pub(super) fn etag_of(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What a request expects of the thing that it changes: `If-Match`, `If-None-Match: *`, or
/// `expect_version`, of which 0 means that it is not there.
pub(super) fn expect(headers: &HeaderMap, version: Option<u64>) -> Result<Expect, ApiError> {
    let matches = one_of(headers, &header::IF_MATCH, "If-Match")?;
    let none = one_of(headers, &header::IF_NONE_MATCH, "If-None-Match")?;
    match (matches, none, version) {
        (None, None, None) => Ok(Expect::Any),
        (None, None, Some(0)) => Ok(Expect::Absent),
        (None, None, Some(version)) => Ok(Expect::Version(version)),
        (None, Some("*"), None) => Ok(Expect::Absent),
        (None, Some(_), None) => Err(bad("If-None-Match", "takes `*` alone here")),
        (Some("*"), None, None) => Ok(Expect::Present),
        (Some(tag), None, None) => {
            if !etag::is_list(tag) {
                return Err(bad("If-Match", etag::EXPECTED));
            }
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = inner.and_then(|text| text.parse().ok());
            // A tag that no version has matches nothing.
            Ok(Expect::Version(version.unwrap_or(u64::MAX)))
        }
        _ => Err(bad("If-Match", "If-None-Match and expect_version cannot be asked together")),
    }
}

fn one_of<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    Ok(one(headers, name, shown)?.map(str::trim))
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Unavailable(why) => Self::QuorumUnavailable(why),
            ProposeError::Unknown(why) => Self::OutcomeUnknown(why),
            ProposeError::Failed(_) => Self::StorageFailed,
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(why) => Self::QuorumUnavailable(why),
            ReadError::Failed(_) => Self::StorageFailed,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(why) => Self::Forbidden(crate::access::Denied { why: why.to_string() }),
            Refusal::NotFound(what) => Self::NotFound { what: what.to_string(), gone: None },
            Refusal::Exists(what) => Self::AlreadyExists { what: what.to_string() },
            Refusal::Mismatch(0) => Self::VersionMismatch { detail: "it is not there".to_owned() },
            Refusal::Mismatch(_) => Self::VersionMismatch { detail: refusal.to_string() },
            Refusal::Moved(..) => Self::VersionMismatch {
                detail: "others wrote it again and again while this request tried to".to_owned(),
            },
            Refusal::KeyReused => Self::IdempotencyKeyReused,
            Refusal::Limit(what) => Self::LimitReached(what.to_string()),
            Refusal::Invalid(why) => Self::Conflict(why.to_string()),
            Refusal::NotFounded => Self::QuorumUnavailable(refusal.to_string()),
        }
    }
}
