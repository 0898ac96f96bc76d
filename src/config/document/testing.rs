//! Documents for tests of what stands around them.

use super::{Actor, Document};
use crate::config::entry::Entry;
use crate::model::{Dot, JsonText, Key, Origin, Stamp};

/// A document of one change that sets this many keys to texts of this length.
pub(crate) fn document_of(keys: usize, value_len: usize) -> Document {
    let origin = Origin([1; 8]);
    let dot = Dot { origin, n: 1 };
    let entry = |i: usize| {
        let value = JsonText::parse(&format!("\"{}\"", "x".repeat(value_len))).unwrap();
        let entry = Entry {
            value: Some(value),
            version: 1,
            stamp: Stamp(1),
            dot,
            author: "author".into(),
            region: "region".into(),
            message: None,
            idempotency: None,
        };
        (Key::new(&format!("key.{i}")).unwrap(), entry)
    };
    let entries: Vec<(Key, Entry)> = (0..keys).map(entry).collect();
    let mut document = Document::new();
    document.write(Actor { origin, incarnation: [1; 4] }, dot, &entries).unwrap();
    document
}
