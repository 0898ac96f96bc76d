//! After a failure: what became of a commit, and when the store is opened again. Nothing is guessed: it
//! is looked up on disk.

use std::collections::BTreeMap;
use std::time::Duration;

use redb::ReadableDatabase as _;
use tokio::time::Instant;

use super::Writer;
use super::state::State;
use crate::audit::Head;
use crate::config::record::RecordHash;
use crate::model::Origin;
use crate::storage::error::StoreError;
use crate::storage::{meta, origins};

/// How long a store that failed rests before it is tried again.
pub(super) const REST: Duration = Duration::from_millis(500);

/// What became of a commit that failed.
pub(super) enum Settled {
    /// It is on disk all the same.
    Committed,
    /// It is not, and the store is open.
    NotCommitted,
    /// The store does not open now.
    Unknown,
}

impl Writer {
    /// Whether the store is open.
    pub fn is_open(&self) -> bool {
        self.database.is_open()
    }

    /// Opens a store that a failure closed; says whether it did, and with it read everything anew.
    pub fn ensure_open(&mut self) -> Result<bool, StoreError> {
        if let Some((until, failure)) = &self.resting
            && Instant::now() < *until
        {
            return Err(failure.clone());
        }
        self.resting = None;
        if self.database.is_open() {
            return Ok(false);
        }
        if let Err(error) = self.database.reopen().and_then(|()| self.recover()) {
            self.database.close();
            self.rest(&error);
            return Err(error);
        }
        tracing::info!("the store is open again");
        Ok(true)
    }

    /// After a failure nothing is tried for a moment: each try costs an opening.
    pub(super) fn rest(&mut self, error: &StoreError) {
        self.resting = Some((Instant::now() + REST, error.clone()));
    }

    /// Finds out what became of a commit that failed. redb takes no more calls after an I/O error,
    /// until the file is opened again; whether the commit is on disk can be read there.
    pub(super) fn settle(&mut self, before: &State, error: &StoreError) -> Settled {
        self.give_up_rebuild(error);
        self.rest(error);
        self.database.close();
        let found = self.database.reopen().and_then(|()| {
            let tx = self.database.get()?.begin_read()?;
            let head: Head = meta::KEY_AUDIT.get(&tx)?.unwrap_or_default();
            Ok((origins::read(&tx, &self.state.vector.folds())?.1, head))
        });
        if self.is_unsynced() {
            // What was written behind may be gone: everything is read anew before anything is done.
            self.database.close();
        }
        let is = |state: &State, found: &(BTreeMap<Origin, RecordHash>, Head)| {
            found.0 == state.hashes && found.1 == state.chain.head
        };
        match found {
            Ok(found) if is(before, &found) => Settled::NotCommitted,
            Ok(found) if is(&self.state, &found) => {
                self.resting = None;
                Settled::Committed
            }
            found => {
                if let Err(error) = found {
                    tracing::error!(%error, "the store does not open again yet");
                }
                // Everything is read anew once it opens.
                self.database.close();
                Settled::Unknown
            }
        }
    }
}
