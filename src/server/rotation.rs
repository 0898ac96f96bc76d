//! Keys that sign tokens, by time: whoever leads adds a new one once the newest is old enough, and
//! retires those whose last tokens have expired. What is due is `registry::signing`'s to say.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::Source;
use crate::env::Env;
use crate::node::Node;
use crate::registry::{Command, Proposal, signing};
use crate::settings::Settings;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a proposal may take.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the signing keys young until it is told to stop.
pub(super) async fn run(
    node: Node,
    env: Env,
    settings: Arc<Settings>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        if tokio::time::timeout(LOOK_EVERY, stopped).await.is_ok() {
            return;
        }
        if node.quorum().status().role != "leader" || !node.quorum().glance().is_founded() {
            continue;
        }
        for command in due(&node, &env, &settings) {
            propose(&node, &env, command).await;
        }
    }
}

fn due(node: &Node, env: &Env, settings: &Settings) -> Vec<Command> {
    let (state, now) = (node.quorum().state(), env.clock.now());
    let lifetime = settings.access.token_lifetime + settings.access.leeway;
    let retired = signing::retirable(&state, lifetime, now).into_iter();
    let mut commands: Vec<Command> = retired.map(Command::RetireSigningKey).collect();
    if signing::is_due(&state, settings.access.signing_key_lifetime, now) {
        let mut rng = env.entropy.stream("signing-key");
        let made = node.keyring().current(&state.generations).map_err(|e| e.to_string());
        let made = made.and_then(|kek| {
            signing::make(kek, &mut rng, node.cluster_id(), now).map_err(|e| e.to_string())
        });
        match made {
            Ok(key) => commands.push(Command::AddSigningKey(key)),
            Err(error) => tracing::error!(%error, "a new key to sign tokens cannot be made"),
        }
    }
    commands
}

async fn propose(node: &Node, env: &Env, command: Command) {
    let what = match &command {
        Command::RetireSigningKey(kid) => format!("the signing key {kid} is retired"),
        _ => "a new signing key takes over".to_owned(),
    };
    let node_name = node.name().as_str().into();
    let source = Source { node: node_name, address: None, request: "rotation".into() };
    let at = env.clock.now();
    let proposal = Proposal { at, caller: None, source, idempotency: None, command };
    match node.quorum().propose(proposal, Instant::now() + PROPOSE_TIMEOUT).await {
        Ok(decided) if decided.outcome.is_ok() => tracing::info!("{what}"),
        Ok(decided) => tracing::warn!(outcome = ?decided.outcome, "not done: {what}"),
        Err(error) => tracing::warn!(%error, "it is not known whether {what}"),
    }
}
