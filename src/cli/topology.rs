//! `holm topology`: the file that describes a deployment, written from a running cluster, and checked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, Global, Terminal, table};
use crate::quorum::first_voters;
use crate::topology::Topology as File;

mod import;

/// Arguments of `holm topology`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm topology import --out t.toml     regions, nodes, voters and measured round trips
  holm topology check t.toml
  holm simulate plan --topology t.toml  what this deployment can bear")]
pub struct Topology {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a topology file from a running cluster, with the round trips that its nodes measure.
    Import(import::Import),
    /// Check a topology file and show it.
    #[command(after_help = "\
Examples:
  holm topology check regions/three-continents.toml")]
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl Topology {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match self.action {
            Action::Import(import) => import.run(global, terminal).await,
            Action::Check { file } => {
                let file = File::load(&file).map_err(|e| Failure::usage(e.to_string()))?;
                show(&file, global, terminal)
            }
        }
    }
}

fn show(file: &File, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let voters: Vec<&str> = first_voters(file).iter().map(|node| node.name.as_str()).collect();
    let regions = file.regions();
    let pairs = regions
        .iter()
        .enumerate()
        .flat_map(|(i, a)| regions[i + 1..].iter().map(move |b| (&a.name, &b.name)));
    if global.json() {
        let nodes = file.nodes().iter().map(|node| {
            json!({"node": node.name, "region": node.region, "peer": node.peer.as_str(),
                "http": node.http.as_str(), "votes": voters.contains(&node.name.as_str())})
        });
        let links = pairs.map(|(a, b)| {
            let rtt_ms = u64::try_from(file.rtt(a, b).as_millis()).unwrap_or(u64::MAX);
            json!({"between": [a, b], "rtt_ms": rtt_ms})
        });
        let discover = regions.iter().filter_map(|region| {
            let name = region.discover.as_ref()?.to_string();
            Some(json!({"region": region.name, "name": name}))
        });
        let (nodes, links): (Vec<_>, Vec<_>) = (nodes.collect(), links.collect());
        let discover: Vec<_> = discover.collect();
        let mut shown = json!({"cluster": file.cluster, "nodes": nodes, "links": links});
        if !discover.is_empty() {
            shown["discover"] = discover.into();
        }
        return terminal.say_json(&shown);
    }
    terminal.say(format!(
        "cluster {}: {} regions, {} nodes; at the first start {} of {} voters have to agree",
        file.cluster,
        regions.len(),
        file.nodes().len(),
        voters.len() / 2 + 1,
        voters.len()
    ))?;
    terminal.say("")?;
    let rows = file.nodes().iter().map(|node| {
        let region = regions.iter().find(|region| region.name == node.region);
        let votes = if voters.contains(&node.name.as_str()) { "yes" } else { "no" };
        vec![
            node.region.to_string(),
            node.name.to_string(),
            node.peer.to_string(),
            node.http.to_string(),
            votes.to_owned(),
            region.map(|region| region.place.clone()).unwrap_or_default(),
        ]
    });
    let title = ["REGION", "NODE", "PEER", "HTTP", "VOTES", "PLACE"];
    for line in table::lines(&title, &rows.collect::<Vec<_>>()) {
        terminal.say(line)?;
    }
    let rows: Vec<Vec<String>> = pairs
        .map(|(a, b)| {
            vec![a.to_string(), b.to_string(), format!("{} ms", file.rtt(a, b).as_millis())]
        })
        .collect();
    let names: Vec<Vec<String>> = regions
        .iter()
        .filter_map(|region| {
            Some(vec![region.name.to_string(), region.discover.as_ref()?.to_string()])
        })
        .collect();
    if !names.is_empty() {
        terminal.say("")?;
        for line in table::lines(&["REGION", "MORE NODES BY DNS"], &names) {
            terminal.say(line)?;
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    terminal.say("")?;
    table::lines(&["BETWEEN", "AND", "ROUND TRIP"], &rows)
        .iter()
        .try_for_each(|line| terminal.say(line))
}
