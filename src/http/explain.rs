//! `/access/explain`: why an account may do something, or why not.

use axum::http::StatusCode;
use axum::response::Response;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::query::bad;
use super::{named, write};
use crate::access::explain::{Wanted, explain as explain_by};
use crate::model::Id;

/// `GET ?account=&action=&resource=`: by the account's id or name.
pub(super) async fn explain(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let query = incoming.parameters()?;
    let required = |name| query.get(name).ok_or_else(|| bad(name, "is missing"));
    let (text, action) = (required("account")?, required("action")?);
    let resource = query.get("resource").unwrap_or_default();
    let wanted = Wanted::parse(action, resource);
    let wanted = wanted.map_err(|(parameter, reason)| bad(parameter, &reason))?;
    let read = named::read(app, incoming, &query).await?;
    let rules = &read.state.rules;
    let id = Id::parse(text).or_else(|| rules.account_ids.get(text).copied());
    let account = id.and_then(|id| rules.accounts.get(&id));
    let account = account.ok_or_else(|| named::not_there("account", text))?;
    let answer = explain_by(account, rules, &wanted);
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = write::json(StatusCode::OK, body.into());
    read.tell(incoming, response.headers_mut())?;
    Ok(response)
}
