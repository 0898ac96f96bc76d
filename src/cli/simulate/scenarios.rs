//! Scenarios, run and judged: one seed with its whole report, or many with what they have in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;

use super::{told, verdict_failure};
use crate::cli::{Failure, Global, Terminal, duration};
use crate::simulation::history::{self, Event, Record};
use crate::simulation::report::judged::judged;
use crate::simulation::report::many::{self, Many, OneSeed};
use crate::simulation::report::{Report, Verdict, html, text};
use crate::simulation::run::{Options, run};
use crate::simulation::scenario::{Scenario, TimedFault, shrink};

/// Most seeds of one command.
const SEEDS_MAX: u64 = 100_000;
/// Most runs that shrinking takes.
const SHRINK_TRIES_MAX: usize = 200;
/// How much is shown of a record that differs.
const RECORD_SHOWN: usize = 400;
/// Exit code where the same seed gave another run.
const NOT_REPRODUCIBLE: u8 = 3;

/// Which scenarios, and what is wanted of them.
#[derive(Args, Debug)]
pub(super) struct Scenarios {
    /// Scenario files.
    #[arg(value_name = "SCENARIO", required = true)]
    scenarios: Vec<PathBuf>,
    /// The seed: the same one gives the same run, to the byte.
    #[arg(long, value_name = "NUMBER", default_value = "1", conflicts_with = "seeds")]
    seed: u64,
    /// Many seeds, on all cores, for example 1..200.
    #[arg(long, value_name = "FROM..TO", value_parser = seeds)]
    seeds: Option<(u64, u64)>,
    /// End workload and faults here, if that is earlier than the scenario does.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<Duration>,
    /// Run each seed twice, and compare. Exit code 3 where they differ.
    #[arg(long)]
    twice: bool,
    /// Drop and shorten faults for as long as it still fails, and print what is left.
    #[arg(long, conflicts_with = "seeds")]
    shrink: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("`{text}`: two numbers are expected, as in 1..200");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let (from, to) = (number(from)?, number(to.trim_start_matches('='))?);
    if from > to || to - from >= SEEDS_MAX {
        return Err(format!("`{text}`: from the lesser to the greater, at most {SEEDS_MAX}"));
    }
    Ok((from, to))
}

impl Scenarios {
    pub(super) fn run(
        self,
        files: &told::Files,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let mut scenarios = Vec::new();
        // All of them are read before the first one runs.
        for file in &self.scenarios {
            scenarios
                .push((file, Scenario::load(file).map_err(|e| Failure::usage(e.to_string()))?));
        }
        if scenarios.len() > 1 && files.is_any() {
            return Err(Failure::usage("--html and --history are for one scenario"));
        }
        if self.seeds.is_some() && files.history.is_some() {
            return Err(Failure::usage("--history is for one seed"));
        }
        let mut worst = Verdict::Pass;
        let mut failing = BTreeSet::new();
        for (file, scenario) in &scenarios {
            let verdict = match self.seeds {
                Some((from, to)) => {
                    self.many(file, scenario, (from, to), files, global, terminal)?
                }
                None => self.one(file, scenario, scenarios.len() == 1, files, global, terminal)?,
            };
            if verdict != Verdict::Pass {
                failing.insert(scenario.name.clone());
            }
            worst = worst.max(verdict);
        }
        let names: Vec<String> = failing.into_iter().collect();
        verdict_failure(worst, &names.join(", "))
    }

    fn options(&self, file: &Path, seed: u64) -> Options {
        let until = self.until.map_or(String::new(), |it| format!(" --until {}ms", it.as_millis()));
        let again = format!("holm simulate {} --seed {seed}{until}", file.display());
        Options { seed, until: self.until, faults: None, again }
    }

    fn one(
        &self,
        file: &Path,
        scenario: &Scenario,
        is_only: bool,
        files: &told::Files,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<Verdict, Failure> {
        let options = self.options(file, self.seed);
        terminal.progress(format!("{}: seed {}", scenario.name, self.seed))?;
        let records = history_of(scenario, &options, self.twice)?;
        let checks = judged(&records);
        terminal.progress_ends()?;
        let report = Report::new(&records, checks);
        files.write(&records, &report)?;
        if global.json() {
            told::say_json(&report, terminal)?;
        } else if is_only {
            terminal.say_raw(&text::text(&report, terminal.paints()))?;
            terminal.say(format!("trace hash {}", trace_hash(&records)))?;
        } else {
            let word = report.verdict.word();
            terminal.say(format!("{word:<9} {} (seed {})", scenario.name, self.seed))?;
            if report.verdict != Verdict::Pass {
                terminal.say_raw(&text::text(&report, terminal.paints()))?;
            }
        }
        let verdict = report.verdict;
        if self.shrink && verdict == Verdict::Violation {
            self.shrunk(scenario, &options, terminal)?;
        }
        Ok(verdict)
    }

    /// The fewest faults with which it still fails.
    fn shrunk(
        &self,
        scenario: &Scenario,
        options: &Options,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let faults = scenario.faults_of_seed(options.seed);
        let before = faults.len();
        let mut tries = 0;
        let mut said = Ok(());
        let shrunk = shrink(&faults, SHRINK_TRIES_MAX, |faults: &[TimedFault]| {
            tries += 1;
            said = terminal.progress(format!("try {tries}: {} faults", faults.len()));
            let options = Options { faults: Some(faults.to_vec()), ..options.clone() };
            let records = apart(scenario, &options).unwrap_or_default();
            judged(&records).iter().any(|checked| checked.verdict == Verdict::Violation)
        });
        said?;
        terminal.progress_ends()?;
        terminal.say(format!(
            "it still fails with {} of {before} faults ({} tries{}):",
            shrunk.faults.len(),
            shrunk.tries,
            if shrunk.is_minimal { "" } else { ", given up before the least" }
        ))?;
        for fault in &shrunk.faults {
            terminal.say("")?;
            terminal.say(fault.to_toml())?;
        }
        Ok(())
    }

    fn many(
        &self,
        file: &Path,
        scenario: &Scenario,
        (from, to): (u64, u64),
        files: &told::Files,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<Verdict, Failure> {
        let count = (to - from + 1) as usize;
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Done::default()));
        let (told, tell) = std::sync::mpsc::channel();
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(count);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let (next, done, told) = (&next, &done, told.clone());
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let seed = from + number as u64;
                        self.seed_of_many(file, scenario, seed, done);
                        // Nobody has to hear of it.
                        let _ = told.send(());
                    }
                });
            }
            drop(told);
            let mut ended = 0;
            while tell.recv().is_ok() {
                ended += 1;
                terminal.progress(format!("{}: {ended} of {count} seeds", scenario.name))?;
            }
            terminal.progress_ends()
        })?;
        let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(failure) = done.failure {
            return Err(failure);
        }
        let many = Many::new(&done.run.unwrap_or_default(), done.seeds);
        if let Some(path) = &files.html {
            let page = self.page_of_many(file, scenario, &many)?;
            told::write(path, |file| std::io::Write::write_all(file, page.as_bytes()))?;
        }
        if global.json() {
            let json = many.json().map_err(|e| Failure::failed(e.to_string()))?;
            terminal.say_raw(&format!("{json}\n"))?;
        } else {
            terminal.say_raw(&many::text::text(&many, terminal.paints()))?;
        }
        Ok(many.verdict())
    }

    /// The page of many seeds, and on it the whole report of the first one that did not pass, or of
    /// the first one where all passed: run again, because no seed's history is kept.
    fn page_of_many(
        &self,
        file: &Path,
        scenario: &Scenario,
        many: &Many,
    ) -> Result<String, Failure> {
        let Some(seed) = many.shown() else { return Ok(many::html::page(many)) };
        let records = history_of(scenario, &self.options(file, seed), false)?;
        Ok(html::page(&Report::new(&records, judged(&records)), Some(many)))
    }

    fn seed_of_many(&self, file: &Path, scenario: &Scenario, seed: u64, done: &Mutex<Done>) {
        let made = history_of(scenario, &self.options(file, seed), self.twice);
        let lock = || done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match made {
            Ok(records) => {
                let report = Report::new(&records, judged(&records));
                let one = OneSeed::of(&report);
                let mut done = lock();
                done.run.get_or_insert_with(|| report.run.clone());
                done.seeds.push(one);
            }
            Err(failure) if failure.code() == NOT_REPRODUCIBLE => lock().failure = Some(failure),
            Err(failure) => lock().seeds.push(OneSeed::not_run(seed, &format!("{failure}"))),
        }
    }
}

/// What the seeds have come to so far.
#[derive(Default)]
struct Done {
    run: Option<history::Run>,
    seeds: Vec<OneSeed>,
    failure: Option<Failure>,
}

/// The history of one run; of two that have to be one, where that is wanted.
fn history_of(scenario: &Scenario, options: &Options, twice: bool) -> Result<Vec<Record>, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::failed(e.to_string()).about(&scenario.name);
    let records = apart(scenario, options).map_err(|e| failed(&e))?;
    if twice {
        let again = apart(scenario, options).map_err(|e| failed(&e))?;
        let (first, second) = (trace_hash(&records), trace_hash(&again));
        if first != second {
            let differ = records.iter().zip(&again).find(|(a, b)| a != b);
            let at = differ.map_or(0, |(record, _)| record.at_us);
            let shown = |record: &Record| {
                let text = serde_json::to_string(record).unwrap_or_default();
                text.chars().take(RECORD_SHOWN).collect::<String>()
            };
            let records = differ.map(|(a, b)| format!("\n{}\n{}", shown(a), shown(b)));
            return Err(Failure::exit(
                NOT_REPRODUCIBLE,
                format!(
                    "seed {} gave two runs: trace {first} and {second}; records differ from {:.3} s{}",
                    options.seed,
                    at as f64 / 1e6,
                    records.unwrap_or_default()
                ),
            )
            .about(&scenario.name));
        }
    }
    Ok(records)
}

/// Runs it on a thread of its own: each node's runtime is entered there, which cannot be done inside of
/// another one.
fn apart(scenario: &Scenario, options: &Options) -> Result<Vec<Record>, String> {
    let ran = std::thread::scope(|scope| scope.spawn(|| run(scenario, options)).join());
    match ran {
        Ok(ran) => ran.map_err(|e| e.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("the simulator panicked: {}", text.unwrap_or("without a word")))
        }
    }
}

fn trace_hash(records: &[Record]) -> &str {
    let end = records.iter().rev().find_map(|record| match &record.event {
        Event::End(end) => Some(end.trace_hash.as_str()),
        _ => None,
    });
    end.unwrap_or_default()
}
