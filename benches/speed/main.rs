//! Holm's speed, as ratios within one run: `cargo bench --bench speed`. Starts the servers that are
//! compared, each in a process of its own, on loopback and on the same disk, and ends them again.
//! What is measured and what came out: `benches/README.md`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time on a real machine")]

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

mod agent;
mod failover;
#[path = "../../src/client/gate.rs"]
#[allow(clippy::unwrap_used, reason = "what has no port measures nothing")]
mod gate;
mod healing;
mod propagation;
mod reads;
#[path = "../rig/rig.rs"]
mod rig;
mod secrets;
mod start;
mod steady;
mod watchers;
mod writes;

use rig::measure::{self, Finding};
use rig::{Plan, bare, machine};

/// Measures Holm's speed.
#[derive(Parser)]
struct Arguments {
    /// What to measure; everything where nothing is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// How often the two sides are measured, in turn.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long one side's load lasts in one round, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Serve the bytes of this file, without Holm: started by the benchmark itself.
    #[arg(long, hide = true)]
    serve_bare: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// Reads of one key against a bare axum handler.
    Reads,
    /// Durable writes of 64 clients against etcd.
    Writes,
    /// Delay from an answer in one region to a watcher in another.
    Propagation,
    /// A local write with other regions far away, against the same alone.
    Steady,
    /// Time to agree after a cut.
    Healing,
    /// Secrets, in round trips and fsyncs.
    Secrets,
    /// Memory of idle watchers.
    Watchers,
    /// Time from a node's start until it is ready.
    Start,
    /// What a client of several regions waits for when one is gone.
    Failover,
    /// Reads of an agent's copy, and its memory.
    Agent,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(file) = arguments.serve_bare {
        return bare::serve(&file);
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let plan = Plan::new(arguments.rounds, arguments.seconds, dir.path().to_owned())?;
    println!("{}\n", machine::facts(&plan.dir));
    let all = [
        What::Reads,
        What::Writes,
        What::Propagation,
        What::Steady,
        What::Healing,
        What::Secrets,
        What::Watchers,
        What::Start,
        What::Failover,
        What::Agent,
    ];
    let mut findings: Vec<Finding> = Vec::new();
    for what in all {
        if !arguments.what.is_empty() && !arguments.what.contains(&what) {
            continue;
        }
        findings.extend(match what {
            What::Reads => reads::measure(&plan)?,
            What::Writes => writes::measure(&plan)?,
            What::Propagation => propagation::measure(&plan)?,
            What::Steady => steady::measure(&plan)?,
            What::Healing => healing::measure(&plan)?,
            What::Secrets => secrets::measure(&plan)?,
            What::Watchers => watchers::measure(&plan)?,
            What::Start => start::measure(&plan)?,
            What::Failover => failover::measure(&plan)?,
            What::Agent => agent::measure(&plan)?,
        });
        println!();
    }
    println!("\n{}\nload at the end {}", measure::table(&findings), machine::load());
    Ok(())
}
