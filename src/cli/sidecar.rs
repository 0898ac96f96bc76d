//! What runs beside a program, and takes little: `holm agent` as a process of its own.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

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
/// What it says of its version.
const VERSION: &str = concat!("holm-agent ", env!("CARGO_PKG_VERSION"), "\n");

/// What `holm agent` runs as, where this program is beside `holm`: the same words, and the same code
/// without that of a node. To be called by `holm agent`.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
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

/// Starts the small program in this one's place, where it is beside it and of its version, or this one
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

/// The small program beside this one, if there is one that belongs to it.
fn small_of(program: &Path) -> Option<PathBuf> {
    let small = program.with_file_name(PROGRAM);
    if !small.is_file() {
        return None;
    }
    let said = Command::new(&small).arg("--version").output().ok()?;
    (said.stdout == VERSION.as_bytes()).then_some(small)
}
