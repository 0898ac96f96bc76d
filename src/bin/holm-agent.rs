//! `holm agent` without the rest of the program: what it runs as, where this is beside it.

use std::process::ExitCode;

use holm::cli::process;
use holm::cli::sidecar::{self, Sidecar, THREADS};

/// As in `holm`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match process::parsed::<Sidecar>() {
        Ok(words) => {
            process::run_to_end(Some(THREADS), async |terminal| sidecar::run(words, terminal).await)
        }
        Err(code) => code,
    }
}
