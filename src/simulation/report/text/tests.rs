use super::*;
use crate::simulation::report::example::example;

fn shown(colour: bool) -> String {
    let (records, checks) = example(7);
    text(&Report::new(&records, checks), colour)
}

#[test]
fn the_verdict_comes_first_and_the_way_to_repeat_it_last() {
    let shown = shown(false);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("VIOLATION  A region that is cut off goes on"), "{}", lines[0]);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("island-and-crash, seed 7: 3,002 requests in 75.0 s"))
    );
    let again = lines.iter().position(|line| *line == "Run it again").unwrap();
    assert_eq!(lines[again + 1], "  holm simulate simulations/island-and-crash.toml --seed 7");
    assert!(lines[again + 2].contains("holm 0.1.0, scenario 6f1f0c4b7a1d9e5… seed 7"));
}

#[test]
fn each_region_says_what_it_could_do_in_faults_and_for_how_long_not() {
    let shown = shown(false);
    let island = shown.split("\nap-south").nth(1).unwrap();
    let row = |name: &str| island.lines().find(|line| line.contains(name)).unwrap();
    assert_eq!(row("write config").matches("100 %").count(), 2, "{}", row("write config"));
    let secrets: Vec<&str> = row("read secret").split("  ").filter(|c| !c.is_empty()).collect();
    assert!(secrets.iter().any(|cell| cell.trim().starts_with("at 10.")), "{secrets:?}");
    assert_eq!(secrets.iter().filter(|cell| cell.ends_with(" %")).count(), 2, "{secrets:?}");
    assert!(island.lines().next().unwrap().contains("hit by faults for 20.0 s, at most "));
}

#[test]
fn violations_say_what_when_and_where() {
    let shown = shown(false);
    let at = shown.lines().position(|line| line == "Violations").unwrap();
    let line = shown.lines().nth(at + 1).unwrap();
    assert!(line.starts_with("   24.120 s  linearizable: request 9002 read version 1"), "{line}");
    assert!(shown.contains("[ap-south-1]") && shown.contains("(requests #9001 #9002)"));
    assert!(shown.contains("  NO CASE    revocation"));
}

#[test]
fn no_line_is_too_long_and_nothing_foreign_steers_the_terminal() {
    let (mut records, mut checks) = example(3);
    for record in &mut records {
        if let crate::simulation::history::Event::Run(run) = &mut record.event {
            run.claim = format!("\u{1b}[2J {} {}", "word ".repeat(40), "x".repeat(300));
        }
    }
    checks[0].note = "\n\rgone ".repeat(30);
    let report = Report::new(&records, checks);
    let shown = text(&report, false);
    for line in shown.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
    assert!(shown.lines().any(|line| line.starts_with("  read secret ")));
    assert!(!shown.contains('\u{1b}') && !shown.contains('\r'));
    assert!(text(&report, true).contains("\u{1b}[31mVIOLATION\u{1b}[0m"));
}

#[test]
fn a_run_without_checks_or_records_shows_nothing_and_says_so() {
    let report = Report::new(&[], Vec::new());
    assert_eq!(report.verdict, Verdict::Vacuous);
    let shown = text(&report, false);
    assert!(shown.starts_with("VACUOUS  a run without a claim\n"));
    assert!(shown.contains("none were made"));
}

#[test]
fn long_words_are_cut_and_lines_wrapped() {
    assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
    assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
    assert_eq!(wrap("a abcdefgh", 4), ["a", "abcd", "efgh"]);
    assert_eq!(wrap("", 4), [""]);
}
