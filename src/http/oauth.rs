//! `POST /oauth/token` (RFC 6749, client credentials): an account's client secret in, a token of the
//! cluster's own out, also where the node is an island. A wrong secret, an unknown account, a
//! disabled one and a revoked credential answer alike and cost alike. Every token and every refusal
//! is recorded; a token is not given out before its record is on disk.

mod denials;
mod form;
mod limit;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::edge::{Incoming, Remote};
use super::error::{ApiError, Logged};
use super::{App, body};
use crate::access::issue::{self, OwnClaims, Refused, Terms};
use crate::access::{MintKey, credential, token};
use crate::audit::{Decision, Event};
use crate::env::{Blocking, Stream};
use crate::model::{Id, Text};
use crate::registry::signing;
use crate::settings::AccessSettings;
use denials::Denials;
use form::{BadForm, TokenRequest};
use limit::Limiter;

/// Most secrets that are checked at once: each takes 19 MiB.
const CHECKS_MAX: usize = 4;
/// Most requests that wait for that.
const WAITING_MAX: usize = 64;
/// How long refusals are summed up before they are recorded.
const DENIALS_EVERY: Duration = Duration::from_secs(10);

/// What all token requests share.
pub(super) struct Desk {
    terms: Terms,
    limiter: Mutex<Limiter>,
    denials: Mutex<Denials>,
    /// Whoever checks a secret or waits to has one of these.
    places: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    /// How many secrets were compared with a hash, known or not.
    pub(super) hashes: AtomicU64,
    ids: Mutex<Stream>,
}

impl Desk {
    pub(super) fn new(settings: &AccessSettings, cluster: &str, ids: Stream) -> Self {
        let terms = Terms {
            issuer: token::issuer(settings, cluster),
            audience: settings.audience.clone(),
            lifetime: settings.token_lifetime,
            island_max_age: settings.island_token_max_age,
        };
        Self {
            terms,
            limiter: Mutex::default(),
            denials: Mutex::default(),
            places: Arc::new(Semaphore::new(CHECKS_MAX + WAITING_MAX)),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            hashes: AtomicU64::new(0),
            ids: Mutex::new(ids),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.terms.issuer
    }

    /// Waits until a secret may be checked, where not too many wait.
    async fn turn(&self) -> Result<Turn, OAuthError> {
        let busy = || OAuthError::busy("too many clients ask for tokens at once");
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy())?;
        let check = self.checks.clone().acquire_owned().await.map_err(|_| busy())?;
        Ok(Turn { _check: check, _place: place })
    }

    /// Whether the secret is that of the hash. It is `turn` until that is known, also where whoever
    /// asked is gone.
    async fn verify(
        &self,
        turn: Turn,
        blocking: Blocking,
        secret: Zeroizing<String>,
        hash: Text,
    ) -> bool {
        self.hashes.fetch_add(1, Ordering::Relaxed);
        blocking.run_with(turn, move || credential::verify(&secret, &hash)).await
    }
}

/// Leave to check one secret.
struct Turn {
    _check: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// An error of RFC 6749, section 5.2, and those that it has no name for.
struct OAuthError {
    name: &'static str,
    status: StatusCode,
    why: String,
    retry_after: Option<Duration>,
}

/// What a token is asked for with.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description, and never made")]
pub(super) struct TokenForm {
    #[schemars(extend("const" = "client_credentials"))]
    grant_type: String,
    /// The account's name; here, or in the `Authorization` header.
    #[schemars(transform = body::present)]
    client_id: Option<String>,
    /// One of the account's client secrets.
    #[schemars(transform = body::present)]
    client_secret: Option<String>,
    /// What the token is narrowed to, with spaces between. Default: nothing is narrowed.
    #[schemars(transform = body::present)]
    scope: Option<String>,
}

/// As it is answered (RFC 6749, section 5.2).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OAuthProblem")]
pub(super) struct Problem<'a> {
    error: &'static str,
    error_description: &'a str,
    detail: &'a str,
}

impl OAuthError {
    fn new(name: &'static str, status: StatusCode, why: impl Into<String>) -> Self {
        Self { name, status, why: why.into(), retry_after: None }
    }

    fn bad(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, StatusCode::BAD_REQUEST, why)
    }

    fn client() -> Self {
        let why = "the client is not known, or its secret is wrong";
        Self::new("invalid_client", StatusCode::UNAUTHORIZED, why)
    }

    fn later(status: StatusCode, why: impl Into<String>, after: Duration) -> Self {
        let error = Self::new("temporarily_unavailable", status, why);
        Self { retry_after: Some(after), ..error }
    }

    fn busy(why: impl Into<String>) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, why, Duration::from_secs(1))
    }

    fn into_response(self) -> Response {
        let (error, detail) = (self.name, &*self.why);
        let mut response = json(&Problem { error, error_description: detail, detail });
        *response.status_mut() = self.status;
        if self.status == StatusCode::UNAUTHORIZED {
            let basic = HeaderValue::from_static("Basic realm=\"holm\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response.extensions_mut().insert(Logged { error: self.name });
        response
    }
}

impl From<Refused> for OAuthError {
    fn from(refused: Refused) -> Self {
        let why = refused.to_string();
        match refused {
            Refused::Scope(_) | Refused::TooManyScopes => Self::bad("invalid_scope", why),
            Refused::Client => Self::client(),
            Refused::IslandScope | Refused::IslandTooOld => Self::busy(why),
        }
    }
}

impl From<BadForm> for OAuthError {
    fn from(bad: BadForm) -> Self {
        match bad {
            BadForm::Request(why) => Self::bad("invalid_request", why),
            BadForm::NoClient => Self::client(),
        }
    }
}

/// An answer that nobody may keep.
fn json(body: &impl Serialize) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let cache = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let pragma = (header::PRAGMA, HeaderValue::from_static("no-cache"));
    ([kind, cache, pragma], serde_json::to_vec(body).unwrap_or_default()).into_response()
}

/// `POST /oauth/token`.
pub(super) async fn token(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    let timeout = app.settings().http.request_timeout;
    let bytes = body::read(incoming.headers(), body, form::BODY_LEN_MAX, timeout).await?;
    let read = form::read(incoming.headers(), &bytes).map_err(OAuthError::from);
    let client = read.as_ref().map_or("-".to_owned(), |request| request.client.clone());
    let issued = match read {
        Ok(request) => issue(app, incoming, &request).await,
        Err(error) => Err(error),
    };
    match issued {
        Ok(response) => Ok(response),
        Err(error) => {
            record_denied(app, incoming, &client, &error).await;
            Ok(error.into_response())
        }
    }
}

/// A token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(super) struct Issued<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

async fn issue(
    app: &App,
    incoming: &Incoming,
    request: &TokenRequest,
) -> Result<Response, OAuthError> {
    let remote = incoming.parts.extensions.get::<Remote>().map(|remote| remote.address.ip());
    {
        let mut limiter = app.0.desk.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = limiter.take(remote, &request.client, Instant::now());
        taken.map_err(|after| {
            let why = "this client asks for too many tokens: a token is good for many requests";
            OAuthError::later(StatusCode::TOO_MANY_REQUESTS, why, after)
        })?;
    }
    if request.grant_type != "client_credentials" {
        let why = "the grant type has to be client_credentials";
        return Err(OAuthError::bad("unsupported_grant_type", why));
    }
    let scopes = issue::read_scopes(&request.scope)?;
    if !is_right(app, request).await? {
        return Err(OAuthError::client());
    }
    let (claims, key) = claims_and_key(app, request, &scopes)?;
    let token = key.sign(&claims).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        OAuthError::busy("tokens cannot be signed here")
    })?;
    record_issued(app, incoming, &claims).await?;
    Ok(json(&Issued {
        access_token: &token,
        token_type: "Bearer",
        expires_in: claims.exp - claims.iat,
        scope: &claims.scope,
    }))
}

/// Whether the secret is the client's: one hash, whoever asks.
async fn is_right(app: &App, request: &TokenRequest) -> Result<bool, OAuthError> {
    let desk = &app.0.desk;
    let turn = desk.turn().await?;
    let (is_candidate, hash) = {
        let (state, now) = (app.state(), app.0.env.clock.now());
        let candidate = credential::candidate(&state.rules, &request.client, &request.secret, now);
        (candidate.is_some(), credential::hash_to_check(candidate.as_ref()))
    };
    let is_right = desk.verify(turn, app.0.env.blocking, request.secret.clone(), hash).await;
    Ok(is_candidate && is_right)
}

/// What the token says, and what signs it: by the rules as they are now, after the secret was
/// checked.
fn claims_and_key(
    app: &App,
    request: &TokenRequest,
    scopes: &[&str],
) -> Result<(OwnClaims, MintKey), OAuthError> {
    let (state, now) = (app.state(), app.0.env.clock.now());
    let candidate = credential::candidate(&state.rules, &request.client, &request.secret, now);
    let candidate = candidate.ok_or_else(OAuthError::client)?;
    let id = {
        let mut ids = app.0.desk.ids.lock().unwrap_or_else(PoisonError::into_inner);
        Id::random(&mut *ids)
    };
    let age = app.quorum().contact_age();
    let who = (candidate.account, candidate.credential);
    let claims = issue::claims(&app.0.desk.terms, who, scopes, age, now, id)?;
    let (keyring, cluster) = (app.node().keyring(), app.node().cluster_id());
    let key = signing::open(&state, keyring, cluster, now).map_err(|error| {
        tracing::error!(%error, "no token can be issued");
        OAuthError::busy("tokens cannot be signed here")
    })?;
    Ok((claims, key))
}

async fn record_issued(
    app: &App,
    incoming: &Incoming,
    claims: &OwnClaims,
) -> Result<(), OAuthError> {
    let grant = match claims.scope.as_str() {
        "" => Text::from("client_credentials"),
        scope => format!("client_credentials narrowed to {scope}").as_str().into(),
    };
    let event = Event {
        at: app.0.env.clock.now(),
        principal: claims.account.as_str().into(),
        action: "token.issue".into(),
        target: format!("{} {}", claims.account, claims.jti).as_str().into(),
        decision: Decision::Allowed(grant),
        outcome: "done".into(),
        source: incoming.source(app),
        count: 1,
        index: None,
    };
    app.quorum().record(vec![event]).await.map_err(|error| {
        tracing::error!(%error, "a token was not given out: it could not be recorded");
        OAuthError::busy("the token could not be recorded")
    })
}

async fn record_denied(app: &App, incoming: &Incoming, client: &str, error: &OAuthError) {
    let event = {
        let mut denials = app.0.desk.denials.lock().unwrap_or_else(PoisonError::into_inner);
        denials.add(client, error.name, incoming.source(app), app.0.env.clock.now())
    };
    let Some(event) = event else { return };
    if let Err(error) = app.quorum().record(vec![event]).await {
        tracing::error!(%error, "a refused token request could not be recorded");
    }
}

/// Records what was summed up, every few seconds and once more at the end.
pub(super) async fn flush_denials(app: App) {
    let mut stop = app.0.stop.clone();
    loop {
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        let stopped = tokio::time::timeout(DENIALS_EVERY, stopped).await.is_ok();
        let events = {
            let mut denials = app.0.desk.denials.lock().unwrap_or_else(PoisonError::into_inner);
            denials.flush()
        };
        if !events.is_empty()
            && let Err(error) = app.quorum().record(events).await
        {
            tracing::error!(%error, "refused token requests could not be recorded");
        }
        if stopped {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Entropy;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what takes the only thread is not under test")]
    fn who_asks_for_a_token_and_goes_away_makes_no_room_for_another_check() {
        // The only thread for such work is taken: checks begin, and none ends.
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.max_blocking_threads(1).build().unwrap();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let taken = tokio::task::spawn_blocking(move || ends.recv());
            let ids = Entropy::system().stream("ids");
            let desk = Arc::new(Desk::new(&AccessSettings::default(), "c", ids));
            let begun = || desk.hashes.load(Ordering::Relaxed);
            for i in 0..20 {
                let asked = desk.clone();
                let asks = tokio::spawn(async move {
                    let turn = asked.turn().await.ok()?;
                    let hash = credential::hash_to_check(None);
                    let secret = Zeroizing::new("x".to_owned());
                    Some(asked.verify(turn, Blocking::Threads, secret, hash).await)
                });
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                asks.abort();
                assert!(asks.await.unwrap_err().is_cancelled());
                assert_eq!(begun(), (i + 1).min(CHECKS_MAX as u64));
            }
            end.send(()).unwrap();
            taken.await.unwrap().unwrap();
            // All of them come back.
            let all = u32::try_from(CHECKS_MAX + WAITING_MAX).unwrap();
            let _ = desk.places.acquire_many(all).await.unwrap();
            assert_eq!(desk.checks.available_permits(), CHECKS_MAX);
        });
    }
}
