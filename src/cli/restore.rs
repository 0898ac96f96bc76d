//! `holm restore`: an earlier version again, as the newest one; or, with `--data`, a backup made into
//! a node's stores.

use std::path::{Path, PathBuf};

use clap::Args;

use super::pki::node;
use super::{Failure, Global, Terminal, address};
use crate::backup::restore::{self, Restored, Target};
use crate::env::{SystemClock, WallClock as _};
use crate::model::{Key, NodeName};
use crate::topology::Topology;

/// Arguments of `holm restore`.
#[derive(Args, Debug)]
#[command(override_usage = "holm restore [OPTIONS] <SERVICE/ENVIRONMENT> <KEY> <VERSION>\n       \
                      holm restore [OPTIONS] --data <DIR> --topology <FILE> --node <NAME> <FILE>")]
#[command(after_help = "\
History only grows: the earlier value is written again under a new version.

With --data, a backup (`holm backup`) is made into the stores of a node that does not run, in a
directory that is empty. All of it is checked first. The node goes on as one whose disk was put back
does: it makes its changes under a new origin, gets from its peers what it has missed, and comes back
to the quorum under a new id, as a learner; where it voted, that one takes its vote's place.

With --new-cluster it is the first node of the cluster begun again, and decides alone. Nothing of the
old cluster may run any more or come back with what it had; the other nodes start empty, after this
one, and join.

Examples:
  holm restore web/dev server.port 3
  holm restore web/dev server.port 7@ORIGIN --message 'as it was'
  holm restore holm.bak --data /var/lib/holm --topology t.toml --node eu-west-1
  holm restore holm.bak --data /var/lib/holm --topology t.toml --node eu-west-1 --new-cluster")]
pub struct Restore {
    /// Which keys, for example web/dev; with --data, the backup.
    #[arg(value_name = "SERVICE/ENVIRONMENT|FILE")]
    what: String,
    /// The key.
    #[arg(value_parser = address::key, required_unless_present = "data", conflicts_with = "data")]
    key: Option<Key>,
    /// The version, as `holm history` shows it.
    #[arg(value_parser = address::version, value_name = "VERSION")]
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    which: Option<String>,
    /// Why: kept in the history.
    #[arg(long, value_name = "TEXT", conflicts_with = "data")]
    message: Option<String>,
    /// Make a backup into stores here: a directory that is empty, or none yet.
    #[arg(long, value_name = "DIR", requires = "topology", requires = "node")]
    #[arg(help_heading = "Of a backup")]
    data: Option<PathBuf>,
    /// The deployment that the node belongs to.
    #[arg(long, env = "HOLM_TOPOLOGY", hide_env_values = true, value_name = "FILE")]
    #[arg(help_heading = "Of a backup")]
    topology: Option<PathBuf>,
    /// Which of its nodes is to run on it.
    #[arg(long, env = "HOLM_NODE", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = node, help_heading = "Of a backup")]
    node: Option<NodeName>,
    /// Begin the cluster again with it: this node decides alone until others are added.
    #[arg(long, requires = "data", help_heading = "Of a backup")]
    new_cluster: bool,
}

impl Restore {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match (self.data, self.topology, self.node, self.key, self.which) {
            (Some(data), Some(topology), Some(node), ..) => {
                let file = Path::new(&self.what);
                of_backup(file, &data, (&topology, node), self.new_cluster, global, terminal)
            }
            (None, _, _, Some(key), Some(which)) => {
                let document = address::document(&self.what).map_err(Failure::usage)?;
                let client = global.client()?;
                let message = self.message.as_deref();
                let item = client.restore(&document, &key, &which, message).await?;
                if global.json() {
                    return terminal.say_json(&item);
                }
                terminal.say(format!(
                    "{document}/{} is as it was in version {which}, now version {}",
                    item.key, item.version
                ))
            }
            _ => Err(Failure::usage("a key and a version are to be named, or --data DIR")),
        }
    }
}

fn of_backup(
    file: &Path,
    data: &Path,
    (topology, node): (&Path, NodeName),
    new_cluster: bool,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let topology = Topology::load(topology).map_err(|e| Failure::usage(e.to_string()))?;
    let region = topology
        .region_of(&node)
        .cloned()
        .ok_or_else(|| Failure::usage(format!("the topology has no node {node}")))?;
    if topology.nodes().len() == 1 && !new_cluster {
        return Err(Failure::usage(format!(
            "{node} is the only node of the topology: nobody is there to let it in again"
        ))
        .hint("say --new-cluster: it decides alone from there on, as it did"));
    }
    let target = Target { cluster: topology.cluster.clone(), node, region, new_cluster };
    let restored = restore::restore(file, data, &target, SystemClock.now(), &mut |done, total| {
        // Who does not see it needs no progress.
        let _ = terminal.bar((done, total), "rows");
    });
    terminal.progress_ends()?;
    tell(&restored?, data, &target, global, terminal)
}

fn tell(
    restored: &Restored,
    data: &Path,
    target: &Target,
    global: &Global,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let Restored { manifest, recovered, reports } = restored;
    let kept_until = recovered.as_ref().map(|it| it.kept_until);
    if global.json() {
        return terminal.say_json(&serde_json::json!({
            "data": data.display().to_string(),
            "cluster": target.cluster,
            "node": target.node.as_str(),
            "new_cluster": target.new_cluster,
            "taken_of": manifest.node,
            "taken_at": manifest.at.to_string(),
            "rows": manifest.rows(),
            "quorum_kept_until": kept_until,
            "audit": reports,
        }));
    }
    terminal.say(format!(
        "{}: {} is as {} was at {}",
        data.display(),
        target.node,
        manifest.node,
        manifest.at
    ))?;
    let keys: Vec<String> = manifest.generations.iter().map(|it| it.number.to_string()).collect();
    if !keys.is_empty() {
        terminal
            .note(format!("its secrets need the master key's generation {}", keys.join(", ")))?;
    }
    match kept_until {
        Some(index) => terminal.note(format!(
            "the cluster begins again with what was decided up to {index}: start {} first, then the \
             others, empty; `holm quorum add` those that are to vote",
            target.node
        )),
        None => terminal.note(format!(
            "start {}: it gets from its peers what it has missed, and comes back to the quorum under \
             a new id",
            target.node
        )),
    }
}
