//! What probes tell over time: who lacks what, who leads, what was sent, and when all agree. Probes are
//! taken from time to time; what happened between two of them is not known here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::faults::FaultSpan;
use crate::simulation::history::{AtUs, Event, Probe, Record, Run, Sent};

/// The changes that a node includes: origin → number.
type Vector = BTreeMap<String, u64>;

/// All nodes' probes of about the same time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round<'a> {
    /// Of the last one.
    pub(crate) at_us: AtUs,
    /// By node.
    pub(crate) probes: BTreeMap<&'a str, &'a Probe>,
}

/// How far a region is behind: the node of it that lacks most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Changes that some node has and it has not.
    pub changes: u64,
    /// How long ago the oldest of them was first seen.
    pub age_us: u64,
}

/// Who lacks what at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Missing {
    /// When.
    pub(crate) at_us: AtUs,
    /// Changes that are not everywhere, regions that are lost for good set aside.
    pub(crate) changes: u64,
    /// By region; none where no node of it runs.
    pub(crate) regions: BTreeMap<String, Option<Lag>>,
}

/// A node that says that it leads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaderSpan {
    /// The node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Of which term.
    pub term: u64,
    /// First seen.
    pub from_us: AtUs,
    /// Until when.
    pub to_us: AtUs,
}

/// Whether all regions agree after healing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "agreement", rename_all = "snake_case")]
pub enum Agreement {
    /// From so long after healing on, all nodes that run show the same.
    Reached {
        /// Microseconds after healing.
        after_us: u64,
    },
    /// Not until the end.
    NotReached,
    /// The run ended before it, or nothing was probed after it.
    #[default]
    NotMeasured,
}

/// Probes in rounds: a node that is probed again begins the next one.
pub(crate) fn rounds(records: &[Record]) -> Vec<Round<'_>> {
    let mut rounds: Vec<Round<'_>> = Vec::new();
    for record in records {
        let Event::Probe(probe) = &record.event else { continue };
        match rounds.last_mut().filter(|last| !last.probes.contains_key(probe.node.as_str())) {
            Some(last) => {
                last.at_us = record.at_us;
                last.probes.insert(&probe.node, probe);
            }
            None => rounds.push(Round {
                at_us: record.at_us,
                probes: BTreeMap::from([(probe.node.as_str(), probe)]),
            }),
        }
    }
    rounds
}

/// Node → region.
pub(crate) fn regions_of(run: &Run) -> BTreeMap<&str, &str> {
    run.nodes.iter().map(|node| (node.node.as_str(), node.region.as_str())).collect()
}

/// When which number of an origin was first seen anywhere.
#[derive(Default)]
struct FirstSeen(BTreeMap<String, Vec<(AtUs, u64)>>);

impl FirstSeen {
    fn note(&mut self, at_us: AtUs, union: &Vector) {
        for (origin, n) in union {
            let seen = self.0.entry(origin.clone()).or_default();
            // What is lost (a wiped disk) may come again as something else.
            while seen.last().is_some_and(|(_, known)| known > n) {
                seen.pop();
            }
            if seen.last().is_none_or(|(_, known)| known < n) {
                seen.push((at_us, *n));
            }
        }
    }

    /// When what follows `own` of that origin was first seen.
    fn after(&self, origin: &str, own: u64) -> Option<AtUs> {
        let seen = self.0.get(origin)?;
        seen.get(seen.partition_point(|(_, n)| *n <= own)).map(|(at_us, _)| *at_us)
    }
}

fn union<'a>(vectors: impl IntoIterator<Item = &'a Vector>) -> Vector {
    let mut union = Vector::new();
    for (origin, n) in vectors.into_iter().flatten() {
        let known = union.entry(origin.clone()).or_default();
        *known = (*known).max(*n);
    }
    union
}

fn own(vector: &Vector, origin: &str) -> u64 {
    vector.get(origin).copied().unwrap_or_default()
}

/// Who lacks what, at each round. A node that is down still has what it had: it counts among what the
/// others lack, but not as one that lacks.
pub(crate) fn missing(rounds: &[Round<'_>], run: &Run) -> Vec<Missing> {
    let regions = regions_of(run);
    let mut known: BTreeMap<&str, &Vector> = BTreeMap::new();
    let mut first_seen = FirstSeen::default();
    let mut out = Vec::new();
    for round in rounds {
        let up = || round.probes.iter().filter(|(_, probe)| probe.up);
        known.extend(up().map(|(node, probe)| (*node, &probe.vector)));
        let union = union(known.values().copied());
        first_seen.note(round.at_us, &union);
        let mut lags: BTreeMap<String, Option<Lag>> =
            regions.values().map(|region| ((*region).to_owned(), None)).collect();
        for (node, probe) in up() {
            let Some(region) = regions.get(node) else { continue };
            let lag = lags.entry((*region).to_owned()).or_default();
            let this = lag_of(&probe.vector, &union, &first_seen, round.at_us);
            let worst = lag.unwrap_or_default();
            *lag = Some(Lag {
                changes: this.changes.max(worst.changes),
                age_us: this.age_us.max(worst.age_us),
            });
        }
        let counted = up().filter(|(node, _)| {
            regions.get(*node).is_some_and(|region| !run.lost_regions.contains(*region))
        });
        let least = counted.fold(union.clone(), |mut least, (_, probe)| {
            least.iter_mut().for_each(|(o, n)| *n = (*n).min(own(&probe.vector, o)));
            least
        });
        let changes = union.iter().map(|(origin, n)| n - own(&least, origin)).sum();
        out.push(Missing { at_us: round.at_us, changes, regions: lags });
    }
    out
}

fn lag_of(vector: &Vector, union: &Vector, first_seen: &FirstSeen, at_us: AtUs) -> Lag {
    let mut lag = Lag::default();
    for (origin, n) in union {
        let has = own(vector, origin);
        if has < *n {
            lag.changes += n - has;
            let since = first_seen.after(origin, has).unwrap_or(at_us);
            lag.age_us = lag.age_us.max(at_us - since.min(at_us));
        }
    }
    lag
}

/// Who led when, by when they were first seen to; the last round's leader until `end_us`.
pub(crate) fn leaders(rounds: &[Round<'_>], run: &Run, end_us: AtUs) -> Vec<LeaderSpan> {
    let regions = regions_of(run);
    let mut spans: Vec<LeaderSpan> = Vec::new();
    for (i, round) in rounds.iter().enumerate() {
        let until = rounds.get(i + 1).map_or(end_us.max(round.at_us), |next| next.at_us);
        let leaders = round.probes.values().filter(|probe| probe.up && probe.role == "leader");
        for probe in leaders {
            let goes_on = spans.iter_mut().find(|span| {
                span.node == probe.node && span.term == probe.term && span.to_us == round.at_us
            });
            match goes_on {
                Some(span) => span.to_us = until,
                None => spans.push(LeaderSpan {
                    node: probe.node.clone(),
                    region: regions.get(probe.node.as_str()).copied().unwrap_or_default().into(),
                    term: probe.term,
                    from_us: round.at_us,
                    to_us: until,
                }),
            }
        }
    }
    spans
}

/// When nobody led, between the first round and `end_us`.
pub(crate) fn leaderless(
    rounds: &[Round<'_>],
    leaders: &[LeaderSpan],
    end_us: AtUs,
) -> Vec<(AtUs, AtUs)> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let mut spans: Vec<_> = leaders.iter().map(|span| (span.from_us, span.to_us)).collect();
    spans.sort_unstable();
    let mut gaps = Vec::new();
    let mut until = first.at_us;
    for (from, to) in spans {
        if from > until {
            gaps.push((until, from));
        }
        until = until.max(to);
    }
    if until < end_us {
        gaps.push((until, end_us));
    }
    gaps
}

/// How often another one led than before.
pub(crate) fn leader_changes(leaders: &[LeaderSpan]) -> u64 {
    let terms: BTreeSet<(u64, &str)> =
        leaders.iter().map(|span| (span.term, span.node.as_str())).collect();
    terms.len().saturating_sub(1) as u64
}

/// From when on all agree: vectors are equal, and so are the hashes of what is shown where both were
/// computed.
pub(crate) fn agreement(rounds: &[Round<'_>], run: &Run, end_us: AtUs) -> Agreement {
    let healed = run.faults_end_us;
    let settling = rounds.iter().filter(|round| round.at_us >= healed);
    if healed > end_us {
        return Agreement::NotMeasured;
    }
    let mut agreed = None;
    let mut measured = false;
    for round in settling {
        measured = true;
        agreed = if agrees(round, run) { agreed.or(Some(round.at_us)) } else { None };
    }
    match agreed {
        _ if !measured => Agreement::NotMeasured,
        Some(at_us) => Agreement::Reached { after_us: at_us - healed },
        None => Agreement::NotReached,
    }
}

fn agrees(round: &Round<'_>, run: &Run) -> bool {
    let regions = regions_of(run);
    let counted: Vec<&Probe> = round
        .probes
        .iter()
        .filter(|(node, probe)| {
            probe.up && regions.get(*node).is_none_or(|region| !run.lost_regions.contains(*region))
        })
        .map(|(_, probe)| *probe)
        .collect();
    let vectors = counted.windows(2).all(|pair| pair[0].vector == pair[1].vector);
    let hashes: BTreeSet<&str> =
        counted.iter().map(|p| p.view_hash.as_str()).filter(|hash| !hash.is_empty()).collect();
    vectors && hashes.len() <= 1
}

/// Fills in how long after each fault's end everybody included what any node had then.
pub(crate) fn catch_up(rounds: &[Round<'_>], run: &Run, spans: &mut [FaultSpan]) {
    let regions = regions_of(run);
    let counts = |node: &str| regions.get(node).is_none_or(|r| !run.lost_regions.contains(*r));
    for span in spans {
        let Some(over_us) = span.to_us.filter(|to| *to > span.from_us) else { continue };
        if span.links_cut.is_empty() && span.nodes_down.is_empty() {
            continue;
        }
        let mut known: BTreeMap<&str, &Vector> = BTreeMap::new();
        for round in rounds.iter().take_while(|round| round.at_us <= over_us) {
            let up = round.probes.iter().filter(|(node, probe)| probe.up && counts(node));
            known.extend(up.map(|(node, probe)| (*node, &probe.vector)));
        }
        let wanted = union(known.values().copied());
        let includes = |probe: &Probe| wanted.iter().all(|(o, n)| own(&probe.vector, o) >= *n);
        let caught_up = rounds.iter().filter(|round| round.at_us >= over_us).find(|round| {
            let mut counted = round.probes.iter().filter(|(node, _)| counts(node));
            let all_back = span.nodes_down.iter().all(|node| {
                round.probes.get(node.as_str()).is_none_or(|probe| probe.up || !counts(node))
            });
            all_back && counted.all(|(_, probe)| !probe.up || includes(probe))
        });
        span.caught_up_us = caught_up.map(|round| round.at_us - over_us);
    }
}

/// Bytes that each node sent between one round and the next. A counter that went back began anew.
pub(crate) fn sent<'a>(rounds: &[Round<'a>]) -> Vec<(AtUs, BTreeMap<&'a str, u64>)> {
    let mut before: BTreeMap<&str, u64> = BTreeMap::new();
    let mut out = Vec::new();
    for round in rounds {
        let mut sent = BTreeMap::new();
        for (node, probe) in round.probes.iter().filter(|(_, probe)| probe.up) {
            let last = before.insert(*node, probe.sent_bytes).unwrap_or_default();
            let more = probe.sent_bytes.checked_sub(last).unwrap_or(probe.sent_bytes);
            sent.insert(*node, more);
        }
        out.push((round.at_us, sent));
    }
    out
}

/// What passed on a way between two regions in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// From when.
    pub(crate) from_us: AtUs,
    /// Until when.
    pub(crate) to_us: AtUs,
    /// Bytes sent.
    pub(crate) bytes: u64,
    /// Datagrams sent.
    pub(crate) datagrams: u64,
    /// Those of them that were lost.
    pub(crate) lost: u64,
}

impl Passed {
    /// Both together; one without a length adds none.
    pub(crate) fn and(self, other: Self) -> Self {
        let (from_us, to_us) = match (self.to_us > self.from_us, other.to_us > other.from_us) {
            (false, _) => (other.from_us, other.to_us),
            (_, false) => (self.from_us, self.to_us),
            _ => (self.from_us.min(other.from_us), self.to_us.max(other.to_us)),
        };
        Self {
            from_us,
            to_us,
            bytes: self.bytes + other.bytes,
            datagrams: self.datagrams + other.datagrams,
            lost: self.lost + other.lost,
        }
    }

    pub(crate) fn bytes_a_second(&self) -> f64 {
        1e6 * self.bytes as f64 / self.to_us.saturating_sub(self.from_us).max(1) as f64
    }
}

/// What passed from each region to each other one, between one round and the next. Empty where nobody
/// counted.
pub(crate) fn passed<'a>(
    rounds: &[Round<'a>],
    run: &'a Run,
) -> BTreeMap<(&'a str, &'a str), Vec<Passed>> {
    let regions = regions_of(run);
    let mut before: BTreeMap<(&str, &str), Sent> = BTreeMap::new();
    let mut out: BTreeMap<(&str, &str), Vec<Passed>> = BTreeMap::new();
    for pair in rounds.windows(2) {
        let (from_us, to_us) = (pair[0].at_us, pair[1].at_us);
        let mut round: BTreeMap<(&str, &str), Passed> = BTreeMap::new();
        // What was counted before the first round is not the run's.
        if before.is_empty() {
            before.extend(counted(&pair[0]));
        }
        for ((node, to), now) in counted(&pair[1]) {
            let last = before.insert((node, to), now).unwrap_or_default();
            let Some(from) = regions.get(node) else { continue };
            let passed = round.entry((*from, to)).or_default();
            // A counter that went back began anew.
            let more = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
            *passed = passed.and(Passed {
                from_us,
                to_us,
                bytes: more(now.bytes, last.bytes),
                datagrams: more(now.datagrams, last.datagrams),
                lost: more(now.lost, last.lost),
            });
        }
        for (way, passed) in round.into_iter().filter(|(_, passed)| passed.to_us > passed.from_us) {
            out.entry(way).or_default().push(passed);
        }
    }
    out
}

fn counted<'a>(round: &Round<'a>) -> impl Iterator<Item = ((&'a str, &'a str), Sent)> {
    let probes: Vec<&'a Probe> = round.probes.values().copied().collect();
    probes.into_iter().flat_map(|probe| {
        probe.sent_to.iter().map(|(to, sent)| ((probe.node.as_str(), to.as_str()), *sent))
    })
}
