//! What operators look at names what nodes export: alerts, dashboards and the runbook fit each other
//! and a running cluster, so that a rename breaks here and not at night.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use holm::cli::Cli;
use holm::client::Write;
use serde_json::Value;

use crate::cluster::{Cluster, document, eventually, http, json, key};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// One alert, as alerts.yml has it.
pub(crate) struct Alert {
    name: String,
    expr: String,
    severity: String,
    annotations: Value,
}

pub(crate) fn alerts() -> Vec<Alert> {
    let file: Value = serde_saphyr::from_str(&read("prometheus/alerts.yml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alert = |rule: &Value| Alert {
        name: text(&rule["alert"]),
        expr: text(&rule["expr"]),
        severity: text(&rule["labels"]["severity"]),
        annotations: rule["annotations"].clone(),
    };
    rules.map(alert).collect()
}

pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(deploy("grafana")).unwrap().map(|file| file.unwrap().path());
    let board = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            serde_json::from_str(&text).unwrap(),
        )
    };
    files.map(board).collect()
}

pub(crate) fn queries(board: &Value) -> Vec<String> {
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let variables = board["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter_map(|variable| variable["definition"].as_str());
    let of_panels = targets.map(|target| target["expr"].as_str().unwrap());
    of_panels.chain(of_variables).map(str::to_owned).collect()
}

/// Our metrics in a query, each with the labels that it is selected by.
fn selected(query: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = query;
    while let Some(at) = rest.find(is_name) {
        let end = rest[at..].find(|c| !is_name(c)).map_or(rest.len(), |len| at + len);
        let name = &rest[at..end];
        rest = &rest[end..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = text;
        }
        if !name.starts_with("holm_") && !name.starts_with("process_") {
            continue;
        }
        let labels = found.entry(name.to_owned()).or_default();
        // No label's value here has a closing bracket but routes, which end in one before a quote.
        let Some(selector) = rest.strip_prefix('{') else { continue };
        let mut quoted = false;
        let end = selector.find(|c| {
            quoted ^= c == '"';
            c == '}' && !quoted
        });
        let (selector, after) = selector.split_at(end.unwrap());
        rest = after;
        let mut quoted = false;
        for part in selector.split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        }) {
            let label = part.split(['=', '!']).next().unwrap().trim();
            labels.insert(label.to_owned());
        }
    }
    found
}

/// What a node exports: names of series, with the labels that any of them has.
fn exported(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let series = line.rsplit_once(' ').unwrap().0;
        found.extend(
            selected(series)
                .into_iter()
                .map(|(name, labels)| {
                    let known = found.get(&name).cloned().unwrap_or_default();
                    (name, &known | &labels)
                })
                .collect::<Vec<_>>(),
        );
    }
    found
}

#[test]
fn names_and_labels_are_read_from_queries() {
    let query =
        "sum by (le) (rate(holm_a_bucket{route=~\"/x/{y}\",status!=\"5\"}[5m])) / holm_b > 1";
    let found = selected(query);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["holm_a_bucket", "holm_b"]);
    assert_eq!(found["holm_a_bucket"].iter().collect::<Vec<_>>(), ["route", "status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_and_label_that_alerts_and_dashboards_name_is_exported() {
    let cluster = Cluster::start(&["a", "b", "c"], 1).await;
    cluster.server("a").node().metrics().show_process();
    let writes = [Write::new(key("color"), json("\"blue\""))];
    cluster.client("a").write(&document("web/prod"), &writes, None).await.unwrap();
    let metrics = async || {
        let url = format!("{}/metrics", cluster.url("a"));
        http().get(url).send().await.unwrap().text().await.unwrap()
    };
    // What comes with the first event of its kind.
    eventually("peers are met and requests counted", async || {
        let text = metrics().await;
        text.contains("holm_peer_connected{") && text.contains("holm_http_requests_total{")
    })
    .await;
    let exported = exported(&metrics().await);
    let alerts = alerts().into_iter().map(|alert| (alert.name, alert.expr));
    let boards = dashboards().into_iter().flat_map(|(name, board)| {
        queries(&board).into_iter().map(move |query| (name.clone(), query))
    });
    let mut looked_at = 0;
    for (place, query) in alerts.chain(boards) {
        for (name, labels) in selected(&query) {
            looked_at += 1;
            let Some(known) = exported.get(&name) else {
                panic!("{place} names {name}, which no node exports: {:?}", exported.keys())
            };
            for label in labels.iter().filter(|label| !["job", "instance"].contains(&&***label)) {
                assert!(known.contains(label), "{place}: {name} has no label {label}: {known:?}");
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} were looked at");
}

#[test]
fn each_alert_has_a_severity_annotations_tests_and_an_entry_in_the_runbook() {
    let (runbook, tests) = (read("README.md"), read("prometheus/alerts_test.yml"));
    let tests: Value = serde_saphyr::from_str(&tests).unwrap();
    let cases: Vec<(&str, bool)> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
        .map(|case| {
            let fires = case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            (case["alertname"].as_str().unwrap(), fires)
        })
        .collect();
    let mut headings: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Holm").map(|_| &line[4..]))
        .collect();
    for alert in alerts() {
        let name = &*alert.name;
        assert!(["critical", "warning", "info"].contains(&&*alert.severity), "{name}");
        for annotation in ["summary", "description"] {
            assert!(
                alert.annotations[annotation].as_str().is_some_and(|it| it.len() > 10),
                "{name}"
            );
        }
        let anchor = format!("deploy/README.md#{}", name.to_lowercase());
        assert_eq!(alert.annotations["runbook_url"], anchor, "{name}");
        assert!(headings.remove(name), "the runbook has no entry {name}");
        for fires in [true, false] {
            assert!(cases.contains(&(name, fires)), "{name} has no test where fires is {fires}");
        }
    }
    assert!(headings.is_empty(), "the runbook has entries of no alert: {headings:?}");
}

#[test]
fn each_entry_of_the_runbook_says_what_to_see_and_its_commands_are_commands() {
    let runbook = read("README.md");
    let mut commands = 0;
    let mut in_block = false;
    for line in runbook.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let command = line.split(" #").next().unwrap().trim_end();
        if !in_block || !command.starts_with("holm ") {
            continue;
        }
        let words = command.split_whitespace().map(|word| word.trim_matches('\''));
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("{command}: {error}");
        }
        commands += 1;
    }
    assert!(commands > 10, "only {commands} commands");
    for entry in runbook.split("\n### Holm").skip(1) {
        for part in ["**What it means.**", "**What users notice.**", "**Look.**", "**Do.**"] {
            assert!(entry.contains(part), "no {part} in Holm{}", &entry[..60.min(entry.len())]);
        }
    }
}

#[test]
fn dashboards_are_whole_and_ask_the_data_source_that_is_chosen() {
    let boards = dashboards();
    assert!(boards.len() >= 2);
    for (name, board) in boards {
        assert!(board["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{name}");
        assert!(board["uid"].as_str().is_some_and(|uid| (1..=40).contains(&uid.len())), "{name}");
        let variables = board["templating"]["list"].as_array().unwrap();
        assert!(
            variables.iter().any(|it| it["type"] == "datasource" && it["name"] == "datasource")
        );
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}'s id is taken");
            let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{name}: {title} is off the board");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{name}: {title} lies on another");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title}");
            assert!(panel["description"].as_str().is_some_and(|it| !it.is_empty()), "{title}");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}: {title}");
                assert!(target["expr"].as_str().unwrap().contains("job=~\"$job\""), "{title}");
            }
        }
    }
}
