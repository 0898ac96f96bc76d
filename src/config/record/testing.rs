//! Records that tests make by hand, of stores that there are none of. Nothing here looks whether a node
//! could have made them.

use super::{NO_RECORD, Record};
use crate::config::Entry;
use crate::config::document::{Actor, Document};
use crate::model::{DocumentId, Dot, JsonText, Key, Stamp};

/// The record of one write of the key `k`, at `stamp`; no value is a removal. It says that it replaces
/// these, or, as older programs, nothing of that.
pub(crate) fn write_of_k(
    at: Dot,
    document: DocumentId,
    epoch: u32,
    (value, stamp): (Option<&str>, Stamp),
    replaces: Option<&[Dot]>,
) -> Record {
    let entry = Entry {
        value: value.map(|value| JsonText::parse(value).unwrap()),
        version: replaces.map_or(1, |dots| dots.len() as u64 + 1),
        stamp,
        dot: at,
        author: "tester".into(),
        region: "here".into(),
        message: None,
        idempotency: None,
    };
    let actor = Actor { origin: at.origin, incarnation: [0; 4] };
    let entries = [(Key::new("k").unwrap(), entry)];
    let change = Document::new().write(actor, at, &entries).unwrap();
    let replaces = replaces.map(|dots| vec![dots.to_vec()]);
    Record::with(at, NO_RECORD, document, epoch, vec![], &change, replaces)
}
