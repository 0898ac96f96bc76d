//! `/config/{service}/{environment}/{key}/roles`: the roles that one configuration is bound to.
//! Only who has one of them may change it, whatever else they are granted.

use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::propose;
use super::{named, paths, write};
use crate::model::{Id, RoleName};
use crate::registry::{Command, State};

/// A role that a configuration is bound to.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BoundRole")]
struct Role<'a> {
    id: Id,
    name: &'a RoleName,
}

/// The roles that a configuration is bound to; none where whoever has the grants may change it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BoundRoles")]
pub(super) struct Answer<'a> {
    items: Vec<Role<'a>>,
}

/// `GET`: the roles it is bound to.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let place = paths::key(incoming.path())?;
    let query = incoming.parameters()?;
    let read = named::read(app, incoming, &query).await?;
    let rules = &read.state.rules;
    let bound = rules.bindings.get(&place).into_iter().flatten();
    let roles = bound.filter_map(|id| rules.roles.get(id));
    let items = roles.map(|role| Role { id: role.id, name: &role.name }).collect();
    let body = serde_json::to_vec(&Answer { items }).unwrap_or_default();
    let mut response = write::json(StatusCode::OK, body.into());
    read.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// `PUT …/{role}`, by id or name.
pub(super) async fn bind(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let (document, key, role) = asked(app, incoming).await?;
    change(app, incoming, Command::Bind { document, key, role }).await
}

/// `DELETE …/{role}`.
pub(super) async fn unbind(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let (document, key, role) = asked(app, incoming).await?;
    change(app, incoming, Command::Unbind { document, key, role }).await
}

async fn asked(
    app: &App,
    incoming: &Incoming,
) -> Result<(crate::model::DocumentId, crate::model::Key, RoleName), ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let text = paths::role(incoming.path())?;
    let Some(id) = Id::parse(&text) else { return Ok((document, key, RoleName::new(&text)?)) };
    let name = |state: &State| state.rules.roles.get(&id).map(|role| role.name.clone());
    let known = name(&app.state());
    let name = match known {
        Some(name) => name,
        None => {
            let latest = app.quorum().latest(propose::deadline(app)).await?;
            name(&latest).ok_or_else(|| named::not_there("role", &text))?
        }
    };
    Ok((document, key, name))
}

async fn change(app: &App, incoming: &Incoming, command: Command) -> Result<Response, ApiError> {
    named::nothing(incoming, &propose::decide(app, incoming, None, command).await?)
}
