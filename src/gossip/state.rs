//! What is known of the peers, and what follows: whom to pull from and when, who lags by how much,
//! who hears whom, how far the clock is off. It is told the time and everything else; it sends
//! nothing and reads no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use super::message::{Have, Others};
use crate::env::Stream;
use crate::model::vector::VECTOR_ORIGINS_MAX;
use crate::model::{NodeName, Origin, Stamp, Vector};
use crate::transport::hello::Hello;

/// A peer that said nothing for this long, or for three heartbeats, is not heard.
pub(super) const HEARD: Duration = Duration::from_secs(3);
/// A clock is judged by what its peer said at most this long ago.
const CLOCK_FRESH: Duration = Duration::from_secs(10);
/// Clock readings of a peer that are kept.
const CLOCK_SAMPLES: usize = 8;
/// The first pause after a pull that brought nothing, doubled with each.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The grace is given up to this more, so that nodes that miss the same don't ask together.
const GRACE_JITTER: Duration = Duration::from_millis(40);

/// What another of this region collects from a region elsewhere comes within this time, as long as
/// anything comes.
const COLLECTOR_PATIENCE: Duration = Duration::from_secs(1);
/// And within this time it comes at all, or is asked for.
const COLLECTOR_PATIENCE_MAX: Duration = Duration::from_secs(10);

/// All peers.
pub(super) struct State {
    own: NodeName,
    /// When this node's vector moved last.
    advanced_at: Option<Instant>,
    peers: BTreeMap<NodeName, Known>,
    jitter: Stream,
    grace: Duration,
    /// How long a peer counts as heard.
    heard: Duration,
}

/// One peer.
struct Known {
    /// What it has, as it or somebody who hears it said last.
    vector: Arc<Vector>,
    origin: Option<Origin>,
    /// Which start of it is spoken of; what an earlier one said is no news.
    instance: Option<u64>,
    heard_at: Option<Instant>,
    /// When somebody who hears it said last what it has.
    told_at: Option<Instant>,
    /// Whom it hears.
    hears: Arc<BTreeSet<NodeName>>,
    /// Whether it is ready, where this start of it has said so.
    ready: Option<bool>,
    /// Whether its clients have to speak HTTPS, where it has said so.
    https: Option<bool>,
    /// The nodes of this node's region in the order in which they had better ask it; none where it
    /// is of that region itself.
    collectors: Option<Vec<NodeName>>,
    /// The round trip, as measured last.
    rtt: Duration,
    /// Its clock less this node's, in microseconds.
    offsets: VecDeque<i64>,
    /// What it has and this node lacks.
    ahead: Option<Gap>,
    /// What this node has and it lacks.
    lag: Option<Gap>,
    /// Pulls that brought nothing, and until when not to try again.
    failures: u32,
    pause_until: Option<Instant>,
}

/// Something that is missing: everything in `target`, at this time.
struct Gap {
    target: Arc<Vector>,
    since: Instant,
    /// When to do something about it.
    due: Instant,
}

/// What a pull came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// It brought something.
    Something {
        /// The peer has more.
        more: bool,
    },
    /// It failed, or brought nothing that was new.
    Nothing,
}

/// What the puller should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Ask this peer.
    Pull(NodeName),
    /// Look again then.
    Wait(Instant),
    /// Nothing is missing.
    Idle,
}

/// What is known of a peer, for a status.
pub(super) struct Seen {
    pub(super) vector: Arc<Vector>,
    pub(super) origin: Option<Origin>,
    pub(super) heard_at: Option<Instant>,
    /// Whether it was heard or told of, and when last.
    pub(super) known_at: Option<Instant>,
    pub(super) hears: BTreeSet<NodeName>,
    pub(super) https: Option<bool>,
    pub(super) rtt: Duration,
    pub(super) rtt_measured: bool,
    pub(super) offset: Option<i64>,
    pub(super) lag_since: Option<Instant>,
}

impl State {
    pub(super) fn new(
        own: &NodeName,
        jitter: Stream,
        grace: Duration,
        heartbeat: Duration,
    ) -> Self {
        Self {
            own: own.clone(),
            advanced_at: None,
            peers: BTreeMap::new(),
            jitter,
            grace,
            heard: HEARD.max(3 * heartbeat),
        }
    }

    /// There is such a peer, at this expected distance. Where it is of another region, `collectors`
    /// are the nodes of this one in the order in which they had better ask it.
    pub(super) fn add(
        &mut self,
        peer: &NodeName,
        rtt: Duration,
        collectors: Option<Vec<NodeName>>,
    ) {
        let known = Known {
            vector: Arc::default(),
            origin: None,
            instance: None,
            heard_at: None,
            told_at: None,
            hears: Arc::default(),
            ready: None,
            https: None,
            collectors,
            rtt,
            offsets: VecDeque::new(),
            ahead: None,
            lag: None,
            failures: 0,
            pause_until: None,
        };
        self.peers.insert(peer.clone(), known);
    }

    /// There is no such peer any more.
    pub(super) fn remove(&mut self, peer: &NodeName) {
        self.peers.remove(peer);
    }

    /// In which order the nodes of this region had better ask that peer of another one.
    pub(super) fn collect(&mut self, peer: &NodeName, collectors: Vec<NodeName>) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.collectors = Some(collectors);
        }
    }

    /// Whether the peer is known to be in this start of it.
    pub(super) fn is_start(&self, peer: &NodeName, instance: u64) -> bool {
        self.peers.get(peer).is_some_and(|known| known.instance == Some(instance))
    }

    /// Whether the peer is heard, in another start of it than `instance`.
    pub(super) fn hears_other_start(&self, peer: &NodeName, instance: u64, now: Instant) -> bool {
        self.peers.get(peer).is_some_and(|known| {
            known.is_heard(now, self.heard) && known.instance != Some(instance)
        })
    }

    /// The peer said hello: what is missing now was not just pushed, so that nothing waits.
    pub(super) fn met(&mut self, peer: &NodeName, hello: &Hello, mine: &Arc<Vector>, now: Instant) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        if known.instance != Some(hello.instance) {
            // It may have lost what it had before.
            known.instance = Some(hello.instance);
            known.vector = Arc::new(hello.vector.read(&mine.folds()));
            known.ready = None;
            known.ahead = None;
            known.lag = None;
        } else {
            merge(&mut known.vector, &hello.vector.read(&mine.folds()));
        }
        known.origin = Some(hello.origin);
        known.https = hello.https;
        known.heard_at = Some(now);
        known.failures = 0;
        known.pause_until = None;
        if !mine.covers(&known.vector) {
            known.ahead = Some(Gap { target: known.vector.clone(), since: now, due: now });
        }
        known.update_lag(mine, now);
    }

    /// The peer said what it has; says whether that was news.
    pub(super) fn heard(
        &mut self,
        peer: &NodeName,
        instance: u64,
        have: &Have,
        mine: &Arc<Vector>,
        now: Instant,
    ) -> bool {
        let heard = self.heard;
        let names: BTreeMap<String, NodeName> =
            self.peers.keys().map(|name| (name.as_str().to_owned(), name.clone())).collect();
        let Some(known) = self.peers.get_mut(peer) else { return false };
        if known.instance != Some(instance) {
            return false;
        }
        known.heard_at = Some(now);
        if let Some(hears) = &have.hears {
            let names = hears.0.iter().filter_map(|name| NodeName::new(name).ok());
            known.hears = Arc::new(names.collect());
        }
        known.ready = have.ready.or(known.ready);
        let mut is_news = merge(&mut known.vector, &have.vector.read(&mine.folds()));
        known.update_lag(mine, now);
        for (name, vector) in &have.others.0 {
            let other = names.get(name).and_then(|name| self.peers.get_mut(name));
            let Some(other) = other.filter(|other| !other.is_heard(now, heard)) else { continue };
            is_news |= merge(&mut other.vector, &vector.read(&mine.folds()));
            other.told_at = Some(now);
            other.update_lag(mine, now);
        }
        is_news
    }

    /// The peer sent something, whatever it was.
    pub(super) fn alive(&mut self, peer: &NodeName, now: Instant) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.heard_at = Some(now);
        }
    }

    /// The peer's clock showed `theirs` when this node's showed `mine`, half a round trip later.
    pub(super) fn heard_clock(
        &mut self,
        peer: &NodeName,
        theirs: Stamp,
        mine: Stamp,
        rtt: Duration,
        now: Instant,
    ) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let micros = |stamp: Stamp| i64::try_from(stamp.0).unwrap_or(i64::MAX);
        let way = i64::try_from(rtt.as_micros() / 2).unwrap_or(i64::MAX);
        let offset = micros(theirs).saturating_sub(micros(mine)).saturating_add(way);
        if !known.is_heard(now, self.heard.max(CLOCK_FRESH)) {
            known.offsets.clear();
        }
        if known.offsets.len() == CLOCK_SAMPLES {
            known.offsets.pop_front();
        }
        known.offsets.push_back(offset);
        known.rtt = rtt;
    }

    /// This node's vector moved.
    pub(super) fn advanced(&mut self, mine: &Arc<Vector>, now: Instant) {
        self.advanced_at = Some(now);
        for known in self.peers.values_mut() {
            if !known.vector.is_understood() {
                known.vector = Arc::new(known.vector.read_by(&mine.folds()));
            }
            known.update_lag(mine, now);
        }
    }

    /// Those of this node's region that are heard, and whom each of them hears.
    fn near(&self, now: Instant) -> BTreeMap<NodeName, Arc<BTreeSet<NodeName>>> {
        let near = self
            .peers
            .iter()
            .filter(|(_, known)| known.collectors.is_none() && known.is_heard(now, self.heard));
        near.map(|(name, known)| (name.clone(), known.hears.clone())).collect()
    }

    /// Whom to pull from, of those that `is_reachable`: who has what was missing for longer than a
    /// push takes, the nearest first. From another region one node of this one collects, and the
    /// others wait for it.
    pub(super) fn plan(
        &mut self,
        mine: &Vector,
        now: Instant,
        is_reachable: impl Fn(&NodeName) -> bool,
    ) -> Plan {
        let mut best: Option<(Duration, NodeName)> = None;
        let mut next: Option<Instant> = None;
        let (near, own, advanced_at) = (self.near(now), &self.own, self.advanced_at);
        for (name, known) in &mut self.peers {
            if mine.covers(&known.vector) {
                known.ahead = None;
                continue;
            }
            if !is_reachable(name) {
                continue;
            }
            // What was missing has come since; what is missing now may be on its way.
            known.ahead.take_if(|gap| mine.covers(&gap.target));
            let jitter = &mut self.jitter;
            let gap = known.ahead.get_or_insert_with(|| {
                let jitter = jitter.random_range(Duration::ZERO..GRACE_JITTER);
                let due = now + self.grace + known.rtt + jitter;
                Gap { target: known.vector.clone(), since: now, due }
            });
            let due = match &known.collectors {
                Some(order) if !collects(own, order, &near, gap.has_heard_of(name, now)) => {
                    gap.due_after(advanced_at)
                }
                _ => gap.due,
            };
            let due = known.pause_until.map_or(due, |pause| due.max(pause));
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
            } else if best.as_ref().is_none_or(|(rtt, _)| known.rtt < *rtt) {
                best = Some((known.rtt, name.clone()));
            }
        }
        match (best, next) {
            (Some((_, name)), _) => Plan::Pull(name),
            (None, Some(next)) => Plan::Wait(next),
            (None, None) => Plan::Idle,
        }
    }

    /// A pull from the peer has ended.
    pub(super) fn pulled(&mut self, peer: &NodeName, pulled: Pulled, now: Instant) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        match pulled {
            Pulled::Something { more } => {
                known.failures = 0;
                known.pause_until = None;
                if more {
                    let target = known.vector.clone();
                    known.ahead = Some(Gap { target, since: now, due: now });
                }
            }
            Pulled::Nothing => {
                let pause = PAUSE.saturating_mul(1 << known.failures.min(10)).min(PAUSE_MAX);
                known.failures += 1;
                known.pause_until = Some(now + pause);
            }
        }
    }

    /// The peers that are heard.
    pub(super) fn heard_nodes(&self, now: Instant) -> BTreeSet<NodeName> {
        let heard = self.peers.iter().filter(|(_, known)| known.is_heard(now, self.heard));
        heard.map(|(name, _)| name.clone()).collect()
    }

    /// What those have whom this node hears and `peer` doesn't.
    pub(super) fn others_for(&self, peer: &NodeName, now: Instant) -> Others {
        let Some(to) = self.peers.get(peer) else { return Others::default() };
        let others = self.peers.iter().filter(|(name, known)| {
            *name != peer && known.is_heard(now, self.heard) && !to.hears.contains(*name)
        });
        Others(others.map(|(name, k)| (name.as_str().to_owned(), k.vector.told())).collect())
    }

    /// See [`super::Gossip::clock_offset`].
    pub(super) fn clock_offset(&self, now: Instant) -> Option<i64> {
        let heard = self.heard.max(CLOCK_FRESH);
        let fresh = |known: &&Known| known.is_heard(now, heard);
        let mut offsets: Vec<i64> =
            self.peers.values().filter(fresh).filter_map(Known::offset).collect();
        if offsets.is_empty() {
            return None;
        }
        offsets.push(0);
        offsets.sort_unstable();
        let (low, high) = (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]);
        Some(if low.unsigned_abs() <= high.unsigned_abs() { low } else { high })
    }

    /// Whether the peer is heard and, as far as is known, ready: `says_so` where its program says
    /// whether it is.
    pub(super) fn is_ready(&self, peer: &NodeName, says_so: bool, now: Instant) -> bool {
        let is_ready =
            |known: &Known| known.is_heard(now, self.heard) && known.ready.unwrap_or(!says_so);
        self.peers.get(peer).is_some_and(is_ready)
    }

    /// What is known of the peer.
    pub(super) fn seen(&self, peer: &NodeName) -> Option<Seen> {
        let known = self.peers.get(peer)?;
        Some(Seen {
            vector: known.vector.clone(),
            origin: known.origin,
            heard_at: known.heard_at,
            known_at: known.heard_at.max(known.told_at),
            hears: (*known.hears).clone(),
            https: known.https,
            rtt: known.rtt,
            // Both come with what a peer says of itself.
            rtt_measured: !known.offsets.is_empty(),
            offset: known.offset(),
            lag_since: known.lag.as_ref().map(|gap| gap.since),
        })
    }
}

impl Known {
    fn is_heard(&self, now: Instant, heard: Duration) -> bool {
        self.heard_at.is_some_and(|at| now - at <= heard)
    }

    /// The largest reading: a message that was held up on its way makes a clock look late, nothing
    /// makes it look early.
    fn offset(&self) -> Option<i64> {
        self.offsets.iter().copied().max()
    }

    /// Keeps how long the peer has lacked the oldest of what it lacks (a little less than that
    /// where it keeps catching up).
    fn update_lag(&mut self, mine: &Arc<Vector>, now: Instant) {
        self.lag.take_if(|gap| self.vector.covers(&gap.target));
        if self.lag.is_none() && !self.vector.covers(mine) {
            self.lag = Some(Gap { target: mine.clone(), since: now, due: now });
        }
    }
}

impl Gap {
    /// When to do something about it where another node is expected to: not as long as this one
    /// makes progress.
    fn due_after(&self, advanced_at: Option<Instant>) -> Instant {
        let moving = advanced_at.map_or(self.since, |at| at.max(self.since));
        let due = (moving + COLLECTOR_PATIENCE).min(self.since + COLLECTOR_PATIENCE_MAX);
        due.max(self.due)
    }

    /// By now everybody else of the region should have heard `peer`, too, and have said so.
    fn has_heard_of<'a>(&self, peer: &'a NodeName, now: Instant) -> Option<&'a NodeName> {
        (now - self.since >= COLLECTOR_PATIENCE).then_some(peer)
    }
}

/// Whether it is for this node, of all of its region, to ask: of those that are heard, and where
/// `hearing` says so hear that peer, who comes first in the order.
fn collects(
    own: &NodeName,
    order: &[NodeName],
    near: &BTreeMap<NodeName, Arc<BTreeSet<NodeName>>>,
    hearing: Option<&NodeName>,
) -> bool {
    let could = |hears: &BTreeSet<NodeName>| hearing.is_none_or(|peer| hears.contains(peer));
    let first =
        order.iter().find(|node| *node == own || near.get(*node).is_some_and(|hears| could(hears)));
    first.is_none_or(|first| first == own)
}

fn merge(known: &mut Arc<Vector>, vector: &Vector) -> bool {
    if known.covers(vector) {
        return false;
    }
    let merged = Arc::make_mut(known);
    merged.merge(vector);
    if merged.len() > VECTOR_ORIGINS_MAX {
        // Nobody has that many: it was told ever new ones.
        *merged = vector.clone();
    }
    true
}

#[cfg(test)]
mod tests;
