//! `holm rm`: removes keys. Everything at once only after a yes.

use clap::Args;

use super::terminal::count;
use super::{Failure, Global, Terminal, address};
use crate::model::{DocumentId, Key};

/// Arguments of `holm rm`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each key is removed by a change of its own; --all removes what the node sees in one change.
A removed key keeps its history: `holm restore` brings it back.

Examples:
  holm rm web/dev server.port
  holm rm web/dev a b c
  holm rm web/dev --all --yes")]
pub struct Rm {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// The keys.
    #[arg(value_parser = address::key, required_unless_present = "all", value_name = "KEY")]
    keys: Vec<Key>,
    /// Remove every key of the environment.
    #[arg(long, conflicts_with = "keys")]
    all: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Rm {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        if self.all {
            if !self.yes {
                if !terminal.input_is_terminal {
                    return Err(Failure::usage("--all asks first, and nobody is here to answer")
                        .hint("add --yes if it is meant"));
                }
                if !terminal.confirm(&format!("Remove every key of {}?", self.document))? {
                    return Err(Failure::failed("nothing was removed"));
                }
            }
            let removed = client.remove_all(&self.document).await?;
            if global.json() {
                return terminal.say_json(&serde_json::json!({ "removed": removed }));
            }
            let removed = count(usize::try_from(removed).unwrap_or(usize::MAX), "key");
            return terminal.say(format!("{removed} of {} removed", self.document));
        }
        for key in &self.keys {
            let removed = client
                .remove(&self.document, key)
                .await
                .map_err(|e| Failure::from(e).about(format!("{}/{key}", self.document)))?;
            if global.json() {
                terminal.say_json(&removed)?;
            } else {
                terminal.say(format!("{}/{key} is removed", self.document))?;
            }
        }
        Ok(())
    }
}
