//! `/cluster/keys`: generations of the master key, by number and never by key. Rotation is done in
//! steps, one a request, each of which leaves the cluster as good as before: whoever asks goes on
//! until nothing is left, and whoever was interrupted begins again.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::body::{Fields, body, whole};
use super::edge::Incoming;
use super::error::ApiError;
use super::propose;
use super::secrets::NO_STORE;
use super::{paths, write};
use crate::access::{ClusterAction, decide};
use crate::registry::{Command, Outcome, State};
use crate::secrets::rotation::{self, Usage};
use crate::secrets::{Kek, KeyError};

/// Most keys that one step wraps anew.
const REWRAP_STEP: usize = 256;

/// A generation of the master key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Generation")]
struct Shown {
    generation: u32,
    /// Whether new keys are wrapped by it.
    current: bool,
    /// Whether the node that answers can use it: `yes`, `no`, or `wrong key`.
    held: &'static str,
    #[serde(flatten)]
    usage: Usage,
}

/// All generations of the master key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MasterKeys")]
pub(super) struct Keys {
    generations: Vec<Shown>,
    /// Generations that the node that answers holds and the cluster does not use yet.
    waiting: Vec<u32>,
}

fn shown(app: &App, state: &State) -> Keys {
    let keyring = app.node().keyring();
    let current = state.current_generation().map(|generation| generation.number);
    let usage = rotation::usage(state);
    let generations = usage.into_iter().map(|(number, usage)| Shown {
        generation: number,
        current: current == Some(number),
        held: match keyring.of(&state.generations, number) {
            Ok(_) => "yes",
            Err(KeyError::Wrong(_)) => "wrong key",
            Err(_) => "no",
        },
        usage,
    });
    Keys {
        generations: generations.collect(),
        waiting: keyring.numbers().filter(|it| !state.generations.contains_key(it)).collect(),
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = write::json(status, text.into());
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// `GET /cluster/keys`.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let query = incoming.parameters()?;
    let read = propose::read(app, incoming, &query).await?;
    decide::cluster(incoming.caller()?, &read.state.rules, ClusterAction::ReadCluster)?;
    let mut response = json(StatusCode::OK, &shown(app, &read.state));
    read.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// A key that does not open.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DamagedKey")]
struct Damaged {
    what: String,
    why: String,
}

/// What one step of a rotation did, and what is left.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RotationStep")]
pub(super) struct Step {
    /// The generation that everything is to be wrapped by.
    to: u32,
    /// How many keys this step wrapped anew.
    rewrapped: u64,
    /// How many keys other generations still wrap, the damaged ones among them.
    left: u64,
    damaged: Vec<Damaged>,
    #[serde(flatten)]
    keys: Keys,
}

body! {
    /// Where a rotation goes.
    Rotation {
        /// The generation that everything is to be wrapped by. Default: the one behind the current
        /// one, where the node holds it.
        to: Option<u32>,
    }
}

/// `POST /cluster/keys/rotate`, `{"to": 2}`: the next step.
pub(super) async fn rotate(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    incoming.parameters()?;
    decide::cluster(caller, &app.state().rules, ClusterAction::ManageCluster)?;
    let wanted = target(&write::read_body(app, incoming, body, None).await?)?;
    let mut state = app.quorum().latest(propose::deadline(app)).await?;
    decide::cluster(caller, &state.rules, ClusterAction::ManageCluster)?;
    let keyring = app.node().keyring();
    let current = state.current_generation().ok_or(KeyError::NotFounded)?.number;
    // By default to the one that follows, where this node holds it; else to the current one.
    let next = current.saturating_add(1);
    let to = wanted.unwrap_or(if keyring.generation(next).is_some() { next } else { current });
    if to < current {
        let why = format!("generation {current} is current: there is no way back to {to}");
        return Err(ApiError::Conflict(why));
    }
    let generation = keyring.generation(to).ok_or_else(|| {
        let why = format!("this node does not hold generation {to}: its settings do not name it");
        ApiError::Conflict(why)
    })?;
    let mut last = None;
    if to != current {
        let command = Command::AddGeneration(generation);
        let added = propose::decide(app, incoming, None, command).await?;
        state = reached(app, added.index()).await?;
        last = Some(added);
    }
    let kek: &Kek = keyring.of(&state.generations, to)?;
    let mut rng = app.0.env.entropy.stream("rotation");
    let cluster = app.node().cluster_id();
    let batch = rotation::next(&state, keyring, kek, &mut rng, cluster, REWRAP_STEP);
    let mut rewrapped = 0;
    if !batch.rewrapped.is_empty() {
        let command = Command::Rewrap(batch.rewrapped);
        let proposed = propose::decide(app, incoming, None, command).await?;
        if let Outcome::Rewrapped(count) = proposed.outcome {
            rewrapped = count;
        }
        state = reached(app, proposed.index()).await?;
        last = Some(proposed);
    }
    let usage = rotation::usage(&state);
    let others = usage.iter().filter(|(number, _)| **number != to);
    let damaged = batch.damaged.into_iter();
    let damaged = damaged.map(|(what, why)| Damaged { what, why: why.to_string() });
    let step = Step {
        to,
        rewrapped,
        left: others.map(|(_, usage)| usage.total()).sum(),
        damaged: damaged.collect(),
        keys: shown(app, &state),
    };
    let mut response = json(StatusCode::OK, &step);
    if let Some(last) = last {
        last.tell(incoming, response.headers_mut())?;
    }
    Ok(response)
}

/// `DELETE /cluster/keys/{generation}`: what it had wrapped and was removed is gone for good.
pub(super) async fn retire(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    incoming.parameters()?;
    decide::cluster(caller, &app.state().rules, ClusterAction::ManageCluster)?;
    let number = paths::generation(incoming.path())?;
    let command = Command::RetireGeneration(number);
    let proposed = propose::decide(app, incoming, None, command).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

async fn reached(app: &App, index: u64) -> Result<std::sync::Arc<State>, ApiError> {
    let late = |_| ApiError::QuorumUnavailable("this node lags behind it".to_owned());
    app.quorum().wait_for(index, propose::deadline(app)).await.map_err(late)
}

fn target(bytes: &[u8]) -> Result<Option<u32>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| ApiError::BadJson(e.to_string()))?;
    let fields = Fields::read(text, "", Rotation::FIELDS)?;
    match fields.get("to").map(|raw| raw.get()) {
        None | Some("null") => Ok(None),
        Some(raw) => {
            let number = whole(raw).and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or_else(|| fields.bad("to", "has to be a whole number"))
        }
    }
}
