//! What a program is given: variables with their values, in memory that is overwritten. Compared by
//! keyed hashes, so that nobody has to hold values to see that they changed.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::secrets::Plaintext;

/// Hashes of values by a key of this process, by variable.
pub(super) type Marks = BTreeMap<String, [u8; 32]>;

/// Variables and values, no value with a NUL.
pub(super) struct Given {
    variables: BTreeMap<String, Plaintext>,
}

impl Given {
    /// Refuses what no environment can hold, and says of which variable it is the value.
    pub(super) fn new(variables: BTreeMap<String, Plaintext>) -> Result<Self, Failure> {
        for (name, value) in &variables {
            if value.expose().contains(&0) {
                let why = format!("the value of {name} has a NUL byte, which no variable can hold");
                return Err(Failure::usage(why));
            }
        }
        Ok(Self { variables })
    }

    /// The variables, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// Whether there is a variable of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// What to know it again by.
    pub(super) fn marks(&self, key: &[u8; 32]) -> Marks {
        let mark = |(name, value): (&str, &[u8])| {
            let hash = Sha256::new().chain_update(key).chain_update(value).finalize();
            (name.to_owned(), hash.into())
        };
        self.iter().map(mark).collect()
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// The variables that are new, other, or gone, by name.
pub(super) fn changed(before: &Marks, after: &Marks) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let mut changed: Vec<_> =
        names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    changed.sort_unstable();
    changed
}

/// A JSON value as a variable's: a string as it is, everything else as its compact JSON.
pub(super) fn value(json: &str) -> Result<Plaintext, Failure> {
    let bad = || Failure::failed("the node's answer has a value that is no JSON");
    let Some(inner) = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return Ok(Plaintext::new(json.as_bytes().to_vec()));
    };
    if !inner.contains('\\') {
        return Ok(Plaintext::new(inner.as_bytes().to_vec()));
    }
    // What a parser says of a text can repeat it.
    let text: Zeroizing<String> = Zeroizing::new(serde_json::from_str(json).map_err(|_| bad())?);
    Ok(Plaintext::new(text.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Result<Given, Failure> {
        let pairs = pairs.iter();
        Given::new(
            pairs.map(|(n, v)| ((*n).to_owned(), Plaintext::new(v.as_bytes().to_vec()))).collect(),
        )
    }

    fn text(json: &str) -> String {
        value(json).unwrap().expose_text().unwrap().to_owned()
    }

    #[test]
    fn strings_are_given_as_they_are_and_the_rest_as_json() {
        assert_eq!(text(r#""plain""#), "plain");
        assert_eq!(text(r#""""#), "");
        assert_eq!(text(r#""a\"b\n\u00e9\\""#), "a\"b\né\\");
        for json in ["8080", "1.00", "true", "null", r#"{"a":["b"]}"#, "[]"] {
            assert_eq!(text(json), json);
        }
        assert!(value(r#""\x""#).is_err());
    }

    #[test]
    fn a_nul_is_refused_and_its_variable_named() {
        let why = given(&[("A", "x"), ("B", "se\0cret")]).unwrap_err().to_string();
        assert!(why.contains("B has a NUL") && !why.contains("se"), "{why}");
    }

    #[test]
    fn neither_debug_nor_marks_show_values() {
        let it = given(&[("A", "hunter2")]).unwrap();
        assert_eq!(format!("{it:?}"), r#"{"A"}"#);
        assert_ne!(it.marks(&[1; 32]), it.marks(&[2; 32]), "not to be looked up in a table");
    }

    #[test]
    fn what_changed_is_what_is_new_other_or_gone() {
        let key = [7; 32];
        let marks = |pairs: &[(&str, &str)]| given(pairs).unwrap().marks(&key);
        let before = marks(&[("A", "1"), ("B", "2"), ("C", "3")]);
        let after = marks(&[("A", "1"), ("B", "4"), ("D", "3")]);
        assert_eq!(changed(&before, &after), ["B", "C", "D"]);
        assert!(changed(&before, &before).is_empty());
    }

    proptest! {
        #[test]
        fn every_string_comes_through(original in "\\PC*[\"\\\\\n\t]?\\PC*") {
            let json = serde_json::to_string(&original).unwrap();
            prop_assert_eq!(text(&json), original);
        }
    }
}
