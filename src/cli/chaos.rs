//! `holm chaos`: cuts, slows and heals the links of a cluster that `holm dev` runs. A real cluster
//! has no such door.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Failure, Global, Terminal, duration};
use crate::client::LinkChange;
use crate::model::RegionName;

/// Arguments of `holm chaos`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm chaos cut eu-west                       from every other region
  holm chaos cut eu-west us-east --one-way     only what eu-west sends to us-east
  holm chaos slow eu-west us-east --delay 300ms
  holm chaos heal                              every link as the topology has it")]
pub struct Chaos {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let nothing through.
    #[command(
        after_help = "Examples:\n  holm chaos cut eu-west\n  holm chaos cut eu-west us-east --one-way"
    )]
    Cut {
        /// A region.
        #[arg(value_parser = region)]
        from: RegionName,
        /// Another one; every other one where there is none.
        #[arg(value_parser = region)]
        to: Option<RegionName>,
        /// Only what FROM sends to TO.
        #[arg(long, requires = "to")]
        one_way: bool,
    },
    /// Let everything through later.
    #[command(after_help = "Examples:\n  holm chaos slow eu-west us-east --delay 300ms")]
    Slow {
        /// A region.
        #[arg(value_parser = region)]
        from: RegionName,
        /// Another one.
        #[arg(value_parser = region)]
        to: RegionName,
        /// Added each way.
        #[arg(long, value_parser = duration, value_name = "TIME")]
        delay: Duration,
        /// Only what FROM sends to TO.
        #[arg(long)]
        one_way: bool,
    },
    /// Put links back to what the topology says.
    #[command(after_help = "Examples:\n  holm chaos heal")]
    Heal {
        /// A region; all of them where there is none.
        #[arg(value_parser = region)]
        from: Option<RegionName>,
        /// Another one; every other one where there is none.
        #[arg(value_parser = region)]
        to: Option<RegionName>,
    },
}

fn region(text: &str) -> Result<RegionName, String> {
    RegionName::new(text).map_err(|e| e.to_string())
}

impl Chaos {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let (change, said) = self.action.change();
        global.client()?.links(&change).await.map_err(|e| {
            let has_no_links = e.is_not_found();
            let failure = Failure::from(e);
            if has_no_links {
                failure.hint("only a `holm dev` cluster has links to play with")
            } else {
                failure
            }
        })?;
        if global.json() { terminal.say_json(&change) } else { terminal.say(said) }
    }
}

impl Action {
    fn change(self) -> (LinkChange, String) {
        let none =
            LinkChange { action: "heal", from: None, to: None, one_way: false, delay_ms: None };
        let named = |region: &RegionName| Some(region.to_string());
        match self {
            Self::Cut { from, to, one_way } => {
                let arrow = if one_way { "→" } else { "↔" };
                let other =
                    to.as_ref().map_or("every other region".to_owned(), RegionName::to_string);
                let said = format!("cut: {from} {arrow} {other}");
                let (from, to) = (named(&from), to.as_ref().and_then(named));
                (LinkChange { action: "cut", from, to, one_way, ..none }, said)
            }
            Self::Slow { from, to, delay, one_way } => {
                let arrow = if one_way { "→" } else { "↔" };
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                let said = format!("slow: {from} {arrow} {to}, {delay_ms} ms more each way");
                let (from, to) = (named(&from), named(&to));
                (LinkChange { action: "slow", from, to, one_way, delay_ms: Some(delay_ms) }, said)
            }
            Self::Heal { from, to } => {
                let said = match (&from, &to) {
                    (Some(from), Some(to)) => format!("healed: {from} ↔ {to}"),
                    (Some(from), None) => format!("healed: {from}"),
                    _ => "healed: every link".to_owned(),
                };
                let (from, to) = (from.as_ref().and_then(named), to.as_ref().and_then(named));
                (LinkChange { from, to, ..none }, said)
            }
        }
    }
}
