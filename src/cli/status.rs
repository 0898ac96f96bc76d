//! `holm status`: the cluster as one node sees it, as a table of its nodes.

use clap::Args;
use serde_json::Value;

use super::list::print;
use super::{Failure, Global, Terminal};

/// Arguments of `holm status`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm status
  holm status --url http://127.0.0.1:8102
  holm status --output json

STATE: connected, one-way, relayed (only others hear it), unreachable; joined, where the topology
file does not name it. LAG: changes that the node asked has and the other is not known to have, and
since when.")]
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
        let ready = match cluster["waits_for"].as_str() {
            None => "ready".to_owned(),
            Some(why) => format!("not ready: {why}"),
        };
        let (node, region) = (text(&cluster["node"]), text(&cluster["region"]));
        terminal.say(format!(
            "cluster {}, as {node} in {region} sees it ({ready})",
            text(&cluster["cluster"])
        ))?;
        let store = &cluster["store"];
        terminal.say(format!(
            "{} documents, {} keys, {} with conflicts; {} changes wait, {} records refused; {:.1} MB on disk",
            store["documents"],
            store["rows"],
            store["conflicts"],
            store["waiting"],
            store["quarantined"],
            store["database_bytes"].as_f64().unwrap_or(0.0) / 1e6,
        ))?;
        terminal.say("")?;
        let title = ["REGION", "NODE", "STATE", "RTT", "LAG", "HEARD", "HEARD BY"];
        let regions = cluster["regions"].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> = regions
            .flat_map(|region| {
                let nodes = region["nodes"].as_array().into_iter().flatten();
                nodes.map(move |node| row(&text(&region["region"]), node))
            })
            .collect();
        print(&title, &rows, terminal)
    }
}

fn row(region: &str, node: &Value) -> Vec<String> {
    let unit = |value: &Value, unit: &str| match value {
        Value::Null => "-".to_owned(),
        value => format!("{value} {unit}"),
    };
    let lag = match node["lag_changes"].as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(changes) => {
            let seconds = node["lag_ms"].as_f64().unwrap_or(0.0) / 1e3;
            format!("{changes} changes, {seconds:.1} s")
        }
    };
    let heard_by: Vec<String> =
        node["heard_by"].as_array().into_iter().flatten().map(text).collect();
    let joined = if node["joined"] == true { ", joined" } else { "" };
    vec![
        region.to_owned(),
        text(&node["node"]),
        format!("{}{joined}", text(&node["state"])),
        unit(&node["rtt_ms"], "ms"),
        lag,
        unit(&node["heard_ago_ms"], "ms ago"),
        heard_by.join(", "),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
