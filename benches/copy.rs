//! What a read of a local copy costs: of a typed map of 10,000 keys, by one thread and by all cores at
//! once, and of one key's value made anew. No region is there: it starts from its file.
//! `cargo bench --bench copy`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use holm::client::{Client, CopySettings, WatchMap};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const KEYS: usize = 10_000;
const ROUNDS: usize = 51;
const READS: u32 = 1_000_000;
const GOAL_NS: f64 = 100.0;

#[derive(Deserialize)]
struct Web {
    #[serde(rename = "server.port")]
    port: u16,
    #[serde(flatten)]
    _rest: std::collections::BTreeMap<String, serde_json::Value>,
}

/// A copy's file, as an earlier run leaves it.
fn write_file(path: &Path) -> std::io::Result<()> {
    let header = format!(
        "{{\"document\":\"web/prod\",\"prefix\":null,\"session\":null,\"confirmed_at_us\":1,\"keys\":{}}}",
        KEYS + 1
    );
    let mut text = format!("holm local copy 1\n{header}\n");
    let value = "x".repeat(254);
    for n in 0..KEYS {
        // A string takes whatever is written.
        let _ = writeln!(text, "{{\"key\":\"k{n}\",\"value\":\"{value}\",\"version\":1}}");
    }
    text.push_str("{\"key\":\"server.port\",\"value\":8080,\"version\":1}\n");
    let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(path, format!("{text}sha256 {sum}\n"))
}

/// Nanoseconds of one call, as the median of rounds; and the least and the largest round.
fn measure(mut call: impl FnMut()) -> (f64, f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..READS {
                call();
            }
            begun.elapsed().as_nanos() as f64 / f64::from(READS)
        })
        .collect();
    rounds.sort_unstable_by(f64::total_cmp);
    (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1])
}

fn show(what: &str, (least, median, most): (f64, f64, f64), goal: Option<f64>) {
    let verdict = match goal {
        Some(goal) if median < goal => format!("   under {goal} ns: yes"),
        Some(goal) => format!("   under {goal} ns: NO"),
        None => String::new(),
    };
    println!("{what:<58} {least:7.1} / {median:7.1} / {most:7.1} ns{verdict}");
}

fn read(map: &WatchMap<Web>) -> u16 {
    map.load().port
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = dir.path().join("web.copy");
    write_file(&path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = CopySettings {
        file: Some(path),
        fresh_within: Duration::from_millis(1),
        ..CopySettings::default()
    };
    let client = Client::new("http://127.0.0.1:1", None)?;
    let map =
        runtime.block_on(client.watch_map::<Web>("web", "prod").settings(settings).start())?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("cores {cores}, kernel {}, load {}", kernel.trim(), load.trim());
    println!(
        "{} keys, {ROUNDS} rounds of {READS} reads: least / median / most of the rounds",
        KEYS + 1
    );
    let one = measure(|| {
        black_box(read(black_box(&map)));
    });
    show("watch_map: one field, one thread", one, Some(GOAL_NS));
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    measure(|| {
                        black_box(read(black_box(&map)));
                    })
                })
            })
            .collect();
        let mut results: Vec<_> = threads.into_iter().filter_map(|it| it.join().ok()).collect();
        results.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        results.pop()
    });
    if let Some(slowest) = all {
        let what = format!("watch_map: one field, the slowest of {cores} threads");
        show(&what, slowest, Some(GOAL_NS));
    }
    let full = measure(|| {
        black_box(map.load_full());
    });
    show("watch_map: a state to keep (load_full)", full, None);
    let copy = map.copy();
    let value = measure(|| {
        let state = copy.state();
        black_box(state.value::<u16>(black_box("server.port")).ok());
    });
    show("local_copy: one key's value out of 10,001, parsed", value, None);
    runtime.block_on(map.close());
    Ok(())
}
