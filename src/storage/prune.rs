//! Which rows of histories are due to go. A pass goes through the keys in their order, in steps that
//! are bounded in keys, rows and bytes, and remembers in memory where it is: one that a crash ends
//! begins again. It looks only, by the committed table and the published rows; the writer removes
//! what it found together with its next checkpoint.
//!
//! Keys with fewer versions than their policy keeps cost no look at the disk: how many a key has is
//! known from the number of the newest. Of others a pass looks, from the old end, as far as something
//! goes: stamps mostly grow with numbers. That they need not, where regions wrote past each other, is
//! seen to by looking at all of a key's past some times in the age that its policy keeps
//! (`Span::is_whole`).
//!
//! In a store of a program of before, where histories hold what rows show, too, passes take that out of
//! them, until one has gone through all keys.

use std::num::NonZeroU64;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use imbl::OrdMap;
use redb::{ReadTransaction, WriteTransaction};

use super::history::{self, HISTORY, HistoryKey, span};
use super::rows::row_key;
use super::{error::StoreError, meta, rows, tombstones};
use crate::config::retention::Kept;
use crate::config::{DocumentView, Entry, Policies, Row};
use crate::model::{DocumentId, Key, Stamp, cbor};

/// Most keys that a step goes past.
const STEP_KEYS_MAX: usize = 16_384;
/// Most keys of which a step reads rows.
const STEP_READS_MAX: usize = 1_024;
/// Most rows that a step finds, when little was written meanwhile.
pub(super) const STEP_ROWS_MAX: usize = 1_024;
/// Most bytes of rows that a step reads.
const STEP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many times, in the age that a policy keeps, all of a key's past is looked at.
const WHOLE_LOOKS: u64 = 16;
/// How long ago a pass counts as having been where this process had none.
const FIRST_PASS_AFTER_US: u64 = 60 * 1_000_000;

/// Where a step goes on.
#[derive(Debug)]
struct Place {
    document: DocumentId,
    key: Key,
    /// The last version that was looked at, where the key's others come next.
    behind: Option<(u64, u64, u64)>,
}

/// From the beginning of the pass before to that of this one.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    from: Stamp,
    to: Stamp,
}

impl Span {
    /// Whether all of this key's past is looked at, and not only as far as something goes. Each key has
    /// its own turn, so that not all come in one pass.
    fn is_whole(self, name: &str, age_s: u64) -> bool {
        let Some(every) = NonZeroU64::new(age_s.saturating_mul(1_000_000) / WHOLE_LOOKS) else {
            return true;
        };
        // FNV-1a: it only has to spread, and to be the same each time.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let turn = |at: Stamp| at.0.saturating_add(hash % every) / every;
        turn(self.from) != turn(self.to)
    }
}

/// What passes have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that are gone, since the store was opened.
    pub rows: u64,
    /// Keys that the pass under way has not looked at; none between passes.
    pub keys_left: u64,
}

/// A version that its key's row shows, and the history has, too.
#[derive(Debug)]
struct Twice {
    document: DocumentId,
    key: Key,
    position: history::Position,
}

/// Whether histories may hold what rows show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    /// No, and the store says so.
    #[default]
    Apart,
    /// Yes, and there is no pass that has looked at all keys from the first one on.
    Both,
    /// One is under way.
    Parting,
    /// One has come to its end: the store has to say so.
    Parted,
}

/// A pass, and what it found and was not removed yet.
#[derive(Debug, Default)]
pub(super) struct Pruner {
    form: Form,
    twice: Vec<Twice>,
    /// How many of these are gone.
    parted: u64,
    /// Where to go on; nowhere between passes.
    next: Option<Place>,
    span: Option<Span>,
    due: Vec<tombstones::Name>,
    /// Keys that this pass went past, and rows that it removed.
    pass: (u64, u64),
    rows: u64,
}

/// How much of a step is left.
struct Room {
    keys: usize,
    reads: usize,
    rows: usize,
    bytes: usize,
}

impl Room {
    fn is_used_up(&self) -> bool {
        self.keys == 0 || self.reads == 0 || self.rows == 0 || self.bytes == 0
    }
}

/// What is looked for in one key's past.
struct Look<'a> {
    /// Its row's name.
    name: &'a str,
    kept: Kept,
    /// Whether to go on behind what stays.
    is_whole: bool,
    /// Up to where it is done.
    behind: Option<(u64, u64, u64)>,
}

type Documents = OrdMap<DocumentId, Arc<DocumentView>>;
type Histories = redb::ReadOnlyTable<HistoryKey<'static>, &'static [u8]>;

impl Pruner {
    /// Whether a pass is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// Whether rows wait to be removed.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.twice.is_empty() || self.form == Form::Parted
    }

    /// How far it is, where there are `keys` in all.
    pub(super) fn counts(&self, keys: usize) -> Pruned {
        let left = (keys as u64).saturating_sub(self.pass.0);
        Pruned { rows: self.rows, keys_left: if self.is_under_way() { left } else { 0 } }
    }

    /// The next step: begins a pass where none is under way, and finds at most some `rows_max` rows.
    /// What was found before is still to be removed: then it does nothing.
    pub(super) fn step(
        &mut self,
        tx: &ReadTransaction,
        documents: &Documents,
        (policies, now): (&Policies, Stamp),
        rows_max: usize,
    ) -> Result<(), StoreError> {
        if self.has_due() {
            return Ok(());
        }
        if self.next.is_none() {
            self.pass = (0, 0);
            let from =
                self.span.map_or(Stamp(now.0.saturating_sub(FIRST_PASS_AFTER_US)), |it| it.to);
            self.span = Some(Span { from, to: now });
            if self.form == Form::Both {
                self.form = Form::Parting;
            }
        }
        let mut room = Room {
            keys: STEP_KEYS_MAX,
            reads: STEP_READS_MAX,
            rows: rows_max,
            bytes: STEP_BYTES_MAX,
        };
        let histories = tx.open_table(HISTORY)?;
        let from = self.next.take();
        let first = from.as_ref().map_or(Unbounded, |from| Included(&from.document));
        for (document, view) in documents.range::<_, DocumentId>((first, Unbounded)) {
            let policy = policies.of(&document.environment);
            let first = match &from {
                Some(from) if from.document == *document => Included(&from.key),
                _ => Unbounded,
            };
            for (key, row) in view.rows.range::<_, Key>((first, Unbounded)) {
                let here = |behind| Place { document: document.clone(), key: key.clone(), behind };
                if room.is_used_up() {
                    self.next = Some(here(None));
                    return Ok(());
                }
                room.keys -= 1;
                self.pass.0 += 1;
                if self.form == Form::Parting {
                    self.find_twice(&histories, (document, key), row, &mut room)?;
                }
                let Some(kept) = Kept::of(policy, now, row) else { continue };
                room.reads = room.reads.saturating_sub(1);
                let name = row_key(document, key);
                let is_here = |from: &&Place| from.document == *document && from.key == *key;
                let look = Look {
                    name: &name,
                    kept,
                    is_whole: self.span.unwrap_or_default().is_whole(&name, policy.age_s),
                    behind: from.as_ref().filter(is_here).and_then(|from| from.behind),
                };
                if let Some(behind) = self.look(&histories, &look, &mut room)? {
                    // The rest of its rows come next.
                    self.pass.0 -= 1;
                    self.next = Some(here(Some(behind)));
                    return Ok(());
                }
            }
        }
        if self.form == Form::Parting {
            self.form = Form::Parted;
        }
        self.note_end();
        Ok(())
    }

    /// Finds what of a key both its row and its history have. The row may be another one when that is
    /// removed: it is looked at again.
    fn find_twice(
        &mut self,
        histories: &Histories,
        (document, key): (&DocumentId, &Key),
        row: &Row,
        room: &mut Room,
    ) -> Result<(), StoreError> {
        let name = row_key(document, key);
        room.reads = room.reads.saturating_sub(1);
        for entry in row.siblings() {
            let position = history::position(entry);
            if let Some(found) = histories.get(history::key(&name, position))? {
                room.rows = room.rows.saturating_sub(1);
                room.bytes = room.bytes.saturating_sub(found.value().len());
                self.twice.push(Twice { document: document.clone(), key: key.clone(), position });
            }
        }
        Ok(())
    }

    /// Finds what goes of one key, from the old end; where it is not done with it, says how far it came.
    fn look(
        &mut self,
        table: &Histories,
        look: &Look<'_>,
        room: &mut Room,
    ) -> Result<Option<(u64, u64, u64)>, StoreError> {
        let name = look.name;
        let (first, last) = span(name).into_inner();
        let first = match look.behind {
            Some((version, origin, n)) => Excluded((name, version, origin, n)),
            None => Included(first),
        };
        for row in table.range::<HistoryKey<'_>>((first, Included(last)))? {
            let (key, value) = row?;
            let (_, version, origin, n) = key.value();
            if !look.kept.lets_go(version) {
                break;
            }
            room.bytes = room.bytes.saturating_sub(value.value().len());
            let entry: Entry = cbor::decode(value.value())
                .map_err(|e| StoreError::damaged(format!("history {name}: {e}")))?;
            if !look.kept.keeps(&entry) {
                room.rows = room.rows.saturating_sub(1);
                self.due.push((name.to_owned(), version, origin, n));
            } else if !look.is_whole {
                break;
            }
            if room.rows == 0 || room.bytes == 0 {
                return Ok(Some((version, origin, n)));
            }
        }
        Ok(None)
    }

    /// Removes what was found, with the rows written; `row` is what a key shows.
    pub(super) fn remove<'a>(
        &self,
        tx: &WriteTransaction,
        row: impl Fn(&DocumentId, &Key) -> Option<&'a Row>,
    ) -> Result<(), StoreError> {
        if !self.has_due() {
            return Ok(());
        }
        let mut table = tx.open_table(HISTORY)?;
        for (name, version, origin, n) in &self.due {
            table.remove((name.as_str(), *version, *origin, *n))?;
        }
        for Twice { document, key, position } in &self.twice {
            if rows::shows(row(document, key), position.1) {
                table.remove(history::key(&row_key(document, key), *position))?;
            }
        }
        if self.form == Form::Parted {
            meta::KEY_HISTORIES.put(tx, &true)?;
        }
        Ok(())
    }

    /// What is to be known of the numbers of what [`Pruner::remove`] took out.
    pub(super) fn tombstones<'a>(
        &self,
        tx: &WriteTransaction,
        row: impl Fn(&DocumentId, &Key) -> Option<&'a Row>,
    ) -> Result<tombstones::Changes, StoreError> {
        tombstones::Changes::after(tx, &self.due, row)
    }

    /// What was found is removed, on disk.
    pub(super) fn removed(&mut self) {
        let rows = self.due.len() as u64;
        self.due.clear();
        self.rows += rows;
        self.pass.1 += rows;
        self.parted += self.twice.len() as u64;
        self.twice.clear();
        if self.form == Form::Parted {
            self.form = Form::Apart;
            tracing::info!(rows = self.parted, "what keys show is no more in histories, too");
        }
        self.note_end();
    }

    /// Says what a pass came to, once it is at its end and all that it found is removed.
    fn note_end(&mut self) {
        if !self.is_under_way() && !self.has_due() && self.pass.1 > 0 {
            let (keys, rows) = std::mem::take(&mut self.pass);
            tracing::info!(keys, rows, "versions past their policy were removed from histories");
        }
    }

    /// The store was opened anew: what was found may be gone or not. Whether its histories may hold
    /// what rows show, it says itself.
    pub(super) fn restart(&mut self, has_both: bool) {
        let form = if has_both { Form::Both } else { Form::Apart };
        *self = Self { form, parted: self.parted, rows: self.rows, ..Self::default() };
    }
}
