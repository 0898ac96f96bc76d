//! Query strings and paths: percent-encoded text, taken apart without guessing. A parameter that
//! is not known, or stands twice, is refused by name, so that a typing error is not passed over.

use std::borrow::Cow;

use super::error::ApiError;

/// Most parameters that are looked at.
const PARAMETERS_MAX: usize = 16;

/// The parameters of one request.
#[derive(Debug, Default)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads a query string that may have these parameters, each once.
    pub(super) fn parse(text: Option<&'a str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let damaged = |parameter: &str| bad(parameter, "is not percent-encoded UTF-8");
            let name = decode(name, true).ok_or_else(|| damaged(name))?;
            let value = decode(value, true).ok_or_else(|| damaged(&name))?;
            if !known.contains(&&*name) {
                return Err(bad(&name, "is not a parameter of this path"));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(bad(&name, "stands twice"));
            }
            if parameters.len() == PARAMETERS_MAX {
                return Err(bad(&name, "is one parameter too many"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// A parameter's value, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// A whole number from `min` to `max`, if it is there.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(bad(name, &format!("has to be a whole number from {min} to {max}"))),
        }
    }
}

/// A parameter that is wrong.
pub(super) fn bad(parameter: &str, reason: &str) -> ApiError {
    // What is named may be as long as a request's line; an answer need not be.
    let parameter = parameter.chars().take(64).collect();
    ApiError::BadQuery { parameter, reason: reason.to_owned() }
}

/// Percent-decoding (RFC 3986), with `+` for a space where it is a form's. `None` where the text
/// is damaged.
pub(super) fn decode(text: &str, form: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|c| c == b'%' || (form && c == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(c) = rest.next() {
        bytes.push(match c {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if form => b' ',
            _ => c,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Percent-encoding of everything but letters, digits, `-`, `.`, `_` and `~`.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.bytes() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(c));
            }
            _ => out.push_str(&format!("%{c:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(error: ApiError) -> String {
        match error {
            ApiError::BadQuery { parameter, .. } => parameter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_are_decoded_and_unknown_ones_refused() {
        let query = Query::parse(Some("prefix=a%2Fb+c&size=7&&"), &["size", "prefix"]).unwrap();
        assert_eq!(query.get("prefix"), Some("a/b c"));
        assert_eq!(query.number("size", 1, 10).unwrap(), Some(7));
        assert_eq!(query.get("cursor"), None);
        for (text, named) in [
            ("sise=7", "sise"),
            ("size=1&size=2", "size"),
            ("size=%zz", "size"),
            ("size=%ff", "size"),
        ] {
            assert_eq!(field(Query::parse(Some(text), &["size"]).unwrap_err()), named, "{text}");
        }
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        for bad in ["size=0", "size=100000", "size=", "size=-1", "size=+5", "size=1.5", "size=x"] {
            let query = Query::parse(Some(bad), &["size"]).unwrap();
            assert_eq!(field(query.number("size", 1, 1000).unwrap_err()), "size", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_as_it_was(text in ".{0,40}") {
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded, true).unwrap(), text.as_str());
            prop_assert_eq!(decode(&encoded, false).unwrap(), text.as_str());
        }

        #[test]
        fn no_text_panics_the_parser(text in "[ -~é%&=+]{0,60}") {
            let _ = Query::parse(Some(&text), &["size", "cursor"]);
        }
    }
}
