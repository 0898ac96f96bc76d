//! `holm simulate`: what a partition does, found out before there is one.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, Global, Terminal};

mod plan;

/// Arguments of `holm simulate`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(override_usage = "holm simulate [OPTIONS] <COMMAND>")]
#[command(after_help = "\
Examples:
  holm simulate plan --topology t.toml   what still works when regions are lost or cut off")]
pub struct Simulate {
    #[command(subcommand)]
    action: Option<Action>,
    /// Scenario files.
    #[arg(value_name = "SCENARIO", required = true, hide = true)]
    scenarios: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Work out what still works when regions are lost or cut off, and who should vote.
    Plan(plan::Plan),
}

impl Simulate {
    pub(crate) fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        match self.action {
            Some(Action::Plan(plan)) => plan.run(global, terminal),
            None => Err(Failure::usage("this program runs no scenario files yet")
                .about(
                    self.scenarios
                        .iter()
                        .map(|file| file.display().to_string())
                        .collect::<Vec<_>>()
                        .join(", "),
                )
                .hint("`holm simulate plan` works a topology out")),
        }
    }
}
