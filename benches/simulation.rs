//! How fast a simulation runs: five regions, some 50 requests a second of every kind, on one core.
//! `cargo bench --bench simulation`. Prints simulated seconds a real second, and the most memory.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::path::Path;
use std::time::Instant;

use holm::simulation::history::Event;
use holm::simulation::run::{Options, run};
use holm::simulation::scenario::Scenario;

/// The runs; the first one is not counted.
const RUNS: u64 = 6;

const SCENARIO: &str = r#"
claim = "Five regions with mixed load."
topology = "five-continents.toml"
duration = "60s"
settle = "10s"
[workload]
documents = 4
keys = 20
config_writes = 15
config_reads = 15
config_removes = 1
cas = 2
watchers = 1
session_clients = 5
session_rate = 2
secret_writes = 2
secret_reads = 3
role_writes = 0.5
role_reads = 0.5
revocations = 0.1
account_requests = 1
[[faults]]
at = "20s"
lasts = "10s"
isolate = "eu-west"
"#;

fn memory_max() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".to_owned(), |line| line.trim().to_owned())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let regions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regions");
    let scenario = Scenario::parse("bench.toml", SCENARIO, &regions)?;
    let simulated = (scenario.duration + scenario.settle).as_secs_f64();
    for seed in 0..RUNS {
        let began = Instant::now();
        let history = run(&scenario, &Options { seed, ..Options::default() })?;
        let took = began.elapsed().as_secs_f64();
        let calls = history.iter().filter(|it| matches!(it.event, Event::Call(_))).count();
        if seed == 0 {
            continue;
        }
        println!(
            "seed {seed}: {simulated:.0} s in {took:.2} s: {:.0} simulated seconds a second; {:.0} \
             requests a simulated second; at most {} in memory so far",
            simulated / took,
            calls as f64 / simulated,
            memory_max()
        );
    }
    Ok(())
}
