//! `holm pki`: the authority and the certificates with which nodes know each other.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, Global, Terminal};
use crate::env::{Entropy, SystemClock};
use crate::model::NodeName;
use crate::transport::certificate::Date;
use crate::transport::{Authority, Facts, PkiError, pem};

mod rotate;
mod status;

/// What the authority's own files are called, also while it is replaced.
const AUTHORITY_FILES: [&str; 3] = ["ca", "ca-next", "ca-old"];

/// Arguments of `holm pki`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm pki init                                       ca.pem and ca.key in ./pki
  holm pki issue --node eu-west-1                     eu-west-1.pem and eu-west-1.key beside them
  holm pki issue --node eu-west-1 --name holm.example.com --name 10.0.0.5
                                                      the same, fit for HTTPS under these names
  holm pki issue --client ci                          for a client, where nodes ask for certificates
  holm pki renew --node eu-west-1                     again, with a new key, under the same names
  holm pki status                                     what every node shows and trusts
  holm pki rotate-ca --help                           another authority, while the cluster runs

Whoever has ca.key can add nodes to the cluster: keep it off the nodes. A node needs ca.pem and
its own two files; it takes new ones without a restart.")]
pub struct Pki {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a certificate authority.
    #[command(after_help = "Examples:\n  holm pki init --dir pki")]
    Init {
        /// Where to put it.
        #[arg(long, value_name = "DIR", default_value = "pki")]
        dir: PathBuf,
    },
    /// Make a certificate and key, for a node or for a client.
    #[command(after_help = "Examples:\n  holm pki issue --node eu-west-1 --name holm.example.com")]
    Issue {
        #[command(flatten)]
        whom: Whom,
        /// A host name or address that the node's certificate is for, too: for HTTPS. Can be given
        /// several times.
        #[arg(long, value_name = "HOST", conflicts_with = "client")]
        name: Vec<String>,
    },
    /// Make a certificate and key anew, for the same names, in place of the old ones.
    #[command(after_help = "Examples:\n  holm pki renew --node eu-west-1")]
    Renew {
        #[command(flatten)]
        whom: Whom,
        /// A host name or address that the certificate is for from now on, too. Can be given several
        /// times.
        #[arg(long, value_name = "HOST", conflicts_with = "client")]
        name: Vec<String>,
    },
    /// Show what certificates say.
    #[command(after_help = "Examples:\n  holm pki show pki/ca.pem pki/eu-west-1.pem")]
    Show {
        /// Files in PEM.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Show which certificates the nodes of a running cluster show, and which authorities they trust.
    #[command(
        after_help = "Examples:\n  holm pki status --url https://127.0.0.1:8101 --ca pki/ca.pem"
    )]
    Status,
    /// Replace the authority while the cluster runs.
    RotateCa(rotate::RotateCa),
}

/// For whom, and where.
#[derive(Args, Debug)]
struct Whom {
    /// Where the authority is.
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// The node, as the topology names it.
    #[arg(long, value_name = "NAME", value_parser = node, required_unless_present = "client")]
    node: Option<NodeName>,
    /// A client of the API, under a name of its own.
    #[arg(long, value_name = "NAME", value_parser = node, conflicts_with = "node")]
    client: Option<NodeName>,
    /// Where the certificate and the key are; beside the authority where not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Whom {
    fn name(&self) -> Result<&NodeName, Failure> {
        let name = self.node.as_ref().or(self.client.as_ref());
        let name = name.ok_or_else(|| Failure::usage("give --node NAME or --client NAME"))?;
        if AUTHORITY_FILES.contains(&name.as_str()) {
            return Err(Failure::usage(format!(
                "{name}.pem and {name}.key are the authority's files"
            )));
        }
        Ok(name)
    }

    fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(&self.dir)
    }

    fn authority(&self) -> Result<Authority, Failure> {
        let hint = "`holm pki init` makes an authority";
        Authority::load(&self.dir).map_err(|error| failure(error).hint(hint))
    }

    fn say(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let (out, name) = (self.out(), self.name()?);
        let path = |kind| out.join(format!("{name}.{kind}"));
        terminal.say(format!("{}\n{}", path("pem").display(), path("key").display()))
    }
}

pub(super) fn node(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|e| e.to_string())
}

impl Pki {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        match self.action {
            Action::Init { dir } => {
                make_dir(&dir)?;
                let authority =
                    Authority::create(&Entropy::system(), &SystemClock).map_err(failure)?;
                authority.save(&dir).map_err(failure)?;
                let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
                terminal.say(format!("{}\n{}", certificate.display(), key.display()))
            }
            Action::Issue { whom, name } => issue(&whom, &name, terminal),
            Action::Renew { whom, name } => renew(&whom, &name, terminal),
            Action::Show { files } => files.iter().try_for_each(|file| show(file, terminal)),
            Action::Status => status::run(global, terminal).await,
            Action::RotateCa(rotate) => rotate.run(global, terminal).await,
        }
    }
}

fn issue(whom: &Whom, names: &[String], terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let name = whom.name()?;
    let (authority, entropy) = (whom.authority()?, Entropy::system());
    make_dir(whom.out())?;
    let identity = if whom.client.is_some() {
        authority.issue_client(name.as_str(), &entropy, &SystemClock)
    } else {
        authority.issue_for(name, names, &entropy, &SystemClock)
    };
    identity.map_err(failure)?.save(whom.out(), name.as_str()).map_err(failure)?;
    whom.say(terminal)
}

fn renew(whom: &Whom, names: &[String], terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (authority, name) = (whom.authority()?, whom.name()?);
    let old = whom.out().join(format!("{name}.pem"));
    let renewed =
        authority.renew(&old, names, &Entropy::system(), &SystemClock).map_err(|error| {
            failure(error).hint("`holm pki issue` makes a certificate where there is none")
        })?;
    renewed.replace(whom.out(), name.as_str()).map_err(failure)?;
    whom.say(terminal)
}

fn show(file: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    for certificate in pem::read_certificates(file).map_err(failure)? {
        let facts =
            Facts::of(&certificate).map_err(|why| Failure::failed(why).about(file.display()))?;
        terminal.say(format!(
            "{}: {}\n  names:       {}\n  valid:       {} to {}\n  fingerprint: {}",
            file.display(),
            facts.subject,
            if facts.names.is_empty() { "none".to_owned() } else { facts.names.join(", ") },
            Date(facts.not_before),
            Date(facts.not_after),
            facts.fingerprint,
        ))?;
    }
    Ok(())
}

fn failure(error: PkiError) -> Failure {
    Failure::failed(error.to_string())
}

pub(super) fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|e| Failure::failed(e.to_string()).about(dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_the_names_of_the_authoritys_files() {
        let whom = |name: &str| Whom {
            dir: PathBuf::from("pki"),
            node: Some(NodeName::new(name).unwrap()),
            client: None,
            out: None,
        };
        for name in ["ca", "ca-next", "ca-old"] {
            assert!(whom(name).name().is_err(), "{name}");
        }
        assert_eq!(whom("ca-1").name().unwrap().as_str(), "ca-1");
    }
}
