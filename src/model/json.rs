//! JSON values as the text they came as, without the white space: numbers keep every digit and
//! objects their order. Checked once, on the way in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects that is taken, in levels.
pub const DEPTH_MAX: usize = 64;

/// A valid JSON value: minified, at most [`DEPTH_MAX`] deep, no name twice in one object.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

/// Why a text is not taken as a value. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl JsonText {
    /// Checks `text` and takes it without its white space.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let checked = Checked { depth: 0 }.visit(&mut deserializer);
        checked.and_then(|()| deserializer.end()).map_err(|e| JsonError(e.to_string()))?;
        Ok(Self(minify(text).into()))
    }

    /// Takes bytes that were a `JsonText` before, as a store keeps them.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|e| JsonError(e.to_string()))?;
        serde_json::from_str::<&RawValue>(text).map_err(|e| JsonError(e.to_string()))?;
        Ok(Self(text.into()))
    }

    /// The value of anything that serializes.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, JsonError> {
        Self::parse(&value.to_string())
    }

    /// The minified text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as a tree; numbers past 64 bits lose digits here.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or(serde_json::Value::Null)
    }

    /// This value with `patch` merged in (RFC 7396). Untouched parts keep their text.
    pub fn merge_patch(&self, patch: &JsonText) -> Result<Self, JsonError> {
        let merged = merge(Some(&self.0), &patch.0).map_err(|e| JsonError(e.to_string()))?;
        Self::parse(&merged)
    }
}

type Object<'a> = Vec<(std::borrow::Cow<'a, str>, &'a RawValue)>;

fn merge(target: Option<&str>, patch: &str) -> Result<String, serde_json::Error> {
    if !patch.starts_with('{') {
        return Ok(patch.to_owned());
    }
    let target = target.filter(|target| target.starts_with('{')).unwrap_or("{}");
    let patch = members(patch)?;
    let names: BTreeMap<&str, &RawValue> =
        patch.iter().map(|(name, value)| (&**name, *value)).collect();
    let old = members(target)?;
    let mut merged = Vec::new();
    for (name, value) in &old {
        match names.get(&**name) {
            None => merged.push((&**name, value.get().to_owned())),
            Some(change) if change.get() == "null" => {}
            Some(change) => merged.push((&**name, merge(Some(value.get()), change.get())?)),
        }
    }
    let known: BTreeSet<&str> = old.iter().map(|(name, _)| &**name).collect();
    for (name, value) in &patch {
        let known = known.contains(&**name);
        if !known && value.get() != "null" {
            merged.push((&**name, merge(None, value.get())?));
        }
    }
    let mut text = String::from("{");
    for (i, (name, value)) in merged.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(name)?);
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Ok(text)
}

fn members(object: &str) -> Result<Object<'_>, serde_json::Error> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Object<'de>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
            let mut members = Vec::new();
            while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                members.push((name, map.next_value()?));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Members)
}

fn minify(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

/// Walks a value without building it, and refuses what is too deep or names a member twice.
struct Checked {
    depth: usize,
}

impl Checked {
    fn visit<'de, D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<Checked, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("nested more than {DEPTH_MAX} levels deep")));
        }
        Ok(Checked { depth: self.depth + 1 })
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Checked {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        self.visit(d)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = std::collections::BTreeSet::new();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            map.next_value_seed(self.deeper()?)?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format!(
                    "the name {name:?} stands twice in one object"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> minicbor::Encode<C> for JsonText {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.0.as_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for JsonText {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let value = Self::from_stored(d.bytes()?);
        value.map_err(|_| minicbor::decode::Error::message("the value is not JSON"))
    }
}

impl serde::Serialize for JsonText {
    /// The value itself, as it is (through serde_json alone).
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(s)
    }
}

impl<'de> serde::Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        Self::parse(raw.get()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(text: &str) -> JsonText {
        JsonText::parse(text).unwrap()
    }

    #[test]
    fn a_value_keeps_its_digits_and_order_and_loses_its_white_space() {
        let text = "{ \"b\" : 1.00000000000000000001 ,\n\t\"a\":[ 123456789012345678901234567890, \" \\\" x \" ] }";
        assert_eq!(
            json(text).as_str(),
            r#"{"b":1.00000000000000000001,"a":[123456789012345678901234567890," \" x "]}"#
        );
    }

    #[test]
    fn what_is_too_deep_or_doubled_or_no_json_is_refused() {
        assert!(JsonText::parse(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
        assert!(JsonText::parse(&format!("{}{}", "[".repeat(65), "]".repeat(65))).is_err());
        assert!(JsonText::parse(&"[".repeat(1_000_000)).is_err());
        assert!(JsonText::parse(r#"{"a":1,"\u0061":2}"#).is_err());
        for bad in ["", "{", "1 2", "nul", "{\"a\"}", "'a'", "NaN"] {
            assert!(JsonText::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn merge_patch_follows_the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(json(target).merge_patch(&json(patch)).unwrap().as_str(), result);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_the_parser(text in ".{0,100}") {
            let _ = JsonText::parse(&text);
        }

        #[test]
        fn minified_text_is_the_same_value(text in r#"[\[\]{}:," a1\\n]{0,40}"#) {
            if let Ok(value) = JsonText::parse(&text) {
                let before: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(value.to_value(), before);
                prop_assert_eq!(JsonText::parse(value.as_str()).unwrap(), value);
            }
        }
    }
}
