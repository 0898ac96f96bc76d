//! The stores: opened for reading where the node does not run, and asked for where it does. Their
//! formats, whose they are, their audit chains, and whether every master key that they need is held.

use std::path::Path;

use super::report::Report;
use crate::audit::ChainReader;
use crate::audit::verify::{self, verify};
use crate::cli::Failure;
use crate::client::{Client, ClientError};
use crate::quorum::STORE_FORMAT;
use crate::quorum::store::{QuorumChain, copy as quorum};
use crate::registry::command::Generation;
use crate::secrets::Keyring;
use crate::settings::SecretSettings;
use crate::storage::log::{self, LogFacts};
use crate::storage::{ConfigChain, copy as config, meta};

const ASK: &str = "give a token with cluster:read and audit:read (--token-file)";

/// Of a node that does not run.
pub(super) fn open(
    data: &Path,
    (cluster, node): (&str, &str),
    secrets: &SecretSettings,
    report: &mut Report,
) {
    let files = ["config.redb", "quorum.redb"];
    if files.iter().all(|file| !data.join(file).exists()) {
        return report.warn("stores", data.display(), "there are none yet", "");
    }
    let advice = "is it open in another process? After a crash, start and stop the node once";
    match ConfigChain::open(data) {
        Err(error) => report.fail("stores", files[0], error, advice),
        Ok(chain) => {
            let facts = chain.begin_read().and_then(|tx| config::facts(&tx));
            match facts {
                Err(error) => report.fail("stores", files[0], error, DAMAGED),
                Ok(None) => report.warn("stores", files[0], "it was never used", ""),
                Ok(Some(it)) => {
                    let found = (it.format, it.cluster.as_str(), it.node.as_str());
                    check_whose(files[0], found, (meta::FORMAT, cluster, node), report);
                }
            }
            check_log(&chain, report);
            check_chain("config", &chain, report);
        }
    }
    match QuorumChain::open(data) {
        Err(error) => report.fail("stores", files[1], error, advice),
        Ok(chain) => {
            let facts = chain.begin_read().and_then(|tx| quorum::facts(&tx));
            match facts {
                Err(error) => report.fail("stores", files[1], error, DAMAGED),
                Ok(None) => report.warn("stores", files[1], "it was never used", ""),
                Ok(Some(it)) => {
                    let found = (it.format, it.cluster.as_str(), it.node.as_str());
                    check_whose(files[1], found, (STORE_FORMAT, cluster, node), report);
                    check_keys(&it.generations, secrets, report);
                }
            }
            check_chain("quorum", &chain, report);
        }
    }
}

const DAMAGED: &str = "with peers: start the node, which sets it aside and is filled again; without: \
                       holm restore";

fn check_whose(
    file: &str,
    found: (u32, &str, &str),
    expected: (u32, &str, &str),
    report: &mut Report,
) {
    let ((format, cluster, node), (known, own_cluster, own_node)) = (found, expected);
    if format > known {
        let says = format!("format {format}; this program knows formats up to {known}");
        report.fail("stores", file, says, "use the version of the program that wrote it");
    } else if (cluster, node) != (own_cluster, own_node) {
        let advice = "is it the right directory, topology and name?";
        report.fail("stores", file, format!("it is of {node} in {cluster}"), advice);
    } else {
        report.ok("stores", file, format!("format {format}, of {node} in {cluster}"));
    }
}

fn check_log(chain: &ConfigChain, report: &mut Report) {
    match chain.begin_read().and_then(|tx| log::facts(&tx)) {
        Err(error) => report.fail("stores", "log", error, DAMAGED),
        Ok(LogFacts { missing: Some(dot), .. }) => {
            report.fail("stores", "log", format!("change {dot} is missing"), DAMAGED);
        }
        Ok(LogFacts { records, changes, .. }) => {
            let gone = changes.saturating_sub(records);
            let says =
                format!("{records} records; {gone} of {changes} changes were trimmed from it");
            report.ok("stores", "log", says);
        }
    }
}

fn check_chain(store: &str, chain: &dyn ChainReader, report: &mut Report) {
    match verify(store, chain, &[]) {
        Err(error) => report.fail("audit", store, error, DAMAGED),
        Ok(verified) => tell_chain(&verified, report),
    }
}

fn tell_chain(verified: &verify::Report, report: &mut Report) {
    let verify::Report { store, records, findings, .. } = verified;
    if findings.is_empty() {
        report.ok("audit", store, format!("{records} records, whole"));
    }
    for finding in findings {
        let advice = "an old copy was put back, or somebody changed it: keep it, and ask why";
        report.fail("audit", store, finding, advice);
    }
}

fn check_keys(used: &[(u32, [u8; 32])], secrets: &SecretSettings, report: &mut Report) {
    let keys = secrets.master_keys.iter().filter_map(|key| {
        let text = key.text.as_ref()?;
        Some((key.generation, text.expose()))
    });
    let ring = match Keyring::new(keys) {
        Ok(ring) => ring,
        Err(error) => return report.fail("keys", "master keys", error, "see [secrets]"),
    };
    for (number, check) in used {
        let of = format!("generation {number}");
        match ring.key(&Generation { number: *number, check: *check }) {
            Ok(_) => report.ok("keys", of, "held, and the right one"),
            Err(error) => {
                report.fail("keys", of, error, "without it secrets that it wraps stay sealed");
            }
        }
    }
}

/// Of a node that runs.
pub(super) async fn ask(client: Result<Client, Failure>, report: &mut Report) {
    let client = match client {
        Ok(client) => client,
        Err(error) => return report.warn("stores", "the node", error, ASK),
    };
    match client.cluster().await {
        Err(error) => refused("the node", &error, report),
        Ok(status) => {
            if status["ready"] == true {
                report.ok("node", "readiness", "ready");
            } else {
                let why = status["waits_for"].as_str().unwrap_or("not ready").to_owned();
                report.fail("node", "readiness", why, "see its log and its peers");
            }
            for (name, advice) in [
                ("forks", "an old copy was put back, or a machine cloned: see RECOVERY.md"),
                ("quarantined", "a peer sends what is not good: see the log"),
            ] {
                let found = status["store"][name].as_u64().unwrap_or(0);
                if found > 0 {
                    report.warn("node", name, found, advice);
                }
            }
        }
    }
    match client.quorum().await {
        Err(error) => refused("the quorum", &error, report),
        Ok(quorum) => match quorum.leader {
            Some(leader) => {
                report.ok("quorum", "leader", format!("{leader}; this node is {}", quorum.role));
            }
            None => report.fail("quorum", "leader", "none is known", "is a majority reachable?"),
        },
    }
    match client.master_keys().await {
        Err(error) => refused("master keys", &error, report),
        Ok(keys) => {
            for key in keys.generations {
                let of = format!("generation {}", key.generation);
                if key.held == "yes" {
                    report.ok("keys", of, "held, and the right one");
                } else {
                    let advice = "without it secrets that it wraps stay sealed";
                    report.fail("keys", of, format!("held: {}", key.held), advice);
                }
            }
        }
    }
    match client.audit_verify().await {
        Err(error) => refused("the audit log", &error, report),
        Ok(answer) => answer.stores.iter().for_each(|store| tell_chain(store, report)),
    }
}

fn refused(of: &str, error: &ClientError, report: &mut Report) {
    let is_ours = error.refusal().is_some_and(|it| matches!(it.status, 401 | 403));
    if is_ours {
        report.warn("stores", of, "the node does not tell us", ASK);
    } else {
        report.fail("stores", of, error, "see the node's log");
    }
}
