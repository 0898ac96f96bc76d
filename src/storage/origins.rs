//! Table `origins`: origin (u64) → its last change's number and record hash. Together they are the
//! node's vector, with the folds, which say the same of origins that nobody writes as any more. Lifetime:
//! until the origin is folded.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::error::StoreError;
use super::folds;
use crate::config::record::RecordHash;
use crate::model::{Dot, Folds, Origin, Told, Vector, cbor};

pub(super) const ORIGINS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("origins");

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    n: u64,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    hash: RecordHash,
}

/// All origins: the vector, and each one's last record's hash, but for those that are folded. Of folds
/// these are `known`; others are read.
pub(super) fn read(
    tx: &ReadTransaction,
    known: &Arc<Folds>,
) -> Result<(Vector, BTreeMap<Origin, RecordHash>), StoreError> {
    let (folds, generation) = folds::read(tx, known)?;
    let mut told = Told::new();
    told.advance(Dot { origin: Origin::FOLDS, n: generation });
    let mut hashes = BTreeMap::new();
    for row in tx.open_table(ORIGINS)?.iter()? {
        let (origin, head) = row?;
        let origin = Origin(origin.value().to_be_bytes());
        let head: Head = cbor::decode(head.value())
            .map_err(|e| StoreError::damaged(format!("origin {origin}: {e}")))?;
        told.advance(Dot { origin, n: head.n });
        hashes.insert(origin, head.hash);
    }
    Ok((told.read(&folds), hashes))
}

/// Sets an origin's last change.
pub(super) fn put(tx: &WriteTransaction, dot: Dot, hash: RecordHash) -> Result<(), StoreError> {
    let head = cbor::encode(&Head { n: dot.n, hash });
    tx.open_table(ORIGINS)?.insert(u64::from_be_bytes(dot.origin.0), head.as_slice())?;
    Ok(())
}

/// Forgets an origin, which is folded.
pub(super) fn remove(tx: &WriteTransaction, origin: Origin) -> Result<(), StoreError> {
    tx.open_table(ORIGINS)?.remove(u64::from_be_bytes(origin.0))?;
    Ok(())
}
