//! Many seeds of one scenario in one report: which passed, which did not and why, and how the numbers
//! spread over them. A seed's history is not kept: what is wanted of it is taken when it ends.

pub mod html;
pub mod text;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::summary::{Attempts, Percentiles};
use super::{Agreement, Kind, Report, Run, Verdict};
use crate::simulation::history::AtUs;

/// The version of the JSON format; see [`Many::json`].
pub const FORMAT: u32 = 1;

/// What is kept of a seed's run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OneSeed {
    /// The seed.
    pub seed: u64,
    /// The worst of its checks; undecided where it could not be run.
    pub verdict: Verdict,
    /// The first violation.
    pub first: Option<FirstViolation>,
    /// Why it is vacuous or undecided: a check and what it said.
    pub open: Vec<String>,
    /// How long after healing all agreed.
    pub agreement: Agreement,
    /// Requests of clients.
    pub requests: u64,
    /// Of each region and kind: the longest time without success, 0 for none; what was not asked for
    /// is not here.
    pub without: Vec<Without>,
    /// Keys that showed concurrent writes.
    pub conflicts: u64,
    /// Those of them that still show at the end.
    pub conflicts_open: u64,
    /// Most changes that were not everywhere at one time.
    pub missing_max: u64,
    /// How often the leader changed.
    pub leader_changes: u64,
    /// The command line that runs it again.
    pub again: String,
    /// The run's hash.
    pub trace_hash: String,
}

/// Where and when a claim first did not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirstViolation {
    /// The check.
    pub check: String,
    /// When.
    pub at_us: AtUs,
    /// In words.
    pub what: String,
}

/// How long a region could not do something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Without {
    /// The region.
    pub region: String,
    /// What.
    pub kind: Kind,
    /// The longest time without success.
    pub longest_us: u64,
    /// How it went.
    pub attempts: Attempts,
}

impl OneSeed {
    /// What is kept of a run.
    pub fn of(report: &Report<'_>) -> Self {
        let summary = &report.summary;
        let first = report.violations().first().map(|(checked, violation)| FirstViolation {
            check: checked.check.clone(),
            at_us: violation.at_us,
            what: violation.what.clone(),
        });
        let open = report
            .checks
            .iter()
            .filter(|checked| matches!(checked.verdict, Verdict::Vacuous | Verdict::Undecided));
        let mut without = Vec::new();
        for region in &summary.regions {
            without.extend(region.kinds.iter().map(|kind| Without {
                region: region.region.clone(),
                kind: kind.kind,
                longest_us: kind.longest_without.map_or(0, |stretch| stretch.us()),
                attempts: kind.all(),
            }));
        }
        Self {
            seed: report.run.seed,
            verdict: report.verdict,
            first,
            open: open.map(|checked| format!("{}: {}", checked.check, checked.note)).collect(),
            agreement: summary.agreement,
            requests: summary.requests,
            without,
            conflicts: summary.conflicts.len() as u64,
            conflicts_open: summary.conflicts_open(),
            missing_max: summary.missing_max,
            leader_changes: summary.leader_changes,
            again: report.run.again.clone(),
            trace_hash: summary.trace_hash.clone(),
        }
    }

    /// A seed that could not be run to its end.
    pub fn not_run(seed: u64, why: &str) -> Self {
        let open = vec![format!("the run did not end: {why}")];
        Self { seed, verdict: Verdict::Undecided, open, ..Self::default() }
    }

    /// Why it did not pass, in words.
    pub(crate) fn why(&self) -> String {
        match &self.first {
            Some(first) => format!("{}: {}", first.check, first.what),
            None => self.open.join("; "),
        }
    }
}

/// Many seeds of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Many {
    /// The program's version.
    pub version: String,
    /// The scenario's name.
    pub scenario: String,
    /// What it claims.
    pub claim: String,
    /// SHA-256 of the scenario.
    pub scenario_hash: String,
    /// The options that make the runs others than without them.
    pub options: Vec<String>,
    /// The seeds, in their order.
    pub seeds: Vec<OneSeed>,
}

/// How many seeds ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub seeds: u64,
    /// What was claimed held.
    pub passed: u64,
    /// It did not.
    pub violated: u64,
    /// They show nothing.
    pub vacuous: u64,
    /// It could not be found out.
    pub undecided: u64,
}

/// How numbers spread over the seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How long after healing all agreed, in microseconds, of the seeds where they did.
    pub agree_us: Option<Percentiles>,
    /// Seeds where they did not.
    pub not_agreed: u64,
    /// The longest time without success, by region and kind, in microseconds.
    pub without: Vec<WithoutSpread>,
    /// Conflicts seen.
    pub conflicts: Option<Percentiles>,
    /// Conflicts open at the end, of all seeds together.
    pub conflicts_open: u64,
    /// Most changes that were not everywhere at one time.
    pub missing: Option<Percentiles>,
    /// Changes of the leader.
    pub leader_changes: Option<Percentiles>,
}

/// How long a region could not do something, over the seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WithoutSpread {
    /// The region.
    pub region: String,
    /// What.
    pub kind: Kind,
    /// The longest time without success.
    pub longest_us: Percentiles,
    /// The seed of the longest one.
    pub worst_seed: u64,
    /// How it went in all seeds together.
    pub attempts: Attempts,
}

impl Many {
    /// Seeds' runs of the scenario that `run` (of any of them) is of.
    pub fn new(run: &Run, mut seeds: Vec<OneSeed>) -> Self {
        seeds.sort_by_key(|one| one.seed);
        Self {
            version: run.version.clone(),
            scenario: run.scenario.clone(),
            claim: run.claim.clone(),
            scenario_hash: run.scenario_hash.clone(),
            options: run.options.clone(),
            seeds,
        }
    }

    /// The worst of all; vacuous where there are none.
    pub fn verdict(&self) -> Verdict {
        self.seeds.iter().map(|one| one.verdict).max().unwrap_or(Verdict::Vacuous)
    }

    /// Seeds that did not pass, the violations first.
    pub fn not_passed(&self) -> Vec<&OneSeed> {
        let mut not: Vec<_> = self.seeds.iter().filter(|o| o.verdict != Verdict::Pass).collect();
        not.sort_by_key(|one| (Reverse(one.verdict), one.seed));
        not
    }

    /// The seed whose whole run is worth showing: the first one that did not pass, or the first of all.
    /// None where no seed could be run.
    pub fn shown(&self) -> Option<u64> {
        let ran = |one: &&&OneSeed| one.requests > 0;
        let not = self.not_passed();
        not.iter()
            .copied()
            .find(|one| ran(&one))
            .or(self.seeds.iter().find(|one| ran(&one)))
            .map(|one| one.seed)
    }

    /// How many ended how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for one in &self.seeds {
            counts.seeds += 1;
            match one.verdict {
                Verdict::Pass => counts.passed += 1,
                Verdict::Violation => counts.violated += 1,
                Verdict::Vacuous | Verdict::NotExercised => counts.vacuous += 1,
                Verdict::Undecided => counts.undecided += 1,
            }
        }
        counts
    }

    /// How the numbers spread.
    pub fn spread(&self) -> Spread {
        let of = |value: fn(&OneSeed) -> u64| {
            // A seed that did not end has no numbers.
            let ran = self.seeds.iter().filter(|one| one.requests > 0);
            Percentiles::of(ran.map(value).collect())
        };
        let agreed = self.seeds.iter().filter_map(|one| match one.agreement {
            Agreement::Reached { after_us } => Some(after_us),
            Agreement::NotReached | Agreement::NotMeasured => None,
        });
        let not = self.seeds.iter().filter(|one| one.agreement == Agreement::NotReached);
        Spread {
            agree_us: Percentiles::of(agreed.collect()),
            not_agreed: not.count() as u64,
            without: self.without(),
            conflicts: of(|one| one.conflicts),
            conflicts_open: self.seeds.iter().map(|one| one.conflicts_open).sum(),
            missing: of(|one| one.missing_max),
            leader_changes: of(|one| one.leader_changes),
        }
    }

    fn without(&self) -> Vec<WithoutSpread> {
        let mut all: BTreeMap<(&str, Kind), Vec<(u64, &Without)>> = BTreeMap::new();
        let mut order: Vec<&str> = Vec::new();
        for one in &self.seeds {
            for without in &one.without {
                if !order.contains(&without.region.as_str()) {
                    order.push(&without.region);
                }
                let of_kind = all.entry((&without.region, without.kind)).or_default();
                of_kind.push((one.seed, without));
            }
        }
        let mut spread = Vec::new();
        for ((region, kind), seeds) in &all {
            let longest = Percentiles::of(seeds.iter().map(|(_, w)| w.longest_us).collect());
            let worst = seeds.iter().max_by_key(|(seed, w)| (w.longest_us, Reverse(*seed)));
            let (Some(longest_us), Some((worst_seed, _))) = (longest, worst) else { continue };
            spread.push(WithoutSpread {
                region: (*region).to_owned(),
                kind: *kind,
                longest_us,
                worst_seed: *worst_seed,
                attempts: seeds
                    .iter()
                    .fold(Attempts::default(), |sum, (_, w)| sum.plus(w.attempts)),
            });
        }
        spread.sort_by_key(|s| (order.iter().position(|region| *region == s.region), s.kind));
        spread
    }

    /// For programs: one JSON object with `format` ([`FORMAT`]), `verdict`, `counts` ([`Counts`]),
    /// `spread` ([`Spread`]) and the members of [`Many`], of which `seeds` has each seed's
    /// [`OneSeed`]. Times are in microseconds.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Json<'a> {
            format: u32,
            verdict: Verdict,
            counts: Counts,
            spread: Spread,
            #[serde(flatten)]
            many: &'a Many,
        }
        serde_json::to_string(&Json {
            format: FORMAT,
            verdict: self.verdict(),
            counts: self.counts(),
            spread: self.spread(),
            many: self,
        })
    }
}

#[cfg(test)]
mod tests;
