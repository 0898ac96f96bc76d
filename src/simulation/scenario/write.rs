//! Writes faults as a scenario file has them: what shrinking left over becomes a scenario that can
//! be kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::error::shown;
use super::{FaultKind, LinkQuality, TimedFault, Unsynced};

impl TimedFault {
    /// As `[[faults]]` in a scenario file, which reads back as the same fault. What is never healed
    /// has no `lasts`, and reads back so only where the file names its region as lost.
    pub fn to_toml(&self) -> String {
        let mut text = format!("[[faults]]\nat = \"{}\"\n", shown(self.at));
        if let Some(lasts) = self.lasts {
            let _ = writeln!(text, "lasts = \"{}\"", shown(lasts));
        }
        let _ = writeln!(text, "{} = {}", self.fault.kind_name(), self.fault.to_toml());
        text
    }
}

impl FaultKind {
    /// What stands behind the kind's name. Names are labels, so that none needs an escape.
    fn to_toml(&self) -> String {
        match self {
            Self::Partition { groups } => {
                let groups: Vec<String> = groups.iter().map(list).collect();
                format!("[{}]", groups.join(", "))
            }
            Self::Isolate { regions } => list(regions),
            Self::OneWay { from, to } | Self::Hold { from, to } => {
                format!("{{ from = \"{from}\", to = \"{to}\" }}")
            }
            Self::Bridge { via } => format!("\"{via}\""),
            Self::Flapping { a, b, every } => {
                format!("{{ between = [\"{a}\", \"{b}\"], every = \"{}\" }}", shown(*every))
            }
            Self::Link { a, b, quality } => {
                let ends = match (a, b) {
                    (Some(a), Some(b)) => Some(format!("between = [\"{a}\", \"{b}\"]")),
                    (Some(end), None) | (None, Some(end)) => Some(format!("of = \"{end}\"")),
                    (None, None) => None,
                };
                let parts: Vec<String> = ends.into_iter().chain(quality.to_toml()).collect();
                format!("{{ {} }}", parts.join(", "))
            }
            Self::Crash { node, unsynced } => {
                let unsynced = match unsynced {
                    Unsynced::Keep => "keep",
                    Unsynced::Lose => "lose",
                    Unsynced::Tear => "tear",
                };
                format!("{{ node = \"{node}\", unsynced = \"{unsynced}\" }}")
            }
            Self::Slow { node, factor } => format!("{{ node = \"{node}\", factor = {factor} }}"),
            Self::OldCopy { node, age } => {
                format!("{{ node = \"{node}\", age = \"{}\" }}", shown(*age))
            }
            Self::ClockStep { node, by_ms } => {
                format!("{{ node = \"{node}\", by = \"{by_ms}ms\" }}")
            }
            Self::ClockDrift { node, ppm } => format!("{{ node = \"{node}\", ppm = {ppm} }}"),
            Self::CertificateExpiry { nodes } | Self::Previous { nodes } => list(nodes),
            Self::Absent { node, region } => {
                format!("{{ node = \"{node}\", region = \"{region}\" }}")
            }
            Self::RotateCa | Self::RotateMasterKey | Self::Revoke => "true".to_owned(),
            Self::Voters { add, remove, transfer } => {
                let parts = [("add", add), ("remove", remove), ("transfer", transfer)];
                let part = |(key, node): (&str, &Option<_>)| {
                    node.as_ref().map(|node: &crate::model::NodeName| format!("{key} = \"{node}\""))
                };
                let parts: Vec<String> = parts.into_iter().filter_map(part).collect();
                format!("{{ {} }}", parts.join(", "))
            }
            Self::Stop { node }
            | Self::Pause { node }
            | Self::DiskFull { node }
            | Self::DiskError { node }
            | Self::LyingFsync { node }
            | Self::Wipe { node } => format!("\"{node}\""),
        }
    }
}

impl LinkQuality {
    fn to_toml(self) -> impl Iterator<Item = String> {
        let part = |key: &str, value: f64| format!("{key} = {value}");
        [
            self.extra.map(|time| format!("extra = \"{}\"", shown(time))),
            self.jitter.map(|time| format!("jitter = \"{}\"", shown(time))),
            self.loss.map(|value| part("loss", value)),
            self.duplicate.map(|value| part("duplicate", value)),
            self.reorder.map(|value| part("reorder", value)),
            self.bandwidth.map(|bytes| format!("bandwidth = {bytes}")),
            self.mtu.map(|bytes| format!("mtu = {bytes}")),
        ]
        .into_iter()
        .flatten()
    }
}

fn list<T: ToString>(names: &BTreeSet<T>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.to_string())).collect();
    format!("[{}]", names.join(", "))
}
