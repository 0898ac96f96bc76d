//! Why a drill does not start, or a step of it failed.

use std::io;
use std::path::PathBuf;

use crate::access::mint::MintError;
use crate::model::NodeName;
use crate::transport::PkiError;

/// Why a drill does not start, or a step of it failed.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// Something is not there that a drill needs. Nothing was started.
    #[error("{what}: {how}")]
    Needs {
        /// What is missing.
        what: String,
        /// What to do about it.
        how: String,
    },
    /// `ip` refused.
    #[error("{command}: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// A TUN device can't be made.
    #[error("the device {name}: {source}")]
    Device {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate can't be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A token can't be signed.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The scenario's settings are none.
    #[error("the settings: {0}")]
    Settings(String),
    /// A node did not do what it had to.
    #[error("{node}: {why}")]
    Node {
        /// Which.
        node: NodeName,
        /// What happened.
        why: String,
    },
    /// The nodes did not get as far as to be ready for a run.
    #[error("the cluster could not be prepared: {0}")]
    Preparation(String),
    /// The emulated network failed: the run shows nothing.
    #[error("the network between the nodes: {0}")]
    Network(String),
    /// A drill can't do that fault ([`super::unsupported`]).
    #[error("a drill can't do this: {0}")]
    Unsupported(String),
    /// The topology has no such node or region.
    #[error("there is no {0} in the topology")]
    Unknown(String),
}
