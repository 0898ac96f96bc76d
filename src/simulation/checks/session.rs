//! What a client that carries its session may rely on, in whichever region it goes on: it reads what
//! it wrote, never goes back, and what it writes comes after all that it wrote and saw.
//!
//! The witness is a key's versions (see `entries`): of all that a client wrote or saw of a key, only
//! the highest version needs to be compared, since whoever includes that includes the lower ones or
//! what replaced them.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Removals, includes, key_read, show, show_all, wrote};
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{Outcome, Sibling};

pub(crate) const READ_YOUR_WRITES: Check = Check {
    name: "read_your_writes",
    claim: "A client with its session reads its own writes, or what replaced them, in every region.",
    run: |history, judge| walk(history, Law::ReadYourWrites, judge),
};

pub(crate) const MONOTONIC_READS: Check = Check {
    name: "monotonic_reads",
    claim: "A client with its session never reads less than it has read before, in any region.",
    run: |history, judge| walk(history, Law::MonotonicReads, judge),
};

pub(crate) const MONOTONIC_WRITES: Check = Check {
    name: "monotonic_writes",
    claim: "What a client with its session writes comes after what it wrote before.",
    run: |history, judge| walk(history, Law::MonotonicWrites, judge),
};

pub(crate) const WRITES_FOLLOW_READS: Check = Check {
    name: "writes_follow_reads",
    claim: "What a client with its session writes comes after what it has read before.",
    run: |history, judge| walk(history, Law::WritesFollowReads, judge),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Law {
    ReadYourWrites,
    MonotonicReads,
    MonotonicWrites,
    WritesFollowReads,
}

impl Law {
    fn is_of_reads(self) -> bool {
        matches!(self, Law::ReadYourWrites | Law::MonotonicReads)
    }

    fn is_of_own_writes(self) -> bool {
        matches!(self, Law::ReadYourWrites | Law::MonotonicWrites)
    }

    fn verb(self) -> &'static str {
        if self.is_of_own_writes() { "written" } else { "read" }
    }
}

/// What a client wrote or saw of a key: the siblings of the highest version, and the call of each.
type Known<'a> = Vec<(u64, &'a Sibling)>;

fn walk(history: &History<'_>, law: Law, judge: &mut Judge) {
    let removals = Removals::of(history);
    let mut known: BTreeMap<(u32, String), Known<'_>> = BTreeMap::new();
    let mut keys_used: BTreeSet<&str> = BTreeSet::new();
    for it in &history.calls {
        let is_retry = it.call.idempotency_key.as_ref().is_some_and(|key| !keys_used.insert(key));
        if history.is_void(&it.call.node) {
            continue;
        }
        if it.call.has_session {
            if law.is_of_reads() {
                read(it, law, &known, &removals, judge);
            } else if !is_retry {
                write(it, law, &known, judge);
            }
        }
        learn(it, law, &mut known);
    }
}

/// A read has to include what is known.
fn read(
    it: &Asked<'_>,
    law: Law,
    known: &BTreeMap<(u32, String), Known<'_>>,
    removals: &Removals<'_>,
    judge: &mut Judge,
) {
    let Some(key) = key_read(&it.call.request) else { return };
    let Some(Outcome::Row { siblings, inconsistent: false }) = it.outcome() else { return };
    let ended = it.ended_us().unwrap_or(it.at_us);
    let Some(known) = known.get(&(it.call.client, key.clone())) else { return };
    judge.examine();
    let missing = known.iter().find(|(_, before)| {
        !includes(siblings, before) && !removals.may_hide(&key, before, siblings, ended)
    });
    if let Some((op, before)) = missing {
        let what = format!(
            "client {} had {} {} of {key} (call {op}), and with its session {} shows it {} (call {})",
            it.call.client,
            law.verb(),
            show(before),
            it.call.node,
            show_all(siblings),
            it.call.op
        );
        judge.violation(ended, &[*op, it.call.op], &[&it.call.node], what);
    }
}

/// A write has to be above what is known.
fn write(it: &Asked<'_>, law: Law, known: &BTreeMap<(u32, String), Known<'_>>, judge: &mut Judge) {
    for (key, own) in wrote(it) {
        let Some(known) = known.get(&(it.call.client, key.clone())) else { continue };
        judge.examine();
        if let Some((op, before)) = known.iter().find(|(_, before)| own.version <= before.version) {
            let what = format!(
                "client {} had {} {} of {key} (call {op}), and with its session {} made its write {} \
                 (call {}), which is not above it",
                it.call.client,
                law.verb(),
                show(before),
                it.call.node,
                show(own),
                it.call.op
            );
            let ended = it.ended_us().unwrap_or(it.at_us);
            judge.violation(ended, &[*op, it.call.op], &[&it.call.node], what);
        }
    }
}

fn learn<'a>(it: &Asked<'a>, law: Law, known: &mut BTreeMap<(u32, String), Known<'a>>) {
    let learned: Vec<(String, &'a Sibling)> = if law.is_of_own_writes() {
        wrote(it)
    } else if let (Some(key), Some(Outcome::Row { siblings, .. })) =
        (key_read(&it.call.request), it.outcome())
    {
        siblings.iter().map(|sibling| (key.clone(), sibling)).collect()
    } else {
        return;
    };
    for (key, sibling) in learned {
        let known = known.entry((it.call.client, key)).or_default();
        let highest = known.first().map_or(0, |(_, it)| it.version);
        if sibling.version > highest {
            known.clear();
        }
        if sibling.version >= highest && !known.iter().any(|(_, it)| *it == sibling) {
            known.push((it.call.op, sibling));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Judgement;
    use super::super::testing::{
        Build, call, read, refused, remove, row, sibling, unknown, write, wrote,
    };
    use super::*;
    use crate::simulation::history::Call;

    const LAWS: [Check; 4] =
        [READ_YOUR_WRITES, MONOTONIC_READS, MONOTONIC_WRITES, WRITES_FOLLOW_READS];

    /// Everything that may look odd and is right.
    fn good() -> Build {
        let x = |version, origin| sibling(&format!("x{version}{origin}"), version, origin, version);
        let mut it = Build::default();
        it.session((1, 2), "a-1", write("k", "x1a"), wrote("k", x(1, "a")));
        it.session((3, 4), "b-1", read("k"), row(&[x(1, "a"), x(1, "b")]));
        it.session((5, 6), "b-1", read("k"), row(&[x(2, "c"), x(1, "b")]));
        it.session((7, 8), "c-1", read("k"), refused(412, "SessionNotReached"));
        let inconsistent = Outcome::Row { siblings: vec![x(1, "b")], inconsistent: true };
        it.session((9, 10), "c-1", read("k"), inconsistent);
        it.session((11, 12), "c-1", write("k", "x3c"), wrote("k", x(3, "c")));
        it.ask((13, 14), "b-1", read("k"), row(&[x(2, "c"), x(1, "b")]));
        it.session((15, 16), "b-1", write("k", "lost"), unknown());
        it.session((17, 18), "a-1", read("k"), row(&[x(3, "c"), x(3, "b")]));
        it.session((19, 20), "a-1", write("k", "x4a"), wrote("k", x(4, "a")));
        it
    }

    #[test]
    fn a_client_that_moves_with_its_session_passes() {
        for law in LAWS {
            good().passes(law);
        }
    }

    #[test]
    fn a_read_without_ones_own_write_is_found() {
        let mut it = good();
        let before = [sibling("x3c", 3, "c", 3), sibling("x3b", 3, "b", 3)];
        let op = it.session((30, 31), "b-1", read("k"), row(&before));
        let found =
            it.violates(READ_YOUR_WRITES, "client 1 had written \"x4a\" (4@a) of web/prod/k");
        assert_eq!((found.at_us, found.ops), (31, vec![10, op]));
        it.passes(MONOTONIC_READS);
        let mut it = good();
        it.session((30, 31), "b-1", read("k"), row(&[]));
        it.violates(READ_YOUR_WRITES, "shows it nothing");
    }

    #[test]
    fn a_sibling_of_the_same_version_does_not_stand_for_ones_own() {
        let mut it = good();
        it.session((30, 31), "b-1", read("k"), row(&[sibling("y", 4, "b", 9)]));
        it.violates(READ_YOUR_WRITES, "shows it \"y\" (4@b)");
    }

    #[test]
    fn a_read_that_goes_back_is_found() {
        let mut it = good();
        it.session((21, 22), "b-1", read("k"), row(&[sibling("x5b", 5, "b", 5)]));
        it.session((23, 24), "c-1", read("k"), row(&[sibling("x4a", 4, "a", 4)]));
        it.violates(MONOTONIC_READS, "client 1 had read \"x5b\" (5@b)");
        it.passes(READ_YOUR_WRITES);
    }

    #[test]
    fn a_write_below_ones_own_is_found() {
        let mut it = good();
        it.session((21, 22), "b-1", write("k", "y"), wrote("k", sibling("y", 4, "b", 9)));
        it.violates(MONOTONIC_WRITES, "had written \"x4a\" (4@a) of web/prod/k (call 10)");
        it.passes(WRITES_FOLLOW_READS);
    }

    #[test]
    fn a_write_below_what_was_read_is_found() {
        let mut it = good();
        it.session((21, 22), "b-1", read("k"), row(&[sibling("x7b", 7, "b", 5)]));
        it.session((23, 24), "c-1", write("k", "y"), wrote("k", sibling("y", 5, "c", 9)));
        it.violates(WRITES_FOLLOW_READS, "had read \"x7b\" (7@b)");
        it.passes(MONOTONIC_WRITES);
    }

    #[test]
    fn without_a_session_nothing_is_promised() {
        let mut it = good();
        it.ask((21, 22), "b-1", read("k"), row(&[]));
        it.ask((23, 24), "c-1", write("k", "y"), wrote("k", sibling("y", 1, "b", 9)));
        for law in LAWS {
            it.passes(law);
        }
    }

    #[test]
    fn a_removal_can_hide_what_was_seen() {
        let mut it = good();
        let op = it.call(21, call(2, "b-1", remove("k")));
        it.answer(22, op, wrote("k", sibling("", 5, "b", 9)));
        it.session((23, 24), "c-1", read("k"), row(&[]));
        it.session((25, 26), "c-1", read("k"), row(&[sibling("old", 1, "d", 1)]));
        it.passes(READ_YOUR_WRITES);
        it.passes(MONOTONIC_READS);
        // But not one that does not win, nor one that comes later.
        it.session((27, 28), "c-1", read("k"), row(&[sibling("new", 1, "d", 10)]));
        it.violates(READ_YOUR_WRITES, "shows it \"new\" (1@d)");
        let mut it = good();
        it.session((21, 22), "c-1", read("k"), row(&[]));
        let op = it.call(23, call(2, "b-1", remove("k")));
        it.answer(24, op, wrote("k", sibling("", 5, "b", 9)));
        it.violates(READ_YOUR_WRITES, "shows it nothing");
    }

    #[test]
    fn a_retry_is_answered_as_the_first_time() {
        let retry = Call {
            idempotency_key: Some("i".into()),
            has_session: true,
            ..call(1, "a-1", write("r", "v"))
        };
        let mut it = good();
        let op = it.call(21, retry.clone());
        it.answer(22, op, wrote("r", sibling("v", 1, "a", 1)));
        it.session((23, 24), "a-1", write("r", "w"), wrote("r", sibling("w", 2, "a", 2)));
        let op = it.call(25, retry);
        it.answer(26, op, wrote("r", sibling("v", 1, "a", 1)));
        it.passes(MONOTONIC_WRITES);
    }

    #[test]
    fn void_nodes_promise_nothing() {
        let mut it = good();
        it.session((21, 22), "b-1", read("k"), row(&[]));
        it.run.void_nodes = ["b-1".to_owned()].into();
        assert!(matches!(it.judge(READ_YOUR_WRITES), Judgement::Pass { .. }));
    }
}
