//! `holm audit`: what was done, by whom; whether anybody tampered with the record of it; all of it,
//! for another system to keep.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::list::print;
use super::serve::stop_asked;
use super::{Failure, Global, Terminal, table};
use crate::audit::ChainReader;
use crate::audit::heads::{self, CHAINS, Heads};
use crate::audit::page;
use crate::audit::verify::{Report, Witness, verify};
use crate::client::{AuditPage, Client};
use crate::model::Stamp;
use crate::quorum::store::QuorumChain;
use crate::storage::ConfigChain;
use crate::storage::copies::Copies;

mod archive;

/// How often `--follow` asks for what is new.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

const TITLE: [&str; 7] = ["AT", "WHO", "ACTION", "TARGET", "DECISION", "NODE", "FROM"];

/// Arguments of `holm audit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Every change, every access to a secret and every denied attempt is recorded, on the node that took
it, in a chain of hashes. The log that is shown is the whole cluster's; nodes that do not answer are
named. It takes the scope audit:read.

Examples:
  holm audit tail --follow
  holm audit tail --decision denied --from 2026-01-31T00:00:00Z
  holm audit verify
  holm audit verify --data /var/lib/holm
  holm audit verify --live --archive /var/lib/holm/audit
  holm audit export --action 'secret.*' > secrets.jsonl")]
pub struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the newest records, oldest of them first.
    #[command(after_help = "Examples:\n  holm audit tail --follow --target 'web/prod/*'")]
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// How many.
        #[arg(long, value_name = "NUMBER", default_value = "20")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        size: u32,
        /// Go on with what comes, until Ctrl-C.
        #[arg(long)]
        follow: bool,
    },
    /// Go along a node's chains, and name what was changed or is missing.
    #[command(
        after_help = "Examples:\n  holm audit verify\n  holm audit verify --data /var/lib/holm"
    )]
    Verify {
        /// Of a node that does not run: where its store lies, and the copies that it keeps of peers'
        /// chains. What peers remember of its own is not compared then, so that a tail that was cut
        /// off is not found.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// The segments in a directory (`audit.archive_dir`), each by itself and against its
        /// neighbours; with --data, or with --live, also whether the store goes on from them.
        #[arg(long, value_name = "DIR")]
        archive: Option<PathBuf>,
        /// With --archive: check the running node's chains, too.
        #[arg(long, requires = "archive", conflicts_with = "data")]
        live: bool,
    },
    /// Print all records, newest first, one JSON object a line.
    #[command(after_help = "Examples:\n  holm audit export --action 'secret.*' > secrets.jsonl")]
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Those of the segments in a directory (`audit.archive_dir`), each node's and store's by
        /// themselves.
        #[arg(long, value_name = "DIR")]
        archive: Option<PathBuf>,
    },
}

/// Which records.
#[derive(Args, Debug)]
struct Filter {
    /// Not before, for example 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// By whom.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// What was done: config.write, or 'config.*'.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// On what: web/dev/a, or 'web/dev/*'.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// What was decided: allowed or denied.
    #[arg(long, value_name = "DECISION", value_parser = ["allowed", "denied"])]
    decision: Option<String>,
    /// Which node took the request.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

impl Filter {
    /// For whoever looks through records here.
    fn read(&self) -> Result<page::Filter, Failure> {
        let time = |text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            let time: Option<jiff::Timestamp> = text.parse().ok();
            let micros = time.and_then(|time| u64::try_from(time.as_microsecond()).ok());
            let usage = || Failure::usage(format!("{text:?} is no time like 2026-01-31T12:00:00Z"));
            micros.map(Stamp).map(Some).ok_or_else(usage)
        };
        Ok(page::Filter {
            from: time(&self.from)?,
            to: time(&self.to)?,
            principal: self.principal.clone(),
            action: self.action.clone(),
            target: self.target.clone(),
            allowed: self.decision.as_deref().map(|it| it == "allowed"),
            node: self.node.clone(),
        })
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("from", &self.from),
            ("to", &self.to),
            ("principal", &self.principal),
            ("action", &self.action),
            ("target", &self.target),
            ("decision", &self.decision),
            ("node", &self.node),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

impl Audit {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match self.action {
            Action::Tail { filter, size, follow } => {
                let interrupted = if follow { Some(stop_asked()) } else { None };
                tail(global, terminal, &filter, size, interrupted).await
            }
            Action::Verify { data, archive, live } => {
                let (whose, mut reports) = match (&data, &archive) {
                    (Some(dir), _) => (dir.display().to_string(), check_files(dir)?),
                    (None, Some(dir)) if !live => (dir.display().to_string(), Vec::new()),
                    (None, _) => {
                        let answer = global.client()?.audit_verify().await?;
                        (answer.node, answer.stores)
                    }
                };
                if let Some(dir) = archive {
                    let held: Vec<_> = reports.iter().filter_map(archive::Held::of).collect();
                    reports.extend(archive::check(&dir, &held)?);
                }
                say_reports(&whose, &reports, global, terminal)
            }
            Action::Export { filter, archive: None } => {
                export(&global.client()?, terminal, &filter).await
            }
            Action::Export { filter, archive: Some(dir) } => {
                say_lines(&archive::records(&dir, &filter.read()?)?, terminal)
            }
        }
    }
}

async fn tail(
    global: &Global,
    terminal: &mut Terminal<'_>,
    filter: &Filter,
    size: u32,
    interrupted: Option<impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let client = global.client()?;
    let size = size.to_string();
    let first = client.audit(&filter.query(), &size, None).await?;
    say_missing(&first, &[], terminal)?;
    let mut items = first.items;
    items.reverse();
    if global.json() {
        say_lines(&items, terminal)?;
    } else {
        let rows: Vec<_> = items.iter().map(row).collect();
        print(&TITLE, &rows, terminal)?;
    }
    let (Some(interrupted), Some(mut cursor)) = (interrupted, first.follow_cursor) else {
        return Ok(());
    };
    let mut missing = first.missing;
    let mut interrupted = std::pin::pin!(interrupted);
    loop {
        terminal.flush()?;
        tokio::select! {
            biased;
            end = &mut interrupted => return end,
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
        let page = client.audit(&filter.query(), "1000", Some(&cursor)).await?;
        say_missing(&page, &missing, terminal)?;
        if global.json() {
            say_lines(&page.items, terminal)?;
        } else {
            for item in &page.items {
                let line = table::lines(&[], &[row(item)]);
                terminal.say(line.last().map_or("", String::as_str))?;
            }
        }
        missing = page.missing;
        if let Some(next) = page.follow_cursor {
            cursor = next;
        }
    }
}

async fn export(
    client: &Client,
    terminal: &mut Terminal<'_>,
    filter: &Filter,
) -> Result<(), Failure> {
    let mut cursor: Option<String> = None;
    let mut missing: Vec<String> = Vec::new();
    let mut archived: Vec<String> = Vec::new();
    loop {
        let page = client.audit(&filter.query(), "1000", cursor.as_deref()).await?;
        say_lines(&page.items, terminal)?;
        missing.extend(page.missing);
        archived.extend(page.archived);
        match page.next_cursor {
            Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
            _ => break,
        }
    }
    missing.sort();
    missing.dedup();
    archived.sort();
    archived.dedup();
    if !archived.is_empty() {
        let nodes = archived.join(", ");
        terminal.note(format!("the oldest records of {nodes} are in archives alone: --archive"))?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!("not all of it: no answer from {}", missing.join(", "));
    Err(Failure::failed(why).hint("export again when they answer"))
}

/// Checks the stores in a directory, whose node does not run.
fn check_files(dir: &Path) -> Result<Vec<Report>, Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::failed(e.to_string()).hint(
            "the node must not run; after a crash, start and stop it once, or check a running node",
        )
    };
    let config = ConfigChain::open(dir).map_err(|e| failed(&e))?;
    let quorum = QuorumChain::open(dir).map_err(|e| failed(&e))?;
    let chains: [(&str, &dyn ChainReader); CHAINS] = [("config", &config), ("quorum", &quorum)];
    let mut reports = Vec::new();
    for (store, chain) in chains {
        reports.push(verify(store, chain, &[]).map_err(|e| failed(&e))?);
    }
    let copies = Copies::open(dir).map_err(|e| failed(&e))?;
    let remembered = remembered(dir)?;
    for (node, copied) in copies.heads().map_err(|e| failed(&e))? {
        let known = remembered.of(&node);
        for (chain, (store, _)) in chains.iter().enumerate() {
            if copied[chain].seq == 0 {
                continue;
            }
            let copy = copies.chain(&node, chain);
            let base = copy.base().map_err(|e| failed(&e))?.seq;
            // A node that came back went on: what is remembered beyond its copy says nothing.
            let witness =
                Some(known[chain]).filter(|it| (base + 1..=copied[chain].seq).contains(&it.seq));
            let witness = witness.map(|head| Witness { by: "this node".into(), head });
            let store = format!("{store} of {node}");
            reports.push(verify(&store, &copy, witness.as_slice()).map_err(|e| failed(&e))?);
        }
    }
    Ok(reports)
}

/// What the node in `dir` remembers of its peers' chains.
fn remembered(dir: &Path) -> Result<Heads, Failure> {
    let path = dir.join(heads::FILE);
    let failed = |e: &dyn std::fmt::Display| Failure::failed(e.to_string()).about(path.display());
    match std::fs::read(&path) {
        Ok(bytes) => crate::model::cbor::decode(&bytes).map_err(|e| failed(&e)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Heads::default()),
        Err(error) => Err(failed(&error)),
    }
}

fn say_reports(
    whose: &str,
    reports: &[Report],
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if global.json() {
        terminal.say_json(&serde_json::json!({ "node": whose, "stores": reports }))?;
    }
    let mut wrong = 0;
    for report in reports {
        let Report { store, records, let_go, hash, witnesses, findings, base: _ } = report;
        wrong += findings.len();
        if global.json() {
            continue;
        }
        if findings.is_empty() {
            let hash = hash.get(..16).unwrap_or_default();
            let peers = match witnesses {
                0 => String::new(),
                1 => ", 1 peer agrees".to_owned(),
                n => format!(", {n} peers agree"),
            };
            let behind = match let_go {
                0 => String::new(),
                n => format!(" from record {} on", n + 1),
            };
            terminal.say(format!(
                "{whose} {store}: {records} records, whole{behind}{peers} ({hash}…)"
            ))?;
        }
        for finding in findings {
            terminal.say(format!("{whose} {store}: {finding}"))?;
        }
    }
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::failed("the audit log is not whole")),
    }
}

fn say_lines(items: &[Value], terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    items.iter().try_for_each(|item| terminal.say_json(item))
}

/// Names nodes that do not answer, where that was not said before.
fn say_missing(
    page: &AuditPage,
    known: &[String],
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if page.missing.is_empty() || page.missing == known {
        return Ok(());
    }
    terminal.note(format!("no answer from {}: its records are not shown", page.missing.join(", ")))
}

fn row(item: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let decision = match item["decision"].get("denied").and_then(Value::as_str) {
        Some(why) => format!("denied: {why}"),
        None => "allowed".to_owned(),
    };
    let count = item["count"].as_u64().unwrap_or(1);
    let decision = if count > 1 { format!("{decision} ({count} times)") } else { decision };
    vec![
        text(&item["at"]),
        text(&item["principal"]),
        text(&item["action"]),
        text(&item["target"]),
        decision,
        text(&item["source"]["node"]),
        text(&item["source"]["address"]),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::{Decision, Event, Head, Source};
    use crate::env::{Blocking, Disk, Entropy, FileDisk};
    use crate::model::{NodeName, Stamp, cbor};
    use crate::quorum::store::{self, StoreSettings};
    use crate::storage::{Writer, WriterSettings};

    fn event() -> Event {
        Event {
            at: Stamp(7),
            principal: "ada".into(),
            action: "secret.reveal".into(),
            target: "a".into(),
            decision: Decision::Allowed("operator".into()),
            outcome: "done".into(),
            source: Source { node: "b".into(), address: None, request: "r".into() },
            count: 1,
            index: None,
        }
    }

    /// A directory of a node that ran and was stopped, with stores that were never used much.
    async fn stopped(dir: &Path) -> Arc<dyn Disk> {
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(dir).unwrap());
        let node = NodeName::new("a").unwrap();
        let settings = WriterSettings {
            cluster: "test".into(),
            node: node.clone(),
            region: "eu".into(),
            value_bytes_max: 1_000,
            documents_bytes_max: 1,
            waiting_bytes_max: 1_000,
            peers: 0,
        };
        let entropy = Entropy::seeded(1);
        Writer::open(settings, disk.clone(), entropy.stream("a")).unwrap().close().unwrap();
        let settings = StoreSettings { cluster: "test".into(), node, alone: true };
        let stream = entropy.stream("b");
        let opened = store::open(disk.clone(), stream, Blocking::Inline, settings).await.unwrap();
        opened.2.record(vec![event()]).await.unwrap();
        opened.2.close().await.unwrap();
        disk
    }

    #[tokio::test]
    async fn the_copies_in_a_directory_are_checked_too_and_against_what_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let disk = stopped(dir.path()).await;
        let mut head = Head::default();
        let records: Vec<Vec<u8>> = (0..3).map(|_| head.append(event())).collect();
        Copies::new(disk.clone(), u64::MAX).append("b", 1, &records).unwrap();
        let told = |dir: &Path| -> Vec<(String, u64, usize)> {
            let reports = check_files(dir).unwrap();
            let told = reports.into_iter().map(|it| (it.store, it.records, it.findings.len()));
            told.collect()
        };
        let whole = |store: &str, records| (store.to_owned(), records, 0);
        let all = [whole("config", 0), whole("quorum", 1), whole("quorum of b", 3)];
        assert_eq!(told(dir.path()), all);
        // Another chain than the one that is remembered.
        let mut heads = Heads::default();
        let other = Head { seq: 2, hash: [9; 32] };
        heads.hear("b", 1, heads::Told { head: other, remembered: None, archived: 0 });
        disk.write(heads::FILE, &cbor::encode(&heads), true).unwrap();
        assert_eq!(told(dir.path())[2], ("quorum of b".to_owned(), 3, 1));
    }
}
