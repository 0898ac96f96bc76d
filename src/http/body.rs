//! Bodies: read up to a limit, of a type that is said, taken apart member by member, so that a key
//! that stands twice, an unknown field or a value past its limit is refused by name.

mod described;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::config::{Action, Check, Operation};
use crate::model::{JsonText, Key, Text};
use crate::settings::Limits;

use described::{ManyEntries, NewEntry, OneEntry};
pub(super) use described::{Posted, Restoration, body, present};

/// Reads a body up to the limit, as long as its client may take.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok());
    let announced = announced.and_then(|len| len.parse::<u64>().ok());
    if announced.is_some_and(|len| len > max as u64) {
        return Err(ApiError::BodyTooLarge { max });
    }
    let collected = tokio::time::timeout(timeout, Limited::new(body, max).collect()).await;
    match collected.map_err(|_| ApiError::RequestTooSlow)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge { max }),
        Err(error) => Err(ApiError::BadJson(format!("it broke off: {error}"))),
    }
}

/// Whether the body is said to be JSON, or `also`; without a word it is taken to be.
pub(super) fn check_type(headers: &HeaderMap, also: Option<&str>) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let known = kind == "application/json" || Some(kind) == also;
    let utf8 = parts.all(|part| match part.split_once('=') {
        Some(("charset", charset)) => charset.trim_matches('"') == "utf-8",
        _ => true,
    });
    if known && utf8 {
        return Ok(());
    }
    let expected = match also {
        Some(_) => "application/merge-patch+json or application/json, in UTF-8",
        None => "application/json, in UTF-8",
    };
    Err(ApiError::UnsupportedMediaType { expected, found: text.chars().take(100).collect() })
}

/// A body that is one value.
pub(super) fn value(bytes: &[u8]) -> Result<JsonText, ApiError> {
    JsonText::parse(utf8(bytes)?).map_err(|e| ApiError::BadJson(e.to_string()))
}

/// What a POST asks for.
#[derive(Debug)]
pub(super) struct Post {
    /// Each key's part; at least one, each key once.
    pub(super) operations: Vec<Operation>,
    /// Whether the body had `key` and `value`, not `entries`: then the answer is the one item.
    pub(super) single: bool,
    /// Why.
    pub(super) message: Option<Text>,
}

/// Reads `{"key": …, "value": …}` or `{"entries": …}`.
pub(super) fn post(bytes: &[u8], limits: &Limits) -> Result<Post, ApiError> {
    let known = [OneEntry::FIELDS, ManyEntries::FIELDS].concat();
    let fields = Fields::read(utf8(bytes)?, "", &known)?;
    let message = fields.message(limits)?;
    let Some(entries) = fields.get("entries") else {
        return Ok(Post { operations: vec![entry(&fields, limits)?], single: true, message });
    };
    if let Some(field) = ["key", "value", "expect_version"].iter().find(|it| fields.has(it)) {
        return Err(bad_field(field, "cannot stand beside entries"));
    }
    let operations = match entries.get().as_bytes().first() {
        Some(b'{') => entries_by_key(entries, limits)?,
        Some(b'[') => entries_in_list(entries, limits)?,
        _ => return Err(bad_field("entries", "has to be an object or a list")),
    };
    if operations.is_empty() {
        return Err(bad_field("entries", "is empty"));
    }
    Ok(Post { operations, single: false, message })
}

/// Reads `{"version": 7 or "7@origin", "message": …}`; the version as text.
pub(super) fn restore(bytes: &[u8], limits: &Limits) -> Result<(String, Option<Text>), ApiError> {
    let fields = Fields::read(utf8(bytes)?, "", Restoration::FIELDS)?;
    let raw = fields.required("version")?.get();
    let version = match whole(raw) {
        Some(number) => number.to_string(),
        None => serde_json::from_str(raw)
            .map_err(|_| bad_field("version", "has to be a number or a text like 7@origin"))?,
    };
    Ok((version, fields.message(limits)?))
}

/// Checks a message's length.
pub(super) fn message(text: &str, limits: &Limits) -> Result<Text, ApiError> {
    if text.len() > limits.message_bytes_max {
        let max = limits.message_bytes_max;
        return Err(bad_field("message", &format!("has more than {max} bytes")));
    }
    Ok(text.into())
}

/// Checks a value's length.
pub(super) fn check_value(key: &Key, value: &JsonText, limits: &Limits) -> Result<(), ApiError> {
    let (len, max) = (value.as_str().len(), limits.value_bytes_max);
    if len > max {
        return Err(ApiError::ValueTooLarge { key: key.clone(), len, max });
    }
    Ok(())
}

fn entries_by_key(entries: &RawValue, limits: &Limits) -> Result<Vec<Operation>, ApiError> {
    let members = members(entries.get())?;
    check_count(members.len(), limits)?;
    let mut operations = Vec::with_capacity(members.len());
    let mut seen = std::collections::BTreeSet::new();
    for (name, raw) in members {
        let key = Key::new(&name)?;
        if !seen.insert(key.clone()) {
            return Err(ApiError::DuplicateKey(shortened(&name)));
        }
        operations.push(put(key, raw, Check::None, limits)?);
    }
    Ok(operations)
}

fn entries_in_list(entries: &RawValue, limits: &Limits) -> Result<Vec<Operation>, ApiError> {
    let list: Vec<&RawValue> =
        serde_json::from_str(entries.get()).map_err(|e| ApiError::BadJson(e.to_string()))?;
    check_count(list.len(), limits)?;
    let mut operations = Vec::with_capacity(list.len());
    let mut seen = std::collections::BTreeSet::new();
    for (i, raw) in list.into_iter().enumerate() {
        let within = format!("entries[{i}]");
        let fields = Fields::read(raw.get(), &within, NewEntry::FIELDS)?;
        let operation = entry(&fields, limits)?;
        if !seen.insert(operation.key.clone()) {
            return Err(ApiError::DuplicateKey(operation.key.to_string()));
        }
        operations.push(operation);
    }
    Ok(operations)
}

fn check_count(count: usize, limits: &Limits) -> Result<(), ApiError> {
    let max = limits.entries_per_write_max;
    if count > max { Err(ApiError::TooManyEntries { count, max }) } else { Ok(()) }
}

fn entry(fields: &Fields<'_>, limits: &Limits) -> Result<Operation, ApiError> {
    let key = Key::new(&fields.text("key")?)?;
    let check = match fields.get("expect_version").map(RawValue::get) {
        None | Some("null") => Check::None,
        Some(raw) => {
            let reason = "has to be a version number, or 0 for a key that is not there";
            let version = whole(raw).ok_or_else(|| fields.bad("expect_version", reason))?;
            expected(version)
        }
    };
    put(key, fields.required("value")?, check, limits)
}

/// The check that a version stands for: 0 is a key that is not there.
pub(super) fn expected(version: u64) -> Check {
    if version == 0 { Check::Absent } else { Check::Version(version) }
}

fn put(key: Key, raw: &RawValue, check: Check, limits: &Limits) -> Result<Operation, ApiError> {
    let value = JsonText::parse(raw.get())
        .map_err(|e| ApiError::BadJson(format!("the value of {key}: {e}")))?;
    check_value(&key, &value, limits)?;
    Ok(Operation { key, action: Action::Put(value), check })
}

/// An object's members, each known and there once.
pub(super) struct Fields<'a> {
    /// Where the object stands in the body, for errors.
    within: String,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(text: &'a str, within: &str, known: &[&str]) -> Result<Self, ApiError> {
        let within = if within.is_empty() { String::new() } else { format!("{within}.") };
        let members = members(text)?;
        for (i, (name, _)) in members.iter().enumerate() {
            if !known.contains(&&**name) {
                return Err(ApiError::UnknownField(format!("{within}{}", shortened(name))));
            }
            if members[..i].iter().any(|(other, _)| other == name) {
                return Err(bad_field(&format!("{within}{name}"), "stands twice"));
            }
        }
        Ok(Self { within, members })
    }

    pub(super) fn bad(&self, name: &str, reason: &str) -> ApiError {
        bad_field(&format!("{}{name}", self.within), reason)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a RawValue, ApiError> {
        self.get(name).ok_or_else(|| self.bad(name, "is missing"))
    }

    pub(super) fn text(&self, name: &str) -> Result<Cow<'a, str>, ApiError> {
        let raw = self.required(name)?;
        read_text(raw).ok_or_else(|| self.bad(name, "has to be a text"))
    }

    fn message(&self, limits: &Limits) -> Result<Option<Text>, ApiError> {
        match self.get("message") {
            None => Ok(None),
            Some(raw) if raw.get() == "null" => Ok(None),
            Some(_) => message(&self.text("message")?, limits).map(Some),
        }
    }
}

/// A whole number that is not negative, however JSON writes it: `3`, `3.0` and `3e0` are one.
pub(super) fn whole(text: &str) -> Option<u64> {
    /// Up to here each whole number is a number of 64 bits with a fraction, too.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = serde_json::from_str(text).ok()?;
    let is_whole = number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number);
    is_whole.then_some(number as u64)
}

fn read_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<&str>(raw.get()) {
        Ok(text) => Some(Cow::Borrowed(text)),
        // A text with escapes has to be put together anew.
        Err(_) => serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned),
    }
}

/// An object's members in their order, doubled ones included.
pub(super) fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, ApiError> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(name) = map.next_key::<Name<'de>>()? {
                members.push((name.0, map.next_value()?));
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(Members);
    members
        .and_then(|members| deserializer.end().map(|()| members))
        .map_err(|e| ApiError::BadJson(e.to_string()))
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        d.deserialize_str(Names)
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes)
        .map_err(|e| ApiError::BadJson(format!("not UTF-8 at byte {}", e.valid_up_to())))
}

fn bad_field(field: &str, reason: &str) -> ApiError {
    ApiError::BadField { field: field.to_owned(), reason: reason.to_owned() }
}

/// What came from outside may be as long as a body; an answer need not be.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
