//! Rebuilding a database file while it is in use. redb gives pages back to itself and never to the
//! disk, and its own compaction takes the file away from everybody until it is done. So another file is
//! made beside, table by table, in bounded steps between the writer's transactions, and takes its place.
//!
//! A step copies the next rows as they are then. What the writer commits meanwhile, it does to both
//! files ([`Rebuild::mirror`]): behind the place that copying has reached it is needed there, and before
//! it, it is copied again or does nothing. So the new file lacks nothing the moment its last row is
//! copied, and to switch takes a sync and a rename, however large the store is.
//!
//! The file in use is never touched: whatever ends the process, one good file has the store's name. A
//! rebuild that fails, or does not come to the same rows, is given up.

use std::sync::Arc;
use std::time::Duration;

use redb::{Durability, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::time::Instant;

use super::copy::RawTable;
use super::database::{self, Database};
use super::error::StoreError;
use super::mark::Mark;
use crate::env::Disk;

/// Most bytes of rows that a step copies, but for its last row.
const STEP_BYTES_MAX: usize = 1024 * 1024;
/// How much is copied between two syncs of the new file, in bytes.
const SYNC_BYTES: usize = 32 * 1024 * 1024;
/// How much of each table is compared before the switch, in bytes.
const COMPARED_BYTES: usize = 1024 * 1024;
/// How much room has to be left over beside the new file, in bytes.
const ROOM_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// A store whose file can be rebuilt: what it is called, and its tables.
pub(crate) type Tables = &'static [&'static dyn RawTable];

/// Looks how much of a store is live.
#[derive(Clone)]
pub(crate) struct Measure {
    database: Arc<Database>,
    tables: Tables,
}

impl Measure {
    pub(crate) fn new(database: Arc<Database>, tables: Tables) -> Self {
        Self { database, tables }
    }

    /// What the live rows come to in the file, in bytes: what redb keeps for them, without what is free
    /// or wasted. Reads all of it: not for a thread that somebody waits for. A store that is closed
    /// meanwhile is held on to for one table at most, and opens again.
    pub(crate) fn live_bytes(&self) -> Result<u64, StoreError> {
        let of_table = |table: &&dyn RawTable| {
            let tx = self.database.get()?.begin_read()?;
            table.live_bytes(&tx)
        };
        self.tables.iter().map(of_table).sum()
    }
}

/// As [`Measure::live_bytes`], of what `tx` sees.
pub(crate) fn live_bytes(tx: &ReadTransaction, tables: Tables) -> Result<u64, StoreError> {
    tables.iter().map(|table| table.live_bytes(tx)).sum()
}

/// Whether there is room beside the store for a file of what is live in it.
fn has_room(disk: &dyn Disk, live_bytes: u64) -> Result<bool, StoreError> {
    let room = disk.room().map_err(io_error)?;
    // Leaves are not full, and what is written meanwhile comes on top.
    let needed = live_bytes.saturating_mul(2).saturating_add(ROOM_BYTES_MIN);
    Ok(room.is_none_or(|(available, _)| available >= needed))
}

/// How long the writer is left alone after a step that took so long: it has most of its time for others.
pub(crate) fn rest_after_step(took: Duration) -> Duration {
    const SHARE: u32 = 4;
    const MIN: Duration = Duration::from_millis(5);
    MIN.max(took * SHARE)
}

/// A file being made.
pub(crate) struct Rebuild {
    disk: Arc<dyn Disk>,
    name: String,
    tables: Tables,
    new: redb::Database,
    /// Which table is being copied, and up to which of its keys it is.
    at: (usize, Option<Vec<u8>>),
    copied_bytes: u64,
    unsynced_bytes: usize,
    began: Instant,
}

impl Rebuild {
    /// Begins a new file beside that of `database`, in which `live_bytes` are live, unless there is no
    /// room for two or the disk fails.
    pub(crate) fn begin_where_there_is_room(
        database: &Database,
        tables: Tables,
        live_bytes: u64,
    ) -> Option<Self> {
        let begun = has_room(&**database.disk(), live_bytes).and_then(|has_room| {
            has_room.then(|| database::caught(|| Self::begin(database, tables))).transpose()
        });
        match begun {
            Ok(Some(begun)) => return Some(begun),
            Ok(None) => tracing::warn!(live_bytes, "there is no room to rebuild a store's file"),
            Err(error) => tracing::warn!(%error, "a store's file cannot be rebuilt"),
        }
        None
    }

    fn begin(database: &Database, tables: Tables) -> Result<Self, StoreError> {
        let disk = database.disk().clone();
        let name = database::name_of_new(database.file());
        disk.remove(&name).map_err(io_error)?;
        let new = database.create_beside(&name)?;
        tracing::info!(file = database.file(), "the store's file is being rebuilt");
        Ok(Self {
            disk,
            name,
            tables,
            new,
            at: (0, None),
            copied_bytes: 0,
            unsynced_bytes: 0,
            began: Instant::now(),
        })
    }

    /// Copies the next rows; says whether all are copied.
    pub(crate) fn step(&mut self, database: &Database) -> Result<bool, StoreError> {
        let (at, after) = &self.at;
        let Some(table) = self.tables.get(*at) else { return Ok(true) };
        let rows = {
            let tx = database.get()?.begin_read()?;
            table.read(&tx, after.as_deref(), STEP_BYTES_MAX)?
        };
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        // Where that was all, what comes behind it from now on comes by the mirror.
        let next = match rows.last() {
            Some((last, _)) if bytes >= STEP_BYTES_MAX => (*at, Some(last.clone())),
            _ => (*at + 1, None),
        };
        self.unsynced_bytes += bytes;
        self.copied_bytes += bytes as u64;
        let is_synced = self.unsynced_bytes >= SYNC_BYTES;
        let tx = self.begin_write(is_synced)?;
        table.write(&tx, &rows)?;
        tx.commit()?;
        if is_synced {
            self.unsynced_bytes = 0;
        }
        self.at = next;
        Ok(self.at.0 == self.tables.len())
    }

    /// Does to the new file what was done to the one in use. It has to be by keys alone: what is asked
    /// of a table may not be copied yet.
    pub(crate) fn mirror(
        &self,
        put: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let tx = self.begin_write(false)?;
        put(&tx)?;
        tx.commit()?;
        Ok(())
    }

    /// Puts the new file into the place of the other, once all is copied. `mark` is what the store's
    /// high-water mark, `mark_file`, says now, and then says of the file that is the store.
    ///
    /// Both files are the store from the moment that the mark says so until it says otherwise: a crash
    /// before or after the rename finds one that the mark knows. After an error the store goes on in its
    /// old file, where it is still open; where it is not, its file is one of the two.
    pub(crate) fn switch<I: Clone + minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>>(
        self,
        database: &Database,
        mark_file: &str,
        mark: &mut Mark<I>,
    ) -> Result<(), StoreError> {
        let (disk, file) = (self.disk.clone(), database.file());
        let mut announced = Vec::new();
        let announce = |identity: Vec<u8>| {
            announced.clone_from(&identity);
            let both = Mark { next: Some(identity), ..mark.clone() };
            disk.write(mark_file, &both.encode(), true).map_err(io_error)
        };
        let done = database::caught(|| self.finish(database, announce));
        if done.is_err() && disk.identity(file).ok().flatten().as_ref() != Some(&mark.store) {
            // What is open may not be the file that has the name.
            database.close();
        }
        if database.is_open() {
            if done.is_ok() {
                mark.store = announced;
            }
            if let Err(error) = disk.write(mark_file, &mark.encode(), true) {
                tracing::error!(%error, mark_file, "the high-water mark could not be written");
            }
        }
        done
    }

    /// As [`Rebuild::switch`], but for what the mark says afterwards: `announce` says in it that the file
    /// of this identity is about to be the store.
    fn finish(
        self,
        database: &Database,
        announce: impl FnOnce(Vec<u8>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (copied_bytes, took) = (self.copied_bytes, self.began.elapsed());
        let (disk, name, file) = (self.disk.clone(), self.name.clone(), database.file());
        let before = disk.len(file).map_err(io_error)?.unwrap_or_default();
        if let Err(error) = self.complete(database).and_then(announce) {
            remove(&*disk, &name);
            return Err(error);
        }
        if let Err(error) = disk.rename(&name, file) {
            // Whether it has the name now, and will have it after a crash, is not known.
            database.close();
            return Err(io_error(error));
        }
        database.switch()?;
        let after = disk.len(file).ok().flatten().unwrap_or_default();
        tracing::info!(
            file,
            bytes_before = before,
            bytes_after = after,
            bytes_copied = copied_bytes,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "the store's file was rebuilt"
        );
        Ok(())
    }

    /// Looks whether the new file has what the other has, puts it on disk and closes it. Gives its
    /// identity.
    fn complete(self, database: &Database) -> Result<Vec<u8>, StoreError> {
        self.compare(database)?;
        self.begin_write(true)?.commit()?;
        let Self { disk, name, new, .. } = self;
        new.close()?;
        let identity = disk.identity(&name).map_err(io_error)?;
        identity.ok_or_else(|| StoreError::Failed(format!("{name} is gone")))
    }

    /// How many rows each table has, and what the first of them are: who writes past the mirror is
    /// found here.
    fn compare(&self, database: &Database) -> Result<(), StoreError> {
        let (old, new) = (database.get()?.begin_read()?, self.new.begin_read()?);
        for table in self.tables {
            let is_the_same = table.rows(&old)? == table.rows(&new)?
                && table.read(&old, None, COMPARED_BYTES)?
                    == table.read(&new, None, COMPARED_BYTES)?;
            if !is_the_same {
                let why = format!("the table {} was not copied as it is", table.name());
                return Err(StoreError::Failed(why));
            }
        }
        Ok(())
    }

    /// Gives it up. The store goes on in its file.
    pub(crate) fn abandon(self, why: &dyn std::fmt::Display) {
        let Self { disk, name, new, .. } = self;
        tracing::warn!(%why, name, "the rebuilding of a store's file is given up");
        drop(new);
        remove(&*disk, &name);
    }

    fn begin_write(&self, is_durable: bool) -> Result<WriteTransaction, StoreError> {
        let mut tx = self.new.begin_write()?;
        if !is_durable {
            let set = tx.set_durability(Durability::None);
            set.map_err(|e| StoreError::Failed(e.to_string()))?;
        }
        Ok(tx)
    }
}

/// Removes what is left of a rebuild. Where that fails, the next opening does it.
fn remove(disk: &dyn Disk, name: &str) {
    if let Err(error) = disk.remove(name) {
        tracing::warn!(%error, name, "what is left of a rebuild stays for now");
    }
}

fn io_error(error: std::io::Error) -> StoreError {
    StoreError::from(redb::Error::Io(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::MemoryDisk;
    use crate::storage::copy::RawRow;
    use crate::storage::log;

    /// A table in the middle of which the store fails.
    struct Failing(Arc<Database>);

    impl RawTable for Failing {
        fn name(&self) -> &str {
            "failing"
        }
        fn types(&self) -> (String, String) {
            Default::default()
        }
        fn rows(&self, _: &ReadTransaction) -> Result<u64, StoreError> {
            Ok(0)
        }
        fn live_bytes(&self, _: &ReadTransaction) -> Result<u64, StoreError> {
            self.0.close();
            Ok(0)
        }
        fn read(
            &self,
            _: &ReadTransaction,
            _: Option<&[u8]>,
            _: usize,
        ) -> Result<Vec<RawRow>, StoreError> {
            Ok(Vec::new())
        }
        fn write(&self, _: &WriteTransaction, _: &[RawRow]) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[test]
    fn a_store_that_fails_while_it_is_measured_is_let_go_with_the_next_table() {
        let disk = Arc::new(MemoryDisk::new());
        let database = Arc::new(Database::open_alone(disk).unwrap());
        let failing: &'static Failing = Box::leak(Box::new(Failing(database.clone())));
        let tables: Tables = Box::leak(Box::new([failing as &dyn RawTable, &log::LOG]));
        assert!(Measure::new(database.clone(), tables).live_bytes().is_err());
        database.reopen().unwrap();
        let tables: Tables = &[&log::LOG];
        assert!(Measure::new(database, tables).live_bytes().is_ok());
    }

    #[test]
    fn the_writer_has_most_of_the_time_for_others() {
        assert_eq!(rest_after_step(Duration::ZERO), Duration::from_millis(5));
        assert_eq!(rest_after_step(Duration::from_millis(20)), Duration::from_millis(80));
    }
}
