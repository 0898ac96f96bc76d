//! Accounts, roles, bindings and explanations, as a node tells them.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError, path_of};
use crate::model::{AccountName, DocumentId, Key, RoleName};

/// An account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its tokens are taken.
    pub enabled: bool,
    /// Its roles' names.
    pub roles: Vec<String>,
    /// What it can ask for tokens with.
    pub credentials: Vec<Credential>,
    /// What a client asks for tokens with; in the answer to its making alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// What else the node says.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A credential.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// When it was given out.
    pub created_at: String,
    /// From when on it is not taken.
    pub expires_at: Option<String>,
    /// The client secret; in the answer to its making alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// What else the node says.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A role.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Role {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it allows.
    pub grants: Vec<String>,
    /// Whether it is the same in every cluster.
    pub built_in: bool,
    /// Goes up with every change.
    pub version: u64,
    /// What else the node says.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Why an account may do something, or why not.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// In words.
    pub why: String,
    /// What else the node says.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

impl Client {
    /// All accounts, by name.
    pub async fn accounts(&self) -> Result<Vec<Account>, ClientError> {
        self.pages("/accounts", &[]).await
    }

    /// One account.
    pub async fn account(&self, name: &AccountName) -> Result<Account, ClientError> {
        self.json(self.request(Method::GET, &format!("/accounts/{name}"))).await
    }

    /// Makes an account, with a client secret where one is wanted.
    pub async fn create_account(
        &self,
        name: &AccountName,
        roles: &[RoleName],
        credential: bool,
    ) -> Result<Account, ClientError> {
        let body = json!({"name": name, "roles": roles, "credential": credential});
        self.json(self.request(Method::POST, "/accounts").json(&body)).await
    }

    /// Changes an account: `enabled`, `roles`, or both.
    pub async fn update_account(
        &self,
        name: &AccountName,
        change: &Value,
    ) -> Result<Account, ClientError> {
        self.json(self.request(Method::PATCH, &format!("/accounts/{name}")).json(change)).await
    }

    /// Removes an account.
    pub async fn delete_account(&self, name: &AccountName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &format!("/accounts/{name}"))).await.map(drop)
    }

    /// Makes one more client secret.
    pub async fn add_credential(
        &self,
        name: &AccountName,
        expires_at: Option<&str>,
    ) -> Result<Credential, ClientError> {
        let body = json!({"expires_at": expires_at});
        let path = format!("/accounts/{name}/credentials");
        self.json(self.request(Method::POST, &path).json(&body)).await
    }

    /// Takes a client secret back.
    pub async fn revoke_credential(&self, name: &AccountName, id: &str) -> Result<(), ClientError> {
        let path = format!("/accounts/{name}/credentials/{id}");
        self.send(self.request(Method::DELETE, &path)).await.map(drop)
    }

    /// All roles, by name.
    pub async fn roles(&self) -> Result<Vec<Role>, ClientError> {
        self.pages("/roles", &[]).await
    }

    /// One role.
    pub async fn role(&self, name: &RoleName) -> Result<Role, ClientError> {
        self.json(self.request(Method::GET, &format!("/roles/{name}"))).await
    }

    /// Makes a role.
    pub async fn create_role(
        &self,
        name: &RoleName,
        grants: &[String],
    ) -> Result<Role, ClientError> {
        let body = json!({"name": name, "grants": grants});
        self.json(self.request(Method::POST, "/roles").json(&body)).await
    }

    /// Replaces a role's grants, where it still has this version.
    pub async fn set_grants(
        &self,
        name: &RoleName,
        grants: &[String],
        version: u64,
    ) -> Result<Role, ClientError> {
        let request = self.request(Method::PUT, &format!("/roles/{name}"));
        let request = request.header("if-match", format!("\"{version}\""));
        self.json(request.json(&json!({"grants": grants}))).await
    }

    /// Removes a role from everybody.
    pub async fn delete_role(&self, name: &RoleName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &format!("/roles/{name}"))).await.map(drop)
    }

    /// Binds a configuration to a role, or takes that back.
    pub async fn bind(
        &self,
        document: &DocumentId,
        key: &Key,
        role: &RoleName,
        is_bound: bool,
    ) -> Result<(), ClientError> {
        let method = if is_bound { Method::PUT } else { Method::DELETE };
        let path = format!("{}/{key}/roles/{role}", path_of(document));
        self.send(self.request(method, &path)).await.map(drop)
    }

    /// Asks why an account may do something, or why not.
    pub async fn explain(
        &self,
        account: &AccountName,
        action: &str,
        resource: &str,
    ) -> Result<Explanation, ClientError> {
        let query = [("account", account.as_str()), ("action", action), ("resource", resource)];
        self.json(self.request(Method::GET, "/access/explain").query(&query)).await
    }
}
