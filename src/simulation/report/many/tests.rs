use super::*;
use crate::simulation::report::example::example;

fn many() -> Many {
    let mut seeds = Vec::new();
    let mut run = Run::default();
    for seed in [3, 1, 2] {
        let (records, mut checks) = example(seed);
        if seed != 2 {
            checks.truncate(2);
        }
        let report = Report::new(&records, checks);
        seeds.push(OneSeed::of(&report));
        run = report.run;
    }
    seeds.push(OneSeed::not_run(4, "out of <memory>"));
    Many::new(&run, seeds)
}

#[test]
fn seeds_are_counted_by_how_they_ended() {
    let many = many();
    assert_eq!(many.seeds.iter().map(|one| one.seed).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let counts = many.counts();
    assert_eq!((counts.passed, counts.violated, counts.undecided), (2, 1, 1));
    assert_eq!(many.verdict(), Verdict::Violation);
    assert_eq!(many.not_passed().iter().map(|one| one.seed).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(Many::new(&Run::default(), Vec::new()).verdict(), Verdict::Vacuous);
}

#[test]
fn the_seed_that_is_shown_is_the_first_that_failed_or_else_the_first() {
    let mut many = many();
    assert_eq!(many.shown(), Some(2));
    many.seeds.retain(|one| one.seed != 2);
    assert_eq!(many.shown(), Some(1), "one that was not run cannot be shown");
    many.seeds.retain(|one| one.seed == 4);
    assert_eq!(many.shown(), None);
}

#[test]
fn numbers_spread_over_the_seeds_that_ended() {
    let many = many();
    let spread = many.spread();
    let conflicts: Vec<u64> = many.seeds.iter().map(|one| one.conflicts).collect();
    let most = conflicts.iter().max().copied().unwrap();
    assert_eq!(spread.conflicts.unwrap().max, most);
    assert!(spread.conflicts.unwrap().p50 > 0);
    let island = |kind| {
        let of = |w: &&WithoutSpread| w.region == "ap-south" && w.kind == kind;
        spread.without.iter().find(of).unwrap()
    };
    assert_eq!(island(Kind::ConfigWrite).longest_us.max, 0);
    let secrets = island(Kind::SecretRead);
    let worst = many.seeds.iter().find(|one| one.seed == secrets.worst_seed).unwrap();
    let of = |w: &&Without| w.region == "ap-south" && w.kind == Kind::SecretRead;
    assert_eq!(worst.without.iter().find(of).unwrap().longest_us, secrets.longest_us.max);
}

#[test]
fn the_text_names_failing_seeds_and_how_to_run_one_again() {
    let shown = text::text(&many(), false);
    assert!(shown.starts_with("VIOLATION  "), "{shown}");
    assert!(shown.contains("2 of 4 seeds passed, 1 violated the claim, 1 undecided"));
    assert!(shown.contains("     2  VIOLATION  24.120 s linearizable: request 9002"), "{shown}");
    assert!(shown.contains("     4  UNDECIDED  the run did not end: out of <memory>"));
    assert!(shown.contains("again: holm simulate simulations/island-and-crash.toml --seed 2"));
    assert!(shown.lines().all(|line| line.chars().count() <= super::super::text::WIDTH));
}

#[test]
fn programs_read_the_counts_and_each_seed() {
    let many = many();
    let value: serde_json::Value = serde_json::from_str(&many.json().unwrap()).unwrap();
    assert_eq!(value["counts"]["passed"], 2);
    assert_eq!(value["seeds"][1]["first"]["check"], "linearizable");
    assert_eq!(value["spread"]["not_agreed"], 0);
    let again: Many = serde_json::from_value(value).unwrap();
    assert_eq!(again, many);
}
