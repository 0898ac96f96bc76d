//! Refused token requests, on their way to the audit log: the first of a kind at once, what follows
//! summed up, so that whoever tries secrets by the million cannot fill the disk. Kinds are bounded:
//! past that they are one.

use std::collections::BTreeMap;

use crate::audit::event::{Decision, Event, Source};
use crate::model::{AccountName, Stamp, Text};

/// Most kinds that are told apart between two flushes.
const KINDS_MAX: usize = 256;

/// Who was refused, from where.
type Kind = (Text, Option<Text>);

/// What is still to be recorded.
#[derive(Default)]
pub(super) struct Denials {
    /// With a count of 0 where the first was recorded and none followed.
    kinds: BTreeMap<Kind, (u64, Option<Event>)>,
}

impl Denials {
    /// Takes a refusal in; gives back what is to be recorded at once.
    pub(super) fn add(
        &mut self,
        client: &str,
        why: &str,
        source: Source,
        at: Stamp,
    ) -> Option<Event> {
        // Whatever was sent as a name may be anything: a secret in the wrong field, for one.
        let client = AccountName::new(client).map_or("-".into(), |name| name.as_str().into());
        let mut kind: Kind = (client, source.address.clone());
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= KINDS_MAX {
            kind = ("-".into(), None);
        }
        let (count, last) = self.kinds.entry(kind.clone()).or_insert((0, None));
        let is_first = *count == 0 && last.is_none();
        let event = event(kind, why, source, at, 1);
        if is_first {
            // Marks the kind as seen: what follows is summed up.
            *last = Some(event.clone());
            return Some(event);
        }
        *count += 1;
        *last = Some(event);
        None
    }

    /// All that was summed up; and begins anew.
    pub(super) fn flush(&mut self) -> Vec<Event> {
        let kinds = std::mem::take(&mut self.kinds).into_values();
        let events = kinds.filter(|(count, _)| *count > 0);
        events.filter_map(|(count, event)| Some(Event { count, ..event? })).collect()
    }
}

fn event((client, address): Kind, why: &str, source: Source, at: Stamp, count: u64) -> Event {
    Event {
        at,
        principal: client.clone(),
        action: "token.denied".into(),
        target: client,
        decision: Decision::Denied(why.into()),
        outcome: "refused".into(),
        source: Source { address, ..source },
        count,
        index: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(denials: &mut Denials, client: &str, address: &str) -> Option<Event> {
        let source =
            Source { node: "eu-west-1".into(), address: Some(address.into()), request: "r".into() };
        denials.add(client, "invalid_client", source, Stamp(1))
    }

    #[test]
    fn a_flood_is_one_event_and_its_count() {
        let mut denials = Denials::default();
        assert_eq!(add(&mut denials, "ci", "192.0.2.1").unwrap().count, 1);
        for _ in 0..1000 {
            assert_eq!(add(&mut denials, "ci", "192.0.2.1"), None);
        }
        assert!(add(&mut denials, "ci", "192.0.2.2").is_some());
        let flushed = denials.flush();
        assert_eq!(flushed.iter().map(|event| event.count).collect::<Vec<_>>(), [1000]);
        assert_eq!(denials.flush(), []);
        assert!(add(&mut denials, "ci", "192.0.2.1").is_some());
    }

    #[test]
    fn kinds_are_bounded_and_names_are_names() {
        let mut denials = Denials::default();
        let recorded = (0..10_000).filter(|i| add(&mut denials, &format!("c{i}"), "a").is_some());
        assert_eq!(recorded.count(), KINDS_MAX + 1);
        let total: u64 = denials.flush().iter().map(|event| event.count).sum();
        assert_eq!(total, 10_000 - KINDS_MAX as u64 - 1);
        let odd = add(&mut denials, "p4ss word\n", "a").unwrap();
        assert_eq!(&*odd.target, "-");
    }
}
