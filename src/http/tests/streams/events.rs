//! Reads server-sent events as they come, for the tests of watches.

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::PATIENCE;
use crate::http::tests::harness::Asking;

/// A reader of server-sent events.
pub(super) struct Events {
    body: BodyDataStream,
    text: String,
}

/// One of them.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) data: Value,
    pub(super) id: Option<String>,
}

impl Events {
    pub(super) async fn open(asking: Asking<'_>) -> Self {
        let response = asking.open().await;
        assert_eq!(response.status(), 200, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next message, comments alone among them; `None` at the end.
    pub(super) async fn message(&mut self) -> Option<String> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(message);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await;
            let chunk = chunk.expect("an event comes")?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let message = self.message().await.expect("the watch goes on");
            let field = |name: &str| {
                message.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            if let Some(kind) = field("event: ") {
                let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                return Event { kind, data, id: field("id: ") };
            }
        }
    }

    /// Events up to the one that carries a session, as `kind key`, and that session.
    pub(super) async fn state(&mut self) -> (Vec<String>, String) {
        let mut shown = Vec::new();
        loop {
            let event = self.next().await;
            let key = event.data["key"].as_str().unwrap_or_default();
            shown.push(format!("{} {key}", event.kind).trim_end().to_owned());
            if let Some(id) = event.id {
                return (shown, id);
            }
        }
    }
}
