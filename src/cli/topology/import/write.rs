//! The text of a topology file from what nodes see. Pure; whoever calls it checks that it can be
//! read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::seen::{Seen, SeenRegion};
use crate::model::{NodeName, RegionName};
use crate::quorum::first_voters;
use crate::topology::{RTT_MS_MAX, Topology};

/// The round trip of links where nothing at all is measured, in milliseconds.
const RTT_MS_UNKNOWN: u32 = 100;

/// A topology file and how far it is to be trusted.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) measured: Vec<[RegionName; 2]>,
    pub(super) not_measured: Vec<[RegionName; 2]>,
    /// Who votes in the cluster; empty where the node does not know.
    voters: Vec<NodeName>,
}

impl Written {
    /// What the file cannot say of the cluster.
    pub(super) fn remarks(&self, topology: &Topology) -> Vec<String> {
        if self.voters.is_empty() {
            return vec!["the node knows of no quorum yet: who votes is as in its own file".into()];
        }
        let names = |names: Vec<&NodeName>| {
            let mut names: Vec<&str> = names.into_iter().map(NodeName::as_str).collect();
            names.sort_unstable();
            names.join(", ")
        };
        let today = names(self.voters.iter().collect());
        let founded = names(first_voters(topology).into_iter().map(|node| &node.name).collect());
        if today == founded {
            return Vec::new();
        }
        vec![format!(
            "{today} vote today; in a file the first nodes of 1, 2, 3 or 5 regions do, and by this \
             one {founded}"
        )]
    }
}

/// Writes the regions and nodes that `first` sees, with the round trips that all of them measured.
pub(super) fn file(first: &Seen, others: &[Seen], rtt_default: Option<u32>) -> Written {
    let samples = Samples::of(first, others);
    let regions: Vec<&RegionName> = first.regions.iter().map(|region| &region.region).collect();
    let pairs = regions
        .iter()
        .enumerate()
        .flat_map(|(i, a)| regions[i + 1..].iter().map(move |b| [(*a).clone(), (*b).clone()]));
    let (measured, not_measured): (Vec<_>, Vec<_>) =
        pairs.partition(|[a, b]| samples.between(a, b).is_some());
    let mut text = head(first, others.len());
    if !not_measured.is_empty() {
        let longest = measured.iter().filter_map(|[a, b]| samples.between(a, b)).map(|s| s.ms);
        let default = rtt_default.or_else(|| longest.max()).unwrap_or(RTT_MS_UNKNOWN);
        let _ = writeln!(text, "rtt_ms_default = {default} # not measured: the links named below");
    }
    if let Some(within) = samples.within() {
        let _ = writeln!(text, "rtt_ms_within = {} # {}", within.ms, within.told());
    }
    let knows_voters = first.voters().next().is_some();
    for region in &first.regions {
        text += &of_region(first, region, knows_voters);
    }
    for [a, b] in &measured {
        let Some(sample) = samples.between(a, b) else { continue };
        text += &format!(
            "\n[[links]]\nbetween = [\"{a}\", \"{b}\"]\nrtt_ms = {} # {}\n",
            sample.ms,
            sample.told()
        );
    }
    if !not_measured.is_empty() {
        text += "\n# Nobody measured these; `rtt_ms_default` holds for them.\n";
    }
    for [a, b] in &not_measured {
        let _ = writeln!(text, "# {a} – {b}");
    }
    let voters = first.voters().cloned().collect();
    Written { text, measured, not_measured, voters }
}

fn head(first: &Seen, others: usize) -> String {
    let who = match others {
        0 => "it alone".to_owned(),
        others => format!("it and {others} more of its nodes"),
    };
    format!(
        "# A running cluster as {} saw it, with round trips as {who} measured them.\n# Written by \
         `holm topology import`. `holm simulate plan` shows what it can bear.\ncluster = {}\n",
        first.node,
        quoted(&first.cluster)
    )
}

fn of_region(first: &Seen, region: &SeenRegion, knows_voters: bool) -> String {
    let mut text = format!("\n[[regions]]\nname = \"{}\"\n", region.region);
    if !region.place.is_empty() {
        let _ = writeln!(text, "place = {}", quoted(&region.place));
    }
    let has_voter = region.nodes.iter().any(|node| first.votes(&node.node));
    if knows_voters && !has_voter {
        text += "voters = false # none of its nodes votes today\n";
    } else if !knows_voters && !region.voters {
        text += "voters = false\n";
    }
    // The first node of a region is the one that votes.
    let mut nodes: Vec<_> = region.nodes.iter().collect();
    nodes.sort_by_key(|node| !first.votes(&node.node));
    text += "nodes = [\n";
    for node in nodes {
        let vote = if first.votes(&node.node) { " # votes" } else { "" };
        let (peer, http) = (quoted(&node.peer), quoted(&node.http));
        let _ = writeln!(
            text,
            "    {{ name = \"{}\", peer = {peer}, http = {http} }},{vote}",
            node.node
        );
    }
    text + "]\n"
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// What was measured of one link.
struct Sample {
    ms: u32,
    count: usize,
    least: f64,
    most: f64,
}

impl Sample {
    /// The median.
    fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (least, most) = (*samples.first()?, *samples.last()?);
        let (low, high) = (samples[(samples.len() - 1) / 2], samples[samples.len() / 2]);
        let middle = f64::midpoint(low, high).round().clamp(0.0, f64::from(RTT_MS_MAX));
        // It is whole, and within the bounds of what a file may say.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ms = middle as u32;
        Some(Self { ms, count: samples.len(), least, most })
    }

    fn told(&self) -> String {
        match self.count {
            1 => format!("measured once: {:.1} ms", self.least),
            n => format!("measured {n} times: {:.1} to {:.1} ms", self.least, self.most),
        }
    }
}

/// Round trips that were measured, by the regions of both ends, the lesser name first.
struct Samples(BTreeMap<(RegionName, RegionName), Vec<f64>>);

impl Samples {
    fn of(first: &Seen, others: &[Seen]) -> Self {
        let mut all: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for seen in std::iter::once(first).chain(others) {
            let Some(from) = first.region_of(&seen.node) else { continue };
            for node in seen.nodes().filter(|node| node.rtt_measured && node.node != seen.node) {
                let rtt = node.rtt_ms.filter(|rtt| rtt.is_finite() && *rtt >= 0.0);
                if let (Some(to), Some(rtt)) = (first.region_of(&node.node), rtt) {
                    all.entry(ordered(from, to)).or_default().push(rtt);
                }
            }
        }
        Self(all)
    }

    fn between(&self, a: &RegionName, b: &RegionName) -> Option<Sample> {
        Sample::of(self.0.get(&ordered(a, b))?.clone())
    }

    /// Of all regions together.
    fn within(&self) -> Option<Sample> {
        let within = self.0.iter().filter(|((a, b), _)| a == b).flat_map(|(_, samples)| samples);
        Sample::of(within.copied().collect())
    }
}

fn ordered(a: &RegionName, b: &RegionName) -> (RegionName, RegionName) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}
