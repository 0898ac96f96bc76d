//! The program: reads the command line, runs it, ends with its exit code.

use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use holm::cli::{Cli, Terminal};

/// Small allocations from many threads are most of what a node's requests cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where even the message cannot be printed, the code still tells.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
