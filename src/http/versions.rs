//! `/config/{service}/{environment}/{key}/versions` and `restore`: a key's history.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;

use super::App;
use super::config_key::not_there;
use super::config_write::list as list_of;
use super::edge::Incoming;
use super::error::ApiError;
use super::page::{self, Listing};
use super::permit;
use super::session::Reached;
use super::write::{self, Write, carry_out};
use super::{item, paths, session};
use crate::access::{ReadPermit, decide};
use crate::config::{Action, Entry, Operation};
use crate::model::{DocumentId, Dot, Key, Origin};
use crate::storage::{HistoryPage, StoreError};

/// Entries that are read at once in search of those of one version.
const SAME_VERSION_PAGE: usize = 16;

/// A page of a key's history: for the description of the API.
#[derive(JsonSchema)]
#[schemars(rename = "History")]
#[expect(dead_code, reason = "a description, and never made")]
pub(super) struct Past {
    /// The newest first.
    items: Vec<item::Past<'static>>,
    /// What is behind this page; none where nothing is.
    next_cursor: Option<String>,
    /// With the last page, where that does not end with 1: the number that it ends with. What was before
    /// is not kept any more, and neither are numbers that are missing between two items.
    #[schemars(skip_serializing_if = "Option::is_none")]
    gone_before: Option<u64>,
}

/// `GET …/versions`: every write of the key, newest first.
pub(super) async fn list(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::read_key(caller, rules, &document, &key)
    })
    .await?;
    let query = incoming.parameters()?;
    let size = page::size(&query, &app.settings().limits)?;
    let listing = Listing::new(&format!("/config/{document}/{key}/versions"), "");
    let before: Option<(u64, Dot)> = query.get("cursor").map(|it| listing.place(it)).transpose()?;
    let reached = reach(app, incoming).await?;
    let (current, _) = shown_now(&reached, &document, &key)?;
    let HistoryPage { entries, mut is_last, thinned } =
        history(app, &permit, &document, &key, before, size).await?;
    // As items they take more bytes than as entries.
    let (mut items, mut room, mut place) = (Vec::new(), app.settings().limits.page_bytes_max, None);
    for entry in &entries {
        let others_gone = thinned.contains(&entry.version);
        let item = Bytes::from(item::past(entry, entry.dot == current, others_gone));
        if item.len() > room && !items.is_empty() {
            is_last = false;
            break;
        }
        room = room.saturating_sub(item.len());
        place = Some((entry.version, entry.dot));
        items.push(item);
    }
    let next = place.filter(|_| !is_last).map(|place| listing.cursor(&place));
    // Versions begin with 1: where the last page ends before, the rest was let go.
    let ends_at = place.or(before).map_or(1, |(version, _)| version);
    let member = match &next {
        None if ends_at > 1 => format!(",\"next_cursor\":null,\"gone_before\":{ends_at}"),
        None => ",\"next_cursor\":null".to_owned(),
        Some(cursor) => format!(",\"next_cursor\":\"{cursor}\""),
    };
    let body = list_of(items.into_iter(), &member).freeze();
    let mut response = write::json(StatusCode::OK, body);
    let headers = response.headers_mut();
    if let Some(cursor) = next {
        let link = page::next_link(incoming.path(), &query, &cursor);
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.insert(header::LINK, link);
        }
    }
    reached.tell(app, headers);
    Ok(response)
}

/// `GET …/versions/{version}`: one write, by its number or by `number@origin`.
pub(super) async fn get(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::read_key(caller, rules, &document, &key)
    })
    .await?;
    incoming.parameters()?;
    let version = paths::version(incoming.path())?;
    let reached = reach(app, incoming).await?;
    let (current, newest) = shown_now(&reached, &document, &key)?;
    let (entry, others_gone) = find(app, &permit, (&document, &key), &version, newest).await?;
    let body = item::past(&entry, entry.dot == current, others_gone);
    let mut response = write::json(StatusCode::OK, body.into());
    reached.tell(app, response.headers_mut());
    Ok(response)
}

/// `POST …/restore`: writes an old value again, as a new version.
pub(super) async fn restore(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Response, ApiError> {
    let (document, key) = paths::key(incoming.path())?;
    // It shows an old value, so that it takes leave to read, too.
    let read = permit::permit(app, incoming, |caller, rules| {
        decide::read_key(caller, rules, &document, &key)
    })
    .await?;
    let permit = permit::permit(app, incoming, |caller, rules| {
        decide::write_keys(caller, rules, &document, [&key])
    })
    .await?;
    let (check, _) = write::parameters(app, incoming)?;
    let bytes = write::read_body(app, incoming, body, None).await?;
    let (version, message) = super::body::restore(&bytes, &app.settings().limits)?;
    let reached = reach(app, incoming).await?;
    let (_, newest) = shown_now(&reached, &document, &key)?;
    let (entry, _) = find(app, &read, (&document, &key), &version, newest).await?;
    let action = entry.value.map_or(Action::Remove, Action::Put);
    let operations = vec![Operation { key, action, check }];
    let write = Write { permit, document, operations, remove_all: false, message, body: &bytes };
    carry_out(app, incoming, write, write::one_item).await
}

async fn reach(app: &App, incoming: &Incoming) -> Result<Reached, ApiError> {
    session::reach(app, incoming.headers()).await
}

/// The write that the key shows now, a removal too, and the highest number of its versions. A key
/// that never was has no history.
fn shown_now(reached: &Reached, document: &DocumentId, key: &Key) -> Result<(Dot, u64), ApiError> {
    let row = reached.snapshot.document(document).and_then(|view| view.rows.get(key));
    let row = row.ok_or_else(|| not_there(key, None))?;
    let newest = row.siblings().iter().map(|entry| entry.version).max();
    Ok((row.winner().dot, newest.unwrap_or_default()))
}

/// The one entry that `7` or `7@origin` stands for, and whether others of its number are gone: then the
/// number alone stands for none. Of a key whose newest version is `newest`, all numbers up to that have
/// been there: one of which nothing is there is gone.
async fn find(
    app: &App,
    permit: &ReadPermit,
    (document, key): (&DocumentId, &Key),
    text: &str,
    newest: u64,
) -> Result<(Entry, bool), ApiError> {
    let (version, origin) = parse(text)?;
    // The place behind all entries of this version.
    let mut before = (version, Dot { origin: Origin([u8::MAX; 8]), n: u64::MAX });
    let mut found: Vec<Entry> = Vec::new();
    let mut others_gone = false;
    loop {
        let page = history(app, permit, document, key, Some(before), SAME_VERSION_PAGE).await?;
        let last = page.entries.last().map(|entry| (entry.version, entry.dot));
        others_gone |= page.thinned.contains(&version);
        found.extend(page.entries.into_iter().filter(|entry| entry.version == version));
        match last {
            Some(last) if !page.is_last && last.0 == version => before = last,
            _ => break,
        }
    }
    if found.is_empty() && version <= newest {
        return Err(gone(app, permit, (document, key), text).await?);
    }
    if let Some(origin) = origin {
        if let Some(entry) = found.into_iter().find(|entry| entry.dot.origin == origin) {
            return Ok((entry, others_gone));
        }
        let went = app.node().let_go(permit, document, key, version, origin).await;
        if went.map_err(failed)? {
            return Err(gone(app, permit, (document, key), text).await?);
        }
    } else if found.len() > 1 || others_gone {
        let name = |entry: &Entry| format!("{version}@{}", entry.dot.origin);
        let candidates = found.iter().map(name).collect();
        return Err(ApiError::AmbiguousVersion { version, candidates });
    } else if let Some(entry) = found.pop() {
        return Ok((entry, false));
    }
    Err(ApiError::NotFound { what: format!("version {text} of the key {key}"), gone: None })
}

/// That a version is not there any more, and which is the oldest that is.
async fn gone(
    app: &App,
    permit: &ReadPermit,
    (document, key): (&DocumentId, &Key),
    text: &str,
) -> Result<ApiError, ApiError> {
    let oldest = app.node().oldest(permit, document, key).await.map_err(failed)?;
    let oldest = oldest.map(|(version, _)| version);
    Ok(ApiError::VersionGone { key: key.clone(), version: text.to_owned(), oldest })
}

fn parse(text: &str) -> Result<(u64, Option<Origin>), ApiError> {
    let bad = |reason: &str| ApiError::BadField {
        field: "version".to_owned(),
        reason: reason.to_owned(),
    };
    let (number, origin) = match text.split_once('@') {
        None => (text, None),
        Some((number, origin)) => {
            let origin = origin.parse().map_err(|e: crate::model::vector::OriginError| {
                bad(&format!("behind the @: {e}"))
            })?;
            (number, Some(origin))
        }
    };
    let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    match number.parse() {
        Ok(version) if digits && version > 0 => Ok((version, origin)),
        _ => Err(bad("has to be a number from 1 on, or number@origin")),
    }
}

async fn history(
    app: &App,
    permit: &ReadPermit,
    document: &DocumentId,
    key: &Key,
    before: Option<(u64, Dot)>,
    size: usize,
) -> Result<HistoryPage, ApiError> {
    let bytes_max = app.settings().limits.page_bytes_max;
    let found = app.node().history(permit, document, key, before, size, bytes_max).await;
    found.map_err(failed)
}

fn failed(error: StoreError) -> ApiError {
    tracing::error!(%error, "a history could not be read");
    ApiError::StorageFailed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_version_is_a_number_with_or_without_its_origin() {
        assert_eq!(parse("7"), Ok((7, None)));
        assert_eq!(parse("7@0101010101010101"), Ok((7, Some(Origin([1; 8])))));
        for bad in ["", "0", "-1", "+7", "7@", "7@x", "seven", "7@0101010101010101x", "1.5"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_the_parser(text in "[0-9a-f@é+]{0,40}") {
            let _ = parse(&text);
        }
    }
}
