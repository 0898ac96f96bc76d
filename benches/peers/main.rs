//! Holm beside its peers, in one run: `cargo bench --bench peers`. Every row of the table of goals,
//! with etcd wherever it has something to compare, on loopback and on the same disk, loaded in turn by
//! one load generator. What is measured and what came out: `benches/README.md`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time on a real machine")]

use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};

mod agreement;
mod apply;
mod day;
mod far;
mod growth;
mod million;
mod propagation;
mod reads;
#[path = "../rig/rig.rs"]
mod rig;
mod watchers;
mod writes;

use rig::measure::{self, Finding};
use rig::{Plan, bare, etcd, machine};

/// Measures Holm beside its peers.
#[derive(Parser)]
struct Arguments {
    /// What to measure; everything where nothing is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// How often the sides are measured, in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one side's load lasts in one round, in seconds.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Serve the bytes of this file, without Holm: started by the benchmark itself.
    #[arg(long, hide = true)]
    serve_bare: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum What {
    /// Local reads against a bare axum handler and etcd's serializable ones.
    Reads,
    /// Durable writes of 1, 64 and 256 clients against etcd's.
    Writes,
    /// A write in a region that is 40 ms away from the others, against etcd over the same links.
    Far,
    /// What a remote change costs, from a document's first to its millionth.
    Apply,
    /// Delay from an answer in one region to a watcher in another, at 500 writes/s.
    Propagation,
    /// Time to agree after a cut with 30,000 writes on each side.
    Agreement,
    /// A million keys: memory, disk, and time until ready, against etcd's.
    Million,
    /// A thousand watchers of one document, against etcd's.
    Watchers,
    /// What a write costs as documents and keys grow in number.
    Growth,
    /// A day of one write a second to one document.
    Day,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(file) = arguments.serve_bare {
        return bare::serve(&file);
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let plan = Plan::new(arguments.rounds, arguments.seconds, dir.path().to_owned())?;
    println!("{}", machine::facts(&plan.dir));
    let program = etcd::find();
    println!("{}\n", program.as_deref().map_or(etcd::HOW_TO_INSTALL.into(), etcd::version));
    let program = program.as_deref();
    let mut findings: Vec<Finding> = Vec::new();
    for what in What::value_variants() {
        if !arguments.what.is_empty() && !arguments.what.contains(what) {
            continue;
        }
        let start = Instant::now();
        findings.extend(match what {
            What::Reads => reads::measure(&plan, program)?,
            What::Writes => writes::measure(&plan, program)?,
            What::Far => far::measure(&plan, program)?,
            What::Apply => apply::measure(&plan)?,
            What::Propagation => propagation::measure(&plan)?,
            What::Agreement => agreement::measure(&plan)?,
            What::Million => million::measure(&plan, program)?,
            What::Watchers => watchers::measure(&plan, program)?,
            What::Growth => growth::measure(&plan)?,
            What::Day => day::measure(&plan)?,
        });
        println!("  {} s in all, load {}\n", start.elapsed().as_secs(), machine::load());
    }
    println!("\n{}\nload at the end {}", measure::table(&findings), machine::load());
    Ok(())
}
