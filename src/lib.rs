//! Holm: configuration and secrets for services that run in many regions. Every region is an island that
//! answers reads and takes writes alone; the islands tell each other what changed, and converge.

#[cfg(not(tokio_unstable))]
compile_error!(
    "Holm needs `--cfg tokio_unstable` (.cargo/config.toml): without it a simulation silently loses its seed"
);

pub mod access;
pub mod agent;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod client;
pub mod config;
pub mod env;
pub mod gossip;
pub mod http;
pub mod members;
pub mod model;
pub mod node;
pub(crate) mod planted;
pub mod quorum;
pub mod registry;
pub mod secrets;
pub mod server;
pub mod settings;
pub mod simulation;
pub mod storage;
pub mod telemetry;
pub mod topology;
pub mod transport;
