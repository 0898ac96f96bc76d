//! What runs beside a program, and takes little: `holm agent` as a process of its own.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use super::{Global, Terminal, agent, finish};

/// How many threads answer beside a program: it is there for the program, however many processors
/// there are.
pub const THREADS: usize = 2;
/// What tells the allocator to take no more than it needs: how many milliseconds later what is free goes
/// back to the system, and whether it takes more at once than it was asked for.
pub(super) const FRUGAL: [(&str, &str); 2] =
    [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")];
/// The program that has an agent in it and nothing else.
const PROGRAM: &str = "holm-agent";
/// How long it may take to say of which build it is.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The build: by what it was made from, since many have one version.
const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOLM_SOURCES"), ")");
/// What the small program of this build says of its version.
const VERSION: &str =
    concat!("holm-agent ", env!("CARGO_PKG_VERSION"), " (", env!("HOLM_SOURCES"), ")\n");

/// What `holm agent` runs as, where this program is beside `holm`: the same words, and the same code
/// without that of a node. To be called by `holm agent`.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version = BUILD)]
pub struct Sidecar {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Only,
}

#[derive(Debug, Subcommand)]
enum Only {
    /// Keep copies on this machine for programs in any language, and render templates from them.
    Agent(agent::Agent),
}

/// Does what the command line says. Never ends the process itself.
pub async fn run(sidecar: Sidecar, terminal: &mut Terminal<'_>) -> ExitCode {
    let Sidecar { global, command: Only::Agent(agent) } = sidecar;
    let code = finish(&global, terminal, async |terminal: &mut Terminal<'_>| {
        agent.run(&global, terminal).await
    });
    ExitCode::from(code.await)
}

/// Starts the small program in this one's place, where it is beside it and of its build, or this one
/// once more; and has the allocator take little and give back at once what is free. By itself that does
/// the one never, and the other with later work, which what is idle does not come to. It reads that in the
/// environment, when a process starts, and nowhere else: what is set there stays as it is. Where starting
/// again fails, what runs is larger, and does the same.
pub fn start_small() {
    let mut missing = FRUGAL.to_vec();
    missing.retain(|(name, _)| std::env::var_os(name).is_none());
    let Ok(program) = std::env::current_exe() else { return };
    let small = small_of(&program);
    if small.is_none() && missing.is_empty() {
        return;
    }
    let mut words = std::env::args_os();
    let mut again = Command::new(small.unwrap_or(program));
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    // It comes back only where it failed.
    let _ = again.args(words).envs(missing).exec();
}

/// The small program beside this one, if there is one that belongs to it: of the same build, and of nobody
/// who could not have changed this one.
fn small_of(program: &Path) -> Option<PathBuf> {
    let small = program.with_file_name(PROGRAM);
    let (own, its) = (program.metadata().ok()?, small.metadata().ok()?);
    let by_group = its.mode() & 0o020 != 0;
    let is_trusted = (its.uid() == own.uid() || its.uid() == 0)
        && its.mode() & 0o002 == 0
        && (!by_group || (own.mode() & 0o020 != 0 && its.gid() == own.gid()));
    (its.is_file() && is_trusted && version_of(&small)? == VERSION.as_bytes()).then_some(small)
}

/// What a program says of its version, if it does so soon. It gets nothing of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "before there is a runtime; nothing is simulated here"
)]
fn version_of(program: &Path) -> Option<Vec<u8>> {
    let mut asked = Command::new(program);
    asked.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = asked.stdout(Stdio::piped()).spawn().ok()?;
    let deadline = Instant::now() + ANSWER_TIME;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut said = Vec::new();
    child.stdout.take()?.take(VERSION.len() as u64 + 1).read_to_end(&mut said).ok()?;
    Some(said)
}
