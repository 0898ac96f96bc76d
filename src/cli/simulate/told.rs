//! Where a run's report goes, besides the terminal.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{Failure, Terminal};
use crate::simulation::history::{self, Record};
use crate::simulation::report::{Report, html, json};

/// Files that are written of a run.
#[derive(Args, Debug)]
pub(in crate::cli) struct Files {
    /// Write the report as one self-contained page.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write everything that happened, one JSON object a line: for `holm simulate check`.
    #[arg(long, value_name = "FILE")]
    pub(super) history: Option<PathBuf>,
}

impl Files {
    pub(super) fn is_any(&self) -> bool {
        self.html.is_some() || self.history.is_some()
    }

    pub(in crate::cli) fn write(
        &self,
        records: &[Record],
        report: &Report<'_>,
    ) -> Result<(), Failure> {
        if let Some(path) = &self.history {
            write(path, |file| history::write(records, file))?;
        }
        if let Some(path) = &self.html {
            let page = html::page(report, None);
            write(path, |file| std::io::Write::write_all(file, page.as_bytes()))?;
        }
        Ok(())
    }
}

pub(in crate::cli) fn say_json(
    report: &Report<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let json = json::json(report).map_err(|e| Failure::failed(e.to_string()))?;
    terminal.say_raw(&format!("{json}\n"))
}

pub(super) fn write(
    path: &Path,
    content: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let written = std::fs::File::create(path).and_then(|file| {
        let mut file = std::io::BufWriter::new(file);
        content(&mut file)?;
        std::io::Write::flush(&mut file)
    });
    written.map_err(|e| Failure::failed(e.to_string()).about(path.display()))
}
