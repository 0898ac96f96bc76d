//! `holm backup`: both of a node's stores in one file, from a node that runs or from the directory of
//! one that does not; and what is in such a file, and whether all of it is good.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::terminal::count;
use super::{Failure, Global, Terminal};
use crate::audit::verify::Report;
use crate::backup::file::{FileError, Landing};
use crate::backup::restore::{self, RestoreError};
use crate::backup::{Dump, Manifest};
use crate::env::{SystemClock, WallClock as _};
use crate::quorum::store::QuorumChain;
use crate::storage::{ConfigChain, StoreError};

/// Arguments of `holm backup`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
A backup holds configurations and their history, secrets (sealed, as on the node's disk), accounts,
roles, and the audit log: as they are at one moment, while the node goes on. It holds no master key:
keep those elsewhere. Whoever has it knows what whoever has a node's disk knows.

Taking one from a node that runs takes the scope cluster:backup, which no built-in role has.

Examples:
  holm role create backup cluster:backup
  holm account create nightly --role backup
  holm backup --out holm-2026-01-31.bak
  holm backup --out holm-2026-01-31.bak --data /var/lib/holm    of a node that does not run
  holm backup verify holm-2026-01-31.bak
  holm restore holm-2026-01-31.bak --data /var/lib/holm --topology t.toml --node eu-west-1")]
pub struct Backup {
    #[command(subcommand)]
    action: Option<Action>,
    /// Where the backup goes; nothing is written over.
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    /// Of a node that does not run: where its stores lie.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what a backup is of, and check everything in it: every sum, and that stores can be made of
    /// it whose chains are whole.
    #[command(after_help = "Examples:\n  holm backup verify holm-2026-01-31.bak")]
    Verify {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the stores are made, and removed again. Default: beside the backup.
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
}

impl Backup {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let out = match (self.action, self.out) {
            (Some(Action::Verify { file, scratch }), _) => {
                return verify(&file, scratch, global, terminal);
            }
            (None, Some(out)) => out,
            (None, None) => return Err(Failure::usage("where the backup goes is not said")),
        };
        let (manifest, bytes) = match &self.data {
            Some(data) => copy(data, &out, terminal)?,
            None => fetch(&out, global, terminal).await?,
        };
        terminal.progress_ends()?;
        if global.json() {
            let file = out.display().to_string();
            let mut said = told(&manifest, &[]);
            said["file"] = file.into();
            said["bytes"] = bytes.into();
            return terminal.say_json(&said);
        }
        terminal.say(format!(
            "{}: {} of {} in the cluster {}, {} bytes",
            out.display(),
            count(usize::try_from(manifest.rows()).unwrap_or(usize::MAX), "row"),
            manifest.node,
            manifest.cluster,
            bytes
        ))?;
        say_keys(&manifest, terminal)
    }
}

/// From a node that runs.
async fn fetch(
    out: &Path,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(Manifest, u64), Failure> {
    let mut landing = Landing::create(out)?;
    let mut stream = global.client()?.backup().await?;
    while let Some(bytes) = stream.next().await? {
        landing.write(&bytes)?;
        terminal.bar(landing.progress(), "rows")?;
    }
    Ok(landing.finish()?)
}

/// From a directory.
fn copy(data: &Path, out: &Path, terminal: &mut Terminal<'_>) -> Result<(Manifest, u64), Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::failed(e.to_string())
            .hint("the node must not run; after a crash, start and stop it once")
    };
    let config = ConfigChain::open(data).map_err(|e| failed(&e))?;
    let quorum = QuorumChain::open(data).map_err(|e| failed(&e))?;
    let begun = (|| Dump::new(config.begin_read()?, quorum.begin_read()?, SystemClock.now()))();
    let mut dump = begun.map_err(|e: StoreError| failed(&e).about(data.display()))?;
    let mut landing = Landing::create(out)?;
    while let Some(bytes) = dump.next_bytes().map_err(|e| failed(&e).about(data.display()))? {
        landing.write(&bytes)?;
        terminal.bar(landing.progress(), "rows")?;
    }
    Ok(landing.finish()?)
}

fn verify(
    file: &Path,
    scratch: Option<PathBuf>,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let scratch = match scratch {
        Some(dir) => dir.join("holm-verify"),
        None => {
            let mut beside = OsString::from(file);
            beside.push(".verify");
            PathBuf::from(beside)
        }
    };
    let rehearsed = restore::rehearse(file, &scratch, &mut |done, total| {
        // Who does not see it needs no progress.
        let _ = terminal.bar((done, total), "rows");
    });
    terminal.progress_ends()?;
    let (manifest, reports) = rehearsed?;
    if global.json() {
        return terminal.say_json(&told(&manifest, &reports));
    }
    terminal.say(format!("of          {} in the cluster {}", manifest.node, manifest.cluster))?;
    terminal.say(format!("taken       {}, by holm {}", manifest.at, manifest.program))?;
    terminal.say(format!(
        "formats     backup {}, config.redb {}, quorum.redb {}",
        manifest.format, manifest.config_format, manifest.quorum_format
    ))?;
    for dot in manifest.vector.iter() {
        terminal.say(format!("includes    {} changes of origin {}", dot.n, dot.origin))?;
    }
    terminal.say(format!(
        "quorum      applied up to {}, log up to {}",
        manifest.quorum_applied, manifest.quorum_last_log
    ))?;
    for table in manifest.tables.iter().filter(|table| table.rows > 0) {
        terminal
            .say(format!("table       {}/{}: {} rows", table.store, table.table, table.rows))?;
    }
    for report in &reports {
        terminal.say(format!("audit       {}: {} records, whole", report.store, report.records))?;
    }
    say_keys(&manifest, terminal)?;
    terminal.say("everything in it is good")
}

/// A backup, for programs.
fn told(manifest: &Manifest, reports: &[Report]) -> serde_json::Value {
    let vector: serde_json::Map<_, _> =
        manifest.vector.iter().map(|dot| (dot.origin.to_string(), dot.n.into())).collect();
    let keys: Vec<u32> = manifest.generations.iter().map(|it| it.number).collect();
    let tables: Vec<_> = manifest
        .tables
        .iter()
        .map(|it| json!({ "store": it.store, "table": it.table, "rows": it.rows }))
        .collect();
    json!({
        "format": manifest.format,
        "program": manifest.program,
        "cluster": manifest.cluster,
        "node": manifest.node,
        "at": manifest.at.to_string(),
        "config_format": manifest.config_format,
        "quorum_format": manifest.quorum_format,
        "vector": vector,
        "quorum_applied": manifest.quorum_applied,
        "quorum_last_log": manifest.quorum_last_log,
        "key_generations": keys,
        "tables": tables,
        "audit": reports,
    })
}

/// Which keys whoever restores it will need.
fn say_keys(manifest: &Manifest, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let keys: Vec<String> = manifest.generations.iter().map(|it| it.number.to_string()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    terminal.say(format!(
        "keep apart  the master key's generation {}: without it, its secrets stay sealed",
        keys.join(", ")
    ))
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let message = error.to_string();
        match error {
            FileError::Full { .. } => Self::failed(message).hint("make room, or name another disk"),
            FileError::Exists { .. } | FileError::Busy { .. } => Self::usage(message),
            FileError::Format { .. } => {
                Self::failed(message).hint("take another backup, or another copy of this one")
            }
            FileError::Io { .. } | FileError::Store(_) => Self::failed(message),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let message = error.to_string();
        match error {
            RestoreError::File(error) => error.into(),
            RestoreError::Another { what: "node", .. } => Self::usage(message).hint(
                "a node has a backup of its own back, or begins empty and is filled by its peers; \
                 --new-cluster makes any node of it",
            ),
            RestoreError::Another { .. } | RestoreError::Target { .. } => Self::usage(message),
            RestoreError::Unknown(_) => {
                Self::usage(message).hint("use the version of the program that made it")
            }
            RestoreError::NotWhole(_) | RestoreError::Store(_) | RestoreError::Recover(_) => {
                Self::failed(message)
            }
        }
    }
}
