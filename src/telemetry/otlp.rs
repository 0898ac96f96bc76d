//! Requests as spans of OpenTelemetry: the protocol's JSON over HTTP
//! (<https://opentelemetry.io/docs/specs/otlp/>), which every collector takes, without the crates that
//! its other form would bring. Here it is put together; whoever sends it is in `server`.
//!
//! A span says of a request what its log line says, and no more: never a token, a value or a raw path.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Label};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::metrics::{Metrics, Registrar};
use super::trace::TraceContext;
use crate::model::Stamp;

/// Most spans that wait to be sent; what comes beside them is dropped, and counted.
const QUEUE_MAX: usize = 4_096;
/// What becomes of spans.
const RESULTS: [&str; 3] = ["sent", "dropped", "failed"];
/// The protocol's number for a span of a server.
const KIND_SERVER: u8 = 2;
/// The protocol's number for a span that ended in an error.
const STATUS_ERROR: u8 = 2;

/// One request, as it was answered.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its ids.
    pub context: TraceContext,
    /// When it was answered.
    pub ended: Stamp,
    /// How long that took.
    pub took: Duration,
    /// The method, as metrics name it.
    pub method: &'static str,
    /// The path's pattern.
    pub route: &'static str,
    /// The answer's status.
    pub status: u16,
    /// The error's name, where it is one.
    pub error: Option<&'static str>,
}

/// Who answered.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The node.
    pub node: String,
    /// Its region.
    pub region: String,
}

/// Where spans are left to be sent. Never waits.
#[derive(Clone)]
pub struct Spans {
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

impl Spans {
    /// A queue of spans, and where they come out.
    pub fn queue(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, out) = mpsc::channel(QUEUE_MAX);
        (Self { queue, metrics }, out)
    }

    /// Leaves a span to be sent, where there is room.
    pub fn leave(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans_done("dropped", 1);
        }
    }
}

/// The body of a request to a collector.
pub fn request(resource: &Resource, spans: &[Span]) -> String {
    let resource = [
        ("service.name", json!("holm")),
        ("service.version", json!(env!("CARGO_PKG_VERSION"))),
        ("service.instance.id", json!(resource.node)),
        ("cloud.region", json!(resource.region)),
    ];
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let scope = json!({"name": "holm", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes(resource)},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
    .to_string()
}

fn span(span: &Span) -> Value {
    let end = u128::from(span.ended.0) * 1_000;
    let start = end.saturating_sub(span.took.as_nanos());
    let mut of = vec![
        ("http.request.method", json!(span.method)),
        ("http.route", json!(span.route)),
        ("http.response.status_code", json!(span.status)),
    ];
    of.extend(span.error.map(|error| ("error.type", json!(error))));
    // By the conventions, a client's mistake is no error of the server's.
    let status = if span.status >= 500 { json!({"code": STATUS_ERROR}) } else { json!({}) };
    let mut value = json!({
        "traceId": span.context.trace_id().to_string(),
        "spanId": span.context.span_id().to_string(),
        "name": format!("{} {}", span.method, span.route),
        "kind": KIND_SERVER,
        // Numbers of 64 bits are text in the protocol's JSON.
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(of),
        "status": status,
    });
    if let Some(parent) = span.context.parent_id() {
        value["parentSpanId"] = json!(parent.to_string());
    }
    value
}

fn attributes(of: impl IntoIterator<Item = (&'static str, Value)>) -> Vec<Value> {
    let attribute = |(key, value): (&'static str, Value)| {
        let value = match value {
            Value::Number(number) => json!({"intValue": number.to_string()}),
            text => json!({"stringValue": text}),
        };
        json!({"key": key, "value": value})
    };
    of.into_iter().map(attribute).collect()
}

/// Handles of the metrics of spans.
pub(super) struct SpanMetrics(Vec<(&'static str, Counter)>);

impl SpanMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let counters = RESULTS.map(|result| {
            let what = "Spans for a collector: sent, dropped for want of room, or not taken.";
            (result, it.counter("holm_spans_total", what, vec![Label::new("result", result)]))
        });
        Self(counters.into())
    }
}

impl Metrics {
    /// So many spans were `sent`, `dropped` or `failed`.
    pub fn spans_done(&self, result: &str, count: usize) {
        if let Some((_, counter)) = self.spans.0.iter().find(|(name, _)| *name == result) {
            counter.increment(count as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::TraceIds;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn answered(status: u16, parent: Option<&str>) -> Span {
        Span {
            context: TraceIds::new([1, 2, 3]).enter(parent),
            ended: Stamp(1_700_000_000_000_000),
            took: Duration::from_micros(250),
            method: "GET",
            route: "/config",
            status,
            error: (status >= 400).then_some("StorageFailed"),
        }
    }

    #[test]
    fn a_span_is_as_the_protocol_writes_it() {
        let resource = Resource { node: "eu-1".to_owned(), region: "eu".to_owned() };
        let spans = [answered(200, None), answered(503, Some(PARENT))];
        let body: Value = serde_json::from_str(&request(&resource, &spans)).unwrap();
        let of = &body["resourceSpans"][0];
        let node = json!({"key": "service.instance.id", "value": {"stringValue": "eu-1"}});
        assert!(of["resource"]["attributes"].as_array().unwrap().contains(&node), "{body}");
        let [good, bad] = &of["scopeSpans"][0]["spans"].as_array().unwrap()[..] else { panic!() };
        assert_eq!(good["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(good["spanId"].as_str().unwrap().len(), 16);
        assert_eq!((good.get("parentSpanId"), &good["status"]), (None, &json!({})));
        assert_eq!(good["startTimeUnixNano"], "1699999999999750000");
        assert_eq!(good["endTimeUnixNano"], "1700000000000000000");
        assert_eq!((&good["name"], &good["kind"]), (&json!("GET /config"), &json!(2)));
        assert_eq!(bad["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(bad["parentSpanId"], "00f067aa0ba902b7");
        assert_eq!(bad["status"]["code"], 2);
        let status = json!({"key": "http.response.status_code", "value": {"intValue": "503"}});
        assert!(bad["attributes"].as_array().unwrap().contains(&status), "{bad}");
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (spans, _out) = Spans::queue(metrics.clone());
        for _ in 0..QUEUE_MAX + 3 {
            spans.leave(answered(200, None));
        }
        assert!(metrics.render().contains("holm_spans_total{result=\"dropped\"} 3"));
    }
}
