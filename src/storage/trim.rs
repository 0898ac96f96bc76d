//! What may go from the log: a record that its document's epoch began with, that every member has that
//! is waited for, and all of which is older than retries are recognised. What it wrote lives on in the
//! document; its audit records move to their table.
//!
//! A pass goes through the origins' records in their order, in steps that are bounded in rows, bytes and
//! finds, and remembers in memory where it is: one that a crash ends begins again. It only looks; the
//! writer removes what it found. What stays is not looked at again before a document rolls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};

use super::error::StoreError;
use super::idempotency::IDEMPOTENCY;
use super::past::Checked;
use super::{audit, documents, log, meta};
use crate::config::record::Record;
use crate::config::{Rolled, Snapshot};
use crate::model::{DocumentId, Dot, Folds, Origin, Stamp, Vector};

/// Most rows that a step looks at.
const STEP_ROWS_MAX: usize = 1_024;
/// Most bytes of rows that a step looks at, but for its last row.
const STEP_BYTES_MAX: usize = 4 * 1024 * 1024;
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
    /// How many were looked at.
    pub looked: usize,
    /// Whether the pass goes on.
    pub is_under_way: bool,
}

/// A record that goes.
pub(super) struct Due {
    dot: Dot,
    /// By what retries of its requests were recognised.
    retries: Vec<[u8; 16]>,
}

/// What a step found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) due: Vec<Due>,
    pub(super) looked: usize,
}

/// Passes.
#[derive(Default)]
pub(super) struct Trimmer {
    /// The one that is under way.
    pass: Option<Pass>,
    /// The sum of all documents' epochs when the last one began.
    epochs: u64,
    /// From which number on an origin's records are to be looked at again, though no document rolls:
    /// that one was too new, not everywhere, or still in use.
    held: BTreeMap<Origin, u64>,
}

/// A pass. What a checkpoint before it put into the derived tables is all that it goes by: tables
/// that are newer only hold on to fewer of these records.
struct Pass {
    /// How each document's epoch began.
    rolled: BTreeMap<DocumentId, Arc<Rolled>>,
    folds: Arc<Folds>,
    /// What the derived tables had.
    known: Vector,
    /// What is still to be looked at.
    spans: VecDeque<Span>,
}

/// Records of an origin, these two among them.
struct Span {
    origin: Origin,
    first: u64,
    last: u64,
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

    /// Whether a pass could find something that the last one did not.
    pub(super) fn is_due(&self, snapshot: &Snapshot) -> bool {
        self.epochs != sum_of_epochs(snapshot) || !self.held.is_empty()
    }

    /// Begins a pass. All of `snapshot` has to be in the derived tables, as `tx` shows them.
    pub(super) fn begin(
        &mut self,
        tx: &ReadTransaction,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let folds = snapshot.vector.folds();
        let known = meta::KEY_CHECKPOINT.get(tx)?.unwrap_or_default().read(&folds);
        let epochs = sum_of_epochs(snapshot);
        let held = std::mem::take(&mut self.held);
        let is_of_all = epochs != self.epochs;
        let rolled: BTreeMap<DocumentId, Arc<Rolled>> = snapshot
            .documents
            .iter()
            .filter_map(|(id, view)| Some((id.clone(), view.rolled.clone()?)))
            .collect();
        let mut floors = Vector::new();
        for rolled in rolled.values() {
            floors.merge(&rolled.roll.floor.read(&folds));
        }
        let span = |last: Dot| {
            let held = held.get(&last.origin).copied();
            let first = if is_of_all { Some(1) } else { held }?;
            Some(Span { origin: last.origin, first, last: last.n })
        };
        let spans = log::present(tx, &floors)?.into_iter().filter_map(span).collect();
        self.epochs = epochs;
        self.pass = Some(Pass { rolled, folds, known, spans });
        Ok(())
    }

    /// Looks on from where the last step of the pass ended. After an error there is none any more.
    pub(super) fn step(
        &mut self,
        tx: &ReadTransaction,
        bounds: &TrimBounds,
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let Some(mut pass) = self.pass.take() else { return Ok(found) };
        let table = tx.open_table(log::LOG)?;
        let mut bytes = 0;
        while let Some(span) = pass.spans.front_mut() {
            let origin = u64::from_be_bytes(span.origin.0);
            let known = bounds.acknowledged.get(span.origin).min(pass.known.get(span.origin));
            for row in table.range((origin, span.first)..=(origin, span.last.min(known)))? {
                let (key, row) = row?;
                let dot = Dot { origin: span.origin, n: key.value().1 };
                found.looked += 1;
                bytes += row.value().len();
                match look(tx, (&pass.rolled, &pass.folds), dot, row.value(), bounds.before)? {
                    Look::Goes(due) => found.due.push(due),
                    Look::Stays => {}
                    Look::IsUsed => hold(&mut self.held, dot),
                    Look::IsNew => {
                        hold(&mut self.held, dot);
                        break;
                    }
                }
                let is_full = found.looked >= STEP_ROWS_MAX
                    || found.due.len() >= STEP_FINDS_MAX
                    || bytes >= STEP_BYTES_MAX;
                if is_full {
                    span.first = dot.n + 1;
                    self.pass = Some(pass);
                    return Ok(found);
                }
            }
            if known < span.last {
                hold(&mut self.held, Dot { origin: span.origin, n: span.first.max(known + 1) });
            }
            pass.spans.pop_front();
        }
        Ok(found)
    }
}

/// Each epoch of each document is one more than before.
fn sum_of_epochs(snapshot: &Snapshot) -> u64 {
    snapshot.documents.values().map(|view| u64::from(view.epoch())).sum()
}

fn hold(held: &mut BTreeMap<Origin, u64>, dot: Dot) {
    let n = held.entry(dot.origin).or_insert(dot.n);
    *n = dot.n.min(*n);
}

fn look(
    tx: &ReadTransaction,
    (rolled, folds): (&BTreeMap<DocumentId, Arc<Rolled>>, &Folds),
    dot: Dot,
    row: &[u8],
    before: Stamp,
) -> Result<Look, StoreError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(format!("log {dot}: {e}"));
    let (record, _) = log::parts(row)?;
    let document = Record::document_of(record).map_err(|e| damaged(&e))?;
    let is_behind = rolled.get(&document);
    let is_behind = is_behind.is_some_and(|it| it.roll.floor.includes(dot, folds));
    if !is_behind {
        return Ok(Look::Stays);
    }
    if documents::has_change(tx, &document, dot)? {
        return Ok(Look::IsUsed);
    }
    let record = bytes::Bytes::copy_from_slice(record);
    let record = Record::decode(record).map_err(|e| damaged(&e))?;
    let checked = Checked::of(&record).map_err(|e| damaged(&e))?;
    let entries = || checked.change().into_iter().flat_map(|change| &change.entries);
    if entries().any(|(_, entry)| entry.stamp >= before) {
        return Ok(Look::IsNew);
    }
    let retries = entries().filter_map(|(_, entry)| entry.idempotency.as_ref());
    Ok(Look::Goes(Due { dot, retries: retries.map(|it| it.key).collect() }))
}

/// Removes what was found, and says so. Audit records that stood beside it come to stand by themselves.
/// Those up to `archived` are in a file, and in the store no more. Of what is folded nobody has to be told.
pub(super) fn remove(
    tx: &WriteTransaction,
    due: &[Due],
    archived: u64,
    folds: &Folds,
) -> Result<(), StoreError> {
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
    trimmed.forget(|dot| folds.includes(dot));
    meta::KEY_TRIMMED.put(tx, &trimmed)
}
