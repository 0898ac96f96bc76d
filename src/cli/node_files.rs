//! The files that one node stands on, as arguments: the same for whoever starts it and for whoever
//! looks at it. It reads none of them.

use std::path::PathBuf;

use clap::Args;

/// Where a node's files are.
#[derive(Args, Debug)]
pub(super) struct NodeFiles {
    /// Where ca.pem, NODE.pem and NODE.key are (`holm pki`).
    #[arg(
        long,
        env = "HOLM_PKI",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "pki"
    )]
    pub(super) pki: PathBuf,
    /// Where the stores lie; `holm serve` makes it where it is missing. Default: `data_dir` of the
    /// settings.
    #[arg(long, env = "HOLM_DATA", hide_env_values = true, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Settings in TOML: limits, times, the keys whose tokens are trusted.
    #[arg(long, env = "HOLM_SETTINGS", hide_env_values = true, value_name = "FILE")]
    pub(super) settings: Option<PathBuf>,
}
