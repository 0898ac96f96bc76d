//! `/accounts`: who may ask for tokens. A client secret is made here, shown once and never again.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::body::{self, Fields, body};
use super::credentials::{self, Issued};
use super::edge::Incoming;
use super::error::ApiError;
use super::propose;
use super::{named, paths, write};
use crate::access::Account;
use crate::access::account::ACCOUNT_ROLES_MAX;
use crate::model::{AccountName, Id, RoleName, Stamp};
use crate::registry::{Command, Outcome, State};

/// An account, without anything that is secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Account")]
pub(super) struct Shown {
    id: Id,
    name: AccountName,
    enabled: bool,
    roles: Vec<String>,
    credentials: Vec<credentials::Shown>,
    version: u64,
    #[schemars(with = "Stamp")]
    created_at: String,
    #[schemars(with = "Stamp")]
    updated_at: String,
    #[serde(flatten)]
    issued: Option<Issued>,
}

body! {
    /// An account that is to be made.
    NewAccount {
        name: AccountName,
        /// Names of its roles. Default: none.
        #[schemars(length(max = ACCOUNT_ROLES_MAX), transform = body::present)]
        roles: Option<Vec<RoleName>>,
        /// Whether a first client secret is made, and shown this once. Default: true.
        #[schemars(transform = body::present)]
        credential: Option<bool>,
        /// Until when the client secret is good. Default: until it is revoked.
        expires_at: Option<Stamp>,
    }
}

body! {
    /// What is to change of an account: at least one of the two.
    #[schemars(extend("minProperties" = 1))]
    AccountChange {
        /// Whether it may ask for tokens, and its tokens are taken.
        #[schemars(transform = body::present)]
        enabled: Option<bool>,
        /// Names of its roles, all of them.
        #[schemars(length(max = ACCOUNT_ROLES_MAX), transform = body::present)]
        roles: Option<Vec<RoleName>>,
    }
}

fn show(state: &State, account: &Account, issued: Option<Issued>) -> Shown {
    let roles = account.roles.iter().filter_map(|id| state.rules.roles.get(id));
    let mut roles: Vec<String> = roles.map(|role| role.name.to_string()).collect();
    roles.sort_unstable();
    Shown {
        id: account.id,
        name: account.name.clone(),
        enabled: account.enabled,
        roles,
        credentials: account.credentials.values().map(credentials::show).collect(),
        version: account.version,
        created_at: account.created_at.to_string(),
        updated_at: account.updated_at.to_string(),
        issued,
    }
}

/// `GET /accounts`.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let show = |state: &State, id: &Id| {
        state.rules.accounts.get(id).map(|account| show(state, account, None))
    };
    named::list(app, incoming, |state| state.rules.account_ids.clone(), show).await
}

/// `GET /accounts/{account}`, by id or name.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let query = incoming.parameters()?;
    let text = paths::name(incoming.path())?;
    let read = named::read(app, incoming, &query).await?;
    let rules = &read.state.rules;
    let id = Id::parse(&text).or_else(|| rules.account_ids.get(&*text).copied());
    let account = id.and_then(|id| rules.accounts.get(&id));
    let account = account.ok_or_else(|| named::not_there("account", &text))?;
    let shown = show(&read.state, account, None);
    let mut response = named::answer(StatusCode::OK, &shown, account.version);
    read.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// `POST /accounts`: `{"name": …, "roles": […], "credential": true, "expires_at": …}`.
pub(super) async fn create(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let bytes = write::read_body(app, incoming, body, None).await?;
    let fields = Fields::read(body::utf8(&bytes)?, "", NewAccount::FIELDS)?;
    let name = AccountName::new(&fields.text("name")?)?;
    let roles = roles(&fields)?.unwrap_or_default();
    let wants_credential = flag(&fields, "credential")?.unwrap_or(true);
    let expires_at = credentials::expires_at(app, &fields)?;
    if expires_at.is_some() && !wants_credential {
        return Err(fields.bad("expires_at", "is for a credential"));
    }
    let mut rng = app.0.env.entropy.stream("accounts");
    let id = Id::random(&mut rng);
    let issued = match wants_credential {
        true => Some(credentials::issue(app, &name, expires_at).await?),
        false => None,
    };
    let (credential, issued) = issued.unzip();
    let command = Command::CreateAccount { id, name, roles, credential };
    let proposed = propose::decide(app, incoming, None, command).await?;
    let state = named::after(app, &proposed).await;
    let account = state.rules.accounts.get(&id).ok_or(ApiError::TimedOut)?;
    let shown = show(&state, account, issued);
    let mut response = named::answer(StatusCode::CREATED, &shown, account.version);
    let headers = response.headers_mut();
    named::locate(headers, &format!("/accounts/{id}"));
    named::keep_out_of_caches(headers);
    proposed.tell(incoming, headers)?;
    Ok(response)
}

/// `PATCH /accounts/{account}`: `{"enabled": …, "roles": […]}`, each optional.
pub(super) async fn update(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let also = Some("application/merge-patch+json");
    let bytes = write::read_body(app, incoming, body, also).await?;
    let fields = Fields::read(body::utf8(&bytes)?, "", AccountChange::FIELDS)?;
    let (enabled, roles) = (flag(&fields, "enabled")?, roles(&fields)?);
    if enabled.is_none() && roles.is_none() {
        return Err(fields.bad("enabled", "and roles are both missing: there is nothing to do"));
    }
    let id = id(app, incoming).await?;
    let expect = propose::expect(incoming.headers(), None)?;
    let wanted = (enabled, roles.clone());
    let command = Command::UpdateAccount { id, expect, enabled, roles };
    let proposed = propose::decide(app, incoming, None, command).await?;
    let Outcome::Put(_, version, _) = proposed.outcome else { return Err(ApiError::TimedOut) };
    let state = named::after(app, &proposed).await;
    let account = state.rules.accounts.get(&id).ok_or(ApiError::TimedOut)?;
    // What this request wrote, also where another has overtaken it by now.
    let mut shown = Shown { version, ..show(&state, account, None) };
    shown.enabled = wanted.0.unwrap_or(shown.enabled);
    if let Some(roles) = wanted.1 {
        shown.roles = roles.iter().map(RoleName::to_string).collect();
    }
    let mut response = named::answer(StatusCode::OK, &shown, version);
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// `DELETE /accounts/{account}`.
pub(super) async fn delete(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let id = id(app, incoming).await?;
    let expect = propose::expect(incoming.headers(), None)?;
    let command = Command::DeleteAccount { id, expect };
    named::nothing(incoming, &propose::decide(app, incoming, None, command).await?)
}

/// The id of the account that the path names.
pub(super) async fn id(app: &App, incoming: &Incoming) -> Result<Id, ApiError> {
    let text = paths::name(incoming.path())?;
    let of_name = |state: &State| state.rules.account_ids.get(&*text).copied();
    named::id_of(app, "account", &text, of_name).await
}

fn flag(fields: &Fields<'_>, name: &str) -> Result<Option<bool>, ApiError> {
    let flag = fields.get(name).map(|raw| serde_json::from_str(raw.get()));
    flag.transpose().map_err(|_| fields.bad(name, "has to be true or false"))
}

fn roles(fields: &Fields<'_>) -> Result<Option<BTreeSet<RoleName>>, ApiError> {
    let Some(raw) = fields.get("roles") else { return Ok(None) };
    let names: Vec<String> = serde_json::from_str(raw.get())
        .map_err(|_| fields.bad("roles", "has to be a list of the names of roles"))?;
    if names.len() > ACCOUNT_ROLES_MAX {
        return Err(fields.bad("roles", &format!("are more than {ACCOUNT_ROLES_MAX}")));
    }
    Ok(Some(names.iter().map(|name| RoleName::new(name)).collect::<Result<_, _>>()?))
}
