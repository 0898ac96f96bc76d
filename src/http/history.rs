//! `/cluster/history`: how much of histories is kept, the same in every region: decided by the quorum.
//! What it removes, each node removes by itself, in its own time.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::body::{self, Fields, body};
use super::edge::Incoming;
use super::error::ApiError;
use super::propose;
use super::{paths, write};
use crate::access::{ClusterAction, decide};
use crate::config::HistoryPolicy;
use crate::config::retention::{AGE_S_MAX, VERSIONS_MAX};
use crate::model::{Environment, Feature, NodeName};
use crate::registry::Command;

/// How much of histories is kept.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HistoryPolicy")]
struct Shown {
    versions: u64,
    age_s: u64,
}

impl From<HistoryPolicy> for Shown {
    fn from(policy: HistoryPolicy) -> Self {
        Self { versions: policy.versions, age_s: policy.age_s }
    }
}

/// The policy of one environment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EnvironmentPolicy")]
struct Item<'a> {
    environment: &'a Environment,
    #[serde(flatten)]
    policy: Shown,
}

/// All policies: that of environments that have none of their own, and those that have.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HistoryPolicies")]
pub(super) struct Answer<'a> {
    default: Shown,
    items: Vec<Item<'a>>,
}

body! {
    /// How much of histories is to be kept.
    Policy {
        /// So many versions of each key, the newest ones.
        #[schemars(range(min = 1, max = VERSIONS_MAX))]
        versions: u64,
        /// And those that are no older than this, in seconds.
        #[schemars(range(max = AGE_S_MAX))]
        age_s: u64,
    }
}

/// `GET`: the policy of environments that have none of their own, and those that have.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let query = incoming.parameters()?;
    let read = propose::read(app, incoming, &query).await?;
    decide::cluster(incoming.caller()?, &read.state.rules, ClusterAction::ReadCluster)?;
    let set = &read.state.history.set;
    let own = set.iter().filter_map(|(of, policy)| Some((of.as_ref()?, *policy)));
    let items = own.map(|(environment, policy)| Item { environment, policy: policy.into() });
    let default = set.get(&None).copied().unwrap_or(HistoryPolicy::DEFAULT);
    let answer = Answer { default: default.into(), items: items.collect() };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = write::json(StatusCode::OK, text.into());
    read.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// `PUT`, and `PUT …/{environment}`, `{"versions": 100, "age_s": 7776000}`.
pub(super) async fn put(app: &App, incoming: &Incoming, body: Body) -> Result<Response, ApiError> {
    let environment = asked(app, incoming)?;
    let policy = policy(&write::read_body(app, incoming, body, None).await?)?;
    change(app, incoming, Command::SetHistoryPolicy(environment, Some(policy))).await
}

/// `DELETE`, and `DELETE …/{environment}`: as before it was set.
pub(super) async fn remove(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let environment = asked(app, incoming)?;
    change(app, incoming, Command::SetHistoryPolicy(environment, None)).await
}

/// The environment that the path names, if it does, where the caller may set policies.
fn asked(app: &App, incoming: &Incoming) -> Result<Option<Environment>, ApiError> {
    incoming.parameters()?;
    decide::cluster(incoming.caller()?, &app.state().rules, ClusterAction::ManageCluster)?;
    paths::environment_of_policy(incoming.path())
}

/// Proposes it, once every member can read what is decided: an older program would stop at it.
async fn change(app: &App, incoming: &Incoming, command: Command) -> Result<Response, ApiError> {
    let lacking = app.node().members().lacking(Feature::HistoryPolicy);
    if !lacking.is_empty() {
        let names: Vec<&str> = lacking.iter().map(NodeName::as_str).collect();
        return Err(ApiError::Conflict(format!(
            "not every node is known to know policies of histories: {}",
            names.join(", ")
        )));
    }
    let proposed = propose::decide(app, incoming, None, command).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

fn policy(bytes: &[u8]) -> Result<HistoryPolicy, ApiError> {
    let fields = Fields::read(body::utf8(bytes)?, "", Policy::FIELDS)?;
    let number = |name: &str, (min, max): (u64, u64)| {
        let raw = fields.required(name)?.get();
        let number = body::whole(raw).filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| fields.bad(name, &format!("has to be a number from {min} to {max}")))
    };
    Ok(HistoryPolicy {
        versions: number("versions", (1, VERSIONS_MAX))?,
        age_s: number("age_s", (0, AGE_S_MAX))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_both_numbers_within_bounds() {
        let good = policy(br#"{"versions": 3, "age_s": 0}"#);
        assert_eq!(good, Ok(HistoryPolicy { versions: 3, age_s: 0 }));
        for bad in [
            r#"{"versions": 3}"#,
            r#"{"age_s": 3}"#,
            r#"{"versions": 0, "age_s": 3}"#,
            r#"{"versions": 1.5, "age_s": 3}"#,
            r#"{"versions": "3", "age_s": 3}"#,
            r#"{"versions": 3, "age_s": 99999999999}"#,
            r#"{"versions": 3, "age_s": 3, "days": 3}"#,
            "[]",
            "",
        ] {
            assert!(policy(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
