//! What keeps a node standing under more load than it can serve: each client's rate, how much is
//! under way at once, and how much memory bodies and answers hold. What is past a limit is refused
//! at once, counted, and told when to ask again; nothing waits in a queue without bound.
//!
//! Changes are shed early, because they wait for the disk; reads late, because they come from
//! memory; questions about health and the cluster never, because they are asked when it matters.

mod bodies;
mod clients;
mod gcra;
mod places;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::App;
use super::edge::Remote;
use super::error::ApiError;
use super::operation::Operation;
use crate::access::{Caller, Identity};
use crate::model::{Id, Text};
use crate::settings::Settings;
use crate::telemetry::Shed;

use bodies::{GivenUp, Held, When};
use clients::{Clients, Kind};
use gcra::Rate;
pub(super) use places::{Place, Places};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How full the store's queue may be before changes are shed, in percent.
const QUEUED_PERCENT_MAX: usize = 50;
/// How long the answer to a change waits for room: the change is done, so that refusing it would
/// say something wrong.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// One node's limits, and how far they are used up.
pub(super) struct Gate {
    started: Instant,
    callers: Clients<Who>,
    strangers: Clients<Address>,
    requests: Arc<Semaphore>,
    requests_max: usize,
    writes: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    answers_kib_max: u32,
    body_bytes_per_second_min: usize,
    /// Of each client.
    pub(super) watches: Arc<Places<Who>>,
    /// Of each address.
    pub(super) connections: Arc<Places<Address>>,
}

/// What a client with a good token is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    Account(Id),
    Subject(Text),
}

impl Who {
    pub(super) fn of(caller: &Caller) -> Self {
        match caller.identity() {
            Identity::Account(id, _) => Self::Account(*id),
            Identity::External(..) => Self::Subject(caller.principal().clone()),
        }
    }
}

/// What a client without one is known by: its address, or its network, where one client can have
/// as many addresses as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address(u128);

impl Address {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => Self(ip.to_bits() >> 64 << 64),
        }
    }
}

/// How a client stands with its rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// What it is called: `reads`, `writes` or `strangers`.
    pub(super) policy: &'static str,
    /// Most at once.
    pub(super) burst: u32,
    /// Seconds in which the burst comes back.
    pub(super) window_s: u64,
    pub(super) left: u32,
    /// Seconds until all of the burst is there again.
    pub(super) full_in_s: u64,
    /// Seconds until there is one more, at least 1.
    pub(super) retry_after_s: u64,
}

impl Quota {
    /// The fields of draft-ietf-httpapi-ratelimit-headers-11. `t` is how long no more than `r` may be
    /// counted on: where nothing is left, until there is something, which is not later than
    /// `Retry-After`; else until the burst is back, so that nobody takes `r` by `t` for more than the
    /// rate.
    pub(super) fn headers(&self, headers: &mut HeaderMap) {
        let Self { policy, burst, window_s, left, full_in_s, retry_after_s } = self;
        let effective_s = if *left == 0 { retry_after_s } else { full_in_s };
        let fields = [
            (RATELIMIT_POLICY, format!("\"{policy}\";q={burst};w={window_s}")),
            (RATELIMIT, format!("\"{policy}\";r={left};t={effective_s}")),
        ];
        for (name, value) in fields {
            // Digits and a name of ours.
            headers.extend(HeaderValue::try_from(value).map(|value| (name, value)));
        }
    }

    fn shed(&self) -> Shed {
        match self.policy {
            "reads" => Shed::RateReads,
            "writes" => Shed::RateWrites,
            _ => Shed::RateStrangers,
        }
    }
}

/// A request's place among those under way, until it is dropped; a change has its with its body.
pub(super) struct Admitted<'a> {
    _request: Option<SemaphorePermit<'a>>,
}

fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024).min(Semaphore::MAX_PERMITS)
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        let (limits, rates) = (&settings.limits, &settings.rates);
        let reads = Rate::new(rates.reads_per_second, rates.reads_burst);
        let writes = Rate::new(rates.writes_per_second, rates.writes_burst);
        let strangers = Rate::new(rates.strangers_per_second, rates.strangers_burst);
        let requests_max = limits.requests_max.min(Semaphore::MAX_PERMITS);
        Self {
            started: Instant::now(),
            callers: Clients::new(reads, writes, rates.clients_max),
            strangers: Clients::new(strangers, None, rates.clients_max),
            requests: Arc::new(Semaphore::new(requests_max)),
            requests_max,
            writes: Arc::new(Semaphore::new(limits.writes_max.min(Semaphore::MAX_PERMITS))),
            bodies: Arc::new(Semaphore::new(kib(limits.bodies_bytes_max))),
            answers: Arc::new(Semaphore::new(kib(limits.answers_bytes_max))),
            answers_kib_max: u32::try_from(kib(limits.answers_bytes_max)).unwrap_or(u32::MAX),
            body_bytes_per_second_min: settings.http.body_bytes_per_second_min,
            watches: Places::new(limits.watchers_per_client_max),
            connections: Places::new(limits.connections_per_address_max),
        }
    }

    /// How many KiB of bodies find room.
    #[cfg(test)]
    pub(super) fn bodies_left(&self) -> usize {
        self.bodies.available_permits()
    }

    /// A place for a request, while the store's queue is full to so many percent. For a change it is
    /// only seen that there is one: it takes it once its body is there.
    fn admit(
        &self,
        operation: Operation,
        queued_percent: impl FnOnce() -> usize,
    ) -> Result<Admitted<'_>, Shed> {
        if operation.is_never_shed() {
            return Ok(Admitted { _request: None });
        }
        if !operation.is_change() {
            let request = self.requests.try_acquire().map_err(|_| Shed::LoadReads)?;
            return Ok(Admitted { _request: Some(request) });
        }
        let is_half_full = self.requests.available_permits() * 2 < self.requests_max;
        let is_full = is_half_full || self.writes.available_permits() == 0;
        if is_full || queued_percent() > QUEUED_PERCENT_MAX {
            return Err(Shed::LoadWrites);
        }
        Ok(Admitted { _request: None })
    }

    /// Counts a request towards its client's rate: how it stands then where that is worth telling,
    /// or, as the error, that it asks too often.
    fn charge(
        &self,
        operation: Operation,
        caller: Option<&Caller>,
        remote: Option<Remote>,
        now: Instant,
    ) -> Result<Option<Quota>, Quota> {
        if operation.is_about_health() {
            return Ok(None);
        }
        let now_ns = now.saturating_duration_since(self.started).as_nanos();
        let now_ns = u64::try_from(now_ns).unwrap_or(u64::MAX);
        let (policy, rate, taken) = match caller {
            Some(caller) => {
                let (policy, kind) = match operation.is_read() {
                    true => ("reads", Kind::Read),
                    false => ("writes", Kind::Write),
                };
                let taken = self.callers.take(&Who::of(caller), kind, now_ns);
                (policy, self.callers.rate(kind), taken)
            }
            None => {
                let address = remote.map_or(Address(0), |remote| Address::of(remote.address.ip()));
                let taken = self.strangers.take(&address, Kind::Read, now_ns);
                ("strangers", self.strangers.rate(Kind::Read), taken)
            }
        };
        let (Some(rate), Some(taken)) = (rate, taken) else { return Ok(None) };
        let quota = |left, full_in_ns| Quota {
            policy,
            burst: rate.burst(),
            window_s: seconds(rate.window_ns()).max(1),
            left,
            full_in_s: seconds(full_in_ns),
            retry_after_s: seconds(rate.next_in_ns(full_in_ns)).max(1),
        };
        match taken {
            // Most requests are far from it, and need no two headers more.
            Ok(left) if left.tokens >= rate.burst() / 2 => Ok(None),
            Ok(left) => Ok(Some(quota(left.tokens, left.full_in_ns))),
            Err(empty) => Err(quota(0, empty.full_in_ns)),
        }
    }

    /// The body of a request, within the node's budgets and at the least rate.
    fn received(&self, operation: Operation, body: Body) -> (Body, Option<Arc<Held>>) {
        if operation.is_read() {
            return (body, None);
        }
        let places = match operation.is_change() && !operation.is_never_shed() {
            true => vec![self.writes.clone(), self.requests.clone()],
            false => vec![],
        };
        let rooms = bodies::Rooms { bodies: self.bodies.clone(), places };
        let when = if operation.takes_body() { When::AtEnd } else { When::AtOnce };
        let (body, held) = bodies::received(body, rooms, when, self.body_bytes_per_second_min);
        (body, Some(held))
    }
}

impl Operation {
    /// Whether a watchdog or a balancer asks it: it is counted towards nobody's rate.
    fn is_about_health(self) -> bool {
        matches!(self, Self::GetHealth | Self::GetReady | Self::GetMetrics)
    }

    /// Whether it is answered however much there is to do.
    fn is_never_shed(self) -> bool {
        let of_cluster = matches!(
            self,
            Self::GetCluster | Self::GetReceipts | Self::GetQuorum | Self::ChangeQuorum
        );
        self.is_about_health() || of_cluster
    }

    /// Whether it waits for the disk, or a majority's. Without tokens there are no reads.
    fn is_change(self) -> bool {
        !self.is_read() && self != Self::IssueToken
    }

    /// Whether its handler asks for the body: what one that does not is sent stays unread.
    fn takes_body(self) -> bool {
        matches!(
            self,
            Self::Post
                | Self::PutKey
                | Self::PatchKey
                | Self::Restore
                | Self::CreateAccount
                | Self::UpdateAccount
                | Self::AddCredential
                | Self::CreateRole
                | Self::UpdateRole
                | Self::PostSecret
                | Self::RotateKeys
                | Self::PutHistoryPolicy
                | Self::IssueToken
        )
    }
}

/// A place for the request, or why there is none.
pub(super) fn admit(app: &App, operation: Operation) -> Result<Admitted<'_>, ApiError> {
    app.0.gate.admit(operation, || app.node().queued_percent()).map_err(|shed| {
        app.node().metrics().shed(shed);
        ApiError::Overloaded
    })
}

/// Counts the request towards its client's rate. Who has no good token is told how it stands with
/// its address's, in place of why the token is not good, once it asks too often.
pub(super) fn charge(
    app: &App,
    operation: Operation,
    (caller, remote): (Option<&Caller>, Option<Remote>),
    now: Instant,
) -> Result<Option<Quota>, ApiError> {
    app.0.gate.charge(operation, caller, remote, now).map_err(|quota| {
        app.node().metrics().shed(quota.shed());
        ApiError::TooManyRequests(quota)
    })
}

/// The request's body, and what it holds until the request is answered.
pub(super) fn received(
    app: &App,
    operation: Operation,
    body: Body,
) -> Result<(Body, Option<Arc<Held>>), ApiError> {
    let (body, held) = app.0.gate.received(operation, body);
    given_up(app, held.as_deref()).map(|()| (body, held))
}

/// What a request came to, with what became of its body: a handler that did not get all of it has
/// done nothing.
pub(super) fn settle(
    app: &App,
    result: Result<Response, ApiError>,
    held: Option<Arc<Held>>,
) -> Result<Response, ApiError> {
    given_up(app, held.as_deref())?;
    if matches!(result, Err(ApiError::RequestTooSlow)) {
        app.node().metrics().shed(Shed::SlowBody);
    }
    result
}

fn given_up(app: &App, held: Option<&Held>) -> Result<(), ApiError> {
    let Some(why) = held.and_then(Held::given_up) else { return Ok(()) };
    let (shed, error) = match why {
        GivenUp::NoRoom => (Shed::BodyBytes, ApiError::Overloaded),
        GivenUp::NoPlace => (Shed::LoadWrites, ApiError::Overloaded),
        GivenUp::TooSlow => (Shed::SlowBody, ApiError::RequestTooSlow),
    };
    app.node().metrics().shed(shed);
    Err(error)
}

/// Whether an answer has to find room in the node's budget of what waits to be sent. The small ones
/// of what is never shed do not, wherever they go.
pub(super) fn takes_room(operation: Operation, beside_others: bool, response: &Response) -> bool {
    let beside_others = beside_others && !operation.is_never_shed();
    bodies::answer_kib(response.body(), beside_others, u32::MAX) > 0
}

/// The answer, within that budget: refused where there is no room, save what is never shed.
pub(super) async fn send(
    app: &App,
    operation: Operation,
    beside_others: bool,
    response: Response,
) -> Response {
    let kib = bodies::answer_kib(response.body(), beside_others, app.0.gate.answers_kib_max);
    let answers = app.0.gate.answers.clone();
    let (place, otherwise) = if operation.is_read() {
        (answers.try_acquire_many_owned(kib).ok(), ApiError::Overloaded)
    } else {
        let place = tokio::time::timeout(ANSWER_WAIT, answers.acquire_many_owned(kib)).await;
        (place.ok().and_then(Result::ok), ApiError::TimedOut)
    };
    if place.is_none() && !operation.is_never_shed() {
        app.node().metrics().shed(Shed::AnswerBytes);
        return otherwise.into_response();
    }
    let (grace, metrics) = (app.settings().http.write_timeout, app.node().metrics().clone());
    response.map(|body| bodies::sent(body, place, grace, metrics))
}

/// What is made while it is sent, where whoever takes it does so at the least rate.
pub(super) fn paced<E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static>(
    app: &App,
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Body {
    let (grace, metrics) = (app.settings().http.write_timeout, app.node().metrics().clone());
    Body::from_stream(bodies::paced(stream, grace, metrics))
}

#[cfg(test)]
mod tests;
