//! `holm secret`: values come from standard input or a file, never from the command line, where
//! others on the machine and the shell's history would see them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::list::print;
use super::terminal::Items;
use super::{Failure, Global, Terminal};
use crate::model::SecretName;
use crate::secrets::Plaintext;
use crate::secrets::sealed::VALUE_LEN_MAX;

/// Arguments of `holm secret`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm secret put prod-db-password                 asks, and shows nothing of what is typed
  pass show db | holm secret put prod-db-password  one line end at the end is not part of it
  holm secret put tls-key --file key.pem           the file as it is
  holm secret get prod-db-password                 columns
  holm secret get prod-db-password --reveal        the value alone
  holm secret list
  holm secret rm prod-db-password --yes")]
pub struct Secret {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a secret's next version, or its first. The value comes from standard input.
    #[command(
        after_help = "Examples:\n  holm secret put tls-key --file key.pem\n  pass show db | holm secret put prod-db-password"
    )]
    Put {
        /// Which.
        #[arg(value_parser = name)]
        name: SecretName,
        /// Read the value from a file, as it is.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What to seal it with: aes-256-gcm (where nothing is said), aes-256-gcm-siv,
        /// chacha20-poly1305.
        #[arg(long, value_name = "NAME")]
        algorithm: Option<String>,
        /// Refuse where it has another version (exit code 4); 0 is a secret that is not there yet.
        #[arg(long, value_name = "VERSION")]
        expect_version: Option<u64>,
    },
    /// Show a secret's columns, or its value.
    #[command(after_help = "Examples:\n  holm secret get prod-db-password --reveal")]
    Get {
        /// Which.
        #[arg(value_parser = name)]
        name: SecretName,
        /// Show the value instead, and nothing else. This is audited.
        #[arg(long)]
        reveal: bool,
        /// Of this version, not of the newest.
        #[arg(long, value_name = "VERSION", requires = "reveal")]
        version: Option<u64>,
    },
    /// List the secrets that the token may see; never values.
    #[command(after_help = "Examples:\n  holm secret list")]
    List,
    /// Remove secrets, each with all of its versions.
    #[command(after_help = "Examples:\n  holm secret rm prod-db-password --yes")]
    Rm {
        /// Which.
        #[arg(value_parser = name, required = true)]
        names: Vec<SecretName>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

fn name(text: &str) -> Result<SecretName, String> {
    SecretName::new(text).map_err(|e| e.to_string())
}

impl Secret {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        match self.action {
            Action::Put { name, file, algorithm, expect_version } => {
                let value = value(file.as_deref(), terminal)?;
                let put = client.put_secret(&name, &value, algorithm.as_deref(), expect_version);
                let put = put.await?;
                if global.json() {
                    return terminal.say_json(&put);
                }
                terminal.say(format!("{name} is at version {}", put.version))
            }
            Action::Get { name, reveal: true, version } => {
                let value = client.reveal_secret(&name, version).await?;
                let text = value.expose_text().unwrap_or_default();
                if global.json() {
                    return terminal.say_json(&text);
                }
                terminal.say_raw(text)?;
                // A program gets the value as it is; a person's prompt belongs on the next line.
                if terminal.out_is_terminal { terminal.say("") } else { Ok(()) }
            }
            Action::Get { name, .. } => {
                let info = client.secret(&name).await?;
                if global.json() {
                    return terminal.say_json(&info);
                }
                let rows = info.versions.iter().map(|it| {
                    let (at, by) = (it.created_at.clone(), it.created_by.clone());
                    vec![it.version.to_string(), it.algorithm.clone(), at, by]
                });
                let rows: Vec<_> = rows.collect();
                print(&["VERSION", "ALGORITHM", "CREATED", "BY"], &rows, terminal)
            }
            Action::List => {
                let all = client.secrets().await?;
                if global.json() {
                    return terminal.say_json(&Items { items: &all });
                }
                let rows = all.iter().map(|it| {
                    let (at, by) = (it.updated_at.clone(), it.updated_by.clone());
                    vec![it.name.to_string(), it.version.to_string(), it.algorithm.clone(), at, by]
                });
                let rows: Vec<_> = rows.collect();
                print(&["NAME", "VERSION", "ALGORITHM", "UPDATED", "BY"], &rows, terminal)
            }
            Action::Rm { names, yes } => {
                if !yes {
                    confirm(&names, terminal)?;
                }
                for name in names {
                    client.remove_secret(&name).await.map_err(|e| Failure::from(e).about(&name))?;
                    if !global.json() {
                        terminal.say(format!("{name} is removed"))?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn confirm(names: &[SecretName], terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if !terminal.input_is_terminal {
        let failure = Failure::usage("rm asks first, and nobody is here to answer");
        return Err(failure.hint("add --yes if it is meant"));
    }
    let names: Vec<&str> = names.iter().map(SecretName::as_str).collect();
    let question = format!("Remove {} with all versions, for good?", names.join(", "));
    match terminal.confirm(&question)? {
        true => Ok(()),
        false => Err(Failure::failed("nothing was removed")),
    }
}

fn value(file: Option<&Path>, terminal: &mut Terminal<'_>) -> Result<Plaintext, Failure> {
    // Of its whole length from the start: a vector that grows leaves what it had behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_LEN_MAX + 2));
    let limit = VALUE_LEN_MAX as u64 + 2;
    match file {
        Some(path) => {
            let wrong = |e: std::io::Error| Failure::usage(e.to_string()).about(path.display());
            let file = std::fs::File::open(path).map_err(wrong)?;
            file.take(limit).read_to_end(&mut bytes).map_err(wrong)?;
        }
        None if terminal.input_is_terminal => {
            terminal.read_hidden("Value (not shown): ", &mut bytes)?;
        }
        None => {
            (&mut terminal.input).take(limit).read_to_end(&mut bytes)?;
            take_line_end(&mut bytes);
        }
    }
    if bytes.len() > VALUE_LEN_MAX {
        return Err(Failure::usage(format!("the value is longer than {VALUE_LEN_MAX} bytes")));
    }
    if std::str::from_utf8(&bytes).is_err() {
        let failure = Failure::usage("the value is not UTF-8 text");
        return Err(failure.hint("encode it first, in base64 for example"));
    }
    Ok(Plaintext::new(std::mem::take(&mut *bytes)))
}

/// Takes one line end off.
pub(super) fn take_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}
