//! Folds as they come with rolls: what is told of origins that nobody writes as any more, held against
//! what this store has of them, and taken. Which ones are folded is not decided here.

use redb::ReadableDatabase as _;
use std::sync::Arc;

use super::Writer;
use crate::config::record::Record;
use crate::config::roll::Roll;
use crate::model::Dot;
use crate::model::vector::FoldRow;
use crate::storage::error::StoreError;
use crate::storage::log;
use crate::storage::past::Checked;

impl Writer {
    /// Takes a record, which was looked through, as included; with the fold that it may carry. In the
    /// error's case it is refused, and nothing was taken.
    pub(super) fn follow(&mut self, record: &Record, checked: Checked) -> Result<Checked, String> {
        if let Checked::Roll(roll) = &checked {
            self.fold(roll)?;
        }
        self.state.vector.advance(record.dot);
        self.state.hashes.insert(record.dot.origin, record.hash);
        Ok(checked)
    }

    /// Takes the fold of a roll, whose floor is included here.
    pub(super) fn fold(&mut self, roll: &Roll) -> Result<(), String> {
        let Some(fold) = &roll.fold else { return Ok(()) };
        let (known, generation) = (self.state.vector.folds(), self.state.vector.generation());
        let folds = known.with(fold).map_err(|e| {
            tracing::error!(generation = fold.generation, error = %e, "a fold is refused");
            e.to_string()
        })?;
        if fold.generation <= generation {
            // Another record of the same decision.
            return Ok(());
        }
        let floor = roll.floor.read(&known);
        let is_known = |row: &FoldRow| floor.includes(row.dot);
        if fold.generation != generation + 1 || !fold.rows().iter().all(is_known) {
            return Err("it folds what its floor does not include".into());
        }
        self.state.vector.fold(&Arc::new(folds), fold.generation);
        for row in fold.rows() {
            self.forget_folded(row).map_err(|e| e.to_string())?;
        }
        self.state.unstored.push(Arc::new(fold.clone()));
        tracing::debug!(
            generation = fold.generation,
            origins = fold.rows().len(),
            "origins are folded"
        );
        Ok(())
    }

    /// The fold says what the last record is. Where that is another one here, the origin has two changes
    /// under one number, and this store keeps to its own.
    fn forget_folded(&mut self, row: &FoldRow) -> Result<(), StoreError> {
        let FoldRow { dot, hash } = *row;
        let here = match self.state.vector.names(dot.origin) {
            false => self.state.hashes.get(&dot.origin).copied(),
            true => {
                let tx = self.database.get()?.begin_read().map_err(StoreError::from)?;
                log::get(&tx, Dot { n: dot.n + 1, ..dot })?.map(|next| next.previous)
            }
        };
        if here.is_some_and(|here| here != hash) {
            self.forks += 1;
            tracing::error!(%dot, "an origin that is folded has two changes under one number");
        } else if !self.state.vector.names(dot.origin) {
            self.state.hashes.remove(&dot.origin);
        }
        Ok(())
    }
}
