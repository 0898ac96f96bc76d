//! What clients do: each is a future that asks one node after another, waits, and records what it
//! was told. How often is the scenario's; what is drawn comes from the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use super::clients::Clients;
use super::history::{Answer, Call, Event, Outcome, Request};
use super::http::HttpClient;
use super::recorder::Recorder;
use super::scenario::Workload;
use super::wire::{self, Carried};
use crate::model::{NodeName, RegionName, Session};

mod access;
mod configs;
pub(crate) mod operate;
mod secrets;
mod sessions;
mod watches;

pub(crate) use watches::MOVED;

/// How long a client waits for an answer about configurations.
pub(crate) const CONFIG_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client waits for an answer that takes the quorum.
pub(crate) const QUORUM_TIMEOUT: Duration = Duration::from_secs(8);

/// Where clients find what they need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site(Arc<Inner>);

struct Inner {
    clients: Clients,
    recorder: Recorder,
    workload: Workload,
    /// The regions whose clients work, with their nodes.
    regions: BTreeMap<RegionName, Vec<NodeName>>,
    /// Allows everything.
    token: String,
    /// What secret values begin with, so that they can be looked for.
    canary: String,
    seed: u64,
    accounts: Vec<Account>,
    /// True from the moment on when clients are to end.
    stop: watch::Receiver<bool>,
}

/// An account that was made for the run.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) client_secret: String,
}

/// What a site is made of.
pub(crate) struct Parts {
    pub(crate) clients: Clients,
    pub(crate) recorder: Recorder,
    pub(crate) workload: Workload,
    pub(crate) regions: BTreeMap<RegionName, Vec<NodeName>>,
    pub(crate) token: String,
    pub(crate) canary: String,
    pub(crate) seed: u64,
    pub(crate) accounts: Vec<Account>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Site {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { clients, recorder, workload, regions, token, canary, seed, accounts, stop } =
            parts;
        Self(Arc::new(Inner {
            clients,
            recorder,
            workload,
            regions,
            token,
            canary,
            seed,
            accounts,
            stop,
        }))
    }

    /// The same for clients that end with another stop.
    pub(crate) fn again(&self, stop: watch::Receiver<bool>) -> Self {
        let inner = &self.0;
        Self(Arc::new(Inner {
            clients: inner.clients.clone(),
            recorder: inner.recorder.clone(),
            workload: inner.workload.clone(),
            regions: inner.regions.clone(),
            token: inner.token.clone(),
            canary: inner.canary.clone(),
            seed: inner.seed,
            accounts: inner.accounts.clone(),
            stop,
        }))
    }

    /// Starts all of the scenario's clients.
    pub(crate) fn start(&self) {
        for (number, region) in self.0.regions.keys().enumerate() {
            configs::start(self, region);
            secrets::start(self, region);
            watches::start(self, region);
            if number == 0 {
                access::start(self, region);
            }
        }
        sessions::start(self);
    }

    /// Runs a client. It begins no request after the stop; what it has begun, it ends.
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        region: &RegionName,
        client: impl FnOnce(Caller) -> F,
    ) {
        self.0.clients.spawn(client(self.caller(region)));
    }

    /// Runs a client for each kind of step that is done at all: how often by all regions together,
    /// and which.
    fn spawn_each(
        &self,
        region: &RegionName,
        rates: impl IntoIterator<Item = (f64, u32)>,
        step: for<'a> fn(&'a mut Caller, u32) -> BoxFuture<'a, ()>,
    ) {
        for (rate, kind) in rates {
            let rate = self.share(rate);
            if rate <= 0.0 {
                continue;
            }
            self.spawn(region, |mut caller| async move {
                loop {
                    caller.pause(rate).await;
                    step(&mut caller, kind).await;
                }
            });
        }
    }

    /// A client in `region`.
    pub(crate) fn caller(&self, region: &RegionName) -> Caller {
        let number = self.0.recorder.next_client();
        Caller {
            http: HttpClient::new(&self.0.clients, number),
            rng: StdRng::seed_from_u64(self.0.seed ^ (u64::from(number) << 32)),
            token: self.0.token.clone(),
            account: None,
            session: None,
            told: serde_json::Value::Null,
            region: region.clone(),
            number,
            site: self.clone(),
        }
    }

    fn workload(&self) -> &Workload {
        &self.0.workload
    }

    /// A region's part of a rate of all clients.
    fn share(&self, rate: f64) -> f64 {
        rate / self.0.regions.len().max(1) as f64
    }
}

/// A client: one request at a time.
pub(crate) struct Caller {
    site: Site,
    number: u32,
    /// Where it is.
    region: RegionName,
    http: HttpClient,
    rng: StdRng,
    token: String,
    account: Option<String>,
    session: Option<String>,
    /// The body of the last answer to [`Request::Operate`].
    told: serde_json::Value,
}

/// How a request is sent.
#[derive(Clone, Copy, Default)]
struct How<'a> {
    with_session: bool,
    idempotency_key: Option<&'a str>,
    client_secret: &'a str,
}

impl Caller {
    /// A node of the client's region.
    fn node(&mut self) -> Option<NodeName> {
        let nodes = self.site.0.regions.get(&self.region)?;
        nodes.choose(&mut self.rng).cloned()
    }

    /// Goes to any region.
    fn travel(&mut self) {
        let regions: Vec<&RegionName> = self.site.0.regions.keys().collect();
        if let Some(region) = regions.choose(&mut self.rng) {
            self.region = (*region).clone();
        }
    }

    /// Waits as long as lies between two requests at `rate` a second; for ever at none, and after
    /// the stop.
    async fn pause(&mut self, rate: f64) {
        if rate > 0.0 {
            let factor: f64 = self.rng.random_range(0.5..1.5);
            tokio::time::sleep(Duration::from_secs_f64(factor / rate)).await;
            if !*self.site.0.stop.borrow() {
                return;
            }
        }
        std::future::pending().await
    }

    /// A value that nobody else writes.
    fn value(&self) -> String {
        let number = self.site.0.recorder.next_value();
        let mut value = format!("v{number}");
        let len = self.site.workload().value_bytes as usize;
        while value.len() < len {
            value.push('.');
        }
        value
    }

    fn document(&mut self) -> String {
        let number = self.rng.random_range(0..self.site.workload().documents.max(1));
        format!("service-{number}/prod")
    }

    /// A key, the first ones more often than the last.
    fn key(&mut self) -> String {
        let (keys, skew) = (self.site.workload().keys.max(1), self.site.workload().key_skew);
        let weight = |rank: u32| 1.0 / f64::from(rank + 1).powf(skew);
        let mut left = self.rng.random_range(0.0..1.0) * (0..keys).map(weight).sum::<f64>();
        let mut key = 0;
        while key + 1 < keys && left > weight(key) {
            left -= weight(key);
            key += 1;
        }
        format!("key-{key}")
    }

    /// Asks a node of the region, and records call and answer.
    async fn ask(&mut self, request: Request, how: How<'_>, within: Duration) -> Outcome {
        let Some(node) = self.node() else { return std::future::pending().await };
        self.ask_at(&node, request, how, within).await
    }

    async fn ask_at(
        &mut self,
        node: &NodeName,
        request: Request,
        how: How<'_>,
        within: Duration,
    ) -> Outcome {
        let op = self.record_call(node, &request, how);
        let session = self.session.clone().filter(|_| how.with_session);
        let carried = Carried {
            token: &self.token,
            session: session.as_deref(),
            idempotency_key: how.idempotency_key,
            client_secret: how.client_secret,
        };
        let answer = match wire::to_http(&request, &carried) {
            Ok(http) => self.http.send(node, http, within).await,
            Err(error) => Err(error),
        };
        let outcome = wire::outcome(&request, &answer);
        self.record_answer(op, &outcome);
        if let Ok(answer) = answer {
            if how.with_session
                && let Some(session) = answer.headers.get("holm-session")
                && let Ok(session) = session.to_str()
            {
                self.include(session);
            }
            if matches!(request, Request::Operate { .. }) {
                self.told = serde_json::from_slice(&answer.body).unwrap_or_default();
            }
            if matches!((&request, &outcome), (Request::TokenIssue { .. }, Outcome::Done)) {
                let body: serde_json::Value =
                    serde_json::from_slice(&answer.body).unwrap_or_default();
                body["access_token"].as_str().unwrap_or_default().clone_into(&mut self.token);
            }
        }
        outcome
    }

    fn record_call(&self, node: &NodeName, request: &Request, how: How<'_>) -> u64 {
        let op = self.site.0.recorder.next_call();
        let call = Call {
            op,
            client: self.number,
            node: node.to_string(),
            region: self.region.to_string(),
            has_session: how.with_session,
            account: self.account.clone(),
            idempotency_key: how.idempotency_key.map(str::to_owned),
            request: request.clone(),
        };
        self.record(Event::Call(call));
        op
    }

    fn record_answer(&self, op: u64, outcome: &Outcome) {
        self.record(Event::Answer(Answer { op, outcome: outcome.clone() }));
    }

    fn record(&self, event: Event) {
        self.site.0.recorder.add(self.site.0.clients.now_us(), event);
    }

    /// The session from here on includes `text`, too.
    fn include(&mut self, text: &str) {
        let known = self.session.as_deref().and_then(|known| Session::decode(known).ok());
        self.session = match (known, Session::decode(text)) {
            (Some(mut known), Ok(new)) => {
                known.config.merge(&new.config);
                known.quorum = known.quorum.max(new.quorum);
                Some(known.encode())
            }
            _ => Some(text.to_owned()),
        };
    }
}
