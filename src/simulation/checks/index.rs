//! A history, looked up: calls with their answers, faults with their ends, what each node said of
//! itself. Built once from the records; all checks and reports read this.
//!
//! It refuses to judge; what it derives (which node was down when, which regions reached each other)
//! it derives in one place, so that no two checks have different ideas of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::simulation::history::{
    AtUs, Call, End, Event, Fault, Final, Finding, Outcome, Probe, Record, Request, Run, Tally,
    Twin, Watched,
};

/// A history.
pub struct History<'a> {
    /// Whether the records begin with a run.
    pub has_run: bool,
    /// What was run.
    pub run: Run,
    /// The calls, by time.
    pub calls: Vec<Asked<'a>>,
    /// The faults, by the time they began.
    pub faults: Vec<Span<'a>>,
    /// What watchers were sent, by the call that opened the watch.
    pub watched: BTreeMap<u64, Vec<(AtUs, &'a Watched)>>,
    /// What each node said of itself, by time.
    pub probes: BTreeMap<&'a str, Vec<(AtUs, &'a Probe)>>,
    /// What nodes held on to, by time.
    pub tallies: Vec<(AtUs, &'a Tally)>,
    /// What each node showed at the end.
    pub finals: BTreeMap<&'a str, (AtUs, &'a Final)>,
    /// What all changes come to without epochs.
    pub twin: Option<(AtUs, &'a Twin)>,
    /// What was found.
    pub findings: Vec<(AtUs, &'a Finding)>,
    /// The end.
    pub end: Option<&'a End>,
    /// The last record's time, or the run's end where that is later.
    pub end_us: AtUs,
    by_op: BTreeMap<u64, usize>,
    region_of: BTreeMap<String, String>,
    down: BTreeMap<String, Vec<(AtUs, AtUs)>>,
}

/// A call and what came of it.
pub struct Asked<'a> {
    /// When it was sent.
    pub at_us: AtUs,
    /// The call.
    pub call: &'a Call,
    /// Its answers by time: none, one, or two for a watch that ended.
    pub answers: Vec<(AtUs, &'a Outcome)>,
}

/// A fault from its beginning to its end.
pub struct Span<'a> {
    /// When it began.
    pub from_us: AtUs,
    /// When it was over; none where it never was.
    pub to_us: Option<AtUs>,
    /// The record of its beginning.
    pub fault: &'a Fault,
}

/// The kinds of faults that change what is on a node's disk behind its back.
pub(crate) const DISK_LOST: &[&str] = &["wipe", "old_copy", "lying_fsync"];

/// The kinds of faults whose whole effect is in `links_cut` and `nodes_down`.
const PLAIN: &[&str] = &["partition", "isolate", "one_way", "bridge", "crash", "stop", "absent"];

/// The kinds of faults that are of links, not of nodes.
const OF_LINKS: &[&str] =
    &["partition", "isolate", "one_way", "bridge", "flapping", "link", "hold"];

/// The kinds of faults that hurt nobody.
const HARMLESS: &[&str] = &["revoke", "rotate_ca", "rotate_master_key", "previous"];

impl<'a> Asked<'a> {
    /// What it was answered, first.
    pub fn outcome(&self) -> Option<&'a Outcome> {
        self.answers.first().map(|(_, outcome)| *outcome)
    }

    /// When it was answered, first.
    pub fn ended_us(&self) -> Option<AtUs> {
        self.answers.first().map(|(at, _)| *at)
    }

    /// Whether it certainly was not done.
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome(), Some(Outcome::Refused { error, .. }) if error != "OutcomeUnknown")
    }

    /// Whether nobody knows what came of it.
    pub fn is_unknown(&self) -> bool {
        match self.outcome() {
            None | Some(Outcome::Unknown { .. }) => true,
            Some(Outcome::Refused { error, .. }) => error == "OutcomeUnknown",
            Some(_) => false,
        }
    }
}

impl Span<'_> {
    /// Whether it lasts at any time from `from` to `to`.
    pub fn overlaps(&self, from: AtUs, to: AtUs) -> bool {
        self.from_us <= to && self.to_us.is_none_or(|end| end >= from)
    }

    /// Whether it lasts from `from` to `to` without a gap.
    pub fn covers(&self, from: AtUs, to: AtUs) -> bool {
        self.from_us <= from && self.to_us.is_none_or(|end| end >= to)
    }

    /// Whether it may hurt the node itself, not only links.
    pub(crate) fn hurts_node(&self, node: &str, region: Option<&str>) -> bool {
        let kind = &*self.fault.kind;
        if self.fault.nodes_down.contains(node) {
            return true;
        }
        !OF_LINKS.contains(&kind)
            && !HARMLESS.contains(&kind)
            && self.fault.nodes_down.is_empty()
            && region.is_none_or(|region| self.concerns(region))
    }

    /// Whether it is only what `links_cut` and `nodes_down` say, or nothing that hurts.
    pub(crate) fn is_plain(&self) -> bool {
        let kind = &*self.fault.kind;
        PLAIN.contains(&kind) || HARMLESS.contains(&kind)
    }

    /// Whether the region may feel it.
    pub(crate) fn concerns(&self, region: &str) -> bool {
        self.fault.regions.is_empty() || self.fault.regions.contains(region)
    }
}

impl<'a> History<'a> {
    /// Looks through the records.
    pub fn new(records: &'a [Record]) -> Self {
        let mut history = Self {
            has_run: false,
            run: Run::default(),
            calls: Vec::new(),
            faults: Vec::new(),
            watched: BTreeMap::new(),
            probes: BTreeMap::new(),
            tallies: Vec::new(),
            finals: BTreeMap::new(),
            twin: None,
            findings: Vec::new(),
            end: None,
            end_us: records.last().map_or(0, |record| record.at_us),
            by_op: BTreeMap::new(),
            region_of: BTreeMap::new(),
            down: BTreeMap::new(),
        };
        for record in records {
            history.take(record);
        }
        history.end_us = history.end_us.max(history.run.end_us);
        let region =
            |it: &crate::simulation::history::RunNode| (it.node.clone(), it.region.clone());
        history.region_of = history.run.nodes.iter().map(region).collect();
        history.down = history.downs();
        history
    }

    fn take(&mut self, record: &'a Record) {
        let at_us = record.at_us;
        match &record.event {
            Event::Run(run) => {
                self.has_run = true;
                self.run = run.clone();
            }
            Event::Fault(fault) if fault.begins => {
                self.faults.push(Span { from_us: at_us, to_us: None, fault });
            }
            Event::Fault(fault) => {
                let is_it = |it: &&mut Span<'_>| it.fault.id == fault.id && it.to_us.is_none();
                if let Some(span) = self.faults.iter_mut().find(is_it) {
                    span.to_us = Some(at_us);
                }
            }
            Event::Call(call) => {
                self.by_op.insert(call.op, self.calls.len());
                self.calls.push(Asked { at_us, call, answers: Vec::new() });
            }
            Event::Answer(answer) => {
                if let Some(index) = self.by_op.get(&answer.op) {
                    self.calls[*index].answers.push((at_us, &answer.outcome));
                }
            }
            Event::Watched(watched) => {
                self.watched.entry(watched.op).or_default().push((at_us, watched));
            }
            Event::Probe(probe) => {
                self.probes.entry(&probe.node).or_default().push((at_us, probe));
            }
            Event::Tally(tally) => self.tallies.push((at_us, tally)),
            Event::Final(last) => {
                self.finals.insert(&last.node, (at_us, last));
            }
            Event::Twin(twin) => self.twin = Some((at_us, twin)),
            Event::Finding(finding) => self.findings.push((at_us, finding)),
            Event::End(end) => self.end = Some(end),
        }
    }

    /// The call of this number.
    pub fn call(&self, op: u64) -> Option<&Asked<'a>> {
        self.by_op.get(&op).map(|index| &self.calls[*index])
    }

    /// The node's region.
    pub fn region(&self, node: &str) -> Option<&str> {
        self.region_of.get(node).map(String::as_str)
    }

    /// All regions.
    pub fn regions(&self) -> BTreeSet<&str> {
        self.region_of.values().map(String::as_str).collect()
    }

    /// Whether the node is in a region that is broken for good.
    pub fn is_lost(&self, node: &str) -> bool {
        self.region(node).is_some_and(|region| self.run.lost_regions.contains(region))
    }

    /// Whether the node's promises are void.
    pub fn is_void(&self, node: &str) -> bool {
        self.run.void_nodes.contains(node)
    }

    /// What nodes show at the end whose promises stand.
    pub fn healthy_finals(&self) -> impl Iterator<Item = (&'a str, AtUs, &'a Final)> {
        let healthy =
            self.finals.iter().filter(|(node, _)| !self.is_lost(node) && !self.is_void(node));
        healthy.map(|(node, (at, last))| (*node, *at, *last))
    }

    /// When the node was down: because a fault says so, until the fault is over or the node says that
    /// it is up, or because the node said so itself.
    fn downs(&self) -> BTreeMap<String, Vec<(AtUs, AtUs)>> {
        let mut downs: BTreeMap<String, Vec<(AtUs, AtUs)>> = BTreeMap::new();
        for span in &self.faults {
            for node in &span.fault.nodes_down {
                let up = self.up_after(node, span.from_us).unwrap_or(AtUs::MAX);
                let to = span.to_us.unwrap_or(AtUs::MAX).min(up);
                downs.entry(node.clone()).or_default().push((span.from_us, to));
            }
        }
        for (node, probes) in &self.probes {
            for (i, (at, _)) in probes.iter().enumerate().filter(|(_, (_, it))| !it.up) {
                let to = probes.get(i + 1).map_or(self.end_us, |(at, _)| *at);
                downs.entry((*node).to_owned()).or_default().push((*at, to));
            }
        }
        downs
    }

    /// Whether the node was down at any time from `from` to `to`.
    pub fn is_down_within(&self, node: &str, from: AtUs, to: AtUs) -> bool {
        let downs = self.down.get(node).into_iter().flatten();
        downs.into_iter().any(|(began, ended)| *began <= to && *ended >= from)
    }

    /// Whether the node was down all the time from `from` to `to`, by one and the same reason.
    pub fn is_down_throughout(&self, node: &str, from: AtUs, to: AtUs) -> bool {
        let downs = self.down.get(node).into_iter().flatten();
        downs.into_iter().any(|(began, ended)| *began <= from && *ended >= to)
    }

    /// Whether a fault may have hurt the node itself at any time from `from` to `to`.
    pub fn is_hurt_within(&self, node: &str, from: AtUs, to: AtUs) -> bool {
        let region = self.region(node);
        self.is_down_within(node, from, to)
            || self.faults.iter().any(|it| it.overlaps(from, to) && it.hurts_node(node, region))
    }

    /// When the node first lost what was on its disk at or after `from`, if it did. What happens at
    /// once and has no end is over when the node is up again.
    pub fn disk_lost_after(&self, node: &str, from: AtUs) -> Option<AtUs> {
        let region = self.region(node);
        let lost = self.faults.iter().filter(|it| DISK_LOST.contains(&&*it.fault.kind));
        let lost = lost.filter(|it| it.hurts_node(node, region)).filter(|it| {
            let is_lying = it.fault.kind == "lying_fsync";
            let up = if is_lying { None } else { self.up_after(node, it.from_us) };
            let to = it.to_us.unwrap_or(AtUs::MAX).min(up.unwrap_or(AtUs::MAX));
            to >= from
        });
        lost.map(|it| it.from_us.max(from)).min()
    }

    /// When the node first says that it is up after `from`.
    fn up_after(&self, node: &str, from: AtUs) -> Option<AtUs> {
        let mut probes = self.probes.get(node).into_iter().flatten();
        probes.find(|(at, it)| *at > from && it.up).map(|(at, _)| *at)
    }

    /// The pairs of regions between which nothing passed all the time from `from` to `to`, in the
    /// direction given.
    pub fn cut_throughout(&self, from: AtUs, to: AtUs) -> BTreeSet<(&'a str, &'a str)> {
        let always = |it: &&Span<'_>| !["flapping", "link", "hold"].contains(&&*it.fault.kind);
        let spans = self.faults.iter().filter(always).filter(|it| it.covers(from, to));
        spans.flat_map(|it| it.fault.links_cut.iter().map(|(a, b)| (&**a, &**b))).collect()
    }

    /// The pairs of regions that were cut at any time from `from` to `to`.
    pub fn cut_within(&self, from: AtUs, to: AtUs) -> BTreeSet<(&'a str, &'a str)> {
        let spans = self.faults.iter().filter(|it| it.overlaps(from, to));
        spans.flat_map(|it| it.fault.links_cut.iter().map(|(a, b)| (&**a, &**b))).collect()
    }

    /// The regions that `region` reaches and is reached by, over others too, where these links are
    /// cut.
    pub fn component<'b>(
        &'b self,
        region: &'b str,
        cut: &BTreeSet<(&str, &str)>,
    ) -> BTreeSet<&'b str> {
        let regions = self.regions();
        let mut reached = BTreeSet::from([region]);
        let mut open = vec![region];
        while let Some(at) = open.pop() {
            for other in &regions {
                let is_open = !cut.contains(&(at, *other)) && !cut.contains(&(*other, at));
                if is_open && reached.insert(other) {
                    open.push(other);
                }
            }
        }
        reached
    }

    /// Whether the region was in a group of regions that all reached each other, with a majority of the
    /// voters up and well, all the time from `from` to `to`.
    pub(crate) fn is_with_majority(&self, region: &str, from: AtUs, to: AtUs) -> bool {
        let cut = self.cut_within(from, to);
        let group = self.component(region, &cut);
        let is_whole = group.iter().all(|a| group.iter().all(|b| !cut.contains(&(*a, *b))));
        let is_well = |region: &str| {
            let mut faults = self.faults.iter().filter(|it| it.overlaps(from, to));
            faults.all(|it| it.is_plain() || !it.concerns(region))
        };
        let is_changed = self.voters_changed_us().is_some_and(|changed| changed <= to);
        let voters = self.run.nodes.iter().filter(|it| it.voter && group.contains(&*it.region));
        let up = voters.filter(|it| !self.is_down_within(&it.node, from, to)).count();
        is_whole
            && !is_changed
            && group.iter().all(|region| is_well(region))
            && up * 2 > self.voters()
    }

    /// How many voters there are at the start.
    pub fn voters(&self) -> usize {
        self.run.nodes.iter().filter(|it| it.voter).count()
    }

    /// When the voters were first changed, if they were.
    pub fn voters_changed_us(&self) -> Option<AtUs> {
        let faults = self.faults.iter().filter(|it| it.fault.kind == "voters").map(|it| it.from_us);
        let calls = self.calls.iter().filter(|it| match &it.call.request {
            Request::Operate { what } => what.contains("voter"),
            _ => false,
        });
        faults.chain(calls.map(|it| it.at_us)).min()
    }

    /// The longest way between two regions, in microseconds.
    pub fn delay_us_max(&self) -> u64 {
        self.run.delays.iter().map(|it| it.one_way_us).max().unwrap_or(0)
    }
}
