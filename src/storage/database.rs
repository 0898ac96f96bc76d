//! Opening, closing and reopening a database file: `config.redb`, or another with a `Layout` of
//! its own. A file that redb refuses or panics on is set aside under another name, never
//! overwritten, and an empty one takes its place: its node fills it from its peers, under a new
//! origin. Where a node has no peers it stays where it is, and the node does not start.
//!
//! What `config.journal` has beyond `config.redb` is put there before anybody is given the database, so
//! that whoever reads it finds all that is on disk, and only this file knows that there are two.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::ReadableDatabase as _;

use super::error::StoreError;
use super::folds::KnownFolds;
use super::{
    audit, documents, epochs, folds, history, idempotency, journal, log, meta, origins, rows,
    tombstones,
};
use crate::env::{Backend, Disk};
use crate::model::Folds;

use ahead::Ahead;
pub(super) use ahead::unsynced;

mod ahead;

/// The file's name in the node's directory.
pub const FILE: &str = "config.redb";

/// What a database file is called, and what is in it.
pub(crate) struct Layout {
    /// The file's name in the node's directory.
    pub(crate) file: &'static str,
    /// How many tables there are.
    pub(crate) tables: usize,
    /// Makes them all, so that a reader never finds one absent.
    pub(crate) make_tables: fn(&redb::WriteTransaction) -> Result<(), redb::Error>,
}

static CONFIG: Layout = Layout { file: FILE, tables: 13, make_tables };

/// Most files that are set aside before the node refuses to start.
const SET_ASIDE_MAX: u32 = 8;
/// Most memory that one database keeps of its file, in bytes; redb's own bound is sixteen times as
/// much. The view and the documents in memory answer what is asked often; what is read beside that
/// the system keeps, too, which can give it up.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same of a file that is being made.
const REBUILD_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The database file, which a failed commit closes until it can be opened again.
pub struct Database {
    disk: Arc<dyn Disk>,
    layout: &'static Layout,
    /// Whether a damaged file stays where it is.
    keeps_damaged: bool,
    open: RwLock<Option<Arc<redb::Database>>>,
    folds: KnownFolds,
    /// What is on disk before it is in the database.
    ahead: Mutex<Option<Box<Ahead>>>,
    /// Held by who puts what is ahead into the database.
    turn: Mutex<()>,
}

impl Database {
    /// Opens `config.redb`, or makes it. The flag says that a damaged one was set aside.
    pub fn open(disk: Arc<dyn Disk>) -> Result<(Self, bool), StoreError> {
        Self::open_as(disk, &CONFIG)
    }

    /// Opens the file of `layout`, or makes it. The flag says that a damaged one was set aside.
    pub(crate) fn open_as(
        disk: Arc<dyn Disk>,
        layout: &'static Layout,
    ) -> Result<(Self, bool), StoreError> {
        let this = Self::closed(disk, layout, false);
        let set_aside = this.open_or_set_aside()?;
        this.remove_new();
        Ok((this, set_aside))
    }

    /// Opens the file of `layout`, or makes it; refuses a damaged one and leaves it where it is.
    pub(crate) fn open_intact(
        disk: Arc<dyn Disk>,
        layout: &'static Layout,
    ) -> Result<Self, StoreError> {
        let this = Self::closed(disk, layout, true);
        this.open_or_set_aside()?;
        this.remove_new();
        Ok(this)
    }

    fn closed(disk: Arc<dyn Disk>, layout: &'static Layout, keeps_damaged: bool) -> Self {
        let (open, folds, ahead, turn) = Default::default();
        Self { disk, layout, keeps_damaged, open, folds, ahead, turn }
    }

    /// Opens `config.redb` of a node that has no peers, or makes it.
    pub(super) fn open_alone(disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        Self::open_intact(disk, &CONFIG)
    }

    /// The folds that a transaction on it sees, and maybe later ones.
    pub(super) fn folds(&self, tx: &redb::ReadTransaction) -> Result<Arc<Folds>, StoreError> {
        self.folds.read(tx).map(|(folds, _)| folds)
    }

    /// The file's name.
    pub(super) fn file(&self) -> &'static str {
        self.layout.file
    }

    /// Where the file is.
    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Makes an empty database of the same tables under another name.
    pub(super) fn create_beside(&self, name: &str) -> Result<redb::Database, StoreError> {
        let backend = self.disk.database(name).map_err(redb::Error::Io)?;
        let mut builder = redb::Database::builder();
        builder.set_cache_size(REBUILD_CACHE_BYTES_MAX);
        let database = builder.create_with_backend(Backend(backend))?;
        let tx = database.begin_write()?;
        (self.layout.make_tables)(&tx)?;
        tx.commit()?;
        Ok(database)
    }

    /// Opens the file that has the store's name now, beside the one that is open, and goes on in that.
    /// Whoever reads the other reads on. Where it does not open, the store is closed.
    pub(super) fn switch(&self) -> Result<(), StoreError> {
        self.try_open().map_err(|error| {
            self.close();
            match error {
                OpenError::Io(error) => StoreError::from(redb::Error::Io(error)),
                OpenError::Damaged(why) => StoreError::damaged(why),
                OpenError::Failed(error) => error,
            }
        })
    }

    /// Removes what a rebuild left that a crash ended.
    fn remove_new(&self) {
        let name = name_of_new(self.layout.file);
        let removed = self.disk.len(&name).and_then(|len| match len {
            Some(_) => self.disk.remove(&name),
            None => Ok(()),
        });
        if let Err(error) = removed {
            tracing::warn!(%error, name, "what is left of a rebuild stays for now");
        }
    }

    /// Gives the file, which is damaged in a way that opening it does not show, another name, and
    /// opens an empty one.
    pub(super) fn replace(&self, why: &StoreError) -> Result<(), StoreError> {
        self.close();
        let name = self.set_aside()?;
        tracing::error!(%why, set_aside = name, "the store cannot be read");
        self.open_or_set_aside().map(drop)
    }

    fn open_or_set_aside(&self) -> Result<bool, StoreError> {
        match self.try_open() {
            Ok(()) => Ok(false),
            Err(OpenError::Io(error)) => Err(StoreError::from(redb::Error::Io(error))),
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Damaged(why)) if self.keeps_damaged => Err(StoreError::damaged(why)),
            Err(OpenError::Damaged(why)) => {
                let name = self.set_aside()?;
                tracing::error!(%why, set_aside = name, "the store cannot be opened");
                self.try_open().map_err(|e| StoreError::Failed(e.to_string()))?;
                Ok(true)
            }
        }
    }

    /// Gives the file another name, and its journal, too; gives the file's.
    fn set_aside(&self) -> Result<String, StoreError> {
        let name = set_aside(&*self.disk, self.layout.file, "failed")?;
        let has_journal = self.has_journal() && {
            let found = self.disk.identity(journal::FILE);
            found.map_err(|error| StoreError::from(redb::Error::Io(error)))?.is_some()
        };
        if has_journal {
            set_aside(&*self.disk, journal::FILE, "failed")?;
        }
        Ok(name)
    }

    /// The database, if it is open, with all that is on disk. Not for who holds a transaction that
    /// writes, but for the store's writer, beside whom nothing comes that would have to be put there.
    pub fn get(&self) -> Result<Arc<redb::Database>, StoreError> {
        let open = self.current()?;
        if self.ahead().as_deref().is_some_and(Ahead::is_behind) {
            self.catch_up(&open)?;
        }
        Ok(open)
    }

    /// The database, if it is open, without what is in the journal alone: for what no group puts there.
    pub(super) fn tables(&self) -> Result<Arc<redb::Database>, StoreError> {
        self.current()
    }

    fn current(&self) -> Result<Arc<redb::Database>, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        open.ok_or_else(|| StoreError::Failed("the store is closed".into()))
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Closes it: after an I/O error redb takes no more calls until it is opened again.
    pub fn close(&self) {
        // Who is putting something there is waited for: it would not know of another opening.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.ahead() = None;
    }

    /// Opens it again after [`Database::close`]; fails while readers still hold the old one. All that
    /// it has then is on disk, whatever came of a sync before.
    pub fn reopen(&self) -> Result<(), StoreError> {
        self.open_or_set_aside()?;
        if self.ahead_bytes() > 0 { self.sync(false) } else { Ok(()) }
    }

    fn try_open(&self) -> Result<(), OpenError> {
        *self.ahead() = None;
        let backend = Backend(self.disk.database(self.layout.file).map_err(OpenError::Io)?);
        // Where fsync lied, redb can panic on a file instead of refusing it.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut builder = redb::Database::builder();
            builder.set_cache_size(CACHE_BYTES_MAX);
            let database = builder.create_with_backend(backend)?;
            self.make_tables(&database)?;
            Ok::<_, redb::Error>(database)
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(redb::Error::Io(error))) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(OpenError::Io(error));
            }
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
                return Err(OpenError::Io(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "the store is open in another process",
                )));
            }
            Ok(Err(error)) => return Err(OpenError::Damaged(error.to_string())),
            Err(_) => return Err(OpenError::Damaged("redb panicked".into())),
        };
        let ahead = match self.has_journal() {
            true => catch_unwind(AssertUnwindSafe(|| self.open_journal(&database)))
                .unwrap_or_else(|_| Err(OpenError::Damaged("redb panicked".into())))?,
            false => None,
        };
        *self.ahead() = ahead.map(Box::new);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
        Ok(())
    }

    fn make_tables(&self, database: &redb::Database) -> Result<(), redb::Error> {
        // Opening a store writes nothing: there may be no room.
        if database.begin_read()?.list_tables()?.count() == self.layout.tables {
            return Ok(());
        }
        let tx = database.begin_write()?;
        (self.layout.make_tables)(&tx)?;
        tx.commit()?;
        Ok(())
    }
}

/// What a file is called while it is being made, to take the place of `file`.
pub(super) fn name_of_new(file: &str) -> String {
    format!("{file}.new")
}

/// The error of a node that has no peers, with what to do about a damaged `file`.
pub(crate) fn without_peers(file: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Damaged(why) => StoreError::Damaged(format!(
            "{file}: {why}. It is left as it is, for this node has no peer to be filled from. Move \
             the data directory away and make it again from a backup: holm restore FILE --data DIR \
             --topology FILE --node NAME --new-cluster"
        )),
        other => other,
    }
}

/// Runs what reads a store. Where the file is damaged, redb can panic instead of saying so.
pub(crate) fn caught<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let done = catch_unwind(AssertUnwindSafe(read));
    done.unwrap_or_else(|_| Err(StoreError::damaged("redb panicked")))
}

/// Gives the closed database `file` another name, which says `why`, and returns that.
pub(crate) fn set_aside(disk: &dyn Disk, file: &str, why: &str) -> Result<String, StoreError> {
    let io = |error| StoreError::from(redb::Error::Io(error));
    for i in 1..=SET_ASIDE_MAX {
        let name = format!("{file}.{why}-{i}");
        if disk.identity(&name).map_err(io)?.is_none() {
            disk.rename(file, &name).map_err(io)?;
            return Ok(name);
        }
    }
    Err(StoreError::Failed(format!("{SET_ASIDE_MAX} {why} stores were set aside already")))
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Failed(StoreError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(why) => Self::Damaged(why),
            other => Self::Failed(other),
        }
    }
}

fn make_tables(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(meta::META)?;
    tx.open_table(log::LOG)?;
    tx.open_table(origins::ORIGINS)?;
    tx.open_table(folds::FOLDS)?;
    tx.open_table(rows::ROWS)?;
    tx.open_table(history::HISTORY)?;
    tx.open_table(tombstones::TOMBSTONES)?;
    tx.open_table(documents::BASES)?;
    tx.open_table(documents::CHANGES)?;
    tx.open_table(epochs::EPOCHS)?;
    tx.open_table(epochs::EPOCH_BASES)?;
    tx.open_table(idempotency::IDEMPOTENCY)?;
    tx.open_table(audit::AUDIT)?;
    Ok(())
}
