//! A new cluster's first entry: whoever leads one that was not founded proposes an administrator
//! and the first keys. The administrator's client secret is written to this node's disk, readable
//! by its owner alone, before anything is proposed, and nowhere else; what did not come to be the
//! administrator's is removed again. It is never logged.

use std::sync::Arc;
use std::time::Duration;

use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

use crate::access::account::Credential;
use crate::access::credential;
use crate::audit::Source;
use crate::env::Env;
use crate::model::{AccountName, Id};
use crate::node::Node;
use crate::registry::command::Founding;
use crate::registry::{Command, Proposal, State, signing};
use crate::secrets::Keyring;
use crate::secrets::seal::{self, Purpose};
use crate::settings::Settings;

/// Where the administrator's client secret lies, in the node's directory.
pub(crate) const CREDENTIAL_FILE: &str = "admin-credential.json";

/// How often a node looks whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it waits after an attempt that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long an attempt may take.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The generation that a cluster starts with.
const FIRST_GENERATION: u32 = 1;

/// The administrator's credential as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    client_id: AccountName,
    client_secret: String,
    account: String,
    cluster: String,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.client_secret.zeroize();
    }
}

impl Written {
    fn credential(&self) -> Option<Id> {
        credential::credential_of(&self.client_secret)
    }
}

/// Why the cluster was not founded. It is tried again.
#[derive(Debug, thiserror::Error)]
enum FoundError {
    #[error("the master key: {0}")]
    Key(String),
    #[error("{CREDENTIAL_FILE}: {0}")]
    File(String),
    #[error("{0}")]
    Proposed(String),
}

/// Founds the cluster where that is this node's to do, and returns once it is founded.
pub(super) async fn run(
    node: Node,
    env: Env,
    settings: Arc<Settings>,
    mut stop: watch::Receiver<bool>,
) {
    if node.keyring().is_empty() {
        // Whoever starts a node without a master key has been told what that means.
        return;
    }
    let mut said = false;
    loop {
        let state = node.quorum().state();
        if state.is_founded() {
            tidy(&env, &state).await;
            return;
        }
        let mut pause = LOOK_EVERY;
        if node.quorum().status().role == "leader"
            && let Err(error) = found(&node, &env, &settings).await
        {
            tracing::warn!(%error, "the cluster could not be founded; trying again");
            pause = RETRY_AFTER;
        } else if !said {
            tracing::info!("waiting for the cluster to be founded");
            said = true;
        }
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        if tokio::time::timeout(pause, stopped).await.is_ok() {
            return;
        }
    }
}

/// Removes the file where somebody else's credential became the administrator's.
async fn tidy(env: &Env, state: &State) {
    let accounts = state.rules.accounts.values();
    let known: Vec<Id> = accounts.flat_map(|it| it.credentials.keys().copied()).collect();
    let disk = env.disk.clone();
    let tidied = env.blocking.run(move || {
        let Some(bytes) = disk.read(CREDENTIAL_FILE)?.map(Zeroizing::new) else { return Ok(false) };
        let written: Option<Written> = serde_json::from_slice(&bytes).ok();
        let credential = written.and_then(|written| written.credential());
        if credential.is_some_and(|credential| known.contains(&credential)) {
            return Ok(false);
        }
        disk.remove(CREDENTIAL_FILE).map(|()| true)
    });
    match tidied.await {
        Ok(false) => {}
        Ok(true) => tracing::info!("{CREDENTIAL_FILE} was not the administrator's: removed"),
        Err(error) => tracing::warn!(%error, "{CREDENTIAL_FILE} could not be looked at"),
    }
}

async fn found(node: &Node, env: &Env, settings: &Settings) -> Result<(), FoundError> {
    let written = written(node, env, settings).await?;
    let founding = {
        let (env, keyring) = (env.clone(), node.keyring().clone());
        let cluster = node.cluster_id().to_owned();
        // Hashing takes its time.
        env.blocking.run({
            let env = env.clone();
            move || founding(&written, &env, &keyring, &cluster)
        })
    };
    let proposal = Proposal {
        at: env.clock.now(),
        caller: None,
        source: Source {
            node: node.name().as_str().into(),
            address: None,
            request: "founding".into(),
        },
        idempotency: None,
        command: Command::Found(Box::new(founding.await?)),
    };
    let deadline = Instant::now() + PROPOSE_TIMEOUT;
    let decided = node.quorum().propose(proposal, deadline).await;
    match decided.map_err(|e| FoundError::Proposed(e.to_string()))?.outcome {
        Ok(_) => {
            tracing::info!("the cluster is founded: its administrator is in {CREDENTIAL_FILE}");
            Ok(())
        }
        // Somebody else was first: the state says so, and then the file is looked at.
        Err(refusal) => Err(FoundError::Proposed(refusal.to_string())),
    }
}

/// The credential that is on disk; a new one where there is none. An attempt of which nobody knows
/// what became is made again with the same one: it may have been decided.
async fn written(node: &Node, env: &Env, settings: &Settings) -> Result<Written, FoundError> {
    let name = settings.access.administrator.clone();
    let (cluster, env, disk) = (node.cluster_id().to_owned(), env.clone(), env.disk.clone());
    let blocking = env.blocking;
    let work = move || {
        if let Some(bytes) = disk.read(CREDENTIAL_FILE)?.map(Zeroizing::new) {
            let written: Option<Written> = serde_json::from_slice(&bytes).ok();
            let is_good = |it: &Written| it.cluster == cluster && Id::parse(&it.account).is_some();
            if let Some(written) = written.filter(|it| is_good(it) && it.credential().is_some()) {
                return Ok(written);
            }
        }
        let mut rng = env.entropy.stream("founding");
        let mut random = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *random);
        let client_secret = credential::secret(Id::random(&mut rng), &random).to_string();
        let account = Id::random(&mut rng).to_string();
        let written = Written { client_id: name, client_secret, account, cluster };
        let text = serde_json::to_vec_pretty(&written).map_err(std::io::Error::other)?;
        disk.write(CREDENTIAL_FILE, &Zeroizing::new(text), true)?;
        Ok(written)
    };
    let written: std::io::Result<Written> = blocking.run(work).await;
    written.map_err(|e| FoundError::File(e.to_string()))
}

fn founding(
    written: &Written,
    env: &Env,
    keyring: &Keyring,
    cluster: &str,
) -> Result<Founding, FoundError> {
    let (now, mut rng) = (env.clock.now(), env.entropy.stream("founding keys"));
    let key = |e: &dyn std::fmt::Display| FoundError::Key(e.to_string());
    let generation = keyring.generation(FIRST_GENERATION);
    let generation = generation.ok_or_else(|| {
        FoundError::Key("a cluster starts with generation 1, which is not given".to_owned())
    })?;
    let kek = keyring.key(&generation).map_err(|e| key(&e))?;
    let signing = signing::make(kek, &mut rng, cluster, now).map_err(|e| key(&e))?;
    let mut hash_key = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *hash_key);
    let hash_key = seal::seal_key(kek, &mut rng, cluster, Purpose::HashKey, &*hash_key);
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    let bad = || FoundError::File("is damaged".to_owned());
    let credential = Credential {
        id: written.credential().ok_or_else(bad)?,
        hash: credential::hash(&written.client_secret, &salt).map_err(|e| key(&e))?,
        created_at: now,
        expires_at: None,
    };
    Ok(Founding {
        account: Id::parse(&written.account).ok_or_else(bad)?,
        name: written.client_id.clone(),
        credential,
        generation,
        signing,
        hash_key: hash_key.map_err(|e| key(&e))?,
    })
}

#[cfg(test)]
mod tests;
