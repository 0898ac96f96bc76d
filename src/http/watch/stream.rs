//! What a watch sends: first what is there (all keys, or, with a session, what the session has not
//! seen, removals among it), then `ready`, then what changes. A client that has not seen removals
//! which are gone by now is sent `reset`, and then all that is there.
//!
//! The law: everything, once, and never back. What is sent of a state is each row with a write that
//! the client has not seen; only the last event of a state carries the state's session, so that a
//! client that is cut off in between starts again before it. A slow reader holds one state back at
//! most: while it reads that, newer ones collapse into one; and not for ever.

use std::collections::{BTreeSet, btree_set};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::leave::Leave;
use crate::config::{Row, Snapshot};
use crate::http::item;
use crate::http::limits::{Place, Who};
use crate::model::{DocumentId, Dot, Key, Session, Vector};
use crate::node::{Elsewhere, Feed, FeedEvent, Node};
use crate::planted::{Bug, is_planted};
use crate::telemetry::{Metrics, Shed, Watching};

/// A chunk ends once it has this many bytes of items.
const CHUNK_BYTES: usize = 64 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// `put`, `remove`, `reset`, `ready` or `moved`.
    pub(super) kind: &'static str,
    /// A JSON object without line breaks.
    pub(super) data: Bytes,
    /// The session of a client that has seen this event and all before it.
    pub(super) id: Option<Arc<str>>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// At least one.
    Events(Vec<Event>),
    /// A sign of life; with the session, where it moved and no event told it.
    Heartbeat(Option<Arc<str>>),
    /// The last event: the client is to go elsewhere, and is told where. The node drains, or can't
    /// go on.
    Moved(Event),
    /// The token that opened the watch, or what it allowed, holds no longer.
    Expired,
    /// The client read one state for too long: reconnect with the last id.
    TooSlow,
}

/// What a watch starts from.
pub(super) struct Start {
    pub(super) document: DocumentId,
    pub(super) prefix: String,
    pub(super) leave: Leave,
    /// Subscribed to before `snapshot` was taken.
    pub(super) feed: Feed,
    pub(super) node: Node,
    pub(super) snapshot: Arc<Snapshot>,
    /// What the client has seen, if it resumes.
    pub(super) since: Option<Vector>,
    pub(super) heartbeat_every: Duration,
    pub(super) expires_in: Duration,
    pub(super) stop: tokio::sync::watch::Receiver<bool>,
    /// Longest that the client may take to read one state.
    pub(super) lag_max: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// Of the node's, and of the client's.
    pub(super) places: (OwnedSemaphorePermit, Place<Who>),
}

/// One watch.
pub(super) struct Watch {
    filter: Filter,
    feed: Feed,
    /// Knows where else a client can go.
    node: Node,
    /// What the client has seen once it has read all that was handed out.
    seen: Vector,
    batch: Option<Batch>,
    /// `seen` moved, and no event has told the client.
    untold: bool,
    heartbeat: Interval,
    expires_at: Instant,
    stop: tokio::sync::watch::Receiver<bool>,
    lag_max: Duration,
    metrics: Arc<Metrics>,
    _counted: Watching,
    _places: (OwnedSemaphorePermit, Place<Who>),
}

struct Filter {
    document: DocumentId,
    prefix: String,
    leave: Leave,
    /// Whether removals are sent: not in the first state of a client that has seen nothing.
    removals: bool,
}

/// A state on its way to the client.
struct Batch {
    snapshot: Arc<Snapshot>,
    keys: Keys,
    /// The last event found, held back until it is known whether it is the batch's last.
    held: Option<Event>,
    /// Whether `ready` ends it.
    is_first: bool,
    /// Whether it is all there is, for a client that is to forget what it had.
    is_reset: bool,
    /// That has been said.
    reset_said: bool,
    /// When its client will have had it for too long.
    due: Instant,
}

/// Which keys of the state are looked at.
enum Keys {
    /// These.
    These(btree_set::IntoIter<Key>),
    /// All behind this one.
    Behind(Option<Key>),
}

impl Watch {
    pub(super) fn new(start: Start) -> Self {
        let mut heartbeat = tokio::time::interval(start.heartbeat_every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, where there are events to send.
        heartbeat.reset();
        let now = Instant::now();
        let far = Duration::from_secs(365 * 24 * 3600);
        let is_resumed = start.since.is_some();
        let mut seen = start.since.unwrap_or_default();
        if is_resumed && is_planted(Bug::ResumeOneLate) {
            let unseen = start.snapshot.vector.iter().find(|last| !seen.includes(*last));
            unseen.into_iter().for_each(|last| {
                let n = seen.get(last.origin) + 1;
                seen.advance(Dot { n, ..last });
            });
        }
        let view = start.snapshot.document(&start.document);
        let is_reset = is_resumed && view.is_some_and(|view| view.is_reset_for(&seen));
        Self {
            filter: Filter {
                document: start.document,
                prefix: start.prefix,
                leave: start.leave,
                removals: is_resumed,
            },
            feed: start.feed,
            node: start.node,
            seen,
            batch: Some(Batch {
                snapshot: start.snapshot,
                keys: Keys::Behind(None),
                held: None,
                is_first: true,
                is_reset,
                reset_said: false,
                due: now + start.lag_max,
            }),
            untold: false,
            heartbeat,
            expires_at: now + start.expires_in.min(far),
            stop: start.stop,
            lag_max: start.lag_max,
            _counted: start.metrics.watching(),
            metrics: start.metrics,
            _places: start.places,
        }
    }

    /// What comes next. Loses nothing when it is dropped while it waits.
    pub(super) async fn next(&mut self) -> Output {
        loop {
            if let Some(batch) = &self.batch {
                let now = Instant::now();
                // A slow reader may not stretch a state over its token's end.
                if now >= self.expires_at || !self.filter.leave.holds() {
                    return Output::Expired;
                }
                if now >= batch.due {
                    self.metrics.shed(Shed::SlowWatch);
                    return Output::TooSlow;
                }
                let events = self.take();
                if !events.is_empty() {
                    return Output::Events(events);
                }
                continue;
            }
            let stopped = async {
                // The sender is gone: that is a stop, too.
                let _ = self.stop.wait_for(|stop| *stop).await;
            };
            let event = tokio::select! {
                biased;
                () = stopped => return Output::Moved(self.moved()),
                () = tokio::time::sleep_until(self.expires_at) => return Output::Expired,
                () = self.filter.leave.lost() => return Output::Expired,
                _ = self.heartbeat.tick() => {
                    let told = std::mem::take(&mut self.untold);
                    return Output::Heartbeat(told.then(|| session(&self.seen)));
                }
                event = self.feed.next() => event,
            };
            let (snapshot, keys) = match event {
                FeedEvent::Closed => return Output::Moved(self.moved()),
                FeedEvent::Keys { keys, snapshot } => (snapshot, self.filter.keys(keys)),
                FeedEvent::Lagged { snapshot } => (snapshot, Keys::Behind(None)),
            };
            let view = snapshot.document(&self.filter.document);
            let is_reset = view.is_some_and(|view| view.is_reset_for(&self.seen));
            let keys = if is_reset { Keys::Behind(None) } else { keys };
            self.batch = Some(Batch {
                snapshot,
                keys,
                held: None,
                is_first: false,
                is_reset,
                reset_said: false,
                due: Instant::now() + self.lag_max,
            });
        }
    }

    /// Tells the client where to go on, and from what: it has been handed out all of `seen`.
    fn moved(&self) -> Event {
        let session = session(&self.seen);
        let reason = if self.node.has_failed() { "failed" } else { "draining" };
        let moved = Moved { reason, session: &session, nodes: self.node.elsewhere() };
        let data = serde_json::to_vec(&moved).unwrap_or_default().into();
        Event { kind: "moved", data, id: Some(session) }
    }

    /// Events of the batch, as many as fit into a chunk; none where it ended without any.
    fn take(&mut self) -> Vec<Event> {
        let Some(mut batch) = self.batch.take() else { return Vec::new() };
        let (mut events, mut bytes) = (Vec::new(), 0);
        if batch.is_reset && !std::mem::replace(&mut batch.reset_said, true) {
            batch.held = Some(Event { kind: "reset", data: Bytes::from_static(b"{}"), id: None });
        }
        while let Some(event) = batch.next(&self.filter, &self.seen) {
            bytes += event.data.len();
            events.extend(batch.held.replace(event));
            if bytes >= CHUNK_BYTES && !events.is_empty() {
                self.batch = Some(batch);
                return events;
            }
        }
        events.extend(batch.held.take());
        if batch.is_first {
            let data = Bytes::from_static(b"{}");
            events.push(Event { kind: "ready", data, id: None });
            self.filter.removals = true;
        }
        let moved = !self.seen.covers(&batch.snapshot.vector);
        let is_whole = batch.snapshot.vector.covers(&self.seen);
        self.seen.merge(&batch.snapshot.vector);
        if let Some(last) = events.last_mut() {
            // What a resuming client had seen elsewhere stays seen.
            let session =
                if is_whole { batch.snapshot.session().clone() } else { session(&self.seen) };
            last.id = Some(session);
            self.untold = false;
        } else {
            self.untold |= moved;
        }
        events
    }
}

/// Why a watch ends here and where it can go on.
#[derive(Serialize, JsonSchema)]
pub(in crate::http) struct Moved<'a> {
    /// `draining` or `failed`.
    reason: &'static str,
    /// What the client has seen.
    session: &'a str,
    /// Who is ready, the nearest first.
    nodes: Vec<Elsewhere>,
}

fn session(seen: &Vector) -> Arc<str> {
    Session::of(seen.told()).encode().into()
}

impl Filter {
    fn includes(&self, key: &Key) -> bool {
        key.as_str().starts_with(&self.prefix) && self.leave.permit().includes(key)
    }

    fn keys(&self, mut keys: BTreeSet<Key>) -> Keys {
        keys.retain(|key| self.includes(key));
        Keys::These(keys.into_iter())
    }

    /// The event of a row that the client has not seen; it has seen nothing where it was told to
    /// forget all.
    fn event(&self, key: &Key, row: &Row, seen: Option<&Vector>) -> Option<Event> {
        let removed = row.winner().is_removal();
        let is_seen = match seen {
            Some(seen) => row.is_included_in(seen) || (removed && !self.removals),
            None => removed,
        };
        if is_seen {
            return None;
        }
        let kind = if removed { "remove" } else { "put" };
        Some(Event { kind, data: item::json(&self.document, key, row), id: None })
    }
}

impl Batch {
    fn next(&mut self, filter: &Filter, seen: &Vector) -> Option<Event> {
        let view = self.snapshot.document(&filter.document)?;
        let seen = (!self.is_reset).then_some(seen);
        match &mut self.keys {
            Keys::These(keys) => {
                keys.find_map(|key| filter.event(&key, view.rows.get(&key)?, seen))
            }
            Keys::Behind(place) => {
                let from = place.take().map_or(Unbounded, Excluded);
                let mut rows = view.rows.range((from, Unbounded));
                let found = rows.find_map(|(key, row)| {
                    let event = filter.includes(key).then(|| filter.event(key, row, seen));
                    event.flatten().map(|event| (key.clone(), event))
                });
                match found {
                    Some((key, event)) => {
                        *place = Some(key);
                        Some(event)
                    }
                    None => {
                        self.keys = Keys::These(BTreeSet::new().into_iter());
                        None
                    }
                }
            }
        }
    }
}
