//! `holm history`: every version of a key that is kept, newest first.

use std::collections::BTreeSet;

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
share a number: VERSION@ORIGIN names one of them, also after the other is not kept any more.

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
        let shared: BTreeSet<u64> = versions
            .windows(2)
            .filter(|pair| pair[0].version == pair[1].version)
            .map(|pair| pair[0].version)
            .collect();
        let rows = versions.iter().map(|version| {
            let mark = if version.current { "*" } else { "" };
            let number = match version.others_gone || shared.contains(&version.version) {
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
        if let Some(gone) = gone(&versions) {
            terminal.note(format!("{gone}: `holm history policy show`"))?;
        }
        Ok(())
    }
}

/// What is missing from a key's versions, newest first.
fn gone(versions: &[Version]) -> Option<String> {
    let oldest = versions.last()?.version;
    // The number down to which all are there.
    let mut whole = versions.first()?.version + 1;
    for it in versions {
        if it.others_gone || it.version + 1 < whole {
            break;
        }
        whole = it.version;
    }
    match (whole, oldest) {
        (1, _) => None,
        (whole, oldest) if whole == oldest => Some(format!("versions before {whole} are not kept")),
        (whole, _) => Some(format!("of versions before {whole}, not all are kept")),
    }
}
