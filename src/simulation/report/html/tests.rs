use super::*;
use crate::simulation::history::{Event, Record};
use crate::simulation::report::Verdict;
use crate::simulation::report::example::example;
use crate::simulation::report::many::OneSeed;

/// Says what is wrong with markup whose tags all have to be closed, as in XML.
fn unclosed(page: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        if let Some(stray) = rest[..start].find('>') {
            return Some(format!("a stray > in {:?}", &rest[stray..start]));
        }
        let Some(end) = rest[start..].find('>').map(|end| start + end) else {
            return Some(rest.into());
        };
        let tag = &rest[start + 1..end];
        if tag.contains('<') || tag.matches('"').count() % 2 == 1 {
            return Some(format!("not a tag: {tag}"));
        }
        rest = &rest[end + 1..];
        let name = tag.trim_matches('/').split(' ').next().unwrap_or_default();
        if tag.starts_with('!') || tag.ends_with('/') {
            continue;
        }
        if !tag.starts_with('/') {
            open.push(name);
        } else if open.pop() != Some(name) {
            return Some(format!("</{name}> closes another one"));
        }
        if matches!(name, "script" | "style") && !tag.starts_with('/') {
            let Some(end) = rest.find(&format!("</{name}>")) else { return Some(name.into()) };
            rest = &rest[end..];
        }
    }
    open.pop().map(|name| format!("<{name}> is not closed"))
}

fn shown(records: &[Record], checks: Vec<super::super::Checked>) -> String {
    let report = Report::new(records, checks);
    let seeds = (1..=3).map(|seed| OneSeed { seed, ..OneSeed::of(&report) }).collect();
    page(&report, Some(&Many::new(&report.run, seeds)))
}

/// Every text that comes from outside made hostile.
fn hostile() -> (Vec<Record>, Vec<super::super::Checked>) {
    let (records, checks) = example(7);
    let mut text = serde_json::to_string(&records).unwrap();
    for word in ["eu-west", "ap-south", "island-and-crash", "web/prod", "is cut off", "timed out"] {
        text = text.replace(word, r#"</svg><script>\"'&"#);
    }
    let mut checks = checks;
    for checked in &mut checks {
        checked.claim += "<script>";
        checked.note += "<img src=x>";
        checked.check += "</td>";
    }
    (serde_json::from_str(&text).unwrap(), checks)
}

#[test]
fn every_tag_is_closed() {
    let (records, checks) = example(7);
    assert_eq!(unclosed(&shown(&records, checks)), None);
    assert_eq!(unclosed(&page(&Report::new(&[], Vec::new()), None)), None);
    // The check itself finds what is wrong.
    assert!(unclosed("<p><b></p></b>").is_some());
    assert!(unclosed("<p>").is_some());
    assert!(unclosed("<p>a > b</p>").is_some());
}

#[test]
fn nothing_is_fetched() {
    let (records, checks) = example(7);
    let page = shown(&records, checks);
    for fetches in ["http://", "https://", "src=", "@import", "url(\"", "url('", "url(/", "href="] {
        assert!(!page.contains(fetches), "{fetches}");
    }
}

#[test]
fn foreign_text_is_never_markup() {
    let (records, checks) = hostile();
    let page = shown(&records, checks);
    assert_eq!(unclosed(&page), None);
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("<img").count(), 0);
    assert!(page.contains("&lt;/svg&gt;&lt;script&gt;&quot;&#39;&amp;"));
    assert!(page.contains("rotated &lt;script&gt;alert(1)"));
}

#[test]
fn the_page_shows_the_verdict_the_violation_and_how_to_run_it_again() {
    let (records, checks) = example(7);
    let page = shown(&records, checks);
    assert!(page.contains(r#"<span class="badge violation">VIOLATION</span>"#));
    assert!(page.contains("holm simulate simulations/island-and-crash.toml --seed 7"));
    assert!(page.contains("#9002") && page.contains("request ok named"));
    assert!(page.contains("How the nodes stood at 24.090 s"));
    assert!(page.contains("nothing from sa-east reaches af-south: 18.000 s to 30.000 s"));
}

#[test]
fn a_check_without_a_case_looks_unlike_a_pass() {
    let (records, checks) = example(7);
    let page = shown(&records, checks);
    assert!(page.contains(r#"<span class="badge idle">NO CASE</span>"#));
    assert!(page.contains("nothing to judge; no token was used after its revocation"));
}

#[test]
fn checks_without_a_case_spoil_no_run_and_make_none_good() {
    let (records, mut checks) = example(7);
    checks.retain(|checked| checked.verdict != Verdict::Violation);
    assert_eq!(Report::new(&records, checks.clone()).verdict, Verdict::Pass);
    checks.retain(|checked| checked.verdict == Verdict::NotExercised);
    assert_eq!(checks.len(), 1);
    assert_eq!(Report::new(&records, checks).verdict, Verdict::Vacuous);
}

#[test]
fn each_way_between_two_regions_has_a_strip_with_what_was_lost() {
    let (records, checks) = example(7);
    let page = shown(&records, checks.clone());
    for words in ["eu-west → us-east", "us-east → eu-west", "lost (100 %)", "a second</span>"] {
        assert!(page.contains(words), "{words}");
    }
    // Nobody was cut off, and nothing was lost, on this way before the first fault.
    let calm =
        |line: &str| line.contains("eu-west → us-east, 0.090 s to") && !line.contains("lost");
    assert!(page.split("<title>").any(calm));
    assert!(!page.contains("bytes sent by each node"));
}

#[test]
fn a_history_without_counts_of_links_shows_what_nodes_sent() {
    let (mut records, checks) = example(7);
    for record in &mut records {
        if let Event::Probe(probe) = &mut record.event {
            probe.sent_to.clear();
        }
    }
    let page = shown(&records, checks);
    assert_eq!(unclosed(&page), None);
    assert!(page.contains("bytes sent by each node") && page.contains("eu-west – us-east"));
    assert!(!page.contains("eu-west → us-east"));
    assert!(page.contains("nothing from sa-east reaches af-south: 18.000 s to 30.000 s"));
}

#[test]
fn a_longer_run_does_not_make_a_larger_page() {
    let (records, checks) = example(7);
    let short = page(&Report::new(&records, checks.clone()), None).len();
    // The same run ten times, one after the other.
    let mut long = Vec::new();
    for i in 0..10 {
        for record in records.iter().filter(|r| i == 0 || !matches!(r.event, Event::Run(_))) {
            let mut record = record.clone();
            record.at_us += i * 80_000_000;
            match &mut record.event {
                Event::Call(call) => call.op += i * 100_000,
                Event::Answer(answer) => answer.op += i * 100_000,
                Event::Run(run) => run.faults_end_us = 780_000_000,
                _ => {}
            }
            long.push(record);
        }
    }
    let long = page(&Report::new(&long, checks), None).len();
    assert!(long < short * 5 / 2 && long < 1_500_000, "{short} and {long}");
}

#[test]
fn a_run_without_anything_is_a_page_too() {
    let report = Report::new(&[], Vec::new());
    assert_eq!(report.verdict, Verdict::Vacuous);
    assert!(page(&report, None).contains("No checks were made"));
}
