//! A node that is none: enough of the HTTP contract, in memory, for tests of the client and of the
//! command line. Keeps what it was asked, so that a test can say what must have been sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::model::vector::{Dot, Origin};
use crate::model::{JsonText, Session};

/// A running stub. Ends with the runtime of its test.
#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) url: String,
    state: Arc<Mutex<Node>>,
}

/// What a stub holds.
#[derive(Default)]
pub(crate) struct Node {
    /// `service/environment`, key → entries, oldest first; none is a removal.
    pub(crate) entries: BTreeMap<(String, String), Vec<Option<JsonText>>>,
    /// What was asked: method, path with query, body.
    pub(crate) requests: Vec<(String, HeaderMap, String)>,
    /// What the next watches say, one a connection; the last one stays open.
    pub(crate) watches: VecDeque<String>,
    /// An answer for the next request, whatever it is.
    pub(crate) next_answer: Option<(StatusCode, String)>,
    /// An answer for every request.
    pub(crate) every_answer: Option<(StatusCode, String)>,
    /// `Retry-After` of these answers, where it is not 0, in seconds.
    pub(crate) retry_after_s: u64,
    /// How long it takes to answer.
    pub(crate) takes: Duration,
    changes: u64,
}

#[derive(serde::Deserialize)]
struct Entry {
    key: String,
    value: Box<RawValue>,
    expect_version: Option<u64>,
}

#[derive(serde::Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

impl Stub {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(Node::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, state }
    }

    pub(crate) fn node(&self) -> std::sync::MutexGuard<'_, Node> {
        self.state.lock().unwrap()
    }

    /// Requests since the last call, as `METHOD /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.node().requests.drain(..).map(|(line, ..)| line).collect()
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Node>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if uri.path() == "/readyz" {
        return (StatusCode::OK, r#"{"status":"ready"}"#).into_response();
    }
    let takes = state.lock().unwrap().takes;
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    let mut node = state.lock().unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    node.requests.push((format!("{method} {uri}"), headers.clone(), body.clone()));
    if let Some((status, text)) = node.next_answer.take().or(node.every_answer.clone()) {
        let mut response = (status, text).into_response();
        if node.retry_after_s > 0 {
            response.headers_mut().insert("retry-after", node.retry_after_s.into());
        }
        return response;
    }
    let query: BTreeMap<&str, &str> =
        uri.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('=')).collect();
    let path: Vec<&str> = uri.path().split('/').skip(1).collect();
    let watches = headers.get("accept").is_some_and(|accept| accept == "text/event-stream");
    if watches {
        return node.watch();
    }
    let (status, text) = match (method.as_str(), path.as_slice()) {
        ("GET", ["config"]) => node.documents(),
        ("GET", ["config", s, e]) => node.list(&format!("{s}/{e}"), &query),
        ("POST", ["config", s, e]) => node.write(&format!("{s}/{e}"), &body),
        ("DELETE", ["config", s, e]) => node.remove_all(&format!("{s}/{e}")),
        ("GET", ["config", s, e, k]) => node.get(&format!("{s}/{e}"), k),
        ("DELETE", ["config", s, e, k]) => node.remove(&format!("{s}/{e}"), k),
        ("GET", ["config", s, e, k, "versions"]) => node.versions(&format!("{s}/{e}"), k),
        ("GET", ["config", s, e, k, "versions", v]) => node.version(&format!("{s}/{e}"), k, v),
        ("POST", ["config", s, e, k, "restore"]) => node.restore(&format!("{s}/{e}"), k, &body),
        ("GET", ["cluster"]) => (
            200,
            json!({
                "cluster": "c1", "node": "eu-1", "region": "eu", "waits_for": null,
                "store": {"documents": 2, "rows": 9, "conflicts": 1, "waiting": 0,
                          "quarantined": 0, "database_bytes": 1_500_000},
                "regions": [
                    {"region": "eu", "nodes": [{"node": "eu-1", "state": "self", "rtt_ms": null,
                        "heard_ago_ms": null, "lag_changes": 0, "lag_ms": 0, "heard_by": ["us-1"]}]},
                    {"region": "us", "nodes": [{"node": "us-1", "state": "connected", "rtt_ms": 80.5,
                        "heard_ago_ms": 12, "lag_changes": 7, "lag_ms": 1500, "heard_by": []}]},
                ]
            })
            .to_string(),
        ),
        ("POST", ["dev", "links"]) => (200, "{}".to_owned()),
        _ => refusal(404, "NotFound", "no such resource"),
    };
    let origin = Origin([1; 8]);
    let session = Session::of([Dot { origin, n: node.changes }].into_iter().collect());
    (StatusCode::from_u16(status).unwrap(), [("holm-session", session.encode())], text)
        .into_response()
}

fn refusal(status: u16, name: &str, detail: &str) -> (u16, String) {
    (status, json!({"error": name, "detail": detail, "status": status}).to_string())
}

type Answer = (u16, String);

impl Node {
    fn item(&self, document: &str, key: &str) -> Option<String> {
        let entries = self.entries.get(&(document.to_owned(), key.to_owned()))?;
        let value = entries.last()?.as_ref()?;
        let (service, environment) = document.split_once('/')?;
        let version = entries.len();
        // By hand, because a `Value` would take digits away from numbers.
        Some(format!(
            "{{\"id\":\"00000000-0000-5000-8000-000000000000\",\"key\":\"{key}\",\"value\":{value},\"version\":{version},\
             \"service\":\"{service}\",\"environment\":\"{environment}\",\
             \"updated_at\":\"2026-01-01T00:00:00Z\",\"updated_by\":\"ann\",\"region\":\"eu\",\
             \"origin\":\"01\",\"conflicts\":[],\"later\":1}}"
        ))
    }

    fn documents(&self) -> Answer {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (document, key) in self.entries.keys() {
            if self.item(document, key).is_some() {
                *counts.entry(document).or_default() += 1;
            }
        }
        let items = counts.iter().filter_map(|(document, keys)| {
            let (service, environment) = document.split_once('/')?;
            Some(json!({"service": service, "environment": environment, "keys": keys}))
        });
        let items: Vec<Value> = items.collect();
        (200, json!({"items": items, "next_cursor": null}).to_string())
    }

    /// Pages of at most three, whatever was asked for.
    fn list(&self, document: &str, query: &BTreeMap<&str, &str>) -> Answer {
        let from: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
        let prefix = query.get("prefix").copied().unwrap_or("");
        let keys = self.entries.keys().filter(|(d, key)| d == document && key.starts_with(prefix));
        let items: Vec<String> = keys.filter_map(|(d, key)| self.item(d, key)).collect();
        let next = if from + 3 < items.len() { format!("\"{}\"", from + 3) } else { "null".into() };
        let page: Vec<String> = items.into_iter().skip(from).take(3).collect();
        (200, format!("{{\"items\":[{}],\"next_cursor\":{next}}}", page.join(",")))
    }

    fn write(&mut self, document: &str, body: &str) -> Answer {
        let Ok(Entries { entries }) = serde_json::from_str(body) else {
            return refusal(400, "BadRequest", "not entries");
        };
        for entry in &entries {
            let known = self.entries.get(&(document.to_owned(), entry.key.clone()));
            let there = known.filter(|entries| matches!(entries.last(), Some(Some(_))));
            let version = there.map_or(0, |entries| entries.len() as u64);
            if entry.expect_version.is_some_and(|expected| expected != version) {
                return refusal(412, "PreconditionFailed", "another version");
            }
        }
        self.changes += 1;
        let mut items = Vec::new();
        for entry in entries {
            let value = JsonText::parse(entry.value.get()).unwrap();
            let place = (document.to_owned(), entry.key.clone());
            self.entries.entry(place).or_default().push(Some(value));
            items.extend(self.item(document, &entry.key));
        }
        (200, format!("{{\"items\":[{}]}}", items.join(",")))
    }

    fn get(&self, document: &str, key: &str) -> Answer {
        match self.item(document, key) {
            Some(item) => (200, item),
            None => refusal(404, "NotFound", "no such key"),
        }
    }

    fn remove(&mut self, document: &str, key: &str) -> Answer {
        if self.item(document, key).is_none() {
            return refusal(404, "NotFound", "no such key");
        }
        self.changes += 1;
        let entries = self.entries.get_mut(&(document.to_owned(), key.to_owned())).unwrap();
        entries.push(None);
        (200, json!({"key": key, "removed": true, "version": entries.len()}).to_string())
    }

    fn remove_all(&mut self, document: &str) -> Answer {
        let keys: Vec<String> =
            self.entries.keys().filter(|(d, _)| d == document).map(|(_, k)| k.clone()).collect();
        let removed = keys.iter().filter(|key| self.remove(document, key).0 == 200).count();
        (200, json!({ "removed": removed }).to_string())
    }

    fn entry(&self, document: &str, key: &str, version: usize) -> Option<String> {
        let entries = self.entries.get(&(document.to_owned(), key.to_owned()))?;
        let value = match entries.get(version.checked_sub(1)?)? {
            Some(value) => format!("\"value\":{value}"),
            None => "\"removed\":true".to_owned(),
        };
        let current = version == entries.len();
        Some(format!(
            "{{\"version\":{version},{value},\"updated_by\":\"ann\",\"region\":\"eu\",\
             \"origin\":\"01\",\"message\":\"m{version}\",\"current\":{current}}}"
        ))
    }

    fn versions(&self, document: &str, key: &str) -> Answer {
        let place = (document.to_owned(), key.to_owned());
        let Some(entries) = self.entries.get(&place) else {
            return refusal(404, "NotFound", "no such key");
        };
        let all = (1..=entries.len()).rev().filter_map(|n| self.entry(document, key, n));
        let all: Vec<String> = all.collect();
        (200, format!("{{\"items\":[{}],\"next_cursor\":null}}", all.join(",")))
    }

    fn version(&self, document: &str, key: &str, version: &str) -> Answer {
        let number = version.split('@').next().and_then(|number| number.parse().ok());
        match number.and_then(|number| self.entry(document, key, number)) {
            Some(entry) => (200, entry),
            None => refusal(404, "NotFound", "no such version"),
        }
    }

    fn restore(&mut self, document: &str, key: &str, body: &str) -> Answer {
        let body: Value = serde_json::from_str(body).unwrap();
        let number = body["version"].as_u64().unwrap();
        let entries = self.entries.get_mut(&(document.to_owned(), key.to_owned())).unwrap();
        let value = entries[usize::try_from(number).unwrap() - 1].clone();
        entries.push(value);
        self.changes += 1;
        self.get(document, key)
    }

    fn watch(&mut self) -> Response {
        let text = self.watches.pop_front().unwrap_or_default();
        let said = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        let body = if self.watches.is_empty() {
            Body::from_stream(said.chain(futures_util::stream::pending()))
        } else {
            Body::from_stream(said)
        };
        ([("content-type", "text/event-stream")], body).into_response()
    }
}
