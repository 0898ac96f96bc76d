//! The door that every request comes through: it gets an id, its caller is verified, its time is
//! limited, and its answer is counted and logged. One thin function rather than a stack of layers,
//! because a read of one key costs little more than this.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::RngCore as _;
use tokio::time::Instant;

use super::audit::Attempt;
use super::error::{ApiError, Logged};
use super::limits::{Admitted, Quota};
use super::operation::{Operation, Route};
use super::query::Query;
use super::{
    App, HOLM_ACK, HOLM_SESSION, HOLM_WAIT, REQUEST_ID, TRACEPARENT, accounts, audit, backup,
    cluster, config_key, config_list, config_write, credentials, discovery, explain, health,
    history, key_roles, keys, limits, oauth, openapi, permit, quorum, roles, secrets, session,
    versions, watch,
};
use crate::access::{Caller, TokenError, decide};
use crate::audit::Source;
use crate::env::Entropy;
use crate::planted::{Bug, is_planted};
use crate::telemetry::{Span, TraceContext, write_hex};

/// Longest request id that is taken from a client, in bytes.
const REQUEST_ID_LEN_MAX: usize = 128;

/// A request on its way to its handler.
pub(super) struct Incoming {
    pub(super) parts: Parts,
    operation: Operation,
    caller: Option<Arc<Caller>>,
    request_id: HeaderValue,
}

/// What a request's connection is, as the server saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// Whether it carries many requests at once.
    pub(super) is_shared: bool,
}

impl Incoming {
    /// Who asks. Operations that need a token always have a caller.
    pub(super) fn caller(&self) -> Result<&Arc<Caller>, ApiError> {
        self.caller.as_ref().ok_or(ApiError::Unauthorized)
    }

    /// Where the request came from, for the audit log.
    pub(super) fn source(&self, app: &App) -> Source {
        source(app, self.parts.extensions.get(), &self.request_id)
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub(super) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    pub(super) fn authority(&self) -> Option<&str> {
        self.parts.uri.authority().map(|authority| authority.as_str())
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    /// The query's parameters: those that the operation takes, each once at most.
    pub(super) fn parameters(&self) -> Result<Query<'_>, ApiError> {
        Query::parse(self.query(), self.operation.parameters())
    }
}

fn source(app: &App, remote: Option<&Remote>, request_id: &HeaderValue) -> Source {
    Source {
        node: app.node().name().as_str().into(),
        address: remote.map(|remote| remote.address.ip().to_string().as_str().into()),
        request: request_id.to_str().unwrap_or_default().into(),
    }
}

/// Makes ids for requests that bring none: unique for a node's life, and not guessable.
pub(super) struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(entropy: &Entropy) -> Self {
        Self { prefix: entropy.stream("request ids").next_u64(), next: AtomicU64::new(0) }
    }

    /// The request's own id where it is fit to be logged and sent back, else a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_fit = |id: &&HeaderValue| {
            let bytes = id.as_bytes();
            let plain = |c: &u8| c.is_ascii_alphanumeric() || b"._:/+=-".contains(c);
            (1..=REQUEST_ID_LEN_MAX).contains(&bytes.len()) && bytes.iter().all(plain)
        };
        if let Some(id) = headers.get(&REQUEST_ID).filter(is_fit) {
            return id.clone();
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = *b"________________-________________";
        write_hex(self.prefix.into(), &mut id[..16]);
        let digits = (u64::BITS - next.leading_zeros()).div_ceil(4).max(1) as usize;
        let id = &mut id[..17 + digits];
        write_hex(next.into(), &mut id[17..]);
        HeaderValue::from_bytes(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }
}

/// What is logged of a request beside its answer.
#[derive(Default)]
struct Log {
    caller: Option<Arc<Caller>>,
    refused: Option<TokenError>,
    remote: Option<Remote>,
}

/// Answers a request, under the trace that it names or a new one. No `async fn`, which would hold
/// the request and the future that every request carries twice.
pub(super) fn answer(app: App, route: Route, request: Request) -> impl Future<Output = Response> {
    let mut parents = request.headers().get_all(&TRACEPARENT).iter();
    // Two of them name no trace.
    let parent = parents.next().filter(|_| parents.next().is_none());
    let mut context = app.0.trace_ids.enter(parent.and_then(|parent| parent.to_str().ok()));
    if app.0.spans.is_some() {
        context = context.sampled(app.settings().traces.sample);
    }
    context.within(answer_within(app, route, request, context))
}

async fn answer_within(
    app: App,
    route: Route,
    request: Request,
    context: TraceContext,
) -> Response {
    let started = Instant::now();
    let _under_way = app.node().metrics().under_way();
    let (parts, body) = request.into_parts();
    let request_id = app.0.request_ids.of(&parts.headers);
    let operation = route.operation(&parts.method, &parts.headers);
    let (uri, remote) = (parts.uri.clone(), parts.extensions.get::<Remote>().copied());
    let mut log = Log::default();
    let (place, known, quota) = enter(&app, operation, &parts, started, &mut log).await;
    let known = known.and_then(|()| permit::check_policy_age(&app, operation));
    let result = match known {
        Err(error) => Err(error),
        Ok(()) => {
            let limit = time_limit(&app, &parts.headers);
            let (caller, request_id) = (log.caller.clone(), request_id.clone());
            let incoming = Incoming { parts, operation, caller, request_id };
            match limits::received(&app, operation, body) {
                Err(error) => Err(error),
                Ok((body, held)) => {
                    let answer = dispatch(&app, route, operation, incoming, body);
                    let result = tokio::time::timeout(limit, answer).await;
                    limits::settle(&app, result.unwrap_or(Err(ApiError::TimedOut)), held)
                }
            }
        }
    };
    if let Err(error @ (ApiError::Unauthorized | ApiError::Forbidden(_))) = &result {
        let source = source(&app, remote.as_ref(), &request_id);
        let (caller, refused) = (log.caller.as_deref(), log.refused.as_ref());
        audit::denied(&app, error, Attempt { operation, uri: &uri, caller, refused, source });
    }
    let mut response = result.unwrap_or_else(ApiError::into_response);
    let beside_others = remote.is_some_and(|remote| remote.is_shared);
    if limits::takes_room(operation, beside_others, &response) {
        response = Box::pin(limits::send(&app, operation, beside_others, response)).await;
    }
    drop(place);
    if let Some(quota) = quota {
        quota.headers(response.headers_mut());
    }
    response.headers_mut().insert(REQUEST_ID, request_id);
    if let Ok(context) = HeaderValue::from_bytes(&context.text()) {
        response.headers_mut().insert(TRACEPARENT, context);
    }
    tell_session(&app, &mut response, log.caller.is_some());
    if log.caller.is_some() {
        permit::tell_policy_age(&app, operation, response.headers_mut());
    }
    let took = started.elapsed();
    let status = response.status();
    let metrics = app.0.metrics.of(operation, app.node().metrics());
    metrics.answered(status.as_u16(), took);
    log.remote = remote;
    write_log(&app, operation, &response, took, (&log, context));
    leave_span(&app, operation, &response, took, context);
    response
}

/// What happens at the door, before a request is looked at: its place among those under way, who
/// its caller is, and how that one stands with its rate.
async fn enter<'a>(
    app: &'a App,
    operation: Operation,
    parts: &Parts,
    started: Instant,
    log: &mut Log,
) -> (Option<Admitted<'a>>, Result<(), ApiError>, Option<Quota>) {
    let place = match limits::admit(app, operation) {
        Ok(place) => place,
        Err(error) => return (None, Err(error), None),
    };
    let known = authenticate_caught_up(app, operation, &parts.headers, log).await;
    let who = (log.caller.as_deref(), parts.extensions.get().copied());
    match limits::charge(app, operation, who, started) {
        Ok(quota) => (Some(place), known, quota),
        Err(error) => (Some(place), Err(error), None),
    }
}

/// An answer that says how a key stands, without being its value, is something seen, too: the next
/// answer, from whichever region, may not know less.
fn tell_session(app: &App, response: &mut Response, is_known: bool) {
    let status = response.status();
    let tells = status == StatusCode::NOT_FOUND
        || status == StatusCode::CONFLICT
        || status == StatusCode::PRECONDITION_FAILED;
    let not_reached = response
        .extensions()
        .get::<Logged>()
        .is_some_and(|logged| logged.error == "SessionNotReached");
    let headers = response.headers_mut();
    if !is_known || !tells || not_reached || headers.contains_key(HOLM_SESSION) {
        return;
    }
    let session = session::of(app, &app.node().snapshot());
    headers.insert(HOLM_SESSION, session);
}

/// Calls the operation's handler. All but the one that is asked most live in a box, so that the
/// future that every request carries stays small.
async fn dispatch(
    app: &App,
    route: Route,
    operation: Operation,
    incoming: Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    match operation {
        Operation::GetKey => config_key::get(app, &incoming).await,
        _ => Box::pin(dispatch_rest(app, route, operation, incoming, body)).await,
    }
}

async fn dispatch_rest(
    app: &App,
    route: Route,
    operation: Operation,
    incoming: Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    if operation.takes_session() {
        session::check(incoming.headers(), &app.settings().http, operation.is_config())?;
    }
    match operation {
        Operation::GetKey => config_key::get(app, &incoming).await,
        Operation::PutKey => config_key::put(app, &incoming, body).await,
        Operation::PatchKey => config_key::patch(app, &incoming, body).await,
        Operation::RemoveKey => config_key::remove(app, &incoming).await,
        Operation::ListDocuments => config_list::documents(app, &incoming).await,
        Operation::ListKeys => config_list::keys(app, &incoming).await,
        Operation::Post => config_write::post(app, &incoming, body).await,
        Operation::RemoveAll => config_write::remove_all(app, &incoming).await,
        Operation::Watch => watch::watch(app, incoming).await,
        Operation::ListVersions => versions::list(app, &incoming).await,
        Operation::GetVersion => versions::get(app, &incoming).await,
        Operation::Restore => versions::restore(app, &incoming, body).await,
        Operation::GetCluster => cluster::get(app, &incoming),
        Operation::GetReceipts => cluster::receipts(app, &incoming),
        Operation::GetCertificates => cluster::certificates(app, &incoming).await,
        Operation::ListAudit => audit::list(app, &incoming).await,
        Operation::VerifyAudit => audit::verify(app, &incoming).await,
        Operation::GetQuorum => quorum::get(app, &incoming),
        Operation::ChangeQuorum => quorum::change(app, &incoming).await,
        Operation::BackUp => backup::get(app, &incoming).await,
        Operation::ListAccounts => accounts::list(app, &incoming).await,
        Operation::CreateAccount => accounts::create(app, &incoming, body).await,
        Operation::GetAccount => accounts::get(app, &incoming).await,
        Operation::UpdateAccount => accounts::update(app, &incoming, body).await,
        Operation::DeleteAccount => accounts::delete(app, &incoming).await,
        Operation::AddCredential => credentials::add(app, &incoming, body).await,
        Operation::RevokeCredential => credentials::revoke(app, &incoming).await,
        Operation::ListRoles => roles::list(app, &incoming).await,
        Operation::CreateRole => roles::create(app, &incoming, body).await,
        Operation::GetRole => roles::get(app, &incoming).await,
        Operation::UpdateRole => roles::update(app, &incoming, body).await,
        Operation::DeleteRole => roles::delete(app, &incoming).await,
        Operation::ListKeyRoles => key_roles::list(app, &incoming).await,
        Operation::BindRole => key_roles::bind(app, &incoming).await,
        Operation::UnbindRole => key_roles::unbind(app, &incoming).await,
        Operation::ExplainAccess => explain::explain(app, &incoming).await,
        Operation::PostSecret => secrets::post(app, &incoming, body).await,
        Operation::ListSecrets => secrets::list(app, &incoming).await,
        Operation::GetSecret => secrets::get(app, &incoming).await,
        Operation::RemoveSecret => secrets::remove(app, &incoming).await,
        Operation::GetKeys => keys::get(app, &incoming).await,
        Operation::RotateKeys => keys::rotate(app, &incoming, body).await,
        Operation::RetireGeneration => keys::retire(app, &incoming).await,
        Operation::GetHistoryPolicies => history::get(app, &incoming).await,
        Operation::PutHistoryPolicy => history::put(app, &incoming, body).await,
        Operation::RemoveHistoryPolicy => history::remove(app, &incoming).await,
        Operation::GetHealth => health::health(app, &incoming),
        Operation::GetReady => health::ready(app, &incoming),
        Operation::GetMetrics => health::metrics(app, &incoming).await,
        Operation::IssueToken => oauth::token(app, &incoming, body).await,
        Operation::GetJwks => discovery::jwks(app, &incoming),
        Operation::GetDiscovery => discovery::metadata(app, &incoming),
        Operation::GetOpenApi => openapi::document(app, &incoming),
        Operation::GetDocs => openapi::page(app, &incoming),
        Operation::AddSigningKey => discovery::add_key(app, &incoming).await,
        Operation::RetireSigningKey => discovery::retire_key(app, &incoming).await,
        Operation::Options => {
            let allow = [(header::ALLOW, route.allow())];
            Ok((StatusCode::NO_CONTENT, allow).into_response())
        }
        Operation::MethodNotAllowed => Err(ApiError::MethodNotAllowed { allow: route.allow() }),
        Operation::UnknownPath => Err(ApiError::UnknownPath),
    }
}

/// As [`authenticate`]; an account that is not known here, and a token of its that is good, can
/// be newer than this node's rules: where the session has seen newer ones, these are waited for.
async fn authenticate_caught_up(
    app: &App,
    operation: Operation,
    headers: &HeaderMap,
    log: &mut Log,
) -> Result<(), ApiError> {
    let known = authenticate(app, operation, headers, log);
    if log.refused != Some(TokenError::Revoked) || !permit::catch_up(app, headers).await? {
        return known;
    }
    log.refused = None;
    authenticate(app, operation, headers, log)
}

fn authenticate(
    app: &App,
    operation: Operation,
    headers: &HeaderMap,
    log: &mut Log,
) -> Result<(), ApiError> {
    if !operation.needs_token(app.settings().http.metrics_public) {
        return Ok(());
    }
    let metrics = app.node().metrics();
    let token = bearer(headers).ok_or(TokenError::Missing);
    let state = app.state();
    let verified = token.and_then(|token| {
        let now = app.0.env.clock.now();
        let (caller, remembered) = app.0.verifier.verify(token, now, &**state)?;
        match decide::stands_at(&caller, &state.rules, now) {
            Ok(()) => Ok((caller, remembered)),
            Err(_) if operation == Operation::GetKey && is_planted(Bug::PermitSkipped) => {
                Ok((caller, remembered))
            }
            Err(_) => Err(TokenError::Revoked),
        }
    });
    match verified {
        Ok((caller, remembered)) => {
            metrics.token_taken(remembered);
            log.caller = Some(caller);
            Ok(())
        }
        Err(error) => {
            metrics.token_refused();
            log.refused = Some(error);
            Err(ApiError::Unauthorized)
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750); two such headers are none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A request that asks to wait may take that long beside its own time.
fn time_limit(app: &App, headers: &HeaderMap) -> Duration {
    let http = &app.settings().http;
    let mut limit = http.request_timeout + http.session_wait_default;
    if headers.contains_key(HOLM_WAIT) {
        limit += http.session_wait_max;
    }
    if headers.contains_key(HOLM_ACK) {
        limit += http.ack_timeout_max;
    }
    limit
}

fn write_log(
    app: &App,
    operation: Operation,
    response: &Response,
    took: Duration,
    (log, context): (&Log, TraceContext),
) {
    let status = response.status();
    let settings = app.settings();
    let is_sample = settings.http.log_reads || context.is_within(settings.log.read_sample);
    let quiet = operation.is_read() && status.as_u16() < 400 && !is_sample;
    if quiet && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let request_id = response.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    let (method, route) = operation.method_and_route();
    let outcome = if status.as_u16() < 400 { "success" } else { "failure" };
    let client = log.remote.map(|remote| tracing::field::display(remote.address.ip()));
    let duration_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let principal = log.caller.as_ref().map(|caller| &**caller.principal());
    let error = response.extensions().get::<Logged>().map(|logged| logged.error);
    let why = log.refused.as_ref().map(tracing::field::display);
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                event.dataset = "holm.request",
                event.outcome = outcome,
                event.duration = duration_ns,
                http.request.id = request_id,
                http.request.method = method,
                url.path = route,
                http.response.status_code = status.as_u16(),
                user.name = principal,
                client.ip = client,
                error.code = error,
                error.message = why,
                "request"
            )
        };
    }
    match status.as_u16() {
        500.. => event!(warn),
        _ if quiet => event!(debug),
        _ => event!(info),
    }
}

/// Leaves the request's span to be sent, where its trace is kept.
fn leave_span(
    app: &App,
    operation: Operation,
    response: &Response,
    took: Duration,
    context: TraceContext,
) {
    let Some(spans) = app.0.spans.as_ref().filter(|_| context.is_sampled()) else { return };
    let (method, route) = operation.method_and_route();
    let error = response.extensions().get::<Logged>().map(|logged| logged.error);
    let (ended, status) = (app.0.env.clock.now(), response.status().as_u16());
    spans.leave(Span { context, ended, took, method, route, status, error });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_clients_request_id_is_kept_where_it_is_fit() {
        let ids = RequestIds::new(&Entropy::seeded(1));
        assert_eq!(ids.of(&with(REQUEST_ID, "a-1/b")), "a-1/b");
        let (long, new) = ("x".repeat(129), ids.of(&HeaderMap::new()));
        for unfit in ["", "a b", "<script>", "a\"b", &long] {
            let id = ids.of(&with(REQUEST_ID, unfit));
            assert!(id != unfit && id != new, "{unfit:?}");
        }
    }

    #[test]
    fn ids_of_requests_are_a_nodes_prefix_and_a_number() {
        let ids = RequestIds { prefix: 0xab, next: AtomicU64::new(0) };
        for id in ["00000000000000ab-0", "00000000000000ab-1"] {
            assert_eq!(ids.of(&HeaderMap::new()), id);
        }
        ids.next.store(0x10, Ordering::Relaxed);
        assert_eq!(ids.of(&HeaderMap::new()), "00000000000000ab-10");
        ids.next.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(ids.of(&HeaderMap::new()), "00000000000000ab-ffffffffffffffff");
    }

    #[test]
    fn one_bearer_token_is_taken() {
        assert_eq!(bearer(&with(header::AUTHORIZATION, "bearer  a.b.c ")), Some("a.b.c"));
        for bad in ["", "Bearer", "Basic YTpi", "a.b.c"] {
            assert_eq!(bearer(&with(header::AUTHORIZATION, bad)), None, "{bad:?}");
        }
        let mut two = with(header::AUTHORIZATION, "Bearer a");
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(bearer(&two), None);
    }
}
