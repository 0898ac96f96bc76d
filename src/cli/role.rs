//! `holm role`: named sets of grants, and the configurations that are bound to roles.

use clap::{Args, Subcommand};

use super::account::done;
use super::list::print;
use super::terminal::Items;
use super::{Failure, Global, Terminal, address};
use crate::model::{DocumentId, Key, RoleName};

/// Arguments of `holm role`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm role create web-dev 'config:*:web/dev' secrets:read:web-dev-*
  holm role grant web-dev 'config:read:web/prod'
  holm role list
  holm role bind web/prod feature.flags web-dev
  holm role delete web-dev

A grant is an action and what it is for: config:read, config:write, config:*, secrets:read,
secrets:reveal, secrets:write, secrets:delete, with globs behind; access:read, access:manage,
cluster:read, cluster:manage, cluster:backup, audit:read.")]
pub struct Role {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a role.
    #[command(
        after_help = "Examples:\n  holm role create web-dev 'config:*:web/dev' secrets:read:web-dev-*"
    )]
    Create {
        /// Its name.
        name: RoleName,
        /// What it allows.
        grants: Vec<String>,
    },
    /// List roles.
    #[command(after_help = "Examples:\n  holm role list")]
    List,
    /// Show a role.
    #[command(after_help = "Examples:\n  holm role show web-dev")]
    Show {
        /// Its name.
        name: RoleName,
    },
    /// Add grants to a role, or take some from it.
    #[command(after_help = "Examples:\n  holm role grant web-dev 'config:read:web/prod'")]
    Grant {
        /// Its name.
        name: RoleName,
        /// The grants.
        #[arg(required = true)]
        grants: Vec<String>,
        /// Take them from it.
        #[arg(long)]
        remove: bool,
    },
    /// Remove a role from everybody who has it.
    #[command(after_help = "Examples:\n  holm role delete web-dev")]
    Delete {
        /// Its name.
        name: RoleName,
    },
    /// Let only who has the role change one configuration.
    #[command(after_help = "Examples:\n  holm role bind web/prod feature.flags web-dev")]
    Bind(Binding),
    /// Take that back.
    #[command(after_help = "Examples:\n  holm role unbind web/prod feature.flags web-dev")]
    Unbind(Binding),
}

#[derive(Args, Debug)]
struct Binding {
    /// Where, for example web/prod.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// Which configuration.
    #[arg(value_parser = address::key)]
    key: Key,
    /// Which role.
    role: RoleName,
}

impl Role {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let role = match self.action {
            Action::List => {
                let roles = client.roles().await?;
                if global.json() {
                    return terminal.say_json(&Items { items: &roles });
                }
                let rows = roles.iter().map(|role| {
                    let kind = if role.built_in { "built in" } else { "own" };
                    vec![role.name.clone(), kind.to_owned(), role.grants.join(" ")]
                });
                return print(&["NAME", "KIND", "GRANTS"], &rows.collect::<Vec<_>>(), terminal);
            }
            Action::Delete { name } => {
                client.delete_role(&name).await?;
                return done(global, terminal, &format!("{name} is removed"));
            }
            Action::Bind(Binding { document, key, role }) => {
                client.bind(&document, &key, &role, true).await?;
                let text = format!("{document}/{key} is bound to {role}");
                return done(global, terminal, &text);
            }
            Action::Unbind(Binding { document, key, role }) => {
                client.bind(&document, &key, &role, false).await?;
                let text = format!("{document}/{key} is not bound to {role} any more");
                return done(global, terminal, &text);
            }
            Action::Create { name, grants } => client.create_role(&name, &grants).await?,
            Action::Show { name } => client.role(&name).await?,
            Action::Grant { name, grants, remove } => {
                // Where somebody else changes it meanwhile, nothing is done (exit code 4).
                let mut role = client.role(&name).await?;
                role.grants.retain(|grant| !grants.contains(grant));
                if !remove {
                    role.grants.extend(grants);
                }
                client.set_grants(&name, &role.grants, role.version).await?
            }
        };
        if global.json() {
            return terminal.say_json(&role);
        }
        terminal.say(format!("role    {}", role.name))?;
        terminal.say(format!("id      {}", role.id))?;
        for grant in &role.grants {
            terminal.say(format!("grants  {grant}"))?;
        }
        Ok(())
    }
}
