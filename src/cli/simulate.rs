//! `holm simulate`: what a partition does, found out before there is one.

use clap::{Args, Subcommand};

use super::{Failure, Global, Terminal};
use crate::simulation::report::Verdict;

mod check;
mod plan;
mod scenarios;
pub(super) mod told;

/// Exit code of a run that broke a promise.
const VIOLATION: u8 = 1;
/// Exit code of a run that shows nothing, or of which it is not known what it shows.
pub(super) const UNDECIDED: u8 = 4;

/// Arguments of `holm simulate`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
The real program runs in virtual time, on the scenario's topology, while clients work and things
break; then what it promises is checked on what the clients saw. The same seed gives the same run.

Examples:
  holm simulate simulations/islands.toml --seed 7
  holm simulate simulations/islands.toml --seed 7 --html report.html
  holm simulate simulations/secrets-under-nemesis.toml --seeds 1..200
  holm simulate simulations/*.toml --twice           and each twice, compared to the byte
  holm simulate x.toml --seed 7 --shrink             the fewest faults with which it still fails
  holm simulate check history.jsonl                  what --history wrote, checked again
  holm simulate plan --topology t.toml               what still works when regions are lost or cut off

How a scenario is written: simulations/README.md.

Exit codes: 0 everything held; 1 a promise was broken; 2 a bad scenario; 3 the same seed gave another
run; 4 the run shows nothing, or it is undecided.")]
pub struct Simulate {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    scenarios: Option<scenarios::Scenarios>,
    #[command(flatten)]
    files: told::Files,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Work out what still works when regions are lost or cut off, and who should vote.
    Plan(plan::Plan),
    /// Check a history that was written down.
    Check(check::Check),
}

impl Simulate {
    pub(crate) fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        match (self.action, self.scenarios) {
            (Some(Action::Plan(plan)), _) => plan.run(global, terminal),
            (Some(Action::Check(check)), _) => check.run(global, terminal),
            (None, Some(scenarios)) => scenarios.run(&self.files, global, terminal),
            (None, None) => Err(Failure::usage("which scenario is not said")),
        }
    }
}

/// What a command that shows these ends with.
pub(super) fn verdict_failure(verdict: Verdict, what: &str) -> Result<(), Failure> {
    match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Violation => {
            Err(Failure::exit(VIOLATION, format!("{what}: a promise was broken")))
        }
        Verdict::Undecided => Err(Failure::exit(UNDECIDED, format!("{what}: undecided"))),
        Verdict::Vacuous | Verdict::NotExercised => {
            Err(Failure::exit(UNDECIDED, format!("{what}: nothing was shown")))
        }
    }
}
