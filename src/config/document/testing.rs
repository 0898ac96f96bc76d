//! Documents for tests of what stands around them.

use super::{Actor, Document};
use crate::config::entry::Entry;
use crate::model::{Dot, JsonText, Key, Origin, Stamp};

const ORIGIN: Origin = Origin([1; 8]);
const ACTOR: Actor = Actor { origin: ORIGIN, incarnation: [1; 4] };

fn entry(i: usize, dot: Dot, value_len: usize) -> (Key, Entry) {
    let value = JsonText::parse(&format!("\"{}\"", "x".repeat(value_len))).unwrap();
    let entry = Entry {
        value: Some(value),
        version: dot.n,
        stamp: Stamp(dot.n),
        dot,
        author: "author".into(),
        region: "region".into(),
        message: None,
        idempotency: None,
    };
    (Key::new(&format!("key.{i}")).unwrap(), entry)
}

/// A document of one change that sets this many keys to texts of this length.
pub(crate) fn document_of(keys: usize, value_len: usize) -> Document {
    let dot = Dot { origin: ORIGIN, n: 1 };
    let entries: Vec<(Key, Entry)> = (0..keys).map(|i| entry(i, dot, value_len)).collect();
    let mut document = Document::new();
    document.write(ACTOR, dot, &entries).unwrap();
    document
}

/// A document of ten keys and this many changes.
pub(crate) fn rewritten(changes: usize) -> Document {
    let mut document = Document::new();
    for n in 1..=changes {
        let dot = Dot { origin: ORIGIN, n: n as u64 };
        document.write(ACTOR, dot, &[entry(n % 10, dot, n % 64)]).unwrap();
    }
    document
}
