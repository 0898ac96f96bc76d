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
use crate::config::document::{ChangesHeld, Document, Newest, SavedDocument};
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
    Ok((base, changes(tx, &name)?))
}

/// A document's changes since its base.
fn changes(tx: &ReadTransaction, name: &str) -> Result<Vec<Dot>, StoreError> {
    let mut dots = Vec::new();
    for row in tx.open_table(CHANGES)?.range(span(name))? {
        let (_, origin, n) = row?.0.value();
        dots.push(Dot { origin: Origin(origin.to_be_bytes()), n });
    }
    Ok(dots)
}

/// The changes of which whoever has them has all of a document, and is in its epoch ([`Newest`]);
/// nothing where there is no such document. Costs less than reading it.
pub(super) fn newest(
    tx: &ReadTransaction,
    document: &DocumentId,
) -> Result<Option<Vec<Dot>>, StoreError> {
    let name = document.to_string();
    let base: Option<Newest> = match tx.open_table(BASES)?.get(name.as_str())? {
        Some(base) => {
            let base = cbor::decode(base.value());
            Some(base.map_err(|e| StoreError::damaged(format!("base {name}: {e}")))?)
        }
        None => None,
    };
    let has_base = base.is_some();
    let mut dots = changes(tx, &name)?;
    dots.extend(base.iter().flat_map(Newest::dots));
    Ok((has_base || !dots.is_empty()).then_some(dots))
}

/// Whether a document is loaded from this change, beside its base.
pub(super) fn has_change(
    tx: &ReadTransaction,
    id: &DocumentId,
    dot: Dot,
) -> Result<bool, StoreError> {
    let key = (id.to_string(), u64::from_be_bytes(dot.origin.0), dot.n);
    let table = tx.open_table(CHANGES)?;
    Ok(table.get((key.0.as_str(), key.1, key.2))?.is_some())
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

/// Sets a document's base to one that is encoded already, and forgets what came since the old one.
pub(super) fn replace(
    tx: &WriteTransaction,
    id: &DocumentId,
    base: &[u8],
) -> Result<(), StoreError> {
    let name = id.to_string();
    tx.open_table(BASES)?.insert(name.as_str(), base)?;
    tx.open_table(CHANGES)?.retain_in(span(&name), |_, ()| false)?;
    Ok(())
}

/// Sets a document's base to all that it holds now.
pub(super) fn put_base(
    tx: &WriteTransaction,
    id: &DocumentId,
    document: &Document,
) -> Result<(), StoreError> {
    if let Some(base) = document.epoch_base() {
        epochs::put_base(tx, id, base)?;
    }
    replace(tx, id, &cbor::encode(&document.save()))
}
