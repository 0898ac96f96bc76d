//! Keeps a program running: passes signals on, ends as it ends, and starts it again with what it is
//! given now. What cannot be started is said, and the one that runs goes on.
//!
//! With a terminal the program stays in the process group of `holm`, so that the keyboard reaches both,
//! and job control and pipelines work; without one it has a group of its own, and signals reach all of
//! it. With a terminal the system says of INT and QUIT whether the keyboard sent them, which the program
//! has too, or a process, which sent them to `holm` alone.

use std::future::poll_fn;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpgrp, kill_process, kill_process_group, waitpid,
};
use rustix::termios::tcgetpgrp;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::follow::Told;
use super::given::{self, Given, Marks};
use super::launch::Program;
use crate::cli::{Failure, Terminal};

/// The signals that go on to the program.
const PASSED: [Signal; 7] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
];

/// Those of them that a keyboard sends.
const OF_KEYBOARD: [Signal; 2] = [Signal::INT, Signal::QUIT];

/// How a program is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) signal: Signal,
    /// How long it may take, until it is killed.
    pub(super) within: Duration,
}

/// Reads a signal by its name, with or without `SIG`.
pub(super) fn signal_named(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    Ok(match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "KILL" => Signal::KILL,
        "WINCH" => Signal::WINCH,
        _ => return Err("TERM, INT, QUIT, HUP, USR1, USR2, WINCH or KILL is expected".to_owned()),
    })
}

/// A program under supervision.
pub(super) struct Supervisor<'a> {
    program: &'a Program,
    stop: Stop,
    own_group: bool,
    child: Pid,
    /// What it runs with.
    marks: Marks,
    signals: Signals,
    /// Whether somebody asked for the end of it all.
    is_ending: bool,
}

/// Why a wait for the program was over.
enum Woken {
    Ended(ExitStatus),
    Signal(Signal),
    Told(Option<Told>),
    TooLate,
}

impl<'a> Supervisor<'a> {
    /// Starts the program for the first time.
    pub(super) fn start(
        program: &'a Program,
        given: &Given,
        marks: Marks,
        stop: Stop,
    ) -> Result<Self, Failure> {
        // Before there is a child: none of its signals may be missed.
        let signals = Signals::take()?;
        let own_group = terminal_group().is_none();
        program.check(given)?;
        let child = program.start(given, own_group)?;
        Ok(Self { program, stop, own_group, child, marks, signals, is_ending: false })
    }

    /// Goes on until the program ends; gives the exit code that says how.
    pub(super) async fn run(
        mut self,
        told: &mut mpsc::Receiver<Told>,
        terminal: &mut Terminal<'_>,
    ) -> Result<u8, Failure> {
        let mut is_told = true;
        loop {
            match self.woken(told, is_told, None).await? {
                Woken::Ended(status) => return Ok(code(status)),
                Woken::Signal(signal) => self.pass(signal),
                Woken::Told(Some(Told::Note(note))) => note_it(&note, terminal),
                Woken::Told(Some(Told::Other(given, marks))) => {
                    if let Some(code) = self.restart(given, marks, told, terminal).await? {
                        return Ok(code);
                    }
                }
                Woken::Told(None) => is_told = false,
                Woken::TooLate => {}
            }
        }
    }

    /// Stops the program and starts it with what it is given now. Gives an exit code where it is the
    /// end of it all.
    async fn restart(
        &mut self,
        mut given: Given,
        mut marks: Marks,
        told: &mut mpsc::Receiver<Told>,
        terminal: &mut Terminal<'_>,
    ) -> Result<Option<u8>, Failure> {
        let changed = given::changed(&self.marks, &marks);
        if changed.is_empty() {
            return Ok(None);
        }
        if let Err(why) = self.program.check(&given) {
            note_it(&format!("the program goes on with what it had: {why}"), terminal);
            return Ok(None);
        }
        note_it(&format!("{} changed: starting again", changed.join(", ")), terminal);
        self.send(self.stop.signal);
        let mut deadline = Some(Instant::now() + self.stop.within);
        let mut is_told = true;
        let status = loop {
            match self.woken(told, is_told, deadline).await? {
                Woken::Ended(status) => break status,
                Woken::Signal(signal) => self.pass(signal),
                Woken::Told(Some(Told::Note(note))) => note_it(&note, terminal),
                // It is the newest that counts.
                Woken::Told(Some(Told::Other(newer, newer_marks))) => {
                    match self.program.check(&newer) {
                        Ok(()) => (given, marks) = (newer, newer_marks),
                        Err(why) => note_it(&format!("this is passed over: {why}"), terminal),
                    }
                }
                Woken::Told(None) => is_told = false,
                Woken::TooLate => {
                    let within = self.stop.within;
                    note_it(&format!("it has not ended within {within:?}: it is killed"), terminal);
                    self.send(Signal::KILL);
                    deadline = None;
                }
            }
        };
        if self.is_ending {
            return Ok(Some(code(status)));
        }
        self.child = self.program.start(&given, self.own_group)?;
        self.marks = marks;
        Ok(None)
    }

    async fn woken(
        &mut self,
        told: &mut mpsc::Receiver<Told>,
        is_told: bool,
        deadline: Option<Instant>,
    ) -> Result<Woken, Failure> {
        let Signals { passed, child: changes, .. } = &mut self.signals;
        loop {
            // A change of the child's that comes after this look wakes the wait below.
            if let Some(status) = ended(self.child)? {
                return Ok(Woken::Ended(status));
            }
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = changes.recv() => {}
                signal = next(passed) => return Ok(Woken::Signal(signal)),
                () = late => return Ok(Woken::TooLate),
                told = told.recv(), if is_told => return Ok(Woken::Told(told)),
            }
        }
    }

    /// Passes a signal on that came here.
    fn pass(&mut self, signal: Signal) {
        let can_be_of_keyboard = OF_KEYBOARD.contains(&signal);
        self.is_ending |= can_be_of_keyboard || signal == Signal::TERM;
        let was_sent = can_be_of_keyboard && self.signals.was_sent(signal);
        // The keyboard's signals go to the terminal's whole group: the program has it already.
        let is_shared = !self.own_group && terminal_group() == Some(getpgrp());
        if can_be_of_keyboard && is_shared && !was_sent {
            return;
        }
        self.send(signal);
    }

    fn send(&self, signal: Signal) {
        // One that has just ended takes no more signals; that is seen at once.
        let _ = match self.own_group {
            true => kill_process_group(self.child, signal),
            false => kill_process(self.child, signal),
        };
    }
}

struct Signals {
    passed: Vec<(Signal, Stream)>,
    child: Stream,
    /// Who sent those that a keyboard can send, as the system tells it.
    senders: SignalsInfo<WithRawSiginfo>,
    /// Those that a process sent, and that were not asked about yet.
    sent: Vec<i32>,
}

impl Signals {
    fn take() -> Result<Self, Failure> {
        let stream = |kind| signal(kind).map_err(|e| Failure::failed(format!("no signals: {e}")));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored_in(&status);
        let is_taken = |it: &Signal| ignored & (1 << (it.as_raw() - 1)) == 0;
        // Before the streams: handlers run in this order, so that what wakes a stream is noted here.
        let of_keyboard = OF_KEYBOARD.into_iter().filter(is_taken).map(Signal::as_raw);
        let senders = SignalsInfo::new(of_keyboard)
            .map_err(|e| Failure::failed(format!("no signals: {e}")))?;
        let passed = PASSED.into_iter().filter(is_taken);
        let passed = passed.map(|it| Ok((it, stream(SignalKind::from_raw(it.as_raw()))?)));
        Ok(Self {
            passed: passed.collect::<Result<_, Failure>>()?,
            child: stream(SignalKind::child())?,
            senders,
            sent: Vec::new(),
        })
    }

    /// Whether a process sent this signal since the last time that this was asked of it.
    fn was_sent(&mut self, signal: Signal) -> bool {
        // sigaction(2): what the system sends by itself, as for a terminal, has a code above 0.
        let by_process = self.senders.pending().filter(|it| it.si_code <= 0);
        self.sent.extend(by_process.map(|it| it.si_signo));
        let before = self.sent.len();
        self.sent.retain(|it| *it != signal.as_raw());
        self.sent.len() < before
    }
}

/// The signals that a process ignores, by what its `/proc/PID/status` says, signal 1 in the lowest bit.
/// Those that `nohup` or a shell had ignored stay so, and the program inherits that.
fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

async fn next(streams: &mut [(Signal, Stream)]) -> Signal {
    poll_fn(|context| {
        let came = streams
            .iter_mut()
            .find_map(|(signal, stream)| stream.poll_recv(context).is_ready().then_some(*signal));
        came.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// The process group in the foreground of the own terminal, if there is one.
fn terminal_group() -> Option<Pid> {
    let terminal = std::fs::File::open("/dev/tty").ok()?;
    tcgetpgrp(terminal).ok()
}

fn ended(child: Pid) -> Result<Option<ExitStatus>, Failure> {
    let waited = waitpid(Some(child), WaitOptions::NOHANG)
        .map_err(|e| Failure::failed(format!("the program cannot be waited for: {e}")))?;
    Ok(waited.map(|(_, status): (Pid, WaitStatus)| status_of(status)))
}

fn status_of(status: WaitStatus) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt as _;
    ExitStatus::from_raw(status.as_raw())
}

/// A program's exit code; 128 and the number of the signal that ended it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Whoever reads no notes any more is no reason for the program to end.
fn note_it(note: &str, terminal: &mut Terminal<'_>) {
    let _ = terminal.note(note);
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(Signal::TERM.as_raw())), 143);
        assert_eq!(code(ExitStatus::from_raw(Signal::KILL.as_raw() | 0x80)), 137, "a core, too");
    }

    #[test]
    fn what_was_ignored_before_is_read_from_the_status() {
        let status = "Name:\tsh\nSigBlk:\tffff\nSigIgn:\t0000000000001007\nSigCgt:\t0\n";
        assert_eq!(ignored_in(status), 0x1007);
        assert_eq!(ignored_in("Name:\tsh\n"), 0);
    }

    #[test]
    fn signals_are_read_by_name_in_any_case() {
        assert_eq!(signal_named("term"), Ok(Signal::TERM));
        assert_eq!(signal_named("SIGUSR1"), Ok(Signal::USR1));
        assert!(signal_named("9").is_err() && signal_named("STOP").is_err());
    }
}
