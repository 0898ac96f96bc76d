//! `holm import`: files in, after showing what they would change. One atomic write for each service
//! and environment; what is the same already is not sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::difference::{self, Change};
use super::formats::Keys;
use super::set::warn_of_missing_regions;
use super::terminal::{Colour, Items, count};
use super::{Failure, Global, Terminal};
use crate::client::{Client, Write};
use crate::model::{DocumentId, Environment, Key, Service};

mod files;

/// Arguments of `holm import`.
#[derive(Args, Debug)]
#[command(after_help = "\
YAML (.yml, .yaml), JSON, TOML, .env and .properties. A file is a service: web.yml is `web`, and
web@prod.toml is `web` in `prod`. A Spring profile (spring.config.activate.on-profile) of a YAML
document is an environment; no profile is `default`, or --env. Maps become dotted keys, lists stay
JSON, and ${placeholders} stay as they are. Of a folder, the files directly in it are taken.

What would change is shown first: + new, ~ other value, - removed (with --prune). Each service and
environment is then written at once, all or none (a node takes 1,000 keys in one write unless its
settings say otherwise); removals of --prune follow, key by key.

Examples:
  holm import config/ --dry-run
  holm import config/ --message 'from git'
  holm import .env --service web --env dev
  holm import web.yml --prune --yes")]
pub struct Import {
    /// Files and folders.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The service, for a file whose name is not one.
    #[arg(long, value_name = "NAME")]
    service: Option<Service>,
    /// The environment of documents without a profile.
    #[arg(long = "env", value_name = "NAME")]
    environment: Option<Environment>,
    /// Show what would change, and stop there.
    #[arg(long)]
    dry_run: bool,
    /// Remove keys that the files do not have, in the environments that they do have.
    #[arg(long)]
    prune: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Why: kept in the history.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
}

/// What is to be done to one document.
struct Plan {
    document: DocumentId,
    changes: Vec<Change>,
    unchanged: usize,
    /// Versions of what is there, so that what was shown is what is replaced.
    versions: BTreeMap<Key, u64>,
}

#[derive(serde::Serialize)]
struct PlanRow<'a> {
    service: &'a Service,
    environment: &'a Environment,
    unchanged: usize,
    changes: Vec<difference::Row<'a>>,
}

impl Import {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let wanted =
            files::read(&self.paths, self.service.as_ref(), self.environment.as_ref(), terminal)?;
        let client = global.client()?;
        let mut plans = Vec::new();
        for (i, (document, keys)) in wanted.iter().enumerate() {
            terminal.bar((i as u64, wanted.len() as u64), &format!("read; reading {document}"))?;
            plans.push(self.plan(&client, document, keys).await?);
        }
        terminal.progress_ends()?;
        show(&plans, global, terminal)?;
        let changes: usize = plans.iter().map(|plan| plan.changes.len()).sum();
        if self.dry_run || changes == 0 || !self.agreed(&plans, changes, terminal)? {
            return Ok(());
        }
        self.send(&client, &plans, global, terminal).await
    }

    async fn plan(
        &self,
        client: &Client,
        document: &DocumentId,
        wanted: &Keys,
    ) -> Result<Plan, Failure> {
        let items = match client.list(document, None).await {
            Ok(items) => items,
            Err(e) if e.is_not_found() => Vec::new(),
            Err(e) => return Err(Failure::from(e).about(document)),
        };
        let versions = items.iter().map(|item| (item.key.clone(), item.version)).collect();
        let known: Keys = items.into_iter().map(|item| (item.key, item.value)).collect();
        let mut changes = difference::between(&known, wanted);
        if !self.prune {
            changes.retain(|change| !matches!(change, Change::Removed(..)));
        }
        let unchanged = wanted.iter().filter(|(key, value)| known.get(*key) == Some(value)).count();
        Ok(Plan { document: document.clone(), changes, unchanged, versions })
    }

    /// Whether the person at the terminal, or `--yes`, says to go on.
    fn agreed(
        &self,
        plans: &[Plan],
        changes: usize,
        terminal: &mut Terminal<'_>,
    ) -> Result<bool, Failure> {
        let removes = plans.iter().any(|plan| plan.removals().next().is_some());
        if self.yes || (!terminal.input_is_terminal && !removes) {
            return Ok(true);
        }
        if !terminal.input_is_terminal {
            return Err(Failure::usage(
                "--prune would remove keys, and nobody is here to be asked",
            )
            .hint("add --yes if it is meant, or look with --dry-run"));
        }
        let documents = plans.iter().filter(|plan| !plan.changes.is_empty()).count();
        let agreed = terminal.confirm(&format!(
            "Change {} in {}?",
            count(changes, "key"),
            count(documents, "environment")
        ))?;
        if !agreed {
            terminal.note("nothing was written")?;
        }
        Ok(agreed)
    }

    async fn send(
        &self,
        client: &Client,
        plans: &[Plan],
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let plans: Vec<&Plan> = plans.iter().filter(|plan| !plan.changes.is_empty()).collect();
        let (mut written, mut removed) = (0, 0);
        let all = plans.iter().map(|plan| plan.changes.len() as u64).sum();
        for (i, plan) in plans.iter().enumerate() {
            let document = &plan.document;
            let what = format!("keys; writing {document}");
            terminal.bar(((written + removed) as u64, all), &what)?;
            let stopped = |failure: Failure| {
                let failure = failure.about(document);
                if i == 0 {
                    failure
                } else {
                    failure.hint(format!(
                        "{i} of {} environments are written; import again to go on",
                        plans.len()
                    ))
                }
            };
            let writes = plan.writes();
            if !writes.is_empty() {
                let done = client.write(document, &writes, self.message.as_deref()).await;
                let done = done.map_err(|e| stopped(e.into()))?;
                warn_of_missing_regions(&done, terminal)?;
                written += writes.len();
            }
            for key in plan.removals() {
                terminal.bar(((written + removed) as u64, all), &what)?;
                match client.remove(document, key).await {
                    Ok(_) => removed += 1,
                    Err(e) if e.is_not_found() => {}
                    Err(e) => return Err(stopped(e.into())),
                }
            }
        }
        terminal.progress_ends()?;
        if !global.json() {
            let pruned = if removed > 0 { format!(", {removed} removed") } else { String::new() };
            terminal.say(format!(
                "{} written in {}{pruned}",
                count(written, "key"),
                count(plans.len(), "environment")
            ))?;
        }
        Ok(())
    }
}

impl Plan {
    fn writes(&self) -> Vec<Write> {
        let writes = self.changes.iter().filter_map(|change| match change {
            Change::Added(key, value) => {
                Some(Write { expect_version: Some(0), ..Write::new(key.clone(), value.clone()) })
            }
            Change::Changed(key, _, value) => Some(Write {
                expect_version: self.versions.get(key).copied(),
                ..Write::new(key.clone(), value.clone())
            }),
            Change::Removed(..) => None,
        });
        writes.collect()
    }

    fn removals(&self) -> impl Iterator<Item = &Key> {
        self.changes.iter().filter_map(|change| match change {
            Change::Removed(key, _) => Some(key),
            Change::Added(..) | Change::Changed(..) => None,
        })
    }
}

fn show(plans: &[Plan], global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if global.json() {
        let rows = plans.iter().map(|plan| PlanRow {
            service: &plan.document.service,
            environment: &plan.document.environment,
            unchanged: plan.unchanged,
            changes: plan.changes.iter().map(Change::row).collect(),
        });
        let rows: Vec<_> = rows.collect();
        return terminal.say_json(&Items { items: &rows });
    }
    for plan in plans.iter().filter(|plan| !plan.changes.is_empty()) {
        let counts = difference::count(&plan.changes);
        let counts = format!(": {counts}, {} unchanged", plan.unchanged);
        terminal.say_painted("", Colour::Title, &plan.document.to_string(), &counts)?;
        for change in &plan.changes {
            change.say("  ", terminal)?;
        }
    }
    let same = plans.iter().filter(|plan| plan.changes.is_empty()).count();
    if same > 0 {
        terminal
            .say(format!("nothing to change in {same} of {}", count(plans.len(), "environment")))?;
    }
    Ok(())
}
