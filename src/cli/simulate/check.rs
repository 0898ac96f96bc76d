//! `holm simulate check`: the checks, made again on a history that was written down.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::Args;

use super::{told, verdict_failure};
use crate::cli::{Failure, Global, Terminal};
use crate::simulation::history;
use crate::simulation::report::judged::judged;
use crate::simulation::report::{Report, html, json, text};

/// Arguments of `holm simulate check`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  holm simulate check h.jsonl --html report.html")]
pub(super) struct Check {
    /// What `--history` wrote.
    file: PathBuf,
    /// Write the report as one self-contained page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let bad =
            |e: &dyn std::fmt::Display| Failure::usage(e.to_string()).about(self.file.display());
        let file = File::open(&self.file).map_err(|e| bad(&e))?;
        let records = history::read(BufReader::new(file)).map_err(|e| bad(&e))?;
        let report = Report::new(&records, judged(&records));
        if let Some(path) = &self.html {
            let page = html::page(&report, None);
            told::write(path, |file| std::io::Write::write_all(file, page.as_bytes()))?;
        }
        if global.json() {
            let json = json::json(&report).map_err(|e| Failure::failed(e.to_string()))?;
            terminal.say_raw(&format!("{json}\n"))?;
        } else {
            terminal.say_raw(&text::text(&report, terminal.paints()))?;
        }
        verdict_failure(report.verdict, &report.run.scenario)
    }
}
