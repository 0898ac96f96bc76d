//! What the checks say of a run, as a report shows it.

use super::{Checked, Verdict, Violation, run_of};
use crate::simulation::checks::{self, Judgement};
use crate::simulation::history::Record;

/// Makes the run's checks on its history.
pub fn judged(records: &[Record]) -> Vec<Checked> {
    let run = run_of(records);
    checks::run(records, &run.checks).verdicts.into_iter().map(Checked::from).collect()
}

impl From<checks::Verdict> for Checked {
    fn from(verdict: checks::Verdict) -> Self {
        let checked = Self {
            check: verdict.check.to_owned(),
            claim: verdict.claim.to_owned(),
            ..Self::default()
        };
        match verdict.result {
            Judgement::Pass { examined, note } => {
                Self { verdict: Verdict::Pass, examined, note, ..checked }
            }
            Judgement::NotExercised { why } => {
                Self { verdict: Verdict::NotExercised, note: why, ..checked }
            }
            Judgement::Violation { examined, count, violations } => {
                let violations = violations.into_iter().map(Violation::from).collect();
                Self { verdict: Verdict::Violation, examined, count, violations, ..checked }
            }
            Judgement::Undecided { why } => {
                Self { verdict: Verdict::Undecided, note: why, ..checked }
            }
            Judgement::Vacuous { why } => Self { verdict: Verdict::Vacuous, note: why, ..checked },
        }
    }
}

impl From<checks::Violation> for Violation {
    fn from(violation: checks::Violation) -> Self {
        let checks::Violation { at_us, ops, nodes, what } = violation;
        Self { at_us, ops, nodes, what }
    }
}
