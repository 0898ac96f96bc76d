//! One answer: what is asked, out of what the agent has. Configurations as a node tells them, with the
//! session that they include and how old they are; secrets that are listed; how the agent stands.

use std::net::IpAddr;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch as signal;
use zeroize::Zeroizing;

use super::super::Shared;
use super::super::settings::SecretsFor;
use super::{Way, watch};
use crate::client::Item;
use crate::client::copy::{CopyState, LocalCopy};
use crate::model::{DocumentId, Environment, Key, Service};

const HOLM_SESSION: HeaderName = HeaderName::from_static("holm-session");
const HOLM_STALENESS_MS: HeaderName = HeaderName::from_static("holm-staleness-ms");
const HOLM_SOURCE: HeaderName = HeaderName::from_static("holm-source");
const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = 1000;
const PARAMETERS: [&str; 3] = ["size", "cursor", "prefix"];

/// Why a request is not answered with what it asks for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    name: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, name: &'static str, detail: impl Into<String>) -> Self {
        Self { status, name, detail: detail.into() }
    }

    fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{what} is not there"))
    }

    fn response(self) -> Response<Body> {
        let status = self.status;
        let body = json!({
            "error": self.name, "detail": self.detail, "status": status.as_u16(),
            "type": format!("urn:holm:error:{}", self.name),
            "title": status.canonical_reason().unwrap_or_default(),
        });
        with(status, "application/problem+json", body.to_string())
    }
}

type Answer = Result<Response<Body>, Problem>;

/// Answers a request; its body, which none of them has, is not looked at.
pub(super) fn answer<B>(
    shared: &Arc<Shared>,
    way: Way,
    request: &Request<B>,
    stop: signal::Receiver<bool>,
) -> Response<Body> {
    let answer = match is_ours(way, request.headers()) {
        false => Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "BadHeader",
            "Host: has to be a loopback address or localhost",
        )),
        true if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "an agent only reads: this path takes GET",
            )
            .response();
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            Ok(response)
        }
        true => route(shared, way, request, stop),
    };
    answer.unwrap_or_else(Problem::response)
}

fn route<B>(
    shared: &Arc<Shared>,
    way: Way,
    request: &Request<B>,
    stop: signal::Receiver<bool>,
) -> Answer {
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    match path[..] {
        ["healthz"] => Ok(with(StatusCode::OK, "application/json", "{\"status\":\"ok\"}")),
        ["readyz"] => {
            let (is_ready, body) = shared.readiness();
            let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Ok(with(status, "application/json", body.to_string()))
        }
        ["metrics"] => Ok(with(StatusCode::OK, "text/plain; version=0.0.4", shared.metrics_text())),
        ["config"] => Ok(documents(shared)),
        ["config", service, environment] => {
            let copy = copy(shared, service, environment)?;
            let query = Query::parse(request.uri().query().unwrap_or_default())?;
            let accept = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
            if accept.is_some_and(|it| it.contains("text/event-stream")) {
                let since = request.headers().get("last-event-id");
                let since = since.and_then(|it| it.to_str().ok()).map(str::to_owned);
                let prefix = query.prefix.unwrap_or_default();
                return Ok(watch::answer(copy, &prefix, since, stop));
            }
            list(copy, &query)
        }
        ["config", service, environment, key] => {
            one(copy(shared, service, environment)?, key, request.headers())
        }
        ["secrets", name] => secret(shared, way, name),
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "NotFound", "there is nothing at this path")),
    }
}

/// Over loopback a browser can be led here by a name that somebody else's DNS gives.
fn is_ours(way: Way, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return way == Way::Socket;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    way == Way::Socket
        || name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

fn copy<'a>(
    shared: &'a Shared,
    service: &str,
    environment: &str,
) -> Result<&'a LocalCopy, Problem> {
    let bad = |e: crate::model::NameError| {
        Problem::new(StatusCode::BAD_REQUEST, "BadName", e.to_string())
    };
    let service = Service::new(service).map_err(bad)?;
    let environment = Environment::new(environment).map_err(bad)?;
    let document = DocumentId::new(service, environment);
    let copy = shared.copies.get(&document);
    copy.ok_or_else(|| {
        Problem::not_found(format!("{document}, of which this agent keeps no copy,"))
    })
}

fn documents(shared: &Shared) -> Response<Body> {
    let items: Vec<_> = shared
        .copies
        .iter()
        .map(|(document, copy)| {
            json!({"service": document.service.as_str(), "environment": document.environment.as_str(),
                   "keys": copy.state().items().len()})
        })
        .collect();
    let body = json!({"items": items, "next_cursor": null});
    with(StatusCode::OK, "application/json", body.to_string())
}

/// What a listing is asked for.
#[derive(Debug, Default)]
struct Query {
    size: Option<usize>,
    cursor: Option<Key>,
    prefix: Option<String>,
}

impl Query {
    /// No value that is taken needs an escape.
    fn parse(text: &str) -> Result<Self, Problem> {
        let bad = |name: &str, reason: &str| {
            Problem::new(StatusCode::BAD_REQUEST, "BadQuery", format!("{name}: {reason}"))
        };
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "size" => {
                    let size = value.parse().ok().filter(|size| (1..=SIZE_MAX).contains(size));
                    query.size = Some(size.ok_or_else(|| bad(name, "has to be from 1 to 1000"))?);
                }
                "cursor" => {
                    let key = URL_SAFE_NO_PAD.decode(value).ok();
                    let key = key.and_then(|key| String::from_utf8(key).ok());
                    let key = key.and_then(|key| Key::new(&key).ok());
                    query.cursor = Some(key.ok_or_else(|| bad(name, "is none of this agent's"))?);
                }
                "prefix" if value.is_empty() => {}
                "prefix" => {
                    let is_name = Key::new(value).is_ok() || value == "." || value == "..";
                    let prefix = is_name.then(|| value.to_owned());
                    query.prefix = Some(prefix.ok_or_else(|| bad(name, "no key begins so"))?);
                }
                _ => {
                    let known = PARAMETERS.join(", ");
                    return Err(bad(name, &format!("is not known here; there are {known}")));
                }
            }
        }
        Ok(query)
    }
}

fn list(copy: &LocalCopy, query: &Query) -> Answer {
    let (state, prefix) = (copy.state(), query.prefix.as_deref().unwrap_or_default());
    let from = match (&query.cursor, Key::new(prefix)) {
        (Some(after), _) => Excluded(after.clone()),
        (None, Ok(prefix)) => Included(prefix),
        (None, Err(_)) => Unbounded,
    };
    let mut rows = state
        .items()
        .range((from, Unbounded))
        .skip_while(|(key, _)| key.as_str() < prefix)
        .take_while(|(key, _)| key.as_str().starts_with(prefix));
    let size = query.size.unwrap_or(SIZE_DEFAULT);
    let page: Vec<&Item> = rows.by_ref().take(size).map(|(_, item)| &**item).collect();
    let next = rows.next().and(page.last()).map(|last| URL_SAFE_NO_PAD.encode(last.key.as_str()));
    #[derive(serde::Serialize)]
    struct Page<'a> {
        items: &'a [&'a Item],
        next_cursor: Option<String>,
    }
    let body = json_of(&Page { items: &page, next_cursor: next })?;
    let mut response = with(StatusCode::OK, "application/json", body);
    tell(copy, &state, response.headers_mut());
    Ok(response)
}

fn one(copy: &LocalCopy, key: &str, headers: &HeaderMap) -> Answer {
    let name = Key::new(key);
    name.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "BadName", e.to_string()))?;
    let state = copy.state();
    let mut response = match state.get(key) {
        None => Problem::not_found(format!("the key {key}")).response(),
        Some(item) => {
            let body = json_of(&**item)?;
            let sum = Sha256::digest(&body);
            let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&sum[..12]));
            let known = headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok());
            let is_known = known.is_some_and(|known| {
                known.trim() == "*"
                    || known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
            });
            let mut response = match is_known {
                true => with(StatusCode::NOT_MODIFIED, "application/json", Bytes::new()),
                false => with(StatusCode::OK, "application/json", body),
            };
            if let Ok(tag) = HeaderValue::try_from(tag) {
                response.headers_mut().insert(header::ETAG, tag);
            }
            response
        }
    };
    tell(copy, &state, response.headers_mut());
    Ok(response)
}

fn secret(shared: &Shared, way: Way, name: &str) -> Answer {
    let may = match shared.settings.secrets.serve {
        SecretsFor::Nobody => false,
        SecretsFor::Socket => way == Way::Socket,
        SecretsFor::Anyone => true,
    };
    if !may {
        let detail =
            "secrets are not given out here: secrets.serve in the agent's settings says where";
        return Err(Problem::new(StatusCode::FORBIDDEN, "Forbidden", detail));
    }
    if !shared.vault.lists(name) {
        return Err(Problem::not_found("a secret of this name in secrets.names"));
    }
    let Some(held) = shared.vault.get(name) else {
        let why = shared.vault.problem(name).unwrap_or_else(|| "it was let go".to_owned());
        let detail = format!("the secret {name} is not held: {why}");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", detail));
    };
    #[derive(serde::Serialize)]
    struct Revealed<'a> {
        #[serde(flatten)]
        info: &'a crate::client::SecretInfo,
        value: &'a str,
    }
    let value = held.value.expose_text().ok_or_else(|| Problem::not_found("its text"))?;
    // Of its whole length from the start: a buffer that grows leaves what it had behind.
    let mut body = Zeroizing::new(Vec::with_capacity(6 * value.len() + 4096));
    let written = serde_json::to_writer(&mut *body, &Revealed { info: &held.info, value });
    written.map_err(|_| Problem::not_found("its JSON"))?;
    let mut response = with(StatusCode::OK, "application/json", Bytes::from_owner(body));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn json_of<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Problem> {
    let failed = |e: serde_json::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "StorageFailed", e.to_string())
    };
    serde_json::to_vec(value).map_err(failed)
}

/// Which session the answer includes, how old it may be, and whether a region confirmed it.
pub(super) fn tell(copy: &LocalCopy, state: &CopyState, headers: &mut HeaderMap) {
    let age = copy.age();
    if let Some(session) = state.session().and_then(|it| HeaderValue::try_from(it).ok()) {
        headers.insert(HOLM_SESSION, session);
    }
    headers.insert(HOLM_STALENESS_MS, HeaderValue::from(millis(age.confirmed_ago)));
    let source = if age.is_from_file { "file" } else { "region" };
    headers.insert(HOLM_SOURCE, HeaderValue::from_static(source));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn with(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_loopback_only_names_of_this_machine_are_answered() {
        let says = |way, host: Option<&str>| {
            let host = host.map(|host| (header::HOST, HeaderValue::from_str(host).unwrap()));
            is_ours(way, &host.into_iter().collect())
        };
        for host in ["localhost", "LOCALHOST:8200", "127.0.0.1:8200", "[::1]:8200", "[::1]"] {
            assert!(says(Way::Loopback, Some(host)), "{host}");
        }
        for host in ["evil.example", "evil.example:8200", "127.0.0.1.evil.example", "10.0.0.1", ""]
        {
            assert!(!says(Way::Loopback, Some(host)), "{host}");
        }
        assert!(!says(Way::Loopback, None));
        assert!(says(Way::Socket, None) && says(Way::Socket, Some("anything")));
    }

    #[test]
    fn a_query_that_cannot_be_meant_is_refused() {
        let query = Query::parse("size=5&prefix=server.&cursor=YQ").unwrap();
        assert_eq!((query.size, query.prefix.as_deref()), (Some(5), Some("server.")));
        assert_eq!(query.cursor.unwrap().as_str(), "a");
        for bad in ["size=0", "size=1001", "size=x", "cursor=%", "prefix=a/b", "resolve=secrets"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
