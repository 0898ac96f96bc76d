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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use bytes::Bytes;
    use imbl::OrdMap;

    use super::super::testing::{document_of, rewritten};
    use super::*;
    use crate::config::Row;
    use crate::config::texts::Texts;
    use crate::model::cbor;

    /// A row as it was kept before: with room for siblings that it does not have.
    type Grown = (Vec<Entry>, OnceLock<Bytes>);

    /// What the process has in memory, in bytes.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
    }

    /// Says what it takes to keep what `make` makes.
    fn taken<T>(make: impl FnOnce() -> T) -> (T, usize) {
        let before = resident();
        let made = make();
        (made, resident().saturating_sub(before))
    }

    #[test]
    #[ignore = "measures its whole process: the test below starts it alone"]
    fn measured() {
        let (keys, took) =
            taken(|| (0..100).map(|_| document_of(1_000, 256)).collect::<Vec<Document>>());
        println!("keys {} {took}", keys.iter().map(Document::bytes).sum::<usize>());
        let (changes, took) = taken(|| rewritten(100_000));
        println!("changes {} {took}", changes.bytes());
        let entries = |key: &Key| keys[0].siblings(key).iter().map(cbor::encode).collect();
        let stored: Vec<(Key, Vec<Vec<u8>>)> =
            keys[0].keys().map(|key| (key.clone(), entries(key))).collect();
        let decoded = |bytes: &[Vec<u8>]| -> Vec<Entry> {
            bytes.iter().map(|bytes| cbor::decode(bytes).unwrap()).collect()
        };
        let view = |mut texts: Option<Texts>| {
            let row = |(key, bytes): &(Key, Vec<Vec<u8>>)| {
                let mut siblings = decoded(bytes);
                if let Some(texts) = &mut texts {
                    siblings.iter_mut().for_each(|entry| texts.share(entry));
                }
                let key = Key::new(key.as_str()).unwrap();
                (key, Arc::new(Row::new(siblings).unwrap()))
            };
            let mut row = row;
            (0..100).map(|_| stored.iter().map(&mut row).collect()).collect()
        };
        let grown = |(key, bytes): &(Key, Vec<Vec<u8>>)| {
            // As a list grows to which one sibling after the other is added.
            let mut siblings = Vec::with_capacity(4);
            siblings.extend(decoded(bytes));
            let row = Arc::new((siblings, OnceLock::<Bytes>::new()));
            (Key::new(key.as_str()).unwrap(), row)
        };
        let grown = || stored.iter().map(grown).collect::<OrdMap<Key, Arc<Grown>>>();
        let (grown, took) = taken(|| (0..100).map(|_| grown()).collect::<Vec<_>>());
        println!("view with room for four siblings: {} a key", took / 100_000);
        let (own, took): (Vec<OrdMap<Key, Arc<Row>>>, _) = taken(|| view(None));
        println!("view with texts of its own: {} a key", took / 100_000);
        let (shared, took): (Vec<OrdMap<Key, Arc<Row>>>, _) =
            taken(|| view(Some(Texts::default())));
        println!("view with shared texts: {} a key", took / 100_000);
        println!("an entry: {} bytes", size_of::<Entry>());
        drop((grown, own, shared, keys, changes));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn it_is_within_a_factor_of_what_the_process_takes() {
        let mut measure = std::process::Command::new(std::env::current_exe().unwrap());
        measure.args(["--exact", "config::document::size::tests::measured", "--ignored"]);
        let output = measure.arg("--nocapture").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for what in ["keys ", "changes "] {
            let line = text.lines().find_map(|line| line.split_once(what)).unwrap().1;
            let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            let factor = numbers[0] / numbers[1];
            assert!((0.6..1.7).contains(&factor), "{what}: {factor}\n{text}");
        }
    }

    #[test]
    fn the_running_sum_is_what_counting_gives() {
        let document = document_of(100, 50);
        assert_eq!(document.keys_bytes, document.measure_keys());
        let document = rewritten(1_000);
        assert_eq!(document.keys_bytes, document.measure_keys());
        let loaded = Document::load(document.save(), &std::sync::Arc::default()).unwrap();
        assert_eq!(loaded.bytes(), document.bytes());
    }
}
