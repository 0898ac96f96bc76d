//! What a run tells people and programs: a verdict, who could do what for how long, how far regions
//! fell behind and how they came together again. Everything is taken from the history and from what
//! the checks said of it; nothing is judged here, and nothing is read or written.
//!
//! [`Report::new`] puts a run's report together; [`text::text`], [`html::page`] and [`json::json`]
//! show it. [`many::Many`] puts many seeds' reports together.

mod conflicts;
mod faults;
pub mod html;
pub mod json;
pub mod judged;
pub mod many;
mod operations;
mod states;
pub mod summary;
pub mod text;
mod words;

#[cfg(test)]
pub(crate) mod example;

use serde::{Deserialize, Serialize};

pub use conflicts::{Conflict, Settled};
pub use faults::FaultSpan;
pub use operations::{Class, Kind};
pub use states::{Agreement, Lag, LeaderSpan};
pub use summary::Summary;

use super::history::{AtUs, Event, Record, Run};

/// What a check found, or a whole run. Ordered from the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There was nothing to judge. A check says so; a run of such checks alone is vacuous.
    NotExercised,
    /// What was claimed held.
    #[default]
    Pass,
    /// What had to happen did not, or nothing was judged at all.
    Vacuous,
    /// It could not be found out: a search was given up.
    Undecided,
    /// It did not hold.
    Violation,
}

impl Verdict {
    /// As it stands on a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotExercised => "NO CASE",
            Self::Pass => "PASS",
            Self::Vacuous => "VACUOUS",
            Self::Undecided => "UNDECIDED",
            Self::Violation => "VIOLATION",
        }
    }
}

/// What a check said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checked {
    /// The check's name.
    pub check: String,
    /// What it holds the system to, in one sentence.
    pub claim: String,
    /// What it found.
    pub verdict: Verdict,
    /// How many things it looked at.
    pub examined: u64,
    /// What a reader should know; why, where it is undecided or vacuous.
    pub note: String,
    /// How many times the claim did not hold.
    pub count: u64,
    /// The first of them, by time.
    pub violations: Vec<Violation>,
}

/// A claim that did not hold, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Violation {
    /// When it showed.
    pub at_us: AtUs,
    /// The requests that show it.
    pub ops: Vec<u64>,
    /// The nodes that show it.
    pub nodes: Vec<String>,
    /// In words.
    pub what: String,
}

/// A run, what the checks said of it, and its numbers.
#[derive(Debug)]
pub struct Report<'a> {
    /// Everything that happened.
    pub(crate) records: &'a [Record],
    /// What was run.
    pub run: Run,
    /// What the checks said.
    pub checks: Vec<Checked>,
    /// The numbers.
    pub summary: Summary,
    /// The worst of what the checks said.
    pub verdict: Verdict,
}

impl<'a> Report<'a> {
    /// A run's report. A history without a `run` record, which [`super::history::read`] refuses, gives
    /// an empty one. A run without checks shows nothing.
    pub fn new(records: &'a [Record], checks: Vec<Checked>) -> Self {
        let run = run_of(records);
        let summary = Summary::of(records, &run);
        let worst = checks.iter().map(|checked| checked.verdict).max();
        let verdict = worst.filter(|worst| *worst != Verdict::NotExercised);
        Self { records, run, checks, summary, verdict: verdict.unwrap_or(Verdict::Vacuous) }
    }

    /// All violations that are described, each with its check, by when they showed.
    pub fn violations(&self) -> Vec<(&Checked, &Violation)> {
        let mut all: Vec<_> = self
            .checks
            .iter()
            .flat_map(|checked| checked.violations.iter().map(move |v| (checked, v)))
            .collect();
        all.sort_by_key(|(_, violation)| violation.at_us);
        all
    }

    /// How many violations there are, described or not.
    pub fn violation_count(&self) -> u64 {
        self.checks.iter().map(|checked| checked.count.max(checked.violations.len() as u64)).sum()
    }
}

impl Violation {
    /// The nodes, each once, in the order in which they are named.
    pub(crate) fn nodes_once(&self) -> Vec<&str> {
        let mut once: Vec<&str> = Vec::new();
        for node in &self.nodes {
            if !once.contains(&node.as_str()) {
                once.push(node);
            }
        }
        once
    }
}

impl Checked {
    /// What it looked at and what it found, in words.
    pub(crate) fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.examined > 0 {
            parts.push(format!("{} looked at", words::number(self.examined)));
        }
        if self.verdict == Verdict::Violation {
            parts.push(words::count(self.count.max(self.violations.len() as u64), "violation"));
        }
        if self.verdict == Verdict::NotExercised {
            parts.push("nothing to judge".to_owned());
        }
        if !self.note.is_empty() {
            parts.push(self.note.clone());
        }
        parts.join("; ")
    }
}

fn run_of(records: &[Record]) -> Run {
    let run = records.iter().find_map(|record| match &record.event {
        Event::Run(run) => Some(run.clone()),
        _ => None,
    });
    run.unwrap_or_default()
}
