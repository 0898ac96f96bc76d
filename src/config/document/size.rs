//! What a document takes in memory, about: known at any time, because what its keys come to is
//! summed up as they change, and all else is counted. It is for a budget, and so within a factor of
//! what an allocator would say, which a test compares it with; it decides nothing.

use std::mem::size_of;

use automerge::ChangeHash;

use super::{ActorBytes, Document, Gone, LastChange, Sibling};
use crate::config::entry::Entry;
use crate::model::{Dot, Key};

/// What an allocation takes beside what is asked for: its head, and rounding up.
const ALLOCATION: usize = 16;

/// Shared text keeps two counts beside the text.
const SHARED_TEXT: usize = 16 + ALLOCATION;

/// What a place in a tree takes: its nodes are filled by two thirds.
const fn in_tree<T>() -> usize {
    size_of::<T>() * 3 / 2 + 2
}

/// What an empty document takes, with its place among others.
const EMPTY: usize = size_of::<Document>() + 512;

impl Document {
    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let changes = self.changes.len() * in_tree::<(ChangeHash, u64)>()
            + self.by_dot.len() * in_tree::<(Dot, ChangeHash)>()
            + self.heads.len() * in_tree::<(ChangeHash, Dot)>()
            + self.late.len() * in_tree::<Dot>()
            + self.actors.len() * in_tree::<(ActorBytes, LastChange)>();
        let keys = self.rows.len() * in_tree::<(Key, Vec<Sibling>)>()
            + self.gone.len() * in_tree::<(Key, Vec<Gone>)>();
        let base = self.epoch_base.as_ref().map_or(0, |bytes| bytes.len());
        EMPTY + changes + keys + base + self.keys_bytes
    }

    /// What `keys_bytes` has to be.
    pub(super) fn measure_keys(&self) -> usize {
        let rows = self.rows.iter().map(|(key, siblings)| {
            key_bytes(key) + siblings.iter().map(sibling_bytes).sum::<usize>()
        });
        let gone = self.gone.iter().map(|(key, gone)| key_bytes(key) + gone_bytes(gone.len()));
        rows.sum::<usize>() + gone.sum::<usize>()
    }
}

/// What a key takes beside its place in a tree, and its list of siblings.
pub(super) fn key_bytes(key: &Key) -> usize {
    key.as_str().len() + SHARED_TEXT + ALLOCATION
}

/// What one sibling takes.
pub(super) fn sibling_bytes(sibling: &Sibling) -> usize {
    let Entry { value, author, region, message, .. } = &sibling.entry;
    let text = |len: usize| len + SHARED_TEXT;
    let value = value.as_ref().map_or(0, |value| text(value.as_str().len()));
    let message = message.as_ref().map_or(0, |message| text(message.len()));
    size_of::<Sibling>() + value + message + text(author.len()) + text(region.len())
}

/// What so many siblings that were replaced take.
pub(super) fn gone_bytes(count: usize) -> usize {
    count * size_of::<Gone>()
}
