//! `holm history policy`: how much of histories the cluster keeps.

use clap::{Args, Subcommand};

use crate::cli::list::print;
use crate::cli::{Failure, Global, Terminal};
use crate::client::{HistoryPolicies, HistoryPolicyOf};
use crate::config::retention::AGE_S_MAX;
use crate::model::Environment;

/// Arguments of `holm history policy`.
#[derive(Args, Debug)]
#[command(after_help = "\
A version goes, in every region, once it is neither among the newest ones of its key nor young: both
have to be exceeded. What a key shows now stays. What went cannot be had back.

Examples:
  holm history policy show
  holm history policy set prod --versions 500 --age 365d
  holm history policy set --versions 20 --age 7d      for environments without a policy of their own
  holm history policy unset prod")]
pub(super) struct Policy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how much is kept in which environment.
    #[command(after_help = "Examples:\n  holm history policy show")]
    Show,
    /// Set how much is kept.
    #[command(after_help = "Examples:\n  holm history policy set prod --versions 500 --age 365d")]
    Set {
        /// Where. Nowhere in particular: in environments that have no policy of their own.
        environment: Option<Environment>,
        /// Keep so many of the newest versions of a key, however old.
        #[arg(long, value_name = "NUMBER")]
        versions: u64,
        /// Keep what is younger, however much: 36h, 90d, 2y.
        #[arg(long, value_name = "TIME", value_parser = age)]
        age: u64,
    },
    /// Keep as much again as before a policy was set.
    #[command(after_help = "Examples:\n  holm history policy unset prod")]
    Unset {
        /// Where. Nowhere in particular: in environments that have no policy of their own.
        environment: Option<Environment>,
    },
}

impl Policy {
    pub(super) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        match self.action {
            Action::Show => {
                let policies = client.history_policies().await?;
                if global.json() {
                    return terminal.say_json(&policies);
                }
                show(&policies, terminal)
            }
            Action::Set { environment, versions, age } => {
                client.set_history_policy(environment.as_ref(), versions, age).await?;
                let of = named(environment.as_ref());
                terminal.say(format!(
                    "{of}: {versions} versions, and what is younger than {}",
                    said(age)
                ))
            }
            Action::Unset { environment } => {
                client.unset_history_policy(environment.as_ref()).await?;
                terminal.say(format!("{}: as before", named(environment.as_ref())))
            }
        }
    }
}

fn named(environment: Option<&Environment>) -> String {
    environment.map_or("(all others)".to_owned(), ToString::to_string)
}

fn show(policies: &HistoryPolicies, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let row = |of: String, HistoryPolicyOf { versions, age_s, .. }: &HistoryPolicyOf| {
        vec![of, versions.to_string(), said(*age_s)]
    };
    let own = policies.items.iter().map(|it| row(it.environment.clone().unwrap_or_default(), it));
    let rows: Vec<_> = own.chain([row(named(None), &policies.default)]).collect();
    print(&["ENVIRONMENT", "VERSIONS", "AND YOUNGER THAN"], &rows, terminal)
}

/// Units of age, the longest first, in seconds. A year has 365 days here.
const UNITS: [(&str, u64); 5] =
    [("y", 31_536_000), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// An age in the longest unit that says it exactly.
fn said(age_s: u64) -> String {
    let fits = UNITS.iter().find(|(_, unit)| age_s > 0 && age_s.is_multiple_of(*unit));
    let (name, unit) = fits.unwrap_or(&("s", 1));
    format!("{}{name}", age_s / unit)
}

fn age(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(name, _)| *name == &text[digits.len()..]);
    let (_, unit) = unit.ok_or("a number with a unit is expected: 36h, 90d, 2y")?;
    let number: u64 = digits.parse().map_err(|_| format!("`{digits}` is not a whole number"))?;
    let age_s = number.checked_mul(*unit).filter(|age_s| *age_s <= AGE_S_MAX);
    age_s.ok_or_else(|| "at most a hundred years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_as_it_is_read() {
        for text in ["0s", "90s", "5m", "36h", "90d", "2y", "100y"] {
            assert_eq!(said(age(text).unwrap()), text);
        }
        assert_eq!(said(age("24h").unwrap()), "1d");
        for bad in ["", "90", "d", "-1d", "1.5d", "1w", "101y", "99999999999999999999y"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
