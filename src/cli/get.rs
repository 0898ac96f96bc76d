//! `holm get`: one key's value, or every key of an environment.

use clap::Args;

use super::terminal::Items;
use super::{Failure, Global, Terminal, address};
use crate::client::Sibling;
use crate::model::{DocumentId, Key};

/// Arguments of `holm get`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm get web/dev                     every key, as KEY=VALUE
  holm get web/dev server.port         the value alone; a string without its quotes
  holm get web/dev server.port --json-value
  holm get web/dev server.port --output json")]
pub struct Get {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// The key; all of them where there is none.
    #[arg(value_parser = address::key)]
    key: Option<Key>,
    /// Print a string as JSON too, with its quotes.
    #[arg(long, requires = "key")]
    json_value: bool,
}

impl Get {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let Some(key) = self.key else {
            let items = client.list(&self.document, None).await?;
            if global.json() {
                return terminal.say_json(&Items { items: &items });
            }
            if items.is_empty() {
                terminal.note(format!("{} has no keys", self.document))?;
            }
            for item in items {
                terminal.say(format!("{}={}", item.key, item.value))?;
            }
            return Ok(());
        };
        let item = match client.get(&self.document, &key).await {
            Ok(item) => item,
            Err(error) => {
                let conflicts = error.refusal().map(|refusal| &refusal.conflicts);
                tell_conflicts(conflicts.map_or(&[], Vec::as_slice), terminal)?;
                return Err(error.into());
            }
        };
        if global.json() {
            return terminal.say_json(&item);
        }
        match item.value.to_value() {
            serde_json::Value::String(text) if !self.json_value => {
                terminal.say_raw(&(text + "\n"))?
            }
            _ => terminal.say(item.value.as_str())?,
        }
        tell_conflicts(&item.conflicts, terminal)
    }
}

fn tell_conflicts(conflicts: &[Sibling], terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    for sibling in conflicts {
        let what = match &sibling.value {
            Some(value) if !sibling.removed => format!("wrote {value}"),
            _ => "removed it".to_owned(),
        };
        let region = if sibling.region.is_empty() { "another region" } else { &sibling.region };
        terminal.note(format!("{region} {what} at the same time; the next write settles it"))?;
    }
    Ok(())
}
