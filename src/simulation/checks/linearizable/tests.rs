//! Good and bad histories of one secret, and random ones of a register, in order and out of it.

use super::super::Judgement;
use super::super::testing::{
    Build, S, call, refused, secret_read, secret_remove, secret_write, unknown, value,
};
use super::*;
use crate::simulation::history::Call;

fn w(it: &mut Build, (from, to): (AtUs, AtUs), text: &str, version: u64) -> u64 {
    it.ask((from, to), "a-1", secret_write("s", text), value(text, version))
}

fn r(it: &mut Build, (from, to): (AtUs, AtUs), text: &str, version: u64) -> u64 {
    it.ask((from, to), "b-1", secret_read("s"), value(text, version))
}

fn maybe(it: &mut Build, (from, to): (AtUs, AtUs), text: &str) -> u64 {
    it.ask((from, to), "c-1", secret_write("s", text), unknown())
}

fn rm(it: &mut Build, (from, to): (AtUs, AtUs), outcome: Outcome) -> u64 {
    it.ask((from, to), "c-1", secret_remove("s"), outcome)
}

fn good() -> Build {
    let mut it = Build::default();
    r(&mut it, (0, 1), "", 0);
    w(&mut it, (1, 10), "a", 1);
    r(&mut it, (2, 3), "a", 1);
    w(&mut it, (4, 20), "b", 2);
    r(&mut it, (11, 12), "a", 1);
    maybe(&mut it, (21, 22), "c");
    maybe(&mut it, (21, 22), "never");
    r(&mut it, (30, 31), "c", 3);
    w(&mut it, (40, 41), "d", 5);
    it.ask((42, 43), "a-1", secret_write("s", "e"), refused(503, "QuorumUnavailable"));
    it
}

#[test]
fn an_order_by_versions_passes() {
    good().passes(CHECK);
}

#[test]
fn each_kind_of_disorder_is_found() {
    let mut it = good();
    let op = r(&mut it, (50, 51), "b", 2);
    let found =
        it.violates(CHECK, "began after the write of \"d\" as version 5 (call 9) had ended");
    assert_eq!((found.at_us, found.ops), (51, vec![9, op]));
    let mut it = good();
    w(&mut it, (50, 51), "x", 5);
    it.violates(CHECK, "version 5 of the secret s is \"d\" for call 9 and \"x\" for call 11");
    let mut it = good();
    w(&mut it, (50, 51), "x", 7);
    it.violates(CHECK, "no write can have made version 6 of the secret s");
    let mut it = good();
    r(&mut it, (60, 61), "d", 6);
    it.violates(CHECK, "\"d\" of the secret s is version 5 for call 9 and 6 for call 11");
    let mut it = good();
    it.ask((44, 51), "a-1", secret_write("s", "x"), value("x", 0));
    assert!(matches!(it.judge(CHECK), Judgement::Violation { .. }));
    let mut it = good();
    r(&mut it, (50, 51), "", 0);
    it.violates(CHECK, "the read of nothing (call 11) of the secret s by b-1 began after");
}

#[test]
fn a_gap_needs_a_write_that_began_in_time() {
    let mut it = good();
    maybe(&mut it, (60, 61), "late");
    w(&mut it, (70, 71), "x", 7);
    it.passes(CHECK);
    let mut it = good();
    w(&mut it, (50, 51), "x", 7);
    maybe(&mut it, (60, 61), "late");
    it.violates(CHECK, "no write can have made version 6");
}

#[test]
fn a_compare_and_set_replaces_what_it_names() {
    let cas = |expect| Request::SecretWrite {
        name: "s".into(),
        value: "x".into(),
        expect_version: Some(expect),
    };
    let mut it = good();
    it.ask((50, 51), "a-1", cas(5), value("x", 6));
    it.passes(CHECK);
    let mut it = good();
    it.ask((50, 51), "a-1", cas(4), value("x", 6));
    it.violates(CHECK, "was to replace version 4, and did not");
    let mut it = good();
    it.ask((50, 51), "a-1", cas(9), unknown());
    w(&mut it, (52, 53), "y", 7);
    it.violates(CHECK, "no write can have made version 6");
}

#[test]
fn retries_of_one_write_are_one_write() {
    let again = |outcomes: &[Outcome]| {
        let mut it = good();
        for (i, outcome) in outcomes.iter().enumerate() {
            let key = Some("i".to_owned());
            let op = it.call(
                50 + 2 * i as u64,
                Call { idempotency_key: key, ..call(1, "a-1", secret_write("s", "x")) },
            );
            it.answer(51 + 2 * i as u64, op, outcome.clone());
        }
        it
    };
    let mut it = again(&[unknown(), value("x", 6), value("x", 6)]);
    r(&mut it, (52, 53), "x", 6);
    it.passes(CHECK);
    again(&[value("x", 6), value("x", 7)]).violates(CHECK, "became versions 6 and 7");
    again(&[refused(503, "Busy"), refused(503, "Busy")]).passes(CHECK);
}

#[test]
fn removals_make_versions_begin_again() {
    let mut it = good();
    rm(&mut it, (50, 51), Outcome::Done);
    r(&mut it, (52, 53), "", 0);
    w(&mut it, (54, 55), "x", 1);
    rm(&mut it, (56, 57), unknown());
    maybe(&mut it, (58, 59), "y");
    r(&mut it, (60, 61), "x", 1);
    r(&mut it, (62, 63), "y", 1);
    it.passes(CHECK);
    let mut stale = it.clone();
    r(&mut stale, (64, 65), "x", 1);
    stale.violates(
        CHECK,
        "no order of the requests of the secret s agrees with time: the read of \"x\"",
    );
    let mut it = good();
    rm(&mut it, (50, 51), Outcome::Done);
    r(&mut it, (52, 53), "d", 5);
    it.violates(CHECK, "the read of \"d\" as version 5 (call 12) has no place after the removal");
    let mut it = good();
    rm(&mut it, (50, 51), Outcome::Done);
    w(&mut it, (52, 53), "x", 6);
    it.violates(CHECK, "the write of \"x\" as version 6 (call 12) has no place");
}

#[test]
fn a_search_that_takes_too_long_is_undecided() {
    let mut it = Build::default();
    rm(&mut it, (0, 1), refused(404, "NotFound"));
    for i in 0..40 {
        maybe(&mut it, (2, 3), &format!("m{i}"));
        it.ask((4, 400), "a-1", secret_read("s"), value(&format!("m{i}"), 1 + i % 7));
    }
    rm(&mut it, (400, 401), unknown());
    r(&mut it, (500, 501), "", 9);
    assert!(matches!(it.judge(CHECK), Judgement::Undecided { .. }), "{:?}", it.judge(CHECK));
}

#[test]
fn local_reads_may_be_old_but_not_older_than_they_say() {
    let local = || Request::SecretRead { name: "s".into(), consistency: "local".into() };
    let shows =
        |version, staleness_ms| Outcome::Value { value: Some("a".into()), version, staleness_ms };
    let mut it = good();
    it.ask((20 * S, 21 * S), "b-1", local(), shows(1, None));
    it.ask((20 * S, 21 * S), "b-1", local(), shows(1, Some(20_000)));
    it.passes(CHECK);
    it.ask((20 * S, 21 * S), "b-1", local(), shows(1, Some(19_000)));
    it.violates(
        CHECK,
        "b-1 shows version 1 of the secret s (call 13), which is older than it says",
    );
    let mut it = good();
    it.session((20 * S, 21 * S), "b-1", local(), shows(1, None));
    it.violates(CHECK, "client 1 was told of version 5");
}

mod random {
    use proptest::prelude::*;

    use super::*;

    /// What one request does at its own moment, and how far its call and answer are from that.
    #[derive(Clone, Debug)]
    struct Step {
        what: u8,
        before: u64,
        after: u64,
    }

    fn steps(removals: bool) -> impl Strategy<Value = Vec<Step>> {
        let what = if removals { 0..10u8 } else { 0..8u8 };
        let step = (what, 0..40u64, 0..40u64).prop_map(|(what, before, after)| Step {
            what,
            before,
            after,
        });
        proptest::collection::vec(step, 1..60)
    }

    /// A true history of a register: every request takes effect at 10 × its place.
    fn history(steps: &[Step]) -> Build {
        let mut it = Build::default();
        let (mut version, mut now) = (0, String::new());
        for (i, step) in steps.iter().enumerate() {
            let at = 100 + 10 * i as u64;
            let times = (at - step.before, at + step.after);
            let text = format!("v{i}");
            match step.what {
                0 | 1 => {
                    (version, now) = (version + 1, text.clone());
                    w(&mut it, times, &text, version);
                }
                2 => {
                    (version, now) = (version + 1, text.clone());
                    maybe(&mut it, times, &text);
                }
                3 => {
                    maybe(&mut it, times, &text);
                }
                8 if version > 0 => {
                    (version, now) = (0, String::new());
                    rm(&mut it, times, Outcome::Done);
                }
                9 if version > 0 => {
                    (version, now) = (0, String::new());
                    rm(&mut it, times, unknown());
                }
                _ => {
                    r(&mut it, times, &now, version);
                }
            }
        }
        it
    }

    /// Both ways have to say the same of histories without removals.
    fn by_search(it: &Build) -> bool {
        let records = it.records();
        let history = History::new(&records);
        let mut operations: Vec<Operation<'_>> =
            history.calls.iter().filter_map(|it| merged(&[it]).unwrap()).collect();
        operations.sort_by_key(|it| (it.from, it.op));
        matches!(search::order(&operations, STEPS_MAX), search::Found::Order)
    }

    proptest! {
        #[test]
        fn true_histories_pass(steps in steps(true)) {
            let judgement = history(&steps).judge(CHECK);
            prop_assert!(matches!(judgement, Judgement::Pass { .. }), "{judgement:#?}");
        }

        #[test]
        fn both_ways_agree(steps in steps(false), swap in 0..60usize, by in 0..4i64) {
            let mut it = history(&steps);
            // One answer tells of another version's state, or none does.
            let mut answers = it.records.iter_mut().filter_map(|it| match &mut it.event {
                crate::simulation::history::Event::Answer(answer) => match &mut answer.outcome {
                    Outcome::Value { value, version, .. } => Some((value, version)),
                    _ => None,
                },
                _ => None,
            }).collect::<Vec<_>>();
            let count = answers.len();
            if count > 1 && by > 0 {
                let (from, to) = (swap % count, (swap + by as usize) % count);
                let (value, version) = (answers[from].0.clone(), *answers[from].1);
                *answers[to].0 = value;
                *answers[to].1 = version;
            }
            let fast = matches!(it.judge(CHECK), Judgement::Pass { .. });
            prop_assert_eq!(fast, by_search(&it));
        }
    }
}
