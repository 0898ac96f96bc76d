//! Taking whole documents over that a peer sent, once all of one cut are there: in one transaction,
//! with the vector that names their changes, so that a crash leaves all of it or nothing.
//!
//! Documents of the cut take the place of this store's. What the store has of them that the cut does not
//! include stays in the log, and the cut is what the derived tables are taken to be as of: so opening
//! applies it on top, and nothing that was acknowledged here is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase as _, WriteTransaction};

use super::Writer;
use super::state::State;
use crate::config::document::{Document, SavedDocument};
use crate::config::record::{Record, RecordHash};
use crate::config::roll::Roll;
use crate::config::{DocumentView, Row};
use crate::model::{DocumentId, Dot, Folds, Key, Origin, Told, Vector, cbor};
use crate::planted::{Bug, is_planted};
use crate::storage::error::StoreError;
use crate::storage::past::{self, Checked, StoredPast};
use crate::storage::whole::{Complete, Piece, Table};
use crate::storage::{documents, epochs, folds, history, idempotency, log, meta, origins, rows};

/// What was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many documents.
    pub documents: usize,
    /// How many records came with them.
    pub records: usize,
    /// How many versions that no key shows any more.
    pub versions: usize,
}

/// Why whole documents were not taken over. Nothing was changed, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// The cut lacks changes that are gone from this store's log.
    #[error("it ends before {0}, up to which this node's log is trimmed")]
    Behind(Dot),
    /// An origin has two changes under one number.
    #[error("the origin {0} has two changes under one number")]
    Fork(Origin),
    /// What this store has of a document does not build on it: somewhere an origin has two changes
    /// under one number.
    #[error("what this node has of {0} does not build on it")]
    Unfit(DocumentId),
    /// It is not what nodes send.
    #[error("it is damaged: {0}")]
    Illegal(String),
    /// The store failed: what became of it shows when it is open again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<E: Into<redb::Error>> From<E> for TakeError {
    fn from(error: E) -> Self {
        Self::Store(StoreError::from(error.into()))
    }
}

fn illegal(why: &dyn std::fmt::Display) -> TakeError {
    TakeError::Illegal(why.to_string())
}

impl Writer {
    /// Takes the documents of a cut over, and publishes them. Where the store has all of it already,
    /// nothing happens.
    pub fn take(&mut self, whole: &Complete) -> Result<Taken, TakeError> {
        self.ensure_open()?;
        if self.state.vector.covers_told(whole.vector()) {
            return Ok(Taken::default());
        }
        // What is not in the derived tables yet would be put beside documents of another state.
        self.checkpoint()?;
        let heads = whole.head.heads().ok_or_else(|| illegal(&"hashes are missing"))?;
        let cut = &self.read_cut(whole)?;
        let own = self.actor.origin;
        if cut.get(own) > self.state.vector.get(own) {
            self.renew_origin(
                &"a peer sent whole documents with changes of it that it does not have",
            );
        }
        let checked = self.check_heads(&heads, cut);
        let taken = match checked.and_then(|()| self.write_whole(whole, &heads, cut)) {
            Ok(taken) => taken,
            Err(error @ (TakeError::Fork(_) | TakeError::Unfit(_))) => {
                self.forks += 1;
                tracing::error!(%error, "whole documents of a peer are refused");
                return Err(error);
            }
            Err(TakeError::Store(error)) => {
                // Everything is read anew once it opens, whichever of the two it is.
                self.rest(&error);
                self.database.close();
                return Err(error.into());
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = self.recover() {
            self.rest(&error);
            self.database.close();
            return Err(error.into());
        }
        // A roll that did not come to what was agreed may fit what was taken.
        self.mismatched.clear();
        Ok(taken)
    }

    /// Whether what the store has builds on the same changes, and can be applied on top.
    fn check_heads(&self, heads: &[(Dot, RecordHash)], cut: &Vector) -> Result<(), TakeError> {
        let tx = self.database.get()?.begin_read()?;
        let trimmed = meta::KEY_TRIMMED.get(&tx)?.unwrap_or_default();
        if let Some(dot) = trimmed.iter().find(|dot| !cut.includes(*dot)) {
            return Err(TakeError::Behind(dot));
        }
        // Of what is folded here, and not in the cut, the log says itself what is gone.
        let (folds, here) = (cut.folds(), self.state.vector.generation());
        for row in folds.between(cut.generation(), here) {
            let from = cut.get(row.dot.origin);
            if let Some(gone) = log::last_missing_read(&tx, from, row.dot)? {
                return Err(TakeError::Behind(gone));
            }
        }
        let folded = folds.between(here, cut.generation()).map(|row| (row.dot, row.hash));
        for (dot, hash) in heads.iter().copied().chain(folded) {
            let own = self.state.vector.get(dot.origin);
            let known = match dot.n {
                n if n == own => self.state.hash_of(dot.origin),
                n if n < own => Some(log::require(&tx, Dot { n: n + 1, ..dot })?.previous),
                // What comes behind what is here cannot be told from the hash of what comes last: the
                // records that came say it (`Taking::check_branch`).
                _ => continue,
            };
            if known.is_some_and(|known| known != hash) {
                return Err(TakeError::Fork(dot.origin));
            }
        }
        Ok(())
    }

    fn write_whole(
        &self,
        whole: &Complete,
        heads: &[(Dot, RecordHash)],
        cut: &Vector,
    ) -> Result<Taken, TakeError> {
        let database = self.database.get()?;
        let tx = self.begin(&database)?;
        let mut taking = Taking {
            tx: &tx,
            state: &self.state,
            own: self.own_changes(cut)?,
            folds: cut.folds(),
            store: database.begin_read()?,
            cut,
            open: None,
            begun: None,
            records: BTreeMap::new(),
            shown: None,
            taken: Taken::default(),
        };
        let mut refused = None;
        let read = whole.each(|piece| {
            taking.take(piece).map_err(|error| match error {
                TakeError::Store(error) => error,
                other => {
                    refused = Some(other);
                    StoreError::Failed("refused".into())
                }
            })
        });
        if let Some(refused) = refused {
            return Err(refused);
        }
        read?;
        let taken = taking.end()?;
        // A program that knows no epochs takes a log with gaps for damaged, and histories lack what the
        // rows of the cut show.
        let format = match cut.generation() > self.state.vector.generation() {
            true => meta::FORMAT,
            false => meta::FORMAT_WITHOUT_FOLDS,
        };
        if self.format < format {
            meta::KEY_FORMAT.put(&tx, &format)?;
        }
        self.take_folds(&tx, cut)?;
        let mut trimmed = self.trimmed()?;
        for (dot, hash) in heads {
            let own = self.state.vector.get(dot.origin);
            if dot.n > own {
                origins::put(&tx, *dot, *hash)?;
                // Who names more than is really gone can take nothing from who took on another side
                // of a cut.
                if let Some(gone) = log::last_missing(&tx, own, *dot)? {
                    trimmed.advance(gone);
                }
            }
        }
        if self.stored_origin.is_some_and(|stored| stored != self.actor.origin) {
            meta::KEY_ORIGIN.put(&tx, &self.actor.origin)?;
        }
        let folds = cut.folds();
        trimmed.forget(|dot| folds.includes(dot));
        meta::KEY_TRIMMED.put(&tx, &trimmed)?;
        let mut checkpoint = whole.vector().clone();
        if is_planted(Bug::TakeForgetsOwn) {
            checkpoint.merge(&self.state.vector.told());
        }
        meta::KEY_CHECKPOINT.put(&tx, &checkpoint)?;
        tx.commit()?;
        Ok(taken)
    }

    /// What is in the cut, by the folds that are known here and those that came with it.
    fn read_cut(&self, whole: &Complete) -> Result<Vector, TakeError> {
        let mut folds = (*self.state.vector.folds()).clone();
        for fold in &whole.folds {
            folds = folds.with(fold).map_err(|e| illegal(&e))?;
        }
        let cut = whole.vector().read(&Arc::new(folds));
        match cut.is_understood() {
            true => Ok(cut),
            false => Err(illegal(&"folds are missing")),
        }
    }

    /// Takes over what is folded in the cut and was not here. What the store has of an origin beyond
    /// that it goes on to name.
    fn take_folds(&self, tx: &WriteTransaction, cut: &Vector) -> Result<(), StoreError> {
        let (all, here) = (cut.folds(), self.state.vector.generation());
        for fold in (here + 1..=cut.generation()).filter_map(|it| all.fold(it)) {
            folds::put(tx, fold)?;
            for row in fold.rows() {
                if self.state.vector.get(row.dot.origin) <= row.dot.n {
                    origins::remove(tx, row.dot.origin)?;
                }
            }
        }
        Ok(())
    }

    /// The changes that the store has and a cut with this vector does not, by document.
    fn own_changes(&self, cut: &Vector) -> Result<BTreeMap<DocumentId, OwnChanges>, StoreError> {
        let tx = self.database.get()?.begin_read()?;
        let mut own: BTreeMap<DocumentId, OwnChanges> = BTreeMap::new();
        log::each_between(&tx, cut, &self.state.vector, |record| {
            let changes = own.entry(record.document).or_default();
            changes.dots.push(record.dot);
            changes.has_roll |= Roll::is_roll(&record.change);
            Ok(())
        })?;
        Ok(own)
    }

    /// For each origin, up to which number its records may be gone from the log.
    pub(super) fn trimmed(&self) -> Result<Told, StoreError> {
        let tx = self.database.get()?.begin_read()?;
        Ok(meta::KEY_TRIMMED.get(&tx)?.unwrap_or_default())
    }
}

/// What the store has of a document and a cut does not.
#[derive(Default)]
struct OwnChanges {
    dots: Vec<Dot>,
    /// Whether one of them begins an epoch.
    has_roll: bool,
}

/// A cut on its way into the tables.
struct Taking<'a> {
    tx: &'a WriteTransaction,
    /// How far the store is, and by which hashes.
    state: &'a State,
    /// The store as it is.
    store: ReadTransaction,
    /// What it has and the cut does not.
    own: BTreeMap<DocumentId, OwnChanges>,
    cut: &'a Vector,
    folds: Arc<Folds>,
    /// The value of which the last part has not come.
    open: Option<Open>,
    /// What came of the document whose base has not: how its epoch began, encoded; and its records,
    /// where they are looked at again because the store has rolled it beside the cut.
    begun: Option<Vec<u8>>,
    records: BTreeMap<Dot, Record>,
    /// What the row shows of which versions came last, by the row's name.
    shown: Option<(String, Vec<Dot>)>,
    taken: Taken,
}

struct Open {
    document: DocumentId,
    table: Table,
    bytes: Vec<u8>,
}

impl Taking<'_> {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), TakeError> {
        match piece {
            // Folds were taken note of as they came.
            Piece::Cut(_) | Piece::Fold(_) | Piece::End(_) => {}
            Piece::Part(part) => {
                let id = DocumentId::parse(part.document).map_err(|e| illegal(&e))?;
                let open = match self.open.take() {
                    None => Open { document: id, table: part.table, bytes: part.bytes.to_vec() },
                    Some(mut open) if open.document == id && open.table == part.table => {
                        open.bytes.extend_from_slice(part.bytes);
                        open
                    }
                    Some(_) => return Err(illegal(&"a value's last part is missing")),
                };
                match part.is_last {
                    true => self.take_value(open)?,
                    false => self.open = Some(open),
                }
            }
            Piece::Records(records) => {
                for bytes in records.0 {
                    let record = Record::decode(bytes).map_err(|e| illegal(&e))?;
                    self.take_record(&record)?;
                    if self.own.get(&record.document).is_some_and(|own| own.has_roll) {
                        self.records.insert(record.dot, record);
                    }
                }
            }
            Piece::Retries(records) => {
                for bytes in records.0 {
                    self.take_record(&Record::decode(bytes).map_err(|e| illegal(&e))?)?;
                }
            }
            Piece::History(rows, _) => {
                for row in &rows {
                    if !self.cut.includes(row.dot) {
                        return Err(illegal(&"a version of after the cut"));
                    }
                    if self.is_shown(row.name, row.dot)? {
                        continue;
                    }
                    self.taken.versions += 1;
                    let entry = cbor::decode(row.entry).map_err(|e| illegal(&e))?;
                    history::put(self.tx, std::iter::once(&(row.name.to_owned(), entry)))?;
                }
            }
        }
        Ok(())
    }

    /// Whether the row of that name, which came before its versions, shows this one: programs of before
    /// send these, too.
    fn is_shown(&mut self, name: &str, dot: Dot) -> Result<bool, TakeError> {
        if let Some((known, dots)) = &self.shown
            && known == name
        {
            return Ok(dots.contains(&dot));
        }
        let row = rows::siblings(&self.tx.open_table(rows::ROWS)?, name)?;
        let dots: Vec<Dot> = row.iter().map(|entry| entry.dot).collect();
        let is_shown = dots.contains(&dot);
        self.shown = Some((name.to_owned(), dots));
        Ok(is_shown)
    }

    fn end(self) -> Result<Taken, TakeError> {
        match self.open {
            None => Ok(self.taken),
            Some(_) => Err(illegal(&"a value's last part is missing")),
        }
    }

    fn take_value(&mut self, value: Open) -> Result<(), TakeError> {
        match value.table {
            Table::EpochBase => self.begun = Some(value.bytes),
            Table::Base => {
                self.take_document(&value.document, &value.bytes)?;
                self.begun = None;
                self.records.clear();
                self.taken.documents += 1;
            }
        }
        Ok(())
    }

    /// Takes a document, of which everything else has come before.
    fn take_document(&mut self, id: &DocumentId, base: &[u8]) -> Result<(), TakeError> {
        let damaged = |e: &dyn std::fmt::Display| illegal(&format!("document {id}: {e}"));
        let saved: SavedDocument = cbor::decode(base).map_err(|e| damaged(&e))?;
        let document = Document::load(saved, &self.folds).map_err(|e| damaged(&e))?;
        let mut found: BTreeMap<Key, Row> = BTreeMap::new();
        for key in document.keys() {
            let siblings = document.siblings(key);
            if !siblings.iter().all(|entry| self.cut.includes(entry.dot)) {
                return Err(damaged(&"it shows a change of after the cut"));
            }
            found.extend(Row::new(siblings).map(|row| (key.clone(), row)));
        }
        match &self.begun {
            None if document.epoch() > 0 => {
                return Err(damaged(&"how its epoch began is missing"));
            }
            None => epochs::remove_base(self.tx, id)?,
            Some(begun) => {
                let _: SavedDocument = cbor::decode(begun).map_err(|e| damaged(&e))?;
                epochs::put_base(self.tx, id, begun)?;
            }
        }
        let (changes, rolled) = (document.changes_in_epoch(), document.rolled().cloned());
        epochs::put(self.tx, id, &DocumentView { changes, rolled, ..DocumentView::default() })?;
        self.check_own(id, base)?;
        documents::replace(self.tx, id, base)?;
        // The peer sends no versions that this store has, and it has these in its rows. Those that the
        // cut does not include come back into a row from the log; no reader misses them meanwhile, and
        // until they are replaced they stand in both.
        let replaced = rows::replace(self.tx, id, &found)?;
        history::put(self.tx, replaced.iter())?;
        self.shown = None;
        Ok(())
    }

    /// Whether what the store has of the document, and the cut does not, can be applied on top; as
    /// opening will do it.
    fn check_own(&mut self, id: &DocumentId, base: &[u8]) -> Result<(), TakeError> {
        let Some(own) = self.own.remove(id) else { return Ok(()) };
        let saved: SavedDocument = cbor::decode(base).map_err(|e| illegal(&e))?;
        let staged = std::mem::take(&mut self.records);
        let begun = self.begun.take();
        let ahead = BTreeMap::new();
        let past = StoredPast { tx: &self.store, id, staged, ahead, begun, folds: &self.folds };
        match past::build(past, Some(saved), own.dots) {
            Ok(_) => Ok(()),
            Err(StoreError::Damaged(why)) => {
                tracing::error!(document = %id, why, "own changes do not build on a peer's");
                Err(TakeError::Unfit(id.clone()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take_record(&mut self, record: &Record) -> Result<(), TakeError> {
        if !self.cut.includes(record.dot) {
            return Err(illegal(&format!("change {} is not of the cut", record.dot)));
        }
        self.check_branch(record)?;
        if !log::put_missing(self.tx, record)? {
            return Ok(());
        }
        self.taken.records += 1;
        let checked = Checked::of(record).map_err(|e| illegal(&e))?;
        let entries = checked.change().into_iter().flat_map(|change| &change.entries);
        let keys = entries.filter_map(|(_, entry)| entry.idempotency.as_ref());
        let keys: Vec<[u8; 16]> = keys.map(|idempotency| idempotency.key).collect();
        idempotency::put(self.tx, keys.iter().map(|key| (key, &record.dot)))?;
        Ok(())
    }

    /// Whether a record is the one that is here under its number, or the next one builds on the last one
    /// that is here. Where an origin has gone on past a fork, and the cut is ahead of this store, that
    /// is all that tells of it. What was trimmed on the other side does not come, and tells nothing.
    fn check_branch(&self, record: &Record) -> Result<(), TakeError> {
        let Dot { origin, n } = record.dot;
        let own = self.state.vector.get(origin);
        let is_other = if n <= own {
            log::get(&self.store, record.dot)?.is_some_and(|known| known.hash != record.hash)
        } else {
            n - own == 1 && self.state.hash_of(origin).is_some_and(|known| known != record.previous)
        };
        match is_other {
            true => Err(TakeError::Fork(origin)),
            false => Ok(()),
        }
    }
}
