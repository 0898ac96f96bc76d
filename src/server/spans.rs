//! Sends spans of requests to a collector, some at a time, beside everything else: a collector that
//! is slow or gone costs spans and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::env::{Env, Fetch};
use crate::node::Node;
use crate::settings::TraceSettings;
use crate::telemetry::{Metrics, Resource, Span, Spans, span_request};

/// Most spans in one request.
const BATCH_MAX: usize = 512;
/// How long a span waits for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of its answer that are looked at.
const ANSWER_MAX: usize = 64 * 1024;

/// What sends spans.
pub(super) struct Export {
    queue: mpsc::Receiver<Span>,
    settings: TraceSettings,
    resource: Resource,
    metrics: Arc<Metrics>,
    env: Env,
}

/// Where spans are left and what sends them; nothing where the settings name no collector.
pub(super) fn open(node: &Node, env: &Env, settings: &TraceSettings) -> Option<(Spans, Export)> {
    settings.otlp_url.as_ref()?;
    let metrics = node.metrics().clone();
    let (spans, queue) = Spans::queue(metrics.clone());
    let resource = Resource { node: node.name().to_string(), region: node.region().to_string() };
    let (settings, env) = (settings.clone(), env.clone());
    Some((spans, Export { queue, settings, resource, metrics, env }))
}

impl Export {
    /// Sends what comes until `stop`, and then what waits, as long as it is taken.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut was_taken = true;
        loop {
            let mut batch = Vec::new();
            let stopped = async {
                // The sender is gone: that is a stop, too.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            let is_last = tokio::select! {
                biased;
                () = stopped => true,
                _ = self.queue.recv_many(&mut batch, BATCH_MAX) => batch.is_empty(),
            };
            if is_last {
                return self.finish(was_taken).await;
            }
            if batch.len() < BATCH_MAX {
                tokio::time::sleep(GATHER).await;
            }
            self.fill(&mut batch);
            was_taken = self.send(&batch, was_taken).await;
        }
    }

    /// Sends what waits. A collector that does not take it, or takes its time, is not waited for again.
    async fn finish(mut self, mut was_taken: bool) {
        self.queue.close();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut batch = Vec::new();
            self.fill(&mut batch);
            if batch.is_empty() {
                return;
            }
            was_taken = self.send(&batch, was_taken).await;
            if !was_taken || Instant::now() >= deadline {
                self.metrics.spans_done("dropped", self.queue.len());
                return;
            }
        }
    }

    fn fill(&mut self, batch: &mut Vec<Span>) {
        while batch.len() < BATCH_MAX
            && let Ok(span) = self.queue.try_recv()
        {
            batch.push(span);
        }
    }

    /// Whether it was taken. What the collector says is logged where that has changed.
    async fn send(&self, batch: &[Span], was_taken: bool) -> bool {
        let Some(url) = self.settings.otlp_url.as_deref() else { return true };
        let body = span_request(&self.resource, batch);
        let what = Fetch {
            url,
            post: Some(&body),
            ca_pem: self.settings.otlp_ca.as_deref(),
            bytes_max: ANSWER_MAX,
            timeout: TIMEOUT,
        };
        let sent = self.env.net.fetch(what).await;
        self.metrics.spans_done(if sent.is_ok() { "sent" } else { "failed" }, batch.len());
        match &sent {
            Err(error) if was_taken => {
                tracing::warn!(%error, "the collector does not take spans; they are dropped");
            }
            Ok(_) if !was_taken => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        sent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use futures_util::future::{BoxFuture, FutureExt as _, ready};

    use super::*;
    use crate::env::{HttpListener, MemoryDisk, Network, Service};
    use crate::model::{NodeName, Stamp};
    use crate::telemetry::TraceIds;

    /// A collector, which takes so many requests and no more, each in this time.
    struct Collector(Mutex<usize>, Duration);

    fn none<'a, T: Send + 'a>() -> BoxFuture<'a, io::Result<T>> {
        ready(Err(io::ErrorKind::Unsupported.into())).boxed()
    }

    impl Network for Collector {
        fn udp(&self, _: &NodeName, _: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HttpListener>>> {
            none()
        }

        fn fetch<'a>(&'a self, _: Fetch<'a>) -> BoxFuture<'a, io::Result<Vec<u8>>> {
            let mut left = self.0.lock().unwrap();
            let Some(now) = left.checked_sub(1) else { return none() };
            *left = now;
            tokio::time::sleep(self.1).map(|()| Ok(Vec::new())).boxed()
        }

        fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            none()
        }

        fn lookup_service<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<Service>>> {
            none()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_waits_is_sent_at_the_stop_or_counted_as_dropped() {
        let span = Span {
            context: TraceIds::new([1, 2, 3]).enter(None),
            ended: Stamp(1_700_000_000_000_000),
            took: Duration::from_micros(250),
            method: "GET",
            route: "/config",
            status: 200,
            error: None,
        };
        let count = 3 * BATCH_MAX + 1;
        let slow = TIMEOUT * 2 / 3;
        for (takes, time, expected) in [
            (9, Duration::ZERO, [("sent", count), ("failed", 0), ("dropped", 0)]),
            (
                1,
                Duration::ZERO,
                [("sent", BATCH_MAX), ("failed", BATCH_MAX), ("dropped", BATCH_MAX + 1)],
            ),
            (9, slow, [("sent", 2 * BATCH_MAX), ("failed", 0), ("dropped", BATCH_MAX + 1)]),
        ] {
            let metrics = Arc::new(Metrics::new().unwrap());
            let (spans, queue) = Spans::queue(metrics.clone());
            for _ in 0..count {
                spans.leave(span.clone());
            }
            let mut env = Env::in_memory(MemoryDisk::new(), None);
            env.net = Arc::new(Collector(Mutex::new(takes), time));
            let otlp_url = Some("http://collector.test/v1/traces".to_owned());
            let settings = TraceSettings { otlp_url, ..TraceSettings::default() };
            let resource = Resource { node: "a-1".to_owned(), region: "a".to_owned() };
            let export = Export { queue, settings, resource, metrics: metrics.clone(), env };
            export.run(watch::channel(true).1).await;
            let text = metrics.render();
            for (result, count) in expected {
                let line = format!("holm_spans_total{{result=\"{result}\"}} {count}\n");
                assert!(text.contains(&line), "{line}{text}");
            }
        }
    }
}
