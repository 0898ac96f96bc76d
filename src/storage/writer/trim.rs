//! Trimming the log behind the writes: a step that looks, and a transaction that removes what it
//! found, with where audit records and the mark of what is gone go.

use redb::{ReadableDatabase as _, WriteTransaction};

use super::Writer;
use crate::audit::Archived;
use crate::storage::archived::{self, KEY_ARCHIVED};
use crate::storage::audit::AUDIT;
use crate::storage::error::StoreError;
use crate::storage::trim::{self, Found, TrimBounds, Trimmed};

impl Writer {
    /// Takes the next step of a pass over the log, or the first of the next pass where there may be
    /// something to find.
    pub fn trim(&mut self, bounds: &TrimBounds) -> Result<Trimmed, StoreError> {
        if !self.database.is_open() {
            return Ok(Trimmed::default());
        }
        if !self.trimmer.is_under_way() {
            if !self.trimmer.is_due(&self.published.load()) {
                return Ok(Trimmed::default());
            }
            // What is in no derived table yet is loaded from the log.
            self.checkpoint()?;
            let tx = self.database.get()?.begin_read()?;
            self.trimmer.begin(&tx, &self.published.load())?;
        }
        let database = self.database.get()?;
        let (step, archived) = {
            let tx = database.begin_read()?;
            let archived = KEY_ARCHIVED.get(&tx)?.unwrap_or_default().base.seq;
            (self.trimmer.step(&tx, bounds), archived)
        };
        let Found { due, looked } = match step {
            Ok(found) => found,
            Err(error) => {
                self.trimmer.restart();
                return Err(error);
            }
        };
        if !due.is_empty() {
            let folds = self.state.vector.folds();
            let removed = self.begin(&database).and_then(|tx| {
                trim::remove(&tx, &due, archived, &folds)?;
                Ok(tx.commit()?)
            });
            drop(database);
            if let Err(error) = removed {
                let state = self.state.clone();
                self.settle(&state, &error);
                self.trimmer.restart();
                return Err(error);
            }
            Self::mirror(&mut self.rebuild, |tx| trim::remove(tx, &due, archived, &folds));
            self.log_trimmed += due.len() as u64;
            self.log_records = self.log_records.saturating_sub(due.len() as u64);
        }
        let is_under_way = self.trimmer.is_under_way();
        Ok(Trimmed { records: due.len(), looked, is_under_way })
    }

    /// Says how far the audit chain is archived, and removes records that the store need not have any
    /// more. They are in a file.
    pub fn archive(&mut self, archived: &Archived) -> Result<(), StoreError> {
        let database = self.database.get()?;
        let put = |tx: &WriteTransaction| archived::put(tx, AUDIT, archived);
        let done = self.begin(&database).and_then(|tx| {
            put(&tx)?;
            Ok(tx.commit()?)
        });
        drop(database);
        if let Err(error) = done {
            let state = self.state.clone();
            self.settle(&state, &error);
            return Err(error);
        }
        Self::mirror(&mut self.rebuild, put);
        Ok(())
    }
}
