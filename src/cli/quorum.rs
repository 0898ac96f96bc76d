//! `holm quorum`: who decides on secrets and rules, who leads, and changing that; and the way out where
//! a majority is lost for good, on the store of a node that does not run.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::list::print;
use super::pki::node;
use super::{Failure, Global, Terminal};
use crate::client::QuorumMembers;
use crate::env::{Disk, Entropy, FileDisk, SystemClock, WallClock as _};
use crate::model::NodeName;
use crate::quorum::store::StoreSettings;
use crate::quorum::store::recover::{self, Recovered};
use crate::topology::Topology;

/// Arguments of `holm quorum`.
#[derive(Args, Debug)]
#[command(after_help = "\
Secrets, accounts and roles are decided by a majority of the voters. A change of the voters is itself
decided by them, one at a time, and refused where those that answer would be no majority after it.

Examples:
  holm quorum status
  holm quorum add ap-south-1          a learner votes from now on
  holm quorum remove eu-west-1        a voter goes on as a learner; a node that the topology does not
                                      have any more is forgotten
  holm quorum transfer us-east-1      another voter leads

Where a majority of the voters is lost for good (not merely cut off):
  1. Stop every node that is left, and choose the one whose store reaches furthest
     (`holm quorum status --output json` said `last_log`).
  2. holm quorum recover --topology t.toml --node eu-west-1 --data /var/lib/holm
  3. On every other node, move quorum.redb and quorum.mark away. What they had must never come back.
  4. Start the recovered node, then the others: they join as learners. `holm quorum add` those that
     are to vote.")]
pub struct Quorum {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show who votes, who leads, and how far each has come.
    #[command(after_help = "Examples:\n  holm quorum status")]
    Status,
    /// Let a learner vote.
    #[command(after_help = "Examples:\n  holm quorum add ap-south-1")]
    Add {
        /// Which node.
        #[arg(value_parser = node)]
        node: NodeName,
    },
    /// Take a voter's vote; forget a node that the topology does not have any more.
    #[command(after_help = "Examples:\n  holm quorum remove eu-west-1")]
    Remove {
        /// Which node.
        #[arg(value_parser = node)]
        node: NodeName,
    },
    /// Let another voter lead.
    #[command(after_help = "Examples:\n  holm quorum transfer us-east-1")]
    Transfer {
        /// Which node.
        #[arg(value_parser = node)]
        node: NodeName,
    },
    /// Make the store of a node that does not run the only voter. What only the lost stores had is
    /// gone; what this one had is taken for decided.
    #[command(
        after_help = "Examples:\n  holm quorum recover --topology t.toml --node eu-west-1 --data /var/lib/holm"
    )]
    Recover(Recover),
}

#[derive(Args, Debug)]
struct Recover {
    /// The deployment.
    #[arg(long, env = "HOLM_TOPOLOGY", hide_env_values = true, value_name = "FILE")]
    topology: PathBuf,
    /// Whose store it is.
    #[arg(long, env = "HOLM_NODE", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = node)]
    node: NodeName,
    /// Where the store lies.
    #[arg(long, env = "HOLM_DATA", hide_env_values = true, value_name = "DIR")]
    data: PathBuf,
    /// Do it. Without this, nothing is done but to say what it means.
    #[arg(long)]
    yes: bool,
}

impl Quorum {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let (what, node) = match self.action {
            Action::Status => {
                let members = global.client()?.quorum().await?;
                return show(&members, global, terminal);
            }
            Action::Recover(recover) => return recover.run(global, terminal),
            Action::Add { node } => ("add", node),
            Action::Remove { node } => ("remove", node),
            Action::Transfer { node } => ("transfer", node),
        };
        let members = global.client()?.change_quorum(what, &node).await?;
        show(&members, global, terminal)
    }
}

fn show(
    members: &QuorumMembers,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if global.json() {
        return terminal.say_json(members);
    }
    let leader = members.leader.as_deref().unwrap_or("nobody");
    terminal.say(format!(
        "term {}: {leader} leads; the node asked is {}, has applied {} of {} entries, and heard of \
         the leader {} ms ago",
        members.term, members.role, members.applied, members.last_log, members.contact_age_ms
    ))?;
    terminal.say("")?;
    let rows: Vec<Vec<String>> = members
        .members
        .iter()
        .map(|member| {
            let kind = if member.voter { "voter" } else { "learner" };
            let reaches = member.matched.map_or("-".to_owned(), |index| index.to_string());
            let leads = if members.leader.as_ref() == Some(&member.node) { "leads" } else { "" };
            vec![
                member.region.clone(),
                member.node.clone(),
                kind.to_owned(),
                reaches,
                member.id.to_string(),
                leads.to_owned(),
            ]
        })
        .collect();
    print(&["REGION", "NODE", "KIND", "REACHES", "ID", ""], &rows, terminal)
}

impl Recover {
    fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let topology = Topology::load(&self.topology).map_err(|e| Failure::usage(e.to_string()))?;
        let region = topology.region_of(&self.node).cloned().ok_or_else(|| {
            Failure::usage(format!("{}: there is no node {}", self.topology.display(), self.node))
        })?;
        if !self.data.is_dir() {
            return Err(Failure::usage("there is no such directory").about(self.data.display()));
        }
        if !self.yes {
            return Err(Failure::usage(format!(
                "{} would decide alone from now on. What only the other voters had is lost, and \
                 their stores must never come back",
                self.node
            ))
            .hint("say --yes if a majority is lost for good; `holm quorum --help` has the steps"));
        }
        let failed = |e: &dyn std::fmt::Display| {
            Failure::failed(e.to_string()).about(self.data.display()).hint("the node must not run")
        };
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&self.data).map_err(|e| failed(&e))?);
        let mut entropy = Entropy::system().stream("quorum-recover");
        let whose = StoreSettings {
            cluster: topology.cluster.clone(),
            node: self.node.clone(),
            alone: true,
        };
        let recovered = recover::recover(&disk, &mut entropy, &whose, region, SystemClock.now())
            .map_err(|e| failed(&e))?;
        tell(&self.node, &recovered, global, terminal)
    }
}

fn tell(
    node: &NodeName,
    recovered: &Recovered,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let mut others: Vec<&str> = recovered
        .replaced
        .values()
        .filter(|member| member.node != *node)
        .map(|member| member.node.as_str())
        .collect();
    others.sort_unstable();
    if global.json() {
        return terminal.say_json(&serde_json::json!({
            "id": recovered.raft_id,
            "old_id": recovered.old_raft_id,
            "kept_until": recovered.kept_until,
            "known_decided_until": recovered.known_decided_until,
            "replaced": others,
            "doubt": recovered.doubt.map(|doubt| doubt.to_string()),
            "audit_damage": recovered.audit_damage,
        }));
    }
    terminal.say(format!(
        "{node} decides alone from now on, as member {} (it was {})",
        recovered.raft_id, recovered.old_raft_id
    ))?;
    terminal.say(format!(
        "kept: the log up to index {}; up to {} it was known to be decided",
        recovered.kept_until, recovered.known_decided_until
    ))?;
    if let Some(doubt) = &recovered.doubt {
        terminal.note(format!("the store may be an old copy ({doubt}): more may be missing"))?;
    }
    if let Some(damage) = &recovered.audit_damage {
        terminal.note(format!("records of the audit log are lost: {damage}"))?;
    }
    if others.is_empty() {
        return Ok(());
    }
    terminal.note(format!(
        "before {} start again, move their quorum.redb and quorum.mark away",
        others.join(", ")
    ))
}
