//! `holm pki`: the authority and the certificates with which nodes know each other.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, Terminal};
use crate::env::{Entropy, SystemClock};
use crate::model::NodeName;
use crate::transport::{Authority, PkiError};

/// Arguments of `holm pki`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm pki init --dir pki                     makes pki/ca.pem and pki/ca.key
  holm pki issue --dir pki --node eu-west-1   makes pki/eu-west-1.pem and pki/eu-west-1.key

Whoever has ca.key can add nodes to the cluster: keep it off the nodes. A node needs ca.pem and
its own two files.")]
pub struct Pki {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a certificate authority.
    Init {
        /// Where to put it.
        #[arg(long, value_name = "DIR", default_value = "pki")]
        dir: PathBuf,
    },
    /// Make a node's certificate and key.
    Issue {
        /// Where the authority is.
        #[arg(long, value_name = "DIR", default_value = "pki")]
        dir: PathBuf,
        /// The node, as the topology names it.
        #[arg(long, value_name = "NAME", value_parser = node)]
        node: NodeName,
        /// Where to put the certificate and the key; beside the authority where not given.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

pub(super) fn node(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|e| e.to_string())
}

impl Pki {
    pub(crate) fn run(self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let entropy = Entropy::system();
        match self.action {
            Action::Init { dir } => {
                make_dir(&dir)?;
                let authority = Authority::create(&entropy, &SystemClock).map_err(failure)?;
                authority.save(&dir).map_err(failure)?;
                let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
                terminal.say(format!("{}\n{}", certificate.display(), key.display()))
            }
            Action::Issue { dir, node, out } => {
                let out = out.unwrap_or_else(|| dir.clone());
                make_dir(&out)?;
                let authority = Authority::load(&dir)
                    .map_err(|error| failure(error).hint("`holm pki init` makes an authority"))?;
                let identity = authority.issue(&node, &entropy, &SystemClock).map_err(failure)?;
                identity.save(&out, node.as_str()).map_err(failure)?;
                let path = |kind| out.join(format!("{node}.{kind}"));
                terminal.say(format!("{}\n{}", path("pem").display(), path("key").display()))
            }
        }
    }
}

fn failure(error: PkiError) -> Failure {
    Failure::failed(error.to_string())
}

pub(super) fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|e| Failure::failed(e.to_string()).about(dir.display()))
}
