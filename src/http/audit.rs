//! `/audit`: the cluster's audit log, in pages, and the check of this node's chains. And what the
//! edge puts on the log: denied attempts, and reads where the settings ask for it.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::operation::Operation;
use super::page::{self, Listing};
use super::query::{Query, bad};
use super::write::json;
use crate::access::{Caller, ClusterAction, ReadPermit, TokenError, decide};
use crate::audit::merge::{Item, Place};
use crate::audit::page::{Filter, Way};
use crate::audit::summing::Kind;
use crate::audit::verify::Report;
use crate::audit::{Decision, Event, Source, Unreadable};
use crate::model::{DocumentId, Key, NodeName, Stamp, Text};
use crate::node::audit::Chain;

/// Longest path that a record of a denied attempt names, in characters.
const PATH_LEN_MAX: usize = 256;

/// A page of the audit log.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditPage")]
pub(super) struct Listed {
    items: Vec<Item>,
    /// What is behind this page; none where nothing is.
    next_cursor: Option<String>,
    /// What will come after it: to be asked again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    follow_cursor: Option<String>,
    /// Nodes that did not answer, whose records come from the copy that they handed over when they
    /// drained.
    copied: Vec<NodeName>,
    /// Nodes that did not answer, whose records are not shown, or not all.
    missing: Vec<NodeName>,
    /// Nodes of whose records the oldest that were asked for are in archives alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    archived: Vec<NodeName>,
}

/// What checking a node's chains came to.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditVerification")]
pub(super) struct Verified<'a> {
    node: &'a NodeName,
    stores: Vec<Report>,
}

/// `GET /audit`: newest first; or, with a `follow_cursor`, what came since.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let rules = &app.state().rules.clone();
    let permit = decide::cluster(incoming.caller()?, rules, ClusterAction::ReadAudit)?;
    let query = incoming.parameters()?;
    let size = page::size(&query, &app.settings().limits)?;
    let filter = filter(&query)?;
    let listing = Listing::new("/audit", &format!("{filter:?}"));
    let place = query
        .get("cursor")
        .map(|cursor| listing.place_within(cursor, page::NODES_CURSOR_LEN_MAX))
        .transpose()?;
    let place = place.unwrap_or_else(Place::newest);
    let page = app.node().audit_page(&permit, &place, &filter, size).await?;
    let is_past = place.way == Way::Back && page.ended && page.items.is_empty();
    if is_past && filter.to.is_some() && !page.archived.is_empty() {
        return Err(ApiError::AuditArchived { nodes: page.archived });
    }
    let follow = page.follow.map(|place| listing.cursor(&place));
    let is_following = place.way == Way::On;
    let next = (!page.ended || is_following).then(|| listing.cursor(&page.next));
    Ok(answer(&Listed {
        items: page.items,
        next_cursor: next.clone().filter(|_| !is_following),
        follow_cursor: if is_following { next } else { follow },
        copied: page.copied,
        missing: page.missing,
        archived: page.archived,
    }))
}

/// `GET /audit/verify`: goes along this node's chains, and compares them with what its peers
/// remember of them.
pub(super) async fn verify(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let rules = &app.state().rules.clone();
    let permit = decide::cluster(incoming.caller()?, rules, ClusterAction::ReadAudit)?;
    incoming.parameters()?;
    let stores = app.node().audit_verify(&permit).await?;
    Ok(answer(&Verified { node: app.node().name(), stores }))
}

fn answer(body: &impl Serialize) -> Response {
    // Texts and numbers alone: there is nothing to fail.
    json(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default().into())
}

fn filter(query: &Query<'_>) -> Result<Filter, ApiError> {
    let text = |name| query.get(name).map(str::to_owned);
    let allowed = match query.get("decision") {
        None => None,
        Some("allowed") => Some(true),
        Some("denied") => Some(false),
        Some(_) => return Err(bad("decision", "has to be allowed or denied")),
    };
    Ok(Filter {
        from: time(query, "from")?,
        to: time(query, "to")?,
        principal: text("principal"),
        action: text("action"),
        target: text("target"),
        allowed,
        node: text("node"),
    })
}

fn time(query: &Query<'_>, name: &str) -> Result<Option<Stamp>, ApiError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let time: Option<jiff::Timestamp> = text.parse().ok();
    // A time before 1970 is as good as 1970: nothing is recorded before.
    let micros = time.map(|time| u64::try_from(time.as_microsecond()).unwrap_or(0));
    let micros = micros.ok_or_else(|| bad(name, "has to be a time like 2026-01-31T12:00:00Z"))?;
    Ok(Some(Stamp(micros)))
}

impl From<Unreadable> for ApiError {
    fn from(error: Unreadable) -> Self {
        tracing::error!(%error, "the audit log was asked for");
        Self::StorageFailed
    }
}

/// What is recorded of a request that was denied.
pub(super) struct Attempt<'a> {
    pub(super) operation: Operation,
    pub(super) uri: &'a Uri,
    pub(super) caller: Option<&'a Caller>,
    pub(super) refused: Option<&'a TokenError>,
    pub(super) source: Source,
}

/// Puts a denied attempt on the log; alike ones are summed. Never waits.
pub(super) fn denied(app: &App, error: &ApiError, attempt: Attempt<'_>) {
    let (reason, why) = match error {
        ApiError::Unauthorized => {
            let why = attempt.refused.map_or_else(|| error.to_string(), ToString::to_string);
            ("Unauthorized", why)
        }
        ApiError::Forbidden(denied) => ("Forbidden", denied.to_string()),
        _ => return,
    };
    let (chain, action) = audited_as(attempt.operation);
    let principal = attempt.caller.map(|caller| caller.principal().clone());
    let address = || attempt.source.address.as_deref().map_or_else(|| "-".into(), network);
    let who = principal.clone().unwrap_or_else(address);
    let target: String = attempt.uri.path().chars().take(PATH_LEN_MAX).collect();
    let event = Event {
        at: app.0.env.clock.now(),
        principal: principal.unwrap_or_else(|| "-".into()),
        action: action.into(),
        target: target.as_str().into(),
        decision: Decision::Denied(why.as_str().into()),
        outcome: "refused".into(),
        source: attempt.source,
        count: 1,
        index: None,
    };
    app.node().audit_denied(chain, Kind { who, action: action.into(), reason }, event);
}

/// Puts the read of one configuration on the log, where the settings ask for it. Never waits.
pub(super) fn read(
    app: &App,
    incoming: &Incoming,
    permit: &ReadPermit,
    document: &DocumentId,
    key: &Key,
) {
    if !app.settings().audit.config_reads {
        return;
    }
    app.node().audit_read(Event {
        at: app.0.env.clock.now(),
        principal: permit.principal().clone(),
        action: "config.read".into(),
        target: format!("{document}/{key}").as_str().into(),
        decision: Decision::Allowed(permit.grant().clone()),
        outcome: "done".into(),
        source: incoming.source(app),
        count: 1,
        index: None,
    });
}

/// Which chain an operation's attempts go on, and what they are called there.
fn audited_as(operation: Operation) -> (Chain, &'static str) {
    match operation {
        Operation::ListDocuments
        | Operation::ListKeys
        | Operation::GetKey
        | Operation::ListVersions
        | Operation::GetVersion => (Chain::Config, "config.read"),
        Operation::Watch => (Chain::Config, "config.watch"),
        Operation::Post | Operation::PutKey | Operation::PatchKey => {
            (Chain::Config, "config.write")
        }
        Operation::Restore => (Chain::Config, "config.restore"),
        Operation::RemoveKey => (Chain::Config, "config.remove"),
        Operation::RemoveAll => (Chain::Config, "config.remove_all"),
        _ => (Chain::Quorum, operation.label()),
    }
}

/// Whom strangers are summed by: their address; of IPv6, the half that a single one cannot change.
fn network(address: &str) -> Text {
    match address.parse() {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string().as_str().into()
        }
        _ => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_owns_a_network_is_one() {
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::9"));
        assert_ne!(network("2001:db8:1:3::9"), network("2001:db8:1:2::9"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
