//! Which documents are looked at for a next epoch, and which rest because it was tried in vain. It
//! counts rounds and reads no clock.

use std::collections::BTreeMap;

use crate::model::DocumentId;

/// Of a document's changes, at most one in so many may be left out of the floor: each of those is
/// made anew in the next epoch.
const LATE_ONE_IN: u64 = 8;
/// Longest rest, in rounds.
const REST_MAX: u64 = 16;

/// Whether a next epoch that leaves out `late` of `changes` is worth what it costs.
pub(super) fn is_worth_it(changes: u64, late: u64) -> bool {
    late.saturating_mul(LATE_ONE_IN) <= changes
}

/// The documents that rest.
#[derive(Debug, Default)]
pub(super) struct Due {
    round: u64,
    resting: BTreeMap<DocumentId, Rest>,
}

#[derive(Debug)]
struct Rest {
    failures: u32,
    /// The round in which it is looked at again.
    until: u64,
}

impl Due {
    /// Begins a round: of the documents that are `over`, with their changes, those that do not rest,
    /// most changes first. What is not over any more does not rest either.
    pub(super) fn pick<'a>(
        &mut self,
        over: impl Iterator<Item = (&'a DocumentId, u64)>,
        at_most: usize,
    ) -> Vec<DocumentId> {
        self.round += 1;
        let over: BTreeMap<&DocumentId, u64> = over.collect();
        self.resting.retain(|document, _| over.contains_key(document));
        let is_due = |document: &DocumentId| {
            self.resting.get(document).is_none_or(|rest| rest.until <= self.round)
        };
        let mut due: Vec<(&DocumentId, u64)> =
            over.into_iter().filter(|(document, _)| is_due(document)).collect();
        due.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        due.into_iter().take(at_most).map(|(document, _)| document.clone()).collect()
    }

    /// It was tried in vain: it rests, longer with each time.
    pub(super) fn rest(&mut self, document: &DocumentId) {
        let rest = self.resting.entry(document.clone()).or_insert(Rest { failures: 0, until: 0 });
        let rounds = (1 << rest.failures.min(10)).min(REST_MAX);
        rest.failures = rest.failures.saturating_add(1);
        rest.until = self.round + rounds;
    }

    /// It is in its next epoch.
    pub(super) fn rolled(&mut self, document: &DocumentId) {
        self.resting.remove(document);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DocumentId {
        DocumentId::parse(name).unwrap()
    }

    fn picked(due: &mut Due, over: &[(&DocumentId, u64)], at_most: usize) -> Vec<String> {
        let picked = due.pick(over.iter().copied(), at_most);
        picked.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_largest_come_first_and_no_more_than_asked_for() {
        let (a, b, c) = (id("a/x"), id("b/x"), id("c/x"));
        let over = [(&a, 30), (&b, 90), (&c, 90)];
        assert_eq!(picked(&mut Due::default(), &over, 2), ["b/x", "c/x"]);
    }

    #[test]
    fn what_was_tried_in_vain_rests_ever_longer_and_leaves_its_place_to_others() {
        let (a, b) = (id("a/x"), id("b/x"));
        let over = [(&a, 90), (&b, 30)];
        let mut due = Due::default();
        let mut tried = Vec::new();
        for round in 1..=40_u32 {
            if picked(&mut due, &over, 1) == ["a/x"] {
                tried.push(round);
                due.rest(&a);
            }
        }
        assert_eq!(tried, [1, 2, 4, 8, 16, 32]);
        due.rolled(&a);
        assert_eq!(picked(&mut due, &over, 1), ["a/x"]);
    }

    #[test]
    fn what_is_not_over_the_cap_any_more_does_not_rest() {
        let a = id("a/x");
        let mut due = Due::default();
        due.rest(&a);
        due.rest(&a);
        assert!(picked(&mut due, &[], 1).is_empty());
        assert_eq!(picked(&mut due, &[(&a, 30)], 1), ["a/x"]);
    }

    #[test]
    fn an_epoch_that_most_changes_are_too_late_for_is_not_worth_it() {
        assert!(is_worth_it(80, 0) && is_worth_it(80, 10));
        assert!(!is_worth_it(80, 11) && !is_worth_it(7, 1));
    }
}
