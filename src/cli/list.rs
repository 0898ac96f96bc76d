//! `holm list`: what there is.

use clap::Args;

use super::formats::shorten;
use super::terminal::{Colour, Items};
use super::{Failure, Global, Terminal, address, table};
use crate::model::DocumentId;

/// Arguments of `holm list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm list                            services and environments
  holm list web/dev                    keys with version, time and author
  holm list web/dev --prefix server.")]
pub struct List {
    /// Whose keys, for example web/dev; services and environments where there is none.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: Option<DocumentId>,
    /// Only keys that begin with this.
    #[arg(long, requires = "document", value_name = "TEXT")]
    prefix: Option<String>,
}

impl List {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let Some(document) = self.document else {
            let documents = client.documents().await?;
            if global.json() {
                return terminal.say_json(&Items { items: &documents });
            }
            let rows = documents.iter().map(|info| {
                vec![info.service.to_string(), info.environment.to_string(), info.keys.to_string()]
            });
            let rows: Vec<_> = rows.collect();
            return print(&["SERVICE", "ENVIRONMENT", "KEYS"], &rows, terminal);
        };
        let items = client.list(&document, self.prefix.as_deref()).await?;
        if global.json() {
            return terminal.say_json(&Items { items: &items });
        }
        let rows = items.iter().map(|item| {
            let conflicts = match item.conflicts.len() {
                0 => String::new(),
                n => format!(" (+{n} in conflict)"),
            };
            vec![
                item.key.to_string(),
                format!("{}{conflicts}", item.version),
                item.updated_at.clone(),
                item.updated_by.to_string(),
                shorten(item.value.as_str(), 60),
            ]
        });
        let rows: Vec<_> = rows.collect();
        print(&["KEY", "VERSION", "UPDATED", "BY", "VALUE"], &rows, terminal)
    }
}

/// A table with its title set off, or a remark that there is nothing.
pub(crate) fn print(
    title: &[&str],
    rows: &[Vec<String>],
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if rows.is_empty() {
        return terminal.note("nothing there");
    }
    for (i, line) in table::lines(title, rows).into_iter().enumerate() {
        if i == 0 {
            terminal.say_painted("", Colour::Title, &line, "")?;
        } else {
            terminal.say(line)?;
        }
    }
    Ok(())
}
