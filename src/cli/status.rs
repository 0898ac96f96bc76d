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
        if let Some(epochs) = epochs(&cluster["epochs"]) {
            terminal.say(epochs)?;
        }
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

/// Documents that are past a cap of changes, and why; nothing where all is well.
fn epochs(epochs: &Value) -> Option<String> {
    let over = epochs["over_soft_cap"].as_u64().unwrap_or(0);
    let over_hard = epochs["over_hard_cap"].as_u64().unwrap_or(0);
    if over.max(over_hard) == 0 {
        return None;
    }
    let by = epochs["held_up_by"].as_array().into_iter().flatten().map(|by| {
        let why = text(&by["why"]);
        by["node"].as_str().map_or_else(|| why.clone(), |node| format!("{node} ({why})"))
    });
    let by: Vec<String> = by.collect();
    let by = if by.is_empty() { "nobody: it is under way".to_owned() } else { by.join(", ") };
    Some(format!(
        "{} documents are past the soft cap of changes, {over_hard} past the hard one; held up by {by}",
        over.max(over_hard)
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_past_a_cap_are_said_with_who_holds_them_up() {
        let well = json!({"over_soft_cap": 0, "over_hard_cap": 0, "held_up_by": []});
        assert_eq!((epochs(&well), epochs(&Value::Null)), (None, None));
        let by = json!([{"node": "us-1", "why": "silent", "for_ms": 20}, {"why": "no quorum"}]);
        let held = json!({"over_soft_cap": 3, "over_hard_cap": 1, "held_up_by": by});
        assert_eq!(
            epochs(&held).unwrap(),
            "3 documents are past the soft cap of changes, 1 past the hard one; held up by us-1 \
             (silent), no quorum"
        );
        let off = json!({"over_soft_cap": 0, "over_hard_cap": 2, "held_up_by": []});
        assert!(epochs(&off).unwrap().starts_with("2 documents"));
    }
}
