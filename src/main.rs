//! The program: reads the command line, runs it, ends with its exit code.

use std::io::{IsTerminal, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::Parser as _;
use holm::cli::{Cli, FRUGAL, Terminal};

/// Small allocations from many threads are most of what a node's requests cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many threads answer beside a program: it is there for the program, however many processors
/// there are.
const SIDECAR_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where even the message cannot be printed, the code still tells.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if cli.is_sidecar() {
        start_small();
        builder.worker_threads(SIDECAR_THREADS);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "holm: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (stdout, stderr, stdin) = (std::io::stdout(), std::io::stderr(), std::io::stdin());
    let mut terminal = Terminal {
        out_is_terminal: stdout.is_terminal(),
        err_is_terminal: stderr.is_terminal(),
        input_is_terminal: stdin.is_terminal(),
        colour: true,
        out: &mut std::io::LineWriter::new(stdout),
        // Not locked: other threads log there too.
        err: &mut &stderr,
        input: &mut stdin.lock(),
    };
    runtime.block_on(holm::cli::run(cli, &mut terminal))
}

/// Starts this program again in its own place, with the allocator told to take little and to give back
/// at once what is free: some 9 MB of an agent. By itself it does the one never, and the other with
/// later work, which what is idle does not come to. It reads that in the environment, when a process
/// starts, and nowhere else. Where starting again fails, what runs is larger, and does the same. Who set
/// one of these variables has seen to it.
fn start_small() {
    if FRUGAL.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let (Ok(program), mut words) = (std::env::current_exe(), std::env::args_os()) else { return };
    let mut again = Command::new(program);
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    // It comes back only where it failed.
    let _ = again.args(words).envs(FRUGAL).exec();
}
