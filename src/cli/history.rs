//! `holm history`: every version of a key, newest first.

use clap::Args;

use super::formats::shorten;
use super::list::print;
use super::terminal::Items;
use super::{Failure, Global, Terminal, address};
use crate::client::Version;
use crate::model::{DocumentId, Key};

/// Arguments of `holm history`.
#[derive(Args, Debug)]
#[command(after_help = "\
The current version is marked with *. Where two regions wrote at the same time, two entries
share a number; VERSION@ORIGIN names one of them.

Examples:
  holm history web/dev server.port
  holm diff web/dev server.port 3 5
  holm restore web/dev server.port 3")]
pub struct History {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// The key.
    #[arg(value_parser = address::key)]
    key: Key,
}

impl History {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let versions = global.client()?.versions(&self.document, &self.key).await?;
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
        print(&["VERSION", "UPDATED", "BY", "REGION", "VALUE", "MESSAGE"], &rows, terminal)
    }
}
