//! Which place is asked. Pure: measurements and the time come in, an order comes out.
//!
//! The nearest healthy place is used, and kept: another one has to be clearly nearer, and to have been
//! healthy and nearer for a while, before it is used instead. A place that fails again soon after it
//! was returned to has to wait longer each time. The priority that DNS gives goes before nearness, its
//! weight decides between those that are about as near.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

mod standing;

pub(in crate::client) use standing::{Health, Rank, Standing};

/// What a measurement that is slower than before moves the average by.
const SLOWER_SHARE: u32 = 4;
/// How soon a place that failed is measured again, at first.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Nobody is measured more often.
const MEASURE_EVERY_MIN: Duration = Duration::from_millis(50);
/// A place's waiting time doubles so often at most.
const RELAPSES_MAX: u32 = 5;
/// A place that was used for so many times the waiting time is trusted as before.
const TRUSTED_AFTER: u32 = 10;

/// Names a place for the life of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::client) struct PlaceId(pub(in crate::client) u32);

/// Why a place is used, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) enum Why {
    /// The nearest of all that are healthy.
    Nearest,
    /// Another one is nearer, and has not been healthy for long enough.
    Kept { nearer: PlaceId },
    /// Healthy, and farther away or not so much nearer.
    Farther,
    /// Healthy, and DNS ranks others before it.
    RankedLater,
    /// Nearer, and not for long enough.
    Proving { until: Instant },
    /// It did not answer a request in time and is being measured.
    Suspected,
    /// It does not answer.
    Failed(String),
    /// Not measured yet.
    Unknown,
}

/// All places, and which one is used.
#[derive(Debug)]
pub(in crate::client) struct Choice {
    places: BTreeMap<PlaceId, Standing>,
    used: Option<PlaceId>,
    /// How long a place has to have been healthy, and nearer, before it is used instead.
    return_after: Duration,
    /// How often healthy places are measured.
    measure_every: Duration,
}

impl Choice {
    /// Without a place.
    pub(in crate::client) fn new(return_after: Duration, measure_every: Duration) -> Self {
        let measure_every = measure_every.max(MEASURE_EVERY_MIN);
        Self { places: BTreeMap::new(), used: None, return_after, measure_every }
    }

    /// These places and no others. One that is not among them any more stays, to be used where none
    /// of them is healthy, until one of them is. Returns those that are forgotten.
    pub(in crate::client) fn set(
        &mut self,
        places: &[(PlaceId, Rank)],
        now: Instant,
    ) -> Vec<PlaceId> {
        for standing in self.places.values_mut() {
            standing.is_named = false;
        }
        for (id, rank) in places {
            let standing = self.places.entry(*id).or_insert_with(|| Standing::new(*rank, now));
            (standing.rank, standing.is_named) = (*rank, true);
        }
        self.forget()
    }

    /// Forgets places that are not named any more, where one that is has shown to be healthy.
    pub(in crate::client) fn forget(&mut self) -> Vec<PlaceId> {
        if !self.places.values().any(|it| it.is_named && it.is_healthy()) {
            return Vec::new();
        }
        let unnamed = self.places.iter().filter(|(_, standing)| !standing.is_named);
        let unnamed: Vec<PlaceId> = unnamed.map(|(id, _)| *id).collect();
        for id in &unnamed {
            self.places.remove(id);
        }
        if self.used.is_some_and(|used| unnamed.contains(&used)) {
            self.used = None;
        }
        unnamed
    }

    /// A place answered that it is ready, after so long.
    pub(in crate::client) fn measured(&mut self, id: PlaceId, rtt: Duration, now: Instant) {
        let every = self.measure_every;
        let Some(place) = self.places.get_mut(&id) else { return };
        place.rtt = Some(match place.rtt {
            // What was quicker once can be so again: the rest was waiting.
            Some(known) if rtt > known => known + (rtt - known) / SLOWER_SHARE,
            _ => rtt,
        });
        place.due_at = now + every;
        place.seen_healthy();
    }

    /// A place answered a request; a short one within so long.
    pub(in crate::client) fn answered(&mut self, id: PlaceId, took: Option<Duration>) {
        let Some(place) = self.places.get_mut(&id) else { return };
        place.seen_healthy();
        let Some(took) = took else { return };
        // RFC 6298, section 2.
        place.took = Some(match place.took {
            None => (took, took / 2),
            Some((mean, varies)) => ((mean * 7 + took) / 8, (varies * 3 + mean.abs_diff(took)) / 4),
        });
        // It includes the node's work: it can only show that the way is no longer than this.
        place.rtt = Some(place.rtt.map_or(took, |rtt| rtt.min(took)));
    }

    /// A place does not answer, or says that it cannot.
    pub(in crate::client) fn failed(&mut self, id: PlaceId, why: String, now: Instant) {
        let trusted_after = self.return_after * TRUSTED_AFTER;
        let (every, is_used) = (self.measure_every, self.used == Some(id));
        let Some(place) = self.places.get_mut(&id) else { return };
        let failures = match &place.health {
            Health::Failed { failures, .. } => failures.saturating_add(1),
            _ => 1,
        };
        if is_used && let Some(returned_at) = place.returned_at.take() {
            let is_relapse = now.saturating_duration_since(returned_at) < trusted_after;
            place.relapses = if is_relapse { (place.relapses + 1).min(RELAPSES_MAX) } else { 0 };
        }
        let again = AGAIN_AFTER.saturating_mul(2u32.saturating_pow(failures.min(16) - 1));
        place.due_at = now + again.min(every);
        place.health = Health::Failed { why, failures };
        (place.better_since, place.is_suspected, place.took) = (None, false, None);
    }

    /// A request waited too long for a place: it is measured at once, and asked last until then.
    pub(in crate::client) fn suspect(&mut self, id: PlaceId, now: Instant) {
        if let Some(place) = self.places.get_mut(&id)
            && place.is_healthy()
            && !place.is_suspected
        {
            (place.is_suspected, place.due_at) = (true, now);
        }
    }

    /// A place said that it wants no requests for a while.
    pub(in crate::client) fn busy(&mut self, id: PlaceId, until: Instant) {
        if let Some(place) = self.places.get_mut(&id) {
            place.busy_until = place.busy_until.max(Some(until));
        }
    }

    /// Until when none of the places wants requests.
    pub(in crate::client) fn busy_until(&self, now: Instant) -> Option<Instant> {
        let healthy = self.places.values().filter(|it| it.is_healthy());
        let until = healthy.map(|it| it.busy_until.filter(|until| *until > now));
        until.min().flatten()
    }

    /// Decides anew which place is used.
    pub(in crate::client) fn settle(&mut self, now: Instant, random: &mut impl Rng) {
        let used = self.used.filter(|id| self.places.get(id).is_some_and(Standing::is_healthy));
        let Some(used) = used else {
            self.used = self.pick(random);
            if let Some(used) = self.used.and_then(|used| self.places.get_mut(&used)) {
                (used.better_since, used.returned_at) = (None, None);
            }
            return;
        };
        let Some(standing) = self.places.get(&used).cloned() else { return };
        let mut best: Option<PlaceId> = None;
        let ids: Vec<PlaceId> = self.places.keys().copied().collect();
        for id in ids.into_iter().filter(|id| *id != used) {
            let Some(place) = self.places.get_mut(&id) else { continue };
            let is_better = place.is_healthy()
                && place.is_named
                && !place.is_suspected
                && place.is_better_than(&standing);
            place.better_since = is_better.then(|| place.better_since.unwrap_or(now));
            let may = self.may_return_at(id).is_some_and(|at| at <= now);
            let beats = |known: PlaceId| self.places[&id].is_better_than(&self.places[&known]);
            if may && best.is_none_or(beats) {
                best = Some(id);
            }
        }
        if let Some(best) = best {
            self.used = Some(best);
            if let Some(place) = self.places.get_mut(&best) {
                (place.better_since, place.returned_at) = (None, Some(now));
            }
        }
    }

    /// When a place that is the better choice will have been so for long enough.
    fn may_return_at(&self, id: PlaceId) -> Option<Instant> {
        let place = self.places.get(&id)?;
        let wait = self.return_after.saturating_mul(2u32.saturating_pow(place.relapses));
        Some(place.better_since? + wait)
    }

    /// The first choice, with nothing to keep to.
    fn pick(&self, random: &mut impl Rng) -> Option<PlaceId> {
        let usable = |it: &&Standing| it.is_healthy() && it.is_named && !it.is_suspected;
        let mut among: Vec<(PlaceId, &Standing)> =
            self.places.iter().filter(|(_, it)| usable(it)).map(|(id, it)| (*id, it)).collect();
        if among.is_empty() {
            among = self
                .places
                .iter()
                .filter(|(_, it)| it.is_healthy())
                .map(|(id, it)| (*id, it))
                .collect();
        }
        let first = among.iter().map(|(_, it)| it.rank.priority).min()?;
        among.retain(|(_, it)| it.rank.priority == first);
        let nearest = among.iter().min_by_key(|(_, it)| it.rtt.unwrap_or(Duration::MAX))?.1;
        among.retain(|(_, it)| !nearest.is_nearer_than(it));
        // A weight of none at all is seldom, not never (RFC 2782).
        let weight = |it: &Standing| it.rank.weight.map(|weight| u32::from(weight) * 16 + 1);
        let all: Option<u32> = among.iter().map(|(_, it)| weight(it)).sum();
        let Some(all) = all else { return among.first().map(|(id, _)| *id) };
        let mut at = random.random_range(0..all.max(1));
        for (id, it) in &among {
            let weight = weight(it).unwrap_or(0);
            if at < weight {
                return Some(*id);
            }
            at -= weight;
        }
        None
    }

    /// Whom to ask, and whom after that: the one that is used, the healthy ones, the busy and the
    /// suspected, those that were not measured, and at last those that failed.
    pub(in crate::client) fn order(&self, now: Instant) -> Vec<PlaceId> {
        let mut ids: Vec<PlaceId> = self.places.keys().copied().collect();
        ids.sort_by_key(|id| {
            let it = &self.places[id];
            let (group, failures) = match &it.health {
                Health::Healthy if it.is_busy(now) => (2, 0),
                Health::Healthy if it.is_suspected => (3, 0),
                Health::Healthy => (u32::from(self.used != Some(*id)), 0),
                Health::Unknown => (4, 0),
                Health::Failed { failures, .. } => (5, *failures),
            };
            let rtt = it.rtt.unwrap_or(Duration::MAX);
            (group, !it.is_named, it.rank.priority, failures, rtt, *id)
        });
        ids
    }

    /// Places that are to be measured now, and are not measured again for as long as that may take.
    pub(in crate::client) fn take_due(&mut self, now: Instant, within: Duration) -> Vec<PlaceId> {
        let mut due = Vec::new();
        for (id, place) in &mut self.places {
            if place.due_at <= now {
                place.due_at = now + within;
                due.push(*id);
            }
        }
        due
    }

    /// The place that is used, as long as it is healthy.
    pub(in crate::client) fn used(&self) -> Option<PlaceId> {
        self.used
    }

    /// Whether every place of the best rank that may still prove healthy has been measured.
    pub(in crate::client) fn is_decided(&self) -> bool {
        let healthy = self.places.values().filter(|it| it.is_healthy());
        let Some(best) = healthy.map(|it| it.rank.priority).min() else {
            return !self.places.values().any(|it| it.health == Health::Unknown);
        };
        !self.places.values().any(|it| it.health == Health::Unknown && it.rank.priority < best)
    }

    /// How long an answer of this place usually takes at the most, where that is known.
    pub(in crate::client) fn patience(&self, id: PlaceId) -> Option<Duration> {
        let place = self.places.get(&id)?;
        let (mean, varies) = place.took?;
        Some(mean + varies * 4)
    }

    /// A place, as it stands.
    pub(in crate::client) fn standing(&self, id: PlaceId) -> Option<&Standing> {
        self.places.get(&id)
    }

    /// Why a place is used, or is not.
    pub(in crate::client) fn why(&self, id: PlaceId) -> Why {
        let Some(place) = self.places.get(&id) else { return Why::Unknown };
        match &place.health {
            Health::Unknown => Why::Unknown,
            Health::Failed { why, .. } => Why::Failed(why.clone()),
            Health::Healthy if self.used == Some(id) => {
                let proving = self.places.iter().filter(|(_, it)| it.better_since.is_some());
                let first = proving.min_by_key(|(_, it)| it.better_since);
                first.map_or(Why::Nearest, |(id, _)| Why::Kept { nearer: *id })
            }
            Health::Healthy if place.is_suspected => Why::Suspected,
            Health::Healthy => match self.may_return_at(id) {
                Some(until) => Why::Proving { until },
                None => {
                    let used = self.used.and_then(|used| self.places.get(&used));
                    let is_later = used.is_some_and(|it| it.rank.priority < place.rank.priority);
                    if is_later { Why::RankedLater } else { Why::Farther }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
