//! Table `audit`: seq u64 → record: the audit records that belong to no change (denied attempts,
//! reads), and those of changes that are gone from the log; until they are archived (`archived`). Those of the others stand in the
//! changes' own rows of the log, so that no change is on disk without its record; all share one
//! chain. Lifetime: the store's.
//!
//! Which rows of the log carry records, `meta` says (`Span`): along those, numbers only rise, so
//! that a record is found by bisection, without an index that each write would have to keep.

use std::ops::ControlFlow;
use std::sync::Arc;

use minicbor::bytes::ByteSlice;
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase as _, TableDefinition, WriteTransaction,
};

use super::archived::KEY_ARCHIVED;
use super::database::Database;
use super::error::StoreError;
use super::tally::FileTally;
use super::{journal, log, meta, origins};
use crate::audit::{Archived, ChainReader, Head, Record, Unreadable};
use crate::config::record::Record as Change;
use crate::env::Disk;
use crate::model::{Dot, Origin, cbor};

pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");

/// Rows of the log that carry audit records: an origin's, from `n` on, whose first record is `seq`.
/// A store that took a new origin has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Span {
    #[n(0)]
    pub(super) origin: Origin,
    #[n(1)]
    pub(super) n: u64,
    #[n(2)]
    pub(super) seq: u64,
}

pub(super) fn put(tx: &WriteTransaction, rows: &[(u64, Vec<u8>)]) -> Result<(), StoreError> {
    put_rows(tx, rows.iter().map(|(seq, record)| (*seq, record.as_slice())))
}

pub(super) fn put_rows<'a>(
    tx: &WriteTransaction,
    rows: impl Iterator<Item = (u64, &'a [u8])>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(AUDIT)?;
    for (seq, record) in rows {
        table.insert(seq, record)?;
    }
    Ok(())
}

/// What a row of the log carries: the chain's next records, in their order.
pub(super) fn encode_list(records: &[Vec<u8>]) -> Vec<u8> {
    let list: Vec<&ByteSlice> = records.iter().map(|record| record.as_slice().into()).collect();
    cbor::encode(&list)
}

fn decode_list(list: &[u8]) -> Result<Vec<&ByteSlice>, StoreError> {
    cbor::decode(list).map_err(StoreError::damaged)
}

/// The records that a row of the log carries, each with its number.
pub(super) fn numbered(row: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let (_, list) = log::parts(row)?;
    let records = list.map(decode_list).transpose()?.unwrap_or_default();
    let numbered = records.into_iter().map(|record| {
        let seq = Record::decode(record).map_err(StoreError::damaged)?.seq;
        Ok((seq, record.to_vec()))
    });
    numbered.collect()
}

type Visit<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// The chain of `config.redb`.
#[derive(Clone)]
pub struct ConfigChain(Source);

#[derive(Clone)]
enum Source {
    Running(Arc<Database>),
    Stopped(Arc<redb::ReadOnlyDatabase>),
}

impl ConfigChain {
    /// Of a running node's store.
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self(Source::Running(database))
    }

    /// Of the store in this directory, whose node does not run. Nothing is written.
    pub fn open(dir: &std::path::Path) -> Result<Self, Unreadable> {
        let path = dir.join(super::database::FILE);
        let failed = |e: &dyn std::fmt::Display| Unreadable(format!("{}: {e}", path.display()));
        let database = redb::ReadOnlyDatabase::open(&path).map_err(|e| failed(&e))?;
        let is_ahead = database.begin_read().map_err(StoreError::from);
        if is_ahead.and_then(|tx| journal::is_ahead(dir, &tx)).map_err(|e| failed(&e))? {
            return Err(failed(&format!("{} has changes that are not in it", journal::FILE)));
        }
        Ok(Self(Source::Stopped(Arc::new(database))))
    }

    /// A view of the whole store as it is now, for whoever copies it.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        match &self.0 {
            Source::Running(database) => database.get().and_then(|it| Ok(it.begin_read()?)),
            Source::Stopped(database) => database.begin_read().map_err(StoreError::from),
        }
    }

    /// How much the store's file holds. Reads all of it.
    pub(crate) fn weigh(&self, disk: &dyn Disk) -> Result<FileTally, StoreError> {
        FileTally::of(&self.begin_read()?, &super::copy::TABLES, disk, super::database::FILE)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, Unreadable> {
        self.begin_read().and_then(|tx| read(&tx)).map_err(|e| Unreadable(e.to_string()))
    }
}

impl ChainReader for ConfigChain {
    fn head(&self) -> Result<Head, Unreadable> {
        self.read(|tx| Ok(meta::KEY_AUDIT.get(tx)?.unwrap_or_default()))
    }

    /// Records that stand beside a change stay in its row of the log after they were archived; they
    /// are shown no more than the others.
    fn walk(&self, from: u64, visit: Visit<'_>) -> Result<(), Unreadable> {
        self.read(|tx| {
            let archived = KEY_ARCHIVED.get(tx)?.unwrap_or_default();
            walk(tx, from.max(archived.base.seq + 1), visit)
        })
    }

    fn archived(&self) -> Result<Archived, Unreadable> {
        self.read(|tx| Ok(KEY_ARCHIVED.get(tx)?.unwrap_or_default()))
    }

    fn inconsistency(&self) -> Result<Option<String>, Unreadable> {
        self.read(check_changes)
    }
}

/// Visits the records from `from` on, those of the log and those of the table, in their order.
fn walk(tx: &ReadTransaction, from: u64, visit: Visit<'_>) -> Result<(), StoreError> {
    // A store of before this table was there, opened by nothing but a reader, has no chain.
    let Some(spans) = meta::KEY_AUDIT_SPANS.get(tx)? else { return walk_table(tx, from, visit) };
    let table = tx.open_table(log::LOG)?;
    let audit = tx.open_table(AUDIT)?;
    let mut others = audit.range(from..)?;
    let mut other = others.next().transpose()?;
    let start = spans.partition_point(|span| span.seq <= from).saturating_sub(1);
    for (i, span) in spans.iter().enumerate().skip(start) {
        let n = if i == start { bisect(&table, span, from)? } else { span.n };
        let origin = u64::from_be_bytes(span.origin.0);
        for row in table.range((origin, n)..=(origin, u64::MAX))? {
            let row = row?.1;
            for record in records(row.value()) {
                let seq = Record::decode(record).map(|record| record.seq).ok();
                if seq.is_some_and(|seq| seq < from) {
                    continue;
                }
                while let Some((at, bytes)) = &other
                    && seq.is_some_and(|seq| at.value() < seq)
                {
                    if visit(bytes.value()).is_break() {
                        return Ok(());
                    }
                    other = others.next().transpose()?;
                }
                if visit(record).is_break() {
                    return Ok(());
                }
            }
        }
    }
    while let Some((_, bytes)) = other {
        if visit(bytes.value()).is_break() {
            return Ok(());
        }
        other = others.next().transpose()?;
    }
    Ok(())
}

/// The records of a row of the log; the row itself, where it cannot be read.
fn records(row: &[u8]) -> Vec<&[u8]> {
    let list = log::parts(row).and_then(|(_, list)| list.map(decode_list).transpose());
    match list {
        Ok(list) => list.unwrap_or_default().into_iter().map(|record| &**record).collect(),
        Err(_) => vec![row],
    }
}

fn walk_table(tx: &ReadTransaction, from: u64, visit: Visit<'_>) -> Result<(), StoreError> {
    let table = match tx.open_table(AUDIT) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        table => table?,
    };
    for row in table.range(from..)? {
        if visit(row?.1.value()).is_break() {
            break;
        }
    }
    Ok(())
}

/// A row of the span at or before the one that has record `from`: numbers rise along the rows, and
/// those behind the span (another store's, after an old copy was put back) carry none.
fn bisect(
    table: &ReadOnlyTable<(u64, u64), &'static [u8]>,
    span: &Span,
    from: u64,
) -> Result<u64, StoreError> {
    let origin = u64::from_be_bytes(span.origin.0);
    let last = table.range((origin, span.n)..=(origin, u64::MAX))?.next_back().transpose()?;
    let (mut low, mut high) = (span.n, last.map_or(span.n, |(key, _)| key.value().1));
    // The rows up to `low` begin at or before `from`; those behind `high` do not.
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        // Rows that were trimmed are no more there.
        let next = table.range((origin, middle)..=(origin, high))?.next().transpose()?;
        let next = next.and_then(|(key, row)| Some((key.value().1, first_seq(row.value())?)));
        match next {
            Some((n, first)) if first <= from => low = n,
            _ => high = middle - 1,
        }
    }
    Ok(low)
}

fn first_seq(row: &[u8]) -> Option<u64> {
    records(row).first().and_then(|record| Record::decode(record).ok()).map(|it| it.seq)
}

/// Whether the changes that the chain's records stand beside are whole: each origin's own chain of
/// hashes goes through, up to what the store says of it. So a change cannot be replaced under its
/// record. What was trimmed has no change any more that could be replaced, and its records stand in
/// the table.
fn check_changes(tx: &ReadTransaction) -> Result<Option<String>, StoreError> {
    let spans = meta::KEY_AUDIT_SPANS.get(tx)?.unwrap_or_default();
    let (vector, hashes) = origins::read(tx, &Arc::default())?;
    let (trimmed, folds) = (meta::KEY_TRIMMED.get(tx)?.unwrap_or_default(), vector.folds());
    let table = tx.open_table(log::LOG)?;
    for span in spans {
        let origin = u64::from_be_bytes(span.origin.0);
        // Of what is folded, records may be gone, too.
        let folded = folds.at(span.origin, u64::MAX);
        let trimmed = trimmed.get(span.origin).max(folded);
        let mut expected = span.n;
        let mut previous = None;
        for row in table.range((origin, span.n)..=(origin, u64::MAX))? {
            let (key, row) = row?;
            let dot = Dot { origin: span.origin, n: key.value().1 };
            if dot.n > expected && dot.n - 1 <= trimmed {
                expected = dot.n;
                previous = None;
            }
            if dot.n != expected {
                let n = expected;
                return Ok(Some(format!("change {} is missing", Dot { n, ..dot })));
            }
            let change = log::parts(row.value())
                .and_then(|(record, _)| {
                    Change::decode(bytes::Bytes::copy_from_slice(record))
                        .map_err(StoreError::damaged)
                })
                .map_err(|e| e.to_string());
            let change = match change {
                Ok(change) => change,
                Err(why) => return Ok(Some(format!("change {dot}: {why}"))),
            };
            if change.dot != dot || previous.is_some_and(|previous| previous != change.previous) {
                return Ok(Some(format!(
                    "change {dot} does not follow the one before it: one of the two was changed"
                )));
            }
            previous = Some(change.hash);
            expected += 1;
        }
        let last = vector.get(span.origin);
        let is_end = expected == last + 1 && previous.as_ref() == hashes.get(&span.origin);
        if !is_end && last > trimmed {
            let dot = Dot { origin: span.origin, n: last };
            return Ok(Some(format!("the changes do not end with {dot}, as the store says")));
        }
    }
    Ok(None)
}
