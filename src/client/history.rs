//! How much of histories a cluster keeps.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, ClientError};
use crate::model::Environment;

/// How much is kept where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HistoryPolicies {
    /// In environments that have no policy of their own.
    pub default: HistoryPolicyOf,
    /// In those that have.
    pub items: Vec<HistoryPolicyOf>,
}

/// What is kept of a key's history: the newest versions, and what is young.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HistoryPolicyOf {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How many of the newest versions.
    pub versions: u64,
    /// Up to which age, in seconds.
    pub age_s: u64,
}

impl Client {
    /// How much of histories is kept.
    pub async fn history_policies(&self) -> Result<HistoryPolicies, ClientError> {
        self.json(self.request(Method::GET, "/cluster/history")).await
    }

    /// Sets how much is kept in an environment, or in all that have no policy of their own.
    pub async fn set_history_policy(
        &self,
        environment: Option<&Environment>,
        versions: u64,
        age_s: u64,
    ) -> Result<(), ClientError> {
        let body = json!({ "versions": versions, "age_s": age_s });
        let request = self.request(Method::PUT, &path(environment));
        self.send(request.json(&body)).await.map(drop)
    }

    /// Takes a policy back.
    pub async fn unset_history_policy(
        &self,
        environment: Option<&Environment>,
    ) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &path(environment))).await.map(drop)
    }
}

fn path(environment: Option<&Environment>) -> String {
    // Names of environments need no escapes.
    environment.map_or("/cluster/history".to_owned(), |it| format!("/cluster/history/{it}"))
}
