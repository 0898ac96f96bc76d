//! Entity tags: an `ETag` names the siblings that an answer was made from, by their dots, so that
//! `If-Match` asks for exactly those, conflicts included. Opaque to clients.

use axum::http::header;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::ApiError;
use crate::config::{Check, Row};
use crate::model::{Dot, cbor};

/// Longest list of tags that is looked at, in bytes.
const TAGS_LEN_MAX: usize = 8 * 1024;
/// Most tags in one list.
const TAGS_MAX: usize = 32;

/// The tag of these siblings, quotes included.
pub(super) fn of(row: &Row) -> String {
    let mut dots: Vec<Dot> = row.siblings().iter().map(|entry| entry.dot).collect();
    dots.sort_unstable();
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(cbor::encode(&dots)))
}

/// The dots that a tag names; none where it is nobody's of ours, and then it matches nothing.
fn dots(tag: &str) -> Vec<Dot> {
    let bytes = URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
    cbor::decode(&bytes).unwrap_or_default()
}

/// What such a header has to be.
pub(super) const EXPECTED: &str = "has to be `*` or quoted tags, as an ETag gives them";

/// Whether a text is a list of tags, or `*`.
pub(super) fn is_list(text: &str) -> bool {
    parse(text).is_some()
}

/// A list of tags, as `If-Match` and `If-None-Match` have it.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    /// Opaque texts without their quotes, and whether each is weak.
    List(Vec<(bool, String)>),
}

fn read(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<Tags>, ApiError> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let header = if name == header::IF_MATCH { "If-Match" } else { "If-None-Match" };
    let bad = |reason: &str| ApiError::BadHeader { header, reason: reason.to_owned() };
    if values.next().is_some() {
        return Err(bad("stands twice"));
    }
    let text = value.to_str().map_err(|_| bad("has characters outside of ASCII"))?;
    parse(text).map(Some).ok_or_else(|| bad(EXPECTED))
}

fn parse(text: &str) -> Option<Tags> {
    let mut rest = text.trim();
    if text.len() > TAGS_LEN_MAX {
        return None;
    }
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    loop {
        let strong = rest.strip_prefix("W/");
        let weak = strong.is_some();
        rest = strong.unwrap_or(rest).strip_prefix('"')?;
        let (tag, behind) = rest.split_once('"')?;
        tags.push((weak, tag.to_owned()));
        rest = behind.trim_start();
        if rest.is_empty() {
            return Some(Tags::List(tags));
        }
        rest = rest.strip_prefix(',')?.trim_start();
        if tags.len() == TAGS_MAX {
            return None;
        }
    }
}

/// Whether `If-None-Match` says that the client has this row already.
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> Result<bool, ApiError> {
    let tag = tag.to_str().unwrap_or_default().trim_matches('"');
    Ok(match read(headers, header::IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::List(tags)) => tags.iter().any(|(_, known)| known == tag),
    })
}

/// What `If-Match` and `If-None-Match` ask of the key before a write. `row` is what is there now:
/// where a list has several tags, the one that fits it is taken.
pub(super) fn check(headers: &HeaderMap, row: Option<&Row>) -> Result<Check, ApiError> {
    let (if_match, if_none_match) =
        (read(headers, header::IF_MATCH)?, read(headers, header::IF_NONE_MATCH)?);
    match (if_match, if_none_match) {
        (None, None) => Ok(Check::None),
        (None, Some(Tags::Any)) => Ok(Check::Absent),
        (Some(Tags::Any), None) => Ok(Check::Present),
        (Some(Tags::List(tags)), None) => {
            let now = row.map(of).unwrap_or_default();
            let now = now.trim_matches('"');
            // If-Match compares strongly (RFC 9110, section 13.1.1): weak tags never match.
            let strong = tags.iter().filter(|(weak, _)| !weak).map(|(_, tag)| tag);
            let chosen = strong.clone().find(|tag| *tag == now).or_else(|| strong.clone().next());
            Ok(Check::Siblings(chosen.map(|tag| dots(tag)).unwrap_or_default()))
        }
        (None, Some(Tags::List(_))) => Err(ApiError::BadHeader {
            header: "If-None-Match",
            reason: "takes `*` alone in a write".to_owned(),
        }),
        (Some(_), Some(_)) => Err(ApiError::BadHeader {
            header: "If-Match",
            reason: "and If-None-Match cannot both be asked of a write".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Entry;
    use crate::model::{Origin, Stamp};
    use proptest::prelude::*;

    fn row(origins: &[u8]) -> Row {
        let entry = |origin: &u8| Entry {
            value: None,
            version: 1,
            stamp: Stamp(u64::from(*origin)),
            dot: Dot { origin: Origin([*origin; 8]), n: 300 },
            author: "a".into(),
            region: "r".into(),
            message: None,
            idempotency: None,
        };
        Row::new(origins.iter().map(entry).collect()).unwrap()
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_tag_names_all_siblings_in_whatever_order_they_came() {
        let tag = of(&row(&[1, 2]));
        assert_eq!(tag, of(&row(&[2, 1])));
        assert_ne!(tag, of(&row(&[1])));
        let Ok(Check::Siblings(dots)) = check(&headers(header::IF_MATCH, &tag), None) else {
            panic!("{tag}")
        };
        assert_eq!(dots.len(), 2);
        assert_eq!(tag, "\"goJIAQEBAQEBAQEZASyCSAICAgICAgICGQEs\"", "tags outlive programs");
    }

    #[test]
    fn a_list_is_taken_for_the_tag_that_fits() {
        let (one, two) = (row(&[1]), row(&[2]));
        let list = format!("\"x\", {} , W/{}", of(&one), of(&two));
        let asked = |row| check(&headers(header::IF_MATCH, &list), Some(row)).unwrap();
        assert_eq!(asked(&one), Check::Siblings(vec![one.winner().dot]));
        assert_eq!(asked(&two), Check::Siblings(vec![]), "weak tags match nothing");
        let tag = HeaderValue::from_str(&of(&two)).unwrap();
        assert!(is_known(&headers(header::IF_NONE_MATCH, &list), &tag).unwrap());
        assert!(!is_known(&headers(header::IF_NONE_MATCH, "\"x\""), &tag).unwrap());
    }

    #[test]
    fn stars_ask_for_presence_and_absence() {
        assert_eq!(check(&headers(header::IF_MATCH, "*"), None), Ok(Check::Present));
        assert_eq!(check(&headers(header::IF_NONE_MATCH, "*"), None), Ok(Check::Absent));
        assert_eq!(check(&HeaderMap::new(), None), Ok(Check::None));
        for bad in ["", "7", "\"", "\"a\" \"b\"", "\"a\",", "W/a"] {
            assert!(check(&headers(header::IF_MATCH, bad), None).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_the_reader(text in "[ -~]{0,80}") {
            let _ = check(&headers(header::IF_MATCH, &text), None);
            let _ = check(&headers(header::IF_MATCH, &format!("\"{text}\"")), None);
            let _ = dots(&text);
        }
    }
}
