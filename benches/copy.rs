//! What a read of a local copy costs: of a typed map of 10,000 keys, by one thread and by all cores at
//! once, and of one key's value made anew; then of an agent that has the same copy, over its socket, and
//! what that agent has in memory. No region is there: both start from their files.
//! `cargo bench --bench copy`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holm::client::{Client, CopySettings, WatchMap};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const KEYS: usize = 10_000;
const ROUNDS: usize = 51;
const READS: u32 = 1_000_000;
const GOAL_NS: f64 = 100.0;
/// Requests to an agent in a round.
const REQUESTS: u32 = 2_000;
/// What an agent may have in memory, in MB.
const AGENT_GOAL_MB: f64 = 30.0;
/// How long an agent may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

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
fn measure(call: impl FnMut()) -> (f64, f64, f64) {
    measure_times(READS, call)
}

/// The same with so many calls in a round.
fn measure_times(times: u32, mut call: impl FnMut()) -> (f64, f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..times {
                call();
            }
            begun.elapsed().as_nanos() as f64 / f64::from(times)
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
    agent(dir.path())
}

/// An agent, which ends with this.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// One that has the file of an earlier run, and answers at `agent.sock`.
    fn start(dir: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let (data, socket) = (dir.join("agent"), dir.join("agent.sock"));
        std::fs::create_dir(&data)?;
        // As an agent names it: readable, and no other document's.
        let sum = Sha256::digest("web/prod");
        let sum: String = sum[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        write_file(&data.join(format!("copy-web_prod-{sum}.txt")))?;
        let settings = format!(
            "data_dir = {data:?}\ndocuments = [\"web/prod\"]\n[listen]\nsocket = {socket:?}\n"
        );
        std::fs::write(dir.join("agent.toml"), settings)?;
        let agent = Command::new(env!("CARGO_BIN_EXE_holm"))
            .args(["agent", "--url", "http://127.0.0.1:1", "--token", "none", "--config"])
            .arg(dir.join("agent.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let agent = Self(agent);
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if begun.elapsed() > STARTS_WITHIN {
                return Err("the agent does not start".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    /// What its status says, in MB.
    fn memory_mb(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let kib = status.lines().find_map(|it| it.strip_prefix(line)).unwrap_or_default();
        kib.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) * 1.024 / 1e3
    }
}

/// One request over a connection that stays; gives the length of the answer, which has to be good.
fn ask(stream: &mut UnixStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    stream.write_all(b"GET /config/web/prod/server.port HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut len = 0;
    loop {
        len += match stream.read(&mut buffer[len..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            more => more,
        };
        let text = std::str::from_utf8(&buffer[..len]).unwrap_or_default();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if announced.and_then(|len| len.parse().ok()) == Some(body.len()) {
            let is_good = head.starts_with("HTTP/1.1 200") && body.contains("\"value\":8080");
            return is_good.then_some(len).ok_or_else(|| std::io::Error::other(text.to_owned()));
        }
    }
}

/// What a read of an agent costs over its socket, and what the agent has in memory.
fn agent(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let agent = Agent::start(dir)?;
    let mut stream = UnixStream::connect(dir.join("agent.sock"))?;
    let mut buffer = vec![0; 64 * 1024];
    ask(&mut stream, &mut buffer)?;
    let mut failed = None;
    let read = measure_times(REQUESTS, || {
        if failed.is_none() {
            failed = ask(&mut stream, &mut buffer).err();
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    show("agent: one key, over its socket, one connection", read, None);
    // What is free goes back within a moment.
    std::thread::sleep(Duration::from_secs(2));
    let [all, own, files] = ["VmRSS:", "RssAnon:", "RssFile:"].map(|line| agent.memory_mb(line));
    let verdict = |mb: f64| if mb < AGENT_GOAL_MB { "yes" } else { "NO" };
    println!(
        "agent: {own:.1} MB of its own (under {AGENT_GOAL_MB} MB: {}), {files:.1} MB of pages of files, \
         {all:.1} MB in all (under {AGENT_GOAL_MB} MB: {})",
        verdict(own),
        verdict(all)
    );
    Ok(())
}
