//! What keeps a flood of denied attempts from filling the disk: the first of its kind is recorded
//! at once, those that follow within a minute are counted and recorded as one. What is of one kind,
//! and when a minute is over, is told; nothing here reads a clock or writes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::event::Event;
use crate::model::Text;

/// How long attempts of a kind are counted before the count is recorded.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Most kinds of strangers' that are counted apart at once; what comes beside them is counted
/// together. With a record at the beginning and one at the end of each, this bounds how much is
/// recorded a minute.
pub const KINDS_MAX: usize = 128;

/// The same of each principal that is known.
pub const KINDS_OF_ONE_MAX: usize = 64;

/// Most principals that are counted apart at once. Each has a token that is good: they cannot be made
/// up.
pub const PRINCIPALS_MAX: usize = 1_024;

/// What an attempt is like: alike ones are summed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Who, or the address of somebody unknown.
    pub who: Text,
    /// What was tried.
    pub action: Text,
    /// The reason against it, in general: without names that the caller chose.
    pub reason: &'static str,
}

/// Attempts of one kind within a window.
#[derive(Debug)]
struct Window {
    until: Instant,
    /// The last one that was not recorded by itself; it counts for all of them.
    more: Option<Event>,
}

/// Sums attempts up. Those of each known principal have room of their own: neither strangers nor
/// other principals can have them counted among the rest.
#[derive(Debug, Default)]
pub struct Summing {
    strangers: Sums,
    known: BTreeMap<Text, Sums>,
    /// Those of principals for which there was no room.
    others: Sums,
}

/// What is summed up in one room.
#[derive(Debug, Default)]
struct Sums {
    kinds: BTreeMap<Kind, Window>,
    /// Those for which there was no room.
    others: Option<(Instant, Event)>,
}

impl Summing {
    /// An attempt at `now`: the event to record at once, if it is the first of its kind.
    pub fn offer(&mut self, kind: Kind, event: Event, now: Instant) -> Option<Event> {
        if event.is_strangers() {
            return self.strangers.offer(kind, event, now, KINDS_MAX);
        }
        if self.known.len() >= PRINCIPALS_MAX && !self.known.contains_key(&event.principal) {
            return self.others.offer(kind, event, now, KINDS_MAX);
        }
        let sums = self.known.entry(event.principal.clone()).or_default();
        sums.offer(kind, event, now, KINDS_OF_ONE_MAX)
    }

    /// The sums to record at `now`: of the windows that are over.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        let mut due = Vec::new();
        self.strangers.due(now, &mut due);
        self.others.due(now, &mut due);
        self.known.retain(|_, sums| {
            sums.due(now, &mut due);
            !sums.is_empty()
        });
        due
    }

    /// All sums, at the end.
    pub fn finish(&mut self) -> Vec<Event> {
        let Self { strangers, known, others } = std::mem::take(self);
        [strangers, others].into_iter().chain(known.into_values()).flat_map(Sums::finish).collect()
    }
}

impl Sums {
    fn offer(&mut self, kind: Kind, event: Event, now: Instant, max: usize) -> Option<Event> {
        if let Some(window) = self.kinds.get_mut(&kind) {
            let count = window.more.as_ref().map_or(0, |more| more.count);
            let count = count.saturating_add(event.count);
            window.more = Some(Event { count, ..event });
            return None;
        }
        if self.kinds.len() < max {
            self.kinds.insert(kind, Window { until: now + WINDOW, more: None });
            return Some(event);
        }
        match &mut self.others {
            Some((_, others)) => {
                others.count = others.count.saturating_add(event.count);
                if others.principal != event.principal {
                    others.principal = "-".into();
                }
            }
            None => {
                let others = Event { action: "others".into(), target: "-".into(), ..event };
                self.others = Some((now + WINDOW, others));
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.others.is_none()
    }

    fn due(&mut self, now: Instant, due: &mut Vec<Event>) {
        self.kinds.retain(|_, window| {
            let is_over = window.until <= now;
            if is_over {
                due.extend(window.more.take());
            }
            !is_over
        });
        if self.others.as_ref().is_some_and(|(until, _)| *until <= now) {
            due.extend(self.others.take().map(|(_, others)| others));
        }
    }

    fn finish(self) -> impl Iterator<Item = Event> {
        let sums = self.kinds.into_values().filter_map(|window| window.more);
        sums.chain(self.others.map(|(_, others)| others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decision, Source};
    use crate::model::Stamp;

    fn event(target: &str) -> Event {
        Event {
            at: Stamp(1),
            principal: "ada".into(),
            action: "config.read".into(),
            target: target.into(),
            decision: Decision::Denied("no".into()),
            outcome: "refused".into(),
            source: Source { node: "n".into(), address: None, request: "r".into() },
            count: 1,
            index: None,
        }
    }

    fn by(principal: &str) -> Event {
        Event { principal: principal.into(), ..event("a") }
    }

    fn kind(who: &str) -> Kind {
        Kind { who: who.into(), action: "config.read".into(), reason: "Forbidden" }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_recorded_at_once_and_the_rest_of_the_minute_as_one() {
        let (mut summing, start) = (Summing::default(), Instant::now());
        assert_eq!(summing.offer(kind("ada"), event("a"), start), Some(event("a")));
        for _ in 0..1_000_000 {
            assert_eq!(summing.offer(kind("ada"), event("b"), start), None);
        }
        assert!(summing.offer(kind("bob"), event("a"), start).is_some());
        assert!(summing.due(start + WINDOW / 2).is_empty());
        let due = summing.due(start + WINDOW);
        assert_eq!(due, [Event { count: 1_000_000, ..event("b") }]);
        assert!(summing.offer(kind("ada"), event("c"), start + WINDOW).is_some());
        assert!(summing.due(start + 2 * WINDOW).is_empty(), "one alone needs no sum");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_many_kinds_comes_to_a_bounded_number_of_records() {
        let (mut summing, start) = (Summing::default(), Instant::now());
        let mut recorded = 0;
        for i in 0..100_000 {
            let who = format!("192.0.2.{i}");
            for _ in 0..2 {
                recorded += usize::from(summing.offer(kind(&who), by("-"), start).is_some());
            }
        }
        let sums = summing.due(start + WINDOW);
        assert_eq!((recorded, sums.len()), (KINDS_MAX, KINDS_MAX + 1));
        let counted: u64 = sums.iter().map(|event| event.count).sum();
        assert_eq!(counted + recorded as u64, 200_000, "none is lost");
        assert!(summing.finish().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_known_principal_tries_is_not_hidden_by_a_flood_of_strangers_or_of_others() {
        let (mut summing, start) = (Summing::default(), Instant::now());
        for i in 0..2 * KINDS_MAX {
            summing.offer(kind(&format!("192.0.2.{i}")), by("-"), start);
        }
        for i in 0..2 * KINDS_OF_ONE_MAX {
            let kind = Kind { action: format!("config.{i}").as_str().into(), ..kind("bob") };
            summing.offer(kind, by("bob"), start);
        }
        let secret = Kind { action: "secret.read".into(), ..kind("ada") };
        assert_eq!(summing.offer(secret.clone(), by("ada"), start), Some(by("ada")));
        assert_eq!(summing.offer(secret, by("ada"), start), None);
        let sums = summing.due(start + WINDOW);
        let sum = |principal: &str, action: &str| {
            let is = |it: &&Event| &*it.principal == principal && &*it.action == action;
            sums.iter().find(is).map(|it| it.count)
        };
        assert_eq!(sum("ada", "config.read"), Some(1));
        assert_eq!(sum("-", "others"), Some(KINDS_MAX as u64));
        assert_eq!(sum("bob", "others"), Some(KINDS_OF_ONE_MAX as u64), "it is said whose");
        assert!(summing.known.is_empty(), "nothing is left of those who stopped");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_principals_are_counted_apart_and_no_more() {
        let (mut summing, start) = (Summing::default(), Instant::now());
        let mut recorded = 0;
        for i in 0..2 * PRINCIPALS_MAX {
            let who = format!("p{i}");
            recorded += u64::from(summing.offer(kind(&who), by(&who), start).is_some());
        }
        assert_eq!(recorded, (PRINCIPALS_MAX + KINDS_MAX) as u64);
        let sums = summing.finish();
        assert_eq!(sums.len(), 1);
        assert_eq!(recorded + sums[0].count, 2 * PRINCIPALS_MAX as u64, "none is lost");
        assert_eq!((&*sums[0].principal, &*sums[0].action), ("-", "others"));
    }
}
