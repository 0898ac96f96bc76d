//! Faults as spans of time. It says when they hit whom, not what came of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::simulation::history::{AtUs, Event, Fault, Record};

/// A fault, from its begin to its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultSpan {
    /// The scenario's number for it. One that comes and goes has several spans.
    pub id: u32,
    /// The kind, as in the scenario file.
    pub kind: String,
    /// In words.
    pub what: String,
    /// When it began.
    pub from_us: AtUs,
    /// When it was over: the same as `from_us` for what happens at once, none if it lasted to the end.
    pub to_us: Option<AtUs>,
    /// The regions that feel it; all of them where there are none.
    pub regions: BTreeSet<String>,
    /// The nodes that are down because of it.
    pub nodes_down: BTreeSet<String>,
    /// Directed pairs of regions between which nothing passes.
    pub links_cut: BTreeSet<(String, String)>,
    /// How long after its end every region included what any region had at its end. None if that did
    /// not happen, or if there is nothing to catch up with.
    pub caught_up_us: Option<u64>,
}

/// What a fault looks like, for whoever draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// Regions do not hear of each other.
    Cut,
    /// A link is bad.
    Link,
    /// A node does not answer.
    Down,
    /// A disk.
    Disk,
    /// A clock.
    Clock,
    /// What operators do.
    Operation,
}

impl Look {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Cut, Self::Link, Self::Down, Self::Disk, Self::Clock, Self::Operation];

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Cut => "cut off",
            Self::Link => "bad link",
            Self::Down => "node down or slow",
            Self::Disk => "disk",
            Self::Clock => "clock",
            Self::Operation => "operators' change",
        }
    }

    /// Its name in the page's style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Link => "link",
            Self::Down => "down",
            Self::Disk => "disk",
            Self::Clock => "clock",
            Self::Operation => "operation",
        }
    }
}

impl FaultSpan {
    fn begins(at_us: AtUs, fault: &Fault) -> Self {
        let mut span = Self {
            id: fault.id,
            kind: fault.kind.clone(),
            what: fault.what.clone(),
            from_us: at_us,
            to_us: None,
            regions: fault.regions.clone(),
            nodes_down: fault.nodes_down.clone(),
            links_cut: fault.links_cut.clone(),
            caught_up_us: None,
        };
        if span.is_moment() {
            span.to_us = Some(at_us);
        }
        span
    }

    /// Whether it is over as soon as it has begun, so that nothing tells of its end.
    fn is_moment(&self) -> bool {
        let at_once = matches!(
            self.kind.as_str(),
            "wipe" | "old_copy" | "rotate_master_key" | "revoke" | "voters"
        );
        at_once && self.nodes_down.is_empty() && self.links_cut.is_empty()
    }

    /// Whether a region feels it.
    pub fn hits(&self, region: &str) -> bool {
        self.regions.is_empty() || self.regions.contains(region)
    }

    /// Whether it lasts at some time between these two.
    pub fn overlaps(&self, from_us: AtUs, to_us: AtUs) -> bool {
        self.from_us <= to_us && self.to_us.is_none_or(|end| end >= from_us)
    }

    /// When it was over, in a run that ends at `end_us`.
    pub fn over_us(&self, end_us: AtUs) -> AtUs {
        self.to_us.unwrap_or(end_us).max(self.from_us)
    }

    /// What it looks like.
    pub(crate) fn look(&self) -> Look {
        match self.kind.as_str() {
            "partition" | "isolate" | "one_way" | "bridge" | "flapping" | "hold" => Look::Cut,
            "link" => Look::Link,
            "crash" | "stop" | "pause" | "slow" | "certificate_expiry" => Look::Down,
            "disk_full" | "disk_error" | "lying_fsync" | "old_copy" | "wipe" => Look::Disk,
            "clock_step" | "clock_drift" => Look::Clock,
            _ if !self.links_cut.is_empty() => Look::Cut,
            _ if !self.nodes_down.is_empty() => Look::Down,
            _ => Look::Operation,
        }
    }
}

/// All faults, by when they began.
pub(crate) fn spans(records: &[Record]) -> Vec<FaultSpan> {
    let mut spans: Vec<FaultSpan> = Vec::new();
    for record in records {
        let Event::Fault(fault) = &record.event else { continue };
        if fault.begins {
            spans.push(FaultSpan::begins(record.at_us, fault));
            continue;
        }
        let began = spans.iter_mut().rev().find(|span| {
            let open = span.to_us.is_none_or(|to| to == span.from_us);
            span.id == fault.id && open
        });
        if let Some(span) = began {
            span.to_us = Some(record.at_us);
        }
    }
    spans
}

/// How long a region was hit by at least one fault.
pub(crate) fn hit_us(spans: &[FaultSpan], region: &str, end_us: AtUs) -> u64 {
    let mut hit = 0;
    let mut until = 0;
    for span in spans.iter().filter(|span| span.hits(region)) {
        let (from, to) = (span.from_us.max(until), span.over_us(end_us));
        hit += to.saturating_sub(from);
        until = until.max(to);
    }
    hit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_us: AtUs, id: u32, kind: &str, begins: bool) -> Record {
        let fault = Fault { id, kind: kind.into(), begins, ..Fault::default() };
        Record { at_us, event: Event::Fault(fault) }
    }

    #[test]
    fn a_fault_that_comes_and_goes_has_a_span_each_time() {
        let records = [
            record(10, 1, "flapping", true),
            record(20, 1, "flapping", false),
            record(25, 2, "voters", true),
            record(30, 1, "flapping", true),
        ];
        let spans: Vec<_> = spans(&records).iter().map(|s| (s.id, s.from_us, s.to_us)).collect();
        assert_eq!(spans, [(1, 10, Some(20)), (2, 25, Some(25)), (1, 30, None)]);
    }

    #[test]
    fn overlapping_faults_hit_a_region_once() {
        let records = [
            record(10, 1, "isolate", true),
            record(20, 2, "crash", true),
            record(30, 1, "isolate", false),
            record(35, 2, "crash", false),
            record(90, 3, "crash", true),
        ];
        assert_eq!(hit_us(&spans(&records), "a", 100), 25 + 10);
    }
}
