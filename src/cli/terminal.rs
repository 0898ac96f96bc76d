//! Where a command reads and writes, so that a test can stand in for a terminal: three streams, and
//! whether a person is at each.

use std::io::{BufRead, Write};

use super::failure::Failure;

/// The streams of one run.
pub struct Terminal<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Progress, warnings, errors.
    pub err: &'a mut dyn Write,
    /// Answers to questions, and values from `-`.
    pub input: &'a mut dyn BufRead,
    /// Whether a person sees the results: then there are colours.
    pub out_is_terminal: bool,
    /// Whether a person sees the errors: then there is progress.
    pub err_is_terminal: bool,
    /// Whether a person can be asked.
    pub input_is_terminal: bool,
    /// Whether colours are wanted at all.
    pub colour: bool,
}

/// A list for programs, as the node's own lists are.
#[derive(serde::Serialize)]
pub(crate) struct Items<'a, T> {
    pub(crate) items: &'a [T],
}

/// What a colour means; never the only sign of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Added,
    Changed,
    Removed,
    Title,
}

impl Terminal<'_> {
    pub(crate) fn without_colour(&mut self) {
        self.colour = false;
    }

    /// For whoever reads results by program.
    pub(crate) fn without_progress(&mut self) {
        self.err_is_terminal = false;
    }

    /// A line of results.
    pub(crate) fn say(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", printable(line.as_ref()))?)
    }

    /// Whether results are shown in colour.
    pub(crate) fn paints(&self) -> bool {
        self.colour && self.out_is_terminal
    }

    /// A line of results, a part of it in colour.
    pub(crate) fn say_painted(
        &mut self,
        before: &str,
        colour: Colour,
        text: &str,
        after: &str,
    ) -> Result<(), Failure> {
        if !self.paints() {
            return self.say(format!("{before}{text}{after}"));
        }
        let code = match colour {
            Colour::Added => 32,
            Colour::Changed => 33,
            Colour::Removed => 31,
            Colour::Title => 1,
        };
        let (before, text, after) = (printable(before), printable(text), printable(after));
        Ok(writeln!(self.out, "{before}\x1b[{code}m{text}\x1b[0m{after}")?)
    }

    /// Results byte for byte, where it is a program that reads them.
    pub(crate) fn say_raw(&mut self, text: &str) -> Result<(), Failure> {
        if self.out_is_terminal {
            return Ok(write!(self.out, "{}", printable(text))?);
        }
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Results for programs.
    pub(crate) fn say_json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|e| Failure::failed(format!("the result cannot be written as JSON: {e}")))?;
        self.say_raw(&(text + "\n"))
    }

    /// A remark that is no result and no error.
    pub(crate) fn note(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.progress_ends()?;
        Ok(writeln!(self.err, "holm: {}", printable(line.as_ref()))?)
    }

    /// How far along it is, where somebody watches.
    pub(crate) fn progress(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        if self.err_is_terminal {
            write!(self.err, "\r\x1b[K{}", printable(line.as_ref()))?;
            self.err.flush()?;
        }
        Ok(())
    }

    /// How much of how much is done, as a bar, where somebody watches.
    pub(crate) fn bar(&mut self, (done, total): (u64, u64), of: &str) -> Result<(), Failure> {
        /// How wide the bar is.
        const WIDTH: u64 = 30;
        let part = done.saturating_mul(WIDTH).checked_div(total).unwrap_or(0).min(WIDTH);
        let bar: String = (0..WIDTH).map(|at| if at < part { '#' } else { '.' }).collect();
        self.progress(format!("[{bar}] {done} of {total} {of}"))
    }

    /// Takes the line of progress away.
    pub(crate) fn progress_ends(&mut self) -> Result<(), Failure> {
        self.progress("")
    }

    /// Asks, and takes only `y` or `yes` for yes.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool, Failure> {
        write!(self.err, "{} [y/N] ", printable(question))?;
        self.err.flush()?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a line of which nothing is shown while it is typed.
    pub(crate) fn read_hidden(
        &mut self,
        question: &str,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let hidden = Hidden::start().map_err(|e| {
            Failure::failed(format!("the terminal would show what is typed: {e}"))
                .hint("give the value by --file or a pipe")
        })?;
        write!(self.err, "{}", printable(question))?;
        self.err.flush()?;
        self.input.read_until(b'\n', bytes)?;
        drop(hidden);
        writeln!(self.err)?;
        if bytes.contains(&0x03) {
            return Err(Failure::failed("interrupted"));
        }
        super::secret::take_line_end(bytes);
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

/// Standard input without its echo. Signals of the keyboard come as characters meanwhile: one that
/// ended the process would leave the terminal like this.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn start() -> std::io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // Where the terminal is gone there is nothing to put right.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What others wrote must not steer the reader's terminal: control characters become visible.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `1 key`, `2 keys`.
pub(crate) fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}
