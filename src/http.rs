//! HTTP: what a client sees of a node. One file a resource, one table from errors to answers
//! (`error`), one door that every request comes through (`edge`): there it gets its id, its
//! caller, its time limit, its metrics and its line in the log.
//!
//! Nothing here decides what a write comes to or who wins: handlers read names, headers and bodies,
//! ask `access` for a permit and the node for the rest, and say what came of it. A permit comes
//! before anything that a caller may not know.

mod accounts;
mod ack;
mod audit;
mod backup;
mod body;
mod cluster;
mod config_key;
mod config_list;
mod config_write;
mod credentials;
mod discovery;
mod edge;
mod error;
mod etag;
mod explain;
mod health;
mod history;
pub mod item;
mod key_roles;
mod keys;
mod limits;
mod named;
mod oauth;
mod openapi;
mod operation;
mod page;
mod paths;
mod permit;
mod pieces;
mod propose;
mod query;
mod quorum;
mod resolve;
mod roles;
mod secrets;
mod server;
mod session;
mod versions;
mod watch;
mod write;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderName;
use axum::routing::any;
use rand::RngCore as _;
use tokio::sync::Semaphore;

use crate::access::Verifier;
use crate::env::{Entropy, Env};
use crate::node::Node;
use crate::quorum::Quorum;
use crate::registry;
use crate::settings::Settings;
use crate::telemetry::{Spans, TraceIds};

use edge::RequestIds;
use operation::{OperationMetrics, Route};

pub use server::{Door, serve, serve_behind};

const HOLM_ACK: HeaderName = HeaderName::from_static("holm-ack");
const HOLM_CHECK: HeaderName = HeaderName::from_static("holm-check");
const HOLM_INCONSISTENT: HeaderName = HeaderName::from_static("holm-inconsistent");
const HOLM_POLICY_AGE_MS: HeaderName = HeaderName::from_static("holm-policy-age-ms");
const HOLM_SESSION: HeaderName = HeaderName::from_static("holm-session");
const HOLM_WAIT: HeaderName = HeaderName::from_static("holm-wait");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Most client secrets that are hashed at once: each takes 19 MiB and a thread for a while.
const HASHING_MAX: usize = 4;

/// What all handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    node: Node,
    quorum: Quorum,
    verifier: Arc<Verifier>,
    settings: Arc<Settings>,
    env: Env,
    request_ids: RequestIds,
    trace_ids: TraceIds,
    /// Where spans are left, if they are sent anywhere.
    spans: Option<Spans>,
    metrics: OperationMetrics,
    /// One for each connection that may be open.
    connections: Arc<Semaphore>,
    gate: limits::Gate,
    /// One for each watch that may be open.
    watches: Arc<Semaphore>,
    /// One for each client secret that may be hashed at once.
    hashing: Arc<Semaphore>,
    /// The session that was told last.
    told: ArcSwap<session::Told>,
    /// Where tokens are asked for.
    desk: oauth::Desk,
    /// How all this is described.
    described: openapi::Described,
    /// Turns true when the node drains: watches end, and the server takes no more connections.
    stop: tokio::sync::watch::Receiver<bool>,
}

impl App {
    /// The HTTP side of `node`, with tokens checked by `verifier`; it drains once `stop` is true.
    pub fn new(
        node: Node,
        verifier: Arc<Verifier>,
        settings: Arc<Settings>,
        env: Env,
        stop: tokio::sync::watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Shared {
            request_ids: RequestIds::new(&env.entropy),
            trace_ids: trace_ids(&env.entropy),
            spans: None,
            metrics: OperationMetrics::default(),
            connections: Arc::new(Semaphore::new(settings.limits.connections_max)),
            gate: limits::Gate::new(&settings),
            watches: Arc::new(Semaphore::new(settings.limits.watchers_max)),
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            told: ArcSwap::default(),
            desk: oauth::Desk::new(
                &settings.access,
                node.cluster_id(),
                env.entropy.stream("token ids"),
            ),
            described: openapi::Described::default(),
            quorum: node.quorum().clone(),
            node,
            verifier,
            settings,
            env,
            stop,
        }))
    }

    /// The same, with a span of each request that is in the sample left at `spans`.
    pub(crate) fn exporting(mut self, spans: Spans) -> Self {
        // Nobody else has it yet.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.spans = Some(spans);
        }
        self
    }

    /// The same over another quorum.
    #[cfg(test)]
    pub(crate) fn over(self, quorum: Quorum) -> Self {
        let shared = Arc::into_inner(self.0).expect("nobody else has it yet");
        Self(Arc::new(Shared { quorum, ..shared }))
    }

    /// All routes.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for (path, route) in operation::ROUTES {
            let handler =
                move |State(app): State<Self>, request: Request| edge::answer(app, route, request);
            router = router.route(path, any(handler));
        }
        let unknown =
            |State(app): State<Self>, request: Request| edge::answer(app, Route::Unknown, request);
        router.fallback(unknown).with_state(self.clone())
    }

    fn node(&self) -> &Node {
        &self.0.node
    }

    fn quorum(&self) -> &Quorum {
        &self.0.quorum
    }

    /// What the quorum has decided, as this node has applied it.
    fn state(&self) -> arc_swap::Guard<Arc<registry::State>> {
        self.0.quorum.glance()
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }
}

fn trace_ids(entropy: &Entropy) -> TraceIds {
    let mut stream = entropy.stream("trace ids");
    TraceIds::new([(); 3].map(|()| stream.next_u64()))
}

#[cfg(test)]
mod tests;
