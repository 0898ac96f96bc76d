//! `holm status`: what a node says of its cluster, as tables. It shows what there is, so that a
//! later node's new columns appear without a new command line.

use clap::Args;
use serde_json::{Map, Value};

use super::formats::shorten;
use super::list::print;
use super::{Failure, Global, Terminal};

/// Arguments of `holm status`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm status
  holm status --url http://127.0.0.1:8102
  holm status --output json")]
pub struct Status {}

impl Status {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let cluster = global.client()?.cluster().await?;
        if global.json() {
            return terminal.say_json(&cluster);
        }
        let Value::Object(members) = &cluster else {
            return terminal.say(cell(&cluster));
        };
        for (name, value) in in_order(members).filter(|(_, value)| !is_table(value)) {
            match value {
                Value::Object(below) if name != "vector" => {
                    for (below, value) in below {
                        terminal.say(format!("{name}.{below}: {}", cell(value)))?;
                    }
                }
                value => terminal.say(format!("{name}: {}", cell(value)))?,
            }
        }
        for (name, value) in in_order(members).filter(|(_, value)| is_table(value)) {
            terminal.say(format!("\n{name}"))?;
            let (title, rows) = tabulate(&unfold(value));
            let title: Vec<&str> = title.iter().map(String::as_str).collect();
            print(&title, &rows, terminal)?;
        }
        Ok(())
    }
}

fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
}

/// Members with those first that say what it is about; the node sends the others by alphabet.
fn in_order(members: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    const FIRST: [&str; 5] = ["cluster", "name", "region", "node", "ready"];
    let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| rank(name));
    members.into_iter()
}

/// The rows of a table; a row with a table of its own becomes a row for each of that one's.
fn unfold(table: &Value) -> Vec<Map<String, Value>> {
    let mut rows = Vec::new();
    for row in table.as_array().into_iter().flatten().filter_map(Value::as_object) {
        let inner = row.iter().find(|(_, value)| is_table(value));
        let Some((name, inner)) = inner.and_then(|(name, value)| Some((name, value.as_array()?)))
        else {
            rows.push(row.clone());
            continue;
        };
        for inner in inner.iter().filter_map(Value::as_object) {
            let mut whole = row.clone();
            whole.remove(name);
            whole.extend(inner.clone());
            rows.push(whole);
        }
    }
    rows
}

/// One column for each member of any row.
fn tabulate(rows: &[Map<String, Value>]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(in_order) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let cells = rows
        .iter()
        .map(|row| names.iter().map(|name| row.get(*name).map(cell).unwrap_or_default()).collect());
    (names.iter().map(|name| name.to_uppercase()).collect(), cells.collect())
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        other => shorten(&other.to_string(), 80),
    }
}
