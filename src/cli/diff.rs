//! `holm diff`: two environments, or two versions of one key.

use clap::Args;

use super::difference::{self, Change};
use super::formats::Keys;
use super::terminal::Items;
use super::{Failure, Global, Terminal, address};
use crate::client::{Client, Version};
use crate::model::DocumentId;

/// Arguments of `holm diff`.
#[derive(Args, Debug)]
#[command(after_help = "\
`+` only the second has the key, `-` only the first has it, `~` both have it with other values.
The exit code is 0 whether or not there are differences.

Examples:
  holm diff web/dev web/prod
  holm diff web/dev server.port 3 5
  holm diff web/dev server.port 3          version 3 against the current one")]
pub struct Diff {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// Another SERVICE/ENVIRONMENT, or a key.
    #[arg(value_name = "OTHER|KEY")]
    other: String,
    /// The earlier version.
    #[arg(value_parser = address::version, value_name = "VERSION")]
    first: Option<String>,
    /// The later version; the current one where there is none.
    #[arg(value_parser = address::version, value_name = "VERSION")]
    second: Option<String>,
}

impl Diff {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let (old, new) = match &self.first {
            None if self.other.contains('/') => {
                let other = address::document(&self.other).map_err(Failure::usage)?;
                (keys_of(&client, &self.document).await?, keys_of(&client, &other).await?)
            }
            None => {
                return Err(Failure::usage(format!(
                    "`{}` alone has nothing to compare with",
                    self.other
                ))
                .hint("give two SERVICE/ENVIRONMENT, or a key and its versions"));
            }
            Some(first) => self.versions(&client, first).await?,
        };
        let changes = difference::between(&old, &new);
        if global.json() {
            let rows: Vec<_> = changes.iter().map(Change::row).collect();
            return terminal.say_json(&Items { items: &rows });
        }
        for change in &changes {
            change.say("", terminal)?;
        }
        if changes.is_empty() {
            terminal.note("no differences")?;
        }
        Ok(())
    }

    /// The two versions, each as the one key it is.
    async fn versions(&self, client: &Client, first: &str) -> Result<(Keys, Keys), Failure> {
        let key = address::key_of(&self.other)?;
        let as_keys = |version: Version| match version.value {
            Some(value) if !version.removed => Keys::from([(key.clone(), value)]),
            _ => Keys::new(),
        };
        let old = as_keys(client.version(&self.document, &key, first).await?);
        let new = match &self.second {
            Some(second) => as_keys(client.version(&self.document, &key, second).await?),
            None => match client.get(&self.document, &key).await {
                Ok(item) => Keys::from([(key.clone(), item.value)]),
                Err(e) if e.is_not_found() => Keys::new(),
                Err(e) => return Err(e.into()),
            },
        };
        Ok((old, new))
    }
}

/// Every key of a document; none where there is no such document.
pub(crate) async fn keys_of(client: &Client, document: &DocumentId) -> Result<Keys, Failure> {
    match client.list(document, None).await {
        Ok(items) => Ok(items.into_iter().map(|item| (item.key, item.value)).collect()),
        Err(e) if e.is_not_found() => Ok(Keys::new()),
        Err(e) => Err(e.into()),
    }
}
