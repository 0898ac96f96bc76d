//! What of `config.redb` is ahead in its journal: groups that are on disk there, and not in the tables
//! yet, or there without a sync. Whoever gets the database has them put there first.

use std::sync::{Arc, MutexGuard, PoisonError};

use redb::{ReadableDatabase as _, WriteTransaction};

use super::{Database, FILE, OpenError};
use crate::storage::error::StoreError;
use crate::storage::journal::{Group, Journal, JournalId, Place, Reached};
use crate::storage::meta;

/// A journal, and what of it the database does not show yet.
pub(super) struct Ahead {
    journal: Journal,
    pending: Vec<Arc<Group>>,
    /// What these take in memory.
    pending_bytes: usize,
    /// What of it is on its way into the database.
    putting: Vec<Arc<Group>>,
    /// Up to where the database shows it.
    shown: Place,
}

impl Ahead {
    fn new(journal: Journal) -> Self {
        let shown = journal.last();
        Self { journal, pending: Vec::new(), pending_bytes: 0, putting: Vec::new(), shown }
    }

    /// Whether the database does not show all of it.
    pub(super) fn is_behind(&self) -> bool {
        !self.pending.is_empty() || !self.putting.is_empty()
    }
}

/// Puts groups into the tables, which have everything up to `reached` then.
fn put_groups<'a>(
    tx: &WriteTransaction,
    groups: impl Iterator<Item = &'a Group>,
    reached: &Reached,
) -> Result<(), StoreError> {
    for group in groups {
        group.put(tx)?;
    }
    meta::KEY_JOURNAL.put(tx, reached)
}

/// A transaction that is shown when it commits, and on disk with a later one.
fn begin_unsynced(database: &redb::Database) -> Result<WriteTransaction, StoreError> {
    let mut tx = database.begin_write()?;
    unsynced(&mut tx)?;
    Ok(tx)
}

/// Has a transaction commit without a sync.
pub(in crate::storage) fn unsynced(tx: &mut WriteTransaction) -> Result<(), StoreError> {
    tx.set_durability(redb::Durability::None).map_err(|e| StoreError::Failed(e.to_string()))
}

impl Database {
    /// Puts what is pending into the database, one after another: whoever comes meanwhile waits, but for
    /// the writer, which goes on in the journal.
    pub(super) fn catch_up(&self, database: &redb::Database) -> Result<(), StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (groups, place, reached) = {
            let mut ahead = self.ahead();
            let Some(ahead) = &mut *ahead else { return Ok(()) };
            if !ahead.putting.is_empty() {
                return Err(StoreError::Failed("a transaction of the store's panicked".into()));
            }
            if ahead.pending.is_empty() {
                return Ok(());
            }
            ahead.putting = std::mem::take(&mut ahead.pending);
            ahead.pending_bytes = 0;
            let last = ahead.journal.last();
            (ahead.putting.clone(), last, ahead.journal.reached(last))
        };
        let done = begin_unsynced(database).and_then(|tx| {
            put_groups(&tx, groups.iter().map(|group| &**group), &reached)?;
            Ok(tx.commit()?)
        });
        if let Some(ahead) = &mut *self.ahead() {
            let mut groups = std::mem::take(&mut ahead.putting);
            if done.is_ok() {
                ahead.shown = place.max(ahead.shown);
            } else {
                groups.append(&mut ahead.pending);
                ahead.pending_bytes = groups.iter().map(|group| group.size()).sum();
                ahead.pending = groups;
            }
        }
        done
    }

    /// What is on disk and maybe in no table as a transaction shows them that is begun after this; what
    /// is on its way among it.
    pub(in crate::storage) fn ahead_groups(&self) -> Vec<Arc<Group>> {
        let ahead = self.ahead();
        let groups = ahead.iter().flat_map(|ahead| ahead.putting.iter().chain(&ahead.pending));
        groups.cloned().collect()
    }

    /// Has everything on disk that was put into the database until now, and takes it out of the journal.
    /// Beside the writer, who goes on in the journal meanwhile. `quick_repair` is as redb has it.
    pub(in crate::storage) fn sync(&self, quick_repair: bool) -> Result<(), StoreError> {
        let open = self.current()?;
        let mut tx = open.begin_write()?;
        tx.set_quick_repair(quick_repair);
        // No other transaction can be begun, so that no more is shown.
        let shown = self.ahead().as_ref().map(|ahead| ahead.shown);
        tx.commit()?;
        if let Some((ahead, shown)) = self.ahead().as_mut().zip(shown) {
            ahead.journal.release(shown);
        }
        Ok(())
    }

    pub(super) fn ahead(&self) -> MutexGuard<'_, Option<Box<Ahead>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_journal(&self) -> bool {
        self.layout.file == FILE
    }

    /// Puts a group on disk, to be shown by [`Database::get`]. Says whether it did: where there is no
    /// journal, or no room in it, the group is to be put into the database at once. After an error it is
    /// not known what is on disk. `sync` is whether it is on disk when this returns.
    pub(in crate::storage) fn journal(
        &self,
        group: &Group,
        sync: bool,
    ) -> Result<bool, StoreError> {
        let mut ahead = self.ahead();
        let Some(ahead) = ahead.as_mut().filter(|_| self.is_open()) else { return Ok(false) };
        if !ahead.journal.append(group, sync)? {
            return Ok(false);
        }
        ahead.pending_bytes += group.size();
        ahead.pending.push(Arc::new(group.clone()));
        Ok(true)
    }

    /// Begins a journal where there is none, once `reached` is in the tables, on disk.
    pub(in crate::storage) fn begin_journal(&self, id: JournalId) -> Result<(), StoreError> {
        let open = self.get()?;
        let (journal, _) = Journal::open(&self.disk, Reached { id, seq: 0 }, &open.begin_read()?)?;
        *self.ahead() = Some(Box::new(Ahead::new(journal)));
        Ok(())
    }

    /// What the tables say of the journal once they have all of it; none where there is no journal.
    pub(in crate::storage) fn reached(&self) -> Option<Reached> {
        self.ahead().as_ref().map(|ahead| ahead.journal.reached(ahead.journal.last()))
    }

    /// How many bytes of what is on disk would have to be put into the database first.
    pub(in crate::storage) fn pending_bytes(&self) -> usize {
        self.ahead().as_ref().map_or(0, |ahead| ahead.pending_bytes)
    }

    /// How many bytes of the journal are on disk there alone.
    pub(in crate::storage) fn ahead_bytes(&self) -> usize {
        self.ahead().as_ref().map_or(0, |ahead| ahead.journal.needed())
    }

    /// The writer has committed a transaction that is on disk, begun after [`Database::get`]: with it is
    /// all that was put into the database before.
    pub(in crate::storage) fn synced(&self) {
        if let Some(ahead) = &mut *self.ahead() {
            ahead.journal.release(ahead.shown);
        }
    }

    /// Opens the journal, and puts into `database` what it has beyond that: without a sync, for there
    /// may be no room, and it stays in the journal until one.
    pub(super) fn open_journal(
        &self,
        database: &redb::Database,
    ) -> Result<Option<Ahead>, OpenError> {
        let tx = database.begin_read().map_err(StoreError::from)?;
        let Some(reached) = meta::KEY_JOURNAL.get(&tx)? else { return Ok(None) };
        let (journal, replayed) = Journal::open(&self.disk, reached, &tx)?;
        drop(tx);
        if !replayed.groups.is_empty() {
            tracing::info!(groups = replayed.groups.len(), "the journal has more than the store");
            let tx = begin_unsynced(database)?;
            put_groups(&tx, replayed.groups.iter(), &journal.reached(journal.last()))?;
            tx.commit().map_err(StoreError::from)?;
        }
        if let Some(damage) = replayed.damage {
            if self.keeps_damaged {
                return Err(OpenError::Damaged(damage));
            }
            tracing::error!(%damage, "changes are lost that were on disk");
            return Ok(None);
        }
        if let Some(unfit) = replayed.unfit {
            tracing::error!(%unfit, "the journal does not follow from the store");
            return Ok(None);
        }
        Ok(Some(Ahead::new(journal)))
    }
}

#[cfg(test)]
mod tests;
