//! `holm simulate plan`: what a topology can bear, in sentences and tables for whoever is woken up.
//! It shows what [`crate::simulation::plan`] works out, and works nothing out itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{Failure, Global, Terminal, duration};
use crate::simulation::plan;
use crate::topology::Topology;

mod breaks;
mod short;
#[cfg(test)]
mod tests;
mod text;

/// Arguments of `holm simulate plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm simulate plan --topology regions/three-continents.toml
  holm topology import --out t.toml && holm simulate plan --topology t.toml
  holm simulate plan --topology t.toml --output json      every case, with every number

Times are estimates from the topology's round trips, of a quiet cluster. Lost: the region is gone.
Cut: it is alive, but nothing reaches it. Nothing is started, and no node is asked.")]
pub(super) struct Plan {
    /// The topology file.
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// How long one write to a disk, with its fsync, is taken to last.
    #[arg(long, value_name = "TIME", default_value = "2ms", value_parser = duration)]
    disk: Duration,
}

impl Plan {
    pub(super) fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let topology = Topology::load(&self.topology).map_err(|e| Failure::usage(e.to_string()))?;
        let plan = plan::Plan::with_disk(&topology, self.disk);
        if global.json() {
            return terminal.say_json(&plan);
        }
        text::lines(&plan).iter().try_for_each(|line| terminal.say(line))
    }
}
