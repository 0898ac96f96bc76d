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
        for (name, value) in members.iter().filter(|(_, value)| !is_table(value)) {
            terminal.say(format!("{name}: {}", cell(value)))?;
        }
        for (name, value) in members.iter().filter(|(_, value)| is_table(value)) {
            terminal.say(format!("\n{name}"))?;
            let rows: Vec<&Map<String, Value>> =
                value.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
            let (title, rows) = tabulate(&rows);
            let title: Vec<&str> = title.iter().map(String::as_str).collect();
            print(&title, &rows, terminal)?;
        }
        Ok(())
    }
}

fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
}

/// One column for each member of any row, in the order they first appear.
fn tabulate(rows: &[&Map<String, Value>]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    // What says which row it is goes first; serde_json gives members in alphabetical order.
    names.sort_by_key(|name| !matches!(*name, "node" | "name" | "region"));
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
