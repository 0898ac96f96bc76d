//! `holm topology import`: asks one node which others there are, and each of those what it measures.
//! It changes nothing in the cluster.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

use crate::cli::terminal::count;
use crate::cli::{Failure, Global, Terminal};
use crate::topology::{RTT_MS_MAX, Topology};

mod seen;
#[cfg(test)]
mod tests;
mod write;

use seen::Seen;

/// How long one of the other nodes may take to answer.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `holm topology import`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm topology import --out t.toml
  holm topology import --out t.toml --url http://eu-west.example.org:8101
  holm topology import --out t.toml --force --rtt-default 150

The node of --url says which nodes there are; each of them that is reached by its HTTP address, with
the same token, says what it measures. A link's round trip is the median of what both of its ends
measured. Links that nobody measured are named, and have the default.")]
pub(super) struct Import {
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite the file if it is there.
    #[arg(long)]
    force: bool,
    /// Ask no node but that of --url: the token goes nowhere else.
    #[arg(long)]
    this_node_only: bool,
    /// The round trip, in milliseconds, of links that nobody measured. Default: the longest of those
    /// that are measured.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(..=i64::from(RTT_MS_MAX)))]
    rtt_default: Option<u32>,
}

/// A node that did not say what it measures.
#[derive(Debug, serde::Serialize)]
struct Silent {
    node: String,
    why: String,
}

impl Import {
    pub(super) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        if !self.force && self.out.exists() {
            return Err(Failure::failed("the file is there already")
                .about(self.out.display())
                .hint("--force overwrites it"));
        }
        let first = Seen::read(global.client()?.cluster().await?).map_err(|why| {
            Failure::failed(why)
                .about(global.places_text())
                .hint("does it run an older version of Holm?")
        })?;
        let (others, silent) = match self.this_node_only {
            true => (Vec::new(), Vec::new()),
            false => ask_others(&first, global).await,
        };
        let written = write::file(&first, &others, self.rtt_default);
        // Whatever the nodes said: what is written can be read.
        let name = self.out.display().to_string();
        let topology = Topology::parse(&name, &written.text)
            .map_err(|e| Failure::failed(format!("what the nodes say is no topology: {e}")))?;
        save(&self.out, &written.text, self.force)?;
        if global.json() {
            return terminal.say_json(&json!({
                "file": name, "regions": topology.regions().len(), "nodes": topology.nodes().len(),
                "measured": written.measured, "not_measured": written.not_measured,
                "not_reached": silent, "remarks": written.remarks(&topology),
            }));
        }
        let links = written.measured.len() + written.not_measured.len();
        terminal.say(format!(
            "{name}: {}, {}; {} of {} between regions measured",
            count(topology.regions().len(), "region"),
            count(topology.nodes().len(), "node"),
            written.measured.len(),
            count(links, "link"),
        ))?;
        for Silent { node, why } in &silent {
            terminal.note(format!("{node} was not asked what it measures: {why}"))?;
        }
        for [a, b] in &written.not_measured {
            terminal.note(format!("not measured, has the default: {a} – {b}"))?;
        }
        for remark in written.remarks(&topology) {
            terminal.note(remark)?;
        }
        terminal.say(format!("holm simulate plan --topology {name} shows what it can bear"))
    }
}

/// What the other nodes say, and which of them do not.
async fn ask_others(first: &Seen, global: &Global) -> (Vec<Seen>, Vec<Silent>) {
    let is_https = match &global.discover {
        Some(name) => !name.starts_with("http://"),
        None => global.url.iter().any(|url| url.starts_with("https://")),
    };
    let scheme = if is_https { "https" } else { "http" };
    let asking = first.nodes().filter(|node| node.node != first.node).map(|node| async move {
        let url = format!("{scheme}://{}", node.http);
        let at = global.at(&url, global.timeout.min(OTHERS_TIMEOUT));
        let silent = |why: String| Silent { node: node.node.to_string(), why };
        let client = at.client().map_err(|_| silent(format!("{url} is no URL")))?;
        let answer = client.cluster().await.map_err(|e| silent(e.to_string()))?;
        let seen = Seen::read(answer).map_err(&silent)?;
        // A balancer, or an address that means this machine.
        if seen.node != node.node || seen.cluster != first.cluster {
            let (node, cluster) = (&seen.node, &seen.cluster);
            return Err(silent(format!("{url} is {node} of {cluster}")));
        }
        Ok(seen)
    });
    let (mut others, mut silent) = (Vec::new(), Vec::new());
    for answer in join_all(asking).await {
        match answer {
            Ok(seen) => others.push(seen),
            Err(why) => silent.push(why),
        }
    }
    (others, silent)
}

/// Writes a file that must not exist, or takes the place of one.
fn save(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::failed(e.to_string()).about(path.display());
    if !force {
        let file = std::fs::OpenOptions::new().create_new(true).write(true).open(path);
        return file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed);
    }
    // The old one stays whole until the new one is.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(failed)
}
