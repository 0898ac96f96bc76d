//! What may go from the log: a record that its document's epoch began with, that every member has that
//! is waited for, and all of which is older than retries are recognised. What it wrote lives on in the
//! document; its audit records move to their table.
//!
//! A pass goes through the origins' records in their order, in steps that are bounded in rows and in
//! finds, and remembers in memory where it is: one that a crash ends begins again. It only looks; the
//! writer removes what it found.

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};

use super::error::StoreError;
use super::idempotency::IDEMPOTENCY;
use super::past::Checked;
use super::{audit, documents, log, meta};
use crate::config::Snapshot;
use crate::config::record::Record;
use crate::model::{Dot, Stamp, Vector};

/// Most rows that a step looks at.
const STEP_ROWS_MAX: usize = 1_024;
/// Most records that a step finds: each is decoded, and removed in one transaction with the others.
const STEP_FINDS_MAX: usize = 256;

/// By what is trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrimBounds {
    /// What every member has that is waited for.
    pub acknowledged: Vector,
    /// What was written at this time or later is kept.
    pub before: Stamp,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many records are gone.
    pub records: usize,
    /// Whether the pass goes on.
    pub is_under_way: bool,
}

/// A record that goes.
pub(super) struct Due {
    dot: Dot,
    /// By what retries of its requests were recognised.
    retries: Vec<[u8; 16]>,
}

/// A pass.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    /// Behind which record to go on, and what all floors together include; none between passes.
    pass: Option<(Dot, Vector)>,
    /// The sum of all documents' epochs when the last pass began.
    epochs: u64,
    /// Whether it passed over something only because that was too new, or not everywhere.
    was_held_up: bool,
}

/// What a look at a record comes to.
enum Look {
    Goes(Due),
    Stays,
    /// A document is still loaded from it.
    IsUsed,
    /// It and what comes behind it is too new.
    IsNew,
}

impl Trimmer {
    pub(super) fn is_under_way(&self) -> bool {
        self.pass.is_some()
    }

    /// The store was opened anew.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Begins a pass, if one could find something that the last one did not.
    fn begin(&mut self, snapshot: &Snapshot) -> Option<(Dot, Vector)> {
        let views = || snapshot.documents.values();
        let epochs: u64 = views().map(|view| u64::from(view.epoch())).sum();
        if epochs == self.epochs && !self.was_held_up {
            return None;
        }
        (self.epochs, self.was_held_up) = (epochs, false);
        let mut floors = Vector::new();
        for rolled in views().filter_map(|view| view.rolled.as_ref()) {
            floors.merge(&rolled.roll.floor);
        }
        let first = floors.iter().next()?;
        Some((Dot { n: 0, ..first }, floors))
    }

    /// Looks on from where the last step ended. What `tx` shows has to be all of `snapshot`, in the
    /// derived tables.
    pub(super) fn step(
        &mut self,
        tx: &ReadTransaction,
        snapshot: &Snapshot,
        bounds: &TrimBounds,
    ) -> Result<Vec<Due>, StoreError> {
        let mut due = Vec::new();
        let pass = self.pass.take().or_else(|| self.begin(snapshot));
        let Some((from, floors)) = pass else { return Ok(due) };
        let checkpoint = meta::KEY_CHECKPOINT.get(tx)?.unwrap_or_default();
        let table = tx.open_table(log::LOG)?;
        let mut rows = 0;
        for last in floors.iter().filter(|last| last.origin >= from.origin) {
            let origin = u64::from_be_bytes(last.origin.0);
            let known = bounds.acknowledged.get(last.origin).min(checkpoint.get(last.origin));
            self.was_held_up |= known < last.n;
            let after = if last.origin == from.origin { from.n } else { 0 };
            for row in table.range((origin, after + 1)..=(origin, last.n.min(known)))? {
                let (key, row) = row?;
                let dot = Dot { n: key.value().1, ..last };
                rows += 1;
                match look(tx, snapshot, dot, row.value(), bounds.before)? {
                    Look::Goes(found) => due.push(found),
                    Look::Stays => {}
                    Look::IsUsed => self.was_held_up = true,
                    Look::IsNew => {
                        self.was_held_up = true;
                        break;
                    }
                }
                if rows == STEP_ROWS_MAX || due.len() == STEP_FINDS_MAX {
                    self.pass = Some((dot, floors.clone()));
                    return Ok(due);
                }
            }
        }
        Ok(due)
    }
}

fn look(
    tx: &ReadTransaction,
    snapshot: &Snapshot,
    dot: Dot,
    row: &[u8],
    before: Stamp,
) -> Result<Look, StoreError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(format!("log {dot}: {e}"));
    let (record, _) = log::parts(row)?;
    let record = bytes::Bytes::copy_from_slice(record);
    let record = Record::decode(record).map_err(|e| damaged(&e))?;
    let rolled = snapshot.document(&record.document).and_then(|view| view.rolled.as_ref());
    let is_behind = rolled.is_some_and(|rolled| rolled.roll.floor.includes(dot));
    if !is_behind {
        return Ok(Look::Stays);
    }
    if documents::has_change(tx, &record.document, dot)? {
        return Ok(Look::IsUsed);
    }
    let checked = Checked::of(&record).map_err(|e| damaged(&e))?;
    let entries = || checked.change().into_iter().flat_map(|change| &change.entries);
    if entries().any(|(_, entry)| entry.stamp >= before) {
        return Ok(Look::IsNew);
    }
    let retries = entries().filter_map(|(_, entry)| entry.idempotency);
    Ok(Look::Goes(Due { dot, retries: retries.map(|it| it.key).collect() }))
}

/// Removes what was found, and says so. Audit records that stood beside it come to stand by themselves.
/// Those up to `archived` are in a file, and in the store no more.
pub(super) fn remove(tx: &WriteTransaction, due: &[Due], archived: u64) -> Result<(), StoreError> {
    let mut trimmed = meta::KEY_TRIMMED.read(tx)?.unwrap_or_default();
    {
        let mut table = tx.open_table(log::LOG)?;
        let mut retries = tx.open_table(IDEMPOTENCY)?;
        for Due { dot, retries: keys } in due {
            let origin = u64::from_be_bytes(dot.origin.0);
            if let Some(row) = table.remove((origin, dot.n))? {
                let mut records = audit::numbered(row.value())?;
                records.retain(|(seq, _)| *seq > archived);
                audit::put(tx, &records)?;
            }
            for key in keys {
                let is_its = retries.get(key)?.is_some_and(|row| row.value() == (origin, dot.n));
                if is_its {
                    retries.remove(key)?;
                }
            }
            trimmed.advance(*dot);
        }
    }
    meta::KEY_TRIMMED.put(tx, &trimmed)
}
