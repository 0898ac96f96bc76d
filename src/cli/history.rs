//! `holm history`: every version of a key that is kept, newest first.

use clap::{Args, Subcommand};

use super::formats::shorten;
use super::list::print;
use super::terminal::Items;
use super::{Failure, Global, Terminal, address};
use crate::client::Version;
use crate::model::{DocumentId, Key};

mod policy;

/// Arguments of `holm history`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
The current version is marked with *. Where two regions wrote at the same time, two entries
share a number; VERSION@ORIGIN names one of them.

Examples:
  holm history web/dev server.port
  holm diff web/dev server.port 3 5
  holm restore web/dev server.port 3
  holm history policy show")]
pub struct History {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT", required = true)]
    document: Option<DocumentId>,
    /// The key.
    #[arg(value_parser = address::key, required = true)]
    key: Option<Key>,
    #[command(subcommand)]
    about: Option<About>,
}

#[derive(Debug, Subcommand)]
enum About {
    /// How much of histories is kept.
    Policy(policy::Policy),
}

impl History {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let (document, key) = match (self.about, self.document, self.key) {
            (Some(About::Policy(policy)), ..) => return policy.run(global, terminal).await,
            (None, Some(document), Some(key)) => (document, key),
            (None, ..) => return Err(Failure::usage("a SERVICE/ENVIRONMENT and a KEY are needed")),
        };
        let versions = global.client()?.versions(&document, &key).await?;
        if global.json() {
            return terminal.say_json(&Items { items: &versions });
        }
        let shared = |one: &Version| {
            versions.iter().filter(|other| other.version == one.version).count() > 1
        };
        let rows = versions.iter().map(|version| {
            let mark = if version.current { "*" } else { "" };
            let number = match shared(version) {
                true => format!("{}@{}{mark}", version.version, version.origin),
                false => format!("{}{mark}", version.version),
            };
            let value = match &version.value {
                Some(value) if !version.removed => shorten(value.as_str(), 60),
                _ => "(removed)".to_owned(),
            };
            vec![
                number,
                version.updated_at.clone(),
                version.updated_by.clone(),
                version.region.clone(),
                value,
                version.message.clone().unwrap_or_default(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        print(&["VERSION", "UPDATED", "BY", "REGION", "VALUE", "MESSAGE"], &rows, terminal)?;
        match versions.last() {
            // Histories begin with 1.
            Some(oldest) if oldest.version > 1 => terminal.note(format!(
                "versions before {} are not kept: `holm history policy show`",
                oldest.version
            ))?,
            _ => {}
        }
        Ok(())
    }
}
