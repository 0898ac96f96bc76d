//! A run in numbers: who could do what, how long not, how far regions fell behind, and how they came
//! together. Pure; it counts and does not judge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::conflicts::{self, Conflict, Settled};
use super::faults::{self, FaultSpan};
use super::operations::{Class, Kind, Operation, operations};
use super::states::{self, Agreement, Lag, LeaderSpan, Missing, Round};
use crate::simulation::history::{AtUs, End, Event, Record, Run};

/// A run in numbers. Times are in microseconds of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// When the last thing was recorded.
    pub end_us: AtUs,
    /// Requests of clients.
    pub requests: u64,
    /// By region, in the order of the run's nodes.
    pub regions: Vec<RegionSummary>,
    /// What broke when.
    pub faults: Vec<FaultSpan>,
    /// Keys that showed concurrent writes.
    pub conflicts: Vec<Conflict>,
    /// Who led when.
    pub leaders: Vec<LeaderSpan>,
    /// How often another one led than before.
    pub leader_changes: u64,
    /// When nobody was seen to lead.
    pub leaderless: Vec<(AtUs, AtUs)>,
    /// Whether, and how long after healing, all regions agreed.
    pub agreement: Agreement,
    /// Most changes that were not everywhere at one time.
    pub missing_max: u64,
    /// Bytes that nodes sent to other regions between healing and agreement (or the end).
    pub catch_up_bytes: u64,
    /// Bytes that nodes sent to other regions in all.
    pub sent_bytes: u64,
    /// Datagrams sent; 0 where nobody counted.
    pub datagrams: u64,
    /// Those of them that were lost on the way.
    pub datagrams_lost: u64,
    /// The run's hash; empty where it was not simulated, or did not end.
    pub trace_hash: String,
}

/// A region in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegionSummary {
    /// The region.
    pub region: String,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Whether it is broken for good.
    pub lost: bool,
    /// How long at least one fault hit it.
    pub hit_us: u64,
    /// How long no node of it was up when probed.
    pub down_us: u64,
    /// What was asked of it. Only kinds that were asked for.
    pub kinds: Vec<KindSummary>,
    /// The most that it lacked: changes, and age. They need not be of one time.
    pub behind_max: Lag,
    /// For how long, in all, it lacked something when probed.
    pub behind_us: u64,
    /// Bytes that its nodes sent between healing and agreement (or the end).
    pub catch_up_bytes: u64,
    /// Bytes that its nodes sent to other regions in all.
    pub sent_bytes: u64,
}

/// What was asked of a region, of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindSummary {
    /// The kind.
    pub kind: Kind,
    /// While no fault hit the region.
    pub calm: Attempts,
    /// While a fault hit it.
    pub faulty: Attempts,
    /// Writes that were not in as many regions as asked when they were answered.
    pub not_acknowledged: u64,
    /// The longest time without success; none where all succeeded.
    pub longest_without: Option<Stretch>,
    /// All such times together.
    pub without_us: u64,
    /// How long it took where it succeeded; none where it never did.
    pub latency_us: Option<Percentiles>,
}

impl KindSummary {
    /// Whatever hit the region.
    pub fn all(&self) -> Attempts {
        self.calm.plus(self.faulty)
    }
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// All of them.
    pub tried: u64,
    /// Done.
    pub succeeded: u64,
    /// The node works, and said no by the rules.
    pub declined: u64,
    /// The node could not do it then.
    pub refused: u64,
    /// The client does not know, or had no answer.
    pub unknown: u64,
}

impl Attempts {
    fn count(&mut self, class: Class) {
        self.tried += 1;
        match class {
            Class::Succeeded => self.succeeded += 1,
            Class::Declined => self.declined += 1,
            Class::Refused => self.refused += 1,
            Class::Unknown => self.unknown += 1,
        }
    }

    /// Those where the node did its work, be it by saying no by the rules.
    pub fn answered(self) -> u64 {
        self.succeeded + self.declined
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            tried: self.tried + other.tried,
            succeeded: self.succeeded + other.succeeded,
            declined: self.declined + other.declined,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
        }
    }
}

/// A time in which requests were made and none succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// When the first of them was sent.
    pub from_us: AtUs,
    /// When the next one that succeeded was sent, or the last one that failed was over.
    pub to_us: AtUs,
    /// How many failed.
    pub tries: u64,
}

impl Stretch {
    /// How long.
    pub fn us(self) -> u64 {
        self.to_us.saturating_sub(self.from_us)
    }
}

/// How a number is spread, nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are no more.
    pub p50: u64,
    /// 95 of 100 are no more.
    pub p95: u64,
    /// 99 of 100 are no more.
    pub p99: u64,
    /// None is more.
    pub max: u64,
}

impl Percentiles {
    /// Of these; none of none.
    pub fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let max = *values.last()?;
        let rank = |percent: usize| {
            let index = (values.len() * percent).div_ceil(100).max(1) - 1;
            values.get(index).copied().unwrap_or(max)
        };
        Some(Self { p50: rank(50), p95: rank(95), p99: rank(99), max })
    }
}

impl Summary {
    /// The numbers of a run.
    pub fn of(records: &[Record], run: &Run) -> Self {
        let end_us = records.last().map_or(0, |record| record.at_us);
        let operations = operations(records);
        let rounds = states::rounds(records);
        let missing = states::missing(&rounds, run);
        let mut faults = faults::spans(records);
        states::catch_up(&rounds, run, &mut faults);
        let leaders = states::leaders(&rounds, run, end_us);
        let agreement = states::agreement(&rounds, run, end_us);
        let catching_up = match agreement {
            Agreement::Reached { after_us } => (run.faults_end_us, run.faults_end_us + after_us),
            Agreement::NotReached => (run.faults_end_us, AtUs::MAX),
            Agreement::NotMeasured => (AtUs::MAX, AtUs::MAX),
        };
        let end = end_of(records);
        let seen = Seen {
            operations: &operations,
            faults: &faults,
            rounds: &rounds,
            missing: &missing,
            catching_up,
            end_us,
        };
        let regions = seen.regions(run);
        let requests =
            operations.iter().filter(|operation| operation.kind.is_some()).count() as u64;
        let sum = |of: fn(&RegionSummary) -> u64| regions.iter().map(of).sum::<u64>();
        Self {
            end_us,
            requests,
            conflicts: conflicts::conflicts(records, &operations, run),
            leader_changes: states::leader_changes(&leaders),
            leaderless: states::leaderless(&rounds, &leaders, end_us),
            leaders,
            agreement,
            missing_max: missing.iter().map(|m| m.changes).max().unwrap_or_default(),
            catch_up_bytes: sum(|region| region.catch_up_bytes),
            sent_bytes: sum(|region| region.sent_bytes),
            datagrams: end.datagrams,
            datagrams_lost: end.datagrams_lost,
            trace_hash: end.trace_hash,
            regions,
            faults,
        }
    }

    /// How long nobody led, in all.
    pub fn leaderless_us(&self) -> u64 {
        self.leaderless.iter().map(|(from, to)| to - from).sum()
    }

    /// Conflicts that still show.
    pub fn conflicts_open(&self) -> u64 {
        self.conflicts.iter().filter(|c| c.settled == Settled::Open).count() as u64
    }

    /// Of all regions: requests whose kind `which` picks.
    pub fn attempts(&self, which: impl Fn(Kind) -> bool) -> Attempts {
        let kinds = self.regions.iter().flat_map(|region| &region.kinds);
        kinds.filter(|k| which(k.kind)).fold(Attempts::default(), |sum, k| sum.plus(k.all()))
    }
}

fn end_of(records: &[Record]) -> End {
    let end = records.iter().rev().find_map(|record| match &record.event {
        Event::End(end) => Some(end.clone()),
        _ => None,
    });
    end.unwrap_or_default()
}

/// What the numbers of regions are taken from.
struct Seen<'a> {
    operations: &'a [Operation<'a>],
    faults: &'a [FaultSpan],
    rounds: &'a [Round<'a>],
    missing: &'a [Missing],
    catching_up: (AtUs, AtUs),
    end_us: AtUs,
}

impl Seen<'_> {
    fn regions(&self, run: &Run) -> Vec<RegionSummary> {
        let mut regions: Vec<RegionSummary> = Vec::new();
        for node in &run.nodes {
            match regions.iter_mut().find(|region| region.region == node.region) {
                Some(region) => region.nodes.push(node.node.clone()),
                None => regions.push(RegionSummary {
                    region: node.region.clone(),
                    nodes: vec![node.node.clone()],
                    lost: run.lost_regions.contains(&node.region),
                    hit_us: faults::hit_us(self.faults, &node.region, self.end_us),
                    ..RegionSummary::default()
                }),
            }
        }
        for region in &mut regions {
            region.kinds = self.kinds(&region.region);
            self.stand(region);
            self.sent(region);
        }
        regions
    }

    /// How far behind and how long down.
    fn stand(&self, region: &mut RegionSummary) {
        for (i, missing) in self.missing.iter().enumerate() {
            let next = self.missing.get(i + 1).map_or(self.end_us, |next| next.at_us);
            let lasts = next.saturating_sub(missing.at_us);
            match missing.regions.get(&region.region).copied().flatten() {
                None => region.down_us += lasts,
                Some(lag) => {
                    let most = &mut region.behind_max;
                    most.changes = most.changes.max(lag.changes);
                    most.age_us = most.age_us.max(lag.age_us);
                    if lag.changes > 0 {
                        region.behind_us += lasts;
                    }
                }
            }
        }
    }

    fn sent(&self, region: &mut RegionSummary) {
        let (from, to) = self.catching_up;
        for (at_us, sent) in states::sent(self.rounds) {
            let of_region = sent.iter().filter(|(node, _)| region.nodes.iter().any(|n| n == *node));
            let bytes: u64 = of_region.map(|(_, bytes)| bytes).sum();
            region.sent_bytes += bytes;
            if at_us > from && at_us <= to {
                region.catch_up_bytes += bytes;
            }
        }
    }

    fn kinds(&self, region: &str) -> Vec<KindSummary> {
        let mut by_kind: BTreeMap<Kind, Vec<&Operation<'_>>> = BTreeMap::new();
        for operation in self.operations.iter().filter(|o| o.call.region == region) {
            if let Some(kind) = operation.kind {
                by_kind.entry(kind).or_default().push(operation);
            }
        }
        by_kind.into_iter().map(|(kind, operations)| self.kind(region, kind, &operations)).collect()
    }

    fn kind(&self, region: &str, kind: Kind, operations: &[&Operation<'_>]) -> KindSummary {
        let (mut calm, mut faulty) = (Attempts::default(), Attempts::default());
        let mut latencies = Vec::new();
        for operation in operations {
            let (from, to) = (operation.at_us, operation.over_us);
            let hit = self.faults.iter().any(|span| span.hits(region) && span.overlaps(from, to));
            if hit { &mut faulty } else { &mut calm }.count(operation.class);
            if operation.class == Class::Succeeded {
                latencies.push(to - from);
            }
        }
        let stretches = stretches(operations);
        KindSummary {
            kind,
            calm,
            faulty,
            not_acknowledged: operations.iter().filter(|o| o.is_behind()).count() as u64,
            longest_without: stretches.iter().copied().max_by_key(|stretch| stretch.us()),
            without_us: stretches.iter().map(|stretch| stretch.us()).sum(),
            latency_us: Percentiles::of(latencies),
        }
    }
}

/// When nothing succeeded, of requests in the order in which they were sent.
fn stretches(operations: &[&Operation<'_>]) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut open: Option<Stretch> = None;
    for operation in operations {
        if operation.works() {
            if let Some(mut stretch) = open.take() {
                stretch.to_us = operation.at_us;
                stretches.push(stretch);
            }
            continue;
        }
        let stretch =
            open.get_or_insert(Stretch { from_us: operation.at_us, ..Stretch::default() });
        stretch.to_us = stretch.to_us.max(operation.over_us);
        stretch.tries += 1;
    }
    stretches.extend(open);
    stretches
}

#[cfg(test)]
mod tests;
