//! Everything that takes more than one room: clusters, processes, the command line.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run on the real machine"
)]

#[path = "integration/agent.rs"]
mod agent;
#[path = "integration/agent_secrets.rs"]
mod agent_secrets;
#[path = "integration/backup.rs"]
mod backup;
#[path = "integration/canary.rs"]
mod canary;
#[path = "integration/catch_up.rs"]
mod catch_up;
#[path = "integration/cli_docs.rs"]
mod cli_docs;
#[path = "integration/cli_help.rs"]
mod cli_help;
#[path = "integration/cli_process.rs"]
mod cli_process;
#[path = "integration/clients.rs"]
mod clients;
#[path = "integration/cluster.rs"]
mod cluster;
#[path = "integration/converge.rs"]
mod converge;
#[path = "integration/deploy.rs"]
mod deploy;
#[path = "integration/dev.rs"]
mod dev;
#[path = "integration/discovery.rs"]
mod discovery;
#[path = "integration/drill.rs"]
mod drill;
#[path = "integration/drill_command.rs"]
mod drill_command;
#[path = "integration/exec.rs"]
mod exec;
#[path = "integration/full_disk.rs"]
mod full_disk;
#[path = "../src/client/gate.rs"]
#[allow(dead_code, reason = "the client's own tests and benchmarks need more of it")]
mod gate;
#[path = "integration/h2.rs"]
mod h2;
#[path = "integration/history.rs"]
mod history;
#[path = "integration/laws.rs"]
mod laws;
#[path = "integration/linear.rs"]
mod linear;
#[path = "integration/logs.rs"]
mod logs;
#[path = "integration/members.rs"]
mod members;
#[path = "integration/moved.rs"]
mod moved;
#[path = "integration/nearest.rs"]
mod nearest;
#[path = "integration/observe.rs"]
mod observe;
#[path = "integration/oidc.rs"]
mod oidc;
#[path = "integration/overload.rs"]
mod overload;
#[path = "integration/petclinic.rs"]
mod petclinic;
#[path = "integration/process.rs"]
mod process;
#[path = "integration/prometheus.rs"]
mod prometheus;
#[path = "integration/quorum.rs"]
mod quorum;
#[path = "integration/readme.rs"]
mod readme;
#[path = "integration/recover.rs"]
mod recover;
#[path = "integration/recovery.rs"]
mod recovery;
#[path = "integration/tls.rs"]
mod tls;
#[path = "integration/topology.rs"]
mod topology;
#[path = "integration/traces.rs"]
mod traces;
#[path = "integration/upgrade.rs"]
mod upgrade;
