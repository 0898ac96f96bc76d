//! What was promised, held against what happened: one file a check, each a plain function from a
//! [`History`] to a [`Verdict`]. Nothing here knows whether a simulation or real processes made the
//! history.
//!
//! It refuses to guess. What cannot be told from the records is [`Judgement::Undecided`], and never a
//! pass; and where a history allows for an innocent reading, no check complains.

pub mod index;

mod bounds;
mod convergence;
mod coverage;
mod entries;
mod epochs;
mod findings;
mod identity;
mod leadership;
mod linearizable;
mod liveness;
mod lost_writes;
mod members;
mod minority;
mod quarantine;
mod revocation;
mod session;
mod thin_air;
mod watch;
mod winner;

#[cfg(test)]
mod model;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

pub use index::History;

use super::history::{AtUs, Record};

/// Most violations that a check describes; the others are counted.
pub const VIOLATIONS_MAX: usize = 20;

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, as scenario files have it.
    pub name: &'static str,
    /// What it holds the history to, in one sentence.
    pub claim: &'static str,
    /// The check itself.
    run: fn(&History<'_>, &mut Judge),
}

/// What a check says of a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The check.
    pub check: &'static str,
    /// What it claims.
    pub claim: &'static str,
    /// What came of it.
    pub result: Judgement,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Judgement {
    /// It holds.
    Pass {
        /// How many things were looked at.
        examined: u64,
        /// What a reader should know of it, if anything.
        note: String,
    },
    /// There was nothing to judge: what it is about did not come up in this run. Neither a pass nor a
    /// failure; a scenario that is about it demands it with `coverage`.
    NotExercised {
        /// What was not there.
        why: String,
    },
    /// It does not.
    Violation {
        /// How many things were looked at.
        examined: u64,
        /// How many times it does not hold.
        count: u64,
        /// The first of them, by time; at most [`VIOLATIONS_MAX`].
        violations: Vec<Violation>,
    },
    /// The records do not tell.
    Undecided {
        /// Why not.
        why: String,
    },
    /// What should have been shown did not happen.
    Vacuous {
        /// What is missing.
        why: String,
    },
}

/// One time that a claim does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// When it shows.
    pub at_us: AtUs,
    /// The calls that show it.
    pub ops: Vec<u64>,
    /// The nodes that show it.
    pub nodes: Vec<String>,
    /// What it is, in words.
    pub what: String,
}

/// What all checks say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdicts {
    /// One a check, in the order of [`all`].
    pub verdicts: Vec<Verdict>,
}

impl Verdicts {
    /// Whether every check passed that had something to judge, and one had.
    pub fn pass(&self) -> bool {
        self.exit_code() == 0
    }

    /// The first violation by time, and the check that found it.
    pub fn first_violation(&self) -> Option<(&'static str, &Violation)> {
        let found = self.verdicts.iter().flat_map(|verdict| match &verdict.result {
            Judgement::Violation { violations, .. } => {
                violations.iter().map(|it| (verdict.check, it)).collect()
            }
            _ => Vec::new(),
        });
        found.min_by_key(|(_, violation)| violation.at_us)
    }

    /// What a command that shows these exits with: 1 for a violation, 4 where something is undecided
    /// or vacuous or nothing was judged at all, else 0.
    pub fn exit_code(&self) -> u8 {
        let is = |wanted: fn(&Judgement) -> bool| self.verdicts.iter().any(|it| wanted(&it.result));
        if is(|it| matches!(it, Judgement::Violation { .. })) {
            return 1;
        }
        let is_open =
            is(|it| matches!(it, Judgement::Undecided { .. } | Judgement::Vacuous { .. }));
        if is_open || !is(|it| matches!(it, Judgement::Pass { .. })) { 4 } else { 0 }
    }
}

/// Where a check puts down what it sees.
#[derive(Default)]
pub(crate) struct Judge {
    examined: u64,
    violations: Vec<Violation>,
    undecided: Vec<String>,
    vacuous: Vec<String>,
    note: String,
}

impl Judge {
    /// One more thing was looked at.
    pub(crate) fn examine(&mut self) {
        self.examined += 1;
    }

    /// The claim does not hold.
    pub(crate) fn violation(&mut self, at_us: AtUs, ops: &[u64], nodes: &[&str], what: String) {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        self.violations.push(Violation { at_us, ops: ops.to_vec(), nodes, what });
    }

    /// Something cannot be told.
    pub(crate) fn undecided(&mut self, why: impl Into<String>) {
        self.undecided.push(why.into());
    }

    /// Something did not happen that has to.
    pub(crate) fn vacuous(&mut self, why: impl Into<String>) {
        self.vacuous.push(why.into());
    }

    /// What a reader of a pass should know; where nothing was looked at, why not.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.note = note.into();
    }

    fn finish(mut self) -> Judgement {
        let examined = self.examined;
        if !self.violations.is_empty() {
            let count = self.violations.len() as u64;
            self.violations.sort_by(|a, b| (a.at_us, &a.what).cmp(&(b.at_us, &b.what)));
            self.violations.truncate(VIOLATIONS_MAX);
            return Judgement::Violation { examined, count, violations: self.violations };
        }
        let text = |mut whys: Vec<String>| {
            let more = whys.len().saturating_sub(VIOLATIONS_MAX);
            whys.truncate(VIOLATIONS_MAX);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("{}{more}", whys.join("; "))
        };
        if !self.undecided.is_empty() {
            return Judgement::Undecided { why: text(self.undecided) };
        }
        if !self.vacuous.is_empty() {
            return Judgement::Vacuous { why: text(self.vacuous) };
        }
        if examined == 0 {
            let why = if self.note.is_empty() { "it did not come up".into() } else { self.note };
            return Judgement::NotExercised { why };
        }
        Judgement::Pass { examined, note: self.note }
    }
}

/// All checks.
pub fn all() -> &'static [Check] {
    const ALL: &[Check] = &[
        convergence::CHECK,
        members::CHECK,
        epochs::CHECK,
        lost_writes::CHECK,
        thin_air::CHECK,
        identity::CHECK,
        winner::CHECK,
        session::READ_YOUR_WRITES,
        session::MONOTONIC_READS,
        session::MONOTONIC_WRITES,
        session::WRITES_FOLLOW_READS,
        linearizable::CHECK,
        watch::CHECK,
        minority::CHECK,
        leadership::CHECK,
        revocation::CHECK,
        findings::PLAINTEXT,
        findings::AUDIT,
        findings::OTHERS,
        bounds::CHECK,
        quarantine::CHECK,
        liveness::CHECK,
        coverage::CHECK,
    ];
    ALL
}

/// Makes the checks of these names, or all of them where there is no name. A name that no check has
/// is undecided.
pub fn run(records: &[Record], names: &BTreeSet<String>) -> Verdicts {
    let history = History::new(records);
    let wanted = |check: &&Check| names.is_empty() || names.contains(check.name);
    let mut verdicts: Vec<Verdict> =
        all().iter().filter(wanted).map(|check| judge(check, &history)).collect();
    let unknown = names.iter().filter(|name| all().iter().all(|check| check.name != **name));
    verdicts.extend(unknown.map(|name| Verdict {
        check: "unknown",
        claim: "Every check that is asked for exists.",
        result: Judgement::Undecided { why: format!("there is no check {name:?}") },
    }));
    Verdicts { verdicts }
}

fn judge(check: &Check, history: &History<'_>) -> Verdict {
    let mut judge = Judge::default();
    if history.has_run {
        (check.run)(history, &mut judge);
    } else {
        judge.undecided("the history does not begin with its run");
    }
    Verdict { check: check.name, claim: check.claim, result: judge.finish() }
}
