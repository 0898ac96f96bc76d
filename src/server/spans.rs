//! Sends spans of requests to a collector, some at a time, beside everything else: a collector that
//! is slow or gone costs spans and nothing else.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::env::{Env, Fetch};
use crate::node::Node;
use crate::settings::TraceSettings;
use crate::telemetry::{Resource, Span, Spans, span_request};

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
    node: Node,
    env: Env,
}

/// Where spans are left and what sends them; nothing where the settings name no collector.
pub(super) fn open(node: &Node, env: &Env, settings: &TraceSettings) -> Option<(Spans, Export)> {
    settings.otlp_url.as_ref()?;
    let (spans, queue) = Spans::queue(node.metrics().clone());
    let resource = Resource { node: node.name().to_string(), region: node.region().to_string() };
    let (settings, node, env) = (settings.clone(), node.clone(), env.clone());
    Some((spans, Export { queue, settings, resource, node, env }))
}

impl Export {
    /// Sends what comes until `stop`, and then what waits.
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
            if !is_last && batch.len() < BATCH_MAX {
                tokio::time::sleep(GATHER).await;
            }
            while batch.len() < BATCH_MAX
                && let Ok(span) = self.queue.try_recv()
            {
                batch.push(span);
            }
            if !batch.is_empty() {
                was_taken = self.send(&batch, was_taken).await;
            }
            if is_last {
                return;
            }
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
        self.node.metrics().spans_done(if sent.is_ok() { "sent" } else { "failed" }, batch.len());
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
