//! How a row looks in an answer: one JSON object, made once a change and kept with the row, the
//! entity tag before it, so that a hot key's answer is two slices of the same bytes.

use axum::http::HeaderValue;
use bytes::{BufMut as _, Bytes, BytesMut};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::error::Gone;
use super::etag;
use crate::config::{Entry, Row};
use crate::model::{DocumentId, Environment, JsonText, Key, Origin, Service, Stamp, Text};

/// The namespace of configurations' ids: a UUIDv4 drawn for it, and never to be changed.
const NAMESPACE: Uuid = Uuid::from_u128(0x7d0f_5b0e_3f5a_4c0e_9c39_1c0a_4be2_86d1);

/// The id of a configuration: the same in all regions, with nobody asked (RFC 9562, UUIDv5).
pub fn id(document: &DocumentId, key: &Key) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{document}/{key}").as_bytes())
}

/// A row, rendered.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The `ETag` header.
    pub(super) etag: HeaderValue,
    /// The JSON object.
    pub(super) json: Bytes,
}

/// The rendering of a row, from the row where it was made before.
pub(super) fn item(document: &DocumentId, key: &Key, row: &Row) -> Item {
    let bytes = row.rendered(|row| render(document, key, row));
    let len = bytes.first_chunk().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
    let (start, end) = (2, 2 + len);
    // Tags are ASCII; were one not, an empty one would match nothing.
    let etag = HeaderValue::from_maybe_shared(bytes.slice(start..end))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""));
    Item { etag, json: bytes.slice(end..) }
}

/// The JSON object alone.
pub(super) fn json(document: &DocumentId, key: &Key, row: &Row) -> Bytes {
    item(document, key, row).json
}

fn render(document: &DocumentId, key: &Key, row: &Row) -> Bytes {
    let tag = etag::of(row);
    let rendered = Rendered {
        id: id(document, key).to_string(),
        key,
        service: &document.service,
        environment: &document.environment,
        winner: Shown::of(row.winner()),
        conflicts: row.conflicts().iter().map(Shown::of).collect(),
    };
    // Columns of text, numbers and values that are JSON already: there is nothing to fail.
    let json = serde_json::to_vec(&rendered).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(2 + tag.len() + json.len());
    let len = u16::try_from(tag.len()).unwrap_or(0);
    bytes.put_u16(len);
    bytes.put_slice(&tag.as_bytes()[..usize::from(len)]);
    bytes.put_slice(&json);
    bytes.freeze()
}

/// The removal that a row shows, and its conflicts, for the answer that says its key is gone.
pub(super) fn gone(row: &Row) -> Option<Gone> {
    let text = |json: String| JsonText::parse(&json).ok();
    let removal = text(serde_json::to_string(&Shown::of(row.winner())).ok()?)?;
    let conflicts: Vec<Shown<'_>> = row.conflicts().iter().map(Shown::of).collect();
    let conflicts = match conflicts.is_empty() {
        true => None,
        false => text(serde_json::to_string(&conflicts).ok()?),
    };
    Some(Gone { removal, conflicts })
}

/// One line of a key's history. `current`: whether it is what the key shows now; `others_gone`: whether others
/// of its number went, or may have.
pub(super) fn past(entry: &Entry, current: bool, others_gone: bool) -> String {
    let past = Past { entry: Shown::of(entry), current, others_gone };
    serde_json::to_string(&past).unwrap_or_default()
}

/// One entry's own columns.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Entry")]
pub(super) struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a JsonText>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    version: u64,
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Stamp")]
    updated_at: Stamp,
    updated_by: &'a Text,
    region: &'a Text,
    origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a Text>,
}

impl<'a> Shown<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            value: entry.value.as_ref(),
            removed: entry.is_removal(),
            version: entry.version,
            updated_at: entry.stamp,
            updated_by: &entry.author,
            region: &entry.region,
            origin: entry.dot.origin,
            message: entry.message.as_ref(),
        }
    }
}

fn as_text<S: serde::Serializer>(stamp: &Stamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(stamp)
}

/// A configuration's columns around those of its winner.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Configuration")]
pub(super) struct Rendered<'a> {
    #[schemars(with = "crate::model::Id")]
    id: String,
    key: &'a Key,
    service: &'a Service,
    environment: &'a Environment,
    #[serde(flatten)]
    winner: Shown<'a>,
    conflicts: Vec<Shown<'a>>,
}

/// One line of a key's history.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PastEntry")]
pub(super) struct Past<'a> {
    #[serde(flatten)]
    entry: Shown<'a>,
    current: bool,
    /// Whether others of its number are not kept any more, or may not be, as the next number is not there:
    /// only `version@origin` names it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    others_gone: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dot;

    fn entry(origin: u8, value: Option<&str>) -> Entry {
        Entry {
            value: value.map(|value| JsonText::parse(value).unwrap()),
            version: 7,
            stamp: Stamp(1_700_000_000_000_000 + u64::from(origin)),
            dot: Dot { origin: Origin([origin; 8]), n: 3 },
            author: "ada".into(),
            region: "eu-west".into(),
            message: value.is_none().then(|| "why".into()),
            idempotency: None,
        }
    }

    #[test]
    fn an_item_has_its_columns_in_their_order() {
        let document = DocumentId::parse("web/dev").unwrap();
        let key = Key::new("a.b").unwrap();
        let row = Row::new(vec![entry(1, None), entry(2, Some("1.00000000000000000001"))]).unwrap();
        let item = item(&document, &key, &row);
        let expected = concat!(
            r#"{"id":"2b91f628-0164-5e54-8725-d4509270bef5","key":"a.b","service":"web","environment":"dev","#,
            r#""value":1.00000000000000000001,"version":7,"#,
            r#""updated_at":"2023-11-14T22:13:20.000002Z","updated_by":"ada","region":"eu-west","#,
            r#""origin":"0202020202020202","conflicts":[{"removed":true,"version":7,"#,
            r#""updated_at":"2023-11-14T22:13:20.000001Z","updated_by":"ada","region":"eu-west","#,
            r#""origin":"0101010101010101","message":"why"}]}"#
        );
        assert_eq!(std::str::from_utf8(&item.json).unwrap(), expected);
        assert_eq!(item.etag.to_str().unwrap(), etag::of(&row));
        assert_eq!(json(&document, &key, &row), item.json);
    }

    #[test]
    fn an_id_is_the_same_in_all_regions() {
        let id = |document, key| {
            id(&DocumentId::parse(document).unwrap(), &Key::new(key).unwrap()).to_string()
        };
        assert_eq!(id("web/dev", "a"), "fbf8c7ce-2eed-53b3-971e-d573357ca8a9");
        assert_ne!(id("web/dev", "a"), id("web/prod", "a"));
    }
}
