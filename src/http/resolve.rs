//! `?resolve=secrets`: configurations with the secrets that they refer to. A value refers to a
//! secret by an object of one member, `{"$secret": "name"}`, at any depth. It is stored, sent
//! between regions and watched as that; only this answer, to whoever may reveal each of the
//! secrets, has their values in it, and it is kept by nobody on the way.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::App;
use super::body::members;
use super::edge::Incoming;
use super::error::ApiError;
use super::propose::{self, READ_PARAMETERS, Read};
use super::query::{Query, bad};
use super::secrets::{NO_STORE, Wanted, reveal};
use crate::access::{SecretAction, decide};
use crate::model::SecretName;
use crate::secrets::Plaintext;

/// Most secrets that one answer is made with.
const REFERENCES_MAX: usize = 256;
/// Most bytes of one answer; each reference takes its secret's whole value.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// The member that makes an object a reference.
const MEMBER: &str = "$secret";

/// Whether the request asks for it.
pub(super) fn is_asked(query: &Query<'_>) -> Result<bool, ApiError> {
    match query.get("resolve") {
        Some("secrets") => Ok(true),
        Some(_) => Err(bad("resolve", "has to be `secrets`, or absent")),
        None => match READ_PARAMETERS.into_iter().find(|name| query.get(name).is_some()) {
            Some(name) => Err(bad(name, "goes with resolve=secrets here")),
            None => Ok(false),
        },
    }
}

/// An answer with what its items refer to, and what it says of how new that is.
pub(super) struct Resolved {
    /// In memory that is overwritten once it was sent.
    pub(super) body: Bytes,
    read: Read,
}

impl Resolved {
    /// Says in the answer what it was made from. Before the configurations' part does.
    pub(super) fn tell(
        &self,
        incoming: &Incoming,
        headers: &mut HeaderMap,
    ) -> Result<(), ApiError> {
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        self.read.tell(incoming, headers)
    }
}

/// Puts secrets into the values of these items, each a JSON object with the member `value`; the
/// answer is the items with commas between and with what is `around` them.
pub(super) async fn resolve(
    app: &App,
    incoming: &Incoming,
    query: &Query<'_>,
    items: &[Bytes],
    around: (&str, &str),
) -> Result<Resolved, ApiError> {
    let texts: Vec<&str> =
        items.iter().map(|item| std::str::from_utf8(item).unwrap_or("{}")).collect();
    let mut found: BTreeMap<SecretName, usize> = BTreeMap::new();
    for text in &texts {
        for (name, value) in members(text)? {
            if name == "value" {
                gather(value, &mut found)?;
            }
        }
    }
    let caller = incoming.caller()?;
    let read = propose::read(app, incoming, query).await?;
    let state = &read.state;
    let mut wanted = Vec::with_capacity(found.len());
    for name in found.keys() {
        // Before it is looked up: whoever may not reveal it does not learn whether it is there.
        let permit = decide::secret(caller, &state.rules, SecretAction::Reveal, name)?;
        let secret = state.secret_ids.get(name).and_then(|id| state.secrets.get(id));
        let newest = secret.and_then(|secret| Some((secret, secret.newest()?)));
        let (secret, sealed) =
            newest.ok_or_else(|| ApiError::UnknownSecret { name: name.clone() })?;
        wanted.push(Wanted { permit, secret, version: secret.version, sealed });
    }
    let values = match wanted.is_empty() {
        true => Vec::new(),
        false => reveal(app, incoming, state, &wanted).await?,
    };
    let values = found.iter().zip(&values).map(|((name, count), value)| {
        let filled = Filled { value, len: text_len(value), count: *count };
        (name.as_str(), filled)
    });
    let body = write_items(&texts, &values.collect(), around)?;
    Ok(Resolved { body: Bytes::from_owner(body), read })
}

/// A secret that is referred to.
struct Filled<'a> {
    value: &'a Plaintext,
    /// How many bytes it takes as JSON.
    len: usize,
    /// How often all items together refer to it.
    count: usize,
}

type Values<'a> = BTreeMap<&'a str, Filled<'a>>;

/// All items in one piece of memory, which is overwritten when it is dropped.
fn write_items(
    texts: &[&str],
    values: &Values<'_>,
    (before, after): (&str, &str),
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // It will not be longer, and so does not grow: a vector that does leaves what it had behind.
    let secrets: usize = values.values().map(|it| it.len.saturating_mul(it.count)).sum();
    let items: usize = texts.iter().map(|text| text.len() + 1).sum();
    let len = before.len() + after.len() + items + secrets;
    if len > ANSWER_LEN_MAX {
        let why = format!("the answer would have more than {ANSWER_LEN_MAX} bytes");
        return Err(ApiError::LimitReached(why));
    }
    let mut out = Zeroizing::new(Vec::with_capacity(len));
    out.extend_from_slice(before.as_bytes());
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_item(text, values, &mut out)?;
    }
    out.extend_from_slice(after.as_bytes());
    Ok(out)
}

/// How many bytes a secret takes as JSON.
fn text_len(value: &Plaintext) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // There is nothing to fail.
    let _ = serde_json::to_writer(&mut count, value.expose_text().unwrap_or_default());
    count.0
}

/// The secret that this value is a reference to, if it is one.
fn reference(value: &RawValue) -> Result<Option<SecretName>, ApiError> {
    if !value.get().starts_with('{') {
        return Ok(None);
    }
    let members = members(value.get())?;
    let [(name, target)] = members.as_slice() else { return Ok(None) };
    if name != MEMBER {
        return Ok(None);
    }
    let target = serde_json::from_str::<String>(target.get()).ok();
    Ok(target.and_then(|target| SecretName::new(&target).ok()))
}

/// What may hold a reference at all: most values need not be taken apart.
fn may_refer(text: &str) -> bool {
    // An escape could spell the member's name, too.
    text.contains(MEMBER) || text.contains("\\u")
}

/// Counts the references in a value. No deeper than values are: 64 levels.
fn gather(value: &RawValue, found: &mut BTreeMap<SecretName, usize>) -> Result<(), ApiError> {
    let text = value.get();
    if !may_refer(text) {
        return Ok(());
    }
    if let Some(name) = reference(value)? {
        *found.entry(name).or_default() += 1;
        if found.len() > REFERENCES_MAX {
            let why =
                format!("more than {REFERENCES_MAX} secrets in one answer: ask for fewer keys");
            return Err(ApiError::LimitReached(why));
        }
        return Ok(());
    }
    match text.as_bytes().first() {
        Some(b'{') => members(text)?.iter().try_for_each(|(_, value)| gather(value, found)),
        Some(b'[') => elements(text)?.iter().try_for_each(|value| gather(value, found)),
        _ => Ok(()),
    }
}

fn elements(text: &str) -> Result<Vec<&RawValue>, ApiError> {
    serde_json::from_str(text).map_err(|e| ApiError::BadJson(e.to_string()))
}

fn write_item(text: &str, values: &Values<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
    out.push(b'{');
    for (i, (name, value)) in members(text)?.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(&name, out);
        out.push(b':');
        if name == "value" {
            write_value(value, values, out)?;
        } else {
            out.extend_from_slice(value.get().as_bytes());
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_value(value: &RawValue, values: &Values<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
    let text = value.get();
    if !may_refer(text) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    if let Some(name) = reference(value)?
        && let Some(secret) = values.get(name.as_str())
    {
        write_text(secret.value.expose_text().unwrap_or_default(), out);
        return Ok(());
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            out.push(b'{');
            for (i, (name, value)) in members(text)?.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_text(&name, out);
                out.push(b':');
                write_value(value, values, out)?;
            }
            out.push(b'}');
        }
        Some(b'[') => {
            out.push(b'[');
            for (i, value) in elements(text)?.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(value, values, out)?;
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Text into memory: there is nothing to fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: &Plaintext, count: usize) -> Filled<'_> {
        Filled { value, len: text_len(value), count }
    }

    fn resolved(value: &str) -> String {
        let text = format!("{{\"key\":\"a\",\"value\":{value},\"conflicts\":[{value}]}}");
        let (db, api) = (Plaintext::new(b"p\"w".to_vec()), Plaintext::new(b"k".to_vec()));
        let values = BTreeMap::from([("db", filled(&db, 1)), ("api", filled(&api, 1))]);
        let mut out = Vec::new();
        write_item(&text, &values, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let out = out.strip_prefix("{\"key\":\"a\",\"value\":").unwrap();
        out.strip_suffix(&format!(",\"conflicts\":[{value}]}}")).unwrap().to_owned()
    }

    #[test]
    fn a_reference_is_an_object_of_that_one_member_at_any_depth() {
        for (value, expected) in [
            (r#"{"$secret":"db"}"#, r#""p\"w""#),
            (r#"{"\u0024secret":"db"}"#, r#""p\"w""#),
            (r#"[1.00,{"a":{"$secret":"api"}},"x"]"#, r#"[1.00,{"a":"k"},"x"]"#),
            (r#"{"$secret":{"$secret":"db"}}"#, r#"{"$secret":"p\"w"}"#),
        ] {
            assert_eq!(resolved(value), expected, "{value}");
        }
        for none in [
            r#"{"$secret":"db","x":1}"#,
            r#"{"$secret":7}"#,
            r#"{"$secret":"not a name"}"#,
            r#""$secret""#,
            r#"{"secret":"db"}"#,
            "1.00000000000000000001",
        ] {
            assert_eq!(resolved(none), none);
        }
    }

    #[test]
    fn every_reference_is_found_and_counted() {
        let text = r#"{"a":{"$secret":"db"},"b":[{"$secret":"db"},{"$secret":"api"}]}"#;
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let mut found = BTreeMap::new();
        gather(raw, &mut found).unwrap();
        let found: Vec<_> = found.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [("api", 1), ("db", 2)]);
    }

    #[test]
    fn an_answer_takes_no_more_memory_than_it_has_bytes() {
        let large = Plaintext::new("\"x\n\u{1}é".repeat(8 * 1024).into_bytes());
        let plain = "{\"key\":\"k\",\"value\":[1,{\"a\":null}]}";
        let one = "{\"key\":\"k\",\"value\":{\"$secret\":\"db\"}}";
        let forty = format!("{{\"value\":[{}]}}", vec!["{\"$secret\":\"db\"}"; 40].join(","));
        for (texts, count) in [
            ([vec![plain; 999], vec![&forty]].concat(), 40),
            ([vec![plain; 999], vec![one]].concat(), 1),
            (vec![one; 100], 100),
        ] {
            let values = BTreeMap::from([("db", filled(&large, count))]);
            let body = write_items(&texts, &values, ("[", "]")).unwrap();
            serde_json::from_slice::<serde::de::IgnoredAny>(&body).unwrap();
            let (len, capacity) = (body.len(), body.capacity());
            let references = 16 * count;
            assert!(len <= capacity && capacity <= len + references + 1, "{capacity} for {len}");
        }
        let values = BTreeMap::from([("db", filled(&large, 1_000))]);
        let error = write_items(&vec![one; 1_000], &values, ("[", "]")).unwrap_err();
        assert!(matches!(error, ApiError::LimitReached(_)), "{error}");
    }
}
