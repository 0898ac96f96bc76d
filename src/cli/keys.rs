//! `holm keys`: the master key that wraps the keys of all secrets, and its rotation.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::list::print;
use super::token::write_new;
use super::{Failure, Global, Terminal};
use crate::client::{Client, MasterKeys, RotationStep};
use crate::env::Entropy;
use crate::secrets::keyring;

pub(super) mod source;

/// Arguments of `holm keys`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm keys generate --out master.key     a new key, in a file that only you can read
  holm keys status                        which generations wrap how much
  holm keys rotate                        to the next generation that the node holds
  holm keys retire 1                      once nothing uses it

In the settings of every node:
  [secrets]
  master_keys = [{ generation = 1, file = \"master.key\" }]

To rotate: make a key; give it to every node as the next generation, beside the old one, and
restart them one by one; `holm keys rotate`; `holm keys retire` the old one; take it out of the
settings. It can be interrupted anywhere, and done again. Whoever loses every copy of a key loses
what it wraps: keep one in a safe.")]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key. It is written to a file and never shown.
    #[command(after_help = "Examples:\n  holm keys generate --out master.key")]
    Generate {
        /// Where to put it; nothing that is there is overwritten.
        #[arg(long, value_name = "FILE", default_value = "master.key")]
        out: PathBuf,
    },
    /// Show which generations there are, and what each of them wraps.
    #[command(after_help = "Examples:\n  holm keys status")]
    Status,
    /// Wrap everything by the newest generation, while the cluster goes on.
    #[command(after_help = "Examples:\n  holm keys rotate")]
    Rotate {
        /// To this generation. Where nothing is said: the next one, if the node holds it.
        #[arg(long, value_name = "GENERATION")]
        to: Option<u32>,
    },
    /// Forget a generation that wraps nothing any more: what it had wrapped is gone for good.
    #[command(after_help = "Examples:\n  holm keys retire 1")]
    Retire {
        /// Which.
        generation: u32,
    },
}

impl Keys {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match self.action {
            Action::Generate { out } => {
                let key = keyring::generate(&mut Entropy::system().stream("master-key"));
                let text = zeroize::Zeroizing::new(format!("{}\n", *key));
                write_new(&out, &text, 0o600)?;
                terminal.say(out.display().to_string())
            }
            Action::Status => {
                let keys = global.client()?.master_keys().await?;
                if global.json() {
                    return terminal.say_json(&keys);
                }
                status(&keys, terminal)
            }
            Action::Rotate { to } => {
                let step = rotate(&global.client()?, to, terminal).await?;
                if global.json() {
                    terminal.say_json(&step)?;
                }
                tell(&step, global, terminal)
            }
            Action::Retire { generation } => {
                global.client()?.retire_key(generation).await?;
                terminal.say(format!("generation {generation} is retired"))
            }
        }
    }
}

fn status(keys: &MasterKeys, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let rows = keys.generations.iter().map(|it| {
        let current = if it.current { "current" } else { "" };
        let wraps = [it.versions, it.signing_keys, it.hash_keys].map(|count| count.to_string());
        let own = [it.generation.to_string(), current.to_owned(), it.held.clone()];
        [&own[..], &wraps].concat()
    });
    let rows: Vec<_> = rows.collect();
    let title = ["GENERATION", "", "HELD HERE", "SECRET VERSIONS", "SIGNING KEYS", "HASH KEYS"];
    print(&title, &rows, terminal)?;
    for waiting in &keys.waiting {
        terminal.note(format!("generation {waiting} is held by this node and not used yet"))?;
    }
    Ok(())
}

/// Goes on until nothing is left, or a step does nothing more. The counts are of all steps.
async fn rotate(
    client: &Client,
    to: Option<u32>,
    terminal: &mut Terminal<'_>,
) -> Result<RotationStep, Failure> {
    let (mut to, mut done) = (to, 0);
    loop {
        let mut step = client.rotate_keys(to).await?;
        done += step.rewrapped;
        // What was the next generation is the current one now.
        to = Some(step.to);
        terminal.bar((done, done + step.left), "keys")?;
        if step.left == 0 || step.rewrapped == 0 {
            terminal.progress_ends()?;
            step.rewrapped = done;
            return Ok(step);
        }
    }
}

fn tell(step: &RotationStep, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    for damaged in &step.damaged {
        terminal.note(format!("{}: {}", damaged.what, damaged.why))?;
    }
    if step.left > 0 {
        let left = format!("{} keys are still wrapped by older generations", step.left);
        return Err(Failure::failed(left).hint("`holm keys status` says by which"));
    }
    if global.json() {
        return Ok(());
    }
    terminal.say(format!(
        "generation {} wraps everything; {} keys were wrapped anew",
        step.to, step.rewrapped
    ))
}
