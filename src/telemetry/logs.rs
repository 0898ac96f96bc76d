//! The log writer, which `main` alone installs: one line an event on standard error, as JSON for
//! machines (`ecs`) or as text for people.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::ecs::Ecs;
use crate::settings::{LogFormat, LogSettings};

/// Why logs cannot be written. Nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not a filter's text.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// Something else in this process writes logs already.
    #[error("a log writer is installed already")]
    Installed,
}

/// Lines that wait to be written; when there are more, further ones are dropped rather than have
/// requests wait for whoever reads the log.
const LINES_MAX: usize = 16_384;

/// Writes what still waits when it is dropped: to be kept as long as the process logs.
#[must_use = "logs end when this is dropped"]
pub struct Logs {
    _writer: tracing_appender::non_blocking::WorkerGuard,
}

/// Where lines go. What is in a line of its own on the terminal, a bar, gives way to them.
struct Lines<W> {
    out: W,
    /// Whether it is a terminal.
    is_seen: bool,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_seen {
            self.out.write_all(b"\r\x1b[K")?;
        }
        // The whole of it, so that the rest of a line is not taken for another.
        self.out.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes this process' logs as the settings say, as those of `node`. To be called once in a
/// process.
pub fn install(settings: &LogSettings, node: &str) -> Result<Logs, LogError> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let stderr = std::io::stderr();
    let is_seen = stderr.is_terminal();
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .finish(Lines { out: stderr, is_seen });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(settings.format == LogFormat::Text);
    match settings.format {
        LogFormat::Json => builder.event_format(Ecs::new(node)).try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(|_| LogError::Installed)?;
    Ok(Logs { _writer: guard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused() {
        let settings = LogSettings { level: "holm=loud".to_owned(), ..LogSettings::default() };
        assert!(matches!(install(&settings, "a-1"), Err(LogError::Level(_))));
    }

    #[test]
    fn lines_take_a_bar_away_on_a_terminal_and_are_as_they_are_elsewhere() {
        for (is_seen, expected) in [(true, "[#..]\r\x1b[Kline\n"), (false, "[#..]line\n")] {
            let mut lines = Lines { out: b"[#..]".to_vec(), is_seen };
            lines.write_all(b"line\n").unwrap();
            assert_eq!(lines.out, expected.as_bytes());
        }
    }
}
