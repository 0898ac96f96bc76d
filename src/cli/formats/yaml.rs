//! YAML 1.2 files of several documents. `yes`, `on`, `0755`, `1_000` and dates stay strings, because
//! readers disagree on what they are; anchors and merge keys are resolved, within the parser's
//! limits; a tag that says something of its own, and `.inf`, are refused and not guessed at.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};

use super::profiles::ON_PROFILE;
use super::tree::{self, Entry, Tree};
use super::{FormatError, Keys, quote};
use crate::model::Environment;

/// Deepest file that is taken, in levels: the parser needs a good 20 KiB of stack for each.
const DEPTH_MAX: usize = 40;
/// Deepest value that a file holds, in levels, inside the deepest unfolded key.
pub(crate) const VALUE_DEPTH_MAX: usize = DEPTH_MAX - tree::UNFOLD_MAX - 1;

/// Reads a file's documents.
pub(crate) fn parse(text: &str) -> Result<Vec<Tree>, FormatError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_str_multiple_with_options(text, options)
        .map_err(|error| {
            let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
            let message = error.without_snippet().to_string();
            // The parser's own message ends in the place that stands before it here.
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            FormatError::Syntax { line: line.and_then(|line| line.try_into().ok()), message }
        })?;
    Ok(documents.into_iter().map(|document| of_node(text, document)).collect())
}

/// What the parser gives, numbers not yet with their text.
enum Node {
    Null,
    Bool(bool),
    Number(f64, String),
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value as f64, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value as f64, value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = serde_json::Number::from_f64(value)
            .ok_or_else(|| E::custom("JSON values have no infinity and no `.nan`"))?;
        Ok(Node::Number(value, number.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key()? {
            let value = map.next_value()?;
            entries.push((name, value));
            if entries.len() > 1_000_000 {
                return Err(A::Error::custom("more than a million keys"));
            }
        }
        Ok(Node::Map(entries))
    }
}

fn of_node(text: &str, node: Spanned<Node>) -> Tree {
    match node.value {
        Node::Null => Tree::Raw("null".to_owned()),
        Node::Bool(value) => Tree::Raw(value.to_string()),
        Node::Number(value, shown) => {
            Tree::Raw(digits(text, &node.defined, value).unwrap_or(shown))
        }
        Node::Text(text) => Tree::Text(text),
        Node::List(items) => {
            Tree::List(items.into_iter().map(|item| of_node(text, item)).collect())
        }
        Node::Map(entries) => {
            let entries = entries.into_iter().map(|(name, value)| Entry {
                line: usize::try_from(name.referenced.line()).ok().filter(|line| *line > 0),
                name: name.value,
                tree: of_node(text, value),
            });
            Tree::Map(entries.collect())
        }
    }
}

/// The number as it stands in the file, if that is how JSON would write it.
fn digits(text: &str, place: &Location, value: f64) -> Option<String> {
    let start = usize::try_from(place.span().byte_offset()?).ok()?;
    let len = usize::try_from(place.span().byte_len()?).ok()?;
    let raw = text.get(start..start.checked_add(len)?)?.trim();
    let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<&serde_json::value::RawValue>(raw).is_ok();
    (number && raw.parse() == Ok(value)).then(|| raw.to_owned())
}

/// What of a value a file cannot hold.
pub(crate) fn loss_of(tree: &Tree) -> Option<(&'static str, bool)> {
    let deep = tree::depth_of(tree) > VALUE_DEPTH_MAX;
    deep.then_some(("a value in YAML is nested at most 31 levels deep", false))
}

/// Writes keys as one document of nested maps.
pub(crate) fn write(out: &mut String, first: bool, profile: Option<&Environment>, keys: &Keys) {
    if !first {
        out.push_str("---\n");
    }
    if let Some(profile) = profile {
        out.push_str(&format!("{ON_PROFILE}: {}\n", scalar(profile.as_str())));
    }
    push_block(out, &tree::unfold(keys), 0);
}

fn push_block(out: &mut String, tree: &Tree, indent: usize) {
    let margin = " ".repeat(indent);
    match tree {
        Tree::Map(entries) => {
            for entry in entries {
                let name = scalar(&entry.name);
                // A key that is longer than parsers look ahead has to say that it is one.
                if name.len() > 500 {
                    out.push_str(&format!("{margin}? {name}\n{margin}:"));
                } else {
                    out.push_str(&format!("{margin}{name}:"));
                }
                push_after(out, &entry.tree, indent);
            }
        }
        Tree::List(items) => {
            for item in items {
                if is_block(item) {
                    let mut block = String::new();
                    push_block(&mut block, item, indent + 2);
                    out.push_str(&format!("{margin}- {}", &block[indent + 2..]));
                } else {
                    out.push_str(&format!("{margin}-"));
                    push_after(out, item, indent);
                }
            }
        }
        Tree::Raw(_) | Tree::Text(_) => {}
    }
}

/// What stands after `key:` or `-`.
fn push_after(out: &mut String, tree: &Tree, indent: usize) {
    match tree {
        Tree::Raw(text) => out.push_str(&format!(" {text}\n")),
        Tree::Text(text) => out.push_str(&format!(" {}\n", scalar(text))),
        Tree::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Tree::List(items) if items.is_empty() => out.push_str(" []\n"),
        block => {
            out.push('\n');
            push_block(out, block, indent + 2);
        }
    }
}

fn is_block(tree: &Tree) -> bool {
    match tree {
        Tree::Raw(_) | Tree::Text(_) => false,
        Tree::List(items) => !items.is_empty(),
        Tree::Map(entries) => !entries.is_empty(),
    }
}

/// A string, plain where no reader of any YAML would take it for something else.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quote::double(text) }
}

fn is_plain(text: &str) -> bool {
    const TAKEN: [&str; 11] =
        ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '$' | '/' | '_'))
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !TAKEN.contains(&text.to_ascii_lowercase().as_str())
}
