//! A watch as server-sent events (HTML, section 9.2): one message an event, `id:` on those that
//! carry a session, comments as heartbeats.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};

use super::stream::{Event, Output, Watch};

/// The answer: a body that lasts as long as the watch.
pub(super) fn answer(watch: Watch) -> Response {
    let chunks = futures_util::stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        let output = watch.next().await;
        let is_last = matches!(output, Output::Moved(_) | Output::Expired | Output::TooSlow);
        Some((Ok::<Bytes, Infallible>(encode(output)), (!is_last).then_some(watch)))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Some proxies hold answers back until they are whole; this one never is.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

fn encode(output: Output) -> Bytes {
    match output {
        Output::Events(events) => {
            let len = events.iter().map(|event| event.data.len() + 200).sum();
            let mut text = BytesMut::with_capacity(len);
            events.iter().for_each(|event| put(&mut text, event));
            text.freeze()
        }
        Output::Heartbeat(None) => Bytes::from_static(b": heartbeat\n\n"),
        // A message without data is not shown, but its id is kept.
        Output::Heartbeat(Some(id)) => format!(": heartbeat\nid: {id}\n\n").into(),
        Output::Moved(event) => {
            let mut text = BytesMut::new();
            put(&mut text, &event);
            text.freeze()
        }
        Output::Expired => Bytes::from_static(b": the token expired\n\n"),
        Output::TooSlow => Bytes::from_static(b": read too slowly\n\n"),
    }
}

fn put(text: &mut BytesMut, event: &Event) {
    for part in [&b"event: "[..], event.kind.as_bytes(), b"\ndata: ", &event.data] {
        text.extend_from_slice(part);
    }
    if let Some(id) = &event.id {
        text.extend_from_slice(b"\nid: ");
        text.extend_from_slice(id.as_bytes());
    }
    text.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_the_standard_has_it() {
        let event = |kind, id: Option<&str>| Event {
            kind,
            data: Bytes::from_static(b"{\"a\":1}"),
            id: id.map(Into::into),
        };
        let events = Output::Events(vec![event("put", None), event("remove", Some("s1"))]);
        let expected = "event: put\ndata: {\"a\":1}\n\nevent: remove\ndata: {\"a\":1}\nid: s1\n\n";
        assert_eq!(encode(events), expected);
        assert_eq!(encode(Output::Heartbeat(None)), ": heartbeat\n\n");
        let heartbeat = encode(Output::Heartbeat(Some("s2".into())));
        assert_eq!(heartbeat, ": heartbeat\nid: s2\n\n");
        let moved = encode(Output::Moved(event("moved", Some("s3"))));
        assert_eq!(moved, "event: moved\ndata: {\"a\":1}\nid: s3\n\n");
    }
}
