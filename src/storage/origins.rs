//! Table `origins`: origin (u64) → its last change's number and record hash. Together they are the
//! node's vector. Lifetime: until an epoch drops the origin.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::error::StoreError;
use crate::config::record::RecordHash;
use crate::model::{Dot, Origin, Vector, cbor};

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

/// All origins: the vector, and each one's last record's hash.
pub(super) fn read(
    tx: &ReadTransaction,
) -> Result<(Vector, BTreeMap<Origin, RecordHash>), StoreError> {
    let mut vector = Vector::new();
    let mut hashes = BTreeMap::new();
    for row in tx.open_table(ORIGINS)?.iter()? {
        let (origin, head) = row?;
        let origin = Origin(origin.value().to_be_bytes());
        let head: Head = cbor::decode(head.value())
            .map_err(|e| StoreError::damaged(format!("origin {origin}: {e}")))?;
        vector.advance(Dot { origin, n: head.n });
        hashes.insert(origin, head.hash);
    }
    Ok((vector, hashes))
}

/// Sets an origin's last change.
pub(super) fn put(tx: &WriteTransaction, dot: Dot, hash: RecordHash) -> Result<(), StoreError> {
    let head = cbor::encode(&Head { n: dot.n, hash });
    tx.open_table(ORIGINS)?.insert(u64::from_be_bytes(dot.origin.0), head.as_slice())?;
    Ok(())
}
