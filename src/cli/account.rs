//! `holm account`: who may ask for tokens. A client secret is printed once, and kept nowhere.

use clap::{Args, Subcommand};
use serde_json::json;

use super::list::print;
use super::terminal::Items;
use super::{Failure, Global, Terminal};
use crate::client::Account as Shown;
use crate::model::{AccountName, RoleName};

/// Arguments of `holm account`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm account create ci --role developer
  holm account list
  holm account roles ci developer operator
  holm account credential add ci --expires-at 2027-01-31T00:00:00Z
  holm account disable ci

The client secret is shown once. It asks for tokens at POST /oauth/token.")]
pub struct Account {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an account, with a client secret.
    #[command(after_help = "Examples:\n  holm account create ci --role developer")]
    Create {
        /// Its name, which is its client id too.
        name: AccountName,
        /// A role; more than once for more.
        #[arg(long, value_name = "NAME")]
        role: Vec<RoleName>,
        /// No client secret: an external issuer vouches for it.
        #[arg(long)]
        no_credential: bool,
    },
    /// List accounts.
    #[command(after_help = "Examples:\n  holm account list")]
    List,
    /// Show an account.
    #[command(after_help = "Examples:\n  holm account show ci")]
    Show {
        /// Its name.
        name: AccountName,
    },
    /// Take its tokens again.
    #[command(after_help = "Examples:\n  holm account enable ci")]
    Enable {
        /// Its name.
        name: AccountName,
    },
    /// Take its tokens no more, from now on.
    #[command(after_help = "Examples:\n  holm account disable ci")]
    Disable {
        /// Its name.
        name: AccountName,
    },
    /// Set all of its roles.
    #[command(after_help = "Examples:\n  holm account roles ci developer operator")]
    Roles {
        /// Its name.
        name: AccountName,
        /// The roles that it has from now on; none where there are none.
        roles: Vec<RoleName>,
    },
    /// Remove an account, and with it all its tokens.
    #[command(after_help = "Examples:\n  holm account delete ci")]
    Delete {
        /// Its name.
        name: AccountName,
    },
    /// Add and revoke client secrets.
    #[command(
        after_help = "Examples:\n  holm account credential add ci\n  holm account credential revoke ci 4f1c7a52"
    )]
    Credential {
        #[command(subcommand)]
        action: Credential,
    },
}

#[derive(Debug, Subcommand)]
enum Credential {
    /// Make one more client secret.
    #[command(
        after_help = "Examples:\n  holm account credential add ci --expires-at 2027-01-31T00:00:00Z"
    )]
    Add {
        /// Whose.
        name: AccountName,
        /// From when on it is not taken, for example 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Take a client secret back, and with it the tokens that were issued for it.
    #[command(after_help = "Examples:\n  holm account credential revoke ci 4f1c7a52")]
    Revoke {
        /// Whose.
        name: AccountName,
        /// Which: `holm account show` lists them.
        #[arg(value_name = "ID")]
        credential: String,
    },
}

impl Account {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let shown = match self.action {
            Action::List => {
                let accounts = client.accounts().await?;
                if global.json() {
                    return terminal.say_json(&Items { items: &accounts });
                }
                let rows: Vec<_> = accounts.iter().map(row).collect();
                return print(&["NAME", "STATE", "ROLES", "CREDENTIALS", "ID"], &rows, terminal);
            }
            Action::Delete { name } => {
                client.delete_account(&name).await?;
                return done(global, terminal, &format!("{name} is removed"));
            }
            Action::Credential { action } => return action.run(global, terminal).await,
            Action::Create { name, role, no_credential } => {
                client.create_account(&name, &role, !no_credential).await?
            }
            Action::Show { name } => client.account(&name).await?,
            Action::Enable { name } => {
                client.update_account(&name, &json!({"enabled": true})).await?
            }
            Action::Disable { name } => {
                client.update_account(&name, &json!({"enabled": false})).await?
            }
            Action::Roles { name, roles } => {
                client.update_account(&name, &json!({"roles": roles})).await?
            }
        };
        if global.json() { terminal.say_json(&shown) } else { show(&shown, terminal) }
    }
}

impl Credential {
    async fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = global.client()?;
        match self {
            Self::Add { name, expires_at } => {
                let made = client.add_credential(&name, expires_at.as_deref()).await?;
                if global.json() {
                    return terminal.say_json(&made);
                }
                terminal.say(format!("credential     {}", made.id))?;
                secret(name.as_str(), made.client_secret.as_deref(), terminal)
            }
            Self::Revoke { name, credential } => {
                client.revoke_credential(&name, &credential).await?;
                done(global, terminal, &format!("{credential} of {name} is revoked"))
            }
        }
    }
}

/// Says that something is done; to a program, nothing needs saying.
pub(super) fn done(
    global: &Global,
    terminal: &mut Terminal<'_>,
    what: &str,
) -> Result<(), Failure> {
    if global.json() { terminal.say("{}") } else { terminal.say(what) }
}

fn row(account: &Shown) -> Vec<String> {
    let state = if account.enabled { "enabled" } else { "disabled" };
    vec![
        account.name.clone(),
        state.to_owned(),
        account.roles.join(" "),
        account.credentials.len().to_string(),
        account.id.clone(),
    ]
}

fn show(account: &Shown, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let state = if account.enabled { "enabled" } else { "disabled" };
    terminal.say(format!("account        {} ({state})", account.name))?;
    terminal.say(format!("id             {}", account.id))?;
    terminal.say(format!("roles          {}", account.roles.join(" ")))?;
    for credential in &account.credentials {
        let until = credential.expires_at.as_deref().unwrap_or("it is revoked");
        terminal.say(format!("credential     {} until {until}", credential.id))?;
    }
    match &account.client_secret {
        Some(text) => secret(&account.name, Some(text), terminal),
        None => Ok(()),
    }
}

fn secret(id: &str, secret: Option<&str>, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    terminal.say(format!("client id      {id}"))?;
    terminal.say(format!("client secret  {}", secret.unwrap_or_default()))?;
    terminal.note("The client secret is not shown again.")
}
