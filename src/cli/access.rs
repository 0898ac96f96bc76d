//! `holm access`: why somebody may do something, or why not.

use clap::{Args, Subcommand};

use super::{Failure, Global, Terminal};
use crate::model::AccountName;

/// Arguments of `holm access`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm access explain ci config:write web/prod/feature.a
  holm access explain ci secrets:reveal prod-db-password
  holm access explain ci access:manage

The exit code is 0 where it may and 1 where it may not.")]
pub struct Access {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say which grant of which role decides, or why none does.
    #[command(after_help = "Examples:\n  holm access explain ci config:write web/prod/feature.a")]
    Explain {
        /// Whose rights.
        account: AccountName,
        /// To do what: config:read, config:write, secrets:reveal, access:manage, ….
        action: String,
        /// To what: web/dev/key, web/dev, a secret's name; nothing for the cluster as a whole.
        #[arg(default_value = "", hide_default_value = true)]
        resource: String,
    },
}

impl Access {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let Action::Explain { account, action, resource } = self.action;
        let answer = global.client()?.explain(&account, &action, &resource).await?;
        if global.json() {
            terminal.say_json(&answer)?;
        } else {
            let may = if answer.allowed { "yes" } else { "no" };
            terminal.say(format!("{may}: {}", answer.why))?;
        }
        match answer.allowed {
            true => Ok(()),
            false => Err(Failure::failed(format!("{account} may not {action} {resource}"))),
        }
    }
}
