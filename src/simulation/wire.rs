//! A client's requests as HTTP, and what their answers mean. Whether something was done is said only
//! where the node said so: an answer that is missing, or that says "unknown", is an unknown outcome.

use std::collections::BTreeSet;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{Method, Request as HttpRequest, StatusCode};
use serde_json::{Value, json};

use super::history::{Outcome, Request, Sibling};
use super::http::{HttpAnswer, HttpError, request};

/// What a request carries beside what it asks for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Carried<'a> {
    pub(crate) token: &'a str,
    pub(crate) session: Option<&'a str>,
    pub(crate) idempotency_key: Option<&'a str>,
    /// The client secret, where a token is asked for.
    pub(crate) client_secret: &'a str,
}

/// The request on the wire.
pub(crate) fn to_http(
    asked: &Request,
    carried: &Carried<'_>,
) -> Result<HttpRequest<Full<Bytes>>, HttpError> {
    let (method, path, body) = line(asked, carried);
    let mut built = request(method, &path, carried.token, body)?;
    if matches!(asked, Request::TokenIssue { .. }) {
        // Whoever asks for a token says who it is in the form, and in no second way.
        built.headers_mut().remove(AUTHORIZATION);
    }
    let mut header = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            built.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    match asked {
        Request::ConfigWrite { ack: Some(ack), .. } => header("holm-ack", ack),
        Request::ConfigWatch { resumed, .. } => {
            header("accept", "text/event-stream");
            if let Some(session) = carried.session.filter(|_| *resumed) {
                header("last-event-id", session);
            }
        }
        Request::TokenIssue { .. } => header("content-type", "application/x-www-form-urlencoded"),
        _ => {}
    }
    let is_watch = matches!(asked, Request::ConfigWatch { .. });
    if let Some(session) = carried.session.filter(|_| !is_watch) {
        header("holm-session", session);
    }
    if let Some(key) = carried.idempotency_key {
        header("idempotency-key", key);
    }
    Ok(built)
}

fn line(asked: &Request, carried: &Carried<'_>) -> (Method, String, Option<String>) {
    match asked {
        Request::ConfigWrite { document, entries, expect_version, .. } => {
            let entries: Vec<Value> = entries
                .iter()
                .map(|(key, value)| match expect_version {
                    None => json!({ "key": key, "value": value }),
                    Some(at) => json!({ "key": key, "value": value, "expect_version": at }),
                })
                .collect();
            let body = json!({ "entries": entries }).to_string();
            (Method::POST, format!("/config/{document}"), Some(body))
        }
        Request::ConfigRemove { document, key } => {
            (Method::DELETE, format!("/config/{document}/{key}"), None)
        }
        Request::ConfigRead { document, key } => {
            (Method::GET, format!("/config/{document}/{key}"), None)
        }
        Request::ConfigWatch { document, .. } => (Method::GET, format!("/config/{document}"), None),
        Request::SecretWrite { name, value, expect_version } => {
            let body = match expect_version {
                None => json!({ "name": name, "value": value }),
                Some(at) => json!({ "name": name, "value": value, "expect_version": at }),
            };
            (Method::POST, "/secrets".to_owned(), Some(body.to_string()))
        }
        Request::SecretRead { name, consistency } => {
            let local = if consistency == "local" { "&consistency=local" } else { "" };
            (Method::GET, format!("/secrets/{name}?reveal=true{local}"), None)
        }
        Request::SecretRemove { name } => (Method::DELETE, format!("/secrets/{name}"), None),
        Request::RoleWrite { name, value } => {
            let body = json!({ "grants": [grant(value)] }).to_string();
            (Method::PUT, format!("/roles/{name}"), Some(body))
        }
        Request::RoleRead { name } => (Method::GET, format!("/roles/{name}"), None),
        Request::AccountDisable { name } => (
            Method::PATCH,
            format!("/accounts/{name}"),
            Some(json!({"enabled": false}).to_string()),
        ),
        Request::AccountEnable { name } => {
            (Method::PATCH, format!("/accounts/{name}"), Some(json!({"enabled": true}).to_string()))
        }
        Request::TokenIssue { name } => {
            let form = format!(
                "grant_type=client_credentials&client_id={name}&client_secret={}",
                carried.client_secret
            );
            (Method::POST, "/oauth/token".to_owned(), Some(form))
        }
        // `METHOD path`, and maybe words for people.
        Request::Operate { what } => {
            let mut words = what.split(' ');
            let (method, path) =
                (words.next().unwrap_or("GET"), words.next().unwrap_or("/healthz"));
            let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
            let body = (method == Method::POST).then(|| "{}".to_owned());
            (method, path.to_owned(), body)
        }
    }
}

/// The grant that carries a role's value.
pub(crate) fn grant(value: &str) -> String {
    format!("config:read:{value}/x")
}

/// What an answer means for who asked.
pub(crate) fn outcome(asked: &Request, answer: &Result<HttpAnswer, HttpError>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(HttpError::Refused) => {
            return Outcome::Refused { status: 0, error: "ConnectionRefused".to_owned() };
        }
        Err(error) => return Outcome::Unknown { why: error.to_string() },
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() {
        return done(asked, answer, &body);
    }
    let error = body["error"].as_str().unwrap_or_default().to_owned();
    if answer.status == StatusCode::NOT_FOUND {
        match asked {
            Request::ConfigRead { .. } => {
                return Outcome::Row {
                    siblings: gone(&body),
                    inconsistent: is_inconsistent(answer),
                };
            }
            Request::SecretRead { .. } => {
                let staleness_ms = number(answer, "holm-staleness-ms");
                return Outcome::Value { value: None, version: 0, staleness_ms };
            }
            _ => {}
        }
    }
    match error.as_str() {
        "OutcomeUnknown" | "WriteUnknown" | "TimedOut" => Outcome::Unknown { why: error },
        _ => Outcome::Refused { status: answer.status.as_u16(), error },
    }
}

fn done(asked: &Request, answer: &HttpAnswer, body: &Value) -> Outcome {
    match asked {
        Request::ConfigWrite { .. } => {
            let items = body["items"].as_array().map_or(&[][..], Vec::as_slice);
            wrote(answer, body, items)
        }
        Request::ConfigRemove { .. } => wrote(answer, body, std::slice::from_ref(body)),
        Request::ConfigRead { .. } => {
            Outcome::Row { siblings: row(body), inconsistent: is_inconsistent(answer) }
        }
        Request::ConfigWatch { .. } => Outcome::Opened,
        Request::SecretWrite { value, .. } | Request::RoleWrite { value, .. } => Outcome::Value {
            value: Some(value.clone()),
            version: body["version"].as_u64().unwrap_or(0),
            staleness_ms: None,
        },
        Request::SecretRead { .. } => Outcome::Value {
            value: body["value"].as_str().map(str::to_owned),
            version: body["version"].as_u64().unwrap_or(0),
            staleness_ms: number(answer, "holm-staleness-ms"),
        },
        Request::RoleRead { .. } => {
            let grant = body["grants"][0].as_str().unwrap_or_default();
            let value = grant.strip_prefix("config:read:").and_then(|it| it.strip_suffix("/x"));
            Outcome::Value {
                value: value.map(str::to_owned),
                version: body["version"].as_u64().unwrap_or(0),
                staleness_ms: None,
            }
        }
        Request::SecretRemove { .. }
        | Request::AccountDisable { .. }
        | Request::AccountEnable { .. }
        | Request::TokenIssue { .. }
        | Request::Operate { .. } => Outcome::Done,
    }
}

fn wrote(answer: &HttpAnswer, body: &Value, items: &[Value]) -> Outcome {
    let receipts = body["receipts"].as_array().map_or(&[][..], Vec::as_slice);
    let has = receipts.iter().filter(|receipt| receipt["has"] == true);
    Outcome::Wrote {
        entries: items.iter().map(|item| (text(&item["key"]), sibling(item))).collect(),
        acknowledged: answer.status != StatusCode::ACCEPTED,
        regions: has.map(|receipt| text(&receipt["region"])).collect::<BTreeSet<_>>(),
    }
}

/// An item's winner and conflicts.
pub(crate) fn row(item: &Value) -> Vec<Sibling> {
    let conflicts = item["conflicts"].as_array().map_or(&[][..], Vec::as_slice);
    std::iter::once(item).chain(conflicts).map(sibling).collect()
}

/// What an answer says of a key that is not there: its removal and what lost against it.
pub(crate) fn gone(body: &Value) -> Vec<Sibling> {
    let Some(removal) = body.get("removal") else { return Vec::new() };
    let conflicts = body["conflicts"].as_array().map_or(&[][..], Vec::as_slice);
    std::iter::once(removal).chain(conflicts).map(sibling).collect()
}

/// One entry's columns.
pub(crate) fn sibling(entry: &Value) -> Sibling {
    Sibling {
        value: entry.get("value").map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        version: entry["version"].as_u64().unwrap_or(0),
        origin: text(&entry["origin"]),
        updated_at: text(&entry["updated_at"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn is_inconsistent(answer: &HttpAnswer) -> bool {
    answer.headers.contains_key("holm-inconsistent")
}

fn number(answer: &HttpAnswer, header: &str) -> Option<u64> {
    answer.headers.get(header)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_a_token_says_who_it_is_once() {
        let carried = Carried { token: "t", client_secret: "s", ..Carried::default() };
        let asked = Request::TokenIssue { name: "ci".to_owned() };
        assert!(!to_http(&asked, &carried).unwrap().headers().contains_key(AUTHORIZATION));
        let asked = Request::ConfigRead { document: "web/prod".to_owned(), key: "k".to_owned() };
        assert_eq!(to_http(&asked, &carried).unwrap().headers()[AUTHORIZATION], "Bearer t");
    }
}
