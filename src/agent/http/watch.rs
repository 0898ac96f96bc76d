//! A watch of a copy, as server-sent events in a node's form: the state, `ready`, and then what changes.
//! It has no queue: whoever reads slowly is sent the difference to the newest state. Resumed from a
//! session that is not the copy's, it says `reset` and begins anew.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use imbl::ordmap::DiffItem;
use serde_json::json;
use tokio::sync::watch as signal;
use tokio::time::timeout;

use super::answer::tell;
use super::stopped;
use crate::client::Item;
use crate::client::copy::{CopyState, LocalCopy};

const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

struct Watch {
    changes: signal::Receiver<u64>,
    copy: LocalCopy,
    shown: Option<Arc<CopyState>>,
    prefix: String,
    since: Option<String>,
    stop: signal::Receiver<bool>,
}

/// The answer: a body that lasts as long as the watch.
pub(super) fn answer(
    copy: &LocalCopy,
    prefix: &str,
    since: Option<String>,
    stop: signal::Receiver<bool>,
) -> Response<Body> {
    let (changes, copy) = (copy.changes(), copy.clone());
    let state = copy.state();
    let mut response = Response::new(Body::empty());
    tell(&copy, &state, response.headers_mut());
    let watch = Watch { changes, copy, shown: None, prefix: prefix.to_owned(), since, stop };
    let chunks = futures_util::stream::unfold(watch, |mut watch| async {
        let chunk = watch.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk.into()), watch))
    });
    *response.body_mut() = Body::from_stream(chunks);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Watch {
    /// What is to be said next; nothing when the agent stops.
    async fn next(&mut self) -> Option<String> {
        loop {
            self.changes.mark_unchanged();
            let state = self.copy.state();
            let text = match self.shown.replace(state.clone()) {
                None => begin(&state, &self.prefix, self.since.as_deref()),
                Some(shown) => difference(&shown, &state, &self.prefix),
            };
            if !text.is_empty() {
                return Some(text);
            }
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return None,
                changed = timeout(HEARTBEAT_EVERY, self.changes.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(": heartbeat\n\n".to_owned()),
                },
            }
        }
    }
}

fn begin(state: &CopyState, prefix: &str, since: Option<&str>) -> String {
    let mut text = String::new();
    let is_known = since.is_some() && since == state.session();
    if since.is_some() && !is_known {
        text.push_str("event: reset\ndata: {}\n\n");
    }
    if !is_known {
        for item in state.items().values().filter(|it| it.key.as_str().starts_with(prefix)) {
            put(&mut text, item);
        }
    }
    text.push_str("event: ready\ndata: {}\n\n");
    end(text, state)
}

fn difference(shown: &CopyState, state: &CopyState, prefix: &str) -> String {
    let mut text = String::new();
    for change in shown.items().diff(state.items()) {
        match change {
            DiffItem::Add(key, item) | DiffItem::Update { new: (key, item), .. }
                if key.as_str().starts_with(prefix) =>
            {
                put(&mut text, item);
            }
            DiffItem::Remove(key, item) if key.as_str().starts_with(prefix) => {
                // A removal's own version is not kept: it is above all that it replaced.
                let others = item.conflicts.iter().map(|other| other.version);
                let version = others.fold(item.version, u64::max) + 1;
                let data = json!({"key": key.as_str(), "removed": true, "version": version});
                let _ = write!(text, "event: remove\ndata: {data}\n\n");
            }
            _ => {}
        }
    }
    if text.is_empty() { text } else { end(text, state) }
}

fn put(text: &mut String, item: &Item) {
    // Columns of text, numbers and values that are JSON already: there is nothing to fail.
    let data = serde_json::to_string(item).unwrap_or_default();
    let _ = write!(text, "event: put\ndata: {data}\n\n");
}

/// The last event has the session.
fn end(mut text: String, state: &CopyState) -> String {
    if let Some(session) = state.session() {
        text.pop();
        let _ = write!(text, "id: {session}\n\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::copy::testing::state;

    fn kinds(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
    }

    #[test]
    fn a_watch_says_the_state_and_then_what_changed() {
        let (one, two) = (state(&[("a", "1"), ("b", "1")]), state(&[("b", "2"), ("c", "1")]));
        let text = begin(&one, "", None);
        assert_eq!(kinds(&text), ["put", "put", "ready"]);
        assert!(text.ends_with("event: ready\ndata: {}\nid: s1\n\n"), "{text}");
        assert_eq!(kinds(&begin(&one, "b", Some("s1"))), ["ready"]);
        assert_eq!(kinds(&begin(&one, "b", Some("s0"))), ["reset", "put", "ready"]);
        let text = difference(&one, &two, "");
        assert_eq!(kinds(&text), ["remove", "put", "put"]);
        assert!(text.contains("{\"key\":\"a\",\"removed\":true,\"version\":2}"), "{text}");
        assert!(text.ends_with("id: s1\n\n") && text.matches("id: ").count() == 1, "{text}");
        assert_eq!(kinds(&difference(&one, &two, "c")), ["put"]);
        assert_eq!(difference(&one, &two, "z"), "");
    }
}
