//! Putting a group on disk: into the journal, from where it comes into the tables, or straight there. What
//! is in a group is worked out before, and shown after.

use rand::Rng as _;

use super::Writer;
use super::group::Group;
use crate::model::Origin;
use crate::planted::{Bug, is_planted};
use crate::storage::error::StoreError;
use crate::storage::journal::{self, Reached};
use crate::storage::{database, meta};

/// From which size of the file on commits also keep what makes repairing it quick, in bytes. That
/// makes each of them dearer; without it a start after a crash walks the file, which took some 0.2 s
/// for 320 MB.
const QUICK_REPAIR_BYTES: u64 = 4 << 30;

/// From how many bytes on, in memory, what is in the journal alone is put into the tables between two
/// groups: some milliseconds' work.
const PENDING_BYTES_MAX: usize = 1024 * 1024;

impl Writer {
    pub(super) fn persist(&mut self, group: &Group) -> Result<(), StoreError> {
        let own = self.actor.origin;
        let is_new = self.stored_origin.is_some_and(|stored| stored != own);
        if group.records.is_empty() && !is_new && !group.audited.has_rows() {
            return Ok(());
        }
        let is_own = is_new || group.records.iter().any(|record| record.dot.origin == own);
        let has_epochs = group.records.iter().any(|record| record.epoch > 0);
        // From then on a program that knows no epochs, or no folds, would misread it.
        let format = match () {
            () if !self.state.unstored.is_empty() => meta::FORMAT,
            () if has_epochs => meta::FORMAT_WITH_EPOCHS,
            () => self.format,
        };
        let is_named = |origin: &Origin| self.state.hashes.contains_key(origin);
        let folded = self.state.unstored.iter().flat_map(|fold| fold.rows());
        let mut put = journal::Group {
            origin: is_own.then_some(own),
            format: (format > self.format).then_some(format),
            folds: self.state.unstored.iter().map(|fold| (**fold).clone()).collect(),
            unnamed: folded.map(|row| row.dot.origin).filter(|it| !is_named(it)).collect(),
            ..journal::Group::default()
        };
        for record in &group.records {
            let audit = group.audited.sealed().get(&record.dot).map(Vec::as_slice);
            put.push(record, audit);
        }
        group.audited.put(&mut put, &self.state.chain, self.stored_spans);
        self.put_on_disk(&put)?;
        self.format = self.format.max(format);
        if is_own {
            self.stored_origin = Some(own);
            if let Err(error) = self.write_mark(false) {
                // The commit stands. The next start may take a store for rolled back that is not.
                tracing::error!(%error, "the high-water mark could not be written");
            }
        }
        Ok(())
    }

    /// Into the journal, from where it comes into the tables; where there is no room, straight there.
    fn put_on_disk(&mut self, group: &journal::Group) -> Result<(), StoreError> {
        let is_synced = !is_planted(Bug::AcknowledgeBeforeSync);
        let mut reached = None;
        if !self.database.journal(group, is_synced)? {
            let database = self.database.get()?;
            let mut tx = self.begin(&database)?;
            if !is_synced {
                database::unsynced(&mut tx)?;
            }
            let known = self.database.reached();
            let begun = || Reached { id: self.entropy.random(), seq: 0 };
            reached = known.is_none().then(begun);
            if let Some(reached) = &reached {
                meta::KEY_JOURNAL.put(&tx, reached)?;
            }
            group.put(&tx)?;
            tx.commit()?;
            if is_synced {
                self.database.synced();
            }
        }
        if self.rebuild.is_some() {
            // So that whoever reads the one finds what is in the other.
            self.database.get()?;
            let reached = reached.or_else(|| self.database.reached());
            Self::mirror(&mut self.rebuild, |tx| {
                if let Some(reached) = &reached {
                    meta::KEY_JOURNAL.put(tx, reached)?;
                }
                group.put(tx)
            });
        }
        if let Some(Reached { id, .. }) = reached
            && let Err(error) = self.database.begin_journal(id)
        {
            tracing::warn!(%error, "the store goes on without a journal for now");
        }
        Ok(())
    }

    /// Whether much is in the journal alone: see [`Writer::catch_up`].
    pub fn is_behind(&self) -> bool {
        self.database.pending_bytes() >= PENDING_BYTES_MAX
    }

    /// Puts what is in the journal alone into the tables, so that whoever needs them finds little to do.
    pub fn catch_up(&mut self) {
        if let Err(error) = self.database.get() {
            tracing::error!(%error, "what is in the journal cannot be put into the store");
        }
    }

    /// A transaction that is on disk when it commits.
    pub(super) fn begin(
        &self,
        database: &redb::Database,
    ) -> Result<redb::WriteTransaction, StoreError> {
        let mut tx = database.begin_write()?;
        // Repairing walks the whole file; past some size a dearer commit is the better deal.
        tx.set_quick_repair(self.is_large());
        Ok(tx)
    }

    pub(super) fn is_large(&self) -> bool {
        self.database_bytes >= QUICK_REPAIR_BYTES
    }
}
