//! `holm doctor`: looks at everything that one node stands on, whether it runs or not, and says what
//! is wrong and what to do about it. It changes nothing.

use std::path::PathBuf;

use clap::Args;

use super::list::print;
use super::node_files::NodeFiles;
use super::pki::node;
use super::{Failure, Global, Terminal};
use crate::model::NodeName;
use crate::settings::Settings;
use crate::topology::Topology;

mod certificates;
mod files;
mod network;
mod report;
mod stores;

use report::{Report, State};

/// Arguments of `holm doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
Checks the topology and the settings, files and their permissions, room on the disk, certificates,
the stores and their audit chains, master keys, DNS, ports, and clocks. A node that runs is asked for
what its stores and clocks are like, which takes a token (cluster:read, audit:read).

Each line is ok, warn or fail. Exit code 1 where anything fails.

Examples:
  holm doctor --topology t.toml --settings holm.toml --pki pki --data /var/lib/holm --node eu-west-1
  holm doctor --topology t.toml --data /var/lib/holm --node eu-west-1 --output json")]
pub struct Doctor {
    /// The deployment.
    #[arg(long, env = "HOLM_TOPOLOGY", hide_env_values = true, value_name = "FILE")]
    topology: PathBuf,
    /// Which of its nodes this is.
    #[arg(long, env = "HOLM_NODE", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = node)]
    node: NodeName,
    #[command(flatten)]
    files: NodeFiles,
}

impl Doctor {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let mut report = Report::default();
        let settings = self.read_settings(&mut report);
        let topology = self.read_topology(&mut report);
        let data = self.files.data.clone().or_else(|| settings.data_dir.clone());
        certificates::check(&self.files.pki, &self.node, &mut report);
        let is_running = match &topology {
            Some(topology) => {
                let limit = settings.gossip.max_clock_skew;
                network::check(topology, &self.node, limit, global, &mut report).await
            }
            None => false,
        };
        match &data {
            Some(data) => files::check(data, &mut report),
            None => report.warn("files", "data", "where the stores lie is not said", "give --data"),
        }
        match (&topology, &data) {
            (Some(topology), _) if is_running => {
                let client = network::client(topology, &self.node, global);
                stores::ask(client, &mut report).await;
            }
            (Some(topology), Some(data)) => {
                let whose = (topology.cluster.as_str(), self.node.as_str());
                stores::open(data, whose, &settings.secrets, &mut report);
            }
            _ => {}
        }
        self.tell(&report, global, terminal)
    }

    fn read_settings(&self, report: &mut Report) -> Settings {
        let Some(path) = &self.files.settings else {
            report.warn("settings", "file", "not given", "give --settings, as to holm serve");
            return Settings::default();
        };
        let what = path.display();
        let read = std::fs::read_to_string(path).map_err(|e| e.to_string());
        let read = read.and_then(|text| Settings::from_toml(&text).map_err(|e| e.to_string()));
        let mut settings = match read {
            Ok(settings) => settings,
            Err(why) => {
                report.fail("settings", what, why, "holm serve does not start with these");
                return Settings::default();
            }
        };
        report.ok("settings", what, "every setting is known");
        for key in &settings.access.keys {
            for file in [&key.pem_file, &key.jwks_file, &key.jwks_ca_file].into_iter().flatten() {
                if let Err(error) = std::fs::metadata(file) {
                    let advice = "the settings name it; paths begin where holm serve is started";
                    report.fail("settings", file.display(), error, advice);
                }
            }
        }
        match super::keys::source::read(&mut settings.secrets) {
            Ok(()) => {
                let count = settings.secrets.master_keys.len();
                report.ok("keys", "master keys", format!("{count} can be read"));
            }
            Err(error) => {
                let advice = "`holm keys generate` makes one; every node needs the same";
                report.fail("keys", "master keys", error, advice);
            }
        }
        settings
    }

    fn read_topology(&self, report: &mut Report) -> Option<Topology> {
        let what = self.topology.display();
        match Topology::load(&self.topology) {
            Err(error) => {
                report.fail("topology", what, error, "`holm topology check` says more");
                None
            }
            Ok(topology) if topology.node(&self.node).is_none() => {
                let why = format!("it has no node {}", self.node);
                report.fail("topology", what, why, "is it the right file, and the right name?");
                None
            }
            Ok(topology) => {
                let (nodes, regions) = (topology.nodes().len(), topology.regions().len());
                let says = format!("{nodes} nodes in {regions} regions of {}", topology.cluster);
                report.ok("topology", what, says);
                Some(topology)
            }
        }
    }

    fn tell(
        &self,
        report: &Report,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let failed = report.count(State::Fail);
        if global.json() {
            terminal.say_json(&serde_json::json!({
                "node": self.node.as_str(),
                "ok": failed == 0,
                "findings": report.findings(),
            }))?;
        } else {
            let rows: Vec<Vec<String>> =
                report.findings().iter().map(report::Finding::row).collect();
            print(&["STATE", "CHECK", "OF", "FOUND"], &rows, terminal)?;
            terminal.say("")?;
            let advised = report.findings().iter().filter(|it| !it.advice.is_empty());
            for finding in advised {
                terminal.say(format!("{} {}: {}", finding.check, finding.of, finding.advice))?;
            }
        }
        match failed {
            0 => Ok(()),
            1 => Err(Failure::failed("one check fails")),
            n => Err(Failure::failed(format!("{n} checks fail"))),
        }
    }
}
