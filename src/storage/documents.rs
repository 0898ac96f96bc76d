//! Tables `bases` and `changes`: what a document is loaded from. Derived.
//!
//! - `bases`: `service/environment` → [`SavedDocument`], a document as of some changes: what is
//!   visible, and what a next change has to name.
//! - `changes`: (`service/environment`, origin u64, n u64) → (): the log's changes of that document
//!   since its base. Lifetime: until the next base, written when they outnumber what it holds.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::epochs;
use super::error::StoreError;
use crate::config::document::{ChangesHeld, Document, SavedDocument};
use crate::model::{DocumentId, Dot, Origin, cbor};

type ChangeKey<'a> = (&'a str, u64, u64);

pub(super) const BASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bases");
pub(super) const CHANGES: TableDefinition<'_, ChangeKey<'static>, ()> =
    TableDefinition::new("changes");

fn span(name: &str) -> std::ops::RangeInclusive<ChangeKey<'_>> {
    (name, 0, 0)..=(name, u64::MAX, u64::MAX)
}

/// How many changes each document holds, with its base: what stores that have no table of epochs
/// tell it by.
pub(super) fn changes_held(tx: &ReadTransaction) -> Result<BTreeMap<DocumentId, u64>, StoreError> {
    let damaged = |name: &str| StoreError::damaged(format!("base {name}"));
    let mut held: BTreeMap<DocumentId, u64> = BTreeMap::new();
    for row in tx.open_table(BASES)?.iter()? {
        let (name, base) = row?;
        let id = DocumentId::parse(name.value()).map_err(|_| damaged(name.value()))?;
        let base: ChangesHeld = cbor::decode(base.value()).map_err(|_| damaged(name.value()))?;
        held.insert(id, base.changes);
    }
    for row in tx.open_table(CHANGES)?.iter()? {
        let (key, _) = row?;
        let (name, _, _) = key.value();
        let id = DocumentId::parse(name).map_err(|_| damaged(name))?;
        *held.entry(id).or_insert(0) += 1;
    }
    Ok(held)
}

/// A document's base, if it has one, and its changes since.
pub(super) fn read(
    tx: &ReadTransaction,
    document: &DocumentId,
) -> Result<(Option<SavedDocument>, Vec<Dot>), StoreError> {
    let name = document.to_string();
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(format!("base {name}: {e}"));
    let base = match tx.open_table(BASES)?.get(name.as_str())? {
        Some(base) => Some(cbor::decode(base.value()).map_err(|e| damaged(&e))?),
        None => None,
    };
    let mut dots = Vec::new();
    for row in tx.open_table(CHANGES)?.range(span(&name))? {
        let (_, origin, n) = row?.0.value();
        dots.push(Dot { origin: Origin(origin.to_be_bytes()), n });
    }
    Ok((base, dots))
}

/// Adds to a document's changes since its base.
pub(super) fn add_changes(
    tx: &WriteTransaction,
    document: &DocumentId,
    dots: &[Dot],
) -> Result<(), StoreError> {
    let name = document.to_string();
    let mut table = tx.open_table(CHANGES)?;
    for dot in dots {
        table.insert((name.as_str(), u64::from_be_bytes(dot.origin.0), dot.n), ())?;
    }
    Ok(())
}

/// Sets a document's base to all that it holds now.
pub(super) fn put_base(
    tx: &WriteTransaction,
    id: &DocumentId,
    document: &Document,
) -> Result<(), StoreError> {
    let name = id.to_string();
    let base = cbor::encode(&document.save());
    tx.open_table(BASES)?.insert(name.as_str(), base.as_slice())?;
    if let Some(base) = document.epoch_base() {
        epochs::put_base(tx, id, base)?;
    }
    tx.open_table(CHANGES)?.retain_in(span(&name), |_, ()| false)?;
    Ok(())
}
