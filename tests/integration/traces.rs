//! A collector gets requests as spans: those of the sample, and what waits when a node stops. One that
//! does not answer costs spans and no request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;

use crate::cluster::{Cluster, eventually, http};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<String>>>,
    is_busy: Arc<AtomicBool>,
}

impl Collector {
    /// Starts it, and says where it is.
    async fn start(&self) -> String {
        let this = self.clone();
        let take = post(async move |body: String| {
            if this.is_busy.load(Ordering::Relaxed) {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            this.bodies.lock().unwrap().push(body);
            StatusCode::OK
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", take);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                });
            }
        });
        url
    }

    fn spans(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap().clone();
        let mut spans = Vec::new();
        for body in bodies {
            let body: Value = serde_json::from_str(&body).unwrap();
            let of = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
            spans.extend(of.as_array().unwrap().iter().cloned());
        }
        spans
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_samples_spans_and_its_absence_costs_no_request() {
    let collector = Collector::default();
    let url = collector.start().await;
    let mut cluster = Cluster::new(&["a"], 1);
    cluster.change_settings(|settings| {
        settings.traces.otlp_url = Some(url);
        settings.traces.sample = 0.0;
    });
    cluster.start_node("a").await;
    let put = async |flags: &str, path: &str| {
        let request = http().put(format!("{}{path}", cluster.url("a")));
        let request = request.header("content-type", "application/json").body("\"canary-value\"");
        let request = request.bearer_auth(cluster.token("config:*"));
        let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
        request.header("traceparent", traceparent).send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("00", "/config/web/prod/not-in-the-sample").await, 201);
    assert_eq!(put("01", "/config/web/prod/canary-key").await, 201);
    eventually("the span arrives", async || !collector.spans().is_empty()).await;
    let [span] = &collector.spans()[..] else { panic!("{:?}", collector.spans()) };
    assert_eq!(span["traceId"], TRACE);
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(span["name"], "PUT /config/{service}/{environment}/{key}");

    collector.is_busy.store(true, Ordering::Relaxed);
    assert_eq!(put("01", "/config/web/prod/b").await, 201);
    let metrics = async || {
        let metrics = http().get(format!("{}/metrics", cluster.url("a"))).send().await.unwrap();
        metrics.text().await.unwrap()
    };
    eventually("the loss is counted", async || {
        metrics().await.contains("holm_spans_total{result=\"failed\"} 1")
    })
    .await;
    assert!(metrics().await.contains("holm_spans_total{result=\"sent\"} 1"));

    collector.is_busy.store(false, Ordering::Relaxed);
    assert_eq!(put("01", "/config/web/prod/%F0%9F%92%A9").await, 400);
    cluster.stop("a").await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "what waited was sent on stopping: {spans:?}");
    assert_eq!(spans[1]["status"], serde_json::json!({}), "a client's mistake");
    let bodies = collector.bodies.lock().unwrap().concat();
    assert!(!bodies.contains("canary"), "{bodies}");
}
