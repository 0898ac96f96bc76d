//! `/accounts/{account}/credentials`: client secrets. One is shown when it is made; what is kept is
//! a hash that is slow to make on purpose, so that few of them are made at once.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use rand::RngCore as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::body::{self, Fields, body};
use super::edge::Incoming;
use super::error::ApiError;
use super::{accounts, named, paths, propose, write};
use crate::access::{Credential, credential};
use crate::model::{AccountName, Id, Stamp};
use crate::registry::Command;

/// A credential, without its hash.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Credential")]
pub(super) struct Shown {
    id: Id,
    #[schemars(with = "Stamp")]
    created_at: String,
    #[schemars(with = "Option<Stamp>")]
    expires_at: Option<String>,
}

/// What a client asks for tokens with.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ClientSecret")]
pub(super) struct Issued {
    client_id: String,
    client_secret: String,
}

/// A credential with its secret, which is shown this once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewCredential")]
pub(super) struct Answer {
    #[serde(flatten)]
    credential: Shown,
    #[serde(flatten)]
    issued: Issued,
}

body! {
    /// A client secret that is to be made.
    CredentialWish {
        /// Until when it is good. Default: until it is revoked.
        expires_at: Option<Stamp>,
    }
}

/// Shows a credential.
pub(super) fn show(credential: &Credential) -> Shown {
    Shown {
        id: credential.id,
        created_at: credential.created_at.to_string(),
        expires_at: credential.expires_at.map(|at| at.to_string()),
    }
}

/// Makes a client secret for the account of this name.
pub(super) async fn issue(
    app: &App,
    name: &AccountName,
    expires_at: Option<Stamp>,
) -> Result<(Credential, Issued), ApiError> {
    let place = app.0.hashing.clone().try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
    let mut rng = app.0.env.entropy.stream("client secrets");
    let id = Id::random(&mut rng);
    let (mut random, mut salt) = (zeroize::Zeroizing::new([0; 32]), [0; 16]);
    rng.fill_bytes(&mut *random);
    rng.fill_bytes(&mut salt);
    let secret = credential::secret(id, &random);
    let hashed = secret.clone();
    let hash = app.0.env.blocking.run_with(place, move || credential::hash(&hashed, &salt));
    let hash = hash.await.map_err(|error| {
        tracing::error!(%error, "a client secret could not be hashed");
        ApiError::StorageFailed
    })?;
    let created_at = app.0.env.clock.now();
    let issued = Issued { client_id: name.to_string(), client_secret: secret.to_string() };
    Ok((Credential { id, hash, created_at, expires_at }, issued))
}

/// `POST`: one more client secret; `{"expires_at": …}` or nothing.
pub(super) async fn add(app: &App, incoming: &Incoming, body: Body) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let bytes = write::read_body(app, incoming, body, None).await?;
    let text = if bytes.is_empty() { "{}" } else { body::utf8(&bytes)? };
    let expires_at = expires_at(app, &Fields::read(text, "", CredentialWish::FIELDS)?)?;
    let account = accounts::id(app, incoming).await?;
    let known = app.state().rules.accounts.get(&account).cloned();
    let known = match known {
        Some(known) => known,
        None => {
            let latest = app.quorum().latest(propose::deadline(app)).await?;
            let found = latest.rules.accounts.get(&account).cloned();
            found.ok_or_else(|| named::not_there("account", &account.to_string()))?
        }
    };
    let (credential, issued) = issue(app, &known.name, expires_at).await?;
    let answer = Answer { credential: show(&credential), issued };
    let location = format!("/accounts/{account}/credentials/{}", credential.id);
    let command = Command::AddCredential { account, credential };
    let proposed = propose::decide(app, incoming, None, command).await?;
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = write::json(StatusCode::CREATED, body.into());
    let headers = response.headers_mut();
    named::locate(headers, &location);
    named::keep_out_of_caches(headers);
    proposed.tell(incoming, headers)?;
    Ok(response)
}

/// `DELETE`: takes one back, and with it the tokens that were issued for it.
pub(super) async fn revoke(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let text = paths::credential(incoming.path())?;
    let credential = Id::parse(&text).ok_or_else(|| named::not_there("credential", &text))?;
    let account = accounts::id(app, incoming).await?;
    let command = Command::RevokeCredential { account, credential };
    named::nothing(incoming, &propose::decide(app, incoming, None, command).await?)
}

/// The member `expires_at`: a time to come, as RFC 3339 writes it.
pub(super) fn expires_at(app: &App, fields: &Fields<'_>) -> Result<Option<Stamp>, ApiError> {
    match fields.get("expires_at") {
        None => return Ok(None),
        Some(raw) if raw.get() == "null" => return Ok(None),
        Some(_) => {}
    }
    let text = fields.text("expires_at")?;
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| fields.bad("expires_at", "has to be a time such as 2027-01-31T12:00:00Z"))?;
    let stamp = u64::try_from(time.as_microsecond()).map(Stamp).unwrap_or_default();
    if stamp <= app.0.env.clock.now() {
        return Err(fields.bad("expires_at", "is past"));
    }
    Ok(Some(stamp))
}
