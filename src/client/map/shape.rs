//! How a document's keys become one typed value. Flat: each key is a field of its whole name, whatever
//! dots it has. Nested: dots are levels. What does not fit says which key's it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::client::copy::CopyState;

/// How keys become fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// The key `server.port` is the field `server.port`.
    #[default]
    Flat,
    /// The key `server.port` is the field `port` in `server`.
    Nested,
}

/// Why a document is not a value of the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit(String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The document as a `T`.
pub(super) fn fit<T: DeserializeOwned>(shape: Shape, state: &CopyState) -> Result<T, Misfit> {
    let mut root = BTreeMap::new();
    for (key, item) in state.items() {
        let leaf = Node::Leaf(item.value.as_str());
        match shape {
            Shape::Flat => drop(root.insert(key.as_str(), leaf)),
            Shape::Nested => plant(&mut root, key.as_str(), leaf)?,
        }
    }
    T::deserialize(At { node: &Node::Branch(root), path: "" })
}

/// What is at one place: a value's text, or what is below.
enum Node<'a> {
    Leaf(&'a str),
    Branch(BTreeMap<&'a str, Node<'a>>),
}

/// Puts a key's value where its dots say.
fn plant<'a>(
    root: &mut BTreeMap<&'a str, Node<'a>>,
    key: &'a str,
    leaf: Node<'a>,
) -> Result<(), Misfit> {
    let mut place = root;
    let (above, name) = key.rsplit_once('.').map_or((None, key), |(a, n)| (Some(a), n));
    for level in above.into_iter().flat_map(|above| above.split('.')) {
        match place.entry(level).or_insert_with(|| Node::Branch(BTreeMap::new())) {
            Node::Branch(below) => place = below,
            Node::Leaf(_) => return Err(both(key)),
        }
    }
    match place.insert(name, leaf) {
        None => Ok(()),
        Some(_) => Err(both(key)),
    }
}

fn both(key: &str) -> Misfit {
    Misfit(format!(
        "{key}: a key above or below it has a value of its own, so that its dots are no levels"
    ))
}

/// A place that is read.
struct At<'a, 'n> {
    node: &'n Node<'a>,
    path: &'n str,
}

impl<'de> Deserializer<'de> for At<'de, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.node {
            Node::Branch(below) => {
                visitor.visit_map(Fields { left: below.iter(), value: None, path: self.path })
            }
            // Only places below the root are leaves, and `Value` reads those.
            Node::Leaf(_) => Err(Misfit(format!("{}: this is no level", self.path))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The fields of one level.
struct Fields<'a, 'n> {
    left: std::collections::btree_map::Iter<'n, &'a str, Node<'a>>,
    value: Option<(&'a str, &'n Node<'a>)>,
    path: &'n str,
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        let Some((name, node)) = self.left.next() else { return Ok(None) };
        self.value = Some((name, node));
        let named = |Misfit(e)| Misfit(format!("{}: {e}", below(self.path, name)));
        seed.deserialize(StrDeserializer::new(name)).map(Some).map_err(named)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((name, node)) = self.value.take() else {
            return Err(Misfit("a value is asked for before its key".to_owned()));
        };
        let path = below(self.path, name);
        match node {
            Node::Branch(_) => seed.deserialize(At { node, path: &path }),
            Node::Leaf(text) => {
                let mut value = serde_json::Deserializer::from_str(text);
                let read = seed.deserialize(&mut value);
                read.map_err(|e| Misfit(format!("{path}: {e}")))
            }
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::copy::testing::state;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Flat {
        color: String,
        #[serde(rename = "server.port")]
        port: u16,
        #[serde(default)]
        debug: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Nested {
        server: Server,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Server {
        port: u16,
        hosts: Option<Vec<String>>,
        tls: Option<Tls>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Tls {
        on: bool,
    }

    #[test]
    fn a_flat_key_is_a_field_of_its_whole_name() {
        let state = state(&[("color", "\"red\""), ("server.port", "8080"), ("other", "[1]")]);
        let flat: Flat = fit(Shape::Flat, &state).unwrap();
        assert_eq!(flat, Flat { color: "red".to_owned(), port: 8080, debug: false });
        let all: BTreeMap<String, serde_json::Value> = fit(Shape::Flat, &state).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["color", "other", "server.port"]);
        #[derive(Debug, Deserialize)]
        struct Wrapped(BTreeMap<String, Box<serde_json::value::RawValue>>);
        let raw = fit::<Option<Wrapped>>(Shape::Flat, &state).unwrap().unwrap();
        assert_eq!(raw.0["server.port"].get(), "8080");
    }

    #[test]
    fn nested_dots_are_levels() {
        let keys = [("server.port", "1"), ("server.hosts", "[\"a\"]"), ("server.tls.on", "true")];
        let nested: Nested = fit(Shape::Nested, &state(&keys)).unwrap();
        let hosts = Some(vec!["a".to_owned()]);
        let server = Server { port: 1, hosts, tls: Some(Tls { on: true }) };
        assert_eq!(nested, Nested { server });
    }

    #[test]
    fn what_does_not_fit_names_its_key() {
        let says = |shape, keys: &[(&str, &str)]| {
            let state = state(keys);
            match shape {
                Shape::Flat => fit::<Flat>(shape, &state).unwrap_err().to_string(),
                Shape::Nested => fit::<Nested>(shape, &state).unwrap_err().to_string(),
            }
        };
        let said = says(Shape::Flat, &[("color", "\"red\""), ("server.port", "\"x\"")]);
        assert!(said.starts_with("server.port: invalid type"), "{said}");
        let said = says(Shape::Flat, &[("color", "\"red\"")]);
        assert_eq!(said, "missing field `server.port`");
        let said = says(Shape::Nested, &[("server.port", "70000")]);
        assert!(said.starts_with("server.port: invalid value"), "{said}");
        for keys in [[("server", "{}"), ("server.port", "1")], [("a.b", "1"), ("a.b.c", "1")]] {
            let said = says(Shape::Nested, &keys);
            assert!(said.contains("no levels"), "{said}");
        }
    }

    #[test]
    fn digits_are_kept() {
        let state = state(&[("n", "1.00000000000000000001")]);
        let raw: BTreeMap<String, Box<serde_json::value::RawValue>> =
            fit(Shape::Flat, &state).unwrap();
        assert_eq!(raw["n"].get(), "1.00000000000000000001");
    }
}
