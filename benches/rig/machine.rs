//! What the numbers were measured on. Says what it can find out and `unknown` for the rest.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::rig::measure::percentile;

/// Facts about machine, tools and disk, one a line.
pub(crate) fn facts(dir: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = output("rustc", &["--version"]);
    let commit = option_env!("HOLM_COMMIT").map_or_else(
        || output("git", &["describe", "--always", "--dirty", "--abbrev=10"]),
        str::to_owned,
    );
    format!(
        "cores {cores}, kernel {}, {rustc}, commit {commit}\nload {}, {}",
        kernel.trim(),
        load(),
        fsync(dir)
    )
}

/// How busy the machine is: runnable tasks, averaged over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// How long the disk takes to make 4 KiB durable: median and worst of 50.
pub(crate) fn fsync(dir: &Path) -> String {
    match fsyncs(dir) {
        Ok(times) => format!(
            "fsync of 4 KiB: median {:.3} ms, worst of 50 {:.3} ms",
            percentile(&times, 0.5) as f64 / 1e6,
            percentile(&times, 1.0) as f64 / 1e6
        ),
        Err(error) => format!("fsync: {error}"),
    }
}

/// The median of that, in milliseconds.
pub(crate) fn fsync_ms(dir: &Path) -> std::io::Result<f64> {
    Ok(percentile(&fsyncs(dir)?, 0.5) as f64 / 1e6)
}

/// So many nanoseconds each, sorted.
fn fsyncs(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut file = File::create(dir.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..50 {
        file.write_all(&[7; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    Ok(times)
}

/// Processor time that a process has used, in seconds; 0 where the system does not say.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces; the 14th and 15th fields are ticks of 10 ms.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// What a process has in memory, in MB, by a line of its status: `VmRSS:` is all, `RssAnon:` what is no
/// file's; 0 where the system does not say.
pub(crate) fn memory_mb(pid: u32, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|it| it.strip_prefix(line)).unwrap_or_default();
    kib.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) * 1.024 / 1e3
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => format!("{program} unknown"),
    }
}
