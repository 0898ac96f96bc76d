//! What holds for all checks: names, counts, exit codes, and that a verdict can be written down.

use std::collections::BTreeSet;

use super::testing::{Build, S, read, row, sibling, write, wrote};
use super::{Check, Judge, Judgement, VIOLATIONS_MAX, Verdicts, all, judge, run};
use crate::simulation::checks::History;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn with(judgement: fn(&History<'_>, &mut Judge)) -> Verdicts {
    let records = Build::default().records();
    let check = Check { name: "it", claim: "It holds.", run: judgement };
    Verdicts { verdicts: vec![judge(&check, &History::new(&records))] }
}

#[test]
fn every_check_has_a_name_of_its_own_and_one_sentence() {
    let mut seen = BTreeSet::new();
    for check in all() {
        assert!(seen.insert(check.name), "{}", check.name);
        assert!(check.claim.ends_with('.') && !check.claim.contains(". "), "{}", check.claim);
    }
}

#[test]
fn only_the_named_checks_are_made_and_an_unknown_name_is_no_pass() {
    let mut it = Build::default();
    it.ask((S, 2 * S), "a-1", write("k", "x"), wrote("k", sibling("x", 1, "a", 1)));
    it.ask((3 * S, 4 * S), "b-1", read("k"), row(&[sibling("x", 1, "a", 1)]));
    let records = it.records();
    let verdicts = run(&records, &names(&["winner", "thin_air"]));
    let made: Vec<&str> = verdicts.verdicts.iter().map(|it| it.check).collect();
    assert_eq!(made, ["thin_air", "winner"]);
    assert!(verdicts.pass());
    assert_eq!(run(&records, &names(&["winer"])).exit_code(), 4);
    assert_eq!(run(&records, &names(&[])).verdicts.len(), all().len());
    assert_eq!(run(&records[..0], &names(&["winner"])).exit_code(), 4);
}

#[test]
fn exit_codes_say_the_worst() {
    assert_eq!(with(|_, it| it.examine()).exit_code(), 0);
    assert_eq!(with(|_, _| {}).exit_code(), 4);
    assert_eq!(with(|_, it| it.undecided("why")).exit_code(), 4);
    assert_eq!(with(|_, it| it.vacuous("why")).exit_code(), 4);
    let both = with(|_, it| {
        it.undecided("why");
        it.violation(S, &[1], &["a-1"], "is wrong".to_owned());
    });
    assert_eq!(both.exit_code(), 1);
    assert_eq!(both.first_violation().map(|(check, it)| (check, it.at_us)), Some(("it", S)));
}

#[test]
fn a_check_without_a_case_is_no_pass_and_spoils_none() {
    let mut verdicts = with(|_, it| it.note("nobody asked"));
    let why = "nobody asked".to_owned();
    assert_eq!(verdicts.verdicts[0].result, Judgement::NotExercised { why });
    assert!(!verdicts.pass());
    verdicts.verdicts.extend(with(|_, it| it.examine()).verdicts);
    assert!(verdicts.pass());
    verdicts.verdicts.extend(with(|_, it| it.vacuous("why")).verdicts);
    assert_eq!(verdicts.exit_code(), 4);
}

#[test]
fn violations_are_the_first_by_time_and_all_are_counted() {
    let verdicts = with(|_, it| {
        for at_us in (0..50).rev() {
            it.examine();
            it.violation(at_us, &[], &[], "is wrong".to_owned());
        }
    });
    let Judgement::Violation { examined, count, violations } = &verdicts.verdicts[0].result else {
        panic!("{verdicts:?}");
    };
    assert_eq!((*examined, *count, violations.len()), (50, 50, VIOLATIONS_MAX));
    assert!(violations.iter().map(|it| it.at_us).eq(0..VIOLATIONS_MAX as u64));
}

#[test]
fn verdicts_are_written_as_json() {
    let mut it = Build::default();
    let wrong = [sibling("old", 1, "o", 1), sibling("new", 1, "p", 2)];
    it.ask((S, 2 * S), "a-1", read("k"), row(&wrong));
    let json = serde_json::to_value(run(&it.records(), &names(&["winner"]))).unwrap();
    let verdict = &json["verdicts"][0];
    assert_eq!(verdict["check"], "winner");
    assert_eq!(verdict["result"]["result"], "violation");
    assert_eq!(verdict["result"]["violations"][0]["ops"][0], 1);
    assert_eq!(verdict["result"]["violations"][0]["nodes"][0], "a-1");
}
