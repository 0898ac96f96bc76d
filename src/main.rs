//! The program: reads the command line, runs it, ends with its exit code.

use std::process::ExitCode;

use holm::cli::{self, Cli, process, sidecar};

/// Small allocations from many threads are most of what a node's requests cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match process::parsed::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let mut threads = None;
    if cli.is_sidecar() {
        sidecar::start_small();
        threads = Some(sidecar::THREADS);
    }
    process::run_to_end(threads, async |terminal| cli::run(cli, terminal).await)
}
