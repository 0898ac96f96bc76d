//! What every format is read into and written from: a tree whose numbers keep their text and whose
//! entries keep their order and place. And the two ways between a tree and dotted keys.

use std::collections::BTreeMap;
use std::collections::btree_map;

use serde_json::value::RawValue;

use super::{FormatError, Keys, Shortened};
use crate::model::{JsonText, Key};

/// Levels of maps that dotted keys are unfolded into at most; the rest of a key stays dotted.
pub(crate) const UNFOLD_MAX: usize = 8;
/// Deepest file that is taken, in levels: the deepest value inside the deepest unfolded key.
pub(crate) const DEPTH_MAX: usize = crate::model::json::DEPTH_MAX + UNFOLD_MAX + 1;

/// One node of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// `null`, a boolean or a number, as JSON text.
    Raw(String),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A map, in the file's order; a name may stand twice.
    Map(Vec<Entry>),
}

/// One member of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Its name, which may have dots.
    pub(crate) name: String,
    /// The line it stands on, from 1, where the parser says.
    pub(crate) line: Option<usize>,
    /// Its value.
    pub(crate) tree: Tree,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    /// The line, from 1, where the parser says.
    pub(crate) line: Option<usize>,
    /// The value.
    pub(crate) value: JsonText,
}

/// The dotted keys of one document.
pub(crate) type Document = BTreeMap<Key, Placed>;

/// Makes dotted keys of a document. Dotted and nested spellings of a key are one key; it may be
/// repeated with the same value, not with another one.
pub(crate) fn flatten(tree: Tree) -> Result<Document, FormatError> {
    let mut document = Document::new();
    let Tree::Map(entries) = tree else {
        let message = "a map of keys and values is expected".to_owned();
        return Err(FormatError::Syntax { line: None, message });
    };
    for entry in entries {
        flatten_entry(&mut document, entry.name.clone(), entry)?;
    }
    Ok(document)
}

fn flatten_entry(document: &mut Document, key: String, entry: Entry) -> Result<(), FormatError> {
    let line = entry.line;
    match entry.tree {
        Tree::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                flatten_entry(document, format!("{key}.{}", entry.name), entry)?;
            }
            Ok(())
        }
        tree => {
            let name = match Key::new(&key) {
                Ok(name) => name,
                Err(error) => return Err(FormatError::Key { line, key, error }),
            };
            let value = JsonText::parse(&to_json(&tree)).map_err(|e| FormatError::Value {
                line,
                key,
                message: e.to_string(),
            })?;
            match document.entry(name) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(Placed { line, value });
                }
                btree_map::Entry::Occupied(known) if known.get().value == value => {}
                btree_map::Entry::Occupied(known) => {
                    return Err(FormatError::Twice {
                        key: known.key().clone(),
                        first_line: known.get().line,
                        first: Shortened(known.get().value.clone()),
                        second_line: line,
                        second: Shortened(value),
                    });
                }
            }
            Ok(())
        }
    }
}

/// Nested maps of dotted keys. Where one key is also the beginning of others (`a` and `a.b`), the
/// others keep their dots, and so do keys with an empty part (`a..b`).
pub(crate) fn unfold(keys: &Keys) -> Tree {
    let mut root = Branch::default();
    let mut dotted = Vec::new();
    for (key, value) in keys {
        if key.as_str().split('.').any(str::is_empty) {
            dotted.push(Entry { name: key.to_string(), line: None, tree: of_json(value) });
            continue;
        }
        let mut branch = &mut root;
        for part in key.as_str().splitn(UNFOLD_MAX, '.') {
            branch = branch.below.entry(part).or_default();
        }
        branch.value = Some(value);
    }
    let mut entries = root.entries();
    entries.extend(dotted);
    Tree::Map(entries)
}

/// The keys as they are, without nesting.
pub(crate) fn flat(keys: &Keys) -> impl Iterator<Item = (&str, Tree)> {
    keys.iter().map(|(key, value)| (key.as_str(), of_json(value)))
}

#[derive(Default)]
struct Branch<'a> {
    value: Option<&'a JsonText>,
    below: BTreeMap<&'a str, Branch<'a>>,
}

impl Branch<'_> {
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, branch) in &self.below {
            let below = branch.entries();
            let name = (*name).to_owned();
            match branch.value {
                None => entries.push(Entry { name, line: None, tree: Tree::Map(below) }),
                Some(value) => {
                    let dotted = below.into_iter().flat_map(|entry| entry.dotted(&name));
                    let dotted: Vec<Entry> = dotted.collect();
                    entries.push(Entry { name, line: None, tree: of_json(value) });
                    entries.extend(dotted);
                }
            }
        }
        entries
    }
}

impl Entry {
    /// This entry with `prefix.` before its name, and no maps below it.
    fn dotted(self, prefix: &str) -> Vec<Entry> {
        let name = format!("{prefix}.{}", self.name);
        match self.tree {
            Tree::Map(below) if !below.is_empty() => {
                below.into_iter().flat_map(|entry| entry.dotted(&name)).collect()
            }
            tree => vec![Entry { name, line: None, tree }],
        }
    }
}

/// Levels of lists and maps in a tree; none in a scalar.
pub(crate) fn depth_of(tree: &Tree) -> usize {
    match tree {
        Tree::Raw(_) | Tree::Text(_) => 0,
        Tree::List(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Tree::Map(entries) => {
            1 + entries.iter().map(|entry| depth_of(&entry.tree)).max().unwrap_or(0)
        }
    }
}

/// The JSON text of a tree.
pub(crate) fn to_json(tree: &Tree) -> String {
    let mut out = String::new();
    push_json(&mut out, tree);
    out
}

fn push_json(out: &mut String, tree: &Tree) {
    match tree {
        Tree::Raw(text) => out.push_str(text),
        Tree::Text(text) => out.push_str(&json_string(text)),
        Tree::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_json(out, item);
            }
            out.push(']');
        }
        Tree::Map(entries) => {
            out.push('{');
            for (i, entry) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&json_string(&entry.name));
                out.push(':');
                push_json(out, &entry.tree);
            }
            out.push('}');
        }
    }
}

pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The tree of a value.
pub(crate) fn of_json(value: &JsonText) -> Tree {
    // A `JsonText` is valid and no deeper than its limit, so that this cannot fail.
    of_json_text(value.as_str(), DEPTH_MAX).unwrap_or_else(|_| Tree::Raw("null".to_owned()))
}

/// The tree of a JSON text, at most `depth` levels deep.
pub(crate) fn of_json_text(text: &str, depth: usize) -> Result<Tree, serde_json::Error> {
    use serde::de::Error as _;
    let text = text.trim_ascii();
    let deeper = || {
        depth.checked_sub(1).ok_or_else(|| {
            serde_json::Error::custom(format!("nested more than {DEPTH_MAX} levels deep"))
        })
    };
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let depth = deeper()?;
            let Members(members) = serde_json::from_str(text)?;
            let mut entries = Vec::with_capacity(members.len());
            for (name, value) in members {
                let tree = of_json_text(value.get(), depth)?;
                entries.push(Entry { name, line: None, tree });
            }
            Tree::Map(entries)
        }
        Some(b'[') => {
            let depth = deeper()?;
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let items = items.into_iter().map(|item| of_json_text(item.get(), depth));
            Tree::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Tree::Text(serde_json::from_str(text)?),
        _ => {
            serde_json::from_str::<&RawValue>(text)?;
            Tree::Raw(text.to_owned())
        }
    })
}

/// The members of an object in their order, doubled ones included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A>(self, mut map: A) -> Result<Members<'de>, A::Error>
            where
                A: serde::de::MapAccess<'de>,
            {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        d.deserialize_map(Visitor)
    }
}
