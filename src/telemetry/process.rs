//! What the process takes of its machine, under the names that every Prometheus client uses. Read
//! from `/proc`, where that is there; elsewhere these metrics are absent. A process that is one
//! node's alone, or a whole `holm dev`, asks for them; nodes in a test or a simulation do not, because
//! what they would show is not theirs.

use std::fs;

use metrics::Gauge;

use super::metrics::{Metrics, Registrar};

/// How many of `/proc`'s ticks make a second: the same on all architectures but two.
const TICKS_PER_SECOND: f64 = 100.0;

/// Handles of the process' metrics.
pub(super) struct ProcessMetrics {
    resident_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
}

/// What is known of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    resident_bytes: u64,
    open_fds: u64,
    threads: u64,
}

impl ProcessMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let gauge = |name, what| it.gauge(name, what, vec![]);
        if let Some(started) = start_time() {
            let what = "When the process started, in seconds since 1970.";
            gauge("process_start_time_seconds", what).set(started);
        }
        let this = Self {
            resident_memory: gauge("process_resident_memory_bytes", "Memory it has resident."),
            open_fds: gauge("process_open_fds", "File descriptors it has open."),
            max_fds: gauge("process_max_fds", "File descriptors it may have open."),
            threads: gauge("process_threads", "Threads it has."),
        };
        if let Some(max) = max_fds() {
            this.max_fds.set(max as f64);
        }
        this
    }

    fn refresh(&self) {
        let Some(usage) = usage() else { return };
        self.resident_memory.set(usage.resident_bytes as f64);
        self.open_fds.set(usage.open_fds as f64);
        self.threads.set(usage.threads as f64);
    }
}

impl Metrics {
    /// Shows from now on what this process takes.
    pub fn show_process(&self) {
        self.process.get_or_init(|| ProcessMetrics::new(&Registrar(&self.recorder)));
    }

    /// Brings up to date what [`Metrics::show_process`] asked for. Reads files.
    pub fn refresh_process(&self) {
        if let Some(process) = self.process.get() {
            process.refresh();
        }
    }
}

fn usage() -> Option<Usage> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(Usage {
        resident_bytes: number(&status, "VmRSS:")? * 1_024,
        // The one that the directory is read through is closed again.
        open_fds: (open_fds as u64).saturating_sub(1),
        threads: number(&status, "Threads:")?,
    })
}

/// The number behind `name` in the text of a file like `/proc/self/status`.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn max_fds() -> Option<u64> {
    number(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let booted = number(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(booted as f64 + start_ticks(&stat)? / TICKS_PER_SECOND)
}

/// The 22nd field; the second one is a name that may hold spaces and brackets.
fn start_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_takes_is_shown_where_it_was_asked_for() {
        let metrics = Metrics::new().unwrap();
        metrics.refresh_process();
        assert!(!metrics.render().contains("process_"));
        metrics.show_process();
        metrics.refresh_process();
        let text = metrics.render();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_open_fds") >= 3.0, "{text}");
        assert!(value("process_max_fds") > value("process_open_fds"), "{text}");
        assert!(value("process_threads") >= 1.0, "{text}");
        assert!(value("process_start_time_seconds") > 1.5e9, "{text}");
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_start_time() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = format!("1 (a) (b c)) {}", fields.join(" "));
        assert_eq!(start_ticks(&stat), Some(22.0));
        assert_eq!(start_ticks("1 (a"), None);
    }
}
