//! `holm restore`: an earlier version again, as the newest one.

use clap::Args;

use super::{Failure, Global, Terminal, address};
use crate::model::{DocumentId, Key};

/// Arguments of `holm restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
History only grows: the earlier value is written again under a new version.

Examples:
  holm restore web/dev server.port 3
  holm restore web/dev server.port 7@ORIGIN --message 'as it was'")]
pub struct Restore {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// The key.
    #[arg(value_parser = address::key)]
    key: Key,
    /// The version, as `holm history` shows it.
    #[arg(value_parser = address::version, value_name = "VERSION")]
    which: String,
    /// Why: kept in the history.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
}

impl Restore {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let message = self.message.as_deref();
        let item = client.restore(&self.document, &self.key, &self.which, message).await?;
        if global.json() {
            return terminal.say_json(&item);
        }
        terminal.say(format!(
            "{}/{} is as it was in version {}, now version {}",
            self.document, item.key, self.which, item.version
        ))
    }
}
