//! `/roles`: named sets of grants. A grant that this program does not know is refused here: it
//! would allow nothing, and whoever wrote it meant something.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::body::{self, Fields, body};
use super::edge::Incoming;
use super::error::ApiError;
use super::propose;
use super::{named, paths, write};
use crate::access::account::ROLE_GRANTS_MAX;
use crate::access::roles::BUILT_IN;
use crate::access::{Grant, Role};
use crate::model::{Id, RoleName, Stamp, Text};
use crate::registry::{Command, Outcome, State, built_in_role};

/// A role.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Role")]
pub(super) struct Shown {
    id: Id,
    name: RoleName,
    grants: Vec<Text>,
    built_in: bool,
    version: u64,
    #[schemars(with = "Stamp")]
    created_at: String,
    #[schemars(with = "Stamp")]
    updated_at: String,
}

body! {
    /// A role that is to be made.
    NewRole {
        name: RoleName,
        /// What it may: `config:write:web/*`, `secrets:read:prod-*`, `cluster:read`, ….
        #[schemars(length(max = ROLE_GRANTS_MAX))]
        grants: Vec<String>,
    }
}

body! {
    /// What a role may from now on.
    RoleChange {
        /// All of its grants.
        #[schemars(length(max = ROLE_GRANTS_MAX))]
        grants: Vec<String>,
    }
}

fn show(role: &Role) -> Shown {
    Shown {
        id: role.id,
        name: role.name.clone(),
        grants: role.grants.iter().map(|grant| grant.text().clone()).collect(),
        built_in: BUILT_IN.iter().any(|(name, _)| built_in_role(name) == role.id),
        version: role.version,
        created_at: role.created_at.to_string(),
        updated_at: role.updated_at.to_string(),
    }
}

/// `GET /roles`.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let show = |state: &State, id: &Id| state.rules.roles.get(id).map(|role| show(role));
    named::list(app, incoming, |state| state.rules.role_ids.clone(), show).await
}

/// `GET /roles/{role}`, by id or name.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let query = incoming.parameters()?;
    let text = paths::name(incoming.path())?;
    let read = named::read(app, incoming, &query).await?;
    let rules = &read.state.rules;
    let id = Id::parse(&text).or_else(|| rules.role_ids.get(&*text).copied());
    let role = id.and_then(|id| rules.roles.get(&id));
    let role = role.ok_or_else(|| named::not_there("role", &text))?;
    let mut response = named::answer(StatusCode::OK, &show(role), role.version);
    read.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// `POST /roles`: `{"name": …, "grants": […]}`.
pub(super) async fn create(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let bytes = write::read_body(app, incoming, body, None).await?;
    let fields = Fields::read(body::utf8(&bytes)?, "", NewRole::FIELDS)?;
    let name = RoleName::new(&fields.text("name")?)?;
    let grants = grants(&fields)?;
    let id = Id::random(&mut app.0.env.entropy.stream("roles"));
    let command = Command::CreateRole { id, name, grants };
    let mut response = changed(app, incoming, id, command, StatusCode::CREATED).await?;
    named::locate(response.headers_mut(), &format!("/roles/{id}"));
    Ok(response)
}

/// `PUT /roles/{role}`: `{"grants": […]}`, all of them.
pub(super) async fn update(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let bytes = write::read_body(app, incoming, body, None).await?;
    let fields = Fields::read(body::utf8(&bytes)?, "", RoleChange::FIELDS)?;
    let grants = grants(&fields)?;
    let id = id(app, incoming).await?;
    let expect = propose::expect(incoming.headers(), None)?;
    let command = Command::UpdateRole { id, expect, grants };
    changed(app, incoming, id, command, StatusCode::OK).await
}

/// `DELETE /roles/{role}`.
pub(super) async fn delete(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    named::may_manage(app, incoming).await?;
    incoming.parameters()?;
    let id = id(app, incoming).await?;
    let expect = propose::expect(incoming.headers(), None)?;
    let command = Command::DeleteRole { id, expect };
    named::nothing(incoming, &propose::decide(app, incoming, None, command).await?)
}

async fn changed(
    app: &App,
    incoming: &Incoming,
    id: Id,
    command: Command,
    status: StatusCode,
) -> Result<Response, ApiError> {
    let written = match &command {
        Command::CreateRole { grants, .. } | Command::UpdateRole { grants, .. } => grants.clone(),
        _ => Vec::new(),
    };
    let proposed = propose::decide(app, incoming, None, command).await?;
    let Outcome::Put(_, version, _) = proposed.outcome else { return Err(ApiError::TimedOut) };
    let state = named::after(app, &proposed).await;
    let role = state.rules.roles.get(&id).ok_or(ApiError::TimedOut)?;
    // What this request wrote, also where another has overtaken it by now.
    let grants = written.iter().map(|grant| grant.text().clone()).collect();
    let shown = Shown { grants, version, ..show(role) };
    let mut response = named::answer(status, &shown, version);
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

async fn id(app: &App, incoming: &Incoming) -> Result<Id, ApiError> {
    let text = paths::name(incoming.path())?;
    let of_name = |state: &State| state.rules.role_ids.get(&*text).copied();
    named::id_of(app, "role", &text, of_name).await
}

fn grants(fields: &Fields<'_>) -> Result<Vec<Grant>, ApiError> {
    let raw = fields.get("grants").ok_or_else(|| fields.bad("grants", "is missing"))?;
    let texts: Vec<String> = serde_json::from_str(raw.get())
        .map_err(|_| fields.bad("grants", "has to be a list of grants, each a text"))?;
    if texts.len() > ROLE_GRANTS_MAX {
        return Err(fields.bad("grants", &format!("are more than {ROLE_GRANTS_MAX}")));
    }
    let grant = |(i, text): (usize, &String)| {
        let wrong = "is no grant: config:write:web/*, secrets:read:prod-* or cluster:read is one";
        Grant::parse(text).ok_or_else(|| fields.bad(&format!("grants[{i}]"), wrong))
    };
    texts.iter().enumerate().map(grant).collect()
}
