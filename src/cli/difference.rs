//! What changes between two sets of keys, and how a person reads it.

use super::Failure;
use super::formats::{Keys, shorten};
use super::terminal::{Colour, Terminal};
use crate::model::{JsonText, Key};

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Only the new side has it.
    Added(Key, JsonText),
    /// Both have it, with other values: the old one, then the new one.
    Changed(Key, JsonText, JsonText),
    /// Only the old side has it.
    Removed(Key, JsonText),
}

/// Changes from `old` to `new`, by key.
pub(crate) fn between(old: &Keys, new: &Keys) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (key, value) in new {
        match old.get(key) {
            None => changes.push(Change::Added(key.clone(), value.clone())),
            Some(known) if known == value => {}
            Some(known) => changes.push(Change::Changed(key.clone(), known.clone(), value.clone())),
        }
    }
    for (key, value) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        changes.push(Change::Removed(key.clone(), value.clone()));
    }
    changes.sort_by(|a, b| a.key().cmp(b.key()));
    changes
}

impl Change {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Added(key, _) | Self::Changed(key, _, _) | Self::Removed(key, _) => key,
        }
    }

    /// Says `+ key = value`.
    pub(crate) fn say(&self, margin: &str, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let (colour, text) = match self {
            Self::Added(key, value) => (Colour::Added, format!("+ {key} = {}", short(value))),
            Self::Changed(key, old, new) => {
                (Colour::Changed, format!("~ {key} = {} (was {})", short(new), short(old)))
            }
            Self::Removed(key, value) => (Colour::Removed, format!("- {key} = {}", short(value))),
        };
        terminal.say_painted(margin, colour, &text, "")
    }

    /// The same for programs.
    pub(crate) fn row(&self) -> Row<'_> {
        let (change, old, new) = match self {
            Self::Added(_, new) => ("added", None, Some(new)),
            Self::Changed(_, old, new) => ("changed", Some(old), Some(new)),
            Self::Removed(_, old) => ("removed", Some(old), None),
        };
        Row { change, key: self.key(), old, new }
    }
}

/// A change for programs.
#[derive(serde::Serialize)]
pub(crate) struct Row<'a> {
    change: &'static str,
    key: &'a Key,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<&'a JsonText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<&'a JsonText>,
}

fn short(value: &JsonText) -> String {
    shorten(value.as_str(), 100)
}

/// `3 added, 1 changed, 2 removed`.
pub(crate) fn count(changes: &[Change]) -> String {
    let of = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
    format!(
        "{} added, {} changed, {} removed",
        of(|change| matches!(change, Change::Added(..))),
        of(|change| matches!(change, Change::Changed(..))),
        of(|change| matches!(change, Change::Removed(..)))
    )
}
