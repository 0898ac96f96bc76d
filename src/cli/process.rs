//! The process around a command: its runtime, its streams, and what of it is told before it starts.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::Terminal;

/// How long a process that ends waits for its threads that are reading something.
const READS_END_TIME: Duration = Duration::from_secs(2);

/// Runs a command to its end, in a runtime of so many threads, or of one for each processor.
pub fn run_to_end(
    threads: Option<usize>,
    command: impl AsyncFnOnce(&mut Terminal<'_>) -> ExitCode,
) -> ExitCode {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
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
    let code = runtime.block_on(command(&mut terminal));
    // Whatever has to come to an end was waited for. What is still being read is not.
    runtime.shutdown_timeout(READS_END_TIME);
    code
}

/// What the words say, or the exit code where they are none that clap takes, or ask for help.
pub fn parsed<C: clap::Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        // Where even the message cannot be printed, the code still tells.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}
