//! The door that `holm chaos` knocks at: `POST /dev/links` on any node of a `holm dev` cluster.
//! There is none in `holm serve`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::env::Links;
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

/// Longest delay that a link is slowed by.
const DELAY_MS_MAX: u64 = 60_000;

#[derive(Clone)]
struct Doors {
    links: Links,
    topology: Arc<Topology>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    action: Action,
    from: Option<RegionName>,
    to: Option<RegionName>,
    #[serde(default)]
    one_way: bool,
    delay_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Cut,
    Slow,
    Heal,
}

#[derive(Serialize)]
struct LinkStatus {
    from: NodeName,
    to: NodeName,
    up: bool,
    delay_ms: u64,
}

pub(super) fn routes(links: Links, topology: Arc<Topology>) -> Router {
    Router::new()
        .route("/dev/links", get(show).merge(post(change)))
        .with_state(Doors { links, topology })
}

async fn show(State(doors): State<Doors>) -> Json<Vec<LinkStatus>> {
    Json(status(&doors))
}

fn status(doors: &Doors) -> Vec<LinkStatus> {
    let links = doors.links.all().into_iter();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    links
        .map(|(from, to, link)| LinkStatus {
            from,
            to,
            up: link.up,
            delay_ms: millis(link.delay + link.extra),
        })
        .collect()
}

async fn change(State(doors): State<Doors>, Json(change): Json<Change>) -> Response {
    match apply(&doors, &change) {
        Ok(()) => Json(status(&doors)).into_response(),
        Err(detail) => {
            let body = serde_json::json!({"error": "BadRequest", "detail": detail});
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

fn apply(doors: &Doors, change: &Change) -> Result<(), String> {
    if change.from.is_none() && change.action == Action::Heal {
        doors.links.heal_all();
        return Ok(());
    }
    let from = change.from.as_ref().ok_or("`from` is missing")?;
    let from = nodes_of(doors, from)?;
    let to: Vec<NodeName> = match &change.to {
        Some(to) => nodes_of(doors, to)?,
        None => {
            let all = doors.topology.nodes().iter().map(|node| node.name.clone());
            all.filter(|name| !from.contains(name)).collect()
        }
    };
    let extra = match (change.action, change.delay_ms) {
        (Action::Slow, Some(ms @ 1..=DELAY_MS_MAX)) => Duration::from_millis(ms),
        (Action::Slow, _) => return Err(format!("`delay_ms` has to be 1 to {DELAY_MS_MAX}")),
        _ => Duration::ZERO,
    };
    let links = &doors.links;
    for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (a, b))) {
        match (change.action, change.one_way) {
            (Action::Cut, false) => links.cut(a, b),
            (Action::Cut, true) => links.cut_one_way(a, b),
            (Action::Slow, false) => links.slow(a, b, extra),
            (Action::Slow, true) => links.slow_one_way(a, b, extra),
            (Action::Heal, _) => links.heal(a, b),
        }
    }
    Ok(())
}

fn nodes_of(doors: &Doors, region: &RegionName) -> Result<Vec<NodeName>, String> {
    let nodes = doors.topology.nodes().iter().filter(|node| node.region == *region);
    let names: Vec<NodeName> = nodes.map(|node| node.name.clone()).collect();
    if names.is_empty() {
        let known: Vec<String> =
            doors.topology.regions().iter().map(|region| region.name.to_string()).collect();
        return Err(format!("there is no region {region}; there are {}", known.join(", ")));
    }
    Ok(names)
}
