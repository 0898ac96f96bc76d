//! Table `log`: (origin u64, n u64) → the record, as it is sent. The truth everything else is made
//! from. Lifetime: until every member has it; as members cannot be evicted yet, for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::database::Database;
use super::error::StoreError;
use crate::config::record::Record;
use crate::config::waiting::is_applicable;
use crate::model::{Dot, Origin, Vector, cbor};

pub(super) const LOG: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("log");

/// A row's value. The record's bytes are kept as they came, so that the chain holds whoever made
/// them.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct LogRow<'a> {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    record: &'a [u8],
    /// The audit records of the requests that it carries, where they were this store's own: a CBOR
    /// list of byte strings, in the order of the chain.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    audit: Option<&'a [u8]>,
}

fn key(dot: Dot) -> (u64, u64) {
    (u64::from_be_bytes(dot.origin.0), dot.n)
}

pub(super) fn put(
    tx: &WriteTransaction,
    records: &[Record],
    audit: &BTreeMap<Dot, Vec<u8>>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(LOG)?;
    for record in records {
        let audit = audit.get(&record.dot).map(Vec::as_slice);
        let row = cbor::encode(&LogRow { record: &record.bytes, audit });
        table.insert(key(record.dot), row.as_slice())?;
    }
    Ok(())
}

pub(super) fn get(tx: &ReadTransaction, dot: Dot) -> Result<Option<Record>, StoreError> {
    let table = tx.open_table(LOG)?;
    let Some(row) = table.get(key(dot))? else { return Ok(None) };
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(format!("log {dot}: {e}"));
    let row: LogRow<'_> = cbor::decode(row.value()).map_err(|e| damaged(&e))?;
    let record = Record::decode(Bytes::copy_from_slice(row.record)).map_err(|e| damaged(&e))?;
    if record.dot != dot {
        return Err(damaged(&"the row holds another change"));
    }
    Ok(Some(record))
}

/// A row of these parts.
#[cfg(test)]
pub(super) fn row(record: &[u8], audit: Option<&[u8]>) -> Vec<u8> {
    cbor::encode(&LogRow { record, audit })
}

/// The two parts of a row: the record's bytes, and the audit records that came with it.
pub(super) fn parts(row: &[u8]) -> Result<(&[u8], Option<&[u8]>), StoreError> {
    let row: LogRow<'_> = cbor::decode(row).map_err(StoreError::damaged)?;
    Ok((row.record, row.audit))
}

/// As [`get`], where the row has to be there.
pub(super) fn require(tx: &ReadTransaction, dot: Dot) -> Result<Record, StoreError> {
    get(tx, dot)?.ok_or_else(|| StoreError::damaged(format!("log {dot} is missing")))
}

/// The dots of those records that `is_asked_for`, out of the whole log.
pub(super) fn dots_of(
    tx: &ReadTransaction,
    is_asked_for: impl Fn(&Record) -> bool,
) -> Result<Vec<Dot>, StoreError> {
    let mut dots = Vec::new();
    for row in tx.open_table(LOG)?.iter()? {
        let (_, row) = row?;
        let (record, _) = parts(row.value())?;
        let record = Record::decode(Bytes::copy_from_slice(record)).map_err(StoreError::damaged)?;
        if is_asked_for(&record) {
            dots.push(record.dot);
        }
    }
    Ok(dots)
}

/// How many turns of origins fill an answer.
const TURNS: usize = 8;

/// Answers peers that ask for what they miss.
#[derive(Clone)]
pub struct LogReader(Arc<Database>);

impl LogReader {
    /// Reads the log of `database`.
    pub fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// The records up to `have` that a state with `vector` does not include, in an order that it
    /// can apply, some `bytes_max` bytes of them; and whether there are more.
    pub fn missing(
        &self,
        vector: Vector,
        have: &Vector,
        bytes_max: usize,
    ) -> Result<(Vec<Bytes>, bool), StoreError> {
        let database = self.0.get()?;
        let tx = database.begin_read()?;
        let mut at = vector;
        // Each origin's next record, read once even where it has to wait for another origin's.
        let mut next: BTreeMap<Origin, Record> = BTreeMap::new();
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for last in have.iter() {
                // In turns, so that an origin that the asker cannot apply does not starve others.
                let turn = bytes + (bytes_max / TURNS).max(1);
                while at.get(last.origin) < last.n && bytes < turn {
                    let dot = Dot { origin: last.origin, n: at.get(last.origin) + 1 };
                    let record = match next.remove(&dot.origin) {
                        Some(record) => record,
                        None => require(&tx, dot)?,
                    };
                    if !is_applicable(&record, &at) {
                        next.insert(dot.origin, record);
                        break;
                    }
                    if bytes > 0 && bytes + record.bytes.len() > bytes_max {
                        return Ok((records, true));
                    }
                    bytes += record.bytes.len();
                    at.advance(dot);
                    records.push(record.bytes);
                    progress = true;
                }
            }
        }
        Ok((records, false))
    }
}
