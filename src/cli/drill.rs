//! `holm drill`: a scenario, with real processes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::serve::stop_asked;
use super::simulate::{UNDECIDED, told, verdict_failure};
use super::{Failure, Global, Terminal, duration};
use crate::simulation::drill::{DrillError, play, unsupported, weaker};
use crate::simulation::history::Record;
use crate::simulation::report::judged::judged;
use crate::simulation::report::{Report, text};
use crate::simulation::run::Options;
use crate::simulation::scenario::Scenario;

/// Exit code of a drill that a signal ended, as a shell counts it.
const STOPPED: u8 = 130;

/// Arguments of `holm drill`.
#[derive(Args, Debug)]
#[command(after_help = "\
What `holm simulate` runs in virtual time runs here as it would in production: a `holm serve` for
each node, in a network namespace of its own, with the scenario's distances and faults on the links
between them. The same checks judge it. It takes as long as the scenario says, and needs root on
Linux; nothing is left behind.

Examples:
  holm drill simulations/islands.toml
  holm drill simulations/islands.toml --html report.html
  holm simulate simulations/islands.toml         the same in virtual time

A scenario whose faults are of clocks or of a failing disk is for `holm simulate` alone.

Exit codes: 0 everything held; 1 a promise was broken; 2 a bad scenario, or this machine can't;
4 the drill shows nothing, or it is undecided; 130 it was stopped.")]
pub struct Drill {
    /// The scenario file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// What clients ask for and what a nemesis breaks is drawn from it. When, the machine decides.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    seed: u64,
    /// End workload and faults here, if that is earlier than the scenario does.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<Duration>,
    #[command(flatten)]
    files: told::Files,
}

impl Drill {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let file = &self.scenario;
        let scenario = Scenario::load(file).map_err(|e| Failure::usage(e.to_string()))?;
        let not_possible = unsupported(&scenario);
        if !not_possible.is_empty() {
            let why = format!("a drill can't do this: {}", not_possible.join("; "));
            let simulate = format!("holm simulate {} does all of it", file.display());
            return Err(Failure::usage(why).about(file.display()).hint(simulate));
        }
        for line in weaker(&scenario) {
            terminal.note(line)?;
        }
        let records = self.drilled(&scenario, terminal).await?;
        let report = Report::new(&records, judged(&records));
        self.files.write(&records, &report)?;
        if global.json() {
            told::say_json(&report, terminal)?;
        } else {
            terminal.say_raw(&text::text(&report, terminal.paints()))?;
        }
        verdict_failure(report.verdict, &scenario.name)
    }

    async fn drilled(
        &self,
        scenario: &Scenario,
        terminal: &mut Terminal<'_>,
    ) -> Result<Vec<Record>, Failure> {
        let program = std::env::current_exe()?;
        let until = self.until.map_or(String::new(), |it| format!(" --until {}ms", it.as_millis()));
        let again = format!("holm drill {} --seed {}{until}", self.scenario.display(), self.seed);
        let options = Options { seed: self.seed, until: self.until, faults: None, again };
        let mut told = Ok(());
        let tell = |what: &str| {
            if told.is_ok() {
                told = terminal.progress(format!("{}: {what}", scenario.name));
            }
        };
        // Whichever way it ends, the drill is dropped here, and with it all that it has made.
        let played = tokio::select! {
            biased;
            stopped = stop_asked() => {
                stopped?;
                None
            }
            played = play::play(scenario, &options, program, tell) => Some(played),
        };
        told?;
        terminal.progress_ends()?;
        match played {
            Some(played) => played.map_err(failure),
            None => {
                Err(Failure::exit(STOPPED, "stopped; the drill's processes and network are gone"))
            }
        }
    }
}

fn failure(error: DrillError) -> Failure {
    match error {
        DrillError::Needs { .. } | DrillError::Settings(_) => Failure::usage(error.to_string()),
        _ => Failure::exit(UNDECIDED, format!("the drill shows nothing: {error}")),
    }
}
