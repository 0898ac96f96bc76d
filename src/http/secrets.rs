//! `/secrets`: values go in sealed, and come out to whoever holds `secrets:reveal`, after that is
//! on the audit chain. Everybody else who may see a secret sees its columns and never its value.

mod body;
mod find;
mod reveal;
mod show;

use std::ops::Bound::{Excluded, Unbounded};

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;

use super::config_write;
use super::edge::Incoming;
use super::error::ApiError;
use super::page::{self, Listing};
use super::propose;
use super::query::bad;
use super::session::one;
use super::{App, IDEMPOTENCY_KEY, etag, write};
use crate::access::{SecretAction, decide};
use crate::model::{Id, SecretName};
use crate::registry::command::{Expect, Idempotency};
use crate::registry::{Command, Outcome, Refusal, State};
use crate::secrets::{HashKey, OpenError, Place, Purpose, seal};

pub(super) use body::NewSecret;
pub(super) use find::NO_STORE;
pub(super) use reveal::{Wanted, reveal};
pub(super) use show::{Columns, Put};

/// How often a value is sealed again where others write the same secret meanwhile.
const SEAL_TRIES: usize = 8;

/// `POST`: a new secret, or a known one's next version.
pub(super) async fn post(app: &App, incoming: &Incoming, body: Body) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    incoming.parameters()?;
    let bytes = body::read(app, incoming, body).await?;
    let put = body::put(&bytes)?;
    decide::secret(caller, &app.state().rules, SecretAction::Write, &put.name)?;
    let expect = propose::expect(incoming.headers(), put.expect_version)?;
    let idempotency = idempotency(app, incoming, &bytes)?;
    let mut rng = app.0.env.entropy.stream("secrets");
    let mut state = app.quorum().state();
    let known = state.secret_ids.get(&put.name).and_then(|id| state.secrets.get(id));
    let (mut id, mut version) = match known {
        Some(secret) => (secret.id, secret.version.saturating_add(1)),
        None => (Id::random(&mut rng), 1),
    };
    for _ in 0..SEAL_TRIES {
        let author = (caller.principal(), app.0.env.clock.now());
        let cluster = app.node().cluster_id();
        let place = Place { cluster, id, name: &put.name, version };
        let kek = app.node().keyring().current(&state.generations)?;
        let sealed =
            seal::seal(kek, &mut rng, &place, put.algorithm, &put.value, author).map_err(|_| {
                ApiError::SecretTooLarge {
                    len: put.value.len(),
                    max: crate::secrets::sealed::VALUE_LEN_MAX,
                }
            })?;
        let name = put.name.clone();
        let command = Command::PutSecret { id, name, expect, version, sealed };
        match propose::propose(app, incoming, idempotency, command).await? {
            Ok(proposed) => return answer_put(app, incoming, &put, &proposed).await,
            Err(Refusal::Moved(now_id, now_version)) => {
                (id, version) = (now_id, now_version);
                // The generation may have been retired, which this node's copy need not know yet.
                state = app.quorum().latest(propose::deadline(app)).await?;
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(Refusal::Moved(id, version).into())
}

async fn answer_put(
    app: &App,
    incoming: &Incoming,
    put: &body::Put,
    proposed: &propose::Proposed,
) -> Result<Response, ApiError> {
    let Outcome::Put(id, version, is_new) = proposed.outcome else {
        return Err(ApiError::StorageFailed);
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let deadline = propose::deadline(app);
    // Where this node is late, or a retry comes after a removal, the answer is what is known.
    let reached = app.quorum().wait_for(proposed.index(), deadline).await;
    let state = reached.unwrap_or_else(|earlier| earlier);
    let secret = state.secrets.get(&id).filter(|it| it.name == put.name);
    // What this request wrote, also where another has overtaken it by now.
    let shown = match secret.and_then(|secret| secret.as_of(version)) {
        Some(secret) => show::metadata(&secret),
        None => show::bare(id, &put.name, version, put.algorithm),
    };
    let mut response = write::json(status, shown);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, propose::etag_of(version));
    let location = format!("/secrets/{id}");
    headers.extend(HeaderValue::try_from(location).ok().map(|value| (header::LOCATION, value)));
    proposed.tell(incoming, headers)?;
    Ok(response)
}

/// `GET`: the columns, and the value for whoever may see it.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    let query = incoming.parameters()?;
    let wish = match query.get("reveal") {
        // Whoever asks for the head of an answer sees no value.
        _ if incoming.parts.method == Method::HEAD => Some(false),
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(bad("reveal", "has to be `true` or `false`")),
    };
    let version = query.number("version", 1, u64::from(u32::MAX))?;
    let which = find::Which::of(incoming.path())?;
    let read = propose::read(app, incoming, &query).await?;
    let rules = &read.state.rules;
    let secret = which.find(&read.state, caller, SecretAction::Read)?;
    let permit = decide::secret(caller, rules, SecretAction::Reveal, &secret.name);
    let metadata = decide::secret(caller, rules, SecretAction::Read, &secret.name);
    let permit = match (wish, permit) {
        (Some(true), permit) => Some(permit?),
        (Some(false), Ok(_)) => None,
        (_, Err(_)) => {
            metadata?;
            None
        }
        (None, Ok(permit)) => Some(permit),
    };
    let number = version.map_or(secret.version, |number| u32::try_from(number).unwrap_or(0));
    let sealed = secret.versions.get(&number).ok_or_else(|| ApiError::NotFound {
        what: format!("version {number} of the secret {}", secret.name),
        gone: None,
    })?;
    let tag = propose::etag_of(u64::from(number));
    let mut response = if etag::is_known(incoming.headers(), &tag)? {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if let Some(permit) = permit {
        let wanted = [Wanted { permit, secret, version: number, sealed }];
        let values = reveal(app, incoming, &read.state, &wanted).await?;
        let value = values.first().ok_or(ApiError::StorageFailed)?;
        write::json(StatusCode::OK, show::with_value(secret, number, value))
    } else {
        write::json(StatusCode::OK, show::metadata(secret))
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    read.tell(incoming, headers)?;
    Ok(response)
}

/// `GET /secrets`: the columns of those that the caller may see, in the order of their names.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    let query = incoming.parameters()?;
    let limits = &app.settings().limits;
    let size = page::size(&query, limits)?;
    let listing = Listing::new("/secrets", "");
    let after = match query.get("cursor") {
        None => Unbounded,
        Some(cursor) => Excluded(listing.place::<SecretName>(cursor)?),
    };
    let read = propose::read(app, incoming, &query).await?;
    let permit = decide::list_secrets(caller, &read.state.rules)?;
    let shown = read.state.secret_ids.range((after, Unbounded));
    let shown = shown.filter(|(name, _)| permit.includes(name));
    let shown = shown.filter_map(|(_, id)| read.state.secrets.get(id));
    let (mut items, mut bytes, mut last): (Vec<Bytes>, usize, Option<&SecretName>) =
        (Vec::new(), 0, None);
    let mut next = None;
    for secret in shown {
        let json = show::metadata(secret);
        let is_full = items.len() == size || bytes + json.len() > limits.page_bytes_max;
        if is_full && let Some(last) = last {
            next = Some(listing.cursor(last));
            break;
        }
        bytes += json.len();
        items.push(json);
        last = Some(&secret.name);
    }
    let member = match &next {
        None => ",\"next_cursor\":null".to_owned(),
        Some(cursor) => format!(",\"next_cursor\":\"{cursor}\""),
    };
    let body = config_write::list(items.into_iter(), &member).freeze();
    let mut response = write::json(StatusCode::OK, body);
    let headers = response.headers_mut();
    let link = next.map(|cursor| page::next_link(incoming.path(), &query, &cursor));
    let link = link.and_then(|link| HeaderValue::try_from(link).ok());
    headers.extend(link.map(|link| (header::LINK, link)));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    read.tell(incoming, headers)?;
    Ok(response)
}

/// `DELETE`: the secret with all of its versions.
pub(super) async fn remove(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    let query = incoming.parameters()?;
    let expected = query.number("expect_version", 0, u64::MAX)?;
    let expect = propose::expect(incoming.headers(), expected)?;
    let idempotency = idempotency(app, incoming, b"")?;
    let which = find::Which::of(incoming.path())?;
    let state = app.quorum().latest(propose::deadline(app)).await?;
    let id = match which.find(&state, caller, SecretAction::Delete) {
        Ok(secret) => {
            decide::secret(caller, &state.rules, SecretAction::Delete, &secret.name)?;
            secret.id
        }
        // A retry of the removal itself: what became of that is known by its Idempotency-Key.
        Err(ApiError::NotFound { .. }) if idempotency.is_some() => which.id_or_none(),
        Err(error) => return Err(error),
    };
    let expect = if matches!(expect, Expect::Any) { Expect::Present } else { expect };
    let command = Command::DeleteSecret { id, expect };
    let proposed = propose::decide(app, incoming, idempotency, command).await;
    let proposed = proposed.map_err(|error| match error {
        ApiError::NotFound { .. } => which.not_there(),
        other => other,
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// What recognises a retry of this request, hashed with the cluster's own key.
pub(super) fn idempotency(
    app: &App,
    incoming: &Incoming,
    body: &[u8],
) -> Result<Option<Idempotency>, ApiError> {
    const SHOWN: &str = "Idempotency-Key";
    let Some(key) = one(incoming.headers(), &IDEMPOTENCY_KEY, SHOWN)? else { return Ok(None) };
    write::check_idempotency_key(key)?;
    let hash_key = hash_key(app, &app.state())?;
    let checks = [header::IF_MATCH, header::IF_NONE_MATCH];
    let checks = checks.map(|name| incoming.headers().get(name).map_or(&b""[..], |v| v.as_bytes()));
    let principal = incoming.caller()?.principal();
    let request = [
        incoming.parts.method.as_str().as_bytes(),
        incoming.path().as_bytes(),
        incoming.query().unwrap_or_default().as_bytes(),
        checks[0],
        checks[1],
        body,
    ];
    Ok(Some(hash_key.idempotency(&[principal.as_bytes(), key.as_bytes()], &request)))
}

fn hash_key(app: &App, state: &State) -> Result<HashKey, ApiError> {
    let sealed = state.hash_key.as_ref().ok_or(crate::secrets::KeyError::NotFounded)?;
    let kek = app.node().keyring().of(&state.generations, sealed.generation)?;
    let cluster = app.node().cluster_id();
    match seal::open_key(kek, cluster, Purpose::HashKey, sealed) {
        Ok(key) => Ok(HashKey::new(&key)),
        Err(OpenError::Key(error)) => Err(error.into()),
        Err(OpenError::Damaged) => {
            tracing::error!("the cluster's hash key does not open: its row was changed");
            Err(ApiError::StorageFailed)
        }
    }
}
