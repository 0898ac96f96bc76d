//! Table `log`: (origin u64, n u64) → the record, as it is sent. The truth everything else is made
//! from. Lifetime: until its document's epoch includes it and every member has it (`storage::trim`).
//! Up to which number of an origin rows may be gone, `meta` says; above that none is. Of what is folded
//! any may be gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _,
    TableDefinition, WriteTransaction,
};

use super::database::Database;
use super::error::StoreError;
use super::past::Checked;
use super::{meta, origins};
use crate::config::record::Record;
use crate::config::waiting::is_applicable;
use crate::model::{Dot, Folds, Origin, Stamp, Told, Vector, cbor};

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

/// Puts rows in, as [`row`] makes them.
pub(super) fn put_rows<'a>(
    tx: &WriteTransaction,
    rows: impl Iterator<Item = (Dot, &'a [u8])>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(LOG)?;
    for (dot, row) in rows {
        table.insert(key(dot), row)?;
    }
    Ok(())
}

/// Puts a record in that came with whole documents, if it is not there; says whether.
pub(super) fn put_missing(tx: &WriteTransaction, record: &Record) -> Result<bool, StoreError> {
    let mut table = tx.open_table(LOG)?;
    if table.get(key(record.dot))?.is_some() {
        return Ok(false);
    }
    let row = cbor::encode(&LogRow { record: &record.bytes, audit: None });
    table.insert(key(record.dot), row.as_slice())?;
    Ok(true)
}

pub(super) fn get(tx: &ReadTransaction, dot: Dot) -> Result<Option<Record>, StoreError> {
    let table = tx.open_table(LOG)?;
    let row = table.get(key(dot))?;
    row.map(|row| decode(dot, row.value())).transpose()
}

/// The record in this change's row.
pub(super) fn decode(dot: Dot, row: &[u8]) -> Result<Record, StoreError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(format!("log {dot}: {e}"));
    let row: LogRow<'_> = cbor::decode(row).map_err(|e| damaged(&e))?;
    let record = Record::decode(Bytes::copy_from_slice(row.record)).map_err(|e| damaged(&e))?;
    if record.dot != dot {
        return Err(damaged(&"the row holds another change"));
    }
    Ok(record)
}

/// Whether all of these changes are there.
pub(super) fn has_all<'a>(
    tx: &ReadTransaction,
    dots: impl IntoIterator<Item = &'a Dot>,
) -> Result<bool, StoreError> {
    let table = tx.open_table(LOG)?;
    for dot in dots {
        if table.get(key(*dot))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many records there are.
pub(super) fn count(tx: &ReadTransaction) -> Result<u64, StoreError> {
    Ok(tx.open_table(LOG)?.len()?)
}

/// How a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogFacts {
    /// How many records it has.
    pub(crate) records: u64,
    /// How many changes the store's state includes.
    pub(crate) changes: u64,
    /// The first change that should be there and is not.
    pub(crate) missing: Option<Dot>,
}

/// Goes along the whole log: above what was trimmed nothing may be missing.
pub(crate) fn facts(tx: &ReadTransaction) -> Result<LogFacts, StoreError> {
    let (vector, _) = origins::read(tx, &Arc::default())?;
    let trimmed = meta::KEY_TRIMMED.get(tx)?.unwrap_or_default();
    let folds = vector.folds();
    let table = tx.open_table(LOG)?;
    let mut missing = None;
    for last in vector.iter() {
        let origin = u64::from_be_bytes(last.origin.0);
        let gone = trimmed.get(last.origin).max(folds.at(last.origin, u64::MAX));
        let mut expected = gone + 1;
        for row in table.range((origin, expected)..=(origin, last.n))? {
            if row?.0.value().1 != expected {
                break;
            }
            expected += 1;
        }
        if expected <= last.n {
            missing = missing.or(Some(Dot { n: expected, ..last }));
        }
    }
    Ok(LogFacts { records: count(tx)?, changes: vector.ahead_of(&Vector::new()), missing })
}

/// A row of these parts.
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
    get(tx, dot)?.ok_or_else(|| lost(dot))
}

/// Visits the records that a state with vector `to` includes and one with `from` does not, each
/// origin's in their order. All of them have to be there.
pub(super) fn each_between(
    tx: &ReadTransaction,
    from: &Vector,
    to: &Vector,
    mut visit: impl FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for (from, last) in to.beyond(from) {
        for n in from + 1..=last.n {
            visit(require(tx, Dot { n, ..last })?)?;
        }
    }
    Ok(())
}

/// Visits the records that are in no derived table yet: those since the last checkpoint. `folds` are
/// all that the transaction sees.
pub(super) fn since_checkpoint(
    tx: &ReadTransaction,
    folds: &Arc<Folds>,
    visit: impl FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (vector, _) = origins::read(tx, folds)?;
    let checkpoint = meta::KEY_CHECKPOINT.get(tx)?.unwrap_or_default().read(folds);
    each_between(tx, &checkpoint, &vector, visit)
}

/// The last record of an origin behind number `after` and up to `last` that is not there.
pub(super) fn last_missing(
    tx: &WriteTransaction,
    after: u64,
    last: Dot,
) -> Result<Option<Dot>, StoreError> {
    missing_of(&tx.open_table(LOG)?, after, last)
}

/// As [`last_missing`], of a transaction that reads.
pub(super) fn last_missing_read(
    tx: &ReadTransaction,
    after: u64,
    last: Dot,
) -> Result<Option<Dot>, StoreError> {
    missing_of(&tx.open_table(LOG)?, after, last)
}

fn missing_of(
    table: &impl ReadableTable<(u64, u64), &'static [u8]>,
    after: u64,
    last: Dot,
) -> Result<Option<Dot>, StoreError> {
    if after >= last.n {
        return Ok(None);
    }
    let origin = u64::from_be_bytes(last.origin.0);
    let mut n = last.n;
    for row in table.range((origin, after + 1)..=(origin, last.n))?.rev() {
        if row?.0.value().1 != n {
            break;
        }
        n -= 1;
    }
    Ok((n > after).then_some(Dot { n, ..last }))
}

fn lost(dot: Dot) -> StoreError {
    StoreError::damaged(format!("log {dot} is missing"))
}

/// As [`get`], where the row has to be there unless it was trimmed, or is of what is folded.
pub(super) fn find(
    tx: &ReadTransaction,
    folds: &Folds,
    dot: Dot,
) -> Result<Option<Record>, StoreError> {
    let record = get(tx, dot)?;
    let is_trimmed =
        || Ok::<bool, StoreError>(meta::KEY_TRIMMED.get(tx)?.unwrap_or_default().names(dot));
    if record.is_none() && !folds.includes(dot) && !is_trimmed()? {
        return Err(lost(dot));
    }
    Ok(record)
}

/// The last change in `vector` of each origin that has records here.
pub(super) fn present(tx: &ReadTransaction, vector: &Vector) -> Result<Vec<Dot>, StoreError> {
    let table = tx.open_table(LOG)?;
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let Some(row) = table.range((at, 0)..)?.next() else { break };
        let at = row?.0.value().0;
        let origin = Origin(at.to_be_bytes());
        found.push(Dot { origin, n: vector.get(origin) });
        from = at.checked_add(1);
    }
    found.retain(|last| last.n > 0);
    Ok(found)
}

/// About up to which change each origin's were written before `before`: found by halves, as stamps
/// rise along an origin's changes.
pub(super) fn written_before(
    tx: &ReadTransaction,
    vector: &Vector,
    before: Stamp,
) -> Result<Told, StoreError> {
    let table = tx.open_table(LOG)?;
    let mut found = Told::new();
    for last in present(tx, vector)? {
        let origin = u64::from_be_bytes(last.origin.0);
        let (mut low, mut high) = (0, last.n);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            // Rows that are gone, and such without entries, are passed over.
            let mut written = None;
            for row in table.range((origin, middle)..=(origin, high))? {
                let (key, row) = row?;
                let dot = Dot { n: key.value().1, ..last };
                if let Some(at) = written_at(row.value(), dot)? {
                    written = Some((dot.n, at));
                    break;
                }
            }
            match written {
                Some((n, at)) if at < before => low = n,
                _ => high = middle - 1,
            }
        }
        if low > 0 {
            found.advance(Dot { n: low, ..last });
        }
    }
    Ok(found)
}

/// When the last of a row's entries was written; none where it has none.
fn written_at(row: &[u8], dot: Dot) -> Result<Option<Stamp>, StoreError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(format!("log {dot}: {e}"));
    let (record, _) = parts(row)?;
    let record = Record::decode(Bytes::copy_from_slice(record)).map_err(|e| damaged(&e))?;
    let checked = Checked::of(&record).map_err(|e| damaged(&e))?;
    let entries = checked.change().into_iter().flat_map(|change| &change.entries);
    Ok(entries.map(|(_, entry)| entry.stamp).max())
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

/// What a peer misses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Records, in an order that can be applied.
    pub records: Vec<Bytes>,
    /// Whether there are more.
    pub more: bool,
    /// Whether some are gone from this log: they come with whole documents.
    pub is_trimmed: bool,
}

/// Answers peers that ask for what they miss.
#[derive(Clone)]
pub struct LogReader(Arc<Database>);

impl LogReader {
    /// Reads the log of `database`.
    pub fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// The records up to `have` that a state with `vector` does not include, in an order that it
    /// can apply, some `bytes_max` bytes of them. `vector` is read by the folds that `have` is read by.
    pub fn missing(
        &self,
        vector: Vector,
        have: &Vector,
        bytes_max: usize,
    ) -> Result<Missing, StoreError> {
        let database = self.0.get()?;
        let tx = database.begin_read()?;
        let trimmed = meta::KEY_TRIMMED.get(&tx)?.unwrap_or_default();
        let mut is_trimmed = false;
        let folds = have.folds();
        let mut at = vector.read_by(&folds);
        let lacking = have.beyond(&at);
        // Each origin's next record, read once even where it has to wait for another origin's.
        let mut next: BTreeMap<Origin, Record> = BTreeMap::new();
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for (_, last) in &lacking {
                // In turns, so that an origin that the asker cannot apply does not starve others.
                let turn = bytes + (bytes_max / TURNS).max(1);
                while at.get(last.origin) < last.n && bytes < turn {
                    let dot = Dot { origin: last.origin, n: at.get(last.origin) + 1 };
                    let record = match next.remove(&dot.origin) {
                        Some(record) => record,
                        None => match get(&tx, dot)? {
                            Some(record) => record,
                            None if trimmed.names(dot) || folds.includes(dot) => {
                                is_trimmed = true;
                                break;
                            }
                            None => return Err(lost(dot)),
                        },
                    };
                    if !is_applicable(&record, &at) {
                        next.insert(dot.origin, record);
                        break;
                    }
                    if bytes > 0 && bytes + record.bytes.len() > bytes_max {
                        return Ok(Missing { records, more: true, is_trimmed });
                    }
                    bytes += record.bytes.len();
                    at.advance(dot);
                    at.reach(record.carries());
                    records.push(record.bytes);
                    progress = true;
                }
            }
        }
        Ok(Missing { records, more: false, is_trimmed })
    }
}
