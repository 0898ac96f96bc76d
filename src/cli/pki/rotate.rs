//! `holm pki rotate-ca`: another authority while the cluster runs, in three steps, each of which can
//! be done again. What may not be done yet is refused, and says which node it is for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::status::{short, table};
use super::{failure, node};
use crate::cli::{Failure, Global, Terminal};
use crate::client::{ShownCertificate, ShownCertificates};
use crate::env::{Entropy, SystemClock};
use crate::model::NodeName;
use crate::transport::Authority;
use crate::transport::pki::{Phase, Rotation};

/// Arguments of `holm pki rotate-ca`.
#[derive(Args, Debug)]
#[command(after_help = "\
While the cluster runs, with nothing refused:
  1. holm pki rotate-ca begin     makes a new authority; ca.pem names both.
     Copy ca.pem to every node. They take it within seconds.
  2. holm pki rotate-ca issue     makes every node's certificate anew, under the new authority.
     Copy each node's two files to it.
  3. holm pki rotate-ca finish    drops the old authority from ca.pem, and its key.
     Copy ca.pem to every node and to clients.

Steps 2 and 3 ask the cluster (--url, with a token that may read it) and are refused as long as a
node does not trust the new authority, or shows a certificate of the old one. Each step that was cut
off is done again.

Examples:
  holm pki rotate-ca status
  holm pki rotate-ca finish --without ap-south-1     that node is gone for good
  holm pki rotate-ca cancel                          before step 2: as if nothing had begun")]
pub(super) struct RotateCa {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Make a new authority, to be trusted beside the old one.
    #[command(after_help = "Examples:\n  holm pki rotate-ca begin --dir pki")]
    Begin {
        #[command(flatten)]
        place: Place,
    },
    /// Make all certificates of the directory anew, under the new authority.
    #[command(after_help = "Examples:\n  holm pki rotate-ca issue --dir pki")]
    Issue {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        asking: Asking,
    },
    /// Drop the old authority.
    #[command(after_help = "Examples:\n  holm pki rotate-ca finish --dir pki")]
    Finish {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take a beginning back.
    #[command(after_help = "Examples:\n  holm pki rotate-ca cancel --dir pki")]
    Cancel {
        #[command(flatten)]
        place: Place,
    },
    /// Show how far it is, here and on the nodes.
    #[command(after_help = "Examples:\n  holm pki rotate-ca status --dir pki")]
    Status {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args, Debug)]
struct Place {
    /// Where the authority is.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
}

#[derive(Args, Debug)]
struct Asking {
    /// A node that is gone for good and need not be ready. Can be given several times.
    #[arg(long, value_name = "NODE", value_parser = node)]
    without: Vec<NodeName>,
    /// Do not ask the cluster: none of its nodes runs.
    #[arg(long, conflicts_with = "without")]
    stopped: bool,
}

/// What has to be so on every node before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It trusts the new authority.
    Trust,
    /// And shows certificates of it alone.
    Show,
}

impl RotateCa {
    pub(super) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match self.step {
            Step::Begin { place } => begin(&place, terminal),
            Step::Issue { place, asking } => issue(&place, &asking, global, terminal).await,
            Step::Finish { place, asking } => finish(&place, &asking, global, terminal).await,
            Step::Cancel { place } => cancel(&place, terminal),
            Step::Status { place } => status(&place, global, terminal).await,
        }
    }
}

fn begin(place: &Place, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let rotation = Rotation::of(&place.dir);
    if rotation.phase() == Phase::Issuing {
        return Err(Failure::failed("the new authority signs already")
            .hint("go on with `holm pki rotate-ca issue`, then `finish`"));
    }
    // An authority that cannot be used cannot be replaced in order.
    Authority::load(&place.dir).map_err(failure)?;
    rotation.begin(&Entropy::system(), &SystemClock).map_err(failure)?;
    say_trusted(&rotation, terminal)?;
    terminal.say(format!(
        "Now copy {} to every node, and then: holm pki rotate-ca issue",
        place.dir.join("ca.pem").display()
    ))
}

async fn issue(
    place: &Place,
    asking: &Asking,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let rotation = Rotation::of(&place.dir);
    let next = match rotation.phase() {
        Phase::None => return Err(not_begun()),
        Phase::Begun => {
            crate::transport::certificate::fingerprint(&rotation.next().map_err(failure)?)
        }
        Phase::Issuing => rotation.start_issuing().map_err(failure)?.fingerprint(),
    };
    ask(asking, &next, Need::Trust, global).await?;
    let authority = rotation.start_issuing().map_err(failure)?;
    let nodes = rotation.nodes(&authority).map_err(failure)?;
    let total = nodes.len() as u64;
    for (done, (name, is_done)) in (1..).zip(&nodes) {
        let file = place.dir.join(format!("{name}.pem"));
        if *is_done {
            terminal.say(format!("{}: is of the new authority", file.display()))?;
            continue;
        }
        let made =
            authority.renew(&file, &[], &Entropy::system(), &SystemClock).map_err(failure)?;
        made.replace(&place.dir, name).map_err(failure)?;
        terminal.progress_ends()?;
        terminal.say(format!("{}: made anew, and its key", file.display()))?;
        terminal.bar((done, total), "certificates")?;
    }
    terminal.progress_ends()?;
    if nodes.is_empty() {
        terminal.say(format!(
            "There is no certificate in {}; `holm pki issue` makes them under the new authority.",
            place.dir.display()
        ))?;
    }
    terminal.say("Now copy each node's two files to it, and then: holm pki rotate-ca finish")
}

async fn finish(
    place: &Place,
    asking: &Asking,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let rotation = Rotation::of(&place.dir);
    match rotation.phase() {
        Phase::None => return Err(not_begun()),
        Phase::Begun => {
            return Err(Failure::failed("no certificate was made under the new authority yet")
                .hint("first: holm pki rotate-ca issue"));
        }
        Phase::Issuing => {}
    }
    let authority = rotation.start_issuing().map_err(failure)?;
    let old: Vec<String> = rotation
        .nodes(&authority)
        .map_err(failure)?
        .into_iter()
        .filter(|(name, is_done)| !is_done && !asking.without.iter().any(|it| it.as_str() == name))
        .map(|(name, _)| name)
        .collect();
    if !old.is_empty() {
        let what = format!("{} still has certificates of the old authority", place.dir.display());
        return Err(Failure::failed(format!("{what}: {}", old.join(", ")))
            .hint("first: holm pki rotate-ca issue"));
    }
    ask(asking, &authority.fingerprint(), Need::Show, global).await?;
    rotation.finish().map_err(failure)?;
    say_trusted(&rotation, terminal)?;
    terminal.say(format!(
        "The old authority is dropped. Now copy {} to every node, and to clients that trust it.",
        place.dir.join("ca.pem").display()
    ))
}

fn cancel(place: &Place, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let rotation = Rotation::of(&place.dir);
    match rotation.phase() {
        Phase::None => return Err(not_begun()),
        Phase::Issuing => {
            return Err(Failure::failed("certificates were made under the new authority")
                .hint("go on with `issue` and `finish`; another rotation can follow"));
        }
        Phase::Begun => {}
    }
    rotation.cancel().map_err(failure)?;
    say_trusted(&rotation, terminal)?;
    terminal.say("The new authority is gone. Copy ca.pem to the nodes that have the other one.")
}

async fn status(
    place: &Place,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let rotation = Rotation::of(&place.dir);
    terminal.say(match rotation.phase() {
        Phase::None => "No change of the authority is under way.",
        Phase::Begun => "A new authority is made; the old one signs. Next: issue.",
        Phase::Issuing => "The new authority signs; the old one is still trusted. Next: finish.",
    })?;
    say_trusted(&rotation, terminal)?;
    terminal.say("")?;
    table(&global.client()?.certificates().await?, terminal)
}

fn not_begun() -> Failure {
    Failure::failed("no change of the authority is under way")
        .hint("first: holm pki rotate-ca begin")
}

fn say_trusted(rotation: &Rotation<'_>, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    for facts in rotation.trusted().map_err(failure)? {
        let until = crate::transport::certificate::Date(facts.not_after);
        terminal.say(format!("trusted: {} until {until}", facts.short()))?;
    }
    Ok(())
}

async fn ask(asking: &Asking, next: &str, need: Need, global: &Global) -> Result<(), Failure> {
    if asking.stopped {
        return Ok(());
    }
    let nodes = global.client()?.certificates().await?;
    let lacking = lacking(&nodes, next, need, &asking.without);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("not yet, and nothing was done: {}", lacking.join("; "))).hint(
        "`holm pki rotate-ca status` shows every node; --without NODE leaves one out for good",
    ))
}

/// What the nodes lack, in words.
fn lacking(
    nodes: &[ShownCertificates],
    next: &str,
    need: Need,
    without: &[NodeName],
) -> Vec<String> {
    if nodes.is_empty() {
        return vec!["the cluster names no nodes".to_owned()];
    }
    let is_asked = |it: &&ShownCertificates| !without.iter().any(|name| name.as_str() == it.node);
    let lacks = |it: &ShownCertificates| {
        let node = &it.node;
        if let Some(why) = &it.unknown {
            return Some(format!("{node} did not say what it shows and trusts ({why})"));
        }
        if !it.authorities.iter().any(|authority| authority.fingerprint == next) {
            return Some(format!("{node} does not trust the new authority: it needs ca.pem"));
        }
        if need == Need::Trust {
            return None;
        }
        let is_of_next = |it: &ShownCertificate| it.authority.as_deref() == Some(next);
        match (&it.certificate, &it.http) {
            (None, _) => Some(format!("{node} shows no certificate")),
            (Some(shown), _) if !is_of_next(shown) => Some(format!(
                "{node} shows a certificate of {}: it needs {node}.pem and {node}.key",
                whose(shown)
            )),
            // One that somebody else signed is no matter of this authority's.
            (_, Some(http)) if http.authority.is_some() && !is_of_next(http) => {
                Some(format!("{node} shows HTTPS clients a certificate of {}", whose(http)))
            }
            _ => None,
        }
    };
    nodes.iter().filter(is_asked).filter_map(lacks).collect()
}

fn whose(shown: &ShownCertificate) -> String {
    match &shown.authority {
        Some(authority) => format!("the authority {}", short(authority)),
        None => "an authority that it does not trust itself".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ShownAuthority;

    fn shown(
        node: &str,
        trusts: &[&str],
        of: Option<&str>,
        http: Option<&str>,
    ) -> ShownCertificates {
        let certificate = |authority: Option<&str>| ShownCertificate {
            fingerprint: "f".into(),
            not_before: String::new(),
            not_after: String::new(),
            authority: authority.map(str::to_owned),
        };
        let authority =
            |it: &&str| ShownAuthority { fingerprint: (*it).to_owned(), not_after: String::new() };
        ShownCertificates {
            node: node.into(),
            certificate: Some(certificate(of)),
            authorities: trusts.iter().map(authority).collect(),
            http: http.map(|of| certificate(Some(of).filter(|of| *of != "public"))),
            unknown: None,
        }
    }

    #[test]
    fn a_step_is_refused_as_long_as_a_node_is_not_ready_and_says_which() {
        let both = &["old", "new"][..];
        let silent = ShownCertificates {
            unknown: Some("it is not connected".into()),
            ..shown("c", &[], None, None)
        };
        let cases = [
            (shown("a", both, Some("old"), None), "", "shows a certificate of the authority old"),
            (shown("a", &["old"], Some("old"), None), "does not trust", "does not trust"),
            (shown("a", both, Some("new"), None), "", ""),
            (shown("a", both, Some("new"), Some("new")), "", ""),
            (shown("a", both, Some("new"), Some("old")), "", "shows HTTPS clients"),
            (shown("a", both, Some("new"), Some("public")), "", ""),
            (shown("a", both, None, None), "", "does not trust itself"),
            (silent, "it is not connected", "it is not connected"),
        ];
        for (node, trust, show) in cases {
            for (need, expected) in [(Need::Trust, trust), (Need::Show, show)] {
                let lacking = lacking(std::slice::from_ref(&node), "new", need, &[]).join("; ");
                assert_eq!(lacking.is_empty(), expected.is_empty(), "{node:?} {need:?}: {lacking}");
                assert!(lacking.contains(expected), "{node:?} {need:?}: {lacking}");
            }
            let name = NodeName::new(&node.node).unwrap();
            assert!(lacking(&[node], "new", Need::Show, &[name]).is_empty());
        }
        assert_eq!(lacking(&[], "new", Need::Trust, &[]).len(), 1);
    }
}
