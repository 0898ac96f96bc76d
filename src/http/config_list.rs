//! `GET /config` and `GET /config/{service}/{environment}`: what is there, in pages, as far as the
//! caller may read it.

use std::ops::Bound::{Excluded, Included, Unbounded};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::config_write::list;
use super::edge::Incoming;
use super::error::ApiError;
use super::page::{self, Listing};
use super::permit;
use super::query::Query;
use super::session::Reached;
use super::{item, paths, resolve, session, write};
use crate::access::decide;
use crate::model::{DocumentId, Environment, Key, Service};

/// A service in an environment that has keys.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Document")]
pub(super) struct Shown<'a> {
    service: &'a Service,
    environment: &'a Environment,
    /// How many of them the caller may read.
    keys: usize,
}

/// `GET /config`: services and environments that have keys, with how many of them the caller may
/// read.
pub(super) async fn documents(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let caller = incoming.caller()?;
    let query = incoming.parameters()?;
    let listing = Listing::new("/config", "");
    let pages = Pages::new(app, incoming, query, listing)?;
    let after: Option<DocumentId> = pages.after(DocumentId::parse)?;
    let reached = session::reach(app, incoming.headers()).await?;
    let from = after.map_or(Unbounded, Excluded);
    let shown = reached.snapshot.documents.range((from, Unbounded)).filter_map(|(id, view)| {
        let permit = decide::read_document(caller, &app.state().rules, id).ok()?;
        let keys = view.live_after(None).filter(|(key, _)| permit.includes(key)).count();
        let shown = Shown { service: &id.service, environment: &id.environment, keys };
        // Names and a number: there is nothing to fail.
        let json = || serde_json::to_vec(&shown).unwrap_or_default();
        (keys > 0).then(|| (id.to_string(), Bytes::from(json())))
    });
    Ok(pages.answer(&reached, shown))
}

/// `GET /config/{service}/{environment}`: its keys, in their order.
pub(super) async fn keys(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let document = paths::document(incoming.path())?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::read_document(caller, rules, &document)
    })
    .await?;
    let query = incoming.parameters()?;
    let is_resolved = resolve::is_asked(&query)?;
    let prefix = query.get("prefix").unwrap_or_default().to_owned();
    let listing = Listing::new(&format!("/config/{document}"), &prefix);
    let pages = Pages::new(app, incoming, query, listing)?;
    let after: Option<Key> = pages.after(Key::new)?;
    let reached = session::reach(app, incoming.headers()).await?;
    let view = reached.snapshot.document(&document);
    let from = match (after, Key::new(&prefix)) {
        (Some(after), _) => Excluded(after),
        // Keys are ordered by their bytes: those with the prefix start at the prefix itself.
        (None, Ok(prefix)) => Included(prefix),
        (None, Err(_)) => Unbounded,
    };
    let rows = view.into_iter().flat_map(|view| view.rows.range((from.clone(), Unbounded)));
    let shown = rows
        .skip_while(|(key, _)| key.as_str() < &*prefix)
        .take_while(|(key, _)| key.as_str().starts_with(&prefix))
        .filter(|(key, row)| !row.winner().is_removal() && permit.includes(key))
        .map(|(key, row)| (key.to_string(), item::json(&document, key, row)));
    if !is_resolved {
        return Ok(pages.answer(&reached, shown));
    }
    let (page, next) = pages.take(shown);
    let after = format!("]{}}}", next_member(next.as_deref()));
    let around = ("{\"items\":[", after.as_str());
    let resolved = resolve::resolve(app, incoming, &pages.query, &page, around).await?;
    let mut response = write::json(StatusCode::OK, resolved.body.clone());
    resolved.tell(incoming, response.headers_mut())?;
    pages.tell(&reached, next.as_deref(), &mut response);
    Ok(response)
}

fn next_member(next: Option<&str>) -> String {
    match next {
        None => ",\"next_cursor\":null".to_owned(),
        Some(cursor) => format!(",\"next_cursor\":\"{cursor}\""),
    }
}

/// One page of a listing, as it is asked for.
struct Pages<'a> {
    app: &'a App,
    path: &'a str,
    query: Query<'a>,
    listing: Listing,
    size: usize,
    bytes_max: usize,
}

impl<'a> Pages<'a> {
    fn new(
        app: &'a App,
        incoming: &'a Incoming,
        query: Query<'a>,
        listing: Listing,
    ) -> Result<Self, ApiError> {
        let limits = &app.settings().limits;
        let size = page::size(&query, limits)?;
        let bytes_max = limits.page_bytes_max;
        Ok(Self { app, path: incoming.path(), query, listing, size, bytes_max })
    }

    /// The place that the cursor names, if there is one.
    fn after<T, E>(&self, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, ApiError> {
        let Some(cursor) = self.query.get("cursor") else { return Ok(None) };
        let place: String = self.listing.place(cursor)?;
        let place = parse(&place).map_err(|_| ApiError::BadCursor("the cursor is damaged"))?;
        Ok(Some(place))
    }

    /// The answer with as many items as fit, each with its place in the listing.
    fn answer(&self, reached: &Reached, items: impl Iterator<Item = (String, Bytes)>) -> Response {
        let (page, next) = self.take(items);
        let body = list(page.into_iter(), &next_member(next.as_deref())).freeze();
        let mut response = write::json(StatusCode::OK, body);
        self.tell(reached, next.as_deref(), &mut response);
        response
    }

    /// As many items as fit, and the cursor of what comes behind them.
    fn take(&self, items: impl Iterator<Item = (String, Bytes)>) -> (Vec<Bytes>, Option<String>) {
        let mut page: Vec<Bytes> = Vec::new();
        let (mut bytes, mut last, mut is_last_page) = (0, String::new(), true);
        for (place, json) in items {
            let is_full = page.len() == self.size || bytes + json.len() > self.bytes_max;
            if is_full && !page.is_empty() {
                is_last_page = false;
                break;
            }
            bytes += json.len();
            last = place;
            page.push(json);
        }
        (page, (!is_last_page).then(|| self.listing.cursor(&last)))
    }

    fn tell(&self, reached: &Reached, next: Option<&str>, response: &mut Response) {
        let headers = response.headers_mut();
        if let Some(cursor) = next {
            let link = page::next_link(self.path, &self.query, cursor);
            if let Ok(link) = HeaderValue::try_from(link) {
                headers.insert(header::LINK, link);
            }
        }
        reached.tell(self.app, headers);
    }
}
